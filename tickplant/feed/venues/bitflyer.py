"""bitFlyer: spot, Lightning FX, futures.

    lightning_executions       trade; side is the aggressor's, empty in an auction; several in a message
    lightning_ticker           quote; venue_seq is tick_id; and where the state is another, status state
    lightning_board_snapshot   depth, and SYNTHETIC quotes; it comes on subscription, and now and then
    lightning_board            depth, and SYNTHETIC quotes: new sizes, 0 for none

Boards have neither numbers nor times; a loss shows in nothing but the next snapshot. Prices of 0 on a board
are market orders that wait for an auction: they are no levels.

Source: "Realtime API" and "HTTP Public API" of the Lightning API documentation.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from tickplant._core.changes import ASK, BID
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import sides
from tickplant.feed.symbols import Instrument, currency, spot
from tickplant.feed.times import given_ns
from tickplant.feed.venue import Channel, Connection, Request, Venue


class Execution(msgspec.Struct):
    id: int
    side: Literal["BUY", "SELL", ""]
    price: float
    size: float
    exec_date: str


class Ticker(msgspec.Struct):
    product_code: str
    timestamp: str
    tick_id: int
    best_bid: float | None
    best_ask: float | None
    best_bid_size: float
    best_ask_size: float
    state: str = ""


class Level(msgspec.Struct, gc=False):
    price: float
    size: float


class Board(msgspec.Struct):
    bids: list[Level]
    asks: list[Level]


class Params(msgspec.Struct):
    channel: str
    message: msgspec.Raw


class Frame(msgspec.Struct):
    method: str = ""
    params: Params | None = None
    result: bool | None = None
    error: dict[str, object] | None = None


_FRAME = msgspec.json.Decoder(Frame)
_EXECUTIONS = msgspec.json.Decoder(list[Execution])
_TICKER, _BOARD = msgspec.json.Decoder(Ticker), msgspec.json.Decoder(Board)
_CHANNEL = re.compile(r"(lightning_(?:executions|ticker|board_snapshot|board))_(\w+)", re.ASCII)
_FUTURE = re.compile(r"([A-Z]{3})([A-Z]{3})(\d\d[A-Z]{3}\d{4})", re.ASCII)


class Bitflyer(Venue):
    """Lightning, over JSON-RPC."""

    NAME, VENUE, RECORDED = "bitflyer", "BITFLYER", ("BITFLYER",)
    IGNORED = frozenset({"response"})
    REQUESTS_PER_S = 1.5
    """500 in five minutes are allowed."""
    CHANNELS = (
        Channel("trades", "trade", rest="missed trades after a loss, by id"),
        Channel("quotes", "quote"),
        Channel("book", "depth"),
        Channel("status", "status"),
    )
    NAMES: ClassVar[dict[str, tuple[str, ...]]] = {
        "trades": ("executions",), "quotes": ("ticker",), "book": ("board_snapshot", "board"),
        "status": ("ticker",),
    }  # fmt: skip
    SOCKET, REST = "wss://ws.lightstream.bitflyer.com/json-rpc", "https://api.bitflyer.com/v1"

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self._states: dict[str, str] = {}

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/getmarkets{region}") for region in ("", "/usa", "/eu")]

    def connections(self) -> Sequence[Connection]:
        kinds = dict.fromkeys(kind for c in self.channels for kind in self.NAMES[c])
        send = [_ask("subscribe", f"lightning_{kind}_{n}") for kind in kinds for n in self.wanted()]
        return [Connection(f"{self.NAME}.ws", self.SOCKET, send)]

    def resync(self, native: str) -> None:
        for verb in ("unsubscribe", "subscribe"):
            asked = _ask(verb, f"lightning_board_snapshot_{native}")
            self.replies.append((self.books[native].conn, asked))

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "markets" not in url:
            return super().answer(url, data, ts_recv)
        self.enlist_all(
            msgspec.json.decode(data),
            lambda e: (e["product_code"], self.instrument(e["product_code"])),
            ts_recv,
        )
        return "instruments"

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        params = _FRAME.decode(data).params
        found = _CHANNEL.fullmatch(params.channel) if params else None
        return [found[2]] if found else []

    def instrument(self, native: str) -> Instrument:
        if found := _FUTURE.fullmatch(native):
            day = datetime.strptime(found[3].title(), "%d%b%Y").strftime("%Y%m%d")
            return Instrument(currency(found[1]), currency(found[2]), "future", day)
        match native.split("_"):
            case [base, quote] if base and quote:
                return spot(base, quote)
            case ["FX", base, quote] if base and quote:
                return Instrument(currency(base), currency(quote), "perp")
        return super().instrument(native)

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        frame = _FRAME.decode(data)
        if frame.error is not None:
            self.sink.event("refused", ts_recv, f"{conn}: {frame.error.get('message')}")
            return "error"
        if frame.params is None or frame.method != "channelMessage":
            if frame.result is None:
                raise ValueError("neither an answer nor of a channel")
            return "response"
        found = _CHANNEL.fullmatch(frame.params.channel)
        if found is None:
            raise ValueError(f"a message of channel {frame.params.channel!r}")
        kind, native = found.groups()
        if kind == "lightning_executions":
            made = [(native, _traded(e)) for e in _EXECUTIONS.decode(frame.params.message)]
            self.traded(made, ts_recv, conn)
        elif kind == "lightning_ticker":
            self._ticker(_TICKER.decode(frame.params.message), native, ts_recv)
        else:
            board = _BOARD.decode(frame.params.message)
            changes = self.changes.clear()
            for half, levels in ((BID, board.bids), (ASK, board.asks)):
                for level in levels:
                    if level.price:
                        changes.add(half, level.price, level.size)
            book = self.book(native, ts_recv, conn)
            if kind == "lightning_board_snapshot":
                book.snapshot(changes, 0, ts_recv)
            else:
                book.change(changes, 0, ts_recv)
        return kind

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        query = f"product_code={native}&count=500&before={last + 1}&after={first - 1}"
        return Page(f"{self.REST}/getexecutions?{query}", 500, "back")

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [_traded(e) for e in _EXECUTIONS.decode(data)]

    def _ticker(self, m: Ticker, native: str, ts_recv: int) -> None:
        code, at = self.code(native, ts_recv), given_ns(m.timestamp)
        quote = sides(m.best_bid, m.best_bid_size, m.best_ask, m.best_ask_size)
        self.sink.add("quote", at, ts_recv, instrument=code, venue_seq=m.tick_id, **quote)
        if m.state and self._states.get(native) != m.state:
            state = m.state.encode("ascii", "replace")[:12]
            self.sink.add(
                "status", at, ts_recv, instrument=code, venue_seq=m.tick_id, kind="state", value=state
            )
            self._states[native] = m.state


def _traded(e: Execution) -> Traded:
    if e.size < 0:
        raise ValueError(f"a size of {e.size}")
    values = {"trade_id": e.id, "price": e.price, "size": e.size, "side": e.side[:1]}
    return Traded(e.id, given_ns(e.exec_date), values)


def _ask(verb: str, channel: str) -> str:
    return msgspec.json.encode({"method": verb, "params": {"channel": channel}, "id": 1}).decode()
