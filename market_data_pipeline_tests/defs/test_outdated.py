"""What must not get lost, and what must not be undone: failed and killed writers, other instruments, stopped days."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from socket import gethostname

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.defs import candle_assets, going_on
from market_data_pipeline.defs import history as history_module
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.going_on import end_dead_runs, marked_run
from market_data_pipeline.defs.history import History
from market_data_pipeline.defs.lineage import Change, lineage
from market_data_pipeline.defs.outdated import outdated
from market_data_pipeline.defs.recorded import ALL, CHANGED, CHANGED_FROM, READ_AT
from market_data_pipeline.lake import writer
from market_data_pipeline.model.errors import LakeError, SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import midnight
from market_data_pipeline.settings import Settings
from market_data_pipeline.transforms.quality import Flaw
from market_data_pipeline.transforms.signals import Recipe
from market_data_pipeline_tests.defs.running import Pipeline, SmallSource, pipeline
from market_data_pipeline_tests.defs.test_corrections import BTC, ETH, day, days, settle, tick

MADE = ["trades", "ohlcv_1m", "ohlcv_5m"]


@dataclass
class Steered(SmallSource):
    """Trades of which some come twice, cannot be read, or do not reach the day before."""

    twice: tuple[date, ...] = ()
    torn: tuple[Instrument, ...] = ()
    inside: tuple[Instrument, ...] = ()

    def _read(self, at: date, instrument: Instrument, rejects: Rejects) -> Iterator[pa.RecordBatch]:
        if instrument in self.torn:
            raise SourceError(f"{instrument} is torn")
        for batch in super()._read(at, instrument, rejects):
            inside = pc.greater_equal(batch.column("timestamp"), midnight(at))
            for _ in range(2 if at in self.twice else 1):
                yield batch.filter(inside) if instrument in self.inside else batch


@dataclass
class Lake:
    """Three days of trades and two candles, whose history the sensor has looked at."""

    running: Pipeline
    settings: Settings
    source: Steered
    cursor: str | None = None
    reason: str = ""

    def of(self, instrument: Instrument) -> Pipeline:
        """The same pipeline for one instrument alone."""
        settings = replace(self.settings, selection=Selection.of(instrument))
        return Pipeline(build_definitions(settings, self.source), self.running.instance)

    def send(self, number: int, instrument: Instrument = BTC) -> None:
        """The vendor changes a day's file."""
        at = (day(number), instrument)
        self.source.salt[at] = self.source.salt.get(at, 0) + 1

    def asked(self, running: Pipeline | None = None) -> dict[str, set[date]]:
        """What the sensor asks for until it asks for no more."""
        settled = settle(running or self.running, self.cursor)
        self.cursor, self.reason = settled.cursor, str(settled.reason)
        return settled.partitions


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    settings = Settings(lake=str(tmp_path / "lake"))
    source = Steered([BTC, ETH])
    with pipeline(settings, source) as running:
        assert running.run(day(7), day(9), assets=MADE).clean
        lake = Lake(running, settings, source)
        assert lake.asked() == {}
        yield lake


def both(*numbers: int) -> dict[str, set[date]]:
    return {"ohlcv_1m": days(*numbers), "ohlcv_5m": days(*numbers)}


