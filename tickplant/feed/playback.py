"""Playing a capture into the plant: flat out, at the pace at which it was recorded, or faster."""

from pathlib import Path

from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.feed.formats import open_capture
from tickplant.feed.handler import Feed

LOOK_S = 0.1
"""How often a feed that waits looks whether it is to stop."""


def play(feed: Feed, path: Path, *, pace: float = 0.0, **options: object) -> None:
    """Publish a capture: as fast as the plant takes it (0), as recorded (1), or so many times faster."""
    feed.paced = True
    source = open_capture(path, **options)
    began_ns, first_ns = monotonic_ns(), 0
    for batch in source:
        first_ns = first_ns or source.at_ns
        if pace > 0 and source.at_ns:
            due = began_ns + int((source.at_ns - first_ns) / pace)
            while (left := due - monotonic_ns()) > 0 and not feed.stopping.is_set():
                feed.wait(min(left / SECOND_NS, LOOK_S))
        for table, rows in batch:
            feed.append(table, rows)
        if feed.stopping.is_set():
            return
