"""Whether a backfill over several workers equals one process, object for object, with one of them killed midway.

Usage: python -m benchmarks.workers [--days 31] [--workers 4] [--slice 4]

Needs Debian's postgresql and redis-server, and the packages of `deploy/`: dagster-celery and dagster-postgres. All of
it listens on this machine's loopback and goes with the script: a database, a broker, a GCS test server, the daemon with
the code, and Celery workers in processes of their own, which share nothing else. The instance is that of
`deploy/celery/dagster.yaml` but for its port.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.launch import chosen_assets, launch
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.windows import days_between
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.vendor_days import write_days
from market_data_pipeline_tests.gcs_server import GcsServer

PROJECT = Path(__file__).parents[1]
FIRST = date(2024, 7, 1)
PATIENCE = 1_800
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
    with tempfile.TemporaryDirectory(prefix="workers-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # the database runs as a user of its own
        write_days(folder / "files", days_between(FIRST, last))
        server = GcsServer().start()
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
            **stack.enter_context(_database(folder)),
            **stack.enter_context(_broker(folder)),
        }
        _home(folder / "home", environment)
        start = time.perf_counter()
        killed = _over_workers(folder, environment, last, asked.workers, stack)
        print(f"{asked.workers} workers: {time.perf_counter() - start:.0f} s; {killed}", flush=True)
        return _compared(_objects(server, "one"), _objects(server, "several"))


def _in_one_process(last: date) -> None:
    settings = Settings.load(os.environ | {"MARKET_DATA_LAKE": "gs://one"})
    defs = build_definitions(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = launch(defs, instance, FIRST, last)
        assert outcome.clean, outcome.problems


def _over_workers(folder: Path, environment: Mapping[str, str], last: date, workers: int, stack: ExitStack) -> str:
    """A backfill for each kind of rows, as slices look back on one another; a run of candles is killed midway."""
    commands = {
        "code": ["-m", "dagster", "code-server", "start", "-m", "market_data_pipeline.definitions", "-p", "4266"],
        "daemon": ["-m", "dagster._daemon", "run", "-w", str(_workspace(folder))],
        **{f"worker-{number}": [*_WORKER, "-n", f"w{number}@%h"] for number in range(workers)},
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
    told = "no run was found to kill"
    with dg.DagsterInstance.get() as instance:
        _wait_for(lambda: instance.get_daemon_statuses() and _answers(4266), "the daemon", processes)
        for wave in ("ticks", "candles", "features", "signals", "availability"):
            backfill = _begin(instance, defs, waves[wave], last)
            if wave == "candles":
                told = _killed(instance, processes, min(2, workers))
            _ended(instance, backfill, processes)
            runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
            failed = sum(run.status is dg.DagsterRunStatus.FAILURE for run in runs)
            again = sum("dagster/parent_run_id" in run.tags for run in runs)
            moved = sum(instance.count_resume_run_attempts(run.run_id) > 0 for run in runs)
            print(
                f"{wave}: {len(runs)} runs, {failed} failed, {again} made again, {moved} went on in another process",
                flush=True,
            )
    return told


def _killed(instance: dg.DagsterInstance, processes: Mapping[str, "subprocess.Popen[bytes]"], least: int) -> str:
    """Kills the process that makes a run, once some runs are at work."""
    from celery import Celery

    at_work = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    _wait_for(lambda: len(instance.get_runs(at_work)) >= least, "runs at work", processes)
    tasks = (Celery(broker=os.environ["DAGSTER_CELERY_BROKER"]).control.inspect(timeout=10).active() or {}).values()
    for task in (each for of_worker in tasks for each in of_worker):
        os.kill(task["worker_pid"], signal.SIGKILL)
        return "a run's process was killed midway"
    return "no run was found to kill"


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
    _wait_for(
        lambda: instance.get_backfill(backfill).status in (*over, BulkActionStatus.COMPLETED), "the backfill", processes
    )
    status = instance.get_backfill(backfill).status
    if status is not BulkActionStatus.COMPLETED_SUCCESS:
        print(f"backfill {backfill}: {status.value}", flush=True)


def _wait_for(done, what: str, processes: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
    until = time.monotonic() + PATIENCE
    while not done():
        for name, process in processes.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} has ended with {process.returncode}")
        if time.monotonic() > until:
            raise SystemExit(f"{what}: still not there after {PATIENCE} s")
        time.sleep(1)


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
def _database(folder: Path) -> Iterator[dict[str, str]]:
    """Postgres, as the user that its package makes."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    data, port = folder / "database", _free_port()
    data.mkdir()
    shutil.chown(data, "postgres")
    as_user = ["runuser", "-u", "postgres", "--"]
    subprocess.run([*as_user, binaries / "initdb", "-D", data, "-A", "trust"], check=True, stdout=subprocess.DEVNULL)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data} -c max_connections=300"
    control = [*as_user, binaries / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-l", data / "log", "-o", options, "start"], check=True, stdout=subprocess.DEVNULL)
    try:
        subprocess.run([*as_user, binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "dagster"], check=True)
        yield {
            "DAGSTER_PG_HOST": "127.0.0.1",
            "DAGSTER_PG_PORT": str(port),
            "DAGSTER_PG_USERNAME": "postgres",
            "DAGSTER_PG_PASSWORD": "none",
            "DAGSTER_PG_DB": "dagster",
        }
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, stdout=subprocess.DEVNULL)


@contextmanager
def _broker(folder: Path) -> Iterator[dict[str, str]]:
    port = _free_port()
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(lambda: _answers(port), "Redis", {"redis": process})
        yield {
            "DAGSTER_CELERY_BROKER": f"redis://127.0.0.1:{port}/0",
            "DAGSTER_CELERY_BACKEND": f"redis://127.0.0.1:{port}/1",
        }
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _running(
    command: Sequence[str], folder: Path, name: str, environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _home(home: Path, environment: Mapping[str, str]) -> None:
    home.mkdir()
    told = (PROJECT / "deploy" / "celery" / "dagster.yaml").read_text()
    assert told.count("port: 5432") == 1
    (home / "dagster.yaml").write_text(told.replace("port: 5432", f"port: {environment['DAGSTER_PG_PORT']}"))


def _workspace(folder: Path) -> Path:
    path = folder / "workspace.yaml"
    path.write_text("load_from:\n  - grpc_server: {host: 127.0.0.1, port: 4266, location_name: market_data_pipeline}\n")
    return path


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
