"""Venues that are heard over WebSocket, one module each."""

import importlib

from tickplant.feed.venue import Venue

MODULES = (
    "binance",
    "bitfinex",
    "bithumb",
    "bitstamp",
    "gemini",
    "independent_reserve",
    "kraken",
    "kraken_v2",
)


def venues() -> dict[str, type[Venue]]:
    """All venues, by the name that configurations use."""
    found = {}
    for module in MODULES:
        for made in vars(importlib.import_module(f"tickplant.feed.venues.{module}")).values():
            if isinstance(made, type) and issubclass(made, Venue) and hasattr(made, "NAME"):
                found[made.NAME] = made
    return found
