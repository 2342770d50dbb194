"""Runs as engines make them: each step in a process of its own, and a run that is resumed after its process died."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import reconstructable
from dagster._core.execution.api import execute_run_iterator

import market_data_pipeline
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import SmallSource, pipeline
from market_data_pipeline_tests.parity import objects

PROJECT = Path(market_data_pipeline.__file__).parents[1]
DAY = "2024-08-08"
ASSETS = ("trades", "ohlcv_1m", "ohlcv_5m", "technical_features")
SOURCE = SmallSource([Instrument.parse(text) for text in ("binance:SPOT_PAIR:BTC-USDT", "deribit:Perp:BTC-USD")])


def one_process() -> dg.JobDefinition:
    """The daily job, as it stands."""
    return build_definitions(Settings(lake=os.environ["MARKET_DATA_LAKE"]), SOURCE).resolve_job_def("daily")


def processes() -> dg.JobDefinition:
    """The same, with a process for each step, as pods are."""
    defs = build_definitions(Settings(lake=os.environ["MARKET_DATA_LAKE"]), SOURCE)
    executor = dg.multiprocess_executor.configured({"max_concurrent": 2})
    apart = dg.Definitions(defs.assets, defs.schedules, jobs=defs.jobs, resources=defs.resources, executor=executor)
    return apart.resolve_job_def("daily")


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("MARKET_DATA_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run from the command line leaves."""
    folder = tmp_path_factory.mktemp("expected")
    with pipeline(Settings(lake=str(folder)), SOURCE) as running:
        assert running.run(DAY, assets=list(ASSETS)).clean
    return objects(open_store(folder))


def events(how: str, run_id: str, *, resume: bool) -> Iterator[dg.DagsterEvent]:
    """Begins a run of the day, or goes on with it, as a worker does."""
    recon = reconstructable(globals()[how])
    with dg.DagsterInstance.get() as instance:
        if not resume:
            instance.create_run_for_job(
                globals()[how](),
                run_id=run_id,
                tags={"dagster/partition": DAY},
                asset_selection={dg.AssetKey(name) for name in ASSETS},
                job_code_origin=recon.get_python_origin(),
            )
        run = instance.get_run_by_id(run_id)
        assert run is not None
        yield from execute_run_iterator(recon, run, instance, resume_from_failure=resume)


def die_midway(run_id: str) -> None:
    """A worker that is killed once it has made the ticks and begun with candles."""
    for event in events("one_process", run_id, resume=False):
        if event.is_step_start and event.step_key == "ohlcv_1m":
            os.kill(os.getpid(), signal.SIGKILL)


def status(run_id: str) -> dg.DagsterRunStatus:
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        return run.status


def test_a_process_for_each_step_leaves_the_same(lake: Path, expected: dict[str, bytes]) -> None:
    run_id = str(uuid4())
    assert [event.message for event in events("processes", run_id, resume=False) if event.is_failure] == []
    assert status(run_id) is dg.DagsterRunStatus.SUCCESS
    assert objects(open_store(lake)) == expected


def test_a_run_whose_worker_was_killed_is_resumed_and_leaves_the_same(lake: Path, expected: dict[str, bytes]) -> None:
    run_id = str(uuid4())
    # a new interpreter: a copy of this one would share its open files
    worker = multiprocessing.get_context("spawn").Process(target=die_midway, args=(run_id,))
    worker.start()
    worker.join(240)
    assert worker.exitcode == -signal.SIGKILL
    assert status(run_id) is dg.DagsterRunStatus.STARTED
    assert 0 < len(objects(open_store(lake))) < len(expected)
    assert [event.message for event in events("one_process", run_id, resume=True) if event.is_failure] == []
    assert status(run_id) is dg.DagsterRunStatus.SUCCESS
    assert objects(open_store(lake)) == expected
