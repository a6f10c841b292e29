"""Kraken, WebSocket version 1: `[channelID, data, ..., name, pair]`.

    trade             trade; no id. side b or s of the taker; m (market order) or l in `condition`
    spread            quote
    ticker            quote, without a time
    book-N            depth, and SYNTHETIC quotes. N levels of each side: what falls out of them is not
                      told. `c` is the CRC-32 of the ten best asks, then bids: price and volume, each
                      without point and leading zeros. A book out of step is subscribed to again
    systemStatus      status system
    ohlc, heartbeat, pong, subscriptionStatus    ignored

Times are seconds as decimal text. Source: "WebSockets 1.9" of Kraken's API documentation.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from tickplant._core.changes import ASK, BID
from tickplant.feed.book import Book
from tickplant.feed.numbers import amount, number, sides, step
from tickplant.feed.symbols import Instrument, spot
from tickplant.feed.times import decimal_ns
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue

DEPTHS = (10, 25, 100, 500, 1000)
CHECKED = 10
"""Levels of each side that the checksum is made of."""


class Part(msgspec.Struct, rename={"asks": "as", "bids": "bs"}):
    asks: list[list[str]] | None = None
    bids: list[list[str]] | None = None
    a: list[list[str]] = []
    b: list[list[str]] = []
    c: str = ""


class Ticker(msgspec.Struct):
    a: tuple[str, Any, str]
    b: tuple[str, Any, str]


class Event(msgspec.Struct):
    event: str = ""
    status: str = ""
    errorMessage: str = ""
    Error: str = ""


_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_EVENT = msgspec.json.Decoder(Event)
_TEXT = msgspec.json.Decoder(str)
_PART = msgspec.json.Decoder(Part)
_TICKER = msgspec.json.Decoder(Ticker)
_SPREAD = msgspec.json.Decoder(tuple[str, str, str, str, str])
_TRADES = msgspec.json.Decoder(list[tuple[str, str, str, str, str, str]])


class Kraken(Venue):
    """Spot, version 1."""

    NAME, VENUE, RECORDED = "kraken", "KRAKEN", ("KRAKEN",)
    IGNORED = frozenset({"ohlc", "heartbeat", "pong", "subscriptionStatus"})
    CHANNELS: ClassVar[Sequence[Channel]] = (
        Channel("trades", "trade"),
        Channel("quotes", "quote"),
        Channel("book", "depth", checksum="CRC-32 of the best 10 levels, on each update"),
        Channel("status", "status"),
    )
    REQUESTS_PER_S, CONNECTS_PER_S = 1.0, 0.2
    """One request a second; 150 connections in ten minutes."""
    SUBSCRIPTIONS_PER_S = 5.0
    NAMES: ClassVar[dict[str, str]] = {"trades": "trade", "quotes": "spread", "book": "book"}
    LEVELS_MAX = 1000
    SOCKET, REST = "wss://ws.kraken.com", "https://api.kraken.com/0/public/AssetPairs"

    def begin(self) -> Sequence[Request]:
        return [Request(self.REST)]

    def connections(self) -> Sequence[Connection]:
        pairs = self.wanted()
        send = [
            self.subscription("subscribe", self.NAMES[c], pairs) for c in self.channels if c in self.NAMES
        ]
        return [Connection(f"{self.NAME}.ws", self.SOCKET, send, ping=self.ping(), ping_s=30)]

    def ping(self) -> str:
        """What is sent to be answered."""
        return json.dumps({"event": "ping"})

    def subscription(self, event: str, name: str, pairs: Sequence[str]) -> str:
        """The message that subscribes, or ends it."""
        what: dict[str, Any] = {"name": name} | ({"depth": self.LEVELS_MAX} if name == "book" else {})
        return json.dumps({"event": event, "pair": pairs, "subscription": what})

    def resync(self, native: str) -> None:
        for event in ("unsubscribe", "subscribe"):
            self.replies.append((self.books[native].conn, self.subscription(event, "book", [native])))

    def instrument(self, native: str) -> Instrument:
        base, slash, quote = native.partition("/")
        return spot(base, quote) if base and slash and quote else super().instrument(native)

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "AssetPairs" not in url:
            return super().answer(url, data, ts_recv)
        self.enlist_all(msgspec.json.decode(data)["result"].values(), self.listed, ts_recv)
        return "instruments"

    def listed(self, each: dict[str, Any]) -> tuple[str, Instrument] | None:
        """An entry of the list, by the name it has in messages."""
        if "wsname" not in each:  # dark pools have none
            return None
        base, _, quote = each["wsname"].partition("/")
        return each["wsname"], spot(base, quote, step(each["pair_decimals"]), step(each["lot_decimals"]))

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        return [_TEXT.decode(_ARRAY.decode(data)[-1])]

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        if data[:1] == b"{":
            return self._event(_EVENT.decode(data), ts_recv)
        _, *raw, named, paired = _ARRAY.decode(data)
        name, pair = _TEXT.decode(named), _TEXT.decode(paired)
        if name.startswith("book-"):
            return self._book(pair, name, [_PART.decode(r) for r in raw], ts_recv, conn)
        kind = name.partition("-")[0]
        if kind != "ohlc":
            (one,) = raw
            {"trade": self._trades, "spread": self._spread, "ticker": self._ticker}[kind](pair, one, ts_recv)
        return kind

    def _event(self, m: Event, ts_recv: int) -> str:
        if m.Error:  # too many messages
            self.sink.event("refused", ts_recv, m.Error)
            return "error"
        if m.event == "systemStatus":
            self.sink.add("status", 0, ts_recv, kind="system", value=m.status[:12])
        elif m.event == "error":
            self.sink.event("refused", ts_recv, m.errorMessage)
        elif m.event not in self.IGNORED:
            raise ValueError(f"{m.event[:20]!r} is no event: {m.errorMessage}")
        elif m.status == "error":
            self.sink.event("refused", ts_recv, m.errorMessage)
        return m.event

    def _trades(self, pair: str, raw: msgspec.Raw, ts_recv: int) -> None:
        made = [
            (decimal_ns(at), {"price": number(p), "size": amount(q), "side": {"b": "B", "s": "S"}[side],
                              "condition": how[:6], "action": "T"})
            for p, q, at, side, how, _ in _TRADES.decode(raw)
        ]  # fmt: skip
        if not all(values["price"] and values["size"] for _, values in made):
            raise ValueError("a trade of nothing, or for nothing")
        for ts_event, values in made:
            self.sink.add("trade", ts_event, ts_recv, instrument=self.code(pair, ts_recv), **values)

    def _spread(self, pair: str, raw: msgspec.Raw, ts_recv: int) -> None:
        bid, ask, at, bid_size, ask_size = _SPREAD.decode(raw)
        self._quote(pair, decimal_ns(at), ts_recv, bid, bid_size, ask, ask_size)

    def _ticker(self, pair: str, raw: msgspec.Raw, ts_recv: int) -> None:
        m = _TICKER.decode(raw)
        self._quote(pair, 0, ts_recv, m.b[0], m.b[2], m.a[0], m.a[2])

    def _quote(self, pair: str, ts_event: int, ts_recv: int, b: str, bs: str, a: str, asz: str) -> None:
        quote = sides(number(b), amount(bs), number(a), amount(asz))
        self.sink.add("quote", ts_event, ts_recv, instrument=self.code(pair, ts_recv), **quote)

    def _book(self, pair: str, name: str, parts: Sequence[Part], ts_recv: int, conn: str) -> str:
        depth = int(name[5:])
        if depth not in DEPTHS:
            raise ValueError(f"a book of {depth} levels")
        self.changes.clear()
        newest, checksum, whole = "0", "", False
        for part in parts:
            whole = whole or part.asks is not None or part.bids is not None
            for half, levels in ((ASK, part.asks or part.a), (BID, part.bids or part.b)):
                for level in levels:
                    self.changes.add(half, level[0], level[1])
                    newest = max(newest, level[2])
            checksum = checksum or part.c
        if not self.follows(pair, name, ts_recv, depth):
            return OTHER_BOOK
        book = self.book(pair, ts_recv, conn, levels_max=depth)
        (book.snapshot if whole else book.change)(self.changes, decimal_ns(newest), ts_recv)
        if checksum:
            check(book, int(checksum), ts_recv)
        return name


def check(book: Book, told: int, ts_recv: int, price_decimals: int = -1, size_decimals: int = -1) -> None:
    """Compare a book with its checksum; decimals: of the pair, by default those the numbers came with."""
    if book.live:
        asks = book.levels.digits(ASK, CHECKED, price_decimals, size_decimals)
        bids = book.levels.digits(BID, CHECKED, price_decimals, size_decimals)
        holds = None if asks is None or bids is None else zlib.crc32(asks + bids) == told
        book.verified(holds, told, ts_recv)
