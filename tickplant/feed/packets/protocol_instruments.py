"""The instruments of a declared protocol's messages: by symbol, by a number, or by their order (pure)."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tickplant.feed.packets.protocol import Index, Message, Protocol, Series
from tickplant.feed.packets.protocol_fields import Fields, Values
from tickplant.feed.packets.protocol_values import UNKNOWN, Ints, Piled, option_symbols, symbol_text, symbols
from tickplant.feed.sink import Sink

ORDERS_MAX = 1 << 22
"""Orders whose instrument is remembered; when there are more, all are forgotten, which is an event."""
TOLD_MAX = 4096
"""Events about instruments without decimals."""


class Codes(NamedTuple):
    """Of each message: its instrument's code, its decimals, and whether its order is unknown."""

    codes: Ints
    decimals: Ints
    orphan: npt.NDArray[np.bool_]
    again: npt.NDArray[np.bool_]
    """Of messages that add an order or replace it: whether it was there."""

    def where(self, which: Any) -> "Codes":
        """Some of them."""
        return Codes(*(part[which] for part in self))


class Instruments:
    """The instruments of one capture."""

    def __init__(self, protocol: Protocol, sink: Sink) -> None:
        self._protocol, self._sink = protocol, sink
        self._ids: dict[int | bytes, int] = {}
        self._decimals: dict[int | bytes, int] = {}
        self._orders: dict[int, tuple[int, int]] = {}
        self._shared: dict[tuple[int, int], tuple[int, int]] = {}
        """One tuple for all orders of an instrument."""
        self._told: set[int] = set()
        layouts = [protocol.layout(m) for m in protocol.messages if m.rows]
        self._follows = any(m.adds_or_replaces for m in protocol.messages) or any(
            protocol.order in f and not self.named(f) for f in layouts
        )

    def symbol(self, fields: Fields) -> str:
        """The field that is a message's symbol; empty: none."""
        return next((name for name in self._protocol.symbol if name in fields), "")

    def name(self, fields: Fields) -> str:
        """The field by which a message names its instrument."""
        return self.symbol(fields) or self._protocol.id

    def named(self, fields: Fields) -> bool:
        """Whether messages tell their instrument by themselves."""
        return bool(self.symbol(fields) or self._option(fields)) or self._protocol.id in fields

    def tell(self, number: int, symbol: str, decimals: int | None) -> None:
        """What a number means."""
        self._ids[number] = self._sink.code(symbol, 0, currency=self._protocol.currency)
        if decimals is not None:
            self._decimals[number] = decimals

    def learn(self, index: Index, piled: Piled, recv: Ints) -> None:
        """Messages that tell what numbers mean."""
        decimals = self.decimals_of(index, piled).tolist()
        numbers, names = piled.column(index.id).tolist(), symbols(piled, index.symbol)
        for number, name, places, ts in zip(numbers, names, decimals, recv.tolist(), strict=True):
            if name:
                self._ids[number] = self._sink.code(name, ts, currency=self._protocol.currency)
            if places != UNKNOWN:
                self._decimals[number] = places

    def decimals_of(self, index: Index | None, piled: Piled) -> Ints:
        """The decimals that messages of an index tell."""
        if index and index.decimals:
            return piled.decimals(index.decimals)
        return np.full(len(piled), UNKNOWN, np.int64)

    def codes(self, message: Message, piled: Piled, recv: Ints, seqs: Ints) -> Codes:
        """The instruments of messages."""
        fields, order = piled.fields, self._protocol.order
        known, symbol = np.ones(len(piled), np.bool_), self.symbol(fields)
        option = self._option(fields)
        if option or symbol:
            texts = option_symbols(option, piled) if option else piled.column(symbol)
            if message.suffix:
                texts = _with_suffix(texts, piled.column(message.suffix))
            codes, decimals = self._by(texts, False, recv, seqs, False)
        elif self._protocol.id in fields:
            scaled = any(s.scaled for rule in message.rows for s in rule.sources().values())
            codes, decimals = self._by(piled.column(self._protocol.id), True, recv, seqs, scaled)
        elif order and (message.replaces or order in fields):
            orders = piled.column(message.replaces or order).tolist()
            new = piled.column(order).tolist() if message.replaces else None
            codes, decimals, known = self._by_order(orders, new)
        else:
            codes, decimals = np.zeros((2, len(piled)), np.int64)
        again = np.zeros(len(piled), np.bool_)
        if self._follows and order in fields:
            listed = piled.column(order).tolist()
            if any(rule.ends for rule in message.rows):
                for each in listed:
                    self._orders.pop(each, None)
            elif self.named(fields):
                again = self._remember(listed, codes, decimals, recv)
        return Codes(codes, decimals, ~known, again)

    def _option(self, fields: Fields) -> Series | None:
        series = self._protocol.series
        return next((s for s in series if all(name in fields for name in s.fields())), None)

    def _by(self, values: Values, numbers: bool, recv: Ints, seqs: Ints, scaled: bool) -> tuple[Ints, Ints]:
        unique, first, where = np.unique(values, return_index=True, return_inverse=True)
        listed = unique.tolist()
        codes = []
        for value, at in zip(listed, first.tolist(), strict=True):
            code = self._ids.get(value) if numbers else None
            codes.append(code or self._new(value, numbers, int(recv[at])))
        decimals = [self._decimals.get(value, UNKNOWN) if numbers else UNKNOWN for value in listed]
        if scaled:
            for code, number, at in zip(codes, decimals, first.tolist(), strict=True):
                if number == UNKNOWN and code not in self._told and len(self._told) < TOLD_MAX:
                    self._tell_missing(code, int(recv[at]), int(seqs[at]))
        return np.array(codes, np.int64)[where], np.array(decimals, np.int64)[where]

    def _new(self, value: int | bytes, number: bool, recv: int) -> int:
        text = symbol_text(value)
        if not text:
            return 0
        code = self._sink.code(text, recv, currency=self._protocol.currency)
        if number:
            self._ids[value] = code
        return code

    def _tell_missing(self, code: int, recv: int, seq: int) -> None:
        self._told.add(code)
        text = "nothing told how many decimals its prices have: they are left out"
        self._sink.event("orphan", recv, text, first=seq, last=seq, instrument=code, ts_event=recv)

    def _by_order(self, orders: list[int], new: list[int] | None) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
        known = self._orders
        none = (0, UNKNOWN)
        if new is None:
            found = [known.get(o, none) for o in orders]
        else:
            found = []
            for old, order in zip(orders, new, strict=True):
                of = known.get(old, none)
                if of is not none:
                    known[order] = of
                found.append(of)
        both = np.array(found, np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1], both[:, 0] != 0

    def _remember(self, orders: list[int], codes: Ints, decimals: Ints, recv: Ints) -> npt.NDArray[np.bool_]:
        """Orders that begin; which were there already."""
        if len(self._orders) + len(orders) > ORDERS_MAX:
            text = f"more than {ORDERS_MAX} orders: those before are orphans from here on"
            self._sink.event("orphan", int(recv[-1]), text, ts_event=int(recv[-1]))
            self._orders.clear()
        again = []
        for order, code, places in zip(orders, codes.tolist(), decimals.tolist(), strict=True):
            again.append(order in self._orders)
            self._orders[order] = self._shared.setdefault((code, places), (code, places))
        return np.array(again, np.bool_)


def _with_suffix(texts: Values, suffixes: Values) -> Values:
    dotted = np.char.add(np.char.add(texts, b"."), suffixes)
    return np.where((texts == b"") | (suffixes == b""), texts, dotted)
