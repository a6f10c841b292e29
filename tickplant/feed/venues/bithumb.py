"""Bithumb, public WebSocket version 1: `{"type", "content"}`.

    transaction          trade; buySellGb 1 is a sale, 2 a purchase; no id
    orderbookdepth       depth with `orders`, and SYNTHETIC quotes: new sizes at prices, 0 for none. What the
                         snapshot over REST has is told by the time; that a change is missing is not
    orderbooksnapshot    depth: the whole book anew, and by it a check
    ticker               ignored: a day's statistics
    {"status", "resmsg"} answers: status system

Times: contDtm is the local time of Seoul, datetime microseconds since 1970, timestamp (REST) milliseconds.
Source: "Public WebSocket" and "Public API" of Bithumb's documentation, versions 1.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

import msgspec

from tickplant._core.changes import ASK, BID, Changes
from tickplant.feed.book import Rule
from tickplant.feed.numbers import amount, number
from tickplant.feed.symbols import Instrument, spot
from tickplant.feed.times import iso_ns
from tickplant.feed.venue import Channel, Connection, Request, Venue

US_NS, MS_US = 1000, 1000
SEOUL_NS = int(timedelta(hours=9).total_seconds()) * 1_000_000_000
"""Korea has had no summer time since 1988."""
SIDES = {"1": "S", "2": "B"}
HALVES = {"bid": BID, "ask": ASK}


class Trade(msgspec.Struct):
    symbol: str
    buySellGb: str
    contPrice: str
    contQty: str
    contDtm: str


class Trades(msgspec.Struct):
    list: list[Trade]


class Change(msgspec.Struct):
    symbol: str
    orderType: str
    price: str
    quantity: str
    total: str = "0"


class Changed(msgspec.Struct):
    list: list[Change]
    datetime: str


class Whole(msgspec.Struct):
    symbol: str
    datetime: str
    bids: msgspec.Raw
    asks: msgspec.Raw


class Frame(msgspec.Struct):
    type: str = ""
    content: msgspec.Raw = msgspec.Raw(b"{}")
    status: str = ""
    resmsg: str = ""


class Book(msgspec.Struct):
    timestamp: str
    bids: msgspec.Raw
    asks: msgspec.Raw


class Answer(msgspec.Struct):
    status: str
    data: msgspec.Raw


_FRAME, _TRADES = msgspec.json.Decoder(Frame), msgspec.json.Decoder(Trades)
_CHANGES, _WHOLE = msgspec.json.Decoder(Changed), msgspec.json.Decoder(Whole)
_ANSWER, _BOOK = msgspec.json.Decoder(Answer), msgspec.json.Decoder(Book)


class Bithumb(Venue):
    """Spot."""

    NAME, VENUE, RECORDED = "bithumb", "BITHUMB", ("BITHUMB",)
    IGNORED = frozenset({"ticker"})
    RULE = Rule.LATER
    CHANNELS: ClassVar[Sequence[Channel]] = (
        Channel("trades", "trade"),
        Channel("book", "depth", rest="snapshot of 30 levels"),
        Channel("status", "status"),
    )
    NAMES: ClassVar[dict[str, str]] = {"trades": "transaction", "book": "orderbookdepth"}
    REST = "https://api.bithumb.com/public"

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/ticker/ALL_{quote}") for quote in ("KRW", "BTC")]

    def connections(self) -> Sequence[Connection]:
        symbols = [n for n in self.known if self.wants(n)]
        send = [
            json.dumps({"type": self.NAMES[c], "symbols": symbols}) for c in self.channels if c in self.NAMES
        ]
        return [Connection(f"{self.NAME}.ws", "wss://pubwss.bithumb.com/pub/ws", send)]

    def connected(self, conn: str, ts_recv: int) -> None:
        if "book" in self.channels:
            for native in [n for n in self.known if self.wants(n)]:
                self.resync(native)

    def resync(self, native: str) -> None:
        self.requests.append(Request(f"{self.REST}/orderbook/{native}", after_s=0.5))

    def instrument(self, native: str) -> Instrument:
        base, _, quote = native.partition("_")
        return spot(base, quote) if base and quote else super().instrument(native)

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        m = _ANSWER.decode(data)
        if m.status != "0000":
            raise ValueError(f"status {m.status[:20]}")
        if "/orderbook/" in url:
            book = _BOOK.decode(m.data)
            self._snapshot(url.rpartition("/")[2], int(book.timestamp) * MS_US, book.bids, book.asks, ts_recv)
            return "depth snapshot"
        _, found, quote = url.partition("/ticker/ALL_")
        if not found:
            return super().answer(url, data, ts_recv)
        for base in msgspec.json.decode(m.data, type=dict[str, msgspec.Raw]):
            if base != "date":
                self.known[f"{base}_{quote}"] = spot(base, quote)
        return "instruments"

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        m = _FRAME.decode(data)
        if m.type == "transaction":
            self._trades(_TRADES.decode(m.content), ts_recv)
        elif m.type == "orderbookdepth":
            self._changes(_CHANGES.decode(m.content), ts_recv)
        elif m.type == "orderbooksnapshot":
            whole = _WHOLE.decode(m.content)
            self._snapshot(whole.symbol, int(whole.datetime), whole.bids, whole.asks, ts_recv)
        elif m.status and not m.type:
            self.sink.add("status", 0, ts_recv, kind="system", value=m.status[:12])
            if m.status != "0000":
                self.sink.event("refused", ts_recv, m.resmsg)
            return "response"
        elif m.type not in self.IGNORED:
            raise ValueError(f"{m.type[:20]!r} is no type of message")
        return m.type

    def _trades(self, m: Trades, ts_recv: int) -> None:
        rows = [(iso_ns(t.contDtm) - SEOUL_NS, {
            "instrument": self.code(t.symbol, ts_recv), "price": number(t.contPrice), "action": "T",
            "size": amount(t.contQty), "side": SIDES[t.buySellGb]}) for t in m.list]  # fmt: skip
        self.sink.add_all("trade", ts_recv, rows)

    def _changes(self, m: Changed, ts_recv: int) -> None:
        at = int(m.datetime)
        made: defaultdict[str, Changes] = defaultdict(Changes)
        for c in m.list:
            made[c.symbol].add(HALVES[c.orderType], c.price, c.quantity, int(c.total))
        books = [self.book(symbol, ts_recv) for symbol in made]
        for book, changes in zip(books, made.values(), strict=True):
            book.change(changes, at * US_NS, ts_recv, first=at, last=at)

    def _snapshot(self, native: str, at: int, bids: msgspec.Raw, asks: msgspec.Raw, ts_recv: int) -> None:
        """`at`: microseconds."""
        self.changes.clear()
        for half, raw in ((BID, bids), (ASK, asks)):
            if bytes(raw).lstrip(b"[ ")[:1] == b"{":
                self.changes.objects(raw, half, b"price", b"quantity")
            else:
                self.changes.arrays(raw, half)
        self.book(native, ts_recv).snapshot(self.changes, at * US_NS, ts_recv, at)
