"""Writing: the vendor's file into the lake, a day of ticks in three layouts and in one copy, and what it takes on disk.

The sketch's way is a frame with its partition columns written by pandas, once for each layout, packed with snappy.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.beside.cases import Case, Contender, Ground, Turn
from benchmarks.beside.data import CSV, DAY, ID, VENUE, day_rows, frame, instrument, lake, table, vendor_folder, write
from benchmarks.beside.read import arctic, write_arctic

_DAY = f"year-{DAY:%Y}/month-{DAY:%m}/day-{DAY:%d}"


def into(target: Path, work: Callable[[], Any], after: Callable[[Any], str | None] = lambda _: None) -> Turn:
    """Work that writes into a folder, which is empty at each of its beginnings."""

    def before() -> None:
        shutil.rmtree(target, ignore_errors=True)

    return Turn(work, before, after)


def _written(report: Any) -> str:
    return f"{sum(file.span.rows for file in report.files):,} rows, {report.bytes_written / 1e6:.1f} MB"


def _land(ground: Ground) -> Turn:
    from market_data_pipeline.model.instruments import Selection
    from market_data_pipeline.sources.files.source import FilesSource

    target = ground.own("landed")

    def run() -> Any:
        return write(target, "trades", [DAY], FilesSource(vendor_folder(ground)).files("trades", DAY, Selection()))

    return into(target, run, _written)


def _parse(ground: Ground) -> Turn:
    """What nobody can do without: unpacking, and parsing into the right types."""
    import pyarrow as pa
    from pyarrow import csv

    text = pa.dictionary(pa.int32(), pa.string())
    types = {"exchange": text, "symbol": text, "timestamp": pa.int64(), "local_timestamp": pa.int64()}
    types |= {"id": pa.string(), "side": text, "price": pa.float64(), "amount": pa.float64()}
    options = csv.ConvertOptions(column_types=types)
    path = vendor_folder(ground) / CSV

    def run() -> str:
        with pa.input_stream(str(path), compression="gzip", buffer_size=1 << 20) as unpacked:
            rows = sum(batch.num_rows for batch in csv.open_csv(unpacked, convert_options=options))
        return f"{rows:,} rows"

    return Turn(run, after=lambda said: said)


def _lay(ground: Ground) -> Turn:
    rows, target = table(ground), ground.own("laid")
    return into(
        target, lambda: write(target, "trades", [DAY], iter([day_rows(DAY, instrument(), lambda: rows)])), _written
    )


def _sketch(ground: Ground) -> Turn:
    rows, target = frame(ground), ground.own("sketch")
    values = {"year": DAY.year, "month": DAY.month, "day": DAY.day, "venue": VENUE, "instrument_id": ID}
    rows = rows.assign(**values, instrument_type="perpetual", data_type="trades")
    folders = (f"by_date/{_DAY}", f"by_venue/venue-{VENUE}/{_DAY}", f"by_type/type-perpetual/{_DAY}")

    def run() -> None:
        for folder in folders:
            path = target / folder / "data_type-trades" / f"{ID}.parquet"
            path.parent.mkdir(parents=True)
            rows.to_parquet(path, compression="snappy", index=False)

    return into(target, run)


def _arctic(ground: Ground) -> Turn:
    rows = frame(ground, index=True)
    library = arctic(ground, "arctic-written").get_library("bench", create_if_missing=True)

    def run() -> None:
        library.write("trades", rows)

    return Turn(run, before=lambda: library.delete("trades"))


def _our_bytes(ground: Ground) -> Turn:
    (path,) = (lake(ground) / "market-data-tick/raw_tick_data/by_date" / _DAY / "data_type-trades").iterdir()
    size = path.stat().st_size
    return Turn(lambda: size, after=lambda _: f"three layouts: {size:,} bytes on a local disk, {3 * size:,} on GCS")


def _csv_bytes(ground: Ground) -> Turn:
    import gzip

    with gzip.open(vendor_folder(ground) / CSV) as file:
        size = sum(len(block) for block in iter(lambda: file.read(1 << 20), b""))
    return Turn(lambda: size)


def _gz_bytes(ground: Ground) -> Turn:
    size = (vendor_folder(ground) / CSV).stat().st_size
    return Turn(lambda: size, after=lambda _: f"{size / ground.size.trades:.1f} bytes a row")


def _arctic_bytes(ground: Ground) -> Turn:
    """What ArcticDB keeps of the rows: the sizes of its segments, without the empty room of its database."""
    library = arctic(ground)["bench"]
    sizes = library.admin_tools().get_sizes()
    return Turn(lambda: sum(each.bytes_compressed for each in sizes.values()))


_ARCTIC = "ArcticDB"
CASES = (
    Case(
        "land",
        "CSV.gz → lake, all three layouts, one day",
        (Contender("lake", _land), Contender("gunzip + typed parse", _parse)),
        {"gunzip + typed parse": 1.5},
        needs=("day", "vendor"),
    ),
    Case(
        "write-layouts",
        "write a day of ticks, three layouts",
        (Contender("lake", _lay), Contender("the sketch's way", _sketch)),
        {"the sketch's way": 0.12},
        needs=("day",),
    ),
    Case(
        "stored-bytes",
        "stored bytes of a day of ticks, one copy",
        (
            Contender("lake", _our_bytes),
            Contender("plain CSV", _csv_bytes),
            Contender("the vendor's csv.gz", _gz_bytes),
            Contender(_ARCTIC, _arctic_bytes, write_arctic, "arcticdb"),
        ),
        {"plain CSV": 0.1, "the vendor's csv.gz": 0.5, _ARCTIC: 0.4},
        needs=("day", "vendor", "lake"),
        unit="bytes",
        agree=False,
    ),
    Case(
        "write-one",
        "write a day of ticks, one copy (ours: with its three layouts, synced to the disk)",
        (Contender("lake", _lay), Contender(_ARCTIC, _arctic, peer="arcticdb")),
        {_ARCTIC: 1.5},
        needs=("day",),
    ),
)
