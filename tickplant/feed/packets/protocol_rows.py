"""Messages of a declared protocol to rows of tables, many at once (pure)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.feed.capture import Batch
from tickplant.feed.packets.decoder import MessageRows
from tickplant.feed.packets.marked import MarkedRows
from tickplant.feed.packets.protocol import Message, Protocol, RowRule
from tickplant.feed.packets.protocol_instruments import Codes, Instruments
from tickplant.feed.packets.protocol_orders import RestingOrders, fill_trades
from tickplant.feed.packets.protocol_packets import Found, Layout
from tickplant.feed.packets.protocol_times import Clocks, Known
from tickplant.feed.packets.protocol_values import Piled, symbols, values
from tickplant.schema import KEY_COLUMNS, Flag, Rows

Ints = npt.NDArray[np.int64]


class Reference:
    """The time that a channel's messages refer to; 0: none."""

    def __init__(self) -> None:
        self.ns = 0


class _Pile:
    """Messages in one layout as they come."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.marks: list[int] = []


class ProtocolRows(MessageRows):
    """Messages of one protocol, until their rows are taken."""

    def __init__(self, protocol: Protocol, venue: str = "") -> None:
        """`venue`: of the instruments, if not the protocol's."""
        super().__init__(venue or protocol.venue)
        self.instruments = Instruments(protocol, self.sink)
        self._protocol = protocol
        self._clocks = Clocks(protocol.time, protocol.timezone)
        self._resting = RestingOrders()
        self._by_order = any(rule.of_order for m in protocol.messages for rule in m.rows)
        self._clear()

    def message(self, found: Found, seq: int, ts_recv: int, sent_ns: int, reference: Reference) -> None:
        """One message of a packet that was sent at `sent_ns` (0: not told); `seq`: its number, or the
        packet's."""
        layout = found.layout
        if layout is None:
            text = f"a message of type {found.type!r} and {len(found.data)} bytes"
            self.refuse(text, seq, ts_recv)
            return
        message = layout.message
        if layout.ignored:
            self.ignored[message.name] += 1
            return
        self.messages[message.name] += 1
        data = found.data[: layout.fields.size]
        if message.reference:
            reference.ns = self._refer(layout, message, data, sent_ns or ts_recv)
        pile = self._piles.get(layout)
        if pile is None:
            pile = self._piles[layout] = _Pile()
        pile.data.append(data)
        pile.marks.append(len(self._seqs))
        self._seqs.append(seq)
        self._recv.append(ts_recv)
        self._sent.append(sent_ns or ts_recv)
        self._references.append(reference.ns)

    def take(self) -> Batch:
        """The rows since the last time, each table's in the order of the messages."""
        self._arrays = [np.array(v, np.int64) for v in (self._seqs, self._recv, self._sent, self._references)]
        for layout in sorted(self._piles, key=self._turn):
            self._decode(layout, self._piles[layout])
        if self._by_order:
            self._resting.follow(self._rows.parts("order"))
            executions = fill_trades(self._executions.parts("trade"), self._rows.parts("order"), self._orphan)
            self._rows.add("trade", executions)
        batch = self.sink.take() + self._rows.take()
        self._clear()
        return batch

    def _clear(self) -> None:
        self._seqs: list[int] = []
        self._recv: list[int] = []
        self._sent: list[int] = []
        self._references: list[int] = []
        self._piles: dict[Layout, _Pile] = {}
        self._executions = MarkedRows()
        """Trades that have the price of their order."""

    def _orphan(self, row: Any) -> None:
        """An execution of an order of which nothing is known has no price: it is no trade."""
        text = f"an execution of {row['size']:g}, of an order never added"
        seq, ts = int(row["venue_seq"]), int(row["ts_recv"])
        self.sink.event("orphan", ts, text, first=seq, last=seq, instrument=int(row["instrument"]),
                        ts_event=int(row["ts_event"]), flags=int(Flag.ORPHAN))  # fmt: skip

    def _refer(self, layout: Layout, message: Message, data: bytes, sent_ns: int) -> int:
        rows = np.frombuffer(data, layout.fields.dtype)
        known = Known(np.array([sent_ns], np.int64), np.zeros(1, np.int64))
        assert message.reference is not None
        return int(self._clocks.read(message.reference, layout.fields, rows, known)[0])

    def _turn(self, layout: Layout) -> int:
        """Definitions before what uses them, orders that begin before those that go on and end."""
        message = layout.message
        if message.index or any(rule.table == "instrument" for rule in message.rows):
            return 0
        if any(rule.ends for rule in message.rows):
            return 4
        if self.instruments.named(layout.fields):
            return 1
        return 2 if message.replaces else 3

    def _decode(self, layout: Layout, pile: _Pile) -> None:
        seqs, recv, sent, references = self._arrays
        marks = np.array(pile.marks, np.int64)
        rows = np.frombuffer(b"".join(pile.data), layout.fields.dtype)
        times = self._clocks.times(layout.fields, rows, Known(sent[marks], references[marks]))
        piled = Piled(layout.fields, rows, self._protocol)
        message = layout.message
        for rule in message.rows:
            if rule.table == "instrument":
                self._define(rule, message, piled, times, recv[marks])
        if message.index:
            self.instruments.learn(message.index, piled, recv[marks])
        others = [rule for rule in message.rows if rule.table != "instrument"]
        if not others:
            return
        codes = self.instruments.codes(message, piled, recv[marks], seqs[marks])
        for rule in others:
            self._ruled(rule, piled, codes, (marks, times, recv[marks], seqs[marks]))

    def _ruled(self, rule: RowRule, piled: Piled, codes: Codes, of: tuple[Ints, Ints, Ints, Ints]) -> None:
        keep = np.flatnonzero(piled.matching(rule.when) & ~piled.any_of(rule.unless))
        if not len(keep):
            return
        marks, times, recv, seqs = (part[keep] for part in of)
        piled, codes = piled.where(keep), codes.where(keep)
        rows = (self._executions if rule.of_order else self._rows).new(rule.table, marks)
        rows["ts_event"], rows["ts_recv"], rows["instrument"] = times, recv, codes.codes
        rows["venue_seq"] = seqs
        flags = sum(Flag[name] for name in rule.flags)
        rows["flags"] = np.where(codes.orphan, flags | Flag.ORPHAN, flags)
        for name, source in rule.sources().items():
            rows[name] = values(source, piled, codes.decimals, rows.dtype[name])
        if rule.table == "order" and "action" not in rule.columns:
            rows["action"] = np.where(codes.again, b"U", b"A")
            rows["ref_id"][codes.again] = rows["order_id"][codes.again]
        if rule.table == "quote":
            _empty_sides(rows)

    def _define(self, rule: RowRule, message: Message, piled: Piled, times: Ints, recv: Ints) -> None:
        """Rows of table instrument, one by one: there are few, and each may be the first of its symbol."""
        name = message.index.symbol if message.index else self.instruments.name(piled.fields)
        dtypes = self._dtypes()
        decimals = self.instruments.decimals_of(message.index, piled)
        columns: dict[str, list[Any]] = {}
        for column, source in rule.sources().items():
            made: Any = values(source, piled, decimals, dtypes[column])
            of_text = dtypes[column].kind == "S"
            width = dtypes[column].itemsize
            listed = made.tolist() if isinstance(made, np.ndarray) else [made] * len(times)
            columns[column] = [v[:width] for v in listed] if of_text else listed
        columns.setdefault("currency", [self._protocol.currency] * len(times))
        for at, symbol in enumerate(symbols(piled, name)):
            given = {column: listed[at] for column, listed in columns.items()}
            if symbol:
                self.sink.define(symbol, int(times[at]), int(recv[at]), **given)

    def _dtypes(self) -> dict[str, np.dtype[Any]]:
        dtype = self._rows.new("instrument", np.zeros(0, np.int64)).dtype
        return {name: dtype[name] for name in dtype.names or () if name not in KEY_COLUMNS}


def _empty_sides(rows: Rows) -> None:
    for side in ("bid", "ask"):
        price, size = rows[f"{side}_price"], rows[f"{side}_size"]
        price[~(size > 0)] = np.nan
        size[~(size > 0)] = 0
