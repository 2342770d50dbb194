"""Candles: from trades, and from finer candles. Everything about buckets, sums and empty candles is here.

The numbers' conventions follow the exchanges' own klines: epoch-aligned buckets `[open, open + timeframe)` on the
exchange's time, first and last price by a stable order of time, sums of the amounts as the venue reports them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.datasets import TEXT, TIME, Timeframe, candles
from market_data_pipeline.model.instruments import InstrumentType
from market_data_pipeline.model.windows import DAY, microseconds, midnight
from market_data_pipeline.transforms.as_of import MICROSECOND, Integers, Reals

TRADE_COLUMNS = ("timestamp", "side", "price", "amount")
"""The columns of trades that candles are made from."""

SCHEMA = candles("1m").own_schema
"""The own schema of every candle dataset."""

_DAY = DAY // MICROSECOND


class Fill(StrEnum):
    """What stands for a bucket without a trade."""

    FLAT = "flat"
    """The previous close, zero volume, null vwap; nothing before the first price that is known."""
    NULL = "null"
    """Null prices, zero volume."""
    OMIT = "omit"
    """No row."""


FILLS = dict.fromkeys(InstrumentType, Fill.FLAT) | {InstrumentType.OPTION: Fill.OMIT}
"""The default for each type of instrument: exchanges fill their klines; an option can go a day without a trade."""


@dataclass(frozen=True)
class _Buckets:
    """Sums and prices of the buckets that have trades, in rising order; amounts in the venue's own unit."""

    opens: Integers  # microseconds since 1970 UTC
    first: Reals
    high: Reals
    low: Reals
    last: Reals
    volume: Reals
    quote: Reals
    base: Reals
    count: Integers
    buy_volume: Reals
    buy_quote: Reals


