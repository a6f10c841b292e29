"""A trading date in the ticker plant: its journal, its tables, and the recovery of both.

The journal of a date is `journal/<yyyymmdd>`; after the segment frame comes a frame of kind `state` that says
where each feed's session stood when the date began, so that the journal alone brings everything back;
the last frame of a finished date is of kind `seal`: rows per table, and what each feed claims to have
published. Recovery reads the journal and applies it to the tables through the very code that runs
live; a date that has just begun is recovered from an empty journal. Where the tables are there, it begins at
the last checkpoint.
"""

import contextlib
import logging
from pathlib import Path
from typing import Any

import msgpack

from tickplant import checkpoint, roster, wire
from tickplant._core import framing
from tickplant._core.intake import Intake
from tickplant.catchup import CatchUp
from tickplant.checkpoint import Checkpoint
from tickplant.clock import as_int
from tickplant.config import Config
from tickplant.errors import (
    FrameError,
    JournalDamaged,
    JournalError,
    SchemaError,
    TableFull,
    TickplantError,
)
from tickplant.instruments import Name, named
from tickplant.journal import JournalReader, JournalWriter
from tickplant.latest import LatestTable
from tickplant.registry import RegistryWriter
from tickplant.schema import Rows, Schema
from tickplant.table import AppendTable, Grower, retire, segment_name

log = logging.getLogger(__name__)

LOADED = "loaded.json"
"""Beside the journal of a date that was loaded from captures (draft.py): the plant does not go on from it."""
State = dict[int, dict[str, Any]]
"""By feed number: `session`, `next_seq`, `codes` (packed u32), `counters` (rows and sum by table number)."""

STAGE_BYTES = wire.MESSAGE_MAX + (1 << 22)
CHUNKS_AHEAD = 4
"""Of the journal, in recovery: so many are applied while an extent is made, and the grower never rests."""


