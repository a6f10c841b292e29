"""Real recordings without their venues' lists of instruments: the same trades, quotes and levels."""

import json
import os
from pathlib import Path

import pytest
import zstandard

from tickplant.feed.decode import decode

HOME = Path(__file__).parents[1]
DATA = Path(os.environ.get("TICKPLANT_TEST_DATA") or HOME.parent / "shared" / "data")
CAPTURES = sorted((DATA / "crypto-ws").glob("*.jsonl.zst"))
BOOKS = ("depth?", "order_book", "orderbook/", "GetAllOrders", "GetOrderBook")
"""What an answer over REST is about that is no list."""

pytestmark = pytest.mark.skipif(not CAPTURES, reason="no captures: TICKPLANT_TEST_DATA")


def is_list(line):
    if not line.startswith(b"{"):
        return False
    entry = json.loads(line)
    return entry["t"] == "http" and not any(b in entry["url"] for b in BOOKS)


def sums(account):
    """Rows and sums of what is traded and quoted; not of status, which lists have, too."""
    return {
        table: (of["rows"], of["size_sum"], of["notional_sum"])
        for table, of in account["tables"].items()
        if table in ("trade", "quote", "depth", "order")
    }


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda p: p.name.partition(".")[0])
def test_without_lists_the_rows_are_the_same(capture, tmp_path):
    with zstandard.open(capture, "rb") as file:
        lines = file.read().splitlines()
    kept = [line for line in lines if not is_list(line)]
    assert len(kept) < len(lines)
    bare = tmp_path / "bare.jsonl.zst"
    bare.write_bytes(zstandard.ZstdCompressor().compress(b"\n".join(kept) + b"\n"))
    whole, without = decode(capture), decode(bare)
    assert sums(without) == sums(whole)
    assert without["malformed"] == whole["malformed"] == 0
    assert set(without["event_kinds"]) <= {"unlisted"}
