from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant.clock import SECOND_NS, TradingCalendar, as_date, as_int, date_after
from tickplant.errors import ConfigError

ZONES = ["UTC", "America/New_York", "America/Chicago", "Europe/London", "Europe/Berlin", "Asia/Tokyo",
         "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Cairo", "America/Havana", "Asia/Beirut",
         "Pacific/Kiritimati", "Pacific/Chatham", "America/St_Johns"]  # fmt: skip
INSTANTS = st.integers(946_684_800 * SECOND_NS, 2_208_988_800 * SECOND_NS)  # 2000 to 2040
CALENDARS = st.builds(
    TradingCalendar,
    st.sampled_from(ZONES),
    st.times().map(lambda t: t.replace(microsecond=0).isoformat()),
)
DAY_NS = 86_400 * SECOND_NS


def at(text, zone="UTC"):
    local = datetime.fromisoformat(text)
    return int((local if local.tzinfo else local.replace(tzinfo=ZoneInfo(zone))).timestamp()) * SECOND_NS


@given(CALENDARS, INSTANTS)
def test_every_instant_has_one_date_which_has_begun_and_has_not_ended(calendar, now):
    day = calendar.date_at(now)
    assert calendar.begins_ns(day) <= now < calendar.begins_ns(day + timedelta(days=1))


@given(CALENDARS, INSTANTS)
def test_dates_are_contiguous_and_last_a_day_but_for_a_change_of_the_clock(calendar, now):
    rolls = [calendar.next_roll_ns(now)]
    for _ in range(4):
        rolls.append(calendar.next_roll_ns(rolls[-1]))
    assert rolls[0] > now
    days = [calendar.date_at(r) for r in rolls]
    for (roll, after), (day, next_day) in zip(pairwise(rolls), pairwise(days), strict=True):
        assert next_day == day + timedelta(days=1)
        assert calendar.date_at(after - 1) == day
        assert abs(after - roll - DAY_NS) <= 3600 * SECOND_NS
    assert calendar.date_at(rolls[0] - 1) == calendar.date_at(now)


@given(CALENDARS, INSTANTS, INSTANTS)
def test_later_instants_have_no_earlier_date_and_roll(calendar, one, other):
    first, second = sorted((one, other))
    assert calendar.date_at(first) <= calendar.date_at(second)
    assert calendar.next_roll_ns(first) <= calendar.next_roll_ns(second)


@pytest.mark.parametrize(
    ("zone", "roll", "instant", "day"),
    [
        ("UTC", "00:00", "2024-03-10T00:00:00Z", "2024-03-10"),
        ("UTC", "00:00", "2024-03-09T23:59:59Z", "2024-03-09"),
        ("UTC", "06:30", "2024-03-10T06:29:59Z", "2024-03-09"),
        ("UTC", "11:59", "2024-03-10T11:59:00Z", "2024-03-10"),
        ("UTC", "12:00", "2024-03-10T11:59:59Z", "2024-03-10"),
        ("UTC", "12:00", "2024-03-10T12:00:00Z", "2024-03-11"),
        ("America/New_York", "17:00", "2024-03-08T22:00:00Z", "2024-03-09"),
        (
            "America/New_York",
            "17:00",
            "2024-03-10T21:00:00Z",
            "2024-03-11",
        ),  # an hour earlier: summer
        ("America/New_York", "17:00", "2024-03-10T20:59:59Z", "2024-03-10"),
        ("America/New_York", "17:00", "2024-11-03T21:59:59Z", "2024-11-03"),  # and back
        ("America/New_York", "17:00", "2024-11-03T22:00:00Z", "2024-11-04"),
        ("America/New_York", "02:30", "2024-03-10T07:29:59Z", "2024-03-09"),  # 02:30 is skipped
        ("America/New_York", "02:30", "2024-03-10T07:30:00Z", "2024-03-10"),
        (
            "America/New_York",
            "01:30",
            "2024-11-03T05:30:00Z",
            "2024-11-03",
        ),  # the first of two 01:30
        (
            "America/New_York",
            "01:30",
            "2024-11-03T06:15:00Z",
            "2024-11-03",
        ),  # 01:15 again: no way back
        (
            "America/Sao_Paulo",
            "00:00",
            "2018-11-04T02:59:59Z",
            "2018-11-03",
        ),  # no midnight that day
        ("America/Sao_Paulo", "00:00", "2018-11-04T03:00:00Z", "2018-11-04"),
        (
            "America/Sao_Paulo",
            "00:00",
            "2018-02-18T02:30:00Z",
            "2018-02-17",
        ),  # 23:30 for the second time
        ("America/Sao_Paulo", "00:00", "2018-02-18T03:00:00Z", "2018-02-18"),
        ("America/Havana", "00:00", "2024-11-03T04:00:00Z", "2024-11-03"),  # two midnights
        ("America/Havana", "00:00", "2024-11-03T05:00:00Z", "2024-11-03"),
        ("Australia/Lord_Howe", "01:45", "2024-04-06T15:10:00Z", "2024-04-07"),  # half an hour
    ],
)
def test_the_date_of_an_instant(zone, roll, instant, day):
    assert TradingCalendar(zone, roll).date_at(at(instant)).isoformat() == day


@pytest.mark.parametrize(("day", "hours"), [("2024-03-10", 23), ("2024-11-03", 25), ("2024-06-03", 24)])
@pytest.mark.parametrize(("zone", "roll"), [("America/New_York", "00:00"), ("America/Chicago", "17:00")])
def test_the_day_of_a_clock_change_is_an_hour_shorter_or_longer(zone, roll, day, hours):
    calendar = TradingCalendar(zone, roll)
    begins = calendar.begins_ns(date.fromisoformat(day))
    assert calendar.next_roll_ns(begins) - begins == hours * 3600 * SECOND_NS


def test_a_date_that_a_zone_left_out_is_empty():
    calendar = TradingCalendar("Pacific/Apia", "00:00")  # went from 29 to 31 December 2011
    roll = calendar.next_roll_ns(at("2011-12-29T12:00:00", "Pacific/Apia"))
    assert [calendar.date_at(roll + d).day for d in (-1, 0)] == [29, 31]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime"])
def test_a_timezone_that_is_none_is_refused(zone):
    with pytest.raises(ConfigError, match=r"plant\.timezone .* is not an IANA timezone"):
        TradingCalendar(zone, "00:00")


@pytest.mark.parametrize("roll", ["25:00", "noon", "", "17:60", "17:00+02:00", "17:00:00.5", "17:00Z"])
def test_a_roll_that_is_no_wall_clock_time_is_refused(roll):
    with pytest.raises(ConfigError, match=r"plant\.roll .* is not a time"):
        TradingCalendar("UTC", roll)


@given(st.dates())
def test_dates_as_numbers_are_read_back(day):
    assert as_date(as_int(day)) == day
    assert as_int(day) == int(day.strftime("%Y%m%d").lstrip("0"))


@given(st.dates(max_value=date(9999, 12, 30)))
def test_the_date_after_is_the_next_on_the_calendar(day):
    assert as_date(date_after(as_int(day))) - day == timedelta(days=1)


@pytest.mark.parametrize("number", [0, 20230229, 20231301, 99])
def test_numbers_that_are_no_date_are_refused(number):
    with pytest.raises(ValueError, match=r"day|month|year"):
        as_date(number)


def test_the_instants_of_these_tests_are_what_they_say():
    assert at("2024-01-01T00:00:00Z") == int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * SECOND_NS
