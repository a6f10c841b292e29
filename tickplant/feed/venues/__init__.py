"""Venues that are heard over WebSocket, one module each, and how one is found by name."""

import importlib

from tickplant import plugin
from tickplant.errors import ConfigError
from tickplant.feed.venue import Venue

MODULES = (
    "binance", "bitfinex", "bitflyer", "bithumb", "bitstamp", "bybit", "coinbase", "deribit", "gemini",
    "huobi", "independent_reserve", "kraken", "kraken_v2", "okx", "upbit",
)  # fmt: skip


def venues() -> dict[str, type[Venue]]:
    """All venues that come with tickplant, by the name that configurations use."""
    found = {}
    for module in MODULES:
        for made in vars(importlib.import_module(f"tickplant.feed.venues.{module}")).values():
            if isinstance(made, type) and issubclass(made, Venue) and hasattr(made, "NAME"):
                found[made.NAME] = made
    return dict(sorted(found.items()))


def find(name: str) -> type[Venue] | None:
    """A venue by its name, or one of your own as `package.module:Class`; None if there is none.

    Raises ConfigError if what is named is there and is no venue.
    """
    if ":" not in name:
        return venues().get(name)
    made = plugin.load(name, "venue")
    if not (isinstance(made, type) and issubclass(made, Venue)):
        raise ConfigError(f"{name!r} is no tickplant.feed.venue.Venue")
    return made


def table() -> str:
    """What each venue gives, in Markdown, made from the declarations; channels that are alike are one row."""
    lines = ["| venue | channels | a gap is told by | checksum | over REST |", "|---|---|---|---|---|"]
    for name, venue in venues().items():
        alike: dict[tuple[str, str, str], list[str]] = {}
        for c in venue.CHANNELS:
            alike.setdefault((c.gap, c.checksum, c.rest), []).append(c.name)
        for n, (said, channels) in enumerate(alike.items()):
            cells = (f"`{name}`" if n == 0 else "", ", ".join(channels), *said)
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
