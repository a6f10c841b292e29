"""What Deribit's multicast feed says of an instrument, as the definition that the feed over WebSocket
gives of it (pure)."""

import math
from typing import Any

from tickplant.feed.packets.sbe import Block, Columns, Whole
from tickplant.feed.symbols import Instrument, currency
from tickplant.feed.times import ms_date

STATES = ("created", "open", "closed", "settled", "deactivated", "inactive", "started", "")
_KINDS = ("future", "option", "combo", "combo", "spot")
_RIGHTS = ("", "C", "P")
_PERPETUAL = 0


def listed(block: Block, whole: Whole) -> tuple[str, str, dict[str, Any]]:
    """Of a message instrument or instrument_v2: symbol, state, and columns of table instrument.

    Raises ValueError if it is shorter than the schema says, or has no name, or one that is no
    ASCII, or is of a kind that is not known.
    """
    root = whole.parts[0]
    if root.length < block.length or not whole.texts:
        raise ValueError(f"a root of {root.length} bytes and {len(whole.texts)} names")
    columns = block.columns(root.data, root.length)
    native = whole.texts[-1].decode("ascii")
    state = STATES[min(_integer(block, columns, "state"), len(STATES) - 1)]
    kind, right = _integer(block, columns, "kind"), _integer(block, columns, "option_type")
    if kind >= len(_KINDS) or right >= len(_RIGHTS) or not native:
        raise ValueError(f"{native!r} of kind {kind} and option type {right}")
    base, priced, counter = (_currency(block, columns, n) for n in ("base", "quote", "counter"))
    perpetual = kind == 0 and _integer(block, columns, "settlement_period") == _PERPETUAL
    name = "perp" if perpetual else _KINDS[kind]
    dated = name in ("future", "option")
    is_ = Instrument(
        base, counter or ("USD" if priced == base else priced), name,
        ms_date(_integer(block, columns, "expiration_ms")) if dated else "",
        _strike(_number(block, columns, "strike")) if name == "option" else "",
        _RIGHTS[right] if name == "option" else "",
        tick_size=_number(block, columns, "tick_size"), lot_size=_number(block, columns, "min_trade_amount"),
        multiplier=_number(block, columns, "contract_size"), priced=priced,
    )  # fmt: skip
    symbol = native if name == "combo" else is_.symbol
    if len(symbol) > 48:
        raise ValueError(f"a name of {len(symbol)} characters")
    return symbol, state, is_.definition(native)


def _integer(block: Block, columns: Columns, name: str) -> int:
    return int(block.integers(columns, name)[0])


def _number(block: Block, columns: Columns, name: str) -> float:
    return float(block.numbers(columns, name)[0])


def _currency(block: Block, columns: Columns, name: str) -> str:
    return currency(bytes(block.texts(columns, f"{name}_currency")[0]).decode("ascii").strip())


def _strike(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"a strike of {value}")
    return f"{value:.10f}".rstrip("0").rstrip(".")
