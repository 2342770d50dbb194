"""Processes that write days of one month while others read it: no row may be lost, doubled or mixed. Prints each round.

python -m benchmarks.races --rounds 20 --store local|gcs [--endpoint http://127.0.0.1:9000]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline_tests.gcs_server import running_apart
from market_data_pipeline_tests.lake.races import Race, racing, run
from market_data_pipeline_tests.store_fixtures import gcs_ground, local_ground


def main() -> None:
    """Runs the rounds; ends with a status other than zero where a row was lost, doubled or mixed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--store", choices=["local", "gcs"], default="local")
    parser.add_argument("--endpoint", help="a GCS test server; the project's own by default")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--writes", type=int, default=40)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unconditional", action="store_true", help="without preconditions: rows must be lost")
    asked = parser.parse_args()
    race = Race(asked.writers, asked.writes, asked.readers, conditional=not asked.unconditional)
    sound = 0
    with _grounds(asked.store, asked.endpoint) as ground, racing(race) as pool:
        for round_ in range(asked.rounds):
            began = time.monotonic()
            result = run(race, ground(), asked.seed + round_, pool)
            sound += result.sound
            print(f"round {round_ + 1}: {time.monotonic() - began:6.1f} s: {result}", flush=True)
    print(f"{sound} of {asked.rounds} rounds without a row lost, doubled or mixed")
    if sound < asked.rounds:
        sys.exit(1)


@contextmanager
def _grounds(kind: str, endpoint: str | None) -> Iterator[Callable[[], Callable[[], ObjectStore]]]:
    """Gives empty lakes, each as what opens it in any process."""
    if kind == "gcs":
        with running_apart() if endpoint is None else nullcontext(endpoint) as url:
            yield lambda: gcs_ground(url).again
        return
    with tempfile.TemporaryDirectory(prefix="races-") as folder:
        names = iter(range(1_000_000))
        yield lambda: local_ground(Path(folder) / str(next(names))).again


if __name__ == "__main__":
    main()
