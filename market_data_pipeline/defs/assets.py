"""All assets in the order in which a day flows: the source's, candles, features, the map of the instruments last."""

from datetime import date

import dagster as dg

from market_data_pipeline.defs.candle_assets import candle_asset
from market_data_pipeline.defs.declaring import Results, derived, lake_asset, not_given
from market_data_pipeline.defs.feature_assets import feature_assets
from market_data_pipeline.defs.inputs import Inputs
from market_data_pipeline.defs.lineage import lineage
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.defs.source_assets import master_asset, tick_asset
from market_data_pipeline.lake.catalog import stored_instruments
from market_data_pipeline.lake.derived import AVAILABILITY, availability_rows
from market_data_pipeline.lake.master import INSTRUMENTS
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Kind
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import Source

TICKS = tuple(each for each in DATASETS.values() if each.kind is Kind.TICKS)


def build_assets(settings: Settings, source: Source) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets, in the order in which a day flows; those that the source cannot give are there to be looked at."""
    ticks = [
        tick_asset(settings, dataset)
        if dataset.name in source.data_types
        else not_given(settings, dataset, f"Source {source.name} does not give it; what the lake has of it stays.")
        for dataset in TICKS
    ]
    master = (
        master_asset(settings)
        if source.has_listings
        else not_given(settings, INSTRUMENTS, f"Source {source.name} has no list of instruments.")
    )
    frames = [candle_asset(settings, frame) for frame in TIMEFRAMES.values()]
    return [master, *ticks, *frames, *feature_assets(settings), availability_asset(settings)]


def availability_asset(settings: Settings) -> dg.AssetsDefinition:
    """The map; it observes everything else, so it comes last."""
    inputs, observed = [*TICKS, INSTRUMENTS], lineage(settings.signals)[AVAILABILITY.name]

    @lake_asset(settings, AVAILABILITY, deps=list(observed))
    def available(context: dg.AssetExecutionContext, lake: LakeResource, source: dg.ResourceParam[Source]) -> Results:
        store, selection = lake.open(), settings.selection
        stored = stored_instruments(store)

        def shaped_by(day: date, _: Instrument | None) -> object:
            ticked = frozenset(each for dataset in TICKS for each in stored(dataset, day) if each in selection)
            return str(selection), [(each.id, source.contract(each)) for each in sorted(ticked)]

        yield from derived(
            context,
            store,
            inputs,
            selection,
            lambda days: availability_rows(store, days, selection, source.contract),
            told=Inputs(store, observed, shaped_by).told,
        )

    return available
