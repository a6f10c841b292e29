"""Progress of long work: a bar on a terminal, a line a minute in a log, nothing for what is short."""

import logging
import os
import pty

import pytest

from tickplant import progress
from tickplant.clock import SECOND_NS
from tickplant.progress import Progress, amount, duration


@pytest.fixture
def clock(monkeypatch):
    at = [10 * SECOND_NS]
    monkeypatch.setattr(progress, "monotonic_ns", lambda: at[0])
    return at


def test_a_log_gets_a_line_a_minute(clock, caplog):
    caplog.set_level(logging.INFO)
    with Progress("load 20261120", total=4000, unit="rows", terminal=False) as shown:
        for _ in range(10):
            clock[0] += 15 * SECOND_NS
            shown.advance(250)
    assert [r.getMessage() for r in caplog.records] == [
        "load 20261120: 1.0 k rows of 4.0 k rows, 25 %, 17 rows/s, 3 min 0 s left",
        "load 20261120: 2.0 k rows of 4.0 k rows, 50 %, 17 rows/s, 2 min 0 s left",
    ]


def test_work_without_a_known_total_says_how_fast_it_goes(clock):
    shown = Progress("read", terminal=False)
    clock[0] += 2 * SECOND_NS
    shown.reach(3_000_000)
    assert shown.line() == "read: 3.0 MB, 1.5 MB/s"


def drawn(monkeypatch, clock, seconds):
    master, slave = pty.openpty()
    with open(slave, "w") as terminal, open(master, "rb", 0) as screen:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        with Progress("decode [day].pcap", total=1000) as shown:
            clock[0] += seconds * SECOND_NS
            shown.reach(250)
        terminal.write("END")
        terminal.flush()
        said = b""
        while b"END" not in said:
            said += os.read(screen.fileno(), 4096)
    return said


def test_a_terminal_gets_a_bar_with_the_name_as_it_is(monkeypatch, clock):
    said = drawn(monkeypatch, clock, 2)
    assert b"decode [day].pcap" in said
    assert b"25%" in said


def test_work_that_is_over_at_once_draws_nothing(monkeypatch, clock):
    assert drawn(monkeypatch, clock, 0) == b"END"


def test_more_than_the_total_is_no_more_than_all(clock):
    shown = Progress("read", total=100, terminal=False)
    clock[0] += SECOND_NS
    shown.reach(150)
    assert shown.line() == "read: 150 B of 100 B, 100 %, 150 B/s, 0 s left"


@pytest.mark.parametrize(("count", "unit", "said"), [
    (999, "bytes", "999 B"), (1500, "bytes", "1.5 kB"), (2.5e9, "bytes", "2.5 GB"), (12, "rows", "12 rows"),
])  # fmt: skip
def test_amounts_are_short(count, unit, said):
    assert amount(count, unit) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7620, "2 h 7 min")]
)
def test_durations_have_two_units_at_most(seconds, said):
    assert duration(seconds) == said
