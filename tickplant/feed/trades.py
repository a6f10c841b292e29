"""Trades that a venue numbers one by one: again is a duplicate, a hole is told and asked for, and
filled late.

A hole is a row of kind gap as soon as it is seen, whatever comes of it. What the venue still has of it
over REST is published with Flag.LATE; then a row of kind filled says which of the hole is there now.
"""

from collections.abc import Callable

from tickplant.feed.sink import Sink

AGAIN = 1_000_000
"""A number that is so much below the last one is no duplicate: the venue counts anew."""
HOLES_MAX = 64
"""Holes of an instrument that are waited for; older ones stay holes."""


class TradeIds:
    """The last trade of each instrument, and what is missing before it."""

    def __init__(self, sink: Sink, ask: Callable[[str, str, int, int], None]) -> None:
        """`ask(series, native, first, last)`: have trades asked for; called once for each hole."""
        self.sink, self.ask = sink, ask
        self._last: dict[tuple[str, str], int] = {}
        self._holes: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def is_new(
        self, series: str, native: str, code: int, number: int, ts_recv: int, *, again: bool = False
    ) -> bool:
        """A trade has come live; is it to be published? Tells of what is missing before it.

        `series`: of those that the venue numbers apart; `again`: it repeats itself, which is no event.
        """
        last = self._last.get((series, native))
        if last is not None and 0 <= last - number < AGAIN:
            if not again:
                self.sink.event("duplicate", ts_recv, f"{series} of {native}", first=number, last=number,
                                instrument=code)  # fmt: skip
            return False
        if last is not None and number > last + 1:
            hole = (last + 1, number - 1)
            holes = self._holes.setdefault((series, native), [])
            holes.append(hole)
            del holes[:-HOLES_MAX]
            self.sink.event("gap", ts_recv, f"{series} of {native}: {number} does not follow {last}",
                            first=hole[0], last=hole[1], instrument=code)  # fmt: skip
            self.ask(series, native, *hole)
        self._last[series, native] = number
        return True

    def knows(self, series: str, native: str) -> bool:
        """Has a trade of this instrument come?"""
        return (series, native) in self._last

    def fills(self, series: str, native: str, number: int) -> bool:
        """A trade has come over REST; does it belong in a hole? It is not in one any more then."""
        holes = self._holes.get((series, native), [])
        for i, (first, last) in enumerate(holes):
            if first <= number <= last:
                parts = [(first, number - 1), (number + 1, last)]
                holes[i : i + 1] = [p for p in parts if p[0] <= p[1]]
                return True
        return False

    def filled(
        self, series: str, native: str, code: int, hole: tuple[int, int], count: int, ts_recv: int
    ) -> None:
        """So many trades of a hole have been published late; the rest of it is not waited for."""
        first, last = hole
        holes = self._holes.get((series, native), [])
        self._holes[series, native] = [h for h in holes if h[1] < first or h[0] > last]
        text = f"{count} of {last - first + 1} {series} of {native} that were missing, marked late"
        self.sink.event("filled", ts_recv, text, first=first, last=last, instrument=code)
