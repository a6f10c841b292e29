"""Bybit: spot, linear and inverse contracts, over API v5.

    publicTrade         trade; S is the aggressor's side; venue_seq is seq, trade_id i where that is a number;
                        condition BT: block trade, RPI: against retail price improvement
    tickers             quote (contracts), and status funding: level_1 mark price, level_2 index price,
                        level_3 funding rate. Changes are merged into the last whole one
    orderbook.1         quote
    orderbook.rpi       depth, without orders of retail price improvement, where nothing better is there
    orderbook.N         depth, and SYNTHETIC quotes: u is one above the last; a snapshot, as after a restart
                        of the service (u = 1), begins anew
    system.status       status system: the state of a maintenance
    kline, liquidations, price limits, insurance pools, leveraged tokens: ignored

Of several books of an instrument the deepest is followed.

A name stands for different instruments in spot and in contracts; here it has its category before it, as in
linear/BTCUSDT. Which category a connection is of, its address tells.

Source: "WebSocket Stream > Public" and "Market > Get Instruments Info" of the v5 documentation.
"""

import calendar
import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from tickplant.feed.book import Rule
from tickplant.feed.holes import Page, Traded
from tickplant.feed.numbers import NAN, amount, given, number, sides
from tickplant.feed.symbols import Instrument, currency, ends, spot
from tickplant.feed.times import MS_NS, day_month_year, ms_date
from tickplant.feed.venue import OTHER_BOOK, Channel, Connection, Request, Venue

MONTHS = "FGHJKMNQUVXZ"
"""January to December, as futures have them."""
_INVERSE = re.compile(r"([A-Z0-9]+?)USD(?:([FGHJKMNQUVXZ])(\d\d))?", re.ASCII)
CATEGORIES = ("spot", "linear", "inverse")
GROUP, ARGS = 50, 10
"""Instruments of one connection, topics of one message."""
DEPTH = 200
_CONDITIONS = {(False, False): "", (True, False): "BT", (False, True): "RPI", (True, True): "BT+RPI"}


class Trade(msgspec.Struct):
    T: int
    s: str
    S: Literal["Buy", "Sell"]
    v: str
    p: str
    i: str
    seq: int = 0
    BT: bool = False
    RPI: bool = False


class Old(msgspec.Struct):
    """A trade over REST."""

    execId: str
    price: str
    size: str
    side: Literal["Buy", "Sell"]
    time: str
    seq: str
    isBlockTrade: bool = False
    isRPITrade: bool = False


class Listed(msgspec.Struct):
    list: list[Old]


class Answer(msgspec.Struct):
    result: Listed


class Ticker(msgspec.Struct):
    symbol: str
    bid1Price: str | None = None
    bid1Size: str | None = None
    ask1Price: str | None = None
    ask1Size: str | None = None
    markPrice: str | None = None
    indexPrice: str | None = None
    fundingRate: str | None = None


class Depth(msgspec.Struct):
    s: str
    b: msgspec.Raw
    a: msgspec.Raw
    u: int


class Frame(msgspec.Struct):
    topic: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    ts: int = 0
    cts: int = 0
    cs: int = 0
    op: str = ""
    success: bool = True
    ret_msg: str = ""


class System(msgspec.Struct):
    state: str


QUOTE = ("bid1Price", "bid1Size", "ask1Price", "ask1Size")
FUNDING = ("markPrice", "indexPrice", "fundingRate")
_FRAME = msgspec.json.Decoder(Frame)
_PAST = msgspec.json.Decoder(Answer)
_TRADES = msgspec.json.Decoder(list[Trade])
_TICKER = msgspec.json.Decoder(Ticker)
_DEPTH = msgspec.json.Decoder(Depth)
_SYSTEM = msgspec.json.Decoder(list[System])
_LEVELS = msgspec.json.Decoder(list[tuple[str, str]])


