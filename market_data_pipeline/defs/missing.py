"""The sensor that looks for days which the source has and the lake lacks, and asks for them, a few at a time."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import dagster as dg

from market_data_pipeline.defs.going_on import end_dead_runs, said_of_runs
from market_data_pipeline.defs.launch import span_tags
from market_data_pipeline.defs.lineage import Lineage, Span, spans
from market_data_pipeline.defs.newest import newest_due
from market_data_pipeline.lake.derived import TRADES
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.windows import DAY, as_day, days_between
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import Source

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

NAME = "missing_days"
LONGEST = 31
"""How many days in a row may be missing: what is longer was left out on purpose, or wants a backfill by hand."""
AT_ONCE = 7
"""How many days one run is asked for at most."""
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
        """From what `dump` gave; nothing was asked for without it, or where it is something else."""
        try:
            told = json.loads(cursor) if cursor else {}
            return cls(
                {as_day(day): (int(times), datetime.fromisoformat(at)) for day, (times, at) in dict(told).items()}
            )
        except (ValueError, TypeError):
            return cls()

    def dump(self) -> str:
        """The cursor."""
        return json.dumps({str(day): (times, at.isoformat()) for day, (times, at) in sorted(self.days.items())})

    def once_more(self, days: Sequence[date], now: datetime) -> "Asked":
        """The same, after some days have been asked for."""
        return Asked({**self.days, **{day: (self.times(day) + 1, now) for day in days}})

    def only(self, days: Collection[date]) -> "Asked":
        """What is still missing of it."""
        return Asked({day: told for day, told in self.days.items() if day in days})

    def times(self, day: date) -> int:
        """How often a day was asked for."""
        return self.days[day][0] if day in self.days else 0

    def may(self, day: date, now: datetime) -> bool:
        """Whether a day may be asked for now."""
        return day not in self.days or (self.times(day) < TIMES and now - self.days[day][1] >= _AGAIN)


def missing_sensor(
    job: "UnresolvedAssetJobDefinition",
    settings: Settings,
    source: Source,
    lineage: Lineage,
    names: Sequence[str],
    status: dg.DefaultSensorStatus,
) -> dg.SensorDefinition:
    """Asks for what a lake lacks of a day that it has neighbours of, where the source has it (see `lacking`).

    A run at a time, of days that follow one another, the oldest first, and none while others go on.

    Args:
        job: the job that holds all assets.
        settings: the first day, the instruments, and how many days a run takes.
        source: where ticks come from.
        lineage: what is made from what.
        names: the assets that can be materialized.
        status: whether it is on from the first start.
    """
    at_once = min(AT_ONCE, settings.days_per_run or AT_ONCE)

    @dg.sensor(
        name=NAME,
        job=job,
        minimum_interval_seconds=300,
        default_status=status,
        description=f"Asks for days that the source has and the lake lacks between others, {at_once} at once at most.",
    )
    def missing_days(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance, now = context.instance, datetime.now(UTC)
        end_dead_runs(instance)
        if going_on := said_of_runs(instance):
            return dg.SensorResult(skip_reason=going_on, cursor=context.cursor)
        try:
            partitions = lacking(instance, settings, source, lineage, names, newest_due(now))
        except SourceError as error:
            return dg.SensorResult(skip_reason=f"the source cannot be looked at: {error}", cursor=context.cursor)
        missing = sorted({day for days in partitions.values() for day in days})
        asked = Asked.load(context.cursor).only(missing)
        allowed = {name: [day for day in days if asked.may(day, now)] for name, days in partitions.items()}
        runs = spans(allowed)
        if not runs:
            return dg.SensorResult(skip_reason=_why(missing, asked), cursor=asked.dump())
        span = Span(runs[0].first, min(runs[0].last, runs[0].first + (at_once - 1) * DAY), runs[0].assets)
        request = dg.RunRequest(
            asset_selection=[dg.AssetKey(name) for name in span.assets], **span_tags(span.first, span.last)
        )
        days = list(days_between(span.first, span.last))
        return dg.SensorResult(run_requests=[request], cursor=asked.once_more(days, now).dump())

    return missing_days


def lacking(
    instance: dg.DagsterInstance,
    settings: Settings,
    source: Source,
    lineage: Lineage,
    names: Sequence[str],
    newest: date,
) -> dict[str, list[date]]:
    """What is missing of the assets that the lake has, and what is made from it, by asset.

    An asset of which no day was ever made is not asked for: nobody wanted it, or the venues have nothing of the kind.
    A day is missing where it lies between two that are there, or after the last, and no more than `LONGEST` lie there.

    Raises:
        SourceError: the source as a whole cannot be used.
    """
    made = {name: _materialized(instance, name) for name in names}
    kept = {name: days for name, days in made.items() if days}
    found: dict[str, set[date]] = {name: set() for name in kept}
    for name, days in kept.items():
        holes = [day for day in _holes(days, newest) if day >= settings.start]
        if DATASETS[name].from_source and name in source.data_types:
            there = source.days_with(name, holes, settings.selection)
        else:
            there = kept.get(TRADES.name, set()).union(found.get(TRADES.name, ())).intersection(holes)
        for other in _made_from(name, lineage):
            if other in found:
                found[other] |= there
    return {name: sorted(days) for name, days in found.items() if days}


def _holes(made: Collection[date], newest: date) -> Iterator[date]:
    """The days that lack between some, and up to the newest."""
    known = sorted(day for day in made if day <= newest)
    for before, after in pairwise([*known, newest + DAY]):
        if (after - before).days - 1 <= LONGEST:
            yield from days_between(before + DAY, after - DAY)


def _made_from(name: str, lineage: Lineage) -> set[str]:
    """An asset, and all that is made from it."""
    found, waiting = set[str](), [name]
    while waiting:
        each = waiting.pop()
        found.add(each)
        waiting += [other for other, inputs in lineage.items() if each in inputs and other not in found]
    return found


def _materialized(instance: dg.DagsterInstance, name: str) -> set[date]:
    return {as_day(key) for key in instance.get_materialized_partitions(dg.AssetKey(name))}


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
