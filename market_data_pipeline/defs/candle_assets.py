"""The candles: the finest from trades, each coarser one from the one before."""

from datetime import date
from typing import Any

import dagster as dg

from market_data_pipeline.defs.declaring import Results, derived, lake_asset
from market_data_pipeline.defs.inputs import Inputs
from market_data_pipeline.defs.lineage import lineage
from market_data_pipeline.defs.metadata import waiting_notes
from market_data_pipeline.lake.derived import TRADES, Selected, coarser_candles, first_candles
from market_data_pipeline.lake.master import INSTRUMENTS
from market_data_pipeline.model.datasets import Dataset, Timeframe, candles
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import Source


def candle_asset(settings: Settings, timeframe: Timeframe) -> dg.AssetsDefinition:
    """The candles of a timeframe."""
    dataset = candles(timeframe.name)
    if timeframe.source is None:
        return _first_candle_asset(settings, dataset)

    finer, made_from = candles(timeframe.source), lineage(settings.signals)[dataset.name]

    @lake_asset(settings, dataset, ins={"lake": dg.AssetIn(finer.name)})
    def coarser(context: dg.AssetExecutionContext, lake: Any) -> Results:
        selection, fills = settings.selection, settings.fills
        yield from derived(
            context,
            lake,
            [finer],
            selection,
            lambda days: coarser_candles(lake, timeframe, days, selection, fills),
            told=Inputs(lake, made_from, lambda _, instrument: instrument and fills[instrument.type]).told,
        )

    return coarser


def _first_candle_asset(settings: Settings, dataset: Dataset) -> dg.AssetsDefinition:
    # A day's candles also read the files of the days beside it, as far as they are there. That is no partition mapping:
    # with one, a backfill would also run the day before and the day after the range that was asked for.
    @lake_asset(settings, dataset, ins={"lake": dg.AssetIn(TRADES.name)}, deps=[INSTRUMENTS.name])
    def from_trades(context: dg.AssetExecutionContext, lake: Any, source: dg.ResourceParam[Source]) -> Results:
        selection, fills = settings.selection, settings.fills
        selected: dict[date, Selected] = {}

        def shaped_by(_: date, instrument: Instrument | None) -> object:
            return instrument and (source.contract(instrument), fills[instrument.type])

        yield from derived(
            context,
            lake,
            [TRADES],
            selection,
            lambda days: first_candles(lake, days, selection, source.contract, fills, selected),
            lambda day: _selected_notes(selected.get(day, Selected())),
            Inputs(lake, lineage(settings.signals)[dataset.name], shaped_by).told,
        )

    return from_trades


def _selected_notes(selected: Selected) -> dict[str, object]:
    return {
        "trades_from_day_before": selected.before,
        "trades_from_own_day": selected.own,
        "trades_from_day_after": selected.after,
        **waiting_notes(selected.waiting),
    }
