"""A feed's side of the repair socket: it gives the plant what it missed, and hears what is durable there.

to the plant     hello {session, seq, process}; place {};
                 frames {session, seq, more, knows, mine, crc} + frames: what follows the place asked for,
                 whether the outbox has had its session, and our own
from the plant   fetch {session, seq, bytes}; ack {session, seq}; place {session, seq, alive};
                 refuse {session, have}: another process has this feed, this session is to end
both, of a feed on the plant's host: see tickplant/outboxes.py
"""

import contextlib
import secrets
import threading

import zmq

from tickplant import sockets, wire
from tickplant._core import framing
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns
from tickplant.config import Config
from tickplant.errors import AlreadyRunning, FrameError
from tickplant.feed.outbox import Outbox
from tickplant.feed.sender import Sender
from tickplant.keys import ClientKeys
from tickplant.outboxes import lock_file

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
        endpoint = config.tickerplant.repair
        self._may_be_followed = config.tickerplant.follow_outboxes
        self.dealer = sockets.context().socket(zmq.DEALER)
        if not (keys and sockets.is_tcp(endpoint)):  # else its key names it
            self.dealer.setsockopt(zmq.IDENTITY, name.encode())
        # What waited for a plant that is away would all be asked and answered at once when it is back.
        self.dealer.setsockopt(zmq.IMMEDIATE, 1)
        self.dealer.setsockopt(zmq.SNDHWM, ANSWERS_MAX)
        self._connection = sockets.Connection(self.dealer, endpoint, keys)
        self._heard_ns = self._mend_ns = self._beside_ns = 0
        self._answered_ns = monotonic_ns()
        self.process = secrets.randbits(62)
        """Tells this process from another that is in the very same session."""

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
                self.dealer.send(wire.pack("place"), zmq.DONTWAIT)
            if self.dealer.poll(min(left, ASK_MS)) and (session := self._place()) is not None:
                return session
        return 0

    def _place(self) -> int | None:
        """The session of an answer to `ask`; None if it is none."""
        try:
            message = wire.unpack(self.dealer.recv_multipart()[0])
            if message.get("op") != "place":
                return None
            session: int = wire.field(message, "session", "int")
        except FrameError:
            return None
        if message.get("alive") and not self.outbox.knows(session):
            raise AlreadyRunning(self._taken(session))
        return session

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
            said = {"session": sender.session.number, "seq": sender.seq, "position": self.outbox.position}
        file = lock_file(self.outbox.folder)
        with contextlib.suppress(zmq.Again):
            self.dealer.send(wire.pack("beside", file=file, process=self.process, **said), zmq.DONTWAIT)

    def _tend(self, at: int, owed: bool) -> None:
        """Mend what libzmq gave up. A connection that owes an answer is made anew: our name may have been
        damaged as it was made, and then the plant takes us for a stranger for as long as it lasts."""
        self._connection.mend()
        if owed and at - self._answered_ns >= DEAF_NS:
            self._answered_ns = at
            self._connection.renew()

    def _hello(self, sender: Sender, at: int) -> None:
        """Say up to where the feed has published."""
        said = {"session": sender.session.number, "seq": sender.session.seq, "process": self.process}
        with contextlib.suppress(zmq.Again):  # there is no connection
            self.dealer.send(wire.pack("hello", **said), zmq.DONTWAIT)
            self._heard_ns = at

    def _answer(self, parts: list[bytes], sender: Sender, room: threading.Condition) -> None:
        message = wire.unpack(parts[0])
        op, session = message.get("op"), wire.field(message, "session", "int")
        self._heard_ns = self._answered_ns = monotonic_ns()
        if op == "fetch":
            place = session, wire.field(message, "seq", "int")
            limit = min(wire.field(message, "bytes", "int"), wire.MESSAGE_MAX // 2)
            with room:
                frames, more = self.outbox.fetch(place, limit)
                knows = self.outbox.knows(session)
            header = wire.pack("frames", session=place[0], seq=place[1], more=more, knows=knows,
                               mine=sender.session.number, crc=framing.crc32c(frames))  # fmt: skip
            with contextlib.suppress(zmq.Again):  # the plant asks again
                self.dealer.send_multipart([header, frames], zmq.DONTWAIT)
        elif op == "follow" and session == sender.session.number:
            sender.followed = True
        elif op == "ack" and self.outbox.knows(session):  # another's rows are not ours
            if sender.followed and not message.get("follows"):
                sender.followed, self._beside_ns = False, 0
            with room:
                self.outbox.acknowledge((session, wire.field(message, "seq", "int")))
                room.notify_all()
        elif op == "refuse" and session == sender.session.number:
            with room:
                if sender.failed is None:
                    sender.failed = AlreadyRunning(self._taken(wire.field(message, "have", "int")))
                    # Nothing is published any more: now the plant can declare all that it does not have.
                    self._hello(sender, monotonic_ns())
                    room.notify_all()

    def close(self) -> None:
        """Disconnect, once the last word is said."""
        self._connection.close(linger_ms=1000)