class Day:
    """The journal and tables of the trading date that is open."""

    def __init__(self, config: Config, registry: RegistryWriter, schema: Schema | None = None) -> None:
        """`schema`: that of an earlier date, if its tables were declared otherwise than now."""
        self.config, self.registry = config, registry
        self.schema = schema or config.schema
        self.tables = [AppendTable(t) for t in self.schema]
        self.definitions = self.schema["instrument"]
        # Also those that were taken out of the configuration: their rows, claims and places stay.
        feeds = sorted({0, *(f.id for f in config.feeds.values()), *roster.read(config.plant.data_dir)})
        self.intake = Intake(
            [t.columns for t in self.tables], self.definitions.number, max(feeds) + 1, STAGE_BYTES
        )
        for number in feeds:
            self.intake.add_feed(number)
        self.feed_numbers = feeds
        self.latest = [
            LatestTable(config.plant.name, registry.identity, t, config.tickerplant.instruments_max)
            for t in self.schema
            if t.latest
        ]
        self._columns = {t.table.number: t.columns for t in self.tables}
        self.trading_date = self._at = 0
        self.sealed = self._begun = False
        self._checkpoint: Checkpoint | None = None
        """Noted, and to be written down once the journal is durable up to there."""
        self._checkpoint_at = 0
        self.grower = Grower()
        self.grower.start()

    def newest(self) -> int:
        """The newest trading date that has begun: whose journal says where the feeds stood; or 0."""
        dates = reversed(self._dates())
        return next((d for d in dates if _has_begun(self.config.journal_dir / str(d))), 0)

    def cut_short(self, newest: int) -> int:
        """The date after the newest that a crash kept from beginning; 0 if there is none.

        It has to be begun from the newest: by itself it does not know what the feeds have given.
        """
        return min((d for d in self._dates() if d > newest), default=0)

    def _dates(self) -> list[int]:
        folder = self.config.journal_dir
        live = (p for p in folder.glob("[0-9]" * 8) if p.is_dir() and not (p / LOADED).exists())
        return sorted(int(p.name) for p in live)

    def open(self, trading_date: int, state: State | None = None) -> None:
        """Recover a date from its journal, or begin it, with the feeds in this state (None: as they are).

        Raises JournalDamaged or SchemaError.
        """
        t = self.config.tickerplant
        if state is None and self.trading_date not in (0, trading_date):
            state = self.state()
        self.intake.roll(trading_date)
        self.trading_date, self.sealed, self._begun = trading_date, False, False
        which = (self.config.plant.name, self.registry.identity, trading_date, t.instruments_max)
        there = [table.open(*which, t.extent_rows) for table in self.tables]
        folder = self.config.journal_dir / str(trading_date)
        self.catch_up, self._at = CatchUp(folder, self.tables, self.intake, self.latest), 0
        self.grow_latest()
        if any(table.segment is None for table in self.tables):
            self.catch_up.behind(0)
        about = {
            "plant": self.config.plant.name,
            "identity": self.registry.identity,
            "what": "journal",
            "trading_date": trading_date,
            "schema": self.schema.describe(),
        }
        self.journal = JournalWriter(folder, about, t.segment_bytes)
        position, last_crc = self._resume(folder) if all(there) else self._start_over(folder)
        for at, chunk in self.journal.recover(position, last_crc):
            self._at = at
            self._recover(chunk)
        for table in self.tables:
            table.expected = 0
        if not self._begun:
            self.journal.append_frame(
                wire.STATE, msgpack.packb(state or self.state()), trading_date=trading_date
            )
        self.journal.sync()
        self.intake.last_crc = self.journal.last_crc
        ahead = [t.table.name for t in self.tables if t.columns.rows > t.columns.taken]
        if ahead:
            self.journal.close()
            log.warning("shared memory has rows of %s that the journal lacks: made anew", ahead)
            for table in self.tables:
                retire(segment_name(self.config.plant.name, trading_date, table.table.name))
            self.open(trading_date)

    def _resume(self, folder: Path) -> tuple[int | None, int | None]:
        """Be where the last checkpoint was, if shared memory has all that the journal has up to there.

        Its position and the crc of the frame before it, from where to recover; (None, None) from the start.
        """
        found = checkpoint.read(folder)
        if (
            found is None
            or found.schema != self.schema.describe()
            or not all(latest.reopened for latest in self.latest)
            or any(t.columns.rows < found.taken[t.table.number] for t in self.tables)
            or not found.feeds.keys() >= set(self.feed_numbers)
        ):
            return self._start_over(folder)
        for table in self.tables:
            table.columns.taken = found.taken[table.table.number]
        for feed in self.feed_numbers:
            self.intake.resume(feed, **found.feeds[feed])
        self._begun, self._checkpoint_at = True, found.position
        return found.position, found.last_crc

    def _start_over(self, folder: Path) -> tuple[None, None]:
        self._checkpoint_at = 0
        checkpoint.remove(folder)
        return None, None

    def checkpoint(self) -> bool:
        """Now and then, with nothing staged: note where all stands; once that is durable, write it down.

        True if the journal has to be synced for it.
        """
        noted, journal = self._checkpoint, self.journal
        if noted:
            if journal.durable >= noted.position:
                noted.write(journal.folder)
                self._checkpoint = None
            return False
        every = self.config.tickerplant.checkpoint_bytes
        if self.catch_up.pending or journal.position - self._checkpoint_at < every:
            return False
        self._checkpoint, self._checkpoint_at = self._note(), journal.position
        return True

    def _note(self) -> Checkpoint:
        feeds = {}
        for feed in self.feed_numbers:
            session, next_seq = self.intake.session(feed)
            codes, accounts = bytes(self.intake.codes(feed)), self.intake.accounts(feed)
            feeds[feed] = {"session": session, "next_seq": next_seq, "codes": codes, "accounts": accounts}
        taken = {t.table.number: t.columns.taken for t in self.tables}
        return Checkpoint(self.journal.position, self.journal.last_crc, self.schema.describe(), taken, feeds)

    def _recover(self, chunk: bytes | memoryview) -> None:
        frames = framing.index(chunk)
        special = frames[(frames[:, 2] != wire.ROWS) | (frames[:, 3] == self.definitions.number)]
        views = [memoryview(chunk)[f[0] : f[0] + f[1]] for f in special.tolist()]
        for view in views:
            self._recover_state(view)
        there = [table.columns.taken for table in self.tables]
        self.intake.restore(chunk)
        for table, before in zip(self.tables, there, strict=True):
            table.expected = CHUNKS_AHEAD * (table.columns.taken - before)
        for view in views:
            self._recover_definitions(view)
        self.make_room()
        self.look_ahead()
        self.grow_latest()
        refused = self.intake.refused
        self.intake.apply(chunk)
        self._look_behind(refused)

    def _recover_state(self, frame: memoryview) -> None:
        head = wire.header(frame)
        if head.kind == wire.SEGMENT:
            about = wire.small_map(wire.payload(frame))
            if about.get("schema") != self.schema.describe():
                raise SchemaError(
                    f"the tables of {self.config.path} are not those with which trading date "
                    f"{self.trading_date} began; put them back, or end the date with them first: "
                    "tickplant eod --stop"
                )
        elif head.kind == wire.STATE:
            self._begun = True
            self.take_over(wire.small_map(wire.payload(frame)))
        elif head.kind == wire.SEAL:
            self.sealed = True

    def take_over(self, state: State) -> None:
        """Put the feeds where a date left them."""
        for feed, was in state.items():
            if feed in self.feed_numbers:
                self._carry(feed, was)

    def _carry(self, feed: int, was: dict[str, Any]) -> None:
        counters = {int(t): (c[0], c[1]) for t, c in was["counters"].items()}
        self.intake.carry(feed, was["session"], was["next_seq"], counters)
        codes = memoryview(was["codes"]).cast("I")
        for code, instrument in enumerate(codes):
            if instrument != 0xFFFFFFFF:
                self.intake.define(feed, code, instrument)

    def _recover_definitions(self, frame: memoryview) -> None:
        head = wire.header(frame)
        if head.kind != wire.ROWS or head.feed not in self.feed_numbers:
            return
        if head.session != self.intake.session(head.feed)[0]:
            return
        for code, (venue, symbol) in self._defined(self.definitions.rows(wire.payload(frame)))[0]:
            self.intake.define(head.feed, code, self.registry.instruments.find(venue, symbol) or 0)

    def define(self, feed: int, rows: Rows, now_ns: int) -> None:
        """Register the instruments that a feed defines; those that can be.

        Raises SchemaError for the others: a code out of range, no name, or too many instruments.
        """
        good, bad = self._defined(rows)
        numbers = self.registry.add([name for _, name in good], now_ns) if good else []
        for (code, _), number in zip(good, numbers, strict=True):
            self.intake.define(feed, code, number)
        self.grow_latest()
        if bad:
            raise SchemaError("; ".join(bad))

    def _defined(self, rows: Rows) -> tuple[list[tuple[int, Name]], list[str]]:
        """(code, name) of the definitions that can be taken, and what is wrong with the others."""
        good: list[tuple[int, Name]] = []
        bad: list[str] = []
        for code, venue, symbol in rows[["code", "venue", "symbol"]].tolist():
            try:
                if not 0 < code < self.config.tickerplant.instruments_max:
                    raise SchemaError(f"instrument code {code} is out of range")
                good.append((code, named(venue, symbol)))
            except SchemaError as e:
                bad.append(str(e))
        return good, bad

    def grow_latest(self) -> None:
        """Have a slot for every instrument; without room for it, latest values lag (and status says so)."""
        try:
            for latest in self.latest:
                latest.ensure(len(self.registry.instruments), self._columns[latest.table.number])
        except TableFull:
            self.catch_up.behind(self._at)

    def make_room(self) -> None:
        """Have memory for all rows taken. A table that can't get it stays behind; the journal does not."""
        for table in self.tables:
            if table.columns.taken > table.columns.room and table.may_ask:
                with contextlib.suppress(TableFull):  # remembered in the table
                    table.ensure(table.columns.taken)

    def look_ahead(self) -> None:
        """Have memory allocated for rows to come, beside: not between a row and its reader."""
        self.grower.look(self.tables)

    def commit(self, sync: bool) -> bool:
        """Journal what is staged, then make it visible. Returns whether there was anything."""
        staged = self.intake.staged()
        if not len(staged):
            return False
        self._at, refused = self.journal.position, self.intake.refused
        self.journal.append(staged, self.intake.last_crc)
        if sync:
            self.journal.sync()
        if self.intake.wants_room:
            self.make_room()
        self.intake.apply_staged()
        self.intake.clear()
        self._look_behind(refused)
        return True

    def _look_behind(self, refused: int) -> None:
        """Were frames refused since there were so many? Their rows come later."""
        if self.intake.refused != refused:
            self.catch_up.behind(self._at)

    def bring_up(self) -> None:
        """Give tables that had no room what they lack, a slice at a time, if they have room now."""
        if self.catch_up.pending:
            for table in self.tables:
                table.tell_behind()
            self.catch_up.turn(len(self.registry.instruments), self.journal.position)

    @property
    def degraded(self) -> str | None:
        """What readers of shared memory do not see, why, and what to do; None if they see all."""
        behind = [f"{t.table.name} ({t.behind:,} rows)" for t in self.tables if t.behind]
        late = [f"latest {t.table.name}" for t in self.latest if t.full]
        why = [t.lacks for t in self.tables if t.lacks] + [t.full for t in self.latest if t.full]
        if not why and not behind:
            return None
        what = ", ".join([*behind, *late])
        what = f"behind the journal: {what}; they wait, all else goes on" if what else "no room ahead"
        return f"readers of shared memory: {what}; {why[0] if why else 'catching up'}"

    def seal(self) -> None:
        """Finish the date: no row comes after the seal. Repeating it changes nothing."""
        if not self.sealed:
            about = {
                "rows": {t.table.name: t.columns.taken for t in self.tables},
                "claims": {
                    feed: {
                        self.schema.numbered(n).name: [rows, total]
                        for n, (rows, total) in self.intake.claims(feed).items()
                    }
                    for feed in self.feed_numbers
                },
            }
            packed = msgpack.packb(about)
            self.journal.append_frame(wire.SEAL, packed, trading_date=self.trading_date)
            self.sealed = True
        self.journal.sync()  # says so if the syncer was refused meanwhile; closing would not
        self.journal.close()
        for table in self.tables:
            table.seal()
        log.info("sealed trading date %d", self.trading_date)

    def state(self, schema: Schema | None = None) -> State:
        """Where the feeds stand, for a date that begins with the tables of `schema`."""
        numbers = {t.number: t.number for t in self.schema}
        if schema is not None:
            numbers = {t.number: schema[t.name].number for t in self.schema if t.name in schema}
        out = {}
        for feed in self.feed_numbers:
            session, next_seq = self.intake.session(feed)
            out[feed] = {
                "session": session,
                "next_seq": next_seq,
                "codes": bytes(self.intake.codes(feed)),
                "counters": {numbers[t]: c for t, c in self.intake.counters(feed).items() if t in numbers},
            }
        return out

    def today(self, now_ns: int) -> int:
        """The trading date of an instant."""
        return as_int(self.config.calendar.date_at(now_ns))


