"""Databento DBN: the records of a file as structured arrays, one per type and length.

A record (docs.databento.com, "Databento Binary Encoding", Records) is a little-endian struct without
padding that begins with

    offset  field          type  meaning
         0  length         u1    of the record, in units of 4 bytes
         1  rtype          u1    what follows
         2  publisher_id   u2    data set and venue
         4  instrument_id  u4    Databento's, within a UTC date
         8  ts_event       u8    the venue's time, ns UTC

The rest depends on rtype and the version of the file, and is laid out as the library's record classes
publish: `MBOMsg`, `MBP1Msg`, ... for all versions, except for definitions, statistics, symbol mappings,
errors and system messages, which grew (`InstrumentDefMsg` 360, 400, 520 bytes; `StatMsg` 64, 64, 80; the
others in version 2). A longer record has fields at its end that are not known here (with `ts_out` its
time of sending).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant._core import dbn
from tickplant.errors import CaptureError

UNDEF_PRICE = (1 << 63) - 1
UNDEF_SIZE = (1 << 32) - 1
HEADER_SIZE = 16

TYPES = {
    0: ("trades", "TradeMsg"),
    1: ("mbp-1", "MBP1Msg"),  # tbbo too
    10: ("mbp-10", "MBP10Msg"),
    17: ("ohlcv", "OHLCVMsg"),
    18: ("status", "StatusMsg"),
    19: ("definition", "InstrumentDefMsg"),
    20: ("imbalance", "ImbalanceMsg"),
    21: ("error", "ErrorMsg"),
    22: ("mapping", "SymbolMappingMsg"),
    23: ("system", "SystemMsg"),
    24: ("statistics", "StatMsg"),
    32: ("ohlcv-1s", "OHLCVMsg"),
    33: ("ohlcv-1m", "OHLCVMsg"),
    34: ("ohlcv-1h", "OHLCVMsg"),
    35: ("ohlcv-1d", "OHLCVMsg"),
    36: ("ohlcv-eod", "OHLCVMsg"),
    160: ("mbo", "MBOMsg"),
    177: ("cmbp-1", "CMBP1Msg"),
    192: ("cbbo-1s", "CBBOMsg"),
    193: ("cbbo-1m", "CBBOMsg"),
    194: ("tcbbo", "CMBP1Msg"),
    195: ("bbo-1s", "BBOMsg"),
    196: ("bbo-1m", "BBOMsg"),
    197: ("tbbo", "MBP1Msg"),
}
"""By rtype: its name, and the library's class."""


def library() -> Any:
    """The package databento_dbn. Raises CaptureError if it is not installed."""
    try:
        import databento_dbn
    except ImportError:
        raise CaptureError("to read Databento DBN: pip install 'tickplant[databento]'") from None
    return databento_dbn


@dataclass(frozen=True)
class Records:
    """Records of one type and length, and where each begins in the stream."""

    rtype: int
    name: str
    values: npt.NDArray[np.void]
    bytes: npt.NDArray[np.uint8]
    """The same records as bytes, one a row."""
    at: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Refused:
    """Records of a type that is unknown, or shorter than its type is."""

    why: str
    at: npt.NDArray[np.int64]
    size: int


@cache
def layout(version: int, rtype: int, size: int) -> np.dtype[np.void] | None:
    """The dtype of records of so many bytes; None if they are shorter than their fields."""
    kind = getattr(getattr(library(), f"v{version}"), TYPES[rtype][1])
    known = np.dtype([(name, "<" + form) for name, form in kind._dtypes])
    if size < known.itemsize:
        return None
    fields: Any = known.fields
    return np.dtype({
        "names": list(fields),
        "formats": [field[0] for field in fields.values()],
        "offsets": [field[1] for field in fields.values()],
        "itemsize": size,
    })  # fmt: skip


def split(data: memoryview, version: int, at: int) -> tuple[list[Records | Refused], int, str | None]:
    """The whole records at the beginning of `data`, which is at byte `at` of the stream.

    Returns records by type, the bytes they take, and what is wrong with the next one if it can't be a
    record (its length says less than a header has).
    """
    bytes_ = np.frombuffer(data, np.uint8)
    size = data[0] * 4 if len(data) else 0
    if size >= HEADER_SIZE and (count := len(bytes_) // size):
        end = count * size
        more = end < len(data) and data[end] != data[0]  # perhaps whole, and shorter
        if not more and dbn.same(bytes_, size, count):
            whole = bytes_[:end].reshape(count, size)
            offsets = at + np.arange(count, dtype=np.int64) * size
            return [_made(version, int(bytes_[1]), size, whole, offsets)], end, None
    starts = np.empty(len(bytes_) // HEADER_SIZE, np.int64)
    count, end = dbn.walk(bytes_, starts)
    starts = starts[:count]
    bad = _wrong(data[end]) if end < len(data) and data[end] * 4 < HEADER_SIZE else None
    return list(_grouped(bytes_, version, at, starts)), end, bad


def _wrong(length: int) -> str:
    return f"a record of {length * 4} bytes, less than its header of {HEADER_SIZE}; the rest can't be read"


def _grouped(
    data: npt.NDArray[np.uint8], version: int, at: int, starts: npt.NDArray[np.int64]
) -> Iterator[Records | Refused]:
    kinds = data[starts].astype(np.uint16) << 8 | data[starts + 1]
    for kind in np.unique(kinds).tolist():
        size, rtype = (kind >> 8) * 4, kind & 0xFF
        own = starts[kinds == kind]
        rows = np.lib.stride_tricks.sliding_window_view(data, size)[own]
        yield _made(version, rtype, size, rows, at + own)


def _made(
    version: int, rtype: int, size: int, rows: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]
) -> Records | Refused:
    if rtype not in TYPES:
        return Refused(f"a record of unknown type {rtype}, {size} bytes", at, size)
    name = TYPES[rtype][0]
    dtype = layout(version, rtype, size)
    if dtype is None:
        return Refused(f"a record of type {name} of only {size} bytes", at, size)
    return Records(rtype, name, rows.view(dtype).reshape(-1), rows, at)
