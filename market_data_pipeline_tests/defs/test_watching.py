"""Changed source files: exactly their partitions are asked for, then exactly what follows, and nothing twice."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from market_data_pipeline import MarketDataLake
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.history import History
from market_data_pipeline.defs.launch import launch
from market_data_pipeline.defs.lineage import Span, lineage
from market_data_pipeline.defs.watching import Looked, Stage, Watch
from market_data_pipeline.lake.stores.opening import open_store
from market_data_pipeline.model.datasets import TIMEFRAMES
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.files.source import FilesSource
from market_data_pipeline.sources.sample.source import SampleSource
from market_data_pipeline.transforms.signals import Recipe
from market_data_pipeline_tests.defs.running import Pipeline, SmallSource, pipeline
from market_data_pipeline_tests.defs.test_corrections import ended, span_of, tick
from market_data_pipeline_tests.defs.vendor_days import HEADER, file_of, write, write_days
from market_data_pipeline_tests.parity import objects

WEEK = [date(2024, 8, number) for number in range(5, 12)]
MAPPING = "venue,symbol,instrument_id\n"
Runs = list[tuple[Span, bool]]


def day(number: int) -> date:
    return date(2024, 8, number)


@dataclass
class Watched:
    """A lake that was made from a folder of files, and its sensor."""

    running: Pipeline
    settings: Settings
    folder: Path
    cursor: str | None = None
    reason: str = ""
    runs: Runs = field(default_factory=list)

    def tick(self) -> SensorExecutionData:
        told = tick(self.running, self.cursor)
        self.cursor, self.reason = told.cursor, str(told.skip_message)
        return told

    def settle(self, at_most: int = 12) -> Runs:
        """Evaluates the sensor and runs what it asks for, until three looks in a row ask for nothing."""
        runs: Runs = []
        quiet = 0
        while quiet < 3:
            told = self.tick()
            quiet = 0 if told.run_requests else quiet + 1
            for request in told.run_requests or ():
                span = span_of(request)
                known = launch(self.running.defs, self.running.instance, span.first, span.last, request.asset_selection)
                runs.append((span, known.succeeded))
            assert len(runs) < at_most, f"it never came to an end: {runs}"
        return runs

    def file(self, number: int, symbol: str = "BTCUSDT") -> Path:
        return file_of(self.folder, "binance", symbol, day(number))

    def resend(self, number: int, symbol: str = "BTCUSDT", price: float = 5) -> None:
        """The file of a day with another price in its noon."""
        stamp = 1_722_470_400_000_000 + (number - 1) * 86_400_000_000 + 43_200_000_000
        row = f"binance,{symbol},{stamp},{stamp + 2000},1,buy,{price},1\n"
        write(self.file(number, symbol), HEADER + row)

    def stored(self, number: int) -> set[str]:
        """Whose files of a day lie in the lake."""
        table = MarketDataLake(self.settings.lake).coverage("trades", day(number), day(number + 1))
        return {row["instrument_id"] for row in table.to_pylist() if row["rows"]}


def partitions(runs: Runs) -> dict[str, list[date]]:
    """What was asked for, by asset; a day that was asked for twice stands there twice."""
    asked: dict[str, list[date]] = {}
    for span, _ in runs:
        for name in span.assets:
            asked.setdefault(name, []).extend(each for each in WEEK if span.first <= each <= span.last)
    return asked


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A week of files, of two instruments; each test has its own copy."""
    folder = tmp_path_factory.mktemp("files")
    write_days(folder, WEEK)
    for path in folder.iterdir():
        if not path.name.startswith("binance"):
            path.unlink()
    return folder


@pytest.fixture
def ticks(tmp_path: Path, made: Path) -> Iterator[Watched]:
    """A week of ticks alone: quick to make, and enough for all that concerns only them."""
    with watched(tmp_path, made) as lake:
        assert lake.running.run(WEEK[0], WEEK[-1], assets=["trades"]).clean
        assert lake.settle() == []
        yield lake