def declared(folder: Path) -> Schema:
    """The tables with which a trading date began, as its journal says."""
    return Schema.read(_about(folder)["schema"])


def identity_in(journals: Path) -> tuple[str, bool]:
    """The plant's token as its newest sound journal repeats it, and whether there is any journal."""
    folders = sorted(p for p in journals.glob("[0-9]" * 8) if any(p.iterdir()))
    for folder in reversed(folders):
        with contextlib.suppress(TickplantError):
            if token := _about(folder).get("identity"):
                return str(token), True
    return "", bool(folders)


def defines_any(journals: Path) -> bool:
    """Does any sound part of the journals give an instrument a number?"""
    for folder in sorted(journals.glob("[0-9]" * 8), reverse=True):
        with contextlib.suppress(TickplantError):
            table, reader = declared(folder)["instrument"], JournalReader(folder)
            with contextlib.closing(reader):
                for chunk in iter(reader.read, b""):
                    if table.rows(framing.payloads(chunk, table.number))["instrument"].any():
                        return True
    return False


def _about(folder: Path) -> dict[str, Any]:
    """What the first segment of a journal says. Raises JournalError if there is nothing in it."""
    reader = JournalReader(folder)
    try:
        frames = reader.read()
    finally:
        reader.close()
    if len(frames) < wire.HEADER_SIZE:
        raise JournalError(f"the journal in {folder} is empty")
    size = wire.HEADER_SIZE + wire.header(frames).size
    return wire.small_map(wire.payload(frames[:size]))


def read_seal(payload: bytes | memoryview) -> dict[str, Any]:
    """What a seal says: `rows` by table, `claims` by feed number and table ([rows, sum])."""
    about = wire.small_map(payload)
    if not isinstance(about.get("rows"), dict) or not isinstance(about.get("claims"), dict):
        raise FrameError("a seal without rows or claims")
    return about


def _has_begun(folder: Path) -> bool:
    """Does a date's journal hold its state frame? What is damaged is judged when it is opened."""
    reader = JournalReader(folder)
    try:
        kinds = framing.index(reader.read())[:, 2]
    except JournalDamaged:
        return False
    finally:
        reader.close()
    return wire.STATE in kinds
