"""What runs at the same time do to Dagster's history: SQLite as Dagster opens it, as this project does, and Postgres.

Usage: python -m benchmarks.histories [--runs 4] [--days 2] [--rounds 3] [--opened]

Each round begins with a new history and an empty lake; with --opened one process has opened the history before. Its
runs start together, each a process of its own that materializes days of its own; what is counted then is how many ended
well, and whether the history has all their steps.
Needs Debian's postgresql.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import yaml

from benchmarks.servers import LOOPBACK, PROJECT, celery_instance, database
from market_data_pipeline.model.windows import days_between
from market_data_pipeline_tests.defs.vendor_days import write_days

FIRST = date(2024, 7, 1)
_RUN = """
import os
from datetime import date
import dagster as dg
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.launch import launch
from market_data_pipeline.settings import Settings
defs = build_definitions(Settings.load(os.environ))
with dg.DagsterInstance.get() as instance:
    outcome = launch(defs, instance, date.fromisoformat({first!r}), date.fromisoformat({last!r}))
    assert outcome.clean, outcome.problems
"""
_COUNT = """
import dagster as dg
from dagster._core.events import DagsterEventType
with dg.DagsterInstance.get() as instance:
    runs = instance.get_runs()
    made = [instance.all_logs(run.run_id, of_type={DagsterEventType.ASSET_MATERIALIZATION}) for run in runs]
    print(sum(run.is_success for run in runs), sum(map(len, made)))
"""


@dataclass(frozen=True)
class Round:
    """How one round went.

    Attributes:
        seconds: until the last process had ended.
        well: processes that ended without an error.
        recorded: runs that the history has as succeeded; None where it cannot be opened any more.
        made: materializations in it.
        errors: the last line of each process that failed, and how many said so.
    """

    seconds: float
    well: int
    recorded: int | None
    made: int
    errors: Counter[str]


def main() -> None:
    """Prints a line for each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--days", type=int, default=2, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--opened", action="store_true", help="each history has been opened before, and has its tables")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="histories-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database runs as a user of its own
        write_days(folder / "files", days_between(FIRST, FIRST + timedelta(days=asked.runs * asked.days - 1)))
        for number in range(asked.rounds):
            for history, instance in _instances().items():
                place = folder / f"{number}-{history.replace(' ', '-')}"
                place.mkdir()
                # beside SQLite, too, so that all three find the same machine
                with database(place, LOOPBACK) as reached:
                    told = _round(place, folder / "files", instance, reached, asked)
                print(
                    f"{number + 1}, {history}: {told.well} of {asked.runs} ended well, {told.seconds:.0f} s; "
                    f"recorded as succeeded {told.recorded}, {told.made} materializations",
                    flush=True,
                )
                for error, count in told.errors.items():
                    print(f"    {count} x {error}", flush=True)
                shutil.rmtree(place)


def _instances() -> dict[str, dict[str, object]]:
    """The three dagster.yaml: this project's own, the same without its class, and the same with Postgres."""
    own = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    plain = {name: value for name, value in own.items() if name != "instance_class"}
    postgres = plain | {"storage": celery_instance()["storage"]}
    return {"SQLite as Dagster has it": plain, "SQLite that waits": own, "Postgres": postgres}


def _round(
    place: Path, files: Path, instance: Mapping[str, object], reached: Mapping[str, str], asked: argparse.Namespace
) -> Round:
    (place / "home").mkdir()
    (place / "home" / "dagster.yaml").write_text(yaml.safe_dump(instance))
    environment = (
        os.environ
        | reached
        | {
            "DAGSTER_HOME": str(place / "home"),
            "MARKET_DATA_LAKE": str(place / "lake"),
            "MARKET_DATA_SOURCE": "files",
            "MARKET_DATA_SOURCE_PATH": str(files),
            "MARKET_DATA_START": str(FIRST),
            "PYTHONPATH": str(PROJECT),
        }
    )
    if asked.opened:
        _begun(_COUNT, place, environment).communicate()
    start = time.perf_counter()
    processes = []
    for number in range(asked.runs):
        first = FIRST + timedelta(days=number * asked.days)
        code = _RUN.format(first=str(first), last=str(first + timedelta(days=asked.days - 1)))
        processes.append(_begun(code, place, environment))
    ended = [(process.communicate()[1], process.returncode) for process in processes]
    seconds = time.perf_counter() - start
    errors = Counter(_last_line(said) for said, code in ended if code)
    count = _begun(_COUNT, place, environment)
    told, _ = count.communicate()
    recorded, made = map(int, told.split()) if count.returncode == 0 else (None, 0)
    return Round(seconds, sum(code == 0 for _, code in ended), recorded, made, errors)


def _begun(code: str, place: Path, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    given = {"cwd": place, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], text=True, **given)


def _last_line(said: str) -> str:
    """The error itself, without what differs from run to run."""
    lines = [line for line in said.splitlines() if re.match(r"\S*(Error|Exception)\b", line)]
    return (lines or said.splitlines() or [""])[-1][:200]


if __name__ == "__main__":
    main()
