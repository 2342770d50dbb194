"""Runs that end anywhere: at every call or request in turn, and by SIGKILL; the lake must be whole after the next run.

python -m benchmarks.crashes --kills 200 --store local|gcs [--every 1]
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from market_data_pipeline_tests.gcs_server import running_apart
from market_data_pipeline_tests.lake.crashes import crash_everywhere, killed_runs, watching
from market_data_pipeline_tests.store_fixtures import Ground, gcs_ground, local_ground


def main() -> None:
    """Crashes and kills; the first lake that is not as it should be ends it with an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--every", type=int, default=0, help="crash at every so many-th call, too; 0 for none")
    parser.add_argument("--store", choices=["local", "gcs"], default="local")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.every:
        for answered in (False, True) if asked.store == "gcs" else (False,):
            with _ground(asked.store) as ground:
                calls = crash_everywhere(ground, watching(ground, answered=answered), asked.every)
            print(
                f"a crash at every {asked.every} of {calls} calls{', answered' * answered}: whole each time", flush=True
            )
    with _ground(asked.store) as ground:
        kills = []
        for kill in killed_runs(ground, asked.kills, asked.seed):
            kills.append(kill)
            if len(kills) % 20 == 0 or len(kills) == asked.kills:
                running = sum(each.midway is not None for each in kills)
                midway, left = sum(bool(each.midway) for each in kills), sum(each.left for each in kills)
                print(
                    f"{len(kills)} kills: {running} before the run was done, {midway} midway through its objects; "
                    f"{left} temporary files left and swept; whole each time",
                    flush=True,
                )


@contextmanager
def _ground(kind: str) -> Iterator[Ground]:
    if kind == "gcs":
        with running_apart() as url:
            yield gcs_ground(url)
        return
    with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
        yield local_ground(Path(folder) / "lake")


if __name__ == "__main__":
    main()
