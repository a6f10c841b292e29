"""What the benchmarks share: a throw-away plant, child processes, frames, and a result as a line of JSON.

Ours and the limit take turns, so that what else the machine does hits both; medians are told. Whatever
way a benchmark ends, its processes, its folder and its shared memory go with it.
"""

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq

from tickplant import config, local, sockets, wire
from tickplant._core import framing, rowsums
from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.config import Config
from tickplant.dialogue import route
from tickplant.keys import ClientKeys
from tickplant.schema import Rows, Schema, Table
from tickplant.service import PARENT, die_with_parent

FEED = "bench"
INSTRUMENTS = 500
PATIENCE_S = 30.0
_PR_SET_TIMERSLACK = 29
# What children need is imported once, by a server that they are forked from.
_FORKED, _FRESH = (multiprocessing.get_context(kind) for kind in ("forkserver", "spawn"))
_FORKED.set_forkserver_preload(["numpy", "zmq", "msgspec", "tickplant", "tickplant.service"])

Child = Callable[..., None]
"""What a child process runs: child(connection, *arguments)."""


def free_endpoint() -> str:
    """An endpoint of the kind that the shipped configuration has: TCP over the loopback."""
    return f"tcp://127.0.0.1:{sockets.free_port()}"


class Site:
    """A folder, a configuration and a name for one plant, and the processes that belong to it."""

    def __init__(self, **changes: dict[str, Any]) -> None:
        """The shipped configuration, moved to the folder; `changes` are merged in by section."""
        self.folder = Path(tempfile.mkdtemp(prefix="tpb"))  # socket paths must be short
        self.name = self.folder.name.lower()
        content = msgspec.toml.decode(config.shipped().read_bytes())
        content["plant"] |= {"name": self.name, "data_dir": f"{self.folder}/data"}
        content["plant"] |= {"run_dir": f"{self.folder}/run"}
        content["tickerplant"] |= {"ingress": free_endpoint(), "repair": free_endpoint()}
        content["publisher"] |= {"publish": free_endpoint(), "request": free_endpoint()}
        content["feeds"] = {FEED: {"id": 1, "handler": "none"}}
        for section, values in changes.items():
            content[section] |= values
        self.path = self.folder / "plant.toml"
        self.path.write_bytes(msgspec.toml.encode(content))
        self.config: Config = config.load(self.path)
        self._children: list[multiprocessing.process.BaseProcess] = []
        forkserver.ensure_running()  # it imports while the plant starts
        self._janitor = subprocess.Popen(
            [sys.executable, "-m", "tickplant.demo.janitor", str(self.folder), self.name],
            stdin=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()
            child.join()
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()  # it ends the plant, and removes the folder and the shared memory
        self._janitor.wait()

    def run_ticker_plant(self) -> local.Plant:
        """Run a ticker plant as production does; the plant, once it is up."""
        self._run("tickerplant")
        return local.wait_for(self.name, PATIENCE_S)

    def run_publisher(self) -> str:
        """Run a publisher as production does, once the plant is up; the endpoint to ask."""
        self._run("publisher")
        return self.config.publisher.request

    def _run(self, role: str) -> None:
        with (self.folder / f"{role}.log").open("wb") as said:
            subprocess.Popen(
                [sys.executable, "-m", "tickplant", "-c", str(self.path), "run", role],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                env={**os.environ, PARENT: str(os.getpid())},
            )  # fmt: skip

    def spawn(self, child: Child, *arguments: Any, fresh: bool = False) -> Connection:
        """Run a function in a process of its own; the connection to it.

        `fresh`: it shares no memory with others, not even that of Python's modules.
        """
        context = _FRESH if fresh else _FORKED
        ours, theirs = context.Pipe()
        process = context.Process(target=_child, args=(child, theirs, *arguments), daemon=True)
        process.start()
        theirs.close()
        self._children.append(process)
        return ours


def _child(child: Child, connection: Connection, *arguments: Any) -> None:
    os.environ[PARENT] = str(os.getppid())  # or the server of forks, which ends with it
    die_with_parent()
    with contextlib.suppress(EOFError):
        child(connection, *arguments)


def hear(connection: Connection, patience_s: float = PATIENCE_S) -> Any:
    """What a child says next."""
    if not connection.poll(patience_s):
        raise TimeoutError("a child process says nothing")
    return connection.recv()


class Frames:
    """Makes the frames of one feed's session as a feed handler does: definitions, then trades."""

    def __init__(self, schema: Schema, instruments: int = INSTRUMENTS) -> None:
        self.trade, self.instruments = schema["trade"], instruments
        self.session = now_ns()
        self.seq = self.row = self.sum = 0
        self.names = np.zeros(instruments + 1, np.uint64)
        self.definitions = self._define(schema["instrument"])
        self._random = np.random.default_rng(1)

    def _define(self, table: Table) -> bytes:
        rows = table.empty(self.instruments)
        rows["code"] = rows["instrument"] = np.arange(1, self.instruments + 1)
        rows["venue"] = b"XBEN"
        rows["symbol"] = [f"S{n}".encode() for n in range(1, self.instruments + 1)]
        for n in range(1, self.instruments + 1):
            self.names[n] = rowsums.name_hash(f"XBEN:S{n}".encode())
        self.seq = self.instruments
        return self._seal(table, rows, 0, 0, rowsums.row_sum(rows.view("u1"), table.row_size, self.names))

    def _seal(self, table: Table, rows: Rows, seq: int, row: int, total: int) -> bytes:
        made: bytes = framing.seal(
            rows.view("u1"), wire.ROWS, table=table.number, feed=1, session=self.session, seq=seq,
            feed_row=row, feed_sum=total, time_ns=now_ns(), count=len(rows), schema=table.fingerprint,
        )  # fmt: skip
        return made

    def trades(self, messages: int, rows_each: int) -> list[bytes]:
        """The next frames of the session."""
        rows = self.trade.empty(messages * rows_each)
        rows["ts_event"] = rows["ts_recv"] = now_ns() + np.arange(len(rows))
        rows["instrument"] = self._random.integers(1, self.instruments + 1, len(rows))
        rows["venue_seq"] = rows["trade_id"] = np.arange(self.row, self.row + len(rows))
        rows["price"] = self._random.integers(100, 50_000, len(rows)) / 100
        rows["size"] = self._random.integers(1, 1_000, len(rows))
        rows["side"], rows["action"] = b"B", b"T"
        out = []
        for at in range(0, len(rows), rows_each):
            part = rows[at : at + rows_each]
            self.sum += rowsums.row_sum(part.view("u1"), self.trade.row_size, self.names)
            self.sum %= 1 << 64
            out.append(self._seal(self.trade, part, self.seq, self.row, self.sum))
            self.seq += rows_each
            self.row += rows_each
        return out


def publisher(endpoint: str, keys: ClientKeys | None = None) -> zmq.Socket[bytes]:
    """A PUB that never drops, connected to a SUB that has subscribed."""
    pub = sockets.context().socket(zmq.XPUB)  # a PUB that tells when somebody listens
    pub.setsockopt(zmq.SNDHWM, 0)
    sockets.connect(pub, endpoint, keys)
    if not pub.poll(int(PATIENCE_S * 1000)):
        raise TimeoutError(f"nobody subscribes at {endpoint}")
    return pub


def subscriber(endpoint: str) -> zmq.Socket[bytes]:
    """A SUB such as the ticker plant's, bound."""
    sub = sockets.context().socket(zmq.SUB)
    sub.setsockopt(zmq.RCVHWM, 100_000)
    sub.setsockopt(zmq.SUBSCRIBE, b"")
    sockets.bind(sub, endpoint)
    return sub


def settle() -> None:
    """Give subscriptions of a PUB, which does not tell of them, the time to arrive."""
    time.sleep(0.3)


def in_use(sub: zmq.Socket[bytes], connection: Connection) -> Any:
    """What the parent says next; meanwhile the socket greets who connects (it does so only while in use)."""
    while not connection.poll():
        sub.poll(5)
    return connection.recv()


def introduce(settings: Config, frames: Any, keys: ClientKeys | None = None, feed: str = FEED) -> None:
    """Be the outbox of a session that has published its definitions; they are durable then."""
    with sockets.context().socket(zmq.DEALER) as dealer:
        if keys is None:
            dealer.setsockopt(zmq.IDENTITY, route(settings.plant.name, feed))
        sockets.connect(dealer, settings.tickerplant.repair, keys)
        whose = {"feed": feed, "number": settings.feed(feed).id, "plant": settings.plant.name, "identity": ""}
        dealer.send(wire.pack("hello", session=frames.session, seq=frames.seq, process=1, **whose))
        while dealer.poll(int(PATIENCE_S * 1000)):
            asked = wire.unpack(dealer.recv())
            place = (asked["session"], asked["seq"])
            if asked["op"] == "fetch":
                crc = framing.crc32c(frames.definitions)
                said = {"more": False, "knows": True, "mine": frames.session, **whose}
                answer = wire.pack("frames", session=place[0], seq=place[1], crc=crc, **said)
                dealer.send_multipart([answer, frames.definitions])
            elif place == (frames.session, frames.seq):
                return
    raise TimeoutError("the ticker plant does not acknowledge the definitions")


def beats(count: int, interval_ns: int) -> Iterator[int]:
    """Wait for each beat of a steady rhythm; its monotonic time. Late beats come at once, all of them."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # else the kernel wakes us up to 50 us late
    start = monotonic_ns() + 5 * interval_ns
    for due in range(start, start + count * interval_ns, interval_ns):
        left = due - monotonic_ns()
        if left > 0:
            time.sleep(left / SECOND_NS)
        yield due


def options(doc: str, quick: dict[str, Any], **defaults: int | list[int] | str) -> argparse.Namespace:
    """The options of a benchmark: --rounds, --rows and so on, as `defaults` has them, and --quick, which puts
    those of `quick` in their place."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    for name, value in defaults.items():
        kind = type(value[0] if isinstance(value, list) else value)
        nargs = "+" if isinstance(value, list) else None
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, nargs=nargs, default=value)
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**quick)
    return parser.parse_args()


