"""Technical features of candles: indicators by TA-Lib, order flow, the delay of trades, and the book.

Each row of a day is worked out from its own candle and those before it, from a start that is the same for all rows of
the day and lies a fixed number of candles before midnight (`Column.look_back`): so the values depend neither on what
comes after nor on which other days are computed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data_pipeline.model.datasets import DATASETS, TEXT, TIME, TIMEFRAMES, Timeframe
from market_data_pipeline.model.windows import DAY, Window, microseconds, midnight
from market_data_pipeline.transforms.books import Books
from market_data_pipeline.transforms.delays import Delays

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

DATASET = DATASETS["technical_features"]
SCHEMA = DATASET.own_schema
CANDLE_COLUMNS = ("timestamp", "high", "low", "close", "volume", "trade_count", "buy_volume", "vwap")
"""The columns of candles that the features are made from."""

_LOOK_BACKS = {column.name: column.look_back for column in DATASET.columns}
LOOK_BACK = max(_LOOK_BACKS.values())
"""How many candles, its own included, the feature with the longest look-back needs."""

_DAY = DAY // timedelta(microseconds=1)
# TA-Lib's money flow index calls less than 1.0 nothing; a power of two changes no digit
_RAISED = 2.0**200
_NOTHING = 1e-14
"""What TA-Lib takes for zero."""


def look_back_window(day: date, timeframe: Timeframe) -> Window:
    """The times whose candles the features of a day are made from: the day, and LOOK_BACK - 1 candles before it."""
    return Window(midnight(day) - (LOOK_BACK - 1) * timeframe.length, midnight(day) + DAY)


@dataclass(frozen=True)
class Bars:
    """Candles that have a price, rising in time: their opens (microseconds), prices and volumes."""

    stamps: Integers
    high: Reals
    low: Reals
    close: Reals
    volume: Reals

    @property
    def raised(self) -> Reals:
        """The volume, far above what TA-Lib takes for nothing."""
        return self.volume * _RAISED

    @property
    def typical(self) -> Reals:
        """The typical price."""
        return (self.high + self.low + self.close) / 3

    def since(self, first: int) -> "Bars":
        """Those from a place on."""
        high, low, close, volume = (values[first:] for values in (self.high, self.low, self.close, self.volume))
        return Bars(self.stamps[first:], high, low, close, volume)

    def near_one(self) -> "tuple[Bars, float]":
        """The same with prices brought to about 1 by the first of them, and the power of two that brings them back.

        No digit changes, but what TA-Lib takes for zero is nothing then, and not the price of a cheap coin.
        """
        price = abs(float(self.close[0]))
        scale = 2.0 ** (int(np.frexp(price)[1]) - 1) if price else 1.0
        return Bars(self.stamps, self.high / scale, self.low / scale, self.close / scale, self.volume), scale


@dataclass(frozen=True)
class _Indicator:
    """One function over bars.

    Attributes:
        columns: what its results are called.
        compute: gives an array for each column, as long as the bars.
        priced: whether its results are prices.
        undefined: for each column, where a result would be a division of nothing by nothing.
    """

    columns: tuple[str, ...]
    compute: Callable[[Bars], Sequence[Reals]]
    priced: bool = False
    undefined: Callable[[Bars], Sequence[Flags | bool]] = lambda _: (False,) * 3

    @property
    def look_back(self) -> int:
        """The longest look-back of its columns: all start where that does."""
        return max(_LOOK_BACKS[name] for name in self.columns)

    def of(self, bars: Bars) -> dict[str, Reals]:
        """Its values at each bar, from the first bar on; NaN where there is none yet, or nothing is defined."""
        if not len(bars.close):
            return {name: np.empty(0) for name in self.columns}
        near_one, scale = bars.near_one()
        results, undefined = self.compute(near_one), self.undefined(near_one)
        return {
            name: np.where(without, np.nan, values * scale if self.priced else values)
            for name, values, without in zip(self.columns, results, undefined, strict=False)
        }


def _talib(function: str, inputs: str, *parameters: float) -> Callable[[Bars], Sequence[Reals]]:
    """A function of TA-Lib over some attributes of bars."""

    def compute(bars: Bars) -> Sequence[Reals]:
        import talib  # slow: it imports pandas

        found = getattr(talib, function)(*(getattr(bars, name) for name in inputs.split()), *parameters)
        return (found,) if isinstance(found, np.ndarray) else found

    return compute


def _rolling(reduce: Callable[..., Any], values: npt.NDArray[Any], length: int, missing: Any) -> npt.NDArray[Any]:
    """A reduction of the last `length` values at each place; `missing` where there are fewer."""
    if len(values) < length:
        return np.full(len(values), missing)
    windows = np.lib.stride_tricks.sliding_window_view(values, length)
    return np.concatenate((np.full(length - 1, missing), reduce(windows, axis=1)))


def _returns(bars: Bars) -> Sequence[Reals]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.concatenate(([np.nan], bars.close[1:] / bars.close[:-1]))
        return ratio - 1, np.log(ratio)


def _realised_volatility(bars: Bars) -> Sequence[Reals]:
    squares = _returns(bars)[1] ** 2
    found = np.full(len(squares), np.nan)
    if len(squares) > 20:
        # one shifted array after another: the same order of additions for every row, however many there are
        found[20:] = np.sqrt(sum(squares[20 - back : len(squares) - back] for back in range(20)))
    return (found,)


def _no_move(bars: Bars) -> Sequence[Flags]:
    """Where Wilder's mean of all moves of the close is nothing: that of gains and losses together."""
    (moves,) = _talib("ATR", "close close close", 14)(bars)
    return (moves < _NOTHING,)


