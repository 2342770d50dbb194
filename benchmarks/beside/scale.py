"""Whole days of many instruments through Dagster, of which the largest has ten times the rows of the smallest."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.beside.cases import Case, Contender, Ground, Turn, Under


def _day(which: int) -> Callable[[Ground], Turn]:
    def ready(ground: Ground) -> Turn:
        rows, instruments = ground.size.scale[which], ground.size.scale_instruments
        lake = ground.own(f"scale-{rows}")
        command = [sys.executable, "-m", "benchmarks.day", "--rows", str(rows), "--instruments", str(instruments)]
        command += ["--lake", str(lake)]

        def run() -> str:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
            return f"{rows:,} trades, {instruments} instruments"

        return emptied(lake, run)

    return ready


def emptied(lake: Path, run: Callable[[], str]) -> Turn:
    """Work in a folder that is empty before, and after it again: such a lake is large."""

    def clear() -> None:
        shutil.rmtree(lake, ignore_errors=True)

    def after(said: str) -> str:
        clear()
        return said

    return Turn(run, clear, after)


_THREE, _ONE = "three tenths of the rows", "a tenth of the rows"
CASES = (
    Case(
        "scale",
        "a day of 100M trades over 500 instruments, source → candles → availability",
        (Contender("lake", _day(2)), Contender(_THREE, _day(1)), Contender(_ONE, _day(0))),
        {_THREE: 1.15 * 10 / 3, _ONE: 1.15 * 10},
        (Under(1024, "peak"),),
        most=1,
        note="the ratio of rows is 3.33 and 10: goals are 1.15 times that",
    ),
)
