"""Databento DBN: records to rows, symbols by date, damaged files, and real ones, against their library."""

import datetime
import os
import pathlib
import re
from collections import Counter

import dbn_messages as m
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant._core import dbn as native
from tickplant.errors import CaptureError
from tickplant.feed.files.dbn import Dbn, DbnDecoder
from tickplant.feed.files.dbn_records import layout
from tickplant.feed.files.dbn_symbols import DAY_NS
from tickplant.feed.files.scaled import unscaled
from tickplant.feed.formats import open_capture
from tickplant.feed.sink import shipped_schema
from tickplant.schema import Flag

dbn = pytest.importorskip("databento_dbn")
ROOT = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA", ROOT.parent / "shared" / "data"))
needs_captures = pytest.mark.skipif(not (DATA / "databento-dbn").is_dir(), reason=f"no captures in {DATA}")
FRIDAY, SATURDAY = datetime.date(2024, 10, 4), datetime.date(2024, 10, 5)
NAN = np.nan


def decoded(*records, version=3, piece=None):
    decoder, rows = DbnDecoder(version, "XTST", False), {}
    data, at = b"".join(records), 0
    rest = b""
    for start in range(0, len(data), piece or len(data) or 1):
        rest += data[start : start + (piece or len(data))]
        batch, used, _ = decoder.decode(memoryview(rest), at)
        rest, at = rest[used:], at + used
        for table, made in batch:
            rows.setdefault(table, []).append(made)
    return decoder, {t: np.concatenate(r) for t, r in rows.items()}


def read(tmp_path, data, **options):
    path = tmp_path / "some.dbn"
    path.write_bytes(data)
    capture, rows = Dbn(path, **options), {}
    for batch in capture:
        for table, made in batch:
            rows.setdefault(table, []).append(made)
    return capture, {t: np.concatenate(r) for t, r in rows.items()}


def values(row, *names):
    return tuple(row[n].item() for n in names)


def test_each_action_by_order_is_its_row():
    records = [m.mbo(a, order=n, seq=n, at=n) for n, a in enumerate("ACMFRTN", 1)]
    decoder, rows = decoded(*records)
    orders = rows["order"]
    assert orders["action"].tolist() == [b"A", b"X", b"U", b"E", b"R"]
    assert orders["order_id"].tolist() == [1, 2, 3, 4, 5]
    assert orders["ref_id"].tolist() == [0, 0, 3, 0, 0]
    assert values(orders[0], "ts_event", "ts_recv", "price", "size", "side", "venue_seq") == (
        m.BEGIN + 1, m.BEGIN + 6, 1.5, 3.0, b"B", 1)  # fmt: skip
    assert values(rows["trade"][0], "price", "size", "side", "action") == (1.5, 3.0, b"B", b"T")
    assert decoder.messages == {f"mbo {a}": 1 for a in "ACMFRT"}
    assert decoder.ignored == {"mbo N": 1}


@pytest.mark.parametrize("record", [
    m.mbo("T", price=m.UNDEF_PRICE), m.mbo("T", size=(1 << 32) - 1),
    m.mbo("T", at=m.UNDEF_TIME - m.BEGIN - 5),
    m.trade(price=m.UNDEF_PRICE), m.mbp1("T", price=m.UNDEF_PRICE), m.mbp10([], [], "T"),
    bytes(dbn.OHLCVMsg(33, 1, 7, m.BEGIN, 10**9, 2 * 10**9, 10**9, m.UNDEF_PRICE, 12)),
])  # fmt: skip
def test_a_trade_or_a_bar_without_what_it_needs_is_malformed(record):
    if record == m.mbp10([], [], "T"):
        record = record.replace((1_500_000_000).to_bytes(8, "little"), m.UNDEF_PRICE.to_bytes(8, "little"), 1)
    decoder, rows = decoded(record, m.mbo("T"))
    assert decoder.malformed == 1
    assert rows["event"]["kind"].tolist() == [b"malformed"]
    assert rows["event"]["first"].tolist() == [0]
    assert rows["event"]["last"].tolist() == [len(record)]
    assert rows["trade"]["price"].tolist() == [1.5]
    assert "bar" not in rows