class Bybit(Venue):
    """Spot, linear and inverse."""

    NAME, VENUE, RECORDED = "bybit", "BYBIT", ("BYBIT",)
    IGNORED = frozenset({"kline", "liquidation", "allLiquidation", "response", "priceLimit", "insurance",
                         "adlAlert", "lt", "kline_lt", "tickers_lt"})  # fmt: skip
    CONNECTS_PER_S = 1.5
    """500 in five minutes are allowed."""
    RULE = Rule.STEP
    QUOTES = ("USDT", "USDC", "USDE", "BTC", "ETH", "EUR", "BRL", "TRY", "PLN", "DAI", "MNT", "SOL")
    CHANNELS = (
        Channel("trades", "trade", rest="missed trades after a loss, of the last 60 (spot), 1,000"),
        Channel("quotes", "quote", types=("orderbook",), silence_s=30),
        Channel("book", "depth", gap="u = last u + 1"),
        Channel("funding", "status"),
    )
    SOCKET, REST = "wss://stream.bybit.com/v5/public", "https://api.bybit.com/v5/market"
    NAMES: ClassVar[dict[str, str]] = {
        "trades": "publicTrade",
        "book": f"orderbook.{DEPTH}",
        "funding": "tickers",
    }

    def __init__(self, symbols: Iterable[str] = (), channels: Iterable[str] = ()) -> None:
        super().__init__(symbols, channels)
        self._tickers: dict[tuple[str, str], Ticker] = {}
        self._tops: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def begin(self) -> Sequence[Request]:
        return [Request(f"{self.REST}/instruments-info?category={each}&limit=1000") for each in CATEGORIES]

    def connections(self) -> Sequence[Connection]:
        made = []
        for category in CATEGORIES:
            names = [n.partition("/")[2] for n in self.wanted() if n.startswith(f"{category}/")]
            names_of = {c: self.NAMES.get(c, "orderbook.1") for c in self.channels}
            if category == "spot":
                names_of.pop("funding", None)
            for at in range(0, len(names), GROUP):
                topics = [f"{c}.{n}" for c in names_of.values() for n in names[at : at + GROUP]]
                send = [_ask("subscribe", topics[i : i + ARGS]) for i in range(0, len(topics), ARGS)]
                conn = f"{self.NAME}.{category}.{at // GROUP}"
                made.append(Connection(conn, f"{self.SOCKET}/{category}", send, '{"op":"ping"}'))
        return made

    def connected(self, conn: str, ts_recv: int) -> None:
        self._tickers = {key: kept for key, kept in self._tickers.items() if key[0] != conn}
        self._tops = {key: kept for key, kept in self._tops.items() if key[0] != conn}

    def resync(self, native: str) -> None:
        topic = f"orderbook.{DEPTH}.{native.partition('/')[2]}"
        for verb in ("unsubscribe", "subscribe"):
            self.replies.append((self.books[native].conn, _ask(verb, [topic])))

    def category(self, conn: str) -> str:
        """What a connection is for. Raises ValueError if its name and address do not tell."""
        where = self.urls.get(conn, conn)
        for each in CATEGORIES:
            if each in where:
                return each
        raise ValueError(f"{where} is of no category")

    def answer(self, url: str, data: bytes, ts_recv: int) -> str:
        if "/instruments-info" not in url:
            return super().answer(url, data, ts_recv)
        result = msgspec.json.decode(data)["result"]
        category = result["category"]
        self.enlist_all(result["list"], lambda e: (f"{category}/{e['symbol']}", _listed(e)), ts_recv)
        if cursor := result.get("nextPageCursor"):
            begin = f"{self.REST}/instruments-info?category={result['category']}&limit=1000"
            self.requests.append(Request(f"{begin}&cursor={cursor}"))
        return "instruments"

    def instrument(self, native: str) -> Instrument:
        category, _, name = native.partition("/")
        made = {"spot": self._pair, "linear": _linear, "inverse": _inverse}.get(category)
        if made is None:
            raise ValueError(f"{category[:20]!r} is no category")
        return made(name)

    def _pair(self, name: str) -> Instrument:
        return spot(*ends(name, self.QUOTES))

    def names(self, conn: str, data: bytes) -> Iterable[str]:
        kind, _, rest = _FRAME.decode(data).topic.partition(".")
        known = rest and kind in ("publicTrade", "tickers", "orderbook")
        return [f"{self.category(conn)}/{rest.rpartition('.')[2]}"] if known else []

    def frame(self, conn: str, data: bytes, ts_recv: int) -> str:
        frame = _FRAME.decode(data)
        if not frame.topic:
            if not frame.op:
                raise ValueError("a message of no topic")
            if not frame.success:
                self.sink.event("refused", ts_recv, f"{conn}: {frame.ret_msg}")
            return "response" if frame.success else "error"
        kind, _, rest = frame.topic.partition(".")
        if kind in self.IGNORED:
            return kind
        if frame.topic == "system.status":
            rows = [(frame.ts * MS_NS, {"kind": "system", "value": m.state[:12]})
                    for m in _SYSTEM.decode(frame.data)]  # fmt: skip
            self.sink.add_all("status", ts_recv, rows)
            return "system.status"
        if frame.type not in ("snapshot", "delta"):
            raise ValueError(f"a message of type {frame.type!r}")
        if kind == "publicTrade":
            self._trades(_TRADES.decode(frame.data), conn, ts_recv)
        elif kind == "tickers":
            self._ticker(_TICKER.decode(frame.data), frame, conn, ts_recv)
        elif kind == "orderbook" and rest.startswith("1."):
            self._top(_DEPTH.decode(frame.data), frame, conn, ts_recv)
        elif kind == "orderbook":
            return self._depth(_DEPTH.decode(frame.data), frame, rest.partition(".")[0], conn, ts_recv)
        else:
            raise ValueError(f"a message of topic {frame.topic!r}")
        return kind

    def page(self, series: str, native: str, first: int, last: int) -> Page:
        category, _, symbol = native.partition("/")
        limit = 60 if category == "spot" else 1000
        return Page(f"{self.REST}/recent-trade?category={category}&symbol={symbol}&limit={limit}", limit)

    def past(self, native: str, data: bytes) -> list[Traded]:
        return [
            _traded(int(t.seq), int(t.time), t.execId, t.price, t.size, t.side, t.isBlockTrade, t.isRPITrade)
            for t in _PAST.decode(data).result.list
        ]

    def _trades(self, trades: list[Trade], conn: str, ts_recv: int) -> None:
        category = self.category(conn)
        made = [(f"{category}/{t.s}", _traded(t.seq, t.T, t.i, t.p, t.v, t.S, t.BT, t.RPI)) for t in trades]
        self.traded(made, ts_recv, conn)

    def _ticker(self, new: Ticker, frame: Frame, conn: str, ts_recv: int) -> None:
        native = f"{self.category(conn)}/{new.symbol}"
        code, old = self.code(native, ts_recv), self._tickers.get((conn, native))
        given_now = {n: v for n in QUOTE + FUNDING if (v := getattr(new, n)) is not None}
        if frame.type == "delta" and old is not None:
            new = msgspec.structs.replace(old, **given_now)
        said: dict[str, Any] = {"instrument": code, "venue_seq": frame.cs}
        quote, funding = [getattr(new, n) for n in QUOTE], [getattr(new, n) for n in FUNDING]
        at = frame.ts * MS_NS
        rows: list[tuple[str, dict[str, Any]]] = []
        if None not in quote and not given_now.keys().isdisjoint(QUOTE):
            price, size, ask, ask_size = (given(v) for v in quote)
            rows.append(("quote", said | sides(price, size, ask, ask_size)))
        if None not in funding and not given_now.keys().isdisjoint(FUNDING):
            levels = {f"level_{i}": given(v) for i, v in enumerate(funding, 1)}
            rows.append(("status", said | {"kind": "funding"} | levels))
        for table, row in rows:
            self.sink.add(table, at, ts_recv, **row)
        self._tickers[conn, native] = new

    def _top(self, m: Depth, frame: Frame, conn: str, ts_recv: int) -> None:
        native = f"{self.category(conn)}/{m.s}"
        before = (
            self._tops.get((conn, native), [(NAN, 0.0)] * 2) if frame.type == "delta" else [(NAN, 0.0)] * 2
        )
        now = []
        for (best, best_size), raw in zip(before, (m.b, m.a), strict=True):
            for price, size in _LEVELS.decode(raw):
                if amount(size):
                    best, best_size = number(price), amount(size)
                elif number(price) == best:
                    best, best_size = NAN, 0.0
            now.append((best, best_size))
        code = self.code(native, ts_recv)
        self.sink.add(
            "quote", frame.ts * MS_NS, ts_recv, instrument=code, venue_seq=m.u, **sides(*now[0], *now[1])
        )
        self._tops[conn, native] = now

    def _depth(self, m: Depth, frame: Frame, depth: str, conn: str, ts_recv: int) -> str:
        native, changes = f"{self.category(conn)}/{m.s}", self.changes.halves(m.b, m.a)
        if not self.follows(native, f"orderbook.{depth}", ts_recv, 0 if depth == "rpi" else int(depth)):
            return OTHER_BOOK
        book = self.book(native, ts_recv, conn)
        if frame.type == "snapshot":
            book.snapshot(changes, frame.ts * MS_NS, ts_recv, m.u, in_order=True)
        else:
            book.change(changes, frame.ts * MS_NS, ts_recv, first=m.u, last=m.u)
        return "orderbook"


