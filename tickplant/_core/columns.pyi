from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

_Bytes: TypeAlias = Buffer | npt.NDArray[Any]

class Columns:
    def __init__(self, number: int, schema: int, columns: list[tuple[int, int]]) -> None: ...
    def attach(
        self,
        buffer: _Bytes,
        offsets: list[int],
        max_rows: int,
        committed: int,
        prev: int,
        head: int,
        n_heads: int,
        writable: bool,
    ) -> None: ...
    def detach(self) -> None: ...
    def attach_latest(
        self, buffer: _Bytes, offset: int, slot_size: int, cell_size: int, n_slots: int
    ) -> None: ...
    def gather(self, first: int, count: int, out: _Bytes) -> None: ...
    def pick(self, numbers: npt.NDArray[np.int64], out: _Bytes) -> None: ...
    def last_rows(self, instrument: int, committed: int, wanted: int) -> npt.NDArray[np.int64]: ...
    taken: int
    @property
    def rows(self) -> int: ...
    room: int
    def rewind(self, committed: int) -> None: ...