def test_what_is_undefined_is_nan_or_zero():
    _, rows = decoded(m.mbo(price=m.UNDEF_PRICE, size=(1 << 32) - 1, side="N", at=m.UNDEF_TIME - m.BEGIN - 5))
    row = rows["order"][0]
    assert np.isnan(row["price"])
    assert np.isnan(row["size"])
    assert values(row, "side", "ts_recv") == (b"", 0)


def test_a_quote_has_nan_and_zero_where_a_side_is_empty_and_a_trade_is_one_row_more():
    _, rows = decoded(m.mbp1(bid=(2_000_000_000, 5, 1)), m.mbp1("T", ask=(3_000_000_000, 6, 1), size=9))
    first, second = rows["quote"]
    assert values(first, "bid_price", "bid_size", "ask_size") == (2.0, 5.0, 0.0)
    assert np.isnan(first["ask_price"])
    assert values(second, "ask_price", "ask_size") == (3.0, 6.0)
    assert rows["trade"]["size"].tolist() == [9.0]


@given(st.lists(st.tuples(
    st.sampled_from("ACMTF"), st.sampled_from("ABN"), st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, (1 << 32) - 1), st.integers(0, 3), st.integers(0, (1 << 63) - 1)), max_size=30),
    st.integers(1, 300))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_orders_and_trades_are_what_the_library_reads_in_whatever_pieces_they_come(made, piece):
    records = [m.mbo(a, s, p, z, number=n, order=o) for a, s, p, z, n, o in made]
    decoder, rows = decoded(*records, piece=piece)
    lost = [r for r in made if r[0] == "T" and (r[2] == m.UNDEF_PRICE or r[3] == 2**32 - 1)]
    assert decoder.malformed == len(lost)
    for table, actions in (("order", "ACMF"), ("trade", "T")):
        wanted = [r for r in made if r[0] in actions and r not in lost]
        got = rows.get(table, np.empty(0, [("price", "f8"), ("size", "f8"), ("side", "S1")]))
        prices = [NAN if p == m.UNDEF_PRICE else p / 10**9 for _, _, p, *_ in wanted]
        np.testing.assert_array_equal(got["price"], prices)
        np.testing.assert_array_equal(got["size"], [NAN if r[3] == 2**32 - 1 else r[3] for r in wanted])
        assert got["side"].tolist() == [{"A": b"S", "B": b"B", "N": b""}[r[1]] for r in wanted]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1)), st.sampled_from([1, 10**4, 10**8, 10**9]))
def test_scaled_integers_become_the_nearest_float(numbers, divisor):
    got = unscaled(np.array(numbers, np.int64), divisor)
    assert got.tolist() == [n / divisor for n in numbers]


@given(st.integers(-(1 << 63), (1 << 63) - 2))
@settings(max_examples=500)
def test_prices_become_the_nearest_float(number):
    assert native.price(number) == number / 10**9


def test_the_rows_in_c_are_those_of_the_shipped_tables():
    sizes = [shipped_schema()[t].row_size for t in ("order", "trade")]
    assert sizes == [native.ORDER_SIZE, native.TRADE_SIZE]
    records, codes, room = np.zeros((2, 56), np.uint8), np.zeros(2, np.uint32), np.zeros(200, np.uint8)
    for short in ((room[:1], room), (room, room[:1])):
        with pytest.raises(ValueError, match="room"):
            native.rows(records, codes, True, *short)


def test_thousands_of_instruments_each_have_their_own_code():
    ids = np.random.default_rng(1).permutation(np.arange(1, 40_000, 13)).tolist()
    _, rows = decoded(*[m.trade(number=n, size=n) for n in ids * 2], piece=10_000)
    symbols = dict(
        zip(rows["instrument"]["code"].tolist(), rows["instrument"]["symbol"].tolist(), strict=True)
    )
    assert len(symbols) == len(ids)
    assert [symbols[c] for c in rows["trade"]["instrument"].tolist()] == [b"#%d" % n for n in ids * 2]


def test_the_layouts_are_those_of_the_versions():
    sizes = [[layout(v, r, n).itemsize for r, n in ((19, d), (24, s))]
             for v, d, s in ((1, 360, 64), (2, 400, 64), (3, 520, 80))]  # fmt: skip
    assert sizes == [[360, 64], [400, 64], [520, 80]]
    assert layout(3, 19, 400) is None
    assert layout(3, 160, 64).names == layout(3, 160, 56).names  # with ts_out


