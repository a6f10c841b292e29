"""Numbers as venues write them in text, to float64, correctly rounded."""

from math import isfinite

from tickplant._core.texts import to_float

NAN = float("nan")


def number(text: str) -> float:
    """A decimal number: a price. Raises ValueError or OverflowError if it is none."""
    return to_float(text.encode())[0]


def amount(text: str) -> float:
    """A number that is not below 0: a size. Raises ValueError or OverflowError if it is none."""
    value = number(text)
    if value < 0:
        raise ValueError(f"a size of {text[:40]}")
    return value


def given(text: str) -> float:
    """A number, or NaN where the venue leaves the text empty."""
    return number(text) if text else NAN


def step(decimals: int) -> float:
    """The step between numbers with so many decimals. Raises ValueError for what can't be."""
    if not 0 <= decimals <= 30:
        raise ValueError(f"a number of {decimals} decimals")
    return float(f"1e-{decimals}")


def or_nan(value: float | None) -> float:
    """A number, or NaN where the venue gives none."""
    return NAN if value is None else value


def sides(bid: float | None, bid_size: float, ask: float | None, ask_size: float) -> dict[str, float]:
    """Columns of a quote; a side has NaN and 0 where the venue gives no price or no size."""
    bids, asks = bid_size > 0 and isfinite(or_nan(bid)), ask_size > 0 and isfinite(or_nan(ask))
    return {
        "bid_price": or_nan(bid) if bids else NAN, "bid_size": bid_size if bids else 0.0,
        "ask_price": or_nan(ask) if asks else NAN, "ask_size": ask_size if asks else 0.0,
    }  # fmt: skip
