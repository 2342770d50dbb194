"""What is odd is a warning; what the setting names stops what is made from it, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.settings import Settings
from market_data_pipeline.transforms.quality import Flaw, Thresholds
from market_data_pipeline_tests.defs.running import SmallSource, pipeline

BTC, ETH = Instrument.spot("binance", "BTC", "USDT"), Instrument.spot("binance", "ETH", "USDT")
BAD, GOOD = date(2024, 8, 8), date(2024, 8, 9)
BLOCKING = frozenset({Flaw.DUPLICATE_IDS})


@dataclass
class Twice(SmallSource):
    """Each trade of ETH comes twice on BAD."""

    data_types: tuple[str, ...] = ("trades", "liquidations")

    def _read(self, day: date, instrument: Instrument, rejects: Rejects) -> Iterator[pa.RecordBatch]:
        for batch in super()._read(day, instrument, rejects):
            yield batch
            if (day, instrument) == (BAD, ETH):
                yield batch


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=str(tmp_path / "lake"))


@pytest.fixture
def source() -> Twice:
    return Twice((BTC, ETH))


def candle_days(settings: Settings) -> set[date]:
    table = MarketDataLake(settings.lake).candles(None, "1m", "2024-08-07", "2024-08-12", columns=["date"])
    return set(table.column("date").to_pylist())


def test_what_is_odd_is_a_warning_that_names_instrument_day_and_remedy(settings: Settings, source: Twice) -> None:
    with pipeline(settings, source) as running:
        outcome = running.run(BAD)
    assert outcome.clean, outcome.problems
    (note,) = [note for note in outcome.notes if note.startswith("trades, quality")]
    assert note.startswith(f"trades, quality: {ETH} on {BAD}: duplicate_ids: 40 rows of 80 repeat a trade id, first at")
    assert "(MARKET_DATA_QUALITY_DUPLICATE_IDS=0); fetch the day again" in note
    assert candle_days(settings) == {BAD}


def test_a_threshold_silences_it(settings: Settings, source: Twice) -> None:
    with pipeline(replace(settings, thresholds=Thresholds(duplicate_ids=40)), source) as running:
        assert not [note for note in running.run(BAD).notes if "duplicate_ids" in note]


def test_what_blocks_stops_the_candles_of_its_day_and_nothing_else(settings: Settings, source: Twice) -> None:
    with pipeline(replace(settings, blocking=BLOCKING), source) as running:
        outcome = running.run(BAD)
        assert not outcome.succeeded
        assert "trades_quality: stops what is made from it (MARKET_DATA_QUALITY_BLOCKING)" in outcome.problems
        assert any(f"{ETH} on {BAD}: duplicate_ids" in problem for problem in outcome.problems)
        assert candle_days(settings) == set()
        for made in ("trades", "liquidations"):
            assert running.metadata(made, BAD)["rows"]
        assert running.run(GOOD).clean
        assert candle_days(settings) == {GOOD}


def test_on_a_range_one_day_that_blocks_holds_back_the_run(settings: Settings, source: Twice) -> None:
    with pipeline(replace(settings, blocking=BLOCKING), source) as running:
        outcome = running.run(BAD, GOOD)
        assert not outcome.succeeded
        assert candle_days(settings) == set()
        assert running.metadata("trades", GOOD)["rows"]
        # the trades are there: the good day needs no fetching
        assert running.run(GOOD, assets=["ohlcv_1m"]).clean
        assert candle_days(settings) == {GOOD}


def test_what_is_odd_but_not_named_does_not_block(settings: Settings, source: Twice) -> None:
    with pipeline(replace(settings, blocking=frozenset({Flaw.GAPS})), source) as running:
        assert running.run(BAD).clean
    assert candle_days(settings) == {BAD}


def test_one_check_for_each_dataset(settings: Settings, source: Twice) -> None:
    with pipeline(settings, source) as running:
        keys = [key for key in running.defs.resolve_asset_graph().asset_check_keys if key.name == "quality"]
    assert {key.asset_key.to_user_string() for key in keys} == {"trades", "liquidations", "ohlcv_1m"}


def test_thresholds_and_what_blocks_come_from_the_settings(tmp_path: Path) -> None:
    values = {"MARKET_DATA_QUALITY_GAP_MINUTES": "2.5", "MARKET_DATA_QUALITY_BLOCKING": "gaps, crossed_books"}
    loaded = Settings.load(values, tmp_path)
    assert loaded.thresholds == Thresholds(gap_minutes=2.5)
    assert loaded.blocking == {Flaw.GAPS, Flaw.CROSSED_BOOKS}
    assert Settings.load({}, tmp_path) == replace(loaded, thresholds=Thresholds(), blocking=frozenset())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MARKET_DATA_QUALITY_GAP_MINUTES", "-1", "MARKET_DATA_QUALITY_GAP_MINUTES is '-1'.*minutes without a tick"),
        ("MARKET_DATA_QUALITY_JUMP", "2%", "MARKET_DATA_QUALITY_JUMP is '2%'; expected a number"),
        (
            "MARKET_DATA_QUALITY_JUMP",
            "2",
            r"JUMP is '2'; expected a number, from 0 to 1 \(0.02 is 2 %\): fraction by",
        ),
        ("MARKET_DATA_QUALITY_CROSSED_SHARE", "5", "CROSSED_SHARE is '5'; expected a number, from 0 to 1"),
        ("MARKET_DATA_QUALITY_ONE_SIDED_SHARE", "1.01", "ONE_SIDED_SHARE is '1.01'; expected a number, from 0 to 1"),
        ("MARKET_DATA_QUALITY_BLOCKING", "gaps,holes", "'holes' is none of duplicate_ids, missing_ids"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, name: str, value: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Settings.load({name: value}, tmp_path)
