"""SQL over the lake with DuckDB: each dataset is a view, of which a query opens only the files that its dates allow."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from functools import partial
from itertools import chain
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from market_data_pipeline.lake.catalog import DayObject, day_objects, stored_files
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.sql_files import PROTOCOL, LakeFiles
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.parallel import in_parallel
from market_data_pipeline.model.datasets import DATASETS, Dataset, Kind
from market_data_pipeline.model.errors import DatasetError, LakeError, MarketDataError, QueryError
from market_data_pipeline.model.windows import Moment, Window

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI, duckdb.StatementType.EXPLAIN)
_TYPES = {pa.date32(): "date", pa.int16(): "smallint"}
_INTEGER = pa.decimal128(38, 0)  # how sums of integers come


@whole
def answer(store: ObjectStore, query: str, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
    """What a query says of a lake; the contract stands at `MarketDataLake.sql`."""
    window = Window.of(_FIRST if start is None else start, _LAST if end is None else end)
    files = LakeFiles(store, partial(_day_files, store, window))
    with TemporaryDirectory(prefix="market-data-sql-") as spill, closing(_connected(files, window, spill)) as lake:
        try:
            _check(lake.extract_statements(query))
            return _plain(lake.sql(query).to_arrow_table())
        except duckdb.Error as error:
            raise files.failure or _told(error, files) from error


def _connected(files: LakeFiles, window: Window, spill: str) -> duckdb.DuckDBPyConnection:
    """A database in memory that knows the views, and reaches the lake's files and nothing else."""
    lake = duckdb.connect(config={"enable_external_file_cache": False, "python_enable_replacements": False})
    lake.register_filesystem(files)
    lake.execute("set TimeZone = 'UTC'")
    lake.execute("set temp_directory = $spill", {"spill": spill})
    # A statement that writes may hide in one that reads (`with x as (copy … to …)`), so no list of statements would do.
    lake.execute(f"set allowed_directories = ['{PROTOCOL}://']")
    lake.execute("set enable_external_access = false")
    for dataset in DATASETS.values():
        lake.execute(_view(dataset, window))
    lake.execute("set lock_configuration = true")
    files.listing = True
    return lake


def _view(dataset: Dataset, window: Window) -> str:
    columns = ", ".join(f'"{name}"' for name in dataset.schema.names)
    folders = ", ".join(f"'{each.name}': {_TYPES.get(each.type, 'varchar')}" for each in dataset.partition_columns)
    inside = [
        f"timestamp {sign} '{at.isoformat()}'::timestamptz"
        for sign, at, open_ended in ((">=", window.start, _FIRST), ("<", window.end, _LAST))
        if at != open_ended and "timestamp" in dataset.schema.names
    ]
    return (
        f"create view {dataset.name} as select {columns} from "
        f"read_parquet('{PROTOCOL}://{dataset.name}', hive_partitioning = true, hive_types = {{{folders}}})"
        f"{' where ' if inside else ''}{' and '.join(inside)}"
    )


def _day_files(store: ObjectStore, window: Window, dataset: Dataset) -> Iterator[DayObject]:
    """The day files that may hold rows of a window; of ticks those of the days beside it, too."""
    beside = 1 if dataset.kind is Kind.TICKS else 0
    if window.start > _FIRST and window.end < _LAST:
        days = list(window.days(beside))
        yield from chain.from_iterable(in_parallel(store, lambda day: list(day_objects(store, dataset, day)), days))
        return
    first, last = window.start.date(), (window.end - datetime.resolution).date()
    for _, found in stored_files(store, [dataset]):
        if (first - found.day).days <= beside and (found.day - last).days <= beside:
            yield found


def _check(statements: list[duckdb.Statement]) -> None:
    if len(statements) != 1:
        raise QueryError(f"one query at a time: found {len(statements)} statements")
    if statements[0].type not in _READING:
        raise QueryError(f"a query only reads: write select … or explain …, not {statements[0].type.name} …")


def _told(error: duckdb.Error, files: LakeFiles) -> MarketDataError:
    """What DuckDB says, as an error of ours."""
    text, named = re.subn(rf"{PROTOCOL}://[^\s\"']+", lambda found: files.uri_of(found[0]), str(error).strip())
    if isinstance(error, duckdb.CatalogException) and "Table with name" in text:
        return DatasetError(f"{text}\nThe datasets are {', '.join(DATASETS)}")
    if isinstance(error, duckdb.PermissionException):
        return QueryError(f"{text}\nA query reads the lake's datasets, and nothing else")
    # what has no class of its own comes from the decoder of Parquet's footers, and names no file
    if named or type(error) is duckdb.Error:
        return LakeError(f"a file of the lake cannot be read: {text}\n`market-data verify` with --full tells which")
    return QueryError(text)


def _plain(rows: pa.Table) -> pa.Table:
    """The rows with sums of integers as integers where they fit, and no two columns of one name."""
    names: list[str] = []
    for name in rows.column_names:
        taken = (f"{name}_{number}" for number in range(1, len(rows.column_names)))
        names.append(name if name not in names else next(each for each in taken if each not in names))
    columns = [_integers(column) if column.type == _INTEGER else column for column in rows.columns]
    return pa.table(columns, names)


def _integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