def test_an_instrument_follows_its_symbol_over_dates(tmp_path):
    mappings = [("ESZ4", [(FRIDAY, SATURDAY, "7"), (SATURDAY, datetime.date(2024, 10, 6), "8")]),
                ("ESH5", [(SATURDAY, datetime.date(2024, 10, 6), "7")])]  # fmt: skip
    late = DAY_NS - 5  # received on the next date
    records = [m.mbo(number=7), m.mbo(number=8), m.mbo(number=7, at=late), m.mbo(number=8, at=late)]
    _, rows = read(tmp_path, m.metadata(mappings) + b"".join(records))
    symbols = dict(
        zip(rows["instrument"]["code"].tolist(), rows["instrument"]["symbol"].tolist(), strict=True)
    )
    assert [symbols[c] for c in rows["order"]["instrument"].tolist()] == [b"ESZ4", b"#8", b"ESH5", b"ESZ4"]
    assert set(rows["instrument"]["venue"].tolist()) == {b"GLBX"}


def test_a_symbol_of_the_metadata_that_has_no_room_leaves_the_number(tmp_path):
    long = [("X" * 49, [(datetime.date(2024, 10, 1), datetime.date(2024, 11, 1), "7")])]
    _, rows = read(tmp_path, m.metadata(long) + m.mbo())
    assert rows["instrument"]["symbol"].tolist() == [b"#7"]


def test_mappings_from_ids_to_symbols_are_read_as_well(tmp_path):
    data = m.metadata([("7", [(FRIDAY, SATURDAY, "ESZ4")])], inverse=True)
    _, rows = read(tmp_path, data + m.mbo(number=7))
    assert rows["instrument"]["symbol"].tolist() == [b"ESZ4"]


def test_symbols_of_a_stream_come_from_its_mapping_messages():
    kind = dbn.SType.RAW_SYMBOL
    told = bytes(
        dbn.SymbolMappingMsg(1, 9, m.BEGIN, kind, "NQZ4", dbn.SType.INSTRUMENT_ID, "9", 0, m.BEGIN + 50)
    )
    decoder, rows = decoded(told, m.mbo(number=9), m.mbo(number=9, at=100))
    assert rows["instrument"]["symbol"].tolist() == [b"NQZ4", b"#9"]
    assert decoder.messages == {"mapping": 1, "mbo A": 2}


def test_publishers_of_one_symbol_are_instruments_of_their_venues():
    _, rows = decoded(
        m.trade(publisher=2), m.trade(publisher=3), m.trade(publisher=60_000), m.trade(publisher=2)
    )
    assert rows["instrument"]["venue"].tolist() == [b"XNAS", b"XBOS", b"XTST"]
    assert rows["trade"]["instrument"].tolist() == [1, 2, 3, 1]


def test_venues_are_those_that_the_library_knows():
    from tickplant.feed.files.dbn_symbols import VENUES

    for number in range(1, len(VENUES) + 1):
        record = dbn.TradeMsg(number, 1, 0, 0, 0, dbn.Action.TRADE, dbn.Side.NONE, 0, 0)
        said = re.search(r"publisher_id=\w+\.\w+\.(\w+) ", repr(record))
        assert said[1] == VENUES[number - 1]


levels = st.lists(st.tuples(st.integers(1, 14), st.integers(1, 3), st.integers(1, 2)), max_size=10,
                  unique_by=lambda level: level[0])  # fmt: skip


