"""Ours: a ticker plant as production runs it, and what users of tickplant write."""

import time
from collections.abc import Sequence

import harness
import numpy as np

from peers import ends
from tickplant import Feed, config, connect
from tickplant.clock import SECOND_NS, monotonic_ns
from tickplant.follower import Follower

SINGLE = "single"
"""The feed that posts rows one by one; it has sessions of its own."""
MESSAGES = {1: 20_000, 100: 2_000}


class Source(ends.Source):
    """A sender of frames made beforehand, and a feed handler."""

    def __init__(self, address: str) -> None:
        super().__init__()
        settings = config.load(address)
        self._frames = harness.Frames(settings.schema)
        harness.introduce(settings, self._frames)
        self._pub = harness.publisher(settings.tickerplant.ingress)
        self._trades = connect(settings).table("trade")
        self._feed = Feed(settings, SINGLE)
        self._feed.open()
        self._code = self._feed.instrument("XBEN", "S1")
        self._feed.drained(harness.PATIENCE_S)
        self._rows = 0

    def prepare(self, messages: int, rows_each: int) -> list[bytes]:
        """The next messages: frames."""
        self._rows = messages * rows_each
        return self._frames.trades(messages, rows_each)

    def pour(self, made: Sequence[bytes]) -> None:
        """Send frames; return when their rows are journaled, and visible in shared memory."""
        upto, send = len(self._trades) + self._rows, self._pub.send
        for frame in made:
            send(frame)
        end = monotonic_ns() + int(harness.PATIENCE_S * SECOND_NS)
        while len(self._trades) < upto:
            time.sleep(0.0005)  # not `wait`: the plant would spend its time waking us
            if monotonic_ns() > end:
                raise TimeoutError(f"{len(self._trades):,} of {upto:,} rows came")

    def post(self, due: int) -> None:
        """Publish one row."""
        self._feed.row("trade", ts_event=due, instrument=self._code, price=187.32, size=100.0, side=b"B")
        self._feed.flush()

    def close(self) -> None:
        """End the feed in good order."""
        self._feed.close()


class Sink:
    """A follower of the table."""

    def __init__(self, address: str) -> None:
        trades = connect(address).table("trade")
        self._follower: Follower = trades.follow(len(trades))

    def take(self) -> Sequence[memoryview]:
        """Sleep until there are rows; none came if it took a second."""
        batch = self._follower.next(1.0)
        return [] if batch is None else [memoryview(np.asarray(batch).view("u1"))]

    def close(self) -> None:
        """Nothing to be given back."""
