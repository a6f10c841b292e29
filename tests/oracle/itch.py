"""What the ITCH decoder must give, said a second time: slowly, in plain Python, with dictionaries.

No code and no structure is shared with the native decoder: books are dictionaries of price to
shares, the best price is their maximum or minimum, and a file is looked at as a whole.
"""

import math
import struct
from typing import Any

LAYOUTS = {
    "S": "c",
    "R": "8sccIcc2scccccIc",
    "H": "8scc4s",
    "Y": "8sc",
    "L": "4s8sccc",
    "V": "QQQ",
    "W": "c",
    "K": "8sIcI",
    "J": "8sIIII",
    "h": "8scc",
    "A": "QcI8sI",
    "F": "QcI8sI4s",
    "E": "QIQ",
    "C": "QIQcI",
    "X": "QI",
    "D": "Q",
    "U": "QQII",
    "P": "QcI8sIQ",
    "Q": "Q8sIQc",
    "B": "Q",
    "I": "QQc8sIIIcc",
    "N": "8sc",
    "O": "8scIIIQII",
}
STOCK_FIELD = {"L": 1, "A": 3, "F": 3, "P": 3, "Q": 1, "I": 3} | dict.fromkeys("RHYKJhNO", 0)
WHOLE_MARKET = "SVW"
CORRECTION, NON_PRINTABLE, HIDDEN, CROSS, SYNTHETIC, ORPHAN = 4, 8, 16, 32, 64, 128
TABLES = ("instrument", "event", "status", "order", "trade", "quote", "imbalance")
PRINTS = 65536


def signed(number: int) -> int:
    """The 64 bits of an unsigned number as a signed one."""
    return number - (1 << 64) if number >= 1 << 63 else number


