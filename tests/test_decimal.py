"""Decimal text to float64: as `float` reads it, bit for bit, and back to text."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tickplant._core.texts import to_float

DIGITS = st.text("0123456789", min_size=1, max_size=25)
UNKNOWN = 255


def bits(value):
    return struct.pack("<d", value)


def check(text):
    value, decimals = to_float(text.encode())
    assert bits(value) == bits(float(text))
    point = text.partition(".")[2]
    assert decimals == (UNKNOWN if "e" in text.lower() else len(point))


@given(whole=DIGITS, fraction=st.none() | DIGITS, negative=st.booleans())
@example("9007199254740993", None, False)
@example("9007199254740992", "5", False)
@example("0", "1234567890123456789012345", True)
@example("1234567890123456789", "0", False)
@example("0000000000000000000000001", "5", False)
def test_it_is_the_nearest_float64(whole, fraction, negative):
    check("-" * negative + whole + ("" if fraction is None else "." + fraction))


@given(whole=DIGITS, fraction=st.none() | DIGITS, exponent=st.integers(-400, 280), e=st.sampled_from("eE"))
@example("5", None, -324, "e")
@example("2", "2250738585072011", -308, "e")
@example("1", "7976931348623157", 279, "e")
@example("0", None, 999_999, "E")
def test_it_is_the_nearest_float64_with_exponents_too(whole, fraction, exponent, e):
    check(whole + ("" if fraction is None else "." + fraction) + f"{e}{exponent:+}")
    check(whole + f"{e}{exponent}")


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_what_repr_writes_is_read_back(value):
    assert bits(to_float(repr(value).encode())[0]) == bits(value)


@given(whole=st.integers(0, 10**15 - 1), decimals=st.integers(0, 20))
def test_fifteen_significant_digits_come_back(whole, decimals):
    text = str(whole).rjust(decimals + 1, "0")
    text = f"{text[:-decimals]}.{text[-decimals:]}" if decimals else text
    value, told = to_float(text.encode())
    assert f"{value:.{told}f}" == text


@pytest.mark.parametrize("text", ["1e309", "1" * 309 + "9", "-1e400", "1e99999999999999999999"])
def test_what_is_beyond_all_float64s_is_refused(text):
    with pytest.raises((ValueError, OverflowError)):
        to_float(text.encode())


@pytest.mark.parametrize("text", ["1e-400", "1e-99999999999", "0e5", "-0", "0." + "0" * 350 + "1"])
def test_what_is_smaller_than_all_is_zero(text):
    assert bits(to_float(text.encode())[0]) == bits(float(text))


@pytest.mark.parametrize("text", [
    "", "-", "+1", ".5", "5.", "-.5", "1e", "1e+", "1.e5", "e5", "0x10", "1_000", " 1", "1 ", "1,0", "nan",
    "NaN", "inf", "Infinity", "-inf", "--1", "1-", "1.2.3", "1e5.0", "\0", "1\0", "\uff11", "9" * 500,
    "null", "true",
])  # fmt: skip
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="number"):
        to_float(text.encode())


@given(text=st.text("0123456789.-+eE ", max_size=12))
def test_what_it_takes_is_a_number_for_float_too(text):
    try:
        value, _ = to_float(text.encode())
    except (ValueError, OverflowError):
        return
    assert bits(value) == bits(float(text))
