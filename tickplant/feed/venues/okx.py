"""OKX: spot, swaps, futures, options.

    trades, trades-all,    trade; side is the aggressor's. trades has several trades of one order at one price
    option-trades          in one; of an instrument the channel that comes first is read
    tickers, bbo-tbt       quote
    books, books-l2-tbt,   depth, and SYNTHETIC quotes; where messages have seqId, each names the one before
    books50-l2-tbt,        (prevSeqId); where they have a checksum, it is verified: CRC-32 over the best 25
    books-elp              bids and offers, "price:size" of each in turn, as the venue wrote them
    books5                 depth: all of the five levels each time. Of several books of an instrument the
                           deepest is followed
    mark-price             status mark: level_1
    funding-rate           status funding: level_3 the rate
    instruments            status state; what is new is known from then on
    status                 status system: the state of a maintenance
    notice                 status system: the connection is about to be closed, and made anew
    candles, indices, price limits, open interest, liquidations and the like: ignored

Sizes of contracts are numbers of them; `multiplier` is what one is worth. Options are priced in the coin.

Source: "WebSocket", "Order Book Trading > Market Data" and "Public Data" of the API v5 guide;
docs/FEEDS.md has the addresses.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import msgspec

from tickplant._core.changes import Changes
from tickplant.feed.book import Book, Rule
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import amount, given, number, sides
from tickplant.feed.symbols import Instrument, currency
from tickplant.feed.times import MS_NS, yymmdd
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue

GROUP, ARGS = 100, 50
"""Instruments of one connection, subscriptions of one message."""
BEST = 25


class Trade(msgspec.Struct):
    instId: str
    tradeId: str
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: str
    count: str = "1"
    """Trades that are in it; tradeId is the last one's."""


class Ticker(msgspec.Struct):
    bidPx: str
    bidSz: str
    askPx: str
    askSz: str
    ts: str


class Depth(msgspec.Struct):
    asks: msgspec.Raw
    bids: msgspec.Raw
    ts: str
    checksum: int = 0
    seqId: int = -1
    prevSeqId: int = -1


class Best(msgspec.Struct):
    asks: list[list[str]]
    bids: list[list[str]]
    ts: str
    seqId: int = 0


class Public(msgspec.Struct):
    instId: str
    ts: str = "0"
    markPx: str = ""
    fundingRate: str = ""


class State(msgspec.Struct):
    instId: str
    state: str
    ts: str = "0"


class Maintenance(msgspec.Struct):
    state: str
    title: str = ""
    ts: str = "0"


class Answer(msgspec.Struct):
    data: list[Trade]


class Arg(msgspec.Struct):
    channel: str
    instId: str = ""


class Head(msgspec.Struct):
    event: str = ""
    code: str = ""
    msg: str = ""
    arg: Arg | None = None
    action: str = ""


class Frame(Head):
    data: msgspec.Raw = msgspec.Raw(b"[]")


class BookFrame(Head):
    data: list[Depth] = []


_PAST = msgspec.json.Decoder(Answer)
_FRAME = msgspec.json.Decoder(Frame)
_BOOK_FRAME = msgspec.json.Decoder(BookFrame)
BOOK_HEAD = b'{"arg":{"channel":"books'
"""Frames that begin so are read at one go."""
BOOKS = {"books-l2-tbt": 5, "books": 4, "books50-l2-tbt": 3, "books-elp": 2, "books5": 1}
"""Books of an instrument; of several, the one with the highest number is followed."""
TRADES = ("trades", "trades-all", "option-trades")
KINDS: dict[str, Any] = {
    **dict.fromkeys(TRADES, list[Trade]), "tickers": list[Ticker], "bbo-tbt": list[Best],
    "mark-price": list[Public], "funding-rate": list[Public], "instruments": list[State],
    "status": list[Maintenance], **dict.fromkeys(BOOKS, list[Depth]),
}  # fmt: skip
SILENT = frozenset({
    "index-tickers", "open-interest", "price-limit", "estimated-price", "opt-summary", "adl-warning",
    "liquidation-orders", "economic-calendar", "block-tickers", "call-auction-details",
    "public-block-trades", "public-struc-block-trades",
})  # fmt: skip
"""Channels that say nothing for any table; so do those of candles."""
ANSWERS = frozenset({"subscribe", "unsubscribe", "login", "channel-conn-count"})
CLOSING = "64008"
"""Code of a notice: the connection is about to be closed for an upgrade."""
_ENTRIES = msgspec.json.Decoder(list[dict[str, Any]])
_DATA: dict[str, msgspec.json.Decoder[list[Any]]] = {
    name: msgspec.json.Decoder(kind) for name, kind in KINDS.items()
}


