"""The rules of candles: buckets, order, sums, empty buckets, roll-ups; against candles worked out the slow way."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.model.contracts import LINEAR, Contract
from market_data_pipeline.model.datasets import TIMEFRAMES, Timeframe, candles
from market_data_pipeline.model.instruments import InstrumentType
from market_data_pipeline.transforms.candles import FILLS, SCHEMA, Fill, candles_from_trades, roll_up
from market_data_pipeline.transforms.laws import broken_candle_laws
from market_data_pipeline_tests.transforms.tables import (
    CONTRACTS,
    DAY,
    LENGTH,
    MIDNIGHT,
    MINUTE,
    SECOND,
    VALUES,
    Trade,
    check_schema,
    close_to,
    days_of_trades,
    differences,
    exactly,
    slow_candles,
    trades,
)

ONE = TIMEFRAMES["1m"]
contracts = st.sampled_from(list(CONTRACTS.values()))
fills = st.sampled_from(Fill)
timeframes = st.sampled_from(list(TIMEFRAMES.values()))
previous_closes = st.none() | st.floats(1e-6, 1e6)
every_fill = pytest.mark.parametrize("fill", Fill)
every_timeframe = pytest.mark.parametrize("timeframe", TIMEFRAMES.values(), ids=TIMEFRAMES.keys())


def made(rows: list[Any], timeframe: Timeframe = ONE, contract: Contract = LINEAR, **options: Any) -> pa.Table:
    return candles_from_trades([trades(rows)], DAY, timeframe, contract, **options)


def at(table: pa.Table, offset: int) -> dict[str, Any]:
    """The candle that opens so many microseconds after midnight."""
    (row,) = (row for row in table.to_pylist() if row["timestamp"] == MIDNIGHT + timedelta(microseconds=offset))
    return row


@settings(max_examples=60)
@given(rows=days_of_trades, timeframe=timeframes, contract=contracts, fill=fills, previous=previous_closes)
def test_candles_are_those_worked_out_the_slow_way(
    rows: list[Trade], timeframe: Timeframe, contract: Contract, fill: Fill, previous: float | None
) -> None:
    found = made(rows, timeframe, contract, fill=fill, previous_close=previous)
    check_schema(found)
    assert differences(found.to_pylist(), close_to(slow_candles(rows, timeframe, contract, fill, previous))) == []
    assert broken_candle_laws(found, DAY, timeframe) == []


@settings(max_examples=60)
@given(rows=days_of_trades, cuts=st.lists(st.integers(0, 40)), contract=contracts, fill=fills, timeframe=timeframes)
def test_how_the_trades_are_cut_makes_no_difference(
    rows: list[Trade], cuts: list[int], contract: Contract, fill: Fill, timeframe: Timeframe
) -> None:
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    # each part has a dictionary of sides of its own
    parts = [trades(rows[start:stop]) for start, stop in pairwise(edges)]
    cut = candles_from_trades(parts, DAY, timeframe, contract, fill=fill)
    chunked = candles_from_trades([pa.concat_tables(parts)], DAY, timeframe, contract, fill=fill)
    whole = exactly(made(rows, timeframe, contract, fill=fill))
    assert differences(exactly(cut), whole) == []
    assert differences(exactly(chunked), whole) == []


@pytest.mark.parametrize("seed", range(8))
def test_a_bucket_of_many_trades_is_summed_whole_wherever_it_is_cut(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = 20_000
    stamps = np.sort(random.integers(0, 12 * MINUTE, size) // 1000 * 1000)
    sides = random.choice(["buy", "sell", "unknown"], size)
    rows = [
        Trade(int(stamp), str(side), float(price), float(amount))
        for stamp, side, price, amount in zip(
            stamps, sides, random.lognormal(10, 1, size), random.lognormal(0, 3, size), strict=True
        )
    ]
    table = trades(rows)
    edges = [0, *sorted(int(cut) for cut in random.integers(0, size, 30)), size]
    parts = [table.slice(start, stop - start) for start, stop in pairwise(edges)]
    whole = candles_from_trades([table], DAY, ONE, LINEAR)
    assert differences(exactly(candles_from_trades(parts, DAY, ONE, LINEAR)), exactly(whole)) == []
    assert differences(whole.to_pylist(), close_to(slow_candles(rows, ONE, LINEAR, Fill.FLAT))) == []


@every_fill
@settings(max_examples=40)
@given(rows=days_of_trades, contract=contracts, previous=previous_closes)
def test_a_roll_up_of_roll_ups_is_made_as_if_from_trades(
    fill: Fill, rows: list[Trade], contract: Contract, previous: float | None
) -> None:
    finest = found = made(rows, ONE, contract, fill=fill, previous_close=previous)
    for timeframe in list(TIMEFRAMES.values())[1:]:
        found = roll_up(found, DAY, timeframe, fill=fill)
        check_schema(found)
        direct = close_to(made(rows, timeframe, contract, fill=fill, previous_close=previous).to_pylist())
        assert differences(found.to_pylist(), direct) == []
        assert differences(roll_up(finest, DAY, timeframe, fill=fill).to_pylist(), direct) == []
        assert broken_candle_laws(found, DAY, timeframe) == []


def test_open_and_close_follow_the_order_of_ties() -> None:
    tied = [Trade(MINUTE + 500, "sell", float(price), 1.0) for price in (7, 3, 9, 5)]
    candle = at(made(tied), MINUTE)
    assert [candle[name] for name in ("open", "high", "low", "close")] == [7, 9, 3, 5]
    candle = at(made(tied[::-1]), MINUTE)
    assert [candle[name] for name in ("open", "high", "low", "close")] == [5, 9, 3, 7]


def test_ties_keep_their_order_across_tables() -> None:
    tied = [Trade(MINUTE + 500, "sell", float(price), 1.0) for price in range(1, 101)]
    candle = at(candles_from_trades([trades([row]) for row in tied], DAY, ONE, LINEAR), MINUTE)
    assert [candle[name] for name in ("open", "high", "low", "close")] == [1, 100, 1, 100]


@every_timeframe
def test_a_trade_on_the_edge_belongs_to_the_next_candle(timeframe: Timeframe) -> None:
    length = timeframe.microseconds
    rows = [Trade(0, "buy", 1.0, 1.0), Trade(length - 1, "buy", 2.0, 10.0), Trade(length, "buy", 3.0, 100.0)]
    inside = [row for row in rows if row.at < LENGTH]
    found = made(inside, timeframe, fill=Fill.OMIT).to_pylist()
    assert [(row["open"], row["close"], row["volume"]) for row in found] == [(1, 2, 11), (3, 3, 100)][: len(found)]
    assert len(found) == (1 if length == LENGTH else 2)


def test_the_first_and_the_last_microsecond_of_the_day() -> None:
    found = made([Trade(0, "buy", 1.0, 1.0), Trade(LENGTH - 1, "sell", 2.0, 1.0)]).to_pylist()
    assert len(found) == 1440
    assert (found[0]["timestamp"], found[0]["open"]) == (MIDNIGHT, 1)
    assert (found[-1]["close_time"], found[-1]["close"]) == (MIDNIGHT + timedelta(days=1), 2)


def test_sides_other_than_buy_count_as_volume_only() -> None:
    rows = [
        Trade(index, side, 10.0, amount)
        for index, (side, amount) in enumerate([("buy", 1.0), ("sell", 2.0), ("unknown", 4.0), (None, 8.0)])
    ]
    candle = at(made(rows), 0)
    names = ("volume", "buy_volume", "quote_volume", "buy_quote_volume", "trade_count")
    assert [candle[name] for name in names] == [15, 1, 150, 10, 4]
    assert at(made(rows[1:]), 0)["buy_volume"] == 0


@pytest.mark.parametrize(
    ("contract", "values"),
    [
        ("linear", {"quote_volume": 100.0, "base_volume": 7.0, "buy_quote_volume": 40.0, "vwap": 100 / 7}),
        ("linear contracts", {"quote_volume": 1.0, "base_volume": 0.07, "buy_quote_volume": 0.4, "vwap": 100 / 7}),
        ("inverse", {"quote_volume": 7.0, "base_volume": 0.5, "buy_quote_volume": 2.0, "vwap": 14.0}),
        ("inverse contracts", {"quote_volume": 700.0, "base_volume": 50.0, "buy_quote_volume": 200.0, "vwap": 14.0}),
        ("unknown", dict.fromkeys(VALUES)),
        ("inverse unknown", dict.fromkeys(VALUES)),
    ],
)
def test_what_amounts_are_worth(contract: str, values: dict[str, float | None]) -> None:
    rows = [Trade(1, "buy", 20.0, 2.0), Trade(2, "sell", 12.5, 4.0), Trade(3, "unknown", 10.0, 1.0)]
    if "inverse" in contract:
        rows = [Trade(1, "buy", 20.0, 2.0), Trade(2, "sell", 12.5, 5.0)]
    candle = at(made(rows, contract=CONTRACTS[contract]), 0)
    assert candle["volume_unit"] == str(CONTRACTS[contract].unit)
    assert {name: candle[name] for name in VALUES} == {
        name: found if found is None else pytest.approx(found) for name, found in values.items()
    }


@every_fill
@settings(max_examples=40)
@given(rows=days_of_trades)
def test_an_unknown_multiplier_leaves_only_the_values_out(fill: Fill, rows: list[Trade]) -> None:
    known = made(rows, contract=CONTRACTS["linear contracts"], fill=fill)
    unknown = made(rows, contract=CONTRACTS["unknown"], fill=fill)
    assert [unknown.column(name).null_count for name in VALUES] == [unknown.num_rows] * len(VALUES)
    left, right = (exactly(table.drop_columns(list(VALUES))) for table in (unknown, known))
    assert differences(left, right) == []


SPARSE = [Trade(2 * MINUTE + SECOND, "buy", 10.0, 1.0), Trade(4 * MINUTE, "sell", 12.0, 2.0)]


@pytest.mark.parametrize(
    ("fill", "previous", "first", "length"),
    [
        (Fill.FLAT, None, 2, 1438),
        (Fill.FLAT, 9.0, 0, 1440),
        (Fill.NULL, None, 0, 1440),
        (Fill.NULL, 9.0, 0, 1440),
        (Fill.OMIT, None, 2, 2),
        (Fill.OMIT, 9.0, 2, 2),
    ],
)
def test_which_minutes_have_a_row(fill: Fill, previous: float | None, first: int, length: int) -> None:
    found = made(SPARSE, fill=fill, previous_close=previous)
    assert found.num_rows == length
    assert found.column("timestamp")[0].as_py() == MIDNIGHT + timedelta(minutes=first)


@pytest.mark.parametrize(
    ("fill", "minute", "price"),
    [(Fill.FLAT, 0, 9.0), (Fill.FLAT, 1, 9.0), (Fill.FLAT, 3, 10.0), (Fill.FLAT, 5, 12.0), (Fill.FLAT, 1439, 12.0)]
    + [(Fill.NULL, minute, None) for minute in (0, 1, 3, 5, 1439)],
)
def test_an_empty_minute(fill: Fill, minute: int, price: float | None) -> None:
    candle = at(made(SPARSE, fill=fill, previous_close=9.0), minute * MINUTE)
    assert [candle[name] for name in ("open", "high", "low", "close")] == [price] * 4
    sums = ("volume", "quote_volume", "base_volume", "buy_volume", "buy_quote_volume", "trade_count")
    assert [candle[name] for name in sums] == [0] * 6
    assert (candle["vwap"], candle["volume_unit"]) == (None, "base")


def test_the_close_before_midnight_is_no_trade_of_the_day() -> None:
    candle = at(made([Trade(SECOND, "buy", 10.0, 1.0)], previous_close=5.0), 0)
    assert [candle[name] for name in ("open", "high", "low", "close")] == [10] * 4


@every_fill
@every_timeframe
@pytest.mark.parametrize("tables", [[], [trades([])], [trades([]), trades([])]], ids=["none", "empty", "two empty"])
def test_no_trades_make_no_rows(fill: Fill, timeframe: Timeframe, tables: list[pa.Table]) -> None:
    found = candles_from_trades(tables, DAY, timeframe, LINEAR, fill=fill, previous_close=5.0)
    assert found.num_rows == 0
    check_schema(found)
    rolled = roll_up(found, DAY, TIMEFRAMES["1d"], fill=fill)
    assert rolled.num_rows == 0
    check_schema(rolled)


@pytest.mark.parametrize(("fill", "price"), [(Fill.FLAT, 9.0), (Fill.NULL, None), (Fill.OMIT, None)])
def test_finer_candles_without_any_trade_stay_so(fill: Fill, price: float | None) -> None:
    # no day of ours looks so, but another program's may
    empty = made(SPARSE, fill=Fill.NULL if fill is Fill.NULL else Fill.FLAT, previous_close=9.0).slice(0, 2)
    found = roll_up(empty, DAY, TIMEFRAMES["4h"], fill=fill)
    assert found.column("close").to_pylist() == ([] if fill is Fill.OMIT else [price] * 6)
    assert sum(found.column("trade_count").to_pylist()) == 0
    check_schema(found)


def test_the_schema_is_that_of_the_datasets() -> None:
    found = made(SPARSE)
    assert all(found.schema.equals(candles(name).own_schema) for name in TIMEFRAMES)
    assert {field.name for field in SCHEMA if not field.nullable} == {"timestamp", "close_time"}


def test_the_trades_given_are_not_changed() -> None:
    table = trades(SPARSE)
    before = exactly(table)
    candles_from_trades([table], DAY, ONE, LINEAR)
    assert exactly(table) == before


def test_options_have_no_candle_without_a_trade() -> None:
    assert {kind: Fill.OMIT if kind is InstrumentType.OPTION else Fill.FLAT for kind in InstrumentType} == FILLS
