"""Times as venues write them, exactly."""

from datetime import UTC, datetime, timedelta

import hypothesis
import hypothesis.strategies as st
import pytest

from tickplant._core.texts import plain_iso_ns
from tickplant.feed.times import _iso_ns, decimal_ns, given_ns, iso_ns, ms_date, yymmdd

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NS = st.integers(0, (1 << 62) - 1)


@hypothesis.given(NS, st.integers(0, 9), st.sampled_from(["Z", "", "+00:00"]), st.sampled_from("T "))
def test_iso_times_are_read_back_to_the_digit_they_are_written_with(ns, decimals, zone, between):
    seconds, rest = divmod(ns, 10**9)
    rest -= rest % 10 ** (9 - decimals)
    text = (EPOCH + timedelta(seconds=seconds)).strftime(f"%Y-%m-%d{between}%H:%M:%S")
    if decimals:
        text += "." + f"{rest:09d}"[:decimals]
    assert iso_ns(text + zone) == seconds * 10**9 + rest


@hypothesis.given(
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.integers(0, 9), st.integers(0, 40),
    st.sampled_from(["", *"0123456789-: TZ.é\0"]),
)  # fmt: skip
def test_a_time_is_read_at_once_as_it_is_step_by_step_or_not_at_all(moment, decimals, at, change):
    text = (
        f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0")
        + (f".{'123456789'[:decimals]}" if decimals else "")
        + "Z"
    )
    text = text[:at] + change + text[at + 1 :]
    at_once = plain_iso_ns(text)
    try:
        expected = _iso_ns(text)
    except ValueError:
        assert at_once == -1
    else:
        assert at_once in (expected, -1)
        if change == "" and at > len(text) and 1970 <= moment.year <= 2261:
            assert at_once == expected


@pytest.mark.parametrize("year", [1970, 1972, 1999, 2000, 2023, 2024, 2100, 2200, 2261])
def test_every_day_of_a_year_is_read_at_once_and_none_that_there_is_not(year):
    for month in range(14):
        for day in range(33):
            try:
                expected = int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 10**9
            except ValueError:
                expected = -1
            assert plain_iso_ns(f"{year}-{month:02}-{day:02}T00:00:00Z") == expected


def test_iso_times_of_another_zone_are_utc():
    assert iso_ns("2021-04-17T16:51:02.5+09:00") == iso_ns("2021-04-17T07:51:02.5Z")
    assert iso_ns("2021-04-17T16:51:02-0230") == iso_ns("2021-04-17T19:21:02Z")
    assert iso_ns("1969-12-31T23:59:59.25Z") == -750_000_000


@pytest.mark.parametrize(
    "text",
    ["", "2021-04-17", "2021-04-17.5", "20210417T165102", "2021-04-17T16:51:02.",
     "2021-04-17T16:51:02.1234567890Z", "2021-04-17T25:00:00Z", "2021-02-30T00:00:00Z",
     "2021-W16-6T16:51:02", "2021-04-17T16:51:02Zulu",
     "٢٠٢١-04-17T16:51:02Z", "2021-04-17T16:51:02Z\n"],
)  # fmt: skip
def test_what_is_no_iso_time_is_refused(text):
    with pytest.raises(ValueError, match="."):
        iso_ns(text)


@hypothesis.given(NS, st.integers(0, 9))
def test_seconds_with_decimals_are_exact(ns, decimals):
    whole, rest = divmod(ns, 10**9)
    rest -= rest % 10 ** (9 - decimals)
    text = f"{whole}" + ("." + f"{rest:09d}"[:decimals] if decimals else "")
    assert decimal_ns(text) == whole * 10**9 + rest


def test_below_a_nanosecond_is_cut_off():
    assert decimal_ns("1.9999999999") == 1_999_999_999


@pytest.mark.parametrize(
    "text", ["", ".5", "5.", "-1", "1e9", "1.5.5", "1,5", "١", "²", "9" * 5000, "nan", " 1"]
)
def test_what_is_no_number_of_seconds_is_refused(text):
    with pytest.raises(ValueError, match="not a number"):
        decimal_ns(text)


@hypothesis.given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_value_error(text):
    for read in (iso_ns, decimal_ns, yymmdd):
        try:
            found = read(text)
        except ValueError:
            continue
        assert isinstance(found, str if read is yymmdd else int)


def test_expiries_are_dates():
    assert yymmdd("240628") == "20240628"
    assert ms_date(1_719_561_600_000) == "20240628"
    for text in ("", "240631", "24628", "2406281", "abcdef"):
        with pytest.raises(ValueError, match="."):
            yymmdd(text)
    for ms in (10**30, -(10**30), 10**17):
        with pytest.raises(ValueError, match="."):
            ms_date(ms)


@pytest.mark.parametrize(
    "text", ["", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", "0001-01-01T00:00:00Z"]
)
def test_a_time_that_is_not_set_is_0(text):
    assert given_ns(text) == 0
    assert given_ns("1970-01-02T00:00:00Z") == 86_400_000_000_000