def _no_range(bars: Bars) -> Sequence[Flags]:
    (ranges,) = _talib("ATR", "high low close", 14)(bars)
    return (ranges < _NOTHING,)


def _empty_range(bars: Bars) -> Sequence[Flags]:
    """Where one of the ranges of 14 candles that the slow %K and %D are means of is empty."""
    empty = _rolling(np.max, bars.high, 14, 1.0) == _rolling(np.min, bars.low, 14, 0.0)
    return _rolling(np.any, empty, 3, True), _rolling(np.any, empty, 5, True)


def _no_deviation(bars: Bars) -> Sequence[Flags]:
    typical = bars.typical
    return (_rolling(np.max, typical, 20, 0.0) == _rolling(np.min, typical, 20, 0.0),)


def _no_flow(bars: Bars) -> Sequence[Flags]:
    flows = np.concatenate(([False], np.diff(bars.typical) != 0)) & (bars.volume > 0)
    return (~_rolling(np.any, flows, 14, False),)


_BOLLINGER = tuple(f"bollinger_{band}_20" for band in ("upper", "middle", "lower"))
_INDICATORS = (
    _Indicator(("simple_return", "log_return"), _returns),
    _Indicator(("realised_volatility_20",), _realised_volatility),
    *(_Indicator((f"sma_{n}",), _talib("SMA", "close", n), priced=True) for n in (10, 20, 50)),
    *(_Indicator((f"ema_{n}",), _talib("EMA", "close", n), priced=True) for n in (10, 20, 50)),
    _Indicator(("rsi_14",), _talib("RSI", "close", 14), undefined=_no_move),
    _Indicator(("macd", "macd_signal", "macd_histogram"), _talib("MACD", "close", 12, 26, 9), priced=True),
    _Indicator(_BOLLINGER, _talib("BBANDS", "close", 20, 2.0, 2.0), priced=True),
    _Indicator(("atr_14",), _talib("ATR", "high low close", 14), priced=True),
    _Indicator(("adx_14",), _talib("ADX", "high low close", 14), undefined=_no_range),
    _Indicator(
        ("stochastic_k", "stochastic_d"), _talib("STOCH", "high low close", 14, 3, 0, 3, 0), undefined=_empty_range
    ),
    _Indicator(("cci_20",), _talib("CCI", "high low close", 20), undefined=_no_deviation),
    _Indicator(("mfi_14",), _talib("MFI", "high low close raised", 14), undefined=_no_flow),
    _Indicator(("obv",), _talib("OBV", "close volume")),
)


def indicators(bars: Bars) -> dict[str, Reals]:
    """All indicators over a whole series from its first bar, by column, whatever their look-backs; NaN for none."""
    return {name: values for indicator in _INDICATORS for name, values in indicator.of(bars).items()}


@dataclass(frozen=True)
class TimeframeFeatures:
    """The features of one instrument's day and timeframe.

    Attributes:
        table: rows of SCHEMA, one for each candle of the day.
        missing: how many of the LOOK_BACK - 1 candles before the day are not there, or have no price.
    """

    table: pa.Table
    missing: int


