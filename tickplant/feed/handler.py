"""What every feed handler stands on: a numbered, batched, repairable way into the plant.

    with Feed(config, "mine") as feed:
        aapl = feed.instrument("XNAS", "AAPL")
        feed.trade(instrument=aapl, price=187.32, size=100.0, side=b"B")

A row goes into a batch; a batch becomes a frame with the session's next seq; the frame goes to the plant and
into the outbox. A thread beside sends batches that have waited long enough, and heartbeats; it gives the
plant what it missed, and drops from the outbox what the plant has made durable.
"""

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from tickplant import sockets, wire
from tickplant._core import core
from tickplant._core.session import Packer, Session
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns, now_ns
from tickplant.config import Config
from tickplant.curve import feed_keys
from tickplant.errors import FrameError, JournalError, SchemaError, TickplantError
from tickplant.feed.batch import RowBatch, conform, encoded
from tickplant.feed.outbox import Outbox
from tickplant.instruments import full_name, named
from tickplant.schema import Rows, Table

FRAME_BYTES = 1 << 16
BATCH_ROWS = 1000
BATCH_NS = 2 * MILLISECOND_NS
WINDOW_BYTES = 1 << 26
HEARTBEAT_NS = 250 * MILLISECOND_NS
SILENCE_NS = SECOND_NS
MEND_NS = 100 * MILLISECOND_NS
ANSWERS_MAX = 4
"""That wait for a slow network; more are not made."""


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
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        tables = sorted(config.schema, key=lambda t: t.name != "instrument")
        self._batches = {t.name: RowBatch(t, batch_rows) for t in tables}
        self._codes: dict[str, int] = {}
        self._next_code = 1
        self._seq = 0
        self._sent_ns = self._heard_ns = 0
        self._failed: TickplantError | None = None

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
        return self._seq

    def open(self) -> None:
        """Recover the outbox, connect, begin a session. Raises ConfigError without the key it needs."""
        self._keys = feed_keys(self.config, self.name)
        o = self.config.outbox
        folder = self.config.outbox_dir(self.name)
        self._outbox = Outbox(folder, self.name, o.segment_bytes, o.max_bytes)
        self._outbox.open()
        self.session = self._outbox.begin()
        tables = [(t.number, t.row_size, t.fingerprint) for t in self.config.schema]
        self._sent = Session(self.number, self.session, tables)
        self._pub = sockets.context().socket(zmq.PUB)
        self._pub.setsockopt(zmq.SNDHWM, 0)  # bounded by WINDOW_BYTES instead
        self._live = sockets.Connection(self._pub, self.config.tickerplant.ingress, self._keys)
        self._thread = threading.Thread(target=self._serve, name=f"feed {self.name}", daemon=True)
        self._ended = threading.Event()
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Pause the handler; True if it should end. Call it, or `beat`, from the handler's own loop."""
        self.beat()
        return self.stopping.wait(seconds)

    def instrument(self, venue: str, symbol: str, **definition: Any) -> int:
        """The code of an instrument in this session; defines it on first use.

        `definition`: further columns of table `instrument`, such as tick_size=0.01. Raises
        SchemaError if venue or symbol are too long, empty, or contain NUL.
        """
        with self._lock:
            code = self._codes.get(full_name(venue, symbol))
            if code is None:
                self._pace()
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
        """feed.trade(...) is feed.row("trade", ...), for each declared table."""
        if table.startswith("_") or table not in self.config.schema:
            raise AttributeError(f"no table or attribute {table!r}")
        return lambda **values: self.row(table, **values)

    def row(self, table: str, **values: Any) -> None:
        """Publish one row, in the next batch. Columns not given: now for times, NaN for floats, else zero.

        Raises SchemaError for a table or column that is not declared, or a value that does not fit.
        """
        with self._lock:
            self._pace()
            self._add(table, values)

    def _add(self, table: str, values: dict[str, Any]) -> None:
        try:
            batch = self._batches[table]
        except KeyError:
            raise SchemaError(f"there is no table {table!r}") from None
        batch.add(now_ns(), values)
        if len(batch) >= self.batch_rows:
            self.flush()

    def _pace(self) -> None:
        """Wait until the plant is near enough. Only before rows are touched: the lock is given up here."""
        while self.paced and self._ahead() and not self._failed and not self.stopping.is_set():
            self.beat()  # a plant that is away is no hang of ours
            self._room.wait(0.1)
        if self._failed:
            raise self._failed

    def _ahead(self) -> bool:
        return self._outbox.waiting_bytes > WINDOW_BYTES

    def append(self, table: str, rows: Rows) -> None:
        """Publish rows, now. `rows` is a structured array; its columns are matched by name.

        Rows of table `instrument` define their `code`s. A ts_recv of 0 becomes the time of this call.
        Raises SchemaError for columns that are not declared and values that do not fit.
        """
        declared = self.config.schema[table]
        rows = conform(declared, rows, now_ns())
        with self._lock:
            self.flush()
            if table == "instrument":
                rows = self._define(rows)
            step = max(1, FRAME_BYTES // declared.row_size)
            for at in range(0, len(rows), step):
                self._pace()
                self._send(declared, rows[at : at + step].view("u1"))
        self.beat()

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
        """Publish what waits in batches; definitions before the rest."""
        with self._lock:
            for batch in self._batches.values():
                if batch.packed.rows:
                    self._send(batch.table, batch.packed)
                    batch.packed.clear()

    def _send(self, table: Table, rows: npt.NDArray[np.uint8] | Packer) -> None:
        """Publish packed rows as one frame. It is on its way while the outbox writes it down.

        A crash between the two takes nothing with it that was published: the call had not returned.
        """
        if self._failed:
            raise self._failed
        frame = self._sent.frame(table.number, rows, now_ns(), self._outbox.last_crc)
        upto = self._sent.seq
        try:
            self._outbox.admit(len(frame))
            # Further behind than the window: the plant fetches it from the outbox, this memory stays bounded.
            if not self._ahead():
                self._pub.send(frame)
            self._outbox.append(frame, (self.session, self._seq), upto - self._seq)
        except JournalError as e:
            self._failed = e  # they can't be told again: none may follow them
            raise
        self._seq = upto
        self._sent_ns = monotonic_ns()

    def _serve(self) -> None:
        """The thread beside: old batches, heartbeats, and the plant's requests."""
        dealer = sockets.context().socket(zmq.DEALER)
        if not (self._keys and sockets.is_tcp(self.config.tickerplant.repair)):  # else its key names it
            dealer.setsockopt(zmq.IDENTITY, self.name.encode())
        # What waited for a plant that is away would all be asked and answered at once when it is back.
        dealer.setsockopt(zmq.IMMEDIATE, 1)
        dealer.setsockopt(zmq.SNDHWM, ANSWERS_MAX)
        repair = sockets.Connection(dealer, self.config.tickerplant.repair, self._keys)
        poll_ms, mend_ns = BATCH_NS // MILLISECOND_NS, 0
        try:
            while not self._ended.is_set():
                if dealer.poll(poll_ms):
                    with contextlib.suppress(FrameError):
                        self._answer(dealer, dealer.recv_multipart())
                self._tend(dealer)
                if (at := monotonic_ns()) >= mend_ns:
                    mend_ns = at + MEND_NS
                    repair.mend()
                    with self._lock:
                        self._live.mend()
        except TickplantError as e:
            self._failed = e
        finally:
            repair.close()

    def _tend(self, dealer: zmq.Socket[bytes]) -> None:
        at = monotonic_ns()
        with self._lock:
            self.flush()
            if at - self._sent_ns >= HEARTBEAT_NS:
                self._sent_ns = at
                beat = core.seal(b"", wire.HEARTBEAT, feed=self.number, session=self.session,
                                 seq=self._seq, time_ns=now_ns())  # fmt: skip
                self._pub.send(beat)
        if at - self._heard_ns >= SILENCE_NS:
            with contextlib.suppress(zmq.Again):  # there is no connection
                dealer.send(wire.pack("hello", session=self.session, seq=self._seq), zmq.DONTWAIT)
                self._heard_ns = at

    def _answer(self, dealer: zmq.Socket[bytes], parts: list[bytes]) -> None:
        message = wire.unpack(parts[0])
        place = (wire.field(message, "session", "int"), wire.field(message, "seq", "int"))
        self._heard_ns = monotonic_ns()
        if message.get("op") == "fetch":
            limit = min(wire.field(message, "bytes", "int"), wire.MESSAGE_MAX // 2)
            with self._lock:
                frames, more = self._outbox.fetch(place, limit)
            header = wire.pack("frames", session=place[0], seq=place[1], more=more, crc=core.crc32c(frames))
            with contextlib.suppress(zmq.Again):  # the plant asks again
                dealer.send_multipart([header, frames], zmq.DONTWAIT)
        elif message.get("op") == "ack":
            with self._room:
                self._outbox.acknowledge(place)
                self._room.notify_all()

    def drained(self, timeout_s: float) -> bool:
        """Wait until the plant has made all that was published durable; False if it did not in time."""
        end = monotonic_ns() + int(timeout_s * SECOND_NS)
        with self._room:
            self.flush()
            while self._outbox.waiting_bytes and not self._failed:
                left = (end - monotonic_ns()) / SECOND_NS
                if left <= 0:
                    return False
                self._room.wait(min(left, 0.1))
        return not self._failed

    def close(self, timeout_s: float = 5.0) -> None:
        """Publish what waits, give the plant some time to take it, and end. The rest stays in the outbox."""
        try:
            self.drained(timeout_s)
        finally:
            self._ended.set()
            self._thread.join()
            self._live.close(linger_ms=1000)
            self._outbox.close()
