"""When messages of a declared protocol were sent, of the fields that say so; many at once (pure)."""

import datetime
import zoneinfo
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tickplant.clock import SECOND_NS
from tickplant.feed.packets.protocol import Clock
from tickplant.feed.packets.protocol_fields import Fields
from tickplant.schema import Rows

Times = npt.NDArray[np.int64]
_QUARTER_NS = 900 * SECOND_NS
"""Days begin at quarters of an hour, in every time zone."""
_DAY_NS = 86_400 * SECOND_NS


class Known(NamedTuple):
    """What is known of messages beside their fields: when their packet was sent, or captured if it does
    not tell; the time that a reference told last, 0: none."""

    packet: Times
    reference: Times


class Clocks:
    """Reads the times of one protocol."""

    def __init__(self, clocks: list[Clock], timezone: str) -> None:
        self._clocks, self._zone = clocks, zoneinfo.ZoneInfo(timezone)
        self._midnights: dict[int, int] = {}

    def times(self, fields: Fields, rows: Rows, known: Known) -> Times:
        """When messages were sent, ns UTC."""
        for clock in self._clocks:
            if all(name in fields for name, _ in clock.parts()):
                return self.read(clock, fields, rows, known)
        return known.packet

    def read(self, clock: Clock, fields: Fields, rows: Rows, known: Known) -> Times:
        """The times that some fields tell."""
        told = np.zeros(len(rows), np.int64)
        for name, unit in clock.parts():
            told += fields.column(rows, name).astype(np.int64) * unit
        if clock.since == "epoch":
            return np.where(told == 0, known.packet, told)
        if clock.since == "midnight":
            times = self._midnight(known.packet) + told
            off = np.rint((known.packet - times) / _DAY_NS).astype(np.int64)
            return times + off * _DAY_NS
        nearest = (known.packet - told + SECOND_NS // 2) // SECOND_NS * SECOND_NS
        return np.where(known.reference == 0, nearest, known.reference) + told

    def _midnight(self, times: Times) -> Times:
        """When the days of these times began."""
        quarters, where = np.unique(times // _QUARTER_NS, return_inverse=True)
        return np.array([self._began(q) for q in quarters.tolist()], np.int64)[where]

    def _began(self, quarter: int) -> int:
        found = self._midnights.get(quarter)
        if found is None:
            at = datetime.datetime.fromtimestamp(quarter * _QUARTER_NS // SECOND_NS, self._zone)
            day = datetime.datetime.combine(at.date(), datetime.time(), self._zone)
            found = self._midnights[quarter] = int(day.timestamp()) * SECOND_NS
        return found
