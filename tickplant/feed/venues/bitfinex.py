"""Bitfinex, WebSocket version 2: `[channel, data..., sequence number]`, channels numbered by `subscribed`.

    trades    trade; te (executed) only counts. The snapshot's with Flag.SNAPSHOT. tu, the same trade
              once more, is ignored. An amount below 0 is a sale
    ticker    quote, without a time
    book      depth with `orders`, and SYNTHETIC quotes: price, count, amount; a count of 0 takes the
              level away. Amounts below 0 are offers. cs is the signed CRC-32 of the best 25 levels
    info      status system: maintenance, restart, or online
    status    status funding: level_1 mark price, level_2 index price, level_3 funding rate
    hb, conf, subscribed, unsubscribed, pong    ignored

With flag SEQ_ALL each message on a connection has a number one above the last: where one is missing, all
books are subscribed to again. Source: "WebSocket v2" of Bitfinex's API documentation.
"""

import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from tickplant._core.changes import ASK, BID
from tickplant.feed.book import Book
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import or_nan, sides
from tickplant.feed.symbols import Instrument, currency
from tickplant.feed.venue import Channel, Connection, Request, Venue

MS_NS = 1_000_000
SEQ_ALL, OB_CHECKSUM = 65536, 131072
CHECKED = 25
"""Levels of each side that the checksum is made of."""
INFO = {20051: "restart", 20060: "maintenance", 20061: "online"}
TERSE = {"UST": "USDT", "USTF0": "USDT", "BTCF0": "BTC", "DSH": "DASH", "QTM": "QTUM", "IOT": "IOTA"}
"""Bitfinex's own names of currencies, and the usual ones."""

Raw = msgspec.Raw
Level = tuple[Raw, int, Raw]
Trade = tuple[int, int, float, float]


class Event(msgspec.Struct):
    event: str
    channel: str = ""
    chanId: int = 0
    symbol: str = ""
    key: str = ""
    msg: str = ""
    code: int = 0
    flags: int = 0
    status: Any = None
    platform: dict[str, int] = {}


_ARRAY = msgspec.json.Decoder(list[Raw])
_EVENT = msgspec.json.Decoder(Event)
_INT = msgspec.json.Decoder(int)
_TEXT = msgspec.json.Decoder(str)
_LEVEL, _LEVELS = msgspec.json.Decoder(Level), msgspec.json.Decoder(list[Level])
_TRADE, _TRADES = msgspec.json.Decoder(Trade), msgspec.json.Decoder(list[Trade])
_FLOATS = msgspec.json.Decoder(list[float | None])
_STATUS = msgspec.json.Decoder(list[Any])


