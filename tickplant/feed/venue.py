"""A venue that is heard over WebSocket: what it declares, and its decoder. No socket, no file, no clock.

    class Example(Venue):
        NAME, VENUE = "example", "EXAMPLE"
        CHANNELS = (Channel("trades", "trade"), ...)

        def connections(self): ...          what to connect to and subscribe to
        def frame(self, conn, data, ts_recv): ...    one message to rows; its type

Whoever runs it (`live`, or `recording` for what has been recorded; both through `receive` and
`respond`) brings frames and answers in, takes rows out with `take`, and does what `requests` and
`replies` ask for.
"""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from tickplant._core.changes import Changes
from tickplant._core.levels import LevelRows, Levels
from tickplant.feed.book import Book, Rule
from tickplant.feed.capture import Batch
from tickplant.feed.directory import REFUSED, Directory, Entry
from tickplant.feed.holes import Hole, Holes, Page, Traded
from tickplant.feed.sink import Sink
from tickplant.feed.symbols import Instrument, ends, spot
from tickplant.feed.trades import TradeIds
from tickplant.schema import Flag

TRIES_MAX = 8
PAUSE_MAX_S = 60.0
"""Times that something is asked for of which the answer can't be read, and the longest pause between."""
REFUSED_MAX = 4096
"""Requests for which such answers are counted."""
OTHER_BOOK = "other book"
"""Type of messages about a book of an instrument that is not the one that is followed: ignored."""


@dataclass(frozen=True)
class Channel:
    """One kind of data of a venue; the table of venues in the README is made from these."""

    name: str
    """trades, quotes, book, status, funding, ..."""
    table: str
    gap: str = ""
    """How a hole is told, in words; empty: the venue gives no means."""
    checksum: str = ""
    rest: str = ""
    """What is had over REST: the snapshot, missed trades."""
    types: Sequence[str] = ()
    """Types of its messages, as `frame` gives them back."""
    silence_s: float = 0.0
    """So long a connection says nothing at all of it only if something is wrong; 0: as long as it likes."""


@dataclass(frozen=True)
class Connection:
    """A WebSocket to be held, and what is sent when it stands."""

    name: str
    url: str
    send: Sequence[str] = ()
    ping: str = ""
    """A message of the venue's own to be sent every `ping_s`;

    Pings of WebSocket itself go without it.
    """
    ping_s: float = 20.0
    silence_s: float = 60.0
    """Silence after which it is taken for dead and made anew."""
    natives: Sequence[str] = ()
    """The instruments that it is for, by the venue's names."""


@dataclass(frozen=True)
class Request:
    """Something to be asked for over REST; the answer comes back through `respond`."""

    url: str
    after_s: float = 0.0


@dataclass
class Account:
    """Every message, in one of three: decoded by type, ignored by declared type, malformed."""

    messages: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    malformed: int = 0


