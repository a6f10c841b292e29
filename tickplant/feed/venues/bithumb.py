"""Bithumb: spot. Frames are JSON, with whole names, or short ones in the format SIMPLE.

    trade       trade; ask_bid is the aggressor's side: ASK sold; trade_id is sequential_id
    orderbook   depth, and SYNTHETIC quotes: all of the levels each time: nothing is missed for long. A book
                whose prices are put together (`level` above 1) is another book: the finest is followed
    ticker      where the market's state is another, status state: level_1 is 1 while trading is suspended

The venue writes quote before base: KRW-BTC is BTC-KRW. Recordings of its public API 1.2, `{"type",
"content"}` with names like BTC_KRW, are read as well:

    transaction          trade; buySellGb 1 is a sale, 2 a purchase; no id
    orderbookdepth       depth with `orders`, and SYNTHETIC quotes: new sizes at prices, 0 for none. What the
                         snapshot over REST has is told by the time; that a change is missing is not
    orderbooksnapshot    depth: the whole book anew, and by it a check
    ticker               ignored: a day's statistics
    {"status", "resmsg"} answers: status system

Times of 1.2: contDtm is the local time of Seoul, datetime microseconds since 1970, timestamp (REST)
milliseconds. Source: "WebSocket" and "REST API" of apidocs.bithumb.com, "Public WebSocket" and "Public API"
of its version 1.2; docs/FEEDS.md has the addresses.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Literal

import msgspec

from tickplant._core.changes import ASK, BID, Changes
from tickplant.feed.book import Rule
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import amount, number
from tickplant.feed.symbols import Instrument, spot
from tickplant.feed.times import epoch_ns, iso_ns
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue

US_NS, MS_US = 1000, 1000
SEOUL_NS = int(timedelta(hours=9).total_seconds()) * 1_000_000_000
"""Korea has had no summer time since 1988."""
SIDES = {"1": "S", "2": "B"}
HALVES = {"bid": BID, "ask": ASK}
GROUP = 100
"""Markets of one connection."""


class Print(msgspec.Struct):
    """A trade."""

    code: str
    trade_price: float
    trade_volume: float
    ask_bid: Literal["ASK", "BID"]
    trade_timestamp: int
    sequential_id: int
    stream_type: str = ""


class ShortPrint(msgspec.Struct, rename={
    "code": "cd", "trade_price": "tp", "trade_volume": "tv", "ask_bid": "ab", "trade_timestamp": "ttms",
    "sequential_id": "sid", "stream_type": "st"}):  # fmt: skip
    code: str
    trade_price: float
    trade_volume: float
    ask_bid: Literal["ASK", "BID"]
    trade_timestamp: int
    sequential_id: int
    stream_type: str = ""


class Orderbook(msgspec.Struct):
    code: str
    timestamp: int
    orderbook_units: msgspec.Raw
    level: float = 1.0


class ShortOrderbook(msgspec.Struct, rename={
    "code": "cd", "timestamp": "tms", "orderbook_units": "obu", "level": "lv"}):  # fmt: skip
    code: str
    timestamp: int
    orderbook_units: msgspec.Raw
    level: float = 1.0


class Ticker(msgspec.Struct):
    code: str
    timestamp: int
    market_state: str = ""
    is_trading_suspended: bool = False


class ShortTicker(msgspec.Struct, rename={
    "code": "cd", "timestamp": "tms", "market_state": "ms", "is_trading_suspended": "its"}):  # fmt: skip
    code: str
    timestamp: int
    market_state: str = ""
    is_trading_suspended: bool = False


class Old(msgspec.Struct):
    """A trade over REST."""

    timestamp: int
    trade_price: float
    trade_volume: float
    ask_bid: Literal["ASK", "BID"]
    sequential_id: int


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
    ty: str = ""
    code: str = ""
    cd: str = ""
    content: msgspec.Raw = msgspec.Raw(b"")
    status: str = ""
    resmsg: str = ""
    error: dict[str, Any] | None = None


class Book(msgspec.Struct):
    timestamp: str
    bids: msgspec.Raw
    asks: msgspec.Raw


class Answer(msgspec.Struct):
    status: str
    data: msgspec.Raw


_FRAME, _TRADES = msgspec.json.Decoder(Frame), msgspec.json.Decoder(Trades)
_CHANGES, _WHOLE = msgspec.json.Decoder(Changed), msgspec.json.Decoder(Whole)
_PRINTS = msgspec.json.Decoder(Print), msgspec.json.Decoder(ShortPrint)
_ORDERBOOKS = msgspec.json.Decoder(Orderbook), msgspec.json.Decoder(ShortOrderbook)
_TICKERS = msgspec.json.Decoder(Ticker), msgspec.json.Decoder(ShortTicker)
_PAST = msgspec.json.Decoder(list[Old])
UNITS = (b"bid_price", b"bid_size", b"ask_price", b"ask_size"), (b"bp", b"bs", b"ap", b"as")
_ANSWER, _BOOK = msgspec.json.Decoder(Answer), msgspec.json.Decoder(Book)


class Bithumb(Venue):
    """Spot."""

    NAME, VENUE, RECORDED = "bithumb", "BITHUMB", ("BITHUMB",)
    IGNORED = frozenset({"statistics", "pong"})
    RULE = Rule.LATER
    CHANNELS: ClassVar[Sequence[Channel]] = (
        Channel("trades", "trade", rest="missed trades after a loss, by id", types=("trade",)),
        Channel("book", "depth", types=("orderbook",)),
        Channel("status", "status", types=("ticker",)),
    )
    NAMES: ClassVar[dict[str, str]] = {"trades": "trade", "book": "orderbook", "status": "ticker"}
    SOCKET, REST = "wss://ws-api.bithumb.com/websocket/v1", "https://api.bithumb.com/v1"
    OLD_REST = "https://api.bithumb.com/public"

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self._states: dict[str, tuple[str, bool]] = {}

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/market/all")]

    def connections(self) -> Sequence[Connection]:
        names, made = self.wanted(), []
        for at in range(0, len(names), GROUP):
            conn = f"{self.NAME}.ws.{at // GROUP}"
            asked: list[dict[str, Any]] = [{"ticket": conn}]
            asked += [{"type": self.NAMES[c], "codes": names[at : at + GROUP]} for c in self.channels]
            asked.append({"format": "DEFAULT"})
            made.append(Connection(conn, self.SOCKET, [msgspec.json.encode(asked).decode()], "PING", 60.0))
        return made

    def resync(self, native: str) -> None:
        if "_" in native:  # of version 1.2; else the next message has the whole book
            self.requests.append(Request(f"{self.OLD_REST}/orderbook/{native}", after_s=0.5))

    def instrument(self, native: str) -> Instrument:
        match native.split("-"), native.split("_"):
            case [quote, base], _ if quote and base:
                return spot(base, quote)
            case _, [base, quote] if base and quote:
                return spot(base, quote)
        return super().instrument(native)

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        m = _FRAME.decode(data)
        return [m.code or m.cd]

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "/market/all" in url:
            listed = msgspec.json.decode(data)
            self.enlist_all(listed, lambda e: (e["market"], self.instrument(e["market"])), ts_recv)
            return "instruments"
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
        bases = [b for b in msgspec.json.decode(m.data, type=dict[str, msgspec.Raw]) if b != "date"]
        self.enlist_all(bases, lambda base: (f"{base}_{quote}", spot(base, quote)), ts_recv)
        return "instruments"

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        m = _FRAME.decode(data)
        if m.error is not None:
            said = m.error.get("message") or m.error.get("name")
            self.sink.event("refused", ts_recv, f"{conn}: {said}")
            return "error"
        kind, is_short = m.type or m.ty, bool(m.ty)
        if m.content or m.resmsg:
            return self._old(m, ts_recv)
        if kind == "trade":
            self._trade(_PRINTS[is_short].decode(data), ts_recv, conn)
        elif kind == "orderbook":
            return self._orderbook(_ORDERBOOKS[is_short].decode(data), UNITS[is_short], ts_recv, conn)
        elif kind == "ticker":
            self._ticker(_TICKERS[is_short].decode(data), ts_recv)
        elif m.status and not kind:
            return "pong"
        else:
            raise ValueError(f"{kind[:20]!r} is no type of message")
        return kind

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        return Page(f"{self.REST}/trades/ticks?market={native}&count=500&cursor={last + 1}", 500, "back")

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [_traded(t.sequential_id, t.timestamp, t.trade_price, t.trade_volume, t.ask_bid)
                for t in _PAST.decode(data)]  # fmt: skip

    def _trade(self, m: Print | ShortPrint, ts_recv: int, conn: str) -> None:
        made = _traded(m.sequential_id, m.trade_timestamp, m.trade_price, m.trade_volume, m.ask_bid)
        self.traded([(m.code, made)], ts_recv, conn, again=m.stream_type == "SNAPSHOT")

    def _orderbook(
        self, m: Orderbook | ShortOrderbook, keys: tuple[bytes, bytes, bytes, bytes], ts_recv: int, conn: str
    ) -> str:
        bid, bid_size, ask, ask_size = keys
        changes = self.changes.clear().objects(m.orderbook_units, BID, bid, bid_size)
        changes.objects(m.orderbook_units, ASK, ask, ask_size)
        level = m.level if m.level > 1 else 1.0  # 0 and 1 are both the steps of the market itself
        if not self.follows(m.code, f"level {level:g}", ts_recv, -int(level)):
            return OTHER_BOOK
        self.book(m.code, ts_recv, conn).snapshot(changes, epoch_ns(m.timestamp), ts_recv)
        return "orderbook"

    def _ticker(self, m: Ticker | ShortTicker, ts_recv: int) -> None:
        state = m.market_state, m.is_trading_suspended
        if self._states.get(m.code) != state:
            code = self.code(m.code, ts_recv)
            self.sink.add("status", epoch_ns(m.timestamp), ts_recv, instrument=code, kind="state",
                          value=state[0][:12], level_1=float(state[1]))  # fmt: skip
            self._states[m.code] = state

    # ---- version 1.2 ----

    def _old(self, m: Frame, ts_recv: int) -> str:
        if m.type == "transaction":
            self._trades(_TRADES.decode(m.content), ts_recv)
        elif m.type == "orderbookdepth":
            self._changes(_CHANGES.decode(m.content), ts_recv)
        elif m.type == "orderbooksnapshot":
            whole = _WHOLE.decode(m.content)
            self._snapshot(whole.symbol, int(whole.datetime), whole.bids, whole.asks, ts_recv)
        elif m.type == "ticker":
            return "statistics"
        elif m.status and not m.type:
            self.sink.add("status", 0, ts_recv, kind="system", value=m.status[:12])
            if m.status != "0000":
                self.sink.event("refused", ts_recv, m.resmsg)
            return "response"
        else:
            raise ValueError(f"{m.type[:20]!r} is no type of message")
        return m.type

    def _trades(self, m: Trades, ts_recv: int) -> None:
        if not all(number(t.contPrice) > 0 and number(t.contQty) > 0 for t in m.list):
            raise ValueError("a trade of nothing, or for nothing")
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


def _traded(sid: int, ms: int, price: float, size: float, aggressor: str) -> Traded:
    if not (price > 0 and size > 0):
        raise ValueError(f"a trade of {size} at {price}")
    side = "S" if aggressor == "ASK" else "B"
    return Traded(sid, epoch_ns(ms), {"trade_id": sid, "price": price, "size": size, "side": side})
