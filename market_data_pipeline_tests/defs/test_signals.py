"""Signals through Dagster on the sample: from the first day without a model to a model card that the UI plots."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.defs.model_cards import model_card
from market_data_pipeline.lake.signals import ModelCard
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.settings import Settings
from market_data_pipeline.transforms.scores import score_of
from market_data_pipeline.transforms.signals import Recipe
from market_data_pipeline_tests.defs.running import Pipeline, pipeline
from market_data_pipeline_tests.parity import assert_layouts_agree, objects

DAYS = ("2024-08-05", "2024-08-08")
PAIR = "binance:SPOT_PAIR:ETH-USDT"
ABOVE = ["trades", *(f"ohlcv_{name}" for name in TIMEFRAMES), "technical_features"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        lake=str(tmp_path_factory.mktemp("lake")),
        selection=Selection.of(PAIR),
        signals=Recipe(training_days=3, least_rows=100),
    )


@pytest.fixture(scope="module")
def running(settings: Settings) -> Iterator[Pipeline]:
    with pipeline(settings) as running:
        outcome = running.run(*DAYS, assets=[*ABOVE, "ml_signals", "available_instruments"])
        assert outcome.clean, outcome.problems
        yield running


def test_every_layout_holds_a_signal_for_each_candle(settings: Settings, running: Pipeline) -> None:
    assert assert_layouts_agree(open_store(settings.lake))["ml_signals"] == 4 * 96
    found = MarketDataLake(settings.lake).features(None, "ml_signals", *DAYS, timeframe="15m")
    candles = MarketDataLake(settings.lake).candles(None, "15m", *DAYS)
    assert found.column("timestamp").equals(candles.column("timestamp"))


def test_the_first_day_has_too_little_history_and_is_green_and_says_so(settings: Settings, running: Pipeline) -> None:
    told = running.metadata("ml_signals", DAYS[0])
    assert (told["models_trained"], told["instruments_without_a_model"], told["rows"]) == (0, 1, 96)
    assert told["without_a_model_because"] == {PAIR: "0 labelled candles with their inputs; 100 are needed"}
    assert "hit_rate" not in told
    rows = MarketDataLake(settings.lake).features(PAIR, "ml_signals", DAYS[0], "2024-08-06")
    assert rows.column("probability").null_count == rows.num_rows == 96
    assert set(rows.column("train_rows").to_pylist()) == {0}


def test_the_last_day_has_a_model_card_with_numbers_to_plot(settings: Settings, running: Pipeline) -> None:
    told = running.metadata("ml_signals", DAYS[-1])
    assert (told["models_trained"], told["instruments_without_a_model"]) == (1, 0)
    numbers = ("hit_rate", "hit_rate_low", "hit_rate_high", "base_hit_rate", "brier", "base_brier", "turnover")
    assert all(isinstance(told[name], float) for name in numbers)
    assert told["hit_rate_low"] <= told["hit_rate"] <= told["hit_rate_high"]
    assert told["candles_long"] + told["candles_flat"] + told["candles_short"] == 96
    assert "| probability | candles | mean forecast | went up |" in told["model_card"]
    assert "No promise of profit" in told["model_card"]
    positions = (
        MarketDataLake(settings.lake).features(PAIR, "ml_signals", DAYS[-1], "2024-08-09")["position"].to_pylist()
    )
    changes = [abs(one - other) for one, other in pairwise(positions)]
    assert told["turnover"] == pytest.approx(sum(changes) / len(changes))


def test_a_second_run_writes_nothing(settings: Settings, running: Pipeline) -> None:
    before = objects(open_store(settings.lake))
    assert running.run(*DAYS, assets=["ml_signals"]).clean
    assert running.metadata("ml_signals", DAYS[-1])["bytes_written"] == 0
    assert objects(open_store(settings.lake)) == before


def test_signals_without_features_say_what_to_materialize_first(tmp_path: Path) -> None:
    with pipeline(Settings(lake=str(tmp_path))) as running:
        outcome = running.run(DAYS[0], assets=["ml_signals"])
    assert not outcome.succeeded
    assert any("materialize technical_features first" in problem for problem in outcome.problems)


def test_a_card_of_nothing_has_no_rates() -> None:
    assert model_card(ModelCard()) == {
        "models_trained": 0,
        "instruments_without_a_model": 0,
        "instruments_without_all_training_days": 0,
        "instruments_lacking_fundamental_features_today": 0,
        "instruments_lacking_fundamental_features_in_training": 0,
        "inputs_missing_all_day": 0,
    }


def card_of(scored: int, **fields: Any) -> ModelCard:
    score = score_of(np.array([0.4, 0.6]), np.array([False, True]), 0.5, 2)
    return ModelCard(scores={str(number): score for number in range(scored)}, **fields)


def page_of(card: ModelCard) -> str:
    page = model_card(card)["model_card"]
    assert isinstance(page, dg.MarkdownMetadataValue)
    return page.value


def test_a_card_tells_what_models_had_to_do_without() -> None:
    card = card_of(2, models=2, lacking_today=1, missing_inputs=Counter({"funding_rate": 2, "basis": 1}))
    told = model_card(card)
    assert told["instruments_lacking_fundamental_features_today"] == 1
    assert told["inputs_missing_all_day"] == 2
    names = told["instruments_by_input_missing_all_day"]
    assert isinstance(names, dg.JsonMetadataValue)
    assert names.data == {"basis": 1, "funding_rate": 2}
    assert "null all through the day: basis, funding_rate." in page_of(card)
    assert "missing" not in page_of(card_of(2, models=2))


def test_a_card_says_how_many_of_the_models_were_scored() -> None:
    assert "2 of 3 models could be scored" in page_of(card_of(2, models=3))


def test_signals_follow_from_the_features_and_the_candles_of_their_timeframe() -> None:
    from market_data_pipeline.defs.build import build_definitions

    defs = build_definitions(Settings(signals=Recipe(timeframe=TIMEFRAMES["1h"])))
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    above = {dep.asset_key.to_user_string() for dep in specs["ml_signals"].deps}
    assert {"technical_features", "ohlcv_1h"} <= above <= {"technical_features", "fundamental_features", "ohlcv_1h"}
    description = specs["ml_signals"].description
    assert description is not None
    assert "no promise of profit" in description.lower()
    assert isinstance(specs["ml_signals"].partitions_def, dg.DailyPartitionsDefinition)
    assert DATASETS["ml_signals"].row in description
