"""The sample's ticks as Arrow columns: what the datasets of a source hold."""

from collections.abc import Iterator, Mapping
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.model.windows import microseconds
from market_data_pipeline.sources.sample.books import Books
from market_data_pipeline.sources.sample.chain import Chain
from market_data_pipeline.sources.sample.listing import Listed, underlying_index
from market_data_pipeline.sources.sample.numbers import Integers, Reals
from market_data_pipeline.sources.sample.tickers import NO_FUNDING, Tickers
from market_data_pipeline.sources.sample.ticks import Ticks
from market_data_pipeline.sources.sample.trades import Trades

Columns = Mapping[str, pa.Array]
_BATCH_ROWS = 8_192
_SIDES = ("buy", "sell")


def batches(data_type: str, columns: Columns) -> Iterator[pa.RecordBatch]:
    """The rows of a dataset, a few thousand at a time; none where there are none."""
    schema = DATASETS[data_type].own_schema
    rows = pa.record_batch([columns[name] for name in schema.names], schema=schema)
    for start in range(0, rows.num_rows, _BATCH_ROWS):
        yield rows.slice(start, _BATCH_ROWS)


def trade_columns(trades: Trades, listed: Listed) -> Columns:
    """Those of trades."""
    ids = pa.array(trades.number).cast(pa.string())
    if listed.instrument.venue == "deribit":
        # as Deribit does for all but its oldest markets; a reader must not take ids for numbers
        ids = pc.binary_join_element_wise(f"{listed.instrument.base}-", ids, "")
    side = pa.DictionaryArray.from_arrays(pa.array(np.where(trades.buy, 0, 1).astype(np.int32)), list(_SIDES))
    return {
        **_stamps(trades),
        "id": ids,
        "side": side,
        "price": pa.array(trades.price),
        "amount": pa.array(trades.amount),
    }


def liquidation_columns(trades: Trades, listed: Listed) -> Columns:
    """Those of liquidations; Binance gives them no ids."""
    columns = trade_columns(trades, listed)
    if listed.instrument.venue == "deribit":
        return columns
    return {**columns, "id": pa.nulls(len(trades.number), pa.string())}


def book_columns(books: Books, _: Listed) -> Columns:
    """Those of book snapshots, of as many levels as these have."""
    levels = {
        f"{side}_{level + 1}": _reals(getattr(books, side)[:, level])
        for side in ("ask_price", "ask_amount", "bid_price", "bid_amount")
        for level in range(books.ask_price.shape[1])
    }
    return {**_stamps(books), **levels}


def ticker_columns(tickers: Tickers, _: Listed) -> Columns:
    """Those of derivative tickers."""
    return {**_reals_of(tickers), **_stamps(tickers), "funding_timestamp": _times(tickers.funding_timestamp)}


def chain_columns(chain: Chain, listed: Listed) -> Columns:
    """Those of an option's part of the chain."""
    option, count = listed.instrument, len(chain.timestamp)
    expiration = NO_FUNDING if listed.end is None else microseconds(listed.end)
    return {
        **_reals_of(chain),
        **_stamps(chain),
        "type": _text("call" if option.side == "C" else "put", count),
        "strike_price": pa.array(np.full(count, float(option.strike or 0))),
        "expiration": _times(np.full(count, expiration)),
        "underlying_index": _text(underlying_index(option), count),
    }


def _stamps(ticks: Ticks) -> Columns:
    return {"timestamp": _times(ticks.timestamp), "local_timestamp": _times(ticks.local_timestamp)}


def _reals_of(ticks: Ticks) -> Columns:
    columns = {field.name: getattr(ticks, field.name) for field in fields(ticks)}
    return {name: _reals(column) for name, column in columns.items() if column.dtype == np.float64}


def _reals(values: Reals) -> pa.Array:
    return pa.array(values, from_pandas=True)


def _times(values: Integers) -> pa.Array:
    return pa.array(values, mask=values < 0).cast(TIME)


def _text(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [text])
