"""Parquet as this lake writes it: encodings, partition columns, day files and month files.

The same rows give the same bytes: no time of writing, host or run in a file, and row groups cut by row count alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.ordering import canonical, chunks_by_time
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Codec, Dataset
from market_data_pipeline.model.errors import LakeError, MarketDataError
from market_data_pipeline.model.instruments import Instrument

_DICTIONARY_PAGE = 2 << 20
_LEVELS: Mapping[Codec, int | None] = {Codec.ZSTD: 3, Codec.LZ4: None}
_AT_ONCE = 128 << 10  # bytes: of a larger file the footer and the columns that are wanted are read
_ONE_THREAD = 128 << 10  # values: below, handing them to other threads takes longer than it saves


@dataclass(frozen=True)
class Span:
    """What a file of rows holds.

    Attributes:
        rows: how many rows.
        first: the earliest time (UTC); None where there is no row or no time column.
        last: the latest.
    """

    rows: int
    first: datetime | None = None
    last: datetime | None = None


@contextmanager
def explained(uri: str, advice: str = "") -> Iterator[None]:
    """Turns what pyarrow says of a broken file into a LakeError that names it; `advice` says what to do."""
    try:
        yield
    except MarketDataError:
        raise
    except (pa.ArrowException, OSError, KeyError) as error:  # a broken footer or page is an OSError
        raise LakeError(f"{uri} cannot be read as Parquet: {str(error).strip()}{advice and '; '}{advice}") from error


def parquet_file(file: pa.NativeFile) -> pq.ParquetFile:
    """An open file as Parquet, whose pages are compared with their checksums as they are read.

    A flipped bit on a disk is mostly a wrong number; so it is an error. Of ticks what that costs is not measurable.
    """
    return pq.ParquetFile(file, page_checksum_verification=True)


@contextmanager
def opened(store: ObjectStore, key: str, advice: str = "") -> Iterator[pq.ParquetFile]:
    """One object as Parquet, held at what it is now; errors while it is open name it, and give this advice.

    A small object is read whole, which takes one read instead of one for the footer and more for the columns.

    Raises:
        ObjectNotFound: nothing lies under the key.
        LakeError: it cannot be read.
    """
    with store.open(key) as pinned, explained(store.uri_of(key), advice):
        small = pinned.info.size <= _AT_ONCE
        yield parquet_file(pa.BufferReader(pinned.file.read_buffer()) if small else pinned.file)


def read_columns(file: pq.ParquetFile, columns: Sequence[str], groups: Sequence[int] | None = None) -> pa.Table:
    """Some columns, in this order, of some row groups (all by default); by several threads where it is worth it."""
    groups = range(file.num_row_groups) if groups is None else groups
    rows = sum(file.metadata.row_group(group).num_rows for group in groups)
    threads = rows * len(columns) >= _ONE_THREAD
    return file.read_row_groups(groups, columns=columns, use_threads=threads).select(columns)


def check_columns(found: pa.Schema, dataset: Dataset, uri: str) -> None:
    """Raises LakeError where a stored file does not have the columns that this lake writes."""
    if not found.equals(dataset.schema):
        raise LakeError(
            f"{uri} does not have the columns of {dataset.name} as this lake writes them; if another tool wrote it, "
            "take it in with `market-data adopt`"
        )


def parquet_writer(
    file: Path | IO[bytes], schema: pa.Schema, codec: Codec, *, page_index: bool = True
) -> pq.ParquetWriter:
    """A writer with this lake's encodings: times and integers as deltas, text and numbers by dictionary.

    Decimal-like prices and amounts repeat, so a dictionary beats splitting their bytes; where it outgrows a page the
    writer falls back to plain values by itself. Ids mostly share their beginnings.
    """
    deltas = [f.name for f in schema if pa.types.is_timestamp(f.type) or f.type in (pa.int64(), pa.int32())]
    texts = [f.name for f in schema if pa.types.is_string(f.type)]
    encodings = dict.fromkeys(deltas, "DELTA_BINARY_PACKED") | dict.fromkeys(texts, "DELTA_BYTE_ARRAY")
    return pq.ParquetWriter(
        file,
        schema,
        version="2.6",
        compression=codec,  # lz4 is LZ4_RAW of the format
        compression_level=_LEVELS[codec],
        use_dictionary=[f.name for f in schema if f.name not in encodings],
        column_encoding=encodings,
        dictionary_pagesize_limit=_DICTIONARY_PAGE,
        write_statistics=True,
        write_page_index=page_index,
        # a flipped bit on a disk is mostly a wrong number, not an error; with this a reader can tell
        write_page_checksum=True,
    )


class Constants:
    """Columns with one value each, for any number of rows; dictionary columns share one buffer of zeros."""

    def __init__(self, values: Mapping[str, object], schema: pa.Schema) -> None:
        self._fields = [schema.field(name) for name in values]
        self._values = dict(values)
        self._zeros = pa.array(np.zeros(0, np.int32))

    def arrays(self, rows: int) -> dict[str, pa.Array]:
        """The columns, `rows` long."""
        if len(self._zeros) < rows:
            self._zeros = pa.array(np.zeros(rows, np.int32))
        return {field.name: self._array(field, rows) for field in self._fields}

    def _array(self, field: pa.Field, rows: int) -> pa.Array:
        value = self._values[field.name]
        if pa.types.is_dictionary(field.type):
            return pa.DictionaryArray.from_arrays(self._zeros.slice(0, rows), pa.array([value], field.type.value_type))
        return pa.repeat(pa.scalar(value, field.type), rows)


def with_values(table: pa.Table, asked: Dataset, values: Mapping[str, object]) -> pa.Table:
    """The table with one more column for each value, which stands in every row."""
    if not values:
        return table
    for name, column in Constants(values, asked.schema).arrays(table.num_rows).items():
        table = table.append_column(asked.schema.field(name), column)
    return table


def with_partition(table: pa.Table, dataset: Dataset, constants: Constants) -> pa.Table:
    """The table in the dataset's full schema: own columns, then partition values."""
    columns = constants.arrays(table.num_rows)
    return pa.table([*table.columns, *(columns[c.name] for c in dataset.partition_columns)], schema=dataset.schema)