def candles_from_trades(
    trades: Iterable[pa.Table],
    day: date,
    timeframe: Timeframe,
    contract: Contract,
    *,
    fill: Fill = Fill.FLAT,
    previous_close: float | None = None,
) -> pa.Table:
    """The candles of one instrument's day.

    Args:
        trades: tables with TRADE_COLUMNS whose times lie in the day, in stable order of time across all tables. How
            they are cut makes no difference: a bucket is always summed whole.
        day: the day, UTC.
        timeframe: length of the candles.
        contract: how amounts become values.
        fill: what stands for a bucket without a trade.
        previous_close: the last price before midnight, for FLAT; without it nothing stands before the first trade.

    Returns:
        A table of SCHEMA, one row a bucket; without any trade no rows at all.
    """
    length = timeframe.microseconds
    parts: list[_Buckets] = []
    held: list[_Trades] = []
    for batch in chain.from_iterable(map(_Trades.each, trades)):
        # the open bucket goes on with the first rows, and the last bucket may go on in the next table
        first = batch.place((held[0].stamps[0] // length + 1) * length) if held else 0
        held.append(batch.slice(0, first))
        if first == len(batch.stamps):
            continue
        last = batch.place(batch.stamps[-1] // length * length)
        whole = (_Trades.joined(held), batch.slice(first, last))
        parts += [_sum(rows, length, contract) for rows in whole if len(rows.stamps)]
        held = [batch.slice(last, len(batch.stamps))]
    if not held:
        return SCHEMA.empty_table()
    parts.append(_sum(_Trades.joined(held), length, contract))
    return _table(_concatenated(parts), day, timeframe, contract, fill, previous_close)


def roll_up(finer: pa.Table, day: date, timeframe: Timeframe, *, fill: Fill = Fill.FLAT) -> pa.Table:
    """Coarser candles out of one instrument's finer ones of a day.

    Prices come from the finer candles that have trades; where a coarse candle has none, the finer ones' flat price
    stands. Sums are summed; vwap is worked out again from the sums.

    Args:
        finer: candles of SCHEMA of a timeframe that divides `timeframe`, rising in time.
        day: the day, UTC.
        timeframe: length of the coarser candles.
        fill: as the finer candles were made with.
    """
    if not finer.num_rows:
        return SCHEMA.empty_table()
    column = {name: _values(finer, name) for name in SCHEMA.names if name != "volume_unit"}
    unit = finer.column("volume_unit")[0].as_py()
    multiplied = finer.column("base_volume").null_count == 0
    traded = column["trade_count"] > 0
    previous = None
    if not traded[0] and fill is Fill.FLAT:
        previous = float(column["close"][0])
    rows = {name: values[traded] for name, values in column.items()}
    keys = rows["timestamp"].astype(np.int64) // timeframe.microseconds
    starts, ends = _edges(keys)

    def total(name: str) -> Reals:
        return np.add.reduceat(rows[name].astype(np.float64), starts) if len(starts) else np.empty(0)

    buckets = _Buckets(
        opens=keys[starts] * timeframe.microseconds,
        first=rows["open"][starts],
        high=np.maximum.reduceat(rows["high"], starts) if len(starts) else rows["high"],
        low=np.minimum.reduceat(rows["low"], starts) if len(starts) else rows["low"],
        last=rows["close"][ends - 1],
        volume=total("volume"),
        quote=total("quote_volume"),
        base=total("base_volume"),
        count=np.add.reduceat(rows["trade_count"], starts).astype(np.int64) if len(starts) else np.empty(0, np.int64),
        buy_volume=total("buy_volume"),
        buy_quote=total("buy_quote_volume"),
    )
    return _assembled(buckets, day, timeframe, unit, multiplied, fill, previous)


@dataclass(frozen=True)
class _Trades:
    stamps: Integers
    price: Reals
    amount: Reals
    bought: Reals  # 1 where the taker bought, else 0

    @classmethod
    def each(cls, table: pa.Table) -> "Iterator[_Trades]":
        """A table's chunks that have rows, without a copy."""
        for rows in filter(len, table.to_batches()):
            side = rows.column("side")
            buys = [i for i, name in enumerate(side.dictionary.to_pylist()) if name == "buy"]
            indices = np.asarray(side.indices.fill_null(-1) if side.null_count else side.indices)
            yield cls(
                np.asarray(rows.column("timestamp").view(pa.int64())),
                rows.column("price").to_numpy(zero_copy_only=False),
                rows.column("amount").to_numpy(zero_copy_only=False),
                (indices == buys[0]).astype(np.float64) if buys else np.zeros(len(indices)),
            )

    def place(self, stamp: int) -> int:
        """How many rows are before a time."""
        return int(np.searchsorted(self.stamps, stamp))

    def slice(self, start: int, stop: int) -> "_Trades":
        return _Trades(
            self.stamps[start:stop], self.price[start:stop], self.amount[start:stop], self.bought[start:stop]
        )

    @classmethod
    def joined(cls, parts: list["_Trades"]) -> "_Trades":
        return cls(
            np.concatenate([p.stamps for p in parts]),
            np.concatenate([p.price for p in parts]),
            np.concatenate([p.amount for p in parts]),
            np.concatenate([p.bought for p in parts]),
        )


def _values(table: pa.Table, name: str) -> npt.NDArray[Any]:
    column = table.column(name).combine_chunks()
    if pa.types.is_timestamp(column.type):
        column = column.view(pa.int64())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _edges(keys: Integers) -> tuple[Integers, Integers]:
    """Where each run of equal keys starts and (exclusively) ends."""
    if not len(keys):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    changes = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return np.concatenate(([0], changes)), np.concatenate((changes, [len(keys)]))


def _sum(trades: _Trades, length: int, contract: Contract) -> _Buckets:
    keys = np.arange(trades.stamps[0] // length, trades.stamps[-1] // length + 1)
    places = np.searchsorted(trades.stamps, np.append(keys, keys[-1] + 1) * length)
    filled = places[1:] > places[:-1]
    keys, starts, ends = keys[filled], places[:-1][filled], places[1:][filled]
    price, amount, bought = trades.price, trades.amount, trades.bought
    multiplier = np.nan if contract.multiplier is None else contract.multiplier
    scaled = amount if multiplier == 1 else amount * multiplier
    quote = scaled if contract.inverse else price * scaled
    base = scaled / price if contract.inverse else scaled

    def total(values: Reals) -> Reals:
        return np.add.reduceat(values, starts)

    volume = total(amount)

    return _Buckets(
        opens=keys * length,
        first=price[starts],
        high=np.maximum.reduceat(price, starts),
        low=np.minimum.reduceat(price, starts),
        last=price[ends - 1],
        volume=volume,
        quote=total(quote),
        base=volume if base is amount else total(base),
        count=ends - starts,
        buy_volume=total(amount * bought),
        buy_quote=total(quote * bought),
    )


def _concatenated(parts: list[_Buckets]) -> _Buckets:
    return _Buckets(*(np.concatenate([getattr(p, name) for p in parts]) for name in _Buckets.__dataclass_fields__))


def _table(
    buckets: _Buckets, day: date, timeframe: Timeframe, contract: Contract, fill: Fill, previous_close: float | None
) -> pa.Table:
    known = contract.multiplier is not None
    return _assembled(buckets, day, timeframe, str(contract.unit), known, fill, previous_close)


def _assembled(
    buckets: _Buckets,
    day: date,
    timeframe: Timeframe,
    unit: str,
    multiplied: bool,
    fill: Fill,
    previous_close: float | None,
) -> pa.Table:
    """Puts buckets on the day's grid and fills the empty ones."""
    length = timeframe.microseconds
    start = microseconds(midnight(day))
    grid = np.arange(start, start + _DAY, length, dtype=np.int64)
    if fill is Fill.OMIT:
        grid = buckets.opens
    elif fill is Fill.FLAT and previous_close is None:
        grid = grid[grid >= buckets.opens[0]] if len(buckets.opens) else grid[:0]
    # the bucket that is the latest at each place of the grid; -1 before the first
    latest = np.searchsorted(buckets.opens, grid, side="right") - 1
    traded = (latest >= 0) & (buckets.opens[latest] == grid) if len(buckets.opens) else np.zeros(len(grid), bool)
    close = np.concatenate((buckets.last, [np.nan if previous_close is None else previous_close]))[latest]
    unpriced = None if fill is not Fill.NULL else ~traded

    def price(values: Reals) -> pa.Array:
        return pa.array(np.where(traded, np.concatenate((values, [np.nan]))[latest], close), mask=unpriced)

    def spread(values: Reals | Integers, *, missing: bool = False) -> Reals:
        return np.where(traded, np.concatenate((values, [0]))[latest], 0) if not missing else np.full(len(grid), np.nan)

    def value(values: Reals) -> pa.Array:
        return pa.array(spread(values, missing=not multiplied), mask=None if multiplied else np.ones(len(grid), bool))

    base, quote = spread(buckets.base, missing=not multiplied), spread(buckets.quote, missing=not multiplied)
    with np.errstate(divide="ignore", invalid="ignore"):
        vwap = quote / base
    columns = {
        "timestamp": pa.array(grid).view(TIME),
        "close_time": pa.array(grid + length).view(TIME),
        "open": price(buckets.first),
        "high": price(buckets.high),
        "low": price(buckets.low),
        "close": price(buckets.last),
        "volume": pa.array(spread(buckets.volume)),
        "quote_volume": value(buckets.quote),
        "trade_count": pa.array(spread(buckets.count).astype(np.int64)),
        "buy_volume": pa.array(spread(buckets.buy_volume)),
        "buy_quote_volume": value(buckets.buy_quote),
        "vwap": pa.array(vwap, mask=~np.isfinite(vwap)),
        "base_volume": value(buckets.base),
        "volume_unit": pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(grid), np.int32)), [unit]).cast(TEXT),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
