"""Messages of Deribit's multicast feed to rows (pure); names and vocabulary are those of the feed over
WebSocket (`venues.deribit`). What table each goes to:

    instrument, instrument_v2   instrument when the definition is new; status state when its state is
    book, snapshot              depth, and SYNTHETIC quotes (`deribit_sbe_books`)
    trades                      trade; direction is the aggressor's; venue_seq is trade_seq, which has no
                                holes
    ticker                      quote; status, funding of perpetuals, mark of the others: level_1 mark
                                price, level_2 index price, level_3 funding rate, value the state; status
                                interest when the open interest changes: level_1
    price_index                 status index: level_1; the instrument is the index, such as btc_usd
    rfq                         status rfq: value active or inactive, reason buy or sell, level_1 amount

Not for any table, and ignored: snapshot_start, snapshot_end, combo_legs. Rows of a ticker, an index, a
request and a state have the packet's sequence number as venue_seq, depth the change's.

An instrument is a number to the feed. Until a message instrument says what it is, its symbol is the
number; rows have the name that held when they came.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tickplant.feed.capture import Batch
from tickplant.feed.directory import INSTRUMENTS_MAX
from tickplant.feed.packets.decoder import MessageRows
from tickplant.feed.packets.deribit_sbe_books import BOOK, SNAPSHOT, TIME_MAX_MS, Books
from tickplant.feed.packets.deribit_sbe_instruments import STATES, listed
from tickplant.feed.packets.sbe import Block, Columns, Schema, Whole
from tickplant.feed.times import MS_NS
from tickplant.feed.trades import TradeIds
from tickplant.schema import Rows

Ints = npt.NDArray[np.int64]
INSTRUMENT, TRADES, TICKER, INDEX, RFQ, INSTRUMENT_V2 = 1000, 1002, 1003, 1008, 1009, 1010
IGNORED = {1005, 1006, 1007}
COLUMNS = {TRADES: 1, TICKER: 0, INDEX: 0, RFQ: 0}
"""Templates that are decoded as columns, and of which block: the root, or the group."""
_STATES = np.array([s.encode() for s in STATES], "S12")
_SIDES = np.array([b"B", b"S", b""], "S1")
_WAYS = np.array([b"buy", b"sell", b""], "S4")


class _Pile:
    """Blocks of one kind as they come."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.counts: list[int] = []
        self.marks: list[int] = []
        self.codes: list[int] = []


class Entries(NamedTuple):
    """Blocks of one kind: their fields as columns, the message each is of, and its instrument's code."""

    block: Block
    columns: Columns
    marks: Ints
    codes: Ints

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """A field as float64; NaN: none."""
        return self.block.numbers(self.columns, name)

    def integers(self, name: str, absent: int = 0) -> Ints:
        """A field as int64."""
        return self.block.integers(self.columns, name, absent)

    def times(self) -> Ints:
        """The field time_ms in nanoseconds; 0 for what is beyond int64."""
        ms = self.integers("time_ms")
        return np.where((ms < 0) | (ms > TIME_MAX_MS), 0, ms) * MS_NS

    def only(self, mask: npt.NDArray[np.bool_]) -> "Entries":
        """Some of them."""
        return Entries(self.block, self.columns[mask], self.marks[mask], self.codes[mask])


