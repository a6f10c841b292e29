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
from collections.abc import Callable, Iterable

import zmq

from tickplant import wire
from tickplant._core import framing
from tickplant._core.drain import Drain
from tickplant._core.intake import (
    CONTROL,
    DEFINITIONS,
    GAP,
    MALFORMED,
    NEW_SESSION,
    STAGE_FULL,
    TAKEN,
    TOO_LARGE,
    UNDEFINED_CODE,
    UNKNOWN_FEED,
    WRONG_SCHEMA,
)
from tickplant.claimants import FETCH_BYTES, Claimants, Session
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns
from tickplant.config import Limits
from tickplant.conversion import Conversion
from tickplant.day import Day
from tickplant.definitions import Definitions
from tickplant.dialogue import (
    FROM_FEED,
    ROWS_MAX,
    Ack,
    AskPlace,
    Beside,
    Fetch,
    Follow,
    Frames,
    Hello,
    OfFeed,
    OfPlant,
    Place,
    Reason,
    route,
)
from tickplant.errors import FrameError, MessageDamaged, TickplantError
from tickplant.identity import Identity
from tickplant.outboxes import LOOK_NS as READ_NS
from tickplant.outboxes import Outboxes
from tickplant.refusals import Refusals, Report
from tickplant.sockets import context, is_keyed, key_name, readable

log = logging.getLogger(__name__)

FETCH_BYTES_MIN = 1 << 16
RETRY_NS = SECOND_NS
LOOK_NS = 250 * MILLISECOND_NS
AWAY_NS = 50 * MILLISECOND_NS
VAIN_MAX = 2
ANSWERS_QUEUED = 16
GONE = "rows that the feed's outbox does not have any more, or has damaged"
DROPPED = "rows that the feed dropped, for its outbox was full (outbox.when_full)"
REFUSED = "rows that do not fit the tables declared here, or its limits"


