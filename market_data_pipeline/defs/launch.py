"""Runs of the pipeline from a program: days and assets into the instance, in this process."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from market_data_pipeline.defs.checks import FINDINGS
from market_data_pipeline.defs.going_on import end_dead_runs, marked_run
from market_data_pipeline.defs.lineage import spans
from market_data_pipeline.defs.newest import CHECK as NEWEST_CHECK
from market_data_pipeline.defs.partitions import daily_partitions
from market_data_pipeline.defs.recorded import materializations
from market_data_pipeline.defs.upstream import FAILED
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.model.windows import days_between, require_order
from market_data_pipeline.settings import Settings

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
# What went wrong is told at the end, in words; Dagster's own log of it (with stack traces) is kept in the instance.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        run_id: the run's id in the instance.
        first: its first day.
        last: its last day.
        succeeded: whether every step succeeded.
        problems: failed steps and failed checks, in words.
        notes: what else one should know: rows that were set aside, instruments that went, what is out of date.
    """

    run_id: str
    first: date
    last: date
    succeeded: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Every step succeeded, and so did every check."""
        return self.succeeded and not self.problems


def require_partitions(settings: Settings, first: date, last: date) -> None:
    """Refuses days that are no partitions, and a range that runs backwards; raises SettingError."""
    require_order(first, last)
    known = daily_partitions(settings)
    newest = known.get_last_partition_key()
    for day in (first, last):
        if newest is None or not settings.start.isoformat() <= day.isoformat() <= newest:
            raise SettingError(
                f"{day} is no partition: there is one for each day from {settings.start} (MARKET_DATA_START) to "
                f"{newest or 'yesterday'}, the last full day in UTC"
            )


Partitions = Mapping[dg.AssetKey, Collection[date]]
"""Days of assets that are to be made."""


@dataclass(frozen=True)
class Stage:
    """One run of a backfill: some days, both included, of some assets."""

    first: date
    last: date
    assets: tuple[dg.AssetKey, ...]


def stages(settings: Settings, partitions: Partitions) -> list[Stage]:
    """The runs that make some partitions and no other ones, each of MARKET_DATA_DAYS_PER_RUN days at most.

    Where there are several, those of what comes from the source go first: candles read the files of the days beside
    theirs.
    """
    if len(together := _stages(settings, partitions)) < 2:
        return together
    fetched = {key: days for key, days in partitions.items() if DATASETS[key.path[-1]].from_source}
    derived = {key: days for key, days in partitions.items() if key not in fetched}
    return [*_stages(settings, fetched), *_stages(settings, derived)]


def _stages(settings: Settings, partitions: Partitions) -> list[Stage]:
    found = []
    for span in spans({key.to_user_string(): days for key, days in partitions.items()}):
        keys = tuple(dg.AssetKey.from_user_string(name) for name in span.assets)
        days = list(days_between(span.first, span.last))
        most = settings.days_per_run or len(days)
        found += [Stage(part[0], part[-1], keys) for part in (days[at : at + most] for at in range(0, len(days), most))]
    return found


def chosen_assets(defs: dg.Definitions, assets: Sequence[dg.AssetKey] | None) -> list[dg.AssetKey]:
    """Some assets, or with None all whose days can be materialized."""
    return sorted(assets or _with_days(defs.resolve_asset_graph()))


def _with_days(graph: "AssetGraph") -> set[dg.AssetKey]:
    return {key for key in graph.materializable_asset_keys if graph.get(key).partitions_def}


def missing(
    instance: dg.DagsterInstance, defs: dg.Definitions, days: Sequence[date], assets: Sequence[dg.AssetKey]
) -> dict[dg.AssetKey, list[date]]:
    """Of some days of assets those that were never materialized, or the last time without an instrument that failed.

    What is made of something that is missing is missing as well. So a killed run goes on where it was. A type of ticks
    of which none of the days was ever made, since the venues have nothing of the kind, is missing where trades are.
    """
    graph = defs.resolve_asset_graph()
    lacking = {key: _lacking(instance, key, days) for key in assets}
    without_trades = lacking.get(dg.AssetKey("trades"), set(days))
    found: dict[dg.AssetKey, set[date]] = {key: set() for key in assets}
    for key, of_asset in lacking.items():
        nothing = DATASETS[key.path[-1]].from_source and len(of_asset) == len(days)
        for other in dg.AssetSelection.assets(key).downstream().resolve(graph) & found.keys():
            found[other] |= of_asset & without_trades if nothing else of_asset
    return {key: sorted(of_asset) for key, of_asset in found.items() if of_asset}


def _lacking(instance: dg.DagsterInstance, key: dg.AssetKey, days: Sequence[date]) -> set[date]:
    made = instance.get_materialized_partitions(key)
    missing = {day for day in days if day.isoformat() not in made}
    if DATASETS[key.path[-1]].from_source:  # what follows from a failure is made again with it
        newest: dict[date, bool] = {}
        for day, each in materializations(instance, key.to_user_string(), set(days) - missing):
            newest.setdefault(day, FAILED in each.metadata)
        missing |= {day for day, failed in newest.items() if failed}
    return missing


def selected_assets(defs: dg.Definitions, names: Sequence[str]) -> list[dg.AssetKey] | None:
    """The assets of these names, or of a selection in Dagster's own syntax (`key:ohlcv_1m+`); None for all.

    Raises:
        SettingError: there is no such asset.
    """
    if not names:
        return None
    graph = defs.resolve_asset_graph()
    made = _with_days(graph)
    known = sorted(key.to_user_string() for key in made)
    keys: set[dg.AssetKey] = set()
    for name in names:
        found = set() if not name.strip() else _resolve(name.strip(), graph) & made
        if not found:
            raise SettingError(f"{name!r} is no asset; there are {', '.join(known)}")
        keys |= found
    return sorted(keys)


def _resolve(name: str, graph: object) -> set[dg.AssetKey]:
    try:
        return set(dg.AssetSelection.from_string(name).resolve(graph, allow_missing=True))  # type: ignore[arg-type]
    except (dg.DagsterError, ValueError):
        return set()


def span_tags(first: date, last: date, more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The arguments by which a run, or a request for one, is of these days, both included; and of further tags."""
    if first == last:
        return {"partition_key": first.isoformat(), "tags": dict(more or {})}
    return {"tags": {_RANGE_START: first.isoformat(), _RANGE_END: last.isoformat(), **(more or {})}}


