"""Upbit: spot. Frames are JSON as bytes, in the venue's SIMPLE format.

    trade       trade; ab is the aggressor's side: ASK sold; trade_id is sid
    orderbook   depth, and SYNTHETIC quotes: all of the levels each time: nothing is missed for long
    ticker      where the market's state is another, status state: level_1 is 1 while trading is suspended

The venue writes quote before base: KRW-BTC is BTC-KRW.

Source: "WebSocket" and "REST API > Trading Pairs" of the Upbit developer documentation.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from tickplant._core.levels import ASK, BID
from tickplant.feed.symbols import Instrument, spot
from tickplant.feed.times import MS_NS
from tickplant.feed.venue import Channel, Connection, Request, Venue
from tickplant.schema import Flag

GROUP = 100


class Trade(msgspec.Struct):
    cd: str
    ttms: int
    tp: float
    tv: float
    ab: Literal["ASK", "BID"]
    sid: int
    st: str = ""


class Orderbook(msgspec.Struct):
    cd: str
    tms: int
    obu: msgspec.Raw


class Ticker(msgspec.Struct):
    cd: str
    tms: int
    ms: str = ""
    its: bool = False


class Kind(msgspec.Struct):
    ty: str = ""
    status: str = ""
    error: dict[str, Any] | None = None


_KIND = msgspec.json.Decoder(Kind)
_TRADE, _ORDERBOOK = msgspec.json.Decoder(Trade), msgspec.json.Decoder(Orderbook)
_TICKER = msgspec.json.Decoder(Ticker)


class Upbit(Venue):
    """The public quotation WebSocket."""

    NAME, VENUE, RECORDED = "upbit", "UPBIT", ("UPBIT",)
    IGNORED = frozenset({"status"})
    CHANNELS = (
        Channel("trades", "trade"),
        Channel("book", "depth"),
        Channel("status", "status"),
    )
    NAMES: ClassVar[dict[str, str]] = {"trades": "trade", "book": "orderbook", "status": "ticker"}
    SOCKET, REST = "wss://api.upbit.com/websocket/v1", "https://api.upbit.com/v1/market/all"

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self._states: dict[str, tuple[str, bool]] = {}

    def begin(self) -> Sequence[Request]:
        return [Request(self.REST)]

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
        for each in msgspec.json.decode(data):
            self.known[each["market"]] = self.instrument(each["market"])
        return "instruments"

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
            self._trade(_TRADE.decode(data), ts_recv)
        elif kind.ty == "orderbook":
            m = _ORDERBOOK.decode(data)
            changes = self.changes.clear().objects(m.obu, BID, b"bp", b"bs").objects(m.obu, ASK, b"ap", b"as")
            self.book(m.cd, ts_recv, conn).snapshot(changes, m.tms * MS_NS, ts_recv)
        elif kind.ty == "ticker":
            self._ticker(_TICKER.decode(data), ts_recv)
        elif kind.status:
            return "status"
        else:
            raise ValueError(f"a message of type {kind.ty!r}")
        return kind.ty

    def _trade(self, m: Trade, ts_recv: int) -> None:
        if m.tv < 0:
            raise ValueError(f"a size of {m.tv}")
        self.sink.add("trade", m.ttms * MS_NS, ts_recv, instrument=self.code(m.cd, ts_recv), trade_id=m.sid,
                      price=m.tp, size=m.tv, side="S" if m.ab == "ASK" else "B", action="T",
                      flags=int(Flag.SNAPSHOT) if m.st == "SNAPSHOT" else 0)  # fmt: skip

    def _ticker(self, m: Ticker, ts_recv: int) -> None:
        if self._states.get(m.cd) != (m.ms, m.its):
            self.sink.add("status", m.tms * MS_NS, ts_recv, instrument=self.code(m.cd, ts_recv), kind="state",
                          value=m.ms, level_1=float(m.its))  # fmt: skip
            self._states[m.cd] = m.ms, m.its
