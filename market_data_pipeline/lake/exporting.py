"""Rows as one file for other programs: Parquet, Arrow, CSV."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import DatasetError, LakeError

_Write = Callable[[pa.Table], None]


def written(target: Path, dataset: Dataset, columns: Sequence[str], tables: Iterable[pa.Table]) -> int:
    """Writes tables into a file of the kind that its name ends in: .parquet, .arrow, .feather, .csv or .csv.gz.

    Text comes as text, whatever few values it has. The file gets its name when it is whole; without rows there is none.

    Args:
        target: the file; one that is there is replaced.
        dataset: whose rows.
        columns: of the tables.
        tables: the rows, in pieces.

    Returns:
        How many rows.

    Raises:
        DatasetError: the name ends in something else, or CSV cannot hold a column.
        LakeError: the file cannot be written.
    """
    schema = pa.schema([_plain(dataset.schema.field(name)) for name in columns])
    opened = _opener(target, schema)
    part = target.with_name(f".{target.name}.{uuid4().hex}")
    rows = 0
    try:
        with opened(part) as write:
            for table in tables:
                if table.num_rows:
                    write(table.cast(schema))
                    rows += table.num_rows
        if rows:
            part.replace(target)
    except OSError as error:
        raise LakeError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return rows


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _opener(target: Path, schema: pa.Schema) -> Callable[[Path], AbstractContextManager[_Write]]:
    name = target.name.lower()
    for endings, opened in (
        ((".parquet",), _parquet),
        ((".arrow", ".feather"), _arrow),
        ((".csv",), _csv),
        ((".csv.gz",), _csv),
    ):
        if name.endswith(endings):
            nested = [field.name for field in schema if pa.types.is_nested(field.type)]
            if opened is _csv and nested:
                raise DatasetError(f"CSV has no lists, so no {nested[0]}: leave it out by --columns, or take .parquet")
            return lambda part: opened(part, schema, packed=name.endswith(".gz"))
    raise DatasetError(f"{target}: a file to export to ends in .parquet, .arrow, .feather, .csv or .csv.gz")


@contextmanager
def _parquet(part: Path, schema: pa.Schema, *, packed: bool) -> Iterator[_Write]:
    del packed
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        yield writer.write_table


@contextmanager
def _arrow(part: Path, schema: pa.Schema, *, packed: bool) -> Iterator[_Write]:
    del packed
    with pa.OSFile(str(part), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        yield writer.write_table


@contextmanager
def _csv(part: Path, schema: pa.Schema, *, packed: bool) -> Iterator[_Write]:
    with (
        pa.output_stream(str(part), compression="gzip" if packed else None) as file,
        pyarrow.csv.CSVWriter(file, schema) as writer,
    ):
        yield writer.write_table