class Bitfinex(Venue):
    """Spot and derivatives."""

    NAME, VENUE, RECORDED = "bitfinex", "BITFINEX", ("BITFINEX",)
    IGNORED = frozenset({"tu", "hb", "conf", "subscribed", "unsubscribed", "pong"})
    GAP = "number of the connection's messages"
    CHANNELS = (
        Channel("trades", "trade", gap=GAP, rest="missed trades after a loss, of the last 1,000"),
        Channel("quotes", "quote", gap=GAP),
        Channel("book", "depth", gap=GAP, checksum="CRC-32 of the best 25 levels"),
        Channel("funding", "status", gap=GAP),
        Channel("status", "status"),
    )
    NAMES: ClassVar[dict[str, str]] = {"trades": "trades", "quotes": "ticker", "book": "book"}
    REST = "https://api-pub.bitfinex.com/v2"
    EACH = 25
    """Subscriptions that a connection may have."""

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self.streams: dict[tuple[str, int], tuple[str, str]] = {}
        """(connection, number) to channel and symbol."""
        self.seq: dict[str, int] = {}
        """Of the last message, by connection."""
        self.where: dict[str, tuple[str, int]] = {}
        """Connection and number of a symbol's book."""

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/conf/pub:list:pair:{kind}") for kind in ("exchange", "futures")]

    def connections(self) -> Sequence[Connection]:
        wanted = [n for n in self.known if self.wants(n)]
        send = [self.subscription(c, n) for n in wanted for c in self.channels if c in self.NAMES]
        send += [
            self.subscription("funding", n) for n in wanted if n.endswith("F0") and "funding" in self.channels
        ]
        conf = json.dumps({"event": "conf", "flags": SEQ_ALL | OB_CHECKSUM})
        parts = [send[i : i + self.EACH] for i in range(0, len(send), self.EACH)]
        return [
            Connection(f"{self.NAME}.ws{i}", "wss://api-pub.bitfinex.com/ws/2", [conf, *part])
            for i, part in enumerate(parts)
        ]

    def subscription(self, channel: str, native: str) -> str:
        """The message that subscribes."""
        what = {"event": "subscribe", "channel": self.NAMES.get(channel, "status"), "symbol": native}
        if channel == "funding":
            what = {"event": "subscribe", "channel": "status", "key": f"deriv:{native}"}
        return json.dumps(what | ({"prec": "P0", "freq": "F0", "len": "100"} if channel == "book" else {}))

    def connected(self, conn: str, ts_recv: int) -> None:
        self.seq.pop(conn, None)
        self.streams = {at: s for at, s in self.streams.items() if at[0] != conn}

    def lost(self, conn: str, ts_recv: int, cause: str) -> None:
        self.connected(conn, ts_recv)
        super().lost(conn, ts_recv, cause)

    def resync(self, native: str) -> None:
        if native in self.where:
            conn, number = self.where[native]
            self.replies.append((conn, json.dumps({"event": "unsubscribe", "chanId": number})))
            self.replies.append((conn, self.subscription("book", native)))

    def instrument(self, native: str) -> Instrument:
        pair = native[1:] if native.startswith("t") else ""
        base, colon, quote = pair.partition(":") if ":" in pair else (pair[:3], ":", pair[3:])
        if not (base and colon and len(quote) >= 3):
            return super().instrument(native)
        kind = "perp" if native.endswith("F0") else "spot"
        base, quote = (TERSE.get(n, currency(n.removesuffix("F0"))) for n in (base, quote))
        return Instrument(base, quote, kind)

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "pub:list:currency" in url:
            return "currencies"
        if "pub:list:pair" not in url:
            return super().answer(url, data, ts_recv)
        for pair in msgspec.json.decode(data, type=list[list[str]])[0]:
            self.known[f"t{pair}"] = self.instrument(f"t{pair}")
        return "instruments"

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        if data[:1] == b"{":
            return self._event(conn, _EVENT.decode(data), ts_recv)
        number, *rest = _ARRAY.decode(data)
        kind = _TEXT.decode(rest[0]) if bytes(rest[0])[:1] == b'"' else ""
        whole = 2 if kind in ("te", "tu", "cs") else 1
        if len(rest) > whole and not self._numbered(conn, _INT.decode(rest[-1]), ts_recv):
            return "duplicate"
        if kind in ("hb", "tu"):  # the first hb may come before `subscribed`
            return kind
        channel, native = self.streams[conn, _INT.decode(number)]
        made = {"trades": self._trades, "ticker": self._ticker, "book": self._book, "status": self._status}
        made[channel](native, kind, rest[whole - 1], ts_recv, conn)
        return kind or channel

    def _numbered(self, conn: str, seq: int, ts_recv: int) -> bool:
        """Take note of a message's number; is it another one than the last?"""
        if not 0 <= seq < 1 << 62:
            raise ValueError(f"a message numbered {seq}")
        last = self.seq.get(conn, seq - 1)
        self.seq[conn] = seq
        if seq == last:
            self.sink.event("duplicate", ts_recv, f"{conn}: {seq} came twice", first=seq, last=seq)
        elif seq != last + 1:
            self.sink.event(
                "gap", ts_recv, f"{conn}: {seq} after {last}", first=last + 1, last=max(seq - 1, last + 1)
            )
            self.trades.interrupt(conn)
            for native, at in self.where.items():
                if at[0] == conn and native in self.books:
                    self.books[native].gap(ts_recv, f"message {seq} after {last}")
        return seq != last

    def _event(self, conn: str, m: Event, ts_recv: int) -> str:
        if m.event == "subscribed":
            self.streams[conn, m.chanId] = m.channel, m.symbol or m.key.removeprefix("deriv:")
            if m.channel == "book":
                self.where[m.symbol] = conn, m.chanId
        elif m.event == "unsubscribed":
            self.streams.pop((conn, m.chanId), None)
        elif m.event == "info":
            value = INFO.get(m.code) or {0: "maintenance", 1: "online"}.get(m.platform.get("status", 1), "")
            self.sink.add("status", 0, ts_recv, kind="system", value=value)
            if value == "restart" or m.code == 20061:
                self.reconnects.add(conn)
        elif m.event == "error":
            self.sink.event("refused", ts_recv, m.msg)
        elif m.event not in self.IGNORED:
            raise ValueError(f"{m.event[:20]!r} is no event")
        return m.event

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        return Page(f"{self.REST}/trades/{native}/hist?limit=1000", 1000)

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [_traded(t) for t in _TRADES.decode(data)]

    def _trades(self, native: str, kind: str, raw: Raw, ts_recv: int, conn: str) -> None:
        if kind not in ("", "te"):
            raise ValueError(f"{kind[:20]!r} is no kind of trade")
        made = [_traded(t) for t in (_TRADES.decode(raw) if not kind else [_TRADE.decode(raw)])]
        self.traded([(native, t) for t in made], ts_recv, conn, again=not kind)

    def _ticker(self, native: str, kind: str, raw: Raw, ts_recv: int, conn: str) -> None:
        bid, bid_size, ask, ask_size, *_ = _FLOATS.decode(raw)
        if (bid_size or 0) < 0 or (ask_size or 0) < 0:
            raise ValueError("a quote of less than nothing")
        quote = sides(bid, bid_size or 0, ask, ask_size or 0)
        self.sink.add("quote", 0, ts_recv, instrument=self.code(native, ts_recv), **quote)

    def _status(self, native: str, kind: str, raw: Raw, ts_recv: int, conn: str) -> None:
        m = _STATUS.decode(raw)
        mark, index, rate = map(or_nan, (m[14], m[3], m[11]))
        self.sink.add("status", m[0] * MS_NS, ts_recv, instrument=self.code(native, ts_recv), kind="funding",
                      level_1=mark, level_2=index, level_3=rate)  # fmt: skip

    def _book(self, native: str, kind: str, raw: Raw, ts_recv: int, conn: str) -> None:
        if kind:
            if kind != "cs":
                raise ValueError(f"{kind[:20]!r} is no kind of change")
            check(self.book(native, ts_recv), _INT.decode(raw), ts_recv)
            return
        whole = bytes(raw)[1:].lstrip()[:1] in (b"[", b"]")
        self.changes.clear()
        for price, count, amount in _LEVELS.decode(raw) if whole else [_LEVEL.decode(raw)]:
            text = bytes(amount)
            half, text = (ASK, text[1:]) if text.startswith(b"-") else (BID, text)
            self.changes.add(half, bytes(price), text if count else b"0", count)
        book = self.book(native, ts_recv)
        (book.snapshot if whole else book.change)(self.changes, 0, ts_recv)


def _traded(t: Trade) -> Traded:
    trade_id, at, amount, price = t
    values = {"trade_id": trade_id, "price": price, "size": abs(amount), "side": "S" if amount < 0 else "B"}
    return Traded(trade_id, at * MS_NS, values)


def check(book: Book, told: int, ts_recv: int) -> None:
    """Compare a book with its checksum: the numbers as the venue writes them, bid by offer."""
    if book.live:
        text = book.levels.alternating(CHECKED, ord("-")).replace(
            b"e-0", b"e-"
        )  # as JavaScript has exponents
        book.verified(zlib.crc32(text) == told & 0xFFFFFFFF, told, ts_recv)
