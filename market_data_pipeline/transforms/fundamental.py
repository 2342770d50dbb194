"""The fundamental features of one instrument's candles: funding, open interest, basis, liquidations, options.

Every value is known before its candle's `close_time`; a tick exactly at that time belongs to the next candle.
"""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa

from market_data_pipeline.model.datasets import DATASETS, TEXT, TIME, Timeframe
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.transforms.as_of import Integers, Reals, needs, reals, taken, times
from market_data_pipeline.transforms.derivatives import (
    TICKER_STALE,
    Bars,
    basis_features,
    index_at_close,
    liquidation_features,
    ticker_features,
    where_known,
)
from market_data_pipeline.transforms.surface import CHAIN_STALE, SURFACE_COLUMNS

SCHEMA = DATASETS["fundamental_features"].own_schema
LOOK_BACK = max(TICKER_STALE, CHAIN_STALE)
"""How long before the first candle's open ticks can make a difference: all that is older is stale by its close."""
CANDLE_COLUMNS = ("timestamp", "close_time", "close", "trade_count")
"""The columns of candles that features are made from."""
SPOT_COLUMNS = ("close_time", "close")
"""Those that the spot pair's candles must have; where they have `trade_count`, flat candles have no price."""


def fundamental_features(
    candles: pa.Table,
    timeframe: Timeframe,
    *,
    ticker: pa.Table | None = None,
    liquidations: pa.Table | None = None,
    feed: Integers | None = None,
    spot: pa.Table | None = None,
    expiry: datetime | None = None,
    surface: pa.Table | None = None,
) -> pa.Table:
    """The features of some candles of one instrument, from ticks of their days and LOOK_BACK before.

    What is None the instrument does not have: its columns are null. Ticks of a longer time, or of later than a
    candle's close, change nothing in its row.

    Args:
        candles: rows with CANDLE_COLUMNS, rising in time.
        timeframe: their length.
        ticker: rows of derivative_ticker (derivatives.TICKER_COLUMNS).
        liquidations: rows of liquidations (derivatives.LIQUIDATION_COLUMNS). An empty table says that there were none,
            and counts are zero.
        feed: when the venue told of liquidations (derivatives.where_known); None if they are known all the time.
        spot: candles with SPOT_COLUMNS, of the same length, of the spot pair that the instrument follows.
        expiry: when a dated future expires, UTC.
        surface: the options of the underlying at the candles' close times, from `surface.surface`.

    Returns:
        A table of SCHEMA, one row a candle. A basis needs a trade within the candle, and one against spot a trade of
        both: a flat candle's price is of another time.

    Raises:
        DatasetError: a column is missing.
        LakeError: candles do not rise in time, or are not of this timeframe.
    """
    needs(candles, CANDLE_COLUMNS, "candles")
    bars = _bars(candles, timeframe)
    columns: dict[str, Reals] = {}
    if ticker is not None:
        columns |= ticker_features(ticker, bars)
        columns |= basis_features("basis", bars, index_at_close(ticker, bars), expiry)
    if spot is not None:
        columns |= basis_features("spot_basis", bars, _closes_of(spot, bars), expiry)
    if liquidations is not None:
        unknown = np.full(len(bars.closes), np.nan)
        counted = liquidation_features(liquidations, bars, columns.get("open_interest_change", unknown))
        columns |= counted if feed is None else where_known(counted, feed, bars)
    if surface is not None:
        columns |= _surface_at(surface, bars)
    return _table(candles, timeframe, columns)


def _bars(candles: pa.Table, timeframe: Timeframe) -> Bars:
    opens, closes = times(candles, "timestamp"), times(candles, "close_time")
    late = np.flatnonzero(opens[1:] < closes[:-1])
    if len(late):
        raise LakeError(
            f"candles must rise in time: the one of {candles['timestamp'][late[0] + 1]} follows that of "
            f"{candles['timestamp'][late[0]]}; sort them, and give those of one instrument and timeframe"
        )
    other = np.flatnonzero(closes - opens != timeframe.microseconds)
    if len(other):
        raise LakeError(
            f"the candle of {candles['timestamp'][other[0]]} closes at {candles['close_time'][other[0]]}, so it is "
            f"none of {timeframe.name}; give the candles' own timeframe"
        )
    return Bars(opens, closes, _traded_close(candles))


def _traded_close(candles: pa.Table) -> Reals:
    close = reals(candles, "close")
    return (
        np.where(reals(candles, "trade_count") > 0, close, np.nan) if "trade_count" in candles.column_names else close
    )


def _closes_of(spot: pa.Table, bars: Bars) -> Reals:
    needs(spot, SPOT_COLUMNS, "candles of the spot pair")
    return _matched(spot, bars, _traded_close(spot))


def _surface_at(surface: pa.Table, bars: Bars) -> Mapping[str, Reals]:
    needs(surface, ("close_time", *SURFACE_COLUMNS), "rows of the surface")
    return {name: _matched(surface, bars, reals(surface, name)) for name in SURFACE_COLUMNS}


def _matched(other: pa.Table, bars: Bars, values: Reals) -> Reals:
    """Values of rows with the candles' own close times; NaN where there is no such row."""
    moments = times(other, "close_time")
    order = np.argsort(moments, kind="stable")
    place = np.searchsorted(moments[order], bars.closes)
    row = np.append(order, -1)[place]
    return taken(values, np.where((row >= 0) & (np.append(moments, 0)[row] == bars.closes), row, -1))


def _table(candles: pa.Table, timeframe: Timeframe, columns: Mapping[str, Reals]) -> pa.Table:
    count = candles.num_rows
    own: dict[str, pa.Array] = {
        "timeframe": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [timeframe.name]).cast(TEXT),
        "timestamp": candles.column("timestamp").cast(TIME),
        "close_time": candles.column("close_time").cast(TIME),
    }
    for field in SCHEMA:
        if field.name not in own:
            values = columns.get(field.name)
            own[field.name] = (
                pa.nulls(count, field.type)
                if values is None
                else pa.array(values, mask=~np.isfinite(values)).cast(field.type)
            )
    return pa.table([own[name] for name in SCHEMA.names], schema=SCHEMA)
