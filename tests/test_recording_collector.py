"""Lines of time and frame, as a collector writes them: no header, no list; the frames tell the market."""

import gzip
import json

import pytest

from tickplant.feed.formats import open_capture
from tickplant.feed.venues.binance import market

START = 1_700_000_000_000_000_000


def event(kind, symbol, **data):
    return {"stream": f"{symbol.lower()}@x", "data": {"e": kind, "E": 1_700_000_000_000, "s": symbol, **data}}


def depth(symbol, first, last, pu=None, bids=(("10", "2"),)):
    more = {} if pu is None else {"pu": pu, "T": 1_700_000_000_000}
    made = event("depthUpdate", symbol, U=first, u=last, b=list(bids), a=[], **more)
    return {**made, "stream": f"{symbol.lower()}@depth@100ms"}


def trade(symbol, t, **more):
    made = event("trade", symbol, t=t, p="100.5", q="0.25", T=1_700_000_000_000, m=True, **more)
    return {**made, "stream": f"{symbol.lower()}@trade"}


def snapshot(seq, **more):
    return {"lastUpdateId": seq, "bids": [["10", "1"]], "asks": [["11", "1"]], **more}


def collected(path, *frames):
    lines = "".join(f"{START + i} {json.dumps(f)}\n" for i, f in enumerate(frames))
    path.write_bytes(gzip.compress(lines.encode()))
    return path


def decoded(path, **options):
    """Format, {table: rows}, and the decoder of a capture."""
    capture, rows = open_capture(path, **options), {}
    for batch in capture:
        for table, some in batch:
            rows.setdefault(table, []).extend(some)
    return capture, rows


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (depth("ETHUSDT", 1, 2, 0), "binance-usdm"), (depth("ETHUSDT", 1, 2), "binance"),
        (depth("ETHUSD_PERP", 1, 2, 0), "binance-coinm"), (trade("ETHUSD_250328", 1), "binance-coinm"),
        (trade("ETHUSDT_250328", 1), "binance-usdm"), (trade("ETHUSDT", 1, X="MARKET"), "binance-usdm"),
        (trade("ETHUSDT", 1, M=True), "binance"), (trade("ETHUSDT", 1), ""),
        (trade("ETHUSDT", 1, st=2), "binance-coinm"), (trade("ETHUSDT", 1, st=1), "binance-usdm"),
        (snapshot(5), "binance"), (snapshot(5, E=1, T=1), "binance-usdm"),
        (snapshot(5, E=1, T=1, symbol="ETHUSD_PERP", pair="ETHUSD"), "binance-coinm"),
        ({"stream": "ethusdt@bookTicker", "data": {"s": "ETHUSDT", "u": 1}}, "binance"),
        (event("bookTicker", "ETHUSDT", u=1), "binance-usdm"), ({"result": None, "id": 1}, ""),
        (event("markPriceUpdate", "ETHUSDT", p="1"), "binance-usdm"),
    ],
)  # fmt: skip
def test_a_message_tells_its_market_or_does_not(frame, name):
    assert market(json.dumps(frame).encode()) == name


def test_a_file_of_usd_m_is_read_as_such_and_its_book_followed(tmp_path):
    path = collected(
        tmp_path / "eth.gz", trade("ETHUSDT", 8), depth("ETHUSDT", 95, 105, 94), snapshot(100, E=1, T=1),
        depth("ETHUSDT", 117, 120, 105, [("10", "3")]), trade("ETHUSDT", 9),
    )  # fmt: skip
    for options in ({}, {"venue": "binance-usdm"}):
        capture, rows = decoded(path, **options)
        assert capture.format == "binance-usdm"
        assert capture.malformed == 0
        (made,) = [(r["venue"], r["symbol"], r["kind"]) for r in rows["instrument"]]
        assert made == (b"BINANCE-USDM", b"ETH-USDT-PERP", b"perp")
        assert [r["kind"] for r in rows["event"]] == [b"unlisted"]
        assert len(rows["trade"]) == 2


def test_a_file_of_coin_m_is_read_without_any_list(tmp_path):
    path = collected(
        tmp_path / "coin.gz", trade("ETHUSD_PERP", 1), depth("ETHUSD_PERP", 95, 105, 94),
        snapshot(100, symbol="ETHUSD_PERP", pair="ETHUSD", E=1), trade("BTCUSD_250328", 7, X="MARKET"),
    )  # fmt: skip
    capture, rows = decoded(path)
    assert capture.format == "binance-coinm"
    assert capture.malformed == 0
    assert [r["symbol"] for r in rows["instrument"]] == [b"ETH-USD-PERP", b"BTC-USD-20250328"]
    assert len(rows["trade"]) == 2


def test_what_nothing_tells_is_spot(tmp_path):
    capture, rows = decoded(collected(tmp_path / "spot.gz", trade("BTCBUSD", 1), trade("BNBTUSD", 2)))
    assert capture.format == "binance"
    assert [r["symbol"] for r in rows["instrument"]] == [b"BTC-BUSD", b"BNB-TUSD"]


def test_a_snapshot_without_a_symbol_is_of_the_book_that_waits_for_it(tmp_path):
    path = collected(
        tmp_path / "two.gz", depth("ETHUSDT", 95, 105), depth("BTCUSDT", 8000, 8005), snapshot(100),
        snapshot(8002), snapshot(5), depth("ETHUSDT", 106, 106), depth("BTCUSDT", 8006, 8007),
    )  # fmt: skip
    capture, rows = decoded(path)
    assert [r["kind"] for r in rows["event"]] == [b"unlisted", b"unlisted", b"unassigned"]
    assert capture.ignored == {"nameless snapshot": 1}
    assert capture.malformed == 0
    begun = [(r["instrument"], r["venue_seq"]) for r in rows["depth"] if r["action"] == b"R"]
    assert begun == [(1, 100), (2, 8002)]
