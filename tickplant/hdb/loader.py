"""The historical database's process: follows the journals into PostgreSQL and proves each finished date.

Rows go in in chunks; a chunk and the journal position behind it are one transaction, so every row is in
exactly once whatever is killed when. Only rows that are durable in the journal are loaded. After the seal of
a date: index, prove, store the proof, next date; in steps, none of them long.

PostgreSQL may be away for days, or refuse: the journal waits, and so does the hdb. It says what is wrong and
tries again, ever less often; when it gets on, it reads from PostgreSQL how far it is and goes on there. Only
what no waiting mends (HistoryForeign) ends it. The same holds for a journal that is damaged, and for a disk
without room.

A date is begun anew if PostgreSQL has the beginning of another journal (one that was repaired or replaced
since), and rebuilt whenever that is asked for (requests.py).
"""

import errno
import logging
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from tickplant import wire
from tickplant._core import framing
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns, now_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.errors import AlreadyRunning, FrameError, HistoryError, JournalError
from tickplant.hdb import requests
from tickplant.hdb.connection import HistoryForeign, HistoryLost
from tickplant.hdb.evidence import journal_schema, sealed_at
from tickplant.hdb.proof import Verdict, proving
from tickplant.hdb.rebuild import NotRebuilt, rebuild_and_prove
from tickplant.hdb.refused import Refused, folder, said
from tickplant.hdb.resume import continues, which
from tickplant.hdb.server import PostgresServer
from tickplant.hdb.store import History, Progress
from tickplant.hdb.tending import Tending
from tickplant.journal import JournalReader
from tickplant.lock import Lock
from tickplant.registry import RegistryReader
from tickplant.schema import Rows, Schema

log = logging.getLogger(__name__)

TURN_NS = 50 * MILLISECOND_NS
RETRY_MIN_NS, RETRY_MAX_NS = SECOND_NS // 2, 10 * SECOND_NS
"""From one try to reach or write PostgreSQL to the next: twice as long each time."""
RECONNECT_S = 0.2
"""How long one turn tries to connect."""
LOOK_NS = SECOND_NS
"""How often it looks whether a date is to be rebuilt, and whether its journal is still the same folder."""
LOCK_S = 2.0
"""How long a statement waits for a lock before it is said who holds it."""
START_S = 2.0
"""How long one turn waits for a server of the plant's own to answer; it goes on starting meanwhile."""


def lock(config: Config) -> Lock:
    """Held by the one that loads this plant's history. Raises AlreadyRunning."""
    try:
        return Lock(config.plant.data_dir / "hdb.lock", "hdb (or `tickplant hdb load`) of this plant")
    except AlreadyRunning as e:
        stop = "systemctl stop tickplant-hdb (the journal keeps the rows meanwhile)"
        raise AlreadyRunning(f"{e}; to load in its stead stop it first: {stop}") from None


def connect(config: Config) -> tuple[History, PostgresServer | None]:
    """The history of the configuration: its DSN, or a server of its own, started here."""
    server = _own_server(config)
    if server:
        server.start()
    return _history(config, server), server


def _own_server(config: Config) -> PostgresServer | None:
    """The plant's own server, if the configuration names none; not yet started."""
    if config.hdb.dsn:
        return None
    return PostgresServer(
        config.plant.data_dir / "postgres", config.plant.run_dir / "pg", throwaway=config.hdb.throwaway
    )


def _history(config: Config, server: PostgresServer | None) -> History:
    identity = config.plant.data_dir / "identity"
    return History(
        server.dsn if server else config.hdb.dsn, config.schema, namespace=config.plant.name,
        plant=identity.read_text() if identity.exists() else "",
        aside=config.plant.data_dir / "aside",
    )  # fmt: skip


