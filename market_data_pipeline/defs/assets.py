"""The assets: ticks from the source, candles from ticks, the availability map last. Each gives out a stream of rows."""

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import dagster as dg

from market_data_pipeline.defs.checks import day_results
from market_data_pipeline.defs.metadata import column_schema
from market_data_pipeline.defs.partitions import NEIGHBOURS, backfill_policy, daily_partitions, days_of
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.defs.streams import RowStream
from market_data_pipeline.lake.derived import Selected, availability_rows, coarser_candles, first_candles
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset, Timeframe, candles
from market_data_pipeline.model.errors import NoData
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import Source

IO_MANAGER = "lake_io"
READ_CHECK = "every_instrument_read"
_TICKS = ("trades",)


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """All assets, in the order in which a day flows."""
    ticks = [_tick_asset(settings, DATASETS[name]) for name in _TICKS]
    frames = [_candle_asset(settings, frame) for frame in TIMEFRAMES.values()]
    return [*ticks, *frames, _availability_asset(settings)]


def _asset(settings: Settings, dataset: Dataset, **more: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """The asset decorator, with what all assets have in common."""
    common: dict[str, Any] = {
        "name": dataset.name,
        "description": f"One row: {dataset.row}.",
        "partitions_def": daily_partitions(settings),
        "backfill_policy": backfill_policy(settings),
        "io_manager_key": IO_MANAGER,
        "group_name": str(dataset.kind),
        "kinds": {"parquet", "gcs" if settings.lake.startswith("gs:") else "python"},
        "code_version": "1",
        "tags": {"tier": str(dataset.tier)},
        "metadata": {"dagster/column_schema": column_schema(dataset)},
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
    failures = stream.report.failures if stream.report else ()
    problems = {
        day: [f"{failure.label} on {day}: {failure.message}" for failure in failures if failure.day == day]
        for day in days_of(context.partition_keys)
    }
    yield day_results(context.log_event, context.asset_key.to_user_string(), READ_CHECK, problems)


def _tick_asset(settings: Settings, dataset: Dataset) -> dg.AssetsDefinition:
    @_asset(settings, dataset)
    def ticks(
        context: dg.AssetExecutionContext, source: dg.ResourceParam[Source]
    ) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        days = days_of(context.partition_keys)
        yield from _results(
            context, RowStream(settings.selection, lambda: _source_rows(source, dataset.name, days, settings.selection))
        )

    return ticks


def _source_rows(source: Source, data_type: str, days: list[date], selection: Selection) -> Iterator[DayRows]:
    """What a source has for some days; a day without anything comes as rows that cannot be read."""
    for day in days:
        empty = True
        for file in source.files(data_type, day, selection):
            empty = False
            yield file
        if empty:
            yield _nothing(source, data_type, day, selection)


def _nothing(source: Source, data_type: str, day: date, selection: Selection) -> DayRows:
    asked = "" if selection.everything else f" for {selection} (MARKET_DATA_INSTRUMENTS)"

    def read(_: Rejects) -> Iterator[Any]:
        raise NoData(f"source {source.name} has no {data_type} on {day}{asked}: {source.describe(data_type)}")

    return DayRows(day, None, source.name, read)


def _candle_asset(settings: Settings, timeframe: Timeframe) -> dg.AssetsDefinition:
    dataset = candles(timeframe.name)
    if timeframe.source is None:
        return _first_candle_asset(settings, dataset)

    @_asset(settings, dataset, ins={"finer": dg.AssetIn(candles(timeframe.source).name)})
    def coarser(context: dg.AssetExecutionContext, finer: Any) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        days = days_of(context.partition_keys)
        selection, fills = settings.selection, settings.fills
        yield from _results(
            context, RowStream(selection, lambda: coarser_candles(finer, timeframe, days, selection, fills))
        )

    return coarser


def _first_candle_asset(settings: Settings, dataset: Dataset) -> dg.AssetsDefinition:
    @_asset(settings, dataset, ins={"trades": dg.AssetIn("trades", partition_mapping=NEIGHBOURS)})
    def from_trades(
        context: dg.AssetExecutionContext, trades: Any, source: dg.ResourceParam[Source]
    ) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        days = days_of(context.partition_keys)
        selection, fills = settings.selection, settings.fills
        selected: dict[date, Selected] = {}
        yield from _results(
            context,
            RowStream(
                selection,
                lambda: first_candles(trades, days, selection, source.contract, fills, selected),
                lambda day: _selected_notes(selected.get(day, Selected())),
            ),
        )

    return from_trades


def _selected_notes(selected: Selected) -> dict[str, object]:
    return {
        "trades_from_day_before": selected.before,
        "trades_from_own_day": selected.own,
        "trades_from_day_after": selected.after,
        "final": selected.final,
    }


def _availability_asset(settings: Settings) -> dg.AssetsDefinition:
    dataset = DATASETS["available_instruments"]

    @_asset(settings, dataset, deps=[*_TICKS, *(candles(name).name for name in TIMEFRAMES)])
    def available(
        context: dg.AssetExecutionContext, lake: LakeResource, source: dg.ResourceParam[Source]
    ) -> Iterator[dg.Output[RowStream] | dg.AssetCheckResult]:
        days, store, selection = days_of(context.partition_keys), lake.open(), settings.selection
        yield from _results(
            context,
            RowStream(
                selection,
                lambda: availability_rows(store, days, selection, source.listings, source.contract),
            ),
        )

    return available
