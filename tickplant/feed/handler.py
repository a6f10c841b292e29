"""What every feed handler stands on: a numbered, batched, repairable way into the plant.

    with Feed(config, "mine") as feed:
        aapl = feed.instrument("XNAS", "AAPL")
        feed.trade(instrument=aapl, price=187.32, size=100.0, side=b"B")

A row goes into a batch; a batch becomes a frame with the session's next seq; the frame goes to the plant and
into the outbox. A thread beside sends batches that have waited long enough, and heartbeats; it gives the
plant what it missed, and drops from the outbox what the plant has made durable.
"""

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import zmq

from tickplant import identity, sockets, wire
from tickplant._core import framing
from tickplant._core.session import Session
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns, now_ns
from tickplant.config import Config
from tickplant.curve import feed_keys
from tickplant.doorbell import Ringer
from tickplant.errors import (
    Forked,
    JournalFull,
    SchemaError,
    TickplantError,
)
from tickplant.feed.batch import RowBatch, conform, encoded
from tickplant.feed.outbox import Outbox, Place
from tickplant.feed.repair import MEND_NS, Repair
from tickplant.feed.sender import Sender
from tickplant.instruments import full_name, named
from tickplant.schema import Rows, Table

FRAME_BYTES = 1 << 16
BATCH_ROWS = 1000
BATCH_NS = 2 * MILLISECOND_NS
HEARTBEAT_NS = 250 * MILLISECOND_NS
ASK_S = 0.2
_open: "weakref.WeakSet[Feed]" = weakref.WeakSet()


