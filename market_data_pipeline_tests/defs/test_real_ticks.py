"""Real ticks through the `files` source, Dagster and the reader, against candles that others made of them."""

import csv
import gzip
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.model.instruments import InstrumentType
from market_data_pipeline.model.windows import DAY
from market_data_pipeline.settings import Settings
from market_data_pipeline.transforms.candles import Fill
from market_data_pipeline_tests.defs.running import pipeline

FIXTURES = Path(__file__).parents[1] / "fixtures"
BTC = "binance-futures:Perp:BTC-USDT"


def klines() -> list[dict[str, float]]:
    """Binance's own 1m klines of 2024-08-08 23:55 to 23:59: the five minutes that the ticks cover whole."""
    names = ["open_time", "open", "high", "low", "close", "volume", "close_time", "quote", "count"]
    names += ["buy_volume", "buy_quote", "ignore"]
    with (FIXTURES / "candles" / "binance-futures_klines_1m_2024-08-08_BTCUSDT.csv").open(newline="") as file:
        rows = [dict(zip(names, map(float, row), strict=True)) for row in csv.reader(file)]
    return [row for row in rows if 1723161300000 <= row["open_time"] < 1723161600000]


@pytest.mark.parametrize("vendor", ["tardis", "binance"])
def test_complete_minutes_equal_the_exchanges_klines_in_all_nine_fields(tmp_path: Path, vendor: str) -> None:
    folder = tmp_path / "files"
    shutil.copytree(FIXTURES / vendor, folder)
    settings = Settings(lake=str(tmp_path / "lake"), source="files", source_path=folder)
    with pipeline(settings) as running:
        outcome = running.run("2024-08-08")
    assert outcome.clean, outcome.problems
    lake = MarketDataLake(tmp_path / "lake")
    candles = lake.candles(BTC, "1m", "2024-08-08T23:55", "2024-08-09").to_pylist()
    truth = klines()
    assert len(candles) == len(truth) == 5
    for candle, kline in zip(candles, truth, strict=True):
        assert candle["timestamp"].timestamp() * 1000 == kline["open_time"]
        assert (candle["open"], candle["high"], candle["low"], candle["close"]) == (
            kline["open"], kline["high"], kline["low"], kline["close"],
        )  # fmt: skip
        assert candle["trade_count"] == kline["count"]
        # the exchange prints three decimals of the base and five of the quote asset
        assert round(candle["volume"], 3) == kline["volume"]
        assert round(candle["buy_volume"], 3) == kline["buy_volume"]
        assert round(candle["quote_volume"], 5) == pytest.approx(kline["quote"], abs=1.1e-5)
        assert round(candle["buy_quote_volume"], 5) == pytest.approx(kline["buy_quote"], abs=1.1e-5)
    five = lake.candles(BTC, "5m", "2024-08-08T23:55", "2024-08-09").to_pylist()[0]
    assert [five[name] for name in ("open", "high", "low", "close")] == [61807.7, 61839.9, 61590.3, 61659.8]
    assert round(five["volume"], 3) == 2303.399
    assert five["trade_count"] == 19_562


def test_every_candle_of_three_days_equals_another_programs(tmp_path: Path) -> None:
    """12,477 real trades as the archive's daily files; the other program leaves empty minutes out."""
    trades = pq.read_table(FIXTURES / "candles" / "binance_trades_2019-10-11_2019-10-13_XRPETH.parquet").to_pylist()
    folder = tmp_path / "files" / "spot"
    folder.mkdir(parents=True)
    days = sorted({trade["timestamp"].date() for trade in trades})
    for day in days:
        lines = [
            f"{trade['id']},{trade['price']!r},{trade['amount']!r},{trade['price'] * trade['amount']!r},"
            f"{int(trade['timestamp'].timestamp() * 1000)},{trade['side'] == 'sell'},True\n"
            for trade in trades
            if trade["timestamp"].date() == day
        ]
        with gzip.open(folder / f"XRPETH-trades-{day}.csv.gz", "wt") as file:
            file.writelines(lines)
    settings = Settings(
        lake=str(tmp_path / "lake"),
        source="files",
        source_path=folder.parent,
        fills=dict.fromkeys(InstrumentType, Fill.OMIT),
    )
    with pipeline(settings) as running:
        outcome = running.run(days[0], days[-1])
    assert outcome.clean, outcome.problems
    lake = MarketDataLake(tmp_path / "lake")
    for timeframe in ("1m", "5m"):
        theirs = pq.read_table(FIXTURES / "candles" / f"binance_ohlcv_{timeframe}_2019-10-11_2019-10-13_XRPETH.parquet")
        names = ["timestamp", "open", "high", "low", "close", "volume"]
        ours = lake.candles("binance:SPOT_PAIR:XRP-ETH", timeframe, days[0], days[-1] + DAY, columns=names)
        assert ours.num_rows == theirs.num_rows
        for mine, other in zip(ours.to_pylist(), theirs.select(names).to_pylist(), strict=True):
            assert mine.pop("volume") == pytest.approx(other.pop("volume"), rel=1e-12)
            assert mine == other
