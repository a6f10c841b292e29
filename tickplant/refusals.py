"""What the ticker plant does not take of feeds, and how it says so.

Each refusal is a row of table `event` and a line of the log, but a flood of them must not become a flood of
rows: the 1st, 2nd, 4th, 8th, ... of a kind is told, with how many there were.
"""

import logging
from collections.abc import Callable

from tickplant import wire
from tickplant._core import framing
from tickplant._core.intake import GAP, MALFORMED, TOO_LARGE, UNKNOWN_FEED, WRONG_SCHEMA
from tickplant.dialogue import ROWS_MAX

log = logging.getLogger(__name__)

Report = Callable[..., None]
"""report(kind, about=feed, session=, first=, last=, text=): make an event row."""

SESSION_END = 1 << 63
"""Sessions are below; _core/intake.h has the same bounds."""

_REASONS = {
    MALFORMED: "not a valid frame",
    UNKNOWN_FEED: "a feed number that is not configured",
    WRONG_SCHEMA: "a table declared otherwise than here",
    TOO_LARGE: "more than limits.frame_bytes or limits.frame_rows",
    GAP: "a frame that its feed's outbox does not know",
}


def now_and_then(count: int) -> bool:
    """True for the 1st, 2nd, 4th, 8th, ... of many."""
    return count & (count - 1) == 0


class Refusals:
    """Counts what is refused, and tells now and then."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.strangers = 0
        """Messages refused so far."""

    def frame(self, reason: int, message: bytes) -> None:
        """A message that is not one of our frames."""
        whole = reason != MALFORMED
        about, why = wire.header(message).feed if whole else 0, _REASONS[reason]
        if not whole and framing.check(message) == 0:
            head = wire.header(message)
            about = head.feed
            if head.feed_row > head.seq or head.seq + head.count > ROWS_MAX or head.session >= SESSION_END:
                why = f"session {head.session}, seq {head.seq}, feed_row {head.feed_row}: out of range"
        self._stranger("malformed", about, f"{why}: {len(message)} bytes {message[:16].hex()}")

    def key(self, key: str, feed: int, what: str) -> None:
        """A key that speaks for somebody else; `feed`: the number of its own, if it is a feed's."""
        self._stranger("refused", feed, f"key {key!r}: {what}")

    def peer(self, name: bytes, what: str) -> None:
        """A message of control that no outbox of ours sends."""
        self._stranger("refused", 0, f"{name[:32]!r}: {what}")

    def _stranger(self, kind: str, about: int, what: str) -> None:
        self.strangers += 1
        if now_and_then(self.strangers):
            text = f"{what}; {self.strangers} such so far"
            self.report(kind, about=about, text=text)
            log.warning("refused a message: %s", text)
