"""Runs a case: its contenders in their processes, in turn, again and again; says what each took."""

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.beside.cases import Case, Contender, Ground

ROOT = Path(__file__).parents[2]


@dataclass
class Measured:
    """What one contender took.

    Attributes:
        values: seconds (or bytes), of each run.
        cpu: seconds of processor time, of each run.
        ready: megabytes at the most before the first run: its libraries, what it opened.
        peak: megabytes at the most, in all.
        said: what it says of itself.
    """

    values: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    ready: float = 0.0
    peak: float = 0.0
    said: str | None = None

    @property
    def median(self) -> float:
        """The middle of all runs."""
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        """What nineteen of twenty runs stay under."""
        return sorted(self.values)[math.ceil(0.95 * len(self.values)) - 1]


@dataclass(frozen=True)
class Environment:
    """Where contenders find their packages.

    Attributes:
        own: the interpreter of the project.
        peers: that of the bench environment; None where there is none.
    """

    own: Path
    peers: Path | None

    def lacks(self, contender: Contender) -> str | None:
        """Why a contender cannot take part."""
        if contender.peer is None:
            return None
        if self.peers is None:
            return "no bench environment"
        found = subprocess.run([self.peers, "-c", f"import {contender.peer}"], capture_output=True, check=False)
        return None if found.returncode == 0 else "not installed for this Python"

    def command(self, contender: Contender, *arguments: str) -> list[str]:
        """The command line of a contender's process."""
        python = self.own if contender.peer is None else self.peers
        return [str(python), "-m", "benchmarks.beside.worker", *arguments]


class ContenderFailed(Exception):
    """A contender's process ended before its time; says what it printed last."""


class _Process:
    """A contender's process, between its turns."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        self._pipe = subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        self.ready = float(self._answer()["ready"])

    def _answer(self) -> dict[str, Any]:
        assert self._pipe.stdout is not None
        line = self._pipe.stdout.readline()
        if not line:
            raise ContenderFailed(self._log.read_text()[-2000:])
        return dict(json.loads(line))

    def take(self, calls: int) -> dict[str, Any]:
        assert self._pipe.stdin is not None
        self._pipe.stdin.write(f"{calls}\n")
        self._pipe.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._pipe.communicate()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def make_data(environment: Environment, home: Path, size: str, names: set[str]) -> None:
    """Makes what cases share, in a process of its own."""
    code = "import sys; from benchmarks.beside import cases, data; from pathlib import Path; "
    code += "data.make(cases.Ground(Path(sys.argv[1]), cases.SIZES[sys.argv[2]]), set(sys.argv[3:]))"
    command = [str(environment.own), "-c", code, str(home), size, *sorted(names)]
    subprocess.run(command, cwd=ROOT, env=_environment(), check=True)


def run(case: Case, ground: Ground, size: str, rounds: int, environment: Environment) -> dict[str, Measured | str]:
    """What each contender of a case took, by label; of one that cannot take part, why.

    Raises:
        ContenderFailed: one ended with an error, or they did not all give the same.
    """
    took: dict[str, Measured | str] = {}
    with contextlib.ExitStack() as running:
        processes: dict[str, _Process] = {}
        for contender in case.contenders:
            if why := environment.lacks(contender):
                took[contender.label] = why
                continue
            processes[contender.label] = running.enter_context(_started(case, contender, ground, size, environment))
            took[contender.label] = Measured(ready=processes[contender.label].ready)
        if rounds > 1 and case.most > 1 and case.unit == "s":  # caches are warm for everyone
            for process in processes.values():
                process.take(1)
        found = {}
        for _ in range(min(rounds, case.most) if case.unit == "s" else 1):
            for label, process in processes.items():
                told, measured = process.take(case.calls), took[label]
                assert isinstance(measured, Measured)
                measured.values += told["values"]
                measured.cpu += told["cpu"]
                measured.peak, measured.said = told["peak"], told["said"]
                found[label] = told["found"]
    if case.agree:
        compare(case, found)
    return took


@contextlib.contextmanager
def _started(
    case: Case, contender: Contender, ground: Ground, size: str, environment: Environment
) -> Iterator[_Process]:
    arguments = environment.command(contender, case.name, contender.label, str(ground.home), size)
    made = subprocess.run(
        [*arguments, "make"], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise ContenderFailed(f"{case.name}, {contender.label}: {made.stderr[-2000:]}")
    try:
        process = _Process(arguments, ground.home / "worker.log")
    except ContenderFailed as failed:
        raise ContenderFailed(f"{case.name}, {contender.label}: {failed}") from failed
    try:
        yield process
    finally:
        process.close()


def compare(case: Case, found: dict[str, list[float] | None]) -> None:
    """Raises ContenderFailed where contenders that tell of rows do not tell the same."""
    told = {label: each for label, each in found.items() if each is not None}
    ours = next(iter(told.values()), [])
    for label, theirs in told.items():
        if len(theirs) != len(ours) or any(
            not math.isclose(a, b, rel_tol=1e-9) for a, b in zip(ours, theirs, strict=True)
        ):
            raise ContenderFailed(f"{case.name}: {label} gave {theirs}, {next(iter(told))} {ours}")


def own_environment(peers: Path) -> Environment:
    """The environment of this interpreter, and the peers' if it is there."""
    return Environment(Path(sys.executable), peers if peers.exists() else None)
