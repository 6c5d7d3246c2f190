"""Many local times, as people type them, to one moment in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shareasm.errors import PlanError
from shareasm.plan.times import read_duration, read_moment, read_not_after, to_utc

unhurried = settings(deadline=None)  # the machine may be busy

ZONES = (
    *("Europe/London", "Africa/Dar_es_Salaam", "Africa/Addis_Ababa", "Asia/Kolkata"),
    *("America/Bogota", "America/Nuuk", "Australia/Lord_Howe", "Pacific/Apia"),
)
zones = st.sampled_from(ZONES)
moments = st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(second=0, microsecond=0)
)


def refusal(typed: str, zone: str) -> str:
    with pytest.raises(PlanError) as caught:
        read_moment(typed, zone)
    return str(caught.value)


@unhurried
@given(moments, zones)
def test_what_a_clock_shows_leads_back_to_the_moment_unless_it_shows_it_twice(moment: datetime, zone: str) -> None:
    local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
    try:
        assert to_utc(local, zone) == moment
    except PlanError as error:
        assert "comes twice" in error.happened
        assert moment.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes") in error.what_to_do


@unhurried
@given(moments, zones)
def test_a_moment_with_its_offset_is_never_in_doubt(moment: datetime, zone: str) -> None:
    assert read_moment(moment.astimezone(ZoneInfo(zone)).isoformat(), zone) == moment


@unhurried
@given(st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1)), zones)  # noqa: DTZ001
def test_every_local_time_is_one_moment_or_refused(local: datetime, zone: str) -> None:
    try:
        moment = to_utc(local, zone)
    except PlanError as error:
        assert "twice" in error.happened or "does not exist" in error.happened
        offered = [datetime.fromisoformat(word.rstrip(".")) for word in error.what_to_do.split() if word[0].isdigit()]
        assert len(offered) == 2
        assert offered[0] < offered[1]
    else:
        assert moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) == local.replace(fold=0)


@pytest.mark.parametrize(
    ("typed", "zone", "words"),
    [
        ("2026-03-29T01:30", "Europe/London", "jump from 01:00 on 29 March 2026 to 02:00 on 29 March 2026"),
        ("2026-10-04T02:15", "Australia/Lord_Howe", "jump from 02:00 on 4 October 2026 to 02:30 on 4 October 2026"),
        ("2026-03-28T23:30", "America/Nuuk", "jump from 23:00 on 28 March 2026 to 00:00 on 29 March 2026"),
        ("2011-12-30T10:00", "Pacific/Apia", "jump from 00:00 on 30 December 2011 to 00:00 on 31 December 2011"),
    ],
)
def test_a_time_that_the_clocks_jump_over_is_refused_with_the_hour_that_is_missing(
    typed: str, zone: str, words: str
) -> None:
    assert words in refusal(typed, zone)


@pytest.mark.parametrize(
    ("typed", "zone", "one", "two"),
    [
        ("2026-10-25T01:30", "Europe/London", "2026-10-25T01:30+01:00", "2026-10-25T01:30+00:00"),
        ("2026-04-05T01:45", "Australia/Lord_Howe", "2026-04-05T01:45+11:00", "2026-04-05T01:45+10:30"),
    ],
)
def test_a_time_that_comes_twice_is_refused_with_both_readings(typed: str, zone: str, one: str, two: str) -> None:
    assert f"Write {one} or {two}." in refusal(typed, zone)
    assert read_moment(two, zone) > read_moment(one, zone)


@pytest.mark.parametrize(
    ("typed", "moment"),
    [
        ("2015-06-25T08:00", datetime(2015, 6, 25, 5, tzinfo=UTC)),
        ("2015-06-25 08:00", datetime(2015, 6, 25, 5, tzinfo=UTC)),
        ("2015-06-25T08:00Z", datetime(2015, 6, 25, 8, tzinfo=UTC)),
        ("2015-06-25T08:00-05:00", datetime(2015, 6, 25, 13, tzinfo=UTC)),
        ("2015-06-25T08:00:30+05:30", datetime(2015, 6, 25, 2, 30, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_local_unless_it_has_an_offset(typed: str, moment: datetime) -> None:
    assert read_moment(typed, "Africa/Dar_es_Salaam") == moment


@pytest.mark.parametrize(
    "typed",
    [
        *("", "08:00", "12:30", "750", "25/06/2015 08:00", "2015-06-25", "2015-13-25T08:00", "2015-06-25T25:00"),
        *(
            "2015-06-25T10-00",
            "0001-01-01T00:00",
            "9999-12-31T23:59-10:00",
            "2015-06-25T08:00+25:00",
            "٢٠١٥-٠٦-٢٥T٠٨:٠٠",
        ),
    ],
)
def test_what_is_no_time_is_refused(typed: str) -> None:
    assert refusal(typed, "Africa/Dar_es_Salaam")


def test_an_unknown_zone_names_the_nearest() -> None:
    assert "Did you mean “Africa/Dar_es_Salaam”?" in refusal("2015-06-25T08:00", "Africa/Dar_es_Salam")


@pytest.mark.parametrize("zone", ["", "../etc/passwd", "/etc/localtime", "Europe", "EUROPE/LONDON", "\0"])
def test_a_zone_is_never_a_path(zone: str) -> None:
    assert "is not a time zone" in refusal("2015-06-25T08:00", zone)


def test_a_length_of_time_is_read() -> None:
    assert read_duration("30m") == timedelta(minutes=30)
    assert read_duration("2h") == timedelta(hours=2)
    assert read_duration("1 day") == timedelta(days=1)
    for typed in ("", "0m", "m", "-5m", "1.5h", "90", "2 weeks", "99999m", "٣m"):
        with pytest.raises(PlanError):
            read_duration(typed)


def test_the_last_moment_is_a_length_or_a_moment_after_the_first() -> None:
    due = datetime(2015, 6, 25, 7, tzinfo=UTC)
    assert read_not_after("2h", due, "Europe/London") == timedelta(hours=2)
    assert read_not_after("2015-06-25T18:00", due, "Europe/London") == timedelta(hours=10)
    with pytest.raises(PlanError, match="is not after publish_at"):
        read_not_after("2015-06-25T08:00", due, "Europe/London")
