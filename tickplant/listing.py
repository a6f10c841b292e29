"""Rows as lines: columns for people at a terminal, JSON and CSV for programs.

What a venue wrote is text of a stranger: characters that a terminal acts on are shown as escapes.
"""

import csv
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tickplant.batch import Batch
from tickplant.clock import SECOND_NS
from tickplant.instruments import Instruments
from tickplant.terminal import printable

GAP = "  "
HEAD_EVERY = 50
"""Lines between two heads of columns."""
LEFT_OUT_FIRST = ("flags", "feed", "venue_seq", "ref_id", "trade_id", "session", "first", "last")
"""Where not all columns fit, these go before those at the right."""
CUT = 16
"""Text in the last column is cut rather than left out, if there is room for so many characters."""
KEPT = ("row", "ts_event", "instrument")
UNSHOWN = ("ts_recv", "ts_plant")


class Listing(ABC):
    """Turns batches of one table into lines."""

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments

    @abstractmethod
    def lines(self, batch: Batch) -> Iterator[str]:
        """The rows of a batch, a line each, and what goes above them."""

    def rows(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """Each row as plain values: its number, the instrument's name, text as str, NaN as None."""
        names = batch.dtype.names or ()
        numbers = range(batch.first_row, batch.first_row + len(batch))
        for number, values in zip(
            numbers if batch.numbers is None else batch.numbers.tolist(), batch.tolist(), strict=True
        ):
            row: dict[str, Any] = {"row": number} | dict(zip(names, values, strict=True))
            row["instrument"] = self.instruments[row["instrument"]]
            yield {name: _plain(value) for name, value in row.items()}


class JsonLines(Listing):
    """One JSON object a line; times are integers, ns UTC."""

    def lines(self, batch: Batch) -> Iterator[str]:
        """The rows of a batch."""
        place = {"table": batch.table, "trading_date": batch.trading_date}
        for row in self.rows(batch):
            yield json.dumps(place | row)


class Csv(Listing):
    """Comma-separated values (RFC 4180) below one line of names; times are integers, ns UTC."""

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self._headed = False

    def lines(self, batch: Batch) -> Iterator[str]:
        """The rows of a batch; above the first of all, the names."""
        for row in self.rows(batch):
            row = {"trading_date": batch.trading_date} | row
            if not self._headed:
                self._headed = True
                yield _csv(list(row))
            yield _csv(["" if value is None else value for value in row.values()])


class Columns(Listing):
    """Aligned columns of at most `width` characters, under a head that has the day of the times.

    A column that is empty in all rows is left out until a row has something in it.
    """

    def __init__(self, instruments: Instruments, width: int) -> None:
        super().__init__(instruments)
        self.width = width
        self.left_out: tuple[str, ...] = ()
        """Names of the columns that have values and no room."""
        self._widths: dict[str, int] = {}
        self._room: dict[str, int] = {}
        self._shown: list[str] = []
        self._numeric: set[str] = set()
        self._day = ""
        self._since_head = HEAD_EVERY

    def lines(self, batch: Batch) -> Iterator[str]:
        """The rows of a batch; a head above the first, above another day, and where columns change."""
        if not len(batch):
            return
        kinds = dict(batch.dtype.fields or {})
        self._numeric = {name for name, (kind, *_) in kinds.items() if kind.kind in "iuf"} | {"row"}
        self._numeric -= {"ts_event", "instrument"}
        rows = list(self.rows(batch))
        cells = [{n: _cell(n, v) for n, v in row.items() if n not in UNSHOWN} for row in rows]
        changed = self._grow(cells)
        for row, texts in zip(rows, cells, strict=True):
            day = day_text(row["ts_event"]) if row["ts_event"] else self._day
            if changed or day != self._day or self._since_head >= HEAD_EVERY:
                changed, self._day, self._since_head = False, day, 0
                yield self._line({name: name for name in self._shown} | {"ts_event": f"{day} UTC".strip()})
            self._since_head += 1
            yield self._line(texts)

    def _grow(self, rows: list[dict[str, str]]) -> bool:
        """Make room for these rows; True if the columns are others or elsewhere than before."""
        before = dict(self._widths)
        for name in rows[0]:
            widest = max(len(row[name]) for row in rows)
            if widest or name in self._widths or name in KEPT:
                self._widths[name] = max(widest, self._widths.get(name, 0), HEADS.get(name, len(name)))
        self._widths = {name: self._widths[name] for name in rows[0] if name in self._widths}
        self._room = dict(self._widths)
        self._shown = self._fitting(list(self._widths))
        self.left_out = tuple(name for name in self._widths if name not in self._shown)
        return self._widths != before

    def _fitting(self, names: list[str]) -> list[str]:
        """Of these columns, those that there is room for."""
        shown, last = list(names), names[-1]
        if last not in self._numeric:
            self._room[last] = min(self._room[last], CUT)
        spare = [n for n in LEFT_OUT_FIRST if n in names]
        spare += [n for n in reversed(names) if n not in {*spare, *KEPT}]
        for name in spare:
            if self._free(shown) >= 0:
                break
            shown.remove(name)
        if shown[-1] == last:
            self._room[last] = min(self._widths[last], self._room[last] + max(self._free(shown), 0))
        return shown

    def _free(self, names: list[str]) -> int:
        """Characters of a line that these columns leave."""
        return self.width - sum(self._room[n] + len(GAP) for n in names) + len(GAP)

    def _cut(self, name: str, text: str) -> str:
        room = self._room[name]
        return text if len(text) <= room else text[: room - 1] + "…"

    def _line(self, row: dict[str, str]) -> str:
        cells = []
        for name in self._shown:
            side = ">" if name in self._numeric else "<"
            cells.append(f"{self._cut(name, row[name]):{side}{self._room[name]}}")
        return GAP.join(cells).rstrip()


HEADS = {"ts_event": len("2026-12-01 UTC")}
"""Characters of a head that is not the column's name."""


def day_text(at_ns: int) -> str:
    """The day of a time, UTC: 2026-12-01."""
    return f"{datetime.fromtimestamp(at_ns // SECOND_NS, UTC):%Y-%m-%d}"


def time_text(at_ns: int) -> str:
    """The time of day, UTC, to the nanosecond: 09:30:00.000000001."""
    return f"{datetime.fromtimestamp(at_ns // SECOND_NS, UTC):%H:%M:%S}.{at_ns % SECOND_NS:09d}"


def _cell(name: str, value: Any) -> str:
    if value is None or (name == "flags" and value == 0):
        return ""
    if name == "ts_event":
        return time_text(value) if value else ""
    return printable(value) if isinstance(value, str) else repr(value)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return None if isinstance(value, float) and math.isnan(value) else value


def _csv(values: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
