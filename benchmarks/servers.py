"""Debian's Postgres and Redis for a while, as benchmarks need them: nothing is kept, nobody asked for a password."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.networks import MASK
from market_data_pipeline_tests.ports import free_port

PROJECT = Path(__file__).parents[1]
LOOPBACK = "127.0.0.1"
PATIENCE = 1_800
"""Seconds until something must have happened."""


@contextmanager
def database(folder: Path, host: str) -> Iterator[dict[str, str]]:
    """Postgres, as the user that its package makes; yields what the instances of `deploy/` read of the environment."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    data, port = folder / "database", free_port(host)
    data.mkdir()
    shutil.chown(data, "postgres")
    as_user = ["runuser", "-u", "postgres", "--"]
    subprocess.run([*as_user, binaries / "initdb", "-D", data, "-A", "trust"], check=True, stdout=subprocess.DEVNULL)
    with (data / "pg_hba.conf").open("a") as allowed:
        allowed.write(f"host all all {host}/{MASK} trust\n")
    options = f"-p {port} -c listen_addresses={host} -c unix_socket_directories={data} -c max_connections=300"
    control = [*as_user, binaries / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*control, "-l", data / "log", "-o", options, "start"], check=True, stdout=subprocess.DEVNULL)
    try:
        subprocess.run([*as_user, binaries / "createdb", "-h", host, "-p", str(port), "dagster"], check=True)
        yield {
            "DAGSTER_PG_HOST": host,
            "DAGSTER_PG_PORT": str(port),
            "DAGSTER_PG_USERNAME": "postgres",
            "DAGSTER_PG_PASSWORD": "none",
            "DAGSTER_PG_DB": "dagster",
        }
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, stdout=subprocess.DEVNULL)


def celery_instance() -> dict[str, Any]:
    """`deploy/celery/dagster.yaml`, but for the database's port, which is that of `database`."""
    told: dict[str, Any] = yaml.safe_load((PROJECT / "deploy" / "celery" / "dagster.yaml").read_text())
    told["storage"]["postgres"]["postgres_db"]["port"] = {"env": "DAGSTER_PG_PORT"}
    return told


@contextmanager
def broker(folder: Path, host: str) -> Iterator[dict[str, str]]:
    """Redis; yields what `deploy/celery/` reads from the environment."""
    port = free_port(host)
    # without protected mode it answers others than its own loopback, of the few that reach the address at all
    options = ["--port", str(port), "--bind", host, "--protected-mode", "no", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(port, host), "Redis", {"redis": process})
        yield {
            "DAGSTER_CELERY_BROKER": f"redis://{host}:{port}/0",
            "DAGSTER_CELERY_BACKEND": f"redis://{host}:{port}/1",
        }
    finally:
        process.terminate()
        process.wait()


def wait_for(done: Callable[[], object], what: str, processes: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
    """Waits until something is true.

    Raises:
        SystemExit: one of the processes has ended, or it took PATIENCE.
    """
    until = time.monotonic() + PATIENCE
    while not done():
        for name, process in processes.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} has ended with {process.returncode}")
        if time.monotonic() > until:
            raise SystemExit(f"{what}: still not there after {PATIENCE} s")
        time.sleep(1)


def answers(port: int, host: str = LOOPBACK) -> bool:
    """Whether something listens on a port of an address."""
    with socket.socket() as trial:
        return trial.connect_ex((host, port)) == 0
