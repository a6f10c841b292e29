"""Independent Reserve: orders of a coin, with their prices in each currency they may be filled in.

    NewOrder, OrderChanged, OrderCanceled    of channel orderbook-COIN: order A, X (what is left, 0 where it
                  is filled), D; depth with `orders` and SYNTHETIC quotes, added up from them. Each
                  currency is an instrument, with a snapshot of its own over REST, whose orders are A with
                  Flag.SNAPSHOT; before it there are no rows
                  R: no order is left, before a snapshot and where messages were lost (STALE)
    Trade         of channel ticker-COIN-CURRENCY: trade; trade_id from TradeGuid
    Heartbeat, Subscriptions, Unsubscriptions    ignored

order_id is of 63 bits: both halves of the guid, XORed. Each channel numbers its messages (Nonce). A
snapshot tells its time, not its number: changes from a second before it are applied to it, which does no
harm, since an order is added once and taken away once. Source: "WebSockets" and "Public Methods" of
Independent Reserve's API documentation.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

import msgspec

from tickplant._core.changes import ASK, BID
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import amount, number
from tickplant.feed.orders import Change, Pair
from tickplant.feed.symbols import NAN, Instrument, spot
from tickplant.feed.times import iso_ns
from tickplant.feed.venue import Channel, Connection, Request, Venue
from tickplant.schema import Flag

MS_NS, OVERLAP_NS = 1_000_000, 1_000_000_000
ACTIONS = {"NewOrder": "A", "OrderChanged": "X", "OrderCanceled": "D"}
HALVES = {"LimitBid": BID, "LimitOffer": ASK, "MarketBid": BID, "MarketOffer": ASK}
SIDES = {"Buy": "B", "Sell": "S"}


class Frame(msgspec.Struct):
    Event: str
    Channel: str = ""
    Nonce: int = 0
    Time: int = 0
    Data: msgspec.Raw = msgspec.Raw(b"{}")


class Order(msgspec.Struct):
    OrderType: str
    OrderGuid: str
    Price: dict[str, Decimal] = {}
    Volume: Decimal | None = None


class Trade(msgspec.Struct):
    TradeGuid: str
    Price: Decimal
    Volume: Decimal
    Side: str = ""
    TradeDate: str = ""


class Old(msgspec.Struct):
    """A trade over REST."""

    TradeTimestampUtc: str
    TradeGuid: str
    SecondaryCurrencyTradePrice: Decimal
    PrimaryCurrencyAmount: Decimal
    Taker: str = ""


class Past(msgspec.Struct):
    Trades: list[Old]


class Resting(msgspec.Struct):
    Guid: str
    Price: Decimal
    Volume: Decimal


class Snapshot(msgspec.Struct):
    BuyOrders: list[Resting]
    SellOrders: list[Resting]
    CreatedTimestampUtc: str


_FRAME = msgspec.json.Decoder(Frame)
_ORDER, _TRADE = msgspec.json.Decoder(Order), msgspec.json.Decoder(Trade)
_PAST = msgspec.json.Decoder(Past)
_SNAPSHOT = msgspec.json.Decoder(Snapshot)


class IndependentReserve(Venue):
    """Spot."""

    REQUESTS_PER_S = 1.0
    NAME, VENUE, RECORDED = "independent-reserve", "INDRESERVE", ("INDEPENDENT_RESERVE",)
    IGNORED = frozenset({"Heartbeat", "Subscriptions", "Unsubscriptions"})
    CHANNELS: ClassVar[Sequence[Channel]] = (
        Channel("trades", "trade", gap="Nonce", rest="missed trades, of the last 50, by time"),
        Channel("orders", "order", gap="Nonce", rest="snapshot"),
        Channel("book", "depth", gap="Nonce", rest="snapshot"),
    )
    REST = "https://api.independentreserve.com/Public"

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self.coins: list[str] = []
        self.currencies: list[str] = []
        self.pairs: defaultdict[str, Pair] = defaultdict(Pair)
        self.nonces: dict[str, int] = {}
        """Of the last message, by channel."""

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/GetValid{kind}CurrencyCodes") for kind in ("Primary", "Secondary")]

    def connections(self) -> Sequence[Connection]:
        wanted = self.wanted()
        names = [f"ticker-{n}" for n in wanted] if "trades" in self.channels else []
        if {"orders", "book"} & set(self.channels):
            names += [f"orderbook-{c}" for c in dict.fromkeys(n.partition("-")[0] for n in wanted)]
        send = [json.dumps({"Event": "Subscribe", "Data": names})]
        return [Connection(f"{self.NAME}.ws", "wss://websockets.independentreserve.com", send)]

    def connected(self, conn: str, ts_recv: int) -> None:
        self.nonces.clear()
        for native in self.natives.get(conn) or self.wanted():
            self.resync(native)

    def lost(self, conn: str, ts_recv: int, cause: str) -> None:
        self.nonces.clear()
        for pair in self.pairs.values():
            pair.kept.clear()
        super().lost(conn, ts_recv, cause)

    def resync(self, native: str) -> None:
        coin, _, currency = native.partition("-")
        query = f"primaryCurrencyCode={coin}&secondaryCurrencyCode={currency}"
        self.requests.append(Request(f"{self.REST}/GetAllOrders?{query}", after_s=1.0))

    def instrument(self, native: str) -> Instrument:
        coin, dash, currency = native.partition("-")
        return spot(coin, currency) if coin and dash and currency else super().instrument(native)

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        _, found, query = url.partition("GetAllOrders?primaryCurrencyCode=")
        if found:
            self._snapshot(
                query.replace("&secondaryCurrencyCode=", "-").lower(), _SNAPSHOT.decode(data), ts_recv
            )
            return "depth snapshot"
        names = [n.lower() for n in msgspec.json.decode(data, type=list[str])]
        if "Primary" in url:
            self.coins = names
        elif "Secondary" in url:
            self.currencies = names
        else:
            return super().answer(url, data, ts_recv)
        pairs = [(f"{c}-{q}", spot(c, q)) for c in self.coins for q in self.currencies]
        self.enlist_all(pairs, lambda pair: pair, ts_recv)
        for native in filter(self.wants, self.known):
            self.pairs[native]  # from now on its changes are kept
        return "instruments"

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        kind, _, name = _FRAME.decode(data).Channel.partition("-")
        return [name] if kind == "ticker" else [n for n in self.books if n.partition("-")[0] == name]

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        m = _FRAME.decode(data)
        if m.Event in self.IGNORED:
            return m.Event
        if m.Event == "Error":
            self.sink.event("refused", ts_recv, bytes(m.Data).decode())
            return m.Event
        kind, _, name = m.Channel.partition("-")
        if m.Event == "Trade" and kind == "ticker":
            self._trade(name, m, _TRADE.decode(m.Data), ts_recv, conn)
        elif m.Event in ACTIONS and kind == "orderbook":
            self._order(name, m, _ORDER.decode(m.Data), ts_recv, conn)
        else:
            raise ValueError(f"{m.Event[:20]!r} of {m.Channel[:40]!r} is no event")
        return m.Event

    def _numbered(self, m: Frame, ts_recv: int, conn: str) -> bool:
        """Take note of a channel's number; False if it has been there already."""
        if not 0 <= m.Nonce < 1 << 62:
            raise ValueError(f"a message numbered {m.Nonce}")
        last = self.nonces.get(m.Channel, m.Nonce - 1)
        if m.Nonce <= last:
            self.sink.event("duplicate", ts_recv, f"{m.Channel}: {m.Nonce} after {last}", first=m.Nonce,
                            last=m.Nonce)  # fmt: skip
            return False
        self.nonces[m.Channel] = m.Nonce
        if m.Nonce != last + 1:
            self.sink.event("gap", ts_recv, f"{m.Channel}: {m.Nonce} after {last}", first=last + 1,
                            last=m.Nonce - 1)  # fmt: skip
            self.trades.interrupt(conn, m.Channel.removeprefix("ticker-"))
            coin = m.Channel.removeprefix("orderbook-")
            for native in [n for n in self.pairs if n.partition("-")[0] == coin]:
                self.pairs[native].kept.clear()
                self.book(native, ts_recv).gap(
                    ts_recv, f"Nonce {m.Nonce} after {last}", last + 1, m.Nonce - 1
                )
        return True

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        coin, _, currency = native.partition("-")
        query = f"primaryCurrencyCode={coin}&secondaryCurrencyCode={currency}"
        return Page(f"{self.REST}/GetRecentTrades?{query}&numberOfRecentTradesToRetrieve=50", 50)

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [
            _traded(iso_ns(t.TradeTimestampUtc), t.TradeGuid, t.SecondaryCurrencyTradePrice,
                    t.PrimaryCurrencyAmount, t.Taker)
            for t in _PAST.decode(data).Trades
        ]  # fmt: skip

    def _trade(self, native: str, m: Frame, t: Trade, ts_recv: int, conn: str) -> None:
        at = iso_ns(t.TradeDate) if t.TradeDate else m.Time * MS_NS
        made = _traded(at, t.TradeGuid, t.Price, t.Volume, t.Side)
        made.values["venue_seq"] = m.Nonce
        self.sink.check("trade", ts_recv, [(at, {**made.values, "instrument": self.code(native, ts_recv)})])
        if self._numbered(m, ts_recv, conn):
            self.traded([(native, made)], ts_recv, conn)

    def _order(self, coin: str, m: Frame, o: Order, ts_recv: int, conn: str) -> None:
        half, order_id, volume = HALVES[o.OrderType], short(o.OrderGuid), o.Volume or Decimal(0)
        amount(str(volume))
        if not 0 <= m.Time < 1 << 43 or (m.Event != "OrderCanceled" and o.Volume is None):
            raise ValueError("an order without a time or a volume")
        if m.Event == "NewOrder":
            for at in o.Price.values():
                number(str(at))
            natives = [f"{coin}-{currency.lower()}" for currency in o.Price]
        else:
            natives = [n for n in self.pairs if n.partition("-")[0] == coin]
        prices = {f"{coin}-{currency.lower()}": at for currency, at in o.Price.items()}
        for native in natives:
            self.instrument(native)
        if not self._numbered(m, ts_recv, conn):
            return
        for native in natives:
            if self.wants(native):
                change = Change(ACTIONS[m.Event], half, order_id, prices.get(native, Decimal(0)), volume,
                                m.Time * MS_NS, m.Nonce)  # fmt: skip
                self._change(native, change, ts_recv)

    def _change(self, native: str, c: Change, ts_recv: int) -> None:
        pair, book = self.pairs[native], self.book(native, ts_recv)
        if not book.live:
            pair.kept.append(c)
            return
        had = pair.orders.get(c.order_id)
        level = pair.apply(c)
        if c.action == "A" and level is None:
            return
        at, flags = (float(had[1]), 0) if had else (float(c.price), 0) if level else (NAN, Flag.ORPHAN)
        self._row(c, at, flags, ts_recv, book.code)
        if level:
            self.changes.clear().add(level[0], str(level[1]), str(level[2]), level[3])
            book.change(self.changes, c.ts_event, ts_recv, first=c.nonce, last=c.nonce)

    def _row(self, c: Change, at: float, flags: int, ts_recv: int, code: int) -> None:
        self.sink.add("order", c.ts_event, ts_recv, instrument=code, venue_seq=c.nonce, order_id=c.order_id,
                      price=at, size=0 if c.action == "D" else float(c.volume), side="BS"[c.half],
                      action=c.action, flags=flags)  # fmt: skip

    def _snapshot(self, native: str, m: Snapshot, ts_recv: int) -> None:
        created, fresh = iso_ns(m.CreatedTimestampUtc), Pair()
        whole = [Change("A", half, short(o.Guid), o.Price, o.Volume, created, 0)
                 for half, orders in ((BID, m.BuyOrders), (ASK, m.SellOrders)) for o in orders]  # fmt: skip
        for c in whole:
            number(str(c.price))
            amount(str(c.volume))
        whole = [c for c in whole if fresh.apply(c)]
        self.changes.clear()
        for (half, at), (volume, orders) in fresh.levels.items():
            self.changes.add(half, str(at), str(volume), orders)
        book, kept = self.book(native, ts_recv), self.pairs[native].kept
        self.pairs[native] = fresh
        book.by_order = True
        self.sink.add("order", created, ts_recv, instrument=book.code, action="R", flags=Flag.SNAPSHOT)
        for c in whole:
            self._row(c, float(c.price), Flag.SNAPSHOT, ts_recv, book.code)
        book.snapshot(self.changes, created, ts_recv)
        for c in kept:
            if c.ts_event > created - OVERLAP_NS and ((c.action == "A") is not (c.order_id in fresh.orders)):
                self._change(native, c, ts_recv)


def _traded(at: int, guid: str, price: Decimal, volume: Decimal, side: str) -> Traded:
    """Its number is its time: guids have no order."""
    values = {"price": number(str(price)), "size": amount(str(volume)), "side": SIDES.get(side, ""),
              "trade_id": short(guid)}  # fmt: skip
    return Traded(at, at, values, key=guid)


def short(guid: str) -> int:
    """63 bits of a guid. Raises ValueError if it is none."""
    whole = UUID(guid).int
    return (whole >> 64 ^ whole) & (1 << 63) - 1
