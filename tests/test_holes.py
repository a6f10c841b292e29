"""Holes in trades, filled page by page: each trade once, late, and what is not there stays a gap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant.errors import SchemaError
from tickplant.feed import holes as module
from tickplant.feed.holes import Hole, Holes, Page, Traded
from tickplant.feed.sink import Sink
from tickplant.schema import Flag


def traded(number, key=None):
    return Traded(number, number, {"trade_id": number, "price": 1.5, "size": 2.0, "side": "B"}, key)


def answer(there, page, asked):
    """What a venue that has trades `there` answers to a page of a hole."""
    if page.goes == "forward":
        return [n for n in sorted(there) if asked.first <= n <= asked.last][: page.limit]
    if page.goes == "back":
        return [n for n in sorted(there, reverse=True) if n <= asked.last][: page.limit]
    return sorted(there, reverse=True)[: page.limit]


def filled(hole, page, there, by_one=False):
    """Late trades, and (kind, first, last) of events, when all is answered; and the number of pages."""
    sink, asked, pages = Sink("XTST"), hole, 0
    code, holes = sink.define("A", 1, 1), Holes(sink)
    while asked is not None:
        past, pages = [traded(n) for n in answer(there, page, asked)], pages + 1
        asked = holes.fill(asked, page, past, code, 1, by_one=by_one)
    taken = dict(sink.take())
    trades = taken.get("trade", ())
    assert all(t["flags"] == Flag.LATE for t in trades)
    assert all(t["action"] == b"T" for t in trades)
    events = [(e["kind"].decode(), int(e["first"]), int(e["last"])) for e in taken["event"]]
    return [int(t["trade_id"]) for t in trades], events, pages


@given(
    st.sets(st.integers(1, 60)), st.integers(1, 60), st.integers(0, 30), st.sampled_from(["back", "forward"]),
    st.integers(1, 10),
)  # fmt: skip
def test_pages_bring_each_trade_of_a_hole_once_and_tell_that_it_is_whole(there, first, more, goes, limit):
    hole = Hole("trades", "A", first, first + more)
    late, events, _ = filled(hole, Page("url", limit, goes), there)
    wanted = sorted(n for n in there if hole.first <= n <= hole.last)
    assert sorted(late) == wanted
    covered = [n for kind, a, b in events for n in range(a, b + 1)]
    assert sorted(covered) == list(range(hole.first, hole.last + 1))
    assert {kind for kind, *_ in events} == {"filled"}


@given(st.sets(st.integers(1, 60)), st.integers(1, 60), st.integers(0, 30), st.integers(0, 10))
def test_the_newest_trades_fill_as_far_as_they_reach_and_the_rest_stays_a_gap(there, first, more, limit):
    hole = Hole("trades", "A", first, first + more)
    page = Page("url", limit)
    had = answer(there, page, hole)
    late, events, pages = filled(hole, page, there)
    assert late == sorted(n for n in had if hole.first <= n <= hole.last)
    told = {kind: set(range(a, b + 1)) for kind, a, b in events}
    begins = hole.first if len(had) < limit else min(had, default=hole.last + 1)
    assert told.get("filled", set()) == {n for n in range(hole.first, hole.last + 1) if n >= begins}
    assert told.get("gap", set()) == {n for n in range(hole.first, hole.last + 1) if n < begins}
    assert pages == 1


def test_where_numbers_go_up_by_one_those_that_are_not_there_are_a_gap_again():
    late, events, _ = filled(Hole("trades", "A", 3, 9), Page("url", 100), {3, 4, 8, 20}, by_one=True)
    assert late == [3, 4, 8]
    assert events == [("filled", 3, 9), ("gap", 3, 9)]


def test_pages_of_a_hole_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "PAGES_MAX", 3)
    late, events, pages = filled(Hole("trades", "A", 1, 100), Page("url", 10, "back"), set(range(1, 101)))
    assert pages == 3
    assert sorted(late) == list(range(71, 101))
    assert events[-1] == ("gap", 1, 70)


def test_trades_with_one_number_are_told_apart_by_their_key():
    sink = Sink("XTST")
    code, past = sink.define("A", 1, 1), [traded(5, "x"), traded(5, "y"), traded(5, "x")]
    Holes(sink).fill(Hole("trades", "A", 4, 6), Page("url"), past, code, 1, by_one=False)
    assert len(dict(sink.take())["trade"]) == 2


def test_a_trade_that_can_not_be_a_row_is_refused_before_anything_is_done():
    sink = Sink("XTST")
    code = sink.define("A", 1, 1)
    sink.take()
    with pytest.raises(SchemaError):
        Holes(sink).check([traded(1), Traded(2, 2, {"trade_id": 2**70})], code, 1)
    assert sink.take() == []


def test_answers_that_are_waited_for_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "ASKED_MAX", 10)
    holes = Holes(Sink("XTST"))
    for n in range(30):
        holes.ask(Hole("trades", "A", n, n), Page(f"url{n}"))
    assert [n for n in range(30) if f"url{n}" in holes] == list(range(20, 30))
