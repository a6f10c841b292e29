"""A feed's side of the repair socket: it gives the plant what it missed, and hears what is durable there.

What is said is in tickplant/dialogue.py; of a feed on the plant's host see also tickplant/outboxes.py.

Who answers may be another plant (one endpoint, two configurations), or a plant whose configuration does not
have this feed. Nothing that a stranger says is done, and nothing is published to it: the outbox keeps the
rows until the feed's own plant answers, and status and log say why.
"""

import contextlib
import logging
import secrets
import threading
from typing import Any

import zmq

from tickplant import sockets, wire
from tickplant._core import framing
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns
from tickplant.config import Config
from tickplant.dialogue import (
    FROM_PLANT,
    Ack,
    AskPlace,
    Beside,
    Fetch,
    Follow,
    Frames,
    Hello,
    OfPlant,
    Place,
    Refuse,
    route,
)
from tickplant.errors import AlreadyRunning, FrameError
from tickplant.feed import binding
from tickplant.feed.outbox import Outbox
from tickplant.feed.sender import Sender
from tickplant.keys import ClientKeys
from tickplant.outboxes import lock_file

log = logging.getLogger(__name__)

SILENCE_NS = SECOND_NS
MEND_NS = 100 * MILLISECOND_NS
ASK_MS = 500
DEAF_NS = 5 * SECOND_NS
"""How long the plant may say nothing: it answers each `hello` of a feed that has published."""
ANSWERS_MAX = 4
"""That wait for a slow network; more are not made."""


