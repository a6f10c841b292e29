"""The ticker plant: sequence, journal, tables, wake; and the roll of the day. Nothing else.

One thread takes what has come in, gives rows their numbers, writes them to the journal in one write,
makes them visible and wakes whoever sleeps. A second thread syncs the journal, a third allocates
shared memory ahead. It answers no query and knows no reader.
"""

import contextlib
import ctypes
import logging
import os
import signal
from collections import deque
from pathlib import Path
from typing import Any

import zmq

from tickplant import identity, roster, segment, wire
from tickplant._core import framing, rowsums
from tickplant._core.drain import BELL, MESSAGE, Drain
from tickplant._core.intake import STAGE_FULL
from tickplant.clock import MILLISECOND_NS, SECOND_NS, date_after, monotonic_ns, now_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.curve import Guard
from tickplant.dates import trading_dates
from tickplant.day import Day, declared, defines_any, identity_in
from tickplant.dialogue import FROM_OPERATOR, Define, EndOfDay
from tickplant.doorbell import Doorbell
from tickplant.errors import FrameError, JournalDamaged, SchemaError, TickplantError
from tickplant.finished import FinishedDates
from tickplant.identity import Identity
from tickplant.ingress import Ingress
from tickplant.ingress import sockets as ingress_sockets
from tickplant.instruments import named
from tickplant.journal import segments
from tickplant.keys import FEEDS
from tickplant.lock import Lock
from tickplant.registry import RegistryWriter
from tickplant.schema import Schema
from tickplant.sockets import bind, context, is_keyed, key_name, library, readable, restore
from tickplant.syncer import Syncer

log = logging.getLogger(__name__)

DRAIN_MESSAGES = 512
DRAIN_BYTES = 1 << 21
TURN_MS = 10
TIDY_NS = SECOND_NS
KEPT_BYTES = 8 * DRAIN_BYTES
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_INT_MAX = (1 << 63) - 1


def _lock(*paths: Path) -> list[Lock]:
    """All of these locks, or none."""
    held: list[Lock] = []
    try:
        for path in paths:
            held.append(Lock(path, "ticker plant"))
    except TickplantError:
        for lock in held:
            lock.release()
        raise
    return held


def _keep_memory() -> None:
    """Have malloc keep what a turn frees: to give it back and fault it in anew each turn took a fifth of
    the ticker plant's time under load."""
    with contextlib.suppress(AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)


