"""Indicators against spreadsheets that show every step. Where a convention differs, the test names it."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from market_data_pipeline.transforms.technical import Bars, indicators

FIXTURES = Path(__file__).parents[1] / "fixtures" / "indicators"
Reals = npt.NDArray[np.float64]


def sheet(name: str) -> dict[str, Reals]:
    """The columns of a spreadsheet that hold numbers; NaN where a cell is empty."""
    with (FIXTURES / f"cs-{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for column in rows[0]:
        if column and "Date" not in column:
            found[column] = np.array([float(row[column] or "nan") for row in rows])
    return found


def bars(close: Reals, high: Reals | None = None, low: Reals | None = None, volume: Reals | None = None) -> Bars:
    def given(values: Reals | None, otherwise: Reals) -> Reals:
        return otherwise if values is None else values

    stamps = np.arange(len(close), dtype=np.int64) * 86_400_000_000
    return Bars(stamps, given(high, close), given(low, close), close, given(volume, np.zeros(len(close))))


def flat_before(values: Reals, count: int) -> Reals:
    """The values after so many that are like the first."""
    return np.concatenate((np.full(count, values[0]), values))


def assert_equal(found: Reals, told: Reals, places: float, start: int = 0) -> None:
    known = np.flatnonzero(~np.isnan(told[start:])) + start
    assert len(known) > 5
    np.testing.assert_allclose(found[known], told[known], rtol=0, atol=places)


def test_rsi() -> None:
    told = sheet("rsi")
    # The sheet starts Wilder's means at zero, TA-Lib at the mean of the first 14 moves: 14 flat candles before make
    # that mean zero, too.
    found = indicators(bars(flat_before(told["Close"], 14)))["rsi_14"][14:]
    assert_equal(found, told["RSI"], 1e-5)
    plain = indicators(bars(told["Close"]))["rsi_14"]
    assert abs(plain[14] - told["RSI"][14]) > 1
    assert np.isnan(plain[:14]).all()
    assert not np.isnan(plain[14:]).any()


def test_macd() -> None:
    told = sheet("macd")
    # The sheet's means start at the first close, TA-Lib's at means of the first 12 and 26: flat candles before make
    # them alike. The sheet's signal starts at a number of its own, of which nothing is left after a hundred rows.
    before = 60
    found = {name: values[before:] for name, values in indicators(bars(flat_before(told["Close"], before))).items()}
    assert_equal(found["macd"], told["MACD_line"], 1e-8)
    assert abs(found["macd_signal"][2] - told["MACD_signal"][2]) > 0.1
    assert_equal(found["macd_signal"], told["MACD_signal"], 1e-8, start=90)
    assert_equal(found["macd_histogram"], told["MACD_diff"], 1e-8, start=90)


def test_atr() -> None:
    told = sheet("atr")
    high, low, close = told["High"], told["Low"], told["Close"]
    # The sheet takes high - low for the range of the first row and its mean is over rows 1 to 14; TA-Lib begins with
    # the second row, which has a close before it. A candle before that stands inside the first makes them alike.
    before = close[:1]
    found = indicators(bars(*(np.concatenate((before, values)) for values in (close, high, low))))
    ranges = np.where(told["ATR"] == 0, np.nan, told["ATR"])
    assert_equal(found["atr_14"][1:], ranges, 1e-8)


def test_bollinger() -> None:
    told = sheet("bbands")
    found = indicators(bars(told["Close"]))
    assert_equal(found["bollinger_middle_20"], told["MiddleBand"], 1e-6)
    assert_equal(found["sma_20"], told["MiddleBand"], 1e-6)
    # the deviation is that of the population, in both
    assert_equal(found["bollinger_upper_20"], told["HighBand"], 1e-6)
    assert_equal(found["bollinger_lower_20"], told["LowBand"], 1e-6)


def test_cci() -> None:
    told = sheet("cci")
    found = indicators(bars(told["Close"], told["High"], told["Low"]))["cci_20"]
    assert_equal(found, told["CCI"], 2e-2)  # the sheet's prices are cut to four places
    assert np.isnan(found[:19]).all()


def test_mfi() -> None:
    told = sheet("mfi")
    found = indicators(bars(told["Close"], told["High"], told["Low"], told["Volume"]))["mfi_14"]
    assert_equal(found, told["MFI"], 1e-3)
    assert np.isnan(found[:14]).all()


def test_obv() -> None:
    told = sheet("obv")
    volume = np.nan_to_num(told["Volume"])
    # The sheet starts at nothing, TA-Lib at the first candle's volume: here that is nothing, too.
    assert_equal(indicators(bars(told["Close"], volume=volume))["obv"], told["OBV"], 0)
    volume[0] = 700
    assert_equal(indicators(bars(told["Close"], volume=volume))["obv"] - 700, told["OBV"], 0)


@pytest.mark.parametrize("factor", [2.0**-60, 1e-9, 1e9])
def test_the_size_of_prices_and_amounts_changes_nothing(factor: float) -> None:
    told = sheet("mfi")
    close, high, low, volume = told["Close"], told["High"], told["Low"], told["Volume"]
    plain = indicators(bars(close, high, low, volume))
    small = indicators(bars(close * factor, high * factor, low * factor, volume * factor))
    for name, values in plain.items():
        in_price = name.startswith(("sma", "ema", "macd", "bollinger", "atr", "obv"))
        np.testing.assert_allclose(small[name], values * (factor if in_price else 1), rtol=1e-6, atol=0, err_msg=name)
