"""Kraken, WebSocket version 2: `{"channel", "type", "data": [...]}`.

    trade         trade; trade_id; the snapshot's with Flag.SNAPSHOT. market or limit in `condition`
    ticker        quote; no time
    book          depth, and SYNTHETIC quotes; levels and checksum as in version 1
    instrument    definitions, and status trading of each pair
    status        status system
    heartbeat, ohlc, pong, subscribe, unsubscribe    ignored

Pairs have their usual names here. Source: "WebSockets v2" of Kraken's API documentation.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from tickplant._core.changes import ASK, BID, Changes
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import amount, number, sides
from tickplant.feed.symbols import Instrument, spot
from tickplant.feed.times import decimal_ns, given_ns
from tickplant.feed.venue import OTHER_BOOK, Channel
from tickplant.feed.venues.kraken import DEPTHS, Kraken, check

SIDES = {"buy": "B", "sell": "S", "b": "B", "s": "S"}
KINDS = {"m": "market", "l": "limit"}


class Trade(msgspec.Struct):
    symbol: str
    side: str
    price: float
    qty: float
    trade_id: int
    timestamp: str
    ord_type: str = ""


class Old(msgspec.Struct):
    """Trades over REST, in lists, by the pair's name there; `last` is their time."""

    result: dict[str, list[tuple[str, str, msgspec.Raw, str, str, str, int]] | str]


class Ticker(msgspec.Struct):
    symbol: str
    bid: float
    bid_qty: float
    ask: float
    ask_qty: float
    timestamp: str = ""


class Levels(msgspec.Struct):
    symbol: str
    bids: msgspec.Raw = msgspec.Raw(b"[]")
    asks: msgspec.Raw = msgspec.Raw(b"[]")
    checksum: int = -1
    timestamp: str = ""


class Pair(msgspec.Struct):
    symbol: str
    base: str
    quote: str
    status: str
    price_precision: int
    qty_precision: int
    price_increment: float = float("nan")
    qty_increment: float = float("nan")


class Pairs(msgspec.Struct):
    pairs: list[msgspec.Raw] = []


class System(msgspec.Struct):
    system: str


class Result(msgspec.Struct):
    channel: str = ""
    symbol: str = ""
    depth: int = 0


class Head(msgspec.Struct):
    channel: str = ""
    type: str = ""
    method: str = ""
    success: bool = True
    error: str = ""
    result: Result | None = None


class Frame(Head):
    data: msgspec.Raw = msgspec.Raw(b"[]")


class BookFrame(Head):
    data: list[Levels] = []


class Symbol(msgspec.Struct):
    symbol: str


class Named(msgspec.Struct):
    """A message, as far as it says what it is about."""

    data: list[Symbol]


BOOK_HEAD = b'{"channel":"book"'
"""Frames that begin so are read at one go."""
_FRAME = msgspec.json.Decoder(Frame)
_BOOK_FRAME = msgspec.json.Decoder(BookFrame)
_TRADES = msgspec.json.Decoder(list[Trade])
_PAST = msgspec.json.Decoder(Old)
_TICKERS = msgspec.json.Decoder(list[Ticker])
_BOOKS = msgspec.json.Decoder(list[Levels])
_PAIRS, _PAIR = msgspec.json.Decoder(Pairs), msgspec.json.Decoder(Pair)
_NAMED = msgspec.json.Decoder(Named)
_SYSTEM = msgspec.json.Decoder(list[System])