class watched:  # noqa: N801
    """A pipeline over a copy of the files."""

    def __init__(self, tmp_path: Path, made: Path) -> None:
        self.folder = tmp_path / "files"
        shutil.copytree(made, self.folder)
        self.settings = Settings(lake=str(tmp_path / "lake"), source="files", source_path=self.folder)
        self.opened = pipeline(self.settings)

    def __enter__(self) -> Watched:
        return Watched(self.opened.__enter__(), self.settings, self.folder)

    def __exit__(self, *error: object) -> None:
        self.opened.__exit__(*error)  # type: ignore[arg-type]


def test_a_file_that_is_sent_again_takes_its_day_and_then_exactly_what_follows(tmp_path: Path, made: Path) -> None:
    with watched(tmp_path, made) as lake:
        assert lake.running.run(WEEK[0], WEEK[-1]).clean
        assert lake.settle() == []
        lake.resend(8)
        lake.resend(10)
        runs = lake.settle()
        assert [(span, succeeded) for span, succeeded in runs[:2]] == [
            (Span(day(8), day(8), ("trades",)), True),
            (Span(day(10), day(10), ("trades",)), True),
        ]
        asked = partitions(runs)
        # the old file of the 8th reached into the 7th, and the close of each is the next day's beginning
        candles = [day(number) for number in (7, 8, 9, 10, 11)]
        assert sorted(asked.pop("trades")) == [day(8), day(10)]
        for name in (f"ohlcv_{frame}" for frame in TIMEFRAMES):
            assert sorted(asked.pop(name)) == candles
        for name in ("technical_features", "fundamental_features", "ml_signals", "available_instruments"):
            assert sorted(asked.pop(name)) == candles
        assert asked == {}
        held = objects(open_store(lake.settings.lake))
    other = Settings(lake=str(tmp_path / "other"), source="files", source_path=lake.folder)
    with pipeline(other) as anew:
        assert anew.run(WEEK[0], WEEK[-1]).clean
    assert held == objects(open_store(other.lake))


def test_a_touched_file_is_read_again_writes_nothing_and_changes_nothing_further(tmp_path: Path, made: Path) -> None:
    with watched(tmp_path, made) as lake:
        assert lake.running.run(day(7), day(9)).clean
        assert lake.settle() == []
        held = objects(open_store(lake.settings.lake))
        os.utime(lake.file(8))
        assert lake.settle() == [(Span(day(8), day(8), ("trades",)), True)]
        assert lake.running.metadata("trades", day(8))["files_written"] == 0
        assert objects(open_store(lake.settings.lake)) == held


def _another_size(lake: Watched) -> None:
    before = lake.file(8).stat()
    lake.resend(8)
    os.utime(lake.file(8), ns=(before.st_atime_ns, before.st_mtime_ns))


