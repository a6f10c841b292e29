"""Gemini, market data version 2.

    l2_updates    depth, and SYNTHETIC quotes. The first of a subscription has all levels, and trades,
                  which get Flag.SNAPSHOT; the others have changes only. Nothing is numbered, no time is told
    trade         trade; venue_seq is event_id, trade_id tid
    auction_result    trade with Flag.CROSS
    heartbeat, candles, auction_indicative, auction_open, auction_extension    ignored

symbols/details gives the instruments, and status trading. Times are milliseconds. Source: "Market Data
V2" and "Symbol Details" of Gemini's API documentation.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from tickplant._core.changes import ASK, BID
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import amount, number
from tickplant.feed.symbols import Instrument, currency, ends, spot
from tickplant.feed.venue import Channel, Connection, Request, Venue
from tickplant.schema import Flag

MS_NS = 1_000_000
SIDES = {"buy": "B", "sell": "S"}
HALVES = {"buy": BID, "sell": ASK}
QUOTES = ("GUSDPERP", "USDCPERP", "GUSD", "RLUSD", "USDC", "USDT", "USD", "EUR", "GBP", "SGD", "BTC", "ETH",
          "DAI", "FIL", "BCH", "LTC")  # fmt: skip


class Trade(msgspec.Struct):
    symbol: str
    event_id: int
    timestamp: int
    price: str
    quantity: str
    side: str = ""
    tid: int = 0


class Old(msgspec.Struct):
    """A trade over REST."""

    tid: int
    timestampms: int
    price: str
    amount: str
    type: str


class Levels(msgspec.Struct):
    symbol: str
    changes: list[tuple[str, str, str]]
    trades: list[Trade] | None = None
    auction_events: list[msgspec.Raw] | None = None


class Named(msgspec.Struct):
    symbol: str


class Kind(msgspec.Struct):
    type: str = ""
    result: str = ""
    reason: str = ""
    message: str = ""


class Auction(msgspec.Struct):
    symbol: str
    result: str
    time_ms: int
    auction_price: str
    auction_quantity: str


class Details(msgspec.Struct):
    symbol: str
    base_currency: str
    quote_currency: str
    tick_size: float
    quote_increment: float
    status: str
    product_type: str = "spot"


_KIND = msgspec.json.Decoder(Kind)
_PAST = msgspec.json.Decoder(list[Old])
_TRADE = msgspec.json.Decoder(Trade)
_LEVELS = msgspec.json.Decoder(Levels)
_AUCTION = msgspec.json.Decoder(Auction)
_DETAILS = msgspec.json.Decoder(Details)


class Gemini(Venue):
    """Spot and perpetuals."""

    NAME, VENUE, RECORDED = "gemini", "GEMINI", ("GEMINI",)
    IGNORED = frozenset({"heartbeat", "candles", "auction_indicative", "auction_open", "auction_extension",
                         "GET symbols"})  # fmt: skip
    CHANNELS: ClassVar[Sequence[Channel]] = (
        Channel("trades", "trade", rest="missed trades after a loss, of the last 500"),
        Channel("book", "depth"),
        Channel("status", "status", rest="trading of each symbol"),
    )
    REST = "https://api.gemini.com/v1"
    REQUESTS_PER_S = 1.0
    """120 a minute are allowed, and one a second is what the venue recommends."""

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/symbols")]

    def connections(self) -> Sequence[Connection]:
        symbols = self.wanted()
        send = [self.subscription("subscribe", symbols)]
        return [Connection(f"{self.NAME}.ws", "wss://api.gemini.com/v2/marketdata", send, silence_s=15.0)]

    def subscription(self, kind: str, symbols: Sequence[str]) -> str:
        """The message that subscribes, or ends it; trades come with the book."""
        return json.dumps({"type": kind, "subscriptions": [{"name": "l2", "symbols": symbols}]})

    def resync(self, native: str) -> None:
        for kind in ("unsubscribe", "subscribe"):
            self.replies.append((self.books[native].conn, self.subscription(kind, [native])))

    def instrument(self, native: str) -> Instrument:
        base, last = ends(native, QUOTES)
        quote = last.removesuffix("PERP")
        return Instrument(currency(base), quote, "perp" if quote != last else "spot")

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "/symbols/details/" in url:
            m = _DETAILS.decode(data)
            # tick_size is the step of sizes, quote_increment that of prices
            listed = spot(m.base_currency, m.quote_currency, m.quote_increment, m.tick_size)
            if m.product_type != "spot":
                listed = Instrument(listed.base, listed.quote, "perp", tick_size=m.quote_increment,
                                    lot_size=m.tick_size)  # fmt: skip
            self.enlist(m.symbol, listed, ts_recv)
            if self.wants(m.symbol):
                self.sink.add("status", 0, ts_recv, instrument=self.code(m.symbol, ts_recv), kind="trading",
                              value=m.status[:12])  # fmt: skip
            return "details"
        if url != f"{self.REST}/symbols":
            return super().answer(url, data, ts_recv)
        self.enlist_all(msgspec.json.decode(data, type=list[Any]), self._look_up, ts_recv)
        return "symbols"

    def _look_up(self, name: str) -> None:
        """The list has names only: ask what one stands for."""
        if self._may_be_wanted(name.upper()):
            self.requests.append(Request(f"{self.REST}/symbols/details/{name}"))

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        return [msgspec.json.decode(data, type=Named).symbol]

    def _may_be_wanted(self, native: str) -> bool:
        """As far as its name tells."""
        try:
            return not self.symbols or {native, self.instrument(native).symbol} & {*self.symbols} != set()
        except ValueError:
            return True

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        head = _KIND.decode(data)
        kind = head.type
        if not kind and head.result == "error":
            self.sink.event("refused", ts_recv, f"{conn}: {head.message or head.reason}")
            return "error"
        if kind == "l2_updates":
            self._levels(_LEVELS.decode(data), ts_recv, conn)
        elif kind == "trade":
            self._trades([_TRADE.decode(data)], ts_recv, conn)
        elif kind == "auction_result":
            self._auction(_AUCTION.decode(data), ts_recv)
        elif kind not in self.IGNORED:
            raise ValueError(f"{kind[:20]!r} is no type of message")
        return kind

    def _levels(self, m: Levels, ts_recv: int, conn: str) -> None:
        self.changes.clear()
        for side, at, quantity in m.changes:
            self.changes.add(HALVES[side], at, quantity)
        whole = m.trades is not None or m.auction_events is not None
        book = self.book(m.symbol, ts_recv, conn)
        self._trades(m.trades or [], ts_recv, conn, again=True)
        (book.snapshot if whole else book.change)(self.changes, 0, ts_recv)

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        return Page(f"{self.REST}/trades/{native.lower()}?limit_trades=500", 500)

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [_traded(t.tid, t.tid, t.timestampms, t.price, t.amount, t.type) for t in _PAST.decode(data)]

    def _trades(self, trades: Sequence[Trade], ts_recv: int, conn: str, *, again: bool = False) -> None:
        made = [(t.symbol, _traded(t.tid or t.event_id, t.event_id, t.timestamp, t.price, t.quantity, t.side))
                for t in trades]  # fmt: skip
        self.traded(made, ts_recv, conn, again=again)

    def _auction(self, m: Auction, ts_recv: int) -> None:
        if m.result == "success":
            if not (number(m.auction_price) and number(m.auction_quantity)):
                raise ValueError(f"an auction of {m.auction_quantity[:20]} at {m.auction_price[:20]}")
            self.sink.add("trade", m.time_ms * MS_NS, ts_recv, instrument=self.code(m.symbol, ts_recv),
                          price=number(m.auction_price), size=amount(m.auction_quantity), action="T",
                          flags=Flag.CROSS)  # fmt: skip


def _traded(tid: int, event_id: int, ms: int, price: str, size: str, side: str) -> Traded:
    values = {"venue_seq": event_id, "trade_id": tid, "price": number(price), "size": amount(size),
              "side": SIDES.get(side, "")}  # fmt: skip
    return Traded(tid, ms * MS_NS, values)
