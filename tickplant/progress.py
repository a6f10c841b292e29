"""The progress of long work: a bar on a terminal, a line a minute in a log.

    with Progress("decode day.pcap", total=size, unit="bytes") as progress:
        for chunk in chunks:
            progress.advance(len(chunk))     # or progress.reach(position)

Work that is over within a second shows nothing. The bar is on stderr, so that what a command prints stays
what it prints; where stderr is no terminal the lines go to the log `tickplant.progress`.
"""

import logging
import sys
from types import TracebackType
from typing import Any

from tickplant.clock import SECOND_NS, monotonic_ns

log = logging.getLogger(__name__)

SHOWN_AFTER_NS = SECOND_NS
DRAWN_NS = SECOND_NS // 10
LOGGED_NS = 60 * SECOND_NS
_SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


class Progress:
    """How far one piece of work has come. Cheap enough to be told of each chunk, not of each row."""

    def __init__(
        self, what: str, total: int | None = None, unit: str = "bytes", *, terminal: bool | None = None
    ) -> None:
        """`total` in `unit`s, None: unknown. `terminal`: draw a bar; by default if stderr is a terminal."""
        self.what, self.total, self.unit = what, total or 0, unit
        self.done = 0
        """How much is done, in `unit`s."""
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._began_ns = monotonic_ns()
        self._next_ns = self._began_ns + (SHOWN_AFTER_NS if self._terminal else LOGGED_NS)
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def advance(self, amount: int) -> None:
        """So much more is done."""
        self.reach(self.done + amount)

    def reach(self, done: int) -> None:
        """So much is done in all."""
        self.done = done
        at_ns = monotonic_ns()
        if at_ns < self._next_ns:
            return
        if self._terminal:
            self._next_ns = at_ns + DRAWN_NS
            self._draw()
        else:
            self._next_ns = at_ns + LOGGED_NS
            log.info("%s", self.line())

    def line(self) -> str:
        """All of it in one line: what, how much of how much, how fast, how long yet."""
        seconds = max((monotonic_ns() - self._began_ns) / SECOND_NS, 1e-9)
        rate = self.done / seconds
        said = f"{self.what}: {amount(self.done, self.unit)}"
        if self.total:
            share = min(100.0, 100 * self.done / self.total)
            said += f" of {amount(self.total, self.unit)}, {share:.0f} %"
        said += f", {amount(rate, self.unit)}/s"
        if self.total and rate > 0:
            said += f", {duration(max(0, self.total - self.done) / rate)} left"
        return said

    def _draw(self) -> None:
        if self._bar is None:
            from rich import progress  # only work that takes long needs it

            from tickplant import screen

            size: list[progress.ProgressColumn] = (
                [progress.DownloadColumn(), progress.TransferSpeedColumn()]
                if self.unit == "bytes"
                else [progress.MofNCompleteColumn()]
            )
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}", markup=False), progress.BarColumn(bar_width=None),
                progress.TaskProgressColumn(), *size, progress.TimeRemainingColumn(),
                console=screen.CleanConsole(stderr=True), transient=True, auto_refresh=False, expand=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.total or None)
        self._bar.update(self._task, completed=self.done)
        self._bar.refresh()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def amount(count: float, unit: str) -> str:
    """A count for people: 1.2 GB, 3.4 M rows."""
    for scale, letter in _SCALES:
        if count >= scale:
            number = f"{count / scale:.1f} {letter}"
            return f"{number}B" if unit == "bytes" else f"{number} {unit}"
    return f"{count:.0f} {'B' if unit == 'bytes' else unit}"


def duration(seconds: float) -> str:
    """A time span for people: 42 s, 3 min 5 s, 2 h 7 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
