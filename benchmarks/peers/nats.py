"""NATS JetStream on files: asynchronous publishing, as many unacknowledged as the client allows; an ordered
consumer reads."""

import asyncio
import contextlib
import shutil
from collections.abc import Iterator, Sequence

import harness
import nats
from nats.js.api import DeliverPolicy, StorageType

from peers import ends, server
from tickplant import sockets

PROMISE = "file storage, acknowledged"
STREAM = "trade"
MESSAGES = {1: 5_000, 100: 1_000}


@contextlib.contextmanager
def serve(site: harness.Site) -> Iterator[str]:
    """The URL of a server on the loopback, with a stream."""
    port = sockets.free_port()
    program = shutil.which("nats-server", path=server.programs()) or "nats-server"
    where = ["-a", "127.0.0.1", "-p", str(port), "-js", "-sd", f"{site.folder}/nats"]
    url = f"nats://127.0.0.1:{port}"
    with server.running(site, program, *where):
        server.until_up(lambda: asyncio.run(_make_stream(url)), nats.errors.Error, OSError)
        yield url


async def _make_stream(url: str) -> None:
    client = await nats.connect(url, connect_timeout=1, max_reconnect_attempts=0, error_cb=_ignore)
    await client.jetstream().add_stream(name=STREAM, subjects=[STREAM], storage=StorageType.FILE)
    await client.close()


async def _ignore(_: Exception) -> None:
    """The client tells twice."""


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """End what a client runs beside: closing it leaves some."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()


class Source(ends.Source):
    """Publishes; settled are messages that are acknowledged."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._stream = self._loop.run_until_complete(nats.connect(address)).jetstream()

    def pour(self, made: Sequence[bytes]) -> None:
        self._loop.run_until_complete(self._pour(made))

    async def _pour(self, made: Sequence[bytes]) -> None:
        for message in made:
            await self._stream.publish_async(STREAM, message, wait_stall=10)
        await self._stream.publish_async_completed()

    def close(self) -> None:
        _end(self._loop)


class Sink:
    """An ordered consumer of what comes."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        client = self._loop.run_until_complete(nats.connect(address))
        new = client.jetstream().subscribe(STREAM, ordered_consumer=True, deliver_policy=DeliverPolicy.NEW)
        self._subscription = self._loop.run_until_complete(new)

    def take(self) -> Sequence[bytes]:
        return self._loop.run_until_complete(self._take())

    async def _take(self) -> list[bytes]:
        try:
            messages = [await self._subscription.next_msg(timeout=1)]
        except nats.errors.TimeoutError:
            return []
        while self._subscription.pending_msgs:
            messages.append(await self._subscription.next_msg(timeout=1))
        return [m.data for m in messages]

    def close(self) -> None:
        _end(self._loop)
