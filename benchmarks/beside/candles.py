"""From ticks on disk to 1m candles: open, high, low, close, sums of amounts and of values, the takers' share, a count.

Every contender takes the first and last trade by a stable order of time; the lake also looks into the files of the days
beside, and makes flat candles of empty minutes.
"""

from typing import Any

from benchmarks.beside.cases import Case, Contender, Ground, Turn
from benchmarks.beside.data import DAY, FOUR_COLUMNS, instrument, lake
from benchmarks.beside.read import write_duckdb, write_pandas, write_polars


def _ours(ground: Ground) -> Turn:
    import pyarrow as pa

    from market_data_pipeline.lake.derived import first_candles
    from market_data_pipeline.lake.stores.local import LocalStore
    from market_data_pipeline.model.contracts import LINEAR
    from market_data_pipeline.model.instruments import Selection
    from market_data_pipeline.model.rows import Rejects
    from market_data_pipeline.transforms.candles import FILLS

    store, selection = LocalStore(lake(ground)), Selection.of([instrument()])

    def run() -> Any:
        (rows,) = first_candles(store, [DAY], selection, lambda _: LINEAR, FILLS)
        return pa.Table.from_batches(rows.read(Rejects()))

    return Turn(run)


def _decode(ground: Ground) -> Turn:
    """What nobody can do without: decoding the columns that are needed."""
    import pyarrow.parquet as pq

    from market_data_pipeline.model.datasets import DATASETS

    dataset = DATASETS["trades"]
    path = lake(ground) / dataset.path(dataset.layouts[0], DAY, instrument())

    def run() -> int:
        return int(pq.ParquetFile(path).read(columns=FOUR_COLUMNS).num_rows)

    return Turn(run)


def _polars(ground: Ground) -> Turn:
    import polars as pl

    path = ground.own("polars") / "trades.parquet"
    price, amount, value = pl.col("price"), pl.col("amount"), pl.col("price") * pl.col("amount")
    bought = pl.col("side") == "buy"

    def run() -> Any:
        # the file is in order of time
        rows = pl.scan_parquet(path).select(FOUR_COLUMNS).with_columns(pl.col("timestamp").set_sorted())
        made = rows.group_by(pl.col("timestamp").dt.truncate("1m"), maintain_order=True).agg(
            price.first().alias("open"),
            price.max().alias("high"),
            price.min().alias("low"),
            price.last().alias("close"),
            amount.sum().alias("volume"),
            value.sum().alias("quote_volume"),
            pl.len().alias("trade_count"),
            amount.filter(bought).sum().alias("buy_volume"),
            value.filter(bought).sum().alias("buy_quote_volume"),
        )
        return made.collect(engine="streaming").to_arrow()

    return Turn(run)


def _duckdb(ground: Ground) -> Turn:
    import duckdb

    path = ground.own("duckdb") / "trades.parquet"
    connection = duckdb.connect()
    # many trades share a millisecond: their place in the file is what tells the first
    query = f"""
        SELECT time_bucket(INTERVAL 1 MINUTE, timestamp) AS minute,
            arg_min(price, file_row_number) AS open, max(price) AS high, min(price) AS low,
            arg_max(price, file_row_number) AS close, sum(amount) AS volume, sum(price * amount) AS quote_volume,
            count(*) AS trade_count, sum(amount) FILTER (side = 'buy') AS buy_volume,
            sum(price * amount) FILTER (side = 'buy') AS buy_quote_volume
        FROM read_parquet('{path}', file_row_number = true) GROUP BY minute ORDER BY minute"""
    return Turn(lambda: connection.sql(query).to_arrow_table())


def _pandas(ground: Ground) -> Turn:
    import pandas as pd
    import pyarrow as pa

    path = ground.own("pandas") / "trades.parquet"

    def run() -> Any:
        rows = pd.read_parquet(path, columns=FOUR_COLUMNS)
        rows["value"] = rows["price"] * rows["amount"]
        bought = rows["side"] == "buy"
        rows["buy_volume"] = rows["amount"].where(bought, 0.0)
        rows["buy_quote_volume"] = rows["value"].where(bought, 0.0)
        made = rows.groupby(rows["timestamp"].dt.floor("1min"), sort=False).agg(
            open=("price", "first"),
            high=("price", "max"),
            low=("price", "min"),
            close=("price", "last"),
            volume=("amount", "sum"),
            quote_volume=("value", "sum"),
            trade_count=("price", "size"),
            buy_volume=("buy_volume", "sum"),
            buy_quote_volume=("buy_quote_volume", "sum"),
        )
        return pa.Table.from_pandas(made)

    return Turn(run)


CASES = (
    Case(
        "candles",
        "ticks on disk → 1m candles",
        (
            Contender("lake", _ours),
            Contender("decoding alone", _decode),
            Contender("polars streaming", _polars, write_polars, "polars"),
            Contender("duckdb", _duckdb, write_duckdb, "duckdb"),
            Contender("pandas", _pandas, write_pandas),
        ),
        {"decoding alone": 1.2, "polars streaming": 0.8, "duckdb": 0.5, "pandas": 0.2},
        needs=("day", "lake"),
    ),
)
