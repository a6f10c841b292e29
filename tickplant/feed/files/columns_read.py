"""The columns of a CSV, fixed-width or Parquet file, block by block, each value of a declared kind.

CSV (RFC 4180; plain, gzip, zstd, or a member of a zip or tar) is split into blocks of whole lines and parsed
by pyarrow as text; what is needed as a number or a time is made one then, so that one bad value costs one
line. A value is within its line: a quote that is not closed there is malformed, and swallows nothing more.
pyarrow rounds decimals to the nearest float64. Parquet has types of its own.

Each table has a column LINE more: the number of the line in its file, from 1, with the header counted; in
Parquet of the row.
"""

import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tickplant.errors import CaptureError
from tickplant.feed.files.scaled import unscaled
from tickplant.feed.source import Inflated, count_read

BLOCK = 1 << 22
ROWS = 1 << 16
LINE_MAX = 1 << 20
Kind = Literal["text", "float", "int", "code", "scaled"]
LINE = "\0line"
SCALE, SCALED_FROM, UNDEFINED = 10**9, 10**6, (1 << 63) - 1
"""Fixed-point numbers: what they are multiplied by, from where on an integer is one, the one for none."""
Arrow = Any
_BASE_62 = np.full(256, -1, np.int64)
"""By byte: what it is worth as a digit; -1: it is none."""
_BASE_62[[*b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"]] = range(62)


def arrow(module: str = "") -> Arrow:
    """pyarrow, or a module of it. Raises CaptureError if it is not installed."""
    import importlib

    try:
        return importlib.import_module(f"pyarrow{module}")
    except ImportError:
        raise CaptureError("to read CSV and Parquet: pip install 'tickplant[parquet]'") from None


@dataclass
class Account:
    """What was wrong with a file so far."""

    malformed: list[tuple[int, str]] = field(default_factory=list)
    """Of each line that is none, since it was asked last: its number, and why."""
    lines: int = 0
    """Lines of the file so far."""
    damage: str | None = None
    cut: bool = False
    """The damage is that the last line is not whole."""


class Member(io.RawIOBase):
    """A file in a zip, as a stream; like `Inflated`."""

    def __init__(self, path: Path, name: str) -> None:
        self.damage: str | None = None
        try:
            self._zip = zipfile.ZipFile(path)
            self._file = self._zip.open(name)
            self._counted = self._packed()
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as e:
            raise CaptureError(f"can't read {name} in {path}: {e}") from None

    def _packed(self) -> int:
        """Where in the zip reading has come to."""
        return self._zip.fp.tell() if self._zip.fp else 0

    def readable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the member is sound."""
        try:
            part = self._file.read(len(buffer))
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
            self.damage = f"the zip is damaged: {e}"
            return 0
        if (at := self._packed()) > self._counted:
            count_read(at - self._counted)
            self._counted = at
        buffer[: len(part)] = part
        return len(part)


class TarMember(io.RawIOBase):
    """A file in a tar archive, as a stream; like `Inflated`."""

    def __init__(self, path: Path, name: str) -> None:
        self.damage: str | None = None
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115  (closed with the member)
            found = self._tar.extractfile(name)
        except (OSError, EOFError, tarfile.TarError, KeyError, zlib.error) as e:
            raise CaptureError(f"can't read {name} in {path}: {e}") from None
        if found is None:
            raise CaptureError(f"{name} in {path} is no file")
        self._file = found

    def readable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Close the archive."""
        self._tar.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the member is sound."""
        try:
            part = self._file.read(len(buffer))
        except (OSError, EOFError, tarfile.TarError, zlib.error) as e:
            self.damage = f"the tar archive is damaged: {e}"
            return 0
        count_read(len(part))
        buffer[: len(part)] = part
        return len(part)


Stream = Inflated | Member | TarMember


def stream(path: Path, member: str = "") -> Stream:
    """A file, or a member of a zip or tar, as its plain bytes."""
    if not member:
        return Inflated(path)
    return Member(path, member) if zipfile.is_zipfile(path) else TarMember(path, member)


def members(path: Path) -> list[str]:
    """The names of the files in a zip or tar, in order; none if it is neither, or can't be read."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return sorted(i.filename for i in archive.infolist() if not i.is_dir())
        with tarfile.open(path) as tar:
            return sorted(m.name for m in tar if m.isfile())
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error):
        return []


def csv_tables(
    source: Stream, names: list[str], header: bool, delimiter: str, account: Account
) -> Iterator[Arrow]:
    """Tables of text of the lines of a CSV file, without its header."""
    return tables(source, header, account, lambda lines, at: parsed(lines, at, names, delimiter, account))


def tables(
    source: Stream, header: bool, account: Account, read: Callable[[bytes, int], Arrow]
) -> Iterator[Arrow]:
    """Tables of the lines of a text file, without its header.

    `read` makes one of a block of them, the first of which has the number that it is given.
    """
    rest, first, begun = b"", header, False
    while piece := _some(source):
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if not newline and len(rest) > LINE_MAX:
            break
        if not begun and newline:
            begun, whole = True, whole.removeprefix(b"\xef\xbb\xbf")
        if first and newline:
            account.lines += 1
            _, _, whole = whole.partition(b"\n")
            first = False
        if whole:
            yield read(_lined(whole), account.lines + 1)
            account.lines += whole.count(b"\n") + 1
    if len(rest) > LINE_MAX:
        account.damage = f"a line of more than {LINE_MAX} bytes"
    elif source.damage:
        account.damage = source.damage
    elif rest.strip() and not first:
        known = len(account.malformed)
        table = read(_lined(rest), account.lines + 1)
        account.lines += 1
        if len(account.malformed) > known:
            del account.malformed[known:]
            account.damage, account.cut = "the file ends within a line", True
        else:
            yield table


def _some(source: Stream) -> bytes:
    parts, size = [], 0
    while size < BLOCK and (part := source.read(BLOCK - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _lined(lines: bytes) -> bytes:
    """Lines that end in \\n alone."""
    if b"\r" not in lines:
        return lines
    return lines.replace(b"\r\n", b"\n").removesuffix(b"\r").replace(b"\r", b" ")


def parsed(lines: bytes, at: int, names: list[str], delimiter: str, account: Account) -> Arrow:
    """A table of text of some whole lines of CSV; the number of the first is `at`."""
    csv, pa = arrow(".csv"), arrow()
    if not lines.isascii():
        lines = lines.decode("utf-8", "replace").encode()
    lines, numbers = _whole(lines, at, account)
    skipped: list[int] = []

    def wrong(row: Any) -> str:
        line = int(numbers[row.number - 1])
        skipped.append(row.number - 1)
        account.malformed.append(
            (line, f"{row.actual_columns} columns, not {row.expected_columns}: {row.text}")
        )
        return "skip"

    try:
        table = csv.read_csv(
            io.BytesIO(lines),
            read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=len(lines) + 1),
            parse_options=csv.ParseOptions(
                delimiter=delimiter, invalid_row_handler=wrong, ignore_empty_lines=False
            ),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, check_utf8=True,
                strings_can_be_null=False,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as e:
        if "Empty CSV" not in str(e):
            account.malformed += [(int(n), f"a line that can't be read: {e}") for n in numbers.tolist()]
        return _empty(names)
    return table.append_column(LINE, pa.array(np.delete(numbers, skipped) if skipped else numbers))


def _empty(names: list[str]) -> Arrow:
    pa = arrow()
    kinds = {**dict.fromkeys(names, pa.string()), LINE: pa.int64()}
    return pa.table({name: pa.array([], kind) for name, kind in kinds.items()})


def _whole(lines: bytes, at: int, account: Account) -> tuple[bytes, npt.NDArray[np.int64]]:
    """The lines that are not empty and close each quote that they open, and their numbers.

    A line with an odd number of quotes is malformed.
    """
    every = np.frombuffer(lines, np.uint8)
    ends = np.flatnonzero(every == 10)
    numbers = np.arange(at, at + len(ends) + 1)
    quoted = b'"' in lines
    if not quoted and not (np.diff(ends, prepend=-1, append=len(every)) == 1).any():
        return lines, numbers
    starts, stops = np.append(0, ends + 1), np.append(ends, len(every))
    kept = stops > starts
    if quoted:
        before = np.append(0, np.cumsum(every == 34))
        odd = (before[stops] - before[starts]) % 2 == 1
        for i in np.flatnonzero(odd).tolist():
            text = lines[starts[i] : stops[i]].decode("utf-8", "replace")
            account.malformed.append((int(numbers[i]), f"a quote that is not closed: {text[:60]}"))
        kept &= ~odd
    if kept.all():
        return lines, numbers
    inside = np.repeat(kept, np.append(np.diff(starts), len(every) - starts[-1]))
    return every[inside].tobytes(), numbers[kept]


def parquet_tables(path: Path, columns: dict[str, str], account: Account) -> Iterator[Arrow]:
    """Tables of the rows of a Parquet file; `columns`: theirs, and how they are called here."""
    pa = arrow()
    try:
        with arrow(".parquet").ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=list(columns)):
                table = pa.Table.from_batches([batch])
                made = {ours: _plain(table[theirs]) for theirs, ours in columns.items()}
                made[LINE] = pa.array(np.arange(account.lines + 1, account.lines + len(table) + 1))
                yield pa.table(made)
                account.lines += len(table)
                count_read(batch.nbytes)
    except (pa.ArrowException, OSError) as e:
        account.damage = f"the Parquet file is damaged: {e}"


def _plain(column: Arrow) -> Arrow:
    """A column with one value of a plain type for each row: of a dictionary its values, of bytes text."""
    pa = arrow()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        texts = [None if v is None else v.decode("utf-8", "replace") for v in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if pa.types.is_null(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view":
        return column.cast(pa.string())
    return column.cast(pa.float32()) if pa.types.is_float16(kind) else column


def parquet_schema(path: Path) -> Arrow:
    """The columns of a Parquet file and their types. Raises CaptureError if it is none."""
    try:
        return arrow(".parquet").read_schema(path)
    except (arrow().ArrowException, OSError) as e:
        raise CaptureError(f"{path} is no Parquet file that can be read: {e}") from None


def parquet_names(path: Path) -> list[str]:
    """The names of the columns of a Parquet file. Raises CaptureError if it is none."""
    names: list[str] = parquet_schema(path).names
    return names


def check_types(path: Path, columns: Iterable[str], times: Iterable[str]) -> None:
    """Raise CaptureError if a column of a Parquet file has no single value a row, or can't be a time."""
    types, schema = arrow().types, parquet_schema(path)
    for name in columns:
        kind = schema.field(name).type
        inner = kind.value_type if types.is_dictionary(kind) else kind
        clock = types.is_time(inner) or types.is_duration(inner) or types.is_interval(inner)
        if types.is_nested(inner):
            raise CaptureError(f"column {name} of {path} has values of type {kind}, not one value a row")
        if name in times and (clock or types.is_boolean(inner)):
            raise CaptureError(f"column {name} of {path} has values of type {kind}, which are no instants")


def side_by_side(left: Iterator[Arrow], right: Iterator[Arrow], account: Account) -> Iterator[Arrow]:
    """Tables of two files that belong together line for line."""
    pa = arrow()
    kept: list[Arrow] = [None, None]
    for_ever = object()
    while not account.malformed and not account.damage:
        for i, tables in enumerate((left, right)):
            if kept[i] is None:
                kept[i] = next(tables, for_ever)
        if any(k is for_ever for k in kept):
            break
        count = min(len(k) for k in kept)
        pair = [k.slice(0, count) for k in kept]
        yield pa.table({name: t[name] for t in pair for name in t.column_names})
        kept = [k.slice(count) if len(k) > count else None for k in kept]
    if account.malformed:
        # From here on the lines do not belong together.
        account.damage = f"a line is not whole: {account.malformed.pop()[1]}"
        account.malformed.clear()
    elif not account.damage and any(k is not for_ever for k in kept):
        account.damage, account.cut = "one of the two files has fewer lines than the other", True


def text(column: Arrow) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Which of the different texts each value is, and these."""
    pa = arrow()
    plain = column.cast(pa.string()).combine_chunks()
    coded = (plain.chunk(0) if isinstance(plain, pa.ChunkedArray) else plain).dictionary_encode(
        null_encoding="encode"
    )
    return coded.indices.to_numpy(zero_copy_only=False).astype(np.int64), [
        t or "" for t in coded.dictionary.to_pylist()
    ]


def empty(column: Arrow) -> npt.NDArray[np.bool_]:
    """Which values are not there: null, an empty text, or text for a number that is none."""
    pa, pc = arrow(), arrow(".compute")
    if pa.types.is_string(column.type):
        return np.array(pc.is_in(column, pa.array(["", "NaN", "nan", "null", "None", None])), np.bool_)
    return np.array(pc.is_null(column, nan_is_null=True), np.bool_)


def numbers(column: Arrow, kind: Kind) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Values as float64 or int64, and which of them are not. An empty float is NaN; infinity is no number."""
    pa, pc = arrow(), arrow(".compute")
    if kind == "code":
        return codes(column)
    if kind == "scaled":
        return _scaled(column)
    wanted = pa.float64() if kind == "float" else pa.int64()
    if pa.types.is_string(column.type) and kind == "float":
        column = pc.if_else(pc.equal(column, ""), None, column)
    try:
        made = column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        texts = column.cast(pa.string()).to_pylist()
        made = pa.array([_one(t, wanted) for t in texts], wanted)
        bad = np.array(made.is_null()) & np.array([t is not None for t in texts], np.bool_)
    else:
        bad = np.zeros(len(column), np.bool_)
    if kind == "int":
        bad |= np.array(made.is_null(), np.bool_)
        return np.array(pc.fill_null(made, 0), np.int64), bad
    values = np.array(pc.fill_null(made, float("nan")), np.float64)
    return values, bad | np.isinf(values)


def _scaled(column: Arrow) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Integers from SCALED_FROM on, divided by SCALE; what is smaller, or has a point, is as it is."""
    pa, pc = arrow(), arrow(".compute")
    found, wrong = numbers(column, "float")
    values, bad = found.copy(), wrong.copy()
    if pa.types.is_string(column.type):
        whole = np.array(pc.match_substring_regex(column, r"^-?\d+$").fill_null(False), np.bool_)
    else:
        whole = np.full(len(column), pa.types.is_integer(column.type))
    fixed = whole & (np.abs(values) >= SCALED_FROM)
    if fixed.any():
        exact, none = numbers(column.filter(pa.array(fixed)), "int")
        values[fixed] = unscaled(exact, SCALE, UNDEFINED)
        bad[fixed] |= none
    return values, bad


def _one(value: str | None, wanted: Arrow) -> Any:
    pa = arrow()
    try:
        return None if value is None else pa.scalar(value).cast(wanted).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def codes(column: Arrow) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Texts of digits, capitals and small letters as numbers in base 62, and which are not."""
    texts = np.array(column.to_pylist() or [""], "S")
    values, bad = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.bool_)
    for at in range(texts.itemsize):
        byte = texts.view(np.uint8).reshape(len(texts), -1)[:, at]
        digit = _BASE_62[byte]
        bad |= (digit < 0) & (byte != 0)
        values = np.where(byte != 0, values * 62 + digit, values)
    return values[: len(column)], bad[: len(column)]
