from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

_Bytes: TypeAlias = Buffer | npt.NDArray[Any]

def name_hash(name: bytes) -> int: ...
def row_sum(rows: _Bytes, row_size: int, names: npt.NDArray[np.uint64]) -> int: ...
def row_sums(
    rows: _Bytes,
    row_size: int,
    names: npt.NDArray[np.uint64],
    counts: npt.NDArray[np.uint64],
    sums: npt.NDArray[np.uint64],
    first: int = 0,
    numbers: npt.NDArray[np.int64] | None = None,
) -> int: ...
