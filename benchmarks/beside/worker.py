"""One contender's process: it makes itself ready, then answers each line of its input with a line on what it did.

python -m benchmarks.beside.worker CASE CONTENDER HOME SIZE [make]
"""

import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from benchmarks.beside.cases import SIZES, Contender, Ground, Turn
from benchmarks.beside.table import CASES
from benchmarks.steps import peak_megabytes


def main() -> None:
    """Serves until its input ends."""
    name, label, home, size, *make = sys.argv[1:]
    (contender,) = (each for each in CASES[name].contenders if each.label == label)
    ground = Ground(Path(home), SIZES[size])
    # what libraries print is no answer
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if make:
        _make(contender, ground)
    else:
        _serve(contender, ground, CASES[name].unit, answers)


def _make(contender: Contender, ground: Ground) -> None:
    """Once, however many cases read the same files."""
    done = ground.own("made") / f"{contender.label}, {contender.make.__qualname__}"
    if not done.exists():
        contender.make(ground)
        done.touch()


def _serve(contender: Contender, ground: Ground, unit: str, answers: TextIO) -> None:
    turn = contender.ready(ground)
    _say(answers, {"ready": peak_megabytes()})
    for line in sys.stdin:
        _say(answers, _take(turn, int(line), unit))


def _say(answers: TextIO, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


def _take(turn: Turn, calls: int, unit: str) -> dict[str, Any]:
    values, cpu, said, found = [], [], None, None
    gc.collect()
    for _ in range(calls):
        result = None
        turn.before()
        busy, started = _busy(), time.perf_counter()
        result = turn.run()
        seconds = time.perf_counter() - started
        cpu.append(_busy() - busy)
        values.append(seconds if unit == "s" else result)
        found, said = _summary(result), turn.after(result)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    peak = max(peak_megabytes(), children)
    return {"values": values, "cpu": cpu, "peak": peak, "found": found, "said": said}


def _busy() -> float:
    """Seconds of processor time, of this process and of those that it has waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _summary(result: Any) -> list[float] | None:
    """What all contenders must agree on: rows, and sums of the columns that all have."""
    if not hasattr(result, "num_rows"):
        return None
    import pyarrow.compute as pc

    if "trade_count" in result.column_names:  # some make candles of empty minutes
        result = result.filter(pc.greater(result.column("trade_count"), 0))
    names = [name for name in ("price", "amount", "close", "volume", "trade_count") if name in result.column_names]
    return [result.num_rows, *(float(pc.sum(result.column(name)).as_py() or 0) for name in names)]


if __name__ == "__main__":
    main()
