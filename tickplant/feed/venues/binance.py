"""Binance: spot, USD-M and COIN-M futures.

    trade, aggTrade      trade; trade_id is t or a, one above the last; where the buyer is the maker (m) it
                         is a sale. Futures: X says what it is. NA, with price and size 0, is no trade. What
                         the insurance fund or a deleveraged account takes over (INSURANCE_FUND, ADL) is none
                         in the book, and the venue has it in no history: status takeover, level_1 its
                         price, level_2 its size
    blockTrade           trade, condition BLOCK
    bookTicker           quote; venue_seq is u; spot gives no time
    depth                depth, and SYNTHETIC quotes: from U to u, each one above the last; futures name the
                         one before (pu). Snapshot over REST
    depth5, 10, 20       all of so many levels each time: depth, where an instrument has no other book
    rpiDepth             with orders of retail price improvement: as depth, where an instrument has no other
    markPrice            status funding: level_1 mark price, level_2 index price, level_3 funding rate
    contractInfo         status state
    serverShutdown       status system: shutdown; the connection is made anew
    klines, statistics of a day, index and reference prices, liquidation orders: ignored

A message is an event alone (raw streams), or {stream, data}. Times are milliseconds, or microseconds where
the address asks for them (timeUnit). Streams of all symbols have those of both futures markets since
2026-06-30; st tells them apart.

Source: "WebSocket Streams" and "Market Data" of each API's documentation; docs/FEEDS.md has the addresses.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import msgspec

from tickplant.feed.book import Rule
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import amount, given, number, sides
from tickplant.feed.symbols import Instrument, currency, spot
from tickplant.feed.times import epoch_ns, yymmdd
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue

GROUP = 50
"""Instruments of one connection: 1024 streams are allowed, but servers limit how long an address is."""
PARTIAL = ("depth5", "depth10", "depth20")
BOOKS = {"depth": 5, "rpiDepth": 4, "depth20": 3, "depth10": 2, "depth5": 1}
"""Books of an instrument; of several, the one with the highest number is followed."""
TAKEOVERS = {"INSURANCE_FUND": "INSURANCE", "ADL": "ADL"}
"""Positions that are closed outside the book, by X, and what their status rows say."""


class Trade(msgspec.Struct, gc=False):
    s: str
    p: str
    q: str
    T: int
    m: bool
    t: int = 0
    a: int = 0
    X: str = "MARKET"
    st: int = 0


class Block(msgspec.Struct, gc=False):
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool = False


class Ticker(msgspec.Struct, gc=False):
    s: str
    u: int
    b: str
    B: str
    a: str
    A: str
    E: int = 0
    st: int = 0


class Depth(msgspec.Struct, gc=False):
    s: str
    E: int
    U: int
    u: int
    b: msgspec.Raw
    a: msgspec.Raw
    pu: int = -1


class Mark(msgspec.Struct, gc=False):
    s: str
    E: int
    p: str
    i: str = ""
    r: str = ""
    st: int = 0


class Contract(msgspec.Struct, gc=False):
    s: str
    E: int
    cs: str
    st: int = 0


class Snapshot(msgspec.Struct):
    lastUpdateId: int
    bids: msgspec.Raw
    asks: msgspec.Raw
    E: int = 0


class Old(msgspec.Struct):
    """A trade over REST; aggregate ones have the short names."""

    id: int = 0
    a: int = 0
    price: str = ""
    p: str = ""
    qty: str = ""
    q: str = ""
    time: int = 0
    T: int = 0
    isBuyerMaker: bool = False
    m: bool = False


class Refusal(msgspec.Struct):
    code: int = 0
    msg: str = ""


class Frame(msgspec.Struct, gc=False):
    """A message with its stream, or an event alone."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    e: str = ""
    s: str = ""
    lastUpdateId: int = 0
    A: str = ""
    error: Refusal | None = None
    code: int | None = None
    msg: str = ""
    result: msgspec.Raw = msgspec.Raw(b"")


class Event(msgspec.Struct, gc=False):
    e: str = ""


class Asked(msgspec.Struct):
    """What was sent: a subscription, or its end."""

    method: str
    params: list[str] = []


