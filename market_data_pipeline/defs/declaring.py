"""What all assets have in common: how they are declared, what they give out, and what their checks then tell."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg

from market_data_pipeline.defs.checks import day_results
from market_data_pipeline.defs.executing import op_tags
from market_data_pipeline.defs.metadata import definition_metadata
from market_data_pipeline.defs.newest import freshness
from market_data_pipeline.defs.partitions import backfill_policy, daily_partitions, days_of
from market_data_pipeline.defs.recorded import READ_AT, newest_place
from market_data_pipeline.defs.streams import RowStream
from market_data_pipeline.defs.upstream import days_with_input, lost_input, without_input
from market_data_pipeline.lake.checked import Finding
from market_data_pipeline.lake.day_files import Place
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import DayRows
from market_data_pipeline.settings import Automatic, Settings

IO_MANAGER = "lake_io"
READ_CHECK = "every_instrument_read"
LAYOUTS_CHECK = "layouts_agree"
SOURCE_POOL = "source"
"""Dagster's pool of what loads from the source: a limit on it, of which there is none, holds such runs in the queue."""
Results = Iterator[dg.Output[RowStream] | dg.AssetCheckResult]
"""What an asset's function gives."""


_CHECKS = {
    READ_CHECK: "Every instrument that was asked for could be read; the others name file, line and remedy.",
    LAYOUTS_CHECK: "All layouts hold the same rows, by sizes, footers and recorded checksums, right after writing; "
    "`market-data verify` looks at any time.",
}


_MEND = (
    "What to do: mend or replace what is named (or take it away), and materialize the day again. The other instruments "
    "are there, and so is what follows from them."
)


def common_to_all(settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """What all assets have in common."""
    return {
        "description": f"One row: {dataset.row}.",
        "partitions_def": daily_partitions(settings),
        "group_name": str(dataset.kind),
        "kinds": {"parquet", "gcs" if settings.lake.startswith("gs:") else "python"},
        "code_version": "1",
        "tags": {"tier": str(dataset.tier)},
        "owners": [f"team:{dataset.tier}"],
        "metadata": definition_metadata(dataset, settings.signals),
    }


def not_given(settings: Settings, dataset: Dataset, why: str) -> dg.AssetSpec:
    """An asset that cannot be materialized with this source, so that a run of everything passes it over."""
    common = common_to_all(settings, dataset)
    return dg.AssetSpec(dataset.name, **common | {"description": f"{common['description']} {why}"})


def lake_asset(
    settings: Settings, dataset: Dataset, **more: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """The asset decorator, with what all assets that are materialized have in common."""
    common: dict[str, Any] = common_to_all(settings, dataset) | {
        "name": dataset.name,
        "backfill_policy": backfill_policy(settings),
        "op_tags": op_tags(settings.step_pods, dataset),
        "pool": SOURCE_POOL if dataset.from_source else None,
        "freshness_policy": freshness() if Automatic.DAILY in settings.automatic else None,
        "io_manager_key": IO_MANAGER,
        "check_specs": [
            dg.AssetCheckSpec(
                name, asset=dataset.name, partitions_def=daily_partitions(settings), description=description
            )
            for name, description in _CHECKS.items()
        ],
    }
    decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(**common, **more)
    return decorate


def results(context: dg.AssetExecutionContext, stream: RowStream) -> Results:
    """Gives the stream to the IO manager, which reads it at once; then tells what could not be read."""
    yield dg.Output(stream)
    failures = [failure for failure in stream.report.failures if not failure.kept] if stream.report else []
    problems = {
        day: [Finding(str(failure), follows=failure.follows) for failure in failures if failure.day == day]
        for day in days_of(context.partition_keys)
    }
    asset = context.asset_key.to_user_string()
    advice = _MEND if DATASETS[context.asset_key.path[-1]].from_source else ""
    yield day_results(context.log_event, asset, READ_CHECK, problems, advice)
    yield day_results(context.log_event, asset, LAYOUTS_CHECK, _differing(problems, stream))


def _differing(days: Iterable[date], stream: RowStream) -> dict[date, list[Finding]]:
    """What differs between the layouts, by day; of a whole month file, at the first of its days."""
    differing: dict[date, list[Finding]] = {day: [] for day in days}
    for each in stream.differences:
        differing[each.day or min(differing)].append(Finding(str(each)))
    return differing


def derived(
    context: dg.AssetExecutionContext,
    store: ObjectStore,
    inputs: Sequence[Dataset],
    selection: Selection,
    make: Callable[[Sequence[date]], Iterator[DayRows]],
    notes: Callable[[date], dict[str, object]] = lambda _: {},
    told: Callable[[Iterator[DayRows]], Iterator[DayRows]] = lambda rows: rows,
) -> Results:
    """What is made from the lake for the days of a run; a day without input comes as rows that cannot be read.

    So does an instrument whose input is lost: the lake keeps what was made of it. `told` lets rows tell what they are
    made from (see `Inputs`).
    """
    dataset = DATASETS[context.asset_key.path[-1]]
    days = days_of(context.partition_keys)
    # before anything is read: what changes meanwhile is then newer than what is made here
    above = context.assets_def.asset_deps[context.asset_key]
    read_at = newest_place(context.instance, [key.to_user_string() for key in above])

    def rows() -> Iterator[DayRows]:
        ready = days_with_input(context.instance, store, inputs, days, selection)
        # before anything is made: what comes back meanwhile is either made, or told as lost, and never taken for gone
        lost = lost_input(store, dataset, inputs, ready, selection)
        made: set[Place] = set()
        for each in told(make(ready)):
            made.add((each.day, each.instrument))
            yield each
        yield from (each for each in lost if (each.day, each.instrument) not in made)
        yield from (without_input(dataset, inputs, day, selection) for day in days if day not in ready)

    yield from results(context, RowStream(selection, rows, lambda day: notes(day) | {READ_AT: read_at}))
