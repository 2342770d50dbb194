"""The assets: the source's master and ticks, candles, features, the map last. Each gives out a stream of rows."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from typing import Any

import dagster as dg

from market_data_pipeline.defs.checks import day_results
from market_data_pipeline.defs.metadata import column_schema
from market_data_pipeline.defs.partitions import backfill_policy, daily_partitions, days_of
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.defs.streams import RowStream
from market_data_pipeline.defs.upstream import days_with_input, without_input
from market_data_pipeline.lake.checked import Finding
from market_data_pipeline.lake.derived import TRADES, Selected, availability_rows, coarser_candles, first_candles
from market_data_pipeline.lake.features import FINEST, LookBacks, technical_rows
from market_data_pipeline.lake.master import INSTRUMENTS, listed_rows
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset, Kind, Timeframe, candles
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import DayRows
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import Source
from market_data_pipeline.sources.days import rows_of_days

IO_MANAGER = "lake_io"
READ_CHECK = "every_instrument_read"
_TICKS = tuple(each for each in DATASETS.values() if each.kind is Kind.TICKS)
_CANDLES = tuple(candles(name) for name in TIMEFRAMES)
_TECHNICAL = DATASETS["technical_features"]


def build_assets(settings: Settings, source: Source) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets, in the order in which a day flows; those that the source cannot give are there to be looked at."""
    ticks = [
        _tick_asset(settings, dataset)
        if dataset.name in source.data_types
        else _not_given(settings, dataset, f"Source {source.name} does not give it; what the lake has of it stays.")
        for dataset in _TICKS
    ]
    master = (
        _master_asset(settings)
        if source.has_listings
        else _not_given(settings, INSTRUMENTS, f"Source {source.name} has no list of instruments.")
    )
    frames = [_candle_asset(settings, frame) for frame in TIMEFRAMES.values()]
    return [master, *ticks, *frames, _technical_asset(settings), _availability_asset(settings)]


