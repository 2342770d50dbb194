"""An instrument's day of each data type as Arrow columns, and those as batches of the dataset's own schema."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.model.windows import microseconds
from market_data_pipeline.sources.sample.books import day_books
from market_data_pipeline.sources.sample.chain import day_chain
from market_data_pipeline.sources.sample.listing import Listed, underlying_index
from market_data_pipeline.sources.sample.numbers import Integers, Reals
from market_data_pipeline.sources.sample.positions import day_liquidations
from market_data_pipeline.sources.sample.tickers import day_tickers
from market_data_pipeline.sources.sample.ticks import NEVER, Ticks
from market_data_pipeline.sources.sample.trades import Trades, day_trades

Columns = Mapping[str, pa.Array]
_BATCH_ROWS = 8_192
_SIDES = ("buy", "sell")


def batches(data_type: str, columns: Columns) -> Iterator[pa.RecordBatch]:
    """The rows, a few thousand at a time; nothing where there are none."""
    schema = DATASETS[data_type].own_schema
    rows = pa.record_batch([columns[name] for name in schema.names], schema=schema)
    for start in range(0, rows.num_rows, _BATCH_ROWS):
        yield rows.slice(start, _BATCH_ROWS)


def trade_columns(listed: Listed, day: date) -> Columns:
    """A day's trades."""
    return _of_trades(day_trades(listed, day), listed)


def liquidation_columns(listed: Listed, day: date) -> Columns:
    """A day's liquidations; on Binance they have no ids."""
    trades = day_liquidations(listed, day)
    columns = _of_trades(trades, listed)
    if listed.instrument.venue == "deribit":
        return columns
    return {**columns, "id": pa.nulls(len(trades.number), pa.string())}


def book_columns(listed: Listed, day: date, depth: int) -> Columns:
    """A day's snapshots of a book, of so many levels a side."""
    books = day_books(listed, day, depth)
    levels = {
        f"{side}_{level + 1}": _reals(getattr(books, side)[:, level])
        for side in ("ask_price", "ask_amount", "bid_price", "bid_amount")
        for level in range(depth)
    }
    return {**_stamps(books), **levels}


def ticker_columns(listed: Listed, day: date) -> Columns:
    """A day's tickers."""
    tickers = day_tickers(listed, day)
    return {**_all_reals(tickers), **_stamps(tickers), "funding_timestamp": _times(tickers.funding_timestamp)}


def chain_columns(listed: Listed, day: date) -> Columns:
    """A day's rows of one option in the chain."""
    chain, option = day_chain(listed, day), listed.instrument
    count = len(chain.timestamp)
    return {
        **_all_reals(chain),
        **_stamps(chain),
        "type": _text("call" if option.side == "C" else "put", count),
        "strike_price": pa.array(np.full(count, float(option.strike or 0))),
        "expiration": _times(np.full(count, microseconds(listed.end) if listed.end else NEVER)),
        "underlying_index": _text(underlying_index(option), count),
    }


def _of_trades(trades: Trades, listed: Listed) -> Columns:
    ids = pa.array(trades.number).cast(pa.string())
    if listed.instrument.venue == "deribit":
        # as Deribit does for all but its oldest markets; a reader must not take ids for numbers
        ids = pc.binary_join_element_wise(f"{listed.instrument.base}-", ids, "")
    side = pa.DictionaryArray.from_arrays(pa.array(np.where(trades.buy, 0, 1).astype(np.int32)), list(_SIDES))
    return {**_all_reals(trades), **_stamps(trades), "id": ids, "side": side}


def _all_reals(ticks: Ticks) -> Columns:
    columns = {field.name: getattr(ticks, field.name) for field in fields(ticks)}
    return {name: _reals(column) for name, column in columns.items() if column.dtype == np.float64}


def _stamps(ticks: Ticks) -> Columns:
    return {"timestamp": _times(ticks.timestamp), "local_timestamp": _times(ticks.local_timestamp)}


def _reals(values: Reals) -> pa.Array:
    return pa.array(values, from_pandas=True)


def _times(values: Integers) -> pa.Array:
    return pa.array(values, mask=values == NEVER).cast(TIME)


def _text(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [text])