@given(st.lists(st.tuples(levels, levels, st.integers(1, 2), st.sampled_from("AACR")), max_size=8),
       st.integers(1, 900))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_who_applies_the_depth_rows_has_the_levels_of_every_record(made, piece):
    records = [m.mbp10([(p * 10**9, s, c) for p, s, c in bids], [(p * 10**9, s, c) for p, s, c in asks], a,
                       number=n, seq=i) for i, (bids, asks, n, a) in enumerate(made)]  # fmt: skip
    _, rows = decoded(*records, piece=piece)
    depth = rows.get("depth")
    books = {}
    for i, (bids, asks, *_) in enumerate(made):
        for row in depth[depth["venue_seq"] == i]:
            book = books.setdefault(row["instrument"], {})
            if row["action"] == b"R":
                book.clear()
            elif row["action"] == b"D":
                assert row["size"] == 0
                del book[row["side"].item(), row["price"].item()]
            else:
                key = (row["side"].item(), row["price"].item())
                assert (key in book) == (row["action"] == b"C")
                book[key] = (row["size"].item(), row["orders"].item())
        code = dict(zip(depth["venue_seq"].tolist(), depth["instrument"].tolist(), strict=True)).get(i)
        if code is not None:
            wanted = {
                (s, float(p)): (float(z), c) for s, side in ((b"B", bids), (b"S", asks)) for p, z, c in side
            }
            assert books[code] == wanted


def test_the_first_book_of_ten_levels_is_a_snapshot_and_the_next_a_change():
    bids = [(3 * 10**9, 5, 1), (2 * 10**9, 6, 2)]
    _, rows = decoded(m.mbp10(bids, []), m.mbp10([bids[0]], []), m.mbp10([bids[0]], []))
    depth = rows["depth"]
    assert depth["action"].tolist() == [b"R", b"A", b"A", b"D"]
    assert depth["level"].tolist() == [0, 0, 1, 1]
    assert depth["flags"].tolist() == [Flag.SNAPSHOT] * 3 + [0]
    assert len(rows["quote"]) == 1


def test_bars_have_their_interval_and_states_their_names():
    bar = bytes(dbn.OHLCVMsg(33, 1, 7, m.BEGIN, 10**9, 2 * 10**9, 10**9, 10**9, 12))
    halt = bytes(dbn.StatusMsg(1, 7, m.BEGIN, m.BEGIN, dbn.StatusAction.HALT, dbn.StatusReason.NEWS_PENDING,
                               None, dbn.TriState.NO))  # fmt: skip
    decoder, rows = decoded(bar, halt)
    assert values(rows["bar"][0], "interval_ns", "high", "volume") == (60 * 10**9, 2.0, 12.0)
    assert values(rows["bar"][0], "start", "ts_event", "close") == (m.BEGIN, m.BEGIN + 60 * 10**9, 1.0)
    assert values(rows["status"][0], "kind", "value", "reason", "level_1") == (
        b"trading",
        b"halt",
        b"30",
        0.0,
    )
    assert decoder.messages == {"ohlcv-1m": 1, "status": 1}


def test_flags_say_snapshot_and_a_book_that_may_be_bad():
    _, rows = decoded(m.mbo(flags=32, seq=4), m.mbo(flags=4, seq=5), m.mbo(flags=4, seq=7))
    assert rows["order"]["flags"].tolist() == [Flag.SNAPSHOT, 0, 0]
    assert values(rows["event"][0], "kind", "first", "last") == (b"gap", 5, 7)


def test_types_that_are_mixed_or_unknown_are_each_accounted_for():
    unknown = bytearray(m.trade())
    unknown[1] = 99
    short = bytearray(m.trade())
    short[1] = 160
    stream = [m.mbo(seq=1), m.trade(seq=2), bytes(unknown), m.mbo("T", seq=3), bytes(short), m.trade(seq=4)]
    for piece in (None, 1, 50):
        decoder, rows = decoded(*stream, piece=piece)
        assert decoder.messages == {"mbo A": 1, "mbo T": 1, "trades T": 2}
        assert decoder.malformed == 2
        assert sorted(rows["trade"]["venue_seq"].tolist()) == [2, 3, 4]
        assert rows["event"]["kind"].tolist() == [b"malformed"] * 2
        assert rows["event"]["first"].tolist() == [56 + 48, 56 * 2 + 48 * 2]


def test_a_file_is_recognized_plain_and_packed(tmp_path):
    data = m.metadata([("ESZ4", [(FRIDAY, SATURDAY, "7")])]) + m.mbo() * 3
    for content in (data, m.packed(data), m.packed(data[:250]) + m.packed(data[250:])):
        (tmp_path / "x").write_bytes(content)
        capture = open_capture(tmp_path / "x")
        list(capture)
        assert (capture.format, capture.messages, capture.damaged) == ("dbn", {"mbo A": 3}, False)


