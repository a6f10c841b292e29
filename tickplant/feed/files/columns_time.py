"""Columns of times, in any of the units a mapping can name, to ns UTC."""

import datetime
import zoneinfo
from typing import Any

import numpy as np
import numpy.typing as npt

from tickplant.errors import CaptureError
from tickplant.feed.files.columns_read import arrow, text
from tickplant.feed.files.mapping import Time

DIGITS = {"s": 9, "ms": 6, "us": 3, "ns": 0, "midnight": 9}
DAY_S = 86_400

_NUMBER = r"^-?\d+(\.\d+)?$"

Times = npt.NDArray[np.int64]
Bad = npt.NDArray[np.bool_]


def midnight_ns(day: datetime.date, timezone: str) -> int:
    """The instant of the first moment of a day. Raises CaptureError if there is no such time zone."""
    try:
        zone = zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise CaptureError(f"there is no time zone {timezone!r}") from None
    return int(datetime.datetime.combine(day, datetime.time(), zone).timestamp()) * 1_000_000_000


def clock(column: Any, days: Any, rule: Time) -> tuple[Times, Bad]:
    """ns UTC of times of day HHMMSS, with up to nine digits of a second behind them, of days YYYYMMDD.

    HH:MM, HH:MM:SS and YYYY.MM.DD are taken as well.
    """
    pa, pc = arrow(), arrow(".compute")
    column, days = column.cast(pa.string()), days.cast(pa.string())
    column = pc.replace_substring_regex(column, r"^(\d\d):(\d\d)$", r"\1\2" + "00")
    column = pc.replace_substring_regex(column, r"^(\d\d):(\d\d):(\d\d)", r"\1\2\3")
    days = pc.replace_substring_regex(days, r"^(\d{4})[.-](\d\d)[.-](\d\d)$", r"\1\2\3")
    sound = np.array(pc.match_substring_regex(column, r"^([01]\d|2[0-3])[0-5]\d[0-5]\d\d{0,9}$"), np.bool_)
    digits = pc.if_else(pa.array(sound), pc.utf8_rpad(column, 15, "0"), "0")
    whole, fraction = np.divmod(np.array(digits.cast(pa.int64()), np.int64), 10**9)
    seconds = whole // 10_000 * 3600 + whole // 100 % 100 * 60 + whole % 100
    which, texts = text(days)
    found = [_midnight(t, rule.timezone) for t in texts] or [None]
    midnights = np.array([f or 0 for f in found], np.int64)
    known = np.array([f is not None for f in found], np.bool_)
    return seconds * 10**9 + fraction + midnights[which], ~(sound & known[which])


def _midnight(day: str, timezone: str) -> int | None:
    try:
        found = midnight_ns(datetime.datetime.strptime(day, "%Y%m%d").date(), timezone)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < (1 << 63) - DAY_S * 10**9 else None


def read(table: Any, rule: Time, day: datetime.date | None) -> tuple[Times, Bad]:
    """The times of a table by one rule: ns UTC of each line, and which are none."""
    if rule.date:
        return clock(table[rule.column], table[rule.date], rule)
    return times(table[rule.column], rule, day)


def times(column: Any, rule: Time, day: datetime.date | None) -> tuple[Times, Bad]:
    """ns UTC of each value, and which are no times.

    Seconds after midnight are those that have passed since: venues count so also on the days on which
    clocks are changed (at night, before they open).
    """
    pa = arrow()
    if pa.types.is_timestamp(column.type):
        return _typed(column, rule)
    if rule.unit == "iso":
        return _iso(column, rule)
    if rule.unit == "compact":
        return _compact(column, rule)
    if rule.unit == "auto":
        return _by_magnitude(column, rule)
    digits = DIGITS[rule.unit]
    try:
        whole = column.cast(pa.int64())
        bad = np.array(whole.is_null(), np.bool_)
        values = np.array(whole.fill_null(0), np.int64) + rule.plus
        limit = (1 << 63) // 10**digits - 1
        bad |= (values > limit) | (values < -limit)
        made = np.where(bad, 0, values) * 10**digits
    except pa.ArrowInvalid:
        made, bad = _decimal(column, digits)
    if rule.unit == "midnight":
        assert day is not None
        bad |= (made < 0) | (made > 2 * DAY_S * 10**9)
        made += midnight_ns(day, rule.timezone)
    return made, bad


def _compact(column: Any, rule: Time) -> tuple[Times, Bad]:
    """YYYYMMDD HHMMSS and digits of a second in one text."""
    pc = arrow(".compute")
    texts = column.cast(arrow().string())
    days = pc.utf8_slice_codeunits(texts, 0, 8)
    clocks = pc.replace_substring_regex(pc.utf8_slice_codeunits(texts, 8, 64), r"^[ T]?", "")
    return clock(clocks, days, rule)


