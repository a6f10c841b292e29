"""Trades that a venue numbers: one that comes again is told, and so is what is missing.

Numbers are of two kinds. Those that go up by one (`is_new`) show each hole, and each trade that comes
twice. Those that only go up (`in_order`) show nothing by themselves; where messages were lost, or the
connection was, the hole is from the last number before to the first one after.

A hole is a row of kind gap as soon as it is seen, whatever comes of it, and is asked for once (`holes`).
"""

from collections.abc import Callable

from tickplant.feed.sink import Sink

AGAIN = 1_000_000
"""A number that is so much below the last one is no duplicate: the venue counts anew."""

Ask = Callable[[str, str, int, int], None]
"""ask(series, native, first, last): have the trades of a hole asked for."""


class TradeIds:
    """The last trade of each series (of an instrument's trades, those that are numbered together)."""

    def __init__(self, sink: Sink, ask: Ask) -> None:
        self.sink, self.ask = sink, ask
        self._last: dict[tuple[str, str], int] = {}
        self._conns: dict[tuple[str, str], str] = {}
        """What the trades of those come over whose numbers only go up."""
        self._interrupted: set[tuple[str, str]] = set()

    def knows(self, series: str, native: str) -> bool:
        """Has a trade of this instrument come?"""
        return (series, native) in self._last

    def is_ordered(self, native: str) -> bool:
        """Do the numbers of its trades only go up?"""
        return ("trades", native) in self._conns

    def is_new(
        self, series: str, native: str, code: int, number: int, ts_recv: int, *, again: bool = False
    ) -> bool:
        """A trade has come whose number is one above the last; is it to be published?

        `series`: of those that the venue numbers apart; `again`: it repeats itself, which is no event.
        """
        last = self._last.get((series, native))
        if last is not None and 0 <= last - number < AGAIN:
            if not again:
                self.sink.event("duplicate", ts_recv, f"{series} of {native}", first=number, last=number,
                                instrument=code)  # fmt: skip
            return False
        if last is not None and number > last + 1:
            self._miss(series, native, code, last, number - 1, ts_recv)
        self._last[series, native] = number
        return True

    def in_order(
        self,
        native: str,
        code: int,
        number: int,
        ts_recv: int,
        conn: str,
        *,
        again: bool = False,
        of: int = 1,
    ) -> bool:
        """A trade has come whose number is above the last; is it to be published?

        `again`: from what the venue repeats when it is subscribed to: what has come already is not new;
        `of`: so many numbers, this one the last of them, are in it.
        """
        key = ("trades", native)
        last = self._last.get(key)
        self._conns[key] = conn
        if last is None:
            self._last[key] = number
            return True
        if again and number <= last:
            return False
        if key in self._interrupted:
            self._interrupted.discard(key)
            if number - of > last:
                self._miss("trades", native, code, last, number - of, ts_recv)
        self._last[key] = max(last, number)
        return True

    def interrupt(self, conn: str, native: str = "") -> None:
        """Messages of a connection, or of one instrument on it, were lost: trades may be missing."""
        self._interrupted |= {
            key for key, its in self._conns.items() if its == conn and native in ("", key[1])
        }

    def _miss(self, series: str, native: str, code: int, before: int, last: int, ts_recv: int) -> None:
        self.sink.event("gap", ts_recv, f"{series} of {native}: {last + 1} does not follow {before}",
                        first=before + 1, last=last, instrument=code)  # fmt: skip
        self.ask(series, native, before + 1, last)
