"""Trades numbered by their venue: what comes twice is told, what is missing is told and asked for."""

from hypothesis import given
from hypothesis import strategies as st

from tickplant.feed.sink import Sink
from tickplant.feed.trades import TradeIds


class Kept:
    """Trades of one instrument, and what was asked for."""

    def __init__(self):
        self.sink, self.asked, self.published = Sink("XTST"), [], []
        self.code = self.sink.define("A", 1, 1)
        self.trades = TradeIds(self.sink, lambda series, native, *hole: self.asked.append(hole))

    def live(self, *numbers):
        for number in numbers:
            if self.trades.is_new("trades", "A", self.code, number, 1):
                self.published.append(number)

    def ordered(self, *numbers, **how):
        for number in numbers:
            if self.trades.in_order("A", self.code, number, 1, "ws", **how):
                self.published.append(number)

    def events(self):
        taken = [rows for table, rows in self.sink.take() if table == "event"]
        return {(row["kind"], int(row["first"]), int(row["last"])) for rows in taken for row in rows}


def test_trades_in_turn_are_all_new_and_nothing_is_asked_for():
    kept = Kept()
    kept.live(*range(5, 25))
    assert kept.published == list(range(5, 25))
    assert kept.asked == []
    assert kept.events() == set()


def test_a_hole_is_told_and_asked_for_and_what_comes_twice_is_told():
    kept = Kept()
    kept.live(1, 2, 6, 7, 7, 2)
    assert kept.published == [1, 2, 6, 7]
    assert kept.asked == [(3, 5)]
    assert kept.events() == {(b"gap", 3, 5), (b"duplicate", 7, 7), (b"duplicate", 2, 2)}


@given(st.lists(st.integers(1, 40), max_size=80))
def test_each_trade_is_published_once_and_every_hole_is_told(numbers):
    kept = Kept()
    kept.live(*numbers)
    best = [n for i, n in enumerate(numbers) if n > max(numbers[:i], default=0)]
    assert kept.published == best
    told = {n for kind, first, last in kept.events() if kind == b"gap" for n in range(first, last + 1)}
    assert told == {n for first, last in kept.asked for n in range(first, last + 1)}
    if best:
        assert told == set(range(best[0], best[-1] + 1)) - set(best)


def test_numbers_that_only_go_up_show_a_hole_only_where_messages_were_lost():
    kept = Kept()
    kept.ordered(10, 30, 30, 25)
    kept.trades.interrupt("another")
    kept.ordered(50)
    assert kept.asked == []
    kept.trades.interrupt("ws")
    kept.ordered(80, 90)
    assert kept.published == [10, 30, 30, 25, 50, 80, 90]
    assert kept.asked == [(51, 79)]
    assert kept.events() == {(b"gap", 51, 79)}


def test_what_a_venue_repeats_on_subscription_is_published_once_and_may_close_the_hole():
    kept = Kept()
    kept.ordered(10, 20)
    kept.trades.interrupt("ws")
    kept.ordered(10, 20, 21, 40, again=True)
    kept.ordered(60)
    assert kept.published == [10, 20, 21, 40, 60]
    assert kept.asked == []


def test_a_trade_that_is_several_is_missing_none_of_them():
    kept = Kept()
    kept.ordered(10)
    kept.trades.interrupt("ws")
    kept.ordered(15, of=3)
    kept.trades.interrupt("ws")
    kept.ordered(18, of=3)
    assert kept.asked == [(11, 12)]


def test_one_instrument_of_a_connection_may_have_lost_messages():
    kept = Kept()
    kept.ordered(10)
    kept.trades.interrupt("ws", "B")
    kept.ordered(20)
    kept.trades.interrupt("ws", "A")
    kept.ordered(30)
    assert kept.asked == [(21, 29)]