_ASKED = msgspec.json.Decoder(Asked)
_FRAME, _EVENT = msgspec.json.Decoder(Frame), msgspec.json.Decoder(Event)
_EVENTS = msgspec.json.Decoder(list[Event])
_TRADE, _BLOCK = msgspec.json.Decoder(Trade), msgspec.json.Decoder(Block)
_TICKER = msgspec.json.Decoder(Ticker)
_MARK, _MARKS = msgspec.json.Decoder(Mark), msgspec.json.Decoder(list[Mark])
_DEPTH, _CONTRACT = msgspec.json.Decoder(Depth), msgspec.json.Decoder(Contract)
_SNAPSHOT, _PAST = msgspec.json.Decoder(Snapshot), msgspec.json.Decoder(list[Old])

KINDS_OF_EVENTS = {
    "depthUpdate": "depth", "markPriceUpdate": "markPrice", "24hrTicker": "ticker",
    "24hrMiniTicker": "miniTicker", "1hTicker": "ticker", "4hTicker": "ticker", "1dTicker": "ticker",
    "continuous_kline": "kline", "indexPrice_kline": "kline", "markPrice_kline": "kline",
    "indexPriceUpdate": "indexPrice", "assetIndexUpdate": "assetIndex",
}  # fmt: skip
"""Kinds of messages by `e`, where that is not their name."""
SILENT = frozenset({
    "kline", "ticker", "miniTicker", "avgPrice", "referencePrice", "indexPrice", "assetIndex",
    "compositeIndex", "forceOrder", "EquityUpdate", "CommodityUpdate", "tradingSession",
})  # fmt: skip
"""Kinds of messages that say nothing for any table."""


