"""Where frames of feeds come in: sequence, gaps, and the fetching of what is missing.

Live frames come over SUB; each feed's outbox answers over ROUTER. Of every feed the plant knows the
session and the next seq. What does not follow on is held, the outbox is asked for all that comes after
what the plant has, in order and across sessions, and then the held frames go through:

    FOLLOWING --gap, new session, or a heartbeat that is ahead--> FETCHING --outbox has no more--> FOLLOWING

An answer is taken as the truth about the feed: if it does not follow on either, the rows between are gone,
which becomes an `event` row. Held frames are bounded; what does not fit is in the outbox anyway.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq

from tickplant import wire
from tickplant._core import core
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.day import Day
from tickplant.errors import FrameError, SchemaError
from tickplant.sockets import is_keyed, key_name, readable

log = logging.getLogger(__name__)

FETCH_BYTES = 1 << 22
RETRY_NS = SECOND_NS
VAIN_MAX = 2
GONE = "rows that the feed's outbox does not have any more"
UNDEFINED = "instrument codes used before a definition; kept without instrument"
REFUSED = "rows that do not fit the tables declared here"

Report = Callable[..., None]
"""report(kind, about=feed, session=, first=, last=, text=): make an event row."""


@dataclass
class Session:
    """What the plant does about one feed at the moment."""

    name: str
    number: int
    held: deque[bytes] = field(default_factory=deque)
    held_bytes: int = 0
    fetching: bool = False
    asked_ns: int = 0
    acknowledged: tuple[int, int] = (0, 0)
    connected: bool = False
    route: bytes = b""
    """Routing id of its connection: its name, but where its key names it one that nobody else can claim."""
    undefined: int = 0
    vain: int = 0
    """Complete answers in a row that brought nothing although frames were held."""
    gaps: int = 0


class Ingress:
    """Takes messages into the day's intake and sees to it that each feed's rows are all there, in order."""

    def __init__(self, day: Day, router: zmq.Socket[bytes], report: Report) -> None:
        self.day, self.router, self.report = day, router, report
        self.intake = day.intake
        self.held_max = day.config.tickerplant.held_bytes_max
        self.feeds = {f.id: Session(name, f.id, route=name.encode()) for name, f in day.config.feeds.items()}
        self._by_name = {s.name.encode(): s for s in self.feeds.values()}
        self._numbers = {s.name: wire.number(s.number) for s in self.feeds.values()}
        self._keyed = is_keyed(router)
        self.strangers = 0

    def may_say(self, key: str, message: bytes) -> bool:
        """Does a live message come over the connection of the feed that it says it is of? Told if not."""
        if self._numbers.get(key) == message[wire.FEED]:
            return True
        claimed = int.from_bytes(message[wire.FEED], "little")
        self._refuse_key(key, f"a message in the name of feed number {claimed}")
        return False

    def _refuse_key(self, key: str, what: str) -> None:
        """A key that speaks for somebody else."""
        self.strangers += 1
        if _now_and_then(self.strangers):
            feed = self._by_name.get(key.encode())
            text = f"key {key!r}: {what}; {self.strangers} such so far"
            self.report("refused", about=feed.number if feed else 0, text=text)
            log.warning("refused a message of %s", text)

    def take(self, messages: list[bytes], now_ns: int, commit: Callable[[], None]) -> None:
        """Take live messages in order."""
        at = 0
        while (at := self.intake.take(messages, at, now_ns)) < len(messages):
            if self.intake.reason == core.STAGE_FULL:
                commit()
            else:
                self._decide(self.intake.reason, messages[at], now_ns, commit)
                at += 1

    def _decide(self, reason: int, message: bytes, now_ns: int, commit: Callable[[], None]) -> None:
        if reason in (core.MALFORMED, core.UNKNOWN_FEED, core.WRONG_SCHEMA):
            self._refuse(reason, message)
            return
        head = wire.header(message)
        session = self.feeds.get(head.feed)
        if session is None:
            self._refuse(core.UNKNOWN_FEED, message)
        elif reason == core.CONTROL:
            if (head.session, head.seq) > self.intake.session(head.feed):
                self._fetch(session, now_ns)
        elif reason == core.NEW_SESSION and head.session < self.intake.session(head.feed)[0]:
            pass  # an old session's last words; its outbox has told already
        elif reason in (core.NEW_SESSION, core.GAP):
            self._hold(session, message)
            self._fetch(session, now_ns)
        else:
            self._define(reason, message, head, now_ns, commit)

    def _refuse(self, reason: int, message: bytes) -> None:
        """Not one of our frames: an event row, but a flood of them must not become a flood of rows."""
        self.strangers += 1
        if _now_and_then(self.strangers):
            what = {
                core.MALFORMED: "not a valid frame",
                core.UNKNOWN_FEED: "a feed number that is not configured",
                core.WRONG_SCHEMA: "a table declared otherwise than here",
                core.GAP: "a frame that its feed's outbox does not know",
            }[reason]
            feed = wire.header(message).feed if reason != core.MALFORMED else 0
            text = f"{what}: {len(message)} bytes {message[:16].hex()}; {self.strangers} such so far"
            self.report("malformed", about=feed, text=text)
            log.warning("refused a message: %s", text)

    def _define(
        self, reason: int, message: bytes, head: wire.Header, now_ns: int,
        commit: Callable[[], None],
    ) -> None:  # fmt: skip
        """Rows that need a word before they are taken: definitions, or codes never defined."""
        rows = self.day.schema.numbered(head.table).rows(memoryview(message)[wire.HEADER_SIZE :])
        if reason == core.DEFINITIONS:
            try:
                self.day.define(head.feed, rows, now_ns)
            except SchemaError as e:
                self.report("refused", about=head.feed, session=head.session, first=head.seq,
                            last=head.seq + head.count - 1, text=str(e))  # fmt: skip
                log.error("feed %s: %s", self.feeds[head.feed].name, e)
                self._undefined(head.feed, rows["code"].tolist())
        if not self._take_one(message, now_ns, commit):
            session = self.feeds[head.feed]
            session.undefined += 1
            if _now_and_then(session.undefined):
                self.report("undefined", about=head.feed, session=head.session, first=head.seq,
                            last=head.seq + head.count - 1, text=UNDEFINED)  # fmt: skip
            self._undefined(head.feed, rows["instrument"].tolist())
            if not self._take_one(message, now_ns, commit):  # codes beyond instruments_max
                self._take_one(self._nameless(message, head), now_ns, commit)

    def _take_one(self, message: bytes, now_ns: int, commit: Callable[[], None]) -> bool:
        """Take a message whose definitions are dealt with; False if its codes are not defined."""
        while self.intake.take([message], 0, now_ns, True) == 0:
            if self.intake.reason != core.STAGE_FULL:
                return False
            commit()
        return True

    def _nameless(self, message: bytes, head: wire.Header) -> bytes:
        """The same frame, its rows without an instrument."""
        rows = self.day.schema.numbered(head.table).rows(bytearray(message[wire.HEADER_SIZE :]))
        rows["instrument"] = 0
        return core.seal(
            rows.view("u1"), wire.ROWS, table=head.table, feed=head.feed, session=head.session,
            seq=head.seq, feed_row=head.feed_row, feed_sum=head.feed_sum, time_ns=head.time_ns,
            count=head.count, schema=head.schema,
        )  # fmt: skip

    def _undefined(self, feed: int, codes: list[int]) -> None:
        known = memoryview(bytes(self.intake.codes(feed))).cast("I")
        limit = self.day.config.tickerplant.instruments_max
        for code in set(codes):
            if code < limit and (code >= len(known) or known[code] == 0xFFFFFFFF):
                self.intake.define(feed, code, 0)

    def _hold(self, session: Session, message: bytes) -> None:
        if session.held_bytes + len(message) <= self.held_max:
            session.held.append(message)
            session.held_bytes += len(message)

    def _fetch(self, session: Session, now_ns: int) -> None:
        """Ask the outbox for what comes after what the plant has; again after a second of silence."""
        at = monotonic_ns()
        if session.fetching and at - session.asked_ns < RETRY_NS:
            return
        have, seq = self.intake.session(session.number)
        session.fetching, session.asked_ns = True, at
        self._send(session, wire.pack("fetch", session=have, seq=seq, bytes=FETCH_BYTES))

    def _send(self, session: Session, message: bytes) -> bool:
        """Send to a feed's outbox; False if it can't be now, and so has to be sent again."""
        try:
            self.router.send_multipart([session.route, message], zmq.DONTWAIT)
        except zmq.ZMQError:  # not connected, or its queue is full
            session.connected = False
            return False
        return True

    def turn(self, now_ns: int, commit: Callable[[], None]) -> None:
        """Hear the outboxes, and ask again those that owe an answer."""
        while readable(self.router):
            parts = self._receive()
            if not parts:
                continue
            try:
                self._hear(parts, now_ns, commit)
            except FrameError as e:
                self.strangers += 1
                log.warning("refused a message of %r: %s", parts[0][:64], e)
        for session in self.feeds.values():
            if session.fetching and monotonic_ns() - session.asked_ns >= RETRY_NS:
                self._fetch(session, now_ns)

    def _receive(self) -> list[bytes]:
        """A message from the outboxes; nothing if its sender is not who it says."""
        if not self._keyed:
            return self.router.recv_multipart(zmq.DONTWAIT)
        frames = self.router.recv_multipart(zmq.DONTWAIT, copy=False)
        key, parts = key_name(frames[-1]), [f.bytes for f in frames]
        session = self._by_name.get(key.encode())
        if session and (parts[0][:1] == b"\0" or parts[0] == key.encode()):
            session.route = parts[0]
            return [key.encode(), *parts[1:]]
        self._refuse_key(key, f"a message with the routing id {parts[0][:32]!r}")
        return []

    def _hear(self, parts: list[bytes], now_ns: int, commit: Callable[[], None]) -> None:
        session = self._by_name.get(parts[0])
        if session is None or len(parts) not in (2, 3):
            raise FrameError("not one of the feeds in the configuration")
        message = wire.unpack(parts[1])
        session.connected = True
        op = message.get("op")
        if op == "hello":
            theirs = (wire.field(message, "session", "int"), wire.field(message, "seq", "int"))
            session.acknowledged = (0, 0)
            if theirs > self.intake.session(session.number):
                session.asked_ns = 0
                self._fetch(session, now_ns)
        elif op == "frames" and len(parts) == 3:
            self._fetched(session, message, parts[2], now_ns, commit)
        else:
            raise FrameError(f"an outbox may not say {op!r}")

    def _fetched(
        self, session: Session, message: dict[str, Any], blob: bytes, now_ns: int,
        commit: Callable[[], None],
    ) -> None:  # fmt: skip
        asked = (wire.field(message, "session", "int"), wire.field(message, "seq", "int"))
        before = self.intake.session(session.number)
        if not session.fetching or asked > before:
            return  # not what was asked
        frames = [blob[at : at + size] for at, size in core.index(blob)[:, :2].tolist()]
        for frame in frames:
            self._take_fetched(session, frame, now_ns, commit)
        if message.get("more"):
            session.asked_ns = 0
            self._fetch(session, now_ns)
            return
        session.fetching = False
        held, session.held, session.held_bytes = session.held, deque(), 0
        session.vain = session.vain + 1 if held and self.intake.session(session.number) == before else 0
        if session.vain > VAIN_MAX:
            self._refuse(core.GAP, held[-1])
        else:
            self.take(list(held), now_ns, commit)

    def _take_fetched(self, session: Session, frame: bytes, now_ns: int, commit: Callable[[], None]) -> None:
        """A frame from the outbox: what is missing before it can't be had any more."""
        if core.check(frame) or wire.header(frame).feed != session.number:
            self._refuse(core.MALFORMED, frame)
            return
        head = wire.header(frame)
        upto = head.seq + head.count
        have, next_seq = self.intake.session(session.number)
        if (head.session, upto) <= (have, next_seq):
            return  # the answer came twice, or live frames were faster
        if head.session != have:
            self._begin(session, head)
        elif head.seq > next_seq:
            self._lose(session, have, next_seq, head.seq, GONE)
        while self.intake.take([frame], 0, now_ns) == 0:
            reason = self.intake.reason
            if reason == core.STAGE_FULL:
                commit()
            elif reason in (core.DEFINITIONS, core.UNDEFINED_CODE):
                self._define(reason, frame, head, now_ns, commit)
            else:
                self._refuse(reason, frame)
                self._lose(session, head.session, head.seq, upto, REFUSED)
            if self.intake.session(session.number) >= (head.session, upto):
                return

    def _begin(self, session: Session, head: wire.Header) -> None:
        self.intake.begin(session.number, head.session, 0)
        self.report("session", about=session.number, session=head.session, first=head.seq,
                    last=head.seq, text=f"feed {session.name} began a session")  # fmt: skip
        if head.seq:
            self._lose(session, head.session, 0, head.seq, GONE)

    def _lose(self, session: Session, of: int, first: int, upto: int, why: str) -> None:
        """Rows [first, upto) of a session are gone: loss is data."""
        session.gaps += 1
        self.intake.skip(session.number, upto)
        self.report("gap", about=session.number, session=of, first=first, last=upto - 1, text=why)
        log.error("feed %s: session %d, rows %d to %d: %s", session.name, of, first, upto - 1, why)

    def acknowledge(self, positions: dict[int, tuple[int, int]]) -> None:
        """Tell each outbox up to where its rows are durable: (session, next seq) by feed."""
        for number, session in self.feeds.items():
            at = positions[number]
            if at <= session.acknowledged or not at[0]:
                continue
            if self._send(session, wire.pack("ack", session=at[0], seq=at[1])):
                session.acknowledged = at


def _now_and_then(count: int) -> bool:
    """True for the 1st, 2nd, 4th, 8th, ... of many."""
    return count & (count - 1) == 0
