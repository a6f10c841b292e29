"""Messages of HSVF, the Montréal Exchange's feed, to rows, many at once (pure). What table each goes to:

    C  CS   Option, Strategy Trade          trade; condition is the price indicator marker; CROSS with
                                            markers D, H and T and in an auction, LATE with A and L,
                                            CORRECTION with t. With marker S it is no trade, but status,
                                            kind reference: level_1 is the price
    H  HS   Option, Strategy Market Depth   depth (`hsvf_books`); status, kind trading, when the
                                            instrument's status is another: value is the marker
    JS      Strategy Instrument Keys        instrument, kind strategy; lot_size is the minimum of contracts
                                            per order, tick_size NaN where a tick table has it;
                                            attributes are the market flow indicator, the group and the
                                            instrument, the strategy's code and type

All other types of the specification are ignored, by their names. The levels of implied orders (place A) are
no level of the book that depth holds and are left out. Prices of strategies can be negative. Sizes too long
for their field are told by the venue with fewer digits.

`venue_seq` is the message's number on its line, ts_event the time in its header, trade_id the trade's number
for its instrument; the venue tells no aggressor. An option's symbol is that of OCC's Options Symbology
Initiative, made of the fields that name it: the root, a space, yymmdd, C or P, the strike in thousandths in
eight digits. A strategy's is the venue's.
"""

import re
from typing import Any, NamedTuple

import numpy as np

from tickplant.feed.capture import Batch
from tickplant.feed.packets import hsvf_fields as fields
from tickplant.feed.packets import hsvf_types as types
from tickplant.feed.packets.decoder import MessageRows
from tickplant.feed.packets.hsvf_books import LEVELS, Heard, LineBooks, Told
from tickplant.feed.packets.hsvf_fields import Ints, Which
from tickplant.feed.sink import shipped_schema
from tickplant.schema import Flag, Rows

INSTRUMENTS_MAX = 1 << 18
_FLAGS = {b"D": Flag.CROSS, b"H": Flag.CROSS, b"T": Flag.CROSS, b"A": Flag.LATE, b"L": Flag.LATE,
          b"t": Flag.CORRECTION}  # fmt: skip
_REFERENCE = b"S"
_IMPLIED = ord("A")
_MONTHS = 12
_DEFINED = 1
_PRINTED = re.compile(rb"[ -~]*")