def days_told(tags: Mapping[str, str]) -> str:
    """The days of a run that has the tags of `span_tags`, for people; empty where it is of none."""
    spanned = [tags[tag] for tag in (_RANGE_START, _RANGE_END) if tag in tags]
    return tags.get("dagster/partition") or " to ".join(dict.fromkeys(spanned))


def launch(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    first: date,
    last: date,
    assets: Sequence[dg.AssetKey] | None = None,
) -> Outcome:
    """Materializes some days in one run, in this process, recorded in an instance as any other run.

    Args:
        defs: the pipeline.
        instance: where the run is recorded.
        first: the first day.
        last: the last day, included.
        assets: which assets; all with None.
    """
    job = defs.resolve_implicit_global_asset_job_def()
    end_dead_runs(instance)
    with marked_run(instance) as run_id:
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            asset_selection=chosen_assets(defs, assets),
            raise_on_error=False,
            run_config=_QUIET,
            **span_tags(first, last),
        )
    return Outcome(result.run_id, first, last, result.success, tuple(_problems(result)), tuple(_notes(result)))


def _problems(result: dg.ExecuteInProcessResult) -> list[str]:
    problems = []
    for event in result.filter_events(lambda event: event.is_step_failure):
        why = why_failed(event)
        if why is None:
            why = "stops what is made from it (MARKET_DATA_QUALITY_BLOCKING)"
        elif not _foreseen(event):
            why = f"{why}; the run's log in the UI has the stack trace"
        problems.append(f"{event.step_key}: {why}")
    return [*problems, *_findings(result, dg.AssetCheckSeverity.ERROR)]


def why_failed(event: dg.DagsterEvent) -> str | None:
    """Why a step failed, in words; None where a check that blocks stopped it, which says so itself."""
    if foreseen := _foreseen(event):
        return foreseen.strip()
    error = event.step_failure_data.error
    unforeseen = (error.cause or error) if error else None
    if unforeseen and unforeseen.cls_name == "DagsterAssetCheckFailedError":
        return None
    return unforeseen.message.strip() if unforeseen else "failed"


def _foreseen(event: dg.DagsterEvent) -> str | None:
    """What the step itself says of its failure."""
    said = event.step_failure_data.user_failure_data
    return said.description if said else None


def _notes(result: dg.ExecuteInProcessResult) -> list[str]:
    notes: list[str] = []
    for event in result.filter_events(lambda event: event.is_step_materialization):
        made = event.step_materialization_data.materialization
        place = f"{made.asset_key.to_user_string()} on {made.partition}"
        because = made.metadata.get("rows_set_aside_because")
        if because is not None and isinstance(because.value, dict):
            notes.extend(f"{place}: rows set aside: {count}, {reason}" for reason, count in because.value.items())
        gone = made.metadata.get("removed_instruments")
        if gone is not None and isinstance(gone.value, list):
            notes.append(f"{place}: gone, because its input has no rows any more: {', '.join(map(str, gone.value))}")
    return [*notes, *_findings(result, dg.AssetCheckSeverity.WARN)]


def _findings(result: dg.ExecuteInProcessResult, severity: dg.AssetCheckSeverity) -> Iterator[str]:
    """What failed checks found, a line each; what only follows from a day's other findings is left out."""
    checks = result.get_asset_check_evaluations()
    # on a range a summary without a partition follows the days' own results
    summed_up = {check.asset_check_key for check in checks if check.partition is None}
    told_apart = [check for check in checks if check.partition is None or check.asset_check_key not in summed_up]
    # whether the newest day is there is no matter of the run
    failed = [check for check in told_apart if not check.passed and check.check_name != NEWEST_CHECK]
    told = [(check, each) for check in failed if check.severity is severity for each in _found(check)]
    causes = {each["day"] for _, each in told if not each["follows"]}
    for check, each in told:
        if not (each["follows"] and each["day"] in causes):
            yield f"{check.asset_key.to_user_string()}, {check.check_name}: {each['text']}"


def _found(check: dg.AssetCheckEvaluation) -> list[dict[str, object]]:
    found = check.metadata.get(FINDINGS)
    listed = found.value if found is not None else None
    if isinstance(listed, list):
        return [dict(each) for each in listed]
    return [{"day": None, "text": check.description or "failed", "follows": False}]
