"""Days that are not there, days that are empty, instruments that the source lacks: told apart, and nothing is lost."""

import gzip
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.lake.records import record_key
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import Pipeline, pipeline
from market_data_pipeline_tests.defs.vendor_days import SYMBOLS, file_of, write_days
from market_data_pipeline_tests.parity import assert_layouts_agree, objects

DAYS = [date(2024, 8, 7), date(2024, 8, 8), date(2024, 8, 9)]
MIDDLE = DAYS[1]
TRADES = DATASETS["trades"]
ASSETS = ["trades", *(f"ohlcv_{t}" for t in TIMEFRAMES), "available_instruments"]
CANDLES = "key:ohlcv_1m+"
BTC, UNKNOWN = "binance:SPOT_PAIR:BTC-USDT", "binance:SPOT_PAIR:NO-USDT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_days(tmp_path / "files", DAYS)
    return tmp_path / "files"


@pytest.fixture
def settings(tmp_path: Path, folder: Path) -> Settings:
    return Settings(lake=str(tmp_path / "lake"), source="files", source_path=folder)


def recorded(running: Pipeline, asset: str) -> set[str]:
    return running.instance.get_materialized_partitions(dg.AssetKey(asset))


def remove(folder: Path, day: date) -> None:
    for symbol in SYMBOLS:
        file_of(folder, *symbol, day).unlink()


def empty(folder: Path, day: date) -> None:
    for symbol in SYMBOLS:
        file_of(folder, *symbol, day).write_bytes(gzip.compress(b""))


def test_a_day_missing_from_a_range_is_named_and_not_recorded_while_the_others_land(
    folder: Path, settings: Settings
) -> None:
    remove(folder, MIDDLE)
    with pipeline(settings) as running:
        outcome = running.run(DAYS[0], DAYS[-1])
        assert outcome.succeeded
        # told once, by what should be there, not by all that would be made from it
        (problem,) = outcome.problems
        assert problem.startswith("trades, every_instrument_read: ")
        assert f"no trades on {MIDDLE}" in problem
        for asset in ASSETS:
            assert recorded(running, asset) == {str(DAYS[0]), str(DAYS[-1])}
    rows = assert_layouts_agree(open_store(settings.lake))
    # the neighbours' files hold a few trades of the missing day: they are no day of their own
    assert rows["ohlcv_1d"] == 2 * len(SYMBOLS)


def test_a_missing_day_keeps_what_the_lake_has(folder: Path, settings: Settings) -> None:
    with pipeline(settings) as running:
        assert running.run(DAYS[0], DAYS[-1]).clean
        before = objects(open_store(settings.lake))
        remove(folder, MIDDLE)
        assert not running.run(DAYS[0], DAYS[-1]).clean
        assert objects(open_store(settings.lake)) == before


def test_a_day_of_empty_files_is_a_day_without_rows(folder: Path, settings: Settings) -> None:
    empty(folder, MIDDLE)
    with pipeline(settings) as running:
        outcome = running.run(MIDDLE)
        assert outcome.clean, outcome.problems
        for asset in ASSETS:
            assert recorded(running, asset) == {str(MIDDLE)}
            assert running.metadata(asset, MIDDLE)["rows"] == 0
        assert running.run(MIDDLE, assets=[CANDLES]).clean
    assert objects(open_store(settings.lake)) == {}


def test_a_day_that_becomes_empty_goes_from_the_lake(folder: Path, settings: Settings) -> None:
    with pipeline(settings) as running:
        assert running.run(DAYS[0], DAYS[-1]).clean
        empty(folder, MIDDLE)
        outcome = running.run(MIDDLE)
        assert outcome.clean, outcome.problems
        assert any(f"ohlcv_1d on {MIDDLE}: gone" in note and BTC in note for note in outcome.notes)
    assert assert_layouts_agree(open_store(settings.lake))["ohlcv_1d"] == 2 * len(SYMBOLS)
    assert MarketDataLake(settings.lake).available_instruments(MIDDLE).num_rows == 0


@pytest.mark.parametrize("asset", ["ohlcv_1m", "ohlcv_5m", "available_instruments"])
def test_what_has_no_input_fails_and_says_what_to_materialize(settings: Settings, asset: str) -> None:
    with pipeline(settings) as running:
        assert running.run(DAYS[0], assets=["trades"]).clean
        # of the next day the lake holds a few trades, in the file of the first
        outcome = running.run(MIDDLE, assets=[asset])
        assert not outcome.succeeded
        assert recorded(running, asset) == set()
    needed = "ohlcv_1m" if asset == "ohlcv_5m" else "trades"
    assert any(asset in problem and f"materialize {needed} first" in problem for problem in outcome.problems)


def test_an_instrument_named_by_its_id_that_the_source_lacks_fails_and_keeps_what_it_had(
    folder: Path, settings: Settings
) -> None:
    with pipeline(settings) as running:
        assert running.run(MIDDLE).clean
    before = objects(open_store(settings.lake))
    file_of(folder, "binance", "BTCUSDT", MIDDLE).unlink()
    asked = Selection.of([BTC, UNKNOWN, "deribit:*"])
    with pipeline(replace(settings, selection=asked)) as running:
        outcome = running.run(MIDDLE)
    assert outcome.succeeded
    for name in (BTC, UNKNOWN):
        assert any(f"no trades of {name} (MARKET_DATA_INSTRUMENTS)" in problem for problem in outcome.problems)
    after = objects(open_store(settings.lake))
    # what is recorded of the map tells for whom it was made
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == {
        record_key(DATASETS["available_instruments"], MIDDLE)
    }