class _Pile:
    """Messages of one type and size as they come."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.numbers: list[tuple[int, int, int, int]] = []
        """Of each its place in the batch, its number, when it came, and its line."""


class _Piled(NamedTuple):
    """Messages of one type and size; `marks` are their places in the batch."""

    rows: Rows
    marks: Ints
    seqs: Ints
    recv: Ints
    lines: Ints
    times: Ints
    instruments: Ints

    def where(self, which: Any) -> "_Piled":
        """Some of them."""
        return _Piled(*(column[which] for column in self))


class HsvfRows(MessageRows):
    """Messages of HSVF, until their rows are taken."""

    def __init__(self, venue: str) -> None:
        super().__init__(venue)
        self._books = LineBooks()
        self._depth: list[Rows] = []
        self._codes: dict[bytes, int] = {}
        """By the second letter of the type and the symbol as it is on the wire."""
        self._status: dict[int, bytes] = {}
        self._piles: dict[tuple[bytes, int], _Pile] = {}
        self._mark = 0

    def message(self, message: bytes, seq: int, line: int, ts_recv: int) -> None:
        """One message, number `seq` of its line, without what encloses it."""
        kind, size = message[10:12], len(message)
        if kind in types.IGNORED and size >= types.HEADER:
            self.ignored[types.IGNORED[kind]] += 1
            return
        if kind not in types.DECODED or types.layout(kind, size) is None or not _PRINTED.fullmatch(message):
            self.refuse(f"a message of type {kind!r} and {size} bytes", seq, ts_recv)
            return
        pile = self._piles.get((kind, size))
        if pile is None:
            pile = self._piles[kind, size] = _Pile()
        pile.data.append(message)
        pile.numbers.append((self._mark, seq, ts_recv, line))
        self._mark += 1

    def lost(self, line: int, seq: int, ts_recv: int) -> None:
        """Messages of a line are missing, the last of them number `seq`."""
        self._decode()
        ended = self._books.lost(line, seq, ts_recv)
        if len(ended):
            self._depth.append(ended)

    def take(self) -> Batch:
        """The rows since the last time, each table's in the order of the messages."""
        self._decode()
        batch = self.sink.take() + self._rows.take()
        if self._depth:
            batch.append(("depth", np.concatenate(self._depth)))
        self._depth, self._mark = [], 0
        return batch

    def _decode(self) -> None:
        piles, self._piles = self._piles, {}
        heard = []
        for (kind, size), pile in sorted(piles.items(), key=lambda each: each[0][0] != b"JS"):
            found = np.frombuffer(b"".join(pile.data), types.layout(kind, size))
            marks, seqs, recv, lines = np.array(pile.numbers, np.int64).T
            none = np.zeros(len(found), np.int64)
            piled = _Piled(found, marks, seqs, recv, lines, none, none)
            if kind == b"JS":
                self._keys(piled)
            elif kind in (b"C ", b"CS"):
                self._trades(kind, piled)
            else:
                heard.append(self._levels(kind, piled))
        if heard:
            self._heard(heard)

    def _sound(self, kind: bytes, piled: _Piled, sound: Which) -> tuple[Which, _Piled]:
        """Which messages are sound, and those, with their times and instruments; an event for each of the
        others."""
        times, told = fields.times(piled.rows["time"])
        sound = sound & told & (piled.rows["exchange"] == types.EXCHANGE)
        symbols, first, where = np.unique(piled.rows["symbol"][sound], return_index=True, return_inverse=True)
        came = piled.recv[sound][first].tolist()
        codes = [self._code(kind, symbol, ts) for symbol, ts in zip(symbols.tolist(), came, strict=True)]
        instruments = np.zeros(len(sound), np.int64)
        instruments[sound] = np.array(codes, np.int64)[where]
        sound &= instruments > 0
        for at in np.flatnonzero(~sound).tolist():
            text = f"a message of type {kind!r} with a field that is none"
            self.refuse(text, int(piled.seqs[at]), int(piled.recv[at]))
        self.messages[types.DECODED[kind]] += int(sound.sum())
        return sound, piled._replace(times=times, instruments=instruments).where(sound)

    def _code(self, kind: bytes, symbol: bytes, ts_recv: int) -> int:
        """An instrument's code, 0 for a symbol that is none. Keys define theirs by themselves: _DEFINED."""
        key = kind[1:] + symbol
        code = self._codes.get(key)
        if code is not None:
            return code
        option = kind[1:] == b" "
        text = option_symbol(symbol) if option else symbol.decode("ascii", "replace").rstrip()
        if not (text and text.isascii() and text.isprintable()) or len(self._codes) >= INSTRUMENTS_MAX:
            return 0
        if kind == b"JS":
            return _DEFINED
        code = self.sink.code(text, ts_recv, kind="option" if option else "strategy")
        self._codes[key] = code
        return code

    def _new(self, table: str, piled: _Piled) -> Rows:
        rows = self._rows.new(table, piled.marks)
        rows["ts_event"], rows["ts_recv"], rows["venue_seq"] = piled.times, piled.recv, piled.seqs
        rows["instrument"] = piled.instruments
        return rows

    def _trades(self, kind: bytes, piled: _Piled) -> None:
        found = piled.rows
        sizes, sound = fields.quantity(found["volume"])
        sign = found["price_sign"] if kind == b"CS" else None
        prices, priced = fields.price(found["price"], found["price_fraction"], sign)
        blank = (found["id"] == ord(" ")).all(axis=1)
        ids, numbered = fields.digits(found["id"])
        reference = found["marker"] == _REFERENCE
        sound = sound & priced & (numbered | blank) & (reference | (sizes > 0))
        sound, piled = self._sound(kind, piled, sound)
        deal = ~reference[sound]
        rows = self._new("trade", piled.where(deal))
        rows["trade_id"] = np.where(blank, 0, ids)[sound][deal]
        rows["price"], rows["size"] = prices[sound][deal], sizes[sound][deal]
        markers = np.char.strip(piled.rows["marker"][deal])
        rows["action"], rows["condition"] = b"T", markers
        for marker, flag in _FLAGS.items():
            rows["flags"][markers == marker] |= int(flag)
        rows["flags"][np.char.strip(piled.rows["auction"][deal]) != b""] |= int(Flag.CROSS)
        rows = self._new("status", piled.where(~deal))
        rows["kind"], rows["level_1"] = b"reference", prices[sound][~deal]

    def _keys(self, piled: _Piled) -> None:
        found = piled.rows
        counts, sound = fields.digits(found["count"])
        least, told = fields.digits(found["least"])
        ticks, priced = fields.price(found["tick"], found["tick_fraction"])
        table = (found["tick"][:, :3] == np.frombuffer(b"TT=", np.uint8)).all(axis=1)
        legs = found.dtype["legs"].itemsize // types.LEG
        sound, piled = self._sound(b"JS", piled, sound & told & (counts == legs) & (priced | table))
        ticks, least = np.where(table, np.nan, ticks)[sound].tolist(), least[sound].tolist()
        parts = (piled.rows[name] for name in ("symbol", "flow", "group", "instrument", "code", "kind"))
        texts = zip(*(part.tolist() for part in parts), strict=True)
        columns = zip(texts, ticks, least, piled.times.tolist(), piled.recv.tolist(), strict=True)
        for text, tick, lot, time, recv in columns:
            symbol, flow, group, instrument, code, kind = (t.decode("ascii", "replace") for t in text)
            attributes = f"{flow} {group}{instrument} {code} {kind}"
            self._codes[b"S" + text[0]] = self.sink.define(
                symbol.rstrip(), time, recv, kind="strategy", lot_size=float(lot), tick_size=tick,
                attributes=attributes,
            )  # fmt: skip

    def _levels(self, kind: bytes, piled: _Piled) -> tuple[Told, _Piled]:
        """Messages of market depth: the levels that they tell, and their status as `rows`."""
        entries = piled.rows["levels"]
        count, sound = fields.digits(piled.rows["count"])
        places = entries["place"].astype(np.int64) - ord("1")
        explicit = entries["place"] != _IMPLIED
        sound = sound & (count == entries.shape[1])
        sound &= (~explicit | ((places >= 0) & (places < LEVELS))).all(axis=1)
        sides = [_side(entries, name) for name in ("bid", "ask")]
        for _, fine in sides:
            sound &= fine
        sound, piled = self._sound(kind, piled, sound)
        told = Told(len(piled.marks))
        for side, (columns, _) in enumerate(sides):
            for entry in range(entries.shape[1]):
                which = explicit[sound, entry]
                told.tell(side, which, places[sound, entry], *(c[sound, entry] for c in columns))
        return told, piled._replace(rows=piled.rows["status"])

    def _heard(self, parts: list[tuple[Told, _Piled]]) -> None:
        columns = zip(*(piled for _, piled in parts), strict=True)
        piled = _Piled(*(np.concatenate(column) for column in columns))
        order = np.argsort(piled.marks)
        piled = piled.where(order)
        keys = shipped_schema()["depth"].empty(len(order))
        keys["ts_event"], keys["ts_recv"], keys["venue_seq"] = piled.times, piled.recv, piled.seqs
        keys["instrument"] = piled.instruments
        books, places = (
            np.concatenate(c)[order] for c in zip(*((t.books, t.places) for t, _ in parts), strict=True)
        )
        changes = self._books.changes(Heard(keys, piled.lines, books, places))
        if len(changes):
            self._depth.append(changes)
        self._statuses(piled)

    def _statuses(self, piled: _Piled) -> None:
        """A row where an instrument's status (`rows`) is another than before."""
        order = np.argsort(piled.instruments, kind="stable")
        codes, markers = piled.instruments[order], piled.rows[order]
        other = np.append(True, (codes[1:] != codes[:-1]) | (markers[1:] != markers[:-1]))[: len(codes)]
        kept = []
        candidates = (order[other].tolist(), codes[other].tolist(), markers[other].tolist())
        for at, code, marker in zip(*candidates, strict=True):
            if self._status.get(code) != marker:
                self._status[code] = marker
                kept.append(at)
        changed = piled.where(np.array(sorted(kept), np.int64))
        rows = self._new("status", changed)
        rows["kind"], rows["value"] = b"trading", np.char.strip(changed.rows.astype("S1"))


