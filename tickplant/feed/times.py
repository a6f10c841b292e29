"""Times as venues write them, to int64 nanoseconds UTC, exactly."""

from datetime import UTC, datetime

SECOND_NS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_ns(text: str) -> int:
    """ISO 8601 with up to nine decimals of a second: 2021-12-12T23:05:29.9692063Z; no zone means UTC.

    Raises ValueError if it is not that.
    """
    head, point, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    fraction, zone = rest[:digits], rest[digits:]
    if point and not 0 < digits <= 9:
        raise ValueError(f"{text!r} is not a time of ISO 8601 with up to nine decimals")
    moment = datetime.fromisoformat(head + zone)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND_NS + int(fraction.ljust(9, "0") or 0)


def decimal_ns(text: str) -> int:
    """Seconds since 1970 as decimal text, 1618678133.123456; what is below a nanosecond is cut off.

    Raises ValueError if it is not that.
    """
    whole, _, fraction = text.partition(".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()):
        raise ValueError(f"{text!r} is not a number of seconds")
    return int(whole) * SECOND_NS + int(fraction[:9].ljust(9, "0"))
