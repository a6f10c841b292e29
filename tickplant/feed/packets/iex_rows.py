"""Messages of IEX TOPS 1.6, DEEP 1.0 and DEEP+ 1.0 to rows, many at once (pure).

All numbers are little-endian, prices are int64 with 4 decimals, times ns UTC. A message that is longer
than its layout was extended at its end ("Data Types", "Messages"): the rest is left out. What table each
goes to, under its name in the specifications:

    D      Security Directory        instrument; kind etf with flag E, else stock; lot_size is the
                                     round lot; attributes are the flags T, W, E that are set, and
                                     the LULD tier
    Q      Quote Update              quote
    8 5    Price Level Update        depth: C with the level's new size, be it new or not; D if it is 0
    T      Trade Report              trade; condition are the sale condition flags that are set: F
                                     intermarket sweep, T extended hours, I odd lot, 8 exempt of trade
                                     through, X cross
    B      Trade Break               trade X, CORRECTION
    a M R  Add, Modify, Delete Order order A, U (ref_id is the same order), D (no price, no size: NaN);
                                     only a tells a side
    L      Order Executed            order E; trade
    A      Auction Information       imbalance: near_price is the indicative clearing price, far_price
                                     the auction book's; and status, kind collar: value is the
                                     extension number, reason the scheduled time (s UTC), levels are
                                     the collar's reference, lower, upper

    and to status                    kind         value                  reason    level
    S      System Event              session      event code
    H      Trading Status            trading      state                  reason
    I      Retail Liquidity          retail       indicator
    O      Operational Halt          operational  state
    P      Short Sale Price Test     regsho       0 or 1                 detail
    E      Security Event            security     event code
    X      Official Price            official     price type                       price

`venue_seq` is the message's number in its session. IEX tells no aggressor: side of a trade is empty.
"""

import numpy as np
import numpy.typing as npt

from tickplant.feed.capture import Batch
from tickplant.feed.packets.decoder import MessageRows
from tickplant.schema import Flag, Rows

_HEAD = [("type", "S1"), ("code", "u1"), ("time", "<i8"), ("symbol", "S8")]
_PRICE, _SIZE, _ID = ("price", "<i8"), ("size", "<u4"), ("id", "<i8")


def _layout(*fields: tuple[str, str]) -> np.dtype[np.void]:
    return np.dtype([*_HEAD, *fields])


_LEVEL, _TRADE = _layout(_SIZE, _PRICE), _layout(_SIZE, _PRICE, _ID)
_ORDER = _layout(_ID, _SIZE, _PRICE)
LAYOUTS: dict[bytes, np.dtype[np.void]] = {
    b"S": np.dtype(_HEAD[:3]),
    b"D": _layout(("lot", "<u4"), ("close", "<i8"), ("tier", "u1")),
    b"H": _layout(("reason", "S4")),
    b"I": _layout(),
    b"O": _layout(),
    b"P": _layout(("reason", "S1")),
    b"E": _layout(),
    b"Q": _layout(("bid_size", "<u4"), ("bid", "<i8"), ("ask", "<i8"), ("ask_size", "<u4")),
    b"T": _TRADE,
    b"B": _TRADE,
    b"X": _layout(_PRICE),
    b"8": _LEVEL,
    b"5": _LEVEL,
    b"A": _layout(
        ("paired", "<u4"), ("reference", "<i8"), ("indicative", "<i8"), ("imbalance", "<u4"), ("side", "S1"),
        ("extension", "u1"), ("scheduled", "<u4"), ("book", "<i8"), ("collar", "<i8"), ("lower", "<i8"),
        ("upper", "<i8"),
    ),
    b"a": _ORDER,
    b"M": _ORDER,
    b"R": _layout(_ID),
    b"L": _layout(_ID, _SIZE, _PRICE, ("trade", "<i8")),
}  # fmt: skip
"""By type: how a message is laid out. `code` is the second byte, whatever it means."""
_STATUS = {
    b"S": b"session", b"H": b"trading", b"I": b"retail", b"O": b"operational", b"P": b"regsho",
    b"E": b"security", b"X": b"official",
}  # fmt: skip
_CONDITIONS = ((0x80, "F"), (0x40, "T"), (0x20, "I"), (0x10, "8"), (0x08, "X"))
_FLAGS = ((0x80, "T"), (0x40, "W"), (0x20, "E"))


