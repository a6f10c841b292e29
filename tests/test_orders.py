"""Single orders, and the levels that they add up to: always the sum of the orders that rest."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tickplant.feed.orders import Change, Pair

VOLUME = st.integers(0, 30).map(lambda n: Decimal(n) / 10)
CHANGE = st.builds(
    Change, st.sampled_from("AXD"), st.integers(0, 1), st.integers(1, 6),
    st.integers(1, 3).map(Decimal), VOLUME, st.just(0), st.just(0),
)  # fmt: skip


@given(st.lists(CHANGE, max_size=40))
def test_levels_are_the_sums_of_the_orders_that_rest_and_come_to_nothing(changes):
    pair = Pair()
    for each in changes:
        pair.apply(each)
        sums = {}
        for half, price, volume in pair.orders.values():
            total, orders = sums.get((half, price), (Decimal(0), 0))
            sums[half, price] = (total + volume, orders + 1)
        assert {at: tuple(level) for at, level in pair.levels.items()} == sums
        assert all(volume > 0 for _, _, volume in pair.orders.values())


@given(st.lists(CHANGE, max_size=40))
def test_an_order_is_added_once_and_one_that_is_not_there_changes_nothing(changes):
    pair = Pair()
    for each in changes:
        there = each.order_id in pair.orders
        told = pair.apply(each)
        assert (told is None) == ((each.action == "A") == there)
