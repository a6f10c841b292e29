"""Rows one by one into packed batches, and foreign arrays into the declared shape."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant._core.session import Packer
from tickplant.clock import now_ns
from tickplant.errors import SchemaError
from tickplant.schema import Column, Rows, Table


def encoded(value: str) -> bytes:
    """The bytes of a string in a row. Raises SchemaError if it is not text."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise SchemaError(f"{value!r} can't be encoded as UTF-8") from None


class RowBatch:
    """A buffer of packed rows that are added one at a time."""

    def __init__(self, table: Table, room: int, later: Callable[..., None] | None = None) -> None:
        """`later`: takes the values of those rows that `packed.push` does not add."""
        self.table, self.room = table, room
        self.packed = Packer([(c.name, c.type, c.offset) for c in table.columns], room, now_ns, later,
                             dict(table.defaults))  # fmt: skip
        """The rows that wait to be taken, as a buffer."""

    def __len__(self) -> int:
        return self.packed.rows

    def add(self, now_ns: int, values: dict[str, Any]) -> None:
        """Add a row. Raises SchemaError for a column not declared or a value that does not fit."""
        try:
            self.packed.add(now_ns, values)
        except KeyError as e:
            known = ", ".join(c.name for c in self.table.columns)
            raise SchemaError(f"table {self.table.name} has no column {e}; it has {known}") from None
        except (TypeError, ValueError, OverflowError) as e:
            raise SchemaError(f"a value does not fit table {self.table.name}: {e}, in {values}") from None


def conform(table: Table, rows: Rows, now_ns: int) -> Rows:
    """`rows` in the table's declared shape, contiguous; a ts_recv of 0 becomes now.

    Columns that `rows` lacks have their default, or are NaN or zero, and times now. Raises SchemaError for
    columns the table lacks, and for values that a column can't hold as they are.
    """
    if rows.dtype.names is None or rows.ndim != 1:
        raise SchemaError(
            f"rows for table {table.name} must be a structured array, not {rows.ndim} x {rows.dtype}"
        )
    extra = set(rows.dtype.names) - {c.name for c in table.columns}
    if extra:
        raise SchemaError(f"table {table.name} has no column {', '.join(sorted(extra))}")
    if rows.dtype == table.dtype:
        out = np.ascontiguousarray(rows)
    else:
        out, defaults = table.empty(len(rows)), dict(table.defaults)
        out["ts_event"] = now_ns
        for column in table.columns:
            if column.name in rows.dtype.names:
                out[column.name] = _fitting(table, column, rows[column.name])
            elif column.name in defaults:
                out[column.name] = defaults[column.name]
            elif column.type[0] == "f":
                out[column.name] = np.nan
    if len(out) and not out["ts_recv"].all():
        out = out.copy() if out is rows or out.base is not None else out
        out["ts_recv"][out["ts_recv"] == 0] = now_ns
    return out


def _fitting(table: Table, column: Column, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values as a column holds them. Raises SchemaError if any would change on the way."""
    problem = f"values of {values.dtype} do not fit {table.name}.{column.name} ({column.type})"
    if values.dtype.kind in "OU":
        values = _plain(values, problem)
    kind = column.type[0]
    if (kind == "S") != (values.dtype.kind == "S") or values.dtype.kind not in "biufS":
        raise SchemaError(problem)
    with np.errstate(all="ignore"):
        out = values.astype(table.dtype[column.name])
        same = out == values
    if kind == "f":  # rounding to the column's precision is what was asked for; infinity is not
        same = np.isfinite(out) | ~np.isfinite(values)
    if not same.all():
        raise SchemaError(f"{problem}, such as {values[~same][0]!r}")
    return out


def _plain(values: npt.NDArray[Any], problem: str) -> npt.NDArray[Any]:
    """Python's objects, or text, as numbers or bytes."""
    try:
        return np.array([encoded(v) if isinstance(v, str) else v for v in values.tolist()])
    except ValueError:
        raise SchemaError(problem) from None