class Binance(Venue):
    """Spot."""

    NAME, VENUE, RECORDED = "binance", "BINANCE", ("BINANCE",)
    IGNORED = SILENT | {"no trade", "other market", "nameless snapshot", "response"}
    REQUESTS_PER_S = 1.5
    """A snapshot weighs 50 of 6,000 a minute."""
    SUBSCRIPTIONS_PER_S, CONNECTS_PER_S = 4.0, 0.8
    RULE = Rule.STEP
    CHANNELS: ClassVar[Sequence[Channel]] = (
        Channel("trades", "trade", gap="trade id = last + 1", rest="missed trades, of the last 1,000",
                types=("trade",)),
        Channel("quotes", "quote", types=("bookTicker",)),
        Channel("book", "depth", gap="U = last u + 1", rest="snapshot", types=("depth",)),
    )  # fmt: skip
    STREAMS: ClassVar[dict[str, str]] = {
        "trades": "trade", "quotes": "bookTicker", "book": "depth@100ms", "funding": "markPrice@1s",
    }  # fmt: skip
    ROUTES: ClassVar[dict[str, str]] = {}
    """By channel: the part of the address that its streams are below."""
    SYMBOLS = 0
    """Its `st`: 1 for USD-M, 2 for COIN-M."""
    QUOTES: ClassVar[tuple[str, ...]] = (
        "USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "USD1", "DAI", "PAX", "BTC", "ETH", "BNB", "TRX",
        "XRP", "DOGE", "EUR", "EURI", "AEUR", "GBP", "AUD", "TRY", "BRL", "JPY", "ARS", "MXN", "COP", "CZK",
        "PLN", "RON", "ZAR", "UAH", "RUB", "NGN", "BIDR", "IDRT",
    )  # fmt: skip
    SOCKET, REST = "wss://stream.binance.com:9443", "https://api.binance.com/api/v3"

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self._subscribed: dict[str, dict[str, None]] = {}
        """Streams that were subscribed to by a message, by connection."""
        self._nameless: set[str] = set()
        """Connections of which it was told that their snapshots say no symbol."""

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/exchangeInfo")]

    def _groups(self) -> dict[str, tuple[str, list[str], list[str]]]:
        """Connections by name: the route, and channels and instruments of each."""
        names, made = self.wanted(), {}
        for route in dict.fromkeys(self.ROUTES.get(c, "") for c in self.channels):
            channels = [c for c in self.channels if self.ROUTES.get(c, "") == route]
            prefix = ".".join(p for p in (self.NAME, "ws", route.strip("/")) if p)
            for at in range(0, len(names), GROUP):
                made[f"{prefix}.{at // GROUP}"] = route, channels, names[at : at + GROUP]
        return made

    def connections(self) -> Sequence[Connection]:
        made = []
        for conn, (route, channels, natives) in self._groups().items():
            names = [self.STREAMS[c] for c in channels]
            streams = [f"{n.lower()}@{name}" for name in names if name[0] != "!" for n in natives]
            if conn.endswith(".0"):  # those of all instruments, once
                streams += [name for name in names if name[0] == "!"]
            if streams:
                url = f"{self.SOCKET}{route}/stream?streams={'/'.join(streams)}"
                made.append(Connection(conn, url, natives=natives))
        return made

    def connected(self, conn: str, ts_recv: int) -> None:
        self._subscribed.pop(conn, None)
        _, channels, natives = self._groups().get(conn.partition("+")[0], ("", [], []))
        for native in (self.natives.get(conn) or natives) if "book" in channels else ():
            self.resync(native)

    def resync(self, native: str) -> None:
        self.requests.append(Request(f"{self.REST}/depth?symbol={native}&limit=1000", after_s=0.5))

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        stream = _FRAME.decode(data).stream
        return [stream.partition("@")[0].upper()] if stream[:1] not in ("", "!") and "@" in stream else []

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        if data[:1] == b"[":  # a raw stream of all symbols
            events = _EVENTS.decode(data)
            return self._message(_of_event(events[0].e), "", msgspec.Raw(data), ts_recv, conn)
        frame = _FRAME.decode(data)
        if frame.stream:
            return self._message(_of_stream(frame.stream), frame.stream, frame.data, ts_recv, conn)
        if frame.data:
            return self._message(_of_event(_EVENT.decode(frame.data).e), "", frame.data, ts_recv, conn)
        if frame.e or frame.A:
            return self._raw(frame, data, ts_recv, conn)
        if frame.lastUpdateId:
            return self._unnamed(data, ts_recv, conn)
        if frame.error is not None or frame.code is not None:
            refusal = frame.error or Refusal(frame.code or 0, frame.msg)
            self.sink.event("refused", ts_recv, f"{conn}: {refusal.msg} ({refusal.code})")
            return "error"
        if not frame.result:
            raise ValueError("a message of no stream and no event")
        return "response"

    def _raw(self, frame: Frame, data: bytes, ts_recv: int, conn: str) -> str:
        """An event without its stream. Of which book changes are, only the address says."""
        kind = _of_event(frame.e) if frame.e else "bookTicker"
        if kind == "depth":
            books = [s for s in self._streams_of(conn, frame.s) if _of_stream(s) in BOOKS]
            kind = _of_stream(books[0]) if len(books) == 1 else kind
        return self._message(kind, "", msgspec.Raw(data), ts_recv, conn)

    def _unnamed(self, data: bytes, ts_recv: int, conn: str) -> str:
        """A book without its symbol: of a raw stream, or a snapshot that a recorder put among the frames."""
        streams = [s for s in self._streams_of(conn) if _of_stream(s) in PARTIAL]
        if len(streams) == 1:
            return self._partial(_of_stream(streams[0]), streams[0], msgspec.Raw(data), ts_recv, conn)
        seq = _SNAPSHOT.decode(data).lastUpdateId
        waiting = [n for n, b in self.books.items()
                   if not streams and not b.live and (len(self.books) == 1 or b.waits_for(seq))]  # fmt: skip
        if len(waiting) == 1:
            return self._snapshot(waiting[0], data, ts_recv)
        if conn not in self._nameless:
            self._nameless.add(conn)
            text = f"{conn}: snapshot {seq} says no symbol, and fits {len(waiting)} books"
            self.sink.event("unassigned", ts_recv, text, first=seq, last=seq)
        return "nameless snapshot"

    def _streams_of(self, conn: str, native: str = "") -> list[str]:
        """The streams that a raw connection is subscribed to, of one instrument or of all."""
        path = self.urls.get(conn, "").partition("/ws/")[2].partition("?")[0]
        streams = [*path.split("/"), *self._subscribed.get(conn, ())]
        begins = f"{native.lower()}@" if native else ""
        return [s for s in streams if s and s.startswith(begins)]

    def sent(self, conn: str, message: str) -> None:
        try:
            asked = _ASKED.decode(message)
        except msgspec.MsgspecError:
            return
        streams = self._subscribed.setdefault(conn, {})
        for stream in asked.params:
            if asked.method == "SUBSCRIBE":
                streams[stream] = None
            elif asked.method == "UNSUBSCRIBE":
                streams.pop(stream, None)

    def _message(self, kind: str, stream: str, data: msgspec.Raw, ts_recv: int, conn: str) -> str:
        """Decode an event; its type."""
        if kind in ("trade", "aggTrade"):
            return self._trade(kind, _TRADE.decode(data), ts_recv)
        if kind == "bookTicker":
            return self._quote(_TICKER.decode(data), ts_recv)
        if kind in ("depth", "rpiDepth"):
            return self._depth(kind, _DEPTH.decode(data), ts_recv, conn)
        if kind in SILENT:
            return kind
        if kind == "markPrice":
            many = bytes(data)[:1] == b"["
            return self._marks(_MARKS.decode(data) if many else [_MARK.decode(data)], ts_recv)
        if kind in PARTIAL:
            return self._partial(kind, stream, data, ts_recv, conn)
        if kind == "blockTrade":
            return self._block(_BLOCK.decode(data), ts_recv)
        if kind == "contractInfo":
            return self._contract(_CONTRACT.decode(data), ts_recv)
        if kind != "serverShutdown":
            raise ValueError(f"a message of type {kind[:20]!r}")
        self.sink.add("status", 0, ts_recv, kind="system", value="shutdown")
        self.sink.event("shutdown", ts_recv, f"{conn}: the venue's server is about to shut down")
        self.reconnects.add(conn)
        return kind

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "exchangeInfo" in url:
            listed = msgspec.json.decode(data)["symbols"]
            self.enlist_all(listed, lambda e: (e["symbol"], self.listed(e)), ts_recv)
            return "instruments"
        where, _, query = url.rpartition("/")[2].partition("?")
        if where in ("depth", "rpiDepth"):
            return self._snapshot(query.partition("symbol=")[2].partition("&")[0], data, ts_recv, where)
        return super().answer(url, data, ts_recv)

    def listed(self, each: dict[str, Any]) -> Instrument:
        """An instrument of the list."""
        filters = {f["filterType"]: f for f in each.get("filters", ())}
        tick = float(filters.get("PRICE_FILTER", {}).get("tickSize", "nan"))
        lot = float(filters.get("LOT_SIZE", {}).get("stepSize", "nan"))
        return spot(each["baseAsset"], each["quoteAsset"], tick, lot)

    def page(self, series: str, native: str, first: int, last: int) -> Page | None:
        if series == "trades":  # the newest; older ones need a key
            return Page(f"{self.REST}/trades?symbol={native}&limit=1000", limit=1000)
        if series == "aggregate trades":
            return Page(f"{self.REST}/aggTrades?symbol={native}&fromId={first}&limit=1000", 1000, "forward")
        return None

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [
            Traded(t.id or t.a, epoch_ns(t.time or t.T),
                 {"trade_id": t.id or t.a, "price": number(t.price or t.p), "size": amount(t.qty or t.q),
                  "side": "S" if t.isBuyerMaker or t.m else "B"})
            for t in _PAST.decode(data)
        ]  # fmt: skip

    def _trade(self, kind: str, m: Trade, ts_recv: int) -> str:
        if m.st and self._is_foreign(m.st):
            return "other market"
        price, size, code = number(m.p), amount(m.q), self.code(m.s, ts_recv)
        is_none = price == size == 0  # it has a number among the trades' all the same
        if not is_none and not (price > 0 and size > 0):
            raise ValueError(f"a trade of {m.q[:20]} at {m.p[:20]}")
        trade_id, series = (m.t, "trades") if kind == "trade" else (m.a, "aggregate trades")
        new = self.numbered(m.s, trade_id, ts_recv, series)
        if is_none:
            return "no trade"
        if not new:
            return kind
        at = epoch_ns(m.T)
        if m.X in TAKEOVERS:
            self.sink.add("status", at, ts_recv, instrument=code, venue_seq=trade_id, kind="takeover",
                          value=TAKEOVERS[m.X], level_1=price, level_2=size)  # fmt: skip
            return "takeover"
        self.sink.add("trade", at, ts_recv, instrument=code, trade_id=trade_id, price=price, size=size,
                      action="T", side="S" if m.m else "B",
                      condition="" if m.X == "MARKET" else m.X[:6])  # fmt: skip
        return kind

    def _block(self, m: Block, ts_recv: int) -> str:
        price, size, code = number(m.p), amount(m.q), self.code(m.s, ts_recv)
        if not (price > 0 and size > 0):
            raise ValueError(f"a block trade of {m.q[:20]} at {m.p[:20]}")
        self.sink.add("trade", epoch_ns(m.T), ts_recv, instrument=code, trade_id=m.t, price=price, size=size,
                      action="T", side="S" if m.m else "B", condition="BLOCK")  # fmt: skip
        return "blockTrade"

    def _quote(self, m: Ticker, ts_recv: int) -> str:
        if m.st and self._is_foreign(m.st):
            return "other market"
        quote = sides(number(m.b), amount(m.B), number(m.a), amount(m.A))
        code = self.code(m.s, ts_recv)
        self.sink.add("quote", epoch_ns(m.E), ts_recv, instrument=code, venue_seq=m.u, **quote)
        return "bookTicker"

    def _depth(self, kind: str, m: Depth, ts_recv: int, conn: str) -> str:
        changes = self.changes.halves(m.b, m.a)
        if not self.follows(m.s, kind, ts_recv, BOOKS[kind]):
            return OTHER_BOOK
        book = self.book(m.s, ts_recv, conn)
        book.change(changes, epoch_ns(m.E), ts_recv, first=m.U, last=m.u, prev=m.pu)
        return kind

    def _partial(self, kind: str, stream: str, data: msgspec.Raw, ts_recv: int, conn: str) -> str:
        """All of a few levels each time. Futures have them as changes are written, spot as snapshots."""
        m = _DEPTH.decode(data) if b'"depthUpdate"' in bytes(data) else _SNAPSHOT.decode(data)
        if isinstance(m, Depth):
            native, seq, changes = m.s, m.u, self.changes.halves(m.b, m.a)
        else:
            native, seq = stream.partition("@")[0].upper(), m.lastUpdateId
            changes = self.changes.halves(m.bids, m.asks)
        if not self.follows(native, kind, ts_recv, BOOKS[kind]):
            return OTHER_BOOK
        book = self.book(native, ts_recv, conn)
        book.follow(Rule.NONE)
        book.snapshot(changes, epoch_ns(m.E), ts_recv, seq, in_order=True)
        return kind

    def _marks(self, marks: list[Mark], ts_recv: int) -> str:
        rows = [(epoch_ns(m.E), {"instrument": self.code(m.s, ts_recv), "kind": "funding",
                            "level_1": number(m.p), "level_2": given(m.i), "level_3": given(m.r)})
                for m in marks if not self._is_foreign(m.st)]  # fmt: skip
        self.sink.add_all("status", ts_recv, rows)
        return "markPrice" if rows else "other market"

    def _contract(self, m: Contract, ts_recv: int) -> str:
        if self._is_foreign(m.st):
            return "other market"
        if not self.wants(m.s):
            return "contractInfo"
        self.sink.add("status", epoch_ns(m.E), ts_recv, instrument=self.code(m.s, ts_recv), kind="state",
                      value=m.cs[:12])  # fmt: skip
        return "contractInfo"

    def _is_foreign(self, symbols: int) -> bool:
        return bool(symbols) and symbols != self.SYMBOLS

    def _snapshot(self, native: str, data: bytes, ts_recv: int, kind: str = "depth") -> str:
        m = _SNAPSHOT.decode(data)
        changes = self.changes.halves(m.bids, m.asks)
        if not self.follows(native, kind, ts_recv, BOOKS[kind]):
            return OTHER_BOOK
        book = self.book(native, ts_recv)
        if not book.live or m.lastUpdateId > book.seq:  # else an answer that came late: it is ahead already
            book.snapshot(changes, epoch_ns(m.E), ts_recv, m.lastUpdateId)
        return "depth snapshot"


