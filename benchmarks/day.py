"""A day of many synthetic trades through Dagster: `trades`, all candles, the map. Prints times and the peak of memory.

python -m benchmarks.day --rows 20000000 --instruments 50
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.steps import peak_megabytes
from market_data_pipeline.model.contracts import LINEAR, Contract
from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.settings import Settings

DAY = date(2024, 8, 8)
_SCHEMA = DATASETS["trades"].own_schema
_BATCH = 100_000


class SyntheticSource:
    """Instruments with so many trades each; a batch is made when it is asked for."""

    name = "synthetic"
    data_types = ("trades",)
    has_listings = False
    venues: frozenset[str] | None = None

    def __init__(self, instruments: Sequence[Instrument], rows: int) -> None:
        self._instruments = instruments
        self._rows = rows

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """One file for each instrument."""
        for number, instrument in enumerate(self._instruments):
            if instrument in selection:
                yield DayRows(day, instrument, "synthetic", partial(self._read, number, day))

    def _read(self, number: int, day: date, _: Rejects) -> Iterator[pa.RecordBatch]:
        draw = np.random.default_rng([number, day.toordinal()])
        step = 86_400_000 / self._rows
        price = 100.0 * (1 + number)
        for start in range(0, self._rows, _BATCH):
            count = min(_BATCH, self._rows - start)
            # in order of the vendor's clock, so the exchange's time runs back by some milliseconds here and there
            millis = ((start + np.arange(count)) * step).astype(np.int64) + draw.integers(-5, 6, count)
            stamps = np.maximum(millis, 0) * 1000 + microseconds(midnight(day))
            prices = np.round(price + np.cumsum(draw.choice([-0.01, 0.0, 0.0, 0.01], count)), 2)
            price = float(prices[-1])
            ids = pa.array(np.arange(start, start + count) + 5_000_000_000).cast(pa.string())
            side = pa.DictionaryArray.from_arrays(pa.array(draw.integers(0, 2, count, dtype=np.int32)), ["buy", "sell"])
            amounts = np.round(np.exp(draw.normal(-4, 1.5, count)), 3) + 0.001
            columns = [pa.array(stamps).view(TIME), pa.array(stamps + 3_000).view(TIME), ids, side, prices, amounts]
            yield pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=_SCHEMA)

    def days_with(self, data_type: str, days: Iterable[date], selection: Selection) -> set[date]:
        """All of them."""
        return set(days)

    def describe(self, data_type: str) -> str:
        """What it holds."""
        return "holds every day"

    def contract(self, instrument: Instrument) -> Contract:
        """All are linear."""
        return LINEAR

    def listings(self, day: date, selection: Selection) -> pa.Table | None:
        """No master."""
        return None


def main() -> None:
    """Runs the day and prints a line for each asset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000, help="trades of all instruments together")
    parser.add_argument("--instruments", type=int, default=50)
    parser.add_argument("--lake", type=Path, help="where to write; a temporary folder by default")
    arguments = parser.parse_args()
    folder = arguments.lake or Path(tempfile.mkdtemp(prefix="lake-"))
    try:
        _run(arguments.instruments, arguments.rows, folder)
    finally:
        if arguments.lake is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(instruments: int, rows: int, folder: Path) -> None:
    import dagster as dg

    from market_data_pipeline.defs.build import build_definitions

    pairs = [Instrument.spot("binance", f"A{number:03}", "USDT") for number in range(instruments)]
    source = SyntheticSource(pairs, rows // instruments)
    job = build_definitions(Settings(lake=str(folder)), source).resolve_implicit_global_asset_job_def()
    print(f"{rows:,} trades over {instruments} instruments; peak before: {peak_megabytes():,.0f} MB", flush=True)
    started = time.perf_counter()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance,
            partition_key=DAY.isoformat(),
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
            raise_on_error=False,
        )
        for stats in sorted(instance.get_run_step_stats(result.run_id), key=lambda stats: stats.start_time or 0):
            print(f"{stats.step_key:32} {stats.end_time - stats.start_time:8.2f} s")
    checks = result.get_asset_check_evaluations()
    print(f"all                              {time.perf_counter() - started:8.2f} s")
    print(f"checks passed: {sum(check.passed for check in checks)} of {len(checks)}; run succeeded: {result.success}")
    print(f"peak memory of the process: {peak_megabytes():,.0f} MB")
    if not result.success:
        sys.exit(1)


if __name__ == "__main__":
    main()