def option_symbol(name: bytes) -> str:
    """The symbol of an option, of the 19 characters that name it; empty: they name none.

    The month's letter is A to L for calls, M to X for puts.
    """
    name = name.ljust(19)
    root, month, expiry = name[:6].decode("ascii", "replace").split(), name[6] - ord("A"), name[15:19]
    strike, sound = fields.price(np.frombuffer(name[7:14], np.uint8), np.array(name[14], np.uint8))
    thousandths = round(float(strike) * 1000)
    if not (sound and expiry.isdigit() and 0 <= month < 2 * _MONTHS and len(root) == 1):
        return ""
    year, day = expiry[:2].decode(), expiry[2:].decode()
    if not 1 <= int(day) <= 31 or thousandths / 1000 != float(strike) or not 0 <= thousandths < 10**8:
        return ""
    return f"{root[0]} {year}{month % _MONTHS + 1:02}{day}{'CP'[month // _MONTHS]}{thousandths:08}"


def _side(entries: Rows, name: str) -> tuple[list[Any], Which]:
    """One side of all levels: prices, sizes, orders, each (messages, levels); and which messages are
    sound. What an empty level has beside its size does not matter."""
    sign = entries[f"{name}_sign"] if f"{name}_sign" in (entries.dtype.names or ()) else None
    prices, priced = fields.price(entries[name], entries[f"{name}_fraction"], sign)
    sizes, sized = fields.quantity(entries[f"{name}_size"])
    orders, counted = fields.quantity(entries[f"{name}_orders"])
    return [prices, sizes, orders], (sized & ((priced & counted) | (sizes == 0))).all(axis=1)