class Told(msgspec.Struct, gc=False):
    """What tells of which market an event is."""

    e: str = ""
    s: str = ""
    E: int = 0
    M: bool | None = None
    X: str = ""
    pu: int | None = None
    st: int = 0
    lastUpdateId: int = 0
    pair: str = ""


_TOLD = msgspec.json.Decoder(Told)


def market(frame: bytes) -> str:
    """Of which market a message is, by what only messages of that one have: NAME, or "" if it does not tell.

    Raises MsgspecError if it is no message at all.
    """
    outer = _FRAME.decode(frame)
    m = _TOLD.decode(outer.data or frame)
    of_coin = m.s.endswith("USD_PERP") or m.s[:-6].endswith("USD_") or m.pair != "" or m.st == 2
    of_futures = (
        of_coin or m.pu is not None or m.X != "" or m.st == 1 or "_" in m.s or (m.lastUpdateId and m.E)
        or (m.e == "bookTicker") or m.e in ("markPriceUpdate", "forceOrder", "contractInfo")
    )  # fmt: skip
    if of_futures:
        return BinanceCoinm.NAME if of_coin else BinanceUsdm.NAME
    of_spot = m.M is not None or m.e == "depthUpdate" or (not m.e and bool(m.s or m.lastUpdateId))
    return Binance.NAME if of_spot else ""


