"""Books made from rows: of table depth (price levels) or of table order (one order's events).

A feed that hears a venue keeps books of its own (`feed.book`, `_core/book.h`); these are for whoever
has rows: of shared memory, of the journal, of PostgreSQL.
"""

from typing import Protocol

import numpy as np

from tickplant.schema import Flag, Rows

Level = tuple[float, float, int]
"""Price, size, orders (0: the venue does not say)."""


class Book(Protocol):
    """What both have in common."""

    stale: bool
    """Out of step with the venue: empty until it is rebuilt."""
    ts_event: int
    """The venue's time of the last row, ns UTC."""

    def apply(self, rows: Rows) -> None:
        """Take the instrument's next rows, in their order."""

    def levels(self, side: str, most: int) -> list[Level]:
        """The best levels of a side (B, S), best first."""


class DepthBook:
    """A book from rows of table depth, of one instrument, beginning anywhere: rows before the first R
    tell only about their own levels."""

    def __init__(self) -> None:
        self.stale = True
        self.ts_event = 0
        self._sides: dict[str, dict[float, tuple[float, int]]] = {"B": {}, "S": {}}

    def apply(self, rows: Rows) -> None:
        """Take the instrument's next rows, in their order."""
        if not len(rows):
            return
        resets = np.flatnonzero(rows["action"] == b"R")
        if len(resets):
            rows = rows[resets[-1] :]
            self.stale = bool(rows["flags"][0] & Flag.STALE)
            self._sides = {"B": {}, "S": {}}
        for side, action, price, size, orders in rows[["side", "action", "price", "size", "orders"]].tolist():
            if action in (b"A", b"C"):
                self._sides[side.decode()][price] = (size, orders)
            elif action == b"D":
                self._sides[side.decode()].pop(price, None)
        self.ts_event = int(rows["ts_event"][-1])

    def levels(self, side: str, most: int) -> list[Level]:
        """The best levels of a side (B, S), best first."""
        ordered = sorted(self._sides[side].items(), reverse=side == "B")
        return [(price, *rest) for price, rest in ordered[:most]]


class OrderBook:
    """A book from rows of table order, of one instrument, from its first of the day on."""

    def __init__(self) -> None:
        self.stale = False
        self.ts_event = 0
        self._orders: dict[int, tuple[str, float, float]] = {}

    def apply(self, rows: Rows) -> None:
        """Take the instrument's next rows, in their order."""
        if not len(rows):
            return
        resets = np.flatnonzero(rows["action"] == b"R")
        if len(resets):
            rows = rows[resets[-1] :]
            self.stale = False
            self._orders.clear()
        self.stale = self.stale or bool((rows["flags"] & Flag.STALE).any())
        wanted = ["action", "order_id", "ref_id", "side", "price", "size"]
        for action, order, ref, side, price, size in rows[wanted].tolist():
            if action == b"A":
                self._orders[order] = (side.decode(), price, size)
            elif action == b"U":
                before = self._orders.pop(ref, None)
                kept = side.decode() or (before[0] if before else "")
                self._orders[order] = (kept, price, size)
            elif action in (b"E", b"X", b"D") and order in self._orders:
                was = self._orders[order]
                if action == b"D" or was[2] <= size:
                    del self._orders[order]
                else:
                    self._orders[order] = (*was[:2], was[2] - size)
        self.ts_event = int(rows["ts_event"][-1])

    def levels(self, side: str, most: int) -> list[Level]:
        """The best levels of a side (B, S), best first."""
        sizes: dict[float, tuple[float, int]] = {}
        for its, price, size in self._orders.values():
            if its == side:
                there = sizes.get(price, (0.0, 0))
                sizes[price] = (there[0] + size, there[1] + 1)
        ordered = sorted(sizes.items(), reverse=side == "B")
        return [(price, *rest) for price, rest in ordered[:most]]
