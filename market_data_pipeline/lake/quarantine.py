"""Rows that were set aside: as a table for their own files, and read back."""

from collections.abc import Iterable, Iterator
from datetime import date

import pyarrow as pa

from market_data_pipeline.lake.catalog import day_objects
from market_data_pipeline.lake.parquet import opened
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import Rejects


def quarantined(quarantine: Dataset, rejects: Rejects) -> pa.Table:
    """The rows that were kept of one file, in the order of its lines."""
    rows = sorted(rejects.rows, key=lambda row: row.line)
    columns = {
        "origin": [row.origin for row in rows],
        "line": [row.line for row in rows],
        "reason": [row.reason for row in rows],
        "reason_rows": [rejects.counts[row.reason] for row in rows],
        "text": [row.text for row in rows],
    }
    return pa.table(columns).cast(quarantine.own_schema)


def stored_rejects(
    store: ObjectStore, quarantine: Dataset, days: Iterable[date], selection: Selection
) -> Iterator[pa.Table]:
    """The quarantined rows of one type of ticks in order of day, instrument and line.

    Raises:
        LakeError: a file cannot be read.
    """
    for day in days:
        for found in day_objects(store, quarantine, day):
            if found.instrument and found.instrument in selection:
                with opened(store, found.info.key) as file:
                    yield file.read().cast(quarantine.schema)