class Oracle:
    """Decodes a whole file at once; `rows[table]` are tuples in the order of the columns."""

    def __init__(self, midnight: int, ts_recv: int = 0) -> None:
        self.midnight, self.ts_recv = midnight, ts_recv
        self.ts_event = midnight
        self.rows: dict[str, list[tuple[Any, ...]]] = {t: [] for t in TABLES}
        self.counts: dict[str, int] = {}
        self.malformed = self.seq = 0
        self.damaged = False
        self.defined: set[int] = set()
        self.numbered: set[int] = set()
        self.orders: dict[int, dict[str, Any]] = {}
        self.quoted: dict[int, tuple[int, int, int, int]] = {}
        self.books: dict[int, dict[str, dict[int, int]]] = {}
        self.prints: dict[int, tuple[int, int, int]] = {}

    def decode(self, data: bytes) -> "Oracle":
        at = 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 2], "big")
            if at + 2 > len(data) or at + 2 + length > len(data):
                self.cut(at, len(data) - 1, "the file ends inside a message")
                break
            if length == 0:
                if at + 2 < len(data):
                    text = "a message of length 0 ends the session, but the file goes on"
                    self.cut(at, at + 1, text)
                break
            self.message(at, data[at + 2 : at + 2 + length])
            at += 2 + length
        return self

    def cut(self, first: int, last: int, text: str) -> None:
        self.damaged = True
        self.code = self.flags = 0
        self.event("truncated", first, last, text)

    def row(self, table: str, *fields: Any, flags: int = 0, code: int | None = None) -> None:
        code = self.code if code is None else code
        self.rows[table].append((self.ts_event, self.ts_recv, 0, code, 0, flags, *fields))

    def event(self, kind: str, first: int, last: int, text: str) -> None:
        fields = (kind.encode(), 0, 0, signed(first), signed(last), text.encode()[:96])
        self.row("event", *fields, flags=self.flags)

    def wrong(self, text: str) -> None:
        self.event("malformed", self.at, self.at + 1 + len(self.bytes), text)

    def message(self, at: int, message: bytes) -> None:
        self.at, self.bytes = at, message
        self.seq += 1
        self.code = self.flags = 0
        kind = self.kind = chr(message[0])
        layout = LAYOUTS.get(kind)
        if layout is None or struct.calcsize(">" + layout) + 11 != len(message):
            self.malformed += 1
            if layout is None:
                text = f"a message of unknown type 0x{message[0]:02x}, {len(message)} bytes"
            else:
                must = struct.calcsize(">" + layout) + 11
                text = f"{kind} of {len(message)} bytes, must be {must}"
            self.wrong(text)
            return
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.locate = int.from_bytes(message[1:3], "big")
        self.ts_event = self.midnight + int.from_bytes(message[5:11], "big")
        fields = struct.unpack(">" + layout, message[11:])
        self.identify(fields)
        getattr(self, f"on_{kind}")(*fields)

    def identify(self, fields: tuple[Any, ...]) -> None:
        if self.locate and self.locate in self.defined:
            self.code = self.locate
        elif self.locate and self.kind in STOCK_FIELD:
            self.code = self.locate
            if self.kind != "R":
                self.define(fields[STOCK_FIELD[self.kind]], 0.0, b"", SYNTHETIC)
        elif self.kind in "ECXDU" or (self.kind in WHOLE_MARKET and not self.locate):
            pass
        elif self.kind == "B" and self.locate:
            self.number()
        else:
            self.flags = ORPHAN
            text = f"{self.kind} of stock locate {self.locate}, which is not defined"
            self.event("orphan", self.locate, self.locate, f"{text}, at byte {self.at}")

    def number(self) -> None:
        """Only the stock locate tells the instrument."""
        if not self.locate:
            return
        self.code = self.locate
        if self.locate not in self.defined | self.numbered:
            self.define(b"#%d" % self.locate, 0.0, b"", SYNTHETIC)
            self.defined.discard(self.locate)
            self.numbered.add(self.locate)

    def define(self, symbol: bytes, lot: float, attributes: bytes, flags: int = 0) -> None:
        self.defined.add(self.locate)
        fields = (b"", symbol.rstrip(b" "), b"stock", b"USD", b"", 0.0, lot, 1.0, attributes)
        self.row("instrument", self.locate, *fields, flags=flags)

    def on_R(self, symbol: bytes, *f: Any) -> None:
        if self.locate:
            category, status, lot, *codes, leverage, inverse = f
            text = (category + status + b"".join(codes) + inverse).replace(b"\0", b" ")
            self.define(symbol, float(lot), text + str(leverage).encode())

    # status

    def status(
        self, kind: str, value: bytes, reason: bytes = b"", levels: tuple[float, ...] = (0, 0, 0)
    ) -> None:
        fields = (kind.encode(), value.rstrip(b" "), reason.rstrip(b" "), *map(float, levels))
        self.row("status", self.seq, *fields, flags=self.flags)

    def on_S(self, event: bytes) -> None:
        self.status("session", event)

    def on_H(self, _: bytes, state: bytes, reserved: bytes, reason: bytes) -> None:
        self.status("trading", state, reason)

    def on_Y(self, _: bytes, action: bytes) -> None:
        self.status("regsho", action)

    def on_L(self, mpid: bytes, _: bytes, *codes: bytes) -> None:
        self.status("participant", b"".join(codes), mpid)

    def on_V(self, *levels: int) -> None:
        self.status("mwcb_levels", b"", b"", tuple(float(x) / 1e8 for x in levels))

    def on_W(self, level: bytes) -> None:
        self.status("mwcb_breach", level)

    def on_K(self, _: bytes, release: int, qualifier: bytes, price: int) -> None:
        self.status("ipo", qualifier, b"", (price / 1e4, release, 0))

    def on_J(self, _: bytes, *f: int) -> None:
        self.status("luld", str(f[3]).encode(), b"", tuple(x / 1e4 for x in f[:3]))

    def on_h(self, _: bytes, market: bytes, action: bytes) -> None:
        self.status("operational", action, market)

    def on_N(self, _: bytes, flag: bytes) -> None:
        self.status("rpii", flag)

    def on_O(self, _: bytes, eligible: bytes, *f: int) -> None:
        self.status("dlcr", eligible, b"", (f[0] / 1e4, f[1] / 1e4, f[2] / 1e4))
        self.status("dlcr_collar", eligible, b"", (f[4] / 1e4, f[5] / 1e4, f[3]))

    def on_I(self, paired: int, left: int, side: bytes, *f: Any) -> None:
        _, far, near, reference, cross, variation = f
        prices = (reference / 1e4, near / 1e4, far / 1e4)
        fields = (*prices, float(paired), float(left), side, cross, variation)
        self.row("imbalance", self.seq, *fields, flags=self.flags)

    # orders

    def order(
        self,
        action: bytes,
        ref: int,
        other: int,
        price: int,
        shares: int,
        side: bytes,
        mpid: bytes = b"",
        flags: int = 0,
    ) -> None:
        fields = (self.seq, signed(ref), signed(other), price / 1e4, float(shares))
        self.row("order", *fields, side, action, mpid, flags=self.flags | flags)

    def trade(self, match: int, price: int, shares: int, side: bytes, condition: bytes, flags: int) -> None:
        self.prints[match % PRINTS] = (match, price, shares)
        fields = (self.seq, signed(match), price / 1e4, float(shares), side, b"T", condition)
        self.row("trade", *fields, flags=self.flags | flags)

    def known(self, ref: int, shares: int | None) -> dict[str, Any] | None:
        order = self.orders.get(ref)
        if order is None:
            self.number()
            self.flags = ORPHAN
            text = f"{self.kind} of an order never added, at byte {self.at}"
            self.event("orphan", ref, ref, text + ("" if shares is None else f": {shares} shares"))
            return None
        self.code = order["locate"]
        if self.code != self.locate:
            self.wrong(f"{self.kind} of stock locate {self.locate}, but the order is of {self.code}")
        return order

    def take(self, ref: int, shares: int) -> None:
        order = self.orders[ref]
        if shares > order["shares"]:
            self.wrong(f"{self.kind} of {shares} shares, but the order has {order['shares']}")
            shares = order["shares"]
        if order["side"]:
            levels = self.books[order["locate"]][order["side"]]
            levels[order["price"]] -= shares
            if not levels[order["price"]]:
                del levels[order["price"]]
        order["shares"] -= shares
        if not order["shares"]:
            del self.orders[ref]

    def enter(self, ref: int, locate: int, side: bytes, price: int, shares: int) -> None:
        if not shares:
            self.wrong(f"{self.kind} of 0 shares")
            return
        if ref in self.orders:
            text = f"{self.kind} of an order that exists, at byte {self.at}"
            self.event("duplicate", ref, ref, text)
            before = self.orders[ref]["locate"]
            self.take(ref, self.orders[ref]["shares"])
            if before != locate:
                self.quote(before)
        self.orders[ref] = {"locate": locate, "side": side, "price": price, "shares": shares}
        if side:
            levels = self.books.setdefault(locate, {b"B": {}, b"S": {}})[side]
            levels[price] = levels.get(price, 0) + shares

    def quote(self, locate: int) -> None:
        book = self.books.get(locate, {b"B": {}, b"S": {}})
        bid = max(book[b"B"], default=0)
        ask = min(book[b"S"], default=0)
        top = (bid, book[b"B"].get(bid, 0), ask, book[b"S"].get(ask, 0))
        if top == self.quoted.get(locate, (0, 0, 0, 0)):
            return
        self.quoted[locate] = top
        fields = (
            *(bid / 1e4 if top[1] else math.nan, float(top[1])),
            *(ask / 1e4 if top[3] else math.nan, float(top[3])),
        )
        self.row("quote", self.seq, *fields, code=locate)

    def on_A(self, ref: int, side: bytes, shares: int, symbol: bytes, price: int, mpid: bytes = b"") -> None:
        if side not in (b"B", b"S"):
            self.wrong(f"{self.kind} with side 0x{side[0]:02x}")
            return
        self.order(b"A", ref, 0, price, shares, side, mpid.rstrip(b" "))
        if self.code:
            self.enter(ref, self.locate, side, price, shares)
            self.quote(self.locate)

    on_F = on_A

    def on_E(
        self, ref: int, shares: int, match: int, printable: bytes = b"Y", price: int | None = None
    ) -> None:
        order = self.known(ref, shares)
        side = order["side"] if order else b""
        aggressor = {b"B": b"S", b"S": b"B"}.get(side, b"")
        if price is None and order:
            price = order["price"]
        hidden = NON_PRINTABLE if printable == b"N" else 0
        self.order(b"E", ref, match, price or 0, shares, side, flags=hidden)
        if price is not None and not hidden:
            self.trade(match, price, shares, aggressor, b"", 0)
        if order:
            self.take(ref, shares)
            self.quote(order["locate"])

    on_C = on_E

    def on_X(self, ref: int, shares: int | None = None) -> None:
        order = self.known(ref, shares)
        if order is None:
            self.order(self.kind.encode(), ref, 0, 0, shares or 0, b"")
            return
        shares = order["shares"] if shares is None else shares
        self.order(self.kind.encode(), ref, 0, order["price"], shares, order["side"])
        self.take(ref, shares)
        self.quote(order["locate"])

    on_D = on_X

    def on_U(self, original: int, ref: int, shares: int, price: int) -> None:
        order = self.known(original, shares)
        self.order(b"U", ref, original, price, shares, order["side"] if order else b"")
        if order:
            self.take(original, order["shares"])
        locate, side = (order["locate"], order["side"]) if order else (self.locate, b"")
        self.enter(ref, locate, side, price, shares)
        self.quote(locate)

    # trades

    def on_P(self, *f: Any) -> None:
        _, _, shares, _, price, match = f
        self.trade(match, price, shares, b"", b"", HIDDEN)

    def on_Q(self, shares: int, _: bytes, price: int, match: int, kind: bytes) -> None:
        if shares:
            self.trade(match, price, shares, b"", kind, CROSS)

    def on_B(self, match: int) -> None:
        known = self.prints.get(match % PRINTS)
        price, shares = known[1:] if known and known[0] == match else (0, 0)
        fields = (self.seq, signed(match), price / 1e4, float(shares), b"", b"X", b"")
        self.row("trade", *fields, flags=self.flags | CORRECTION)
