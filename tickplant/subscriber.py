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
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import zmq

from tickplant import selection
from tickplant._core import runs
from tickplant.arrivals import Arrivals
from tickplant.batch import Batch, Gap, Notice, Notices, NotSeen, Skipped, TableChanged, Waiting, gaps_in
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.conflation import Conflated, TableConflation
from tickplant.errors import ConfigError, FrameError, NotRunning, RequestError, SchemaError, TooSlow
from tickplant.identity import Identity
from tickplant.instruments import Instruments
from tickplant.latest import cell_dtype
from tickplant.link import PATIENCE_NS, RETRY_NS, KeySource, Link, beat_of
from tickplant.questions import Questions
from tickplant.requests import About, Beat, Describe, Names, NamesFrom, Newest, Replayed
from tickplant.schema import Rows, Schema, Table
from tickplant.selection import FromRow, TradingDate
from tickplant.sequencer import Delivery, TableSequence, Want
from tickplant.shown import listed
from tickplant.sockets import readable

log = logging.getLogger(__name__)

GAPS_MAX = 1000
BEHIND_MAX = 1_000_000
QUEUE_BYTES = 1 << 26
QUEUE_BYTES_LEAST, QUEUE_BYTES_MOST = 1 << 12, 1 << 40

Policy = Literal["catch-up", "conflate", "skip", "die"]
POLICIES: tuple[Policy, ...] = ("catch-up", "conflate", "skip", "die")
Unknown = Literal["refuse", "wait"]

Flow = TableSequence | TableConflation
Ready = Delivery | Conflated | Skipped | TableChanged


class _Open(NamedTuple):
    """The date that the publisher sends: its tables, and how many rows each has."""

    date: int
    schema: Schema
    rows: Mapping[int, int]

    def there(self, table: str) -> int:
        """Rows of a table; 0 of one that the date does not have."""
        return self.rows.get(self.schema[table].number, 0) if table in self.schema else 0


