"""The assets that come from the source: its master of the instruments, and its ticks."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from market_data_pipeline.defs.declaring import Results, lake_asset, results
from market_data_pipeline.defs.partitions import days_of
from market_data_pipeline.defs.recorded import STATE
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.defs.streams import RowStream
from market_data_pipeline.lake.master import INSTRUMENTS, listed_rows
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.rows import DayRows
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import Source, WatchedSource
from market_data_pipeline.sources.days import rows_of_days


def master_asset(settings: Settings) -> dg.AssetsDefinition:
    """What the source lists on a day."""

    @lake_asset(settings, INSTRUMENTS)
    def master(context: dg.AssetExecutionContext, lake: LakeResource, source: dg.ResourceParam[Source]) -> Results:
        store, days, selection = lake.open(), days_of(context.partition_keys), settings.selection
        yield from results(
            context,
            RowStream(selection, lambda: (listed_rows(store, day, selection, source.listings) for day in days)),
        )

    return master


def tick_asset(settings: Settings, dataset: Dataset) -> dg.AssetsDefinition:
    """One type of ticks."""

    @lake_asset(settings, dataset)
    def ticks(context: dg.AssetExecutionContext, source: dg.ResourceParam[Source]) -> Results:
        days, selection = days_of(context.partition_keys), settings.selection
        read_in: dict[date, str] = {}

        def rows() -> Iterator[DayRows]:
            # before anything is read: what changes meanwhile is then seen at the next look
            if isinstance(source, WatchedSource):
                read_in.update(source.states(dataset.name, days, selection))
            yield from rows_of_days(source, dataset, days, selection)

        def notes(day: date) -> dict[str, object]:
            # a day of which there is nothing yet has a state, too: what comes later is then seen
            return {STATE: read_in.get(day, "")} if isinstance(source, WatchedSource) else {}

        yield from results(context, RowStream(selection.within(source.venues), rows, notes))

    return ticks
