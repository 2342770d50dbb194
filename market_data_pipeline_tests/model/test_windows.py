"""Windows of time: what callers may write, and which days a window touches."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.model.errors import WindowError
from market_data_pipeline.model.windows import (
    Moment,
    Window,
    as_day,
    as_moment,
    by_month,
    days_between,
    microseconds,
    midnight,
)

NOON = datetime(2024, 8, 8, 12, 30, tzinfo=UTC)
FIRST, LAST = date(2024, 8, 8), date(2024, 8, 10)


@pytest.mark.parametrize(
    ("given_moment", "moment"),
    [
        (date(2024, 8, 8), datetime(2024, 8, 8, tzinfo=UTC)),
        ("2024-08-08", datetime(2024, 8, 8, tzinfo=UTC)),
        ("2024-08-08T12:30:00", NOON),
        ("2024-08-08 12:30", NOON),
        ("2024-08-08T12:30:00Z", NOON),
        ("2024-08-08T14:30:00+02:00", NOON),
        ("2024-08-08T12:30:00.000001", NOON + timedelta(microseconds=1)),
        (NOON, NOON),
        (NOON.replace(tzinfo=None), NOON),
        (NOON.astimezone(timezone(timedelta(hours=-5))), NOON),
        (datetime(2024, 8, 9, 1, tzinfo=timezone(timedelta(hours=2))), datetime(2024, 8, 8, 23, tzinfo=UTC)),
    ],
)
def test_a_moment(given_moment: Moment, moment: datetime) -> None:
    found = as_moment(given_moment)
    assert found == moment
    assert found.utcoffset() == timedelta()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "2024-13-01",
        "2024-02-30",
        "2024-08-08T25:00:00",
        "2024-08-08\n",
        "08/08/2024",
        None,
        1723075200,
        "9999-12-31T23:00:00-05:00",
        "0001-01-01T00:00:00+05:00",
    ],
)
def test_what_is_no_moment_is_refused(value: Moment) -> None:
    with pytest.raises(WindowError):
        as_moment(value)


@pytest.mark.parametrize("value", ["2024-08-08", date(2024, 8, 8)])
def test_a_day(value: date | str) -> None:
    assert as_day(value) == date(2024, 8, 8)


@pytest.mark.parametrize(
    "value", ["", "2024-08-32", "2024-08-08T00:00:00", "2024-08-08\n", NOON, NOON.replace(tzinfo=None), None, 20240808]
)
def test_what_is_no_day_is_refused(value: date | str) -> None:
    with pytest.raises(WindowError):
        as_day(value)


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        (FIRST, LAST, [FIRST, date(2024, 8, 9)]),
        (FIRST, FIRST, []),
        ("2024-08-08T23:59:59.999999", "2024-08-09", [FIRST]),
        ("2024-08-08T23:59:59.999999", "2024-08-09T00:00:00.000001", [FIRST, date(2024, 8, 9)]),
        ("2024-08-09T01:00:00+02:00", "2024-08-09T02:00:00+02:00", [FIRST]),
        ("2024-02-28", "2024-03-02", [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]),
    ],
)
def test_the_days_that_a_window_touches(start: Moment, end: Moment, days: list[date]) -> None:
    window = Window.of(start, end)
    assert list(window.days()) == days
    assert window.empty is (not days)


def test_the_days_beside_a_window() -> None:
    assert list(Window.of(FIRST, date(2024, 8, 9)).days(beside=1)) == [date(2024, 8, 7), FIRST, date(2024, 8, 9)]
    assert list(Window.of(FIRST, FIRST).days(beside=1)) == []


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(WindowError, match=r"ends .* before it starts"):
        Window.of(LAST, FIRST)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_microseconds_count_from_1970(moment: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds(moment)) == moment


moments = st.datetimes(datetime(2020, 1, 1), datetime(2020, 3, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments, moments, moments)
def test_a_time_of_the_window_lies_on_one_of_its_days(one: datetime, other: datetime, moment: datetime) -> None:
    window = Window.of(min(one, other), max(one, other))
    days = list(window.days())
    if window.start <= moment < window.end:
        assert moment.date() in days
    for day in days:
        assert midnight(day) < window.end
        assert window.start < midnight(day) + timedelta(days=1)


def test_days_between_has_both_ends() -> None:
    assert list(days_between(FIRST, LAST)) == [FIRST, date(2024, 8, 9), LAST]
    assert list(days_between(FIRST, FIRST)) == [FIRST]
    assert list(days_between(LAST, FIRST)) == []


def test_days_come_by_month_in_order_each_once() -> None:
    months = by_month([date(2024, 3, 1), date(2024, 2, 29), date(2023, 2, 1), date(2024, 3, 1)])
    assert months == [[date(2023, 2, 1)], [date(2024, 2, 29)], [date(2024, 3, 1)]]
    assert by_month([]) == []
