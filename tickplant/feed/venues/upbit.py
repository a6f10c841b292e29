"""Upbit: spot. Frames are JSON as bytes, in the venue's SIMPLE format.

    trade       trade; ab is the aggressor's side: ASK sold; trade_id is sid
    orderbook   depth, and SYNTHETIC quotes: all of the levels each time: nothing is missed for long. A book
                whose prices are put together (`lv`) is another book: the finest is followed
    ticker      where the market's state is another, status state: level_1 is 1 while trading is suspended

The venue writes quote before base: KRW-BTC is BTC-KRW.

Source: "WebSocket" and "REST API > Trading Pairs" of the Upbit developer documentation.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from tickplant._core.changes import ASK, BID
from tickplant.feed.holes import Page, Traded
from tickplant.feed.symbols import Instrument, spot
from tickplant.feed.times import MS_NS
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue

GROUP = 100


class Trade(msgspec.Struct):
    cd: str
    ttms: int
    tp: float
    tv: float
    ab: Literal["ASK", "BID"]
    sid: int
    st: str = ""


class Old(msgspec.Struct):
    """A trade over REST."""

    timestamp: int
    trade_price: float
    trade_volume: float
    ask_bid: Literal["ASK", "BID"]
    sequential_id: int


class Orderbook(msgspec.Struct):
    cd: str
    tms: int
    obu: msgspec.Raw
    lv: float = 0.0


class Ticker(msgspec.Struct):
    cd: str
    tms: int
    ms: str = ""
    its: bool = False


class Kind(msgspec.Struct):
    ty: str = ""
    cd: str = ""
    status: str = ""
    error: dict[str, Any] | None = None


_KIND = msgspec.json.Decoder(Kind)
_TRADE, _ORDERBOOK = msgspec.json.Decoder(Trade), msgspec.json.Decoder(Orderbook)
_PAST = msgspec.json.Decoder(list[Old])
_TICKER = msgspec.json.Decoder(Ticker)


class Upbit(Venue):
    """The public quotation WebSocket."""

    NAME, VENUE, RECORDED = "upbit", "UPBIT", ("UPBIT",)
    IGNORED = frozenset({"status"})
    CHANNELS = (
        Channel("trades", "trade", rest="missed trades after a loss, by id"),
        Channel("book", "depth"),
        Channel("status", "status"),
    )
    SUBSCRIPTIONS_PER_S = 1.5
    """Five a second and 100 a minute are allowed."""
    NAMES: ClassVar[dict[str, str]] = {"trades": "trade", "book": "orderbook", "status": "ticker"}
    SOCKET, REST = "wss://api.upbit.com/websocket/v1", "https://api.upbit.com/v1"

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
            asked.append({"format": "SIMPLE"})
            made.append(Connection(conn, self.SOCKET, [msgspec.json.encode(asked).decode()], "PING", 60.0))
        return made

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "/market/all" not in url:
            return super().answer(url, data, ts_recv)
        self.enlist_all(
            msgspec.json.decode(data), lambda e: (e["market"], self.instrument(e["market"])), ts_recv
        )
        return "instruments"

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        return [_KIND.decode(data).cd]

    def instrument(self, native: str) -> Instrument:
        match native.split("-"):
            case [quote, base] if quote and base:
                return spot(base, quote)
        return super().instrument(native)

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        kind = _KIND.decode(data)
        if kind.error is not None:
            self.sink.event("refused", ts_recv, f"{conn}: {kind.error.get('message')}")
            return "error"
        if kind.ty == "trade":
            self._trade(_TRADE.decode(data), ts_recv, conn)
        elif kind.ty == "orderbook":
            m = _ORDERBOOK.decode(data)
            changes = self.changes.clear().objects(m.obu, BID, b"bp", b"bs").objects(m.obu, ASK, b"ap", b"as")
            if not self.follows(m.cd, f"level {m.lv:g}", ts_recv, -int(m.lv)):
                return OTHER_BOOK
            self.book(m.cd, ts_recv, conn).snapshot(changes, m.tms * MS_NS, ts_recv)
        elif kind.ty == "ticker":
            self._ticker(_TICKER.decode(data), ts_recv)
        elif kind.status:
            return "status"
        else:
            raise ValueError(f"a message of type {kind.ty!r}")
        return kind.ty

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        return Page(f"{self.REST}/trades/ticks?market={native}&count=500&cursor={last + 1}", 500, "back")

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [_traded(t.sequential_id, t.timestamp, t.trade_price, t.trade_volume, t.ask_bid)
                for t in _PAST.decode(data)]  # fmt: skip

    def _trade(self, m: Trade, ts_recv: int, conn: str) -> None:
        made = _traded(m.sid, m.ttms, m.tp, m.tv, m.ab)
        self.traded([(m.cd, made)], ts_recv, conn, again=m.st == "SNAPSHOT")

    def _ticker(self, m: Ticker, ts_recv: int) -> None:
        if self._states.get(m.cd) != (m.ms, m.its):
            self.sink.add("status", m.tms * MS_NS, ts_recv, instrument=self.code(m.cd, ts_recv), kind="state",
                          value=m.ms[:12], level_1=float(m.its))  # fmt: skip
            self._states[m.cd] = m.ms, m.its


def _traded(sid: int, ms: int, price: float, size: float, aggressor: str) -> Traded:
    if size < 0:
        raise ValueError(f"a size of {size}")
    side = "S" if aggressor == "ASK" else "B"
    return Traded(sid, ms * MS_NS, {"trade_id": sid, "price": price, "size": size, "side": side})
