"""Readers elsewhere: rows of the plant over ZeroMQ, gap-free, from any row of any date that is kept.

    for batch in tickplant.subscribe("tcp://plant:7013", tables=["trade"], from_row=0):
        print(batch.first_row, batch["price"].mean())

Joining without a hole: subscribe to the tables first and to heartbeats last, wait for a heartbeat (it
proves that the subscription is live and says from which row), request the rows below, then go on live.
What is requested comes in answers of bounded size, each asked for when the one before has come and is about
to be used: so a slow reader slows nobody, and has no more in memory than `queue_bytes` of live rows, two
answers per table and what is held of frames that are ahead (sequencer.py).
"""

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zmq

from tickplant import wire
from tickplant._core import framing, runs
from tickplant.arrivals import Arrivals
from tickplant.batch import Batch, Gap, Notices, Skipped, gaps_in
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.conflation import Conflated, TableConflation
from tickplant.errors import ConfigError, FrameError, NotRunning, RequestError, SchemaError, TooSlow
from tickplant.instruments import Instruments, full_name, split_name
from tickplant.latest import cell_dtype
from tickplant.link import PATIENCE_NS, RETRY_NS, KeySource, Link
from tickplant.questions import Questions
from tickplant.schema import Rows, Schema, Table
from tickplant.sequencer import NO_ROW, Delivery, TableSequence, Want
from tickplant.sockets import readable

GAPS_MAX = 1000
BEHIND_MAX = 1_000_000
QUEUE_BYTES = 1 << 26

Policy = Literal["catch-up", "conflate", "skip", "die"]
POLICIES: tuple[Policy, ...] = ("catch-up", "conflate", "skip", "die")

Flow = TableSequence | TableConflation
FromRow = int | Mapping[str, int] | None


