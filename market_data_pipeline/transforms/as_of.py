"""The last value known before a moment: joins that cannot see the future, and forget what is stale."""

from collections.abc import Iterable
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.errors import DatasetError

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

MICROSECOND = timedelta(microseconds=1)


def latest_before(stamps: Integers, known: Booleans, moments: Integers, stale: timedelta) -> Integers:
    """For each moment the row of the last known tick before it.

    A tick exactly at a moment is not yet known then; of ticks with one time the last one counts.

    Args:
        stamps: times of the ticks, microseconds since 1970, rising.
        known: which of them tell something.
        moments: microseconds since 1970.
        stale: how old a tick may be at the most.

    Returns:
        Rows of `stamps`; -1 where no tick tells anything or the last that does is too old.
    """
    rows = np.flatnonzero(known)
    if not len(rows):
        return np.full(len(moments), -1)
    last = np.searchsorted(stamps[rows], moments, side="left") - 1
    found = rows[last]
    return np.where((last >= 0) & (moments - stamps[found] <= stale // MICROSECOND), found, -1)


def taken(values: Reals, rows: Integers) -> Reals:
    """The values of some rows; NaN for row -1."""
    return np.append(values, np.nan)[rows]


def in_order(ticks: pa.Table) -> pa.Table:
    """The ticks in stable order of time."""
    stamps = times(ticks, "timestamp")
    if not len(stamps) or (stamps[1:] >= stamps[:-1]).all():
        return ticks
    return ticks.take(pa.array(np.argsort(stamps, kind="stable")))


def times(table: pa.Table, name: str) -> Integers:
    """A column of times as microseconds since 1970; the least integer for null."""
    values: Integers = table.column(name).cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
    return values


def reals(table: pa.Table, name: str) -> Reals:
    """A column of numbers; NaN for null."""
    return np.asarray(table.column(name).to_numpy(), np.float64)


def says(table: pa.Table, name: str, text: str) -> Booleans:
    """Where a column of texts has this text."""
    column = table.column(name)
    column = column if pa.types.is_string(column.type) else column.cast(pa.string())
    return np.asarray(pc.fill_null(pc.equal(column, text), False).to_numpy(), bool)


def needs(table: pa.Table, names: Iterable[str], what: str) -> None:
    """Raises DatasetError where a table lacks a column."""
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise DatasetError(f"{what} lack the columns {', '.join(missing)}; they have {', '.join(table.column_names)}")
