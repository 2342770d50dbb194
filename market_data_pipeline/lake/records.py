"""The record of a dataset's day files, as it is kept: one more month file, put together from the same listing.

What it says of a file is what was worked out when the file was encoded. A file that this run did not write keeps what
the record said, and is read only where nothing was said or it was evidently replaced since. One that is lost stays in
the record until it is made again, or its source no longer has it.
"""

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import DayObject
from market_data_pipeline.lake.day_files import DayFile, Place
from market_data_pipeline.lake.differences import restoring
from market_data_pipeline.lake.month_rows import digest_of
from market_data_pipeline.lake.months import Target
from market_data_pipeline.lake.parquet import explained, opened, row_group_days
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore
from market_data_pipeline.model.datasets import Codec, Dataset
from market_data_pipeline.model.errors import LakeError, ObjectNotFound
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.records import RECORD, RECORD_SCHEMA, SINCE_LATER


@dataclass(frozen=True)
class Sum:
    """What is recorded of a day file.

    Attributes:
        rows: its rows.
        size: its bytes.
        crc32c: their CRC-32C as they were encoded.
        made_from: stands for what it was made from; None where that is not known.
        facts: what its making told beside the rows.
    """

    rows: int
    size: int
    crc32c: int
    made_from: str | None = field(default=None, compare=False)
    facts: Mapping[str, int] = field(default_factory=dict, compare=False)


Sums = Mapping[Place, Sum]


def record_key(dataset: Dataset, day: date) -> str:
    """Where the record of a day's month lies."""
    return dataset.path(RECORD, day)


def record_targets(dataset: Dataset, days: Iterable[date], *, anew: bool = False) -> list[Target]:
    """The records that some days belong to, in order of key."""
    months: dict[str, set[date]] = {}
    for day in days:
        months.setdefault(record_key(dataset, day), set()).add(day)
    return [Target(RECORD, key, (), tuple(sorted(of_month)), anew) for key, of_month in sorted(months.items())]


def read_record(store: ObjectStore, dataset: Dataset, day: date) -> dict[Place, Sum] | None:
    """What is recorded for the days of a day's month; None where nothing ever was.

    Raises:
        LakeError: it cannot be read.
    """
    record = MonthRecord.read(store, dataset, day)
    return record.sums() if record else None


def recorded_days(store: ObjectStore, dataset: Dataset) -> list[date]:
    """The days of which something is recorded, rising; of each month's record the footer alone is read."""
    days: set[date] = set()
    for info in store.list(RECORD.prefix(None, dataset=dataset.name)):
        # a record that becomes empty meanwhile goes
        with suppress(ObjectNotFound), opened(store, info.key, "`market-data repair` makes it anew") as file:
            days.update(row_group_days(file.metadata))
    return sorted(days)


@dataclass(frozen=True)
class MonthRecord:
    """The record of a month, as it was when it was read; see `read`."""

    _table: pa.Table

    @classmethod
    def read(cls, store: ObjectStore, dataset: Dataset, day: date) -> "MonthRecord | None":
        """That of a day's month; None where nothing was ever recorded.

        Raises:
            LakeError: it cannot be read.
        """
        key = record_key(dataset, day)
        try:
            with opened(store, key, "`market-data repair` makes it anew") as file:
                table = file.read()
                whose = table.column("instrument_id")
                table.select(_NEEDED)
        except ObjectNotFound:
            return None
        if whose.null_count != (0 if dataset.per_instrument else len(whose)):
            raise LakeError(f"{store.uri_of(key)} is no record of {dataset.name}; `market-data repair` makes it anew")
        return cls(table)

    def sums(self) -> dict[Place, Sum]:
        """What is recorded of each file."""
        return _sums(self._table)

    def on(self, day: date) -> dict[Place, Sum]:
        """Likewise, of the files of one day."""
        return _sums(self._table.filter(pc.equal(self._table.column("date"), pa.scalar(day, pa.date32()))))


def written(info: ObjectInfo) -> int:
    """When a file on a local disk was written, in nanoseconds; 0 where listings carry checksums instead."""
    return info.identity[-1] if info.identity else 0


def record_written(store: ObjectStore, dataset: Dataset, day: date) -> int:
    """When the record of a day's month was written, likewise; 0 where there is none.

    Asked before the record is read: one that is replaced in between makes more files count as newer, not fewer.
    """
    return max((written(info) for info in store.list(record_key(dataset, day))), default=0)


_NEEDED = [field.name for field in RECORD_SCHEMA if field.metadata != SINCE_LATER]


def _sums(table: pa.Table) -> dict[Place, Sum]:
    names = [name for name in RECORD_SCHEMA.names if name in _NEEDED or name in table.column_names]
    return {
        (row["date"], row["instrument_id"] and Instrument.parse(row["instrument_id"])): Sum(
            row["rows"], row["bytes"], row["crc32c"], row.get("made_from"), _facts(row.get("facts"))
        )
        for row in table.select(names).to_pylist()
    }


