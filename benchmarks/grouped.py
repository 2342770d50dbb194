"""Grouped and wide days: time and peak memory of each step, in a process of its own.

python -m benchmarks.grouped options --rows 5000000 --instruments 2000
python -m benchmarks.grouped book --rows 3000000
python -m benchmarks.grouped day --rows 5000000 --instruments 2000
"""

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pyarrow as pa

from benchmarks.steps import in_turn, measure
from benchmarks.vendor_days import (
    BOOK_NAME,
    DAY,
    OPTIONS_NAME,
    TRADES_NAME,
    write_book,
    write_option_trades,
    write_options,
)
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline_tests.gcs_server import GcsServer

_BASES = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LTC", "BNB")
_COMMAND = ("benchmarks.grouped", "options")
_ONE = "binance-futures:Perp:BTC-USDT"


def main() -> None:
    """Makes the file if it is not there, runs the steps, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["options", "book", "day"])
    parser.add_argument("--rows", type=int, help="5,000,000 of options, 3,000,000 of a book by default")
    parser.add_argument("--instruments", type=int, help="how many share the rows: 2,000 options, 1 book by default")
    parser.add_argument("--runs", type=int, default=3, help="of each step, in turn; the median is printed")
    parser.add_argument("--folder", type=Path, help="keeps the vendor's file for the next time")
    parser.add_argument("--step", choices=sorted(_STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        measure(_STEPS[arguments.step], arguments.folder)
        return
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="vendor-days-"))
    try:
        {"options": _options, "book": _book, "day": _day}[arguments.what](folder, arguments)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def _options(folder: Path, arguments: argparse.Namespace) -> None:
    rows, instruments = arguments.rows or 5_000_000, arguments.instruments or 2000
    home = folder / f"options-{rows}-{instruments}"
    _made(home / OPTIONS_NAME, lambda path: write_options(path, rows, instruments))
    print(
        f"{rows:,} rows of options over {instruments:,} instruments, {_megabytes(home / OPTIONS_NAME):,.0f} MB packed"
    )
    found = in_turn(_COMMAND, home, ["parse", "split", "write"], arguments.runs)
    for step in ("split", "write"):
        print(f"{step} / parse: {found[step] / found['parse']:.2f}")


def _book(folder: Path, arguments: argparse.Namespace) -> None:
    rows, bases = arguments.rows or 3_000_000, _BASES[: arguments.instruments or 1]
    home = folder / f"book-{rows}-{len(bases)}"
    for base in bases:
        name = BOOK_NAME.format(symbol=f"{base}USDT")
        _made(home / name, lambda path, base=base: write_book(path, f"{base}USDT", rows // len(bases)))
    print(f"{rows:,} rows of book_snapshot_25 over {len(bases)} instruments")
    in_turn(_COMMAND, home, ["parse", "write_book", "read_hour"], arguments.runs)


def _day(folder: Path, arguments: argparse.Namespace) -> None:
    """A whole day of options through Dagster, on a local disk and on a server of Google's storage, which counts."""
    rows, instruments = arguments.rows or 5_000_000, arguments.instruments or 2000
    home = folder / f"day-{rows}-{instruments}"
    _made(home / OPTIONS_NAME, lambda path: write_options(path, rows, instruments))
    # half of the options are not traded on the day
    _made(home / TRADES_NAME, lambda path: write_option_trades(path, rows // 25, instruments, instruments // 2))
    print(f"{rows:,} rows of an options chain and {rows // 25:,} trades over {instruments:,} instruments")
    in_turn(_COMMAND, home, ["day"], 1)
    server = GcsServer().start()
    bucket = Request(
        f"{server.url}/storage/v1/b?project=test", b'{"name": "lake"}', {"Content-Type": "application/json"}
    )
    urlopen(bucket, timeout=20).close()
    server.reset()
    in_turn(_COMMAND, home, ["day_on_gcs"], 1, STORAGE_EMULATOR_HOST=server.url)
    kinds = Counter(kind(request.method, request.path, request.is_media) for request in server.requests)
    print(f"requests: {kinds.total():,} ({', '.join(f'{count:,} {kind}' for kind, count in kinds.most_common())})")
    server.stop()


def kind(method: str, path: str, media: bool) -> str:
    """What a request to Google's storage is for."""
    if method == "GET":
        return "reads" if media else "listings" if path.endswith("/o") else "looks"
    return "copies" if "/rewriteTo/" in path or "/copyTo/" in path else "deletes" if method == "DELETE" else "writes"


def _made(path: Path, make: Callable[[Path], None]) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


def _parse(home: Path) -> str:
    """What no reader of such a file can do without: unpacking and parsing, typed as the dataset is."""
    from pyarrow import csv

    from market_data_pipeline.sources.formats.unpack import line_blocks

    rows = 0
    texts = dict.fromkeys(("exchange", "symbol", "type", "underlying_index"), pa.dictionary(pa.int32(), pa.string()))
    for path in home.glob("*.csv.gz"):
        names: list[str] = []
        for text in line_blocks(path):
            table = csv.read_csv(
                pa.BufferReader(text),
                csv.ReadOptions(column_names=names, block_size=len(text) + 1),
                convert_options=csv.ConvertOptions(column_types=texts),
            )
            names = names or table.column_names
            rows += table.num_rows
    return f"{rows:,} rows"


def _split(home: Path) -> str:
    """Through the source, each instrument's rows read once and let go of."""
    from market_data_pipeline.sources.files.source import FilesSource

    instruments = rows = 0
    for file in FilesSource(home).files("options_chain", DAY, Selection()):
        instruments += 1
        rows += sum(batch.num_rows for batch in file.read(Rejects()))
    return f"{rows:,} rows, {instruments:,} instruments"


def _write(home: Path) -> str:
    lake = Path(tempfile.mkdtemp(prefix="lake-", dir=home))
    try:
        return _written(home, lake, "options_chain")
    finally:
        shutil.rmtree(lake, ignore_errors=True)


def _write_book(home: Path) -> str:
    shutil.rmtree(home / "lake", ignore_errors=True)
    return _written(home, home / "lake", "book_snapshot_25")


def _written(home: Path, lake: Path, data_type: str) -> str:
    from market_data_pipeline.lake.stores.local import LocalStore
    from market_data_pipeline.lake.writer import write_days
    from market_data_pipeline.sources.files.source import FilesSource

    files = FilesSource(home).files(data_type, DAY, Selection())
    report = write_days(LocalStore(lake), DATASETS[data_type], [DAY], Selection(), files)
    if report.failures:
        raise SystemExit(report.failures[0].message)
    rows = sum(file.span.rows for file in report.files)
    return f"{rows:,} rows in {len(report.files):,} files x {len(report.dataset.layouts)} layouts"


def _read_hour(home: Path) -> str:
    from market_data_pipeline import MarketDataLake
    from market_data_pipeline.lake.ordering import in_order, times
    from market_data_pipeline.model.windows import midnight

    noon = midnight(DAY) + timedelta(hours=12)
    found = MarketDataLake(home / "lake").ticks(_ONE, "book_snapshot_25", noon, noon + timedelta(hours=1))
    return f"{found.num_rows:,} rows, {'in' if in_order(times(found)) else 'NOT in'} order of time"


def _whole_day(home: Path) -> str:
    lake = Path(tempfile.mkdtemp(prefix="lake-", dir=home))
    try:
        return _through_dagster(home, str(lake))
    finally:
        shutil.rmtree(lake, ignore_errors=True)


def _whole_day_on_gcs(home: Path) -> str:
    return _through_dagster(home, "gs://lake")


def _through_dagster(home: Path, lake: str) -> str:
    import dagster as dg

    from market_data_pipeline.defs.build import build_definitions
    from market_data_pipeline.defs.launch import launch
    from market_data_pipeline.model.datasets import ROOTS
    from market_data_pipeline.settings import Settings

    settings = Settings(lake=lake, source="files", source_path=home)
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = launch(build_definitions(settings), instance, DAY, DAY)
        steps = instance.get_run_step_stats(outcome.run_id)
    if not outcome.clean:
        raise SystemExit("\n".join(outcome.problems))
    for step in sorted(steps, key=lambda step: step.start_time or 0):
        print(f"    {step.step_key:32} {(step.end_time or 0) - (step.start_time or 0):8.2f} s", file=sys.stderr)
    store = settings.open_store()
    objects = [info.size for root in ROOTS for info in store.list(f"{root}/")]
    return f"{len(objects):,} objects, {sum(objects) / 1e6:,.0f} MB under all their names"


_STEPS: dict[str, Callable[[Path], str]] = {
    "day": _whole_day,
    "day_on_gcs": _whole_day_on_gcs,
    "parse": _parse,
    "split": _split,
    "write": _write,
    "write_book": _write_book,
    "read_hour": _read_hour,
}


if __name__ == "__main__":
    main()
