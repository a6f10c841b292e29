"""Values of columns of tables, of the fields of messages in one layout; whole columns at a time (pure)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.feed.files.scaled import unscaled
from tickplant.feed.packets.protocol import Protocol, Scalar, Series, Source
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
            out &= self._has(name, wanted)
        return out

    def any_of(self, choice: dict[str, list[str | int]]) -> npt.NDArray[np.bool_]:
        """For which of them any field has one of its values."""
        out = np.zeros(len(self), np.bool_)
        for name, wanted in choice.items():
            out |= self._has(name, wanted)
        return out

    def _has(self, name: str, wanted: list[str | int]) -> npt.NDArray[np.bool_]:
        texts = {str(w).rstrip() for w in wanted}
        if self.fields[name].kind != "c":
            texts = {str(int(t, 0)) for t in texts}
        return self.chosen(name, texts.__contains__, np.bool_)

    def chosen(self, name: str, choose: Callable[[str], Any], dtype: Any) -> Values:
        """What a function gives for each value of a field, as text."""
        unique, where = np.unique(self.column(name), return_inverse=True)
        made = [choose(v.decode("latin-1") if isinstance(v, bytes) else str(v)) for v in unique.tolist()]
        return np.array(made, dtype)[where]

    def decimals(self, name: str) -> Ints:
        """The numbers of decimals that a field tells; UNKNOWN where it is none."""
        known, counted = self._protocol.decimals, self.fields[name].kind != "c"

        def number(text: str) -> int:
            found = known.get(text, int(text) if counted else UNKNOWN)
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
        found = piled.chosen(source.field, lambda t: int(t) if t.strip().isdecimal() else 0, np.int64)
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


def option_symbols(series: Series, piled: Piled) -> npt.NDArray[np.bytes_]:
    """The symbols of options, as OCC's Options Symbology Initiative has them: the root, a space, yymmdd,
    C or P, and the strike in thousandths in eight digits. Empty where the month or the strike's
    decimals are none."""
    columns = [piled.column(n) for n in (series.root, series.year, series.month, series.day, series.strike)]
    if series.decimals:
        decimals = piled.decimals(series.decimals)
    else:
        decimals = np.full(len(piled), len(str(series.divisor)) - 1, np.int64)
    keys = list(zip(*(c.tolist() for c in [*columns, decimals]), strict=True))
    made = {key: _option(*key) for key in set(keys)}
    return np.array([made[key] for key in keys], f"S{SYMBOL_MAX}")


def _option(root: bytes, year: int, month: bytes, day: int, strike: int, decimals: int) -> bytes:
    number = ord(month) - ord("A") if len(month) == 1 else UNKNOWN
    if not 0 <= number < 24 or decimals == UNKNOWN or not root:
        return b""
    right = "CP"[number // 12]
    thousandths = strike * 1000 // 10**decimals
    text = f"{symbol_text(root)} {year:02}{number % 12 + 1:02}{day:02}{right}{thousandths:08}"
    return text.encode()


def symbol_text(value: Any) -> str:
    """A symbol as it is stored: printable ASCII, its parts separated by single spaces."""
    if not isinstance(value, bytes):
        return str(value)
    text = "".join(c if c.isascii() and c.isprintable() else "?" for c in value.decode("ascii", "replace"))
    return " ".join(text.split())[:SYMBOL_MAX]


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
