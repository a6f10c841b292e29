"""Opening hours of venues: ordinary days, half days, breaks, nights, and days on which clocks are changed."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickplant.errors import ConfigError
from tickplant.sessions import Sessions, sessions

pytest.importorskip("exchange_calendars")
S = 1_000_000_000


def at(text, zone="America/New_York"):
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * S


@pytest.mark.parametrize(("text", "is_open"), [
    ("2024-07-02 09:29:59", False), ("2024-07-02 09:30:00", True), ("2024-07-02 15:59:59", True),
    ("2024-07-02 16:00:00", False), ("2024-07-03 12:59:59", True),
    ("2024-07-03 13:00:00", False),  # the half day before Independence Day
    ("2024-07-04 12:00:00", False), ("2024-07-06 12:00:00", False),
    ("2024-03-08 09:30:00", True), ("2024-03-11 09:30:00", True),  # either side of the clock change
    ("2024-03-11 09:29:59", False), ("2024-11-04 09:29:59", False), ("2024-11-04 15:59:59", True),
])  # fmt: skip
def test_new_york_is_open_by_its_own_clock(text, is_open):
    assert sessions("XNYS").is_open(at(text)) == is_open


def test_an_instant_before_the_opening_is_closed_and_the_opening_is_open():
    opening = at("2024-07-02 09:30:00")
    assert not sessions("XNYS").is_open(opening - 1)
    assert sessions("XNYS").open_since(opening) == opening
    assert sessions("XNYS").open_since(opening + 5 * S) == opening


@pytest.mark.parametrize(("calendar", "zone", "open_", "closed"), [
    ("XHKG", "Asia/Hong_Kong", ["09:30", "11:59", "13:00", "15:59"], ["09:29", "12:00", "12:59", "16:00"]),
    ("XTKS", "Asia/Tokyo", ["09:00", "11:29", "12:30", "15:29"], ["08:59", "11:30", "12:29", "15:30"]),
])  # fmt: skip
def test_asia_has_a_break_for_lunch(calendar, zone, open_, closed):
    venue = sessions(calendar)
    for text in open_:
        assert venue.is_open(at(f"2024-12-03 {text}", zone)), text
    for text in closed:
        assert not venue.is_open(at(f"2024-12-03 {text}", zone)), text
    noon = at("2024-12-03 12:00", zone)
    assert venue.trading_date(noon) == date(2024, 12, 3)
    after = {"XHKG": "13:00", "XTKS": "12:30"}[calendar]
    assert venue.next_open(noon) == at(f"2024-12-03 {after}", zone)
    assert venue.open_since(at("2024-12-03 14:00", zone)) == at(f"2024-12-03 {after}", zone)


def test_tokyo_closed_earlier_before_its_hours_changed():
    assert not sessions("XTKS").is_open(at("2024-10-31 15:00", "Asia/Tokyo"))
    assert sessions("XTKS").is_open(at("2024-11-05 15:00", "Asia/Tokyo"))


def test_a_session_over_night_has_the_date_on_which_it_ends():
    globex, chicago = sessions("CMES", "17:00-16:00"), "America/Chicago"
    sunday = at("2024-07-07 17:00", chicago)
    assert not globex.is_open(sunday - 1)
    assert globex.is_open(sunday)
    assert globex.trading_date(sunday) == date(2024, 7, 8)
    assert globex.trading_date(at("2024-07-08 15:59", chicago)) == date(2024, 7, 8)
    assert not globex.is_open(at("2024-07-08 16:00", chicago))  # maintenance
    assert sessions("CMES").is_open(at("2024-07-08 16:00", chicago))  # which the calendar does not know
    assert globex.trading_date(at("2024-07-08 17:00", chicago)) == date(2024, 7, 9)
    assert not globex.is_open(at("2024-07-06 12:00", chicago))


def test_hours_of_ones_own_end_earlier_on_a_half_day():
    globex, chicago = sessions("CMES", "17:00-16:00"), "America/Chicago"
    half = [at(f"2024-11-29 {t}", chicago) for t in ("11:59", "12:00")]
    assert [globex.is_open(t) for t in half] == [True, False]
    extended = sessions("XNYS", "04:00-20:00")
    assert [extended.is_open(at(f"2024-07-02 {t}")) for t in ("03:59", "04:00", "19:59", "20:00")] == [
        False, True, True, False]  # fmt: skip
    assert [extended.is_open(at(f"2024-07-03 {t}")) for t in ("04:00", "16:59", "17:00")] == [
        True,
        True,
        False,
    ]


def test_the_next_opening_is_over_the_weekend_and_the_year():
    assert sessions("XNYS").next_open(at("2024-07-05 16:00")) == at("2024-07-08 09:30")
    assert sessions("XNYS").next_open(at("2024-07-05 09:30")) == at("2024-07-08 09:30")
    assert sessions("XNYS").next_open(at("2024-12-31 18:00")) == at("2025-01-02 09:30")
    assert sessions("XNYS").trading_date(at("2024-12-31 18:00")) == date(2025, 1, 2)


def test_what_never_closes_needs_no_library():
    always = Sessions()
    assert always.is_open(at("2024-12-25 03:00"))
    assert always.next_open(0) is None
    assert always.trading_date(at("2024-12-25 23:00")) == date(2024, 12, 26)


@pytest.mark.parametrize(("calendar", "hours", "said"), [
    ("XXXX", "", "no calendar 'XXXX'"), ("XNYS", "9-17", "09:30-16:00"), ("XNYS", "09:30-25:00", "09:30"),
    ("24/7", "09:30-16:00", "never closes"),
])  # fmt: skip
def test_what_is_no_calendar_is_refused(calendar, hours, said):
    with pytest.raises(ConfigError, match=said):
        Sessions(calendar, hours)


@given(st.integers(0, 366 * 86_400), st.sampled_from(["XNYS", "XHKG", "CMES"]))
@settings(max_examples=60, deadline=None)
def test_the_library_says_the_same_of_every_minute(second, calendar):
    import warnings

    from tickplant.sessions import _table

    at_ns = at("2024-01-01 00:00", "UTC") + second * S
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = _table(calendar, 2024)
        opens, closes = known.opens_nanos, known.closes_nanos
    within = bool(((opens <= at_ns) & (at_ns < closes)).any())
    paused = bool(((known.break_starts_nanos <= at_ns) & (at_ns < known.break_ends_nanos)).any())
    venue = sessions(calendar)
    if datetime.fromtimestamp(at_ns // S, ZoneInfo("UTC")).year == 2024:
        assert venue.is_open(at_ns) == (within and not paused)
        upcoming = venue.next_open(at_ns)
        assert upcoming > at_ns
        assert venue.is_open(upcoming)
        assert not venue.is_open(upcoming - 1) or calendar == "CMES"
