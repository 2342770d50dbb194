"""The laws of ticks and candles: each one that is broken is named with its first place; what is lawful breaks none."""

from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest

from market_data_pipeline.model.contracts import LINEAR
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES
from market_data_pipeline.transforms.candles import SCHEMA, Fill, candles_from_trades
from market_data_pipeline.transforms.laws import broken_candle_laws, broken_tick_laws
from market_data_pipeline_tests.transforms.tables import CONTRACTS, DAY, MIDNIGHT, MINUTE, Trade, trades

ONE = TIMEFRAMES["1m"]
ROWS = [
    Trade(MINUTE, "buy", 10.0, 1.0),
    Trade(MINUTE + 1, "sell", 12.0, 2.0),
    Trade(3 * MINUTE, "unknown", 11.0, 3.0),
    Trade(1439 * MINUTE, "buy", 9.0, 0.1),
]
LAWFUL = candles_from_trades([trades(ROWS)], DAY, ONE, LINEAR, previous_close=8.0).slice(0, 6)


def changed(table: pa.Table, row: int, **values: Any) -> pa.Table:
    rows = table.to_pylist()
    rows[row] |= values
    return pa.Table.from_pylist(rows, table.schema)


def moved(row: int, by: timedelta) -> dict[str, Any]:
    return {name: LAWFUL.column(name)[row].as_py() + by for name in ("timestamp", "close_time")}


@pytest.mark.parametrize("timeframe", TIMEFRAMES.values(), ids=TIMEFRAMES.keys())
@pytest.mark.parametrize("fill", Fill)
@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())
def test_our_candles_break_none(timeframe: Any, fill: Fill, contract: Any) -> None:
    made = candles_from_trades([trades(ROWS)], DAY, timeframe, contract, fill=fill)
    assert made.num_rows
    assert broken_candle_laws(made, DAY, timeframe) == []


@pytest.mark.parametrize("rows", [0, 1])
def test_a_short_table_breaks_none(rows: int) -> None:
    assert broken_candle_laws(LAWFUL.slice(0, rows), DAY, ONE) == []
    assert broken_candle_laws(pa.Table.from_batches([], SCHEMA), DAY, ONE) == []


BROKEN = [
    (f"every candle opens inside {DAY}", moved(0, timedelta(minutes=-1)), 0),
    (f"every candle opens inside {DAY}", moved(5, timedelta(days=1)), 5),
    ("every candle opens on the grid of 1m", moved(2, timedelta(seconds=1)), 2),
    ("every candle opens on the grid of 1m", moved(2, timedelta(microseconds=-1)), 2),
    ("close_time is the open plus the timeframe", {"close_time": MIDNIGHT}, 3),
    ("low <= open <= high", {"open": 100.0}, 3),
    ("low <= open <= high", {"open": 1.0}, 3),
    ("low <= open <= high", {"open": float("nan")}, 3),
    ("low <= open <= high", {"open": 100.0, "low": None}, 3),
    ("low <= close <= high", {"close": 100.0}, 1),
    ("low <= close <= high", {"close": 1.0}, 1),
    ("low <= close <= high", {"close": 1.0, "high": None}, 1),
    ("volume >= 0", {"volume": -1.0, "buy_volume": None}, 4),
    ("0 <= buy_volume <= volume", {"buy_volume": -1.0}, 4),
    ("0 <= buy_volume <= volume", {"buy_volume": 3.1}, 3),
    ("trade_count >= 0", {"trade_count": -1}, 2),
    ("times rise", moved(3, timedelta(minutes=-1)), 3),
    ("times rise", moved(3, timedelta(minutes=-2)), 3),
]


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "in chunks"])
@pytest.mark.parametrize(("law", "values", "row"), BROKEN)
def test_a_broken_law_is_named_with_its_first_place(law: str, values: dict[str, Any], row: int, chunked: bool) -> None:
    table = changed(LAWFUL, row, **values)
    if chunked:
        table = pa.concat_tables([table.slice(start, 2) for start in range(0, table.num_rows, 2)])
    place = table.column("timestamp")[row]
    assert broken_candle_laws(table, DAY, ONE) == [f"{law}: broken by 1 of 6 rows, first at {place}"]


def test_all_that_are_broken_are_named_and_counted() -> None:
    table = changed(changed(changed(LAWFUL, 4, volume=-1.0, buy_volume=None), 2, volume=-1.0), 5, trade_count=-1)
    table = changed(table, 2, buy_volume=None)
    assert [text.split(", first")[0] for text in broken_candle_laws(table, DAY, ONE)] == [
        "volume >= 0: broken by 2 of 6 rows",
        "trade_count >= 0: broken by 1 of 6 rows",
    ]
    assert broken_candle_laws(table, DAY, ONE)[0].endswith(str(table.column("timestamp")[2]))


def test_empty_candles_break_none() -> None:
    made = candles_from_trades([trades(ROWS)], DAY, ONE, LINEAR, fill=Fill.NULL)
    assert made.column("close").null_count == made.num_rows - 3
    assert broken_candle_laws(made, DAY, ONE) == []


