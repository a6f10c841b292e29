"""Columns of the plant as Arrow, pandas and Polars: text as str, instruments by name, times as times.

    column of the plant             Arrow
    ts_...      i8, ns UTC          timestamp[ns, UTC]; 0, of a time not known, stays 1970-01-01
    instrument  u4                  dictionary<int32, string> of VENUE:SYMBOL; no instrument is the empty name
    S1..S255                        string, without the NULs at its end; what is not UTF-8 as escapes (\\xff)
    all others                      the same numbers; NaN stays NaN and is no null

Numbers, times and (where most instruments occur) instruments are not copied where the columns lie in one
piece, as those of shared memory do. The plain numpy arrays stay what they are: bytes, numbers, ns.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from tickplant.errors import ConfigError, NoColumn
from tickplant.instruments import Instruments
from tickplant.shown import Shown, grid, nearest

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Names = Callable[[], Instruments]
"""The plant's instruments, up to date when it is called."""
Columns = Mapping[str, npt.NDArray[Any]]

_CHUNK = 1 << 20
"""Rows of text that are looked at together."""
_dictionaries: WeakKeyDictionary[Instruments, tuple[int, Any]] = WeakKeyDictionary()


class Frame(dict[str, npt.NDArray[Any]]):
    """Columns of equal length: a dict of numpy arrays, and `.arrow() .pandas() .polars()`."""

    def __init__(self, columns: Columns, names: Names | None = None, title: str = "") -> None:
        super().__init__(columns)
        self.names, self.title = names, title

    @property
    def rows(self) -> int:
        """How many rows each column has."""
        return len(next(iter(self.values()))) if self else 0

    def __missing__(self, column: str) -> npt.NDArray[Any]:
        raise no_column(column, self, self.title)

    def numpy(self) -> dict[str, npt.NDArray[Any]]:
        """The plain arrays."""
        return dict(self)

    def arrow(self) -> "pyarrow.Table":
        """As an Arrow table. Raises ConfigError where pyarrow is not installed."""
        return to_arrow(self, self.names)

    def pandas(self) -> "pandas.DataFrame":
        """As a pandas data frame. Raises ConfigError where pandas or pyarrow is not installed."""
        return to_pandas(self, self.names)

    def polars(self) -> "polars.DataFrame":
        """As a Polars data frame. Raises ConfigError where polars or pyarrow is not installed."""
        return to_polars(self, self.names)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return grid(self.title, Shown(self.rows, list(self), lambda name, at: self[name][at]), self.names)


def no_column(column: object, known: Mapping[str, Any] | list[str], title: str = "") -> NoColumn:
    """What to raise for a column that is not there."""
    names = list(known)
    of = f" in {title}" if title else ""
    near = nearest(str(column), names)
    return NoColumn(f"there is no column {column!r}{of}; {near}there are: {', '.join(names)}")


def to_arrow(columns: Columns, names: Names | None = None) -> "pyarrow.Table":
    """Columns as an Arrow table. `names`: of the instruments; without them they stay numbers."""
    pa = _module("pyarrow")
    return pa.table({name: _converted(pa, name, values, names) for name, values in columns.items()})


def to_pandas(columns: Columns, names: Names | None = None, index: Any = None) -> "pandas.DataFrame":
    """Columns as a pandas data frame. `index`: the numbers of the rows, if they are not 0, 1, 2..."""
    pd = _module("pandas")
    made: pandas.DataFrame = to_arrow(columns, names).to_pandas()
    if index is not None:
        made.index = pd.Index(index, name="row")
    return made


def to_polars(columns: Columns, names: Names | None = None) -> "polars.DataFrame":
    """Columns as a Polars data frame."""
    made: polars.DataFrame = _module("polars").from_arrow(to_arrow(columns, names))
    return made


def _module(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise ConfigError(f"{name} is not installed; run: pip install 'tickplant[frames]'") from None


def _converted(pa: Any, name: str, values: npt.NDArray[Any], names: Names | None) -> Any:
    """One column as an Arrow array."""
    if values.dtype.kind == "S":
        return _text(pa, values)
    values = np.ascontiguousarray(values)
    if name == "instrument" and names is not None:
        return _instruments(pa, values, names())
    if name.startswith("ts_") and values.dtype == np.int64:
        return pa.array(values.view("M8[ns]")).cast(pa.timestamp("ns", "UTC"))
    return pa.array(values)


def _instruments(pa: Any, numbers: npt.NDArray[Any], instruments: Instruments) -> Any:
    """Names as a dictionary: of all instruments, or, where few rows are, of those that occur."""
    highest = int(numbers.max(initial=0))
    if len(numbers) >= len(instruments) > highest:
        return pa.DictionaryArray.from_arrays(pa.array(numbers.view("<i4")), _all_names(pa, instruments))
    used, codes = np.unique(numbers, return_inverse=True)
    named = [instruments[n] if n < len(instruments) else f"#{n}" for n in used.tolist()]
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(named, pa.string()))


def _all_names(pa: Any, instruments: Instruments) -> Any:
    there, made = _dictionaries.get(instruments, (0, None))
    if there != len(instruments):
        made = pa.array(["", *instruments], pa.string())
        _dictionaries[instruments] = (len(instruments), made)
    return made


def _text(pa: Any, values: npt.NDArray[Any]) -> Any:
    """Bytes padded with NULs as strings."""
    parts = [_strings(pa, values[at : at + _CHUNK]) for at in range(0, len(values), _CHUNK)]
    return pa.chunked_array(parts or [pa.array([], pa.string())], pa.string())


def _strings(pa: Any, values: npt.NDArray[Any]) -> Any:
    width = values.dtype.itemsize
    cells = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), width)
    # From the end: how many NULs come before the last byte that is none.
    last = np.argmax(cells[:, ::-1] != 0, axis=1)
    lengths = np.where(cells[np.arange(len(cells)), width - 1 - last] != 0, width - last, 0)
    offsets = np.zeros(len(cells) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    data = cells[np.arange(width) < lengths[:, None]]
    made = pa.StringArray.from_buffers(len(cells), pa.py_buffer(offsets), pa.py_buffer(data))
    if data.size and int(data.max()) >= 0x80:
        try:
            made.validate(full=True)
        except pa.ArrowInvalid:
            return pa.array([v.decode("utf-8", "backslashreplace") for v in values.tolist()], pa.string())
    return made