class Repair:
    """One connection; used by one thread at a time."""

    def __init__(self, config: Config, name: str, keys: ClientKeys | None, outbox: Outbox) -> None:
        self.name, self.outbox = name, outbox
        endpoint = self.endpoint = config.tickerplant.repair
        self._may_be_followed = config.tickerplant.follow_outboxes
        self.dealer = sockets.context().socket(zmq.DEALER)
        if not (keys and sockets.is_tcp(endpoint)):  # else its key names it
            self.dealer.setsockopt(zmq.IDENTITY, route(config.plant.name, name))
        # What waited for a plant that is away would all be asked and answered at once when it is back.
        self.dealer.setsockopt(zmq.IMMEDIATE, 1)
        self.dealer.setsockopt(zmq.SNDHWM, ANSWERS_MAX)
        self._connection = sockets.Connection(self.dealer, endpoint, keys)
        self._heard_ns = self._mend_ns = self._beside_ns = 0
        self._answered_ns = monotonic_ns()
        self.process = secrets.randbits(62)
        """Tells this process from another that is in the very same session."""
        self.reason = ""
        """Why the plant takes nothing of this feed at present; empty if it does."""
        self.elsewhere = False
        """Is it another plant that answers?"""

    def _whose(self) -> dict[str, Any]:
        """What each message says of the feed and its plant."""
        bound = self.outbox.binding
        return {
            "feed": self.name, "number": self.outbox.number, "plant": bound.plant, "identity": bound.identity
        }  # fmt: skip

    def _hear(self, data: bytes) -> OfPlant | None:
        """A message of this feed's plant; None if it is another's. Raises FrameError if it is none."""
        message = FROM_PLANT.read(data)
        mine, other = self.outbox.binding.of, message.of
        self.elsewhere = mine.differs(other)
        if self.elsewhere:
            self._because(
                f"{other} answers at {self.endpoint}, and this feed is one of {mine}: give each plant "
                "endpoints of its own; if the plant was made anew, delete "
                f"{self.outbox.folder / binding.NAME}"
            )
            return None
        if other.token and not mine.token:
            self.outbox.meet(other.token)
        self._because(message.reason)
        return message

    def _because(self, reason: str) -> None:
        """Note why nothing is taken, and say so once."""
        if reason and reason != self.reason:
            log.error("feed %s keeps what it publishes in its outbox: %s", self.name, reason)
        elif self.reason and not reason:
            log.warning("feed %s: the ticker plant takes its rows again", self.name)
        self.reason = reason

    def ask(self, seconds: float) -> int:
        """The session that the plant has of this feed; 0 if it does not say within some seconds.

        Raises AlreadyRunning if it is another outbox's, and its process is alive.
        """
        end = monotonic_ns() + int(seconds * SECOND_NS)
        while (left := (end - monotonic_ns()) // MILLISECOND_NS) > 0:
            if not self.dealer.poll(left, zmq.POLLOUT):
                break
            # Again after a while: an answer is lost if another of this name takes over the plant's route.
            with contextlib.suppress(zmq.Again):
                self.dealer.send(AskPlace(**self._whose()).packed(), zmq.DONTWAIT)
            if self.dealer.poll(min(left, ASK_MS)) and (session := self._place()) is not None:
                return session
            if self.reason:
                break
        return 0

    def _place(self) -> int | None:
        """The session of an answer to `ask`; None if it is none."""
        try:
            message = self._hear(self.dealer.recv_multipart()[0])
        except FrameError:
            return None
        if not isinstance(message, Place):
            return None
        if message.alive and not self.outbox.knows(message.session):
            raise AlreadyRunning(self._taken(message.session))
        return message.session

    def _taken(self, session: int) -> str:
        return (
            f"another process publishes as feed {self.name} (session {session}): end it, or wait until it "
            f"has been silent for some seconds; what this one published is in {self.outbox.folder}"
        )

    def turn(self, wait_ms: int, sender: Sender, room: threading.Condition) -> None:
        """Hear the plant, for so long at most; `room` is told when it has made something durable."""
        if self.dealer.poll(wait_ms):
            with contextlib.suppress(FrameError):
                self._answer(self.dealer.recv_multipart(), sender, room)
            sender.muted = self.elsewhere
        at = monotonic_ns()
        if at - self._heard_ns >= SILENCE_NS:
            self._hello(sender, at)
        if at >= self._mend_ns:
            self._mend_ns = at + MEND_NS
            self._tend(at, sender.session.seq > 0)
        if self._may_be_followed and not sender.followed and at - self._beside_ns >= SILENCE_NS:
            self._beside_ns = at
            self._beside(sender, room)

    def _beside(self, sender: Sender, room: threading.Condition) -> None:
        """Say where in the outbox the next row will be, if there is a plant on this host."""
        if not sender.ringer.connect():
            return
        with room:
            session, seq, position = sender.session.number, sender.seq, self.outbox.position
        message = Beside(
            session=session, seq=seq, position=position, file=lock_file(self.outbox.folder),
            process=self.process, **self._whose(),
        )  # fmt: skip
        with contextlib.suppress(zmq.Again):
            self.dealer.send(message.packed(), zmq.DONTWAIT)

    def _tend(self, at: int, owed: bool) -> None:
        """Mend what libzmq gave up. A connection that owes an answer is made anew: our name may have been
        damaged as it was made, and then the plant takes us for a stranger for as long as it lasts."""
        self._connection.mend()
        if owed and at - self._answered_ns >= DEAF_NS:
            self._answered_ns = at
            self._connection.renew()

    def _hello(self, sender: Sender, at: int) -> None:
        """Say up to where the feed has published."""
        session, seq = sender.session.number, sender.session.seq
        message = Hello(session=session, seq=seq, process=self.process, **self._whose())
        with contextlib.suppress(zmq.Again):  # there is no connection
            self.dealer.send(message.packed(), zmq.DONTWAIT)
            self._heard_ns = at

    def _answer(self, parts: list[bytes], sender: Sender, room: threading.Condition) -> None:
        message = self._hear(parts[0])
        self._heard_ns = self._answered_ns = monotonic_ns()
        if isinstance(message, Fetch):
            self._give(message, sender, room)
        elif isinstance(message, Follow) and message.session == sender.session.number:
            sender.followed = True
        elif isinstance(message, Ack) and self.outbox.knows(message.session):  # another's rows are not ours
            if sender.followed and not message.follows:
                sender.followed, self._beside_ns = False, 0
            with room:
                self.outbox.acknowledge((message.session, message.seq))
                room.notify_all()
        elif isinstance(message, Refuse) and message.session == sender.session.number:
            with room:
                if sender.failed is None:
                    sender.failed = AlreadyRunning(self._taken(message.have))
                    # Nothing is published any more: now the plant can declare all that it does not have.
                    self._hello(sender, monotonic_ns())
                    room.notify_all()

    def _give(self, asked: Fetch, sender: Sender, room: threading.Condition) -> None:
        """Tell the plant what follows the place that it names."""
        limit = min(asked.bytes, wire.MESSAGE_MAX // 2)
        with room:
            frames, more = self.outbox.fetch((asked.session, asked.seq), limit)
            knows = self.outbox.knows(asked.session)
        header = Frames(
            session=asked.session, seq=asked.seq, more=more, knows=knows, mine=sender.session.number,
            crc=framing.crc32c(frames), **self._whose(),
        )  # fmt: skip
        with contextlib.suppress(zmq.Again):  # the plant asks again
            self.dealer.send_multipart([header.packed(), frames], zmq.DONTWAIT)

    def close(self) -> None:
        """Disconnect, once the last word is said."""
        self._connection.close(linger_ms=1000)
