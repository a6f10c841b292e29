"""Who has a feed: one process at a time, and what becomes of another that claims it.

A process is known by its session, and its outbox by the sessions that it has had. The session that is taken
goes on as long as it is alive; another may begin if its outbox has had that one, so that it is a restart of
the same feed, or once that one has been silent for some seconds. Without keys nobody can tell who is right:
the first is. Who claims the feed beside it is refused, told to end, and a row of table `event`; and a
process whose session is over for the plant, for a copy of its outbox went on with it, is told so too: what
it published since, which only its outbox has, is declared as a gap.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tickplant._core.intake import Intake
from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.dialogue import OfFeed, Refuse
from tickplant.identity import Identity
from tickplant.refusals import Report, now_and_then

log = logging.getLogger(__name__)

ALIVE_NS = 3 * SECOND_NS
AHEAD_NS = 3650 * 86_400 * SECOND_NS
"""A session (ns UTC) that is so far ahead of the plant's clock is not believed. The bound moves on with the
clock, and a feed begins above the session that the plant has: so no session, forged or not, locks it out."""
FETCH_BYTES = 1 << 22
_ENDED_KEPT = 16
LATE = "rows after the end of their session: its process was killed, or another claims this feed"
OVER = "rows of a session that was over: another process claims this feed, they are in its outbox"
TWICE = "another process is in this very session"
BESIDE = "a session that another process would begin, beside one that is alive"

Place = tuple[int, int]
"""(session, seq)"""


@dataclass
class Session:
    """What the plant does about one feed at the moment."""

    name: str
    number: int
    held: deque[bytes] = field(default_factory=deque)
    held_bytes: int = 0
    fetching: bool = False
    asked_ns: int = 0
    asked: Place = (0, 0)
    """What it was last asked to tell the rows after."""
    asked_bytes: int = FETCH_BYTES
    """How much it is asked for at once: less and less where answers do not come in time. An answer that takes
    longer than ZeroMQ waits for a sign of life would never come through."""
    acknowledged: Place = (0, 0)
    connected: bool = False
    tried_ns: int = 0
    """When an acknowledgement could not be sent."""
    route: bytes = b""
    """Routing id of its connection: its name, but where its key names it one that nobody else can claim."""
    vain: int = 0
    """Complete answers in a row that brought nothing although frames were held."""
    gaps: int = 0
    seen: Place = (0, 0)
    seen_ns: int = 0
    """When its session was last heard of."""
    speaker: Place = (0, 0)
    """Session, and the number that its process has given itself: who else says hello in it is another."""
    ended: dict[int, int] = field(default_factory=dict)
    """Sessions before this one, and the seqs at which they were over."""
    reason: str = ""
    """Why nothing of the feed's is taken at present; told with each message to it."""
    rivals: int = 0
    """Messages of processes that claim this feed beside the one that has it."""
    rival: int = 0
    """A session that such a process would begin; heard again once the one that has it is silent."""

    def end(self, place: Place) -> None:
        """Note where a session was over."""
        self.ended[place[0]] = place[1]
        if len(self.ended) > _ENDED_KEPT:
            del self.ended[next(iter(self.ended))]


class Claimants:
    """Judges who speaks for a feed."""

    def __init__(
        self, intake: Intake, report: Report, identity: Identity, send: Callable[[Session, Refuse], bool]
    ) -> None:
        """`send`: to whoever is connected as the feed."""
        self.intake, self.report, self.identity, self.send = intake, report, identity, send

    def look(self, session: Session) -> None:
        """Note whether a feed is alive: its rows come without a word to us."""
        if (place := self.intake.session(session.number)) != session.seen:
            session.seen, session.seen_ns = place, monotonic_ns()

    def is_alive(self, session: Session) -> bool:
        """Has the process that has the feed been heard of lately?"""
        self.look(session)
        return monotonic_ns() - session.seen_ns < ALIVE_NS

    def is_believable(self, message: OfFeed) -> bool:
        """Can the sessions that a feed names have begun?"""
        return all(self.may_begin(getattr(message, name, 0)) for name in ("session", "mine"))

    def may_begin(self, number: int) -> bool:
        """Can a session with this number have begun?"""
        return number < now_ns() + AHEAD_NS

    def is_rival(self, session: Session, claimed: int) -> bool:
        """Is it a session that was refused, and would be again?"""
        return claimed == session.rival and self.is_alive(session)

    def hello(self, session: Session, theirs: Place, have: Place, process: int) -> bool:
        """Somebody says up to where the feed has published; is it the process that has it, or may have?

        What is said can come late, and after what was said later: a seq that goes back proves nothing.
        """
        if 0 < theirs[0] < have[0]:
            self._over(session, theirs)
            return False
        if 0 < theirs[0] == session.speaker[0] and process != session.speaker[1]:
            self._refuse(session, theirs[0], TWICE)
            return False
        if self.is_rival(session, theirs[0]):
            self._refuse(session, theirs[0], BESIDE)
            return False
        if theirs[0] == have[0]:
            session.speaker, session.seen_ns = (have[0], process), monotonic_ns()
        return True

    def late(self, session: Session, claimed: int) -> None:
        """Live rows of a session that is over, beyond its end."""
        self._refuse(session, claimed, LATE, answer=now_and_then(session.rivals + 1))

    def beside(self, session: Session, claimed: int, *, answer: bool = True) -> None:
        """A session that would begin although the one that is there is alive, and not of the same outbox."""
        if claimed > self.intake.session(session.number)[0]:
            session.rival = claimed
            self._refuse(session, claimed, BESIDE, answer=answer)

    def _over(self, session: Session, theirs: Place) -> None:
        over = session.ended.get(theirs[0])
        if over is not None and theirs[1] > over:
            session.end(theirs)
            session.gaps += 1
            last = theirs[1] - 1
            self.report("gap", about=session.number, session=theirs[0], first=over, last=last, text=OVER)
        self._refuse(session, theirs[0], OVER, upto=theirs[1])

    def _refuse(
        self, session: Session, claimed: int, what: str, *, upto: int = 0, answer: bool = True
    ) -> None:
        session.rivals += 1
        have = self.intake.session(session.number)[0]
        if now_and_then(session.rivals):
            last = max(0, upto - 1)
            self.report("rival", about=session.number, session=claimed, last=last, text=what)
            log.error("feed %s: session %d beside %d: %s", session.name, claimed, have, what)
        if answer:
            plant, token = self.identity
            self.send(session, Refuse(session=claimed, have=have, plant=plant, identity=token))
