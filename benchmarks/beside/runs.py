"""Runs of the whole pipeline: many days in one run, and a day whose files have not changed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.beside.cases import Case, Contender, Ground, Turn
from benchmarks.beside.data import DAY, days, vendor_folder

_CLI = [sys.executable, "-c", "from market_data_pipeline.cli import main; main()"]


def _sample(name: str, commands: Callable[[Ground], list[list[str]]]) -> Callable[[Ground], Turn]:
    """Days of the sample market by the command line, as a person asks for them."""

    def ready(ground: Ground) -> Turn:
        home, asked = ground.own(name), commands(ground)

        def before() -> None:
            shutil.rmtree(home)
            (home / "dagster").mkdir(parents=True)

        def run() -> str:
            settings = {"MARKET_DATA_LAKE": str(home / "lake"), "DAGSTER_HOME": str(home / "dagster")}
            settings |= {"MARKET_DATA_SOURCE": "sample", "MARKET_DATA_INSTRUMENTS": ground.size.selection}
            for each in asked:
                done = subprocess.run(
                    [*_CLI, *each], cwd=home, env=os.environ | settings, capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
            return f"{ground.size.days} days, runs: {len(asked)}"

        return Turn(run, before, lambda said: said)

    return ready


def _one(ground: Ground) -> list[list[str]]:
    return [["backfill", str(days(ground)[0]), str(days(ground)[-1])]]


def _each(ground: Ground) -> list[list[str]]:
    return [["materialize", str(day)] for day in days(ground)]


def _vendor_day(name: str, *, again: bool) -> Callable[[Ground], Turn]:
    """All assets of the vendor's day through Dagster, in this process: into an empty lake, or into one that has it."""

    def ready(ground: Ground) -> Turn:
        import dagster as dg

        from market_data_pipeline.defs.build import build_definitions
        from market_data_pipeline.defs.launch import launch
        from market_data_pipeline.settings import Settings

        lake = ground.own(name) / "lake"
        defs = build_definitions(Settings(lake=str(lake), source="files", source_path=vendor_folder(ground)))
        was: dict[Path, tuple[int, int]] = {}

        def materialize() -> None:
            with dg.DagsterInstance.ephemeral() as instance:
                outcome = launch(defs, instance, DAY, DAY)
            if not outcome.succeeded:
                raise RuntimeError("\n".join(outcome.problems))

        def before() -> None:
            if not again:
                shutil.rmtree(lake, ignore_errors=True)
            elif not lake.exists():
                materialize()
            was.clear()
            was.update(_files(lake))

        def after(_: None) -> str:
            now = _files(lake)
            changed = [path for path in now if now[path] != was.get(path)]
            written = sum({now[path][0]: path.stat().st_size for path in changed}.values())
            return f"{len(now):,} files, of which {len(changed):,} changed; {written / 1e6:,.1f} MB written"

        return Turn(materialize, before, after)

    return ready


def _files(lake: Path) -> dict[Path, tuple[int, int]]:
    """The lake's files, and how one can tell that another has taken a name's place."""
    found = [path for path in lake.glob("market-*/**/*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


_RUNS, _FIRST = "31 separate runs", "the first run"
CASES = (
    Case(
        "again",
        "a second run over an unchanged day",
        (Contender("lake", _vendor_day("again", again=True)), Contender(_FIRST, _vendor_day("first", again=False))),
        {_FIRST: 0.3},
        needs=("day", "vendor"),
    ),
    Case(
        "backfill",
        "31 sample days in one backfill",
        (Contender("lake", _sample("backfill", _one)), Contender(_RUNS, _sample("runs", _each))),
        {_RUNS: 0.3},
        most=1,
    ),
)
