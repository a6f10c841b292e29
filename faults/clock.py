"""The wall clock of a site: stepped while rows flow or the plant is down, and moved over changes of the hour.

All processes of the site see the clock of `clock_shim.c`. A date never reopens: it ends when the clock says a
later one, whatever the clock says afterwards.
"""

import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from faults.case import Case, Fault
from faults.check import journaled
from faults.site import Settings, Site
from faults.source import BATCH_MAX, RUN_SHIFT, TABLES
from tickplant.clock import SECOND_NS, as_int, now_ns
from tickplant.errors import TickplantError

_DAY = 86_400
_STEPS = (1, -1, 3600, -3600, 3 * _DAY, -3 * _DAY)
_SOURCE = Path(__file__).with_name("clock_shim.c")
_LEAD_NS = SECOND_NS

Moment = tuple[datetime, date, date]
"""An instant, the trading date just before it, and that from it on."""


class Clock:
    """The clock of one site, and what was open when."""

    def __init__(self, site: Site) -> None:
        self.site, self.path = site, site.folder / "clock.offset"

    @classmethod
    def of(cls, site: Site) -> "Clock | None":
        """The clock of a site that has one of its own."""
        clock = cls(site)
        return clock if clock.path.exists() else None

    def install(self, moments: Iterator[Moment]) -> None:
        """Have all processes of the site see it."""
        compiler = shutil.which("cc")
        if compiler is None:
            raise TickplantError("a clock that can be stepped needs a C compiler: install gcc")
        made = self.site.folder / "clock_shim.so"
        flags = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
        subprocess.run([compiler, *flags, str(_SOURCE), "-o", str(made), "-ldl"], check=True)
        self.path.write_bytes(bytes(8))
        self.path.chmod(0o644)
        self.site.environment |= {"LD_PRELOAD": str(made), "CLOCK_OFFSET": str(self.path)}
        self.site.witness.append(Opened(self.site, moments))

    @property
    def offset_ns(self) -> int:
        """How far it is ahead of the machine's."""
        return int(struct.unpack("q", self.path.read_bytes())[0])

    def now_ns(self) -> int:
        """What it shows."""
        return now_ns() + self.offset_ns

    def step(self, by_ns: int) -> None:
        """Move it: at once, for all who see it."""
        with self.path.open("r+b") as file:
            file.write(struct.pack("q", self.offset_ns + by_ns))

    def today(self) -> int:
        """The trading date that it says."""
        return as_int(self.site.config.calendar.date_at(self.now_ns()))


class Opened:
    """Which date was open when a feed had published so much."""

    def __init__(self, site: Site, moments: Iterator[Moment]) -> None:
        self.site, self.moments = site, moments
        self._seen: list[tuple[int, str, str, int, int]] = []
        self._wrong: list[str] = []

    def look(self) -> int:
        """Note it; the open date, which is never one before an earlier one."""
        open_now = self.site.plant.trading_date
        if self._seen and self._seen[-1][0] > open_now:
            self._wrong.append(f"trading date {open_now} was open after {self._seen[-1][0]}")
        for feed in self.site.config.feeds:
            counts = self.site.counts(feed)
            self._seen += [(open_now, feed, t, counts.runs, counts.of(counts.runs, t)) for t in TABLES]
        return open_now

    def expect(self, trading_date: int, why: str) -> None:
        """This date should be open now."""
        if (found := self.look()) != trading_date:
            self._wrong.append(f"{why}: trading date {found} is open, not {trading_date}")

    def __call__(self) -> list[str]:
        """What was not so: rows in a date that had ended before they were published."""
        for name in TABLES:
            for day in self.site.dates():
                rows = journaled(self.site.config.journal_dir / str(day), self.site.config.schema[name])
                for feed, settings in self.site.config.feeds.items():
                    last = rows[rows["feed"] == settings.id]["venue_seq"]
                    key = int(last.max()) if len(last) else -1
                    self._wrong += [
                        f"{feed} {name}: row {key:#x} is in {day} and was published when {open_then} was open"
                        for open_then, of, table, run, published in self._seen
                        if (of, table) == (feed, name)
                        and day < open_then
                        and key >= (run << RUN_SHIFT) + published + BATCH_MAX
                    ]
        return self._wrong


def _opened(site: Site) -> Opened:
    return next(w for w in site.witness if isinstance(w, Opened))


def stepped(*seconds: int) -> Fault:
    """The clock is stepped while rows flow."""

    def fault(site: Site, choice: random.Random) -> bool:
        clock = Clock.of(site)
        if clock is None:
            return False
        _step(site, clock, choice.choice(seconds))
        site.pause(choice.uniform(0.0, 1.0))
        _opened(site).look()
        return True

    return fault


