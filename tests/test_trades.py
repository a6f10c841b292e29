"""Trades numbered by their venue:

Whatever is lost and comes again, each is published once, or known to be missing.
"""

from hypothesis import given
from hypothesis import strategies as st

from tickplant.feed.sink import Sink
from tickplant.feed.trades import HOLES_MAX, TradeIds


class Kept:
    """Trades of one instrument, and what was asked for."""

    def __init__(self):
        self.sink, self.asked, self.published = Sink("XTST"), [], []
        self.code = self.sink.define("A", 1, 1)
        self.trades = TradeIds(self.sink, lambda series, native, *hole: self.asked.append(hole))

    def live(self, trade_id):
        if self.trades.is_new("trades", "A", self.code, trade_id, 1):
            self.published.append(trade_id)

    def late(self, trade_id):
        if self.trades.fills("trades", "A", trade_id):
            self.published.append(trade_id)

    def events(self):
        return {
            (row["kind"], int(row["first"]), int(row["last"]))
            for table, rows in self.sink.take()
            if table == "event"
            for row in rows
        }


def test_trades_in_turn_are_all_new_and_nothing_is_asked_for():
    kept = Kept()
    for trade_id in range(5, 25):
        kept.live(trade_id)
    assert kept.published == list(range(5, 25))
    assert kept.asked == []
    assert kept.events() == set()


def test_a_hole_is_told_asked_for_and_filled_as_far_as_it_can_be():
    kept = Kept()
    for trade_id in (1, 2, 6, 7, 7, 2):
        kept.live(trade_id)
    assert kept.published == [1, 2, 6, 7]
    assert kept.asked == [(3, 5)]
    for trade_id in (2, 3, 5, 5, 6, 9):
        kept.late(trade_id)
    assert kept.published == [1, 2, 6, 7, 3, 5]
    kept.trades.filled("trades", "A", kept.code, (3, 5), 2, 1)
    kept.late(4)
    assert kept.published[-1] == 5
    assert kept.events() == {
        (b"gap", 3, 5),
        (b"filled", 3, 5),
        (b"duplicate", 7, 7),
        (b"duplicate", 2, 2),
    }


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=80))
def test_each_trade_is_published_once_at_most_and_every_hole_is_told(happened):
    kept, live = Kept(), []
    for is_live, trade_id in happened:
        if is_live:
            live += [trade_id] if trade_id > max(live, default=0) else []
            kept.live(trade_id)
        else:
            kept.late(trade_id)
    assert len(set(kept.published)) == len(kept.published)
    assert set(live) <= set(kept.published)
    events = kept.events()
    told = {n for kind, first, last in events if kind == b"gap" for n in range(first, last + 1)}
    if live:
        between = set(range(live[0], live[-1] + 1))
        assert between - set(live) == told
        assert set(kept.published) - set(live) <= told


def test_holes_that_are_waited_for_are_bounded():
    kept = Kept()
    for trade_id in range(1, 10 * HOLES_MAX, 2):
        kept.live(trade_id)
    for trade_id in range(2, 10 * HOLES_MAX, 2):
        kept.late(trade_id)
    assert len(kept.published) == 5 * HOLES_MAX + HOLES_MAX
