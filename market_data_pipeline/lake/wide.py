"""Rows of many instruments side by side: a row for each time, a column for each instrument."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.lake.ordering import times
from market_data_pipeline.model.datasets import TIME
from market_data_pipeline.model.errors import DatasetError


def wide(rows: pa.Table, field: str) -> pa.Table:
    """One value of each row, under its instrument.

    Args:
        rows: with `timestamp`, `instrument_id` and the field, in order of (instrument_id, timestamp).
        field: the column whose values are wanted.

    Returns:
        A table of `timestamp` (UTC, rising, every time that any instrument has) and a column for each instrument, named
        by its id, in order of the ids; null where the instrument has no row at that time, or a null in it.

    Raises:
        DatasetError: an instrument has two rows of one time.
    """
    if not rows.num_rows:
        return pa.table({"timestamp": pa.array([], TIME)})
    ids = rows.column("instrument_id").combine_chunks()
    codes = np.asarray(ids.indices)
    stamps = times(rows)
    edges = np.concatenate(([0], np.flatnonzero(codes[1:] != codes[:-1]) + 1, [len(codes)]))
    grid = np.unique(stamps)
    values = rows.column(field).combine_chunks()
    columns = {"timestamp": pa.array(grid).view(TIME)}
    for first, after in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        name = ids.dictionary[codes[first]].as_py()
        mine = stamps[first:after]
        if np.any(mine[1:] == mine[:-1]):
            raise DatasetError(f"{name} has two rows of one time; say which timeframe is wanted")
        places = np.full(len(grid), -1)
        places[np.searchsorted(grid, mine)] = np.arange(first, after)
        columns[name] = pc.take(values, pa.array(places, mask=places < 0))
    return pa.table(columns)
