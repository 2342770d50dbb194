"""The pool of what loads from the source: which runs a limit on it holds back, and that none waits that has begun."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.storage.dagster_run import DagsterRun

import market_data_pipeline
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.declaring import SOURCE_POOL
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.settings import Settings

PROJECT = Path(market_data_pipeline.__file__).parents[1]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """The project's own, with no place in the pool."""
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        made.event_log_storage.set_concurrency_slots(SOURCE_POOL, 0)
        yield made


def run_of(instance: dg.DagsterInstance, *assets: str) -> DagsterRun:
    """A run of these assets as it stands in the queue."""
    defs = build_definitions(Settings())
    job = dg.define_asset_job("chosen", [dg.AssetKey(name) for name in assets])
    chosen = dg.Definitions(assets=defs.assets, jobs=[job], resources=defs.resources, executor=defs.executor)
    return instance.create_run_for_job(chosen.resolve_job_def("chosen"))


def test_the_queue_knows_which_runs_load_from_the_source(instance: dg.DagsterInstance) -> None:
    loading, working_out = run_of(instance, "trades", "ohlcv_1m"), run_of(instance, "ohlcv_1m", "ohlcv_1h")
    assert loading.run_op_concurrency is not None
    assert loading.run_op_concurrency.all_pools == {SOURCE_POOL}
    assert working_out.run_op_concurrency is None


def test_all_that_comes_from_the_source_is_in_the_pool_and_nothing_else() -> None:
    assets = [each for each in build_definitions(Settings()).assets or () if isinstance(each, dg.AssetsDefinition)]
    pools = {each.key.path[-1]: each.op.pool for each in assets}
    assert pools == {name: SOURCE_POOL if DATASETS[name].from_source else None for name in pools}
    assert set(pools.values()) == {SOURCE_POOL, None}


def test_a_run_that_has_begun_waits_for_no_place(instance: dg.DagsterInstance) -> None:
    run = run_of(instance, "trades")
    with InstanceConcurrencyContext(instance, run) as places:
        assert places.claim(SOURCE_POOL, "trades")
    # the place was not needed: nobody holds one
    info = instance.event_log_storage.get_concurrency_info(SOURCE_POOL)
    assert (info.slot_count, list(info.claimed_slots), list(info.pending_steps)) == (0, [], [])
