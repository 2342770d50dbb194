"""The sensor that asks again for ticks that the source has changed, and for what was made from changed data."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Self

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_FAILURE_REASON_TAG, SENSOR_NAME_TAG

from market_data_pipeline.defs.going_on import end_dead_runs, said_of_runs
from market_data_pipeline.defs.history import History
from market_data_pipeline.defs.launch import span_tags
from market_data_pipeline.defs.lineage import Lineage, Span
from market_data_pipeline.defs.outdated import outdated, still_asked
from market_data_pipeline.defs.watching import Looked, Stage, Watch
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.windows import as_day

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

NAME = "corrections"
TAG = "market_data/correction"
"""The tag of the runs that are asked for: the place in Dagster's history of the newest change that they follow."""
_TIMES = 3
"""How many runs in a row may die before they are taken for runs that cannot succeed, such as for lack of memory."""


@dataclass(frozen=True)
class Progress:
    """What is kept from one evaluation to the next, in the sensor's cursor; all else stands in Dagster's history.

    Attributes:
        asked: what was asked for and is not made yet, each with the place in the history of the newest change on
            account of which it was: nothing is asked for twice on account of the same.
        looked: what looking at the source has shown.
    """

    asked: tuple[tuple[Span, int], ...] = ()
    looked: Looked = field(default_factory=Looked)

    @classmethod
    def load(cls, cursor: str | None) -> Self:
        """The progress of a cursor; from the beginning without one."""
        told = json.loads(cursor) if cursor else {}
        asked = (
            (Span(as_day(first), as_day(last), tuple(names)), at) for first, last, names, at in told.get("asked", ())
        )
        return cls(tuple(asked), Looked.load(told.get("looked")))

    def after(self, span: Span, newest: int, looked: Looked) -> Self:
        """The same, once a run has been asked for; another one for the same takes the first one's place."""
        others = (each for each in self.asked if each[0] != span)
        return replace(self, asked=(*others, (span, newest)), looked=looked)

    def without(self, dead: Collection[Span]) -> Self:
        """The same, as if runs that died had not been asked for."""
        looked = self.looked
        for span in dead:
            looked = looked.due_again(span)
        return replace(self, asked=tuple(each for each in self.asked if each[0] not in dead), looked=looked)

    def dump(self) -> str:
        """The cursor."""
        asked = [[span.first.isoformat(), span.last.isoformat(), span.assets, at] for span, at in self.asked]
        return json.dumps({"asked": asked, "looked": self.looked.dump()})


def corrections_sensor(
    job: "UnresolvedAssetJobDefinition",
    lineage: Lineage,
    selection: Selection,
    watch: Watch | None = None,
    status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> dg.SensorDefinition:
    """Asks for affected partitions, a run at a time and only while no other run goes on.

    First for days of ticks that the source has in another state than they were read in, where it can tell. Then for
    what follows from corrections: a correction is a partition that was materialized with other content, after something
    had been made from it, such as a day that the vendor sent again, or the day after, whose file holds ticks of the day
    before. Partitions that were never materialized are not asked for.

    What is out of date is worked out anew from Dagster's history each time, so no failure, kill or reset loses any of
    it. Runs follow one another in time, as a later day may look back on an earlier one: the first is asked for, and
    what is out of date once it has ended decides on the next.

    Args:
        job: the job that holds all assets.
        lineage: what is made from what.
        selection: the instruments of the settings, which are those that the runs make.
        watch: looks at the source; None where the source cannot be watched.
        status: whether it is on from the first start.
    """
    history = History(lineage, selection)

    @dg.sensor(
        name=NAME,
        job=job,
        minimum_interval_seconds=30,
        default_status=status,
        description="Materializes again the ticks that have changed in a folder of files, and what was made from ticks "
        "that have changed or arrived since.",
    )
    def corrections(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance = context.instance
        progress = Progress.load(context.cursor)
        if not_yet := _not_yet(instance, history):
            return _skipped(progress, not_yet)
        progress = progress.without([span for span, _ in progress.asked if _died(instance, span)])
        made = _materialized(instance, history.names)
        why: list[str] = []
        # all days that were sent again come first: what follows from several of them is then made once
        if progress.looked.next_run is None:
            found = outdated(instance, history, made, lineage, selection, progress.asked)
            progress = replace(progress, asked=still_asked(progress.asked, found, progress.looked.at(Stage.ASKED)))
            if span := found.next_run(made, lineage):
                return _asked(span, progress.after(span, found.newest, progress.looked), found.newest)
            why += found.said()
            if watch is not None:
                try:
                    progress = replace(progress, looked=watch.look(history.states, made, progress.looked))
                except SourceError as error:
                    why.append(f"the source cannot be looked at: {error}")
        if (changed := progress.looked.next_run) is not None:
            newest = max((place for places in made.values() for place in places.values()), default=0)
            return _asked(changed, progress.after(changed, newest, progress.looked.asked_for(changed)), newest)
        if failed := progress.looked.at(Stage.ASKED):
            name, day = failed[0]
            why.append(
                f"{name} of {day} changed in the source, was asked for, and could not be read ({len(failed)} "
                "partitions in all); they are asked for again when their files change again"
            )
        return _skipped(progress, "; ".join(why) or "nothing has changed that something else was made from")

    return corrections


def _not_yet(instance: dg.DagsterInstance, history: History) -> str | None:
    """Brings the history up to date; why it cannot be gone by yet, if it cannot."""
    end_dead_runs(instance)
    if going_on := said_of_runs(instance):
        return going_on
    if not history.read_on(instance):
        return f"Dagster's history is being read, {history.partitions:,} materializations until now"
    # one that has begun meanwhile may have read before a change, and would end after all was looked at
    return said_of_runs(instance)


def _died(instance: dg.DagsterInstance, span: Span) -> bool:
    """Whether the newest run that was asked for ended by no fault of its own: killed, or its process never came up.

    Such a one is asked for again, but for one that died like `_TIMES` in a row.
    """
    days = span_tags(span.first, span.last)
    tags = {SENSOR_NAME_TAG: NAME, **days["tags"]}
    if "partition_key" in days:
        tags[PARTITION_NAME_TAG] = days["partition_key"]
    keys = {dg.AssetKey(name) for name in span.assets}
    runs = [run for run in instance.get_runs(dg.RunsFilter(tags=tags)) if run.asset_selection == keys][:_TIMES]
    dead = [
        run.status is dg.DagsterRunStatus.FAILURE
        and run.tags.get(RUN_FAILURE_REASON_TAG) != RunFailureReason.STEP_FAILURE.value
        for run in runs
    ]
    return bool(dead) and dead[0] and not (len(dead) == _TIMES and all(dead))


def _asked(span: Span, progress: Progress, newest: int) -> dg.SensorResult:
    # without a run_key: the cursor keeps runs from being asked for twice, and resetting it is to ask for them again
    request = dg.RunRequest(
        asset_selection=[dg.AssetKey(name) for name in span.assets],
        **span_tags(span.first, span.last, {TAG: str(newest)}),
    )
    return dg.SensorResult(run_requests=[request], cursor=progress.dump())


def _skipped(progress: Progress, reason: str) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=progress.dump())


def _materialized(instance: dg.DagsterInstance, names: list[str]) -> dict[str, Mapping[date, int]]:
    """For each asset its materialized partitions, and the place of the newest materialization of each."""
    return {
        name: {
            as_day(partition): place
            for partition, place in instance.get_latest_storage_id_by_partition(
                dg.AssetKey(name), dg.DagsterEventType.ASSET_MATERIALIZATION
            ).items()
        }
        for name in names
    }
