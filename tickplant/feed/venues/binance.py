"""Binance: spot, USD-M and COIN-M futures.

    trade, aggTrade      trade; trade_id is t or a, one above the last; where the buyer is the maker (m) it
                         is a sale
    bookTicker           quote; venue_seq is u; spot gives no time
    depth                depth, and SYNTHETIC quotes: from U to u, each one above the last; futures name the
                         one before (pu). Snapshot over REST
    markPrice            status funding: level_1 mark price, level_2 index price, level_3 funding rate
    kline                ignored

Source: "WebSocket Streams" and "Market Data" of each API's documentation.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from tickplant.feed.book import Rule
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import amount, given, number, sides
from tickplant.feed.symbols import Instrument, currency, spot
from tickplant.feed.times import MS_NS, yymmdd
from tickplant.feed.venue import Channel, Connection, Request, Venue

GROUP = 50
"""Instruments of one connection; the venue takes 1024 streams, and its servers long addresses."""


class Trade(msgspec.Struct, gc=False):
    s: str
    p: str
    q: str
    T: int
    m: bool
    t: int = 0
    a: int = 0


class Ticker(msgspec.Struct, gc=False):
    s: str
    u: int
    b: str
    B: str
    a: str
    A: str
    E: int = 0


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


class Frame(msgspec.Struct, gc=False):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    lastUpdateId: int = 0


KINDS: dict[str, Any] = {
    "trade": Trade,
    "aggTrade": Trade,
    "bookTicker": Ticker,
    "depth": Depth,
    "markPrice": Mark,
}
_FRAME = msgspec.json.Decoder(Frame)
_KINDS = {name: msgspec.json.Decoder(kind) for name, kind in KINDS.items()}
_DEPTH = msgspec.json.Decoder(Depth)
_SNAPSHOT = msgspec.json.Decoder(Snapshot)
_PAST = msgspec.json.Decoder(list[Old])


class Binance(Venue):
    """Spot."""

    NAME, VENUE, RECORDED = "binance", "BINANCE", ("BINANCE",)
    IGNORED = frozenset({"kline", "response"})
    RULE = Rule.STEP
    CHANNELS: ClassVar[Sequence[Channel]] = (
        Channel("trades", "trade", gap="trade id = last + 1", rest="missed trades, of the last 1,000"),
        Channel("quotes", "quote"),
        Channel("book", "depth", gap="U = last u + 1", rest="snapshot"),
    )
    STREAMS: ClassVar[dict[str, str]] = {
        "trades": "trade", "quotes": "bookTicker", "book": "depth@100ms", "funding": "markPrice@1s",
    }  # fmt: skip
    QUOTES = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "USD")
    SOCKET, REST = "wss://stream.binance.com:9443/stream", "https://api.binance.com/api/v3"

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/exchangeInfo")]

    def _groups(self) -> dict[str, list[str]]:
        names = self.wanted()
        return {f"{self.NAME}.ws.{at // GROUP}": names[at : at + GROUP] for at in range(0, len(names), GROUP)}

    def connections(self) -> Sequence[Connection]:
        def streams(natives: list[str]) -> str:
            return "/".join(f"{n.lower()}@{self.STREAMS[c]}" for c in self.channels for n in natives)

        return [Connection(c, f"{self.SOCKET}?streams={streams(n)}") for c, n in self._groups().items()]

    def connected(self, conn: str, ts_recv: int) -> None:
        if "book" in self.channels:
            for native in self._groups().get(conn, ()):
                self.resync(native)

    def resync(self, native: str) -> None:
        self.requests.append(Request(f"{self.REST}/depth?symbol={native}&limit=1000", after_s=0.5))

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        frame = _FRAME.decode(data)
        if not frame.stream:
            if frame.lastUpdateId:  # a snapshot among the frames, as some recorders write it
                return self._snapshot(self._only(), data, ts_recv)
            return "response"
        kind = frame.stream.partition("@")[2].partition("@")[0]
        if kind.startswith("kline"):
            return "kline"
        if kind == "depth":
            self._depth(_DEPTH.decode(frame.data), ts_recv, conn)
        else:
            message = _KINDS[kind].decode(frame.data)
            getattr(self, f"_{kind}")(message, ts_recv)
        return kind

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "exchangeInfo" in url:
            for each in msgspec.json.decode(data)["symbols"]:
                self.known[each["symbol"]] = self.listed(each)
            return "instruments"
        if "/depth?" in url:
            return self._snapshot(url.partition("symbol=")[2].partition("&")[0], data, ts_recv)
        return super().answer(url, data, ts_recv)

    def listed(self, each: dict[str, Any]) -> Instrument:
        """An instrument of the list."""
        filters = {f["filterType"]: f for f in each.get("filters", ())}
        tick = float(filters.get("PRICE_FILTER", {}).get("tickSize", "nan"))
        lot = float(filters.get("LOT_SIZE", {}).get("stepSize", "nan"))
        return spot(each["baseAsset"], each["quoteAsset"], tick, lot)

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        if series == "trades":  # the newest; older ones need a key
            return Page(f"{self.REST}/trades?symbol={native}&limit=1000", limit=1000)
        return Page(f"{self.REST}/aggTrades?symbol={native}&fromId={first}&limit=1000", 1000, "forward")

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [
            Traded(t.id or t.a, (t.time or t.T) * MS_NS,
                 {"trade_id": t.id or t.a, "price": number(t.price or t.p), "size": amount(t.qty or t.q),
                  "side": "S" if t.isBuyerMaker or t.m else "B"})
            for t in _PAST.decode(data)
        ]  # fmt: skip

    def _only(self) -> str:
        (native,) = self.books
        return native

    def _trade(self, m: Trade, ts_recv: int) -> None:
        price, size, code = number(m.p), amount(m.q), self.code(m.s, ts_recv)
        if self.numbered(m.s, m.t or m.a, ts_recv, "trades" if m.t else "aggregate trades"):
            self.sink.add("trade", m.T * MS_NS, ts_recv, instrument=code, trade_id=m.t or m.a, price=price,
                          size=size, action="T", side="S" if m.m else "B")  # fmt: skip

    _aggTrade = _trade

    def _bookTicker(self, m: Ticker, ts_recv: int) -> None:
        quote = sides(number(m.b), amount(m.B), number(m.a), amount(m.A))
        code = self.code(m.s, ts_recv)
        self.sink.add("quote", m.E * MS_NS, ts_recv, instrument=code, venue_seq=m.u, **quote)

    def _depth(self, m: Depth, ts_recv: int, conn: str) -> None:
        changes = self.changes.halves(m.b, m.a)
        book = self.book(m.s, ts_recv, conn)
        book.change(changes, m.E * MS_NS, ts_recv, first=m.U, last=m.u, prev=m.pu)

    def _markPrice(self, m: Mark, ts_recv: int) -> None:
        self.sink.add("status", m.E * MS_NS, ts_recv, instrument=self.code(m.s, ts_recv), kind="funding",
                      level_1=number(m.p), level_2=given(m.i), level_3=given(m.r))  # fmt: skip

    def _snapshot(self, native: str, data: bytes, ts_recv: int) -> str:
        m = _SNAPSHOT.decode(data)
        changes = self.changes.halves(m.bids, m.asks)
        book = self.book(native, ts_recv)
        if not book.live or m.lastUpdateId > book.seq:  # else an answer that came late: it is ahead already
            book.snapshot(changes, m.E * MS_NS, ts_recv, m.lastUpdateId)
        return "depth snapshot"


class BinanceUsdm(Binance):
    """USD-M futures."""

    NAME, VENUE, RECORDED = "binance-usdm", "BINANCE-USDM", ("BINANCE_FUTURES",)
    RULE = Rule.CHAIN
    CHANNELS = (
        Channel("trades", "trade", gap="trade id = last + 1", rest="missed trades by id"),
        Channel("quotes", "quote"),
        Channel("book", "depth", gap="pu = last u", rest="snapshot"),
        Channel("funding", "status"),
    )
    STREAMS: ClassVar[dict[str, str]] = {**Binance.STREAMS, "trades": "aggTrade"}
    SOCKET, REST = "wss://fstream.binance.com/stream", "https://fapi.binance.com/fapi/v1"

    def listed(self, each: dict[str, Any]) -> Instrument:
        pair = super().listed(each)
        expiry = "" if "PERPETUAL" in each["contractType"] else yymmdd(each["symbol"].rpartition("_")[2])
        return Instrument(
            pair.base, currency(each["quoteAsset"]), "future" if expiry else "perp", expiry,
            tick_size=pair.tick_size, lot_size=pair.lot_size, multiplier=float(each.get("contractSize", 1)),
        )  # fmt: skip


class BinanceCoinm(BinanceUsdm):
    """COIN-M futures; sizes are contracts of `multiplier` quote units."""

    NAME, VENUE, RECORDED = "binance-coinm", "BINANCE-COINM", ("BINANCE_DELIVERY",)
    SOCKET, REST = "wss://dstream.binance.com/stream", "https://dapi.binance.com/dapi/v1"