def write_day_file(
    path: Path,
    dataset: Dataset,
    day: date,
    instrument: Instrument | None,
    batches: Iterable[pa.Table | pa.RecordBatch],
) -> Span:
    """Writes one day file, streaming; nothing is written where there are no rows.

    Rows are put in order of time as far as bounded memory allows; ties keep the order they came in.

    Raises:
        LakeError: a batch does not have the dataset's own schema.
    """
    constants: Constants | None = None
    checked = (_checked(batch, dataset, instrument, day) for batch in batches)
    by_time = dataset.order[0] == "timestamp"
    chunks = chunks_by_time(checked, dataset.row_group_rows) if by_time else _whole(checked)
    rows, first, last = 0, None, None
    writer: pq.ParquetWriter | None = None
    try:
        for chunk in chunks:
            constants = constants or Constants(dataset.partition_values(day, instrument), dataset.schema)
            writer = writer or parquet_writer(path, dataset.schema, dataset.codec)
            writer.write_table(with_partition(chunk, dataset, constants), row_group_size=chunk.num_rows)
            rows += chunk.num_rows
            if by_time:
                low, high = _bounds(chunk)
                first, last = min(first or low, low), max(last or high, high)
            del chunk  # its memory is the next one's
    finally:
        if writer is not None:
            writer.close()
    return Span(rows, first, last)


def _whole(tables: Iterable[pa.Table | pa.RecordBatch]) -> Iterable[pa.Table]:
    listed = [pa.Table.from_batches([t]) if isinstance(t, pa.RecordBatch) else t for t in tables]
    joined = canonical(pa.concat_tables(listed).unify_dictionaries()) if listed else None
    return [joined] if joined is not None and joined.num_rows else []


def _checked(
    batch: pa.Table | pa.RecordBatch, dataset: Dataset, instrument: Instrument | None, day: date
) -> pa.Table | pa.RecordBatch:
    if not batch.schema.equals(dataset.own_schema):
        raise LakeError(
            f"rows of {dataset.name} for {instrument or 'all instruments'} on {day} do not have the declared columns:\n"
            f"  found    {_columns(batch.schema)}\n  expected {_columns(dataset.own_schema)}"
        )
    return batch


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name} {f.type}{'' if f.nullable else ' not null'}" for f in schema)


def _bounds(table: pa.Table) -> tuple[datetime, datetime]:
    # the chunk is in order of time
    stamps = table.column("timestamp")
    return stamps[0].as_py(), stamps[-1].as_py()


def row_group_times(metadata: pq.FileMetaData, group: int) -> tuple[datetime, datetime]:
    """The earliest and latest `timestamp` of a row group, from its statistics.

    Raises:
        LakeError: the file carries no statistics for it (it was not written by this lake).
    """
    statistics = _statistics(metadata, group, _leaf(metadata, "timestamp"))
    return statistics.min, statistics.max


def _leaf(metadata: pq.FileMetaData, name: str) -> int:
    """A column's place among the file's leaves; nested columns have several, so it is not its place in the schema."""
    for index in range(metadata.num_columns):
        if metadata.schema.column(index).path == name:
            return index
    raise LakeError(f"the file has no column {name}; it was not written by this lake")


def _statistics(metadata: pq.FileMetaData, group: int, leaf: int) -> pq.Statistics:
    statistics = metadata.row_group(group).column(leaf).statistics
    if statistics is None or not statistics.has_min_max:
        name = metadata.schema.column(leaf).path
        raise LakeError(f"row group {group} has no statistics of {name}; it was not written by this lake")
    return statistics


def span_of(metadata: pq.FileMetaData, dataset: Dataset) -> Span:
    """Rows and times of a file, from its footer alone."""
    if dataset.order[0] != "timestamp" or not metadata.num_rows:
        return Span(metadata.num_rows)
    bounds = [row_group_times(metadata, group) for group in range(metadata.num_row_groups)]
    return Span(metadata.num_rows, min(low for low, _ in bounds), max(high for _, high in bounds))


def span_at(store: ObjectStore, dataset: Dataset, key: str) -> Span:
    """Rows and times of a stored day file, from its footer alone; raises as `opened` does."""
    with opened(store, key) as file:
        return span_of(file.metadata, dataset)


def row_group_days(metadata: pq.FileMetaData) -> list[date]:
    """The day of each row group of a month file; a row group never spans days."""
    leaf = _leaf(metadata, "date") if metadata.num_row_groups else 0
    return [_statistics(metadata, group, leaf).min for group in range(metadata.num_row_groups)]
