from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from tickplant._core.memory import Word

_Bytes: TypeAlias = Buffer | npt.NDArray[Any]

def latch_snapshot(
    data: _Bytes,
    first_slot: int,
    slot_size: int,
    cell_size: int,
    n_slots: int,
    out: _Bytes,
    begin: int,
    size: int,
) -> int: ...

class Slots:
    def __init__(
        self,
        buffer: _Bytes,
        first: int,
        slot_size: int,
        cell_size: int,
        slots_max: int,
        allocated: Word,
        prefix: int,
        dtype: np.dtype[np.void],
    ) -> None: ...
    def __len__(self) -> int: ...
    def cell(self, instrument: int) -> bytes | None: ...
    def row(self, instrument: int) -> np.void | None: ...
