"""Small tables of tickers, liquidations, option rows and candles for the tests of features."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Timeframe
from market_data_pipeline.model.windows import EPOCH
from market_data_pipeline.transforms.candles import SCHEMA as CANDLES
from market_data_pipeline_tests.transforms.tables import MIDNIGHT

Row = Mapping[str, Any]
ONE = TIMEFRAMES["1m"]


def at(seconds: float) -> datetime:
    """So many seconds after midnight of the day."""
    return MIDNIGHT + timedelta(seconds=seconds)


def ticks(data_type: str, rows: Sequence[Row]) -> pa.Table:
    """Ticks of the lake's schema; what a row does not name is null."""
    return pa.Table.from_pylist([dict(row) for row in rows], DATASETS[data_type].own_schema)


def bars(
    closes: Sequence[float | None], timeframe: Timeframe = ONE, first: int = 0, traded: Sequence[int] | None = None
) -> pa.Table:
    """Candles with these closes, from the one that opens `first` candles after midnight."""
    opens = [MIDNIGHT + (first + index) * timeframe.length for index in range(len(closes))]
    counts = [1] * len(closes) if traded is None else traded
    rows = [
        {"timestamp": opened, "close_time": opened + timeframe.length, "close": close, "trade_count": count}
        for opened, close, count in zip(opens, closes, counts, strict=True)
    ]
    return pa.Table.from_pylist(rows, CANDLES)


def moments(candles: pa.Table) -> Any:
    """Their close times in microseconds since 1970."""
    return candles["close_time"].cast(pa.int64()).to_numpy()


def microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def before(table: pa.Table, end: datetime) -> pa.Table:
    """The ticks before a time."""
    return table.filter(pa.array(stamps(table) < microseconds(end)))


def since(table: pa.Table, start: datetime) -> pa.Table:
    """The ticks from a time on."""
    return table.filter(pa.array(stamps(table) >= microseconds(start)))


def stamps(table: pa.Table) -> Any:
    return table["timestamp"].cast(pa.int64()).to_numpy()


def cut(table: pa.Table, cuts: Sequence[int]) -> list[pa.Table]:
    """The table in pieces, each with dictionaries of its own."""
    edges = [0, *sorted(min(place, table.num_rows) for place in cuts), table.num_rows]
    return [
        pa.Table.from_pylist(table.slice(start, stop - start).to_pylist(), table.schema)
        for start, stop in pairwise(edges)
    ]


def column(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist()


def numbers(table: pa.Table, name: str) -> Any:
    return np.asarray(table[name].to_numpy(), np.float64)
