"""The live side of every venue over WebSocket: sockets, REST, subscriptions, back-off, and recording.

A venue says what to connect to and decodes what comes (`venue`); everything that waits, fails or is
done again is here. A connection that ends, or is silent for longer than its venue is, is made anew
after a pause that doubles each time, with jitter, so that a thousand clients do not come back in one
moment. What comes in is recorded, if it is to be, before it is decoded, with the time that its rows
get: a recording makes the same rows again.

Whatever a decoder asks for, the venue is asked at its pace (`budget`), for the same thing later each
time, and after some times not at all: an event, and a problem in the feed's status.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import websockets
from websockets.asyncio.client import ClientConnection, connect

from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.errors import ConfigError
from tickplant.feed.budget import Pace, Pause, Repeats
from tickplant.feed.directory import REFUSED
from tickplant.feed.handler import Feed
from tickplant.feed.playback import play
from tickplant.feed.recording import Recorder
from tickplant.feed.rest import Rest, busy_s
from tickplant.feed.standing import Standing
from tickplant.feed.venue import Connection, Venue
from tickplant.feed.venues import venues

log = logging.getLogger(__name__)

STANDS_NS = 30 * SECOND_NS
"""A connection that stood so long was no failure; the next pause is short again."""
FRAME_MAX = 1 << 26
WAITING_MAX = 4096
"""Messages to one connection that wait for their turn."""
PONGS_PER_S = 10.0
TEND_S = 0.1
WATCH_S = 0.5
SEEK_S, SEEK_MIN_S, SEEK_MAX_S = 1.0, 30.0, 3600.0
"""How often it is looked whether an instrument is missing, and how often lists are asked for again then."""
PROBLEMS_MAX = 20


@dataclass
class Speech:
    """What is to be sent over one connection, as soon as its turn comes."""

    socket: ClientConnection
    waiting: dict[str, int]
    """When each message is due."""
    paces: Sequence[Pace]
    pongs: Pace = field(default_factory=lambda: Pace(PONGS_PER_S, PONGS_PER_S))
    more: asyncio.Event = field(default_factory=asyncio.Event)


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
        self.standing: dict[str, Standing] = {}
        self._speech: dict[str, Speech] = {}
        self._repeats = Repeats()
        self._connects = Pace(venue.CONNECTS_PER_S)
        self.rest = Rest(self, venue, self._repeats)
        self._held: set[str] = set()
        """Instruments that a connection is for."""
        self._marks = 0
        self._told: set[str] = set()
        self._silent_told: set[str] = set()
        """Channels whose silence was told."""
        """What was given up, and said to be."""
        self._undeclared: set[str] = set()

    def run(self) -> None:
        """Until `feed.stopping`. Raises what makes the feed fail."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        self.feed.heard()
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
        async with self.rest.open(), asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            await self.rest.lists(self.venue.begin())
            group.create_task(self.rest.serve(group))
            group.create_task(self._seek(group))

    # ---- what is to be connected to ----

    async def _seek(self, group: asyncio.TaskGroup) -> None:
        """Connect to what the lists have; while something is missing there, ask for them again."""
        pause, asked_ns, due_ns = Pause(SEEK_MIN_S, SEEK_MAX_S), monotonic_ns(), 0
        seen = self.venue.missing()
        while True:
            self._connect(group)
            missing = self.venue.missing()
            if missing - seen:
                pause.reset()
                due_ns = min(due_ns or asked_ns, asked_ns) + int(SEEK_MIN_S * SECOND_NS) if asked_ns else 0
            seen |= missing
            if missing and monotonic_ns() >= due_ns:
                asked_ns = monotonic_ns()
                due_ns = asked_ns + int(pause.next() * SECOND_NS)
                self.venue.requests.extend(self.venue.begin())
                self.rest.wanted.set()
            await asyncio.sleep(SEEK_S)

    def _connect(self, group: asyncio.TaskGroup) -> None:
        """Hold connections for what is wanted, and in no connection yet."""
        fresh = [n for n in self.venue.wanted() if n not in self._held]
        if not fresh:
            return
        mark = f"+{self._marks}" if self._marks else ""
        try:
            made = self.venue.connections_for(fresh, mark) if mark else self.venue.connections()
        except REFUSED as e:
            log.warning("%s: can't subscribe to %s: %s", self.feed.name, ", ".join(fresh[:10]), e)
            return
        self._marks += 1
        self._held.update(fresh)
        for connection in made:
            self.venue.natives[connection.name] = connection.natives or fresh
            group.create_task(self._hold(connection))

    # ---- WebSocket ----

    async def _hold(self, connection: Connection) -> None:
        """Have a connection stand, for ever."""
        pause, name = Pause(), connection.name
        standing = self.standing[name] = Standing(name, connection.url, monotonic_ns())
        while True:
            await asyncio.sleep(self._connects.wait_s(monotonic_ns()))
            began, busy_s = monotonic_ns(), 0.0
            try:
                async with connect(self.url(connection.url), max_size=FRAME_MAX) as socket:
                    standing.stands_ns = monotonic_ns()
                    await self._converse(connection, socket, standing)
            except (OSError, TimeoutError, websockets.WebSocketException) as e:
                busy_s = _busy_s(e)
                standing.lost(str(e) or type(e).__name__, monotonic_ns())
                self._lost(name, standing.cause)
            finally:
                self._speech.pop(name, None)
            if monotonic_ns() - began > STANDS_NS:
                pause.reset()
            await asyncio.sleep(max(pause.next(), busy_s))

    async def _converse(self, connection: Connection, socket: ClientConnection, standing: Standing) -> None:
        """Subscribe, and take what comes. Raises when the connection ends or is silent."""
        name = connection.name
        at = now_ns()
        self.record("connect", name, at, "", addr=connection.url)
        self._repeats.forget(f"{name}: ")
        self.rest.renew()
        self.venue.urls[name] = connection.url
        self.venue.connected(name, at)
        per_s, per_hour = self.venue.SUBSCRIPTIONS_PER_S, self.venue.MESSAGES_PER_HOUR
        speech = self._speech[name] = Speech(
            socket, dict.fromkeys(connection.send, 0), [Pace(per_s), Pace(per_hour / 3600, per_hour)]
        )
        await self.after()
        async with self._beside(self._speak(name, speech), self._ping(connection)):
            while True:
                try:
                    async with asyncio.timeout(connection.silence_s):
                        data = await socket.recv()
                except TimeoutError:
                    raise TimeoutError(f"silent for {connection.silence_s:.0f} s") from None
                self._heard(name, data, standing)
                await self.after()
                if name in self.venue.reconnects:
                    self.venue.reconnects.discard(name)
                    raise ConnectionError("the venue asks for another connection")

    def _heard(self, name: str, data: str | bytes, standing: Standing) -> None:
        at = now_ns()
        self.record("recv", name, at, data)
        kind = self.venue.receive(name, data.encode() if isinstance(data, str) else data, at)
        standing.hear(monotonic_ns())
        if kind and kind not in self.venue.IGNORED and kind != "error":
            standing.kinds[kind] = standing.heard_ns
            self.feed.heard()

    @contextlib.asynccontextmanager
    async def _beside(self, *work: Coroutine[None, None, None]) -> AsyncIterator[None]:
        """Have something done as long as a connection stands."""
        tasks = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def _ping(self, connection: Connection) -> None:
        while connection.ping:
            await asyncio.sleep(connection.ping_s)
            await self._send(connection.name, connection.ping)

    async def _speak(self, name: str, speech: Speech) -> None:
        """Send what waits, each when it is due, and all at the venue's pace."""
        while True:
            at = monotonic_ns()
            text = min(speech.waiting, key=speech.waiting.__getitem__, default=None)
            due_s = None if text is None else (speech.waiting[text] - at) / SECOND_NS
            if text is None or due_s is None or due_s > 0:
                speech.more.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(due_s):
                        await speech.more.wait()
                continue
            del speech.waiting[text]
            await asyncio.sleep(max(pace.wait_s(at) for pace in speech.paces))
            await self._send(name, text)

    async def _send(self, name: str, message: str) -> None:
        if speech := self._speech.get(name):
            self.record("send", name, now_ns(), message)
            self.venue.sent(name, message)
            with contextlib.suppress(websockets.ConnectionClosed):  # who receives hears of it, too
                await speech.socket.send(message)

    def _lost(self, name: str, cause: str) -> None:
        log.warning("%s: %s was lost: %s", self.feed.name, name, cause)
        at = now_ns()
        self.record("lost", name, at, cause)
        self.venue.lost(name, at, cause)
        self._publish()

    async def after(self) -> None:
        """What a message calls for."""
        self._publish()
        while self.venue.pongs:
            name, message = self.venue.pongs.popleft()
            speech = self._speech.get(name)
            if speech and speech.pongs.wait_s(monotonic_ns()) == 0:
                await self._send(name, message)
        while self.venue.replies:
            self._reply(*self.venue.replies.popleft())
        if self.venue.requests:
            self.rest.wanted.set()

    def _reply(self, name: str, message: str) -> None:
        """A message is to be sent, when it is its turn; if it waits already, once."""
        speech, at = self._speech.get(name), monotonic_ns()
        if speech is None or message in speech.waiting:
            return
        what = f"{name}: {message}"
        due_ns = self._repeats.due_ns(what, at)
        if due_ns is None or len(speech.waiting) >= WAITING_MAX:
            self.give_up(what, at)
            return
        speech.waiting[message] = due_ns
        speech.more.set()

    # ---- what goes wrong ----

    def give_up(self, what: str, at: int) -> None:
        """Something was asked for too often: say so, once."""
        if what not in self._told:
            self._told.add(what)
            text = f"{what[:70]}: asked for too often"
            log.warning("%s: %s: asked for too often; not asked for any more", self.feed.name, what)
            self._repeats.give_up(what, at)
            now = now_ns()
            self.record("event", "unanswered", now, text)
            self.venue.sink.event("unanswered", now, text)

    async def _watch(self) -> None:
        """Have what is wrong in the feed's status."""
        while True:
            problems = list(self._problems(monotonic_ns()))
            more = len(problems) - PROBLEMS_MAX
            self.feed.problems = problems[:PROBLEMS_MAX] + ([f"and {more} more"] if more > 0 else [])
            self._told &= set(self._repeats.given_up(monotonic_ns()))
            self._tell_silent(monotonic_ns())
            await asyncio.sleep(WATCH_S)

    def _problems(self, at: int) -> Iterator[str]:
        yield from filter(None, (s.problem(at) for s in self.standing.values()))
        yield from self.rest.problems()
        yield from (f"{what[:200]} was asked for too often; not asked for any more"
                    for what in self._repeats.given_up(at))  # fmt: skip
        now = now_ns()
        yield from (f"the book of {book.name} is out of step after each snapshot; not asked for any more"
                    for book in self.venue.books.values() if book.is_given_up(now))  # fmt: skip
        if missing := sorted(self.venue.missing().intersection(self.venue.symbols)):
            yield f"no list of the venue has {', '.join(missing[:10])}; it is asked for again"
        for channel, silent_s in self._silent(at).items():
            yield f"nothing of channel {channel} for {silent_s:.0f} s: is its address right?"

    def _silent(self, at: int) -> dict[str, float]:
        """Channels that are silent for longer than their venue is, and seconds since they said something."""
        found = {}
        for channel in self.venue.CHANNELS:
            if channel.silence_s and channel.name in self.venue.channels and self.standing:
                since = max(s.kinds.get(t, s.stands_ns or s.began_ns) for s in self.standing.values()
                            for t in channel.types or ("",))  # fmt: skip
                silent_s = (at - since) / SECOND_NS
                if silent_s > channel.silence_s:
                    found[channel.name] = silent_s
        return found

    def _tell_silent(self, at: int) -> None:
        """An event for each channel that has fallen silent, once."""
        silent = self._silent(at)
        for channel in silent.keys() - self._silent_told:
            text, now = f"nothing of channel {channel} for {silent[channel]:.0f} s", now_ns()
            log.warning("%s: %s", self.feed.name, text)
            self.record("event", "stale", now, text)
            self.venue.sink.event("stale", now, text)
            self._publish()
        self._silent_told = set(silent)

    def _publish(self) -> None:
        for table, rows in self.venue.take():
            if table in self.feed.config.schema:
                self.feed.append(table, rows)
            elif table not in self._undeclared:
                self._undeclared.add(table)
                log.warning("%s: no table %s is declared; its rows are left out", self.feed.name, table)

    def url(self, url: str) -> str:
        """Where that is to be asked for."""
        for begins, instead in self.endpoints.items():
            if url.startswith(begins):
                return instead + url.removeprefix(begins)
        return url

    def record(self, t: str, conn: str, ns: int, data: str | bytes, **more: str) -> None:
        """Have it in the recording, if there is one."""
        if self.recorder:
            self.recorder.add(t, conn, ns, data, **more)