def _step(site: Site, clock: Clock, seconds: int) -> None:
    before = _opened(site).look()
    clock.step(seconds * SECOND_NS)
    expected = max(before, clock.today())
    site.until(lambda: site.plant.trading_date >= expected, f"trading date {expected} to begin")
    _opened(site).expect(max(expected, clock.today()), f"the clock was stepped by {seconds:,} s")


def stepped_while_down(site: Site, choice: random.Random) -> bool:
    """The ticker plant is dead when the clock steps, be it over one or several rolls."""
    clock = Clock.of(site)
    if clock is None:
        return False
    site.kill("tickerplant", 0.3)
    _step(site, clock, choice.choice((*_STEPS, _DAY, 2 * _DAY)))
    return True


def passed(site: Site, choice: random.Random) -> bool:
    """The clock comes to the next of these moments, and goes on."""
    clock = Clock.of(site)
    if clock is None:
        return False
    at, before, after = next(_opened(site).moments)
    clock.step(int(at.timestamp()) * SECOND_NS - _LEAD_NS - clock.now_ns())
    site.until(lambda: site.plant.trading_date >= as_int(before), f"trading date {before} to begin")
    _opened(site).expect(as_int(before), f"just before {at:%Y-%m-%d %H:%M}Z")
    site.until(lambda: clock.now_ns() > int(at.timestamp()) * SECOND_NS + _LEAD_NS // 2, f"{at} to come")
    _opened(site).expect(as_int(after), f"just after {at:%Y-%m-%d %H:%M}Z")
    return True


def _sunday(year: int, month: int, nth: int) -> date:
    """The nth Sunday of a month, from 1; 0: the last."""
    first = date(year, month, 1)
    sundays = [d for k in range(31) if (d := first + timedelta(k)).month == month and d.weekday() == 6]
    return sundays[nth - 1]


def _utc(day: date, hour: int, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def _berlin() -> Iterator[Moment]:
    """02:30 in Berlin on the days when the hour from 2 to 3 is left out, and when it comes twice."""
    one = timedelta(1)
    for year in count(2027):
        spring, autumn = _sunday(year, 3, 0), _sunday(year, 10, 0)
        yield _utc(spring, 1, 0), spring - one, spring - one  # 2:00, which is 3:00
        yield _utc(spring, 1, 30), spring - one, spring
        yield _utc(autumn, 0, 30), autumn - one, autumn  # 2:30 for the first time
        yield _utc(autumn, 1, 30), autumn, autumn  # and for the second
        yield _utc(autumn + one, 1, 30), autumn, autumn + one


def _new_york() -> Iterator[Moment]:
    """17:00 in New York around the Sundays on which the clocks change."""
    one = timedelta(1)
    for year in count(2027):
        sunday = _sunday(year, 3, 2)
        yield _utc(sunday - one, 22, 0), sunday - one, sunday
        yield _utc(sunday, 21, 0), sunday, sunday + one  # after 23 hours
        yield _utc(sunday, 22, 0), sunday + one, sunday + one
        sunday = _sunday(year, 11, 1)
        yield _utc(sunday - one, 21, 0), sunday - one, sunday
        yield _utc(sunday, 21, 0), sunday, sunday
        yield _utc(sunday, 22, 0), sunday, sunday + one  # after 25 hours


def _no_moments() -> Iterator[Moment]:
    return iter(())


def own_clock(
    timezone: str = "UTC", roll: str = "00:00", moments: Callable[[], Iterator[Moment]] = _no_moments
) -> Settings:
    """A plant with a clock of its own, this calendar, and moments to come to."""

    def settings(content: dict[str, Any], site: Site) -> None:
        content["plant"] |= {"timezone": timezone, "roll": roll}
        Clock(site).install(moments())

    return settings


CASES = {
    "clock-second": Case([stepped(1, -1)], settings=own_clock()),
    "clock-hour": Case([stepped(3600, -3600)], settings=own_clock()),
    "clock-days": Case([stepped(3 * _DAY, -3 * _DAY)], settings=own_clock()),
    "clock-while-down": Case([stepped_while_down], settings=own_clock()),
    "clock-berlin": Case([passed], mixed=False, settings=own_clock("Europe/Berlin", "02:30", _berlin)),
    "clock-new-york": Case([passed], mixed=False, settings=own_clock("America/New_York", "17:00", _new_york)),
}
