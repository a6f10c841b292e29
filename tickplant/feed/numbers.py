"""Numbers as venues write them, decimal text, to float64 by correct rounding."""

from tickplant._core.levels import to_float


def price(text: str) -> float:
    """A price. Raises ValueError, or OverflowError, if it is no number."""
    value: float = to_float(text.encode())[0]
    return value


def size(text: str) -> float:
    """A size. Raises ValueError, or OverflowError, if it is no number or below 0."""
    value: float = to_float(text.encode())[0]
    if value < 0:
        raise ValueError(f"a size of {text[:40]}")
    return value


def step(decimals: int) -> float:
    """The step between prices or sizes with so many decimals. Raises ValueError for what can't be."""
    if not 0 <= decimals <= 30:
        raise ValueError(f"a number of {decimals} decimals")
    return float(f"1e-{decimals}")
