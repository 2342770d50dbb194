"""Dagster's folder for each lake, and a history that several processes may write at once."""

import multiprocessing
import shutil
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import dagster as dg
import pytest
import yaml
from sqlalchemy import text

from market_data_pipeline.defs import instance as module
from market_data_pipeline.defs.instance import WAIT_SECONDS, WaitingInstance, prepare_home
from market_data_pipeline.model.errors import SettingError

PROJECT = Path(module.__file__).parents[2]
PROCESSES = 4


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", folder)
    return folder


def test_each_lake_has_a_folder_of_its_own_with_the_projects_configuration(project):
    home = prepare_home(project, "data", {})
    assert home.parent == project / ".dagster"
    assert home.name.startswith("data-")
    assert (home / "dagster.yaml").read_bytes() == (project / "dagster.yaml").read_bytes()
    others = [
        prepare_home(project, url, env)
        for url, env in [
            ("other/data", {}),
            ("gs://data", {}),
            ("gs://data/a", {}),
            ("gs://data", {"STORAGE_EMULATOR_HOST": "http://localhost:9000"}),
            ("gs://", {}),
            ("gs://", {"MARKET_DATA_TICK_BUCKET": "my-ticks"}),
        ]
    ]
    assert len({home, *others}) == len(others) + 1


@pytest.mark.parametrize("same", ["data/", "./data", "other/../data", "{project}/data"])
def test_one_lake_has_one_folder_whatever_it_is_called(project, same):
    assert prepare_home(project, same.format(project=project), {}) == prepare_home(project, "data", {})


def test_a_link_to_a_lake_is_that_lake(project):
    (project / "data").mkdir()
    (project / "link").symlink_to("data")
    assert prepare_home(project, "link", {}) == prepare_home(project, "data", {})


def test_a_changed_configuration_is_copied_again(project):
    home = prepare_home(project, "data", {})
    (project / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with ThreadPoolExecutor(8) as pool:
        homes = set(pool.map(lambda _: prepare_home(project, "data", {}), range(32)))
    assert homes == {home}
    assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
    assert sorted(path.name for path in home.iterdir()) == [".lock", "dagster.yaml"]


def test_a_folder_from_the_environment_is_made_and_left_alone(project, tmp_path):
    mine = tmp_path / "my" / "home"
    assert prepare_home(project, "data", {"DAGSTER_HOME": str(mine)}) == mine
    assert list(mine.iterdir()) == []


def test_a_relative_folder_from_the_environment_is_refused(project):
    with pytest.raises(SettingError, match="absolute"):
        prepare_home(project, "data", {"DAGSTER_HOME": "somewhere"})


def test_a_folder_that_cannot_be_made_is_named(project):
    (project / ".dagster").write_text("a file in its place")
    with pytest.raises(SettingError, match=r"\.dagster"):
        prepare_home(project, "data", {})


def test_the_projects_configuration_is_at_work(project):
    with dg.DagsterInstance.from_config(str(prepare_home(project, "data", {}))) as instance:
        assert isinstance(instance, WaitingInstance)
        assert not instance.telemetry_enabled
        limit = yaml.safe_load((project / "dagster.yaml").read_text())["concurrency"]["runs"]["max_concurrent_runs"]
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == limit


def test_every_connection_waits(project):
    with dg.DagsterInstance.from_config(str(prepare_home(project, "data", {}))) as instance:
        connections = [
            instance.run_storage.connect(),
            instance.schedule_storage.connect(),
            instance.event_log_storage.index_connection(),
            instance.event_log_storage.run_connection("some-run"),
        ]
        for connection in connections:
            with connection as opened:
                assert opened.execute(text("PRAGMA busy_timeout")).scalar() == WAIT_SECONDS * 1000


def test_a_run_waits_for_a_writer_that_takes_longer_than_sqlites_own_limit(project):
    home = prepare_home(project, "data", {})
    with dg.DagsterInstance.from_config(str(home)) as instance, ThreadPoolExecutor(1) as pool:
        writer = sqlite3.connect(home / "history" / "runs.db", isolation_level=None, check_same_thread=False)
        writer.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        pool.submit(lambda: (time.sleep(6.5), writer.execute("COMMIT")))
        assert dg.materialize([noted], instance=instance).success
        assert time.monotonic() - started > 6
        writer.close()


def test_processes_that_meet_on_a_new_instance_all_succeed(tmp_path):
    """Without the lock around the making of the tables, some of these fail nearly always."""
    homes = [tmp_path / str(number) for number in range(4)]
    for home in homes:
        home.mkdir()
        shutil.copy(PROJECT / "dagster.yaml", home)
    # a new interpreter each: a copy of this one would share its open files and locks
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        together = manager.Barrier(PROCESSES)
        with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
            each = [pool.submit(run_on_each, homes, together) for _ in range(PROCESSES)]
            outcomes = [future.result(timeout=240) for future in each]
    for home, runs in zip(homes, zip(*outcomes, strict=True), strict=True):
        with dg.DagsterInstance.from_config(str(home)) as instance:
            recorded = {run.run_id: run.status for run in instance.get_runs()}
            assert recorded == dict.fromkeys(runs, dg.DagsterRunStatus.SUCCESS)
            found = instance.fetch_materializations(dg.AssetKey("noted"), limit=100)
            assert len(found.records) == PROCESSES


@dg.asset
def noted(context: dg.AssetExecutionContext) -> None:
    for number in range(20):
        context.log.info("line %d", number)


def run_on_each(homes: list[Path], together: Barrier) -> list[str]:
    """A run on each new instance, together with the other processes; returns the runs' ids, or why there is none."""
    outcomes = []
    for home in homes:
        together.wait(120)
        try:
            with dg.DagsterInstance.from_config(str(home)) as instance:
                outcomes.append(dg.materialize([noted], instance=instance).run_id)
        except Exception as error:
            outcomes.append(repr(error))
    return outcomes
