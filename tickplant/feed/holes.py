"""Holes in a venue's trades that are filled over REST, page by page, each trade once.

What comes so is published with Flag.LATE, and a row of event of kind filled has the range that is whole
now. What the venue does not have (any more) of a hole is a row of kind gap, once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tickplant.feed.sink import Sink
from tickplant.schema import Flag

PAGES_MAX = 20
"""Pages of one hole."""
ASKED_MAX = 4096
"""Answers that are waited for; the oldest are forgotten."""


@dataclass(frozen=True)
class Page:
    """Where a venue has past trades, and which ones it answers with."""

    url: str
    limit: int = 0
    """Trades of an answer at most: fewer mean that there are no more. 0: that can't be told so."""
    goes: Literal["", "back", "forward"] = ""
    """From the end of the hole, or from its beginning, a page at a time; empty: the newest trades only."""


@dataclass(frozen=True)
class Traded:
    """A trade, live or of a venue's history; `values`: columns of table trade."""

    number: int
    ts_event: int
    values: dict[str, Any]
    key: object = None
    """What tells it from others with the same number, where there can be some."""
    of: int = 1
    """So many numbers, its own the last of them, are in it."""


@dataclass(frozen=True)
class Hole:
    """Numbers of trades that are missing, first to last."""

    series: str
    native: str
    first: int
    last: int
    page: int = 1


class Holes:
    """The holes of one venue that are asked for, by the request that asks."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._asked: dict[str, list[tuple[Hole, Page]]] = {}

    def __contains__(self, url: str) -> bool:
        return url in self._asked

    def ask(self, hole: Hole, page: Page) -> None:
        """A page is asked for because of this hole; several may be for one."""
        if len(self._asked) >= ASKED_MAX and page.url not in self._asked:
            del self._asked[next(iter(self._asked))]
        self._asked.setdefault(page.url, []).append((hole, page))

    def waiting(self, url: str) -> list[tuple[Hole, Page]]:
        """The holes that a request is for, all of one instrument."""
        return self._asked[url]

    def done(self, url: str) -> None:
        """The answer is in, or is not waited for any more."""
        del self._asked[url]

    def check(self, past: Sequence[Traded], code: int, ts_recv: int) -> None:
        """Would all of these be taken? Raises SchemaError if not."""
        self.sink.check("trade", ts_recv, [_row(t, code) for t in past])

    def fill(
        self, hole: Hole, page: Page, past: Sequence[Traded], code: int, ts_recv: int, *, by_one: bool
    ) -> Hole | None:
        """Publish what an answer, checked, has of a hole; what is to be asked for next.

        `by_one`: numbers of the series go up by one.
        """
        there = {(t.number, t.key): t for t in past if hole.first <= t.number <= hole.last}
        late = sorted(there.values(), key=lambda t: t.number)
        self.sink.add_all("trade", ts_recv, [_row(t, code) for t in late])
        first, last = _covered(hole, page, past)
        if first <= last:
            missing = last - first + 1 - len(late) if by_one else 0
            self._tell("filled", hole, first, last, code, ts_recv,
                       f"{len(late)} missing {hole.series} of {hole.native}, marked late")  # fmt: skip
            if missing > 0:
                self._tell("gap", hole, first, last, code, ts_recv,
                           f"{hole.series} of {hole.native}: {missing} are not had over REST")  # fmt: skip
        left = replace(hole, first=last + 1) if page.goes == "forward" else replace(hole, last=first - 1)
        if left.first > left.last:
            return None
        if page.goes and first <= last and hole.page < PAGES_MAX:
            return replace(left, page=hole.page + 1)
        self.give_up(left, code, ts_recv)
        return None

    def give_up(self, hole: Hole, code: int, ts_recv: int) -> None:
        """What is left of a hole stays missing."""
        self._tell("gap", hole, hole.first, hole.last, code, ts_recv,
                   f"{hole.series} of {hole.native}: not had over REST")  # fmt: skip

    def _tell(self, kind: str, hole: Hole, first: int, last: int, code: int, ts_recv: int, text: str) -> None:
        self.sink.event(kind, ts_recv, text, first=first, last=last, instrument=code)


def _row(t: Traded, code: int) -> tuple[int, dict[str, Any]]:
    return t.ts_event, {"action": "T", **t.values, "instrument": code, "flags": int(Flag.LATE)}


def _covered(hole: Hole, page: Page, past: Sequence[Traded]) -> tuple[int, int]:
    """The range of a hole of which an answer has all that there is; first above last if it has none."""
    if len(past) < page.limit:  # it has no more
        return hole.first, hole.last
    if not past:
        return (hole.first, hole.first - 1) if page.goes == "forward" else (hole.last + 1, hole.last)
    if page.goes == "forward":
        return hole.first, max(hole.first - 1, min(hole.last, max(t.number for t in past)))
    return min(hole.last + 1, max(hole.first, min(t.number for t in past))), hole.last
