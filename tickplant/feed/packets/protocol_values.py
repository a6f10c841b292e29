"""Values of columns of tables, of the fields of messages in one layout; whole columns at a time (pure)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.feed.files.scaled import unscaled
from tickplant.feed.packets.protocol import Protocol, Scalar, Source
from tickplant.feed.packets.protocol_fields import Fields, Values
from tickplant.schema import Rows

Ints = npt.NDArray[np.int64]
UNKNOWN = -1
"""Decimals that nothing told."""
DECIMALS_MAX = 15
"""Powers of ten above are not exact enough in float64 to divide by."""
SYMBOL_MAX = 48


class Piled:
    """Messages in one layout."""

    def __init__(self, fields: Fields, rows: Rows, protocol: Protocol) -> None:
        self.fields, self.rows, self._protocol = fields, rows, protocol

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> Values:
        """A field of all of them."""
        return self.fields.column(self.rows, name)

    def where(self, which: Any) -> "Piled":
        """Some of them."""
        return Piled(self.fields, self.rows[which], self._protocol)

    def matching(self, choice: dict[str, list[str | int]]) -> npt.NDArray[np.bool_]:
        """For which of them each field has one of its values."""
        out = np.ones(len(self), np.bool_)
        for name, wanted in choice.items():
            texts = {str(w).strip() for w in wanted}
            if self.fields[name].kind != "c":
                texts = {str(int(t, 0)) for t in texts}
            out &= self.chosen(name, texts.__contains__, np.bool_)
        return out

    def chosen(self, name: str, choose: Callable[[str], Any], dtype: Any) -> Values:
        """What a function gives for each value of a field, as text."""
        unique, where = np.unique(self.column(name), return_inverse=True)
        made = [choose(v.decode("latin-1") if isinstance(v, bytes) else str(v)) for v in unique.tolist()]
        return np.array(made, dtype)[where]

    def decimals(self, name: str) -> Ints:
        """The numbers of decimals that a field tells; UNKNOWN where it is none."""
        known, counted = self._protocol.decimals, self.fields[name].kind != "c"

        def number(text: str) -> int:
            found = int(text) if counted else known.get(text, UNKNOWN)
            return found if 0 <= found <= DECIMALS_MAX else UNKNOWN

        return self.chosen(name, number, np.int64)


def values(source: Source, piled: Piled, scale: Ints, dtype: np.dtype[Any]) -> Any:
    """The values of one column, of type `dtype`; `scale`: the decimals of each message's instrument."""
    if source.value is not None:
        return source.value.encode() if isinstance(source.value, str) else source.value
    if source.map:
        return _mapped(source.map, source.field, piled, dtype)
    found = piled.column(source.field)
    if dtype.kind == "S":
        return found if found.dtype.kind == "S" else found.astype("S20")
    if found.dtype.kind == "S":
        found = piled.chosen(source.field, lambda t: int(t) if t.isdecimal() else 0, np.int64)
    if dtype.kind != "f":
        return found.astype(np.int64)
    if source.scaled or source.decimals:
        out = _divided(found, scale if source.scaled else piled.decimals(source.decimals))
    else:
        out = unscaled(found, source.divisor)
    if source.none:
        out[np.isin(found, source.none)] = np.nan
    return out


def symbols(piled: Piled, name: str) -> list[str]:
    """The symbols in a field."""
    column = piled.column(name)
    return [symbol_text(v) for v in column.tolist()]


def symbol_text(value: Any) -> str:
    """A symbol as it is stored: ASCII, printable."""
    if not isinstance(value, bytes):
        return str(value)
    text = value[:SYMBOL_MAX].decode("ascii", "replace")
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _mapped(given: dict[str, Scalar], field: str, piled: Piled, dtype: np.dtype[Any]) -> Values:
    if dtype.kind == "S":
        return piled.chosen(field, lambda t: str(given.get(t, "")).encode(), dtype)
    return piled.chosen(field, lambda t: given.get(t, np.nan if dtype.kind == "f" else 0), dtype)


def _divided(found: Values, decimals: Ints) -> npt.NDArray[np.float64]:
    """Integers with so many decimals; NaN where that is not known."""
    out = np.full(len(found), np.nan)
    for number in np.unique(decimals).tolist():
        if number != UNKNOWN:
            which = decimals == number
            out[which] = unscaled(found[which], 10**number)
    return out
