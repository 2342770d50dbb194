"""Days through Dagster: layouts agree, and a run replaces exactly what it was asked for and could read."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import TIMEFRAMES
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import Pipeline, pipeline, pipeline_that_ran
from market_data_pipeline_tests.defs.vendor_days import HEADER, SYMBOLS, file_of, settings_of, write
from market_data_pipeline_tests.parity import assert_layouts_agree, objects

DAYS = [date(2024, 8, 7), date(2024, 8, 8), date(2024, 8, 9)]
MIDDLE = DAYS[1]
GONE = ("binance", "ETHUSDT")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path, DAYS)


@pytest.fixture
def running(settings: Settings) -> Iterator[Pipeline]:
    with pipeline_that_ran(settings, DAYS) as running:
        yield running


def held(settings: Settings, dataset: str = "ohlcv_1m") -> dict[date, set[str]]:
    """Which instruments have rows, by day."""
    table = MarketDataLake(settings.lake).coverage(dataset, DAYS[0], DAYS[-1].replace(day=10))
    found: dict[date, set[str]] = {day: set() for day in DAYS}
    for row in table.to_pylist():
        if row["rows"]:
            found[row["date"]].add(row["instrument_id"])
    return found


def test_every_layout_of_every_dataset_holds_the_same_rows(settings: Settings, running: Pipeline) -> None:
    rows = assert_layouts_agree(open_store(settings.lake))
    assert rows["trades"] == 60 * len(SYMBOLS) * len(DAYS)
    assert rows["available_instruments"] == len(SYMBOLS) * len(DAYS)
    assert set(rows) == {
        "trades",
        "available_instruments",
        "technical_features",
        "fundamental_features",
        "ml_signals",
        *(f"ohlcv_{t}" for t in TIMEFRAMES),
    }


def test_a_partition_of_features_tells_what_its_look_backs_lacked(settings: Settings, running: Pipeline) -> None:
    told = running.metadata("technical_features", MIDDLE)
    by_timeframe = told["look_back_candles_missing_by_timeframe"]
    assert told["look_back_candles_missing"] == sum(by_timeframe.values())
    assert told["instruments_without_a_full_look_back"] == told["instruments"] == len(SYMBOLS)
    # one day of 299 lies before this one
    assert by_timeframe["1d"] == 298 * len(SYMBOLS)
    found = MarketDataLake(settings.lake).features(None, "technical_features", MIDDLE, DAYS[-1], timeframe="1d")
    assert found.column("simple_return").null_count == 0
    assert found.column("sma_10").null_count == found.num_rows == len(SYMBOLS)


def test_a_second_run_writes_nothing(settings: Settings, running: Pipeline) -> None:
    before = objects(open_store(settings.lake))
    outcome = running.run(DAYS[0], DAYS[-1])
    assert outcome.clean
    assert objects(open_store(settings.lake)) == before
    for asset in (
        "trades",
        "ohlcv_1m",
        "ohlcv_1d",
        "technical_features",
        "fundamental_features",
        "available_instruments",
    ):
        assert running.metadata(asset, MIDDLE)["bytes_written"] == 0


def test_an_instrument_whose_file_is_gone_goes_from_every_layout(
    tmp_path: Path, settings: Settings, running: Pipeline
) -> None:
    file_of(tmp_path / "files", *GONE, MIDDLE).unlink()
    before = held(settings)
    outcome = running.run(MIDDLE)
    assert outcome.clean, outcome.problems
    rows = assert_layouts_agree(open_store(settings.lake))
    assert rows["trades"] == 60 * (len(SYMBOLS) * len(DAYS) - 1)
    # its ticks of the days beside reach into this day: they make no day of their own
    for frame in TIMEFRAMES:
        assert held(settings, f"ohlcv_{frame}") == before | {MIDDLE: before[MIDDLE] - {SYMBOLS[GONE]}}
    assert SYMBOLS[GONE] not in MarketDataLake(settings.lake).available_instruments(MIDDLE)["instrument_id"].to_pylist()
    for asset in ("trades", "ohlcv_1m", "ohlcv_1d"):
        assert running.metadata(asset, MIDDLE)["removed_instruments"] == [SYMBOLS[GONE]]


def test_an_instrument_that_goes_on_all_days_leaves_no_file(
    tmp_path: Path, settings: Settings, running: Pipeline
) -> None:
    for day in DAYS:
        file_of(tmp_path / "files", *GONE, day).unlink()
    assert running.run(DAYS[0], DAYS[-1]).clean
    assert_layouts_agree(open_store(settings.lake))
    assert not [key for key in objects(open_store(settings.lake)) if "ETH-USDT" in key or "ethusdt" in key]


def test_an_instrument_whose_file_is_broken_keeps_what_it_had(
    tmp_path: Path, settings: Settings, running: Pipeline
) -> None:
    path = file_of(tmp_path / "files", *GONE, MIDDLE)
    path.write_bytes(path.read_bytes()[:-20])
    before = objects(open_store(settings.lake))
    outcome = running.run(MIDDLE)
    assert outcome.succeeded
    assert not outcome.clean
    assert any(path.name in problem and SYMBOLS[GONE] in problem for problem in outcome.problems)
    assert objects(open_store(settings.lake)) == before
    (failed,) = running.metadata("trades", MIDDLE)["failed_instruments"]
    assert failed["instrument"] == SYMBOLS[GONE]
    assert path.name in failed["problem"]


def test_instruments_outside_the_filter_keep_what_they_had(
    tmp_path: Path, settings: Settings, running: Pipeline
) -> None:
    # everything changes in the source, but only one venue is asked for
    for venue, symbol in SYMBOLS:
        write(
            file_of(tmp_path / "files", venue, symbol, MIDDLE),
            HEADER + f"{venue},{symbol},1723118400000000,1723118400002000,1,buy,7,70\n",
        )
    before = objects(open_store(settings.lake))
    with pipeline(replace(settings, selection=Selection.of("deribit:*"))) as filtered:
        outcome = filtered.run(MIDDLE)
    assert outcome.clean, outcome.problems
    after = objects(open_store(settings.lake))
    assert_layouts_agree(open_store(settings.lake))
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert any("deribit" in key for key in changed)
    assert not [key for key in changed if "/venue-binance/" in key or "binance:" in key]
    candles = MarketDataLake(settings.lake).candles(None, "1d", MIDDLE, DAYS[-1]).to_pylist()
    # the file has one trade; a few of the neighbours' lie in this day, too
    assert {row["instrument_id"]: row["trade_count"] < 10 for row in candles} == {
        name: venue == "deribit" for (venue, _), name in SYMBOLS.items()
    }
    listed = MarketDataLake(settings.lake).available_instruments(MIDDLE)
    assert sorted(listed.column("instrument_id").to_pylist()) == sorted(SYMBOLS.values())


def test_a_file_that_cannot_be_told_apart_removes_nothing(
    tmp_path: Path, settings: Settings, running: Pipeline
) -> None:
    path = file_of(tmp_path / "files", *GONE, MIDDLE)
    path.rename(path.with_name(path.name.replace("ETHUSDT", "WHAT_IS_THIS")))
    before = objects(open_store(settings.lake))
    outcome = running.run(MIDDLE)
    assert any("WHAT_IS_THIS" in problem and "instruments.csv" in problem for problem in outcome.problems)
    assert objects(open_store(settings.lake)) == before
