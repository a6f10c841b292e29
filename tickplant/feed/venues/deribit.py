"""Deribit: options, futures, perpetuals and spot.

    trades             trade; direction is the aggressor's; venue_seq is trade_seq, which has no holes
    quote, ticker      quote; ticker is a row of status too: funding of perpetuals, mark of the others
                       (level_1 mark price, level_2 index price, level_3 funding rate), value its state
    book               depth, and SYNTHETIC quotes; each names the one before (prev_change_id)
                       group.N levels: all of them each time. Of several books of an instrument the one
                       of all changes (raw, 100ms) is followed, before those of few levels
    instrument.state   status state; what is new is looked up
    platform_state     status system: maintenance, or online
    prices of indices, volatility, charts and the like: ignored

Options are priced in the coin. Heartbeats that ask for an answer are answered.

Source: "Subscriptions" and "Market data" of the API v2 documentation.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from tickplant.feed.book import Rule
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import number, or_nan, sides
from tickplant.feed.symbols import Instrument, currency, spot
from tickplant.feed.times import MS_NS, day_month_year, ms_date
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue

GROUP = 200
"""Instruments of one connection; the venue takes 500 channels."""


class Trade(msgspec.Struct):
    instrument_name: str
    trade_seq: int
    trade_id: str
    timestamp: int
    price: float
    amount: float
    direction: Literal["buy", "sell"]
    liquidation: str = ""
    block_trade_id: str | None = None


class Quote(msgspec.Struct):
    instrument_name: str
    timestamp: int
    best_bid_price: float | None
    best_bid_amount: float
    best_ask_price: float | None
    best_ask_amount: float
    mark_price: float | None = None
    index_price: float | None = None
    current_funding: float | None = None
    state: str = ""


class Depth(msgspec.Struct):
    type: Literal["snapshot", "change"]
    instrument_name: str
    timestamp: int
    change_id: int
    bids: msgspec.Raw
    asks: msgspec.Raw
    prev_change_id: int = -1


class Grouped(msgspec.Struct):
    instrument_name: str
    timestamp: int
    change_id: int
    bids: msgspec.Raw
    asks: msgspec.Raw


class Platform(msgspec.Struct):
    maintenance: bool | None = None


class State(msgspec.Struct):
    instrument_name: str
    timestamp: int
    state: str


class Trades(msgspec.Struct):
    trades: list[Trade]


class Answer(msgspec.Struct):
    result: Trades


class Params(msgspec.Struct):
    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")


class Frame(msgspec.Struct):
    method: str = ""
    params: Params | None = None
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: dict[str, Any] | None = None


_DELETE = re.compile(rb'(\[\s*"delete"\s*,[^,\]]+),[^\]]+\]')
"""A level that goes, whatever its amount is."""
_PAST = msgspec.json.Decoder(Answer)
_FRAME = msgspec.json.Decoder(Frame)
_KINDS: dict[str, msgspec.json.Decoder[Any]] = {
    "trades": msgspec.json.Decoder(list[Trade]),
    "quote": msgspec.json.Decoder(Quote),
    "ticker": msgspec.json.Decoder(Quote),
    "book": msgspec.json.Decoder(Depth),
    "instrument": msgspec.json.Decoder(State),
    "platform_state": msgspec.json.Decoder(Platform),
}
_GROUPED = msgspec.json.Decoder(Grouped)
INTERVALS = {"raw": 10_003, "agg2": 10_002, "100ms": 10_001}
"""Books of all changes; of several, the one with the highest number is followed."""
SILENT = frozenset({
    "deribit_price_index", "deribit_price_ranking", "deribit_price_statistics", "deribit_volatility_index",
    "estimated_expiration_price", "markprice", "perpetual", "chart", "incremental_ticker", "rfq",
    "block_rfq", "block_trade_confirmations",
})  # fmt: skip
"""Channels that say nothing for any table."""


class Deribit(Venue):
    """The public subscriptions."""

    NAME, VENUE, RECORDED = "deribit", "DERIBIT", ("DERIBIT",)
    IGNORED = SILENT | {"response", "heartbeat"}
    SUBSCRIPTIONS_PER_S = 3.0
    RULE = Rule.CHAIN
    CHANNELS = (
        Channel("trades", "trade", gap="trade_seq = last + 1", rest="missed trades by number"),
        Channel("quotes", "quote"),
        Channel("book", "depth", gap="prev_change_id = last change_id"),
        Channel("funding", "status"),
        Channel("status", "status"),
    )
    NAMES: ClassVar[dict[str, str]] = {
        "trades": "trades.{}.100ms", "quotes": "quote.{}", "book": "book.{}.100ms",
        "funding": "ticker.{}.100ms",
    }  # fmt: skip
    SOCKET, REST = "wss://www.deribit.com/ws/api/v2", "https://www.deribit.com/api/v2/public"

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/get_instruments?currency=any&expired=false")]

    def connections(self) -> Sequence[Connection]:
        names, made = self.wanted(), []
        for at in range(0, len(names), GROUP):
            channels = [self.NAMES[c].format(n) for c in self.channels if c in self.NAMES
                        for n in names[at : at + GROUP]]  # fmt: skip
            if "status" in self.channels and at == 0:
                channels.append("instrument.state.any.any")
            send = [_ask("public/set_heartbeat", interval=30)]
            send += [
                _ask("public/subscribe", channels=channels[i : i + 100]) for i in range(0, len(channels), 100)
            ]
            made.append(Connection(f"{self.NAME}.ws.{at // GROUP}", self.SOCKET, send))
        return made

    def resync(self, native: str) -> None:
        channels = [self.NAMES["book"].format(native)]
        for verb in ("unsubscribe", "subscribe"):
            self.replies.append((self.books[native].conn, _ask(f"public/{verb}", channels=channels)))

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "/get_instrument" not in url:
            return super().answer(url, data, ts_recv)
        result = msgspec.json.decode(data)["result"]
        self.enlist_all(result if isinstance(result, list) else [result], _entry, ts_recv)
        return "instruments"

    def instrument(self, native: str) -> Instrument:
        pair, *rest = native.split("-")
        base, linear, quote = pair.partition("_")
        base, quote = currency(base), currency(quote) or "USD"
        if not base or (linear and not pair.rpartition("_")[2]):
            raise ValueError("it has no coin")
        priced = quote if linear else base
        match rest:
            case [] if linear:
                return spot(base, quote)
            case ["PERPETUAL"]:
                return Instrument(base, quote, "perp")
            case [day]:
                return Instrument(base, quote, "future", day_month_year(day))
            case [day, strike, "C" | "P" as right]:
                at = strike.replace("d", ".")  # 0d5 is 0.5
                number(at)
                return Instrument(base, quote, "option", day_month_year(day), at, right, priced=priced)
        raise ValueError("it is of no form that is known")

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        params = _FRAME.decode(data).params
        kind, _, rest = (params.channel if params else "").partition(".")
        name = rest.partition(".")[0]
        one = "-" in name or "_" in name.removesuffix("_combo")  # else a kind of instruments, or any
        return [name] if one and kind in _KINDS else []

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        frame = _FRAME.decode(data)
        if frame.error is not None:
            self.sink.event("refused", ts_recv, f"{conn}: {frame.error.get('message')}")
            return "error"
        if frame.method == "heartbeat" and frame.params is not None:
            if frame.params.type == "test_request":
                self.pongs.append((conn, _ask("public/test")))
            return "heartbeat"
        if frame.params is None or frame.method != "subscription":
            if frame.id is None or not frame.result:
                raise ValueError("neither an answer nor of a subscription")
            return "response"
        channel = frame.params.channel
        kind = channel.partition(".")[0]
        if kind in SILENT:
            return kind
        if kind == "book" and channel.count(".") > 2:
            return self._grouped(_GROUPED.decode(frame.params.data), channel, conn, ts_recv)
        m = _KINDS[kind].decode(frame.params.data)
        if kind == "trades":
            self._trades(m, ts_recv)
        elif kind == "book":
            return self._depth(m, channel.rpartition(".")[2], conn, ts_recv)
        elif kind == "platform_state":
            self._platform(m, ts_recv)
        elif kind == "instrument":
            self._state(m, ts_recv)
        else:
            self._quote(m, kind, ts_recv)
        return kind

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        query = f"instrument_name={native}&start_seq={first}&end_seq={last}&count=1000&sorting=asc"
        return Page(f"{self.REST}/get_last_trades_by_instrument?{query}", 1000, "forward")

    def past(self, native: str, data: bytes) -> list[Traded]:
        trades = _PAST.decode(data).result.trades
        return [Traded(t.trade_seq, t.timestamp * MS_NS, _traded(t)) for t in trades]

    def _trades(self, trades: list[Trade], ts_recv: int) -> None:
        made = []
        for t in sorted(trades, key=lambda t: t.trade_seq):
            row = {"instrument": self.code(t.instrument_name, ts_recv), "action": "T", **_traded(t)}
            made.append((t, (t.timestamp * MS_NS, row)))
        self.sink.check("trade", ts_recv, [row for _, row in made])
        new = [row for t, row in made if self.numbered(t.instrument_name, t.trade_seq, ts_recv)]
        self.sink.add_all("trade", ts_recv, new)

    def _quote(self, q: Quote, kind: str, ts_recv: int) -> None:
        code = self.code(q.instrument_name, ts_recv)
        best = sides(q.best_bid_price, q.best_bid_amount, q.best_ask_price, q.best_ask_amount)
        quote = {"instrument": code, **best}
        self.sink.check("quote", ts_recv, [(q.timestamp * MS_NS, quote)])
        if kind == "ticker":
            what = "mark" if q.current_funding is None else "funding"
            self.sink.add("status", q.timestamp * MS_NS, ts_recv, instrument=code, kind=what,
                          value=q.state[:12], level_1=or_nan(q.mark_price), level_2=or_nan(q.index_price),
                          level_3=or_nan(q.current_funding))  # fmt: skip
        self.sink.add("quote", q.timestamp * MS_NS, ts_recv, **quote)

    def _platform(self, m: Platform, ts_recv: int) -> None:
        if m.maintenance is not None:
            value = "maintenance" if m.maintenance else "online"
            self.sink.add("status", 0, ts_recv, kind="system", value=value)

    def _grouped(self, m: Grouped, channel: str, conn: str, ts_recv: int) -> str:
        """The best levels, with prices put together, all of them each time."""
        _, _, group, depth, _ = channel.split(".")
        changes = self.changes.halves(m.bids, m.asks)
        rank = int(depth) + (1000 if group == "none" else 0)
        if not self.follows(m.instrument_name, f"book of {depth} levels, {group}", ts_recv, rank):
            return OTHER_BOOK
        book = self.book(m.instrument_name, ts_recv, conn)
        book.follow(Rule.NONE)
        book.snapshot(changes, m.timestamp * MS_NS, ts_recv, m.change_id, in_order=True)
        return "book"

    def _depth(self, m: Depth, interval: str, conn: str, ts_recv: int) -> str:
        bids, asks = (_DELETE.sub(rb"\1,0]", bytes(raw)) for raw in (m.bids, m.asks))
        changes = self.changes.halves(bids, asks, 1, 2)
        if not self.follows(m.instrument_name, f"book by {interval}", ts_recv, INTERVALS[interval]):
            return OTHER_BOOK
        book, at = self.book(m.instrument_name, ts_recv, conn), m.timestamp * MS_NS
        if m.type == "snapshot":
            book.snapshot(changes, at, ts_recv, m.change_id, in_order=True)
        else:
            book.change(changes, at, ts_recv, last=m.change_id, prev=m.prev_change_id)
        return "book"

    def _state(self, m: State, ts_recv: int) -> None:
        code = self.code(m.instrument_name, ts_recv)
        self.sink.add(
            "status", m.timestamp * MS_NS, ts_recv, instrument=code, kind="state", value=m.state[:12]
        )
        if m.instrument_name not in self.known and m.state in ("created", "started"):
            self.requests.append(Request(f"{self.REST}/get_instrument?instrument_name={m.instrument_name}"))


def _ask(method: str, **params: Any) -> str:
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return msgspec.json.encode(asked).decode()


def _traded(t: Trade) -> dict[str, Any]:
    if not (t.amount > 0 and t.price):  # prices of combinations may be below 0
        raise ValueError(f"a trade of {t.amount} at {t.price}")
    return {"venue_seq": t.trade_seq, "trade_id": int(t.trade_id.rpartition("-")[2]), "price": t.price,
            "size": t.amount, "side": "B" if t.direction == "buy" else "S",
            "condition": "BLOCK" if t.block_trade_id else "LIQ" if t.liquidation else ""}  # fmt: skip


def _entry(each: dict[str, Any]) -> tuple[str, Instrument] | None:
    known = each["kind"] in ("option", "future", "spot")  # and combinations
    return (each["instrument_name"], _listed(each)) if known else None


def _listed(each: dict[str, Any]) -> Instrument:
    base, priced = currency(each["base_currency"]), currency(each["quote_currency"])
    quote = currency(each.get("counter_currency") or ("USD" if priced == base else priced))
    perpetual = each.get("settlement_period") == "perpetual"
    kind = "perp" if perpetual else each["kind"]
    strike = each.get("strike") or 0.0
    return Instrument(
        base, quote, kind, ms_date(each["expiration_timestamp"]) if kind in ("future", "option") else "",
        f"{strike:.10f}".rstrip("0").rstrip(".") if kind == "option" else "",
        each["option_type"][0].upper() if kind == "option" else "",
        tick_size=float(each["tick_size"]), lot_size=float(each["min_trade_amount"]),
        multiplier=float(each["contract_size"]), priced=priced,
    )  # fmt: skip