def test_an_instrument_that_has_expired_is_not_missed(folder: Path, settings: Settings) -> None:
    asked = Selection.of([BTC, "deribit:Future:BTC-USD-240628"])
    with pipeline(replace(settings, selection=asked)) as running:
        outcome = running.run(MIDDLE)
    assert outcome.clean, outcome.problems


def test_an_instrument_that_is_not_listed_yet_is_not_missed(tmp_path: Path) -> None:
    # the sample lists it from 2024-06-14 on
    asked = Selection.of([BTC, "deribit:Future:BTC-USD-240927"])
    with pipeline(Settings(lake=str(tmp_path), selection=asked)) as running:
        outcome = running.run("2024-06-12", assets=["trades"])
        assert outcome.clean, outcome.problems
        assert running.metadata("trades", "2024-06-12")["instruments"] == 1
        assert running.run("2024-06-15", assets=["trades"]).clean
        assert running.metadata("trades", "2024-06-15")["instruments"] == 2


def test_what_one_selection_found_empty_says_nothing_of_another(folder: Path, settings: Settings) -> None:
    eth = Selection.of("binance:*:ETH-*")
    file_of(folder, "binance", "ETHUSDT", MIDDLE).write_bytes(gzip.compress(b""))
    with dg.DagsterInstance.ephemeral() as instance:
        filtered = Pipeline(build_definitions(replace(settings, selection=eth)), instance)
        assert filtered.run(MIDDLE, assets=["trades"]).clean
        # of the others nobody has asked
        assert not Pipeline(build_definitions(settings), instance).run(MIDDLE, assets=[CANDLES]).succeeded
        assert filtered.run(MIDDLE, assets=[CANDLES]).clean


def test_an_instrument_that_a_whole_run_found_empty_is_known_to_be(folder: Path, settings: Settings) -> None:
    eth = Selection.of("binance:*:ETH-*")
    file_of(folder, "binance", "ETHUSDT", MIDDLE).write_bytes(gzip.compress(b""))
    with dg.DagsterInstance.ephemeral() as instance:
        assert Pipeline(build_definitions(settings), instance).run(MIDDLE).clean
        before = objects(open_store(settings.lake))
        assert (
            Pipeline(build_definitions(replace(settings, selection=eth)), instance)
            .run(MIDDLE, assets=["ohlcv_1m"])
            .clean
        )
        assert objects(open_store(settings.lake)) == before


def test_candles_wait_for_the_day_after_of_each_venue(folder: Path, settings: Settings) -> None:
    for venue, symbol in SYMBOLS:
        if venue == "deribit":
            file_of(folder, venue, symbol, DAYS[-1]).unlink()
    with pipeline(settings) as running:
        assert running.run(DAYS[0], DAYS[-1]).clean
        assert running.metadata("ohlcv_1m", DAYS[0])["final"] is True
        middle = running.metadata("ohlcv_1m", MIDDLE)
    assert (middle["final"], middle["waiting_for_the_day_after"]) == (False, ["deribit"])


def test_candles_made_before_the_day_after_was_in_are_told_to_be_outdated(settings: Settings) -> None:
    with pipeline(settings) as running:
        assert running.run(MIDDLE).notes == ()
        assert running.run(DAYS[-1]).notes == ()
        # the check alone, on candles that were made before
        job = running.defs.resolve_implicit_global_asset_job_def()
        key = dg.AssetCheckKey(dg.AssetKey("ohlcv_1m"), "volume_kept")
        result = job.get_subset(asset_selection=set(), asset_check_selection={key}).execute_in_process(
            instance=running.instance, partition_key=str(MIDDLE)
        )
        (check,) = result.get_asset_check_evaluations()
        assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert "materialize ohlcv_1m again" in (check.description or "")
        outcome = running.run(MIDDLE, assets=[CANDLES])
        assert (outcome.problems, outcome.succeeded, outcome.notes) == ((), True, ())


def test_what_was_made_from_trades_that_are_lost_stays_and_the_loss_is_told(settings: Settings) -> None:
    with pipeline(settings) as running:
        assert running.run(MIDDLE).clean
        store = open_store(settings.lake)
        before = objects(store)
        gone = [TRADES.path(layout, MIDDLE, Instrument.parse(BTC)) for layout in TRADES.day_layouts]
        for key in gone:
            store.delete(key)
        outcome = running.run(MIDDLE, assets=["ohlcv_1m"])
        told = f"{store.uri_of(gone[0])} is recorded but not there, so no ohlcv_1m can be made from it"
        assert told in outcome.problems[0]
        (failed,) = running.metadata("ohlcv_1m", MIDDLE)["failed_instruments"]
        assert failed["instrument"] == BTC
        assert objects(store) == {key: each for key, each in before.items() if key not in gone}
        # once the source no longer has them either, they are no loss
        file_of(Path(settings.source_path or ""), "binance", "BTCUSDT", MIDDLE).unlink()
        assert running.run(MIDDLE).clean
    assert assert_layouts_agree(store)["ohlcv_1d"] == len(SYMBOLS) - 1