@pytest.fixture
def failing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Materializes the trades of a day, whose run fails after its day files have landed."""

    def fail(*_: object, **__: object) -> None:
        raise LakeError("the disk is full")

    def run(number: int) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(writer, "publish_months", fail)
            assert not lake.running.run(day(number), assets=["trades"]).succeeded

    return run


def test_what_a_failed_run_has_left_is_a_change_for_the_next(lake: Lake, failing: Callable[[int], None]) -> None:
    lake.send(8)
    failing(8)
    assert lake.asked() == {}
    assert lake.running.run(day(8), assets=["trades"]).clean
    told = lake.running.metadata("trades", day(8))
    assert told["files_written"] == 0
    assert (set(told["changed"]), set(told["unchanged"])) == ({BTC.id}, {ETH.id})
    assert lake.asked() == both(7, 8, 9)


def test_a_failed_run_that_is_taken_back_is_a_change_too(lake: Lake, failing: Callable[[int], None]) -> None:
    """Somebody may have made candles from what it had left."""
    lake.send(8)
    failing(8)
    lake.source.salt.clear()
    assert lake.running.run(day(8), assets=["trades"]).clean
    assert lake.asked() == both(7, 8, 9)


def test_an_instrument_that_a_failed_run_has_removed_is_a_change(lake: Lake, failing: Callable[[int], None]) -> None:
    lake.source.instruments = [BTC]
    failing(8)
    assert lake.running.run(day(8), assets=["trades"]).clean
    assert lake.running.metadata("trades", day(8))["changed"] == {ETH.id: None}
    assert lake.asked() == both(7, 8, 9)
    # and it is no change a second time, but one when it comes back as it was
    assert lake.running.run(day(8), assets=["trades"]).clean
    assert lake.asked() == {}
    lake.source.instruments = [BTC, ETH]
    assert lake.running.run(day(8), assets=["trades"]).clean
    assert lake.asked() == both(7, 8, 9)


def test_candles_that_read_before_a_correction_and_were_recorded_after_it_are_out_of_date(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = candle_assets.first_candles

    def overtaken(*args: object) -> Iterator[DayRows]:
        read = [(each, list(each.read(Rejects()))) for each in make(*args)]  # type: ignore[arg-type]
        lake.send(8)
        other = threading.Thread(target=lambda: lake.running.run(day(8), assets=["trades"]))
        other.start()
        other.join()
        for each, batches in read:
            yield replace(each, read=lambda _, batches=batches: iter(batches))

    with monkeypatch.context() as patched:
        patched.setattr(candle_assets, "first_candles", overtaken)
        assert lake.running.run(day(8), assets=["ohlcv_1m"]).succeeded
    assert lake.asked() == both(7, 8, 9)


def test_a_sensor_of_other_instruments_names_what_it_cannot_mend_and_forgets_nothing(lake: Lake) -> None:
    lake.send(8, ETH)
    assert lake.of(ETH).run(day(8), assets=["trades"]).clean
    assert lake.asked(lake.of(BTC)) == {}
    assert "ohlcv_1m of 2024-08-07 (3 partitions in all) is out of date for instruments that" in lake.reason
    assert "trades of 2024-08-08 changed" in lake.reason
    assert lake.asked() == both(7, 8, 9)


def test_candles_of_other_instruments_do_not_count_as_made_since(lake: Lake) -> None:
    lake.send(8, ETH)
    assert lake.of(ETH).run(day(8), assets=["trades"]).clean
    assert lake.of(BTC).run(day(7), day(9), assets=MADE[1:]).clean
    assert lake.asked() == both(7, 8, 9)


def test_candles_of_the_changed_instrument_alone_count(lake: Lake) -> None:
    lake.send(8, ETH)
    assert lake.of(ETH).run(day(8), assets=["trades"]).clean
    assert lake.of(ETH).run(day(7), day(9), assets=MADE[1:]).clean
    assert lake.asked() == {}


def test_runs_of_different_instruments_compare_each_with_its_own(lake: Lake) -> None:
    assert lake.of(BTC).run(day(8), assets=["trades"]).clean
    assert lake.of(ETH).run(day(8), assets=["trades"]).clean
    assert lake.running.run(day(8), assets=["trades"]).clean
    assert lake.asked() == {}


def test_the_day_before_is_remembered_across_runs_of_other_instruments(lake: Lake) -> None:
    lake.source.inside = (BTC,)
    assert lake.of(BTC).run(day(8), assets=["trades"]).clean
    assert lake.running.run(day(7), day(9), assets=MADE[1:]).clean
    assert lake.of(BTC).run(day(8), assets=["trades"]).clean
    # it reached into the 7th, and does not any more
    lake.source.inside = (BTC, ETH)
    assert lake.of(ETH).run(day(8), assets=["trades"]).clean
    assert lake.asked() == both(7, 8, 9)


def test_the_day_before_is_remembered_of_what_a_failed_run_replaced(lake: Lake, failing: Callable[[int], None]) -> None:
    lake.source.inside = (BTC, ETH)
    failing(8)
    assert lake.running.run(day(8), assets=["trades"]).clean
    assert lake.asked() == both(7, 8, 9)


def test_a_day_that_never_reached_the_one_before_leaves_it_alone(tmp_path: Path) -> None:
    source = Steered([BTC], inside=(BTC,))
    with pipeline(Settings(lake=str(tmp_path / "lake")), source) as running:
        assert running.run(day(7), day(9), assets=MADE).clean
        lake = Lake(running, Settings(), source)
        lake.send(8)
        assert running.run(day(8), assets=["trades"]).clean
        assert lake.asked() == both(8, 9)


def test_what_could_not_be_made_of_an_instrument_is_asked_for_once_and_named(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = candle_assets.first_candles

    def torn(_: Rejects) -> Iterator[pa.RecordBatch]:
        raise SourceError("torn")

    def without_eth(*args: object) -> Iterator[DayRows]:
        for each in make(*args):  # type: ignore[arg-type]
            yield replace(each, read=torn) if each.instrument == ETH else each

    lake.send(8, ETH)
    assert lake.running.run(day(8), assets=["trades"]).clean
    with monkeypatch.context() as patched:
        patched.setattr(candle_assets, "first_candles", without_eth)
        assert lake.asked()["ohlcv_1m"] == days(7, 8, 9)
    assert "ohlcv_1m of 2024-08-07 (3 partitions in all) was asked for, and that did not succeed" in lake.reason
    assert lake.asked() == {}
    lake.cursor = None  # as "Reset this sensor's cursor" does
    assert lake.asked() == both(7, 8, 9)


def test_requests_have_no_key_by_which_dagster_would_pass_them_over(lake: Lake) -> None:
    lake.send(8)
    assert lake.running.run(day(8), assets=["trades"]).clean
    (request,) = tick(lake.running, lake.cursor).run_requests or ()
    assert request.run_key is None


def blocking(lake: Lake) -> Pipeline:
    settings = replace(lake.settings, blocking=frozenset({Flaw.DUPLICATE_IDS}))
    return Pipeline(build_definitions(settings, lake.source), lake.running.instance)


def test_a_stopped_day_stays_stopped_until_it_is_mended(lake: Lake) -> None:
    running = blocking(lake)
    lake.source.twice = (day(8),)
    assert not running.run(day(8), assets=MADE).succeeded
    assert lake.asked(running) == {}
    assert "ohlcv_1m of 2024-08-07 (3 partitions in all) is held back: trades of 2024-08-08 failed" in lake.reason
    # another day's correction goes on as far as it takes in nothing of the stopped one
    lake.send(7)
    assert running.run(day(7), assets=["trades"]).clean
    assert lake.asked(running) == {}
    assert "is held back" in lake.reason
    lake.source.twice = ()
    assert running.run(day(8), assets=["trades"]).clean
    assert lake.asked(running) == both(7, 8, 9)


def test_on_a_range_the_stopped_day_alone_is_held_back(tmp_path: Path) -> None:
    settings = Settings(lake=str(tmp_path / "lake"), blocking=frozenset({Flaw.DUPLICATE_IDS}))
    source = Steered([BTC])
    with pipeline(settings, source) as running:
        assert running.run(day(5), day(11), assets=MADE).clean
        lake = Lake(running, settings, source)
        source.twice = (day(6),)
        lake.send(10)
        assert not running.run(day(5), day(11), assets=MADE).succeeded
        assert lake.asked() == both(9, 10, 11)
        assert "ohlcv_1m of 2024-08-05 (3 partitions in all) is held back: trades of 2024-08-06 failed" in lake.reason


def test_what_was_made_by_hand_from_a_stopped_day_is_left_so(lake: Lake) -> None:
    running = blocking(lake)
    lake.source.twice = (day(8),)
    assert not running.run(day(8), assets=MADE).succeeded
    assert running.run(day(7), day(9), assets=["ohlcv_1m"]).succeeded
    assert lake.asked(running)["ohlcv_5m"] == days(7, 8, 9)
    assert "held back" not in lake.reason


_KILLED = """
import sys, time
import dagster as dg
from market_data_pipeline.defs.going_on import marked_run
instance = dg.DagsterInstance.local_temp(sys.argv[1])
with marked_run(instance) as run_id:
    job = dg.GraphDefinition("nothing").to_job()
    instance.create_run_for_job(job, run_id=run_id, status=dg.DagsterRunStatus.STARTED)
    print(run_id, flush=True)
    time.sleep(300)