def test_a_file_cut_anywhere_gives_what_is_whole_and_an_event(tmp_path):
    head = m.metadata()
    whole = head + m.mbo() * 50
    for size in range(len(head) + 20, len(whole), 13):
        capture, rows = read(tmp_path, whole[:size])
        assert capture.messages.total() == (size - len(head)) // 56
        assert capture.damaged == bool((size - len(head)) % 56)
        if capture.damaged:
            assert rows["event"]["kind"].tolist() == [b"truncated"]


def test_a_packed_file_cut_anywhere_gives_what_is_known_and_an_event(tmp_path):
    noise = np.random.default_rng(1).integers(1, 1 << 60, 5000).tolist()
    packed = m.packed(m.metadata() + b"".join(m.mbo(order=n) for n in noise))
    for size in range(len(packed) * 3 // 4, len(packed), len(packed) // 20):
        capture, rows = read(tmp_path, packed[:size])
        assert capture.damaged
        assert 2000 < capture.messages.total() <= 5000
        assert rows["event"]["kind"].tolist() == [b"damaged"]


def test_a_length_that_can_not_be_is_damage(tmp_path):
    capture, rows = read(tmp_path, m.metadata() + m.mbo() + b"\0" + m.mbo()[1:] + m.mbo())
    assert (capture.damaged, capture.messages) == (True, {"mbo A": 1})
    assert rows["event"]["kind"].tolist() == [b"damaged"]


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_no_bytes_make_it_fail_or_lose_count(data):
    decoder = DbnDecoder(3, "XTST", False)
    _, used, _ = decoder.decode(memoryview(data))
    assert used <= len(data)
    seen, at = 0, 0
    while at < used:
        at += data[at] * 4
        seen += 1
    assert at == used
    assert decoder.messages.total() + decoder.ignored.total() + decoder.malformed == seen


PANIC = m.metadata()[:4] + (100).to_bytes(4, "little") + m.metadata()[8:108]
"""Metadata that is whole by its length, and at which Databento's library panics."""


@pytest.mark.parametrize(
    "content", [b"DBN\x03", b"DBN\x09" + bytes(90), m.metadata()[:60], b"DBN\x03" + b"\xff" * 9, PANIC]
)
def test_a_file_without_metadata_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CaptureError):
        Dbn(tmp_path / "x")


# Real captures; the figures are those of the README beside them.
FIGURES = re.compile(
    r"\| (databento-dbn/\S+) \|.*: (\d+) records \{.*?\} actions (\{.*?\}) "
    r"trades (\d+) vol (\d+) (\S+?)\.\.(\S+) \|"
)


@needs_captures
def test_all_captures_give_the_known_counts():
    known = [FIGURES.match(line) for line in (DATA / "README.md").read_text().splitlines()]
    known = [k for k in known if k]
    assert len(known) == 60
    for found in known:
        name, records, actions, trades, volume, *span = found.groups()
        capture, tables = open_capture(DATA / name), {}
        for batch in capture:
            for table, rows in batch:
                tables.setdefault(table, []).append(rows)
        whole = {t: np.concatenate(r) for t, r in tables.items()}
        assert (capture.messages.total(), capture.malformed, capture.damaged) == (int(records), 0, False), (
            name
        )
        counted = Counter()
        for kind, count in capture.messages.items():
            counted[kind.partition(" ")[2]] += count
        if "<" not in actions:
            assert {k: v for k, v in counted.items() if k} == eval(actions), name
        assert len(whole.get("trade", ())) == int(trades), name
        sizes = (
            whole["bar"]["volume"] if "bar" in whole else whole["trade"]["size"] if "trade" in whole else []
        )
        assert sum(sizes) == int(volume), name
        main = [t for t in whole if t != "instrument"] or ["instrument"]
        times = np.concatenate([whole[t]["start" if t == "bar" else "ts_event"] for t in main])
        for got, said in zip((times.min(), times.max()), span, strict=True):
            at = 0 if said == "None" else datetime.datetime.fromisoformat(said).timestamp() * 1e9
            assert abs(got - at) < 1500, name  # told in microseconds, by way of a float
