"""When venues are open: by calendars of exchanges with their holidays, half days, breaks and clock changes.

A calendar is "24/7" or a name that the library exchange_calendars knows: the MIC of an exchange, or such as
"CMES" (CME Globex). A trading date's session is one span of time, or two with a break between; a span has its
first instant, and not its last.
"""

import re
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

from tickplant.clock import SECOND_NS
from tickplant.errors import ConfigError

ALWAYS = "24/7"
_EARLIEST, _LATEST = 1990, 2100
_DAY_NS = 86_400 * SECOND_NS
_NONE = -(1 << 63)
"""How the library writes a break that a session does not have."""

Hours = tuple[timedelta, timedelta]


def parse_hours(text: str) -> Hours | None:
    """Opening and closing, as times since midnight, of "17:00-16:00"; an opening that is later than the
    closing is on the day before. None for "". Raises ConfigError if it is not of this form.
    """
    if not text:
        return None
    clock = r"([01]\d|2[0-3]):([0-5]\d)"
    found = re.fullmatch(f"{clock}-{clock}|{clock}-24:00", text)
    if not found:
        raise ConfigError(f"hours {text!r} are not of the form 09:30-16:00")
    numbers = [int(n) for n in found.groups() if n is not None]
    opening, closing = (
        timedelta(hours=h, minutes=m) for h, m in zip(*[iter([*numbers, 24, 0][:4])] * 2, strict=True)
    )
    return (opening if opening < closing else opening - timedelta(days=1)), closing


@cache
def sessions(calendar: str, hours: str = "") -> "Sessions":
    """The sessions of a venue, made once. Raises ConfigError as `Sessions`."""
    return Sessions(calendar, hours)


@dataclass(frozen=True)
class _Year:
    """Spans that touch one year and the weeks around it, in order."""

    opens: Sequence[int]
    closes: Sequence[int]
    dates: Sequence[date]


class Sessions:
    """The sessions of one venue."""

    def __init__(self, calendar: str = ALWAYS, hours: str = "") -> None:
        """`hours`, if given, go before those of the calendar, in its timezone, on its trading dates.

        Where hours go beyond those of the calendar, they do so by as much on half days; else a half day
        ends when the calendar's does. Raises ConfigError if there is no such calendar, or no library.
        """
        self.calendar = calendar
        self._hours = parse_hours(hours)
        self._years: dict[int, _Year] = {}
        if calendar == ALWAYS:
            if hours:
                raise ConfigError(f"hours {hours!r} of the calendar {ALWAYS}, which never closes")
        elif calendar not in _library().get_calendar_names(include_aliases=True):
            raise ConfigError(f"there is no calendar {calendar!r}: a MIC such as XNYS, CMES, or {ALWAYS}")

    def is_open(self, at_ns: int) -> bool:
        """Is the venue open at this instant?"""
        return self.open_since(at_ns) is not None

    def open_since(self, at_ns: int) -> int | None:
        """When the span that this instant is in began; None if the venue is closed."""
        if self.calendar == ALWAYS:
            return 0
        year = self._year(at_ns)
        place = bisect_right(year.opens, at_ns) - 1
        return year.opens[place] if place >= 0 and at_ns < year.closes[place] else None

    def next_open(self, at_ns: int) -> int | None:
        """The first instant after this one at which the venue opens; None if it never closes."""
        if self.calendar == ALWAYS:
            return None
        year = self._year(at_ns)
        return year.opens[bisect_right(year.opens, at_ns)]

    def trading_date(self, at_ns: int) -> date:
        """The date of the session that is on, or in a break, else of the next; 24/7: the UTC date."""
        if self.calendar == ALWAYS:
            return datetime.fromtimestamp(at_ns // SECOND_NS, UTC).date()
        year = self._year(at_ns)
        return year.dates[bisect_right(year.closes, at_ns)]

    def _year(self, at_ns: int) -> _Year:
        number = datetime.fromtimestamp(at_ns // SECOND_NS, UTC).year
        if number not in self._years:
            if not _EARLIEST <= number <= _LATEST:
                raise ConfigError(f"no calendar tells of the year {number}")
            self._years[number] = self._read(number)
        return self._years[number]

    def _read(self, year: int) -> _Year:
        known = _table(self.calendar, year)
        early = {t.value for t in known.early_closes}
        late = {t.value for t in known.late_opens}
        usual: Hours | None = None
        spans: list[tuple[int, int, date]] = []
        columns = (known.sessions_nanos, known.opens_nanos, known.break_starts_nanos,
                   known.break_ends_nanos, known.closes_nanos)  # fmt: skip
        for session, opens, pause, resumes, closes in zip(*(c.tolist() for c in columns), strict=True):
            day = datetime.fromtimestamp(session // SECOND_NS, UTC).date()
            if self._hours:
                if session not in early and session not in late:
                    usual = (_since(day, opens, known.tz), _since(day, closes, known.tz))
                opens, closes = self._own(day, opens, closes, usual, known.tz)
            if pause != _NONE and opens < pause < resumes < closes:
                spans += [(opens, pause, day), (resumes, closes, day)]
            elif opens < closes:
                spans.append((opens, closes, day))
        return _Year(*zip(*spans, strict=True))

    def _own(self, day: date, opens: int, closes: int, usual: Hours | None, zone: Any) -> tuple[int, int]:
        """A session by our hours, given when the calendar has it and has the usual ones."""
        assert self._hours is not None
        calendar = (_since(day, opens, zone), _since(day, closes, zone))
        usual = usual or calendar
        opening, closing = self._hours
        if calendar[0] > usual[0]:
            opening = calendar[0] - max(usual[0] - opening, timedelta(0))
        if calendar[1] < usual[1]:
            beyond = closing - usual[1]
            closing = calendar[1] + beyond if beyond > timedelta(0) else min(closing, calendar[1])
        return _instant(day, opening, zone), _instant(day, closing, zone)


def _since(day: date, at_ns: int, zone: Any) -> timedelta:
    """What a clock on the wall shows at an instant, counted from the midnight with which a day begins."""
    local = datetime.fromtimestamp(at_ns // SECOND_NS, zone).replace(tzinfo=None)
    return local - datetime.combine(day, datetime.min.time())


def _instant(day: date, since: timedelta, zone: Any) -> int:
    local = datetime.combine(day, datetime.min.time()) + since
    return int(local.replace(tzinfo=zone).timestamp()) * SECOND_NS


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import exchange_calendars
    except ImportError:
        raise ConfigError("for calendars of exchanges: pip install 'tickplant[calendars]'") from None
    return exchange_calendars


@cache
def _table(calendar: str, year: int) -> Any:
    """The library's calendar for a year, some weeks before it and after."""
    first, last = date(year, 1, 1) - timedelta(days=40), date(year, 12, 31) + timedelta(days=40)
    try:
        with warnings.catch_warnings():  # of what the library does with its own libraries
            warnings.simplefilter("ignore")
            return _library().get_calendar(calendar, start=str(first), end=str(last))
    except (ValueError, _library().errors.CalendarError) as e:
        raise ConfigError(f"the calendar {calendar} does not tell of {year}: {e}") from None
