"""The configuration: one TOML file, typed, complete, refused as a whole if any of it is wrong.

conf/tickplant.toml shows every key with its default and the reason for it.
"""

import functools
import os
import re
import site
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from tickplant import owners, sessions
from tickplant.clock import TradingCalendar
from tickplant.errors import ConfigError, SchemaError
from tickplant.schema import Schema, declare

ENVIRONMENT = "TICKPLANT_CONFIG"
SYSTEM_FILE = Path("/etc/tickplant/tickplant.toml")

_FEED_NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_Z85_KEY = r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}"
_NEEDED = {
    "instrument": {"code": "u4", "venue": "S16", "symbol": "S48"},
    "event": {
        "kind": "S16", "about": "u2", "session": "i8", "first": "i8", "last": "i8", "text": "S96",
    },
}  # fmt: skip

_RANGES = (
    ("tickerplant.sync_interval_ms", 0, 60_000),
    ("tickerplant.segment_bytes", 1 << 16, 1 << 40),
    ("tickerplant.checkpoint_bytes", 1 << 11, 1 << 40),
    ("tickerplant.instruments_max", 2, 1 << 24),
    ("tickerplant.extent_rows", 4096, 1 << 32),
    ("tickerplant.held_bytes_max", 1 << 16, 1 << 40),
    ("tickerplant.keep_days", 0, 36_500),
    ("publisher.heartbeat_ms", 1, 60_000),
    ("publisher.queue_bytes_max", 1 << 20, 1 << 34),
    ("publisher.request_bytes_max", 256, 1 << 16),
    ("publisher.requests_max", 1, 10_000),
    ("publisher.answers_max", 2, 10_000),
    ("publisher.reply_bytes_max", 1 << 16, 1 << 23),
    ("publisher.turn_bytes_max", 1 << 16, 1 << 30),
    ("publisher.topic_bytes_max", 1024, 1 << 24),
    ("hdb.chunk_rows", 1, 1 << 32),
    ("hdb.chunk_ms", 0, 3_600_000),
    ("outbox.segment_bytes", 1 << 16, 1 << 40),
    ("outbox.max_bytes", 1 << 16, 1 << 50),
    ("limits.frame_bytes", 1 << 12, 1 << 24),
    ("limits.frame_rows", 1, 1 << 24),
    ("limits.queue_bytes", 1 << 20, 1 << 40),
    ("limits.feed_instruments", 1, 1 << 24),
    ("limits.repair_messages", 1, 1 << 20),
)
"""Key, least and most of every number."""