def tell(
    name: str, what: str, ours: Sequence[float], limit: Sequence[float], unit: str, goal: float | None = None,
    *, at_most: bool = False, absolute: bool = False, digits: int = 0, **more: Any,
) -> None:  # fmt: skip
    """Print a result: `what` was measured, and against what (after a semicolon), for people.

    `ours` and `limit` are the rounds'; no limit: empty. `goal` is for the ratio of the medians, or for ours
    itself if `absolute`; met if that is at least, or at most, so much.
    """
    median = statistics.median(ours)
    most = statistics.median(limit) if limit else None
    ratio = median / most if most else None
    judged = median if absolute else ratio
    result: dict[str, Any] = {
        "name": name,
        "what": what,
        "ours": round(median, digits or None),
        "limit": most and round(most, digits or None),
        "unit": unit,
        "ratio": ratio and round(ratio, 3),
        "goal": goal,
        "absolute": absolute,
        "at_most": at_most,
        "met": None if goal is None or judged is None else judged <= goal if at_most else judged >= goal,
        "rounds": len(ours),
        "ours_min": round(min(ours), digits or None),
        "ours_max": round(max(ours), digits or None),
    }
    if limit:
        result |= {"limit_min": round(min(limit), digits or None)}
        result |= {"limit_max": round(max(limit), digits or None)}
    print(json.dumps(result | more), flush=True)


def fail(name: str, why: str) -> None:
    """Print that a result could not be had, and why; the others go on."""
    print(json.dumps({"name": name, "error": why}), flush=True)


PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


def percentiles(took: Sequence[float]) -> dict[str, float]:
    """The usual percentiles of times."""
    return dict(
        zip(PERCENTILES, np.percentile(took, list(PERCENTILES.values())).round(3).tolist(), strict=True)
    )


def histogram(took: Sequence[float]) -> list[tuple[float, int]]:
    """Times in buckets that each are a tenth wider than the one before: (upper bound, how many)."""
    bucket = np.ceil(np.log(np.maximum(took, 1e-9)) / np.log(1.1)).astype(int)
    numbers, counts = np.unique(bucket, return_counts=True)
    return [(round(1.1 ** int(n), 4), int(c)) for n, c in zip(numbers, counts, strict=True)]


def processors(pid: int) -> float:
    """Seconds of processors that a process has used, all its threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / SECOND_NS
