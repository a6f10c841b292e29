"""Real recordings of venues over WebSocket, where they are: counts and quantities as told with them."""

import os
import pathlib
import zlib
from collections import Counter

import numpy as np
import pytest

from tests.oracle import levels as oracle
from tickplant._core.changes import ASK, BID
from tickplant.feed.recording import Recording
from tickplant.feed.venues import kraken

HOME = pathlib.Path(__file__).parents[1]
DATA = pathlib.Path(os.environ.get("TICKPLANT_TEST_DATA") or HOME.parent / "shared" / "data")

# frames received by type; trades and their quantity, of the moment and from before (Flag.SNAPSHOT); answers
KNOWN = {
    "KRAKEN": (
        {"book-1000": 4279, "heartbeat": 92, "subscriptionStatus": 30, "ticker": 18, "trade": 8,
         "systemStatus": 3, "GET instruments": 1},
        (10, 52948.76340787), (0, 0.0),
    ),
    "BITFINEX": (
        {"book": 1600, "ticker": 21, "trades": 7, "hb": 42, "subscribed": 21, "info": 1, "conf": 1,
         "GET instruments": 2, "GET currencies": 1},
        (0, 0.0), (210, 257923.51940501),
    ),
    "BITSTAMP": (
        {"diff_order_book": 717, "bts:subscription_succeeded": 20, "trade": 10, "GET instruments": 1,
         "GET depth snapshot": 10},
        (10, 34.91894724), (0, 0.0),
    ),
    "GEMINI": (
        {"l2_updates": 559, "trade": 2, "heartbeat": 2, "GET symbols": 1, "GET details": 347},
        (2, 0.00015334), (810, 1447.07003803),
    ),
    "INDEPENDENT_RESERVE": (
        {"OrderCanceled": 832, "NewOrder": 831, "Heartbeat": 1, "Subscriptions": 1, "GET instruments": 2,
         "GET depth snapshot": 5},
        (0, 0.0), (0, 0.0),
    ),
    "BITHUMB": ({"transaction": 4, "response": 2, "GET instruments": 2}, (7, 92133.76), (0, 0.0)),
}  # fmt: skip
LIVE = {"KRAKEN": 10, "BITFINEX": 7, "BITSTAMP": 10, "GEMINI": 10, "INDEPENDENT_RESERVE": 5, "BITHUMB": 0}
"""Books in step at the end."""


def recording(name: str) -> Recording:
    path = DATA / "crypto-ws" / f"{name}.jsonl.zst"
    if not path.exists():
        pytest.skip(f"there is no {path.name} in {path.parent}")
    return Recording(path)


def read(source: Recording):
    """All rows by table, and the books as they are before the end."""
    tables, books = {}, {}
    for batch in source:
        books = {n: b.live for n, b in source.decoder.books.items()}
        for table, rows in batch:
            tables.setdefault(table, []).append(rows)
    return {t: np.concatenate(rows) for t, rows in tables.items()}, books


@pytest.mark.parametrize("name", KNOWN)
def test_each_frame_is_accounted_for_and_trades_are_those_that_were(name):
    kinds, now, before = KNOWN[name]
    source = recording(name)
    tables, books = read(source)
    assert source.messages + source.ignored == Counter(kinds)
    assert source.malformed == 0
    trades = tables.get("trade", np.empty(0, [("flags", "u2"), ("size", "f8")]))
    for flags, (count, quantity) in ((0, now), (1, before)):
        sizes = trades["size"][trades["flags"] == flags]
        assert len(sizes) == count
        assert sizes.sum() == pytest.approx(quantity, rel=1e-12)
    assert sum(books.values()) == LIVE[name]


@pytest.mark.parametrize("name", KNOWN)
def test_no_book_has_a_gap_or_is_crossed_and_rows_of_depth_rebuild_it(name):
    source = recording(name)
    depth, kinds, halves = {}, Counter(), {}
    for batch in source:
        for table, rows in batch:
            if table == "event":
                kinds.update(rows["kind"].tolist())
            if table == "depth":
                for r in rows:
                    depth.setdefault(int(r["instrument"]), []).append(
                        (oracle.none(r["price"]), float(r["size"]), int(r["orders"]), int(r["level"]),
                         r["side"].decode(), r["action"].decode())
                    )  # fmt: skip
        for book in source.decoder.books.values():
            halves[book.code] = [
                {p: (s, o) for p, s, o in book.levels.top(half, 10**6)} for half in (BID, ASK)
            ]
    assert kinds == {}
    for code, want in halves.items():
        assert oracle.rebuilt(depth.get(code, [])) == want


def test_each_checksum_of_kraken_is_looked_at(monkeypatch):
    source, seen = recording("KRAKEN"), Counter()

    class Counted:
        @staticmethod
        def crc32(data: bytes) -> int:
            seen["checked"] += 1
            return zlib.crc32(data)

    monkeypatch.setattr(kraken, "zlib", Counted)
    for _ in source:
        pass
    assert seen["checked"] == 4279 - 10  # all but the snapshots
