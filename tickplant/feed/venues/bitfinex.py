"""Bitfinex, WebSocket version 2: `[channel, data..., sequence number]`, channels numbered by `subscribed`.

    trades    trade; te (executed) only counts. The snapshot's with Flag.SNAPSHOT. tu, the same trade
              once more, is ignored. An amount below 0 is a sale
    ticker    quote, without a time
    book      depth with `orders`, and SYNTHETIC quotes: price, count, amount; a count of 0 takes the
              level away. Amounts below 0 are offers. cs is the signed CRC-32 of the best 25 levels.
              What a book is, `subscribed` says: P0 to P4 have levels, each wider than the one before, R0
              has orders: order A, X (what is left), D, and the depth that they add up to. Of several
              books of an instrument one is followed, P0 before the others, more levels before fewer
    info      status system: maintenance, restart, or online
    status    status funding: level_1 mark price, level_2 index price, level_3 funding rate
    hb, conf, subscribed, unsubscribed, pong, and offers of funding (fUSD)    ignored

With flag SEQ_ALL each message on a connection has a number one above the last: where one is missing, all
books are subscribed to again. With flag TIMESTAMP each has its time, with BULK_UPDATES a message may have
several changes. Fields may be appended to any of them. Source: "WebSocket v2" of Bitfinex's API
documentation; docs/FEEDS.md has the addresses.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from tickplant._core.changes import ASK, BID, Changes
from tickplant.feed.book import Book
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import NAN, amount, number, or_nan, sides
from tickplant.feed.orders import Change, Pair
from tickplant.feed.symbols import Instrument, currency
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue
from tickplant.schema import Flag

MS_NS = 1_000_000
TIMESTAMP, SEQ_ALL, OB_CHECKSUM, BULK_UPDATES = 32768, 65536, 131072, 536870912
CHECKED = 25
"""Levels of each side that the checksum is made of."""
INFO = {20051: "restart", 20060: "maintenance", 20061: "online"}
TERSE = {"UST": "USDT", "USTF0": "USDT", "BTCF0": "BTC", "DSH": "DASH", "QTM": "QTUM", "IOT": "IOTA"}
"""Bitfinex's own names of currencies, and the usual ones."""

PRECISIONS = {"P0": 6, "R0": 5, "P1": 4, "P2": 3, "P3": 2, "P4": 1}
"""Books of an instrument; of several, the one with the highest number is followed."""
FUNDING = "funding offers"

Raw = msgspec.Raw


class Level(msgspec.Struct, array_like=True):
    price: Raw
    count: int
    amount: Raw


class Order(msgspec.Struct, array_like=True):
    order_id: int
    price: Decimal
    amount: Decimal


class Trade(msgspec.Struct, array_like=True):
    trade_id: int
    at_ms: int
    amount: float
    price: float


class Event(msgspec.Struct):
    event: str
    channel: str = ""
    chanId: int = 0
    symbol: str = ""
    prec: str = ""
    freq: str = ""
    len: int | str = ""
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
_ORDER, _ORDERS = msgspec.json.Decoder(Order), msgspec.json.Decoder(list[Order])
_TRADE, _TRADES = msgspec.json.Decoder(Trade), msgspec.json.Decoder(list[Trade])
_FLOATS = msgspec.json.Decoder(list[float | None])
_STATUS = msgspec.json.Decoder(list[Any])


