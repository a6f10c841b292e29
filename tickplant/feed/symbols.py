"""One name per instrument and venue: BASE-QUOTE, with what it is behind it where it is not spot.

    spot      BTC-USD          perpetual  BTC-USD-PERP       future  BTC-USD-20240628
    option    BTC-USD-20240628-60000-C

Base and quote are in upper case, and what venues call otherwise has its usual name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ALIASES = {"XBT": "BTC", "XDG": "DOGE", "XXBT": "BTC", "XETH": "ETH", "ZUSD": "USD", "ZEUR": "EUR"}
"""Other names of currencies that venues use, and the usual ones."""


def currency(name: str) -> str:
    """A currency's or coin's usual name."""
    upper = name.upper()
    return ALIASES.get(upper, upper)


@dataclass(frozen=True)
class Instrument:
    """What a venue lists. `base` and `quote` are usual names; `expiry` is YYYYMMDD."""

    base: str
    quote: str
    kind: str = "spot"
    """spot, perp, future, option"""
    expiry: str = ""
    strike: str = ""
    right: str = ""
    """C or P"""
    tick_size: float = float("nan")
    lot_size: float = float("nan")
    multiplier: float = 1.0
    priced: str = ""
    """In what its price is, where that is not the quote: options on BTC-USD that cost BTC."""
    name: str = ""
    """The venue's own name, where nothing says what it is made of."""

    @property
    def symbol(self) -> str:
        """The one name."""
        if self.name:
            return self.name
        last = {"spot": "", "perp": "PERP", "future": self.expiry}.get(
            self.kind, f"{self.expiry}-{self.strike}-{self.right}"
        )
        return "-".join(p for p in (self.base, self.quote, last) if p)

    def definition(self, native: str) -> dict[str, Any]:
        """Columns of table instrument; the venue's own name stands in `attributes`."""
        return {
            "kind": self.kind, "currency": _cut(self.priced or self.quote, 8), "base": _cut(self.base, 16),
            "tick_size": self.tick_size, "lot_size": self.lot_size, "multiplier": self.multiplier,
            "attributes": _cut(native, 32),
        }  # fmt: skip


def _cut(text: str, size: int) -> str:
    """As much of a text as fits into so many bytes of UTF-8."""
    return text if len(text) <= size and text.isascii() else text.encode()[:size].decode(errors="ignore")


NAN = float("nan")


def spot(base: str, quote: str, tick_size: float = NAN, lot_size: float = NAN) -> Instrument:
    """A pair, under its usual name."""
    return Instrument(currency(base), currency(quote), tick_size=tick_size, lot_size=lot_size)


def ends(name: str, quotes: Sequence[str]) -> tuple[str, str]:
    """Base and quote of a name that is both in one word.

    Raises ValueError if it ends with none of these quotes, or can be read in two ways: BTCBUSD is BTC-BUSD,
    or BTCB-USD.
    """
    found = [(name.removesuffix(q), q) for q in quotes if name.endswith(q) and len(name) > len(q)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError("it ends with no quote that is known")
    raise ValueError(" or ".join(f"{currency(base)}-{currency(quote)}" for base, quote in found) + "?")