class Okx(Venue):
    """All instruments of its public WebSocket."""

    NAME, VENUE, RECORDED = "okx", "OKX", ("OKX", "OKEX")
    IGNORED = SILENT | {"pong", "response", "candles", "other trades"}
    SUBSCRIPTIONS_PER_S, MESSAGES_PER_HOUR = 3.0, 450.0
    """480 an hour are allowed on each connection."""
    RULE = Rule.CHAIN
    CHANNELS = (
        Channel("trades", "trade", rest="missed trades after a loss, by id", types=("trades",)),
        Channel("quotes", "quote", types=("bbo-tbt",)),
        Channel("book", "depth", gap="prevSeqId = last seqId", checksum="CRC-32 of 25 levels, where sent",
                types=("books",), silence_s=90),
        Channel("funding", "status", types=("mark-price", "funding-rate"), silence_s=60),
        Channel("status", "status", types=("instruments", "status")),
    )  # fmt: skip
    NAMES: ClassVar[dict[str, tuple[str, ...]]] = {
        "trades": ("trades",), "quotes": ("bbo-tbt",), "book": ("books",),
        "funding": ("mark-price", "funding-rate"), "status": (),
    }  # fmt: skip
    SOCKET, REST = "wss://ws.okx.com:8443/ws/v5/public", "https://www.okx.com/api/v5"
    LISTS = ("SPOT", "SWAP", "FUTURES", "OPTION&uly=BTC-USD", "OPTION&uly=ETH-USD")

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self.verified = 0
        """Checksums that held."""
        self.sources: dict[str, str] = {}
        """The channel of an instrument's trades."""

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/public/instruments?instType={each}") for each in self.LISTS]

    def connections(self) -> Sequence[Connection]:
        names, made = self.wanted(), []
        for at in range(0, len(names), GROUP):
            args = [{"channel": c, "instId": n} for name in self.channels for c in self.NAMES[name]
                    for n in names[at : at + GROUP]
                    if name != "funding" or self.known[n].kind == "perp"]  # fmt: skip
            if "status" in self.channels and at == 0:
                kinds = ("SPOT", "SWAP", "FUTURES", "OPTION")
                args += [{"channel": "instruments", "instType": kind} for kind in kinds]
                args.append({"channel": "status"})
            send = [_ask("subscribe", args[i : i + ARGS]) for i in range(0, len(args), ARGS)]
            made.append(Connection(f"{self.NAME}.ws.{at // GROUP}", self.SOCKET, send, "ping", 25.0))
        return made

    def resync(self, native: str) -> None:
        for verb in ("unsubscribe", "subscribe"):
            self.replies.append(
                (self.books[native].conn, _ask(verb, [{"channel": "books", "instId": native}]))
            )

    def instrument(self, native: str) -> Instrument:
        parts = native.split("-")
        match parts:
            case [base, quote] if base and quote:
                return Instrument(currency(base), currency(quote))
            case [base, quote, "SWAP"]:
                return Instrument(currency(base), currency(quote), "perp")
            case [base, quote, expiry]:
                return Instrument(currency(base), currency(quote), "future", yymmdd(expiry))
            case [base, quote, expiry, strike, "C" | "P" as right]:
                return Instrument(currency(base), currency(quote), "option", yymmdd(expiry), strike, right)
        return super().instrument(native)

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "/public/instruments" not in url:
            return super().answer(url, data, ts_recv)
        self.enlist_all(msgspec.json.decode(data)["data"], self._listed, ts_recv)
        return "instruments"

    def _listed(self, each: dict[str, Any]) -> tuple[str, Instrument]:
        named = self.instrument(each["instId"])
        worth = given(each["ctVal"] or "1") * given(each["ctMult"] or "1")
        return each["instId"], replace(
            named, tick_size=given(each["tickSz"]), lot_size=given(each["lotSz"]), multiplier=worth,
            priced=each["settleCcy"] if named.kind == "option" else "",
        )  # fmt: skip

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        arg = _FRAME.decode(data).arg
        return [arg.instId] if arg else []

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        if data == b"pong":
            return "pong"
        frame: Frame | BookFrame
        frame = _BOOK_FRAME.decode(data) if data.startswith(BOOK_HEAD) else _FRAME.decode(data)
        if frame.event:
            return self._event(frame, conn, ts_recv)
        if frame.arg is None:
            raise ValueError("a message of no channel")
        channel, native = frame.arg.channel, frame.arg.instId
        if isinstance(frame, BookFrame):
            return self._books(frame.data, frame, channel, native, ts_recv, conn)
        if channel in SILENT or "candle" in channel:
            return channel if channel in SILENT else "candles"
        items = _DATA[channel].decode(frame.data)
        if channel in BOOKS:
            return self._books(items, frame, channel, native, ts_recv, conn)
        if channel in TRADES:
            return self._trades(items, channel, ts_recv, conn)
        if channel in ("tickers", "bbo-tbt"):
            self.sink.add_all("quote", ts_recv, [_quote(q, self.code(native, ts_recv)) for q in items])
        elif channel == "instruments":
            self._states(items, frame.data, ts_recv)
        elif channel == "status":
            self.sink.add_all("status", ts_recv, [_maintenance(m) for m in items])
        else:
            rows = [self._public(i, channel, ts_recv) for i in items]
            self.sink.add_all("status", ts_recv, rows)
        return channel

    def _event(self, frame: Head, conn: str, ts_recv: int) -> str:
        """What the venue answers, or says of the connection."""
        if frame.event in ("error", "channel-conn-count-error"):
            self.sink.event("refused", ts_recv, f"{conn}: {frame.msg or frame.event} ({frame.code})")
            return "error"
        if frame.event == "notice":
            self.sink.add("status", 0, ts_recv, kind="system", value="notice", reason=frame.code[:12])
            self.sink.event("shutdown", ts_recv, f"{conn}: {frame.msg} ({frame.code})")
            if frame.code == CLOSING:
                self.reconnects.add(conn)
            return "notice"
        if frame.event not in ANSWERS:
            raise ValueError(f"an event of type {frame.event[:20]!r}")
        return "response"

    def _trades(self, items: list[Trade], channel: str, ts_recv: int, conn: str) -> str:
        made = [(t.instId, _traded(t)) for t in items]
        read = [(n, t) for n, t in made if self.sources.get(n, channel) == channel]
        self.traded(read, ts_recv, conn)
        self.sources.update((n, channel) for n, _ in read)
        return channel if read or not made else "other trades"

    def _states(self, states: list[State], data: msgspec.Raw, ts_recv: int) -> None:
        """Instruments that are new or changed, as the list has them."""
        at = [int(m.ts) * MS_NS for m in states]
        self.enlist_all([e for e in _ENTRIES.decode(data) if "tickSz" in e], self._listed, ts_recv)
        rows = [(ns, {"instrument": self.code(m.instId, ts_recv), "kind": "state", "value": m.state[:12]})
                for ns, m in zip(at, states, strict=True)]  # fmt: skip
        self.sink.add_all("status", ts_recv, rows)

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        query = f"instId={native}&type=1&after={last + 1}&limit=100"
        return Page(f"{self.REST}/market/history-trades?{query}", 100, "back")

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [_traded(t) for t in _PAST.decode(data).data]

    def _public(self, m: Public, channel: str, ts_recv: int) -> tuple[int, dict[str, Any]]:
        row: dict[str, Any] = {"instrument": self.code(m.instId, ts_recv)}
        if channel == "funding-rate":
            row |= {"kind": "funding", "level_3": given(m.fundingRate)}
        else:
            row |= {"kind": "mark", "level_1": number(m.markPx)}
        return int(m.ts) * MS_NS, row

    def _books(
        self, items: list[Depth], frame: Head, channel: str, native: str, ts_recv: int, conn: str
    ) -> str:
        rank = BOOKS[channel]
        whole = frame.action == "snapshot" or channel == "books5"
        if not whole and frame.action != "update":
            raise ValueError(f"a book's action is {frame.action!r}")
        made = [(m, Changes().halves(m.bids, m.asks, 0, 1, 3), int(m.ts) * MS_NS)
                for m in items]  # fmt: skip
        if not self.follows(native, channel, ts_recv, rank):
            return OTHER_BOOK
        book = self.book(native, ts_recv, conn)
        for m, changes, ts_event in made:
            if whole:
                book.follow(Rule.CHAIN if m.seqId >= 0 else Rule.NONE)
                book.snapshot(changes, ts_event, ts_recv, max(m.seqId, 0), in_order=True)
            else:
                book.change(changes, ts_event, ts_recv, last=max(m.seqId, 0), prev=m.prevSeqId)
            if m.checksum and book.live:
                self._verify(book, m.checksum, ts_recv)
        return channel

    def _verify(self, book: Book, expected: int, ts_recv: int) -> None:
        holds = zlib.crc32(book.levels.alternating(BEST)) == expected & 0xFFFFFFFF
        self.verified += holds
        book.verified(holds, expected, ts_recv)


