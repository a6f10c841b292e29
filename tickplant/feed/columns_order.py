"""Lines in the order of their times, within a window, and which of them come late."""

import math

import numpy as np

from tickplant.feed.columns_rows import Lines

SECOND_NS = 1_000_000_000


class Sorter:
    """Sorts lines stably by time; holds back those to which an earlier one may come yet."""

    def __init__(self, window_s: float, by_recv: bool) -> None:
        """`window_s`: how much later than its place a line may come; inf: the whole file is sorted."""
        self._window = window_s
        self._by_recv = by_recv
        self._held: Lines | None = None
        self._high = -(1 << 63)
        """The latest time that has come."""
        self._out = -(1 << 63)
        """The latest time that has been given out."""

    def add(self, lines: Lines) -> Lines:
        """The lines that are next now: those, if there is no window, flagged where they are late."""
        if not self._window:
            return self._given(lines)
        held = lines if self._held is None else joined(self._held, lines)
        times = self._times(held)
        self._high = max(self._high, int(times.max(initial=self._high)))
        if math.isinf(self._window):
            self._held = held
            return held.where(slice(0, 0))
        ready = times <= self._high - int(self._window * SECOND_NS)
        self._held = held.where(~ready)
        return self._given(self._sorted(held.where(ready)))

    def rest(self) -> Lines | None:
        """The lines that are held when no more come."""
        held, self._held = self._held, None
        return None if held is None else self._given(self._sorted(held))

    def _times(self, lines: Lines) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return lines.ts_recv if self._by_recv else lines.ts_event

    def _sorted(self, lines: Lines) -> Lines:
        return lines.where(np.argsort(self._times(lines), kind="stable"))

    def _given(self, lines: Lines) -> Lines:
        times = self._times(lines)
        if len(times):
            before = np.maximum.accumulate(np.append(self._out, times[:-1]))
            lines.late = times < before
            self._out = max(self._out, int(times.max()))
        return lines


def joined(one: Lines, two: Lines) -> Lines:
    """The lines of both."""
    texts, values = {}, {}
    for (column, kind), first in one.values.items():
        second = two.values[column, kind]
        if kind == "text":
            place = {t: i for i, t in enumerate(one.texts[column])}
            texts[column] = list(one.texts[column])
            for text in two.texts[column]:
                if text not in place:
                    place[text] = len(texts[column])
                    texts[column].append(text)
            second = np.array([place[t] for t in two.texts[column]] or [0], np.int64)[second]
        values[column, kind] = np.concatenate([first, second])
    event, recv, late = (
        np.concatenate([getattr(one, n), getattr(two, n)]) for n in ("ts_event", "ts_recv", "late")
    )
    return Lines(event, recv, values, texts, late)
