"""HTX, formerly Huobi: spot. Frames are JSON in gzip.

    trade.detail     trade; direction is the aggressor's; trade_id is tradeId, venue_seq the message's id
    bbo              quote
    mbp.N            depth, and SYNTHETIC quotes; each names the one before (prevSeqNum). The snapshot is
                     asked for over the same connection
    mbp.refresh.N    depth: the best N levels each time
    depth.stepN      depth: all of the levels each time, with prices put together from step1 on. Of several
                     books of an instrument one is followed: mbp before depth, more levels before fewer
    kline, detail, ticker: ignored

Pings are answered.

Source: "Websocket Market Data" of the spot API documentation.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from tickplant.feed.book import Rule
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import sides, step
from tickplant.feed.symbols import Instrument, spot
from tickplant.feed.times import MS_NS
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue

GROUP = 50
FRAME_MAX = 1 << 26
"""Bytes that a frame may inflate to."""
BOOK = "mbp.400"


class Trade(msgspec.Struct):
    ts: int
    amount: float
    price: float
    direction: Literal["buy", "sell"]
    tradeId: int = 0


class Trades(msgspec.Struct):
    id: int
    data: list[Trade]


class Old(Trade):
    """A trade over REST."""

    number: int = msgspec.field(default=0, name="trade-id")


class Order(msgspec.Struct):
    """Trades of one order over REST."""

    id: int
    data: list[Old]


class Past(msgspec.Struct):
    data: list[Order]


class Best(msgspec.Struct):
    quoteTime: int
    bid: float | None
    bidSize: float
    ask: float | None
    askSize: float
    seqId: int = 0


class Depth(msgspec.Struct):
    bids: msgspec.Raw
    asks: msgspec.Raw
    version: int = 0
    ts: int = 0


class Change(msgspec.Struct):
    seqNum: int
    bids: msgspec.Raw = msgspec.Raw(b"[]")
    asks: msgspec.Raw = msgspec.Raw(b"[]")
    prevSeqNum: int = -1


class Frame(msgspec.Struct):
    ch: str = ""
    rep: str = ""
    ts: int = 0
    tick: msgspec.Raw = msgspec.Raw(b"")
    data: msgspec.Raw = msgspec.Raw(b"")
    ping: int | None = None
    status: str = ""
    subbed: str = ""
    unsubbed: str = ""
    message: str = msgspec.field(default="", name="err-msg")


_FRAME = msgspec.json.Decoder(Frame)
_TRADES, _BEST = msgspec.json.Decoder(Trades), msgspec.json.Decoder(Best)
_PAST = msgspec.json.Decoder(Past)
_DEPTH, _CHANGE = msgspec.json.Decoder(Depth), msgspec.json.Decoder(Change)


class Huobi(Venue):
    """Spot."""

    NAME, VENUE, RECORDED = "huobi", "HUOBI", ("HUOBI",)
    IGNORED = frozenset({"kline", "detail", "ticker", "response", "ping"})
    RULE = Rule.CHAIN
    CHANNELS = (
        Channel("trades", "trade", rest="missed trades after a loss, of the last 2,000 orders"),
        Channel("quotes", "quote"),
        Channel("book", "depth", gap="prevSeqNum = last seqNum (mbp)"),
    )
    NAMES: ClassVar[dict[str, str]] = {"trades": "trade.detail", "quotes": "bbo", "book": BOOK}
    QUOTES = ("usdt", "husd", "usdc", "btc", "eth", "ht", "trx")
    SOCKET, FEED = "wss://api.huobi.pro/ws", "wss://api.huobi.pro/feed"
    HISTORY = "https://api.huobi.pro/market/history/trade"
    SYMBOLS = "https://api.huobi.pro/v1/common/symbols"

    def begin(self) -> Sequence[Request]:
        return [Request(self.SYMBOLS)]

    def connections(self) -> Sequence[Connection]:
        made = []
        for name, natives in self._groups().items():
            feed = ".feed." in name
            channels = [c for c in self.channels if (c == "book") == feed]
            send = [_ask("sub", n, self.NAMES[c]) for c in channels for n in natives]
            if send:
                made.append(Connection(name, self.FEED if feed else self.SOCKET, send, natives=natives))
        return made

    def _groups(self) -> dict[str, list[str]]:
        names = self.wanted()
        return {f"{self.NAME}.{which}.{at // GROUP}": names[at : at + GROUP]
                for which in ("ws", "feed") for at in range(0, len(names), GROUP)}  # fmt: skip

    def connected(self, conn: str, ts_recv: int) -> None:
        if ".feed." in conn and "book" in self.channels:
            self.replies.extend(
                (conn, _ask("req", n, BOOK)) for n in self.natives.get(conn) or self._groups().get(conn, [])
            )

    def resync(self, native: str) -> None:
        self.replies.append((self.books[native].conn, _ask("req", native, BOOK)))

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "/common/symbols" not in url:
            return super().answer(url, data, ts_recv)
        self.enlist_all(msgspec.json.decode(data)["data"], _listed, ts_recv)
        return "instruments"

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        frame = _FRAME.decode(_inflated(data))
        market, native, _ = (frame.ch or frame.rep).split(".", 2)
        return [native] if market == "market" else []

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        frame = _FRAME.decode(_inflated(data))
        if frame.ping is not None:
            self.pongs.append((conn, msgspec.json.encode({"pong": frame.ping}).decode()))
            return "ping"
        if frame.status == "error":
            self.sink.event("refused", ts_recv, f"{conn}: {frame.message}")
            return "error"
        if frame.subbed or frame.unsubbed:
            return "response"
        market, native, kind = (*(frame.ch or frame.rep).split(".", 2), "", "")[:3]
        if market != "market" or not kind:
            raise ValueError("a message of no channel")
        begins = kind.partition(".")[0]
        if begins in self.IGNORED:
            return begins
        if begins == "trade" and kind.endswith("detail"):
            self._trades(_TRADES.decode(frame.tick), native, ts_recv, conn)
        elif begins == "bbo":
            self._best(_BEST.decode(frame.tick), native, ts_recv)
        elif begins == "mbp":
            m = _CHANGE.decode(frame.data if frame.rep else frame.tick)
            return self._change(m, frame, native, kind, conn, ts_recv)
        elif begins == "depth":
            d = _DEPTH.decode(frame.tick)
            changes = self.changes.halves(d.bids, d.asks)
            at = (d.ts or frame.ts) * MS_NS
            if not self.follows(native, kind, ts_recv, _rank(kind)):
                return OTHER_BOOK
            self.book(native, ts_recv, conn).snapshot(changes, at, ts_recv, d.version)
        else:
            raise ValueError(f"a message of channel {frame.ch!r}")
        return kind

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        return Page(f"{self.HISTORY}?symbol={native}&size=2000")

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [_traded(t, t.number, each.id) for each in _PAST.decode(data).data for t in each.data]

    def _trades(self, m: Trades, native: str, ts_recv: int, conn: str) -> None:
        made = [(native, _traded(t, t.tradeId, m.id)) for t in reversed(m.data)]  # the newest comes first
        self.traded(made, ts_recv, conn)

    def _best(self, m: Best, native: str, ts_recv: int) -> None:
        quote = sides(m.bid, m.bidSize, m.ask, m.askSize)
        self.sink.add("quote", m.quoteTime * MS_NS, ts_recv, instrument=self.code(native, ts_recv),
                      venue_seq=m.seqId, **quote)  # fmt: skip

    def _change(self, m: Change, frame: Frame, native: str, kind: str, conn: str, ts_recv: int) -> str:
        changes = self.changes.halves(m.bids, m.asks)
        if not self.follows(native, kind, ts_recv, _rank(kind)):
            return OTHER_BOOK
        book = self.book(native, ts_recv, conn)
        if ".refresh." in kind:
            book.follow(Rule.NONE)
            book.snapshot(changes, frame.ts * MS_NS, ts_recv, m.seqNum, in_order=True)
        elif frame.rep:
            if not book.live or m.seqNum > book.seq:
                book.snapshot(changes, frame.ts * MS_NS, ts_recv, m.seqNum)
        else:
            book.change(changes, frame.ts * MS_NS, ts_recv, last=m.seqNum, prev=m.prevSeqNum)
        return kind


def _listed(each: dict[str, Any]) -> tuple[str, Instrument]:
    tick, lot = (step(int(each[p])) for p in ("price-precision", "amount-precision"))
    return each["symbol"], spot(each["base-currency"], each["quote-currency"], tick, lot)


def _rank(kind: str) -> int:
    """Of a book among those of an instrument. Raises ValueError for a kind that is none."""
    name, _, last = kind.rpartition(".")
    ranks = {"mbp": 10_000 + int(last), "mbp.refresh": 1000 + int(last)} if last.isdecimal() else {}
    if name not in ranks and not last.startswith("step"):
        raise ValueError(f"{kind[:20]!r} is no kind of book")
    return ranks.get(name) or 100 - int(last.removeprefix("step"))


def _ask(verb: str, native: str, channel: str) -> str:
    return msgspec.json.encode({verb: f"market.{native}.{channel}", "id": native}).decode()


def _traded(t: Trade, number: int, order: int) -> Traded:
    if t.amount < 0:
        raise ValueError(f"a size of {t.amount}")
    values = {"venue_seq": order, "trade_id": number, "price": t.price, "size": t.amount,
              "side": "B" if t.direction == "buy" else "S"}  # fmt: skip
    return Traded(number, t.ts * MS_NS, values)


def _inflated(data: bytes) -> bytes:
    """A frame's text. Raises ValueError if it is not gzip, or far too much."""
    if data.startswith(b"{"):
        return data
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(data, FRAME_MAX)
    except zlib.error as e:
        raise ValueError(f"not gzip: {e}") from None
    if not stream.eof or stream.unused_data:
        raise ValueError(f"not one whole frame of gzip, of at most {FRAME_MAX} bytes")
    return text
