"""Random ITCH streams, and the comparison of the native decoder with the oracle on them."""

import random
from collections.abc import Iterable

import itch_messages as itch
import numpy as np
from hypothesis import strategies as st
from oracle.itch import Oracle

from tickplant._core.itch import DTYPES, ItchDecoder
from tickplant.schema import Rows

MIDNIGHT = 1_577_682_000_000_000_000  # 2019-12-30 in New York
RECEIVED = 1_600_000_000_000_000_000

refs = st.integers(1, 5) | st.sampled_from([1, 2, 0, 2**64 - 1])
locates = st.sampled_from([1, 1, 1, 2, 2, 3, 65535, 0])
shares = st.sampled_from([1, 50, 100, 100, 200, 300, 0, 2**32 - 1])
prices = st.integers(99_990, 100_010) | st.sampled_from([0, 1, 2**31, 2**31 - 1, 2**32 - 1])
sides = st.sampled_from([b"B", b"S", b"B", b"S", b"B", b"S", b"b"])
matches = st.sampled_from([1, 2, 3, 65537, 2**64 - 1])
at = st.fixed_dictionaries({"locate": locates, "ns": st.integers(0, 2**48 - 1)})
numbers = st.integers(0, 2**32 - 1)
longs = st.integers(0, 2**64 - 1)
symbols = st.sampled_from([b"ACME", b"B", b"LONGNAME", b"", b"A B"])
codes = st.sampled_from([b"Y", b"N", b" ", b"\0", b"\xff"])


def _build(builder, *fields):
    return st.tuples(st.tuples(*fields), at).map(lambda made: builder(*made[0], **made[1]))


adds = _build(itch.add, refs, sides, shares, prices, symbols, st.sampled_from([None, b"GS", b""]))
orders = st.one_of(
    adds,
    adds,
    _build(itch.executed, refs, shares, matches),
    _build(itch.executed_at, refs, shares, matches, prices, st.sampled_from([b"Y", b"N", b"?"])),
    _build(itch.cancel, refs, shares),
    _build(itch.delete, refs),
    _build(itch.replace, refs, refs, shares, prices),
)
others = st.one_of(
    _build(itch.system, codes),
    _build(itch.directory, symbols, numbers, numbers),
    _build(itch.trading, codes, symbols),
    _build(itch.regsho, codes),
    _build(itch.participant, symbols.map(lambda s: s[:4])),
    _build(itch.mwcb_levels, longs, longs, longs),
    _build(itch.mwcb_breach, codes),
    _build(itch.ipo, numbers, codes, prices),
    _build(itch.collar, prices, prices, prices, numbers),
    _build(itch.halt, codes, codes),
    _build(itch.trade, shares, prices, matches),
    _build(itch.cross, longs | st.just(0), prices, matches, codes),
    _build(itch.broken, matches),
    _build(itch.imbalance, longs, longs, prices, prices, prices),
    _build(itch.retail, codes),
    _build(itch.direct_listing, prices, prices, prices, longs, prices, prices),
)
valid = st.lists(orders | orders | orders | others, max_size=60)
streams = valid.map(itch.file)


def busy(r: random.Random, count: int, refs: int) -> list[bytes]:
    """Messages about so few orders, of so few stocks, that they hit one another."""
    made: list[bytes] = []
    for _ in range(count):
        ref, other, locate = r.randrange(refs), r.randrange(refs), r.choice((1, 1, 2, 3, 0))
        shares, price = r.choice((100, 200, 5, 0, 2**32 - 1)), r.choice((1, 0, 2**32 - 1, 777))
        price = r.randrange(1000, 1100) if r.random() < 0.8 else price
        add = itch.add(ref, r.choice((b"B", b"S")), shares, price, locate=locate)
        made.append(
            r.choice(
                (
                    add,
                    add,
                    itch.executed(ref, shares, other, locate=locate),
                    itch.executed_at(ref, shares, other, price, locate=locate),
                    itch.cancel(ref, 5, locate=locate),
                    itch.delete(ref, locate=locate),
                    itch.replace(ref, other, 100, price, locate=locate),
                    *r.sample(itch.one_of_each(), 2),
                )
            )
        )
    return made


def decoded(
    data: bytes, cuts: Iterable[int] = (), *, final: bool = True, books: bool = True
) -> tuple[dict[str, Rows], ItchDecoder]:
    """All rows by table, decoded in the pieces that the offsets in `cuts` make."""
    decoder = ItchDecoder(MIDNIGHT, books=books)
    ends = [*sorted({c for c in cuts if 0 < c < len(data)}), len(data)]
    start, taken = 0, {table: [] for table in DTYPES}
    for end in ends:
        start += decoder.decode(data[start:end], RECEIVED, final and end == len(data))
        for table, rows in decoder.take():
            taken[table].append(rows)
    whole = {t: np.concatenate(r) if r else np.empty(0, DTYPES[t]) for t, r in taken.items()}
    return whole, decoder


def assert_same_as_oracle(data: bytes, cuts: Iterable[int] = ()) -> None:
    rows, decoder = decoded(data, cuts)
    oracle = Oracle(MIDNIGHT, RECEIVED).decode(data)
    for table, expected in oracle.rows.items():
        wanted = np.array(expected, DTYPES[table])
        got = rows[table]
        for g, w in zip(got, wanted, strict=False):
            assert g.tobytes() == w.tobytes(), f"{table}: got {g}, wanted {w}"
        assert len(got) == len(wanted), table
    assert decoder.counts() == oracle.counts
    assert decoder.malformed == oracle.malformed
    assert decoder.damaged == oracle.damaged
    assert decoder.messages == oracle.seq == sum(oracle.counts.values()) + oracle.malformed
