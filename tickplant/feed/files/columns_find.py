"""Which mapping a file of columns has: told by its header, or by its name, shape and first line.

A file is one part, or, if it is a zip or tar, one for each of its members: they are read in the order of
their names, each as its own mapping says.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date as Date
from pathlib import Path
from typing import Any

from tickplant.errors import CaptureError
from tickplant.feed.capture import Head
from tickplant.feed.files import columns_read, columns_time
from tickplant.feed.files import mapping as mappings
from tickplant.feed.files.columns_fixed import fixed
from tickplant.feed.files.columns_rows import needed
from tickplant.feed.files.mapping import Mapping

PARQUET, ZIP, TAR = b"PAR1", b"PK\x03\x04", b"ustar"
_TAR_AT = 257
_LINE = 1 << 16
_SOME_DAY = Date(2000, 1, 3)
Entry = tuple[Path, str]
"""A file: its path, and its name in it if that is an archive."""


@dataclass(frozen=True)
class Part:
    """A file as a mapping reads it."""

    mapping: Mapping
    entries: tuple[Entry, ...]
    """The file, or the files side by side."""
    columns: dict[str, str]
    """The names of its columns, in its order, and what the mapping calls them."""
    header: bool = False
    parquet: bool = False

    @property
    def name(self) -> str:
        """The name that `file_name` matches."""
        path, member = self.entries[0]
        return Path(member or path).name

    @property
    def groups(self) -> dict[str, str]:
        """What `file_name` finds in the name."""
        named = re.fullmatch(self.mapping.file_name, self.name)
        return {k: v for k, v in named.groupdict().items() if v} if named else {}


def is_archive(head: Head) -> bool:
    """Is a file that begins so a zip or a tar, which may be packed?"""
    return head.raw.startswith(ZIP) or head.plain[_TAR_AT:].startswith(TAR)


def recognized(head: Head) -> list[Part]:
    """The parts of a file, by the mappings that come with tickplant; none if it is not known.

    Raises CaptureError for an archive of which one member is known and another is not.
    """
    known = sorted(mappings.presets().values(), key=lambda m: -len(m.files))
    return _parts(head, known, strict=True)


def as_mapped(head: Head, mapping: Mapping) -> list[Part]:
    """The parts of a file that this mapping is to read. Raises CaptureError for what it can't read."""
    parts = _parts(head, [mapping], strict=False)
    if not parts:
        raise CaptureError(f"{head.path} {_why_not(head, mapping)}; see `tickplant mapping new {head.path}`")
    return parts


def _parts(head: Head, known: Sequence[Mapping], *, strict: bool) -> list[Part]:
    if not is_archive(head):
        entry: Entry = (head.path, "")
        found = _best(head, entry, [entry], known, strict)
        return [found] if found else []
    names = _members(head.path)
    entries = [(head.path, name) for name in names]
    parts: list[Part] = []
    unknown: list[str] = []
    for entry in entries:
        if any(entry in part.entries for part in parts):
            continue
        found = _best(head, entry, entries, known, strict)
        if found:
            parts.append(found)
        else:
            unknown.append(entry[1])
    read = {entry for part in parts for entry in part.entries}
    left = [name for name in unknown if (head.path, name) not in read]
    if parts and left:
        others = ", ".join(p.name for p in parts)
        raise CaptureError(f"{head.path}: {left[0]} in it can't be read as {others} can; unpack it")
    return parts


def _members(path: Path) -> list[str]:
    """The data in an archive: its CSV files, or else its texts."""
    names = [n for n in columns_read.members(path) if "readme" not in n.lower() and "__MACOSX" not in n]
    for ending in (".csv", ".txt"):
        if chosen := [n for n in names if n.lower().endswith(ending)]:
            return chosen
    return []


def _best(
    head: Head, entry: Entry, entries: list[Entry], known: Sequence[Mapping], strict: bool
) -> Part | None:
    """The part that begins with this file, as that mapping reads it which says most about it."""
    if head.raw.startswith(PARQUET):
        fits = [p for p in (_of_parquet(head, m) for m in known) if p]
    else:
        line = first_line(head, entry)
        fits = [p for p in (_of_text(line, entry, entries, m, strict) for m in known) if p]
    return max(fits, key=_said, default=None)


def _said(part: Part) -> tuple[int, int, bool]:
    """How much of a part its mapping tells: more files side by side, its name, its very header."""
    mapping = part.mapping
    named = 1 if not mapping.file_name else 2 if re.fullmatch(mapping.file_name, part.name) else 0
    return len(mapping.files), named, list(part.columns) == mapping.header


def _of_parquet(head: Head, mapping: Mapping) -> Part | None:
    names = columns_read.parquet_names(head.path)
    ours = mapping.columns_of(names)
    if ours is None:
        return None
    return Part(mapping, ((head.path, ""),), dict(zip(names, ours, strict=True)), parquet=True)