def test_rounding_of_sums_breaks_none() -> None:
    third = LAWFUL.column("volume")[3].as_py()
    assert broken_candle_laws(changed(LAWFUL, 3, buy_volume=third * (1 + 1e-12)), DAY, ONE) == []
    assert broken_candle_laws(changed(LAWFUL, 3, buy_volume=third * (1 + 1e-6)), DAY, ONE) != []


def test_candles_of_another_timeframe_or_day_break_laws() -> None:
    five = candles_from_trades([trades(ROWS)], DAY, TIMEFRAMES["5m"], LINEAR)
    assert [text.split(":")[0] for text in broken_candle_laws(five, DAY, ONE)] == [
        "close_time is the open plus the timeframe"
    ]
    assert [text.split(":")[0] for text in broken_candle_laws(LAWFUL, date(2024, 8, 9), ONE)] == [
        "every candle opens inside 2024-08-09"
    ]


def test_lawful_ticks_reach_a_day_over_both_edges() -> None:
    table = trades([Trade(at, "buy", 1.0, 1.0) for at in (-1440 * MINUTE, 0, 2880 * MINUTE - 1)])
    assert broken_tick_laws(table, DAY) == []
    assert broken_tick_laws(table.slice(0, 0), DAY) == []


@pytest.mark.parametrize(
    ("law", "trade"),
    [
        (f"every timestamp lies within a day of {DAY}", Trade(-1440 * MINUTE - 1, "buy", 1.0, 1.0)),
        (f"every timestamp lies within a day of {DAY}", Trade(2880 * MINUTE, "buy", 1.0, 1.0)),
        ("price is above zero and finite", Trade(0, "buy", 0.0, 1.0)),
        ("price is above zero and finite", Trade(0, "buy", -1.0, 1.0)),
        ("price is above zero and finite", Trade(0, "buy", float("nan"), 1.0)),
        ("price is above zero and finite", Trade(0, "buy", float("inf"), 1.0)),
        ("amount is above zero and finite", Trade(0, "buy", 1.0, 0.0)),
        ("amount is above zero and finite", Trade(0, "buy", 1.0, -1.0)),
        ("amount is above zero and finite", Trade(0, "buy", 1.0, float("inf"))),
        ("side is one of buy, sell, unknown", Trade(0, "BUY", 1.0, 1.0)),
    ],
)
def test_a_broken_law_of_ticks_is_named_with_its_first_place(law: str, trade: Trade) -> None:
    good = Trade(0, "buy", 1.0, 1.0)
    table = trades([good, good, trade, good, trade])
    place = table.column("timestamp")[2]
    assert broken_tick_laws(table, DAY) == [f"{law}: broken by 2 of 5 rows, first at {place}"]


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "in chunks"])
def test_sides_are_judged_by_the_rows_that_have_them(chunked: bool) -> None:
    known = trades([Trade(0, side, 1.0, 1.0) for side in ("buy", "sell", "unknown", None)])
    assert broken_tick_laws(known, DAY) == []
    table = trades([Trade(0, side, 1.0, 1.0) for side in ("buy", "Sell", "sell", "", "sell")])
    pieces = pa.concat_tables([table.slice(start, 2) for start in (0, 2, 4)]) if chunked else table
    (text,) = broken_tick_laws(pieces, DAY)
    assert text.startswith("side is one of buy, sell, unknown: broken by 2 of 5 rows")
    assert broken_tick_laws(table.slice(4), DAY) == []


def test_a_time_beyond_all_years_is_named_all_the_same() -> None:
    table = trades([Trade(0, "buy", 1.0, 1.0)])
    absurd = table.set_column(0, table.schema.field(0), pa.array([2**62]).cast(table.schema.field(0).type))
    (text,) = broken_tick_laws(absurd, DAY)
    assert text.endswith("broken by 1 of 1 rows, first at 4611686018427387904 microseconds after 1970")


def test_a_number_of_any_tick_is_finite_or_null() -> None:
    rows = [{"timestamp": MIDNIGHT, "funding_rate": rate} for rate in (0.1, None, float("nan"), float("-inf"))]
    (text,) = broken_tick_laws(pa.Table.from_pylist(rows, DATASETS["derivative_ticker"].own_schema), DAY)
    assert text.startswith("funding_rate is finite: broken by 2 of 4 rows")


@pytest.mark.parametrize("name", ["book_snapshot_5", "derivative_ticker", "options_chain"])
def test_ticks_without_a_price_have_only_the_law_of_times(name: str) -> None:
    schema = DATASETS[name].own_schema
    rows = [{"timestamp": MIDNIGHT}, {"timestamp": MIDNIGHT + timedelta(days=3)}]
    (text,) = broken_tick_laws(pa.Table.from_pylist(rows, schema), DAY)
    assert text.startswith(f"every timestamp lies within a day of {DAY}: broken by 1 of 2 rows")
