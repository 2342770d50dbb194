"""Technical features: what they equal, and that they see neither the future nor more than their look-back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.model.datasets import DATASETS, TIME, TIMEFRAMES, Timeframe
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import microseconds
from market_data_pipeline.transforms.delays import delays_of
from market_data_pipeline.transforms.technical import (
    CANDLE_COLUMNS,
    LOOK_BACK,
    SCHEMA,
    in_order,
    look_back_window,
    technical_features,
)
from market_data_pipeline_tests.transforms.tables import DAY, LENGTH, MIDNIGHT, MINUTE

COLUMNS = {column.name: column for column in DATASETS["technical_features"].columns}
INDICATORS = list(COLUMNS)[3 : list(COLUMNS).index("vwap_distance")]
DELAYS = [name for name in COLUMNS if name.startswith("delay_")]
BOOK = [name for name in COLUMNS if name.startswith("book_")]
MINUTES, HOURS = TIMEFRAMES["1m"], TIMEFRAMES["1h"]
every_timeframe = pytest.mark.parametrize("timeframe", TIMEFRAMES.values(), ids=TIMEFRAMES.keys())


def candles(
    timeframe: Timeframe, *, seed: int = 0, before: int = 0, quiet: float = 0.3, price: float = 100.0
) -> pa.Table:
    """Made-up candles of the look-back, of the day and `before` more at the front, some of them without a trade."""
    window = look_back_window(DAY, timeframe)
    first = microseconds(window.start) - before * timeframe.microseconds
    opens = np.arange(first, microseconds(window.end), timeframe.microseconds)
    draw = np.random.default_rng(seed)
    traded = draw.random(len(opens)) >= quiet
    close = np.round(price * np.exp(np.cumsum(np.where(traded, draw.normal(0, 2e-3, len(opens)), 0))), 4)
    reach = np.where(traded, np.round(price * draw.random(len(opens)) * 1e-3, 4), 0)
    volume = np.where(traded, draw.integers(1, 900, len(opens)) / 100, 0.0)
    return pa.table(
        {
            "timestamp": pa.array(opens).view(TIME),
            "high": close + reach,
            "low": close - reach,
            "close": close,
            "volume": volume,
            "trade_count": np.where(traded, draw.integers(1, 9, len(opens)), 0),
            "buy_volume": volume * draw.random(len(opens)),
            "vwap": pa.array(close - reach / 3, mask=~traded),
        }
    ).select(CANDLE_COLUMNS)


def features(table: pa.Table, timeframe: Timeframe) -> pa.Table:
    return technical_features(table, DAY, timeframe).table


def until(table: pa.Table, moment: Any) -> pa.Table:
    return table.filter(pc.less(table.column("timestamp"), pa.scalar(moment, TIME)))


def since(table: pa.Table, moment: Any) -> pa.Table:
    return table.filter(pc.greater_equal(table.column("timestamp"), pa.scalar(moment, TIME)))


def values(table: pa.Table, name: str) -> Any:
    return table.column(name).to_numpy()


@every_timeframe
def test_a_full_look_back_gives_every_row_a_value(timeframe: Timeframe) -> None:
    found = technical_features(candles(timeframe, quiet=0), DAY, timeframe)
    assert found.missing == 0
    assert found.table.schema.equals(SCHEMA)
    assert found.table.num_rows == ONE_DAY // timeframe.length
    assert {name for name in SCHEMA.names if found.table.column(name).null_count} == {*DELAYS, *BOOK}
    assert set(found.table.column("timeframe").to_pylist()) == {timeframe.name}
    for row in found.table.select(["timestamp", "close_time"]).to_pylist():
        assert row["close_time"] - row["timestamp"] == timeframe.length


Call = tuple[Callable[..., Any], str, tuple[float, ...], int]
"""A function of TA-Lib, the columns it takes, its parameters, and which of its results."""
DIRECT: dict[str, Call] = {
    **{f"sma_{length}": (talib.SMA, "close", (length,), 0) for length in (10, 20, 50)},
    **{f"ema_{length}": (talib.EMA, "close", (length,), 0) for length in (10, 20, 50)},
    "rsi_14": (talib.RSI, "close", (14,), 0),
    **{
        name: (talib.MACD, "close", (12, 26, 9), place)
        for place, name in enumerate(("macd", "macd_signal", "macd_histogram"))
    },
    **{
        f"bollinger_{name}_20": (talib.BBANDS, "close", (20, 2, 2), place)
        for place, name in enumerate(("upper", "middle", "lower"))
    },
    "atr_14": (talib.ATR, "high low close", (14,), 0),
    "adx_14": (talib.ADX, "high low close", (14,), 0),
    "stochastic_k": (talib.STOCH, "high low close", (14, 3, 0, 3, 0), 0),
    "stochastic_d": (talib.STOCH, "high low close", (14, 3, 0, 3, 0), 1),
    "cci_20": (talib.CCI, "high low close", (20,), 0),
    "mfi_14": (talib.MFI, "high low close volume", (14,), 0),
    "obv": (talib.OBV, "close volume", (), 0),
}


def called(name: str, table: pa.Table) -> Any:
    function, inputs, parameters, place = DIRECT[name]
    found = function(*(values(table, each) for each in inputs.split()), *parameters)
    return found[place] if isinstance(found, tuple) else found


@every_timeframe
def test_indicators_are_those_of_direct_calls_from_the_same_start(timeframe: Timeframe) -> None:
    table = candles(timeframe, seed=3)
    found = features(table, timeframe)
    for name in DIRECT:
        told = called(name, since(table, MIDNIGHT - (COLUMNS[name].look_back - 1) * timeframe.length))
        # the size of prices is a power of two to TA-Lib, but for what it takes for zero: equal to the last bit or so
        np.testing.assert_allclose(values(found, name), told[-found.num_rows :], rtol=1e-12, atol=1e-12, err_msg=name)


@every_timeframe
def test_indicators_are_those_of_the_whole_series_but_for_what_has_faded(timeframe: Timeframe) -> None:
    table = candles(timeframe, seed=5, before=3_000, quiet=0)
    found = features(table, timeframe)
    for name in DIRECT:
        whole, ours = called(name, table), values(found, name)
        if name == "obv":  # counts from its start, so only its steps compare
            whole, ours = np.diff(whole), np.diff(ours)
        apart = np.abs(ours - whole[len(whole) - len(ours) :])
        # what lies before the look-back weighs less than 5 in 100,000 of what such a value varies by
        assert apart.max(initial=0.0) <= 5e-5 * np.nanstd(whole), name


@every_timeframe
def test_returns_and_volatility_are_what_their_formulas_say(timeframe: Timeframe) -> None:
    table = candles(timeframe)
    found = features(table, timeframe)
    close = values(table, "close")
    logs = np.log(close[1:] / close[:-1])
    for place in range(found.num_rows):
        end = len(logs) - found.num_rows + place + 1
        row = found.slice(place, 1).to_pylist()[0]
        assert row["simple_return"] == pytest.approx(np.expm1(logs[end - 1]), abs=1e-12)
        assert row["log_return"] == pytest.approx(logs[end - 1], abs=1e-12)
        assert row["realised_volatility_20"] == pytest.approx(np.sqrt((logs[end - 20 : end] ** 2).sum()), rel=1e-9)


def assert_blind_to_the_future(make: Callable[[pa.Table, Timeframe], pa.Table], table: pa.Table, at: int) -> None:
    whole = make(table, MINUTES)
    moment = MIDNIGHT + timedelta(minutes=at)
    assert make(until(table, moment), MINUTES).equals(until(whole, moment))


@settings(max_examples=25)
@given(st.integers(0, 99), st.integers(0, 1440), st.sampled_from([0.0, 0.5, 0.98]))
def test_rows_are_the_same_whether_the_candles_end_or_go_on(seed: int, at: int, quiet: float) -> None:
    assert_blind_to_the_future(features, candles(MINUTES, seed=seed, quiet=quiet), at)


@pytest.mark.parametrize("name", ["simple_return", "ema_10", "obv", "buy_share"])
def test_a_value_from_one_candle_ahead_would_be_seen(name: str) -> None:
    def leaking(table: pa.Table, timeframe: Timeframe) -> pa.Table:
        honest = features(table, timeframe)
        index = honest.column_names.index(name)
        ahead = pa.concat_arrays([honest.column(name).combine_chunks()[1:], pa.nulls(1, pa.float64())])
        return honest.set_column(index, SCHEMA.field(index), ahead)

    with pytest.raises(AssertionError):
        assert_blind_to_the_future(leaking, candles(MINUTES), 700)


@every_timeframe
def test_what_lies_before_the_look_back_makes_no_difference(timeframe: Timeframe) -> None:
    more = candles(timeframe, before=LOOK_BACK, seed=1)
    exact = since(more, look_back_window(DAY, timeframe).start)
    assert features(more, timeframe).equals(features(exact, timeframe))
    # with one candle less the longest look-back is not full, and it is said
    less = technical_features(exact.slice(1), DAY, timeframe)
    assert less.missing == 1
    assert less.table.column("ema_50")[0].as_py() is None


@pytest.mark.parametrize("there", [0, 1, 30, 200, 298])
def test_without_its_look_back_a_value_is_null_until_there_are_enough_candles(there: int) -> None:
    table = candles(MINUTES, quiet=0)
    short = table.slice(LOOK_BACK - 1 - there)
    found = technical_features(short, DAY, MINUTES)
    assert found.missing == LOOK_BACK - 1 - there
    whole = features(table, MINUTES)
    for name in INDICATORS:
        column = found.table.column(name)
        nulls = max(0, COLUMNS[name].look_back - 1 - there)
        assert column.null_count == column.slice(0, nulls).null_count == nulls, name
        if not nulls:
            assert column.equals(whole.column(name)), name


@pytest.mark.parametrize("there", [*range(30), 60, 200])
def test_however_few_candles_there_are_each_value_stands_or_is_null(there: int) -> None:
    days = TIMEFRAMES["1d"]
    table = candles(days, quiet=0)
    found = features(table.slice(LOOK_BACK - 1 - there), days)
    whole = features(table, days)
    for name in INDICATORS:
        told = whole.column(name).to_pylist() if COLUMNS[name].look_back <= there + 1 else [None]
        assert found.column(name).to_pylist() == told, name


def test_a_day_without_any_candle_ends_the_look_back() -> None:
    table = candles(HOURS, quiet=0)
    hole = MIDNIGHT - 3 * ONE_DAY
    holed = pa.concat_tables([until(table, hole), since(table, hole + ONE_DAY)])
    found = technical_features(holed, DAY, HOURS)
    assert found.missing == LOOK_BACK - 1 - 48
    assert found.table.equals(features(since(table, hole + ONE_DAY), HOURS))
    assert found.table.column("sma_50").null_count == 1


@pytest.mark.parametrize("omit", [True, False])
def test_candles_without_a_price_are_passed_over(omit: bool) -> None:
    table = candles(MINUTES, quiet=0.4)
    traded = pc.greater(table.column("trade_count"), 0)
    kept = table.filter(traded)
    if omit:
        given = kept
    else:
        given = table
        for name in ("high", "low", "close"):
            index = given.column_names.index(name)
            given = given.set_column(index, name, pc.if_else(traded, given.column(name), None))
    found = features(given, MINUTES)
    assert found.num_rows == since(given, MIDNIGHT).num_rows
    with_price = found.filter(since(given, MIDNIGHT).column("close").is_valid())
    assert with_price.equals(features(kept, MINUTES))
    without = found.filter(pc.is_null(since(given, MIDNIGHT).column("close")))
    for name in (*INDICATORS, "vwap_distance", "buy_share", "mean_trade_size"):
        assert without.column(name).null_count == without.num_rows
    # a return is from the last candle that has a price
    prices = values(kept, "close")
    np.testing.assert_allclose(
        values(with_price, "simple_return"), (prices[1:] / prices[:-1] - 1)[-with_price.num_rows :], atol=1e-12
    )


def test_a_market_that_stands_still_has_no_ratio_of_nothing() -> None:
    table = candles(MINUTES, quiet=1.0)
    found = features(table, MINUTES)
    undefined = {"rsi_14", "adx_14", "stochastic_k", "stochastic_d", "cci_20", "mfi_14"}
    undefined |= {"vwap_distance", "buy_share", "mean_trade_size", *DELAYS, *BOOK}
    assert {name for name in SCHEMA.names if found.column(name).null_count} == undefined
    assert all(found.column(name).null_count == found.num_rows for name in undefined)
    for name in ("simple_return", "realised_volatility_20", "macd", "atr_14", "obv", "signed_volume"):
        assert set(found.column(name).to_pylist()) == {0.0}, name
    assert set(found.column("bollinger_upper_20").to_pylist()) == {100.0}


def test_a_market_that_comes_to_rest_loses_its_ratios_and_finds_them_again() -> None:
    table = candles(MINUTES, quiet=0)
    still = np.arange(table.num_rows)
    place = LOOK_BACK - 1
    quiet = (still >= place) & (still < place + 1000)
    rows = pa.array(np.where(quiet, place - 1, still))
    stamps = table.column("timestamp")
    resting = table.take(rows).set_column(0, "timestamp", stamps)
    for name in ("volume", "trade_count", "buy_volume"):
        index = resting.column_names.index(name)
        column = pc.if_else(pa.array(quiet), pa.scalar(0, resting.column(name).type), resting.column(name))
        resting = resting.set_column(index, name, column)
    for name in ("high", "low"):  # flat at the close
        index = resting.column_names.index(name)
        resting = resting.set_column(
            index, name, pc.if_else(pa.array(quiet), resting.column("close"), resting.column(name))
        )
    found = features(resting, MINUTES)
    for name in ("rsi_14", "adx_14", "stochastic_k", "stochastic_d", "cci_20", "mfi_14"):
        column = found.column(name)
        assert column[0].is_valid, name
        assert not column[999].is_valid, name
        assert column[1100].is_valid, name


def test_order_flow_is_that_of_the_candle() -> None:
    table = candles(HOURS, quiet=0.2)
    found = features(table, HOURS).to_pylist()
    for row, candle in zip(found, since(table, MIDNIGHT).to_pylist(), strict=True):
        volume, bought, count = candle["volume"], candle["buy_volume"], candle["trade_count"]
        assert row["signed_volume"] == pytest.approx(bought - (volume - bought), abs=1e-12)
        assert row["buy_share"] == (bought / volume if count else None)
        assert row["mean_trade_size"] == (volume / count if count else None)
        assert row["vwap_distance"] == (candle["close"] / candle["vwap"] - 1 if count else None)


def test_no_candles_of_the_day_are_no_rows() -> None:
    assert features(until(candles(HOURS), MIDNIGHT), HOURS).equals(SCHEMA.empty_table())
    assert features(candles(HOURS).slice(0, 0), HOURS).equals(SCHEMA.empty_table())
    assert in_order([]).equals(SCHEMA.empty_table())


def test_of_candles_that_open_together_the_shortest_comes_first() -> None:
    tables = [features(candles(timeframe), timeframe) for timeframe in TIMEFRAMES.values()]
    found = in_order(reversed(tables))
    assert found.num_rows == sum(ONE_DAY // timeframe.length for timeframe in TIMEFRAMES.values())
    assert found.schema.equals(SCHEMA)
    keys = list(zip(*(found.column(name).to_pylist() for name in DATASETS["technical_features"].order), strict=True))
    assert keys == sorted(keys)
    assert found.column("timeframe").to_pylist()[: len(TIMEFRAMES)] == list(TIMEFRAMES)
    for timeframe, table in zip(TIMEFRAMES, tables, strict=True):
        alone = found.filter(pc.equal(found.column("timeframe").cast(pa.string()), timeframe))
        assert alone.to_pylist() == table.to_pylist()


@given(
    st.lists(st.tuples(st.integers(0, LENGTH - 1), st.none() | st.integers(-5_000_000, 90_000_000)), max_size=40),
    st.integers(0, 40),
    st.sampled_from(list(TIMEFRAMES)),
)
def test_delays_are_those_of_the_trades_of_each_bucket(
    trades: list[tuple[int, int | None]], cut: int, name: str
) -> None:
    trades = sorted(trades, key=lambda trade: trade[0])
    start, length = microseconds(MIDNIGHT), TIMEFRAMES[name].microseconds
    table = pa.table(
        {
            "timestamp": pa.array([start + at for at, _ in trades], pa.int64()).view(TIME),
            "local_timestamp": pa.array(
                [None if late is None else start + at + late for at, late in trades], pa.int64()
            ).view(TIME),
        }
    )
    found = delays_of([table.slice(0, cut), table.slice(cut)], DAY).of(np.arange(0, LENGTH, length), length)
    for bucket in {at // length for at, _ in trades} | {0, LENGTH // length - 1}:
        inside = [late / 1000 for at, late in trades if late is not None and at // length == bucket]
        for which, reduce in (("mean", np.mean), ("median", np.median), ("min", np.min), ("max", np.max)):
            told = pytest.approx(reduce(inside), abs=1e-9) if inside else pytest.approx(np.nan, nan_ok=True)
            assert found[which][bucket] == told


def test_delays_stand_beside_their_candles() -> None:
    stamps = np.array([0, 10 * MINUTE, 70 * MINUTE]) + microseconds(MIDNIGHT)
    local = stamps + np.array([1000, 3000, -500])
    trades = pa.table({"timestamp": pa.array(stamps).view(TIME), "local_timestamp": pa.array(local).view(TIME)})
    found = technical_features(candles(HOURS), DAY, HOURS, delays_of([trades], DAY)).table
    told = [tuple(row[name] for name in DELAYS) for row in found.to_pylist()]
    assert told[:3] == [(2.0, 2.0, 1.0, 3.0), (-0.5, -0.5, -0.5, -0.5), (None, None, None, None)]
