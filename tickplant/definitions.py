"""Rows that need a word before they are taken: definitions of instruments, and codes never defined.

A feed's codes mean what its last definition in the session says. What can't be defined (no name, a code out
of range, more instruments than allowed) is refused with an event, and rows that use such codes are kept,
without instrument: a row is never lost for want of a name.
"""

import logging
from collections import Counter
from collections.abc import Callable

import numpy as np

from tickplant import wire
from tickplant._core import framing
from tickplant._core.intake import DEFINITIONS, STAGE_FULL
from tickplant.day import Day
from tickplant.errors import SchemaError
from tickplant.instruments import named
from tickplant.refusals import Report, now_and_then
from tickplant.schema import Rows

log = logging.getLogger(__name__)

UNDEFINED = "instrument codes used before a definition; kept without instrument"
_NOT_YET = 0xFFFFFFFF


class Definitions:
    """Takes such frames into the day's intake."""

    def __init__(self, day: Day, report: Report) -> None:
        self.day, self.intake, self.report = day, day.intake, report
        self._added: Counter[int] = Counter()
        """Instruments that the plant did not know before, by feed, in this trading date."""
        self._date = 0
        self._told: Counter[tuple[str, int]] = Counter()

    def take(self, reason: int, message: bytes, now_ns: int, commit: Callable[[], None]) -> None:
        """Take a frame that the intake did not, for this reason: DEFINITIONS or UNDEFINED_CODE."""
        if self._date != self.day.trading_date:
            self._date = self.day.trading_date
            self._added.clear()
            self._told.clear()  # each date says for itself which feeds have rows without instrument
        head = wire.header(message)
        rows = self.day.schema.numbered(head.table).rows(memoryview(message)[wire.HEADER_SIZE :])
        if reason == DEFINITIONS:
            self._define(head, rows, now_ns)
        if not self._take(message, now_ns, commit):
            if self._undefined(head.feed, rows["instrument"].tolist()):
                self._now_and_then("undefined", head, UNDEFINED)
            if not self._take(message, now_ns, commit):
                self._take(self._in_range(message, head), now_ns, commit)

    def _take(self, message: bytes, now_ns: int, commit: Callable[[], None]) -> bool:
        """Take a message whose definitions are dealt with; False if its codes are not defined."""
        while self.intake.take([message], 0, now_ns, True) == 0:
            if self.intake.reason != STAGE_FULL:
                return False
            commit()
        return True

    def _define(self, head: wire.Header, rows: Rows, now_ns: int) -> None:
        instruments = self.day.registry.instruments
        before, meant = len(instruments), self._meanings(head.feed, rows)
        allowed = self._allowed(head.feed, rows)
        try:
            self.day.define(head.feed, rows[allowed], now_ns)
            if not allowed.all():
                raise SchemaError(
                    f"more than limits.feed_instruments = {self.day.config.limits.feed_instruments} new "
                    "instruments of one feed; raise it and restart the ticker plant"
                )
        except SchemaError as e:
            self.report("refused", about=head.feed, session=head.session, first=head.seq,
                        last=head.seq + head.count - 1, text=str(e))  # fmt: skip
            log.error("feed number %d: %s", head.feed, e)
            self._defined_so_far(head.feed, rows)
        self._added[head.feed] += len(instruments) - before
        for code, old in meant.items():
            new = self.intake.code(head.feed, code)
            if new != old:
                text = f"code {code} meant {instruments[old]}, now {instruments[new] or 'no instrument'}"
                self._now_and_then("redefined", head, text)

    def _meanings(self, feed: int, rows: Rows) -> dict[int, int]:
        """The instruments that codes defined here stood for already."""
        codes = {code: self.intake.code(feed, code) for code in rows["code"].tolist()}
        return {code: old for code, old in codes.items() if old not in (0, _NOT_YET)}

    def _allowed(self, feed: int, rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of the definitions do not make more instruments than one feed may."""
        room = self.day.config.limits.feed_instruments - self._added[feed]
        new = {name for name in rows[["venue", "symbol"]].tolist() if self._is_new(*name)}
        if len(new) <= room:
            return np.ones(len(rows), np.bool_)
        some = set(sorted(new)[: max(0, room)])
        return np.array([n not in new or n in some for n in rows[["venue", "symbol"]].tolist()])

    def _is_new(self, venue: bytes, symbol: bytes) -> bool:
        try:
            return self.day.registry.instruments.find(*named(venue, symbol)) is None
        except SchemaError:
            return False  # and will be refused as such

    def _now_and_then(self, kind: str, head: wire.Header, text: str, what: str = "") -> None:
        """`what`: tells events of one kind apart, each with a count of its own."""
        self._told[kind + what, head.feed] += 1
        if now_and_then(self._told[kind + what, head.feed]):
            self.report(kind, about=head.feed, session=head.session, first=head.seq,
                        last=head.seq + head.count - 1, text=text)  # fmt: skip

    def _in_range(self, message: bytes, head: wire.Header) -> bytes:
        """The same frame; its rows whose code no instrument can have are without one."""
        rows = self.day.schema.numbered(head.table).rows(bytearray(message[wire.HEADER_SIZE :]))
        limit = self.day.config.tickerplant.instruments_max
        beyond = rows["instrument"] >= limit
        rows["instrument"][beyond] = 0
        text = f"{beyond.sum()} rows with an instrument code from {limit} on; kept without instrument"
        self._now_and_then("undefined", head, text, "beyond")
        return framing.seal(
            rows.view("u1"), wire.ROWS, table=head.table, feed=head.feed, session=head.session,
            seq=head.seq, feed_row=head.feed_row, feed_sum=head.feed_sum, time_ns=head.time_ns,
            count=head.count, schema=head.schema,
        )  # fmt: skip

    def _defined_so_far(self, feed: int, rows: Rows) -> None:
        """Codes that a refused definition gives a new meaning have none, unless the plant has the name.

        A recovery finds the same, for it looks for the names of the journaled rows.
        """
        find, limit = self.day.registry.instruments.find, self.day.config.tickerplant.instruments_max
        for code, venue, symbol in rows[["code", "venue", "symbol"]].tolist():
            if 0 < code < limit:
                try:
                    number = find(*named(venue, symbol))
                except SchemaError:
                    number = None
                self.intake.define(feed, code, number or 0)

    def _undefined(self, feed: int, codes: list[int]) -> bool:
        """Have codes that were never defined mean no instrument; were there any?"""
        limit = self.day.config.tickerplant.instruments_max
        new = {c for c in codes if c < limit and self.intake.code(feed, c) == _NOT_YET}
        for code in new:
            self.intake.define(feed, code, 0)
        return bool(new)