def _expiry(native: str) -> str:
    """When a future ends, by its name: BTCUSDT_240628. Empty for perpetuals: BTCUSDT, BTCUSD_PERP."""
    term = native.partition("_")[2]
    return "" if term in ("", "PERP") else yymmdd(term)


def _of_event(event: str) -> str:
    """The kind of an event, by its `e`."""
    return KINDS_OF_EVENTS.get(event, event)


@lru_cache(maxsize=8192)
def _of_stream(stream: str) -> str:
    """The kind of a stream's messages: btcusdt@depth20@100ms, !ticker_1h@arr."""
    name = stream[1:] if stream.startswith("!") else stream.partition("@")[2] or stream
    kind = name.partition("@")[0].partition("_")[0]
    return "kline" if kind.endswith("Kline") else kind


class BinanceUsdm(Binance):
    """USD-M futures."""

    NAME, VENUE, RECORDED = "binance-usdm", "BINANCE-USDM", ("BINANCE_FUTURES",)
    REQUESTS_PER_S = 0.9
    """A snapshot weighs 20 of 2,400 a minute, which USD-M and COIN-M share since 2026-06-30."""
    RULE = Rule.CHAIN
    CHANNELS = (
        Channel("trades", "trade", gap="trade id = last + 1", rest="missed trades by id",
                types=("aggTrade",)),
        Channel("quotes", "quote", types=("bookTicker",)),
        Channel("book", "depth", gap="pu = last u", rest="snapshot", types=("depth",)),
        Channel("funding", "status", types=("markPrice",), silence_s=30),
        Channel("status", "status", types=("contractInfo",)),
    )  # fmt: skip
    STREAMS: ClassVar[dict[str, str]] = {**Binance.STREAMS, "trades": "aggTrade", "status": "!contractInfo"}
    ROUTES: ClassVar[dict[str, str]] = {
        "trades": "/market", "quotes": "/public", "book": "/public", "funding": "/market",
        "status": "/market",
    }  # fmt: skip
    SYMBOLS = 1
    SOCKET, REST = "wss://fstream.binance.com", "https://fapi.binance.com/fapi/v1"

    QUOTES: ClassVar[tuple[str, ...]] = ("USDT", "USDC", "BUSD", "USD1", "BTC")

    def listed(self, each: dict[str, Any]) -> Instrument:
        pair = super().listed(each)
        expiry = "" if "PERPETUAL" in each.get("contractType", "") else _expiry(each["symbol"])
        return Instrument(
            pair.base, currency(each["quoteAsset"]), "future" if expiry else "perp", expiry,
            tick_size=pair.tick_size, lot_size=pair.lot_size, multiplier=float(each.get("contractSize", 1)),
        )  # fmt: skip

    def instrument(self, native: str) -> Instrument:
        pair, expiry = super().instrument(native.partition("_")[0]), _expiry(native)
        return Instrument(pair.base, pair.quote, "future" if expiry else "perp", expiry)


class BinanceCoinm(BinanceUsdm):
    """COIN-M futures; sizes are contracts of `multiplier` quote units."""

    NAME, VENUE, RECORDED = "binance-coinm", "BINANCE-COINM", ("BINANCE_DELIVERY",)
    ROUTES: ClassVar[dict[str, str]] = {}
    SYMBOLS = 2
    QUOTES = ("USD",)
    SOCKET, REST = "wss://dstream.binance.com", "https://dapi.binance.com/dapi/v1"
