"""Corrections: what is asked for again when data changes late equals the set worked out by hand, and then no more."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.events import JobFailureData, RunFailureReason
from dagster._core.storage.tags import PARTITION_NAME_TAG, SENSOR_NAME_TAG

from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.corrections import Progress
from market_data_pipeline.defs.launch import launch
from market_data_pipeline.defs.lineage import Change, Reach, Span, following, lineage, reached, spans
from market_data_pipeline.lake.stores.opening import open_store
from market_data_pipeline.model.datasets import TIMEFRAMES
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows
from market_data_pipeline.settings import Settings
from market_data_pipeline.transforms.signals import Recipe
from market_data_pipeline_tests.defs.running import Pipeline, SmallSource, pipeline
from market_data_pipeline_tests.parity import objects

BTC = Instrument.parse("binance:SPOT_PAIR:BTC-USDT")
ETH = Instrument.parse("binance:SPOT_PAIR:ETH-USDT")
WEEK = [date(2024, 8, number) for number in range(5, 12)]
LINEAGE = lineage(Recipe())
CANDLES = [f"ohlcv_{name}" for name in TIMEFRAMES]


def day(number: int) -> date:
    return date(2024, 8, number)


def days(*numbers: int) -> set[date]:
    return {day(number) for number in numbers}


@dataclass
class Corrected:
    """What the sensor has asked for, run by run, until it asked for nothing more."""

    spans: list[Span]
    partitions: dict[str, set[date]]
    cursor: str | None
    reason: str | None


def tick(running: Pipeline, cursor: str | None) -> SensorExecutionData:
    """One evaluation of the sensor."""
    repository = running.defs.get_repository_def()
    with dg.build_sensor_context(running.instance, cursor=cursor, repository_def=repository) as context:
        return running.defs.resolve_sensor_def("corrections").evaluate_tick(context)


def settle(running: Pipeline, cursor: str | None = None, at_most: int = 8) -> Corrected:
    """Evaluates the sensor and runs what it asks for, until it asks for nothing."""
    asked = Corrected([], {}, cursor, None)
    for _ in range(at_most):
        told = tick(running, asked.cursor)
        asked.cursor = told.cursor
        if not told.run_requests:
            asked.reason = told.skip_message
            return asked
        (request,) = told.run_requests
        span = span_of(request)
        asked.spans.append(span)
        known = launch(running.defs, running.instance, span.first, span.last, request.asset_selection)
        assert known.succeeded, known.problems
        for name in span.assets:
            asked.partitions.setdefault(name, set()).update(each for each in WEEK if span.first <= each <= span.last)
    raise AssertionError(f"it never came to an end: {asked.spans}")


def span_of(request: dg.RunRequest) -> Span:
    assert request.asset_selection is not None
    first = request.partition_key or request.tags["dagster/asset_partition_range_start"]
    last = request.partition_key or request.tags["dagster/asset_partition_range_end"]
    names = tuple(sorted(key.to_user_string() for key in request.asset_selection))
    return Span(date.fromisoformat(first), date.fromisoformat(last), names)


@pytest.fixture
def source() -> SmallSource:
    return SmallSource([BTC, ETH])


@pytest.fixture
def running(tmp_path: Path, source: SmallSource) -> Iterator[Pipeline]:
    with pipeline(Settings(lake=str(tmp_path / "lake")), source) as running:
        assert running.run(WEEK[0], WEEK[-1]).clean
        yield running


@pytest.fixture
def few(tmp_path: Path, source: SmallSource) -> Iterator[Pipeline]:
    """Four days of one instrument."""
    source.instruments = [BTC]
    with pipeline(Settings(lake=str(tmp_path / "lake")), source) as running:
        assert running.run(day(7), day(10)).clean
        yield running


def test_a_day_that_is_sent_again_takes_with_it_exactly_what_was_made_from_it(
    running: Pipeline, source: SmallSource, tmp_path: Path
) -> None:
    first = settle(running)
    assert first.partitions == {}
    assert first.reason == "nothing has changed that something else was made from"

    source.salt[day(8), BTC] = 1
    assert running.run(day(8), assets=["trades"]).clean
    told = running.metadata("trades", day(8))
    assert told["corrected_instruments"] == 1
    (correction,) = told["corrected"]
    assert correction["instrument"] == BTC.id
    assert correction["rows_before"] == correction["rows_now"] == source.trades
    assert correction["first_before"][:10] == "2024-08-07"
    asked = settle(running, first.cursor)
    assert "corrected" in running.metadata("ohlcv_1m", day(9))
    assert "corrected" not in running.metadata("ohlcv_1m", day(10))

    # the file of the 8th holds ticks of the 7th and the 9th; features look back further than the week is long
    by_hand = {name: days(7, 8, 9) for name in CANDLES}
    by_hand["fundamental_features"] = days(7, 8, 9)
    later = ("technical_features", "ml_signals", "available_instruments")
    by_hand |= {name: days(7, 8, 9, 10, 11) for name in later}
    assert asked.partitions == by_hand
    assert [(span.first, span.last) for span in asked.spans] == [(day(7), day(9)), (day(10), day(11))]
    assert settle(running, asked.cursor).partitions == {}

    # and the lake is what it would have been, had the day come so in the first place
    other = Settings(lake=str(tmp_path / "other"))
    with pipeline(other, replace(source)) as anew:
        assert anew.run(WEEK[0], WEEK[-1]).clean
    assert objects(open_store(tmp_path / "lake")) == objects(open_store(other.lake))


def test_a_day_that_comes_the_same_again_asks_for_nothing(few: Pipeline) -> None:
    first = settle(few)
    assert few.run(day(8), assets=["trades"]).clean
    assert settle(few, first.cursor).partitions == {}


def test_the_day_after_that_arrives_late_completes_the_one_before(tmp_path: Path, source: SmallSource) -> None:
    source.instruments = [BTC]
    with pipeline(Settings(lake=str(tmp_path / "lake")), source) as running:
        assert running.run(day(5), day(6)).clean
        first = settle(running)
        assert running.run(day(7)).clean
        asked = settle(running, first.cursor)
        assert running.metadata("ohlcv_1m", day(6))["final"] is True
    by_hand = {name: days(6) for name in CANDLES}
    # the 7th looks back on the candles of the 6th, which are made anew
    by_hand["fundamental_features"] = days(6)
    by_hand |= {name: days(6, 7) for name in ("technical_features", "ml_signals", "available_instruments")}
    assert asked.partitions == by_hand


def test_a_removed_instrument_takes_what_was_made_from_it(running: Pipeline, source: SmallSource) -> None:
    first = settle(running)
    gone = day(8)
    files = source.files

    def without(data_type: str, at: date, selection: Selection) -> Iterator[DayRows]:
        return (each for each in files(data_type, at, selection) if at != gone or each.instrument != ETH)

    source.files = without  # type: ignore[method-assign]
    assert running.run(gone, assets=["trades"]).clean
    asked = settle(running, first.cursor)
    assert asked.partitions["ohlcv_1m"] == days(7, 8, 9)
    assert asked.partitions["ohlcv_1d"] == days(7, 8, 9)


def test_a_run_that_goes_on_is_waited_for(few: Pipeline, source: SmallSource) -> None:
    first = settle(few)
    source.salt[day(8), BTC] = 1
    assert few.run(day(8), assets=["trades"]).clean
    job = few.defs.resolve_job_def("daily")
    going = few.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    held = settle(few, first.cursor)
    assert held.partitions == {}
    assert "1 runs go on" in str(held.reason)
    few.instance.report_run_canceled(going)
    assert settle(few, held.cursor).partitions["ohlcv_1m"] == days(7, 8, 9)


def after_a_change(running: Pipeline, source: SmallSource) -> SensorExecutionData:
    """What the sensor asks for when a day was sent again and read."""
    first = settle(running)
    source.salt[day(8), BTC] = 1
    assert running.run(day(8), assets=["trades"]).clean
    return tick(running, first.cursor)


def test_a_run_that_fails_holds_up_what_follows_from_it(few: Pipeline, source: SmallSource) -> None:
    asked = after_a_change(few, source)
    assert asked.run_requests  # which then fails before it makes anything
    told = tick(few, asked.cursor)
    assert not told.run_requests
    assert "did not succeed; materialize it and the rest goes on" in str(told.skip_message)
    assert tick(few, told.cursor).skip_message == told.skip_message
    assert few.run(day(7), day(9), assets=["key:ohlcv_1m+"]).clean
    (request,) = tick(few, told.cursor).run_requests or ()
    assert span_of(request).first == day(10)


def ended(running: Pipeline, request: dg.RunRequest, reason: RunFailureReason | None = None) -> None:
    """A run for a request as the daemon starts it, that failed; killed, without a reason."""
    tags = {SENSOR_NAME_TAG: "corrections", **request.tags}
    if request.partition_key:
        tags[PARTITION_NAME_TAG] = request.partition_key
    run = running.instance.create_run_for_job(
        running.defs.resolve_job_def("daily"),
        tags=tags,
        asset_selection=frozenset(request.asset_selection or ()),
        status=dg.DagsterRunStatus.STARTED,
    )
    running.instance.report_run_failed(run, job_failure_data=JobFailureData(None, failure_reason=reason))


def test_a_run_that_was_killed_is_asked_for_again_but_not_for_ever(few: Pipeline, source: SmallSource) -> None:
    told = after_a_change(few, source)
    requests = told.run_requests or []
    for _ in range(2):
        ended(few, requests[0])
        told = tick(few, told.cursor)
        assert told.run_requests == requests
    ended(few, requests[0])
    told = tick(few, told.cursor)
    assert not told.run_requests
    assert "did not succeed" in str(told.skip_message)
    # another change is another reason
    source.salt[day(9), BTC] = 1
    assert few.run(day(9), assets=["trades"]).clean
    assert settle(few, told.cursor).partitions["ohlcv_1m"] == days(8, 9, 10)


def test_a_run_whose_step_failed_is_not_asked_for_again(few: Pipeline, source: SmallSource) -> None:
    told = after_a_change(few, source)
    (request,) = told.run_requests or ()
    ended(few, request)
    told = tick(few, told.cursor)
    ended(few, request, RunFailureReason.STEP_FAILURE)
    assert not tick(few, told.cursor).run_requests


def test_progress_goes_through_the_cursor() -> None:
    progress = Progress(((Span(day(5), day(6), ("ohlcv_1m",)), 9), (Span(day(8), day(8), ("a", "b")), 12)))
    assert Progress.load(progress.dump()) == progress
    assert Progress.load(None) == Progress()


def reached_days(name: str, of: str, first: int) -> set[date]:
    """Which days of an asset a change of the 8th can change, whose rows begin on a day."""
    change = Change(of, day(8), 2, day(first), frozenset([BTC.id]))
    return {at for (made, at), _ in reached(change, LINEAGE) if made == name}


def test_rows_that_do_not_reach_the_day_before_leave_it_alone() -> None:
    assert reached_days("ohlcv_1m", "trades", first=7) == days(7, 8, 9)
    assert reached_days("ohlcv_1m", "trades", first=8) == days(8, 9)


@pytest.mark.parametrize("name", [name for name in LINEAGE["technical_features"] if name not in CANDLES])
def test_features_read_the_ticks_beside_their_day_as_candles_do(name: str) -> None:
    assert reached_days("technical_features", name, first=7) == days(7, 8, 9)


def test_what_follows_is_what_was_made() -> None:
    made = {**{name: days(7, 8, 9) for name in LINEAGE}, "technical_features": days(8)}
    found = following([("ohlcv_1m", day(8))], made, LINEAGE)
    later = {"technical_features": days(8), "ml_signals": days(8, 9), "available_instruments": days(8, 9)}
    assert found == {**{name: days(8) for name in CANDLES}, "fundamental_features": days(8), **later}


def test_look_backs_reach_as_far_as_their_candles_are_long() -> None:
    reaches = {name: reach.after for name, reach in LINEAGE["technical_features"].items() if name in CANDLES}
    # 299 candles before midnight
    wanted = {"ohlcv_1m": 1, "ohlcv_5m": 2, "ohlcv_15m": 4, "ohlcv_1h": 13, "ohlcv_4h": 50, "ohlcv_1d": 299}
    assert reaches.items() >= wanted.items()
    assert reaches.keys() == set(CANDLES)


def test_lineage_is_that_of_the_assets() -> None:
    defs = build_definitions(Settings())
    above = {
        spec.key.to_user_string(): {dep.asset_key.to_user_string() for dep in spec.deps}
        for spec in defs.resolve_all_asset_specs()
    }
    assert {name: set(inputs) for name, inputs in LINEAGE.items()} == {name: of for name, of in above.items() if of}


def test_signals_reach_as_far_as_models_are_trained() -> None:
    # 60 days, and what the inputs of the first of them look back on
    assert LINEAGE["ml_signals"]["technical_features"] == Reach(after=61)


def test_reaches() -> None:
    assert list(Reach().days(day(8), day(8))) == [day(8)]
    assert list(Reach(1, 1).days(day(8), day(8))) == [day(8), day(9)]
    assert list(Reach(1, 1).days(day(8), day(6))) == [day(7), day(8), day(9)]
    assert list(Reach(1).days(day(8), day(9))) == [day(8)]


def test_partitions_as_runs() -> None:
    found = spans({"a": days(7, 8, 9), "b": days(8, 9, 10, 12)})
    assert found == [
        Span(day(7), day(7), ("a",)),
        Span(day(8), day(9), ("a", "b")),
        Span(day(10), day(10), ("b",)),
        Span(day(12), day(12), ("b",)),
    ]