def sockets(limits: Limits) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """The sockets for live frames and for the outboxes, unbound, their memory bounded per connection.

    A live frame that finds its queue full stays in the connection, and behind it in the memory of its feed,
    which has a bound of its own and goes on in the outbox: nothing is lost for it.
    """
    sub = context().socket(zmq.SUB)
    sub.setsockopt(zmq.MAXMSGSIZE, wire.HEADER_SIZE + limits.frame_bytes)
    sub.setsockopt(zmq.RCVHWM, max(1, limits.queue_bytes // limits.frame_bytes))
    sub.setsockopt(zmq.SUBSCRIBE, b"")
    router = context().socket(zmq.ROUTER)
    router.setsockopt(zmq.MAXMSGSIZE, FETCH_BYTES + wire.HEADER_SIZE + limits.frame_bytes)
    router.setsockopt(zmq.RCVHWM, ANSWERS_QUEUED)
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.ROUTER_HANDOVER, 1)
    return sub, router


class Ingress:
    """Takes messages into the day's intake and sees to it that each feed's rows are all there, in order."""

    def __init__(self, day: Day, router: zmq.Socket[bytes], report: Report) -> None:
        self.day, self.router, self.report = day, router, report
        self.identity = Identity(day.config.plant.name, day.registry.identity)
        self.intake, self.limits = day.intake, day.config.limits
        self.intake.limit(self.limits.frame_bytes, self.limits.frame_rows)
        self.held_max = day.config.tickerplant.held_bytes_max
        self.refusals, self.definitions = Refusals(report), Definitions(day, report)
        self.conversion = Conversion(day)
        self.claimants = Claimants(self.intake, report, self.identity, self._send)
        self.outboxes = Outboxes(self.intake, self.limits.frame_bytes)
        plant = day.config.plant.name
        self.feeds = {f.id: Session(n, f.id, route=route(plant, n)) for n, f in day.config.feeds.items()}
        self._by_name = {s.name.encode(): s for s in self.feeds.values()}
        self._by_route = {s.route: s for s in self.feeds.values()}
        self._numbers = {s.name: wire.number(s.number) for s in self.feeds.values()}
        self._keyed = is_keyed(router)
        self._look_ns = self._read_ns = 0
        self._unread: set[int] = set()

    @property
    def strangers(self) -> int:
        """Messages refused so far."""
        return self.refusals.strangers

    def may_say(self, key: str, message: bytes) -> bool:
        """Does a live message come over the connection of the feed that it says it is of? Told if not."""
        if self._numbers.get(key) == message[wire.FEED]:
            return True
        claimed = int.from_bytes(message[wire.FEED], "little")
        self._refuse_key(key, f"a message in the name of feed number {claimed}")
        return False

    def _refuse_key(self, key: str, what: str) -> None:
        feed = self._by_name.get(key.encode())
        self.refusals.key(key, feed.number if feed else 0, what)

    def take(self, messages: list[bytes], now_ns: int, commit: Callable[[], None]) -> None:
        """Take live messages in order."""
        at = 0
        while (at := self.intake.take(messages, at, now_ns)) < len(messages):
            if self.intake.reason == STAGE_FULL:
                commit()
            else:
                self._decide(self.intake.reason, messages[at], now_ns, commit)
                at += 1

    def pour(self, drain: Drain, now_ns: int, commit: Callable[[], None]) -> None:
        """Take what has come to the drain's socket."""
        while reason := drain.pour(now_ns):
            if reason == STAGE_FULL:
                commit()
            else:
                self._decide(reason, drain.message(), now_ns, commit)

    def read(self, numbers: Iterable[int], now_ns: int, commit: Callable[[], None]) -> None:
        """Take what these feeds have written on this host."""
        for number in numbers:
            if number in self.feeds and self.feeds[number].fetching:
                self._unread.add(number)  # what it has written will follow what is fetched
                self.outboxes.more.discard(number)
            elif frames := self.outboxes.read(number):
                self.outboxes.went(number, self._written(number, frames, now_ns, commit))

    def _written(self, number: int, frames: memoryview, now_ns: int, commit: Callable[[], None]) -> int:
        """Take frames from an outbox; how many bytes are done with."""
        at = 0
        while True:
            at, reason = self.intake.take_written(number, frames, at, now_ns), self.intake.reason
            if reason == TAKEN:
                return at
            if reason == STAGE_FULL:
                commit()
                continue
            if reason == MALFORMED:
                self.outboxes.leave(number)  # what is wrong with it will be found as it is fetched
                return at
            size = wire.HEADER_SIZE + wire.header(frames, at).size
            self._decide(reason, bytes(frames[at : at + size]), now_ns, commit)
            at += size

    def _decide(self, reason: int, message: bytes, now_ns: int, commit: Callable[[], None]) -> None:
        if reason == WRONG_SCHEMA and (session := self.feeds.get(wire.header(message).feed)):
            self._former(session, message, now_ns, commit)
            return
        if reason in (MALFORMED, UNKNOWN_FEED, WRONG_SCHEMA, TOO_LARGE):
            self.refusals.frame(reason, message)
            return
        head = wire.header(message)
        session, have = self.feeds.get(head.feed), self.intake.session(head.feed)
        if session is None:
            self.refusals.frame(UNKNOWN_FEED, message)
        elif reason == CONTROL:
            if head.session == have[0]:
                session.seen_ns = monotonic_ns()
            if (head.session, head.seq) > have:
                self._fetch(session)
        elif reason == NEW_SESSION and head.session < have[0]:
            # An old session's last words; its outbox has told already, unless it is not over for its feed.
            if head.seq + head.count > session.ended.get(head.session, 0):
                self.claimants.late(session, head.session)
        elif reason == NEW_SESSION and self.claimants.is_rival(session, head.session):
            self.claimants.beside(session, head.session, answer=False)
        elif reason in (NEW_SESSION, GAP):
            self._hold(session, message)
            self._fetch(session)
        else:
            self.definitions.take(reason, message, now_ns, commit)

    def _former(self, session: Session, message: bytes, now_ns: int, commit: Callable[[], None]) -> None:
        """A live frame of a table that is declared otherwise now: taken in its turn."""
        head, have = wire.header(message), self.intake.session(session.number)
        if self.conversion.former(head) is None:  # its outbox tells of it, and is told why it is not taken
            self.refusals.frame(WRONG_SCHEMA, message)
        elif (head.session, head.seq) == have:
            self._convert(session, head, message, now_ns, commit)
        elif (head.session, head.seq) > have and not self.claimants.is_rival(session, head.session):
            self._hold(session, message)
            self._fetch(session)

    def _convert(
        self, session: Session, head: wire.Header, frame: bytes, now_ns: int, commit: Callable[[], None]
    ) -> bool:
        """Take a frame by the names of its columns; False if the plant never had a table declared so."""
        old = self.conversion.former(head)
        if old is None:
            session.reason = (
                f"rows of table number {head.table} are declared otherwise than {self.day.config.path} ever "
                "said: give the feed the plant's tables, or the plant the feed's (tickplant eod --stop), and "
                "restart; until then the feed keeps its rows"
            )
            return False
        session.reason = ""
        made = self.conversion.converted(head, frame, old)
        upto = head.seq + head.count
        if made is None:
            kept = f"aside/{old.name}-{old.fingerprint:08x}"
            why = f"rows of {old.name}, which is declared no more: kept in {kept}"
            self._lose(session, head.session, head.seq, upto, why)
            return True
        while self.intake.take([made], 0, now_ns) == 0:
            reason = self.intake.reason
            if reason == STAGE_FULL:
                commit()
            elif reason in (DEFINITIONS, UNDEFINED_CODE):
                self.definitions.take(reason, made, now_ns, commit)
            else:
                self.refusals.frame(reason, frame)
                self._lose(session, head.session, head.seq, upto, REFUSED)
            if self.intake.session(session.number) >= (head.session, upto):
                break
        return True

    def _hold(self, session: Session, message: bytes) -> None:
        if session.held_bytes + len(message) <= self.held_max:
            session.held.append(message)
            session.held_bytes += len(message)

    def _fetch(self, session: Session, *, at_once: bool = False) -> None:
        """Ask the outbox for what comes after what the plant has; again after a second of silence."""
        at = monotonic_ns()
        if session.fetching and not at_once and at - session.asked_ns < RETRY_NS:
            return
        have, seq = self.intake.session(session.number)
        session.fetching, session.asked_ns, session.asked = True, at, (have, seq)
        self._send(session, Fetch(session=have, seq=seq, bytes=session.asked_bytes, **self._whose(session)))

    def _whose(self, session: Session) -> dict[str, str]:
        """What each message to a feed says of the plant, and of what is wrong with the feed."""
        return {"plant": self.identity.plant, "identity": self.identity.token, "reason": session.reason}

    def _send(self, session: Session, message: OfPlant) -> bool:
        """Send to a feed's outbox; False if it can't be now, and so has to be sent again."""
        session.connected = self._answer(session.route, message)
        return session.connected

    def _answer(self, to: bytes, message: OfPlant) -> bool:
        try:
            self.router.send_multipart([to, message.packed()], zmq.DONTWAIT)
        except zmq.ZMQError:  # not connected, or its queue is full
            return False
        return True

    def turn(self, now_ns: int, commit: Callable[[], None]) -> None:
        """Hear the outboxes, and ask again those that owe an answer."""
        messages, size = 0, 0
        while messages < self.limits.repair_messages and size < 2 * FETCH_BYTES and readable(self.router):
            parts = self._receive()
            messages += 1
            size += sum(map(len, parts))
            if parts:
                self._hear_safely(parts, now_ns, commit)
        at = monotonic_ns()
        unread, self._unread = self._unread, set()
        if at - self._read_ns >= READ_NS:
            self._read_ns = at
            unread |= self.outboxes.followed.keys()
        self.read(unread, now_ns, commit)
        if at - self._look_ns >= LOOK_NS:
            self._look_ns = at
            for session in self.feeds.values():
                self.claimants.look(session)
        for session in self.feeds.values():
            if session.fetching and at - session.asked_ns >= RETRY_NS:
                session.asked_bytes = max(FETCH_BYTES_MIN, session.asked_bytes // 2)
                self._fetch(session)

    def _receive(self) -> list[bytes]:
        """A message from the outboxes; nothing if its sender is not who it says."""
        if not self._keyed:
            return self.router.recv_multipart(zmq.DONTWAIT)
        frames = self.router.recv_multipart(zmq.DONTWAIT, copy=False)
        key, parts = key_name(frames[-1]), [f.bytes for f in frames]
        session = self._by_name.get(key.encode())
        if session and (parts[0][:1] == b"\0" or parts[0] == session.route):
            session.route = parts[0]
            self._by_route = {s.route: s for s in self.feeds.values()}
            return parts
        self._refuse_key(key, f"a message with the routing id {parts[0][:32]!r}")
        if session is None:
            self._explain(parts[0], self._unlisted(key))
        return []

    def _hear_safely(self, parts: list[bytes], now_ns: int, commit: Callable[[], None]) -> None:
        """What goes wrong with a peer's message costs that peer an error, never the plant."""
        try:
            self._hear(parts, now_ns, commit)
        except FrameError as e:
            self.refusals.peer(parts[0], str(e))
        except TickplantError:
            raise  # a disk that fails is nobody's message
        except Exception as e:
            log.exception("a message of %r was not foreseen", parts[0][:32])
            self.refusals.peer(parts[0], f"{type(e).__name__}: {e}")

    def _hear(self, parts: list[bytes], now_ns: int, commit: Callable[[], None]) -> None:
        if len(parts) not in (2, 3):
            raise FrameError(f"a message of {len(parts) - 1} parts")
        message = FROM_FEED.read(parts[1])
        session = self._by_route.get(parts[0])
        if why := self._stranger(session, message):
            self._explain(parts[0], why)
            raise FrameError(why)
        assert session is not None
        session.connected = True
        if not self.claimants.is_believable(message):
            raise FrameError(f"a session that is further ahead than any clock can be: {message}")
        if isinstance(message, Hello):
            self._hello(session, message)
        elif isinstance(message, Beside):
            self._beside(session, message)
        elif isinstance(message, AskPlace):
            have = self.intake.session(session.number)
            alive = self.claimants.is_alive(session)
            self._send(session, Place(session=have[0], seq=have[1], alive=alive, **self._whose(session)))
        elif isinstance(message, Frames):
            blob = parts[2] if len(parts) == 3 else b""
            # Damaged on its way is asked for again; damaged where it lies, which each frame tells, is gone.
            if message.crc != framing.crc32c(blob):
                raise MessageDamaged("an answer that was damaged on its way")
            self._fetched(session, message, blob, now_ns, commit)

    def _stranger(self, session: Session | None, message: OfFeed) -> str:
        """Why the sender is not a feed of this plant; empty if it is."""
        if message.of.differs(self.identity):
            return (
                f"feed {message.feed!r} is one of {message.of}, and this is {self.identity}: give each plant "
                "endpoints of its own (tickerplant.ingress, tickerplant.repair)"
            )
        if session is None or message.feed != session.name:
            return self._unlisted(message.feed)
        if message.number != session.number:
            return (
                f"feed {message.feed!r} says that its number is {message.number}; with the ticker plant it "
                f"is {session.number}: give both the same feeds.{session.name}.id"
            )
        return ""

    def _unlisted(self, feed: str) -> str:
        return (
            f"the ticker plant runs with a configuration that has no feed {feed!r}: add [feeds.{feed}] to "
            f"{self.day.config.path}, and restart it"
        )

    def _explain(self, to: bytes, why: str) -> None:
        """Tell a peer why nothing of what it says is taken."""
        self._answer(to, Reason(plant=self.identity.plant, identity=self.identity.token, reason=why))

    def _hello(self, session: Session, message: Hello) -> None:
        theirs, have = (message.session, message.seq), self.intake.session(session.number)
        session.acknowledged = (0, 0)
        if self.claimants.hello(session, theirs, have, message.process) and theirs > have:
            self._fetch(session, at_once=True)

    def _beside(self, session: Session, message: Beside) -> None:
        """A feed may be on this host: then what it keeps is read, and it need not publish."""
        config = self.day.config
        if config.tickerplant.follow_outboxes and self.outboxes.follow(
            session.number, config.outbox_dir(session.name), message
        ):
            self._send(session, Follow(session=message.session, **self._whose(session)))
            self._unread.add(session.number)

    def _fetched(
        self, session: Session, message: Frames, blob: bytes, now_ns: int, commit: Callable[[], None]
    ) -> None:
        asked = (message.session, message.seq)
        before = self.intake.session(session.number)
        if not session.fetching or asked > before:
            return  # not what was asked
        session.asked_bytes = min(FETCH_BYTES, session.asked_bytes * 2)
        frames = [blob[at : at + size] for at, size in framing.index(blob)[:, :2].tolist()]
        if before[0] and not message.knows and self.claimants.is_alive(session):
            self._release(session)
            self.claimants.beside(session, message.mine)
            return
        for frame in frames:
            if not self._take_fetched(session, frame, now_ns, commit):
                self._release(session)
                self._explain(session.route, session.reason)
                # Asked again, but seldom: it has to be mended by people.
                session.fetching, session.asked_ns = True, monotonic_ns() + 4 * RETRY_NS
                return
        if asked != session.asked:
            return  # it has been asked again since; were both to be gone on from, the rest would come twice
        if message.more:
            self._fetch(session, at_once=True)
            return
        held = self._release(session)
        session.vain = session.vain + 1 if held and self.intake.session(session.number) == before else 0
        if session.vain > VAIN_MAX:
            self.refusals.frame(GAP, held[-1])
            claimed = wire.header(held[-1]).session
            session.rival = claimed if claimed > before[0] else 0
        else:
            self.take(list(held), now_ns, commit)

    def _release(self, session: Session) -> deque[bytes]:
        """There is no more to be fetched now; what was held meanwhile."""
        held, session.held, session.held_bytes = session.held, deque(), 0
        session.fetching = False
        return held

    def _take_fetched(self, session: Session, frame: bytes, now_ns: int, commit: Callable[[], None]) -> bool:
        """A frame from the outbox: what is missing before it can't be had any more.

        False: it can't be taken before the configuration is mended.
        """
        if framing.check(frame) or wire.header(frame).feed != session.number:
            self.refusals.frame(MALFORMED, frame)
            return True
        head = wire.header(frame)
        upto = head.seq + head.count
        if upto > ROWS_MAX or not self.claimants.may_begin(head.session):
            self.refusals.frame(MALFORMED, frame)  # and nothing of it may move the place where the feed is
            return True
        have, next_seq = self.intake.session(session.number)
        if (head.session, upto) <= (have, next_seq):
            return True  # the answer came twice, or live frames were faster
        why = DROPPED if head.kind == wire.HEARTBEAT and not head.size else GONE
        if head.session != have:
            self._begin(session, head, why)
        elif head.seq > next_seq:
            self._lose(session, have, next_seq, head.seq, why)
        if head.kind == wire.HEARTBEAT:
            return True
        while self.intake.take([frame], 0, now_ns) == 0:
            reason = self.intake.reason
            if reason == STAGE_FULL:
                commit()
            elif reason in (DEFINITIONS, UNDEFINED_CODE):
                self.definitions.take(reason, frame, now_ns, commit)
            elif reason == WRONG_SCHEMA:
                return self._convert(session, head, frame, now_ns, commit)
            else:
                self.refusals.frame(reason, frame)
                self._lose(session, head.session, head.seq, upto, REFUSED)
            if self.intake.session(session.number) >= (head.session, upto):
                return True
        return True

    def _begin(self, session: Session, head: wire.Header, why: str) -> None:
        session.end(self.intake.session(session.number))
        self.intake.begin(session.number, head.session, 0)
        self.report("session", about=session.number, session=head.session, first=head.seq,
                    last=head.seq, text=f"feed {session.name} began a session")  # fmt: skip
        if head.seq:
            self._lose(session, head.session, 0, head.seq, why)

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
            now = monotonic_ns()
            if not session.connected and now - session.tried_ns < AWAY_NS:
                continue  # to find out again and again that it is away costs more than rows do
            follows = number in self.outboxes.followed
            if self._send(session, Ack(session=at[0], seq=at[1], follows=follows, **self._whose(session))):
                session.acknowledged = at
            else:
                session.tried_ns = now
