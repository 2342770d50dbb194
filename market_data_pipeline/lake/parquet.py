"""Parquet as this lake writes it: encodings, partition columns, day files and month files.

The same rows give the same bytes: no time of writing, host or run in a file, and row groups cut by row count alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.stores.contract import ObjectStore, Pinned
from market_data_pipeline.model.datasets import Codec, Dataset
from market_data_pipeline.model.errors import LakeError, MarketDataError

_DICTIONARY_PAGE = 2 << 20
_LEVELS: Mapping[Codec, int | None] = {Codec.ZSTD: 3, Codec.SNAPPY: None}
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


def parquet_file(file: pa.NativeFile, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """An open file as Parquet, whose pages are compared with their checksums as they are read.

    A flipped bit on a disk is mostly a wrong number; so it is an error. Of ticks what that costs is not measurable.
    With the `metadata` that an earlier one read, the footer is not read again: so several threads have one each.
    """
    # far away, columns are asked for together, ahead of their decoding; on a disk that costs more than it saves
    ahead = isinstance(file, pa.PythonFile)
    return pq.ParquetFile(file, metadata=metadata, pre_buffer=ahead, page_checksum_verification=True)


def at_once(pinned: Pinned, most: int = _AT_ONCE) -> pa.NativeFile:
    """An object of up to so many bytes in memory, for footer and pages would be read one by one; else as it is."""
    return pa.BufferReader(pinned.file.read_buffer()) if pinned.info.size <= most else pinned.file


@contextmanager
def opened(store: ObjectStore, key: str, advice: str = "") -> Iterator[pq.ParquetFile]:
    """One object as Parquet, held at what it is now; errors while it is open name it, and give this advice.

    A small object is read whole, which takes one read instead of one for the footer and more for the columns.

    Raises:
        ObjectNotFound: nothing lies under the key.
        LakeError: it cannot be read.
    """
    with store.open(key) as pinned, explained(store.uri_of(key), advice):
        yield parquet_file(at_once(pinned))


def read_columns(
    file: pq.ParquetFile, columns: Sequence[str] | None = None, groups: Sequence[int] | None = None
) -> pa.Table:
    """Some columns, in this order, of some row groups (all by default); by several threads where it is worth it."""
    columns = file.schema_arrow.names if columns is None else columns
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


def parquet_writer(file: Path | IO[bytes] | pa.NativeFile, schema: pa.Schema, codec: Codec) -> pq.ParquetWriter:
    """A writer with this lake's encodings: times and integers as deltas, numbers and what repeats by dictionary.

    Decimal-like prices and amounts repeat, so a dictionary beats splitting their bytes; where it outgrows a page the
    writer falls back to plain values by itself. Ids are plain text, which is read in two thirds of the time of deltas,
    by every reader there is; packed, they make a day of trades a tenth longer. There is no index of pages: it would
    lie apart from its row group, which could not be carried into another file as bytes; and row groups are small.
    """
    deltas = [f.name for f in schema if pa.types.is_timestamp(f.type) or f.type in (pa.int64(), pa.int32())]
    texts = [f.name for f in schema if pa.types.is_string(f.type)]
    return pq.ParquetWriter(
        file,
        schema,
        version="2.6",
        compression=codec,
        compression_level=_LEVELS[codec],
        use_dictionary=[f.name for f in schema if f.name not in (*deltas, *texts)],
        column_encoding=dict.fromkeys(deltas, "DELTA_BINARY_PACKED"),
        dictionary_pagesize_limit=_DICTIONARY_PAGE,
        write_statistics=True,
        # a flipped bit on a disk is mostly a wrong number, not an error; with this a reader can tell
        write_page_checksum=True,
    )


def constants(asked: Dataset, values: Mapping[str, object], rows: int) -> pa.Table:
    """A column for each value, which stands in every row."""
    fields = [asked.schema.field(name) for name in values]
    zeros = pa.array(np.zeros(rows, np.int32))  # which columns of text share
    columns = [
        pa.DictionaryArray.from_arrays(zeros, pa.array([value], field.type.value_type))
        if pa.types.is_dictionary(field.type)
        else pa.repeat(pa.scalar(value, field.type), rows)
        for field, value in zip(fields, values.values(), strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def with_values(table: pa.Table, asked: Dataset, values: Mapping[str, object]) -> pa.Table:
    """The table with one more column for each value, which stands in every row."""
    if not values:
        return table
    more = constants(asked, values, table.num_rows)
    return pa.Table.from_arrays([*table.columns, *more.columns], schema=pa.schema([*table.schema, *more.schema]))


def row_group_times(metadata: pq.FileMetaData, group: int) -> tuple[datetime, datetime]:
    """The earliest and latest `timestamp` of a row group, from its statistics.

    Raises:
        ArrowInvalid: the file carries no statistics for it (it was not written by this lake).
    """
    statistics = _statistics(metadata, group, _leaf(metadata, "timestamp"))
    return statistics.min, statistics.max


def _leaf(metadata: pq.FileMetaData, name: str) -> int:
    """A column's place among the file's leaves; nested columns have several, so it is not its place in the schema."""
    for index in range(metadata.num_columns):
        if metadata.schema.column(index).path == name:
            return index
    raise pa.ArrowInvalid(f"it has no column {name}, so it was not written by this lake")


def _statistics(metadata: pq.FileMetaData, group: int, leaf: int) -> pq.Statistics:
    statistics = metadata.row_group(group).column(leaf).statistics
    if statistics is None or not statistics.has_min_max:
        name = metadata.schema.column(leaf).path
        raise pa.ArrowInvalid(f"row group {group} has no statistics of {name}, so it was not written by this lake")
    return statistics


def span_of(metadata: pq.FileMetaData, dataset: Dataset) -> Span:
    """Rows and times of a file, from its footer alone; raises ArrowInvalid as `row_group_times` does."""
    if not dataset.by_time or not metadata.num_rows:
        return Span(metadata.num_rows)
    bounds = [row_group_times(metadata, group) for group in range(metadata.num_row_groups)]
    return Span(metadata.num_rows, min(low for low, _ in bounds), max(high for _, high in bounds))


def span_at(store: ObjectStore, dataset: Dataset, key: str) -> Span:
    """Rows and times of a stored day file, from its footer alone; raises as `opened` does."""
    with opened(store, key) as file:
        return span_of(file.metadata, dataset)


def row_group_days(metadata: pq.FileMetaData) -> list[date]:
    """The day of each row group of a month file.

    Raises:
        ArrowInvalid: a row group spans days, or does not tell (it was not written by this lake).
    """
    leaf = _leaf(metadata, "date") if metadata.num_row_groups else 0
    days = []
    for group in range(metadata.num_row_groups):
        told = _statistics(metadata, group, leaf)
        if told.min != told.max:
            raise pa.ArrowInvalid(
                f"row group {group} spans days, {told.min} to {told.max}, so it was not written by this lake"
            )
        days.append(told.min)
    return days
