"""Rows to and from PostgreSQL's binary COPY format, by columns in numpy and never row by row.

A COPY stream is `HEADER`, tuples, `TRAILER`. All columns are NOT NULL and of fixed width, so every
tuple of a table has the same size and a block of tuples is one big-endian structured array:

    count i2 | 4 i4, date i4 | 8 i4, row i8 | length i4, value | length i4, value | ...

    type      PostgreSQL        value
    i1 i2     smallint          2 bytes
    u1        smallint          one zero byte, then the byte
    i4        integer           4 bytes
    u2        integer           two zero bytes, then 2 bytes
    i8        bigint            8 bytes
    u4        bigint            four zero bytes, then 4 bytes
    f4 f8     real, double      the bits, never as numbers: every NaN keeps its payload
    S<n>      bytea             n bytes, NULs included: any byte is exact

The counts and lengths are the same in every tuple: they are written once into a buffer that is
kept, and a block then costs one strided copy per column.
"""

import datetime
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.clock import as_date
from tickplant.errors import HistoryError, SchemaError
from tickplant.schema import Column, Rows, Table

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""Begins a stream: signature, no flags, no extension."""
TRAILER = b"\xff\xff"
"""Ends a stream: a field count of -1."""

BLOCK_BYTES = 1 << 16
"""Tuples are made in blocks of about this size: they stay in the processor's cache, and a block is
made in less time than the server needs for what is still in the socket, so it never waits."""

_WIDTHS = {"i1": 2, "i2": 2, "u1": 2, "i4": 4, "u2": 4, "i8": 8, "u4": 8, "f4": 4, "f8": 8}
_EPOCH = datetime.date(2000, 1, 1).toordinal()

Numbers = npt.NDArray[np.int64]
"""Row numbers."""


def date_of(trading_date: int) -> datetime.date:
    """The date written as yyyymmdd. Raises HistoryError if there is no such date."""
    try:
        return as_date(trading_date)
    except ValueError:
        raise HistoryError(f"trading date {trading_date} is not a date written yyyymmdd") from None


class Encoder:
    """Makes tuples of one table; keeps its buffer between blocks. For one thread."""

    def __init__(self, table: Table) -> None:
        self.table = table
        tuples = _tuples(table)
        self.block_rows = max(1, BLOCK_BYTES // tuples.itemsize)
        self._block = np.empty(self.block_rows, tuples)
        self._block[:] = _template(table)
        self._targets = [(c.name, self._block[c.name]) for c in table.columns]
        self._raw = _raw(table)
        self._bytes = _octets(self._block).data

    def blocks(self, trading_date: int, first_row: int | Numbers, rows: Rows) -> Iterator[memoryview]:
        """The tuples of `rows` in blocks, each valid until the next is asked for.

        `first_row` is the number of the first row, those after it follow; or all the numbers.
        Raises SchemaError unless the rows are the table's, HistoryError if there is no such date.
        """
        if rows.dtype != self.table.dtype:
            raise SchemaError(f"rows of {rows.dtype} are not rows of table {self.table.name}")
        if not isinstance(first_row, int) and len(first_row) != len(rows):
            raise SchemaError(f"{len(first_row)} row numbers for {len(rows)} rows")
        self._block[".date"] = date_of(trading_date).toordinal() - _EPOCH
        raw = rows.view(self._raw)
        for start in range(0, len(rows), self.block_rows):
            stop = min(start + self.block_rows, len(rows))
            if isinstance(first_row, int):
                numbers: Any = np.arange(first_row + start, first_row + stop, dtype=np.int64)
            else:
                numbers = first_row[start:stop]
            yield self._fill(numbers, raw[start:stop])

    def _fill(self, numbers: Numbers, raw: Rows) -> memoryview:
        count = len(raw)
        self._block[".row"][:count] = numbers
        for name, target in self._targets:
            target[:count] = raw[name]
        return self._bytes[: count * self._block.itemsize]


def encode(table: Table, trading_date: int, first_row: int | Numbers, rows: Rows) -> bytes:
    """The tuples of `rows`, without `HEADER` and `TRAILER`; raises as `Encoder.blocks`."""
    return b"".join(bytes(b) for b in Encoder(table).blocks(trading_date, first_row, rows))


class Decoder:
    """Takes a stream apart that may come split anywhere.

    The columns of the stream are trading_date, row, then the table's in order.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._rest = b""
        self._begun = False
        self._tuples = _tuples(table)
        self._block_rows = max(1, BLOCK_BYTES // self._tuples.itemsize)
        self._fixed = _octets(np.repeat(_template(table), self._block_rows))
        self._mask = _octets(np.repeat(_mask(table), self._block_rows))

    def feed(self, data: bytes) -> tuple[Numbers, Rows]:
        """Row numbers and rows that are complete with `data`.

        Raises HistoryError on a NULL and on anything that these columns can't hold.
        """
        data = self._rest + data if self._rest else data
        start = 0
        if not self._begun:
            if len(data) < len(HEADER):
                self._rest = data
                return self._take(b"")
            if not data.startswith(HEADER):
                raise HistoryError(f"not a binary COPY stream: begins with {data[:19]!r}")
            self._begun, start = True, len(HEADER)
        size = self._tuples.itemsize
        stop = start + (len(data) - start) // size * size
        self._rest = data[stop:]
        return self._take(memoryview(data)[start:stop])

    def close(self) -> None:
        """Raises HistoryError unless the stream has come to its end."""
        if self._begun and self._rest == TRAILER:
            return
        # A tuple with a NULL is shorter than others: its own beginning tells what it is.
        size = self._tuples.itemsize
        begin = np.frombuffer(self._rest[:size].ljust(size, b"\0"), self._tuples)
        if self._begun and (wrong := self._misfit(begin[0], len(self._rest))):
            raise HistoryError(wrong)
        raise HistoryError(
            f"COPY of table {self.table.name} ended early: its last {len(self._rest)} bytes are"
            " neither a row nor the end; read it again"
        )

    def _take(self, data: bytes | memoryview) -> tuple[Numbers, Rows]:
        tuples = np.frombuffer(data, self._tuples)
        rows = self.table.empty(len(tuples))
        numbers = np.empty(len(tuples), np.int64)
        raw = rows.view(_raw(self.table))
        for start in range(0, len(tuples), self._block_rows):
            block = slice(start, start + self._block_rows)
            self._check(tuples[block])
            numbers[block] = tuples[".row"][block]
            for column in self.table.columns:
                raw[column.name][block] = tuples[column.name][block]
        return numbers, rows

    def _check(self, tuples: Rows) -> None:
        """Every count, length and zero byte is as `Encoder` writes it."""
        octets = _octets(tuples)
        wrong = (octets ^ self._fixed[: len(octets)]) & self._mask[: len(octets)]
        if wrong.any():
            at = int(wrong.argmax()) // self._tuples.itemsize
            raise HistoryError(self._misfit(tuples[at], self._tuples.itemsize) or self._large(tuples[at]))
        for column in self.table.columns:
            if column.type == "i1":
                values = tuples[column.name]
                large = values != values.astype(np.int8)
                if large.any():
                    raise HistoryError(self._large(tuples[large.argmax()]))

    def _misfit(self, at: np.void, known: int) -> str:
        """What the first count or length that is wrong says, in the `known` bytes of a tuple."""
        template = _template(self.table)[0]
        fields: Mapping[str, Any] = self._tuples.fields or {}
        place = f"table {self.table.name}, row {at['.row']}"
        names = {".count": "", "..date": "trading_date", "..row": "row"}
        names |= {f".{c.name}": c.name for c in self.table.columns}
        for field, name in names.items():
            kind, offset = fields[field][:2]
            if offset + kind.itemsize > known:
                break
            if at[field] == template[field]:
                continue
            if not name:
                return f"{place}: {at[field]} columns, not {template[field]}"
            what = "NULL" if at[field] == -1 else f"{at[field]} bytes, not {template[field]}"
            return f"{place}: {name} is {what}; rebuild the date: `tickplant hdb load --date YYYYMMDD`"
        return ""

    def _large(self, at: np.void) -> str:
        return (
            f"table {self.table.name}, row {at['.row']}: a value is too large for its column;"
            " rebuild the date: `tickplant hdb load --date YYYYMMDD`"
        )


def decode(table: Table, data: bytes) -> tuple[Numbers, Rows]:
    """Row numbers and rows of a whole stream; raises HistoryError as `Decoder`."""
    decoder = Decoder(table)
    taken = decoder.feed(data)
    decoder.close()
    return taken


@lru_cache(maxsize=512)
def _tuples(table: Table) -> np.dtype[np.void]:
    """A tuple: `.count`; `..date`, `.date`; `..row`, `.row`; then length `.<name>`, value `<name>`.

    An unsigned column has its zero bytes apart, as `<name>.`: then its value, too, is a plain copy
    of as many bytes, which numpy does several times faster than a conversion to a wider type.
    """
    fields = [(".count", ">i2"), ("..date", ">i4"), (".date", ">i4")]
    fields += [("..row", ">i4"), (".row", ">i8")]
    for c in table.columns:
        fields.append((f".{c.name}", ">i4"))
        if c.type[0] == "u":
            fields.append((f"{c.name}.", f">u{c.size}"))
        fields.append((c.name, ">i2" if c.type == "i1" else _bits(c, ">")))
    return np.dtype(fields)


@lru_cache(maxsize=512)
def _raw(table: Table) -> np.dtype[np.void]:
    """The table's row with every value as plain bits."""
    return np.dtype([(c.name, "i1" if c.type == "i1" else _bits(c, "<")) for c in table.columns])


def _bits(column: Column, order: str) -> str:
    if column.type[0] == "S":
        return f"V{column.size}"
    return f"{order}u{column.size}"


def _template(table: Table) -> Rows:
    """One tuple with its counts and lengths, and zeros for values."""
    template = np.zeros(1, _tuples(table))
    template[".count"] = 2 + len(table.columns)
    template["..date"], template["..row"] = 4, 8
    for c in table.columns:
        template[f".{c.name}"] = _WIDTHS.get(c.type, c.size)
    return template


def _mask(table: Table) -> Rows:
    """One tuple with all bits set where every tuple is as the template."""
    mask = np.zeros(1, _tuples(table))
    for name in mask.dtype.names or ():
        if name not in (".date", ".row") and (name[0] == "." or name[-1] == "."):
            mask[name] = -1 if mask[name].dtype.kind == "i" else np.iinfo(mask[name].dtype).max
    return mask


def _octets(array: Rows) -> npt.NDArray[np.uint8]:
    return array.view(np.uint8)
