"""The sensor that asks again for ticks that the source has changed, and for what was made from changed data."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Self

import dagster as dg

from market_data_pipeline.defs.launch import span_tags
from market_data_pipeline.defs.lineage import Change, Lineage, Span, affected, spans
from market_data_pipeline.defs.watching import Looked, Stage, Watch
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.windows import as_day

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

TAG = "market_data/correction"
"""The tag of the runs that are asked for: the place in Dagster's history up to which changes had been looked at."""
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_GOING_ON = [status for status in dg.DagsterRunStatus if status not in _ENDED]
_PAGE = 500


@dataclass(frozen=True)
class Progress:
    """What is kept from one evaluation to the next, in the sensor's cursor.

    Attributes:
        seen: the place in Dagster's history up to which changes have been looked at.
        waiting: the runs that these changes need, in order.
        asked_at: the place in the history when the first of `waiting` was asked for; None before.
        looked: what looking at the source has shown.
    """

    seen: int = 0
    waiting: tuple[Span, ...] = ()
    asked_at: int | None = None
    looked: Looked = field(default_factory=Looked)

    @classmethod
    def load(cls, cursor: str | None) -> Self:
        """The progress of a cursor; from the beginning without one."""
        if not cursor:
            return cls()
        told = json.loads(cursor)
        waiting = (Span(as_day(first), as_day(last), tuple(assets)) for first, last, assets in told["waiting"])
        return cls(told["seen"], tuple(waiting), told["asked_at"], Looked.load(told.get("looked")))

    def dump(self) -> str:
        """The cursor."""
        waiting = [[span.first.isoformat(), span.last.isoformat(), span.assets] for span in self.waiting]
        told = {"seen": self.seen, "waiting": waiting, "asked_at": self.asked_at, "looked": self.looked.dump()}
        return json.dumps(told)


