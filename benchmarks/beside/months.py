"""Months of candles: reading one instrument's, and adding a day to the file of a venue."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.beside.cases import Case, Contender, Ground, Turn
from benchmarks.beside.data import MONTH, candle_lake, candle_month, candle_rows, days, write

_ID = "binance:SPOT_PAIR:A000-USDT"


def _month(ground: Ground) -> Turn:
    from market_data_pipeline import MarketDataLake
    from market_data_pipeline.model.datasets import DATASETS

    opened, names = MarketDataLake(candle_lake(ground)), DATASETS["ohlcv_1m"].own_schema.names
    return Turn(lambda: opened.candles(_ID, "1m", MONTH, MONTH + timedelta(days=ground.size.days), columns=names))


def _write_days(ground: Ground) -> None:
    """A file a day, as polars writes it: what one has who has no lake."""
    import polars as pl

    rows = candle_month(ground)
    for number in range(ground.size.days):
        day = pl.from_arrow(rows.slice(number * 1440, 1440))
        assert isinstance(day, pl.DataFrame)
        day.write_parquet(ground.own("polars-days") / f"{MONTH + timedelta(days=number)}.parquet")


def _polars_days(ground: Ground) -> Turn:
    import polars as pl

    paths = sorted(ground.own("polars-days").glob("*.parquet"))
    return Turn(lambda: pl.read_parquet(paths).to_arrow())


class _Month:
    """The venue's month file of a lake that lacks its last day there; its day files are all in."""

    def __init__(self, ground: Ground, name: str) -> None:
        from market_data_pipeline.model.datasets import DATASETS
        from market_data_pipeline.model.instruments import Instrument

        self.lake = ground.own(name) / "lake"
        self.day = days(ground)[-1]
        self.dataset = DATASETS["ohlcv_1m"]
        self.layout = self.dataset.layout("by_venue")
        one = Instrument.spot("binance", "A000", "USDT")
        self.key = self.dataset.path(self.layout, self.day, one)
        self.path = self.lake / self.key
        self.without = ground.own(name) / "without.parquet"

    def make(self, ground: Ground) -> None:
        if not self.without.exists():
            shutil.rmtree(self.lake, ignore_errors=True)
            write(self.lake, "ohlcv_1m", days(ground)[:-1], candle_rows(ground, days(ground)[:-1]))
            shutil.copyfile(self.path, self.without)
            write(self.lake, "ohlcv_1m", [self.day], candle_rows(ground, [self.day]))

    def back(self) -> None:
        """Puts the file without the day in its place, as a new file: the lake remembers checksums of the old one."""
        fresh = self.path.with_name(".fresh")
        shutil.copyfile(self.without, fresh)
        fresh.replace(self.path)

    def size(self) -> str:
        return f"{self.path.stat().st_size / 1e6:.1f} MB"


def _make_month(name: str) -> Any:
    return lambda ground: _Month(ground, name).make(ground)


def _add(ground: Ground) -> Turn:
    """The lake's way from day files that have landed to the month file published."""
    from market_data_pipeline.lake.months import Target
    from market_data_pipeline.lake.stores.local import LocalStore
    from market_data_pipeline.lake.writer import publish

    month = _Month(ground, "adding")
    store = LocalStore(month.lake)
    target = Target(month.layout, month.key, (("venue", "binance"),), (month.day,))

    def run() -> int:
        (made,) = publish(store, month.dataset, [target], {})
        if not made.changed:
            raise RuntimeError(f"{month.key} was not published")
        return made.rows

    return Turn(run, month.back, lambda rows: f"{rows:,} rows, {month.size()}")


def _rewrite(ground: Ground) -> Turn:
    """With pyarrow: the month and the new day's files read, put together, and written as the lake encodes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from market_data_pipeline.lake.catalog import day_objects
    from market_data_pipeline.lake.parquet import parquet_writer
    from market_data_pipeline.lake.stores.local import LocalStore

    month = _Month(ground, "rewriting")
    folder = [month.lake / each.info.key for each in day_objects(LocalStore(month.lake), month.dataset, month.day)]

    def run() -> int:
        new = [pq.ParquetFile(path).read() for path in folder]
        rows = pa.concat_tables([pq.ParquetFile(month.path).read(), *new])
        fresh = month.path.with_name(".fresh")
        with parquet_writer(fresh, rows.schema, month.dataset.codec) as writer:
            writer.write_table(rows, row_group_size=1440 * ground.size.instruments)
        _synced(fresh)
        fresh.replace(month.path)
        return int(rows.num_rows)

    return Turn(run, month.back, lambda rows: f"{rows:,} rows, {month.size()}")


def _synced(path: Path) -> None:
    import os

    with path.open("rb") as file:
        os.fsync(file.fileno())


_REWRITE = "full rewrite with pyarrow"
CASES = (
    Case(
        "read-month",
        "a month of 1m candles of one instrument",
        (
            Contender("lake", _month),
            Contender("31 day files by polars", _polars_days, _write_days, "polars"),
        ),
        {"31 day files by polars": 0.5},
        needs=("candles", "candle-month"),
        calls=5,
    ),
    Case(
        "add-day",
        "add a day to a month file (50 instruments, 31 days)",
        (Contender("lake", _add, _make_month("adding")), Contender(_REWRITE, _rewrite, _make_month("rewriting"))),
        {_REWRITE: 0.33},
        agree=False,
    ),
)
