"""Instruments by number: (venue, symbol) <-> a dense u32 that is the plant's for ever.

Number 0 stands for no instrument. Numbers are given by the ticker plant alone, in its registry, a
journal that only grows; everyone else mirrors it.
"""

import difflib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tickplant._core import rowsums
from tickplant.errors import SchemaError

Name = tuple[str, str]
"""(venue, symbol)"""
VENUE_BYTES, SYMBOL_BYTES = 16, 48
_NAMED = 10
"""Names that are told of many."""


def full_name(venue: str, symbol: str) -> str:
    """How an instrument is written: VENUE:SYMBOL."""
    return f"{venue}:{symbol}"


def split_name(name: str) -> Name:
    """The inverse of `full_name`. Raises SchemaError if there is no venue."""
    venue, colon, symbol = name.partition(":")
    if not colon or not venue or not symbol:
        raise SchemaError(f"{name!r} is not an instrument; write VENUE:SYMBOL, such as XNAS:AAPL")
    return venue, symbol


def named(venue: bytes, symbol: bytes) -> Name:
    """The name that a definition gives. Raises SchemaError if no instrument can be called so."""
    try:
        name = venue.decode(), symbol.decode()
    except UnicodeDecodeError:
        raise SchemaError(f"{venue!r}, {symbol!r} is not UTF-8") from None
    for value, room in zip(name, (VENUE_BYTES, SYMBOL_BYTES), strict=True):
        if not 0 < len(value.encode()) <= room or "\0" in value:
            raise SchemaError(f"{value!r} is no venue or symbol of 1 to {room} bytes")
    if ":" in name[0]:
        raise SchemaError(f"{name[0]!r} is no venue: it has a colon")
    return name


class Instruments:
    """A growing list of instruments and the hashes of their names (for row checksums)."""

    def __init__(self) -> None:
        self._names: list[Name] = [("", "")]
        self._numbers: dict[Name, int] = {}
        self._hashes: npt.NDArray[np.uint64] = np.zeros(1024, np.uint64)

    def __len__(self) -> int:
        """How many numbers there are, 0 included."""
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return (full_name(*name) for name in self._names[1:])

    def __contains__(self, name: str) -> bool:
        return split_name(name) in self._numbers

    def __getitem__(self, number: int) -> str:
        """The name VENUE:SYMBOL of a number; empty for 0. Raises IndexError if not given yet."""
        if number < 0:
            raise IndexError(number)
        return full_name(*self._names[number]) if number else ""

    def number(self, name: str) -> int:
        """The number of VENUE:SYMBOL. Raises SchemaError if the plant has not seen it."""
        if not isinstance(name, str):
            raise SchemaError(f"an instrument is written VENUE:SYMBOL, not {name!r}")
        if ":" not in name:
            raise SchemaError(self._without_venue(name))
        try:
            return self._numbers[split_name(name)]
        except KeyError:
            raise SchemaError(self._not_seen(name)) from None

    def _without_venue(self, symbol: str) -> str:
        """What to say of a symbol alone: which venues have it."""
        there = [full_name(*n) for n in self._names[1:] if n[1].casefold() == symbol.casefold()]
        if there:
            return f"{symbol!r} is a symbol without a venue; the plant has {', '.join(there[:_NAMED])}"
        return f"{symbol!r} is not an instrument; write VENUE:SYMBOL, such as XNAS:AAPL"

    def _not_seen(self, name: str) -> str:
        venue, symbol = split_name(name)
        there = [full_name(*n) for n in self._names[1:] if n[1] == symbol]
        if there:
            other = f"; other venues have it: {', '.join(there[:_NAMED])}"
        else:
            near = difflib.get_close_matches(name, [n for n in self if n.startswith(f"{venue}:")], 3)
            other = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"the plant has not seen the instrument {name}{other}"

    def __repr__(self) -> str:
        """How many, and the first of them."""
        some = [full_name(*name) for name in self._names[1 : 1 + _NAMED]]
        more = ", ..." if len(self) - 1 > len(some) else ""
        return f"Instruments: {len(self) - 1:,}{': ' if some else ''}{', '.join(some)}{more}"

    def find(self, venue: str, symbol: str) -> int | None:
        """The number of an instrument, or None."""
        return self._numbers.get((venue, symbol))

    def add(self, venue: str, symbol: str) -> int:
        """The number of an instrument, a new one if it had none."""
        name = (venue, symbol)
        number = self._numbers.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
            if number >= len(self._hashes):
                self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._hashes[number] = rowsums.name_hash(full_name(venue, symbol).encode())
        return number

    def since(self, number: int) -> list[Name]:
        """The instruments from a number on."""
        return self._names[max(number, 1) :]

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """Hash of the name by number, as row checksums need them."""
        return self._hashes
