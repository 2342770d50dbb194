"""Reading: a busy day of ticks, parts of it, a day of candles, a map. Everything comes out as Arrow.

Peers read what they wrote themselves, with their own settings. ArcticDB gives Arrow (its `PYARROW` output), text with
few values as dictionaries; pandas' columns are Arrow's already (`dtype_backend="pyarrow"`) where Arrow is asked for.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from benchmarks.beside.cases import Case, Contender, Ground, Turn, Under
from benchmarks.beside.data import (
    DAY,
    FOUR_COLUMNS,
    HOUR,
    ID,
    MINUTES,
    MONTH,
    OWN_COLUMNS,
    WINDOW_COLUMNS,
    candle_frame,
    candle_lake,
    frame,
    lake,
)

NEXT = DAY + timedelta(days=1)
_CANDLES_OF = "binance:SPOT_PAIR:A000-USDT"
_MINUTE = timedelta(minutes=1)


def _ours(ask: Callable[[Any], Any], of: Callable[[Ground], Any] = lake) -> Callable[[Ground], Turn]:
    def ready(ground: Ground) -> Turn:
        from market_data_pipeline import MarketDataLake

        opened = MarketDataLake(of(ground))
        return Turn(lambda: ask(opened))

    return ready


def _ticks(columns: Sequence[str], start: Any = DAY, end: Any = NEXT) -> Callable[[Ground], Turn]:
    return _ours(lambda opened: opened.ticks(ID, "trades", start, end, columns=list(columns)))


def _windows(opened: Any) -> Any:
    import pyarrow as pa

    asked = [(at, at + _MINUTE) for at in MINUTES]
    return pa.concat_tables(opened.tick_windows(ID, "trades", asked, columns=WINDOW_COLUMNS))


def write_arctic(ground: Ground) -> None:
    """The day, in a library of ArcticDB, by time."""
    arctic(ground).get_library("bench", create_if_missing=True).write("trades", frame(ground, index=True))


def arctic(ground: Ground, name: str = "arctic") -> Any:
    """ArcticDB on the local disk; gives Arrow."""
    from arcticdb import Arctic
    from arcticdb.options import OutputFormat

    return Arctic(f"lmdb://{ground.own(name)}", output_format=OutputFormat.PYARROW)


def _arctic(columns: Sequence[str] | None = None, between: Any = None) -> Callable[[Ground], Turn]:
    def ready(ground: Ground) -> Turn:
        import pandas as pd
        from arcticdb.options import ArrowOutputStringFormat

        library = arctic(ground)["bench"]
        wanted: dict[str, Any] = {}
        if columns is not None:
            wanted["columns"] = [name for name in columns if name != "timestamp"]
        if between is not None:
            # both ends are in
            first, last = pd.Timestamp(between[0]), pd.Timestamp(between[1]) - pd.Timedelta(1, "ns")
            wanted["date_range"] = (first, last)
        if columns is None or "side" in columns:
            wanted["arrow_string_format_per_column"] = {"side": ArrowOutputStringFormat.CATEGORICAL}
        return Turn(lambda: library.read("trades", **wanted).data)

    return ready


def write_pandas(ground: Ground) -> None:
    """The day as pandas writes it."""
    frame(ground).to_parquet(ground.own("pandas") / "trades.parquet", index=False)


def _pandas(ground: Ground) -> Turn:
    import pandas as pd
    import pyarrow as pa

    path = ground.own("pandas") / "trades.parquet"

    def run() -> Any:
        return pa.Table.from_pandas(pd.read_parquet(path, dtype_backend="pyarrow"), preserve_index=False)

    return Turn(run)


def write_polars(ground: Ground) -> None:
    """The day as polars writes it."""
    import polars as pl

    pl.from_pandas(frame(ground)).with_columns(pl.col("side").cast(pl.Categorical)).write_parquet(
        ground.own("polars") / "trades.parquet"
    )


def _polars(ground: Ground) -> Turn:
    import polars as pl

    path = ground.own("polars") / "trades.parquet"
    return Turn(lambda: pl.read_parquet(path).to_arrow())


def _write_nautilus(ground: Ground) -> None:
    from nautilus_trader.persistence.catalog import ParquetDataCatalog
    from nautilus_trader.persistence.wranglers import TradeTickDataWrangler
    from nautilus_trader.test_kit.providers import TestInstrumentProvider

    instrument = TestInstrumentProvider.btcusdt_perp_binance()
    rows = frame(ground, index=True).rename(columns={"id": "trade_id", "amount": "quantity"})
    rows = rows.assign(side=rows["side"].str.upper()).tz_localize("UTC")
    catalog = ParquetDataCatalog(str(ground.own("nautilus")))
    catalog.write_data([instrument])
    catalog.write_data(TradeTickDataWrangler(instrument).process(rows))


def _nautilus(ground: Ground) -> Turn:
    """It has no Arrow to give: trades come as its objects."""
    from nautilus_trader.persistence.catalog import ParquetDataCatalog

    catalog = ParquetDataCatalog(str(ground.own("nautilus")))
    return Turn(lambda: len(catalog.trade_ticks()), after=lambda count: f"{count:,} TradeTicks")


def _polars_hour(ground: Ground) -> Turn:
    import polars as pl

    path = ground.own("polars") / "trades.parquet"
    wanted = pl.col("timestamp").is_between(*HOUR, closed="left")
    return Turn(lambda: pl.scan_parquet(path).filter(wanted).select(WINDOW_COLUMNS).collect().to_arrow())


def _polars_windows(ground: Ground) -> Turn:
    import polars as pl

    path = ground.own("polars") / "trades.parquet"

    def run() -> Any:
        rows = pl.scan_parquet(path)
        parts = [
            rows.filter(pl.col("timestamp").is_between(at, at + _MINUTE, closed="left")).select(WINDOW_COLUMNS)
            for at in MINUTES
        ]
        return pl.concat(pl.collect_all(parts)).to_arrow()

    return Turn(run)


def _duckdb_windows(ground: Ground) -> Turn:
    import duckdb
    import pyarrow as pa

    path = ground.own("duckdb") / "trades.parquet"
    connection = duckdb.connect()
    columns = ", ".join(WINDOW_COLUMNS)
    query = f"SELECT {columns} FROM '{path}' WHERE timestamp >= ? AND timestamp < ?"

    def run() -> Any:
        return pa.concat_tables(connection.execute(query, [at, at + _MINUTE]).to_arrow_table() for at in MINUTES)

    return Turn(run)


def write_duckdb(ground: Ground) -> None:
    """The day as DuckDB writes it."""
    import duckdb

    rows = frame(ground)
    path = ground.own("duckdb") / "trades.parquet"
    duckdb.connect().register("rows", rows).execute(f"COPY rows TO '{path}' (FORMAT parquet)")


def _write_pandas_candles(ground: Ground) -> None:
    candle_frame(ground).to_parquet(ground.own("pandas-candles") / "day.parquet", index=False)


def _read_pandas(*place: str) -> Callable[[Ground], Turn]:
    def ready(ground: Ground) -> Turn:
        import pandas as pd

        path = ground.own(place[0]) / place[1]
        return Turn(lambda: pd.read_parquet(path))

    return ready


def _write_arctic_candles(ground: Ground) -> None:
    library = arctic(ground, "arctic-candles").get_library("bench", create_if_missing=True)
    library.write("day", candle_frame(ground).set_index("timestamp"))


def _arctic_candles(ground: Ground) -> Turn:
    library = arctic(ground, "arctic-candles")["bench"]
    return Turn(lambda: library.read("day").data)


def _write_pandas_map(ground: Ground) -> None:
    from market_data_pipeline import MarketDataLake

    rows = MarketDataLake(lake(ground)).available_instruments(DAY)
    rows.to_pandas().to_parquet(ground.own("pandas-map") / "map.parquet", index=False)


def _own_candles(opened: Any) -> Any:
    from market_data_pipeline.model.datasets import DATASETS

    names = DATASETS["ohlcv_1m"].own_schema.names
    return opened.candles(_CANDLES_OF, "1m", MONTH, MONTH + timedelta(days=1), columns=names)


_ARCTIC = "ArcticDB"
CASES = (
    Case(
        "read-day",
        "read a day of ticks, all its own columns, to Arrow",
        (
            Contender("lake", _ticks(OWN_COLUMNS)),
            Contender(_ARCTIC, _arctic(), write_arctic, "arcticdb"),
            Contender("pandas", _pandas, write_pandas),
            Contender("polars", _polars, write_polars, "polars"),
            Contender("nautilus_trader", _nautilus, _write_nautilus, "nautilus_trader"),
        ),
        {_ARCTIC: 0.8, "pandas": 0.4, "polars": 1.0},
        (Under(0.1, "median"),),
        needs=("day", "lake"),
        calls=3,
    ),
    Case(
        "read-four",
        "the same, four columns",
        (Contender("lake", _ticks(FOUR_COLUMNS)), Contender(_ARCTIC, _arctic(FOUR_COLUMNS), write_arctic, "arcticdb")),
        {_ARCTIC: 0.4},
        needs=("day", "lake"),
        calls=3,
    ),
    Case(
        "read-hour",
        "read one hour of a day, three columns",
        (
            Contender("lake", _ticks(WINDOW_COLUMNS, *HOUR)),
            Contender(_ARCTIC, _arctic(WINDOW_COLUMNS, HOUR), write_arctic, "arcticdb"),
            Contender("polars", _polars_hour, write_polars, "polars"),
        ),
        {_ARCTIC: 1.0, "polars": 1.0},
        needs=("day", "lake"),
        calls=10,
    ),
    Case(
        "read-windows",
        "read 50 windows of one minute, spread over a day, three columns, one call (peers: 50 filters)",
        (
            Contender("lake", _ours(_windows)),
            Contender("polars", _polars_windows, write_polars, "polars"),
            Contender("duckdb", _duckdb_windows, write_duckdb, "duckdb"),
        ),
        {"polars": 0.5, "duckdb": 0.5},
        needs=("day", "lake"),
    ),
    Case(
        "read-candles",
        "read a day of 1m candles (1,440 rows)",
        (
            Contender("lake", _ours(_own_candles, candle_lake)),
            Contender("pandas", _read_pandas("pandas-candles", "day.parquet"), _write_pandas_candles),
            Contender(_ARCTIC, _arctic_candles, _write_arctic_candles, "arcticdb"),
        ),
        {"pandas": 0.3, _ARCTIC: 0.6},
        (Under(0.01, "median"),),
        needs=("candles", "candle-month"),
        calls=20,
    ),
    Case(
        "read-map",
        "read a date's availability",
        (
            Contender("lake", _ours(lambda opened: opened.available_instruments(DAY))),
            Contender("pandas", _read_pandas("pandas-map", "map.parquet"), _write_pandas_map),
        ),
        {"pandas": 0.25},
        (Under(0.001, "p95"),),
        needs=("day", "lake"),
        calls=50,
    ),
)
