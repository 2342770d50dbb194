"""Made-up markets for signals: candles of 15 minutes whose returns are noise, or follow from the one before."""

from datetime import date

import numpy as np
import pyarrow as pa

from market_data_pipeline.model.datasets import DATASETS, TIME, TIMEFRAMES
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.transforms.signals import CANDLE_COLUMNS, FEATURE_COLUMNS, Recipe, Series, series_of
from market_data_pipeline.transforms.technical import Bars, indicators

DAY = date(2024, 8, 8)
MIDNIGHT = microseconds(midnight(DAY))
QUARTERS = TIMEFRAMES["15m"]
STEP = QUARTERS.microseconds
A_DAY = 96


def market(seed: int, days: int, *, echo: float = 0.0, price: float = 100.0, volume: float = 1.0) -> pa.Table:
    """All columns of candles, for so many days that end with DAY; `echo` of a return comes back in the next one."""
    draw = np.random.default_rng(seed)
    count = days * A_DAY
    returns = draw.normal(0, 3e-3, count)
    for place in range(1, count):
        returns[place] += echo * returns[place - 1]
    close = price * np.exp(np.cumsum(returns))
    before = np.concatenate(([price], close[:-1]))
    over, under = 1 + np.abs(draw.normal(0, 5e-4, (2, count)))
    amounts = volume * draw.lognormal(0, 1, count)
    opens = microseconds(midnight(DAY - (days - 1) * ONE_DAY)) + np.arange(count) * STEP
    bought = amounts * draw.random(count)
    columns = {
        "timestamp": pa.array(opens).view(TIME),
        "close_time": pa.array(opens + STEP).view(TIME),
        "open": before,
        "high": np.maximum(before, close) * over,
        "low": np.minimum(before, close) / under,
        "close": close,
        "volume": amounts,
        "trade_count": draw.integers(1, 100, count),
        "buy_volume": bought,
        "vwap": (before + close) / 2,
    }
    others = {name: [None] * count for name in DATASETS["ohlcv_15m"].own_schema.names if name not in columns}
    table = pa.table(columns | others)
    return table.select(DATASETS["ohlcv_15m"].own_schema.names).cast(DATASETS["ohlcv_15m"].own_schema)


def technical(candles: pa.Table) -> pa.Table:
    """The technical features that models see, over the whole series at once."""
    columns = {
        name: candles.column(name).to_numpy() for name in ("high", "low", "close", "volume", "buy_volume", "vwap")
    }
    stamps = candles.column("timestamp").combine_chunks().view(pa.int64()).to_numpy()
    found = indicators(Bars(stamps, *(columns[name] for name in ("high", "low", "close", "volume"))))
    found["vwap_distance"] = columns["close"] / columns["vwap"] - 1
    found["signed_volume"] = 2 * columns["buy_volume"] - columns["volume"]
    with np.errstate(divide="ignore"):
        found["mean_trade_size"] = columns["volume"] / candles.column("trade_count").to_numpy()
    names = [name for name in FEATURE_COLUMNS["technical_features"] if name in found]
    return pa.table({"timestamp": candles.column("timestamp"), **{name: found[name] for name in names}})


def series(candles: pa.Table, recipe: Recipe) -> Series:
    """A market as models see it."""
    return series_of(candles.select(CANDLE_COLUMNS), {"technical_features": technical(candles)}, recipe)
