"""Lines in the order of their times, within a window, and which of them come late."""

import math

import numpy as np

from tickplant.feed.files.columns_rows import Lines

SECOND_NS = 1_000_000_000
KEY = ("", "key")
"""The column by which lines are sorted."""
_NEVER = -(1 << 63)


class Sorter:
    """Sorts lines stably by time; holds back those to which an earlier one may come yet.

    A line is late if it is more than the window behind the latest before it. It stays then where the window
    had come to, whatever the blocks in which lines are read.
    """

    def __init__(self, window_s: float, by_recv: bool) -> None:
        """`window_s`: how much later than its place a line may come; inf: the whole file is sorted."""
        self._whole = math.isinf(window_s)
        self._window_ns = 0 if self._whole else int(window_s * SECOND_NS)
        self._by_recv = by_recv
        self._held: Lines | None = None
        self._high = _NEVER
        """The latest time that has come."""

    def add(self, lines: Lines) -> Lines:
        """The lines that are next now."""
        times = lines.ts_recv if self._by_recv else lines.ts_event
        if self._whole:
            key = times
        else:
            before = np.maximum.accumulate(np.append(self._high, times))
            self._high = int(before[-1])
            key = np.maximum(times, np.maximum(before[:-1], _NEVER + self._window_ns) - self._window_ns)
            lines.late = times < key
        lines.values[KEY] = key
        if not self._whole and not self._window_ns:
            return lines
        held = lines if self._held is None else joined(self._held, lines)
        ready = held.values[KEY] <= self._high - self._window_ns
        if self._whole:
            ready = np.zeros(len(held), np.bool_)
        self._held = held.where(~ready)
        return _sorted(held.where(ready))

    def rest(self) -> Lines | None:
        """The lines that are held when no more come."""
        held, self._held = self._held, None
        return None if held is None else _sorted(held)


def _sorted(lines: Lines) -> Lines:
    return lines.where(np.argsort(lines.values[KEY], kind="stable"))


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
    end = None if one.end is None or two.end is None else np.concatenate([one.end, two.end])
    return Lines(event, recv, values, texts, late, end)
