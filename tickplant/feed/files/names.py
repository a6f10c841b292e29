"""Names of instruments and venues in files, as the venue's live feed has them.

    binance, okx, ...   what that feed's decoder makes of the venue's own name: BTCUSDT is BTC-USDT
    bybit:linear/       the same, with something before the name that the file leaves out
    databento           the venue of a publisher's number
    coinapi             EXCHANGE_SPOT_BASE_QUOTE, _PERP_, and _FTS_BASE_QUOTE_YYMMDD

A name that can be read in two ways, or in none, stays as it is.
"""

from functools import cache
from typing import Any

from tickplant.errors import ConfigError
from tickplant.feed.files.dbn_symbols import VENUES
from tickplant.feed.symbols import Instrument, currency
from tickplant.feed.times import yymmdd
from tickplant.feed.venue import Venue

OWN = ("databento", "coinapi")
_KINDS = {"SPOT": "spot", "PERP": "perp", "FTS": "future"}


@cache
def _venue(name: str) -> Venue:
    from tickplant.feed.venues import venues  # all of them: only files that need their names do

    return venues()[name]()


def check(style: str) -> None:
    """Raise ConfigError if there are no names of this style."""
    from tickplant.feed.venues import venues

    if style.partition(":")[0] not in (*OWN, *venues()):
        known = ", ".join((*OWN, *venues()))
        raise ConfigError(f"there are no names of {style!r}; there are {known}")


def venue(style: str, text: str) -> str:
    """The name of a venue that a file calls so."""
    if style == "databento":
        return VENUES[int(text) - 1] if text.isdigit() and 0 < int(text) <= len(VENUES) else f"#{text}"
    return text


def symbol(style: str, native: str) -> tuple[str, dict[str, Any]]:
    """The symbol of an instrument that a file calls so, and what else its definition says of it."""
    found = _instrument(style, native) if style else None
    if found is None:
        return native, {}
    return found.symbol, found.definition(native)


def _instrument(style: str, native: str) -> Instrument | None:
    if style == "coinapi":
        return _coinapi(native)
    name, _, before = style.partition(":")
    try:
        return _venue(name).instrument(before + native)
    except ValueError:
        return None


def _coinapi(native: str) -> Instrument | None:
    parts = native.split("_")
    kind = _KINDS.get(parts[1]) if len(parts) > 3 else None
    if kind is None or len(parts) != (5 if kind == "future" else 4):
        return None
    try:
        expiry = yymmdd(parts[4]) if kind == "future" else ""
    except ValueError:
        return None
    return Instrument(currency(parts[2]), currency(parts[3]), kind, expiry)
