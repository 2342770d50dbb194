"""Gap repair: days that the source has and the lake lacks are asked for, a few at a time, and not for ever."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from market_data_pipeline.defs import missing
from market_data_pipeline.defs.lineage import lineage
from market_data_pipeline.defs.missing import AT_ONCE, LONGEST, TIMES, Asked, lacking
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import DAY, as_day, days_between
from market_data_pipeline.settings import Automatic, Settings
from market_data_pipeline_tests.defs.running import Pipeline, SmallSource, pipeline
from market_data_pipeline_tests.defs.vendor_days import settings_of, write_days

NOON = datetime(2024, 8, 22, 12, tzinfo=UTC)
NEWEST = date(2024, 8, 21)
FIRST = date(2024, 8, 10)


@dataclass
class Gappy(SmallSource):
    """A source that lacks some days."""

    without: set[date] = field(default_factory=set)
    broken: bool = False

    def days_with(self, data_type: str, days: Iterable[date], selection: Selection) -> set[date]:
        if self.broken:
            raise SourceError("the vendor does not answer")
        return super().days_with(data_type, days, selection) - self.without


class Clock:
    """What stands for datetime in the sensor."""

    at = NOON
    fromisoformat = datetime.fromisoformat

    @classmethod
    def now(cls, _: object) -> datetime:
        return cls.at


@pytest.fixture
def source() -> Gappy:
    return Gappy([Instrument.parse("binance:SPOT_PAIR:BTC-USDT")], trades=10)


@pytest.fixture
def running(tmp_path: Path, source: Gappy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    monkeypatch.setattr(Clock, "at", NOON)
    monkeypatch.setattr(missing, "datetime", Clock)
    with pipeline(Settings(lake=str(tmp_path / "lake")), source) as running:
        yield running


def record(running: Pipeline, days: Iterable[date], names: Iterable[str] = ("trades", "available_instruments")) -> None:
    """Days as if a run had made them."""
    for day in days:
        for name in names:
            running.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=day.isoformat()))


def tick(running: Pipeline, cursor: str | None = None) -> SensorExecutionData:
    repository = running.defs.get_repository_def()
    with dg.build_sensor_context(running.instance, cursor=cursor, repository_def=repository) as context:
        return running.defs.resolve_sensor_def("missing_days").evaluate_tick(context)


def asked_for(done: SensorExecutionData) -> list[date]:
    """The days of the run that was asked for; none without one."""
    days: list[date] = []
    for request in done.run_requests or ():
        tags = request.tags
        first = request.partition_key or tags["dagster/asset_partition_range_start"]
        last = request.partition_key or tags["dagster/asset_partition_range_end"]
        days += days_between(as_day(first), as_day(last))
    return days


def test_a_lake_without_any_day_is_left_alone(running: Pipeline) -> None:
    assert asked_for(tick(running)) == []


def test_days_between_the_first_and_the_newest_are_asked_for_the_oldest_first(running: Pipeline, source: Gappy) -> None:
    source.without = {date(2024, 8, 14)}
    record(running, [FIRST, date(2024, 8, 13), date(2024, 8, 15), date(2024, 8, 17)])
    first = tick(running)
    assert asked_for(first) == [date(2024, 8, 11), date(2024, 8, 12)]
    second = tick(running, first.cursor)
    assert asked_for(second) == [date(2024, 8, 16)]
    third = tick(running, second.cursor)
    assert asked_for(third) == [date(2024, 8, number) for number in range(18, 22)]
    assert asked_for(tick(running, third.cursor)) == []


def test_one_run_takes_no_more_than_some_days(running: Pipeline) -> None:
    record(running, [FIRST])
    assert len(asked_for(tick(running))) == AT_ONCE


def test_a_day_that_stays_missing_is_asked_for_a_few_times_and_then_named(
    running: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(running, days_between(FIRST, NEWEST - DAY))
    cursor = None
    for number in range(TIMES):
        monkeypatch.setattr(Clock, "at", NOON + number * timedelta(hours=21))
        # the days that become due meanwhile are another matter
        record(running, [NEWEST + back * DAY for back in range(1, number + 1)])
        done = tick(running, cursor)
        assert asked_for(done) == [NEWEST]
        again = tick(running, done.cursor)
        assert asked_for(again) == []
        assert "is still missing" in str(again.skip_message)
        cursor = again.cursor
    monkeypatch.setattr(Clock, "at", NOON + timedelta(days=9))
    record(running, [NEWEST + back * DAY for back in range(1, 10)])
    last = tick(running, cursor)
    assert asked_for(last) == []
    assert f"{NEWEST} (1 days in all) was asked for {TIMES} times" in str(last.skip_message)
    assert asked_for(tick(running, None)) == [NEWEST]


def test_what_has_come_is_forgotten(running: Pipeline) -> None:
    record(running, days_between(FIRST, NEWEST - DAY))
    cursor = tick(running).cursor
    assert Asked.load(cursor).times(NEWEST) == 1
    record(running, [NEWEST])
    done = tick(running, cursor)
    assert str(done.skip_message) == "no day is missing"
    assert Asked.load(done.cursor) == Asked()


NAMES = ["trades", "liquidations", "ohlcv_1m", "ohlcv_5m", "available_instruments"]


def lacks(running: Pipeline, source: SmallSource, newest: date = NEWEST, start: date = date(2019, 1, 1)) -> object:
    settings = Settings(start=start)
    return lacking(running.instance, settings, source, lineage(settings.signals), NAMES, newest)


def test_a_day_whose_map_is_missing_is_asked_for_the_map_alone(running: Pipeline, source: Gappy) -> None:
    record(running, days_between(FIRST, NEWEST))
    assert lacks(running, source) == {}
    record(running, [NEWEST + DAY], ["trades"])
    assert lacks(running, source, NEWEST + DAY) == {"available_instruments": [NEWEST + DAY]}


def test_what_the_lake_never_had_is_not_asked_for(running: Pipeline, source: Gappy) -> None:
    source.data_types = ("trades", "liquidations")
    record(running, days_between(FIRST, NEWEST - DAY), ["trades", "ohlcv_1m"])
    assert lacks(running, source) == {"trades": [NEWEST], "ohlcv_1m": [NEWEST]}
    record(running, [NEWEST], ["trades", "ohlcv_1m"])
    assert lacks(running, source) == {}


def test_a_type_that_the_lake_has_is_asked_for_with_what_follows_from_it(running: Pipeline, source: Gappy) -> None:
    source.data_types = ("trades", "liquidations")
    record(running, days_between(FIRST, NEWEST), ["trades", "ohlcv_1m", "available_instruments"])
    record(running, days_between(FIRST, NEWEST - DAY), ["liquidations"])
    assert lacks(running, source) == {"liquidations": [NEWEST], "available_instruments": [NEWEST]}


def test_long_holes_and_days_that_are_no_partitions_are_left_alone(running: Pipeline, source: Gappy) -> None:
    old = NEWEST - (LONGEST + 3) * DAY
    record(running, [old, NEWEST - DAY], ["trades"])
    assert lacks(running, source) == {"trades": [NEWEST]}  # LONGEST + 1 days between them
    record(running, [old + DAY], ["trades"])
    assert lacks(running, source)["trades"] == [*days_between(old + 2 * DAY, NEWEST - 2 * DAY), NEWEST]
    assert lacks(running, source, start=NEWEST)["trades"] == [NEWEST]
    assert lacks(running, source, newest=NEWEST + LONGEST * DAY)["trades"][-1] == NEWEST - 2 * DAY


def test_a_run_takes_no_more_days_than_the_settings_allow(
    tmp_path: Path, source: Gappy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing, "datetime", Clock)
    with pipeline(Settings(lake=str(tmp_path), days_per_run=2), source) as running:
        record(running, [FIRST])
        assert len(asked_for(tick(running))) == 2


@pytest.mark.parametrize(
    "cursor", ["x", "[]", "3", '{"2024-08-11": 3}', '{"2024-08-11": ["a", "b"]}', '{"1": [1, "x"]}']
)
def test_a_cursor_that_cannot_be_read_counts_as_none(cursor: str) -> None:
    assert Asked.load(cursor) == Asked()


def test_it_waits_while_runs_go_on_and_for_a_source_that_does_not_answer(running: Pipeline, source: Gappy) -> None:
    record(running, [FIRST])
    job = running.defs.resolve_job_def("daily")
    run = running.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert "runs go on" in str(tick(running).skip_message)
    running.instance.report_run_failed(run)
    source.broken = True
    assert str(tick(running).skip_message) == "the source cannot be looked at: the vendor does not answer"


def test_in_a_folder_of_files_a_gap_is_filled_once_its_files_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [date(2024, 8, 7), date(2024, 8, 8), date(2024, 8, 9)]
    monkeypatch.setattr(missing, "datetime", Clock)
    monkeypatch.setattr(Clock, "at", NOON)
    settings = settings_of(tmp_path, [days[0], days[2]])
    with pipeline(settings) as running:
        assert running.run(days[0]).clean
        assert running.run(days[2]).clean
        assert str(tick(running).skip_message) == "no day is missing"
        write_days(settings.source_path, [days[1]])
        assert asked_for(done := tick(running)) == [days[1]]
        assert running.run(days[1]).clean
        assert str(tick(running, done.cursor).skip_message) == "no day is missing"


def test_it_is_off_until_the_settings_or_a_person_say_otherwise() -> None:
    from market_data_pipeline.defs.build import build_definitions

    for automatic in (frozenset(), frozenset(Automatic)):
        defs = build_definitions(Settings(automatic=automatic))
        sensors = {each.name: each.default_status.value for each in defs.sensors or ()}
        schedules = {each.name: each.default_status.value for each in defs.get_repository_def().schedule_defs}
        wanted = "RUNNING" if automatic else "STOPPED"
        assert sensors == {"corrections": wanted, "missing_days": wanted}
        assert schedules == {"daily_at_seven": wanted, "newest_day_at_nine": wanted}
        specs = defs.resolve_all_asset_specs()
        assert {spec.freshness_policy is not None for spec in specs} == {bool(automatic)}
