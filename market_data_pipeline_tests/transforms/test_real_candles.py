"""Candles of real trades against what exchanges and other programs made of them; the fixtures' README names each."""

import csv
import gzip
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.model.contracts import LINEAR
from market_data_pipeline.model.datasets import TEXT, TIME, TIMEFRAMES
from market_data_pipeline.model.windows import DAY, midnight
from market_data_pipeline.transforms.candles import SCHEMA, TRADE_COLUMNS, Fill, candles_from_trades, roll_up
from market_data_pipeline.transforms.laws import broken_candle_laws
from market_data_pipeline_tests.transforms.tables import Trade, check_schema, differences, trades

FIXTURES = Path(__file__).parent.parent / "fixtures"
PRICES = ("open", "high", "low", "close")
ONE, FIVE = TIMEFRAMES["1m"], TIMEFRAMES["5m"]


@pytest.fixture(scope="module")
def perpetual() -> pa.Table:
    """Trades of BTCUSDT on Binance's futures on 2024-08-08, 23:54:16 to the end of the day, in order of time."""
    rows = pyarrow.csv.read_csv(FIXTURES / "tardis/binance-futures_trades_2024-08-08_BTCUSDT.csv.gz")
    table = pa.table(
        {
            "timestamp": rows["timestamp"].cast(TIME),
            "side": rows["side"].cast(TEXT),
            "price": rows["price"].cast(pa.float64()),
            "amount": rows["amount"].cast(pa.float64()),
        }
    )
    assert table.num_rows == 21_313
    return table.take(pc.sort_indices(table, [("timestamp", "ascending")]))


def klines() -> dict[datetime, list[str]]:
    """Binance's own klines by their open: open, high, low, close, volume, quote volume, count, taker buys' volumes."""
    with (FIXTURES / "candles/binance-futures_klines_1m_2024-08-08_BTCUSDT.csv").open(newline="") as file:
        return {
            datetime.fromtimestamp(int(row[0]) / 1000, UTC): [*row[1:6], row[7], row[8], row[9], row[10]]
            for row in csv.reader(file)
        }


def as_written(row: dict[str, Any], like: Sequence[str]) -> list[str]:
    """A candle's nine values with as many decimals as the exchange writes."""
    names = (*PRICES, "volume", "quote_volume", "trade_count", "buy_volume", "buy_quote_volume")
    return [
        f"{row[name]:.{len(text.partition('.')[2])}f}" if "." in text else str(row[name])
        for name, text in zip(names, like, strict=True)
    ]


def test_five_minutes_are_the_exchanges_own_klines(perpetual: pa.Table) -> None:
    parts = [perpetual.slice(start, 1000) for start in range(0, perpetual.num_rows, 1000)]
    made = {row["timestamp"]: row for row in candles_from_trades(parts, date(2024, 8, 8), ONE, LINEAR).to_pylist()}
    complete = [datetime(2024, 8, 8, 23, minute, tzinfo=UTC) for minute in range(55, 60)]
    told = klines()
    assert {open_: as_written(made[open_], told[open_]) for open_ in complete} == {
        open_: told[open_] for open_ in complete
    }


def test_five_minutes_make_one_candle(perpetual: pa.Table) -> None:
    day = date(2024, 8, 8)
    rolled = roll_up(candles_from_trades([perpetual], day, ONE, LINEAR), day, FIVE)
    direct = candles_from_trades([perpetual], day, FIVE, LINEAR)
    for made in (rolled, direct):
        last = made.to_pylist()[-1]
        assert last["timestamp"] == datetime(2024, 8, 8, 23, 55, tzinfo=UTC)
        assert [last[name] for name in PRICES] == [61807.7, 61839.9, 61590.3, 61659.8]
        assert round(last["volume"], 3) == 2303.399
        assert last["trade_count"] == 19_562
        assert last["low"] < last["vwap"] < last["high"]


SPOT_DAYS = [date(2019, 10, 11), date(2019, 10, 12), date(2019, 10, 13)]


@pytest.fixture(scope="module")
def spot() -> pa.Table:
    """Trades of XRPETH on Binance, 2019-10-11 to 2019-10-13."""
    table = pq.read_table(FIXTURES / "candles/binance_trades_2019-10-11_2019-10-13_XRPETH.parquet")
    assert table.num_rows == 12_477
    return table.set_column(2, "side", table["side"].cast(TEXT)).select(TRADE_COLUMNS)


def on(table: pa.Table, day: date) -> pa.Table:
    stamps = table["timestamp"]
    start, end = (pa.scalar(midnight(each), TIME) for each in (day, day + DAY))
    return table.filter(pc.and_(pc.greater_equal(stamps, start), pc.less(stamps, end)))