class KrakenV2(Kraken):
    """Spot, version 2."""

    NAME, RECORDED = "kraken-v2", ("KRAKEN_V2",)
    IGNORED = frozenset({"heartbeat", "ohlc", "pong", "ping", "subscribe", "unsubscribe"})
    CHANNELS = (
        Channel("trades", "trade", rest="missed trades after a loss, of the last 1,000"),
        Channel("quotes", "quote"),
        Channel("book", "depth", checksum="CRC-32 of the best 10 levels, on each update"),
        Channel("status", "status"),
    )
    NAMES: ClassVar[dict[str, str]] = {
        "trades": "trade", "quotes": "ticker", "book": "book", "status": "instrument",
    }  # fmt: skip
    TRADES = "https://api.kraken.com/0/public/Trades"
    SOCKET = "wss://ws.kraken.com/v2"

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self.rest_names: dict[str, str] = {}
        """What pairs are called over REST."""
        self.depths: dict[tuple[str, str], int] = {}
        """Levels that were subscribed to, by connection and pair."""
        self.decimals: dict[str, tuple[int, int]] = {}
        """Of prices and sizes, by pair: what checksums are made with."""

    def ping(self) -> str:
        return json.dumps({"method": "ping"})

    def subscription(self, event: str, name: str, pairs: Sequence[str]) -> str:
        params = {"channel": name}
        whole = params | {"symbol": pairs} if name != "instrument" else params
        return json.dumps({"method": event, "params": whole | ({"depth": 1000} if name == "book" else {})})

    def listed(self, each: dict[str, Any]) -> tuple[str, Instrument] | None:
        if (made := super().listed(each)) is None:
            return None
        name = f"{made[1].base}/{made[1].quote}"
        self.rest_names[name] = each.get("altname", name)
        return name, made[1]

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        return [each.symbol for each in _NAMED.decode(data).data]

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        return Page(f"{self.TRADES}?pair={self.rest_names.get(native, native)}&count=1000", 1000)

    def past(self, native: str, data: bytes) -> list[Traded]:
        (trades,) = [each for each in _PAST.decode(data).result.values() if isinstance(each, list)]
        return [
            Traded(trade_id, decimal_ns(bytes(at).decode()),
                 {"trade_id": trade_id, "price": number(price), "size": amount(size),
                  "side": SIDES[side], "condition": KINDS[kind]})
            for price, size, at, side, kind, _, trade_id in trades
        ]  # fmt: skip

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        m: Frame | BookFrame
        m = _BOOK_FRAME.decode(data) if data.startswith(BOOK_HEAD) else _FRAME.decode(data)
        kind = m.channel or m.method
        if m.method:
            if not m.success:
                self.sink.event("refused", ts_recv, m.error)
            elif m.result and m.result.channel == "book" and m.result.depth in DEPTHS:
                self.depths[conn, m.result.symbol] = m.result.depth
        if kind in self.IGNORED:
            return kind
        if isinstance(m, BookFrame):
            if kind != "book":
                raise ValueError(f"there is no channel {kind[:20]!r}")
            return self._books(m.type, m.data, ts_recv, conn)
        elif kind == "book":
            return self._books(m.type, _BOOKS.decode(m.data), ts_recv, conn)
        elif kind == "trade":
            self._trade(m, ts_recv, conn)
        else:
            {"ticker": self._tickers, "instrument": self._instruments,
             "status": self._status}[kind](m, ts_recv)  # fmt: skip
        return kind

    def _trade(self, m: Frame, ts_recv: int, conn: str) -> None:
        made = []
        for t in _TRADES.decode(m.data):
            if t.qty < 0:
                raise ValueError("a trade of less than nothing")
            values = {"side": SIDES[t.side], "trade_id": t.trade_id, "price": t.price, "size": t.qty,
                      "condition": t.ord_type[:6]}  # fmt: skip
            made.append((t.symbol, Traded(t.trade_id, given_ns(t.timestamp), values)))
        self.traded(made, ts_recv, conn, again=m.type == "snapshot")

    def _tickers(self, m: Frame, ts_recv: int) -> None:
        rows = []
        for t in _TICKERS.decode(m.data):
            if t.bid_qty < 0 or t.ask_qty < 0:
                raise ValueError("a quote of less than nothing")
            rows.append((given_ns(t.timestamp), {
                "instrument": self.code(t.symbol, ts_recv),
                **sides(t.bid, t.bid_qty, t.ask, t.ask_qty)}))  # fmt: skip
        self.sink.add_all("quote", ts_recv, rows)

    def _books(self, kind: str, books: Sequence[Levels], ts_recv: int, conn: str) -> str:
        read, made = [], []
        for b in books:
            changes = Changes().objects(b.bids, BID, b"price", b"qty").objects(b.asks, ASK, b"price", b"qty")
            read.append((b, changes, given_ns(b.timestamp)))
        for b, changes, ts_event in read:
            depth = self.depths.get((conn, b.symbol), 0)
            if self.follows(b.symbol, f"book of {depth or 'some'} levels", ts_recv, depth):
                made.append((b, changes, self.book(b.symbol, ts_recv, conn, levels_max=depth), ts_event))
        for b, changes, book, ts_event in made:
            (book.snapshot if kind == "snapshot" else book.change)(changes, ts_event, ts_recv)
            if b.checksum >= 0:
                check(book, b.checksum, ts_recv, *self.decimals.get(b.symbol, (-1, -1)))
        return "book" if made or not books else OTHER_BOOK

    def _instruments(self, m: Frame, ts_recv: int) -> None:
        states: dict[str, str] = {}

        def read(raw: msgspec.Raw) -> tuple[str, Instrument]:
            p = _PAIR.decode(raw)
            if not (0 <= p.price_precision <= 22 and 0 <= p.qty_precision <= 22):
                raise ValueError(f"decimals of {p.price_precision}, {p.qty_precision}")
            self.decimals[p.symbol] = p.price_precision, p.qty_precision
            states[p.symbol] = p.status[:12]
            return p.symbol, spot(p.base, p.quote, p.price_increment, p.qty_increment)

        self.enlist_all(_PAIRS.decode(m.data).pairs, read, ts_recv)
        rows = [(0, {"instrument": self.code(native, ts_recv), "kind": "trading", "value": state})
                for native, state in states.items()]  # fmt: skip
        self.sink.add_all("status", ts_recv, rows)

    def _status(self, m: Frame, ts_recv: int) -> None:
        rows = [(0, {"kind": "system", "value": each.system[:12]}) for each in _SYSTEM.decode(m.data)]
        self.sink.add_all("status", ts_recv, rows)
