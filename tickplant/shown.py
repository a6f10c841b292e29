"""How rows look where somebody prints them: the first and the last ones, under the names of their columns."""

import difflib
import shutil
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tickplant.clock import SECOND_NS
from tickplant.instruments import Instruments
from tickplant.terminal import printable

FIRST = LAST = 5
WIDTH = 120
"""Characters of a line where there is no terminal."""
TEXT_MAX = 40
NEAR = 3
UNSHOWN = ("ts_recv", "ts_plant")
"""Columns that are left out where there is not room for all."""
_GAP = "  "


class Shown(NamedTuple):
    """Rows to be shown."""

    rows: int
    columns: Sequence[str]
    cell: Callable[[str, int], Any]
    """cell(column, row)"""
    first_row: int = 0
    numbers: npt.NDArray[np.int64] | None = None
    """The rows' numbers, if they do not just follow `first_row`."""


def grid(title: str, shown: Shown, names: Callable[[], Instruments] | None = None) -> str:
    """A title, and the first and last rows as aligned columns, as many as there is room for."""
    at = _chosen(shown.rows)
    head = f"{title}: {shown.rows:,} row{'' if shown.rows == 1 else 's'}" if title else f"{shown.rows:,} rows"
    if not at or not shown.columns:
        return f"{head}; columns: {', '.join(shown.columns)}" if shown.columns else head
    instruments = names() if names else None
    numbers = shown.numbers
    texts = {"row": ["" if n is None else f"{_number(shown.first_row, numbers, n):,}" for n in at]}
    for column in shown.columns:
        cells = ["..." if n is None else _cell(column, shown.cell(column, n), instruments) for n in at]
        texts[column] = cells
    widths = {name: max(len(name), *map(len, cells)) for name, cells in texts.items()}
    fitting, left_out = _fitting(widths)
    lines = [head, _GAP.join(name.rjust(widths[name]) for name in fitting)]
    lines += [_GAP.join(texts[name][i].rjust(widths[name]) for name in fitting) for i in range(len(at))]
    if left_out:
        lines.append(f"and {len(left_out)} more columns: {', '.join(left_out)}")
    return "\n".join(lines)


def listed(things: Iterable[str], most: int = 10) -> str:
    """The first of some names, and how many more there are."""
    names = list(things)
    more = f", ... {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean ...? ` with the names nearest to one; empty if none is near."""
    found = difflib.get_close_matches(name, list(known), NEAR, 0.6)
    return f"did you mean {' or '.join(found)}? " if found else ""


def _chosen(rows: int) -> list[int | None]:
    """The rows that are shown; None stands for those between."""
    if rows <= FIRST + LAST:
        return list(range(rows))
    return [*range(FIRST), None, *range(rows - LAST, rows)]


def _number(first_row: int, numbers: npt.NDArray[np.int64] | None, at: int) -> int:
    return first_row + at if numbers is None else int(numbers[at])


def _fitting(widths: dict[str, int]) -> tuple[list[str], list[str]]:
    """The columns that there is room for, and the others."""
    room = shutil.get_terminal_size((WIDTH, 24)).columns
    order = [n for n in widths if n not in UNSHOWN] + [n for n in UNSHOWN if n in widths]
    kept: set[str] = set()
    for name in order:
        if sum(widths[n] + len(_GAP) for n in kept) + widths[name] > room and len(kept) > 1:
            break
        kept.add(name)
    return [n for n in widths if n in kept], [n for n in widths if n not in kept]


def _cell(column: str, value: Any, instruments: Instruments | None) -> str:
    if column == "instrument" and instruments is not None and int(value) < len(instruments):
        return printable(instruments[int(value)])
    if column.startswith("ts_") and not isinstance(value, bytes):
        return _time(int(value))
    if isinstance(value, bytes):
        text = printable(value.decode("utf-8", "backslashreplace"))
        return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 3] + "..."
    plain = value.item() if hasattr(value, "item") else value
    return f"{plain:.12g}" if isinstance(plain, float) else str(plain)


def _time(at_ns: int) -> str:
    if not at_ns:
        return ""
    try:
        whole = datetime.fromtimestamp(at_ns // SECOND_NS, UTC)
    except (ValueError, OverflowError, OSError):
        return str(at_ns)
    return f"{whole:%Y-%m-%d %H:%M:%S}.{at_ns % SECOND_NS:09d}"