class Venue(ABC):
    """One venue's declarations and decoder; an object is one feed's."""

    NAME: ClassVar[str]
    """In configurations: `handler = "NAME"`."""
    VENUE: ClassVar[str]
    """Of its instruments; ISO 10383 MIC where there is one."""
    CHANNELS: ClassVar[Sequence[Channel]]
    IGNORED: ClassVar[frozenset[str]] = frozenset()
    """Types of messages that say nothing for any table."""
    RECORDED: ClassVar[tuple[str, ...]] = ()
    """What recordings call it in their header."""
    REQUESTS_PER_S: ClassVar[float] = 5.0
    """Over REST, as the venue documents it, with room to spare; so are those below."""
    SUBSCRIPTIONS_PER_S: ClassVar[float] = 10.0
    """Messages to one connection."""
    MESSAGES_PER_HOUR: ClassVar[float] = 3600.0
    """The same, over a longer time."""
    CONNECTS_PER_S: ClassVar[float] = 2.0
    """Tries to connect, of all connections."""
    RULE: ClassVar[Rule] = Rule.NONE
    """How its books tell that a change is missing."""
    QUOTES: ClassVar[tuple[str, ...]] = ()
    """How names end that are base and quote of a pair in one word."""
    LEVELS_MAX: ClassVar[int] = 0
    """Levels that its books keep of each side; 0: all."""

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        """`symbols`: canonical names, or the venue's own; `channels`: of CHANNELS, default all."""
        self.symbols = tuple(symbols)
        self.channels = tuple(channels) or tuple(dict.fromkeys(c.name for c in self.CHANNELS))
        self.sink, self.levels = Sink(self.VENUE), LevelRows()
        self.counts: dict[str, int] = {}
        """Messages that were decoded or ignored, by type."""
        self.malformed = 0
        self.directory = Directory(self.sink, self.instrument, self.renamed)
        self.natives: dict[str, Sequence[str]] = {}
        """The instruments that a connection is for, by its name."""
        self.books: dict[str, Book] = {}
        """By the venue's own name of the instrument."""
        self.requests: deque[Request] = deque()
        self.replies: deque[tuple[str, str]] = deque()
        """(connection, message) to be sent when there is room for it: subscriptions, snapshots asked for.

        The same message is sent later each time, and after some times not at all.
        """
        self.pongs: deque[tuple[str, str]] = deque()
        """(connection, message) that the venue waits for, or it ends the connection: sent at once."""
        self.reconnects: set[str] = set()
        """Connections that the venue asks to be made anew."""
        self.changes = Changes()
        """For the message at hand."""
        self.urls: dict[str, str] = {}
        """What each connection of a recording went to; recorders name connections as they like."""
        self._restricted: frozenset[str] | None = None
        self._followed: dict[str, tuple[str, int]] = {}
        """Which of its books is followed, and its rank, by the venue's own name of the instrument."""
        self._told_others: set[tuple[str, str]] = set()
        self._refused: dict[str, int] = {}
        """Answers that could not be read, by the request, since the last one that could."""
        self.trades, self.holes = TradeIds(self.sink, self.missed), Holes(self.sink)

    # ---- what a venue says ----

    def begin(self) -> Sequence[Request]:
        """What to ask for before anything is connected to: the instruments."""
        return ()

    @abstractmethod
    def connections(self) -> Sequence[Connection]:
        """What to connect to, once the answers to `begin` are in."""

    @abstractmethod
    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        """Decode one frame of a connection into rows; its type. Raises one of REFUSED, with nothing done."""

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        """Decode the answer to a request; its type. Raises one of REFUSED."""
        raise ValueError(f"nothing was asked of {url}")

    def page(self, series: str, native: str, first: int, last: int) -> Page | None:
        """Where the venue has its past trades, from number `first` to `last`; None: nowhere."""
        return None

    def past(self, native: str, data: bytes) -> Sequence[Traded]:
        """Decode the answer of a page. Raises one of REFUSED."""
        raise ValueError(f"{self.NAME} has no past trades")

    def sent(self, conn: str, message: str) -> None:  # noqa: B027
        """A message was sent: a subscription, which says what will come."""

    def connected(self, conn: str, ts_recv: int) -> None:  # noqa: B027
        """A connection stands, for the first time or again; its subscriptions are being sent."""

    def instrument(self, native: str) -> Instrument:
        """What the venue's own name says by its form, where no list has it.

        Raises ValueError if it says nothing, or could be read in two ways: then it is not guessed.
        """
        return spot(*ends(native, self.QUOTES))

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        """The instruments that a message is about which can't be read otherwise. Raises one of REFUSED.

        Only what is certain, as the channel of the message; none: it may have been about any.
        """
        return ()

    def renamed(self, native: str, code: int, ts_recv: int) -> None:
        """An instrument has another code from now on: its list has another name than the one it was given."""
        if book := self.books.get(native):
            book.move(Levels(self.levels, code, book.levels_max), code, ts_recv)

    # ---- what every venue has ----

    @property
    def known(self) -> dict[str, Instrument]:
        """Instruments that the venue lists, by its own names."""
        return self.directory.known

    @known.setter
    def known(self, listed: dict[str, Instrument]) -> None:
        self.directory.known = listed

    def enlist(self, native: str, listed: Instrument, ts_recv: int) -> None:
        """The venue says what an instrument is, in a list or over a listing channel."""
        self.directory.enlist(native, listed, ts_recv)

    def enlist_all(self, entries: Iterable[Any], read: Callable[[Any], Entry], ts_recv: int) -> None:
        """The venue's list, or a page of it; `read` makes name and instrument of an entry, or None.

        What `read` raises (one of REFUSED) is an event about that entry; the others stand.
        """
        self.directory.take(entries, read, ts_recv)

    def missing(self) -> set[str]:
        """What was asked for or heard of, and is in no list: names, the venue's or canonical ones."""
        listed = {i.symbol for i in self.known.values()}
        asked = {s for s in self.symbols if s not in self.known and s not in listed}
        return asked | set(self.directory.unlisted)

    def wants(self, native: str) -> bool:
        """Is this instrument to be subscribed to? Without `symbols`, all are."""
        if self._restricted is not None and native not in self._restricted:
            return False
        listed = self.known.get(native)
        return not self.symbols or native in self.symbols or bool(listed and listed.symbol in self.symbols)

    def wanted(self) -> list[str]:
        """The instruments to subscribe to, by the venue's names, in the order of its list.

        Without any list the names that were asked for are taken for the venue's own.
        """
        unread = [n for n in self.symbols if n in self.directory.unread or not self.known]
        return [n for n in (*self.known, *unread) if self.wants(n)]

    def connections_for(self, natives: Iterable[str], mark: str) -> Sequence[Connection]:
        """What to connect to for these instruments alone, under names that end with `mark`."""
        self._restricted = frozenset(natives)
        try:
            return [replace(c, name=f"{c.name}{mark}") for c in self.connections()]
        finally:
            self._restricted = None

    def code(self, native: str, ts_recv: int) -> int:
        """The code of an instrument in rows, defined on first use, whether a list has it or not."""
        code = self.directory.codes.get(native)
        return code if code is not None else self.directory.code(native, ts_recv)

    def book(self, native: str, ts_recv: int, conn: str = "", levels_max: int = 0) -> Book:
        """The book of an instrument, made on first use.

        `conn`: the only one that its changes come over; `levels_max`: instead of LEVELS_MAX, if not 0.
        """
        book = self.books.get(native)
        if book is None:
            code, most = self.code(native, ts_recv), levels_max or self.LEVELS_MAX
            levels = Levels(self.levels, code, most)
            book = self.books[native] = Book(levels, self.sink, code, native, self.RULE, conn)
            book.levels_max = most
            book.wanted = lambda: self.resync(native)
        elif conn:
            book.conn = conn
        return book

    def follows(self, native: str, kind: str, ts_recv: int, rank: int = 0) -> bool:
        """Is this kind of book the one that is followed of an instrument? There is one, and one only.

        It is the first that comes, until one of a higher `rank` does: the old book is emptied then, and
        the new one asked for. A kind that is not followed is an event, once; its messages are OTHER_BOOK.
        """
        held = self._followed.get(native)
        if held is None or (held[0] != kind and rank > held[1]):
            self._followed[native] = kind, rank
            if held is not None and (book := self.books.get(native)) is not None:
                book.follow(self.RULE)
                book.gap(ts_recv, f"{kind} is followed now, not {held[0]}")
            return True
        if held[0] != kind and (native, kind) not in self._told_others:
            self._told_others.add((native, kind))
            text = f"book of {native}: {kind} is left out, since {held[0]} is followed"
            self.sink.event("other_book", ts_recv, text, instrument=self.code(native, ts_recv))
        return held[0] == kind

    def numbered(
        self, native: str, number: int, ts_recv: int, series: str = "trades", *, again: bool = False
    ) -> bool:
        """A trade of an instrument whose trades are numbered without holes: is it to be a row?

        An event if some are missing before it, which are asked for (`missed`), or if it came already.
        `again`: the venue repeats itself, as in a snapshot, which is no event.
        """
        return self.trades.is_new(series, native, self.code(native, ts_recv), number, ts_recv, again=again)

    def ordered(
        self, native: str, number: int, ts_recv: int, conn: str, *, again: bool = False, of: int = 1
    ) -> bool:
        """A trade of an instrument whose trades have ever higher numbers: is it to be a row?

        After messages of the connection were lost those missing before it are an event, and asked for.
        `again`: as in `numbered`; `of`: how many numbers, this one the last, are in it.
        """
        return self.trades.in_order(native, self.code(native, ts_recv), number, ts_recv, conn, again=again,
                                    of=of)  # fmt: skip

    def history(self, native: str) -> int:
        """The flag of trades that a venue repeats on subscription: late ones, once some have come live."""
        return int(Flag.LATE if self.trades.knows("trades", native) else Flag.SNAPSHOT)

    def traded(
        self, trades: Sequence[tuple[str, Traded]], ts_recv: int, conn: str, *, again: bool = False
    ) -> None:
        """Publish the trades of a message whose numbers only go up, each with its instrument.

        `again`: the venue repeats what it had. Raises one of REFUSED, with nothing done.
        """
        for _, t in trades:
            if not (t.values["size"] > 0 and t.values["price"]):
                raise ValueError(f"a trade of {t.values['size']} at {t.values['price']}")
        flags = {native: self.history(native) if again else 0 for native, _ in trades}
        rows = [(t.ts_event, {"action": "T", "flags": flags[native], **t.values,
                 "instrument": self.code(native, ts_recv)}) for native, t in trades]  # fmt: skip
        self.sink.check("trade", ts_recv, rows)
        new = {at for at, (native, t) in sorted(enumerate(trades), key=lambda each: each[1][1].number)
               if self.ordered(native, t.number, ts_recv, conn, again=again, of=t.of)}  # fmt: skip
        self.sink.add_all("trade", ts_recv, [row for at, row in enumerate(rows) if at in new])

    def missed(self, series: str, native: str, first: int, last: int) -> None:
        """Ask for trades that are missing, if the venue has them over REST."""
        self._ask_page(Hole(series, native, first, last))

    def _ask_page(self, hole: Hole) -> None:
        if page := self.page(hole.series, hole.native, hole.first, hole.last):
            self.holes.ask(hole, page)
            self.requests.append(Request(page.url))

    def _fill(self, url: str, data: bytes, ts_recv: int) -> str:
        """Trades for the holes for which they were asked."""
        waiting = self.holes.waiting(url)
        native = waiting[0][0].native
        past, code = self.past(native, data), self.code(native, ts_recv)
        self.holes.check(past, code, ts_recv)
        self.holes.done(url)
        for hole, page in waiting:
            by_one = not self.trades.is_ordered(native)
            if left := self.holes.fill(hole, page, past, code, ts_recv, by_one=by_one):
                self._ask_page(left)
        return "trades"

    def resync(self, native: str) -> None:  # noqa: B027
        """Ask for a snapshot of an instrument's book: a request, or a new subscription among the replies."""

    def receive(self, conn: str, data: bytes, ts_recv: int) -> str:
        """A frame has come. Whatever is in it, it is accounted for. Its type; empty if it can't be read."""
        try:
            kind = self.frame(conn, data, ts_recv)
        except REFUSED as e:
            self._unreadable(conn, data, e, ts_recv)
            return ""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return kind

    def respond(self, url: str, data: bytes, ts_recv: int) -> None:
        """An answer to a request has come. Those are counted by kind, as `GET kind`."""
        try:
            kind = f"GET {(self._fill if url in self.holes else self.answer)(url, data, ts_recv)}"
        except REFUSED as e:
            self._refuse(url, e, ts_recv)
            self._ask_again(url, ts_recv)
            return
        self._refused.pop(url, None)
        self.directory.settle(ts_recv)
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def lost(self, conn: str, ts_recv: int, cause: str) -> None:
        """A connection has ended: what came over it is missing until it stands again."""
        self.sink.event("disconnected", ts_recv, f"{conn}: {cause}")
        self.trades.interrupt(conn)
        for book in self._books_of(conn):
            book.renew()
            book.gap(ts_recv, f"{conn} was lost: {cause}")
        self.replies = deque(r for r in self.replies if r[0] != conn)  # it subscribes anew
        self.pongs = deque(r for r in self.pongs if r[0] != conn)

    @property
    def account(self) -> Account:
        """Every message so far."""
        made = Account(malformed=self.malformed)
        for kind, count in self.counts.items():
            ignored = kind in self.IGNORED or kind == OTHER_BOOK
            (made.ignored if ignored else made.messages)[kind] = count
        return made

    def take(self) -> Batch:
        """All rows since the last time."""
        return self.sink.take() + self.levels.take()

    def _books_of(self, conn: str) -> list[Book]:
        return [b for b in self.books.values() if b.conn in ("", conn)]

    def _ask_again(self, url: str, ts_recv: int) -> None:
        """The answer to a request could not be read: ask for another one, later each time, not for ever."""
        times = self._refused[url] = self._refused.pop(url, 0) + 1
        if len(self._refused) > REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
        if times < TRIES_MAX:
            self.requests.append(Request(url, after_s=min(2.0 ** (times - 1), PAUSE_MAX_S)))
            return
        del self._refused[url]
        self.unanswered(url, ts_recv, f"{times} answers could not be read")

    def unanswered(self, url: str, ts_recv: int, cause: str) -> None:
        """A request was given up: an event, and what it was to fill stays missing."""
        self.sink.event("unanswered", ts_recv, f"{url}: {cause}; not asked again")
        if url in self.holes:
            for hole, _ in self.holes.waiting(url):
                self.holes.give_up(hole, self.code(hole.native, ts_recv), ts_recv)
            self.holes.done(url)

    def _unreadable(self, conn: str, data: bytes, error: Exception, ts_recv: int) -> None:
        """A message could not be read, and may be missed: by the instruments that it names.

        If it names none, by all of its connection.
        """
        try:
            named = [n for n in self.names(conn, data) if isinstance(n, str) and n]
        except REFUSED:
            named = []
        code = self.directory.codes.get(named[0], 0) if len(named) == 1 else 0
        self._refuse(conn, error, ts_recv, code)
        for native in named or [""]:
            self.trades.interrupt(conn, native)
        books = [self.books[n] for n in named if n in self.books] if named else self._books_of(conn)
        for book in books:
            book.gap(ts_recv, "a message could not be read")

    def _refuse(self, where: str, error: Exception, ts_recv: int, instrument: int = 0) -> None:
        self.malformed += 1
        n = self.malformed
        self.sink.event("malformed", ts_recv, f"{where}: {error or type(error).__name__}", first=n, last=n,
                        instrument=instrument)  # fmt: skip
