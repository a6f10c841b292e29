"""The trading dates that are over, as far as they are in memory: brought up where there was no room, and
dropped when they are proven."""

import json
import logging
import re
from collections.abc import Iterator
from math import inf
from pathlib import Path

from tickplant import catchup, checkpoint, segment
from tickplant.catchup import CatchUp
from tickplant.clock import SECOND_NS, as_date, now_ns
from tickplant.config import Config
from tickplant.day import LOADED, declared
from tickplant.errors import JournalError, TableFull
from tickplant.journal import SUFFIX
from tickplant.schema import Schema
from tickplant.table import segment_name, waits

DAY_S = 86_400
log = logging.getLogger(__name__)

_BESIDE = ("durable", LOADED, checkpoint.NAME, f"{checkpoint.NAME}.draft")
"""What a journal has beside its segments."""
_DATE = re.compile("[0-9]{8}")


def _complete(proof: Path) -> bool:
    """Does a proof say that all is in place? One that can't be read does not."""
    try:
        return bool(json.loads(proof.read_text())["complete"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _days_since_loaded(folder: Path) -> float:
    """How long ago a date was loaded from captures: it is kept as long as one of that day."""
    try:
        return (now_ns() / SECOND_NS - (folder / LOADED).stat().st_mtime) / DAY_S
    except OSError:
        return inf


class FinishedDates:
    """`look` when a date has begun, `turn` often, `tidy` now and then."""

    def __init__(self, config: Config, identity: str) -> None:
        self.config, self.identity = config, identity
        self._late: dict[int, CatchUp] = {}
        self._kept: set[Path] = set()

    def look(self, trading_date: int) -> None:
        """Find the tables of earlier dates that lack rows, be it since a roll or since before a restart."""
        for date in sorted(set(self._unsealed(trading_date)) - set(self._late)):
            tables = [t for t in self.config.schema if waits(self._name(date, t.name))]
            folder = self.config.journal_dir / str(date)
            try:
                if declared(folder).describe() != self.config.schema.describe():
                    continue
            except JournalError as e:
                log.warning("tables of trading date %d stay behind: %s", date, e)
                continue
            t = self.config.tickerplant
            self._late[date] = catchup.of_date(
                folder, self.config.plant.name, self.identity, date, Schema(tables), t.instruments_max,
                t.extent_rows,
            )  # fmt: skip

    def _unsealed(self, below: int) -> Iterator[int]:
        for name in segment.names(f"tp.{self.config.plant.name}."):
            _, _, date, *table = name.split(".")
            if len(table) == 1 and _DATE.fullmatch(date) and 0 < int(date) < below and waits(name):
                yield int(date)

    def _name(self, date: int, table: str) -> str:
        return segment_name(self.config.plant.name, date, table)

    def turn(self) -> None:
        """Bring a slice of what the oldest date lacks, as far as there is room."""
        for date, late in self._late.items():
            late.turn()
            if not late.pending:
                for table in late.tables:
                    table.seal()
                log.info("the tables of trading date %d are complete", date)
                del self._late[date]
            return

    @property
    def full(self) -> TableFull | None:
        """Why an earlier date still lacks rows, if one does."""
        return next((t.full for late in self._late.values() for t in late.tables if t.full), None)

    def tidy(self, trading_date: int) -> None:
        """Drop what is proven: the tables of finished dates at once, their journals after keep_days."""
        proofs = self.config.plant.data_dir / "proofs"
        for path in proofs.glob("[0-9]" * 8 + ".json"):
            date = int(path.stem)
            if date >= trading_date or date in self._late or not _complete(path):
                continue
            for table in self.config.schema:
                segment.remove(self._name(date, table.name))
            old = as_date(trading_date) - as_date(date)
            folder = self.config.journal_dir / str(date)
            if min(old.days, _days_since_loaded(folder)) > self.config.tickerplant.keep_days:
                self._drop(folder)

    def _drop(self, folder: Path) -> None:
        """Delete a journal. What an operator put into it stays, and so does its folder then."""
        if folder in self._kept or not folder.is_dir():
            return
        try:
            for file in folder.iterdir():
                if file.suffix == SUFFIX or file.name in _BESIDE:
                    file.unlink()
            folder.rmdir()
        except OSError as e:
            self._kept.add(folder)
            log.warning(
                "the journal %s is done with, and stays: %s; see: ls -la %s", folder, e.strerror, folder
            )
