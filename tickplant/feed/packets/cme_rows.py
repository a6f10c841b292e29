"""Messages of CME MDP 3.0 to rows: SBE messages in, rows out, many at once (pure).

The schema is the user's: CME publishes it as templates_FixBinary.xml. A message is known by its name
without the version's number at its end (MDIncrementalRefreshBook32 and 46 are one) and without LongQty
(the same with sizes of 64 bits), its fields by theirs. What table each goes to:

    MDIncrementalRefreshBook         depth: action A New, C Change and Overlay, D Delete (size 0); R for
                                     MDEntryType J (book reset)
    MDIncrementalRefreshTradeSummary,
    MDIncrementalRefreshTrade        trade: action T New; C Change, X Delete with CORRECTION
    MDIncrementalRefreshVolume       status, kind volume: level_1 is the volume
    MDIncrementalRefreshSessionStatistics,
    MDIncrementalRefreshDailyStatistics
                                     status, kind by MDEntryType: 4 open, 6 settlement, 7 high, 8 low,
                                     B cleared, C interest, N low_offer, O high_bid, W fixing; value is
                                     the OpenCloseSettlFlag, or "deleted"; level_1 price, level_2 size
    MDIncrementalRefreshLimitsBanding
                                     status, kind limits: level_1 high, level_2 low, level_3 the maximum
                                     variation
    SecurityStatus                   status, kind trading: value is the SecurityTradingStatus, reason
                                     the HaltReason; of a whole group: instrument 0, kind group, reason
                                     the SecurityGroup
    SecurityStatusWorkup             the same of one security; level_1 is the workup's price
    SnapshotFullRefresh,
    SnapshotFullRefreshTCP           depth R, then A; statistics as above; all with SNAPSHOT
    ChannelReset                     depth R, instrument 0: all books of the channel
    MDInstrumentDefinition...        instrument; multiplier is the UnitOfMeasureQty, lot_size the
                                     MinTradeVol, attributes the CFICode and the SecurityGroup

Ignored, by their names: AdminHeartbeat, AdminLogin and AdminLogout (they are about the connection);
QuoteRequest (a wish of somebody, without a price); CollateralMarketValue (of bonds that are no instruments
of the channel); MDIncrementalRefreshOrderBook, SnapshotFullRefreshOrderBook and SnapshotRefreshTopOrders
(single orders behind the levels: depth has the levels). Any other name is an event. Implied levels
(MDEntryType E and F) are no level of the book that depth holds and are left out, as are the orders behind
the entries of books and trade summaries. Price is the mantissa with the schema's exponent. `venue_seq` is
the packet's sequence number, ts_event the TransactTime. A security that no definition named has its
SecurityID as its symbol.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tickplant.feed.capture import Batch
from tickplant.feed.packets.decoder import MessageRows
from tickplant.feed.packets.sbe import Block, Columns, Schema, Template, split
from tickplant.schema import Flag, Rows

Ints = npt.NDArray[np.int64]
IGNORED = {
    "AdminHeartbeat", "AdminLogin", "AdminLogout", "QuoteRequest", "CollateralMarketValue",
    "MDIncrementalRefreshOrderBook", "SnapshotFullRefreshOrderBook", "SnapshotRefreshTopOrders",
}  # fmt: skip
_ACTIONS = np.array([b"A", b"C", b"D", b"", b"", b"C"], "S1")
_SIDES = {b"0": b"B", b"1": b"S"}
_IMPLIED = [b"E", b"F"]
_STATISTICS = {
    b"4": b"open", b"6": b"settlement", b"7": b"high", b"8": b"low", b"B": b"cleared", b"C": b"interest",
    b"N": b"low_offer", b"O": b"high_bid", b"W": b"fixing",
}  # fmt: skip
_KINDS = ("Future", "Option", "Spread", "FixedIncome", "Repo", "FX")


class Entries(NamedTuple):
    """Blocks of one kind: where their fields are, their bytes as columns, the message each is of."""

    block: Block
    columns: Columns
    marks: Ints

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """A field as float64; NaN: none."""
        return self.block.numbers(self.columns, name)

    def integers(self, name: str, absent: int = 0) -> Ints:
        """A field as int64."""
        return self.block.integers(self.columns, name, absent)

    def texts(self, name: str) -> npt.NDArray[np.bytes_]:
        """A field as text."""
        return self.block.texts(self.columns, name)


class _Pile:
    """Blocks of one kind as they come."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.counts: list[int] = []
        self.marks: list[int] = []