def _common(settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """What all assets have in common."""
    return {
        "description": f"One row: {dataset.row}.",
        "partitions_def": daily_partitions(settings),
        "group_name": str(dataset.kind),
        "kinds": {"parquet", "gcs" if settings.lake.startswith("gs:") else "python"},
        "code_version": "1",
        "tags": {"tier": str(dataset.tier)},
        "metadata": {"dagster/column_schema": column_schema(dataset)},
    }


def _not_given(settings: Settings, dataset: Dataset, why: str) -> dg.AssetSpec:
    """An asset that cannot be materialized with this source, so that a run of everything passes it over."""
    common = _common(settings, dataset)
    return dg.AssetSpec(dataset.name, **common | {"description": f"{common['description']} {why}"})


def _asset(settings: Settings, dataset: Dataset, **more: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """The asset decorator, with what all assets that are materialized have in common."""
    common: dict[str, Any] = _common(settings, dataset) | {
        "name": dataset.name,
        "backfill_policy": backfill_policy(settings),
        "io_manager_key": IO_MANAGER,
        "check_specs": [
            dg.AssetCheckSpec(
                READ_CHECK,
                asset=dataset.name,
                partitions_def=daily_partitions(settings),
                description="Every instrument that was asked for could be read; the others name file, line and remedy.",
            )
        ],
    }
    decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(**common, **more)
    return decorate


def _results(
    context: dg.AssetExecutionContext, stream: RowStream
) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
    """Gives the stream to the IO manager, which reads it at once; then tells what could not be read."""
    yield dg.Output(stream)
    failures = [failure for failure in stream.report.failures if not failure.kept] if stream.report else []
    problems = {
        day: [Finding(str(failure), follows=failure.follows) for failure in failures if failure.day == day]
        for day in days_of(context.partition_keys)
    }
    yield day_results(context.log_event, context.asset_key.to_user_string(), READ_CHECK, problems)


def _master_asset(settings: Settings) -> dg.AssetsDefinition:
    @_asset(settings, INSTRUMENTS)
    def master(
        context: dg.AssetExecutionContext, lake: LakeResource, source: dg.ResourceParam[Source]
    ) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        store, days, selection = lake.open(), days_of(context.partition_keys), settings.selection
        yield from _results(
            context,
            RowStream(selection, lambda: (listed_rows(store, day, selection, source.listings) for day in days)),
        )

    return master


def _tick_asset(settings: Settings, dataset: Dataset) -> dg.AssetsDefinition:
    @_asset(settings, dataset)
    def ticks(
        context: dg.AssetExecutionContext, source: dg.ResourceParam[Source]
    ) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        days = days_of(context.partition_keys)
        rows = partial(rows_of_days, source, dataset, days, settings.selection)
        yield from _results(context, RowStream(settings.selection.within(source.venues), rows))

    return ticks


def _derived(
    context: dg.AssetExecutionContext,
    store: ObjectStore,
    inputs: Sequence[Dataset],
    selection: Selection,
    make: Callable[[Sequence[date]], Iterator[DayRows]],
    notes: Callable[[date], dict[str, object]] = lambda _: {},
) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
    """What is made from the lake for the days of a run; a day without input comes as rows that cannot be read."""
    dataset = DATASETS[context.asset_key.path[-1]]
    days = days_of(context.partition_keys)

    def rows() -> Iterator[DayRows]:
        ready = days_with_input(context.instance, store, inputs, days, selection)
        yield from make(ready)
        yield from (without_input(dataset, inputs, day, selection) for day in days if day not in ready)

    yield from _results(context, RowStream(selection, rows, notes))


def _candle_asset(settings: Settings, timeframe: Timeframe) -> dg.AssetsDefinition:
    dataset = candles(timeframe.name)
    if timeframe.source is None:
        return _first_candle_asset(settings, dataset)

    finer = candles(timeframe.source)

    @_asset(settings, dataset, ins={"lake": dg.AssetIn(finer.name)})
    def coarser(context: dg.AssetExecutionContext, lake: Any) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        selection, fills = settings.selection, settings.fills
        yield from _derived(
            context, lake, [finer], selection, lambda days: coarser_candles(lake, timeframe, days, selection, fills)
        )

    return coarser


def _first_candle_asset(settings: Settings, dataset: Dataset) -> dg.AssetsDefinition:
    # A day's candles also read the files of the days beside it, as far as they are there. That is no partition mapping:
    # with one, a backfill would also run the day before and the day after the range that was asked for.
    @_asset(settings, dataset, ins={"lake": dg.AssetIn(TRADES.name)}, deps=[INSTRUMENTS.name])
    def from_trades(
        context: dg.AssetExecutionContext, lake: Any, source: dg.ResourceParam[Source]
    ) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        selection, fills = settings.selection, settings.fills
        selected: dict[date, Selected] = {}
        yield from _derived(
            context,
            lake,
            [TRADES],
            selection,
            lambda days: first_candles(lake, days, selection, source.contract, fills, selected),
            lambda day: _selected_notes(selected.get(day, Selected())),
        )

    return from_trades


def _selected_notes(selected: Selected) -> dict[str, object]:
    notes: dict[str, object] = {
        "trades_from_day_before": selected.before,
        "trades_from_own_day": selected.own,
        "trades_from_day_after": selected.after,
        "final": selected.final,
    }
    if selected.waiting:
        notes["waiting_for_the_day_after"] = dg.MetadataValue.json(list(selected.waiting))
    return notes


def _technical_asset(settings: Settings) -> dg.AssetsDefinition:
    # Look-backs are read as far as they are there. That is no partition mapping, for the same reason as above.
    @_asset(settings, _TECHNICAL, deps=[each.name for each in (TRADES, *_CANDLES)])
    def technical(
        context: dg.AssetExecutionContext, lake: LakeResource
    ) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        store, selection = lake.open(), settings.selection
        look_backs: dict[date, LookBacks] = {}
        yield from _derived(
            context,
            store,
            [FINEST],
            selection,
            lambda days: technical_rows(store, days, selection, look_backs),
            lambda day: _look_back_notes(look_backs.get(day, LookBacks())),
        )

    return technical


def _look_back_notes(look_backs: LookBacks) -> dict[str, object]:
    return {
        "look_back_candles_missing": sum(look_backs.missing.values()),
        "look_back_candles_missing_by_timeframe": dg.MetadataValue.json(dict(look_backs.missing)),
        "instruments_without_a_full_look_back": look_backs.instruments,
    }


def _availability_asset(settings: Settings) -> dg.AssetsDefinition:
    dataset = DATASETS["available_instruments"]

    inputs = [*_TICKS, INSTRUMENTS]
    # the map observes the features, and they never read it: it comes last
    deps = [each.name for each in (*inputs, *_CANDLES, _TECHNICAL)]

    @_asset(settings, dataset, deps=deps)
    def available(
        context: dg.AssetExecutionContext, lake: LakeResource, source: dg.ResourceParam[Source]
    ) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        store, selection = lake.open(), settings.selection
        yield from _derived(
            context, store, inputs, selection, lambda days: availability_rows(store, days, selection, source.contract)
        )

    return available
