"""The check on the newest day: it names what is missing of a lake that is kept from day to day."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from market_data_pipeline.defs import newest
from market_data_pipeline.defs.newest import newest_due
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import DAY
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import Pipeline, SmallSource, pipeline

NEWEST = date(2024, 8, 8)


class Clock:
    """What stands for datetime in the check."""

    @staticmethod
    def now(_: object) -> datetime:
        return datetime(2024, 8, 9, 9, tzinfo=UTC)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    monkeypatch.setattr(newest, "datetime", Clock)
    source = SmallSource([Instrument.parse("binance:SPOT_PAIR:BTC-USDT")], trades=10)
    with pipeline(Settings(lake=str(tmp_path / "lake")), source) as running:
        yield running


def looked_at(running: Pipeline) -> dg.AssetCheckEvaluation:
    """What the job that the schedule starts finds."""
    result = running.defs.resolve_job_def("look_at_the_newest_day").execute_in_process(instance=running.instance)
    assert result.success
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


def test_a_day_is_due_at_nine_on_the_next() -> None:
    assert newest_due(datetime(2024, 8, 9, 8, 59, tzinfo=UTC)) == date(2024, 8, 7)
    assert newest_due(datetime(2024, 8, 9, 9, 0, tzinfo=UTC)) == NEWEST


def test_an_empty_lake_and_one_of_old_days_pass(running: Pipeline) -> None:
    assert looked_at(running).passed
    assert running.run("2024-06-01").clean
    evaluation = looked_at(running)
    assert evaluation.passed
    assert "not kept from day to day" in str(evaluation.description)


def test_a_missing_newest_day_is_a_warning_that_says_what_to_do(running: Pipeline) -> None:
    assert running.run(NEWEST - DAY).clean
    evaluation = looked_at(running)
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert f"{NEWEST} is missing of trades, ohlcv_1m" in str(evaluation.description)
    assert f"make materialize DAY={NEWEST}" in str(evaluation.description)
    assert running.run(NEWEST).clean
    evaluation = looked_at(running)
    assert evaluation.passed
    assert evaluation.description == f"{NEWEST} is there"


def test_one_asset_that_lacks_it_is_named(running: Pipeline) -> None:
    assert running.run(NEWEST - DAY, NEWEST).clean
    running.instance.wipe_assets([dg.AssetKey("ohlcv_4h")])
    assert looked_at(running).passed  # it is not kept any more
    assert running.run(NEWEST - DAY, assets=["ohlcv_4h"]).clean
    assert f"{NEWEST} is missing of ohlcv_4h:" in str(looked_at(running).description)


def test_a_lake_of_some_assets_is_looked_at_for_these(running: Pipeline) -> None:
    assert running.run(NEWEST - DAY, assets=["trades", "ohlcv_1m"]).clean
    assert f"{NEWEST} is missing of trades, ohlcv_1m: " in str(looked_at(running).description)
    outcome = running.run(NEWEST - DAY, assets=["available_instruments"])
    assert outcome.notes == ()  # a run of another day has nothing to do with it
