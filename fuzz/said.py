"""Control messages made of bytes: nearly right, by what their language declares.

The first byte chooses the kind, then one byte for each field how it is filled; what a choice needs is taken
from the bytes behind. So a mutated input is another message, and seldom one that is refused before anything
looks at it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import msgspec

from tickplant.messages import Language
from tickplant.wire import sealed

EDGES = (
    0, 1, 2, 3, 5, 7, 127, 128, 255, 256, 4095, 4096, 65_535, 65_536, 300_000, 19_700_101, 99_991_231,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**63),
)  # fmt: skip
"""Numbers at which something may change."""
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    1.5,
    float("nan"),
    "",
    "x",
    "x" * 300,
    b"",
    b"\xff",
    [],
    {},
    [1],
    {"a": 1},
)
"""What a field should not be."""


class Cursor:
    """Bytes that are taken one after the other; zeros at the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        """The next byte."""
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def number(self, size: int) -> int:
        """A number of so many bytes."""
        return int.from_bytes(bytes(self.byte() for _ in range(size)), "little")


def said(language: Language[Any], data: bytes, usual: Mapping[str, Sequence[Any]] | None = None) -> bytes:
    """A message. `usual`: by field the values that mean something."""
    usual = usual or {}
    cursor = Cursor(data)
    kinds = list(language.kinds.items())
    chosen = cursor.byte()
    if chosen >= 250:
        return sealed(data[1:])  # anything at all
    op, kind = kinds[chosen % len(kinds)]
    fields: dict[Any, Any] = {"op": op if chosen < 240 else _value(cursor, ())}
    for field in msgspec.structs.fields(kind):
        how = cursor.byte()
        if how < 250:
            wanted = usual.get(field.encode_name, ())
            fields[field.encode_name] = _value(cursor, wanted) if how < 245 else bytes(how)
    if cursor.byte() > 250:
        fields[cursor.byte()] = _value(cursor, ())
    return sealed(msgpack.packb(fields))


def _value(cursor: Cursor, usual: Sequence[int]) -> Any:
    how = cursor.byte()
    if how < 180 and usual:
        return usual[how % len(usual)]
    if how < 225:
        return EDGES[how % len(EDGES)]
    if how < 250:
        return cursor.number(1 + how % 8)
    return ODD[how % len(ODD)]