class Bitfinex(Venue):
    """Spot and derivatives."""

    NAME, VENUE, RECORDED = "bitfinex", "BITFINEX", ("BITFINEX",)
    IGNORED = frozenset({"tu", "hb", "conf", "subscribed", "unsubscribed", "pong", FUNDING})
    REQUESTS_PER_S, CONNECTS_PER_S = 0.2, 0.3
    """Past trades 15 times a minute; 20 connections a minute."""
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
        self.kinds: dict[tuple[str, int], tuple[str, int]] = {}
        """(connection, number) of a book to what it is, and its rank among the books of the symbol."""
        self.flags: dict[str, int] = {}
        """That were asked for, by connection."""
        self.begun: set[tuple[str, int]] = set()
        """Books of which the snapshot is there."""
        self.orders: defaultdict[str, Pair] = defaultdict(Pair)
        """Of books of orders, by symbol."""
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
        self.flags.pop(conn, None)
        self.streams = {at: s for at, s in self.streams.items() if at[0] != conn}
        self.kinds = {at: k for at, k in self.kinds.items() if at[0] != conn}
        self.begun = {at for at in self.begun if at[0] != conn}

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
        (pairs,) = msgspec.json.decode(data, type=list[list[Any]])
        self.enlist_all(pairs, lambda pair: (f"t{pair}", self.instrument(f"t{pair}")), ts_recv)
        return "instruments"

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        number = _ARRAY.decode(data)[0]
        return [self.streams[conn, _INT.decode(number)][1]]

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        if data[:1] == b"{":
            return self._event(conn, _EVENT.decode(data), ts_recv)
        number, *rest = _ARRAY.decode(data)
        kind = _TEXT.decode(rest[0]) if bytes(rest[0])[:1] == b'"' else ""
        whole = 2 if kind in ("te", "tu", "fte", "ftu", "cs") else 1
        ts_event, tail = 0, rest[whole:]
        if tail and self.flags.get(conn, 0) & TIMESTAMP:
            ts_event = _INT.decode(tail.pop()) * MS_NS
        if tail and not self._numbered(conn, _INT.decode(tail[0]), ts_recv):
            return "duplicate"
        if kind in ("hb", "tu", "ftu"):  # the first hb may come before `subscribed`
            return kind.removeprefix("f")
        at = conn, _INT.decode(number)
        channel, native = self.streams[at]
        if native.startswith("f"):
            return FUNDING
        if channel == "book":
            return self._book(native, kind, rest[whole - 1], ts_event, ts_recv, at)
        made = {"trades": self._trades, "ticker": self._ticker, "status": self._status}
        made[channel](native, kind, rest[whole - 1], ts_event, ts_recv, conn)
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
        at = conn, m.chanId
        if m.event == "subscribed":
            self.streams[at] = m.channel, m.symbol or m.key.removeprefix("deriv:")
            self.begun.discard(at)
            if m.channel == "book":
                rank = PRECISIONS[m.prec or "P0"] * 1000 + int(m.len or 25)
                self.kinds[at] = f"{m.prec or 'P0'} {m.freq} {m.len}", rank
                if m.prec == "P0" or m.symbol not in self.where:
                    self.where[m.symbol] = at
        elif m.event == "unsubscribed":
            self.streams.pop(at, None)
        elif m.event == "conf":
            self.flags[conn] = m.flags
            if m.status == "FAILED":
                self.sink.event("refused", ts_recv, f"{conn}: {m.msg or 'flags were refused'}")
        elif m.event == "info":
            value = INFO.get(m.code) or {0: "maintenance", 1: "online"}.get(m.platform.get("status", 1), "")
            self.sink.add("status", 0, ts_recv, kind="system", value=value)
            if value in ("restart", "maintenance"):
                self.sink.event("shutdown", ts_recv, f"{conn}: {value}: {m.msg}")
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

    def _trades(self, native: str, kind: str, raw: Raw, at: int, ts_recv: int, conn: str) -> None:
        if kind not in ("", "te"):
            raise ValueError(f"{kind[:20]!r} is no kind of trade")
        made = [_traded(t) for t in (_TRADES.decode(raw) if not kind else [_TRADE.decode(raw)])]
        self.traded([(native, t) for t in made], ts_recv, conn, again=not kind)

    def _ticker(self, native: str, kind: str, raw: Raw, at: int, ts_recv: int, conn: str) -> None:
        bid, bid_size, ask, ask_size, *_ = _FLOATS.decode(raw)
        if (bid_size or 0) < 0 or (ask_size or 0) < 0:
            raise ValueError("a quote of less than nothing")
        quote = sides(bid, bid_size or 0, ask, ask_size or 0)
        self.sink.add("quote", at, ts_recv, instrument=self.code(native, ts_recv), **quote)

    def _status(self, native: str, kind: str, raw: Raw, at: int, ts_recv: int, conn: str) -> None:
        m = _STATUS.decode(raw)
        mark, index, rate = map(or_nan, (m[14], m[3], m[11]))
        self.sink.add("status", m[0] * MS_NS, ts_recv, instrument=self.code(native, ts_recv), kind="funding",
                      level_1=mark, level_2=index, level_3=rate)  # fmt: skip

    def _book(
        self, native: str, kind: str, raw: Raw, ts_event: int, ts_recv: int, at: tuple[str, int]
    ) -> str:
        what, rank = self.kinds[at]
        is_raw = what.startswith("R0")
        if kind not in ("", "cs"):
            raise ValueError(f"{kind[:20]!r} is no kind of change")
        if kind:
            told = _INT.decode(raw)
            if not is_raw and self.follows(native, what, ts_recv, rank):
                check(self.book(native, ts_recv), told, ts_recv)
            return kind
        many = bytes(raw)[1:].lstrip()[:1] in (b"[", b"]")
        whole = many and not (at in self.begun and self.flags.get(at[0], 0) & BULK_UPDATES)
        orders = (_ORDERS.decode(raw) if many else [_ORDER.decode(raw)]) if is_raw else []
        for o in orders:
            _check(o)
        if not is_raw:
            self._level(_LEVELS.decode(raw) if many else [_LEVEL.decode(raw)])
        self.code(native, ts_recv)
        if not self.follows(native, what, ts_recv, rank):
            return OTHER_BOOK
        self.where[native] = at
        self.begun.add(at)
        book = self.book(native, ts_recv)
        if is_raw:
            (self._whole if whole else self._change)(native, orders, ts_event, ts_recv, book)
        else:
            (book.snapshot if whole else book.change)(self.changes, ts_event, ts_recv)
        return "book"

    def _level(self, levels: list[Level]) -> None:
        """Read levels into `changes`."""
        self.changes.clear()
        for each in levels:
            text = bytes(each.amount)
            half, text = (ASK, text[1:]) if text.startswith(b"-") else (BID, text)
            self.changes.add(half, bytes(each.price), text if each.count else b"0", each.count)

    def _whole(self, native: str, orders: list[Order], ts_event: int, ts_recv: int, book: Book) -> None:
        """All orders of a book."""
        pair = self.orders[native] = Pair()
        book.by_order = True
        self.sink.add("order", ts_event, ts_recv, instrument=book.code, action="R", flags=int(Flag.SNAPSHOT))
        for o in orders:
            if o.price and pair.apply(_of(o, "A", ts_event)):
                self._row(o, "A", ts_event, ts_recv, book, int(Flag.SNAPSHOT))
        self.changes.clear()
        for (half, price), (size, count) in pair.levels.items():
            self.changes.add(half, str(price), str(size), count)
        book.snapshot(self.changes, ts_event, ts_recv)

    def _change(self, native: str, orders: list[Order], ts_event: int, ts_recv: int, book: Book) -> None:
        """Orders that came, changed or went. One whose price is another one went, and came again."""
        pair, made = self.orders[native], Changes()
        for o in orders if book.live else ():
            had = pair.orders.get(o.order_id)
            stays = had is not None and o.price == had[1] and (o.amount < 0) is (had[0] == ASK)
            actions = "X" if stays else ("D" if had else "") + ("A" if o.price else "")
            for action in actions:
                level = pair.apply(_of(o, action, ts_event))
                self._row(o, action, ts_event, ts_recv, book, 0, had)
                if level:
                    made.add(level[0], str(level[1]), str(level[2]), level[3])
            if not actions:  # it goes, and was not among those that the book has
                self._row(o, "D", ts_event, ts_recv, book, int(Flag.ORPHAN))
        book.change(made, ts_event, ts_recv)

    def _row(
        self, o: Order, action: str, ts_event: int, ts_recv: int, book: Book, flags: int,
        had: tuple[int, Decimal, Decimal] | None = None,
    ) -> None:  # fmt: skip
        goes = action == "D"
        half, price = (had[0], had[1]) if goes and had else (ASK if o.amount < 0 else BID, o.price)
        self.sink.add("order", ts_event, ts_recv, instrument=book.code, order_id=o.order_id,
                      price=float(price) if price else NAN, size=0.0 if goes else float(abs(o.amount)),
                      side="BS"[half], action=action, flags=flags)  # fmt: skip