"""


def test_a_run_whose_process_was_killed_is_ended_and_one_that_goes_on_is_not(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        process = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            run_id = process.stdout.readline().strip()
            end_dead_runs(instance)
            assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.STARTED  # type: ignore[union-attr]
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        end_dead_runs(instance)
        assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
        assert list((tmp_path / ".runs").iterdir()) == []
        with marked_run(instance):
            pass
        assert list((tmp_path / ".runs").iterdir()) == []


def mark(instance: dg.DagsterInstance, run_id: str, machine: str) -> Path:
    """A run's mark as its process has made it, and nobody holds it any more."""
    path = Path(instance.root_directory) / ".runs" / run_id
    path.parent.mkdir(exist_ok=True)
    path.write_text(machine)
    return path


def started(instance: dg.DagsterInstance) -> str:
    job = dg.GraphDefinition("nothing").to_job()
    return instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED).run_id


def test_a_run_of_another_machine_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its locks may not be seen from here, if the folder is shared."""

    def ended(machine: str) -> bool:
        path = mark(instance, started(instance), machine)
        end_dead_runs(instance)
        assert path.exists() is not instance.get_run_by_id(path.name).is_finished  # type: ignore[union-attr]
        return not path.exists()

    start = tmp_path / "boot_id"
    start.write_text("1f\n")
    monkeypatch.setattr(going_on, "_START", start)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        with marked_run(instance) as run_id:
            assert set((tmp_path / ".runs" / run_id).read_text().split("\n")) == {gethostname(), "1f"}
        assert not ended("elsewhere\n2e")
        assert not ended("elsewhere")
        # it was started anew, or is another container
        assert ended(f"{gethostname()}\n2e")
        assert ended("elsewhere\n1f")
        start.unlink()
        assert not ended("elsewhere\n1f")
        assert ended(gethostname())


@pytest.mark.parametrize(
    ("owner", "name"), [(os, "open"), (fcntl, "flock"), (Path, "mkdir"), (Path, "iterdir"), (Path, "unlink")]
)
def test_marks_that_cannot_be_made_or_seen_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """Another user's folder, or a file system without locks."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(name)

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        mark(instance, run := started(instance), gethostname())
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, refuse)
            with marked_run(instance) as run_id:
                assert run_id
            end_dead_runs(instance)
        seen = name in ("mkdir", "unlink")
        assert instance.get_run_by_id(run).is_finished is seen  # type: ignore[union-attr]
        end_dead_runs(instance)
        assert instance.get_run_by_id(run).is_finished  # type: ignore[union-attr]


