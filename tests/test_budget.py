"""What a venue is asked for: at its pace, for the same thing later each time, and not for ever."""

import hypothesis
import hypothesis.strategies as st

from tickplant.clock import SECOND_NS
from tickplant.feed import budget
from tickplant.feed.budget import Pace, Pause, Repeats


def test_pauses_double_with_jitter_and_begin_anew_when_it_went_well():
    pause = Pause()
    waits = [pause.next() for _ in range(12)]
    for n, wait in enumerate(waits):
        most = min(budget.PAUSE_MIN_S * 2**n, budget.PAUSE_MAX_S)
        assert most / 2 <= wait <= most
    pause.reset()
    assert pause.next() <= budget.PAUSE_MIN_S


@hypothesis.given(
    st.sampled_from([0.5, 2.0, 10.0]), st.integers(1, 5), st.lists(st.integers(0, SECOND_NS), max_size=60)
)
def test_a_pace_is_never_exceeded(per_s, burst, gaps):
    pace, at, used = Pace(per_s, burst), 1, []
    for gap in gaps:
        at += gap
        used.append(at / SECOND_NS + pace.wait_s(at))
    for i, first in enumerate(used):
        for j in range(i, len(used)):
            assert j - i + 1 <= burst + (used[j] - first) * per_s + 1e-6


def test_the_same_thing_is_due_later_each_time_and_then_not_at_all():
    repeats, at, due = Repeats(), 1, []
    while (when := repeats.due_ns("x", at)) is not None:
        due.append((when - 1) / SECOND_NS)
        at = when
    assert due == [0, 1, 3, 7, 15, 31, 63, 123]
    assert repeats.given_up(at) == ["x"]
    assert repeats.due_ns("y", at) == at
    later = at + budget.GIVEN_UP_NS + 1
    assert repeats.given_up(later) == []
    assert repeats.due_ns("x", later) == later


def test_what_is_asked_for_now_and_then_is_never_given_up():
    repeats = Repeats()
    for n in range(1000):
        assert repeats.due_ns("ping", 1 + n * 20 * SECOND_NS) == 1 + n * 20 * SECOND_NS


def test_what_is_forgotten_begins_anew():
    repeats = Repeats()
    while repeats.due_ns("a: x", 1) is not None:
        pass
    repeats.due_ns("b: x", 1)
    repeats.forget("a: ")
    assert repeats.given_up(1) == []
    assert repeats.due_ns("a: x", 1) == 1
    assert repeats.due_ns("b: x", 1) == 1 + SECOND_NS


@hypothesis.given(st.lists(st.integers(0, 9 * SECOND_NS), min_size=1, max_size=300))
def test_whoever_asks_without_a_pause_of_ten_seconds_is_answered_eight_times(gaps):
    repeats, at, sent = Repeats(), 1, 0
    for gap in gaps:
        at += gap
        if at > budget.GIVEN_UP_NS:
            break
        due = repeats.due_ns("x", at)
        sent += due is not None
        at = max(at, due or 0)  # it asks when it was answered
    assert sent <= budget.TRIES_MAX
