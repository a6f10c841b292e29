"""Which lines of a file can't be rows: a value that the table needs is not there, or can't be one.

    trade       price and size are numbers, and not 0 (unless the mapping says `zero`)
    depth       price is a number; size is one, unless the level is deleted (D) or the book begins anew (R)
    order       price is a number where an order is added or replaced (A, U); size, unless it is deleted
    bar         open, high, low and close are numbers

A size is never negative, no number is infinite, no text is longer than its column, no integer larger, and a
map knows each text or says `else`. What of a quote is empty is a side without a price.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.feed.files.columns_rows import Lines, values
from tickplant.feed.files.mapping import Mapping, RowRule, Source
from tickplant.feed.sink import shipped_schema

Which = npt.NDArray[np.bool_]
NEEDED = {
    "trade": ("price", "size"), "depth": ("price", "size"), "order": ("price", "size"),
    "bar": ("open", "high", "low", "close"),
}  # fmt: skip
UNNEEDED = {
    ("depth", "price"): b"R", ("depth", "size"): b"RD", ("order", "price"): b"RDXE", ("order", "size"): b"RD",
}  # fmt: skip
"""By table and column: the actions that do without."""
SIZES = {
    "size",
    "bid_size",
    "ask_size",
    "volume",
    "notional",
    "buy_volume",
    "sell_volume",
    "trades",
    "orders",
}


def wrong(mapping: Mapping, lines: Lines) -> Iterator[tuple[str, Which]]:
    """Columns of the file, and which of the lines have something in them that can't be."""
    for rule in mapping.rows:
        own = lines.of(rule)
        if not own.any():
            continue
        action = _action(rule, mapping, lines)
        dtype = shipped_schema()[rule.table].dtype
        for name in rule.columns:
            source = rule.source(name)
            if source.column:
                yield (
                    source.column,
                    own & _wrong(rule.table, name, source, lines, dtype[name], mapping, action),
                )


def _wrong(
    table: str, name: str, source: Source, lines: Lines, dtype: np.dtype[Any], mapping: Mapping, action: Any
) -> Which:
    """The same for one column of a table."""
    if source.map or dtype.kind == "S":
        return _wrong_texts(source, lines, dtype)
    if source.total:
        return np.zeros(len(lines), np.bool_)
    found = values(source, lines, dtype, mapping)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        beyond: Which = (found < limits.min) | (found > limits.max) | ((found < 0) & (name in SIZES))
        return beyond
    bad: Which = np.asarray(found < 0) & (name in SIZES)
    if name in NEEDED.get(table, ()):
        free = np.isin(action, list(UNNEEDED.get((table, name), b"")))
        bad |= np.isnan(found) & ~free
    if table == "trade" and name in NEEDED["trade"] and not source.zero:
        bad |= found == 0
    return bad


def _wrong_texts(source: Source, lines: Lines, dtype: np.dtype[Any]) -> Which:
    texts = lines.texts[source.column]
    if source.map:
        known = [t in source.map or source.otherwise is not None for t in texts]
    else:
        known = [len(t.encode()) <= dtype.itemsize for t in texts]
    found: Which = ~np.array(known or [True], np.bool_)[lines.values[source.column, "text"]]
    return found


def _action(rule: RowRule, mapping: Mapping, lines: Lines) -> npt.NDArray[np.uint8]:
    """The letter of each line's action; A where the mapping does not tell."""
    if "action" not in rule.columns or rule.table not in NEEDED:
        return np.full(len(lines), ord("A"), np.uint8)
    dtype = shipped_schema()[rule.table].dtype
    if "action" not in (dtype.names or ()):
        return np.full(len(lines), ord("A"), np.uint8)
    made = np.empty(len(lines), "S1")
    made[:] = values(rule.source("action"), lines, dtype["action"], mapping)
    return made.view(np.uint8)
