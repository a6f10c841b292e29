"""Single orders of a venue that gives no levels, and the levels that they add up to.

Volumes are decimals: what is added up and taken away again must come to nothing.
"""

from collections import defaultdict, deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tickplant.feed.book import KEPT_MAX


@dataclass(frozen=True)
class Change:
    """Of one order in one currency."""

    action: str
    half: int
    order_id: int
    price: Decimal
    volume: Decimal
    ts_event: int
    nonce: int


class Pair:
    """Orders of one coin in one currency."""

    def __init__(self) -> None:
        self.orders: dict[int, tuple[int, Decimal, Decimal]] = {}
        """half, price, volume by order_id"""
        self.levels: defaultdict[tuple[int, Decimal], list[Any]] = defaultdict(lambda: [Decimal(0), 0])
        """volume and number of orders"""
        self.kept: deque[Change] = deque(maxlen=KEPT_MAX)

    def apply(self, c: Change) -> tuple[int, Decimal, Decimal, int] | None:
        """half, price, volume and orders of the level that is another now; None if nothing is."""
        had = self.orders.get(c.order_id)
        if (c.action == "A") is (had is not None):
            return None
        half, at, volume = had or (c.half, c.price, Decimal(0))
        level = self.levels[half, at]
        left = Decimal(0) if c.action == "D" else c.volume
        level[0] += left - volume
        level[1] += (left > 0) - (volume > 0)
        if left > 0:
            self.orders[c.order_id] = half, at, left
        else:
            self.orders.pop(c.order_id, None)
        if level[1] <= 0:
            del self.levels[half, at]
        return half, at, level[0] if level[1] > 0 else Decimal(0), level[1]