def _facts(text: str | None) -> dict[str, int]:
    return json.loads(text) if text else {}


def landed_sums(files: Iterable[DayFile]) -> dict[Place, Sum]:
    """What a run knows of the day files that it encoded."""
    return {
        (file.day, file.instrument): Sum(file.span.rows, file.size, file.crc32c, file.made_from, file.facts)
        for file in files
        if file.span.rows
    }


def lost_files(dataset: Dataset, recorded: Sums, there: Container[Place]) -> list[DayObject]:
    """The day files that are recorded but not there, as they were."""
    return [
        DayObject(*place, ObjectInfo(dataset.path(dataset.layouts[0], *place), told.size, told.crc32c))
        for place, told in recorded.items()
        if place not in there
    ]


@dataclass(frozen=True)
class _Recorded:
    """What is recorded of a day file, and where it lies; None where it is lost."""

    place: Place
    sum: Sum
    info: ObjectInfo | None


class Checksums:
    """The contents of records.

    Args:
        store: the lake.
        landed: the day files that the caller has encoded, or has found to be as they should.
        lost: those that are recorded and not there; they stay in the record.
    """

    schema = RECORD_SCHEMA
    codec = Codec.SNAPPY

    def __init__(self, store: ObjectStore, landed: Sums, lost: Iterable[DayObject] = ()) -> None:
        self._store, self._landed = store, landed
        self._lost = {(found.day, found.instrument) for found in lost}

    def of(
        self, target: Target, day: date, objects: Sequence[DayObject], old: pq.ParquetFile | None
    ) -> list[_Recorded]:
        """What is to be recorded of a day's files; raises ObjectNotFound."""
        with explained(self._store.uri_of(target.key), "`market-data repair` makes it anew"):
            before = _sums(_of_day(old, day)) if old else {}
        listed = {(day, found.instrument): found for found in objects}
        members = [
            *(_Recorded(place, self._sum(found, before.get(place)), found.info) for place, found in listed.items()),
            # what another run has taken out of the record meanwhile is not lost: it went
            *(_Recorded(place, before[place], None) for place in self._lost & before.keys() - listed.keys()),
        ]
        return sorted(members, key=lambda member: str(member.place[1]))

    def _sum(self, found: DayObject, before: Sum | None) -> Sum:
        own = self._landed.get((found.day, found.instrument))
        known = self._store.known_crc32c(found.info)
        if own is not None and (own.size, own.crc32c) == (found.info.size, known):
            return own
        # of a file that we wrote and that is another one now, the record may tell what it was in between
        told = before if own is None else None
        if told is not None and told.size == found.info.size and found.info.crc32c in (None, told.crc32c):
            return told
        with opened(self._store, found.info.key, restoring(found.day)) as file:
            rows = file.metadata.num_rows
        return Sum(rows, found.info.size, self._store.crc32c(found.info))

    def digest(self, _: Target, members: Sequence[_Recorded]) -> str | None:
        """Of the files' instruments and checksums, and of what they were made from."""
        texts = (
            f"{each.place[1]} {each.sum.crc32c:08x}" + (f" {each.sum.made_from}" if each.sum.made_from else "")
            for each in members
        )
        return digest_of("\n".join(texts))

    def same(self, _: Target, objects: Sequence[DayObject], members: Sequence[_Recorded], __: str | None) -> bool:
        """Whether the very same objects are listed now."""
        return {version(found.info) for found in objects} == {version(each.info) for each in members if each.info}

    def tables(self, _: Target, members: Sequence[_Recorded]) -> Iterator[pa.Table]:
        """One table for the day."""
        if members:
            rows = [
                {
                    "date": each.place[0],
                    "instrument_id": each.place[1] and each.place[1].id,
                    "rows": each.sum.rows,
                    "bytes": each.sum.size,
                    "crc32c": each.sum.crc32c,
                    "made_from": each.sum.made_from,
                    "facts": json.dumps(dict(each.sum.facts), sort_keys=True) if each.sum.facts else None,
                }
                for each in members
            ]
            yield pa.Table.from_pylist(rows, RECORD_SCHEMA)


def version(info: ObjectInfo) -> tuple[object, ...]:
    """Tells an object from another one under its key, as far as its store can without reading it."""
    return info.key, info.size, info.crc32c, info.identity


def _of_day(file: pq.ParquetFile, day: date) -> pa.Table:
    groups = [group for group, at in enumerate(row_group_days(file.metadata)) if at == day]
    return file.read_row_groups(groups) if groups else RECORD_SCHEMA.empty_table()
