"""The live side of every venue over WebSocket: sockets, REST, subscriptions, back-off, and recording.

A venue says what to connect to and decodes what comes (`venue`); everything that waits, fails or is
done again is here. A connection that ends, or is silent for longer than its venue is, is made anew
after a pause that doubles each time, with jitter, so that a thousand clients do not come back in one
moment. What comes in is recorded, if it is to be, before it is decoded, with the time that its rows
get: a recording makes the same rows again.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import httpx
import websockets
from websockets.asyncio.client import ClientConnection, connect

from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.errors import ConfigError
from tickplant.feed.handler import Feed
from tickplant.feed.playback import play
from tickplant.feed.recording import Recorder
from tickplant.feed.venue import Connection, Request, Venue
from tickplant.feed.venues import venues

log = logging.getLogger(__name__)

PAUSE_MIN_S, PAUSE_MAX_S = 0.5, 60.0
STANDS_NS = 30 * SECOND_NS
"""A connection that stood so long was no failure; the next pause is short again."""
ANSWER_S = 10.0
FRAME_MAX = 1 << 26
TEND_S = 0.1
FLUSH_S = 1.0


class Pause:
    """How long to wait after failures: twice as long each time, anything from nothing up to that."""

    def __init__(self) -> None:
        self._most_s = PAUSE_MIN_S

    def next(self) -> float:
        """Seconds to wait now."""
        most, self._most_s = self._most_s, min(2 * self._most_s, PAUSE_MAX_S)
        return random.uniform(most / 2, most)

    def reset(self) -> None:
        """It went well."""
        self._most_s = PAUSE_MIN_S


class Live:
    """Runs one venue for one feed until the feed is to stop."""

    def __init__(
        self, feed: Feed, venue: Venue, record: Path | None = None, endpoints: Mapping[str, str] | None = None
    ) -> None:
        """`record`: a file to make; `endpoints`: other beginnings of URLs, by what the venue has."""
        self.feed, self.venue, self.endpoints = feed, venue, dict(endpoints or {})
        self.recorder: Recorder | None = None
        if record:
            exchange = venue.RECORDED[0] if venue.RECORDED else venue.NAME
            config = dict.fromkeys(venue.channels, venue.symbols)
            try:
                self.recorder = Recorder(record, exchange, config, now_ns())
            except OSError as e:
                raise ConfigError(f"can't record to {record}: {e.strerror}; give another path") from None
        self._sockets: dict[str, ClientConnection] = {}
        self._wanted = asyncio.Event()
        self._asked: set[str] = set()
        self._undeclared: set[str] = set()

    def run(self) -> None:
        """Until `feed.stopping`. Raises what makes the feed fail."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        work = asyncio.create_task(self._work())
        try:
            while not self.feed.wait(0) and not work.done():
                await asyncio.wait([work], timeout=TEND_S)
                if self.recorder:
                    self.recorder.flush()
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            self._publish()
            if self.recorder:
                self.recorder.close()

    async def _work(self) -> None:
        async with httpx.AsyncClient(timeout=ANSWER_S, follow_redirects=True) as http:
            asked = deque(self.venue.begin())
            while asked:  # and what their answers ask for: more of the list, or that it be read again
                await self._ask(http, asked.popleft())
                asked.extend(self.venue.requests)
                self.venue.requests.clear()
                if asked:
                    await asyncio.sleep(1 / self.venue.REQUESTS_PER_S)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._serve_requests(http, group))
                for connection in self.venue.connections():
                    group.create_task(self._hold(connection))

    # ---- WebSocket ----

    async def _hold(self, connection: Connection) -> None:
        """Have a connection stand, for ever."""
        pause, name = Pause(), connection.name
        while True:
            began = monotonic_ns()
            try:
                async with connect(self._url(connection.url), max_size=FRAME_MAX) as socket:
                    self._sockets[name] = socket
                    await self._converse(connection, socket)
            except (OSError, TimeoutError, websockets.WebSocketException) as e:
                self._lost(name, str(e) or type(e).__name__)
            finally:
                self._sockets.pop(name, None)
            if monotonic_ns() - began > STANDS_NS:
                pause.reset()
            await asyncio.sleep(pause.next())

    async def _converse(self, connection: Connection, socket: ClientConnection) -> None:
        """Subscribe, then take what comes. Raises when the connection ends or is silent."""
        name = connection.name
        at = now_ns()
        self._record("connect", name, at, "", addr=connection.url)
        self.venue.urls[name] = connection.url
        self.venue.connected(name, at)
        for message in connection.send:
            await self._send(name, message)
            await asyncio.sleep(1 / self.venue.SUBSCRIPTIONS_PER_S)
        await self._after()
        async with self._pinging(connection):
            while True:
                try:
                    async with asyncio.timeout(connection.silence_s):
                        data = await socket.recv()
                except TimeoutError:
                    raise TimeoutError(f"silent for {connection.silence_s:.0f} s") from None
                at = now_ns()
                self._record("recv", name, at, data)
                self.venue.receive(name, data.encode() if isinstance(data, str) else data, at)
                await self._after()
                if name in self.venue.reconnects:
                    self.venue.reconnects.discard(name)
                    raise ConnectionError("the venue asks for another connection")

    @contextlib.asynccontextmanager
    async def _pinging(self, connection: Connection) -> AsyncIterator[None]:
        async def ping() -> None:
            while connection.ping:
                await asyncio.sleep(connection.ping_s)
                await self._send(connection.name, connection.ping)

        task = asyncio.create_task(ping())
        try:
            yield
        finally:
            task.cancel()

    async def _send(self, name: str, message: str) -> None:
        if socket := self._sockets.get(name):
            self._record("send", name, now_ns(), message)
            await socket.send(message)

    def _lost(self, name: str, cause: str) -> None:
        log.warning("%s: %s was lost: %s", self.feed.name, name, cause)
        at = now_ns()
        self._record("lost", name, at, cause)
        self.venue.lost(name, at, cause)
        self._publish()

    async def _after(self) -> None:
        """What a message calls for."""
        self._publish()
        while self.venue.replies:
            await self._send(*self.venue.replies.popleft())
        if self.venue.requests:
            self._wanted.set()

    def _publish(self) -> None:
        for table, rows in self.venue.take():
            if table in self.feed.config.schema:
                self.feed.append(table, rows)
            elif table not in self._undeclared:
                self._undeclared.add(table)
                log.warning("%s: no table %s is declared; its rows are left out", self.feed.name, table)

    # ---- REST ----

    async def _serve_requests(self, http: httpx.AsyncClient, group: asyncio.TaskGroup) -> None:
        """Ask what the decoder asks for, not faster than the venue allows; the same thing once at a time."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self.venue.requests:
                request = self.venue.requests.popleft()
                if request.url not in self._asked:
                    self._asked.add(request.url)
                    group.create_task(self._ask(http, request))
                    await asyncio.sleep(1 / self.venue.REQUESTS_PER_S)

    async def _ask(self, http: httpx.AsyncClient, request: Request) -> None:
        """Ask until there is an answer."""
        await asyncio.sleep(request.after_s)
        pause = Pause()
        while True:
            try:
                answer = await http.get(self._url(request.url))
                answer.raise_for_status()
                break
            except httpx.HTTPError as e:
                log.warning("%s: %s: %s; asked again", self.feed.name, request.url, e or type(e).__name__)
                await asyncio.sleep(pause.next())
        self._asked.discard(request.url)
        at = now_ns()
        self._record("http", "rest", at, answer.text, url=request.url)
        self.venue.respond(request.url, answer.text.encode(), at)
        await self._after()

    def _url(self, url: str) -> str:
        for begins, instead in self.endpoints.items():
            if url.startswith(begins):
                return instead + url.removeprefix(begins)
        return url

    def _record(self, t: str, conn: str, ns: int, data: str | bytes, **more: str) -> None:
        if self.recorder:
            self.recorder.add(t, conn, ns, data, **more)


def handler(kind: type[Venue]) -> Callable[..., None]:
    """The feed handler of a venue."""

    def run(
        feed: Feed, *, symbols: Sequence[str] = (), channels: Sequence[str] = (), source: str = "live",
        path: str = "", pace: float = 0.0, record: str = "", endpoints: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`symbols`, `channels`: what to subscribe to; `source`: live, or file: the recording at `path`.

        `pace`: of a recording: 1 as recorded, N times faster, 0 flat out; `record`: a file, or a folder
        for one; `endpoints`: other beginnings of URLs.
        """
        if source == "file":
            play(feed, Path(path), pace=pace, venue=_named(kind))
            return
        if source != "live":
            raise ConfigError(f"feeds.{feed.name}.options.source is {source!r}; must be live or file")
        if unknown := set(channels) - {c.name for c in kind.CHANNELS}:
            known = ", ".join(c.name for c in kind.CHANNELS)
            raise ConfigError(
                f"feeds.{feed.name}.options.channels has {', '.join(sorted(unknown))}; "
                f"{kind.NAME} has {known}"
            )
        if not symbols:
            raise ConfigError(f'feeds.{feed.name}.options.symbols is missing, such as ["BTC-USD"]')
        Live(feed, kind(symbols, channels), _recording(kind, record), endpoints).run()

    return run


def _named(kind: type[Venue]) -> str:
    """What a recording's `venue` option finds it by."""
    return kind.NAME if venues().get(kind.NAME) is kind else f"{kind.__module__}:{kind.__qualname__}"


def _recording(kind: type[Venue], record: str) -> Path | None:
    """The file to record to; in a folder each start of the feed makes its own."""
    if not record:
        return None
    path = Path(record)
    return path / f"{kind.NAME}-{now_ns()}.jsonl.zst" if path.is_dir() else path
