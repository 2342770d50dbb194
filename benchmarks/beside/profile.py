"""Where the time of a contender goes, function by function, over some runs in this process.

python -m benchmarks.beside.profile read-day --folder /tmp/data --size full [--contender lake] [--runs 20]
"""

import argparse
import cProfile
import pstats
import sys
import tempfile
from pathlib import Path

from benchmarks.beside.cases import SIZES, Ground
from benchmarks.beside.runner import make_data, own_environment
from benchmarks.beside.table import CASES


def main() -> None:
    """Runs once to warm up, then counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--contender", default="lake")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "beside")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--lines", type=int, default=20)
    arguments = parser.parse_args()
    ground = Ground(arguments.folder / arguments.size, SIZES[arguments.size])
    ground.home.mkdir(parents=True, exist_ok=True)
    case = CASES[arguments.case]
    make_data(own_environment(Path(sys.executable)), ground.home, arguments.size, set(case.needs))
    (contender,) = (each for each in case.contenders if each.label == arguments.contender)
    contender.make(ground)
    turn = contender.ready(ground)
    counted = cProfile.Profile()
    for number in range(arguments.runs + 1):
        turn.before()
        if number:
            counted.enable()
        turn.run()
        counted.disable()
    pstats.Stats(counted).sort_stats("tottime").print_stats(arguments.lines)


if __name__ == "__main__":
    main()