class DeribitRows(MessageRows):
    """Messages, until their rows are taken."""

    def __init__(self, schema: Schema, venue: str) -> None:
        super().__init__(venue)
        self.books = Books(schema, self.sink)
        self._schema = schema
        self._trades = TradeIds(self.sink, lambda *_: None)
        self._codes: dict[int, tuple[int, str]] = {}
        """By the venue's number: code and name."""
        self._bodies: dict[tuple[int, int], int] = {}
        """By template and the venue's number: the hash of the definition that came last."""
        self._definitions: dict[int, str] = {}
        self._states: dict[int, str] = {}
        self._interest: dict[int, float] = {}
        """By code: the open interest."""
        self._clear()

    def message(
        self, template: int, whole: Whole, channel: int, seq: int, ts_recv: int, *, sure: bool = True
    ) -> None:
        """A message of packet `seq` of a channel; not `sure`: packets before it are missing."""
        known = self._schema.templates.get(template)
        if known is None:
            self.refuse(f"template {template} is not in the schema", seq, ts_recv)
            return
        if template in IGNORED:
            self.ignored[known.name] += 1
            return
        try:
            if template in (BOOK, SNAPSHOT):
                number = self._instrument(whole)
                self.books.message(template, whole.parts, number, lambda: self._named(number, ts_recv),
                                   channel, ts_recv, sure)  # fmt: skip
            elif template in COLUMNS:
                self._pile_up(template, whole, seq, ts_recv)
            else:
                self._define(template, whole, seq, ts_recv)
        except ValueError as e:
            self.refuse(f"{known.name}: {e}", seq, ts_recv)
            return
        self.messages[known.name] += 1

    def take(self) -> Batch:
        """The rows since the last time, each table's in the order of the messages."""
        self._seq_of, self._recv_of = np.array(self._seqs, np.int64), np.array(self._recv, np.int64)
        roles = {TRADES: self._trade, TICKER: self._ticker, INDEX: self._index, RFQ: self._rfq}
        for (template, length), pile in sorted(self._piles.items()):
            index = COLUMNS[template]
            known = self._schema.templates[template]
            block = known.groups[0].block if index else known.root
            columns = block.columns(b"".join(pile.data), length)
            counts = np.array(pile.counts)
            marks, codes = np.array(pile.marks, np.int64), np.array(pile.codes, np.int64)
            roles[template](Entries(block, columns, np.repeat(marks, counts), np.repeat(codes, counts)))
        batch = self.sink.take() + self._rows.take() + self.books.levels.take()
        self._clear()
        return batch

    def _clear(self) -> None:
        self._seqs: list[int] = []
        self._recv: list[int] = []
        self._piles: dict[tuple[int, int], _Pile] = {}

    # ---- instruments ----

    def _instrument(self, whole: Whole) -> int:
        root = whole.parts[0].data
        if len(root) < 4:
            raise ValueError(f"a root of {len(root)} bytes")
        return int.from_bytes(root[:4], "little")

    def _named(self, number: int, ts_recv: int) -> tuple[int, str]:
        """Code and name of an instrument as of now."""
        found = self._codes.get(number)
        if found is None:
            self._room(number)
            name = str(number)
            found = self._codes[number] = (self._code(name, ts_recv), name)
        return found

    def _room(self, known: int | str) -> None:
        """Raises ValueError if an instrument, by its number or symbol, would be one too many."""
        those = self._codes if isinstance(known, int) else self.sink.codes
        if known not in those and len(those) >= INSTRUMENTS_MAX:
            raise ValueError(f"{str(known)[:40]!r} is one instrument too many")

    def _code(self, symbol: str, ts_recv: int, **definition: str) -> int:
        self._room(symbol)
        return self.sink.code(symbol, ts_recv, **definition)

    def _define(self, template: int, whole: Whole, seq: int, ts_recv: int) -> None:
        number = self._instrument(whole)
        body = hash(b"".join([*(p.data for p in whole.parts), *whole.texts]))
        if self._bodies.get((template, number)) == body:
            return
        block = self._schema.templates[template].root
        symbol, state, definition = listed(block, whole)
        self._room(number)
        self._room(symbol)
        said = f"{symbol} {definition}"
        if self._definitions.get(number) != said:
            code = self.sink.define(symbol, 0, ts_recv, **definition)
            self._codes[number], self._definitions[number] = (code, symbol), said
            self.books.rename(number, code, symbol, ts_recv)
        self._bodies[template, number] = body
        if self._states.get(number) != state:
            self._states[number] = state
            self.sink.add("status", 0, ts_recv, instrument=self._codes[number][0], venue_seq=seq,
                          kind="state", value=state)  # fmt: skip

    # ---- columns ----

    def _pile_up(self, template: int, whole: Whole, seq: int, ts_recv: int) -> None:
        index = COLUMNS[template]
        root = whole.parts[0]
        block = self._schema.templates[template].root
        if root.length < block.length:
            raise ValueError(f"a root of {root.length} bytes, must be {block.length} or more")
        if template == INDEX:
            name = root.data[:16].rstrip(b"\0").decode("ascii") or "?"
            code = self._code(name, ts_recv, kind="index", attributes=name[:32])
        else:
            code, _ = self._named(self._instrument(whole), ts_recv)
        part = whole.parts[index] if index < len(whole.parts) else None
        if part is not None and part.blocks:
            if index and part.length < self._schema.templates[template].groups[0].block.length:
                raise ValueError(f"entries of {part.length} bytes")
            pile = self._piles.get((template, part.length))
            if pile is None:
                pile = self._piles[template, part.length] = _Pile()
            pile.data.append(part.data)
            pile.counts.append(part.blocks)
            pile.marks.append(len(self._seqs))
            pile.codes.append(code)
            self._seqs.append(seq)
            self._recv.append(ts_recv)

    def _new(self, table: str, entries: Entries) -> Rows:
        rows = self._rows.new(table, entries.marks)
        rows["ts_event"], rows["ts_recv"] = entries.times(), self._recv_of[entries.marks]
        rows["instrument"], rows["venue_seq"] = entries.codes, self._seq_of[entries.marks]
        return rows

    def _trade(self, entries: Entries) -> None:
        price, size, way = entries.numbers("price"), entries.numbers("amount"), entries.integers("direction")
        sound = np.isfinite(price) & np.isfinite(size) & (size >= 0) & (way <= 1)
        for at in np.flatnonzero(~sound).tolist():
            mark = entries.marks[at]
            seq, ts = int(self._seq_of[mark]), int(self._recv_of[mark])
            text = f"a trade of {size[at]} at {price[at]}, direction {way[at]}"
            self.sink.event("malformed", ts, text, first=seq, last=seq, ts_event=ts)
        entries = entries.only(sound)
        new = self._numbered(entries)
        entries = entries.only(new)
        rows = self._new("trade", entries)
        rows["venue_seq"], rows["trade_id"] = entries.integers("trade_seq"), entries.integers("trade_id")
        rows["price"], rows["size"] = entries.numbers("price"), entries.numbers("amount")
        rows["side"], rows["action"] = _SIDES[entries.integers("direction")], b"T"
        block, liquidation = entries.integers("block_trade_id"), entries.integers("liquidation")
        rows["condition"] = np.where(block != 0, b"BLOCK", np.where(liquidation != 0, b"LIQ", b""))

    def _numbered(self, entries: Entries) -> npt.NDArray[np.bool_]:
        """Which trades are new; what is missing, or there twice, is an event."""
        names = {code: name for code, name in self._codes.values()}
        each = zip(entries.codes.tolist(), entries.integers("trade_seq").tolist(),
                   self._recv_of[entries.marks].tolist(), strict=True)  # fmt: skip
        new = [self._trades.is_new("trades", names.get(code, str(code)), code, number, ts)
               for code, number, ts in each]  # fmt: skip
        return np.array(new, np.bool_)

    def _ticker(self, entries: Entries) -> None:
        quotes = self._new("quote", entries)
        for side in ("bid", "ask"):
            price, size = entries.numbers(f"{side}_price"), entries.numbers(f"{side}_amount")
            there = np.isfinite(price) & np.isfinite(size) & (size > 0)
            quotes[f"{side}_price"] = np.where(there, price, np.nan)
            quotes[f"{side}_size"] = np.where(there, size, 0)
        rows = self._new("status", entries)
        funding = entries.numbers("current_funding")
        rows["kind"] = np.where(np.isnan(funding), b"mark", b"funding")
        rows["value"] = _STATES[np.minimum(entries.integers("state"), len(STATES) - 1)]
        rows["level_1"], rows["level_2"] = entries.numbers("mark_price"), entries.numbers("index_price")
        rows["level_3"] = funding
        self._interests(entries)

    def _interests(self, entries: Entries) -> None:
        """Rows for those tickers whose open interest is another than before."""
        interest = entries.numbers("open_interest")
        order = np.argsort(entries.codes, kind="stable")
        codes, values = entries.codes[order], interest[order]
        first = np.r_[True, codes[1:] != codes[:-1]]
        before = np.r_[np.nan, values[:-1]]
        before[first] = [self._interest.get(c, np.nan) for c in codes[first].tolist()]
        last = np.r_[first[1:], True]
        self._interest.update(zip(codes[last].tolist(), values[last].tolist(), strict=True))
        other = np.zeros(len(codes), np.bool_)
        other[order] = (values != before) & ~np.isnan(values)
        changed = entries.only(other)
        rows = self._new("status", changed)
        rows["kind"], rows["level_1"] = b"interest", changed.numbers("open_interest")

    def _index(self, entries: Entries) -> None:
        rows = self._new("status", entries)
        rows["kind"], rows["level_1"] = b"index", entries.numbers("price")

    def _rfq(self, entries: Entries) -> None:
        rows = self._new("status", entries)
        rows["kind"] = b"rfq"
        rows["value"] = np.where(entries.integers("state") == 1, b"active", b"inactive")
        rows["reason"] = _WAYS[np.minimum(entries.integers("side"), 2)]
        rows["level_1"] = entries.numbers("amount")
