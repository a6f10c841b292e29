"""Fields of HSVF messages, in ASCII of fixed width, to numbers and times; whole columns at a time (pure).

A column is an array of bytes whose last axis is the field's characters. Each function gives the values
and which of them are some; the value of one that is none means nothing.
"""

import datetime
import zoneinfo
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tickplant.clock import SECOND_NS

Chars = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Which = npt.NDArray[np.bool_]

_ZONE = zoneinfo.ZoneInfo("America/Toronto")
_NONE = -1
_NEGATIVE, _POWER_MAX = 7, 9


def _codes(letters: str, first: int) -> Ints:
    """For each byte its place among these letters, and `first`; others are none."""
    out = np.full(256, _NONE, np.int64)
    for place, letter in enumerate(letters, first):
        out[ord(letter)] = place
    return out


_DECIMALS = _codes("0123456789", 0)
_NEGATED = _codes("ABCDEFG"[:_NEGATIVE], 0)
_EXPONENTS = _codes("CDEFGHI", 2)
_POWERS = 10 ** np.arange(_POWER_MAX + 1, dtype=np.int64)


def digits(column: Chars) -> tuple[Ints, Which]:
    """Decimal digits."""
    found = column - np.uint8(ord("0"))  # below it they wrap around, so that they are above 9, too
    width = column.shape[-1]
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return found.astype(np.int64) @ powers, np.asarray((found <= 9).all(axis=-1))


def quantity(column: Chars) -> tuple[Ints, Which]:
    """Digits, of which the last may be a letter that is an exponent of ten where the number is too long: C
    is 2, I is 8 (1248C: 124,800; the venue cuts off what is below)."""
    whole, sound = digits(column)
    exponents = _EXPONENTS[column[..., -1]]
    long = exponents != _NONE
    if long.any():
        first, many = digits(column[..., :-1])
        whole = np.where(long, first * _POWERS[np.where(long, exponents, 0)], whole)
        sound = np.where(long, many, sound)
    return whole, sound


def price(column: Chars, fraction: Chars, sign: Chars | None = None) -> tuple[Floats, Which]:
    """Digits with a fraction indicator: 0 to 9 are so many decimals; A to G are none to six, and the price
    is negative. `sign`: + or -, in messages that have one; those have no other way to say negative."""
    whole, sound = digits(column)
    negated = _NEGATED[fraction]
    decimals = np.where(negated != _NONE, negated, _DECIMALS[fraction])
    sound = sound & (decimals != _NONE)
    minus = negated != _NONE
    if sign is not None:
        sound &= ((sign == ord("+")) | (sign == ord("-"))) & ~minus
        minus = sign == ord("-")
    scaled = np.where(minus, -whole, whole) / _POWERS[np.where(decimals == _NONE, 0, decimals)]
    return scaled, sound


def times(column: Chars) -> tuple[Ints, Which]:
    """YYYYMMDDhhmmss and microseconds, Montréal's time, to ns UTC."""
    minutes, sound = digits(column[..., :12])
    seconds, exact = digits(column[..., 12:14])
    micros, fine = digits(column[..., 14:])
    sound = sound & exact & fine & (seconds < 60)
    unique, where = np.unique(np.where(sound, minutes, 0), return_inverse=True)
    began = np.array([_minute_ns(m) for m in unique.tolist()], np.int64)[where]
    return began + seconds * SECOND_NS + micros * 1000, sound & (began != _NONE)


@lru_cache(4096)
def _minute_ns(minute: int) -> int:
    """When a minute YYYYMMDDhhmm began, ns UTC; none if it is no time of this century."""
    rest, minutes = divmod(minute, 100)
    rest, hour = divmod(rest, 100)
    rest, day = divmod(rest, 100)
    year, month = divmod(rest, 100)
    if not 2000 <= year < 2100:
        return _NONE
    try:
        at = datetime.datetime(year, month, day, hour, minutes, tzinfo=_ZONE)
    except ValueError:
        return _NONE
    return int(at.timestamp()) * SECOND_NS
