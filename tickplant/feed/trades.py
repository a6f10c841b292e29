"""Trades that a venue numbers one by one: again is a duplicate, a hole is told and asked for, and
filled late.

A hole is a row of kind gap as soon as it is seen, whatever comes of it. What the venue still has of it
over REST is published with Flag.LATE; then a row of kind filled says which of the hole is there now.
"""

from collections.abc import Callable

from tickplant.feed.sink import Sink

HOLES_MAX = 64
"""Holes of an instrument that are waited for; older ones stay holes."""


class TradeIds:
    """The last trade of each instrument, and what is missing before it."""

    def __init__(self, sink: Sink, ask: Callable[[str, int, int], None]) -> None:
        """`ask(native, first, last)`: have trades of an instrument asked for; called once for each hole."""
        self.sink, self.ask = sink, ask
        self._last: dict[str, int] = {}
        self._holes: dict[str, list[tuple[int, int]]] = {}

    def is_new(self, native: str, code: int, trade_id: int, ts_recv: int) -> bool:
        """A trade has come live; is it to be published? Tells of what is missing before it."""
        last = self._last.get(native)
        if last is not None and trade_id <= last:
            return False
        if last is not None and trade_id > last + 1:
            hole = (last + 1, trade_id - 1)
            holes = self._holes.setdefault(native, [])
            holes.append(hole)
            del holes[:-HOLES_MAX]
            self.sink.event(
                "gap", ts_recv, f"trades of {native}", first=hole[0], last=hole[1], instrument=code
            )
            self.ask(native, *hole)
        self._last[native] = trade_id
        return True

    def fills(self, native: str, trade_id: int) -> bool:
        """A trade has come over REST; does it belong in a hole? It is not in one any more then."""
        holes = self._holes.get(native, [])
        for i, (first, last) in enumerate(holes):
            if first <= trade_id <= last:
                parts = [(first, trade_id - 1), (trade_id + 1, last)]
                holes[i : i + 1] = [p for p in parts if p[0] <= p[1]]
                return True
        return False

    def filled(self, native: str, code: int, first: int, last: int, count: int, ts_recv: int) -> None:
        """So many trades of a hole have been published late; the rest of it is not waited for."""
        holes = self._holes.get(native, [])
        self._holes[native] = [h for h in holes if h[1] < first or h[0] > last]
        text = f"{count} of {last - first + 1} trades of {native} that were missing, marked late"
        self.sink.event("filled", ts_recv, text, first=first, last=last, instrument=code)