class _Section(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class Plant(_Section, frozen=True):
    """[plant]: what the parts of one plant share."""

    name: str = "tp"
    data_dir: Path = Path("/var/lib/tickplant")
    run_dir: Path = Path("/run/tickplant")
    timezone: str = "UTC"
    roll: str = "00:00"


class TickerPlant(_Section, frozen=True):
    """[tickerplant]"""

    ingress: str = "tcp://127.0.0.1:7010"
    repair: str = "tcp://127.0.0.1:7011"
    follow_outboxes: bool = True
    durability: Literal["none", "group", "always"] = "group"
    sync_interval_ms: int = 10
    segment_bytes: int = 1 << 28
    checkpoint_bytes: int = 1 << 26
    instruments_max: int = 1 << 18
    extent_rows: int = 1 << 18
    held_bytes_max: int = 1 << 25
    keep_days: int = 5


class Publisher(_Section, frozen=True):
    """[publisher]"""

    publish: str = "tcp://127.0.0.1:7012"
    request: str = "tcp://127.0.0.1:7013"
    heartbeat_ms: int = 250
    queue_bytes_max: int = 1 << 26
    request_bytes_max: int = 4096
    requests_max: int = 64
    answers_max: int = 8
    reply_bytes_max: int = 1 << 20
    turn_bytes_max: int = 1 << 22
    topic_bytes_max: int = 1 << 16


class Security(_Section, frozen=True):
    """[security]: who may connect over TCP."""

    curve: bool = False
    keys_dir: str = ""
    server_key: str = ""
    allow_plaintext: bool = False


class Hdb(_Section, frozen=True):
    """[hdb]"""

    dsn: str = ""
    mode: Literal["continuous", "end-of-day"] = "continuous"
    chunk_rows: int = 1 << 18
    chunk_ms: int = 500
    throwaway: bool = False


class Outbox(_Section, frozen=True):
    """[outbox]"""

    segment_bytes: int = 1 << 24
    max_bytes: int = 1 << 32
    when_full: Literal["block", "drop"] = "block"


class Limits(_Section, frozen=True):
    """[limits]: on what a feed can make grow in the ticker plant."""

    frame_bytes: int = 1 << 18
    frame_rows: int = 1 << 16
    queue_bytes: int = 1 << 28
    feed_instruments: int = 1 << 16
    repair_messages: int = 1 << 6


class Feed(_Section, frozen=True, kw_only=True):
    """[feeds.NAME]"""

    id: int
    handler: str
    calendar: str = sessions.ALWAYS
    hours: str = ""
    stale_after_s: float = 0.0
    options: dict[str, Any] = {}


class _TableEntry(_Section, frozen=True, kw_only=True):
    columns: dict[str, str]
    latest: bool = False
    max_rows: int = 1 << 28
    defaults: dict[str, str | int | float] = {}


class _File(_Section, frozen=True, kw_only=True):
    plant: Plant = Plant()
    tickerplant: TickerPlant = TickerPlant()
    publisher: Publisher = Publisher()
    security: Security = Security()
    hdb: Hdb = Hdb()
    outbox: Outbox = Outbox()
    limits: Limits = Limits()
    feeds: dict[str, Feed] = {}
    tables: dict[str, _TableEntry | bool] = {}


class Config:
    """A checked configuration."""

    def __repr__(self) -> str:
        feeds = ", ".join(self.feeds) or "none"
        tables = ", ".join(t.name for t in self.schema)
        return f"configuration {self.path}: plant {self.plant.name}, tables {tables}; feeds {feeds}"

    def __init__(self, content: Mapping[str, Any], path: Path) -> None:
        try:
            file = msgspec.convert(content, _File, dec_hook=_path)
        except msgspec.ValidationError as e:
            raise ConfigError(f"{path}: {_place(str(e), content)}") from None
        self.path = path
        self.content = content
        self.plant, self.tickerplant = file.plant, file.tickerplant
        self.publisher, self.hdb, self.outbox = file.publisher, file.hdb, file.outbox
        self.limits = file.limits
        self.security, self.feeds = file.security, file.feeds
        try:
            self.schema = Schema(
                declare(name, number, t.columns, max_rows=t.max_rows, latest=t.latest, defaults=t.defaults)
                for number, (name, t) in enumerate(_tables(file.tables).items(), 1)
            )
            self.calendar = TradingCalendar(self.plant.timezone, self.plant.roll)
            self._check()
        except (ConfigError, SchemaError) as e:
            raise ConfigError(f"{path}: {e}") from None

    def _check(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]{1,32}", self.plant.name):
            raise ConfigError(f"plant.name {self.plant.name!r} must match [a-z0-9_]{{1,32}}")
        for table, columns in _NEEDED.items():
            if table not in self.schema:
                raise ConfigError(f"tables.{table} is missing; the plant itself writes to it")
            have = {c.name: c.type for c in self.schema[table].columns}
            for name, kind in columns.items():
                if have.get(name) != kind:
                    raise ConfigError(f"tables.{table}.columns.{name} must be {kind!r}")
        seen: dict[int, str] = {}
        for name, feed in self.feeds.items():
            if not re.fullmatch(_FEED_NAME, name):  # it is a folder, a file, a unit and an argument
                raise ConfigError(f"feed name {name!r} must match {_FEED_NAME}")
            if not 1 <= feed.id <= 4095:
                raise ConfigError(f"feeds.{name}.id is {feed.id}; must be from 1 to 4095")
            if feed.id in seen:
                raise ConfigError(f"feeds.{name} and feeds.{seen[feed.id]} both have id {feed.id}")
            seen[feed.id] = name
            if not 0 <= feed.stale_after_s <= 604_800:
                raise ConfigError(
                    f"feeds.{name}.stale_after_s is {feed.stale_after_s:g}; must be from 0 (never) to 604800"
                )
            try:
                sessions.parse_hours(feed.hours)
            except ConfigError as e:
                raise ConfigError(f"feeds.{name}.hours: {e}") from None
        key = self.security.server_key
        if key and not re.fullmatch(_Z85_KEY, key):
            raise ConfigError(
                f"security.server_key has {len(key)} characters, and is not the key of 40 that "
                "`tickplant keys list` shows as the server's"
            )
        for key, least, most in _RANGES:
            section, _, name = key.partition(".")
            value = getattr(getattr(self, section), name)
            if not least <= value <= most:
                raise ConfigError(f"{key} is {value}; must be from {least} to {most}")

        for declared in self.schema:
            if declared.row_size > self.limits.frame_bytes:
                raise ConfigError(
                    f"limits.frame_bytes is {self.limits.frame_bytes}; a row of tables.{declared.name} has "
                    f"{declared.row_size}"
                )

    def feed(self, name: str) -> Feed:
        """The settings of one feed. Raises ConfigError if there is none of this name."""
        try:
            return self.feeds[name]
        except KeyError:
            known = ", ".join(self.feeds) or "none"
            raise ConfigError(f"{self.path}: no [feeds.{name}]; there are: {known}") from None

    def outbox_dir(self, feed: str) -> Path:
        """Where a feed keeps its outbox."""
        return self.plant.data_dir / "outbox" / feed

    @property
    def journal_dir(self) -> Path:
        """Where the journals are, one folder per trading date."""
        return self.plant.data_dir / "journal"

    @property
    def keys_dir(self) -> Path:
        """Where the CURVE keys are; see keys.py."""
        return Path(self.security.keys_dir or self.plant.data_dir / "keys")

    @property
    def registry_dir(self) -> Path:
        """The journal of instruments."""
        return self.plant.data_dir / "registry"

    @property
    def status_dir(self) -> Path:
        """Where each process says how it is."""
        return self.plant.run_dir / "status"


def load(path: str | Path | None = None) -> Config:
    """Read and check the configuration at `path`, else at $TICKPLANT_CONFIG, else the system's.

    This process then believes what the owner of the plant's folders has in shared memory. Raises ConfigError
    with file, key, value and what is allowed.
    """
    chosen = Path(path or os.environ.get(ENVIRONMENT) or SYSTEM_FILE)
    try:
        content = msgspec.toml.decode(chosen.read_bytes())
    except OSError as e:
        raise ConfigError(
            f"can't read the configuration {chosen}: {e.strerror}; "
            f"give one with --config FILE or ${ENVIRONMENT}"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{chosen}: {e}") from None
    config = Config(content, chosen)
    plant = config.plant
    said = config.status_dir / "tickerplant.json"
    owners.anchor(plant.name, said, plant.run_dir, plant.data_dir)
    return config


def shipped() -> Path:
    """The configuration that comes with tickplant. Raises ConfigError if the installation lost it."""
    inside = Path("conf", "tickplant.toml")
    prefixes = (sys.prefix, site.getuserbase(), Path(__file__).parents[4])  # the last: pip install --target
    checkout = Path(__file__).parents[1] / inside
    paths = [checkout, *(Path(prefix) / "share" / "tickplant" / inside for prefix in prefixes)]
    for path in paths:
        if path.is_file():
            return path
    raise ConfigError(
        f"the shipped configuration is at none of {', '.join(map(str, paths))}; install tickplant again"
    )


@functools.cache
def shipped_tables() -> Mapping[str, _TableEntry]:
    """The tables that a plant has which declares none. Raises ConfigError if the installation lost them."""
    content = msgspec.toml.decode(shipped().read_bytes())
    return msgspec.convert(content["tables"], dict[str, _TableEntry])


def _tables(declared: Mapping[str, _TableEntry | bool]) -> dict[str, _TableEntry]:
    """The shipped tables that the file does not mention, then those that it declares, in its order."""
    tables = {name: entry for name, entry in shipped_tables().items() if name not in declared}
    for name, entry in declared.items():
        if entry is True:
            raise ConfigError(f"tables.{name} is true; declare its columns, or leave it out with false")
        if entry:
            tables[name] = entry
    return tables


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError("Expected `str`")


def _place(message: str, content: Mapping[str, Any]) -> str:
    """msgspec says "... - at `$.plant.roll`"; we say "plant.roll: ..."."""
    what, _, where = message.partition(" - at `$")
    where = where.rstrip("`").lstrip(".")
    return f"{_named(where, content)}: {what}" if where else what


def _named(where: str, content: Mapping[str, Any]) -> str:
    """For msgspec each entry of a map is at `[...]`; find the one it means."""
    section, _, rest = where.partition("[...]")
    kinds: dict[str, Any] = {"feeds": Feed, "tables": _TableEntry | bool}
    if "[...]" not in where or section not in kinds:
        return where
    for name, entry in content[section].items():
        try:
            msgspec.convert(entry, kinds[section])
        except msgspec.ValidationError:
            return f"{section}.{name}{rest}"
    return where
