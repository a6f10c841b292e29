"""How a connection to a venue stands, as an operator is to know it."""

from dataclasses import dataclass, field
from datetime import timedelta

from tickplant.clock import SECOND_NS

BLIP_NS = 5 * SECOND_NS
"""A connection that was heard, and is lost for no longer, is no problem."""
QUIET_NS = 15 * SECOND_NS
"""One that stands for so long and has never said anything is."""


@dataclass
class Standing:
    """Times are of the clock that never steps."""

    name: str
    url: str
    began_ns: int
    tries: int = 0
    """In a row, without a word of the venue."""
    stands_ns: int = 0
    """Since when it stands; 0: it does not."""
    heard_ns: int = 0
    """When the venue said something last; 0: never."""
    lost_ns: int = 0
    cause: str = ""
    """Why it does not stand, or why it did not before, if nothing has been heard since."""
    kinds: dict[str, int] = field(default_factory=dict)
    """When a message of a type came last."""

    def lost(self, cause: str, now_ns: int) -> None:
        """It has ended, or could not be made."""
        self.tries, self.stands_ns = self.tries + 1, 0
        self.lost_ns = self.lost_ns or now_ns
        self.cause = cause

    def hear(self, now_ns: int) -> None:
        """The venue has said something."""
        self.heard_ns, self.lost_ns, self.tries, self.cause = now_ns, 0, 0, ""

    def problem(self, now_ns: int) -> str:
        """What is wrong with it; empty: nothing that would not mend itself in a moment."""
        where = f"{self.name} ({self.url.partition('?')[0]})"
        if self.cause and not self.heard_ns:
            since = _span(now_ns - self.began_ns)
            return f"{where} was never reached in {since}, {self.tries} tries: {self.cause}"
        if self.cause and now_ns - self.lost_ns > BLIP_NS:
            return f"{where} is lost for {_span(now_ns - self.lost_ns)}, {self.tries} tries: {self.cause}"
        since_ns = max(self.stands_ns, self.heard_ns)
        if self.stands_ns and not self.heard_ns and now_ns - since_ns > QUIET_NS:
            return f"{where} stands for {_span(now_ns - since_ns)} and says nothing"
        return ""


def _span(ns: int) -> str:
    return str(timedelta(seconds=max(0, ns) // SECOND_NS))
