"""SQL over the lake with DuckDB: each dataset is a view, of which a query opens only the files that its dates allow."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.sql_files import PROTOCOL, LakeFiles
from market_data_pipeline.lake.sql_tables import ALWAYS, TABLES, StoredTable, last_day
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.errors import DatasetError, LakeError, MarketDataError, QueryError
from market_data_pipeline.model.windows import Moment, Window

_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI, duckdb.StatementType.EXPLAIN)
_TYPES = {pa.date32(): "date", pa.int16(): "smallint"}
_INTEGER = pa.decimal128(38, 0)  # how sums of integers come


@whole
def answer(store: ObjectStore, query: str, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
    """What a query says of a lake; its contract stands at `MarketDataLake.sql`."""
    window = Window.of(ALWAYS.start if start is None else start, ALWAYS.end if end is None else end)
    with (
        closing(LakeFiles(store, window)) as files,
        TemporaryDirectory(prefix="market-data-sql-") as spilled,
        closing(duckdb.connect()) as connection,
    ):
        _prepare(connection, files, spilled)
        connection.execute(f"set async_threads = {store.transfers}")  # which open files and read ahead
        for table in TABLES.values():
            if table.layout.daily or table.layout.name in query.lower():  # a view costs a millisecond
                connection.execute(_view(table, window))
        connection.execute("set lock_configuration = true")
        files.listing = True
        try:
            _check(connection.extract_statements(query))
            return _plain(_asked(connection, query))
        except duckdb.Error as error:
            raise files.failure or _told(error, files) from error


def _asked(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    """An answer that Ctrl-C ends the wait for: where DuckDB works in the main thread it may not look for signals."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: connection.sql(query).to_arrow_table())
        try:
            return asked.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


def _prepare(connection: duckdb.DuckDBPyConnection, files: LakeFiles, spilled: str) -> None:
    """Lets a database in memory reach the lake's files for reading, and nothing else.

    A statement that writes may hide in one that reads (`with x as (copy … to …)`), so to know the statements that read
    would not do. What does not fit into memory goes into the folder `spilled`, which goes with the query, and so does
    whatever else that may put there.
    """
    connection.register_filesystem(files)
    connection.execute("set temp_directory = $1", [spilled])
    connection.execute(f"set allowed_directories = ['{PROTOCOL}://']")
    for name, value in (
        ("enable_external_access", "false"),
        ("enable_external_file_cache", "false"),
        ("autoload_known_extensions", "false"),
        ("python_enable_replacements", "false"),
        ("TimeZone", "'UTC'"),
    ):
        connection.execute(f"set {name} = {value}")


def _view(table: StoredTable, window: Window) -> str:
    dataset, schema = table.dataset, "main" if table.layout.daily else table.layout.name
    columns = ", ".join(f'"{name}"' for name in dataset.schema.names)
    told = ", ".join(f"'{column.name}': {_TYPES.get(column.type, 'varchar')}" for column in table.path_columns)
    inside = " and ".join(_conditions(dataset, window))
    return (  # made of names that stand in the code, and of times
        f"create schema if not exists {schema}; create view {schema}.{dataset.name} as select {columns} from "  # noqa: S608
        f"read_parquet('{PROTOCOL}://{table.place}', hive_partitioning = true, hive_types = {{{told}}})"
        f"{' where ' if inside else ''}{inside}"
    )


def _conditions(dataset: Dataset, window: Window) -> Iterator[str]:
    """What a row must be to lie in a window; a month file holds rows beside it."""
    timed = "timestamp" in dataset.schema.names
    if window.start != ALWAYS.start:
        yield f"timestamp >= '{window.start.isoformat()}'" if timed else f"date >= '{window.start.date()}'"
    if window.end != ALWAYS.end:
        yield f"timestamp < '{window.end.isoformat()}'" if timed else f"date <= '{last_day(window)}'"


def _check(statements: list[duckdb.Statement]) -> None:
    if len(statements) != 1:
        raise QueryError(f"one query at a time: found {len(statements)} statements")
    try:
        found = statements[0].type
    except ValueError:  # a statement that DuckDB knows, and its Python does not
        raise QueryError("a query only reads: write select … or explain …") from None
    if found not in _READING:
        raise QueryError(f"a query only reads: write select … or explain …, not {found.name.lower()} …")


def _told(error: duckdb.Error, files: LakeFiles) -> MarketDataError:
    """What DuckDB says, as an error of ours."""
    text, named = re.subn(rf"{PROTOCOL}://[^\s\"']+", lambda found: files.uri_of(found[0]), str(error).strip())
    text, wanted, _ = text.partition("\n\nPlease try installing")
    if wanted:
        return QueryError(f"{text}\nA query has what comes with DuckDB; no extension is loaded")
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
        others = (f"{name}_{number}" for number in range(1, 2 * rows.num_columns))
        taken = {*names, *rows.column_names}
        names.append(name if name not in names else next(each for each in others if each not in taken))
    return pa.table([_integers(column) for column in rows.columns], names)


def _integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64()) if column.type == _INTEGER else column
    except pa.ArrowInvalid:
        return column