class Subscription:
    """An endless iterator of batches; see `subscribe`."""

    def __init__(
        self,
        endpoint: str,
        tables: Sequence[str],
        symbols: Sequence[str] | None = None,
        from_row: FromRow = 0,
        *,
        trading_date: int | None = None,
        policy: Policy = "catch-up",
        behind_max: int = BEHIND_MAX,
        queue_bytes: int = QUEUE_BYTES,
        server_key: str | None = None,
        keys: KeySource | None = None,
    ) -> None:
        self.endpoint = endpoint
        if policy not in POLICIES:
            raise ConfigError(
                f"there is no policy {policy!r} for slow readers; choose of {', '.join(POLICIES)}"
            )
        self.policy, self.behind_max = policy, behind_max
        self.symbols = None if symbols is None else {full_name(*split_name(s)) for s in symbols}
        self.instruments = Instruments()
        """Names of the instruments by number; complete for every row handed out."""
        self.gaps_filled = 0
        self.gaps: deque[Gap] = deque(maxlen=GAPS_MAX)
        """What feeds published on the dates read and the plant could not get any more; the newest."""
        self._ready: deque[Delivery | Skipped | Conflated] = deque()
        self._notices = Notices()
        self._arrivals: Arrivals | None = None
        self._link = Link(endpoint, keys, server_key, queue_bytes)
        self._questions = Questions(self._link)
        self._poller = zmq.Poller()
        for socket in (self._link.sub, self._link.dealer):
            self._poller.register(socket, zmq.POLLIN)
        try:
            self._join(tables, from_row, trading_date)
        except BaseException:
            self.close()
            raise

    def _join(self, tables: Sequence[str], from_row: FromRow, trading_date: int | None) -> None:
        about = self._link.ask("plant", "describe")
        self.schema = Schema.read(wire.field(about, "schema", "list"))
        self._tables = [self.schema[name] for name in tables]
        latest = about.get("latest", [])
        if unfit := [t.name for t in self._tables if self.policy == "conflate" and t.number not in latest]:
            raise SchemaError(f"table {unfit[0]} can't be conflated: it is not declared with latest = true")
        self._events = self.schema["event"]
        numbers = {t.number for t in (*self._tables, self._events)}
        self._link.subscribe(wire.field(about, "publish", "str"), numbers)
        self._begin(from_row, trading_date, *self._first_heartbeat())

    def _first_heartbeat(self) -> tuple[int, dict[Any, Any]]:
        """Wait for the first heartbeat: from here on nothing can be missed unseen."""
        end = monotonic_ns() + PATIENCE_NS
        while (left := end - monotonic_ns()) > 0:
            if not self._link.sub.poll(left // 1_000_000):
                break
            frame = self._link.sub.recv()
            if not framing.check(frame) and wire.header(frame).kind == wire.HEARTBEAT:
                return wire.header(frame).trading_date, wire.small_map(wire.payload(frame))
        raise NotRunning(
            f"the publisher of {self.endpoint} sends no heartbeat; on its host, see: tickplant status"
        )

    def _begin(
        self, from_row: FromRow, trading_date: int | None, open_date: int, rows: dict[Any, Any]
    ) -> None:
        """Put each table to where it is to begin."""
        self.trading_date = trading_date or open_date
        if self.trading_date > open_date:
            raise RequestError(f"trading date {trading_date} has not begun; {open_date} is open")
        self._sequences: dict[int, TableSequence] = {}
        self._conflations: dict[int, TableConflation] = {}
        for table in self._tables:
            there = int(rows.get(table.number, 0))
            row = self._first_row(from_row, table.name, there, open_date)
            if self.policy == "conflate":
                since = (self.trading_date, row)
                self._conflations[table.number] = TableConflation(table, (open_date, there), since)
            else:
                sequence = self._follow(table, self.trading_date, row, open_date, there)
                sequence.skip_behind = self.behind_max if self.policy == "skip" else None
        self._own = set(self._sequences)
        if (number := self._events.number) not in self._own:
            begin = open_date if self._conflations else self.trading_date
            self._follow(self._events, begin, 0, open_date, int(rows.get(number, 0)))
        self._order = deque([*self._sequences, *self._conflations])
        self._arrivals = Arrivals(self._link.sub, self._sequences, self._conflations, number)
        if self._own and self.trading_date < open_date:
            self._check_date()

    def _first_row(self, from_row: FromRow, table: str, there: int, open_date: int) -> int:
        row = from_row.get(table) if isinstance(from_row, Mapping) else from_row
        if self.trading_date < open_date and (row is None or row < 0):
            raise RequestError(
                f"of an earlier date, {self.trading_date}, give the row to begin at, not {row}"
            )
        if row is None:
            return there
        return row if row >= 0 else max(0, there + row)

    def _follow(self, table: Table, date: int, row: int, open_date: int, there: int) -> TableSequence:
        sequence = self._sequences[table.number] = TableSequence(table, date, row)
        sequence.end = max(there, row) if date == open_date else row
        sequence.on_heartbeat(open_date, there)
        return sequence

    def _check_date(self) -> None:
        """Say now, not later, if an earlier date can't be had. Raises RowsGone."""
        number = next(iter(self._own))
        self._link.ask("rows", "replay", date=self.trading_date, table=number, row=NO_ROW, bytes=0)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self.next(1.0)
            if batch is not None:
                yield batch

    def next(self, timeout: float) -> Batch | None:
        """The next batch, or None if none came within `timeout` seconds.

        Raises TooSlow (policy `die`), RowsGone for a date whose journal has been deleted meanwhile.
        """
        end = monotonic_ns() + int(timeout * SECOND_NS)
        while True:
            try:
                batch = self._handed()
            except NotRunning:  # names can't be had at the moment
                return None
            if batch is not None:
                return batch
            self._look()
            self._hear()
            self._request()
            left = end - monotonic_ns()
            if not self._ready:
                if left <= 0:
                    return None
                self._wait(min(left, RETRY_NS) // 1_000_000 + 1)

    def _handed(self) -> Batch | None:
        """The first batch of what is ready; notices and rows of table `event` are kept for it."""
        while self._ready:
            item = self._ready[0]
            batch = None if isinstance(item, Skipped) else self._batch(item)
            self._ready.popleft()
            if isinstance(item, Skipped):
                self._notices.add(item)
                continue
            assert batch is not None
            if item.table.number == self._events.number:
                for gap in gaps_in(batch, batch.trading_date):
                    self.gaps.append(gap)
                    self._notices.add(gap)
                if item.table.number not in self._own:
                    continue
            if len(batch):
                batch.notices = self._notices.take()
                return batch
        return None

    def _look(self) -> None:
        """How far behind is this reader, and may it be?"""
        if self.policy not in ("skip", "die"):
            self._link.tend()
            return
        self._link.look()
        date, rows = self._link.newest
        if not date:
            return
        for number in self._own:
            sequence = self._sequences[number]
            sequence.on_newest(date, int(rows.get(number, 0)))
            self._ready += sequence.advance()  # before what is behind is taken in
            if self.policy == "die" and sequence.behind > self.behind_max:
                raise TooSlow(
                    f"this reader of {sequence.table.name} is {sequence.behind:,} rows behind, at row "
                    f"{sequence.expected:,} of trading date {sequence.trading_date}; it may be "
                    f"behind_max = {self.behind_max:,}; to go on, subscribe again from there"
                )

    def _hear(self) -> None:
        """Take what has come."""
        assert self._arrivals is not None
        self._ready += self._arrivals.take()
        if self._arrivals.came:
            self._link.heard()
        if self._questions and readable(self._link.dealer):
            self._take_answer()

    def _wait(self, timeout_ms: int) -> None:
        """Take what comes, or has come."""
        ready = dict(self._poller.poll(timeout_ms))
        if self._link.dealer in ready:
            self._take_answer()
        if self._link.sub in ready:
            self._hear()

    def _take_answer(self) -> None:
        with contextlib.suppress(FrameError):
            self._answered(self._link.dealer.recv_multipart(copy=False))

    def _request(self) -> None:
        """Ask for what is missing: per table one request at a time, again after a silence."""
        self._order.rotate(-1)  # so that each has its turn when there is more to ask for than may be
        for number in self._order:
            flow = self._sequences.get(number) or self._conflations[number]
            if isinstance(flow, TableSequence):
                self._ready += flow.advance()
            elif flow.due:
                self._ready += flow.take()
            self._questions.follow(number, flow.want())

    def _answered(self, parts: list[zmq.Frame]) -> None:
        message = self._link.answer(parts[0].bytes)
        if message is None:
            return  # damaged on its way: asked for again
        op = message["op"]
        if op == "plant":
            self._link.moved(wire.field(message, "publish", "str"))
        if op not in ("rows", "latest") or len(parts) != 2:
            return  # the late answer to a question that was given up
        date, number, row = (wire.field(message, name, "int") for name in ("date", "table", "row"))
        want = self._questions.open(number)
        first = wire.field(message, "from", "int") if op == "latest" else None
        if want is None or (want.trading_date, want.row, want.first) != (date, row, first):
            return
        self.gaps_filled += 1
        after = wire.field(message, "next", "int")
        if op == "latest":
            self._questions.answered(want)
            cells = np.frombuffer(parts[1].buffer, cell_dtype(want.table))
            self._conflations[number].on_latest(
                want, cells["row"], cells["trading_date"].astype(np.int64), cells["number"].astype(np.int64),
                after,
            )  # fmt: skip
            return
        frames, sequence = parts[1].buffer, self._sequences[number]
        end = wire.field(message, "end", "int")
        _, following, _ = runs.pick(frames, number, row, len(frames), True)
        if row < following < end:  # the next answer is on its way while this one is looked at and used
            self._questions.ask(Want(want.table, date, following))
        items, valid = sequence.on_answer(frames, date, end, after)
        self._ready += items
        self._questions.doubt(number, valid < len(frames) or (not valid and row < end))
        if valid or after or sequence.over:
            self._questions.answered(want)  # else there is nothing yet: not again at once

    def _batch(self, item: Delivery | Conflated) -> Batch:
        """What to hand on, its instruments known by name."""
        numbers: npt.NDArray[np.int64] | None = None
        if isinstance(item, Conflated):
            rows: Rows = item.rows
            first, numbers = int(item.numbers[0]), item.numbers
        else:
            rows, first = item.table.rows(item.payload), item.first_row
        batch = Batch.of(rows, item.table.name, item.trading_date, first)
        batch.numbers = numbers
        batch.passed_over = item.passed_over if isinstance(item, Conflated) else 0
        highest = item.highest if isinstance(item, Delivery) else None
        if highest is None:
            highest = int(rows["instrument"].max()) if len(rows) else 0
        if highest >= len(self.instruments):
            self._learn(highest)
        if self.symbols is None:
            return batch
        wanted = [self.instruments.number(s) for s in self.symbols if s in self.instruments]
        return batch.only(np.isin(rows["instrument"], wanted))

    def _learn(self, number: int) -> None:
        """Have the names of all instruments up to a number."""
        while number >= len(self.instruments):
            fields = {"from": len(self.instruments)}
            names = wire.field(self._link.ask("instruments", "instruments", **fields), "names", "list")
            if not names:
                raise FrameError(f"{self.endpoint} sent rows of an instrument {number} it can't name")
            for venue, symbol in names:
                self.instruments.add(venue, symbol)

    @property
    def state(self) -> str:
        """How the ticker plant is, as the publisher's newest heartbeat says: `running`; `stalled`: alive, but
        it has not turned for two seconds; `dead`; `stopped`. `unknown`: no heartbeat for two seconds, so
        the publisher or the way to it is down, and nothing is known of the plant."""
        return self._link.state

    @property
    def idle(self) -> float | None:
        """Seconds since the ticker plant's last turn, as far as is known here; None if it never was."""
        idle = self._link.idle_ns
        return None if idle is None else idle / SECOND_NS

    def past(self, trading_date: int) -> bool:
        """Has every row of this trading date, in all tables, been handed out?"""
        flows: list[Flow] = [*self._sequences.values(), *self._conflations.values()]
        return not self._ready and all(flow.trading_date > trading_date for flow in flows)

    def close(self) -> None:
        """Leave the plant's publisher."""
        if self._arrivals is not None:
            self._arrivals.close()
        self._link.close()


def subscribe(
    endpoint: str,
    tables: Sequence[str],
    symbols: Sequence[str] | None = None,
    from_row: FromRow = 0,
    *,
    trading_date: int | None = None,
    policy: Policy = "catch-up",
    behind_max: int = BEHIND_MAX,
    queue_bytes: int = QUEUE_BYTES,
    server_key: str | None = None,
    keys: KeySource | None = None,
) -> Subscription:
    """Rows of a plant on any host, as an endless iterator of `Batch`es without a gap.

    `endpoint` is the publisher's request endpoint; `symbols` (VENUE:SYMBOL) leaves only the rows of these
    instruments; `from_row` is the first row wanted, for all tables or by table; negative: so many
    before now; None: now. `trading_date` (yyyymmdd) is the date of that row, if not the open one.

    `policy` says what happens to a reader that is slower than the plant: `catch-up` hands it every row,
    late; `conflate` the newest row of each instrument that has one since the last batch (of tables with
    latest = true; `passed_over` counts the others); `skip` leaves rows out when it is more than `behind_max`
    behind, which the next batch's `notices` tell (`Skipped`); `die` raises TooSlow then. None of them keeps
    more than `queue_bytes` of live rows here that have not been taken.

    Of a plant with CURVE, `keys` is this reader's file NAME.key_secret, or its pair (public, secret), and
    `server_key` the plant's public key, which the file tells if it is not given.
    Raises NotRunning if no publisher answers or it does not accept the keys, SchemaError for a table that it
    does not have or can't conflate, RequestError for a row or date that can't be, RowsGone for a date whose
    journal is gone, ConfigError for keys that are none.
    """
    return Subscription(
        endpoint, tables, symbols, from_row, trading_date=trading_date, policy=policy, behind_max=behind_max,
        queue_bytes=queue_bytes, server_key=server_key, keys=keys,
    )  # fmt: skip
