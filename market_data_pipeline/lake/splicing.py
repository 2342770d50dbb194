"""Parquet files as bytes: row groups that were encoded apart become one file, without being decoded.

Row groups of a day file are encoded beside each other. Of a month file days are put in, taken out or replaced, and the
row groups of all others are carried over: it is the same bytes whichever way it came to be, for row groups stand in
order of day, each as the writer makes it. The footer is put together here.
"""

import json
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import IO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.footers import MAGIC, Footer, RowGroup
from market_data_pipeline.lake.parquet import explained, parquet_writer, row_group_days
from market_data_pipeline.model.datasets import Codec
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.records import SINCE_LATER

MONTH_DIGESTS = b"day_digests"
ADVICE = "`market-data repair` puts it together anew from the by_date files"
_IN_MEMORY = 32 << 20
_CHUNK = 16 << 20


@dataclass(frozen=True)
class OpenMonth:
    """An open month file.

    Attributes:
        uri: its address, for messages.
        content: its bytes.
        parquet: the same, opened as Parquet.
    """

    uri: str
    content: pa.NativeFile
    parquet: pq.ParquetFile

    def explained(self) -> AbstractContextManager[None]:
        """Turns what pyarrow says of the file into a LakeError with what to do."""
        return explained(self.uri, ADVICE)


@dataclass(frozen=True)
class Part:
    """A row group, and the file that its bytes lie in."""

    group: RowGroup
    file: pa.NativeFile | IO[bytes]

    @classmethod
    def of(cls, content: pa.Buffer) -> Self:
        """The row group of a file that has one."""
        file = pa.BufferReader(content)
        (group,) = Footer.read(file).groups
        return cls(group, file)


def month_digests(metadata: pq.FileMetaData) -> dict[date, str]:
    """For each day of a month file, the digest of the day files it was put together from.

    Raises:
        ArrowInvalid: what stands there is none.
    """
    stored = (metadata.metadata or {}).get(MONTH_DIGESTS)
    try:
        return {date.fromisoformat(day): digest for day, digest in json.loads(stored).items()} if stored else {}
    except (ValueError, AttributeError) as error:
        raise pa.ArrowInvalid("its digests are broken") from error


def splice_month(
    path: Path,
    schema: pa.Schema,
    codec: Codec,
    old: OpenMonth | None,
    replacing: Mapping[date, Iterable[pa.Table]],
    digests: Mapping[date, str],
) -> int:
    """Writes a month file: the old one's row groups, but for the days in `replacing` these tables instead.

    Each table becomes a row group; days stand in order of date. `digests` are kept in the footer. Row groups of a file
    that other versions of the writer made, or with another codec, are decoded and encoded anew.

    Returns:
        The rows.

    Raises:
        LakeError: the old file is broken.
    """
    kept = _kept(old, replacing) if old else {}
    template = _template(schema, codec, digests)
    pieces: dict[date, list[Part]] = {}
    if old and (carried := _carried(old, schema, codec, template)):
        pieces = {day: [Part(carried[group], old.content) for group in groups] for day, groups in kept.items()}
    elif old:
        replacing = {**{day: _decoded(old, groups, schema) for day, groups in kept.items()}, **replacing}
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, mode="w+b", dir=str(path.parent)) as fresh:
        pieces |= _encoded(fresh, schema, codec, replacing)
        return _assembled(path, template, [[piece] for day in sorted(pieces) for piece in pieces[day]])


def _kept(old: OpenMonth, replaced: Container[date]) -> dict[date, list[int]]:
    """The row groups of a month file that stay, by day."""
    kept: dict[date, list[int]] = {}
    with old.explained():
        for group, day in enumerate(row_group_days(old.parquet.metadata)):
            if day not in replaced:
                kept.setdefault(day, []).append(group)
    return kept


def _template(schema: pa.Schema, codec: Codec, digests: Mapping[date, str] | None = None) -> Footer:
    """The footer of a file, of a month file where there are digests, without row groups."""
    with BytesIO() as empty:
        with parquet_writer(empty, schema, codec) as writer:
            if digests is not None:
                stored = json.dumps({day.isoformat(): digests[day] for day in sorted(digests)}, separators=(",", ":"))
                writer.add_key_value_metadata({MONTH_DIGESTS: stored.encode()})
        return Footer.read(empty)


def _carried(old: OpenMonth, schema: pa.Schema, codec: Codec, template: Footer) -> tuple[RowGroup, ...]:
    """The row groups of a month file, if they are what this writer would make of their rows; else none."""
    with old.explained():
        footer = Footer.read(old.content)
    alike = footer.like(template) and old.parquet.schema_arrow.equals(schema)
    packed_alike = alike and _codecs(old.parquet.metadata) <= {codec.name}
    return footer.groups if packed_alike and all(group.whole for group in footer.groups) else ()


def _codecs(metadata: pq.FileMetaData) -> set[str]:
    """What the row groups are compressed with, each in one way, as Parquet calls it."""
    return {metadata.row_group(group).column(0).compression for group in range(metadata.num_row_groups)}


def _decoded(old: OpenMonth, groups: Iterable[int], schema: pa.Schema) -> Iterator[pa.Table]:
    for group in groups:
        with old.explained():
            table = old.parquet.read_row_group(group)
            for number, column in enumerate(schema):
                if column.name not in table.column_names and column.metadata == SINCE_LATER:
                    table = table.add_column(number, column, pa.nulls(table.num_rows, column.type))
            if table.schema.names != schema.names:
                raise pa.ArrowInvalid("it has other columns than this lake writes")
            table = table.cast(schema)
        yield table


def _encoded(
    file: IO[bytes], schema: pa.Schema, codec: Codec, replacing: Mapping[date, Iterable[pa.Table]]
) -> dict[date, list[Part]]:
    """Encodes each day's tables; a table without rows gives no row group."""
    days = []
    with parquet_writer(file, schema, codec) as writer:
        for day in sorted(replacing):
            for table in replacing[day]:
                if table.num_rows:
                    writer.write_table(table.cast(schema), row_group_size=table.num_rows)
                    days.append(day)
    pieces: dict[date, list[Part]] = {}
    for day, group in zip(days, Footer.read(file).groups, strict=True):
        pieces.setdefault(day, []).append(Part(group, file))
    return pieces


def splice_columns(path: Path, schema: pa.Schema, codec: Codec, pieces: Iterable[Sequence[Part]]) -> None:
    """Writes a file of these columns. Each piece becomes a row group: parts with some of the columns, in order."""
    _assembled(path, _template(schema, codec), pieces)


def _assembled(path: Path, template: Footer, pieces: Iterable[Sequence[Part]]) -> int:
    """Writes the file; returns its rows."""
    groups = []
    rows = 0
    with path.open("wb") as file:
        file.write(MAGIC)
        for number, (first, *beside) in enumerate(pieces):
            groups.append(first.group.moved(file.tell(), number, *(part.group for part in beside)))
            rows += first.group.rows
            for part in (first, *beside):
                _copied(part, file)
        file.write(template.holding(groups, rows))
    return rows


def _copied(part: Part, file: IO[bytes]) -> None:
    part.file.seek(part.group.start)
    left = part.group.size
    while left:
        chunk = part.file.read(min(left, _CHUNK))
        if not chunk:
            raise LakeError(f"{file.name}: a row group that is put into it ended {left} bytes early")
        file.write(chunk)
        left -= len(chunk)
