"""What the month files of a dataset hold: the rows of its day files, by group."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import DayObject
from market_data_pipeline.lake.differences import restoring
from market_data_pipeline.lake.months import Target
from market_data_pipeline.lake.parquet import (
    check_columns,
    explained,
    opened,
    parquet_file,
    read_columns,
    row_group_days,
)
from market_data_pipeline.lake.stores.content import crc32c_of_bytes
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore
from market_data_pipeline.model.datasets import Codec, Dataset
from market_data_pipeline.model.errors import ObjectChanged
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import instrument_fields

ROW_GROUP_ROWS = 131_072
"""Of a month file. While one is made its rows are held about three times, and several are made at once."""
_KEPT_BYTES = 128 << 20


def digest_of_files(files: Iterable[tuple[Instrument | None, int]]) -> str | None:
    """Stands for some day files, given in order, each by its instrument and CRC-32C; None for none."""
    return digest_of("\n".join(f"{instrument} {crc32c:08x}" for instrument, crc32c in files))


def digest_of_rows(tables: Iterable[pa.Table]) -> str | None:
    """Stands for a group's rows, where a day file holds other groups as well; None for none."""
    return digest_of("\n".join(repr(row) for table in tables for row in table.to_pylist()))


def digest_of(text: str) -> str | None:
    """A short text that stands for another one; None for an empty one."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest() if text else None


def of_group(table: pa.Table, target: Target) -> pa.Table:
    """The rows that belong into a month file, of a day file that holds all instruments."""
    for name, value in target.fields:
        table = table.filter(pc.equal(table.column(name).cast(pa.string()), value))
    return table


def members_of(target: Target, objects: Iterable[DayObject]) -> list[DayObject]:
    """The day files that belong into a month file, in order of instrument."""
    wanted = dict(target.fields)
    return _in_order(
        found
        for found in objects
        if found.instrument is None or wanted.items() <= instrument_fields(found.instrument).items()
    )


def _in_order(objects: Iterable[DayObject]) -> list[DayObject]:
    return sorted(objects, key=lambda found: str(found.instrument))


def held_in_month(file: pq.ParquetFile, only: date | None = None) -> set[tuple[date, str]]:
    """The days (or one) and the ids of the instruments that a month file has rows of, as far as it can be read."""
    held: set[tuple[date, str]] = set()
    for group, day in enumerate(row_group_days(file.metadata)):
        if only not in (None, day):
            continue
        with suppress(OSError):
            ids = file.read_row_group(group, columns=["instrument_id"]).column("instrument_id")
            held |= {(day, each) for each in pc.unique(ids).to_pylist()}
    return held


def rows_in_month(file: pq.ParquetFile, day: date, instrument: Instrument | None) -> Iterator[pa.Table]:
    """The rows that a month file has of an instrument's day; of all instruments with None."""
    for group, at in enumerate(row_group_days(file.metadata)):
        if at == day:
            table = file.read_row_group(group)
            if instrument is not None:
                table = table.filter(pc.equal(table.column("instrument_id").cast(pa.string()), instrument.id))
            yield table


def _checksum(info: ObjectInfo, target: Target) -> int:
    return 0 if info.key == target.key else info.crc32c or 0


def _unless(there: Sequence[DayObject], objects: Iterable[DayObject]) -> list[DayObject]:
    """Some objects but for those of instruments that are there."""
    instruments = {found.instrument for found in there}
    return [found for found in objects if found.instrument not in instruments]


def _joined(held: list[pa.Table]) -> pa.Table:
    """The rows of some tables as one, which are let go of: it is encoded before the next are read."""
    joined = pa.concat_tables(held).unify_dictionaries().combine_chunks()
    held.clear()
    return joined


