"""Backfills: a range in one run equals its days in any order, byte for byte."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from random import Random

import dagster as dg

from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.launch import Stage, chosen_assets, launch, missing, stages
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import LayoutError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import days_between
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import SmallSource, pipeline
from market_data_pipeline_tests.parity import assert_layouts_agree, layout_rows, objects

FIRST, LAST = date(2024, 8, 1), date(2024, 8, 31)
DAYS = list(days_between(FIRST, LAST))
INSTRUMENTS = [
    Instrument.parse(text)
    for text in ("binance:SPOT_PAIR:BTC-USDT", "deribit:Perp:BTC-USD", "deribit:Option:BTC-USD-60000-240927-C")
]


def day_files(contents: dict[str, bytes]) -> dict[str, bytes]:
    """The objects that hold days, not months."""
    found = {}
    for key, content in contents.items():
        for dataset in DATASETS.values():
            for layout in dataset.day_layouts:
                try:
                    layout.parse(key)
                except LayoutError:
                    continue
                found[key] = content
    return found


def in_one_run(lake: Path) -> dict[str, bytes]:
    with pipeline(Settings(lake=str(lake)), SmallSource(INSTRUMENTS)) as running:
        outcome = running.run(FIRST, LAST)
        assert outcome.clean, outcome.problems
        before = objects(open_store(lake))
        assert running.run(FIRST, LAST).clean
        assert running.metadata("ohlcv_1m", LAST)["bytes_written"] == 0
        assert objects(open_store(lake)) == before
    return before


def day_by_day(lake: Path, days: Sequence[date]) -> dict[str, bytes]:
    with pipeline(Settings(lake=str(lake)), SmallSource(INSTRUMENTS)) as running:
        for day in days:
            assert running.run(day).clean
        # candles and what reads them, of the days whose neighbours came later
        assert running.run(FIRST, LAST, assets=["key:ohlcv_1m+"]).clean
    return objects(open_store(lake))


def test_31_days_in_one_run_equal_31_runs_in_any_order(tmp_path: Path) -> None:
    days = list(DAYS)
    Random(5).shuffle(days)
    together = in_one_run(tmp_path / "together")
    rows = assert_layouts_agree(open_store(tmp_path / "together"))
    assert rows["trades"] == 31 * len(INSTRUMENTS) * 40
    apart = day_by_day(tmp_path / "apart", days)
    assert together.keys() == apart.keys()
    assert day_files(together) == day_files(apart)
    for dataset in DATASETS.values():
        for layout in dataset.month_layouts:
            assert layout_rows(together, dataset, layout).equals(layout_rows(apart, dataset, layout))


def test_a_range_is_one_run_or_first_all_ticks_and_then_what_is_made_of_them() -> None:
    defs = build_definitions(Settings())
    every = chosen_assets(defs, None)
    assert stages(Settings(), dict.fromkeys(every, DAYS)) == [Stage(FIRST, LAST, tuple(every))]
    cut = stages(Settings(days_per_run=10), dict.fromkeys(every, DAYS))
    spans = [(1, 10), (11, 20), (21, 30), (31, 31)]
    assert [(stage.first.day, stage.last.day) for stage in cut] == [*spans, *spans]
    names = [{key.to_user_string() for key in stage.assets} for stage in cut]
    assert all("trades" in each and "ohlcv_1m" not in each for each in names[:4])
    assert all("ohlcv_1m" in each and "trades" not in each for each in names[4:])
    assert names[0] | names[4] == {key.to_user_string() for key in every}
    assert len(stages(Settings(days_per_run=10), {dg.AssetKey("trades"): DAYS})) == 4


def test_days_that_do_not_follow_one_another_are_runs_of_their_own() -> None:
    days = [DAYS[n] for n in (0, 1, 2, 6, 8, 9)]
    cut = stages(Settings(days_per_run=2), {dg.AssetKey("trades"): days})
    assert [(stage.first.day, stage.last.day) for stage in cut] == [(1, 2), (3, 3), (7, 7), (9, 10)]
    assert stages(Settings(), {}) == []


def test_what_is_missing_is_what_was_never_made_and_all_that_follows_from_it(tmp_path: Path) -> None:
    days = list(days_between(date(2024, 8, 7), date(2024, 8, 9)))
    names = ["trades", "ohlcv_1m", "ohlcv_5m"]
    keys = [dg.AssetKey(name) for name in names]
    with pipeline(Settings(lake=str(tmp_path)), SmallSource(INSTRUMENTS)) as running:

        def lacking() -> dict[str, list[date]]:
            found = missing(running.instance, running.defs, days, keys)
            return {key.to_user_string(): of_asset for key, of_asset in found.items()}

        assert lacking() == dict.fromkeys(names, days)
        assert running.run(days[0], days[1], assets=names).clean
        assert lacking() == dict.fromkeys(names, days[2:])
        assert running.run(days[2], assets=["trades"]).clean
        assert lacking() == {"ohlcv_1m": days[2:], "ohlcv_5m": days[2:]}
        assert running.run(days[2], assets=["ohlcv_1m", "ohlcv_5m"]).clean


def test_runs_of_single_days_equal_one_run(tmp_path: Path) -> None:
    first, last = date(2024, 8, 7), date(2024, 8, 9)
    found = []
    for days_per_run in (None, 1):
        settings = Settings(lake=str(tmp_path / str(days_per_run)), days_per_run=days_per_run)
        with pipeline(settings, SmallSource(INSTRUMENTS)) as running:
            days = list(days_between(first, last))
            for stage in stages(settings, dict.fromkeys(chosen_assets(running.defs, None), days)):
                assert launch(running.defs, running.instance, stage.first, stage.last, stage.assets).clean
        found.append(day_files(objects(open_store(settings.lake))))
    assert found[0] == found[1]
