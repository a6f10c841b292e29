"""Scaled integers to float64, each to the nearest one."""

from typing import Any

import numpy as np
import numpy.typing as npt

EXACT = 1 << 53
"""Integers up to here are exact in float64, so that dividing one rounds once."""


def unscaled(values: npt.NDArray[Any], divisor: int, undefined: int | None = None) -> npt.NDArray[np.float64]:
    """Integers divided by a power of ten below 2^53, correctly rounded; NaN where they are `undefined`."""
    out: npt.NDArray[np.float64] = values / np.float64(divisor)
    if not len(values):
        return out
    most, least = int(values.max()), int(values.min())
    if most > EXACT or least < -EXACT:
        # int64 to float64 would round, and the division once more; Python divides integers exactly.
        large = np.nonzero((values > EXACT) | (values < -EXACT))[0]
        if undefined is not None:
            large = large[values[large] != undefined]
        different, where = np.unique(values[large], return_inverse=True)
        out[large] = np.array([v / divisor for v in different.tolist()], np.float64)[where]
    if undefined is not None and undefined in (most, least):
        out[values == undefined] = np.nan
    return out
