"""Rows as lines: columns that fit, JSON and CSV that have all."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant.batch import Batch
from tickplant.instruments import Instruments
from tickplant.listing import Columns, Csv, JsonLines
from tickplant.schema import declare

TABLE = declare("quote", 1, {"venue_seq": "i8", "bid": "f8", "ask": "f8", "note": "S8"})
NAMES = ("ts_event", "instrument", "venue_seq", "bid", "ask", "note")
AT = 1_764_581_400_000_000_001  # 2025-12-01T09:30:00.000000001Z


def batch(*rows, first_row=7):
    """Rows of values by NAMES."""
    made = TABLE.empty(len(rows))
    for at, row in enumerate(rows):
        for name, value in zip(NAMES, row, strict=True):
            made[name][at] = value
    return Batch.of(made, "quote", 20251201, first_row)


@pytest.fixture
def instruments():
    known = Instruments()
    known.add("XNAS", "AAPL")
    return known


ROWS = (AT, 1, 123456, 99.5, 100.25, b""), (AT + 1, 1, 123457, 99.5, math.nan, b"")


def test_columns_have_a_head_with_the_day_and_leave_out_what_is_empty(instruments):
    assert list(Columns(instruments, 80).lines(batch(*ROWS))) == [
        "row  2025-12-01 UTC      instrument  feed  venue_seq   bid     ask",
        "  7  09:30:00.000000001  XNAS:AAPL      0     123456  99.5  100.25",
        "  8  09:30:00.000000002  XNAS:AAPL      0     123457  99.5",
    ]


def test_columns_without_room_are_left_out_the_least_telling_first_and_named(instruments):
    listing = Columns(instruments, 55)
    lines = list(listing.lines(batch(*ROWS)))
    assert lines[1] == "  7  09:30:00.000000001  XNAS:AAPL   99.5  100.25"
    assert listing.left_out == ("feed", "venue_seq")


def test_text_in_the_last_column_is_cut_rather_than_left_out(instruments):
    listing = Columns(instruments, 62)
    lines = list(listing.lines(batch((AT, 1, 1, 99.5, 100.25, "äöüß".encode()))))
    assert lines[1] == "  7  09:30:00.000000001  XNAS:AAPL   99.5  100.25  äöüß"
    wide = declare("event", 2, {"kind": "S16", "text": "S96"}).empty(1)
    wide["kind"], wide["text"] = b"gap", b"lost " * 10
    shown = list(Columns(instruments, 60).lines(Batch.of(wide, "event", 20251201, 0)))
    assert "  gap   lost lost" in shown[1]
    assert shown[1].endswith("…")
    assert len(shown[1]) == 60


def test_a_head_comes_again_when_the_day_or_a_column_changes(instruments):
    listing = Columns(instruments, 200)
    first = list(listing.lines(batch(*ROWS)))
    assert next(iter(listing.lines(batch(*ROWS, first_row=8)))).split()[0] == "8"
    later = list(listing.lines(batch((AT + 86_400_000_000_000, 1, 1, 1.0, 2.0, b"halt"), first_row=10)))
    assert later[0].startswith("row  2025-12-02 UTC")
    assert later[0].endswith("note")
    assert first[0].startswith("row  2025-12-01 UTC")


@given(text=st.binary(max_size=8).filter(lambda b: b.strip(b"\0")))
def test_nothing_that_a_venue_writes_reaches_the_terminal_as_a_command(text):
    for line in Columns(Instruments(), 200).lines(batch((AT, 0, 1, 1.0, 2.0, text))):
        assert line.isprintable()


def test_json_has_every_column_with_exact_times_and_null_for_no_number(instruments):
    lines = list(JsonLines(instruments).lines(batch(*ROWS)))
    assert json.loads(lines[1]) == {
        "table": "quote", "trading_date": 20251201, "row": 8, "ts_event": AT + 1, "ts_recv": 0, "ts_plant": 0,
        "instrument": "XNAS:AAPL", "feed": 0, "flags": 0, "venue_seq": 123457, "bid": 99.5, "ask": None,
        "note": "",
    }  # fmt: skip


@given(
    notes=st.lists(
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8), min_size=1, max_size=5
    )
)
def test_csv_reads_back_to_what_was_written(notes):
    rows = [(AT + i, 0, i, 0.1 + i, math.inf, note.encode()) for i, note in enumerate(notes)]
    listing = Csv(Instruments())
    text = "\n".join([*listing.lines(batch(*rows)), *listing.lines(batch(*rows))])
    back = list(csv.DictReader(io.StringIO(text)))
    assert len(back) == 2 * len(rows)
    assert [row["note"] for row in back[: len(rows)]] == notes
    assert [float(row["bid"]) for row in back[: len(rows)]] == [row[3] for row in rows]
    assert [int(row["ts_event"]) for row in back[: len(rows)]] == [row[0] for row in rows]


def test_filtered_rows_keep_their_numbers(instruments):
    rows = batch(*ROWS).only(np.array([False, True]))
    assert json.loads(next(JsonLines(instruments).lines(rows)))["row"] == 8
