"""Small tables of trades and candles, and candles worked out the slow way, one trade at a time."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import strategies as st

from market_data_pipeline.model.contracts import Contract, VolumeUnit
from market_data_pipeline.model.datasets import DATASETS, Timeframe
from market_data_pipeline.transforms.candles import SCHEMA, TRADE_COLUMNS, Fill

DAY = date(2024, 8, 8)
MIDNIGHT = datetime(2024, 8, 8, tzinfo=UTC)
SECOND = 1_000_000
MINUTE = 60 * SECOND
LENGTH = 24 * 60 * MINUTE
CONTRACTS = {
    "linear": Contract(),
    "linear contracts": Contract(multiplier=0.01, unit=VolumeUnit.CONTRACTS),
    "inverse": Contract(inverse=True, unit=VolumeUnit.QUOTE),
    "inverse contracts": Contract(inverse=True, multiplier=100.0, unit=VolumeUnit.CONTRACTS),
    "unknown": Contract(multiplier=None, unit=VolumeUnit.CONTRACTS),
    "inverse unknown": Contract(inverse=True, multiplier=None, unit=VolumeUnit.CONTRACTS),
}
VALUES = ("quote_volume", "base_volume", "buy_quote_volume", "vwap")
"""The columns that are null where the multiplier is unknown."""


class Trade(NamedTuple):
    """A trade: microseconds since midnight, the taker's side, price and amount."""

    at: int
    side: str | None
    price: float
    amount: float


def trades(rows: Sequence[Trade | tuple[int, str | None, float, float]]) -> pa.Table:
    """Trades in the schema of the lake, with the columns that candles need."""
    schema = pa.schema([DATASETS["trades"].own_schema.field(name) for name in TRADE_COLUMNS])
    stamps = [MIDNIGHT + timedelta(microseconds=row[0]) for row in rows]
    return pa.Table.from_arrays(
        [
            pa.array(values, field.type)
            for values, field in zip((stamps, *(list(part) for part in columns_of(rows))), schema, strict=True)
        ],
        schema=schema,
    )


def columns_of(rows: Sequence[Trade | tuple[int, str | None, float, float]]) -> tuple[tuple[Any, ...], ...]:
    """Sides, prices and amounts of some trades."""
    return tuple(zip(*(row[1:] for row in rows), strict=True)) or ((), (), ())


def slow_candles(
    rows: Sequence[Trade],
    timeframe: Timeframe,
    contract: Contract,
    fill: Fill,
    previous_close: float | None = None,
) -> list[dict[str, Any]]:
    """The candles of the day, by the words of the conventions."""
    if not rows:
        return []
    made = []
    close = previous_close
    buckets: dict[int, list[Trade]] = {start: [] for start in range(0, LENGTH, timeframe.microseconds)}
    for row in rows:
        buckets[row.at - row.at % timeframe.microseconds].append(row)
    for start, inside in buckets.items():
        if not inside and (fill is Fill.OMIT or (fill is Fill.FLAT and close is None)):
            continue
        prices = [row.price for row in inside]
        buys = [row for row in inside if row.side == "buy"]
        flat = close if fill is Fill.FLAT else None
        quote, base = value(inside, contract)
        made.append(
            {
                "timestamp": MIDNIGHT + timedelta(microseconds=start),
                "close_time": MIDNIGHT + timedelta(microseconds=start) + timeframe.length,
                "open": prices[0] if prices else flat,
                "high": max(prices, default=flat),
                "low": min(prices, default=flat),
                "close": prices[-1] if prices else flat,
                "volume": math.fsum(row.amount for row in inside),
                "quote_volume": quote,
                "trade_count": len(inside),
                "buy_volume": math.fsum(row.amount for row in buys),
                "buy_quote_volume": value(buys, contract)[0],
                "vwap": quote / base if quote is not None and base else None,
                "base_volume": base,
                "volume_unit": str(contract.unit),
            }
        )
        close = prices[-1] if prices else close
    return made


def value(rows: Sequence[Trade], contract: Contract) -> tuple[float | None, float | None]:
    """What some trades are worth in the quote and in the base asset."""
    if contract.multiplier is None:
        return None, None
    amounts = [(row.amount * contract.multiplier, row.price) for row in rows]
    if contract.inverse:
        return math.fsum(amount for amount, _ in amounts), math.fsum(amount / price for amount, price in amounts)
    return math.fsum(amount * price for amount, price in amounts), math.fsum(amount for amount, _ in amounts)


def close_to(rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Rows to compare with: prices, times and counts exactly, sums to 1e-9."""
    sums = {"volume", "buy_volume", *VALUES}
    return [
        {
            name: pytest.approx(found, rel=1e-9, abs=1e-12) if name in sums and found is not None else found
            for name, found in row.items()
        }
        for row in rows
    ]


def exactly(table: pa.Table) -> list[str]:
    """The rows of a table to the last bit."""
    return [str(row) for row in table.to_pylist()]


def differences(found: Iterable[Any], told: Iterable[Any]) -> list[tuple[int, Any, Any]]:
    """The first places where two long lists differ, so that a failure stays short."""
    beside = enumerate(zip_longest(found, told))
    return [(index, ours, theirs) for index, (ours, theirs) in beside if ours != theirs][:3]


def check_schema(table: pa.Table) -> None:
    """A table has the schema of candles, and no null where there may be none."""
    assert table.schema.equals(SCHEMA)
    assert not [field.name for field in SCHEMA if not field.nullable and table.column(field.name).null_count]


_times = (
    st.integers(0, LENGTH - 1)
    | st.integers(0, 3 * MINUTE)
    | st.builds(
        lambda minute, beside: min(max(minute * MINUTE + beside, 0), LENGTH - 1),
        st.integers(0, 1440),
        st.integers(-1, 1),
    )
)
_trade = st.builds(
    Trade,
    _times,
    st.sampled_from(["buy", "sell", "unknown", None]),
    st.floats(1e-6, 1e6),
    st.floats(1e-6, 1e6),
)


def _from(start: int, rows: list[Trade]) -> list[Trade]:
    moved = [row._replace(at=start + row.at % (LENGTH - start)) for row in rows]
    return sorted(moved, key=lambda row: row.at)


days_of_trades = st.builds(
    _from,
    st.sampled_from([0, 7 * MINUTE, 17 * 60 * MINUTE]),
    st.lists(_trade, min_size=1, max_size=40),
)
"""A day's trades in stable order of time, with ties, with trades on the edges of minutes, and with late first ones."""
