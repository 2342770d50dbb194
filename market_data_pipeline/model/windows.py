"""Windows of time: `[start, end)` in UTC, from dates, datetimes or ISO texts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from market_data_pipeline.model.errors import SettingError, WindowError

Moment = date | datetime | str
"""A point in time as callers may give it: a date means its midnight, a time without a zone is UTC."""

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP = timedelta(microseconds=1)


def midnight(day: date) -> datetime:
    """00:00 UTC of a day."""
    return datetime.combine(day, time(), UTC)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - EPOCH) // _STEP


def as_day(value: date | str) -> date:
    """A day from a date or an ISO text `YYYY-MM-DD`; raises WindowError."""
    if isinstance(value, datetime):
        raise WindowError(f"expected a date, found the time {value.isoformat()}")
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise WindowError(f"{value!r} is no date; write it as 2024-08-08") from None


def as_moment(value: Moment) -> datetime:
    """A time in UTC; raises WindowError."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise WindowError(
                f"{value!r} is no time; write it as 2024-08-08 or 2024-08-08T12:30:00 (UTC unless it says otherwise)"
            ) from None
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        except OverflowError:
            raise WindowError(f"{value.isoformat()} lies outside the years 1 to 9999 in UTC") from None
    if isinstance(value, date):
        return midnight(value)
    raise WindowError(f"expected a date, a datetime or an ISO text, found {value!r}")


@dataclass(frozen=True)
class Window:
    """The times from `start` up to, not including, `end` (both UTC)."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, start: Moment, end: Moment) -> "Window":
        """A window; raises WindowError where a time cannot be understood or the end lies before the start."""
        window = cls(as_moment(start), as_moment(end))
        if window.end < window.start:
            raise WindowError(f"the window ends ({window.end}) before it starts ({window.start})")
        return window

    @property
    def empty(self) -> bool:
        """True where no time lies in it."""
        return self.start == self.end

    def within(self, other: "Window") -> "Window":
        """The times that lie in both; an empty window where there are none."""
        start = max(self.start, other.start)
        return Window(start, max(start, min(self.end, other.end)))

    def parts(self, longest: timedelta) -> "Iterator[Window]":
        """The window in parts that follow one another, of which none is longer; none where it is empty."""
        start = self.start
        while start < self.end:
            end = start + longest if self.end - start > longest else self.end
            yield Window(start, end)
            start = end

    def days(self, beside: int = 0) -> Iterator[date]:
        """The UTC days that it touches, and so many more on either side."""
        if not self.empty:
            yield from days_between(self.start.date() - beside * DAY, (self.end - _STEP).date() + beside * DAY)


def require_order(first: date, last: date) -> None:
    """Refuses a range of days that runs backwards; raises SettingError."""
    if last < first:
        raise SettingError(f"the range ends ({last}) before it starts ({first})")


def days_between(first: date, last: date) -> Iterator[date]:
    """All days from `first` to `last`, both included."""
    for offset in range((last - first).days + 1):
        yield first + timedelta(days=offset)


def by_month(days: Iterable[date]) -> list[list[date]]:
    """Some days, those of each month together, in order."""
    months: dict[date, list[date]] = {}
    for day in sorted(set(days)):
        months.setdefault(day.replace(day=1), []).append(day)
    return list(months.values())
