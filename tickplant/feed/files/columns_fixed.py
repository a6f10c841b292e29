"""The lines of a file whose columns have fixed widths, as columns of text."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tickplant.feed.files.columns_read import LINE, Account, Arrow, arrow

_ASCII = bytes([*range(128), *b"?" * 128])
"""What is no ASCII keeps its place."""


def fixed(names: list[str], widths: list[int], account: Account) -> Callable[[bytes, int], Arrow]:
    """Reads a block of lines; spaces around a text are no part of it. A line of another length is none."""
    size = sum(widths)
    starts = np.cumsum([0, *widths]).tolist()

    def parsed(lines: bytes, at: int) -> Arrow:
        pa, pc = arrow(), arrow(".compute")
        whole, numbers = _of_length(lines.translate(_ASCII), size, at, account)
        made = {}
        for name, at, width in zip(names, starts, widths, strict=False):
            data = np.ascontiguousarray(whole[:, at : at + width]).tobytes()
            binary = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(width), len(whole), [None, pa.py_buffer(data)]
            )
            made[name] = pc.ascii_trim_whitespace(binary.cast(pa.binary()).cast(pa.string()))
        return pa.table({**made, LINE: pa.array(numbers)})

    return parsed


def _of_length(
    lines: bytes, size: int, at: int, account: Account
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.uint8]], npt.NDArray[np.int64]]:
    """The lines that have this length, one below the other, and their numbers; that of the first is `at`."""
    count, rest = divmod(len(lines) + 1, size + 1)
    every = np.frombuffer(lines + b"\n", np.uint8)
    if not rest:
        square = every.reshape(count, size + 1)
        if (square[:, size] == 10).all() and not (square[:, :size] == 10).any():
            return square[:, :size], np.arange(at, at + count)
    kept, numbers = [], []
    for number, line in enumerate(lines.split(b"\n"), at):
        if len(line) == size:
            kept.append(line)
            numbers.append(number)
        elif line:
            text = f"{len(line)} characters, not {size}: {line[:60].decode()}"
            account.malformed.append((number, text))
    whole = np.frombuffer(b"".join(kept), np.uint8).reshape(len(kept), size)
    return whole, np.array(numbers, np.int64)
