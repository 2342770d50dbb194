"""Whether a backfill over several workers equals one process, object for object, with a run and a worker killed midway.

Usage: python -m benchmarks.workers [--days 31] [--workers 4] [--slice 4]

Needs Debian's postgresql and redis-server, and the packages of `deploy/`: dagster-celery and dagster-postgres. All of
it goes with the script: a database, a broker, a GCS test server, the daemon with the code, and Celery workers, each in
a network namespace of its own where that can be had (root, iproute2). They share database, broker and test server, by
an address, and the folder with the vendor's files, which they only read. The instance is that of
`deploy/celery/dagster.yaml` but for the database's port.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from benchmarks.networks import HOST, apart
from benchmarks.servers import LOOPBACK, PATIENCE, PROJECT, answers, broker, celery_instance, database, wait_for
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.launch import chosen_assets, launch
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.windows import days_between
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.vendor_days import write_days
from market_data_pipeline_tests.gcs_server import GcsServer
from market_data_pipeline_tests.ports import free_port

FIRST = date(2024, 7, 1)
_WORKER = ["-m", "celery", "-A", "dagster_celery.app", "worker", "-c", "1", "-Q", "dagster", "-l", "warning"]
_WAVES = {"instruments": "ticks", "ml_signals": "signals"}


def main() -> int:
    """Runs the proof and says what it found; 0 where all is equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--slice", type=int, default=4, help="days a run takes: MARKET_DATA_DAYS_PER_RUN")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started goes with it
    last = FIRST + timedelta(days=asked.days - 1)
    names = [f"worker-{number}" for number in range(asked.workers)]
    with tempfile.TemporaryDirectory(prefix="workers-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # the database runs as a user of its own
        write_days(folder / "files", days_between(FIRST, last))
        try:
            begins = stack.enter_context(apart(names))
            host = HOST
            print(f"each worker has a network of its own, and reaches the others by {host}", flush=True)
        except PermissionError as error:
            begins, host = dict.fromkeys(names, ()), LOOPBACK
            print(f"all share this machine's loopback: {error}", flush=True)
        server = GcsServer(host=host).start()
        stack.callback(server.stop)
        for bucket in ("one", "several"):
            server.memory.create(bucket)
        shared = os.environ | {
            "STORAGE_EMULATOR_HOST": server.url,
            "MARKET_DATA_SOURCE": "files",
            "MARKET_DATA_SOURCE_PATH": str(folder / "files"),
            "MARKET_DATA_START": str(FIRST),
            "PYTHONPATH": f"{PROJECT}:{PROJECT / 'deploy' / 'celery'}",
        }
        os.environ |= {name: shared[name] for name in shared if name.startswith(("STORAGE", "MARKET_DATA"))}
        start = time.perf_counter()
        _in_one_process(last)
        print(f"one process: {time.perf_counter() - start:.0f} s, {len(_objects(server, 'one'))} objects", flush=True)
        environment = shared | {
            "MARKET_DATA_LAKE": "gs://several",
            "MARKET_DATA_DAYS_PER_RUN": str(asked.slice),
            "DAGSTER_HOME": str(folder / "home"),
            **stack.enter_context(database(folder, host)),
            **stack.enter_context(broker(folder, host)),
        }
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_text(yaml.safe_dump(celery_instance()))
        start = time.perf_counter()
        _over_workers(folder, environment, last, begins, stack)
        print(f"{asked.workers} workers: {time.perf_counter() - start:.0f} s", flush=True)
        return _compared(_objects(server, "one"), _objects(server, "several"))


def _in_one_process(last: date) -> None:
    settings = Settings.load(os.environ | {"MARKET_DATA_LAKE": "gs://one"})
    defs = build_definitions(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = launch(defs, instance, FIRST, last)
        assert outcome.clean, outcome.problems


def _over_workers(
    folder: Path, environment: Mapping[str, str], last: date, begins: Mapping[str, Sequence[str]], stack: ExitStack
) -> None:
    """A backfill for each kind of rows, as slices look back on one another.

    The process that makes a run of candles is killed midway, and a whole worker that makes one of features.
    """
    port = free_port(LOOPBACK)
    code = ["-m", "dagster", "code-server", "start", "-m", "market_data_pipeline.definitions", "-p", str(port)]
    commands = {
        "code": [sys.executable, *code],
        "daemon": [sys.executable, "-m", "dagster._daemon", "run", "-w", str(_workspace(folder, port))],
        **{name: [*begin, sys.executable, *_WORKER, "-n", f"{name}@%h"] for name, begin in begins.items()},
    }
    processes = {
        name: stack.enter_context(_running(command, folder, name, environment)) for name, command in commands.items()
    }
    os.environ |= {name: environment[name] for name in environment if name.startswith("DAGSTER")}
    settings = Settings.load(environment)
    defs = build_definitions(settings)
    waves: dict[str, list[dg.AssetKey]] = {}
    for key in chosen_assets(defs, None):
        waves.setdefault(_WAVES.get(key.path[-1], DATASETS[key.path[-1]].kind), []).append(key)
    with dg.DagsterInstance.get() as instance:
        wait_for(lambda: instance.get_daemon_statuses() and answers(port), "the daemon", processes)
        for wave in ("ticks", "candles", "features", "signals", "availability"):
            backfill = _begin(instance, defs, waves[wave], last)
            if wave == "candles":
                worker = _killed(instance, processes, lambda _, process: os.kill(process, signal.SIGKILL))
                print(f"candles: killed the process in which {worker} made a run", flush=True)
            elif wave == "features":
                worker = _killed(instance, processes, lambda name, _: os.killpg(processes[name].pid, signal.SIGKILL))
                processes.pop(worker)
                print(f"features: killed {worker} as a whole, at a run", flush=True)
            _ended(instance, backfill, processes)
            runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
            failed = sum(run.status is dg.DagsterRunStatus.FAILURE for run in runs)
            again = sum("dagster/parent_run_id" in run.tags for run in runs)
            print(f"{wave}: {len(runs)} runs, {failed} failed, {again} made again", flush=True)


def _killed(
    instance: dg.DagsterInstance,
    processes: Mapping[str, "subprocess.Popen[bytes]"],
    kill: Callable[[str, int], None],
) -> str:
    """Once runs are at work, kills by a worker's name and the process in which it makes one; the worker's name."""
    from celery import Celery

    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    workers = [name for name in processes if name.startswith("worker")]
    wait_for(lambda: len(instance.get_runs(started)) >= min(2, len(workers)), "runs at work", processes)
    asked = Celery(broker=os.environ["DAGSTER_CELERY_BROKER"]).control.inspect(timeout=10, limit=len(workers))
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for name, tasks in (asked.active() or {}).items():
            for task in tasks:
                worker = name.partition("@")[0]
                with suppress(ProcessLookupError):  # it has just ended
                    kill(worker, task["worker_pid"])
                    return worker
    raise SystemExit(f"no run to kill was found in {PATIENCE} s")


def _begin(instance: dg.DagsterInstance, defs: dg.Definitions, keys: Sequence[dg.AssetKey], last: date) -> str:
    """Asks for a backfill as the UI does; its id."""
    made = PartitionBackfill.from_asset_partitions(
        backfill_id=f"b{time.time_ns()}",
        asset_graph=defs.resolve_asset_graph(),
        partition_names=[day.isoformat() for day in days_between(FIRST, last)],
        asset_selection=list(keys),
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(made)
    return made.backfill_id


def _ended(instance: dg.DagsterInstance, backfill: str, processes: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
    over = (BulkActionStatus.COMPLETED_SUCCESS, BulkActionStatus.COMPLETED_FAILED, BulkActionStatus.FAILED)
    wait_for(
        lambda: instance.get_backfill(backfill).status in (*over, BulkActionStatus.COMPLETED), "the backfill", processes
    )
    status = instance.get_backfill(backfill).status
    if status is not BulkActionStatus.COMPLETED_SUCCESS:
        raise SystemExit(f"backfill {backfill}: {status.value}")


def _objects(server: GcsServer, bucket: str) -> dict[str, bytes]:
    return {name: stored.data for name, stored in server.memory.bucket(bucket).items()}


def _compared(one: Mapping[str, bytes], several: Mapping[str, bytes]) -> int:
    differing = sorted(key for key in one.keys() & several.keys() if one[key] != several[key])
    alone = sorted(one.keys() ^ several.keys())
    print(f"{len(one)} objects and {len(several)}: {len(alone)} lie in one alone, {len(differing)} differ in bytes")
    for key in [*alone, *differing][:10]:
        print(f"  {key}")
    return 1 if alone or differing else 0


@contextmanager
def _running(
    command: Sequence[str], folder: Path, name: str, environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _workspace(folder: Path, port: int) -> Path:
    path = folder / "workspace.yaml"
    server = {"host": LOOPBACK, "port": port, "location_name": "market_data_pipeline"}
    path.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    return path


if __name__ == "__main__":
    sys.exit(main())
