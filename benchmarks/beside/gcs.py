"""A day of many instruments to a Google Cloud Storage that is some milliseconds away."""

import json
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.beside.cases import Case, Contender, Ground, Turn
from benchmarks.beside.data import DAY

_BUCKET = "lake"


class _Server:
    """The server's process."""

    def __init__(self, seconds: float) -> None:
        command = [sys.executable, "-m", "benchmarks.beside.far_storage", _BUCKET, str(seconds)]
        self._pipe = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._pipe.stdout is not None
        self.url = self._pipe.stdout.readline().strip()

    def asked(self) -> str:
        """What it was asked since the last time."""
        assert self._pipe.stdin is not None
        assert self._pipe.stdout is not None
        self._pipe.stdin.write("\n")
        self._pipe.stdin.flush()
        kinds = dict(json.loads(self._pipe.stdout.readline()))
        return f"{sum(kinds.values()):,} requests: {', '.join(f'{number} {kind}' for kind, number in kinds.items())}"


def _rows(ground: Ground) -> list[Any]:
    from benchmarks.day import SyntheticSource
    from market_data_pipeline.model.instruments import Instrument, Selection

    pairs = [Instrument.spot("binance", f"A{number:03}", "USDT") for number in range(ground.size.instruments)]
    source = SyntheticSource(pairs, ground.size.trades // len(pairs))
    return list(source.files("trades", DAY, Selection()))


def _lake(ground: Ground) -> Turn:
    from market_data_pipeline.lake.stores import open_store
    from market_data_pipeline.lake.writer import write_days
    from market_data_pipeline.model.datasets import DATASETS
    from market_data_pipeline.model.instruments import Selection

    server, rows, numbers = _Server(ground.size.latency), _rows(ground), count()

    def run() -> None:
        store = open_store(f"gs://{_BUCKET}/ours-{next(numbers)}", emulator=server.url)
        report = write_days(store, DATASETS["trades"], [DAY], Selection(), rows)
        if report.failures:
            raise RuntimeError(report.failures[0].message)

    return Turn(run, server.asked, lambda _: server.asked())


def _one_by_one(ground: Ground) -> Turn:
    """Each instrument is encoded once and sent under its three names, with the same client."""
    from market_data_pipeline.lake.encoding import write_day_file
    from market_data_pipeline.lake.stores.gcs_client import client_from_environment
    from market_data_pipeline.model.datasets import DATASETS
    from market_data_pipeline.model.rows import Rejects

    server, rows, numbers, dataset = _Server(ground.size.latency), _rows(ground), count(), DATASETS["trades"]
    bucket = client_from_environment(server.url).bucket(_BUCKET)

    def run() -> None:
        prefix = f"theirs-{next(numbers)}"
        with tempfile.TemporaryDirectory() as folder:
            for each in rows:
                path = Path(folder) / "day.parquet"
                write_day_file(path, dataset, DAY, each.instrument, each.read(Rejects()))
                for layout in dataset.day_layouts:
                    bucket.blob(f"{prefix}/{dataset.path(layout, DAY, each.instrument)}").upload_from_filename(path)

    return Turn(run, server.asked, lambda _: server.asked())


_ONE = "one request after the other"
CASES = (
    Case(
        "gcs",
        "on GCS (test server on loopback with 20 ms added to each request): a day of 50 instruments",
        (Contender("lake", _lake), Contender(_ONE, _one_by_one)),
        {_ONE: 0.15},
        agree=False,
    ),
)
