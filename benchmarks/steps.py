"""Steps of a measurement, each in a process of its own, so that its peak memory is its own."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def in_turn(command: Sequence[str], home: Path, steps: Sequence[str], runs: int, **settings: str) -> dict[str, float]:
    """One step after another and again, so that all see the machine in the same mood.

    Args:
        command: a module, and what stands before `--step`.
        home: the folder that the steps work in.
        steps: their names.
        runs: how often each is run.
        settings: environment variables for them.

    Returns:
        The median of the seconds of each; a line for each is printed.
    """
    took: dict[str, list[dict[str, float]]] = {step: [] for step in steps}
    for _ in range(runs):
        for step in steps:
            line = [sys.executable, "-m", *command, "--step", step, "--folder", str(home)]
            done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | settings)
            if done.returncode:
                sys.exit(done.stderr)
            sys.stderr.write(done.stderr)
            took[step].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {}
    for step, found in took.items():
        medians[step] = statistics.median(each["seconds"] for each in found)
        seconds = ", ".join(f"{each['seconds']:.1f}" for each in found)
        cpu = statistics.median(each["cpu"] for each in found)
        peak = max(each["peak"] for each in found)
        print(
            f"{step:12} {medians[step]:6.1f} s ({seconds})  CPU {cpu:.1f} s  peak {peak:,.0f} MB  {found[0]['said']}",
            flush=True,
        )
    return medians


def measure(step: Callable[[Path], str], home: Path) -> None:
    """Runs one step in this process and prints what `in_turn` reads."""
    started = time.perf_counter()
    said = step(home)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak_megabytes(), "said": said}))


def peak_megabytes() -> float:
    """The most memory that this process has held; not what its parent had when it was started, as getrusage tells."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # macOS counts bytes
