"""Times as venues write them, to int64 nanoseconds UTC, exactly."""

import re
from datetime import UTC, datetime

from tickplant._core.texts import plain_iso_ns

MS_NS = 1_000_000
SECOND_NS = 1_000_000_000
US_NS = 1000
MICROSECONDS = 10**15
"""A time from here on is in microseconds: as milliseconds it would be in the year 33658."""
NO_TIMES = ("1970-01-01T00:00:00", "0001-01-01T00:00:00")
"""How times that are not set are written."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_DAY_MONTH_YEAR = re.compile(r"(\d{1,2})([A-Z]{3})((?:20)?\d\d)", re.ASCII)
_SECONDS = re.compile(r"(\d{1,12})(?:\.(\d+))?", re.ASCII)


def iso_ns(text: str) -> int:
    """ISO 8601 with up to nine decimals of a second: 2021-12-12T23:05:29.9692063Z; no zone means UTC.

    Raises ValueError if it is not that.
    """
    ns = plain_iso_ns(text)
    return ns if ns >= 0 else _iso_ns(text)


def epoch_ns(time: int) -> int:
    """A time in milliseconds since 1970, or in microseconds, which is told by its size."""
    return time * (US_NS if time >= MICROSECONDS else MS_NS)


def given_ns(text: str) -> int:
    """A time of ISO 8601, or 0 where a venue has none and writes that as an empty text, 1970 or year 1.

    Raises ValueError if it is not that.
    """
    return 0 if not text or text.startswith(NO_TIMES) else iso_ns(text)


def _iso_ns(text: str) -> int:
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a time of ISO 8601 with up to nine decimals")
    head, fraction, zone = found.groups(default="")
    moment = datetime.fromisoformat(head + zone)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - _EPOCH
    ns = (since.days * 86_400 + since.seconds) * SECOND_NS + int(fraction.ljust(9, "0"))
    if not -(1 << 63) <= ns < (1 << 63) - SECOND_NS:
        raise ValueError(f"{text} is not in 64 bits of nanoseconds")
    return ns


def decimal_ns(text: str) -> int:
    """Seconds since 1970 as decimal text, 1618678133.123456; what is below a nanosecond is cut off.

    Raises ValueError if it is not that.
    """
    found = _SECONDS.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a number of seconds")
    whole, fraction = found.groups(default="")
    return int(whole) * SECOND_NS + int(fraction[:9].ljust(9, "0"))


def yymmdd(text: str) -> str:
    """An expiry of six digits as YYYYMMDD: 240628 is 20240628. Raises ValueError if it is none."""
    if len(text) != 6:
        raise ValueError(f"{text[:40]!r} is not a date of six digits")
    return datetime.strptime("20" + text, "%Y%m%d").strftime("%Y%m%d")


def day_month_year(text: str) -> str:
    """An expiry as 5MAR27, or 28JUN2024, as YYYYMMDD. Raises ValueError if it is none."""
    found = _DAY_MONTH_YEAR.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a date such as 5MAR27")
    day, month, year = found.groups()
    return datetime.strptime(f"{day} {month} {year[-2:]}", "%d %b %y").strftime("%Y%m%d")


def ms_date(ms: int) -> str:
    """The day of milliseconds since 1970, UTC, as YYYYMMDD. Raises ValueError if there is none."""
    try:
        return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y%m%d")
    except (OverflowError, OSError):
        raise ValueError(f"{ms} is not a time in milliseconds") from None
