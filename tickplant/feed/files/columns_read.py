"""The columns of a CSV, fixed-width or Parquet file, block by block, each value of a declared kind.

CSV (RFC 4180; plain, gzip, zstd, or a member of a zip) is split into blocks of whole lines and parsed by
pyarrow as text; what is needed as a number or a time is made one then, so that one bad value costs one line.
pyarrow rounds decimals to the nearest float64. Parquet has types of its own.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tickplant.errors import CaptureError
from tickplant.feed.source import Inflated

BLOCK = 1 << 22
ROWS = 1 << 16
LINE_MAX = 1 << 20
Kind = Literal["text", "float", "int", "code"]
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

    malformed: list[str] = field(default_factory=list)
    """Of each line that is none, since it was asked last."""
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
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as e:
            raise CaptureError(f"can't read {name} in {path}: {e}") from None

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
        buffer[: len(part)] = part
        return len(part)


def stream(path: Path, member: str = "") -> Inflated | Member:
    """A file, or a member of a zip, as its plain bytes."""
    return Member(path, member) if member else Inflated(path)


def csv_tables(
    source: Inflated | Member, names: list[str], header: bool, delimiter: str, account: Account
) -> Iterator[Arrow]:
    """Tables of text of the lines of a CSV file, without its header."""
    return tables(source, header, account, lambda lines: _parsed(lines, names, delimiter, account))


def tables(
    source: Inflated | Member, header: bool, account: Account, parsed: Callable[[bytes], Arrow]
) -> Iterator[Arrow]:
    """Tables of the lines of a text file, without its header, as `parsed` reads blocks of them."""
    rest, first = b"", header
    while piece := _some(source):
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if not newline and len(rest) > LINE_MAX:
            break
        if first and newline:
            _, _, whole = whole.partition(b"\n")
            first = False
        if whole:
            yield parsed(whole)
    if len(rest) > LINE_MAX:
        account.damage = f"a line of more than {LINE_MAX} bytes"
    elif source.damage:
        account.damage = source.damage
    elif rest.strip() and not first:
        known = len(account.malformed)
        table = parsed(rest)
        if len(account.malformed) > known:
            del account.malformed[known:]
            account.damage, account.cut = "the file ends within a line", True
        else:
            yield table


def _some(source: Inflated | Member) -> bytes:
    parts, size = [], 0
    while size < BLOCK and (part := source.read(BLOCK - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _parsed(lines: bytes, names: list[str], delimiter: str, account: Account) -> Arrow:
    csv, pa = arrow(".csv"), arrow()
    if not lines.isascii():
        lines = lines.decode("utf-8", "replace").encode()

    def wrong(row: Any) -> str:
        account.malformed.append(f"{row.actual_columns} columns, not {row.expected_columns}: {row.text}")
        return "skip"

    try:
        return csv.read_csv(
            io.BytesIO(lines),
            read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=len(lines) + 1),
            parse_options=csv.ParseOptions(delimiter=delimiter, invalid_row_handler=wrong),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, check_utf8=True,
                strings_can_be_null=False,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as e:
        if "Empty CSV" not in str(e):
            text = f"{lines.count(10) + 1} lines that can't be read: {e}"
            account.malformed += [text] * (lines.count(b"\n") + 1)
        return pa.table({name: pa.array([], pa.string()) for name in names})


def parquet_tables(path: Path, columns: list[str], account: Account) -> Iterator[Arrow]:
    """Tables of the rows of a Parquet file."""
    pa = arrow()
    try:
        with arrow(".parquet").ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS, columns=columns):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as e:
        account.damage = f"the Parquet file is damaged: {e}"


def parquet_names(path: Path) -> list[str]:
    """The columns of a Parquet file. Raises CaptureError if it is none."""
    try:
        names: list[str] = arrow(".parquet").read_schema(path).names
    except (arrow().ArrowException, OSError) as e:
        raise CaptureError(f"{path} is no Parquet file that can be read: {e}") from None
    return names


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
        account.damage = f"a line is not whole: {account.malformed.pop()}"
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


def numbers(column: Arrow, kind: Kind) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Values as float64 or int64, and which of them are not. An empty float is NaN."""
    pa, pc = arrow(), arrow(".compute")
    if kind == "code":
        return codes(column)
    wanted = pa.float64() if kind == "float" else pa.int64()
    if pa.types.is_string(column.type) and kind == "float":
        column = pc.if_else(pc.equal(column, ""), None, column)
    try:
        made = column.cast(wanted)
    except pa.ArrowInvalid:
        texts = column.cast(pa.string()).to_pylist()
        made = pa.array([_one(t, wanted) for t in texts], wanted)
        bad = np.array(made.is_null()) & np.array([t is not None for t in texts], np.bool_)
    else:
        bad = np.zeros(len(column), np.bool_)
    if kind == "int":
        bad |= np.array(made.is_null(), np.bool_)
        return np.array(pc.fill_null(made, 0), np.int64), bad
    return np.array(pc.fill_null(made, float("nan")), np.float64), bad


def _one(value: str | None, wanted: Arrow) -> Any:
    pa = arrow()
    try:
        return None if value is None else pa.scalar(value).cast(wanted).as_py()
    except pa.ArrowInvalid:
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
