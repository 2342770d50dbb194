"""Feeds parsers with made-up bytes and texts for as long as asked; an error that is none of this project's ends it.

python -m benchmarks.fuzz --minutes 10 [--target tardis_files]
"""

import argparse
import random
import time

from hypothesis import HealthCheck, seed, settings

from market_data_pipeline_tests.fuzz import TARGETS

_BATCH = 500


def main() -> None:
    """Runs each target for so many minutes; hypothesis prints the example that is at fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument("--target", choices=TARGETS, action="append", help="which; all by default")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    asked = parser.parse_args()
    for name in asked.target or TARGETS:
        chosen = settings(max_examples=_BATCH, deadline=None, database=None, suppress_health_check=list(HealthCheck))(
            TARGETS[name]
        )
        until, batches = time.monotonic() + 60 * asked.minutes, 0
        while time.monotonic() < until:
            seed(asked.seed + batches)(chosen)()
            batches += 1
        print(f"{name}: {batches * _BATCH:,} examples from seed {asked.seed} on, no foreign error", flush=True)


if __name__ == "__main__":
    main()
