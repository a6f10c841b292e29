"""Orders of a declared protocol that rest: their price and side, for executions that tell neither (pure)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tickplant.feed.packets.marked import Marks
from tickplant.schema import Rows

RESTING_MAX = 1 << 21
"""Orders that are kept; when there are more, all are forgotten: their executions are no trades then."""


class _Order(NamedTuple):
    """An order that rests; `side` is empty where nothing told it: it replaced an unknown one."""

    price: float
    size: float
    side: bytes


class RestingOrders:
    """The orders of one capture."""

    def __init__(self) -> None:
        self._orders: dict[int, _Order] = {}

    def follow(self, parts: list[tuple[Marks, Rows]]) -> None:
        """Go through rows of table order, in parts, each with the marks of its messages, as they were sent.
        Rows without a price or a side get those of their order."""
        if not parts:
            return
        marks = np.concatenate([m for m, _ in parts])
        part = np.repeat(np.arange(len(parts)), [len(r) for _, r in parts])
        place = np.concatenate([np.arange(len(r)) for _, r in parts])
        names = ("order_id", "ref_id", "price", "size", "side", "action")
        columns = [np.concatenate([r[name] for _, r in parts]).tolist() for name in names]
        for at in np.argsort(marks, kind="stable").tolist():
            known = self._next(*(column[at] for column in columns))
            if known is None:
                continue
            rows, row = parts[part[at]][1], place[at]
            if np.isnan(rows["price"][row]):
                rows["price"][row] = known.price
            if not rows["side"][row]:
                rows["side"][row] = known.side

    def _next(
        self, order: int, ref: int, price: float, size: float, side: bytes, action: bytes
    ) -> _Order | None:
        """The order that a row is about, as it was; None: nothing is known of it."""
        orders = self._orders
        if action == b"A" or action == b"U":
            old = orders.pop(ref, None) if action == b"U" else None
            if len(orders) >= RESTING_MAX:
                orders.clear()
            told = old.side if old and not side else side
            orders[order] = _Order(old.price if old and price != price else price, size, told)
            return old
        known = orders.get(order)
        if known is not None:
            left = known.size - size if action != b"D" and size == size else 0.0
            if left > 0:
                orders[order] = known._replace(size=left)
            else:
                del orders[order]
        return known


def fill_trades(
    trades: list[tuple[Marks, Rows]], orders: list[tuple[Marks, Rows]],
    orphan: Callable[[Rows], None],
) -> list[tuple[Marks, Rows]]:  # fmt: skip
    """Rows of trade with the price of their order, which the row of order with the same mark has; those
    without one are handed to `orphan` and left out."""
    executed: dict[int, tuple[float, bytes]] = {}
    for marks, rows in orders:
        which = rows["action"] == b"E"
        values = zip(rows["price"][which].tolist(), rows["side"][which].tolist(), strict=True)
        executed.update(zip(marks[which].tolist(), values, strict=True))
    kept = []
    for marks, rows in trades:
        found = [executed.get(mark, (np.nan, b"")) for mark in marks.tolist()]
        rows["price"] = [price for price, _ in found]
        sides = np.array([side for _, side in found], "S1")
        rows["side"] = np.select([sides == b"B", sides == b"S"], [np.bytes_(b"S"), np.bytes_(b"B")], b"")
        priced: npt.NDArray[np.bool_] = ~np.isnan(rows["price"])
        for row in rows[~priced]:
            orphan(row)
        kept.append((marks[priced], rows[priced]))
    return kept
