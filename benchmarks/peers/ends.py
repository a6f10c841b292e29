"""What a peer has to be able to do, and the processes in which it does it.

A module of a peer has

    PROMISE             what is said of rows that have been poured
    serve(site)         a context manager: its address, while its server, if it needs one, runs
    Source(address)     where rows go in: a subclass of `Source`
    Sink(address)       where they come out, if a reader can sleep until rows come: as `Sink`
    STORES              False: the source is not told that rows are anywhere; they are once a sink has them
    FAN_OUT             False: a sink tells when rows came, but does not get them
    MESSAGES            {rows each: messages} of a round, if fewer than ours suffice

A message is packed rows of `trade`, the same bytes for all.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import harness
import numpy as np

from tickplant import config
from tickplant.clock import MILLISECOND_NS, SECOND_NS, monotonic_ns, now_ns
from tickplant.schema import Table
from tickplant.service import PARENT, die_with_parent

PATIENCE_NS = 20 * SECOND_NS


class Failed(Exception):
    """What made a peer fail, in another process."""


@cache
def trade() -> Table:
    """The table whose rows all have to take."""
    return config.load(config.shipped()).schema["trade"]


class Source:
    """Where rows go in."""

    def __init__(self) -> None:
        self._row, self._single = 0, b""
        self._random = np.random.default_rng(1)

    def prepare(self, messages: int, rows_each: int) -> list[bytes]:
        """The next messages."""
        rows = trade().empty(messages * rows_each)
        number = np.arange(self._row, self._row + len(rows))
        self._row += len(rows)
        rows["ts_event"] = rows["ts_recv"] = now_ns() + number
        rows["venue_seq"] = rows["trade_id"] = number
        rows["instrument"] = self._random.integers(1, harness.INSTRUMENTS + 1, len(rows))
        rows["price"] = self._random.integers(100, 50_000, len(rows)) / 100
        rows["size"] = self._random.integers(1, 1_000, len(rows))
        rows["side"], rows["action"] = b"B", b"T"
        return [rows[at : at + rows_each].tobytes() for at in range(0, len(rows), rows_each)]

    def pour(self, made: Sequence[bytes]) -> None:
        """Send messages one after the other; return when they are as safe as the peer promises."""
        raise NotImplementedError

    def post(self, due: int) -> None:
        """Send one row, with the time at which it was due as its ts_event."""
        self.pour([self.single(due)])

    def close(self) -> None:
        """Give back what would complain else."""

    def single(self, due: int) -> bytes:
        """A message of one row with this ts_event."""
        self._single = self._single or self.prepare(1, 1)[0]
        return due.to_bytes(8, "little") + self._single[8:]


class Sink(Protocol):
    """Where rows come out; from when it is made on."""

    def take(self) -> Sequence[bytes | memoryview]:
        """Sleep until there are messages; none came if it took a second."""
        ...

    def close(self) -> None: ...


def hear(connection: Connection) -> Any:
    """What a child says next. Raises Failed, TimeoutError, EOFError."""
    said = harness.hear(connection)
    if isinstance(said, Failed):
        raise said
    return said


@contextlib.contextmanager
def _telling(connection: Connection) -> Iterator[None]:
    """What a peer's library raises, whatever it is, ends the peer's benchmark and no other's."""
    try:
        yield
    except EOFError:
        raise
    except Exception as e:
        connection.send(Failed(f"{type(e).__name__}: {e}"))


def source(connection: Connection, module: str, address: str) -> None:
    """Child: ("prepare", messages, rows each); ("pour",) them, and say when it began and ended;
    ("beat", rows) of one a millisecond."""
    with _telling(connection):
        end = importlib.import_module(module).Source(address)
        connection.send("ready")
        try:
            _serve(connection, end)
        finally:
            end.close()


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
        with _telling(connection):
            end = importlib.import_module(module).Sink(address)
            connection.send("reading")
            connection.send(_counted(end, rows) if what == "count" else _timed(end, rows))
            end.close()


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


def programs() -> str:
    """The folder of programs that came with packages."""
    return str(Path(sys.executable).parent)


def until_up(reach: Callable[[], object], *refusals: type[Exception]) -> None:
    """Reach for a server that is starting, until it does not refuse."""
    end = monotonic_ns() + PATIENCE_NS
    while True:
        try:
            reach()
            return
        except refusals:
            if monotonic_ns() > end:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def server(site: harness.Site, *command: str) -> Iterator[None]:
    """A peer's server, in the site's folder; the kernel ends it should this process be killed."""
    log = site.folder / f"{os.path.basename(command[0])}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=site.folder,
            env={**os.environ, PARENT: str(os.getpid())}, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
