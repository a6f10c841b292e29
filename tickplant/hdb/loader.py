"""The historical database's process: follows the journals into PostgreSQL and proves each finished date.

Rows go in in chunks; a chunk and the journal position behind it are one transaction, so every row is in
exactly once whatever is killed when. Only rows that are durable in the journal are loaded. PostgreSQL may be
away for a day: the journal waits. After the seal of a date: index, prove, store the proof, next date.
"""

import logging
from typing import Any

from tickplant import wire
from tickplant._core import core
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns
from tickplant.config import Config
from tickplant.control import Control
from tickplant.hdb.connection import HistoryLost
from tickplant.hdb.proof import Verdict, journal_seal, prove
from tickplant.hdb.server import PostgresServer
from tickplant.hdb.store import History
from tickplant.journal import JournalReader
from tickplant.registry import RegistryReader
from tickplant.schema import Rows, Schema

log = logging.getLogger(__name__)

TURN_NS = 50 * MILLISECOND_NS
RETRY_NS = SECOND_NS
RECONNECT_S = 0.2
STARTS = 3
"""Times that a server of the plant's own is started before the hdb gives up at its own start."""
"""How long one turn tries to reach a PostgreSQL that is away; the next turns try again."""


def connect(config: Config) -> tuple[History, PostgresServer | None]:
    """The history of the configuration: its DSN, or a server of its own, started here."""
    server = _own_server(config)
    return _reach(config, server), server


def _own_server(config: Config) -> PostgresServer | None:
    """The plant's own server, if the configuration names none; not yet started."""
    if config.hdb.dsn:
        return None
    return PostgresServer(
        config.plant.data_dir / "postgres", config.plant.run_dir / "pg", throwaway=config.hdb.throwaway
    )


def _reach(config: Config, server: PostgresServer | None) -> History:
    if server:
        server.start()
    return History(server.dsn if server else config.hdb.dsn, config.schema, namespace=config.plant.name)


class Loader:
    """`open`, then `turn` again and again, then `close`."""

    def __init__(self, config: Config) -> None:
        self.config, self.settings = config, config.hdb
        self.trading_date = 0
        self.waiting: str | None = None
        self.verdict: Verdict | None = None
        self._retry_ns = 0
        self._chunks: list[bytes] = []
        self._rows = 0
        self._since_ns = 0
        self._reader: JournalReader | None = None
        self._registered = 1
        self._seal_seen = False

    def open(self) -> None:
        """Start or reach PostgreSQL, make the tables. Raises HistoryError if it refuses."""
        self.server = _own_server(self.config)
        for left in reversed(range(STARTS)):
            try:
                self.history = _reach(self.config, self.server)
                self.history.init()
                break
            except HistoryLost as e:  # a server of our own may be killed while it starts, too
                if not self.server or not left:
                    raise
                log.warning("%s; starting it again", e)
        self.history.patience = RECONNECT_S
        self.control = Control.wait(self.config.plant.name)
        self.registry = RegistryReader(self.config.registry_dir)

    def turn(self) -> bool:
        """One turn; True if rows were loaded."""
        if self.waiting and monotonic_ns() < self._retry_ns:
            self.control.bell.wait_above(self.control.durable, 1 << 62, TURN_NS)
            return False
        try:
            if self.waiting and self.server:
                self.server.start()
            loaded = self._turn()
            self.waiting = None
            return loaded
        except HistoryLost as e:
            log.warning("%s; trying again", e)
            self.waiting = str(e)
            self._retry_ns = monotonic_ns() + RETRY_NS
            self._drop_reader()
            return False

    def _turn(self) -> bool:
        if self._reader is None and not self._begin():
            self.control.bell.wait_above(self.control.durable, 1 << 62, TURN_NS)
            return False
        assert self._reader is not None
        bound = self._bound()
        position = self._reader.position or 0
        if bound is not None and position >= bound:
            self.control.bell.wait_above(self.control.durable, position, TURN_NS)
        chunk = self._reader.read(bound)
        if chunk:
            if not self._chunks:
                self._since_ns = monotonic_ns()
            self._chunks.append(chunk)
            frames = core.index(chunk)
            self._rows += int(frames[:, 6].sum())
            self._seal_seen = self._seal_seen or bool((frames[:, 2] == wire.SEAL).any())
        old = monotonic_ns() - self._since_ns >= self.settings.chunk_ms * MILLISECOND_NS
        sealed = not chunk and self._seal_seen
        if self._chunks and (self._rows >= self.settings.chunk_rows or old or sealed):
            self._load()
            return True
        if sealed:
            self._finish()
        return bool(chunk)

    def _begin(self) -> bool:
        """Take up the oldest date that is not proven."""
        date = next(iter(self._open_dates()), 0)
        if not date or (self.settings.mode == "end-of-day" and date >= self.control.date.load()):
            return False
        progress = self.history.progress(date)
        self.trading_date, self._position = date, progress.position
        folder = self.config.journal_dir / str(date)
        self._reader = JournalReader(folder, progress.position, progress.last_crc)
        self._seal_seen = date < self.control.date.load() and journal_seal(folder) is not None
        return True

    def _open_dates(self) -> list[int]:
        proven = self.config.plant.data_dir / "proofs"
        dates = sorted(int(p.name) for p in self.config.journal_dir.glob("[0-9]" * 8))
        return [d for d in dates if not (proven / f"{d}.json").exists()]

    def _bound(self) -> int | None:
        same = self.control.date.load() == self.trading_date
        return int(self.control.durable.load()) if same else None

    def _load(self) -> None:
        assert self._reader is not None
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._register()
        end = self._reader.position or 0
        self.history.load(
            self.trading_date, _rows(self.config.schema, data), end, self._reader.last_crc or 0,
            expected=self._position,
        )  # fmt: skip
        self._position = end
        self._chunks.clear()
        self._rows = 0

    def _register(self) -> None:
        """Instruments before the rows that name them."""
        there = self.registry.follow()
        if there > self._registered:
            names = self.registry.instruments.since(self._registered)
            self.history.register((self._registered + i, v, s) for i, (v, s) in enumerate(names))
            self._registered = there

    def _finish(self) -> None:
        log.info("finishing trading date %d", self.trading_date)
        self.history.finish(self.trading_date)
        self.verdict = prove(self.config, self.history, self.registry, self.trading_date)
        self._drop_reader()
        log.info("trading date %d: %s", self.verdict.trading_date, self.verdict.summary())

    def _drop_reader(self) -> None:
        if self._reader:
            self._reader.close()
        self._reader = None
        self._chunks.clear()
        self._rows = 0

    def status(self) -> dict[str, Any]:
        """How the hdb is, for the status file."""
        bound = self._bound() if self.trading_date else None
        return {
            "trading_date": self.trading_date,
            "loaded_bytes": self._position if self.trading_date else 0,
            "behind_bytes": None if bound is None else max(0, bound - self._position),
            "waiting": self.waiting,
            "last_proof": self.verdict.summary() if self.verdict else None,
        }

    def close(self) -> None:
        """Load what is at hand, then end."""
        try:
            if self._chunks:
                self._load()
        except HistoryLost as e:
            log.warning("%s; the next start goes on from here", e)
        self._drop_reader()
        self.history.close()
        if self.server:
            self.server.stop()


def _rows(schema: Schema, data: bytes) -> dict[str, Rows]:
    """The rows in journal bytes, by table."""
    out = {}
    for number in {int(n) for n in core.index(data)[:, 3]} - {0}:
        table = schema.numbered(number)
        out[table.name] = table.rows(core.payloads(data, number))
    return out