def _busy_s(error: Exception) -> float:
    """How long a venue that is asked too much wants to be left alone."""
    response = getattr(error, "response", None)
    return busy_s(response.status_code, response.headers) if response is not None else 0.0


def handler(kind: type[Venue]) -> Callable[..., None]:
    """The feed handler of a venue."""

    def run(
        feed: Feed, *, symbols: Sequence[str] = (), channels: Sequence[str] = (), source: str = "live",
        path: str = "", pace: float = 0.0, record: str = "", endpoints: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`symbols`, `channels`: what to subscribe to; `source`: live, or file: the recording at `path`.

        `pace`: of a recording: 1 as recorded, N times faster, 0 flat out; `record`: a folder for a file per
        start, or a file (.zst); `endpoints`: other beginnings of URLs.
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
    """The file to record to: a new one at each start. Raises ConfigError if it can't be made.

    `record` is a file if it ends with .zst, else a folder, which is made. No file is ever written over:
    beside one that is there, the new one has the time in its name.
    """
    if not record:
        return None
    path, at = Path(record), now_ns()
    if path.is_file():
        made = path.with_name(f"{path.name.partition('.')[0]}-{at}.jsonl.zst")
    elif path.suffix == ".zst" and not path.is_dir():
        made = path
    else:
        made = path / f"{kind.NAME}-{at}.jsonl.zst"
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(
            f"can't record to {record}: {e.strerror}: {e.filename}; give another path"
        ) from None
    return made
