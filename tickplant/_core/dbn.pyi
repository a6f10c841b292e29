"""Records of Databento DBN to rows (dbn.h holds the layouts)."""

from typing import Any

import numpy as np
import numpy.typing as npt

ORDER_SIZE: int
TRADE_SIZE: int

def walk(data: Any, starts: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Put into `starts` where whole records begin; how many, and the byte after the last of them."""

def same(data: Any, size: int, count: int) -> bool:
    """Are so many records of `size` bytes all of the length and type of the first? ValueError if there
    are fewer bytes."""

def find(
    records: npt.NDArray[np.uint8],
    keys: npt.NDArray[np.uint64],
    codes: npt.NDArray[np.uint32],
    bits: int,
    out: npt.NDArray[np.uint32],
) -> int:
    """Put the code of each record's instrument into `out`, 0 if it is not known; how many are not.

    `keys` (publisher << 32 | instrument id) and `codes` (0: empty) are a table of 2^bits slots, one at
    least empty: a key is at (key * 0x9E3779B97F4A7C15 mod 2^64) >> (64 - bits) or in the slots after it,
    before an empty one. Raises ValueError for arrays of other sizes.
    """

def price(value: int) -> float:
    """A price in units of 1e-9 as the nearest float; NaN for 2^63 - 1."""

def rows(
    records: npt.NDArray[np.uint8],
    codes: npt.NDArray[np.uint32],
    by_order: bool,
    orders: npt.NDArray[np.uint8],
    trades: npt.NDArray[np.uint8],
) -> tuple[int, int]:
    """Make rows of MboMsg (`by_order`) or TradeMsg records; how many of each table.

    `orders` and `trades` are room for ORDER_SIZE and TRADE_SIZE bytes of each record; `orders` may be
    empty if not `by_order`. Raises ValueError for arrays of other sizes.
    """