def technical_features(
    candles: pa.Table, day: date, timeframe: Timeframe, delays: Delays | None = None, books: Books | None = None
) -> TimeframeFeatures:
    """The technical features of one instrument's day, for one timeframe.

    Indicators go over the candles that have a price; a candle without one has a row, but no indicators. A day without
    any candle ends the look-back: whether nobody traded or nobody fetched it cannot be told. A value stands only where
    its whole look-back does.

    Args:
        candles: CANDLE_COLUMNS of the day and of what is there of `look_back_window`, rising in time. What lies outside
            that window makes no difference.
        day: the day, UTC.
        timeframe: the candles' length.
        delays: those of the day's trades; without them the delay columns are null.
        books: those of the day; without them the book columns are null.
    """
    start, length = microseconds(midnight(day)), timeframe.microseconds
    stamps = _column(candles, "timestamp").astype(np.int64)
    inside = slice(*np.searchsorted(stamps, (_history_start(stamps, start, length), start + _DAY)))
    candles, stamps = candles.slice(inside.start, inside.stop - inside.start), stamps[inside]
    today = stamps >= start
    close = _column(candles, "close")
    priced = np.isfinite(close)
    bars = Bars(stamps[priced], *(_column(candles, name)[priced] for name in ("high", "low", "close", "volume")))
    values: dict[str, Reals] = {}
    for indicator in _INDICATORS:
        found = _of_day(indicator, bars, start, length)
        values |= {name: _spread(of_bars, priced[today]) for name, of_bars in found.items()}
    values |= _order_flow(candles.filter(pa.array(today)))
    if delays is not None:
        values |= {f"delay_{name}": each for name, each in delays.of(stamps[today] - start, length).items()}
    if books is not None:
        values |= {f"book_{name}": each for name, each in books.of(stamps[today] - start, length).items()}
    missing = LOOK_BACK - 1 - int((bars.stamps < start).sum())
    return TimeframeFeatures(_table(stamps[today], timeframe, values), missing)


def in_order(tables: Iterable[pa.Table]) -> pa.Table:
    """The features of one day of all timeframes in the dataset's order: by open, the shortest candle first."""
    joined = pa.concat_tables([SCHEMA.empty_table(), *tables]).unify_dictionaries()
    return joined.take(pa.array(np.lexsort([_column(joined, name) for name in reversed(DATASET.order)])))


def _column(table: pa.Table, name: str) -> npt.NDArray[Any]:
    column = table.column(name).combine_chunks()
    if pa.types.is_timestamp(column.type):
        column = column.view(pa.int64())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _history_start(stamps: Integers, midnight_: int, length: int) -> int:
    """Where the look-back starts: at its full length, or after the last day before this one without any candle."""
    full = midnight_ - (LOOK_BACK - 1) * length
    days = np.unique(stamps[(stamps >= full) & (stamps < midnight_)] // _DAY)
    before = midnight_ // _DAY - np.arange(1, len(days) + 1)
    unbroken = int(np.cumprod(days[::-1] == before).sum())
    return max(full, midnight_ - unbroken * _DAY)


def _of_day(indicator: _Indicator, bars: Bars, midnight_: int, length: int) -> dict[str, Reals]:
    """An indicator's values at the bars of the day; NaN where the look-back is not full or nothing is defined."""
    start = int(np.searchsorted(bars.stamps, midnight_ - (indicator.look_back - 1) * length))
    used = bars.since(start)
    behind = np.arange(1, len(used.stamps) + 1)
    return {
        name: np.where(behind < _LOOK_BACKS[name], np.nan, values)[used.stamps >= midnight_]
        for name, values in indicator.of(used).items()
    }


def _spread(of_bars: Reals, priced: Flags) -> Reals:
    """Values of the candles that have a price at their places among all candles of the day."""
    values = np.full(len(priced), np.nan)
    values[priced] = of_bars
    return values


def _order_flow(candles: pa.Table) -> dict[str, Reals]:
    close, volume, bought, count, vwap = (
        _column(candles, name).astype(np.float64) for name in ("close", "volume", "buy_volume", "trade_count", "vwap")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "vwap_distance": close / vwap - 1,
            "buy_share": bought / volume,
            "signed_volume": 2 * bought - volume,
            "mean_trade_size": volume / count,
        }


def _table(stamps: Integers, timeframe: Timeframe, values: dict[str, Reals]) -> pa.Table:
    absent = np.full(len(stamps), np.nan)
    columns = {
        name: pa.array(each, mask=~np.isfinite(each))
        for name in SCHEMA.names
        if name not in ("timeframe", "timestamp", "close_time")
        for each in (values.get(name, absent),)
    }
    columns["timestamp"] = pa.array(stamps).view(TIME)
    columns["close_time"] = pa.array(stamps + timeframe.microseconds).view(TIME)
    numbers = pa.array(np.full(len(stamps), list(TIMEFRAMES).index(timeframe.name), np.int32))
    columns["timeframe"] = pa.DictionaryArray.from_arrays(numbers, list(TIMEFRAMES)).cast(TEXT)
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
