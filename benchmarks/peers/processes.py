"""The processes in which peers send and receive: one for a source, and one for each reader.

What a peer's library raises there, whatever it is, ends the peer's benchmark and no other's.
"""

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import harness

from peers.ends import Sink, Source, trade
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns

PATIENCE_NS = 20 * SECOND_NS


class Failed(Exception):
    """What made a peer fail, in another process."""


def hear(connection: Connection) -> Any:
    """What a child says next. Raises Failed, TimeoutError, EOFError."""
    said = harness.hear(connection)
    if isinstance(said, Failed):
        raise said
    return said


@contextlib.contextmanager
def _telling(connection: Connection) -> Iterator[None]:
    try:
        yield
    except EOFError:
        raise
    except Exception as e:
        connection.send(Failed(f"{type(e).__name__}: {e}"))


def source(connection: Connection, module: str, address: str) -> None:
    """Child: ("prepare", messages, rows each); ("pour",) them, and say when it began and ended;
    ("beat", rows) of one a millisecond."""
    with _telling(connection), contextlib.closing(importlib.import_module(module).Source(address)) as end:
        connection.send("ready")
        _serve(connection, end)


def _serve(connection: Connection, end: Source) -> None:
    made: list[bytes] = []
    while True:
        what, *arguments = connection.recv()
        if what == "prepare":
            made = end.prepare(*arguments)
            connection.send("ready")
        elif what == "pour":
            begin = monotonic_ns()
            end.pour(made)
            connection.send((begin, monotonic_ns()))
        else:
            for due in harness.beats(arguments[0], MILLISECOND_NS):
                end.post(due)


def sink(connection: Connection) -> None:
    """Child: on (what, module, address, rows) see so many rows come; say "reading", and then,
    for "count", when they were there; for "time" the ns that each took."""
    while True:
        what, module, address, rows = connection.recv()
        with (
            _telling(connection),
            contextlib.closing(importlib.import_module(module).Sink(address)) as end,
        ):
            connection.send("reading")
            connection.send(_counted(end, rows) if what == "count" else _timed(end, rows))


def _messages(end: Sink) -> Iterator[Sequence[bytes | memoryview]]:
    until = monotonic_ns() + PATIENCE_NS
    while monotonic_ns() < until:
        yield end.take()
    raise TimeoutError("not all rows came")


def _counted(end: Sink, rows: int) -> int:
    left = rows * trade().row_size
    for messages in _messages(end):
        left -= sum(map(len, messages))
        if left <= 0:
            break
    return monotonic_ns()


def _timed(end: Sink, rows: int) -> list[int]:
    took: list[int] = []
    for messages in _messages(end):
        at = monotonic_ns()
        for m in messages:
            starts = range(0, len(m), trade().row_size)
            took += [at - int.from_bytes(m[start : start + 8], "little") for start in starts]
        if len(took) >= rows:
            break
    return took
