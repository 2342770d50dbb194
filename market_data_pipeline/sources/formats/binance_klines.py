"""Kline files of Binance's public archive: the exchange's own candles, in the names of ours.

Format: https://github.com/binance/binance-public-data
"""

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.datasets import TIME
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.windows import DAY, microseconds, midnight
from market_data_pipeline.sources.formats.binance_csv import MICROSECONDS_FROM, Market
from market_data_pipeline.sources.formats.csv_ticks import Field, Form, typed_blocks
from market_data_pipeline.sources.formats.unpack import Origin

_COLUMNS = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "value", "trade_count"),
    *("buy_volume", "buy_value", "ignore"),
)
_INTEGERS = ("open_time", "trade_count")
_READ = tuple(name for name in _COLUMNS if name not in ("close_time", "ignore"))
_FIELDS = tuple(Field(name, pa.int64() if name in _INTEGERS else pa.float64(), required=True) for name in _READ)
_REAL = ("open", "high", "low", "close", "volume", "quote_volume")
_MINUTE = 60_000_000
KLINES = pa.schema(
    [
        pa.field("timestamp", TIME),
        *(pa.field(name, pa.float64()) for name in _REAL),
        pa.field("trade_count", pa.int64()),
        *(pa.field(name, pa.float64()) for name in ("buy_volume", "buy_quote_volume", "base_volume")),
    ]
)
"""The columns of `read_binance_klines`."""


def read_binance_klines(origin: Origin, market: Market, day: date, multiplier: float | None) -> pa.Table:
    """The candles of one file, in order of time.

    With or without a header; milli- or microseconds. The archive's eighth column is the volume's value: in the quote
    asset for spot and USDT-margined contracts. Coin-margined ones count contracts as volume, and that column is in
    the base asset; their quote volumes here are contracts × multiplier.

    Args:
        origin: the file.
        market: which market it is of.
        day: the file's day.
        multiplier: what a coin-margined contract stands for, in the quote asset; quote volumes are null without it.

    Returns:
        KLINES: `timestamp` is the candle's open in UTC.

    Raises:
        SourceError: the file is torn, has other columns, a number is none, or a candle lies outside the day.
    """
    blocks = [block.rows for block in typed_blocks(origin, lambda cells: _form(origin, cells))]
    if not blocks:
        return KLINES.empty_table()
    rows = pa.Table.from_batches(blocks).combine_chunks()
    stamps = rows.column("open_time").to_numpy()
    stamps = stamps if np.median(stamps) >= MICROSECONDS_FROM else stamps * 1000
    start, end = microseconds(midnight(day)), microseconds(midnight(day) + DAY)
    if stamps.min() < start or stamps.max() >= end or (np.diff(stamps) <= 0).any() or (stamps % _MINUTE).any():
        raise SourceError(f"{origin}: its candles are not all minutes of {day}, in order of time; fetch it again")
    columns = {name: rows.column(name) for name in _READ}
    if market is Market.CM:
        quote, buy_quote = (_times(columns[name], multiplier) for name in ("volume", "buy_volume"))
        base = columns["value"]
    else:
        quote, buy_quote, base = columns["value"], columns["buy_value"], columns["volume"]
    made = columns | {
        "timestamp": pa.array(stamps).cast(TIME),
        "quote_volume": quote,
        "buy_quote_volume": buy_quote,
        "base_volume": base,
    }
    return pa.table([made[name] for name in KLINES.names], schema=KLINES)


def _form(origin: Origin, cells: list[str]) -> Form:
    if len(cells) != len(_COLUMNS):
        raise SourceError(f"{origin} line 1: {len(cells)} columns, expected {len(_COLUMNS)}: is it a file of klines?")
    return Form(_COLUMNS, _FIELDS, has_header=not cells[0].strip().isdecimal())


def _times(values: pa.ChunkedArray, multiplier: float | None) -> pa.ChunkedArray | pa.Array:
    return pa.nulls(len(values), pa.float64()) if multiplier is None else pc.multiply(values, multiplier)
