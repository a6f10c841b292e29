"""A venue's REST: asked for what its decoder asks for, at its pace, until it answers or is given up."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Protocol

import httpx

from tickplant.clock import SECOND_NS, monotonic_ns, now_ns
from tickplant.feed.budget import TRIES_MAX, Pace, Pause, Repeats
from tickplant.feed.venue import Request, Venue

log = logging.getLogger(__name__)

ANSWER_S = 10.0
LIST_TRIES = 4
"""How often a list is asked for before anything is connected to; afterwards it is asked for again."""
ASKED_MAX = 4096
"""Requests that are waited for."""
BUSY_S = 30.0
"""After a venue has said that it is asked too much, where it does not say for how long."""
BUSY = (403, 418, 429)


class Driver(Protocol):
    """Who runs the venue."""

    def url(self, url: str) -> str: ...
    def record(self, t: str, conn: str, ns: int, data: str | bytes, **more: str) -> None: ...
    def give_up(self, what: str, at: int) -> None: ...
    async def after(self) -> None: ...


class Rest:
    """The requests of one venue."""

    def __init__(self, driver: Driver, venue: Venue, repeats: Repeats) -> None:
        self.driver, self.venue, self.repeats = driver, venue, repeats
        self.wanted = asyncio.Event()
        """Set when the decoder asks for something."""
        self._asked: set[str] = set()
        self._failing: dict[str, str] = {}
        """What has not been answered yet, and why, by the request."""
        self._pace = Pace(venue.REQUESTS_PER_S)
        self._free_ns = 0
        """Until then the venue wants to be left alone."""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have connections to ask over."""
        async with httpx.AsyncClient(timeout=ANSWER_S, follow_redirects=True) as self._http:
            yield

    async def lists(self, requests: Sequence[Request]) -> None:
        """Ask for these, and for what their answers ask for: more of the list, or that it be read again."""
        asked = deque(requests)
        while asked:
            request = asked.popleft()
            await asyncio.sleep(request.after_s)
            await self._ask(request, LIST_TRIES)
            asked.extend(self.venue.requests)
            self.venue.requests.clear()

    async def serve(self, group: asyncio.TaskGroup) -> None:
        """Ask what the decoder asks for; the same thing once at a time, and later each time."""
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            while self.venue.requests:
                request, at = self.venue.requests.popleft(), monotonic_ns()
                if request.url in self._asked:
                    continue
                due_ns = self.repeats.due_ns(_what(request.url), at)
                if due_ns is None or len(self._asked) >= ASKED_MAX:
                    self.driver.give_up(_what(request.url), at)
                    continue
                self._asked.add(request.url)
                group.create_task(self._ask_later(request, due_ns))

    def renew(self) -> None:
        """A connection stands anew: what it needs may be asked for as if it never was."""
        self.repeats.forget(_what(""))

    def problems(self) -> Iterator[str]:
        """What is not answered."""
        return (f"{url}: {cause}" for url, cause in self._failing.items())

    async def _ask_later(self, request: Request, due_ns: int) -> None:
        await asyncio.sleep(max(request.after_s, (due_ns - monotonic_ns()) / SECOND_NS))
        try:
            await self._ask(request, TRIES_MAX)
        finally:
            self._asked.discard(request.url)
        if self.venue.requests:
            self.wanted.set()

    async def _ask(self, request: Request, tries: int) -> None:
        """Ask until there is an answer, or it is given up."""
        pause, url, cause = Pause(), request.url, ""
        for tried in range(1, tries + 1):
            await self._turn()
            try:
                answer = await self._http.get(self.driver.url(url))
                answer.raise_for_status()
            except (httpx.HTTPError, httpx.InvalidURL) as e:
                cause = str(e).partition("\n")[0] or type(e).__name__
                log.warning("%s: %s; try %d of %d", url, cause, tried, tries)
                self._fail(url, cause, e)
                if tried < tries:
                    await asyncio.sleep(pause.next())
                continue
            self._failing.pop(url, None)
            await self._answered(url, answer.text)
            return
        at = now_ns()
        cause = f"{cause}; {tries} tries"
        self.driver.record("unanswered", "rest", at, cause, url=url)
        self.venue.unanswered(url, at, cause)
        await self.driver.after()

    async def _answered(self, url: str, text: str) -> None:
        at = now_ns()
        self.driver.record("http", "rest", at, text, url=url)
        self._asked.discard(url)
        self.venue.respond(url, text.encode(), at)
        await self.driver.after()

    async def _turn(self) -> None:
        """Wait until one more request is within what the venue allows."""
        await asyncio.sleep(self._pace.wait_s(monotonic_ns()))
        while (left_ns := self._free_ns - monotonic_ns()) > 0:
            await asyncio.sleep(left_ns / SECOND_NS)

    def _fail(self, url: str, cause: str, error: Exception) -> None:
        self._failing[url] = cause
        if len(self._failing) > ASKED_MAX:
            del self._failing[next(iter(self._failing))]
        if isinstance(error, httpx.HTTPStatusError):
            left_alone_s = busy_s(error.response.status_code, error.response.headers)
            self._free_ns = max(self._free_ns, monotonic_ns() + int(left_alone_s * SECOND_NS))


def _what(url: str) -> str:
    return f"GET {url}"


def busy_s(status: int, headers: Mapping[str, str]) -> float:
    """How long a venue that answers so wants to be left alone: 0 unless it says that it is asked too much."""
    if status not in BUSY:
        return 0.0
    after = headers.get("Retry-After", "")
    return float(after) if after.isdecimal() else BUSY_S