class Feed:
    """One feed's session: publish rows from any thread; close, and what was published is in the plant."""

    def __init__(
        self, config: Config, name: str, *, paced: bool = False, batch_rows: int = BATCH_ROWS
    ) -> None:
        """`paced`: wait for the plant rather than get more than WINDOW_BYTES ahead of it (for captures)."""
        self.config, self.name, self.paced, self.batch_rows = config, name, paced, batch_rows
        self.number = config.feed(name).id
        self.stopping = threading.Event()
        """Set when the process should end; a handler's loop looks at it."""
        self.beat: Callable[[], None] = lambda: None
        """Called as the handler publishes; what runs the process listens here."""
        self.problems: list[str] = []
        """What the handler knows to be wrong, for `tickplant status`."""
        self._heard_ns = 0
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        tables = sorted(config.schema, key=lambda t: t.name != "instrument")
        self._batches = {
            t.name: RowBatch(t, min(batch_rows, self._frame_rows(t)), partial(self.row, t.name))
            for t in tables
        }
        self._packed = [(b.packed, b.table) for b in self._batches.values()]
        self._codes: dict[str, int] = {}
        self._next_code = 1
        self._mend_ns = 0

    def __repr__(self) -> str:
        """Which feed it is, whether it is open, and what it has published."""
        sender = self.__dict__.get("_sender")
        said = "not open" if sender is None else f"{sender.seq - sender.dropped:,} rows published"
        return f"feed {self.name} (number {self.number}) of plant {self.config.plant.name}, {said}"

    def __enter__(self) -> "Feed":
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def rows_published(self) -> int:
        """Rows published in this session."""
        return self._sender.seq - self._sender.dropped

    def heard(self) -> None:
        """The venue has said something of its market.

        A feed whose handler calls this is stale by it, and not by the rows that it publishes.
        """
        self._heard_ns = monotonic_ns()

    def status(self) -> dict[str, Any]:
        """How the feed is, for its status file."""
        full, drops = self._sender.full, self._sender.drops
        return {
            "rows_published": self.rows_published,
            "rows_dropped": self._sender.dropped,
            # Of the boot; of the feed's beginning if nothing was heard, or published.
            "last_row_monotonic_ns": self._heard_ns or self._sender.rows_ns,
            "problems": list(self.problems),
            "waiting": (full if full and not drops else None) or self._repair.reason or None,
            "degraded": f"drops rows: {full}" if full and drops else None,
        }

    def _own(self) -> None:
        """Raises Forked in a child of its process; before the lock, which may be held for ever there."""
        if os.getpid() != self._process:
            raise Forked(
                f"feed {self.name} is one of process {self._process}, and this is its child {os.getpid()}: "
                "open the feed after the fork, in the process that publishes, or hand the rows to its parent "
                "(multiprocessing.Queue)"
            )

    def _frame_rows(self, table: Table) -> int:
        """Rows of a table that the plant takes in one frame."""
        limits = self.config.limits
        return max(1, min(limits.frame_rows, limits.frame_bytes // table.row_size))

    def open(self, ask_s: float = ASK_S) -> None:
        """Recover the outbox, connect, begin a session, later than the plant's if that says so in time.

        The feed belongs to the process that opens it.
        Raises ConfigError without the key it needs, AlreadyRunning if another process is this feed.
        """
        self._process = os.getpid()
        self._keys = feed_keys(self.config, self.name)
        o = self.config.outbox
        folder = self.config.outbox_dir(self.name)
        self._outbox = Outbox(
            folder, self.name, o.segment_bytes, o.max_bytes, self.number, self.config.plant.name
        )
        self._outbox.open()
        self._found = self._outbox.end
        if not self._outbox.binding.identity and (token := identity.known(self.config.plant.data_dir)):
            self._outbox.meet(token)  # its plant is on this host
        self._repair = Repair(self.config, self.name, self._keys, self._outbox)
        try:
            self.session = self._outbox.begin(self._repair.ask(ask_s))
        except TickplantError:
            self._repair.close()
            self._outbox.close()
            raise
        tables = [(t.number, t.row_size, t.fingerprint) for t in self.config.schema]
        self._sent = Session(self.number, self.session, tables)
        self._pub = sockets.context().socket(zmq.PUB)
        self._pub.setsockopt(zmq.SNDHWM, 0)  # bounded by WINDOW_BYTES instead
        self._live = sockets.Connection(self._pub, self.config.tickerplant.ingress, self._keys)
        self._ringer = Ringer(self.config.plant.run_dir, self.number)
        drops = o.when_full == "drop"
        self._sender = Sender(self.name, self._sent, self._outbox, self._pub, self._ringer, drops)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"feed {self.name}", daemon=True)
        self._thread.start()
        _open.add(self)

    def write_first(self) -> Place:
        """Where the outbox ended before this session; for handlers that go on from there after a crash.

        From now on each frame is in the outbox before it is sent, and the feed adds no rows of its own: that
        rows had to wait is in its status and log alone.
        """
        with self._lock:
            self._sender.writes_first = True
            return self._found

    def wait(self, seconds: float) -> bool:
        """Pause the handler; True if it should end. Call it, or `beat`, from the handler's own loop.

        Raises what made the feed fail, if it did.
        """
        self.beat()
        if self._sender.failed:
            raise self._sender.failed
        return self.stopping.wait(seconds)

    def instrument(self, venue: str, symbol: str, **definition: Any) -> int:
        """The code of an instrument in this session; defines it on first use.

        `definition`: further columns of table `instrument`, such as tick_size=0.01. Raises
        SchemaError if venue or symbol are too long, empty, or contain NUL.
        """
        self._own()
        with self._lock:
            code = self._codes.get(full_name(venue, symbol))
            if code is None:
                self._pace("instrument")  # others may define it meanwhile
                code = self._codes.get(full_name(venue, symbol))
            if code is None:
                code = self._next_code
                name = named(encoded(venue), encoded(symbol))
                # The name first: the row may be sent, and summed by it, at once.
                self._sent.name(code, full_name(*name).encode())
                self._add(
                    "instrument",
                    {"instrument": code, "code": code, "venue": venue, "symbol": symbol, **definition},
                )
                self._codes[full_name(*name)] = code
                self._next_code = code + 1
            return code

    def __getattr__(self, table: str) -> Callable[..., None]:
        """feed.trade(...) is feed.row("trade", ...), for each declared table, and faster.

        It takes no lock while the batch has rows and room. Whoever defined an instrument had the lock then,
        and definitions are sent before other rows: so none goes before the definition that it needs.
        """
        if table.startswith("_") or table not in self._batches:
            raise AttributeError(f"no table or attribute {table!r}")
        return self._batches[table].packed.push

    def row(self, table: str, **values: Any) -> None:
        """Publish one row, in the next batch.

        Columns not given: their default (`tables.NAME.defaults`), now for times, NaN for floats, else zero.

        Raises SchemaError for a table or column that is not declared, or a value that does not fit;
        JournalFull if the process should end and there is no room.
        """
        self._own()
        with self._lock:
            self._pace(table)
            self._add(table, values)

    def _add(self, table: str, values: dict[str, Any]) -> None:
        batch = self._batch(table)
        batch.add(now_ns(), values)
        if len(batch) >= batch.room:
            self.flush()

    def _batch(self, table: str) -> RowBatch:
        try:
            return self._batches[table]
        except KeyError:
            raise SchemaError(f"there is no table {table!r}") from None

    def _pace(self, table: str) -> None:
        """Wait until the plant is near enough, and until the batch has room for a row.

        Only before rows are touched: the lock is given up here.
        """
        self._wait(lambda: self.paced and self._sender.ahead())
        batch = self._batch(table)
        if len(batch) >= batch.room:
            self._await(lambda: len(batch) < batch.room or self._flushed())

    def _wait(self, hindered: Callable[[], bool]) -> bool:
        """Wait while it is so, unless the process should end; whether it is so still."""
        while (so := hindered()) and not self._sender.failed and not self.stopping.is_set():
            self.beat()  # a plant that is away is no hang of ours
            self._room.wait(0.1)
        if self._sender.failed:
            raise self._sender.failed
        return so

    def _await(self, done: Callable[[], bool]) -> None:
        """Wait until there is room and it is done. Raises JournalFull if the process should end instead."""
        if self._wait(lambda: not done()):
            raise JournalFull(
                f"{self._sender.full}; feed {self.name} is to end, and what it was given now is not published"
            )

    def append(self, table: str, rows: Rows) -> int:
        """Publish rows, now; the seq of the first. `rows` is a structured array, matched by column names.

        Rows of table `instrument` define their `code`s. Columns that `rows` lacks are filled as `row` fills
        those not given; a ts_recv of 0 becomes the time of this call, too.
        Raises SchemaError for columns that are not declared and values that do not fit; JournalFull if
        the process should end and there is no room: rows that come after `rows_published` are not published.
        """
        self._own()
        declared = self.config.schema[table]
        rows = conform(declared, rows, now_ns())
        with self._lock:
            self._await(self._flushed)
            if table == "instrument":
                rows = self._define(rows)
            first = self._sender.seq
            step = min(max(1, FRAME_BYTES // declared.row_size), self._frame_rows(declared))
            for at in range(0, len(rows), step):
                part = rows[at : at + step]
                self._wait(lambda: self.paced and self._sender.ahead())
                self._await(partial(self._sender.send, declared, part.view("u1"), len(part)))
                self._await(self._sender.written)
        self.beat()
        return first

    def _define(self, rows: Rows) -> Rows:
        """Know the instruments that these rows define; each row is about the instrument it defines."""
        limit = self.config.tickerplant.instruments_max
        for code, venue, symbol in rows[["code", "venue", "symbol"]].tolist():
            if not 0 < code < limit:
                raise SchemaError(f"instrument code {code} is not from 1 to {limit - 1}")
            name = full_name(*named(venue, symbol))
            self._sent.name(code, name.encode())
            self._codes.setdefault(name, code)
            self._next_code = max(self._next_code, code + 1)
        rows = rows.copy()
        rows["instrument"] = rows["code"]
        return rows

    def flush(self) -> None:
        """Publish what waits in batches, as far as there is room; definitions before the rest."""
        self._own()
        with self._lock:
            self._flushed()

    def _flushed(self, *, beyond: bool = False) -> bool:
        """Publish what waits in batches; False if there is no room for all."""
        if self._sender.blocked and not self._sender.writes_first:
            self._say_blocked()
        for packed, table in self._packed:
            if count := packed.rows:  # `push` may add some meanwhile
                rows = memoryview(packed)[: count * table.row_size]
                if not self._sender.send(table, rows, count, beyond=beyond):
                    return False
                packed.drop(count)
        return True

    def _say_blocked(self) -> None:
        """That rows had to wait is a row of table `event`."""
        text, batch = self._sender.blocked, self._batches["event"]
        if len(batch) < batch.room:
            self._sender.blocked = ""
            at = {"session": self.session, "first": self._sender.seq, "last": self._sender.seq}
            batch.add(now_ns(), {"kind": "blocked", "about": self.number, "text": text, **at})

    def _serve(self) -> None:
        """The thread beside: old batches, heartbeats, and the plant's requests."""
        try:
            while not self._ended.is_set():
                self._repair.turn(BATCH_NS // MILLISECOND_NS, self._sender, self._room)
                self._tend()
        except TickplantError as e:
            self._sender.failed = e
        finally:
            self._repair.close()

    def _tend(self) -> None:
        at = monotonic_ns()
        with self._lock:
            if at >= self._mend_ns:
                self._mend_ns = at + MEND_NS
                self._live.mend()
            if self._sender.written():
                self._flushed()
            if at - self._sender.sent_ns >= HEARTBEAT_NS:
                self._sender.sent_ns = at
                beat = framing.seal(b"", wire.HEARTBEAT, feed=self.number, session=self.session,
                                 seq=self._sender.seq, time_ns=now_ns())  # fmt: skip
                if not self._sender.muted:
                    self._pub.send(beat)

    def drained(self, timeout_s: float) -> bool:
        """Wait until the plant has made all that was published durable; False if it did not in time."""
        self._own()
        end = monotonic_ns() + int(timeout_s * SECOND_NS)
        with self._room:
            while not self._sender.failed and (
                not (self._flushed() and self._sender.written()) or not self._outbox.settled
            ):
                left = (end - monotonic_ns()) / SECOND_NS
                if left <= 0:
                    return False
                self._room.wait(min(left, 0.1))
        return not self._sender.failed

    def close(self, timeout_s: float = 5.0) -> None:
        """Publish what waits, give the plant some time to take it, and end. The rest stays in the outbox.

        A forked child has nothing to close: what it inherits is its parent's.
        Raises JournalFull if what waits has no room on the disk.
        """
        if os.getpid() != self._process:
            return
        try:
            self.drained(timeout_s)
            with self._lock:
                if not self._flushed(beyond=True) or not (self._sender.failed or self._sender.written()):
                    raise JournalFull(
                        f"{self._sender.full}; the last rows of feed {self.name} are not published"
                    )
        finally:
            self._ended.set()
            self._thread.join()
            self._live.close(linger_ms=1000)
            self._ringer.close()
            self._outbox.close()


def _disown() -> None:
    """In a forked child: with no rows in a batch `push` takes none either, and `row` says why."""
    for feed in list(_open):
        for packed, _ in feed._packed:
            packed.clear()


os.register_at_fork(after_in_child=_disown)
