"""Pictures of a day: the marks stand where the numbers say, and the whole is short enough to be shown at once."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import date, timedelta
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pytest

from market_data_pipeline.model.datasets import DATASETS, TIME, Kind, candles
from market_data_pipeline.model.windows import DAY, microseconds, midnight
from market_data_pipeline.transforms.drawing import Strip, candlesticks, cells, columns, line, svg
from market_data_pipeline.transforms.pictures import DAYS, Picture, heat_map, needed, picture, reach

TODAY = date(2024, 8, 8)
SHOWN_AT_ONCE = 1_000
DRAWN = [each for each in DATASETS.values() if needed(each)]


def reals(*values: float) -> np.ndarray:
    return np.array(values, float)


def test_a_candle_stands_from_its_low_to_its_high_and_is_coloured_by_its_close() -> None:
    wicks, rising, falling = candlesticks(
        Strip(0, 100), reals(10, 20, np.nan), reals(20, 20, np.nan), reals(0, 0, np.nan), reals(15, 5, np.nan)
    )
    assert "d='M16,0v100M48,0v100'" in wicks
    assert "'teal'" in rising
    assert "d='M16,25v25'" in rising
    assert "'crimson'" in falling
    assert "d='M48,0v75'" in falling


def test_a_candle_that_stands_still_is_still_seen() -> None:
    _, rising, falling = candlesticks(Strip(0, 10), *[reals(5)] * 4)
    assert "v1'" in rising
    assert not falling


def test_columns_stand_on_the_bottom_or_hang_from_the_top() -> None:
    assert "d='M0,30V25H24V30H48V20H72V30H96V30'" in columns(Strip(20, 10), reals(1, 0, 2, np.nan), "teal")
    assert "d='M0,20V25H48V30H96V20'" in columns(Strip(20, 10), reals(1, 2), "teal", down=True)
    assert "d='M0,30V29H48V28H96V30'" in columns(Strip(20, 10), reals(1, 2), "teal", most=10)
    assert columns(Strip(0, 10), reals(0, np.nan), "teal") == ""


def test_a_line_is_interrupted_where_nothing_is_known() -> None:
    assert "d='M9,10,28,0M67,5h1'" in line(Strip(0, 10), reals(0, 2, np.nan, 1, np.nan), "teal")
    assert line(Strip(0, 10), reals(np.nan), "teal") == ""
    assert "d='M48,5h1'" in line(Strip(0, 10), reals(3), "teal")


def test_cells_beside_each_other_are_one_mark() -> None:
    assert "d='M0,25h48M72,25h24M24,75h24'" in cells(
        Strip(0, 100), [[True, True, False, True], [False, True, False, False]], "teal"
    )


def rows_of(name: str, seed: int = 1) -> pa.Table:
    """Random rows of a dataset all through the times that its picture shows."""
    draw = np.random.default_rng(seed)
    dataset, count = DATASETS[name], 5_000
    start = microseconds(midnight(TODAY) + DAY - reach(dataset))
    stamps = np.sort(draw.integers(start, microseconds(midnight(TODAY) + DAY), count))
    walk = 60_000 + draw.normal(0, 30, count).cumsum()
    made: dict[str, pa.Array] = {}
    for column in needed(dataset):
        if column == "timestamp":
            made[column] = pa.array(stamps).view(TIME)
        elif column == "side":
            made[column] = pa.array(draw.choice(["buy", "sell"], count)).dictionary_encode()
        elif column in ("high", "low"):
            made[column] = pa.array(walk + (50 if column == "high" else -50))
        elif "price" in column or column in ("open", "close"):
            made[column] = pa.array(walk + (1 if "ask" in column else 0))
        elif column == "timeframe":
            made[column] = pa.array(["1m"] * count)
        elif column == "position":
            made[column] = pa.array(draw.integers(-1, 2, count).astype(np.int8))
        else:
            made[column] = pa.array(draw.random(count))
    return pa.table(made)


def drawing(shown: Picture | None) -> ET.Element:
    assert shown is not None
    address = shown.markdown.partition("data:image/svg+xml,")[2].removesuffix(">)")
    assert not {"<", ">", "\n"} & set(address)
    return ET.fromstring(unquote(address))


@pytest.mark.parametrize("dataset", DRAWN, ids=lambda each: each.name)
def test_a_picture_of_a_full_day_is_shown_where_it_stands(dataset) -> None:
    shown = picture(dataset, TODAY, "binance-futures:Future:BTC-USDT-241227", rows_of(dataset.name))
    paths = drawing(shown).findall("{http://www.w3.org/2000/svg}path")
    assert len(paths) >= 2
    assert len(shown.markdown) < SHOWN_AT_ONCE


@pytest.mark.parametrize("dataset", DRAWN, ids=lambda each: each.name)
def test_without_rows_or_with_nothing_but_nulls_there_is_no_picture(dataset) -> None:
    rows = rows_of(dataset.name)
    assert picture(dataset, TODAY, "x", rows.slice(0, 0)) is None
    nulls = {
        name: rows.column(name) if name in ("timestamp", "side", "timeframe") else pa.nulls(rows.num_rows, pa.float64())
        for name in rows.column_names
    }
    assert picture(dataset, TODAY, "x", pa.table(nulls)) is None


@pytest.mark.parametrize("dataset", DRAWN, ids=lambda each: each.name)
def test_numbers_that_are_none_are_left_out(dataset) -> None:
    rows = rows_of(dataset.name)
    odd = rows
    for number, name in enumerate(rows.column_names):
        if pa.types.is_floating(rows.schema.field(name).type):
            values = rows.column(name).to_numpy().copy()
            values[::7], values[1::7], values[2::7] = np.inf, -np.inf, np.nan
            odd = odd.set_column(number, name, pa.array(values))
    assert drawing(picture(dataset, TODAY, "x", odd)).findall("{http://www.w3.org/2000/svg}path")
    one = picture(dataset, TODAY, "x", rows.slice(0, 1))
    assert one is None or len(one.markdown) < SHOWN_AT_ONCE


def test_trades_are_drawn_as_the_candles_that_are_made_of_them() -> None:
    stamps = [microseconds(midnight(TODAY)) + minute * 60_000_000 for minute in (0, 30, 59, 60, 24 * 60)]
    trades = pa.table(
        {
            "timestamp": pa.array(stamps).view(TIME),
            "price": [10.0, 30.0, 20.0, 20.0, 99.0],
            "amount": [1.0, 2.0, 3.0, 4.0, 99.0],
        }
    )
    bars = pa.table(
        {
            "timestamp": pa.array([stamps[0], stamps[3]]).view(TIME),
            "open": [10.0, 20.0],
            "high": [30.0, 20.0],
            "low": [10.0, 20.0],
            "close": [20.0, 20.0],
            "volume": [6.0, 4.0],
        }
    )
    of_trades = picture(DATASETS["trades"], TODAY, "x", trades)
    assert of_trades == picture(candles("1h"), TODAY, "x", bars)
    assert of_trades.words == "x 10 to 30, volume up to 6"  # the day after is left out


def test_longer_candles_are_drawn_with_those_of_the_days_before() -> None:
    assert reach(candles("1m")) == reach(candles("1h")) == DAY
    assert reach(candles("4h")) == 4 * DAY
    assert reach(candles("1d")) == 24 * DAY
    opens = [microseconds(midnight(TODAY - back * DAY)) for back in (23, 0)]
    bars = pa.table(
        {"timestamp": pa.array(opens).view(TIME)}
        | {name: [1.0, 2.0] for name in ("open", "high", "low", "close", "volume")}
    )
    (wicks, *_) = drawing(picture(candles("1d"), TODAY, "x", bars)).findall("{http://www.w3.org/2000/svg}path")
    assert wicks.get("d") == "M2,68v0M94,2v0"


def test_the_heat_map_has_the_instruments_with_the_most_ticks_in_order_of_their_names() -> None:
    first = TODAY - (DAYS - 1) * DAY
    listed = [(first + number * DAY, name, rows) for number in range(DAYS) for name, rows in (("b", 5), ("a", 0))]
    listed += [(first - DAY, "gone", 9), (TODAY + DAY, "later", 9)]
    shown = heat_map(listed, TODAY)
    unseen, ticks = drawing(shown).findall("{http://www.w3.org/2000/svg}path")
    assert (unseen.get("stroke"), unseen.get("d")) == ("gray", "M0,25.8h96")
    assert (ticks.get("stroke"), ticks.get("d")) == ("teal", "M0,73.2h96")
    assert shown.words.startswith("2 instruments, 31 days")
    assert heat_map([], TODAY) is None
    many = [(TODAY - back * DAY, f"i{number:03}", number) for back in range(0, DAYS, 2) for number in range(300)]
    fitting = heat_map(many, TODAY)
    assert int(fitting.words.split()[0]) < 24
    assert "of 300 instruments" in fitting.words
    assert len(fitting.markdown) < SHOWN_AT_ONCE


@pytest.mark.parametrize("share", [1.0, 0.97, 0.7, 0.5])
def test_a_heat_map_with_gaps_is_shown_at_once_too(share: float) -> None:
    draw = np.random.default_rng(1)
    listed = [
        (TODAY - back * DAY, f"i{number:03}", int(draw.random() < share))
        for back in range(DAYS)
        for number in range(100)
    ]
    shown = heat_map(listed, TODAY)
    assert len(shown.markdown) < SHOWN_AT_ONCE
    assert int(shown.words.split()[0]) >= (4 if share < 0.9 else 15)


def test_of_features_that_hardly_differ_there_is_no_histogram() -> None:
    rows = rows_of("technical_features")
    nearly = np.full(rows.num_rows, 1 / 3)
    nearly[::2] = np.nextafter(1 / 3, 1)
    at = rows.column_names.index("buy_share")
    shown = picture(DATASETS["technical_features"], TODAY, "x", rows.set_column(at, "buy_share", pa.array(nearly)))
    assert "buy_share" not in shown.words
    assert "rsi_14" in shown.words


def test_a_dataset_that_nobody_draws_has_no_picture_and_needs_no_columns() -> None:
    for name in ("trades", "ml_signals"):
        assert needed(replace(DATASETS[name], name="mine")) == ()


def test_a_picture_is_well_formed_whatever_is_left_out() -> None:
    assert len(ET.fromstring(svg(["", "<path/>", ""]))) == 1
    assert timedelta(0) < reach(DATASETS["trades"])
    assert {each.kind for each in DRAWN} == {Kind.TICKS, Kind.CANDLES, Kind.FEATURES}