def _check(o: Order) -> None:
    """Raises ValueError or OverflowError for an order that can't be."""
    number(str(o.price))
    amount(str(abs(o.amount)))
    if not 0 < o.order_id < 1 << 63 or (o.price and not o.amount):
        raise ValueError(f"order {o.order_id} of {o.amount} at {o.price}")


def _of(o: Order, action: str, ts_event: int) -> Change:
    return Change(action, ASK if o.amount < 0 else BID, o.order_id, o.price, abs(o.amount), ts_event, 0)


def _traded(t: Trade) -> Traded:
    if not t.amount or not t.price > 0:
        raise ValueError(f"a trade of {t.amount} at {t.price}")
    values = {"trade_id": t.trade_id, "price": t.price, "size": abs(t.amount),
              "side": "S" if t.amount < 0 else "B"}  # fmt: skip
    return Traded(t.trade_id, t.at_ms * MS_NS, values)


def check(book: Book, told: int, ts_recv: int) -> None:
    """Compare a book with its checksum: the numbers as the venue writes them, bid by offer."""
    if book.live:
        text = book.levels.alternating(CHECKED, ord("-")).replace(
            b"e-0", b"e-"
        )  # as JavaScript has exponents
        book.verified(zlib.crc32(text) == told & 0xFFFFFFFF, told, ts_recv)
