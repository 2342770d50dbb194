"""Day files: the rows of an instrument's day, or of all instruments', as one Parquet file.

Its row groups are encoded beside each other, on all cores, and put together as bytes.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from functools import cache
from itertools import islice
from pathlib import Path

import pyarrow as pa

from market_data_pipeline.lake.ahead import ahead, drained
from market_data_pipeline.lake.ordering import canonical, chunks_by_time
from market_data_pipeline.lake.parquet import Span, constants, parquet_writer, with_values
from market_data_pipeline.lake.splicing import Part, splice_columns
from market_data_pipeline.model.datasets import Codec, Dataset
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
    chunks = chunks_by_time(checked, dataset.row_group_rows) if dataset.by_time else _whole(checked)
    first = deque(islice(chunks, 2))
    if not first:
        return Span(0)
    values = dataset.partition_values(day, instrument)
    if len(first) == 1:
        (rows,) = first
        path.write_bytes(_encoded(with_values(rows, dataset, values), dataset.codec))
        return _span(rows, dataset)
    spans = _write_groups(path, dataset, values, drained(first, chunks))
    times = [time for span in spans for time in (span.first, span.last) if time]
    return Span(sum(span.rows for span in spans), min(times, default=None), max(times, default=None))


def _write_groups(path: Path, dataset: Dataset, values: Mapping[str, object], chunks: Iterable[pa.Table]) -> list[Span]:
    """Writes a file with a row group for each table.

    Columns with the same value in all rows are a third of the work; they are encoded once for all row groups as long.
    """
    spans = []

    def own(rows: pa.Table) -> tuple[Part, Span]:
        return Part.of(_encoded(rows, dataset.codec)), _span(rows, dataset)

    @cache
    def beside(rows: int) -> Part:
        return Part.of(_encoded(constants(dataset, values, rows), dataset.codec))

    def pieces() -> Iterator[tuple[Part, Part]]:
        for part, span in ahead(own, chunks):
            spans.append(span)
            yield part, beside(span.rows)

    splice_columns(path, dataset.schema, dataset.codec, pieces())
    return spans


def _encoded(rows: pa.Table, codec: Codec) -> pa.Buffer:
    """A file of one row group."""
    content = pa.BufferOutputStream()
    with parquet_writer(content, rows.schema, codec) as writer:
        writer.write_table(rows, row_group_size=rows.num_rows)
    return content.getvalue()


def _span(rows: pa.Table, dataset: Dataset) -> Span:
    if not dataset.by_time:
        return Span(rows.num_rows)
    stamps = rows.column("timestamp")  # in order
    return Span(rows.num_rows, stamps[0].as_py(), stamps[-1].as_py())


def _whole(tables: Iterable[pa.Table | pa.RecordBatch]) -> Iterator[pa.Table]:
    listed = [pa.Table.from_batches([t]) if isinstance(t, pa.RecordBatch) else t for t in tables]
    joined = canonical(pa.concat_tables(listed).unify_dictionaries()) if listed else None
    if joined is not None and joined.num_rows:
        yield joined


def _checked(
    batch: pa.Table | pa.RecordBatch, dataset: Dataset, instrument: Instrument | None, day: date
) -> pa.Table | pa.RecordBatch:
    if not batch.schema.equals(dataset.own_schema):
        raise LakeError(
            f"rows of {dataset.name} for {instrument or 'all instruments'} on {day} do not have the declared columns:\n"
            f"  found    {_columns(batch.schema)}\n  expected {_columns(dataset.own_schema)}"
        )
    for field in dataset.own_schema:
        if not field.nullable and batch.column(field.name).null_count:
            raise LakeError(
                f"rows of {dataset.name} for {instrument or 'all instruments'} on {day} have a null in column "
                f"{field.name}, which must have none"
            )
    return batch


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name} {f.type}{'' if f.nullable else ' not null'}" for f in schema)
