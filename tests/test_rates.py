"""Rates over the last seconds."""

from hypothesis import given
from hypothesis import strategies as st

from tickplant.rates import Rates

S = 1_000_000_000


def test_a_rate_is_the_increase_over_the_last_seconds():
    rates = Rates(5 * S)
    assert rates.per_s(0, {"rows": 0}) == {"rows": 0.0}
    assert rates.per_s(S, {"rows": 100}) == {"rows": 100.0}
    for second in range(2, 20):
        last = rates.per_s(second * S, {"rows": 100})
    assert last == {"rows": 0.0}, "what came before the window counts no more"


def test_counters_that_went_down_begin_again_and_a_new_one_has_no_rate_yet():
    rates = Rates(5 * S)
    rates.per_s(0, {"rows": 1000})
    assert rates.per_s(S, {"rows": 5}) == {"rows": 0.0}
    assert rates.per_s(2 * S, {"rows": 15, "other": 70}) == {"rows": 10.0, "other": 0.0}


@given(st.integers(0, 10**9), st.lists(st.integers(1, 3 * S), min_size=2, max_size=50))
def test_a_steady_counter_has_its_rate_however_it_is_sampled(rate, steps):
    rates, at = Rates(5 * S), 0
    rates.per_s(0, {"rows": 0})
    for step in steps:
        at += step
        found = rates.per_s(at, {"rows": rate * at // S})["rows"]
        assert abs(found - rate) <= S / step + 0.1


def test_memory_is_bounded_by_the_window():
    rates = Rates(5 * S)
    for at in range(10_000):
        rates.per_s(at * S // 2, {"rows": at})
    assert len(rates._samples) <= 12
