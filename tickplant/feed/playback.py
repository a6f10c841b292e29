"""Playing a capture into the plant: flat out, at the pace at which it was recorded, or faster.

A feed that starts again goes on behind the last row that it has published of the capture (`resume`).
"""

import logging
from pathlib import Path

import numpy as np

from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.feed.capture import Capture
from tickplant.feed.formats import open_capture
from tickplant.feed.handler import Feed
from tickplant.feed.resume import Published, identity
from tickplant.feed.sink import Sink
from tickplant.feed.source import bytes_read
from tickplant.progress import Progress
from tickplant.schema import Rows

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""How often a feed that waits looks whether it is to stop."""


def play(feed: Feed, path: Path, *, pace: float = 0.0, again: bool = False, **options: object) -> None:
    """Publish a capture: as fast as the plant takes it (0), as recorded (1), or so many times faster.

    Rows of it that are published already are not published once more, unless `again`.
    """
    feed.paced = True
    source = open_capture(path, **options)
    Player(feed, path, source, pace, options).run(again)


class Player:
    """One run of a capture through a feed."""

    def __init__(
        self, feed: Feed, path: Path, source: Capture, pace: float, options: dict[str, object]
    ) -> None:
        self.feed, self.path, self.source, self.pace = feed, path, source, pace
        self._capture = identity(path, options)
        self._published = Published(feed.config.outbox_dir(feed.name), feed.write_first())
        self._defined: list[Rows] = []
        self._began_ns = self._first_ns = 0

    def run(self, again: bool) -> None:
        """Publish what is not published yet."""
        done = 0 if again else self._published.rows(self._capture)
        left = done
        with Progress(f"publish {self.path.name}", self.path.stat().st_size) as progress:
            before = bytes_read()
            for batch in self.source:
                progress.reach(bytes_read() - before)
                for table, rows in batch:
                    skipped = min(left, len(rows))
                    left -= skipped
                    if table == "instrument":
                        self._defined.append(rows[:skipped])
                    if skipped < len(rows):
                        self._publish(table, rows[skipped:], done)
                if self.feed.stopping.is_set():
                    return
        if not self._began_ns:
            log.info("%s: all of its %s rows are published already; with the option `again = true` it is "
                     "published once more", self.path, f"{done - left:,}")  # fmt: skip

    def _publish(self, table: str, rows: Rows, done: int) -> None:
        if not self._began_ns:
            self._begin(done)
        self._wait()
        self.feed.append(table, rows)

    def _begin(self, done: int) -> None:
        """Note what is about to be published, and first define the instruments of what is passed over."""
        self._began_ns, self._first_ns = monotonic_ns(), self.source.at_ns
        sink = Sink("")
        if self._published.anew:
            log.warning("%s is published from its beginning: %s", self.path, self._published.anew)
            text = f"{self.path.name} from its beginning: {self._published.anew}"
            sink.event("anew", now_ns(), text, last=0)
        elif done:
            log.info("%s goes on behind its row %s", self.path, f"{done:,}")
        events = sink.take()
        defined = _latest(self._defined)
        self._defined.clear()
        first = sum(len(rows) for _, rows in events) + (0 if defined is None else len(defined))
        self._published.begin(self._capture, self.feed.session, done, first)
        for table, rows in events:
            self.feed.append(table, rows)
        if defined is not None:
            self.feed.append("instrument", defined)

    def _wait(self) -> None:
        """Until the batch that was decoded last is due."""
        if self.pace <= 0 or not self.source.at_ns:
            return
        self._first_ns = self._first_ns or self.source.at_ns
        due = self._began_ns + int((self.source.at_ns - self._first_ns) / self.pace)
        while (left := due - monotonic_ns()) > 0 and not self.feed.stopping.is_set():
            self.feed.wait(min(left / SECOND_NS, LOOK_S))


def _latest(parts: list[Rows]) -> Rows | None:
    """The last definition of each instrument; None if there is none."""
    rows = np.concatenate(parts) if parts else np.empty(0, [("code", "u4")])
    if not len(rows):
        return None
    _, at = np.unique(rows["code"][::-1], return_index=True)
    latest: Rows = rows[np.sort(len(rows) - 1 - at)]
    return latest
