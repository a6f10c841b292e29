"""Orders and price levels of the native book, seen through the quotes that the decoder makes."""

import itch_messages as itch
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from itch_streams import assert_same_as_oracle, decoded


def quotes(*messages: bytes):
    """(bid, size, ask, size) of every quote, an empty side as (0, 0)."""
    rows = decoded(itch.file(messages))[0]["quote"]
    names = ("bid_price", "bid_size", "ask_price", "ask_size")
    return [tuple(float(np.nan_to_num(row[name])) for name in names) for row in rows]


def test_the_best_bid_is_the_highest_and_the_best_offer_the_lowest():
    assert quotes(
        itch.add(1, b"B", 100, 10_000),
        itch.add(2, b"B", 200, 10_100),
        itch.add(3, b"B", 300, 9_900),
        itch.add(4, b"S", 400, 10_300),
        itch.add(5, b"S", 500, 10_200),
        itch.add(6, b"S", 600, 10_400),
    ) == [
        (1.0, 100, 0, 0),
        (1.01, 200, 0, 0),
        (1.01, 200, 1.03, 400),
        (1.01, 200, 1.02, 500),
    ]


def test_orders_at_one_price_add_up_and_the_level_goes_with_the_last():
    assert quotes(
        itch.add(1, b"S", 100, 10_000),
        itch.add(2, b"S", 200, 10_000),
        itch.delete(1),
        itch.executed(2, 200, 1),
    ) == [(0, 0, 1.0, 100), (0, 0, 1.0, 300), (0, 0, 1.0, 200), (0, 0, 0, 0)]


def test_changes_below_the_best_level_make_no_quote():
    deep = [itch.add(ref, b"B", 100, 10_000 - ref) for ref in range(1, 50)]
    gone = [itch.delete(ref) for ref in range(2, 50)]
    assert quotes(itch.add(100, b"B", 5, 20_000), *deep, *gone) == [(2.0, 5, 0, 0)]


def test_a_replace_is_one_change():
    assert quotes(
        itch.add(1, b"B", 100, 10_000),
        itch.replace(1, 2, 100, 10_001),
        itch.replace(2, 3, 100, 10_001),
        itch.replace(3, 3, 150, 10_001),
    ) == [(1.0, 100, 0, 0), (1.0001, 100, 0, 0), (1.0001, 150, 0, 0)]


@pytest.mark.parametrize("price", [0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1])
@pytest.mark.parametrize("side", [b"B", b"S"])
def test_any_32_bit_price_has_its_place(side, price):
    others = [2, 2**31 + 5, 2**32 - 3]
    messages = [itch.add(ref, side, 10, p) for ref, p in enumerate([price, *others])]
    assert_same_as_oracle(itch.file(messages + [itch.delete(ref) for ref in (3, 1, 2, 0)]))


def test_shares_of_a_level_do_not_wrap_at_32_bits():
    full = [itch.add(ref, b"B", 2**32 - 1, 10_000) for ref in range(3)]
    assert quotes(*full)[-1] == (1.0, 3 * (2.0**32 - 1), 0, 0)


levels = st.lists(st.integers(0, 300), min_size=30, max_size=300, unique=True)


@given(st.sampled_from([b"B", b"S"]), levels, st.randoms(use_true_random=False))
def test_books_of_many_levels_emptied_in_any_order_are_those_of_the_oracle(side, prices, random):
    adds = [itch.add(i, side, 1 + i, 10_000 + p) for i, p in enumerate(prices)]
    gone = [itch.delete(i) for i in range(len(prices))]
    random.shuffle(gone)
    assert_same_as_oracle(itch.file(adds + gone))


@pytest.mark.parametrize("step", [1, 7, 64, 2**30, 2**32 + 1])
def test_orders_are_found_however_many_come_and_go(step):
    random = np.random.default_rng(7)
    live, messages = [], []
    for ref in range(0, 30_000 * step, step):
        messages.append(itch.add(ref, b"B", 100, 10_000 + ref % 40))
        live.append(ref)
        while len(live) > 4000 or (len(live) > 100 and random.random() < 0.4):
            messages.append(itch.delete(live.pop(int(random.integers(len(live))))))
    messages += [itch.delete(ref) for ref in live]
    data = itch.file(messages)
    rows, _ = decoded(data)
    assert len(rows["event"]) == 0
    assert np.isnan(rows["quote"]["bid_price"][-1])
    assert_same_as_oracle(data)


def test_books_of_stocks_are_apart():
    rows = decoded(
        itch.file(
            [
                itch.add(1, b"B", 100, 10_000, b"ONE", locate=1),
                itch.add(2, b"B", 200, 20_000, b"LAST", locate=65535),
                itch.delete(1, locate=1),
            ]
        )
    )[0]["quote"]
    assert rows["instrument"].tolist() == [1, 65535, 1]
    assert rows["bid_size"].tolist() == [100.0, 200.0, 0.0]
