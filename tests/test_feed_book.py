"""Books made from snapshots and changes: always the venue's book, or stale and said to be."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tickplant._core.changes import ASK, BID, Changes
from tickplant._core.levels import LevelRows, Levels
from tickplant.feed import book as module
from tickplant.feed.book import Book, Rule
from tickplant.feed.sink import Sink
from tickplant.schema import Flag


class Made:
    """A book, what it asked for, and its events."""

    def __init__(self, rule):
        self.rows, self.sink, self.asked = LevelRows(), Sink("TEST"), 0
        self.book = Book(Levels(self.rows, 1), self.sink, 1, "BTC-USD", rule)
        self.book.wanted = self._ask
        self.events = []

    def _ask(self):
        self.asked += 1

    def told(self):
        for _, rows in self.sink.take():
            self.events += [(r["kind"].decode(), int(r["first"]), int(r["last"])) for r in rows]
        return self.events

    def levels(self):
        return {
            (half, price): size
            for half in (BID, ASK)
            for price, size, _ in self.book.levels.top(half, 10_000)
        }

    def send(self, message):
        self.book.change(
            changes(message["levels"]),
            1,
            2,
            first=message["first"],
            last=message["last"],
            prev=message["prev"],
        )


def changes(levels):
    made = Changes()
    for (half, price), size in levels:
        made.add(half, price, size)
    return made


def venue(sizes):
    """Messages of a venue, and its book after each number: bids below 100, offers above."""
    state, states, messages, last = {}, {0: {}}, [], 0
    for step, levels in sizes:
        for key, size in levels:
            state[key] = size
            if not size:
                del state[key]
        first, prev, last = last + 1, last, last + step
        states[last] = dict(state)
        messages.append({"levels": levels, "first": first, "last": last, "prev": prev})
    return messages, states


KEYS = st.tuples(st.sampled_from([BID, ASK]), st.integers(0, 5)).map(
    lambda k: (k[0], float(90 + k[1] if k[0] == BID else 110 + k[1]))
)
STREAM = st.lists(
    st.tuples(st.integers(1, 3), st.lists(st.tuples(KEYS, st.sampled_from([0.0, 1.0, 2.5])), max_size=3)),
    min_size=1, max_size=25,
)  # fmt: skip


@pytest.mark.parametrize("rule", [Rule.STEP, Rule.CHAIN])
@hypothesis.given(sizes=STREAM, data=st.data())
def test_a_live_book_is_the_venues_as_of_its_number_whatever_is_lost_doubled_or_swapped(rule, sizes, data):
    messages, states = venue(sizes)
    made, heard = Made(rule), list(messages)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(heard)))
        what = data.draw(st.sampled_from(["drop", "double", "swap", "snapshot"]))
        if what == "snapshot":
            heard.insert(at, data.draw(st.sampled_from(sorted(states))))
        elif at < len(heard) and what == "drop":
            del heard[at]
        elif at < len(heard) and what == "double":
            heard.insert(data.draw(st.integers(at, len(heard))), heard[at])
        elif at + 1 < len(heard):
            heard[at], heard[at + 1] = heard[at + 1], heard[at]
    for each in [*heard, messages[-1]["last"]]:
        if isinstance(each, int):
            made.book.snapshot(changes(states[each].items()), 1, 2, each)
        else:
            made.send(each)
        if made.book.live:
            assert made.levels() == states[made.book.seq]
        else:
            assert made.levels() == {}
        gaps = [e for e in made.told() if e[0] == "gap"]
        assert len(gaps) == made.book.gaps == made.asked
    assert made.book.live
    assert made.book.seq == messages[-1]["last"]


@pytest.mark.parametrize("rule", [Rule.STEP, Rule.CHAIN])
@hypothesis.given(sizes=STREAM.filter(lambda s: len(s) > 2), data=st.data())
def test_one_lost_message_is_one_gap_with_its_numbers_and_a_snapshot_heals_it(rule, sizes, data):
    messages, states = venue(sizes)
    lost = data.draw(st.integers(0, len(messages) - 2))
    made = Made(rule)
    made.book.snapshot(changes([]), 1, 2, 0)
    for each in messages[:lost] + messages[lost + 1 :]:
        made.send(each)
    assert not made.book.live
    assert made.told()[0] == ("gap", messages[lost]["first"], messages[lost]["last"])
    assert made.asked == 1
    at = data.draw(st.sampled_from([m["last"] for m in messages[lost:]]))
    made.book.snapshot(changes(states[at].items()), 1, 2, at)
    assert made.book.live
    assert made.book.seq == messages[-1]["last"]
    assert made.levels() == states[made.book.seq]
    assert len(made.told()) == 1


@pytest.mark.parametrize("rule", [Rule.STEP, Rule.CHAIN])
def test_the_first_change_after_a_snapshot_may_overlap_it(rule):
    made = Made(rule)
    made.book.snapshot(changes([((BID, 99.0), 1.0)]), 1, 2, 100)
    made.send({"levels": [((BID, 99.0), 3.0)], "first": 95, "last": 105, "prev": 94})
    made.send({"levels": [((BID, 98.0), 1.0)], "first": 106, "last": 106, "prev": 105})
    assert made.book.live
    assert made.told() == []
    assert made.levels() == {(BID, 99.0): 3.0, (BID, 98.0): 1.0}


def test_a_chain_that_begins_anew_below_is_followed():
    made = Made(Rule.CHAIN)
    made.book.snapshot(changes([]), 1, 2, 100)
    made.send({"levels": [((BID, 99.0), 3.0)], "first": 0, "last": 3, "prev": 100})
    made.send({"levels": [((BID, 98.0), 3.0)], "first": 0, "last": 5, "prev": 3})
    assert (made.book.seq, made.told()) == (5, [])


def test_a_snapshot_in_its_place_among_the_changes_forgets_those_before_it():
    made = Made(Rule.STEP)
    made.send({"levels": [((BID, 99.0), 3.0)], "first": 104, "last": 104, "prev": 103})
    made.book.snapshot(changes([((BID, 98.0), 1.0)]), 1, 2, 1, in_order=True)
    made.send({"levels": [((BID, 97.0), 3.0)], "first": 2, "last": 2, "prev": 1})
    assert made.levels() == {(BID, 98.0): 1.0, (BID, 97.0): 3.0}
    assert made.told() == []


def test_without_numbers_changes_before_the_snapshot_are_forgotten_and_all_after_it_are_applied():
    made = Made(Rule.NONE)
    made.send({"levels": [((BID, 99.0), 3.0)], "first": 0, "last": 0, "prev": 0})
    made.book.snapshot(changes([((BID, 98.0), 1.0)]), 1, 2)
    made.send({"levels": [((ASK, 101.0), 3.0)], "first": 0, "last": 0, "prev": 0})
    assert made.levels() == {(BID, 98.0): 1.0, (ASK, 101.0): 3.0}


def test_what_is_kept_while_a_snapshot_is_waited_for_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "KEPT_MAX", 10)
    monkeypatch.setattr(module, "KEPT_LEVELS_MAX", 40)
    made = Made(Rule.STEP)
    level = [((BID, 99.0), 1.0)]
    for n in range(1, 100):
        made.send({"levels": level, "first": n, "last": n, "prev": n - 1})
    assert [k[3] for k in made.book._kept] == list(range(90, 100))
    for n in range(100, 110):
        made.send({"levels": level * 15, "first": n, "last": n, "prev": n - 1})
    assert [k[3] for k in made.book._kept] == [108, 109]
    made.book.snapshot(changes([]), 1, 2, 50)
    assert made.told() == [("gap", 51, 107)]
    made.book.snapshot(changes([]), 1, 2, 107)
    assert (made.book.live, made.book.seq) == (True, 109)


def test_changes_that_are_kept_are_not_those_of_the_next_message():
    made, reused = Made(Rule.STEP), Changes()
    for n, price in ((1, 99.0), (2, 98.0)):
        reused.clear().add(BID, price, 1.0)
        made.book.change(reused, 1, 2, first=n, last=n)
    made.book.snapshot(changes([]), 1, 2, 0)
    assert made.levels() == {(BID, 99.0): 1.0, (BID, 98.0): 1.0}


def test_a_gap_empties_the_book_with_rows_that_say_stale():
    made = Made(Rule.STEP)
    made.book.snapshot(changes([((BID, 99.0), 1.0), ((ASK, 101.0), 2.0)]), 1, 2, 7)
    made.rows.take()
    made.book.gap(5, "a reason")
    made.book.gap(6, "another")
    rows = dict(made.rows.take())
    assert [(r["action"], r["flags"]) for r in rows["depth"]] == [(b"R", Flag.STALE)]
    assert rows["quote"]["flags"].tolist() == [Flag.STALE | Flag.SYNTHETIC]
    assert np.isnan(rows["quote"]["bid_price"]).all()
    assert [e[0] for e in made.told()] == ["gap"]


def test_a_book_that_crosses_says_so_once_each_time_also_at_the_snapshot():
    made = Made(Rule.NONE)
    made.book.snapshot(changes([((BID, 101.0), 1.0), ((ASK, 100.0), 2.0)]), 1, 2)
    made.send({"levels": [((BID, 99.0), 3.0)], "first": 0, "last": 0, "prev": 0})
    assert [e[0] for e in made.told()] == ["crossed"]
    made.send({"levels": [((BID, 101.0), 0.0)], "first": 0, "last": 0, "prev": 0})
    made.send({"levels": [((BID, 100.0), 1.0)], "first": 0, "last": 0, "prev": 0})
    assert [e[0] for e in made.told()] == ["crossed", "crossed"]


SECOND = 1_000_000_000


def waiting(rule, *times):
    """A book that was in step and is not; changes come at these seconds after, and no snapshot."""
    made = Made(rule)
    made.book.snapshot(changes([]), 1, 2, 7)
    made.book.gap(SECOND, "a reason")
    asked = []
    for n, at in enumerate(times):
        made.book.change(changes([]), 1, SECOND + at * SECOND, first=9 + n, last=9 + n, prev=8 + n)
        asked.append(made.asked)
    return made, asked


@pytest.mark.parametrize("rule", list(Rule))
def test_a_snapshot_that_does_not_come_is_asked_for_again_later_each_time(rule):
    made, asked = waiting(rule, 1, 19, 21, 30, 60, 62, 500, 501)
    assert asked == [1, 1, 2, 2, 2, 3, 4, 4]
    made.book.snapshot(changes([]), 1, 2, 600)
    made.book.gap(1000 * SECOND, "another")
    assert made.asked == 5


def test_a_snapshot_that_never_comes_is_not_asked_for_for_ever():
    made, asked = waiting(Rule.STEP, *range(1000, 4000, 10))
    assert asked[-1] == module.ASKS_MAX
    assert made.asked == module.ASKS_MAX
    assert [kind for kind, *_ in made.told()] == ["gap", "unanswered"]
    assert made.book.is_given_up(4000 * SECOND)
    made.book.renew()
    assert not made.book.is_given_up(4000 * SECOND)


def test_a_book_that_was_given_up_is_asked_for_now_and_then():
    made, asked = waiting(Rule.STEP, *range(1000, 20_000, 10))
    assert asked[-1] > module.ASKS_MAX
    assert [kind for kind, *_ in made.told()].count("unanswered") == 1
    made.book.snapshot(changes([]), 1, 20_000 * SECOND, 100_000)
    assert made.book.is_given_up(20_000 * SECOND)
    assert not made.book.is_given_up(20_060 * SECOND)


def test_a_book_that_is_out_of_step_again_after_each_snapshot_is_given_up():
    made = Made(Rule.STEP)
    for n in range(100):
        made.book.snapshot(changes([]), 1, n, n * 10)
        made.book.change(changes([]), 1, n, first=n * 10 + 5, last=n * 10 + 5)
    assert made.asked == module.ASKS_MAX
    assert [kind for kind, *_ in made.told()].count("unanswered") == 1


def test_a_book_that_stood_for_long_is_asked_for_as_if_it_had_never_failed():
    made = Made(Rule.STEP)
    for n in range(1, 100):
        made.book.snapshot(changes([]), 1, n * 70 * SECOND, n * 10)
        made.book.change(changes([]), 1, n * 70 * SECOND + 65 * SECOND, first=n * 10 + 5, last=n * 10 + 5)
    assert made.asked == 99


@pytest.mark.parametrize("rule", [Rule.STEP, Rule.CHAIN, Rule.LATER])
def test_numbers_that_begin_again_are_a_loss_and_one_that_comes_twice_is_none(rule):
    made = Made(rule)
    made.book.snapshot(changes([]), 1, 1, 100)
    for last in (101, 102, 103):
        made.book.change(changes([]), 1, 1, first=last, last=last, prev=last - 1)
    made.book.change(changes([]), 1, 1, first=102, last=102, prev=101)
    assert made.book.live
    made.book.change(changes([]), 1, 1, first=7, last=7, prev=6)
    assert not made.book.live
    assert made.told() == [("gap", 7, 7)]
    made.book.snapshot(changes([]), 1, 1, 7, in_order=True)
    made.book.change(changes([]), 1, 1, first=8, last=8, prev=7)
    assert (made.book.live, made.book.seq) == (True, 8)


def test_a_predecessor_that_never_was_is_a_loss_though_the_number_is_above():
    made = Made(Rule.CHAIN)
    made.book.snapshot(changes([]), 1, 1, 100, in_order=True)
    made.book.change(changes([]), 1, 1, last=110, prev=100)
    made.book.change(changes([]), 1, 1, last=120, prev=105)
    assert not made.book.live


def test_changes_that_a_snapshot_has_come_for_some_seconds_and_no_longer():
    made = Made(Rule.STEP)
    made.book.snapshot(changes([]), 1, SECOND, 100)
    for at, seq in enumerate((97, 98, 99), 1):
        made.book.change(changes([]), 1, at * SECOND, first=seq, last=seq)
    assert made.book.live
    made.book.change(changes([]), 1, 12 * SECOND, first=1, last=1)
    assert not made.book.live


@pytest.mark.parametrize("rule", [Rule.STEP, Rule.CHAIN])
def test_numbers_that_begin_again_with_those_that_were_are_a_loss_soon(rule):
    made = Made(rule)
    made.book.snapshot(changes([]), 1, 1, 0)
    for _ in range(2):
        for seq in range(1, 30):
            made.book.change(changes([]), 1, 1, first=seq, last=seq, prev=seq - 1)
    assert not made.book.live


def test_what_could_not_be_read_while_it_waits_may_have_been_the_snapshot():
    made, _ = waiting(Rule.NONE)
    made.book.gap(SECOND + SECOND // 2, "a message could not be read")
    assert made.asked == 1
    made.book.gap(4 * SECOND, "a message could not be read")
    assert (made.asked, made.book.gaps) == (2, 1)


def test_a_book_that_never_was_is_asked_for_by_its_subscription_first():
    made = Made(Rule.STEP)
    for at in (1, 5, 10, 12):
        made.book.change(changes([]), 1, at * SECOND, first=at, last=at)
    assert made.asked == 1


def test_orders_of_a_book_out_of_step_are_said_to_be_gone():
    made = Made(Rule.NONE)
    made.book.by_order = True
    made.book.snapshot(changes([((BID, 99.0), 1.0)]), 1, 2, 7)
    made.book.gap(5, "a reason")
    (orders,) = [rows for table, rows in made.sink.take() if table == "order"]
    assert [(r["action"], r["flags"], r["instrument"]) for r in orders] == [(b"R", Flag.STALE, 1)]


def test_a_checksum_that_can_not_be_made_is_said_once_until_one_can():
    made = Made(Rule.NONE)
    made.book.snapshot(changes([]), 1, 2)
    for holds in (None, None, True, None, False):
        made.book.verified(holds, 17, 3)
    assert [kind for kind, *_ in made.told()] == ["unverified", "unverified", "gap"]
    assert not made.book.live