def _ask(verb: str, topics: list[str]) -> str:
    return msgspec.json.encode({"op": verb, "args": topics}).decode()


def _traded(seq: int, ms: int, name: str, price: str, size: str, side: str, bt: bool, rpi: bool) -> Traded:
    values = {"venue_seq": seq, "trade_id": int(name) if name.isdecimal() else 0, "price": number(price),
              "size": amount(size), "side": side[0], "condition": _CONDITIONS[bt, rpi]}  # fmt: skip
    return Traded(seq, ms * MS_NS, values, key=name)


def _linear(name: str) -> Instrument:
    """BTCUSDT, BTCPERP (in USDC); BTCUSDT-27JUN25, BTC-27JUN25 (in USDC)."""
    pair, dash, expiry = name.partition("-")
    if dash and not pair.endswith(("USDT", "USDC")):
        base, quote = pair, "USDC"
    elif not dash and pair.endswith("PERP") and len(pair) > 4:
        base, quote = pair.removesuffix("PERP"), "USDC"
    else:
        base, quote = ends(pair, ("USDT", "USDC", "USD"))
    kind, day = ("future", day_month_year(expiry)) if dash else ("perp", "")
    return Instrument(currency(base), quote, kind, day)


def _inverse(name: str) -> Instrument:
    """BTCUSD; BTCUSDM24, which ends on the last Friday of June 2024."""
    found = _INVERSE.fullmatch(name)
    if found is None:
        raise ValueError("it is not of the form BTCUSD or BTCUSDM24")
    base, month, year = found.groups(default="")
    if not month:
        return Instrument(currency(base), "USD", "perp")
    days = calendar.monthcalendar(2000 + int(year), MONTHS.index(month) + 1)
    day = max(week[calendar.FRIDAY] for week in days)
    return Instrument(currency(base), "USD", "future", f"20{year}{MONTHS.index(month) + 1:02}{day:02}")


def _listed(each: dict[str, Any]) -> Instrument:
    kind = each.get("contractType", "")
    expiry = ms_date(int(each["deliveryTime"])) if kind.endswith("Futures") else ""
    lot = each["lotSizeFilter"]
    return Instrument(
        currency(each["baseCoin"]), currency(each["quoteCoin"]),
        "future" if expiry else "perp" if kind else "spot", expiry,
        tick_size=given(each["priceFilter"]["tickSize"]),
        lot_size=given(lot.get("qtyStep") or lot.get("basePrecision") or ""),
    )  # fmt: skip