def _ask(verb: str, args: list[dict[str, str]]) -> str:
    return msgspec.json.encode({"op": verb, "args": args}).decode()


def _maintenance(m: Maintenance) -> tuple[int, dict[str, Any]]:
    reason = m.title.encode("ascii", "replace")[:12]
    return int(m.ts) * MS_NS, {"kind": "system", "value": m.state[:12], "reason": reason}


def _traded(t: Trade) -> Traded:
    price, size = number(t.px), amount(t.sz)
    if not (price > 0 and size > 0):
        raise ValueError(f"a trade of {t.sz[:20]} at {t.px[:20]}")
    values = {"trade_id": int(t.tradeId), "price": price, "size": size, "side": t.side[0].upper()}
    return Traded(int(t.tradeId), int(t.ts) * MS_NS, values, of=max(1, int(t.count)))


def _quote(q: Ticker | Best, code: int) -> tuple[int, dict[str, Any]]:
    if isinstance(q, Best):
        texts, seq = [t for side in (q.bids, q.asks) for t in (side[0][:2] if side else ("", ""))], q.seqId
    else:
        texts, seq = [q.bidPx, q.bidSz, q.askPx, q.askSz], 0
    return int(q.ts) * MS_NS, {"instrument": code, "venue_seq": seq, **sides(*map(given, texts))}