class MonthRows:
    """The rows of day files; keeps the bytes of small ones, which several layouts read.

    Args:
        store: the lake.
        dataset: whose rows.
        lost: day files that are recorded and not there; a month file that still has their rows keeps them.
    """

    def __init__(self, store: ObjectStore, dataset: Dataset, lost: Iterable[DayObject] = ()) -> None:
        self._store, self._dataset, self._lost = store, dataset, list(lost)
        self._kept: dict[ObjectInfo, bytes] = {}
        self._room = _KEPT_BYTES
        self._lock = Lock()

    @property
    def schema(self) -> pa.Schema:
        """The dataset's."""
        return self._dataset.schema

    @property
    def codec(self) -> Codec:
        """That of the dataset."""
        return self._dataset.codec

    def of(
        self, target: Target, day: date, objects: Sequence[DayObject], old: pq.ParquetFile | None = None
    ) -> list[DayObject]:
        """Those that belong into the target, in order of instrument, each with its checksum; raises ObjectNotFound.

        One that is lost lies in the month file itself.
        """
        listed = self._listed(target, objects)
        lost = _unless(listed, (each for each in members_of(target, self._lost) if each.day == day))
        if not lost or old is None:
            return listed
        held = held_in_month(old, day)
        kept = [replace(each, info=replace(each.info, key=target.key)) for each in lost]
        return _in_order([*listed, *(each for each in kept if (day, str(each.instrument)) in held)])

    def _listed(self, target: Target, objects: Sequence[DayObject]) -> list[DayObject]:
        return [
            replace(found, info=replace(found.info, crc32c=self._store.crc32c(found.info)))
            for found in members_of(target, objects)
        ]

    def digest(self, target: Target, members: Sequence[DayObject]) -> str | None:
        """Of the files' checksums, or of the rows where a day file holds other groups as well.

        Rows that are kept from the month file count as those of no file: they may not be those that were recorded, so
        any file that is made again replaces them.
        """
        if self._dataset.per_instrument:
            return digest_of_files((each.instrument, _checksum(each.info, target)) for each in members)
        return digest_of_rows(self.tables(target, members))

    def same(
        self, target: Target, objects: Sequence[DayObject], members: Sequence[DayObject], digest: str | None
    ) -> bool:
        """Whether the digest of what is listed now is the same; raises ObjectNotFound, ObjectChanged."""
        listed = self._listed(target, objects)
        kept = _unless(listed, (each for each in members if each.info.key == target.key))
        return self.digest(target, _in_order([*listed, *kept])) == digest

    def tables(self, target: Target, members: Sequence[DayObject]) -> Iterator[pa.Table]:
        """Their rows as tables of about ROW_GROUP_ROWS, cut between instruments."""
        held: list[pa.Table] = []
        rows = 0
        for found in members:
            table = self._kept_rows(found) if found.info.key == target.key else self._table(found)
            if not self._dataset.per_instrument:
                table = of_group(table, target)
            if held and rows + table.num_rows > ROW_GROUP_ROWS:
                yield _joined(held)
                rows = 0
            held.append(table)
            rows += table.num_rows
        if rows:
            yield _joined(held)

    def _kept_rows(self, found: DayObject) -> pa.Table:
        with opened(self._store, found.info.key, "`market-data repair` mends it") as file:
            tables = [self.schema.empty_table(), *rows_in_month(file, found.day, found.instrument)]
            return pa.concat_tables(tables).unify_dictionaries()

    def _table(self, found: DayObject) -> pa.Table:
        info = found.info
        content = self._kept.get(info)
        if content is None:
            with self._store.open(info.key) as pinned:
                content = pinned.file.read()
            if crc32c_of_bytes(content) != info.crc32c:
                raise ObjectChanged(f"{self._store.uri_of(info.key)}: was replaced since it was listed")
            with self._lock:
                if info not in self._kept and len(content) <= self._room:
                    self._kept[info] = content
                    self._room -= len(content)
        with explained(self._store.uri_of(info.key), restoring(found.day)):
            # a page that a disk has damaged must not go on into the month files
            table = read_columns(parquet_file(pa.BufferReader(content)))
        check_columns(table.schema, self._dataset, self._store.uri_of(info.key))
        return table