class TickerPlant:
    """One plant's writer. `open`, then `turn` again and again, then `close`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.settings = config.tickerplant
        self._locks = _lock(
            config.plant.data_dir / "tickerplant.lock",
            *segment.reserve(f"tp.{config.plant.name}.lock"),
        )
        self._syncer = Syncer(self.settings.sync_interval_ms * MILLISECOND_NS)
        self._drain: Drain | None = None
        self._housekeep_ns = self._tidy_ns = 0
        self._marks: deque[tuple[int, dict[int, tuple[int, int]]]] = deque()

    def open(self) -> None:
        """Recover, take the endpoints, be ready to turn."""
        _keep_memory()
        plant = self.config.plant
        # First, for it is the one thing in shared memory that nothing goes on without.
        self.control = Control.create(plant.name, self.config.schema, plant.data_dir)
        repeated, data = identity_in(self.config.journal_dir)
        token = identity.own(plant.data_dir, repeated, data)
        self.identity = Identity(plant.name, token)
        roster.note(plant.data_dir, {name: feed.id for name, feed in self.config.feeds.items()})
        if data and not segments(self.config.registry_dir) and defines_any(self.config.journal_dir):
            raise JournalDamaged(
                f"there is no registry in {self.config.registry_dir}, and the journals in "
                f"{self.config.journal_dir} name instruments by its numbers: put it back from a backup "
                f"(cp -a BACKUP/registry {self.config.registry_dir}), or begin with no data "
                f"(mv {plant.data_dir} {plant.data_dir}.old; with an hdb, also with another plant.name)"
            )
        self.registry = RegistryWriter(self.config.registry_dir, plant.name, token)
        self.registry.open(self.settings.instruments_max)
        self.day = Day(self.config, self.registry)
        self.finished = FinishedDates(self.config, self.registry.identity)
        self.session = now_ns()
        self._take_up(self.day.newest(), self.day.today(self.session))
        self._own_counts: dict[int, tuple[int, int]] = {}
        self.day.intake.begin(0, self.session, 0)
        self._bind()
        self.ingress = Ingress(self.day, self.router, self.report)
        if self.day.journal.torn:
            self.report("torn", text=self.day.journal.torn)
        self._announce()
        self.control.own(os.getpid())
        self._syncer.start()
        self._next_roll_ns = self.config.calendar.next_roll_ns(now_ns())

    def _take_up(self, newest: int, today: int) -> None:
        """Recover the newest date, and begin the next if that one is over."""
        before = declared(self.config.journal_dir / str(newest)) if newest else self.config.schema
        if before.describe() != self.config.schema.describe():
            self._change_tables(before, newest, today)
            return
        unbegun = self.day.cut_short(newest)
        self.day.open(newest or unbegun or today)
        if newest and unbegun:
            self._close_day(unbegun)
        date = self.day.trading_date
        if date < today or self.day.sealed:
            self._close_day(max(today, self._after(date)) if self.day.sealed else today)

    def _change_tables(self, tables: Schema, newest: int, today: int) -> None:
        """Begin a date with other tables than the one before, which has to be sealed."""
        before = Day(self.config, self.registry, tables)
        before.open(newest)
        if not before.sealed:
            before.journal.close()
            self.day.open(newest)  # says what does not fit
        before.seal()
        state = before.state(self.config.schema)
        self.day.take_over(state)
        self.day.open(self.day.cut_short(newest) or max(today, self._after(newest)), state)
        if self.day.trading_date < today:
            self._close_day(today)

    def _bind(self) -> None:
        self.sub, self.router = ingress_sockets(self.config.limits)
        self.admin = context().socket(zmq.REP)
        self.guard = Guard(self.config, FEEDS)
        self.guard.bind(self.sub, self.settings.ingress, pings=False)
        self.guard.bind(self.router, self.settings.repair, pings=False)
        self._admin_endpoint = bind(self.admin, f"ipc://{self.config.plant.run_dir}/tickerplant.sock")

        self.doorbell = Doorbell(self.config.plant.run_dir)
        if not is_keyed(self.sub):  # else whose a message is has to be asked of each
            self._drain = Drain(self.day.intake, library(), self.sub.underlying)
        else:
            self._poller = zmq.Poller()
            self._poller.register(self.sub, zmq.POLLIN)
            self._poller.register(self.doorbell.fd, zmq.POLLIN)

    @staticmethod
    def _after(date: int) -> int:
        return date_after(date)

    def turn(self) -> bool:
        """One turn: what has come in, and now and then the rest. True if there was traffic."""
        more = self.ingress.outboxes.more
        there = self._wait(0 if more else TURN_MS)
        if there & MESSAGE:
            if self._drain:
                self.ingress.pour(self._drain, self._now(), self.commit)
            else:
                self.ingress.take(self._drain_keyed(), self._now(), self.commit)
        rung = self.doorbell.heard() if there & BELL else set()
        if unread := rung | more:
            self.ingress.read(unread, self._now(), self.commit)
        if busy := bool(there or unread):
            self.commit()
        at = monotonic_ns()
        self.control.heartbeat.store(at)
        if at >= self._housekeep_ns:
            self._housekeep_ns = at + 5 * MILLISECOND_NS
            self._housekeep(at)
        return busy

    def _wait(self, patience_ms: int) -> int:
        """Wait for a message or the doorbell: MESSAGE, BELL, both or 0."""
        if self._drain:
            return self._drain.wait(DRAIN_MESSAGES, DRAIN_BYTES, self.doorbell.fd, patience_ms)
        there = dict(self._poller.poll(patience_ms))
        return MESSAGE * (self.sub in there) | BELL * (self.doorbell.fd in there)

    def _drain_keyed(self) -> list[bytes]:
        """Where each connection has a name: what feeds say in their own, at most DRAIN_MESSAGES."""
        messages: list[bytes] = []
        size = 0
        with contextlib.suppress(zmq.Again):
            for _ in range(DRAIN_MESSAGES):
                frame = self.sub.recv(zmq.DONTWAIT, copy=False)
                message = frame.bytes
                if self.ingress.may_say(key_name(frame), message):
                    messages.append(message)
                size += len(message)
                if size > DRAIN_BYTES:
                    break
        return messages

    def commit(self) -> None:
        """Journal first, then visible, then wake."""
        journal = self.day.journal
        if self.day.commit(self.settings.durability == "always"):
            self.control.written.store(journal.position)
            self.control.bell.ring()
            if self.settings.durability == "group":
                self._syncer.want(self.day.journal)

    def _housekeep(self, at: int) -> None:
        if self._syncer.failed:
            raise self._syncer.failed
        self.ingress.turn(self._now(), self.commit)
        self.commit()
        self.day.look_ahead()
        self.day.bring_up()
        if self.day.checkpoint():
            self._syncer.want(self.day.journal)
        self.finished.turn()
        self._acknowledge()
        if readable(self.admin):
            self.admin.send(self._serve(self.admin.recv_multipart()[0]))
        if at >= self._tidy_ns:
            self._tidy_ns = at + TIDY_NS
            self.guard.look()
            self._restore()
            self.registry.catch_up()
            self.finished.tidy(self.day.trading_date)

    def _restore(self) -> None:
        """Make again what somebody removed from run_dir."""
        restore(self.admin, self._admin_endpoint)
        heard = self.doorbell.fd
        if self.doorbell.restore() and not self._drain:
            self._poller.unregister(heard)
            self._poller.register(self.doorbell.fd, zmq.POLLIN)

    def _now(self) -> int:
        """The time to stamp rows with, once the trading date that it belongs to has begun."""
        now = now_ns()
        if now >= self._next_roll_ns:
            self._next_roll_ns = self.config.calendar.next_roll_ns(now)
            if self.day.today(now) > self.day.trading_date:
                self.roll(self.day.today(now))
        return now

    def _acknowledge(self) -> None:
        """What is durable now is acknowledged to the outboxes, and shown to the hdb."""
        journal = self.day.journal
        durable = journal.position if self.settings.durability == "none" else journal.durable
        if durable != self.control.durable.load():
            self.control.durable.store(durable)
            self.control.synced.ring()
        reached = None
        while self._marks and self._marks[0][0] <= durable:
            reached = self._marks.popleft()[1]
        if reached:
            self.ingress.acknowledge(reached)
        if not self._marks or self._marks[-1][0] < journal.position:
            self._mark()

    def _mark(self) -> None:
        intake = self.day.intake
        sessions = {n: intake.session(n) for n in self.day.feed_numbers}
        if len(self._marks) < 1000:
            self._marks.append((self.day.journal.position, sessions))

    def roll(self, next_date: int) -> None:
        """Seal the trading date and begin the next. What feeds send meanwhile waits in its queue."""
        self.commit()
        log.info("rolling from %d to %d", self.day.trading_date, next_date)
        self._close_day(next_date)
        self._announce()

    def _close_day(self, next_date: int) -> None:
        self.day.seal()
        self._marks.clear()
        self.day.open(next_date)

    def _announce(self) -> None:
        """Tell readers which date is open and how far its journal is."""
        self.finished.look(self.day.trading_date)
        self.control.announce(self.day.trading_date)
        self.control.written.store(self.day.journal.position)
        self.control.durable.store(self.day.journal.durable)
        self.control.bell.ring()
        self.control.synced.ring()

    def report(
        self, kind: str, *, about: int = 0, session: int = 0, first: int = 0, last: int = 0,
        text: str = "",
    ) -> None:  # fmt: skip
        """Make a row of table `event`, as feed 0, by the same way as everybody's rows."""
        table = self.config.schema["event"]
        row = table.empty(1)
        row["ts_event"] = row["ts_recv"] = now = now_ns()
        row["kind"], row["about"], row["session"] = kind.encode(), about, min(session, _INT_MAX)
        row["first"], row["last"] = min(first, _INT_MAX), min(last, _INT_MAX)
        row["text"] = text.encode()[:96]
        data = row.tobytes()
        rows, total = self._own_counts.get(table.number, (0, 0))
        total += rowsums.row_sum(data, table.row_size, self.registry.instruments.hashes)
        frame = framing.seal(
            data, wire.ROWS, table=table.number, session=self.session, feed_row=rows,
            seq=self.day.intake.session(0)[1], feed_sum=total % (1 << 64), time_ns=now, count=1,
            schema=table.fingerprint,
        )  # fmt: skip
        self._own_counts[table.number] = (rows + 1, total)
        while self.day.intake.take([frame], 0, now) == 0:
            assert self.day.intake.reason == STAGE_FULL
            self.commit()

    def _serve(self, request: bytes) -> bytes:
        """The one command that an operator can give a running ticker plant."""
        try:
            asked = FROM_OPERATOR.read(request)
        except FrameError as e:
            return wire.pack("error", text=str(e))
        if isinstance(asked, Define):
            return self._define(asked)
        return self._end_of_day(asked)

    def _define(self, asked: Define) -> bytes:
        """Numbers for instruments that no feed defines: those of captures of past days."""
        try:
            checked = [named(venue.encode(), symbol.encode()) for venue, symbol in asked.names]
            numbers = self.registry.add(checked, now_ns())
        except (SchemaError, ValueError) as e:
            return wire.pack("error", text=str(e))
        self.day.grow_latest()
        return wire.pack("defined", numbers=numbers)

    def _end_of_day(self, asked: EndOfDay) -> bytes:
        sealed = self.day.trading_date
        date = asked.date or sealed
        if date > sealed:
            return wire.pack("error", text=f"{date} has not begun, {sealed} is open")
        if date < sealed and date not in trading_dates(self.config.plant.data_dir):
            return wire.pack("error", text=f"there was no trading date {date}; {sealed} is open")
        if date < sealed:  # somebody has asked before: nothing is to be done
            return wire.pack("rolled", sealed=date, trading_date=sealed)
        if asked.stop:
            self.commit()
            self.day.seal()
            os.kill(os.getpid(), signal.SIGTERM)  # the loop ends before the next turn
            return wire.pack("rolled", sealed=sealed, trading_date=0)
        self.roll(max(self.day.today(now_ns()), self._after(sealed)))
        return wire.pack("rolled", sealed=sealed, trading_date=self.day.trading_date)

    def _degraded(self) -> str | None:
        """What readers of shared memory lack for want of room, and what to do about it."""
        if said := self.day.degraded:
            return said
        if full := self.registry.full:
            return f"readers of shared memory do not see the newest instruments; {full}"
        return (
            f"readers of shared memory: an earlier date lacks rows; {full}"
            if (full := self.finished.full)
            else None
        )

    def status(self) -> dict[str, Any]:
        """How the plant is, for the status file."""
        intake, journal = self.day.intake, self.day.journal
        feeds = {
            s.name: {
                "connected": s.connected,
                "session": intake.session(n)[0],
                "next_seq": intake.session(n)[1],
                "fetching": s.fetching,
                "beside": n in self.ingress.outboxes.followed,
                "held_bytes": s.held_bytes,
                "gaps": s.gaps,
                "reason": s.reason or None,
            }
            for n, s in self.ingress.feeds.items()
        }
        return {
            "trading_date": self.day.trading_date,
            "rows": {t.table.name: t.columns.taken for t in self.day.tables},
            "journal_bytes": journal.position,
            "durable_bytes": journal.durable,
            "instruments": len(self.registry.instruments) - 1,
            "frames": intake.frames,
            "duplicates": intake.duplicates,
            "refused_messages": self.ingress.strangers,
            "degraded": self._degraded(),
            "feeds": feeds,
        }

    def close(self) -> None:
        """Stop in good order: everything taken is journaled and on disk."""
        self.commit()
        self._syncer.stop()
        self.day.grower.stop()
        self.day.journal.sync()  # says so if the syncer was refused meanwhile; closing would not
        self.day.journal.close()
        self.control.durable.store(self.day.journal.durable)
        self.control.pid.store(0)
        self.control.bell.ring()
        self.control.synced.ring()
        if self._drain:
            self._drain.close()
        self.ingress.outboxes.close()
        self.doorbell.close()
        for socket in (self.sub, self.router, self.admin):
            socket.close(linger=0)
        self.guard.close()
        for lock in self._locks:
            lock.release()