class Loader:
    """`open`, then `turn` again and again, then `close`."""

    def __init__(self, config: Config) -> None:
        """Raises AlreadyRunning if the plant has an hdb."""
        self.config, self.settings = config, config.hdb
        self._lock = lock(config)
        self.trading_date = self._position = 0
        self.waiting: str | None = None
        """What keeps history from being written, while something does."""
        self.doing: str | None = None
        """At which step of finishing a date it is."""
        self.verdict: Verdict | None = None
        self._waiting_since_ns = self._retry_ns = self._pause_ns = 0
        self._said = ""
        self._reached = False
        self._chunks: list[bytes] = []
        self._rows = 0
        self._since_ns = 0
        self._reader: JournalReader | None = None
        self._proven = False
        self._which: tuple[int, int] | None = None
        self._look_ns = 0
        self._steps: Iterator[str] | None = None
        self._registered = 1
        self._tending = Tending()
        self._refused: Refused = {}
        self._end = 0
        """Position behind the date's seal, once it is known."""

    def open(self) -> None:
        """Find the plant, and PostgreSQL if it is there.

        Raises NotRunning if there is no ticker plant, HistoryForeign if the history can't be this plant's.
        """
        self.control = Control.wait(self.config.plant.name)
        self.registry = RegistryReader(self.config.registry_dir)
        self.server = _own_server(self.config)
        self.history = _history(self.config, self.server)
        self.history.patience = RECONNECT_S
        self.history.lock_patience = LOCK_S
        self._try(self._reach)

    def turn(self) -> bool:
        """One turn; True if something was done."""
        if self.control.follow():
            self._other_tables()
        if self.waiting and monotonic_ns() < self._retry_ns:
            self.control.synced.wait_above(self.control.durable, 1 << 62, TURN_NS)
            return False
        return self._try(self._turn)

    def _other_tables(self) -> None:
        """The ticker plant was started with other tables: what the history has not of them, it gets."""
        log.info("the ticker plant has other tables; they are made in PostgreSQL, too")
        self._drop_reader()
        self.history.become(self.control.schema)
        self._reached = False

    def _try(self, step: Callable[[], bool | None]) -> bool:
        """Do a step; if PostgreSQL, a journal or a disk refuses, say so and wait."""
        try:
            return bool(step())
        except HistoryForeign:
            raise
        except (HistoryError, JournalError, FrameError) as e:
            self._wait(str(e))
        except OSError as e:
            self._wait(_refused(e, self.config))
        return False

    def _wait(self, error: str) -> None:
        """Let go of everything, and try again later."""
        self._drop_reader()
        self.history.close()
        self._reached = False
        kind = re.sub(r"\d+", "", error.partition("\n")[0])
        if kind != self._said:  # once per change, not per try
            log.warning("%s; trying again until it is mended", error)
            self._said = kind
        if self.waiting is None:
            self._waiting_since_ns = now_ns()
        self.waiting = error
        self._pause_ns = min(max(2 * self._pause_ns, RETRY_MIN_NS), RETRY_MAX_NS)
        self._retry_ns = monotonic_ns() + self._pause_ns

    def _well(self) -> None:
        """History is written, or there is nothing to write."""
        if self.waiting:
            away = (now_ns() - self._waiting_since_ns) / SECOND_NS
            log.info(
                "history goes on after %.0f s, at byte %d of %d", away, self._position, self.trading_date
            )
        self.waiting, self._said, self._pause_ns = None, "", 0

    def _reach(self) -> None:
        """Start or reach PostgreSQL, make the tables."""
        if self.server:
            self.server.start(START_S)
            self.history.dsn = self.server.dsn
        self.history.init()
        self._reached = True

    def _turn(self) -> bool:
        if not self._reached:
            self._reach()
        if self._steps:
            return self._step(self._steps)
        if monotonic_ns() >= self._look_ns:
            self._look_ns = monotonic_ns() + LOOK_NS
            if self._look():
                return True
        if self._reader is None and not self._begin():
            self._well()
            self.control.synced.wait_above(self.control.durable, 1 << 62, TURN_NS)
            return False
        if self._reader is None:  # the date is rebuilt
            return True
        chunk = self._read(self._reader)
        position = self._reader.position or 0
        sealed = not chunk and 0 < self._end <= position
        old = monotonic_ns() - self._since_ns >= self.settings.chunk_ms * MILLISECOND_NS
        if self._chunks and (self._rows >= self.settings.chunk_rows or old or sealed):
            self._tend(self._load())
            self._well()
            return True
        if sealed:
            self._steps = self._finishing()
        elif not self._chunks:
            self._well()
        return bool(chunk)

    def _look(self) -> bool:
        """Take up what is asked for; let go of a journal that another has taken the place of.

        Raises HistoryLost if the plant's own server has no socket any more: readers can't reach it.
        """
        if self.server and self.server.cut_off:
            raise HistoryLost(f"the socket of PostgreSQL in {self.server.socket_dir} was removed")
        if self._reader and which(self._reader.folder) != self._which:
            log.warning("the journal of %d was replaced; it is read anew", self.trading_date)
            self._drop_reader()
        if self._reader and min(self._open_dates(), default=self.trading_date) < self.trading_date:
            self._drop_reader()  # an earlier date has come, or lost its proof: it is loaded first
        if not (asked := requests.wanted(self.config)):
            return False
        self._drop_reader()
        date, at_ns = asked[0]
        self._steps = self._rebuilding(date, at_ns)
        return True

    def _read(self, reader: JournalReader) -> bytes:
        """What has become durable meanwhile; waits a moment for it."""
        bound, position = self._bound(), reader.position or 0
        if bound is not None and position >= bound:
            self.control.synced.wait_above(self.control.durable, position, TURN_NS)
        chunk = reader.read(bound)
        if chunk:
            if not self._chunks:
                self._since_ns = monotonic_ns()
            self._chunks.append(chunk)
            frames = framing.index(chunk)
            self._rows += int(frames[:, 6].sum())
            if (frames[:, 2] == wire.SEAL).any():
                self._end = reader.position or 0
        return chunk

    def _begin(self) -> bool:
        """Take up the oldest date that is not proven."""
        date = next(iter(self._open_dates()), 0)
        if not date or (self.settings.mode == "end-of-day" and date >= self.control.date.load()):
            return False
        folder = self.config.journal_dir / str(date)
        progress, running = self.history.progress(date), self._is_open(date)
        if not continues(folder, progress):
            log.warning("the journal of %d is not the one that PostgreSQL has rows of: loading it anew", date)
            if not running and sealed_at(folder)[1]:
                self._steps = self._rebuilding(date, 0)
                return True
            self.history.drop(date)
            progress = Progress()
        self.trading_date, self._position, self._refused = date, progress.position, progress.refused
        self.history.declare(journal_schema(self.config, folder))
        self._tending = Tending()
        self._which = which(folder)
        self._reader = JournalReader(folder, progress.position, progress.last_crc)
        self._end = 0 if running else sealed_at(folder)[1]
        return True

    def _is_open(self, date: int) -> bool:
        """May rows of this date still come?"""
        return date == self.control.date.load() and self.control.state() in ("running", "stalled")

    def _open_dates(self) -> list[int]:
        proven = self.config.plant.data_dir / "proofs"
        dates = sorted(int(p.name) for p in self.config.journal_dir.glob("[0-9]" * 8))
        return [d for d in dates if not (proven / f"{d}.json").exists()]

    def _bound(self) -> int | None:
        same = self.control.date.load() == self.trading_date
        return int(self.control.durable.load()) if same else None

    def _tend(self, rows: Mapping[str, int]) -> None:
        """Have the open date indexed as far as it is due, with so many rows by table."""
        bound = self._bound()
        if bound is None:
            return
        if due := self._tending.due(rows, max(0, bound - self._position)):
            self._steps = self.history.tending(self.trading_date, due)

    def _load(self) -> Mapping[str, int]:
        assert self._reader is not None
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._register()
        end = self._reader.position or 0
        reached = self.history.load(
            self.trading_date, _rows(self.history.schema, data), end, self._reader.last_crc or 0,
            expected=self._position,
        )  # fmt: skip
        self._position = end
        self._refuse(reached.refused)
        self._chunks.clear()
        self._rows = 0
        return reached.rows

    def _refuse(self, refused: Refused) -> None:
        """Say it the first time that rows of a table are refused."""
        if refused.keys() - self._refused.keys():
            log.warning("%s", "; ".join(self._problems(refused)))
        self._refused = refused

    def _problems(self, refused: Refused) -> list[str]:
        where = str(folder(self.config.plant.data_dir / "aside", self.trading_date))
        remedy = f"tickplant hdb load --date {self.trading_date} (once that date has ended)"
        return [
            f"{self.trading_date}: {sentence}; see what refuses them (psql: \\d), lift it, then: {remedy}"
            for sentence in said(refused, where)
        ]

    def _register(self) -> None:
        """Instruments before the rows that name them."""
        there = self.registry.follow()
        if there > self._registered:
            names = self.registry.instruments.since(self._registered)
            self.history.register((self._registered + i, v, s) for i, (v, s) in enumerate(names))
            self._registered = there

    def _rebuilding(self, date: int, at_ns: int) -> Iterator[str]:
        """Rebuild a date that was asked for at `at_ns` (0: that nobody asked for), and prove it."""
        log.info("rebuilding trading date %d", date)
        try:
            for step in rebuild_and_prove(self.config, self.history, date):
                if isinstance(step, Verdict):
                    self.verdict = step
                else:
                    yield f"rebuilding {date}: {step}"
        except NotRebuilt as e:
            log.warning("%s", e)
            requests.fail(self.config, date, at_ns, str(e))
        else:
            assert self.verdict is not None
            log.info("trading date %d: %s", date, self.verdict.summary())
            requests.done(self.config, date, at_ns)
        self._proven = True

    def _finishing(self) -> Iterator[str]:
        date = self.trading_date
        log.info("finishing trading date %d", date)
        yield from self.history.finishing(date)
        self.verdict = yield from proving(self.config, self.history, self.registry, date)
        log.info("trading date %d: %s", date, self.verdict.summary())
        self._proven = True

    def _step(self, steps: Iterator[str]) -> bool:
        """One step of what takes long: indexes, the proof."""
        self.doing = next(steps, None)
        if self.doing is None:
            self._steps = None
            if self._proven:
                self._drop_reader()
            self._well()
        return True

    def _drop_reader(self) -> None:
        steps, self._steps, self.doing = self._steps, None, None
        if isinstance(steps, Generator):
            steps.close()
        if self._reader:
            self._reader.close()
        self._reader = None
        self._chunks.clear()
        self._rows = self._end = 0
        self._proven = False

    def status(self) -> dict[str, Any]:
        """How the hdb is, for the status file."""
        bound = self._bound() if self.trading_date else None
        return {
            "trading_date": self.trading_date,
            "loaded_bytes": self._position if self.trading_date else 0,
            "behind_bytes": None if bound is None else max(0, bound - self._position),
            "waiting": self.waiting,
            "waiting_since_ns": self._waiting_since_ns if self.waiting else None,
            "doing": self.doing,
            "problems": self._problems(self._refused),
            "last_proof": self.verdict.summary() if self.verdict else None,
        }

    def close(self) -> None:
        """Load what is at hand, then end."""
        try:
            if self._chunks:
                self._load()
        except HistoryError as e:
            log.warning("%s; the next start goes on from here", e)
        self._drop_reader()
        self.history.close()
        if self.server:
            self.server.stop()
        self._lock.release()


def _refused(error: OSError, config: Config) -> str:
    """What the system refuses, where, and what to do."""
    where = error.filename or config.plant.data_dir
    remedy = f"see: ls -ld {where}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f"make room there (df -h {where}); it is tried again"
    return f"{where}: {error.strerror or error}; {remedy}"


def _rows(schema: Schema, data: bytes) -> dict[str, Rows]:
    """The rows in journal bytes, by table."""
    out = {}
    for number in {int(n) for n in framing.index(data)[:, 3]} - {0}:
        table = schema.numbered(number)
        out[table.name] = table.rows(framing.payloads(data, number))
    return out
