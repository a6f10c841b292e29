from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

_Bytes: TypeAlias = Buffer | npt.NDArray[Any]

HEADER: int
CRC_AT: int
CHECKS: tuple[str, ...]

def crc32c(data: _Bytes, crc: int = 0) -> int: ...
def crc_by_table(on: bool) -> None: ...
def check(data: _Bytes) -> int: ...
def scan(data: _Bytes, crc: int) -> tuple[int, int, int, int]: ...
def index(data: _Bytes) -> npt.NDArray[np.int64]: ...
def payloads(data: _Bytes, table: int) -> bytes: ...
def seal(
    payload: _Bytes,
    kind: int,
    *,
    table: int = 0,
    feed: int = 0,
    trading_date: int = 0,
    row: int = 0,
    session: int = 0,
    seq: int = 0,
    feed_row: int = 0,
    feed_sum: int = 0,
    time_ns: int = 0,
    count: int = 0,
    schema: int = 0,
    prev_crc: int = 0,
) -> bytes: ...