class Subscription:
    """An endless iterator of batches; see `subscribe`."""

    def __init__(
        self,
        endpoint: str,
        tables: str | Sequence[str],
        symbols: str | Sequence[str] | None = None,
        from_row: FromRow = 0,
        *,
        trading_date: TradingDate = None,
        policy: Policy = "catch-up",
        behind_max: int = BEHIND_MAX,
        queue_bytes: int = QUEUE_BYTES,
        server_key: str | None = None,
        keys: KeySource | None = None,
        plant: str | Identity | None = None,
        unknown: Unknown = "refuse",
    ) -> None:
        self.endpoint = endpoint
        if policy not in POLICIES:
            raise ConfigError(
                f"there is no policy {policy!r} for slow readers; choose of {', '.join(POLICIES)}"
            )
        if unknown not in ("refuse", "wait"):
            raise RequestError(f"unknown is {unknown!r}; symbols that the plant has not seen: refuse or wait")
        self.policy, self.unknown = policy, unknown
        self.behind_max = selection.whole(behind_max, "behind_max", 0, selection.ROWS_MAX)
        queue_bytes = selection.whole(queue_bytes, "queue_bytes", QUEUE_BYTES_LEAST, QUEUE_BYTES_MOST)
        self.symbols = selection.symbols(symbols)
        date = selection.trading_date(trading_date)
        self.instruments = Instruments()
        """Names of the instruments by number; complete for every row handed out."""
        self.gaps_filled = 0
        self.gaps: deque[Gap] = deque(maxlen=GAPS_MAX)
        """What feeds published on the dates read and the plant could not get any more; the newest."""
        self._ready: deque[Ready] = deque()
        self._notices = Notices()
        self._arrivals: Arrivals | None = None
        self._link = Link(endpoint, keys, server_key, queue_bytes)
        self._questions = Questions(self._link)
        self._poller = zmq.Poller()
        for socket in (self._link.sub, self._link.dealer):
            self._poller.register(socket, zmq.POLLIN)
        try:
            self._join(tables, from_row, date, plant)
        except BaseException:
            self.close()
            raise

    def _join(
        self, tables: str | Sequence[str], from_row: FromRow, date: int | None, plant: str | Identity | None
    ) -> None:
        about = self._link.ask(Describe(), About)
        self._meet(about, plant)
        schema = Schema.read(about.schema)
        self._names = [t.name for t in selection.tables(tables, schema)]
        first = selection.from_row(from_row, self._names)
        self._check_latest(schema, about.latest)
        self._link.subscribe(about.publish, self._numbers(schema))
        open_date, beat = self._first_heartbeat()
        if beat.schema != schema.fingerprint:  # a date with other tables has begun meanwhile
            schema = self._declared(open_date)
            self._link.choose(self._numbers(schema))
        now = _Open(open_date, schema, beat.rows)
        if (date or 0) > open_date:
            raise RequestError(f"trading date {date} has not begun; {open_date} is open")
        if date and date < open_date and self.policy != "conflate":
            schema = self._declared(date)  # says now, not later, if it can't be had
        self._arrange(schema, date or open_date, first, now)
        self._look_for_symbols()
        self._say_what_is_waited_for(now)

    def _meet(self, about: About, plant: str | Identity | None) -> None:
        """Take note of which plant it is. Raises RequestError if it is not the one that was meant."""
        self.plant = Identity(about.name, about.identity)
        """The plant's name and token; with rows of it goes the plant: give it to `subscribe` to go on."""
        self._link.plant = self.plant
        meant = Identity(plant) if isinstance(plant, str) else plant
        if meant is not None and meant.differs(self.plant):
            raise RequestError(f"{self.endpoint} is the publisher of {self.plant}, not of {meant}")

    def _numbers(self, schema: Schema) -> set[int]:
        """Of the tables to be heard of, as far as a date has them."""
        return {schema[name].number for name in (*self._names, "event") if name in schema}

    def _declared(self, date: int) -> Schema:
        """The tables of a date. Raises RowsGone, RequestError, NotRunning."""
        return Schema.read(self._link.ask(Describe(date=date), About).schema)

    def _check_latest(self, schema: Schema, latest: Sequence[int]) -> None:
        unfit = [n for n in self._names if self.policy == "conflate" and schema[n].number not in latest]
        if unfit:
            raise SchemaError(f"table {unfit[0]} can't be conflated: it is not declared with latest = true")

    def _first_heartbeat(self) -> tuple[int, Beat]:
        """Wait for the first heartbeat: from here on nothing can be missed unseen."""
        end = monotonic_ns() + PATIENCE_NS
        while (left := end - monotonic_ns()) > 0:
            if not self._link.sub.poll(left // 1_000_000):
                break
            if (said := beat_of(self._link.sub.recv())) is not None:
                return said
        raise NotRunning(
            f"the publisher of {self.endpoint} sends no heartbeat; on its host, see: tickplant status"
        )

    def _arrange(self, schema: Schema, date: int, first: Mapping[str, int | None], now: _Open) -> None:
        """Put each table to where it is to begin."""
        if missing := [name for name in self._names if name not in schema]:
            raise SchemaError(
                f"table {missing[0]} is not declared on trading date {date}; its tables are: "
                f"{', '.join(t.name for t in schema)}; subscribe to some of these"
            )
        self.schema, self.trading_date = schema, date
        self._tables = [schema[name] for name in self._names]
        self._events = schema["event"]
        before = {c.table.fingerprint: c for c in getattr(self, "_conflations", {}).values()}
        self._sequences: dict[int, TableSequence] = {}
        self._conflations: dict[int, TableConflation] = {}
        for table in self._tables:
            there = now.there(table.name)
            row = self._first_row(first[table.name], there, now.date)
            if self.policy == "conflate":
                self._conflations[table.number] = before.get(table.fingerprint) or TableConflation(
                    table, (now.date, there), (date, row)
                )
            else:
                sequence = self._follow(table, date, row, now)
                sequence.skip_behind = self.behind_max if self.policy == "skip" else None
        self._own = set(self._sequences)
        if self._events.number not in self._own:
            self._follow(self._events, now.date if self._conflations else date, 0, now)
        self._order = deque([*self._sequences, *self._conflations])
        if self._arrivals is not None:
            self._arrivals.close()
        self._arrivals = Arrivals(
            self._link.sub, self._sequences, self._conflations, self._events.number, schema.fingerprint
        )

    def _first_row(self, row: int | None, there: int, open_date: int) -> int:
        if self.trading_date < open_date and (row is None or row < 0):
            raise RequestError(
                f"of an earlier date, {self.trading_date}, give the row to begin at, not {row}"
            )
        if row is None:
            return there
        return row if row >= 0 else max(0, there + row)

    def _follow(self, table: Table, date: int, row: int, now: _Open) -> TableSequence:
        there = now.there(table.name)
        sequence = TableSequence(table, date, row, schema=self.schema.fingerprint)
        sequence.end = max(there, row) if date == now.date else row
        sequence.on_heartbeat(now.date, there)
        self._sequences[table.number] = sequence
        return sequence

    def _look_for_symbols(self) -> None:
        """Has the plant seen the instruments that are wanted? Raises RequestError."""
        if self.symbols is None:
            return
        self._learn()
        missing = selection.unknown(self.symbols, self.instruments)
        if not missing:
            return
        if self.unknown == "refuse" and len(self.instruments) > 1:
            raise RequestError(
                f'{selection.not_seen(missing, self.instruments)}; to wait for it: unknown="wait"'
            )
        self._say(NotSeen(tuple(missing)))

    def _say_what_is_waited_for(self, now: _Open) -> None:
        """Rows that are not there yet may never come: say so."""
        for number in self._own:
            sequence = self._sequences[number]
            there = now.there(sequence.table.name)
            if sequence.trading_date == now.date and sequence.expected > there:
                self._say(Waiting(sequence.table.name, now.date, sequence.expected, there))

    def _say(self, notice: Notice) -> None:
        log.warning("%s: %s", self.endpoint, notice)
        self._notices.add(notice)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What is to be said with the next batch, which may be long in coming."""
        return self._notices.kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batch = self.next(1.0)
            if batch is not None:
                yield batch

    def next(self, timeout: float) -> Batch | None:
        """The next batch, or None if none came within `timeout` seconds.

        Raises TooSlow (policy `die`), RowsGone for a date whose journal has been deleted meanwhile,
        SchemaError for a table that is not declared any more, RequestError if it is another plant's now.
        """
        if self._arrivals is None:
            raise NotRunning(f"this subscription of {self.endpoint} is closed; subscribe again")
        end = monotonic_ns() + int(timeout * SECOND_NS)
        while True:
            try:
                batch = self._handed()
                if batch is not None:
                    return batch
                self._turn()
            except NotRunning:  # names or tables can't be had at the moment
                return None
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
            if isinstance(item, Skipped | TableChanged):
                self._ready.popleft()
                self._notices.add(item)
                continue
            batch = self._batch(item)
            self._ready.popleft()
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

    def _turn(self) -> None:
        """Go over to a date with other tables, once all rows before it are handed out.

        All tables at once, for their numbers may be others. Raises SchemaError if one is not declared now.
        """
        if self._ready or not all(sequence.turned for sequence in self._sequences.values()):
            return
        for conflation in self._conflations.values():
            self._ready += conflation.take()
        if self._ready:
            return
        date = next(iter(self._sequences.values())).next_date
        about = self._link.ask(Describe(), About)
        now = _Open(about.trading_date, Schema.read(about.schema), about.rows)
        schema = now.schema if now.date == date else self._declared(date)
        before = {table.name: table for table in self._tables}
        self._questions = Questions(self._link)
        self._arrange(schema, date, dict.fromkeys(self._names, 0), now)
        self._link.choose(self._numbers(now.schema))
        changes = [TableChanged.between(before[t.name], t, date) for t in self._tables]
        self._ready += [change for change in changes if change]

    def _look(self) -> None:
        """How far behind is this reader, and may it be?"""
        if self.policy not in ("skip", "die"):
            self._link.tend()
            return
        self._link.look()
        date, beat = self._link.newest
        if not date:
            return
        rows = beat.rows if beat.schema == self.schema.fingerprint else {}
        for number in self._own:
            sequence = self._sequences[number]
            sequence.on_newest(date, rows.get(number, 0))
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
        if isinstance(message, About):
            self._link.moved(message.publish)
        elif isinstance(message, Replayed) and len(parts) == 2:
            self._replayed(message, parts[1].buffer)
        elif isinstance(message, Newest) and len(parts) == 2:
            self._newest(message, parts[1].buffer)
        # else damaged on its way: asked for again; or the late answer to a question that was given up

    def _newest(self, said: Newest, cells: memoryview) -> None:
        want = self._questions.open(said.table)
        if want is None or (want.trading_date, want.row, want.first) != (said.date, said.row, said.first):
            return
        dtype = cell_dtype(want.table)
        if said.schema != want.table.fingerprint or len(cells) % dtype.itemsize:
            return  # of a table that is declared otherwise by now: this reader goes over to it soon
        self.gaps_filled += 1
        self._questions.answered(want)
        rows = np.frombuffer(cells, dtype)
        self._conflations[said.table].on_latest(
            want, rows["row"], rows["trading_date"].astype(np.int64), rows["number"].astype(np.int64),
            said.next,
        )  # fmt: skip

    def _replayed(self, said: Replayed, frames: memoryview) -> None:
        want = self._questions.open(said.table)
        if want is None or (want.trading_date, want.row, want.first) != (said.date, said.row, None):
            return
        self.gaps_filled += 1
        sequence = self._sequences[said.table]
        _, following, _ = runs.pick(frames, said.table, said.row, len(frames), True)
        if said.row < following < said.end:  # the next is on its way while this one is looked at and used
            self._questions.ask(Want(want.table, said.date, following))
        items, valid = sequence.on_answer(frames, said.date, said.end, said.next, said.next_schema)
        self._ready += items
        self._questions.doubt(said.table, valid < len(frames) or (not valid and said.row < said.end))
        if valid or said.next or sequence.over:
            self._questions.answered(want)  # else there is nothing yet: not again at once

    def _batch(self, item: Delivery | Conflated) -> Batch:
        """What to hand on, its instruments known by name."""
        numbers: npt.NDArray[np.int64] | None = None
        if isinstance(item, Conflated):
            rows: Rows = item.rows
            first, numbers = int(item.numbers[0]), item.numbers
        else:
            rows, first = item.table.rows(item.payload), item.first_row
        batch = Batch.of(rows, item.table.name, item.trading_date, first, self._all_names)
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

    def _all_names(self) -> Instruments:
        return self.instruments

    def __repr__(self) -> str:
        """Whose rows, of which tables, and where each is."""
        flows: list[Flow] = [*self._sequences.values(), *self._conflations.values()]
        places = [
            f"{f.table.name} at row {f.expected if isinstance(f, TableSequence) else f.reached[1]:,} "
            f"of {f.trading_date}"
            for f in flows
            if f.table.name in self._names
        ]
        wanted = f"; only {listed(sorted(self.symbols), 5)}" if self.symbols else ""
        closed = " (closed)" if self._arrivals is None else ""
        return f"subscription{closed} to {self.endpoint}, {self.plant}: {', '.join(places)}{wanted}"

    def _learn(self, number: int | None = None) -> None:
        """Have the names of all instruments up to a number; None: of all that there are."""
        while number is None or number >= len(self.instruments):
            names = self._link.ask(NamesFrom(first=len(self.instruments)), Names).names
            for venue, symbol in names:
                self.instruments.add(venue, symbol)
            if not names and number is None:
                return
            if not names:
                raise FrameError(f"{self.endpoint} sent rows of an instrument {number} it can't name")

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
        """Leave the plant's publisher; again does nothing."""
        if self._arrivals is not None:
            self._arrivals.close()
            self._arrivals = None
        self._link.close()


def subscribe(
    endpoint: str,
    tables: str | Sequence[str],
    symbols: str | Sequence[str] | None = None,
    from_row: FromRow = 0,
    *,
    trading_date: TradingDate = None,
    policy: Policy = "catch-up",
    behind_max: int = BEHIND_MAX,
    queue_bytes: int = QUEUE_BYTES,
    server_key: str | None = None,
    keys: KeySource | None = None,
    plant: str | Identity | None = None,
    unknown: Unknown = "refuse",
) -> Subscription:
    """Rows of a plant on any host, as an endless iterator of `Batch`es without a gap.

    `endpoint` is the publisher's request endpoint; `tables` the names of tables, or one; `symbols`
    (VENUE:SYMBOL) leaves only the rows of these instruments; `from_row` is the first row wanted, for all
    tables or by table; negative: so many before now; None: now. `trading_date` (yyyymmdd or a datetime.date)
    is the date of that row, if not the open one. `plant` is whose rows are meant, by name or as
    `Subscription.plant`: give it when a position of an earlier subscription is gone on with.

    A symbol that the plant has not seen is refused, or with `unknown="wait"` waited for; a plant without any
    instrument yet waits for all. That, and a row that is not there yet, is said in the log and in `notices`.

    `policy` says what happens to a reader that is slower than the plant: `catch-up` hands it every row,
    late; `conflate` the newest row of each instrument that has one since the last batch (of tables with
    latest = true; `passed_over` counts the others); `skip` leaves rows out when it is more than `behind_max`
    behind, which the next batch's `notices` tell (`Skipped`); `die` raises TooSlow then. None of them keeps
    more than `queue_bytes` of live rows here that have not been taken.

    A date may have other tables than the one before: where the tables read are declared otherwise, the next
    batch's `notices` tell how (`TableChanged`); where one is not declared any more, SchemaError is raised.

    Of a plant with CURVE, `keys` is this reader's file NAME.key_secret, or its pair (public, secret), and
    `server_key` the plant's public key, which the file tells if it is not given.
    Raises NotRunning if no publisher answers or it does not accept the keys, SchemaError for a table that it
    does not have or can't conflate, RequestError for a row, date, symbol or limit that can't be and for
    another plant, RowsGone for a date whose journal is gone, ConfigError for keys that are none.
    """
    return Subscription(
        endpoint, tables, symbols, from_row, trading_date=trading_date, policy=policy, behind_max=behind_max,
        queue_bytes=queue_bytes, server_key=server_key, keys=keys, plant=plant, unknown=unknown,
    )  # fmt: skip
