"""The sensor that looks for days which the source has and the lake lacks, and asks for them, a few at a time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Self

import dagster as dg

from market_data_pipeline.defs.going_on import end_dead_runs, said_of_runs
from market_data_pipeline.defs.launch import span_tags
from market_data_pipeline.defs.newest import newest_due
from market_data_pipeline.lake.derived import AVAILABILITY, TRADES
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.windows import DAY, as_day, days_between
from market_data_pipeline.sources.contract import Source

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

NAME = "missing_days"
LOOKED_AT = 366
"""How many days before the newest are looked at."""
AT_ONCE = 7
"""How many days one run is asked for."""
TIMES = 3
"""How often a day is asked for; one that is missing after that needs a person."""
_AGAIN = timedelta(hours=20)
"""How long after it was asked for a day may be asked for again: a vendor that lacked it may have it the day after."""


@dataclass(frozen=True)
class Asked:
    """What has been asked for, in the sensor's cursor: for each day how often, and when the last time."""

    days: Mapping[date, tuple[int, datetime]] = field(default_factory=dict)

    @classmethod
    def load(cls, cursor: str | None) -> Self:
        """From what `dump` gave; nothing was asked for without it."""
        told = json.loads(cursor) if cursor else {}
        return cls({as_day(day): (times, datetime.fromisoformat(at)) for day, (times, at) in told.items()})

    def dump(self) -> str:
        """The cursor."""
        return json.dumps({str(day): (times, at.isoformat()) for day, (times, at) in sorted(self.days.items())})

    def once_more(self, days: Sequence[date], now: datetime) -> "Asked":
        """The same, after some days have been asked for."""
        return Asked({**self.days, **{day: (self.times(day) + 1, now) for day in days}})

    def only(self, days: Sequence[date]) -> "Asked":
        """What is still missing of it."""
        return Asked({day: told for day, told in self.days.items() if day in days})

    def times(self, day: date) -> int:
        """How often a day was asked for."""
        return self.days[day][0] if day in self.days else 0

    def may(self, day: date, now: datetime) -> bool:
        """Whether a day may be asked for now."""
        return day not in self.days or (self.times(day) < TIMES and now - self.days[day][1] >= _AGAIN)


def missing_sensor(
    job: "UnresolvedAssetJobDefinition", source: Source, status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Asks for days between the lake's first and the newest that is due, where the source has them and the lake not.

    A run at a time, of `AT_ONCE` days at most that follow one another, the oldest first, and none while others go on.
    What is asked for is all of a day: what is there and has not changed is not made again. A lake without any day is
    left alone: where it shall begin nobody has said.

    Args:
        job: the job that holds all assets.
        source: where ticks come from.
        status: whether it is on from the first start.
    """

    @dg.sensor(
        name=NAME,
        job=job,
        minimum_interval_seconds=300,
        default_status=status,
        description=f"Asks for days that the source has and the lake lacks, of the last {LOOKED_AT}; {AT_ONCE} at once",
    )
    def missing_days(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance, now = context.instance, datetime.now(UTC)
        end_dead_runs(instance)
        asked = Asked.load(context.cursor)
        if going_on := said_of_runs(instance):
            return dg.SensorResult(skip_reason=going_on, cursor=context.cursor)
        try:
            missing = lacking(instance, source, newest_due(now))
        except SourceError as error:
            return dg.SensorResult(skip_reason=f"the source cannot be looked at: {error}", cursor=context.cursor)
        asked = asked.only(missing)
        days = _together([day for day in missing if asked.may(day, now)])
        if not days:
            return dg.SensorResult(skip_reason=_why(missing, asked), cursor=asked.dump())
        request = dg.RunRequest(**span_tags(days[0], days[-1]))
        return dg.SensorResult(run_requests=[request], cursor=asked.once_more(days, now).dump())

    return missing_days


def lacking(instance: dg.DagsterInstance, source: Source, newest: date) -> list[date]:
    """The days up to the newest of which the source has something that was never materialized, rising.

    Raises:
        SourceError: the source as a whole cannot be used.
    """
    names = [*source.data_types, AVAILABILITY.name]
    made = {name: _materialized(instance, name) for name in names}
    known = [day for days in made.values() for day in days]
    if not known:
        return []
    days = list(days_between(max(min(known), newest - (LOOKED_AT - 1) * DAY), newest))
    found = {day for name in source.data_types for day in source.days_with(name, days) if day not in made[name]}
    # the map is the last of what is made of a day: without it something on the way was not
    unfinished = source.days_with(TRADES.name, days) - made[AVAILABILITY.name]
    return sorted(found | unfinished)


def _materialized(instance: dg.DagsterInstance, name: str) -> set[date]:
    return {as_day(key) for key in instance.get_materialized_partitions(dg.AssetKey(name))}


def _together(days: Sequence[date]) -> list[date]:
    """The first of some rising days with those that follow it, as far as one run takes them."""
    return [day for number, day in enumerate(days[:AT_ONCE]) if day == days[0] + number * DAY]


def _why(missing: Sequence[date], asked: Asked) -> str:
    if not missing:
        return "no day is missing"
    given_up = [day for day in missing if asked.times(day) >= TIMES]
    if given_up:
        return (
            f"{given_up[0]} ({len(given_up)} days in all) was asked for {TIMES} times and is still missing; see why "
            "its runs failed, or reset this sensor's cursor to ask again"
        )
    return f"{missing[0]} ({len(missing)} days in all) was asked for and is still missing; it is asked for again later"
