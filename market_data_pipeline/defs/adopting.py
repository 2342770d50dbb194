"""Telling an instance of days that were taken in from files that lay in the lake, as if a run had made them."""

from typing import Any

import dagster as dg

from market_data_pipeline.defs.metadata import partition_metadata
from market_data_pipeline.defs.recorded import recorded
from market_data_pipeline.lake.adopted import Adopted
from market_data_pipeline.lake.glances import Glance, glances
from market_data_pipeline.lake.stores.contract import ObjectStore


def register(instance: dg.DagsterInstance, store: ObjectStore, adopted: Adopted) -> None:
    """Records the days that were taken in as materialized, with the metadata that a run gives."""
    report = adopted.report
    if report is None:
        return
    before, shown = recorded(instance, report.dataset.name, adopted.days), glances(store, report)
    for day in adopted.days:
        metadata: dict[str, Any] = partition_metadata(report, store, day, before[day], shown.get(day, Glance()))
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset_key=report.dataset.name,
                partition=day.isoformat(),
                description="taken in from files that lay in the lake",
                metadata=metadata,
            )
        )