def _lettered(letters: tuple[tuple[int, str], ...], width: str) -> npt.NDArray[np.bytes_]:
    """The letters of the bits that are set, for each byte."""
    return np.array(["".join(text for bit, text in letters if byte & bit) for byte in range(256)], width)


_CONDITION, _ATTRIBUTE = _lettered(_CONDITIONS, "S6"), _lettered(_FLAGS, "S8")
_BYTES = np.array([bytes([b]) if b else b"" for b in range(256)], "S1")


class _Pile:
    """Messages of one type as they come."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.marks: list[int] = []


class IexRows(MessageRows):
    """Messages of IEX, until their rows are taken."""

    def __init__(self, venue: str) -> None:
        super().__init__(venue)
        self._clear()

    def message(self, message: bytes, seq: int, ts_recv: int) -> None:
        """One message, number `seq` of its session."""
        kind = message[:1]
        layout = LAYOUTS.get(kind)
        if layout is None or len(message) < layout.itemsize:
            self.refuse(f"a message of type {kind!r} and {len(message)} bytes", seq, ts_recv)
            return
        self.messages[kind.decode()] += 1
        pile = self._piles.get(kind)
        if pile is None:
            pile = self._piles[kind] = _Pile()
        pile.data.append(message[: layout.itemsize])
        pile.marks.append(len(self._seqs))
        self._seqs.append(seq)
        self._recv.append(ts_recv)

    def take(self) -> Batch:
        """The rows since the last time, each table's in the order of the messages."""
        seqs, recv = np.array(self._seqs, np.int64), np.array(self._recv, np.int64)
        for kind in sorted(self._piles, key=lambda k: k != b"D"):
            pile = self._piles[kind]
            found = np.frombuffer(b"".join(pile.data), LAYOUTS[kind])
            self._marks = np.array(pile.marks, np.int64)
            self._found, self._seq, self._ts = found, seqs[self._marks], recv[self._marks]
            self._decode(kind, found)
        batch = self.sink.take() + self._rows.take()
        self._clear()
        return batch

    def _clear(self) -> None:
        self._seqs: list[int] = []
        self._recv: list[int] = []
        self._piles: dict[bytes, _Pile] = {}

    def _decode(self, kind: bytes, found: Rows) -> None:
        if kind in _STATUS:
            self._status(kind, found)
        elif kind == b"D":
            self._directory(found)
        elif kind == b"Q":
            self._quotes(found)
        elif kind in (b"8", b"5"):
            self._levels(found, b"B" if kind == b"8" else b"S")
        elif kind in (b"T", b"B"):
            self._trades(found, found["id"], b"T" if kind == b"T" else b"X")
        elif kind == b"A":
            self._auctions(found)
        else:
            self._orders(kind, found)

    def _new(self, table: str) -> Rows:
        """Rows for the messages that are decoded now."""
        found, rows = self._found, self._rows.new(table, self._marks)
        rows["ts_event"], rows["ts_recv"], rows["venue_seq"] = found["time"], self._ts, self._seq
        if "symbol" in (found.dtype.names or ()):
            symbols, inverse = np.unique(found["symbol"], return_inverse=True)
            codes = [self._code(s) for s in symbols.tolist()]
            rows["instrument"] = np.array(codes, np.int64)[inverse]
        return rows

    def _code(self, symbol: bytes) -> int:
        return self.sink.code(_name(symbol), int(self._ts[0]), currency="USD")

    def _directory(self, found: Rows) -> None:
        kinds = np.where(found["code"] & 0x20, "etf", "stock").tolist()
        columns = zip(found["symbol"].tolist(), kinds, found["lot"].tolist(), found["time"].tolist(),
                      _ATTRIBUTE[found["code"]].tolist(), found["tier"].tolist(), self._ts.tolist(),
                      strict=True)  # fmt: skip
        for symbol, kind, lot, time, attributes, tier, ts in columns:
            self.sink.define(_name(symbol), time, ts, kind=kind, currency="USD", lot_size=float(lot),
                             attributes=attributes + b"%d" % tier)  # fmt: skip

    def _status(self, kind: bytes, found: Rows) -> None:
        rows = self._new("status")
        rows["kind"] = _STATUS[kind]
        rows["value"] = found["code"].astype("S3") if kind == b"P" else _BYTES[found["code"]]
        if "reason" in (found.dtype.names or ()):
            rows["reason"] = np.char.rstrip(found["reason"])
        if kind == b"X":
            rows["level_1"] = _price(found["price"])

    def _quotes(self, found: Rows) -> None:
        rows = self._new("quote")
        for side in ("bid", "ask"):
            there = (found[side] != 0) & (found[f"{side}_size"] != 0)
            rows[f"{side}_price"] = np.where(there, _price(found[side]), np.nan)
            rows[f"{side}_size"] = np.where(there, found[f"{side}_size"], 0)

    def _levels(self, found: Rows, side: bytes) -> None:
        rows = self._new("depth")
        rows["price"], rows["size"], rows["side"] = _price(found["price"]), found["size"], side
        rows["action"] = np.where(found["size"] == 0, np.bytes_(b"D"), np.bytes_(b"C"))

    def _trades(self, found: Rows, ids: npt.NDArray[np.int64], action: bytes) -> None:
        rows = self._new("trade")
        rows["trade_id"], rows["price"], rows["size"] = ids, _price(found["price"]), found["size"]
        rows["action"], rows["condition"] = action, _CONDITION[found["code"]]
        rows["flags"] = np.where(found["code"] & 0x08, int(Flag.CROSS), 0)
        if action == b"X":
            rows["flags"] |= int(Flag.CORRECTION)

    def _orders(self, kind: bytes, found: Rows) -> None:
        rows = self._new("order")
        rows["order_id"] = found["id"]
        rows["action"] = {b"a": b"A", b"M": b"U", b"R": b"D", b"L": b"E"}[kind]
        if kind == b"a":
            rows["side"] = _BYTES[found["code"]]
            rows["side"][rows["side"] == b"8"] = b"B"
            rows["side"][rows["side"] == b"5"] = b"S"
        if kind == b"R":
            return
        rows["price"], rows["size"] = _price(found["price"]), found["size"]
        if kind == b"M":
            rows["ref_id"] = found["id"]
        if kind == b"L":
            rows["ref_id"] = found["trade"]
            self._trades(found, found["trade"], b"T")

    def _auctions(self, found: Rows) -> None:
        rows = self._new("imbalance")
        prices = {"reference_price": "reference", "near_price": "indicative", "far_price": "book"}
        for column, name in prices.items():
            rows[column] = np.where(found[name] == 0, np.nan, _price(found[name]))
        rows["paired_size"], rows["imbalance_size"] = found["paired"], found["imbalance"]
        side = found["side"]
        rows["side"] = np.where((side == b"B") | (side == b"S"), side, np.bytes_(b""))
        rows["cross_type"] = _BYTES[found["code"]]
        collar = self._new("status")
        collar["kind"], collar["value"] = b"collar", found["extension"].astype("S3")
        collar["reason"] = found["scheduled"].astype("S12")
        for level, name in enumerate(("collar", "lower", "upper"), 1):
            collar[f"level_{level}"] = _price(found[name])


def _name(symbol: bytes) -> str:
    return symbol.decode("ascii", "replace").rstrip() or "?"


def _price(scaled: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return scaled / 10_000.0
