"""Days that are run again through Dagster: what has not changed is not made again, and tells the same."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from market_data_pipeline.lake import day_files, unchanged
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset
from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.settings import Settings
from market_data_pipeline.transforms.candles import FILLS, Fill
from market_data_pipeline_tests.defs.running import Pipeline, pipeline, pipeline_that_ran
from market_data_pipeline_tests.defs.vendor_days import HEADER, SYMBOLS, file_of, settings_of, write
from market_data_pipeline_tests.parity import assert_layouts_agree, objects

DAYS = [date(2024, 8, 7), date(2024, 8, 8), date(2024, 8, 9)]
MIDDLE = DAYS[1]
CHANGED = ("binance", "ETHUSDT")
TOLD = ("trades", *(f"ohlcv_{frame}" for frame in TIMEFRAMES), "available_instruments")
"""The assets whose rows tell what they are made from."""
READ_ANYWAY = ("technical_features", "fundamental_features", "ml_signals")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path, DAYS)


@pytest.fixture
def running(settings: Settings) -> Iterator[Pipeline]:
    with pipeline_that_ran(settings, DAYS) as running:
        yield running


@pytest.fixture
def made(running: Pipeline, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The instruments of whatever rows are read from now on, by dataset."""
    found: dict[str, set[str]] = {}
    read = day_files._readable

    def counted(dataset: Dataset, rows: DayRows, rejects: Rejects) -> Any:
        found.setdefault(dataset.name, set()).add(str(rows.instrument or "all"))
        return read(dataset, rows, rejects)

    monkeypatch.setattr(day_files, "_readable", counted)
    return found


def metadata(running: Pipeline) -> dict[str, dict[str, Any]]:
    """What is told of the newest materializations, but for what tells runs apart."""
    apart = ("inputs_read_at", "bytes_written")
    return {
        name: {key: value for key, value in running.metadata(name, MIDDLE).items() if key not in apart}
        for name in (*TOLD, *READ_ANYWAY)
    }


def test_an_unchanged_day_is_not_made_again_and_tells_the_same(
    settings: Settings, running: Pipeline, made: dict[str, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "CODE", "of tomorrow")
    assert running.run(MIDDLE).clean
    assert made.keys() == {*TOLD, *READ_ANYWAY}
    read, before = metadata(running), objects(open_store(settings.lake))
    made.clear()
    assert running.run(MIDDLE).clean
    assert made.keys() == {*READ_ANYWAY}
    assert metadata(running) == read
    assert read["ohlcv_1m"]["trades_from_own_day"] > read["ohlcv_1m"]["trades_from_day_before"] > 0
    assert {running.metadata(name, MIDDLE)["bytes_written"] for name in read} == {0}
    assert objects(open_store(settings.lake)) == before


def test_what_has_changed_is_made_again_and_what_follows_from_it(
    tmp_path: Path, settings: Settings, running: Pipeline, made: dict[str, set[str]]
) -> None:
    venue, symbol = CHANGED
    text = HEADER + f"{venue},{symbol},1723118400000000,1723118400002000,1,buy,7,70\n"
    write(file_of(tmp_path / "files", venue, symbol, MIDDLE), text)
    assert running.run(MIDDLE).clean
    wanted = {name: {SYMBOLS[CHANGED]} for name in TOLD} | {"available_instruments": {"all"}}
    assert {name: made[name] for name in TOLD} == wanted
    assert_layouts_agree(open_store(settings.lake))


def test_candles_are_made_again_when_ticks_of_a_neighbouring_day_change(
    tmp_path: Path, settings: Settings, running: Pipeline, made: dict[str, set[str]]
) -> None:
    venue, symbol = CHANGED
    # a trade of the day itself that lies in the file of the day after
    text = HEADER + f"{venue},{symbol},1723161599000000,1723161600002000,1,buy,7,70\n"
    write(file_of(tmp_path / "files", venue, symbol, DAYS[2]), text)
    assert running.run(DAYS[2], assets=["trades"]).clean
    made.clear()
    assert running.run(MIDDLE, assets=["trades", "ohlcv_1m", "ohlcv_5m"]).clean
    assert made == {"ohlcv_1m": {SYMBOLS[CHANGED]}, "ohlcv_5m": {SYMBOLS[CHANGED]}}
    assert running.metadata("ohlcv_1m", MIDDLE)["trades_from_day_after"] > 0


def test_candles_are_made_again_under_other_settings(
    settings: Settings, running: Pipeline, made: dict[str, set[str]]
) -> None:
    other = replace(settings, fills={**FILLS, InstrumentType.SPOT: Fill.OMIT})
    with pipeline(other) as again:
        assert again.run(MIDDLE, assets=["trades", "ohlcv_1m"]).clean
    spot = {name for name in SYMBOLS.values() if "SPOT" in name}
    assert made == {"ohlcv_1m": spot}


def test_another_contract_makes_candles_and_the_map_again(
    tmp_path: Path, settings: Settings, running: Pipeline, made: dict[str, set[str]]
) -> None:
    option = next(each for each in SYMBOLS if each[1].endswith("-C"))
    header = "venue,symbol,instrument_id,inverse,volume_unit,contract_multiplier\n"
    line = f"{option[0]},{option[1]},{SYMBOLS[option]},false,contracts,3\n"
    (tmp_path / "files" / "instruments.csv").write_text(header + line)
    assert running.run(MIDDLE, assets=["trades", "ohlcv_1m", "available_instruments"]).succeeded
    assert made == {"ohlcv_1m": {SYMBOLS[option]}, "available_instruments": {"all"}}


@pytest.mark.parametrize(("lost", "clean"), [(MIDDLE, False), (DAYS[2], True)], ids=["of the day", "beside it"])
def test_candles_are_asked_for_again_when_an_input_is_lost(
    settings: Settings, running: Pipeline, made: dict[str, set[str]], lost: date, clean: bool
) -> None:
    trades = DATASETS["trades"]
    key = trades.path(trades.layouts[0], lost, Instrument.parse(SYMBOLS[CHANGED]))
    (Path(settings.lake) / key).unlink()
    assert running.run(MIDDLE, assets=["ohlcv_1m"]).clean is clean
    assert made == {"ohlcv_1m": {SYMBOLS[CHANGED]}}