def corrections_sensor(
    job: "UnresolvedAssetJobDefinition", lineage: Lineage, watch: Watch | None = None
) -> dg.SensorDefinition:
    """Asks for affected partitions, a run at a time and only while no other run goes on; off until switched on.

    First for days of ticks that the source has in another state than they were read in, where it can tell. Then for
    what follows from corrections: a correction is a partition that was materialized with other content, after something
    had been made from it, such as a day that the vendor sent again, or the day after, whose file holds ticks of the day
    before. Partitions that were never materialized are not asked for.

    Args:
        job: the job that holds all assets.
        lineage: what is made from what.
        watch: looks at the source; None where the source cannot be watched.
    """

    @dg.sensor(
        name="corrections",
        job=job,
        minimum_interval_seconds=30,
        description="Materializes again the ticks that have changed in a folder of files, and what was made from ticks "
        "that have changed or arrived since.",
    )
    def corrections(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance = context.instance
        progress = Progress.load(context.cursor)
        if going_on := instance.get_runs_count(dg.RunsFilter(statuses=_GOING_ON)):
            return _skipped(progress, f"{going_on} runs go on; what they change is looked at when they have ended")
        made = _materialized(instance, lineage)
        newest = max((place for places in made.values() for place in places.values()), default=0)
        why = ["nothing has changed that something else was made from"]
        # all days that were sent again come first: what follows from several of them is then made once
        if progress.looked.next_run is None:
            progress, held_up = _corrected(instance, progress, made, newest, lineage)
            if progress.waiting and not held_up:
                return _asked(progress.waiting[0], replace(progress, asked_at=newest), str(progress.seen))
            why = [held_up] if held_up else why
            if watch is not None:
                try:
                    progress = replace(progress, looked=watch.look(instance, made, progress.looked))
                except SourceError as error:
                    why.append(f"the source cannot be looked at: {error}")
        if (span := progress.looked.next_run) is not None:
            states = progress.looked.asked_for(span)
            return _asked(span, replace(progress, looked=states), f"{newest} {states.fingerprint}")
        if failed := progress.looked.at(Stage.ASKED):
            name, day = failed[0]
            why.append(
                f"{name} of {day} changed in the source, was asked for, and could not be read ({len(failed)} "
                "partitions in all); they are asked for again when their files change again"
            )
        return _skipped(progress, "; ".join(why))

    return corrections


def _corrected(
    instance: dg.DagsterInstance,
    progress: Progress,
    made: Mapping[str, Mapping[date, int]],
    newest: int,
    lineage: Lineage,
) -> tuple[Progress, str | None]:
    """The progress with the runs that are still to come, and what holds them up, if anything does."""
    if progress.waiting and progress.asked_at is not None:
        first, *rest = progress.waiting
        if missing := _not_made_since(progress.asked_at, first, made):
            return progress, (
                f"{first} was asked for, and {missing} did not succeed; materialize it and the rest goes on "
                f"({len(rest)} runs), or reset this sensor's cursor"
            )
        progress = replace(progress, waiting=tuple(rest), asked_at=None)
    if not progress.waiting:
        changes = list(_changes(instance, progress.seen, lineage))
        progress = replace(progress, seen=newest, waiting=tuple(spans(affected(changes, made, lineage))))
    return progress, None


def _asked(span: Span, progress: Progress, because: str) -> dg.SensorResult:
    request = dg.RunRequest(
        run_key=f"{because} {span}",
        asset_selection=[dg.AssetKey(name) for name in span.assets],
        **span_tags(span.first, span.last, {TAG: str(progress.seen)}),
    )
    return dg.SensorResult(run_requests=[request], cursor=progress.dump())


def _skipped(progress: Progress, reason: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=progress.dump())


def _materialized(instance: dg.DagsterInstance, lineage: Lineage) -> dict[str, dict[date, int]]:
    """For each asset its materialized partitions, and the place of the newest materialization of each."""
    names = sorted({*lineage, *(name for inputs in lineage.values() for name in inputs)})
    return {
        name: {
            as_day(partition): place
            for partition, place in instance.get_latest_storage_id_by_partition(
                dg.AssetKey(name), dg.DagsterEventType.ASSET_MATERIALIZATION
            ).items()
        }
        for name in names
    }


def _not_made_since(place: int, span: Span, made: Mapping[str, Mapping[date, int]]) -> str | None:
    for name in span.assets:
        for day, newest in sorted(made[name].items()):
            if span.first <= day <= span.last and newest <= place:
                return f"{name} of {day}"
    return None


def _changes(instance: dg.DagsterInstance, seen: int, lineage: Lineage) -> Iterator[Change]:
    """The partitions that were materialized with other content after a place in the history."""
    for name in sorted({name for inputs in lineage.values() for name in inputs}):
        cursor: str | None = None
        while True:
            page = instance.fetch_materializations(
                dg.AssetRecordsFilter(dg.AssetKey(name), after_storage_id=seen), _PAGE, cursor, ascending=True
            )
            for record in page.records:
                change = _change(instance, name, record)
                if change is not None:
                    yield change
            cursor = page.cursor
            if not page.has_more:
                break


def _change(instance: dg.DagsterInstance, name: str, record: dg.EventLogRecord) -> Change | None:
    materialization = record.asset_materialization
    if materialization is None or materialization.partition is None:
        return None
    told = materialization.metadata
    if not (_value(told, "files_written") or _value(told, "removed_instruments")):
        return None
    day = as_day(materialization.partition)
    before = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            dg.AssetKey(name), asset_partitions=[materialization.partition], before_storage_id=record.storage_id
        ),
        limit=1,
    ).records
    held = [told, *(each.asset_materialization.metadata for each in before if each.asset_materialization)]
    firsts = [datetime.fromisoformat(str(first)).date() for each in held if (first := _value(each, "first_timestamp"))]
    return Change(name, day, record.storage_id, min([day, *firsts]))


def _value(metadata: Mapping[str, Any], name: str) -> object:
    return metadata[name].value if name in metadata else None
