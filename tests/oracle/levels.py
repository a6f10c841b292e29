"""What a book of levels must give, said a second time: dictionaries of price to level, sorted each time."""

import math
from typing import Any

SYNTHETIC = 64
Level = tuple[int, float, float, int]
"""half (0 bids, 1 asks), price, size, orders"""


class Book:
    """One instrument's levels; rows as tuples, without the key columns."""

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self.halves: list[dict[float, tuple[float, int]]] = [{}, {}]
        self.depth: list[tuple[Any, ...]] = []
        """(price, size, orders, level, side, action)"""
        self.quotes: list[tuple[Any, ...]] = []
        """(bid price, bid size, ask price, ask size)"""
        self.quoted: tuple[Any, ...] = (None, 0.0, None, 0.0)

    def sorted(self, half: int) -> list[float]:
        """Prices, best first."""
        return sorted(self.halves[half], reverse=half == 0)

    def say(self, half: int, price: float, level: int, action: str) -> None:
        size, orders = (0.0, 0) if action == "D" else self.halves[half][price]
        self.depth.append((price, size, orders, level, "BS"[half], action))

    def change(self, levels: list[Level]) -> None:
        for half, price, size, orders in levels:
            self.change_one(half, price, size, orders)
        for half, have in enumerate(self.halves):
            while self.most and len(have) > self.most:
                worst = self.sorted(half)[-1]
                self.say(half, worst, len(have) - 1, "D")
                del have[worst]
        self.quote()

    def change_one(self, half: int, price: float, size: float, orders: int) -> None:
        have = self.halves[half]
        if size == 0:
            if price in have:
                self.say(half, price, self.sorted(half).index(price), "D")
                del have[price]
            return
        if price in have:
            before, have[price] = have[price], (size, orders)
            if before != have[price]:
                self.say(half, price, self.sorted(half).index(price), "C")
            return
        have[price] = (size, orders)
        self.say(half, price, self.sorted(half).index(price), "A")

    def reset(self) -> None:
        self.halves = [{}, {}]
        self.depth.append((None, 0.0, 0, 0, "", "R"))

    def load(self, levels: list[Level]) -> None:
        self.reset()
        for half, price, size, orders in levels:
            if size and (size, orders) > self.halves[half].get(price, (0.0, 0)):
                self.halves[half][price] = (size, orders)
        for half in (0, 1):
            for price in self.sorted(half)[self.most or len(self.halves[half]) :]:
                del self.halves[half][price]
            for at, price in enumerate(self.sorted(half)):
                self.say(half, price, at, "A")
        self.quote()

    def quote(self) -> None:
        top: list[Any] = []
        for half in (0, 1):
            best = self.sorted(half)[:1]
            top += [best[0], self.halves[half][best[0]][0]] if best else [None, 0.0]
        if tuple(top) != self.quoted:
            self.quoted = tuple(top)
            self.quotes.append(self.quoted)


def rebuilt(depth: list[tuple[Any, ...]]) -> list[dict[float, tuple[float, int]]]:
    """The halves that rows of depth alone give, each action only where it can be."""
    halves: list[dict[float, tuple[float, int]]] = [{}, {}]
    for price, size, orders, level, side, action in depth:
        if action == "R":
            halves = [{}, {}]
            continue
        have = halves["BS".index(side)]
        assert (price in have) is (action in "CD")
        if action == "D":
            assert place(have, side, price) == level
            del have[price]
            continue
        have[price] = (size, orders)
        assert place(have, side, price) == level
    return halves


def place(have: dict[float, tuple[float, int]], side: str, price: float) -> int:
    """How many levels are better."""
    return sum((p > price) if side == "B" else (p < price) for p in have)


def none(value: float) -> float | None:
    """NaN as None, which equals itself."""
    return None if math.isnan(value) else value
