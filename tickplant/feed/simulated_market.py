"""What simulated venues are made of: instruments, and how likely it is that what happens to them.

Everything random is looked up: a table maps uniform 16-bit numbers to outcomes, so that drawing a
million costs milliseconds.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.errors import SchemaError
from tickplant.schema import Rows, Schema, Table

Array = npt.NDArray[Any]

QUOTE, TRADE, CORRECT, DEPTH, HALT, RESUME, OPEN = range(7)
"""Kinds of what can happen: one row each, but for DEPTH, a book of rows."""

FLOOR_TICKS = 64
"""Mid prices are reflected here, so that even a deep book stays above zero."""


def _quantiles(count: int) -> Array:
    return (np.arange(count) + 0.5) / count


def _weighted(values: dict[int, float], count: int, dtype: str = "i8") -> Array:
    """A lookup table that maps a uniform index below `count` to values with these weights."""
    edges = np.cumsum(list(values.values())) / sum(values.values())
    picked = np.searchsorted(edges, _quantiles(count)).clip(max=len(values) - 1)
    table: Array = np.array(list(values), dtype)[picked]
    return table


# STEPS and SPREADS: 256 entries for calm times, then 256 for bursts.
STEPS = np.concatenate(
    [
        _weighted({-2: 1, -1: 14, 0: 70, 1: 14, 2: 1}, 256),
        _weighted({-4: 2, -2: 8, -1: 25, 0: 30, 1: 25, 2: 8, 4: 2}, 256),
    ]
)
"""Move of the mid at a quote, in strides of the instrument."""
SPREADS = np.concatenate(
    [
        _weighted({1: 55, 2: 25, 3: 12, 4: 6, 5: 2}, 256),
        _weighted({1: 25, 2: 28, 3: 20, 4: 14, 6: 9, 9: 4}, 256),
    ]
)
"""Ask less bid, in ticks."""

BURST_POINTS = 250
LENGTHS = np.ceil(-np.log(1 - _quantiles(4096)) * BURST_POINTS).astype("i8")
"""Length of a burst: exponential, on average of so many points."""

# Sizes: hundreds of shares with a Pareto tail; log-normal multiples of the smallest fraction.
_LOTS = 100 * np.floor((1 - _quantiles(4096)) ** (-1 / 1.3)).astype("i8")
_NORMAL = np.array([NormalDist(6.0, 2.0).inv_cdf(q) for q in _quantiles(4096)])
_UNITS = np.ceil(np.exp(_NORMAL)).astype("i8")

CONDITIONS = np.array([b"", b"", b"", b"@", b"@", b"@", b"F", b"@F"], "S6")
STATES = np.array([b"", b"", b"", b"", b"halt", b"resume", b"open"], "S12")
REASONS = np.array([b"volatility", b"news", b"regulatory", b"technical"], "S12")
SIDES = np.array([b"", b"B", b"S"], "S1")


@dataclass(frozen=True)
class Flavour:
    """What distinguishes one sort of venue from another.

    `lot` and `sizes` (4096 entries) are in units of the smallest size; `kinds` (65,536 entries)
    maps to kinds of what happens; `majors` are the busiest symbols.
    """

    asset: bytes
    lot: int
    sizes: Array
    kinds: Array
    by_price: bool = False
    majors: tuple[str, ...] = ()


_EQUITY = {QUOTE: 0.87984, TRADE: 0.12, CORRECT: 12e-5, HALT: 4e-5}
_CRYPTO = {QUOTE: 0.75985, TRADE: 0.2, DEPTH: 0.04, CORRECT: 12e-5, HALT: 3e-5}
_MAJORS = ("BTC", "ETH", "SOL", "XRP", "BNB", "DOGE", "ADA", "LINK", "AVAX", "LTC", "DOT", "UNI")

FLAVOURS = {
    "equity": Flavour(b"stock", 100, _LOTS, _weighted(_EQUITY, 1 << 16, "u1")),
    "crypto": Flavour(b"spot", 1, _UNITS, _weighted(_CRYPTO, 1 << 16, "u1"), True, _MAJORS),
}

NEEDED = {
    "instrument": "code venue symbol kind currency tick_size lot_size multiplier",
    "status": "venue_seq kind value reason level_1 level_2 level_3",
    "quote": "venue_seq bid_price bid_size ask_price ask_size",
    "trade": "venue_seq trade_id price size side action condition",
    "depth": "venue_seq price size orders level side action",
}
"""Tables and columns that simulated venues fill; `depth` only where the flavour is `by_price`."""


def tables(schema: Schema, flavour: Flavour) -> dict[str, Table]:
    """The tables that such a venue fills. Raises SchemaError if one or a column is missing."""
    found = {name: schema[name] for name in NEEDED if name != "depth" or flavour.by_price}
    for name, table in found.items():
        missing = set(NEEDED[name].split()) - {c.name for c in table.columns}
        if missing:
            raise SchemaError(f"a simulated venue needs {sorted(missing)} in table {name}")
    return found


class Instruments:
    """The instruments of a venue. All arrays but `busy` are by instrument, from 0 (code - 1).

    Prices are whole ticks and sizes whole units: divided by `price_scale` and `size_scale`, powers
    of ten, they are the decimals. `mid` is the first mid price and `stride` the smallest move, in
    ticks. `busy`, of a power of two of entries, maps uniform indices to instruments by activity.
    """

    def __init__(self, flavour: Flavour, count: int, rng: np.random.Generator) -> None:
        self.flavour = flavour
        # By rank of activity so far. If it were the code as well, the busiest instruments would lie
        # side by side in every table of the plant, which they never do.
        names = _names(rng, count, flavour.majors[:count])
        price = rng.lognormal(4.0, 0.9, count).clip(2, 5_000)
        digits, size_digits = np.full(count, 2), np.zeros(count, "i8")
        if flavour.by_price:
            price = rng.lognormal(1.0, 2.5, count).clip(2e-3, 9e4)
            majors = np.arange(1, min(count, len(flavour.majors)) + 1)
            price[: len(majors)] = 60_000 / majors**3.5
            magnitude = np.floor(np.log10(price)).astype("i8")
            digits, size_digits = (5 - magnitude).clip(1, 8), (magnitude + 1).clip(0, 8)
        order = rng.permutation(count)
        self.symbol = np.array(names)[order]
        self.price_scale = 10.0 ** digits[order]
        self.size_scale = 10.0 ** size_digits[order]
        self.mid = (price[order] * self.price_scale).astype("i8") + FLOOR_TICKS
        self.stride = 1 + self.mid // 20_000
        self.busy = _zipf(np.argsort(order))

    def rows(self, table: Table, venue: str, ts: int) -> Rows:
        """Their definitions as rows of `table`, as of `ts`."""
        rows = table.empty(len(self.symbol))
        rows["ts_event"] = rows["ts_recv"] = ts
        rows["instrument"] = rows["code"] = np.arange(1, len(rows) + 1)
        rows["venue"], rows["kind"] = venue.encode(), self.flavour.asset
        rows["symbol"] = [s + "-USD" if self.flavour.by_price else s for s in self.symbol.tolist()]
        rows["currency"], rows["multiplier"] = b"USD", 1.0
        rows["tick_size"] = 1 / self.price_scale
        rows["lot_size"] = self.flavour.lot / self.size_scale
        return rows


def _zipf(ranked: Array) -> Array:
    """A lookup table from uniform indices to `ranked`: the r-th 1/r times as often as the first.

    Its size is a power of two, large enough that the last is in it.
    """
    count = len(ranked)
    edges = np.cumsum(1 / np.arange(1, count + 1))
    size = 1 << max(16, (16 * count).bit_length())
    picked = np.searchsorted(edges / edges[-1], _quantiles(size)).clip(max=count - 1)
    table: Array = ranked[picked].astype("u2" if count < 1 << 16 else "u4")
    return table


def _names(rng: np.random.Generator, count: int, given: tuple[str, ...]) -> list[str]:
    """`count` distinct tickers: the given ones, then others of two or more letters."""
    names = list(given)
    for number in rng.choice(18_278 + 4 * count, count + len(given), replace=False) + 27:
        name, rest = "", int(number)
        while rest:
            rest, letter = divmod(rest - 1, 26)
            name = chr(65 + letter) + name
        if name not in given:
            names.append(name)
    return names[:count]
