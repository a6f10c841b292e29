"""A past trading date's journal that is made aside, whole and sealed, and then put in its place at once.

It is a journal as the ticker plant writes it (day.py): the state of its feeds, frames of rows that the intake
has numbered and stamped, the seal with the feeds' claims. Beside its segments lies

    loaded.json    {"feed": number, "captures": [{"name", "session"}, ...]}: that no feed was there live, and
                   what of it came from which capture. A session of the feed holds the rows of one capture.
"""

import ctypes
import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from tickplant import wire
from tickplant._core.intake import STAGE_FULL, Intake
from tickplant._core.session import Session
from tickplant.config import Config
from tickplant.day import LOADED
from tickplant.errors import SchemaError
from tickplant.instruments import full_name
from tickplant.journal import JournalWriter
from tickplant.schema import Rows, Table
from tickplant.table import AppendTable

FRAME_BYTES = 1 << 16
STAGE_BYTES = wire.MESSAGE_MAX + (1 << 22)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def loaded(folder: Path) -> dict[str, Any] | None:
    """What a date's journal was loaded from; None if it is not one that was loaded."""
    try:
        said = json.loads((folder / LOADED).read_text())
        return {"feed": int(said["feed"]), "captures": [dict(c) for c in said["captures"]]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Draft:
    """The journal of one date, of one feed. `begin` a capture, `add` its rows, `seal`, `place`."""

    def __init__(self, config: Config, trading_date: int, feed: int, token: str) -> None:
        self.trading_date, self.feed = trading_date, feed
        self.place_at = config.journal_dir / str(trading_date)
        self.folder = config.journal_dir / f"{trading_date}.load"
        shutil.rmtree(self.folder, ignore_errors=True)  # of a load that was killed
        self.schema = config.schema
        self.rows: dict[str, int] = {t.name: 0 for t in self.schema}
        self._captures: list[dict[str, Any]] = []
        self.known: set[int] = set()
        """Instruments that are defined in it."""
        tables = [AppendTable(t) for t in self.schema]
        self._definitions = self.schema["instrument"]
        self._intake = Intake([t.columns for t in tables], self._definitions.number, feed + 1, STAGE_BYTES)
        for number in (0, feed):
            self._intake.add_feed(number)
        self._intake.roll(trading_date)
        about = {"plant": config.plant.name, "identity": token, "what": "journal",
                 "trading_date": trading_date, "schema": self.schema.describe()}  # fmt: skip
        self._journal = JournalWriter(self.folder, about, config.tickerplant.segment_bytes)
        for _ in self._journal.recover():
            pass
        nothing = {"session": 0, "next_seq": 0, "codes": b"", "counters": {}}
        self._journal.append_frame(
            wire.STATE, msgpack.packb({0: nothing, feed: nothing}), trading_date=trading_date
        )
        self._intake.last_crc = self._journal.last_crc

    def begin(self, name: str) -> None:
        """What is added from now on is of this capture."""
        number = len(self._captures) + 1  # lower than any session of a feed that runs: those are times
        self._captures.append({"name": name, "session": number})
        self._session = Session(
            self.feed, number, [(t.number, t.row_size, t.fingerprint) for t in self.schema]
        )
        self._intake.begin(self.feed, number, 0)
        self._named: set[int] = set()

    def name(self, number: int, venue: str, symbol: str) -> None:
        """Rows that bear this number of the plant's are about this instrument."""
        if number not in self._named:
            self._session.name(number, full_name(venue, symbol).encode())
            self._intake.define(self.feed, number, number)
            self._named.add(number)

    def add(self, table: Table, rows: Rows, now_ns: int) -> None:
        """Rows whose `instrument` is the plant's number, each named before."""
        if table is self._definitions:
            self.known.update(np.unique(rows["instrument"]).tolist())
        step = max(1, FRAME_BYTES // table.row_size)
        for at in range(0, len(rows), step):
            part = np.ascontiguousarray(rows[at : at + step])
            frame = self._session.frame(table.number, part.view(np.uint8), now_ns, 0)
            while self._intake.take([frame], 0, now_ns, True) == 0:
                if self._intake.reason != STAGE_FULL or not len(self._intake.staged()):
                    raise SchemaError(f"rows of table {table.name} can't be journaled")
                self._flush()
        self.rows[table.name] += len(rows)

    def _flush(self) -> None:
        staged = self._intake.staged()
        if len(staged):
            self._journal.append(staged, self._intake.last_crc)
            self._intake.clear()

    def seal(self) -> None:
        """No row comes any more; all is on disk then."""
        self._flush()
        claims = {
            self.schema.numbered(n).name: [rows, total]
            for n, (rows, total) in self._intake.claims(self.feed).items()
        }
        about = {"rows": self.rows, "claims": {0: {}, self.feed: claims}}
        self._journal.append_frame(wire.SEAL, msgpack.packb(about), trading_date=self.trading_date)
        self._journal.close()
        with (self.folder / LOADED).open("w") as file:
            json.dump({"feed": self.feed, "captures": self._captures}, file)
            file.flush()
            os.fsync(file.fileno())
        _sync(self.folder)

    def place(self) -> None:
        """Take the date's place, at once; what was there is gone then."""
        if self.place_at.exists():
            exchange(self.folder, self.place_at)
            shutil.rmtree(self.folder)
        else:
            self.folder.rename(self.place_at)
        _sync(self.place_at.parent)

    def give_up(self) -> None:
        """Nothing of it is left."""
        self._journal.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def exchange(one: Path, other: Path) -> None:
    """Two folders change their names: at no moment is one of them missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def _sync(folder: Path) -> None:
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(at)
    finally:
        os.close(at)
