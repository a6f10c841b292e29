"""The test kit of feed handlers finds what is wrong with a handler."""

import json

import numpy as np
import pytest

from tests.exchange import Exchange
from tickplant.feed import formats
from tickplant.feed.capture import Capture
from tickplant.feed.recording import Recorder
from tickplant.feed.sink import shipped_schema
from tickplant.schema import Flag
from tickplant.testing import check_capture

SCHEMA = shipped_schema()


class Fake(Capture):
    """A capture that has whatever a test says."""

    format = "fake"
    batches = ()
    gaps = 0

    def __init__(self, path):
        super().__init__()
        self.messages["trade"] = 2

    @staticmethod
    def sniff(head):
        return head.raw == b"fake"

    def __iter__(self):
        yield from self.batches


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A file that is read as these batches."""

    def made(*batches):
        monkeypatch.setattr(Fake, "batches", batches)
        monkeypatch.setattr(formats.Format, "load", lambda self: Fake)
        (tmp_path / "capture").write_bytes(b"fake")
        return tmp_path / "capture"

    return made


def definition(code):
    rows = SCHEMA["instrument"].empty(1)
    rows["code"] = rows["instrument"] = code
    rows["ts_recv"] = 1
    rows["venue"], rows["symbol"] = b"XTST", b"A"
    return ("instrument", rows)


def rows_of(table, **columns):
    rows = SCHEMA[table].empty(2)
    for name, value in {"ts_recv": 1, "instrument": 1, **columns}.items():
        rows[name] = value
    return (table, rows)


def test_a_capture_that_is_as_expected_passes(fake):
    path = fake([definition(1)], [rows_of("trade", size=2.5)])
    batches = check_capture(path, messages={"trade": 2}, rows={"trade": 2}, sizes={"trade": 5.0}, total=2)
    assert [table for batch in batches for table, _ in batch] == ["instrument", "trade"]


def test_everything_that_is_not_as_expected_is_said_at_once(fake):
    path = fake([definition(1)], [rows_of("trade", size=2.5), rows_of("event", kind=b"gap")])
    with pytest.raises(AssertionError) as told:
        check_capture(
            path, messages={"trade": 3}, rows={"trade": 1}, sizes={"trade": 6.0}, total=9, malformed=1
        )
    for what in (
        "messages trade: 2, not 3", "rows of trade: 2, not 1", "5.0, not 6.0", "messages in all: 2, not 9",
        "malformed messages: 0, not 1", "gaps: 2, not 0",
    ):  # fmt: skip
        assert what in str(told.value)


def test_rows_about_instruments_that_are_not_defined_are_found(fake):
    path = fake([rows_of("trade", instrument=7)], [definition(7)])
    with pytest.raises(AssertionError, match=r"rows of trade about instruments \[7\]"):
        check_capture(path, plant=False)


def test_a_quote_that_is_not_the_top_of_its_book_is_found(fake):
    depth = rows_of("depth", side=[b"", b"B"], action=[b"R", b"A"], price=[np.nan, 9.0], size=[0, 2.0])
    quote = rows_of("quote", bid_price=9.0, bid_size=3.0, ask_price=np.nan, ask_size=0, flags=Flag.SYNTHETIC)
    with pytest.raises(AssertionError, match=r"has best bid \(9.0, 2.0\), quoted is \(9.0, 3.0\)"):
        check_capture(fake([definition(1)], [depth, quote]), plant=False)


def test_rows_that_a_plant_would_not_keep_as_they_are_are_found(fake):
    path = fake([definition(1)], [rows_of("trade", ts_recv=0)])  # becomes the time of publishing
    with pytest.raises(AssertionError, match="trade: 2 rows journaled, not the 2"):
        check_capture(path)


def test_a_recording_of_a_venue_passes_as_it_is(tmp_path):
    exchange = Exchange()
    try:
        path = tmp_path / "day.jsonl.zst"
        recorder, said = Recorder(path, "BINANCE", {}, 0), []
        exchange.say = said.append
        recorder.add("http", "rest", 1, json.dumps(exchange.answer("/exchangeInfo")), url="x/exchangeInfo")
        url = "x/depth?symbol=BTCUSDT&limit=1000"
        recorder.add("http", "rest", 2, json.dumps(exchange.answer("/depth")), url=url)
        for n in range(50):
            exchange.move()
            exchange.trade()
            for message in said:
                recorder.add("recv", "ws", 3 + n, message)
            said.clear()
        recorder.close()
        check_capture(path, messages={"trade": 50, "depth": 50}, rows={"trade": 50}, sizes={"trade": 6.25})
    finally:
        exchange.close()


def test_a_capture_that_gives_no_rows_passes_through_a_plant(fake):
    assert check_capture(fake(), messages={"trade": 2}) == []
