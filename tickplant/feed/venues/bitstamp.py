"""Bitstamp, WebSocket version 2: `{"event", "channel", "data"}`.

    live_trades_X        trade; order ids of both sides are not kept. type 0 is a purchase, 1 a sale
    diff_order_book_X    depth, and SYNTHETIC quotes; venue_seq is microtimestamp. What the snapshot over
                         REST has is told by it; that a change is missing is not
    order_book_X         depth: the best 100 levels each time, where nothing better is there
    live_orders_X        order: order_created A, order_changed X, order_deleted D; ref_id: the trade account
                         R, with Flag.STALE: after a loss, nothing is known of orders told before
    bts:request_reconnect    the connection is to be made anew; event reconnect
    bts:subscription_succeeded, bts:unsubscription_succeeded, bts:heartbeat, funding_rate_saved,
    detail_order_book_X (orders of the best levels, each time)    ignored

trading-pairs-info gives the instruments, and status trading. Times are microseconds. Source: "WebSocket
API v2" and "HTTP API" of Bitstamp's documentation.
"""

import json
from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec

from tickplant.feed.book import Rule
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import amount, number, step
from tickplant.feed.symbols import Instrument, spot
from tickplant.feed.times import SECOND_NS
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue
from tickplant.schema import Flag

US_NS = 1000
BOOKS = {"diff_order_book": 2, "order_book": 1}
"""Books of an instrument; of several, the one with the highest number is followed."""


class Frame(msgspec.Struct):
    event: str
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Trade(msgspec.Struct):
    id: int
    amount_str: str
    price_str: str
    type: int
    microtimestamp: str


class Old(msgspec.Struct):
    """A trade over REST; date: seconds since 1970."""

    date: str
    tid: str
    price: str
    amount: str
    type: str


class Order(msgspec.Struct):
    id: int
    amount_str: str
    price_str: str
    order_type: int
    microtimestamp: str


class Levels(msgspec.Struct):
    microtimestamp: str
    bids: msgspec.Raw
    asks: msgspec.Raw


class Pair(msgspec.Struct):
    name: str
    url_symbol: str
    base_decimals: int
    counter_decimals: int
    trading: str = ""


_FRAME = msgspec.json.Decoder(Frame)
_PAST = msgspec.json.Decoder(list[Old])
_TRADE = msgspec.json.Decoder(Trade)
_ORDER = msgspec.json.Decoder(Order)
_LEVELS = msgspec.json.Decoder(Levels)
_PAIRS, _PAIR = msgspec.json.Decoder(list[msgspec.Raw]), msgspec.json.Decoder(Pair)


