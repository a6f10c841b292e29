"""The only reader of clocks, and the calendar of the plant: which trading date a moment belongs to."""

import os
import time
from datetime import date, datetime, timedelta
from datetime import time as wall_time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tickplant.errors import ConfigError

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000

now_ns = time.time_ns
"""Nanoseconds since 1970, UTC."""

monotonic_ns = time.monotonic_ns
"""Nanoseconds of a clock that never steps; comparable between the processes of one boot."""


def ticks_to_monotonic(ticks: int) -> int:
    """A time that the kernel counts in clock ticks since boot (proc(5)), on the clock of `monotonic_ns`.

    Of a time before the machine last slept it is too early by as long as that took, never too late.
    """
    since_boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return ticks * SECOND_NS // os.sysconf("SC_CLK_TCK") - since_boot


def as_int(day: date) -> int:
    """A date as the number yyyymmdd, the form in which the plant stores it."""
    return day.year * 10_000 + day.month * 100 + day.day


def as_date(number: int) -> date:
    """The inverse of `as_int`. Raises ValueError if there is no such date."""
    return date(number // 10_000, number // 100 % 100, number % 100)


class TradingCalendar:
    """Trading dates that begin at a wall-clock time in an IANA timezone.

    A date begins at `roll` on that calendar day; with a roll at noon or later, at `roll` on the day
    before (17:00 New York begins the next day's session). The boundaries are instants, so a wall
    clock that repeats or skips an hour neither repeats nor loses a date.
    """

    def __init__(self, timezone: str, roll: str) -> None:
        try:
            self.zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ConfigError(f"plant.timezone {timezone!r} is not an IANA timezone") from None
        try:
            self.roll = wall_time.fromisoformat(roll)
            if self.roll.tzinfo or self.roll.microsecond:
                raise ValueError("a wall-clock time has neither an offset nor parts of a second")
        except ValueError:
            raise ConfigError(f"plant.roll {roll!r} is not a time such as '17:00'") from None
        self._ahead = timedelta(days=1 if self.roll.hour >= 12 else 0)

    def begins_ns(self, day: date) -> int:
        """The instant at which a trading date begins."""
        local = datetime.combine(day - self._ahead, self.roll, self.zone)
        return int(local.timestamp()) * SECOND_NS

    def date_at(self, at_ns: int) -> date:
        """The trading date of an instant."""
        local = datetime.fromtimestamp(at_ns // SECOND_NS, self.zone).date() + self._ahead
        for day in (local + timedelta(days=1), local):
            if self.begins_ns(day) <= at_ns:
                return day
        return local - timedelta(days=1)

    def next_roll_ns(self, at_ns: int) -> int:
        """The instant at which the trading date after that of `at_ns` begins."""
        return self.begins_ns(self.date_at(at_ns) + timedelta(days=1))


def date_after(number: int) -> int:
    """The calendar date after a date, both as yyyymmdd."""
    return as_int(as_date(number) + timedelta(days=1))
