"""Trades as reported and as corrected.

A venue takes a trade back (action X) or amends it (C) in a row of its own, with the `trade_id` of the
trade. As reported, every row counts as it came; as corrected, only what stands.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tickplant.schema import Rows

_KEY = np.dtype([("feed", "u2"), ("instrument", "u4"), ("trade_id", "i8")])


def as_corrected(trades: Rows | Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.bool_]:
    """Which rows of table trade stand: bool of shape (n,).

    `trades`: rows, or columns of the same length, in their order, of one trading date. A bust or
    correction is about the earlier rows of its feed and instrument with its trade_id (other than 0). Of
    a corrected trade its last correction stands; a busted one has none that does.
    """
    action, number = np.asarray(trades["action"]), np.asarray(trades["trade_id"])
    stands: npt.NDArray[np.bool_] = action != b"X"
    amends = np.flatnonzero(((action == b"X") | (action == b"C")) & (number != 0))
    if not len(amends):
        return stands
    keys = np.empty(len(action), _KEY)
    for name in _KEY.names or ():
        keys[name] = trades[name]
    # Rows whose trade is amended at all, then those that come before the last that amends it.
    about = np.flatnonzero(np.isin(number, number[amends]))
    amended, which = np.unique(keys[amends], return_inverse=True)
    last = np.full(len(amended), -1)
    np.maximum.at(last, which, amends)
    at = np.searchsorted(amended, keys[about])
    at[at == len(amended)] = 0
    hit = amended[at] == keys[about]
    stands[about[hit & (about < last[at])]] = False
    return stands