def _by_magnitude(column: Any, rule: Time) -> tuple[Times, Bad]:
    """Each value in the unit that its magnitude tells: those of dates from 1973 to 5138 do not overlap."""
    pa, pc = arrow(), arrow(".compute")
    try:
        values = np.array(column.cast(pa.int64()).fill_null(0), np.int64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
            plain, numbers = (
                np.array(pc.is_finite(column.cast(pa.float64())).fill_null(False), np.bool_),
                column,
            )
        else:
            numbers = column.cast(pa.string())
            plain = np.array(pc.match_substring_regex(numbers, _NUMBER).fill_null(False), np.bool_)
        out, wrong = np.zeros(len(column), np.int64), np.ones(len(column), np.bool_)
        if not plain.all():
            out[~plain], wrong[~plain] = _iso(column.filter(pa.array(~plain)), rule)
        decimal = numbers.filter(pa.array(plain))
        places = _places(np.abs(np.array(decimal.cast(pa.float64()), np.float64)))
        out[plain], wrong[plain] = _each(decimal, places, rule.plus)
        return out, wrong
    places = _places(np.abs(values.astype(np.float64)))
    scale = 10**places
    limit = ((1 << 63) - 1) // scale
    bad = np.array(column.is_null(), np.bool_) | (values > limit) | (values < -limit)
    return np.where(bad, 0, values + rule.plus) * scale, bad


def _places(magnitude: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Of how many decimals of a second less than nine integers of such size are."""
    return np.select([magnitude < 1e11, magnitude < 1e14, magnitude < 1e17], [9, 6, 3], 0).astype(np.int64)


def _each(column: Any, places: npt.NDArray[np.int64], plus: int) -> tuple[Times, Bad]:
    """Decimals of which each has its own scale."""
    made, bad = np.zeros(len(column), np.int64), np.ones(len(column), np.bool_)
    for digits in np.unique(places).tolist():
        own = places == digits
        made[own], bad[own] = _decimal(column.filter(arrow().array(own)), digits)
        made[own] += plus * 10**digits
    return made, bad


def _decimal(column: Any, digits: int) -> tuple[Times, Bad]:
    """Decimals, scaled exactly; digits below the ns are cut off."""
    pa = arrow()
    exact = pa.decimal128(38, 18)
    try:
        made = column.cast(exact)
    except pa.ArrowInvalid:
        made = pa.array([_or_none(t, exact) for t in column.cast(pa.string()).to_pylist()], exact)
    bad = np.array(made.is_null(), np.bool_)
    scaled = made.cast(pa.decimal128(38, digits), safe=False).fill_null(0)
    whole = scaled.combine_chunks() if isinstance(scaled, pa.ChunkedArray) else scaled
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    words = np.frombuffer(whole.buffers()[1], "<i8")[2 * whole.offset :][: 2 * len(whole)]
    low, high = words[::2].copy(), words[1::2]
    bad |= high != low >> 63  # more than 63 bits
    return np.where(bad, 0, low), bad


def _or_none(value: str | None, kind: Any) -> Any:
    pa = arrow()
    try:
        return None if value is None else pa.scalar(value).cast(kind).as_py()
    except pa.ArrowInvalid:
        return None


def _typed(column: Any, rule: Time) -> tuple[Times, Bad]:
    """A column that says itself what unit it has."""
    pa, pc = arrow(), arrow(".compute")
    if column.type.tz is None and rule.timezone != "UTC":
        column = pc.assume_timezone(column, rule.timezone, ambiguous="earliest", nonexistent="earliest")
    bad = np.array(column.is_null(), np.bool_)
    try:
        nanoseconds = column.cast(pa.timestamp("ns", column.type.tz))
    except pa.ArrowInvalid:
        return np.zeros(len(column), np.int64), np.ones(len(column), np.bool_)
    return np.array(nanoseconds.cast(pa.int64()).fill_null(0), np.int64), bad


def _iso(column: Any, rule: Time) -> tuple[Times, Bad]:
    """ISO 8601; 2020.01.31 for a date is taken as well."""
    pa, pc = arrow(), arrow(".compute")
    texts = pc.replace_substring_regex(column.cast(pa.string()), r"^(\d{4})\.(\d\d)\.(\d\d)", r"\1-\2-\3")
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("ns")):
        try:
            return _typed(texts.cast(kind), rule)
        except pa.ArrowInvalid:
            continue
    made, bad = np.zeros(len(texts), np.int64), np.ones(len(texts), np.bool_)
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("ns")):
        some = pa.array([_or_null(t, kind) for t in texts.to_pylist()], kind)
        found, missing = _typed(some, rule)
        made[~missing], bad[~missing] = found[~missing], False
    return made, bad


def _or_null(value: str | None, kind: Any) -> Any:
    pa = arrow()
    try:
        return None if value is None else pa.scalar(value).cast(kind).value
    except pa.ArrowInvalid:
        return None