def _of_text(line: str, entry: Entry, entries: list[Entry], mapping: Mapping, strict: bool) -> Part | None:
    beside = _side_by_side(entry, entries, mapping)
    if beside is None:
        return None
    if beside[0] != entry:
        line = _first(beside[0])
    names = [n.strip() for n in split(line, mapping.delimiter)]
    if mapping.has_header is not False and (ours := mapping.columns_of(names)):
        return Part(mapping, beside, dict(zip(names, ours, strict=True)), header=True)
    if mapping.has_header is True:
        return None
    part = _without_header(line, names, beside, mapping)
    return part if part and (not strict or _is_such(line, part)) else None


def _without_header(line: str, names: list[str], beside: tuple[Entry, ...], mapping: Mapping) -> Part | None:
    if mapping.widths:
        return Part(mapping, beside, {n: n for n in mapping.header})
    if mapping.repeat:
        counts = [len(names), *(len(split(_first(entry), mapping.delimiter)) for entry in beside[1:])]
        columns = mapping.named(sum(counts))
        if len(columns) != sum(counts) or (len(counts) > 1 and counts[0] != len(mapping.header)):
            return None
        return Part(mapping, beside, {n: n for n in columns})
    shape = next((s for s in mapping.headerless if len(s) == len(names)), None)
    return Part(mapping, beside, {n: n for n in shape}) if shape else None


def _is_such(line: str, part: Part) -> bool:
    """Is a file without a header of this mapping, by its name, its place, and its first line's values?"""
    mapping, (path, member) = part.mapping, part.entries[0]
    if not re.fullmatch(mapping.file_name or ".*", part.name):
        return False
    if mapping.folder and not re.search(mapping.folder, f"{path.absolute()}/{member}"):
        return False
    account, names = columns_read.Account(), list(part.columns.values())
    if mapping.widths:
        if len(line.encode()) != sum(mapping.widths):
            return False
        table = fixed(names, mapping.widths, account)(line.encode(), 1)
    else:
        own = names[: len(split(line, mapping.delimiter))]
        table = columns_read.parsed(line.encode(), 1, own, mapping.delimiter, account)
    return len(table) == 1 and _plausible(table, mapping, names)


def _plausible(table: Any, mapping: Mapping, names: list[str]) -> bool:
    for rule in mapping.times:
        if columns_time.read(table, rule, _SOME_DAY)[1].any():
            return False
    wanted = [(c, k) for c, k in needed(mapping, names) if k != "text" and c in table.column_names]
    return not any(columns_read.numbers(table[column], kind)[1].any() for column, kind in wanted)


def _side_by_side(entry: Entry, entries: list[Entry], mapping: Mapping) -> tuple[Entry, ...] | None:
    """The files that go with one, line for line; None if they are not there, or another comes first."""
    if not mapping.files:
        return (entry,)
    path, member = entry
    name = member or path.name
    own = next((f for f in mapping.files if f in Path(name).name), None)
    if own is None or (member and own != mapping.files[0]):
        return None
    names = [name.replace(own, f) for f in mapping.files]
    if member:
        return tuple((path, n) for n in names) if all((path, n) in entries for n in names) else None
    paths = [path.with_name(n) for n in names]
    return tuple((p, "") for p in paths) if all(p.is_file() for p in paths) else None


def split(line: str, delimiter: str) -> list[str]:
    """The values of one line of CSV; of one that is no CSV, what is between the delimiters."""
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [""])
    except csv.Error:
        return line.split(delimiter)


def first_line(head: Head, entry: Entry) -> str:
    """The first line of a file that begins so, or of a member of it."""
    path, member = entry
    if member or path != head.path or b"\n" not in head.plain:
        return _first(entry)
    return _text(head.plain)


def _first(entry: Entry) -> str:
    with columns_read.stream(*entry) as source:
        return _text(source.read(_LINE) or b"")


def _text(data: bytes) -> str:
    line = data.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    return line.rstrip(b"\r").decode("utf-8", "replace")


def _why_not(head: Head, mapping: Mapping) -> str:
    """What keeps a mapping from reading a file."""
    if head.raw.startswith(PARQUET):
        names = columns_read.parquet_names(head.path)
    elif is_archive(head):
        return f"has no member with the columns of {mapping.what}"
    else:
        names = split(first_line(head, (head.path, "")), mapping.delimiter)
    return f"has not the columns of {mapping.what}: {difference(names, mapping)}"


def difference(names: list[str], mapping: Mapping) -> str:
    """What columns are missing, and which ones nobody knows, in a file with these."""
    headers = (mapping.header, *mapping.headers)
    theirs = min(({*h} for h in headers), key=lambda h: len(h ^ {*names})) if names else set(mapping.header)
    lacks = [n for n in mapping.header if n in theirs and n not in names]
    more = [n for n in names if n not in theirs and n not in mapping.optional]
    said = [f"it lacks {', '.join(lacks[:8])}"] if lacks else []
    said += [f"it has {', '.join(repr(n[:40]) for n in more[:8])} instead"] if more else []
    return " and ".join(said) or f"{len(names)} columns, not {len(mapping.header)}"