def test_a_killed_run_of_ours_does_not_stop_the_sensor(lake: Lake) -> None:
    instance = lake.running.instance
    job = lake.running.defs.resolve_job_def("daily")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert lake.asked() == {}
    assert f"1 runs go on ({run.run_id})" in lake.reason
    assert "Terminate, with force" in lake.reason
    mark(instance, run.run_id, gethostname())
    assert lake.asked() == {}
    assert lake.reason == "nothing has changed that something else was made from"


LINEAGE = lineage(Recipe())


def report(instance: dg.DagsterInstance, name: str, number: int, **metadata: object) -> None:
    made = dg.AssetMaterialization(name, partition=str(day(number)), metadata=metadata)  # type: ignore[arg-type]
    instance.report_runless_asset_event(made)


def test_a_long_history_is_read_over_several_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market_data_pipeline.defs.history._PAGE", 2)
    monkeypatch.setattr("market_data_pipeline.defs.history._SECONDS", -1)
    with dg.DagsterInstance.ephemeral() as instance:
        for number in range(1, 6):
            report(
                instance, "trades", number, **{CHANGED: {BTC.id: "0a"}, CHANGED_FROM: f"{day(number)}T00:00:00+00:00"}
            )
        history = History(LINEAGE, Selection())
        assert [history.read_on(instance) for _ in range(3)] == [False, False, True]
        assert [(change.day, change.first) for change in history.changes] == [(day(n), day(n)) for n in range(1, 6)]
        report(instance, "trades", 6, **{CHANGED: {BTC.id: "0b"}})
        assert history.read_on(instance)
        assert [change.day for change in history.changes] == [day(number) for number in range(1, 7)]


def test_until_its_history_is_read_the_sensor_asks_for_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.send(8)
    assert lake.running.run(day(8), assets=["trades"]).clean
    monkeypatch.setattr("market_data_pipeline.defs.history._PAGE", 2)
    monkeypatch.setattr("market_data_pipeline.defs.history._SECONDS", -1)
    running = Pipeline(build_definitions(lake.settings, lake.source), lake.running.instance)
    told = tick(running, lake.cursor)
    assert not told.run_requests
    assert "Dagster's history is being read, " in str(told.skip_message)
    evaluations = 0
    while not told.run_requests and evaluations < 20:
        told, evaluations = tick(running, told.cursor), evaluations + 1
    assert told.run_requests