class Bitstamp(Venue):
    """Spot."""

    NAME, VENUE, RECORDED = "bitstamp", "BITSTAMP", ("BITSTAMP",)
    IGNORED = frozenset({"bts:subscription_succeeded", "bts:unsubscription_succeeded", "bts:heartbeat",
                         "detail_order_book", "funding_rate_saved"})  # fmt: skip
    RULE = Rule.LATER
    CHANNELS: ClassVar[Sequence[Channel]] = (
        Channel("trades", "trade", rest="missed trades after a loss, of the last day"),
        Channel("book", "depth", rest="snapshot"),
        Channel("orders", "order"),
        Channel("status", "status", rest="trading of each pair"),
    )
    NAMES: ClassVar[dict[str, str]] = {
        "trades": "live_trades", "book": "diff_order_book", "orders": "live_orders",
    }  # fmt: skip
    ACTIONS: ClassVar[dict[str, str]] = {"order_created": "A", "order_changed": "X", "order_deleted": "D"}
    QUOTES = ("usdt", "usdc", "pyusd", "eurc", "usd", "eur", "gbp", "btc", "eth", "pax", "dai")
    REST = "https://www.bitstamp.net/api/v2"

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self._ordered: set[int] = set()
        """Instruments of which orders were told."""

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/trading-pairs-info/")]

    def connections(self) -> Sequence[Connection]:
        streams = [f"{self.NAMES[c]}_{n}" for c in self.channels if c in self.NAMES
                   for n in self.wanted()]  # fmt: skip
        send = [json.dumps({"event": "bts:subscribe", "data": {"channel": s}}) for s in streams]
        ping = json.dumps({"event": "bts:heartbeat"})
        return [Connection(f"{self.NAME}.ws", "wss://ws.bitstamp.net", send, ping=ping)]

    def connected(self, conn: str, ts_recv: int) -> None:
        if "book" in self.channels:
            for native in self.natives.get(conn) or self.wanted():
                self.resync(native)

    def resync(self, native: str) -> None:
        self.requests.append(Request(f"{self.REST}/order_book/{native}", after_s=1.0))

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        _, found, native = url.rstrip("/").partition("/order_book/")
        if found:
            m = _LEVELS.decode(data)
            at = int(m.microtimestamp)
            changes = self.changes.halves(m.bids, m.asks)
            self.book(native, ts_recv).snapshot(changes, at * US_NS, ts_recv, at)
            return "depth snapshot"
        if "trading-pairs-info" not in url:
            return super().answer(url, data, ts_recv)
        trading: dict[str, str] = {}

        def read(raw: msgspec.Raw) -> tuple[str, Instrument]:
            pair = _PAIR.decode(raw)
            base, _, quote = pair.name.partition("/")
            listed = spot(base, quote, step(pair.counter_decimals), step(pair.base_decimals))
            trading[pair.url_symbol] = pair.trading[:12]
            return pair.url_symbol, listed

        self.enlist_all(_PAIRS.decode(data), read, ts_recv)
        for native in filter(self.wants, trading):
            self.sink.add("status", 0, ts_recv, instrument=self.code(native, ts_recv), kind="trading",
                          value=trading[native])  # fmt: skip
        return "instruments"

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        name, _, native = _FRAME.decode(data).channel.rpartition("_")
        return [native] if name in self.NAMES.values() else []

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        m = _FRAME.decode(data)
        name, _, native = m.channel.rpartition("_")
        if m.event == "data" and name in BOOKS:
            return self._book(native, name, _LEVELS.decode(m.data), ts_recv, conn)
        if m.event == "data" and name == "detail_order_book":
            return name
        if m.event == "trade" and name == "live_trades":
            self._trade(native, _TRADE.decode(m.data), ts_recv, conn)
        elif m.event in self.ACTIONS and name == "live_orders":
            self._order(native, self.ACTIONS[m.event], _ORDER.decode(m.data), ts_recv)
        elif m.event == "bts:request_reconnect":
            self.sink.event("reconnect", ts_recv, f"{conn}: the venue asks for it")
            self.reconnects.add(conn)
        elif m.event == "bts:error":
            self.sink.event("refused", ts_recv, bytes(m.data).decode())
        elif m.event not in self.IGNORED:
            raise ValueError(f"{m.event[:20]!r} of {m.channel[:40]!r} is no event")
        return name if m.event == "data" else m.event

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        return Page(f"{self.REST}/transactions/{native}/?time=day")

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [
            Traded(int(t.tid), int(t.date) * SECOND_NS,
                   {"trade_id": int(t.tid), "price": number(t.price), "size": amount(t.amount),
                    "side": "BS"[_side(int(t.type))]})
            for t in _PAST.decode(data)
        ]  # fmt: skip

    def _trade(self, native: str, m: Trade, ts_recv: int, conn: str) -> None:
        values = {"trade_id": m.id, "price": number(m.price_str), "size": amount(m.amount_str),
                  "side": "BS"[_side(m.type)]}  # fmt: skip
        self.traded([(native, Traded(m.id, int(m.microtimestamp) * US_NS, values))], ts_recv, conn)

    def lost(self, conn: str, ts_recv: int, cause: str) -> None:
        super().lost(conn, ts_recv, cause)
        self._forget(ts_recv)

    def _forget(self, ts_recv: int) -> None:
        """What becomes of the orders that were told is not known any more."""
        for code in self._ordered:
            self.sink.add("order", 0, ts_recv, instrument=code, action="R", flags=int(Flag.STALE))
        self._ordered.clear()

    def _order(self, native: str, action: str, m: Order, ts_recv: int) -> None:
        self.sink.add("order", int(m.microtimestamp) * US_NS, ts_recv, instrument=self.code(native, ts_recv),
                      order_id=m.id, price=number(m.price_str), size=amount(m.amount_str), action=action,
                      side="BS"[_side(m.order_type)])  # fmt: skip
        self._ordered.add(self.code(native, ts_recv))

    def _book(self, native: str, name: str, m: Levels, ts_recv: int, conn: str) -> str:
        at = int(m.microtimestamp)
        changes = self.changes.halves(m.bids, m.asks)
        if not self.follows(native, name, ts_recv, BOOKS[name]):
            return OTHER_BOOK
        if name == "order_book":
            self.book(native, ts_recv, conn).snapshot(changes, at * US_NS, ts_recv, at, in_order=True)
        else:
            self.book(native, ts_recv, conn).change(changes, at * US_NS, ts_recv, first=at, last=at)
        return name


def _side(code: int) -> int:
    """0 buys, 1 sells. Raises ValueError for what is neither."""
    if code not in (0, 1):
        raise ValueError(f"{code} is no side")
    return code
