"""Zenoh, from peer to peer over TCP on the loopback.

It keeps nothing: rows are there when a reader has them.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence

import harness
import zenoh

from peers import ends
from tickplant import sockets

PROMISE = "not kept, received by one reader"
STORES = False
KEY = "trade"
BUFFERED = 10_000
INTRODUCTION_S = 0.5
"""From when a reader subscribes until the publisher knows for sure; nobody tells the reader."""


@contextlib.contextmanager
def serve(site: harness.Site) -> Iterator[str]:
    """Where the publisher listens; there is no server."""
    yield f"tcp/127.0.0.1:{sockets.free_port()}"


def _open(how: str, address: str) -> zenoh.Session:
    settings = zenoh.Config()
    settings.insert_json5("mode", '"peer"')
    settings.insert_json5("transport/shared_memory/enabled", "false")
    settings.insert_json5("scouting/multicast/enabled", "false")
    settings.insert_json5("listen/endpoints", json.dumps([address] if how == "listen" else []))
    settings.insert_json5("connect/endpoints", json.dumps([address] if how == "connect" else []))
    return zenoh.open(settings)


class Source(ends.Source):
    """Puts messages, and waits where it must: none is dropped."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._session = _open("listen", address)
        block = zenoh.CongestionControl.BLOCK
        self._publisher = self._session.declare_publisher(KEY, congestion_control=block)

    def pour(self, made: Sequence[bytes]) -> None:
        for message in made:
            self._publisher.put(message)


class Sink:
    """A subscriber with a queue."""

    def __init__(self, address: str) -> None:
        self._session = _open("connect", address)
        queue = zenoh.handlers.FifoChannel(BUFFERED)
        self._subscriber = self._session.declare_subscriber(KEY, queue)
        time.sleep(INTRODUCTION_S)

    def take(self) -> Sequence[bytes]:
        messages = [self._subscriber.recv()]
        while sample := self._subscriber.try_recv():
            messages.append(sample)
        return [bytes(m.payload) for m in messages]

    def close(self) -> None:
        self._session.close()