class CmeRows(MessageRows):
    """Messages of one venue, until their rows are taken."""

    def __init__(self, schema: Schema, venue: str) -> None:
        super().__init__(venue)
        self._schema = schema
        self._known = {t.number: self._role(t) for t in schema.templates.values()}
        self._codes: dict[int, int] = {}
        self._clear()

    def message(self, template: int, length: int, body: bytes, seq: int, ts_recv: int) -> None:
        """A message with a root of `length` bytes, in packet `seq`."""
        known = self._schema.templates.get(template)
        if known is None:
            self.refuse(f"template {template} is not in the schema", seq, ts_recv)
            return
        if self._known[template] is None:
            if _plain(known.name) in IGNORED:
                self.ignored[known.name] += 1
            else:
                self.refuse(f"{known.name} is not a message of MDP 3.0 that is known", seq, ts_recv)
            return
        try:
            parts = split(known, body, length)
        except ValueError as e:
            self.refuse(f"{known.name}: {e}", seq, ts_recv)
            return
        self.messages[known.name] += 1
        mark = len(self._seqs)
        self._seqs.append(seq)
        self._recv.append(ts_recv)
        for index, part in enumerate(parts):
            if part.blocks and part.length:
                key = (template, index, part.length)
                pile = self._piles.get(key)
                if pile is None:
                    pile = self._piles[key] = _Pile()
                pile.data.append(part.data)
                pile.counts.append(part.blocks)
                pile.marks.append(mark)

    def take(self) -> Batch:
        """The rows since the last time, each table's in the order of the messages."""
        seqs, recv = np.array(self._seqs, np.int64), np.array(self._recv, np.int64)
        self._arrays = (seqs, recv, np.zeros(len(seqs), np.int64))
        piles = [(key, self._entries(key, pile)) for key, pile in sorted(self._piles.items())]
        for (_, index, _), entries in piles:
            if index == 0:
                self._arrays[2][entries.marks] = entries.integers("TransactTime")
        piles.sort(key=lambda p: not self._schema.templates[p[0][0]].name.startswith("MDInstrument"))
        for (template, index, _), entries in piles:
            role = self._known[template]
            if role is not None:
                role(self._schema.templates[template], index, entries)
        batch = self.sink.take() + self._rows.take()
        self._clear()
        return batch

    def _clear(self) -> None:
        self._seqs: list[int] = []
        self._recv: list[int] = []
        self._piles: dict[tuple[int, int, int], _Pile] = {}

    def _role(self, template: Template) -> Callable[[Template, int, Entries], None] | None:
        """What decodes a message of this name; None: nothing does."""
        name = _plain(template.name)
        if name.startswith("MDInstrumentDefinition"):
            return self._definitions
        return {
            "MDIncrementalRefreshBook": self._book,
            "MDIncrementalRefreshTradeSummary": self._trades,
            "MDIncrementalRefreshTrade": self._trades,
            "MDIncrementalRefreshVolume": self._statistics,
            "MDIncrementalRefreshSessionStatistics": self._statistics,
            "MDIncrementalRefreshDailyStatistics": self._statistics,
            "MDIncrementalRefreshLimitsBanding": self._limits,
            "SecurityStatus": self._status,
            "SecurityStatusWorkup": self._status,
            "SnapshotFullRefresh": self._snapshot,
            "SnapshotFullRefreshTCP": self._snapshot,
            "ChannelReset": self._reset,
        }.get(name)

    def _entries(self, key: tuple[int, int, int], pile: _Pile) -> Entries:
        template, index, length = key
        known = self._schema.templates[template]
        block = known.groups[index - 1].block if index else known.root
        marks = np.repeat(np.array(pile.marks, np.int64), pile.counts)
        return Entries(block, block.columns(b"".join(pile.data), length), marks)

    def _new(self, table: str, marks: Ints, instruments: Ints) -> Rows:
        """Rows to fill for these messages and securities."""
        rows = self._rows.new(table, marks)
        seqs, recv, times = self._arrays
        rows["ts_event"], rows["ts_recv"], rows["venue_seq"] = times[marks], recv[marks], seqs[marks]
        rows["instrument"] = instruments
        return rows

    def _instruments(self, ids: Ints) -> Ints:
        """The codes of securities; who was never defined is, by its number."""
        unique, inverse = np.unique(ids, return_inverse=True)
        codes = [self._codes.get(i) or self._code(i) for i in unique.tolist()]
        return np.array(codes, np.int64)[inverse]

    def _code(self, security: int) -> int:
        recv = int(self._arrays[1][0])
        code = self._codes[security] = self.sink.code(str(security), recv)
        return code

    def _book(self, template: Template, index: int, entries: Entries) -> None:
        if index == 1:
            self._levels(entries, entries.integers("SecurityID"), entries.integers("MDUpdateAction"), 0)

    def _levels(self, entries: Entries, ids: Ints, actions: Ints, flags: int) -> None:
        kinds = entries.texts("MDEntryType")
        reset, implied = kinds == b"J", np.isin(kinds, _IMPLIED)
        level = np.isin(kinds, list(_SIDES)) & (actions >= 0) & (actions < len(_ACTIONS))
        level[level] = _ACTIONS[actions[level]] != b""
        self._unread(entries, ~(level | reset | implied), kinds, actions)
        keep = level | reset
        if not keep.any():
            return
        rows = self._new("depth", entries.marks[keep], self._instruments(ids[keep]))
        reset, kinds = reset[keep], kinds[keep]
        rows["action"] = np.where(reset, b"R", _ACTIONS[np.where(reset, 0, actions[keep])])
        rows["side"] = _chosen([kinds == k for k in _SIDES], [*_SIDES.values()])
        rows["price"] = np.where(reset, np.nan, entries.numbers("MDEntryPx")[keep])
        size = np.nan_to_num(entries.numbers("MDEntrySize")[keep])
        rows["size"] = np.where(reset | (rows["action"] == b"D"), 0, size)
        rows["orders"] = entries.integers("NumberOfOrders")[keep]
        rows["level"] = entries.integers("MDPriceLevel")[keep]
        rows["flags"] = flags

    def _unread(
        self, entries: Entries, mask: npt.NDArray[np.bool_], kinds: npt.NDArray[np.bytes_], actions: Ints
    ) -> None:
        """Entries of a type or with an action that is none are rows of event; the rest is read."""
        seqs, recv, _ = self._arrays
        for at in np.flatnonzero(mask).tolist():
            mark = entries.marks[at]
            text = f"an entry of type {bytes(kinds[at])!r} with update action {actions[at]}"
            seq, ts = int(seqs[mark]), int(recv[mark])
            self.sink.event("malformed", ts, text, first=seq, last=seq, ts_event=ts)

    def _trades(self, template: Template, index: int, entries: Entries) -> None:
        if index != 1:
            return
        actions = entries.integers("MDUpdateAction")
        rows = self._new("trade", entries.marks, self._instruments(entries.integers("SecurityID")))
        rows["trade_id"] = entries.integers("MDTradeEntryID")
        rows["price"], rows["size"] = entries.numbers("MDEntryPx"), entries.numbers("MDEntrySize")
        side = entries.integers("AggressorSide")
        rows["side"] = _chosen([side == 1, side == 2], [b"B", b"S"])
        rows["action"] = _chosen([actions == 1, actions == 2], [b"C", b"X"], b"T")
        rows["flags"] = np.where(np.isin(actions, (1, 2)), int(Flag.CORRECTION), 0)

    def _statistics(self, template: Template, index: int, entries: Entries) -> None:
        if index == 1:
            self._statistic(entries, entries.integers("SecurityID"), 0)

    def _statistic(self, entries: Entries, ids: Ints, flags: int) -> None:
        rows = self._new("status", entries.marks, self._instruments(ids))
        kinds, deleted = entries.texts("MDEntryType"), entries.integers("MDUpdateAction") == 2
        names = {**_STATISTICS, b"e": b"volume"}
        rows["kind"] = [names.get(k, k) for k in kinds.tolist()]
        settle = entries.integers("OpenCloseSettlFlag", -1)
        flag = [b"%d" % s if s >= 0 else b"" for s in settle.tolist()]
        rows["value"] = np.where(deleted, np.bytes_(b"deleted"), np.array(flag, "S12"))
        price, size = entries.numbers("MDEntryPx"), entries.numbers("MDEntrySize")
        volume = kinds == b"e"
        rows["level_1"], rows["level_2"] = np.where(volume, size, price), np.where(volume, np.nan, size)
        rows["flags"] = flags

    def _limits(self, template: Template, index: int, entries: Entries) -> None:
        if index != 1:
            return
        rows = self._new("status", entries.marks, self._instruments(entries.integers("SecurityID")))
        rows["kind"] = b"limits"
        for level, name in enumerate(("HighLimitPrice", "LowLimitPrice", "MaxPriceVariation"), 1):
            rows[f"level_{level}"] = entries.numbers(name)

    def _status(self, template: Template, index: int, entries: Entries) -> None:
        if index:
            return
        ids = entries.integers("SecurityID", -1)
        one = ids != -1
        codes = np.zeros(len(ids), np.int64)
        if one.any():
            codes[one] = self._instruments(ids[one])
        rows = self._new("status", entries.marks, codes)
        rows["kind"] = np.where(one, np.bytes_(b"trading"), np.bytes_(b"group"))
        rows["value"] = [b"%d" % v if v >= 0 else b"" for v in entries.integers("SecurityTradingStatus", -1)]
        reasons = [b"%d" % v for v in entries.integers("HaltReason").tolist()]
        rows["reason"] = np.where(one, np.array(reasons, "S12"), entries.texts("SecurityGroup"))
        rows["level_1"] = entries.numbers("MDEntryPx")

    def _snapshot(self, template: Template, index: int, entries: Entries) -> None:
        if index == 0:
            ids = entries.integers("SecurityID")
            self._securities = dict(zip(entries.marks.tolist(), ids.tolist(), strict=True))
            rows = self._new("depth", entries.marks, self._instruments(ids))
            rows["action"], rows["size"], rows["flags"] = b"R", 0, Flag.SNAPSHOT
        elif index == 1:
            ids = np.array([self._securities[m] for m in entries.marks.tolist()], np.int64)
            kinds = entries.texts("MDEntryType")
            of_statistics = np.isin(kinds, [*_STATISTICS, b"e"])
            for mask, add in (
                (~of_statistics, self._snapshot_levels),
                (of_statistics, self._snapshot_statistics),
            ):
                if mask.any():
                    add(Entries(entries.block, entries.columns[mask], entries.marks[mask]), ids[mask])

    def _snapshot_levels(self, entries: Entries, ids: Ints) -> None:
        self._levels(entries, ids, np.zeros(len(ids), np.int64), Flag.SNAPSHOT)

    def _snapshot_statistics(self, entries: Entries, ids: Ints) -> None:
        self._statistic(entries, ids, Flag.SNAPSHOT)

    def _reset(self, template: Template, index: int, entries: Entries) -> None:
        if index == 0:
            rows = self._new("depth", entries.marks, np.zeros(len(entries.marks), np.int64))
            rows["action"], rows["size"] = b"R", 0

    def _definitions(self, template: Template, index: int, entries: Entries) -> None:
        if index:
            return
        kind = next((k.lower()[:8] for k in _KINDS if k in template.name), "")
        recv = self._arrays[1][entries.marks].tolist()
        attributes = np.char.add(np.char.add(entries.texts("CFICode"), b" "), entries.texts("SecurityGroup"))
        columns = zip(
            recv, entries.integers("SecurityID").tolist(), entries.texts("Symbol").tolist(),
            entries.texts("Currency").tolist(), entries.texts("Asset").tolist(), attributes.tolist(),
            entries.numbers("MinPriceIncrement").tolist(), entries.numbers("MinTradeVol").tolist(),
            entries.numbers("UnitOfMeasureQty").tolist(), strict=True,
        )  # fmt: skip
        for ts, security, symbol, currency, asset, attribute, tick, lot, unit in columns:
            name = (symbol.decode().strip() if symbol.isascii() else "") or str(security)
            self._codes[security] = self.sink.define(
                name, ts, ts, kind=kind, currency=currency, base=asset, attributes=attribute[:32],
                tick_size=tick, lot_size=lot, multiplier=unit,
            )  # fmt: skip


def _plain(name: str) -> str:
    """A message's name without its version, and without LongQty."""
    return name.rstrip("0123456789").removesuffix("LongQty")


def _chosen(
    masks: list[npt.NDArray[np.bool_]], values: list[bytes], otherwise: bytes = b""
) -> npt.NDArray[np.bytes_]:
    """Of each place the value of the first mask that is true there."""
    return np.select(masks, [np.array(v, "S1") for v in values], np.array(otherwise, "S1"))
