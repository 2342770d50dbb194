"""Day files: the rows of an instrument's day, or of all instruments', as one Parquet file.

Its row groups are encoded beside each other, on all cores, and put together as bytes.
"""

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa

from market_data_pipeline.lake.ahead import ahead
from market_data_pipeline.lake.ordering import canonical, chunks_by_time
from market_data_pipeline.lake.parquet import Span, parquet_writer, with_values
from market_data_pipeline.lake.splicing import join_files
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument


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
    checked = (_checked(batch, dataset, instrument, day) for batch in batches)
    by_time = dataset.order[0] == "timestamp"
    chunks = chunks_by_time(checked, dataset.row_group_rows) if by_time else _whole(checked)
    rows = 0
    bounds: list[datetime] = []

    def encoded() -> Iterator[pa.Buffer]:
        nonlocal rows
        for content, count, edges in ahead(partial(_encoded, dataset, day, instrument), chunks):
            rows += count
            bounds.extend(edges)
            yield content

    join_files(path, encoded())
    return Span(rows, min(bounds), max(bounds)) if by_time and rows else Span(rows)


def _encoded(
    dataset: Dataset, day: date, instrument: Instrument | None, rows: pa.Table
) -> tuple[pa.Buffer, int, tuple[datetime, ...]]:
    """A row group as a file, how many rows it has, and its first and last time."""
    full = with_values(rows, dataset, dataset.partition_values(day, instrument)).select(dataset.schema.names)
    content = pa.BufferOutputStream()
    with parquet_writer(content, dataset.schema) as writer:
        writer.write_table(full, row_group_size=full.num_rows)
    return content.getvalue(), rows.num_rows, _bounds(rows) if dataset.order[0] == "timestamp" else ()


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