def test_rows_made_from_others_need_a_run_of_all_that_the_settings_have() -> None:
    def missing(*asked: str, across: bool) -> frozenset[str]:
        with dg.DagsterInstance.ephemeral() as instance:
            for each in asked:
                report(instance, "fundamental_features", 8, **{"instruments_asked_for": each, READ_AT: 20})
            history = History(LINEAGE, Selection.of("binance:*"))
            assert history.read_on(instance)
            change = Change("ohlcv_1m", day(8), 10, day(8), frozenset([ETH.id]))
            late = replace(change, at=30)
            assert history.not_made_since(change, ("fundamental_features", day(8)), across=across) == frozenset()
            return history.not_made_since(late, ("fundamental_features", day(8)), across=across)

    assert missing("all instruments", across=False) == {ETH.id}
    assert missing("all instruments", across=True) == {ETH.id, ALL}
    # of an instrument that nobody ever asked for nothing can be out of date
    assert missing(BTC.id, across=False) == frozenset()
    assert missing("binance:*", across=True) == {ETH.id, ALL}
    # rows of an instrument that others asked for are made from those of others, too
    assert missing(BTC.id, across=True) == {ALL}


def test_liquidations_of_one_instrument_reach_the_features_of_its_venues_others(tmp_path: Path) -> None:
    """They show that the venue's are known, so another one's missing file means that it had none."""
    settings = Settings(lake=str(tmp_path), selection=Selection.of("binance-futures:Perp:*"))
    btc, eth = (f"binance-futures:Perp:{base}-USDT" for base in ("BTC", "ETH"))

    def counted() -> bool:
        features = MarketDataLake(tmp_path).features(eth, "fundamental_features", day(8), day(9), timeframe="1m")
        return bool(features.column("long_liquidation_count").null_count < features.num_rows)

    with pipeline(settings) as running:
        assert running.run(day(8), assets=["instruments", "trades", "ohlcv_1m", "fundamental_features"]).succeeded
        assert not counted()
        only = Pipeline(build_definitions(replace(settings, selection=Selection.of(btc))), running.instance)
        assert only.run(day(8), assets=["liquidations", "fundamental_features"]).succeeded
        assert settle(running).partitions == {"fundamental_features": days(8)}
    assert counted()


@pytest.mark.parametrize(
    ("made", "behind"),
    [
        ([("binance:*", 20)], True),
        ([("binance:*", 40)], False),
        ([("binance:*", 40), ("deribit:*", 20)], True),
        ([("binance:*", 20), ("binance:*, deribit:*", 40)], False),
        ([("binance:*", 20), ("all instruments", 40)], False),
        ([("all instruments", 40), ("binance:*", 20)], False),
    ],
)
def test_a_change_of_the_master_reaches_what_was_made_with_other_words(
    made: list[tuple[str, int]], behind: bool
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for asked, read_at in made:
            report(instance, "ohlcv_1m", 8, **{"instruments_asked_for": asked, READ_AT: read_at})
        history = History(LINEAGE, Selection.of(["binance:*", "deribit:*"]))
        assert history.read_on(instance)
        change = Change("instruments", day(8), 30, day(8), frozenset([ALL]))
        assert history.not_made_since(change, ("ohlcv_1m", day(8)), across=False) == ({ALL} if behind else set())


def test_which_instruments_a_partition_lacks_is_worked_out_once_for_all_partitions_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what of them the settings have: it would be days times days times instruments otherwise."""
    seen = Counter[str]()
    covers = history_module._covers
    monkeypatch.setattr(history_module, "_covers", lambda *told: (seen.update([told[2]]), covers(*told))[1])
    parse = Instrument.parse
    monkeypatch.setattr(Instrument, "parse", lambda name: (seen.update([f"parsed {name}"]), parse(name))[1])
    numbers = range(1, 21)
    names = [f"binance:SPOT_PAIR:A{number}-USDT" for number in range(5)]
    with dg.DagsterInstance.ephemeral() as instance:
        for number in numbers:
            report(instance, "ml_signals", number, **{READ_AT: 0})
        for number in numbers:
            report(instance, "technical_features", number, **{CHANGED: dict.fromkeys(names, f"{number:x}")})
        history = History(LINEAGE, Selection())
        assert history.read_on(instance)
        made = {name: days(*numbers) if name == "ml_signals" else set[date]() for name in history.names}
        found = outdated(instance, history, made, LINEAGE, Selection(), ())
    assert set(found.due) == {("ml_signals", day(number)) for number in numbers}
    assert sum(map(len, found.due.values())) == sum(numbers)
    # once for what was made of them, and once for what the settings have
    assert max(seen.values()) <= 2
