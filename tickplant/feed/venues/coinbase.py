"""Coinbase: spot and futures, over its Advanced Trade API.

    market_trades   trade; `side` is that of the maker, so the aggressor's is the other. The snapshot's have
                    Flag.SNAPSHOT, and after a reconnection those missed Flag.LATE; ids have no holes
    ticker          quote
    level2          depth, and SYNTHETIC quotes; snapshot on subscription. Levels that have no time (1970,
                    year 1) are as of the message
    status          status: value is the product's status, reason its message
    ticker_batch    ignored: of what ticker has, every five seconds
    candles, heartbeats, subscriptions: ignored

Every message of a connection has the next sequence_num; a hole concerns all that comes over it.

Source: "Advanced Trade WebSocket Channels" and "List Public Products" of docs.cdp.coinbase.com;
docs/FEEDS.md has the addresses.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from tickplant._core.changes import Changes
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import amount, given, number, sides
from tickplant.feed.symbols import Instrument, currency, spot
from tickplant.feed.times import given_ns, iso_ns
from tickplant.feed.venue import Channel, Connection, Request, Venue

GROUP = 50
"""Products of one connection."""


class Trade(msgspec.Struct):
    product_id: str
    trade_id: str
    price: str
    size: str
    time: str
    side: Literal["BUY", "SELL"]


class Old(msgspec.Struct):
    """A trade over REST."""

    trade_id: int
    price: str
    size: str
    time: str
    side: Literal["buy", "sell"]


class Ticker(msgspec.Struct):
    product_id: str
    best_bid: str
    best_ask: str
    best_bid_quantity: str
    best_ask_quantity: str


class Product(msgspec.Struct):
    id: str
    status: str
    status_message: str = ""


class Trades(msgspec.Struct):
    type: Literal["snapshot", "update"]
    trades: list[Trade]


class Tickers(msgspec.Struct):
    tickers: list[Ticker]


class Levels(msgspec.Struct):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: msgspec.Raw


class Named(msgspec.Struct):
    product_id: str


class Products(msgspec.Struct):
    products: list[Product]


class Head(msgspec.Struct):
    channel: str = ""
    type: str = ""
    message: str = ""
    timestamp: str = ""
    sequence_num: int = -1


class Frame(Head):
    events: msgspec.Raw = msgspec.Raw(b"[]")


class BookFrame(Head):
    events: list[Levels] = []


_NAMED = msgspec.json.Decoder(list[Named])
_PAST = msgspec.json.Decoder(list[Old])
_FRAME = msgspec.json.Decoder(Frame)
_BOOK_FRAME = msgspec.json.Decoder(BookFrame)
BOOK_HEAD = b'{"channel":"l2_data"'
"""Frames that begin so are read at one go."""
_TIME = b'"event_time":"'
_EVENTS: dict[str, msgspec.json.Decoder[list[Any]]] = {
    "market_trades": msgspec.json.Decoder(list[Trades]),
    "ticker": msgspec.json.Decoder(list[Tickers]),
    "l2_data": msgspec.json.Decoder(list[Levels]),
    "status": msgspec.json.Decoder(list[Products]),
}


class Coinbase(Venue):
    """Advanced Trade, the public channels."""

    NAME, VENUE, RECORDED = "coinbase", "COINBASE", ("COINBASE",)
    IGNORED = frozenset({"candles", "heartbeats", "subscriptions", "ticker_batch"})
    SUBSCRIPTIONS_PER_S = 4.0
    """Eight messages a second are allowed, from all connections of an address."""
    CHANNELS = (
        Channel("trades", "trade", gap="sequence_num of the connection; trade id = last + 1",
                rest="missed trades by id", types=("market_trades",)),
        Channel("quotes", "quote", gap="sequence_num of the connection", types=("ticker",)),
        Channel("book", "depth", gap="sequence_num of the connection", types=("l2_data",)),
        Channel("status", "status", gap="sequence_num of the connection", types=("status",)),
    )  # fmt: skip
    NAMES: ClassVar[dict[str, str]] = {
        "trades": "market_trades", "quotes": "ticker", "book": "level2", "status": "status",
    }  # fmt: skip
    SOCKET = "wss://advanced-trade-ws.coinbase.com"
    EXCHANGE = "https://api.exchange.coinbase.com/products"
    """Of the same trades, with the same ids; this one has them by id."""
    PRODUCTS = "https://api.coinbase.com/api/v3/brokerage/market/products"

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self._last: dict[str, int] = {}

    def begin(self) -> Sequence[Request]:
        return [Request(self.PRODUCTS)]

    def connections(self) -> Sequence[Connection]:
        names, made = self.wanted(), []
        for at in range(0, len(names), GROUP):
            send = [self._subscribe(self.NAMES[c], names[at : at + GROUP]) for c in self.channels]
            send.append(self._subscribe("heartbeats", []))  # or it closes when nothing happens
            made.append(Connection(f"{self.NAME}.ws.{at // GROUP}", self.SOCKET, send))
        return made

    def connected(self, conn: str, ts_recv: int) -> None:
        self._last.pop(conn, None)

    def resync(self, native: str) -> None:
        for verb in ("unsubscribe", "subscribe"):
            self.replies.append((self.books[native].conn, self._subscribe("level2", [native], verb)))

    def _subscribe(self, channel: str, natives: list[str], verb: str = "subscribe") -> str:
        asked = {"type": verb, "channel": channel, "product_ids": natives}
        return msgspec.json.encode(asked).decode()

    def instrument(self, native: str) -> Instrument:
        match native.split("-"):
            case [base, quote] if base and quote:
                return spot(base, quote)
            case [base, "PERP", "INTX"] if base:
                return Instrument(currency(base), "USDC", "perp")
        return super().instrument(native)

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "/products" not in url:
            return super().answer(url, data, ts_recv)
        listed = msgspec.json.decode(data)["products"]
        self.enlist_all(listed, lambda e: (e["product_id"], self._listed(e)), ts_recv)
        return "instruments"

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        frame = _FRAME.decode(data)
        if frame.channel != "l2_data":
            return []
        return [e.product_id for e in _NAMED.decode(frame.events)]

    def _listed(self, each: dict[str, Any]) -> Instrument:
        tick, lot = given(each.get("price_increment", "")), given(each.get("base_increment", ""))
        more = each.get("future_product_details")
        if not more:
            return spot(each["base_currency_id"], each["quote_currency_id"], tick, lot)
        expiry = (more.get("contract_expiry") or "")[:10].replace("-", "")
        perpetual = more.get("contract_expiry_type") == "PERPETUAL"
        return Instrument(
            more.get("contract_root_unit") or each["base_currency_id"], each["quote_currency_id"],
            "perp" if perpetual else "future", "" if perpetual else expiry, tick_size=tick, lot_size=lot,
            multiplier=given(more.get("contract_size", "")),
        )  # fmt: skip

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        frame = _read(data)
        if frame.type == "error":
            self.sink.event("refused", ts_recv, f"{conn}: {frame.message}")
            return "error"
        self._follow(conn, frame.sequence_num, ts_recv)
        if frame.channel in self.IGNORED:
            return frame.channel
        if isinstance(frame, BookFrame):
            self._levels(frame.events, frame, conn, ts_recv)
            return frame.channel
        events = _EVENTS[frame.channel].decode(frame.events)
        if frame.channel == "market_trades":
            self._trades(events, frame.timestamp, ts_recv)
        elif frame.channel == "ticker":
            self._tickers([t for e in events for t in e.tickers], iso_ns(frame.timestamp), ts_recv)
        elif frame.channel == "l2_data":
            self._levels(events, frame, conn, ts_recv)
        else:
            ts_event = iso_ns(frame.timestamp)
            products = [p for e in events for p in e.products]
            rows = [(ts_event, {"instrument": self.code(p.id, ts_recv), "kind": "status",
                                "value": p.status[:12],
                                "reason": p.status_message.encode("ascii", "replace")[:12]})
                    for p in products if self._is_known(p.id)]  # fmt: skip
            self.sink.add_all("status", ts_recv, rows)
        return frame.channel

    def _is_known(self, native: str) -> bool:
        """Status tells of all products at once: only those that a list has, or that are heard of."""
        return native in self.known or native in self.directory.codes

    def _follow(self, conn: str, seq: int, ts_recv: int) -> None:
        if seq < 0:
            raise ValueError("a message without sequence_num")
        last = self._last.get(conn, seq - 1)
        self._last[conn] = seq
        if seq == last + 1:
            return
        first, until = last + 1, max(last + 1, seq - 1)
        self.sink.event("gap", ts_recv, f"{conn}: {seq} does not follow {last}", first=first, last=until)
        for book in self._books_of(conn):
            book.gap(ts_recv, f"{conn} misses messages", first, until)

    def _trades(self, events: list[Trades], sent: str, ts_recv: int) -> None:
        made = []
        for event in events:
            for t in event.trades:
                flags = 0 if event.type == "update" else self.history(t.product_id)
                price, size = number(t.price), amount(t.size)
                if not (price > 0 and size > 0):
                    raise ValueError(f"a trade of {t.size[:20]} at {t.price[:20]}")
                row = {"instrument": self.code(t.product_id, ts_recv), "trade_id": int(t.trade_id),
                       "price": price, "size": size, "action": "T", "flags": flags,
                       "side": "S" if t.side == "BUY" else "B"}  # fmt: skip
                made.append((t, event.type == "snapshot", (given_ns(t.time) or iso_ns(sent), row)))
        made.sort(key=lambda m: int(m[0].trade_id))  # the newest comes first
        self.sink.check("trade", ts_recv, [row for _, _, row in made])
        rows = [row for t, again, row in made
                if self.numbered(t.product_id, int(t.trade_id), ts_recv, again=again)]  # fmt: skip
        self.sink.add_all("trade", ts_recv, rows)

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        return Page(f"{self.EXCHANGE}/{native}/trades?limit=1000&after={last + 1}", 1000, "back")

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [
            Traded(t.trade_id, iso_ns(t.time),
                 {"trade_id": t.trade_id, "price": number(t.price), "size": amount(t.size),
                  "side": "S" if t.side == "buy" else "B"})
            for t in _PAST.decode(data)
        ]  # fmt: skip

    def _tickers(self, tickers: list[Ticker], ts_event: int, ts_recv: int) -> None:
        rows = []
        for t in tickers:
            given_now = (t.best_bid, t.best_bid_quantity, t.best_ask, t.best_ask_quantity)
            rows.append((ts_event, {"instrument": self.code(t.product_id, ts_recv),
                                    **sides(*map(given, given_now))}))  # fmt: skip
        self.sink.add_all("quote", ts_recv, rows)

    def _levels(self, events: list[Levels], frame: Head, conn: str, ts_recv: int) -> None:
        made = []
        for event in events:
            changes = Changes().sided(
                event.updates, b"side", b"bid", b"offer", b"price_level", b"new_quantity"
            )
            at = given_ns(_last_time(bytes(event.updates))) or iso_ns(frame.timestamp)
            made.append((event, changes, at, self.book(event.product_id, ts_recv, conn)))
        for event, changes, at, book in made:
            if event.type == "snapshot":
                book.snapshot(changes, at, ts_recv, frame.sequence_num)
            else:
                book.change(changes, at, ts_recv, last=frame.sequence_num)


def _read(data: bytes) -> Frame | BookFrame:
    if data.startswith(BOOK_HEAD):
        try:
            frame = _BOOK_FRAME.decode(data)
        except msgspec.MsgspecError:
            pass  # what is wrong is found when its number has been taken into account
        else:
            if frame.channel == "l2_data":
                return frame
    return _FRAME.decode(data)


def _last_time(updates: bytes) -> str:
    """The last event_time in the levels of an event; empty if there is none."""
    at = updates.rfind(_TIME)
    return updates[at + len(_TIME) :].partition(b'"')[0].decode() if at >= 0 else ""