@pytest.mark.parametrize(("name", "count", "rolled"), [("1m", 2469, False), ("5m", 706, False), ("5m", 706, True)])
def test_every_candle_of_another_program(spot: pa.Table, name: str, count: int, rolled: bool) -> None:
    told = pq.read_table(FIXTURES / f"candles/binance_ohlcv_{name}_2019-10-11_2019-10-13_XRPETH.parquet")
    first = ONE if rolled else TIMEFRAMES[name]
    days = [candles_from_trades([on(spot, day)], day, first, LINEAR, fill=Fill.OMIT) for day in SPOT_DAYS]
    if rolled:
        days = [roll_up(made, day, TIMEFRAMES[name], fill=Fill.OMIT) for day, made in zip(SPOT_DAYS, days, strict=True)]
    made = pa.concat_tables(days)
    assert made.num_rows == told.num_rows == count
    columns = ["timestamp", *PRICES, "volume"]
    assert differences(made.select(columns).to_pylist(), told.select(columns).to_pylist()) == []
    assert sum(made["trade_count"].to_pylist()) == spot.num_rows


def lines(name: str) -> Iterator[list[str]]:
    with gzip.open(FIXTURES / "candles" / name, "rt", newline="") as file:
        yield from csv.reader(file)


def bars(name: str, day: date, length: timedelta) -> pa.Table:
    """Lean's bars (milliseconds since midnight, prices, volume) as candles of which no more is known."""
    rows = [
        {
            "timestamp": (opened := midnight(day) + timedelta(milliseconds=int(offset))),
            "close_time": opened + length,
            **dict(zip(PRICES, map(float, prices), strict=True)),
            "volume": float(volume),
            "trade_count": 1,
            "volume_unit": "base",
        }
        for offset, *prices, volume in lines(name)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def in_short(table: pa.Table) -> list[tuple[Any, ...]]:
    """Open time, prices and volume of some candles, the volume to 1e-8 as it is traded."""
    return [(row["timestamp"], *(row[name] for name in PRICES), round(row["volume"], 8)) for row in table.to_pylist()]


def test_seconds_make_the_minutes_of_another_program() -> None:
    day = date(2016, 10, 8)
    seconds = bars("coinbase_second_2016-10-08_BTCUSD.csv.gz", day, timedelta(seconds=1))
    minutes = bars("coinbase_minute_2016-10-08_BTCUSD.csv.gz", day, ONE.length)
    made = roll_up(seconds, day, ONE, fill=Fill.OMIT)
    assert made.num_rows == 1400
    assert differences(in_short(made), in_short(minutes)) == []
    assert sum(made["trade_count"].to_pylist()) == seconds.num_rows
    assert made["quote_volume"].null_count == made.num_rows


@pytest.mark.parametrize(
    ("day", "count", "daily"),
    [
        (date(2016, 10, 8), 1400, (618.11, 620, 617.55, 619.5, 2793.95535361)),
        # a hole of seven hours
        (date(2018, 4, 4), 1007, (7424.91, 7424.91, 6766.5, 6894.01, 9190.96476367)),
    ],
)
def test_minutes_make_the_day_of_another_program(day: date, count: int, daily: tuple[float, ...]) -> None:
    table = bars(f"coinbase_minute_{day}_BTCUSD.csv.gz", day, ONE.length)
    assert table.num_rows == count
    for timeframe in list(TIMEFRAMES.values())[1:]:
        table = roll_up(table, day, timeframe, fill=Fill.OMIT)
        check_schema(table)
    assert in_short(table) == [(midnight(day), *daily)]
    assert table["trade_count"].to_pylist() == [count]


def four_trades(offset: int, prices: Iterable[float], volume: float) -> list[Trade]:
    """The least that a candle can come from: its four prices in a lawful order, one of them with all the volume."""
    opened, high, low, close = prices
    amounts = (volume, 0.0, 0.0, 0.0)
    return [
        Trade(offset + index, "buy", price, amount)
        for index, (price, amount) in enumerate(zip((opened, high, low, close), amounts, strict=True))
    ]


def test_empty_minutes_are_flat_as_an_exchange_fills_them() -> None:
    day = date(2020, 1, 1)
    told = [[*map(float, row[1:])] for row in list(lines("bitstamp_ohlcv_1m_2020-01-01_BTCUSD.csv.gz"))[1:]]
    flat = [minute for minute, row in enumerate(told) if row[4] == 0]
    assert (len(told), len(flat)) == (1440, 45)
    rows = [
        trade
        for minute, (*prices, volume) in enumerate(told)
        if volume
        for trade in four_trades(minute * ONE.microseconds, prices, volume)
    ]
    table = trades(rows)
    moved = pc.add(table["timestamp"], pa.scalar(day - date(2024, 8, 8)))
    table = table.set_column(0, table.schema.field(0), moved)
    made = candles_from_trades([table], day, ONE, LINEAR)
    columns = [*PRICES, "volume"]
    found = [list(row.values()) for row in made.select(columns).to_pylist()]
    assert differences(found, told) == []
    assert [minute for minute, count in enumerate(made["trade_count"].to_pylist()) if not count] == flat
    assert broken_candle_laws(made, day, ONE) == []
    omitted = candles_from_trades([table], day, ONE, LINEAR, fill=Fill.OMIT)
    assert omitted.num_rows == 1440 - 45
