"""`verify` over a year of candles: time, and bytes read, beside reading all of it. Each in a process of its own.

python -m benchmarks.verify --days 365 --instruments 5
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.verified import verify
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.datasets import DATASETS, TIME, TIMEFRAMES, candles
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.transforms.candles import roll_up

FIRST = date(2023, 1, 1)
FRAMES = ("1m", "5m", "15m", "1h", "4h", "1d")


def main() -> None:
    """Writes the candles, then measures, and prints ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--instruments", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3, help="of each measurement; the fastest counts")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--measure", choices=sorted(MEASURED), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        _measure(arguments.folder, arguments.days, MEASURED[arguments.measure])
        return
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="lake-"))
    try:
        started = time.perf_counter()
        rows = write_year(open_store(folder), arguments.days, arguments.instruments)
        size = sum({(s := path.stat()).st_ino: s.st_size for path in folder.rglob("*.parquet")}.values())
        print(
            f"{arguments.days} days x {arguments.instruments} instruments x {len(FRAMES)} timeframes: {rows:,} rows, "
            f"{size / 1e6:,.1f} MB in all layouts, written in {time.perf_counter() - started:,.0f} s"
        )
        found = {name: min(_run(folder, arguments.days, name) for _ in range(arguments.runs)) for name in MEASURED}
        whole_time, whole_bytes = found["read all"]
        for name, (seconds, count) in found.items():
            print(
                f"{name:10} {seconds:8.2f} s {seconds / whole_time:7.1%}   {count / 1e6:9.1f} MB "
                f"{count / whole_bytes:7.1%} of reading all"
            )
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def write_year(store: ObjectStore, days: int, instruments: int) -> int:
    """Candles of every timeframe that move as prices do; month by month."""
    named = [Instrument.spot("binance", f"A{number:03}", "USDT") for number in range(instruments)]
    wanted = [FIRST + timedelta(days=number) for number in range(days)]
    total = 0
    for start in range(0, days, 31):
        month = wanted[start : start + 31]
        for frame in FRAMES:
            rows = (
                DayRows(day, instrument, "synthetic", partial(_read, number, day, frame))
                for day in month
                for number, instrument in enumerate(named)
            )
            report = write_days(store, candles(frame), month, Selection(), rows)
            total += sum(file.span.rows for file in report.files)
    return total


def _read(number: int, day: date, frame: str, _: Rejects) -> Iterator[pa.RecordBatch]:
    table = minutes(number, day)
    for name in FRAMES[1 : FRAMES.index(frame) + 1]:
        table = roll_up(table, day, TIMEFRAMES[name])
    yield from table.combine_chunks().to_batches()


def minutes(number: int, day: date) -> pa.Table:
    """A day of 1m candles that move as prices do."""
    draw = np.random.default_rng([number, day.toordinal()])
    count = 1440
    opens = np.arange(count) * 60_000_000 + microseconds(midnight(day))
    close = np.round(100 * (1 + number) + np.cumsum(draw.normal(0, 0.05, count)), 2)
    before = np.concatenate([close[:1], close[:-1]])
    high = np.round(np.maximum(close, before) + draw.exponential(0.03, count), 2)
    low = np.round(np.minimum(close, before) - draw.exponential(0.03, count), 2)
    volume = np.round(draw.lognormal(1, 1, count), 4)
    bought = np.round(volume * draw.random(count), 4)
    vwap = np.round((high + low + close) / 3, 6)
    columns = {
        "timestamp": pa.array(opens).view(TIME),
        "close_time": pa.array(opens + 60_000_000).view(TIME),
        "open": before,
        "high": high,
        "low": low,
        "close": close,
        "volume": volume,
        "quote_volume": volume * vwap,
        "trade_count": draw.integers(1, 300, count),
        "buy_volume": bought,
        "buy_quote_volume": bought * vwap,
        "vwap": vwap,
        "base_volume": volume,
        "volume_unit": pa.array(["base"] * count),
    }
    schema = DATASETS["ohlcv_1m"].own_schema
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)


def _run(folder: Path, days: int, name: str) -> tuple[float, int]:
    command = [sys.executable, "-m", "benchmarks.verify", "--measure", name, "--folder", folder, "--days", str(days)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, count = done.stdout.split()
    return float(seconds), int(count)


def _measure(folder: Path, days: int, work: Callable[[ObjectStore, date], None]) -> None:
    store, before, started = open_store(folder), _bytes_read(), time.perf_counter()
    work(store, FIRST + timedelta(days=days - 1))
    print(time.perf_counter() - started, _bytes_read() - before)


def _bytes_read() -> int:
    """What this process has asked the system to read (Linux), from whatever cache."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def _verify(store: ObjectStore, last: date, full: bool) -> None:
    found = list(verify(store, [candles(frame) for frame in FRAMES], FIRST, last, full=full))
    if found:
        raise SystemExit(f"{len(found)} differences, the first: {found[0]}")


def _read_all(store: ObjectStore, _: date) -> None:
    for info in store.list("market-data-candles/"):
        with store.open(info.key) as pinned:
            pq.ParquetFile(pinned.file).read()


MEASURED: dict[str, Callable[[ObjectStore, date], None]] = {
    "read all": _read_all,
    "verify": partial(_verify, full=False),
    "full": partial(_verify, full=True),
}

if __name__ == "__main__":
    main()
