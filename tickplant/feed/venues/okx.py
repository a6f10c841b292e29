"""OKX: spot, swaps, futures, options.

    trades                 trade; side is the aggressor's
    tickers, bbo-tbt       quote
    books, books-l2-tbt,   depth, and SYNTHETIC quotes; where messages have seqId, each names the one before
    books50-l2-tbt         (prevSeqId); where they have a checksum, it is verified: CRC-32 over the best 25
                           bids and offers, "price:size" of each in turn, as the venue wrote them
    books5                 depth: all of the five levels each time
    mark-price             status mark: level_1
    funding-rate           status funding: level_3 the rate
    instruments            status state

Sizes of contracts are numbers of them; `multiplier` is what one is worth. Options are priced in the coin.

Source: "WebSocket", "Order Book Trading > Market Data" and "Public Data" of the API v5 guide.
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
from tickplant.feed.venue import Channel, Connection, Request, Venue

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
    asks: list[tuple[str, str, str, str]]
    bids: list[tuple[str, str, str, str]]
    ts: str
    seqId: int = 0


class Public(msgspec.Struct):
    instId: str
    ts: str = "0"
    markPx: str = ""
    fundingRate: str = ""
    state: str = ""


class Answer(msgspec.Struct):
    data: list[Trade]


class Arg(msgspec.Struct):
    channel: str
    instId: str = ""


class Head(msgspec.Struct):
    event: str = ""
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
BOOKS = ("books", "books-l2-tbt", "books50-l2-tbt", "books5")
KINDS: dict[str, Any] = {
    "trades": list[Trade], "tickers": list[Ticker], "bbo-tbt": list[Best], "mark-price": list[Public],
    "funding-rate": list[Public], "instruments": list[Public], **dict.fromkeys(BOOKS, list[Depth]),
}  # fmt: skip
_DATA: dict[str, msgspec.json.Decoder[list[Any]]] = {
    name: msgspec.json.Decoder(kind) for name, kind in KINDS.items()
}


class Okx(Venue):
    """All instruments of its public WebSocket."""

    NAME, VENUE, RECORDED = "okx", "OKX", ("OKX", "OKEX")
    IGNORED = frozenset({"pong", "response"})
    RULE = Rule.CHAIN
    CHANNELS = (
        Channel("trades", "trade", rest="missed trades after a loss, by id"),
        Channel("quotes", "quote"),
        Channel("book", "depth", gap="prevSeqId = last seqId", checksum="CRC-32 of 25 levels, where sent"),
        Channel("funding", "status"),
        Channel("status", "status"),
    )
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
        for each in msgspec.json.decode(data)["data"]:
            named = self.instrument(each["instId"])
            worth = given(each["ctVal"] or "1") * given(each["ctMult"] or "1")
            self.known[each["instId"]] = replace(
                named, tick_size=given(each["tickSz"]), lot_size=given(each["lotSz"]), multiplier=worth,
                priced=each["settleCcy"] if named.kind == "option" else "",
            )  # fmt: skip
        return "instruments"

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        if data == b"pong":
            return "pong"
        frame: Frame | BookFrame
        frame = _BOOK_FRAME.decode(data) if data.startswith(BOOK_HEAD) else _FRAME.decode(data)
        if frame.event:
            if frame.event == "error":
                self.sink.event("refused", ts_recv, f"{conn}: {frame.msg}")
            return "error" if frame.event == "error" else "response"
        if frame.arg is None:
            raise ValueError("a message of no channel")
        channel, native = frame.arg.channel, frame.arg.instId
        if isinstance(frame, BookFrame):
            if channel not in BOOKS:
                raise ValueError(f"there is no channel {channel[:20]!r}")
            items: list[Any] = frame.data
        else:
            items = _DATA[channel].decode(frame.data)
        if channel in BOOKS:
            self._books(items, frame, self.book(native, ts_recv, conn), ts_recv)
        elif channel == "trades":
            self.traded([(t.instId, _traded(t)) for t in items], ts_recv, conn)
        elif channel in ("tickers", "bbo-tbt"):
            self.sink.add_all("quote", ts_recv, [_quote(q, self.code(native, ts_recv)) for q in items])
        else:
            self.sink.add_all("status", ts_recv, [r for i in items for r in self._public(i, ts_recv)])
        return channel

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        query = f"instId={native}&type=1&after={last + 1}&limit=100"
        return Page(f"{self.REST}/market/history-trades?{query}", 100, "back")

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [_traded(t) for t in _PAST.decode(data).data]

    def _public(self, m: Public, ts_recv: int) -> list[tuple[int, dict[str, Any]]]:
        row = {"instrument": self.code(m.instId, ts_recv), "kind": "mark"}
        if m.state:
            row |= {"kind": "state", "value": m.state[:12]}
        elif m.fundingRate:
            row |= {"kind": "funding", "level_3": number(m.fundingRate)}
        else:
            row |= {"level_1": number(m.markPx)}
        return [(int(m.ts) * MS_NS, row)]

    def _books(self, items: list[Depth], frame: Head, book: Book, ts_recv: int) -> None:
        whole = frame.action == "snapshot" or (frame.arg is not None and frame.arg.channel == "books5")
        if not whole and frame.action != "update":
            raise ValueError(f"a book's action is {frame.action!r}")
        made = [(m, Changes().halves(m.bids, m.asks, 0, 1, 3), int(m.ts) * MS_NS)
                for m in items]  # fmt: skip
        for m, changes, ts_event in made:
            if whole:
                book.follow(Rule.CHAIN if m.seqId >= 0 else Rule.NONE)
                book.snapshot(changes, ts_event, ts_recv, max(m.seqId, 0), in_order=True)
            else:
                book.change(changes, ts_event, ts_recv, last=max(m.seqId, 0), prev=m.prevSeqId)
            if m.checksum and book.live:
                self._verify(book, m.checksum, ts_recv)

    def _verify(self, book: Book, expected: int, ts_recv: int) -> None:
        holds = zlib.crc32(book.levels.alternating(BEST)) == expected & 0xFFFFFFFF
        self.verified += holds
        book.verified(holds, expected, ts_recv)


def _ask(verb: str, args: list[dict[str, str]]) -> str:
    return msgspec.json.encode({"op": verb, "args": args}).decode()


def _traded(t: Trade) -> Traded:
    values = {"trade_id": int(t.tradeId), "price": number(t.px), "size": amount(t.sz),
              "side": t.side[0].upper()}  # fmt: skip
    return Traded(int(t.tradeId), int(t.ts) * MS_NS, values, of=max(1, int(t.count)))


def _quote(q: Ticker | Best, code: int) -> tuple[int, dict[str, Any]]:
    if isinstance(q, Best):
        texts, seq = [t for side in (q.bids, q.asks) for t in (side[0][:2] if side else ("", ""))], q.seqId
    else:
        texts, seq = [q.bidPx, q.bidSz, q.askPx, q.askSz], 0
    return int(q.ts) * MS_NS, {"instrument": code, "venue_seq": seq, **sides(*map(given, texts))}