def _another_time(lake: Watched) -> None:
    before = lake.file(8).stat()
    os.utime(lake.file(8), ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def _another_name(lake: Watched) -> None:
    lake.file(8).rename(lake.folder / f"binance_trades_{day(8)}_LTCUSDT.csv.gz")


def _one_more(lake: Watched) -> None:
    shutil.copy2(lake.file(8), lake.folder / f"binance_trades_{day(8)}_LTCUSDT.csv.gz")


@pytest.mark.parametrize("change", [_another_size, _another_time, _another_name, _one_more])
def test_each_kind_of_change_asks_for_its_day_once(ticks: Watched, change: Callable[[Watched], None]) -> None:
    change(ticks)
    assert [span for span, _ in ticks.settle()] == [Span(day(8), day(8), ("trades",))]


def test_an_instrument_whose_file_went_goes(ticks: Watched) -> None:
    ticks.file(8).unlink()
    assert ticks.settle() == [(Span(day(8), day(8), ("trades",)), True)]
    assert ticks.stored(8) == {"binance:SPOT_PAIR:ETH-USDT"}


def test_a_day_of_which_all_files_are_gone_stays_as_it_is(ticks: Watched) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        ticks.file(8, symbol).unlink()
    assert ticks.settle() == []
    assert len(ticks.stored(8)) == 2


def test_a_day_whose_first_file_comes_late_is_asked_for(tmp_path: Path, made: Path) -> None:
    """An instrument by name may have no liquidations on a day: the day is materialized without rows."""
    with watched(tmp_path, made) as lake:
        files = {at: lake.folder / f"binance_liquidations_{day(at)}_BTCUSDT.csv.gz" for at in (7, 8)}
        for number, path in files.items():
            shutil.copy2(lake.file(number), path)
        kept = files[8].rename(tmp_path / "kept")
        settings = replace(lake.settings, selection=Selection.of("binance:SPOT_PAIR:BTC-USDT"))
        late = Watched(Pipeline(build_definitions(settings), lake.running.instance), settings, lake.folder)
        assert late.running.run(day(7), day(8), assets=["liquidations"]).succeeded
        assert late.running.metadata("liquidations", day(8))["dagster/partition_row_count"] == 0
        assert late.settle() == []
        kept.rename(files[8])
        assert late.settle() == [(Span(day(8), day(8), ("liquidations",)), True)]
        assert late.running.metadata("liquidations", day(8))["dagster/partition_row_count"] > 0


def test_a_mapping_that_changes_takes_the_days_of_its_symbols_alone(ticks: Watched) -> None:
    ticks.resend(9, "ODD")
    (run,) = ticks.settle()
    assert run == (Span(day(9), day(9), ("trades",)), True)
    assert "ODD" in str(ticks.running.metadata("trades", day(9))["failed_instruments"])
    mapping = ticks.folder / "instruments.csv"
    mapping.write_text(MAPPING + "binance,NOWHERE,binance:SPOT_PAIR:NO-WHERE\n")
    assert ticks.settle() == []
    mapping.write_text(MAPPING + "binance,ODD,binance:SPOT_PAIR:ODD-USDT\n")
    assert ticks.settle() == [(Span(day(9), day(9), ("trades",)), True)]
    assert "binance:SPOT_PAIR:ODD-USDT" in ticks.stored(9)


def test_what_cannot_be_read_is_asked_for_once_in_each_state(ticks: Watched) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        ticks.file(8, symbol).write_bytes(b"torn")
    failed = (Span(day(8), day(8), ("trades",)), False)
    assert ticks.settle() == [failed]
    assert "trades of 2024-08-08 changed in the source, was asked for, and could not be read (1 part" in ticks.reason
    ticks.file(8).write_bytes(b"torn again")
    assert ticks.settle() == [failed]
    ticks.resend(8)
    # one instrument of two can be read, so the day is materialized
    assert ticks.settle() == [(Span(day(8), day(8), ("trades",)), True)]
    assert ticks.settle() == []
    assert "could not be read" not in ticks.reason
    assert len(ticks.stored(8)) == 2


def test_ticks_whose_run_was_killed_are_asked_for_again_but_not_for_ever(ticks: Watched) -> None:
    for number in (8, 10):
        ticks.resend(number)
    assert not ticks.tick().run_requests
    for _ in range(3):
        (request,) = ticks.tick().run_requests or ()
        assert span_of(request) == Span(day(8), day(8), ("trades",))
        ended(ticks.running, request)
    assert ticks.settle() == [(Span(day(10), day(10), ("trades",)), True)]
    assert "trades of 2024-08-08 changed in the source, was asked for, and could not be read" in ticks.reason


def test_a_file_that_still_changes_is_left_in_peace(ticks: Watched) -> None:
    for price in range(5, 9):
        ticks.resend(8, price=10.0**price)
        assert not ticks.tick().run_requests
    assert ticks.tick().run_requests


def test_a_change_while_a_day_is_read_is_seen_at_the_next_look(ticks: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    files = FilesSource.files

    def change_then_read(self: FilesSource, data_type: str, at: date, selection: object) -> object:
        found = list(files(self, data_type, at, selection))  # type: ignore[arg-type]
        os.utime(ticks.file(8))
        return iter(found)

    with monkeypatch.context() as patched:
        patched.setattr(FilesSource, "files", change_then_read)
        assert ticks.running.run(day(8), assets=["trades"]).clean
    assert ticks.settle() == [(Span(day(8), day(8), ("trades",)), True)]


def test_a_run_of_other_instruments_hides_no_change(ticks: Watched) -> None:
    ticks.resend(8)
    only = replace(ticks.settings, selection=Selection.of("binance:SPOT_PAIR:ETH-USDT"))
    other = Pipeline(build_definitions(only), ticks.running.instance)
    assert other.run(day(8), assets=["trades"]).clean
    assert ticks.settle() == [(Span(day(8), day(8), ("trades",)), True)]
    # and with that selection the other instrument's file does not count
    narrow = Watched(other, only, ticks.folder)
    assert other.run(day(8), assets=["trades"]).clean
    os.utime(ticks.file(8))
    assert narrow.settle() == []
    os.utime(ticks.file(8, "ETHUSDT"))
    assert narrow.settle() == [(Span(day(8), day(8), ("trades",)), True)]


def test_a_folder_that_is_gone_asks_for_nothing_and_says_so(ticks: Watched) -> None:
    ticks.folder.rename(ticks.folder.with_name("away"))
    assert ticks.settle() == []
    assert "the source cannot be looked at: MARKET_DATA_SOURCE_PATH=" in ticks.reason
    ticks.folder.with_name("away").rename(ticks.folder)
    assert ticks.settle() == []
    assert "cannot be looked at" not in ticks.reason


def test_a_folder_that_moved_is_no_change(ticks: Watched) -> None:
    moved = ticks.folder.rename(ticks.folder.with_name("moved"))
    settings = Settings(lake=ticks.settings.lake, source="files", source_path=moved)
    elsewhere = Pipeline(build_definitions(settings), ticks.running.instance)
    assert Watched(elsewhere, settings, moved).settle() == []


def test_a_look_without_time_goes_on_at_the_next(ticks: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market_data_pipeline.defs.watching._DAYS", 2)
    made = {"trades": dict.fromkeys(WEEK, 1)}
    watch = Watch(FilesSource(ticks.folder), ["trades"], ticks.settings.selection, seconds=-1)
    history = History(lineage(Recipe()), ticks.settings.selection)
    assert history.read_on(ticks.running.instance)
    for number in (5, 11):
        os.utime(ticks.file(number))
    looks = [Looked()]
    for _ in range(18):
        looks.append(watch.look(history.states, made, looks[-1]))
    # batches of two days; nothing is due before all of them were looked at
    assert [look.goes_on for look in looks[:10]] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [len(look.at(Stage.DUE)) for look in looks[:10]] == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]
    runs = [look.next_run for look in looks]
    assert runs[:8] == [None] * 8
    assert runs[8] == Span(day(5), day(5), ("trades",))


def test_runs_take_days_of_one_month() -> None:
    due = {("trades", date(2024, month, number)): ("a", Stage.DUE) for month, number in ((7, 30), (7, 31), (8, 1))}
    looked = Looked(due | {("liquidations", date(2024, 8, 1)): ("b", Stage.DUE)})
    first = looked.next_run
    assert first == Span(date(2024, 7, 30), date(2024, 7, 31), ("trades",))
    second = looked.asked_for(first).next_run
    assert second == Span(day(1), day(1), ("liquidations", "trades"))
    assert looked.asked_for(first).asked_for(second).next_run is None
    assert Looked.load(looked.dump()) == looked


@pytest.mark.parametrize("source", [SampleSource(), SmallSource([])])
def test_a_source_that_cannot_tell_is_not_looked_at(tmp_path: Path, source: SampleSource) -> None:
    with pipeline(Settings(lake=str(tmp_path)), source) as running:
        told = tick(running, None)
        assert not told.run_requests
        assert told.skip_message == "nothing has changed that something else was made from"


def test_days_that_were_never_read_are_not_asked_for(tmp_path: Path, made: Path) -> None:
    with watched(tmp_path, made) as lake:
        assert lake.running.run(day(8), assets=["trades"]).clean
        lake.resend(9)
        assert lake.settle() == []
        lake.running.instance.wipe_assets([dg.AssetKey("trades")])
        lake.resend(8)
        assert lake.settle() == []
