"""Fields of a fixed layout, as text declares them; structs and dtypes of them (pure).

    "size:u2 type:c1 x4 price:i8"

A field is name:type, one after the other without holes: u1 to u8 are integers of so many bytes, i1 to
i8 signed ones, c1 to c255 characters; x1 to x255 is passed over and has no name.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tickplant.errors import ConfigError
from tickplant.schema import Rows

Order = Literal["big", "little"]
Values = npt.NDArray[Any]
_FIELD = re.compile(r"(?:([a-z][a-z0-9_]*):)?([uicx])([1-9]\d{0,2})")
_LETTERS = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i1": "b", "i2": "h", "i4": "i", "i8": "q"}
_WIDTHS = {"u": 8, "i": 8, "c": 255, "x": 255}


@dataclass(frozen=True)
class Field:
    """One field: where it is and what."""

    name: str
    kind: str
    width: int
    offset: int

    def raw(self, text: str | int) -> int | bytes:
        """What a value in a declaration is on the wire: a number, or characters padded with spaces.

        Raises ConfigError if it can be none of the field's.
        """
        if self.kind == "c":
            value = str(text).encode()
            if len(value) > self.width:
                raise ConfigError(f"{text!r} is longer than the field {self.name}")
            return value.ljust(self.width)
        try:
            number = int(str(text), 0)
            number.to_bytes(self.width, "big", signed=self.kind == "i")
        except (ValueError, OverflowError):
            raise ConfigError(f"{text!r} is no value of the field {self.name}") from None
        return number


class Fields:
    """Some fields in order; `size` bytes."""

    def __init__(self, fields: Iterable[Field], size: int, order: Order) -> None:
        self._fields = {f.name: f for f in fields}
        self.size, self.order = size, order

    @classmethod
    def read(cls, text: str, order: Order, after: "Fields | None" = None) -> "Fields":
        """The fields that a text declares, behind those of `after`. Raises ConfigError if it is wrong."""
        found = dict(after._fields) if after else {}
        size = after.size if after else 0
        for part in text.split():
            match = _FIELD.fullmatch(part)
            if not match or (match[1] is None) != (match[2] == "x"):
                raise ConfigError(f"{part!r} is no field: name:u4, name:i8, name:c11, or x4")
            name, kind, width = match[1], match[2], int(match[3])
            if width > _WIDTHS[kind]:
                raise ConfigError(f"{part!r}: {kind} has at most {_WIDTHS[kind]} bytes")
            if name in found:
                raise ConfigError(f"the field {name!r} is there twice")
            if name:
                found[name] = Field(name, kind, width, size)
            size += width
        return cls(found.values(), size, order)

    def __iter__(self) -> Iterator[Field]:
        return iter(self._fields.values())

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __getitem__(self, name: str) -> Field:
        """A field by its name. Raises ConfigError if there is none."""
        try:
            return self._fields[name]
        except KeyError:
            raise ConfigError(f"there is no field {name!r}") from None

    @cached_property
    def struct(self) -> struct.Struct:
        """Unpacks the fields, in their order; integers of odd widths as bytes."""
        letters, at = [], 0
        for f in self._fields.values():
            letters.append(f"{f.offset - at}x" + _LETTERS.get(f"{f.kind}{f.width}", f"{f.width}s"))
            at = f.offset + f.width
        return struct.Struct(("<" if self.order == "little" else ">") + "".join(letters)
                             + f"{self.size - at}x")  # fmt: skip

    def place(self, name: str) -> int:
        """The number of a field among those that `struct` unpacks. Raises ConfigError if `struct` does
        not give its value."""
        field = self[name]
        if field.kind != "c" and f"{field.kind}{field.width}" not in _LETTERS:
            raise ConfigError(f"the field {name} has {field.width} bytes, which no header's number may have")
        return list(self._fields).index(name)

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """The layout; integers of odd widths as bytes."""
        order = "<" if self.order == "little" else ">"
        kinds = [
            f"{order}{f.kind}{f.width}" if f"{f.kind}{f.width}" in _LETTERS else
            f"S{f.width}" if f.kind == "c" else f"V{f.width}"
            for f in self._fields.values()
        ]  # fmt: skip
        return np.dtype({
            "names": list(self._fields), "formats": kinds, "itemsize": self.size,
            "offsets": [f.offset for f in self._fields.values()],
        })  # fmt: skip

    def column(self, rows: Rows, name: str) -> Values:
        """A field of many messages: int64 (uint64 if it is u8), or characters without the spaces and NULs
        behind them."""
        field, values = self._fields[name], rows[name]
        if field.kind == "c":
            return np.char.rstrip(values, b" \0")
        if values.dtype.kind == "V":
            return _odd(np.ascontiguousarray(values).view(np.uint8).reshape(-1, field.width), field.kind,
                        self.order)  # fmt: skip
        return values.astype(np.uint64 if f"{field.kind}{field.width}" == "u8" else np.int64)


def _odd(digits: npt.NDArray[np.uint8], kind: str, order: Order) -> npt.NDArray[np.int64]:
    """Integers of any number of bytes."""
    out = np.zeros(len(digits), np.int64)
    width = digits.shape[1]
    for at in range(width) if order == "big" else range(width - 1, -1, -1):
        out = out << 8 | digits[:, at]
    return out - ((out >> (8 * width - 1)) << (8 * width)) if kind == "i" else out
