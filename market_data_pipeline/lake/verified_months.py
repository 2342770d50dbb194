"""Whether month files hold the rows of the day files: by their footers, and in full row by row."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import chain, islice
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import DayObject
from market_data_pipeline.lake.day_files import Place
from market_data_pipeline.lake.differences import Difference, Kind, mending, of_day_file, restoring
from market_data_pipeline.lake.month_rows import MonthRows, digest_of_files, members_of, of_group
from market_data_pipeline.lake.months import Target, targets_of
from market_data_pipeline.lake.parquet import at_once, explained, opened, parquet_file, row_group_days
from market_data_pipeline.lake.records import Sum
from market_data_pipeline.lake.splicing import month_digests
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore
from market_data_pipeline.lake.survey import Group
from market_data_pipeline.lake.verified_days import SMALL, DayFiles
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError, ObjectNotFound
from market_data_pipeline.model.layouts import Layout

_THREADS = 8
_BATCH = 65_536
_KEPT_BYTES = 128 << 20


@dataclass(frozen=True)
class _Expected:
    """What a month file should hold of a day; None for what cannot be told without reading."""

    files: tuple[DayObject, ...]
    digest: str | None
    rows: int | None


def month_differences(
    store: ObjectStore, files: DayFiles, stored: Iterable[tuple[Layout, Group]], full: bool
) -> Iterator[Difference]:
    """The month files that do not hold what `by_date` has of some days of one month.

    Args:
        store: the lake.
        files: what `by_date` has, and what is recorded of it.
        stored: month files that are known to lie there, besides those that should.
        full: compare row by row.
    """
    dataset, days, listed = files.dataset, files.days, files.listed
    looking = _Months(store, dataset, listed, files.recorded or {}, MonthRows(store, dataset), full)
    broken: set[date] = set()
    if not dataset.per_instrument:
        for place in sorted(listed, key=lambda place: place[0]):
            trouble = looking.unreadable(place)
            if trouble:
                broken.add(place[0])
                yield trouble
    sound = [day for day in days if day not in broken]
    wanted = {
        (target.layout, target.fields) for target in targets_of(store, dataset, [p for p in listed if p[0] in sound])
    }
    targets = [
        Target(layout, layout.format(days[0], **(dataset.path_fields() | dict(group))), group, tuple(sound))
        for layout, group in wanted | set(stored)
        if sound
    ]
    with ThreadPoolExecutor(_THREADS, "verify") as pool:
        for found in pool.map(looking.look, sorted(targets, key=lambda target: target.key)):
            yield from found


@dataclass(frozen=True)
class _Months:
    store: ObjectStore
    dataset: Dataset
    listed: Mapping[Place, ObjectInfo]
    recorded: Mapping[Place, Sum]
    rows: MonthRows
    full: bool
    kept: "_Kept" = field(default_factory=lambda: _Kept())  # noqa: PLW0108 - the class stands below

    def unreadable(self, place: Place) -> Difference | None:
        """Whether a day file that holds all instruments cannot be read, so that nothing can be compared with it."""
        try:
            with opened(self.store, self.listed[place].key) as file:
                file.read()
        except LakeError as error:
            what = Kind.UNREADABLE, f"cannot be read ({error.__cause__ or error})", "a Parquet file"
            return of_day_file(self.store, self.dataset, self.dataset.layouts[0], place, what, restoring(place[0]))
        return None

    def look(self, target: Target) -> list[Difference]:
        """What differs in one month file."""
        try:
            return list(self._look(target))
        except ObjectNotFound:  # a day file went while it was read: looked at again
            return [self._differs(target, None, Kind.OUTDATED, "day files changed while it was compared", "no change")]
        except LakeError as error:
            return [
                self._differs(
                    target, None, Kind.UNREADABLE, f"cannot be read ({error.__cause__ or error})", "the by_date rows"
                )
            ]

    def _look(self, target: Target) -> Iterator[Difference]:
        expected = {day: self._expected(target, day) for day in target.days}
        try:
            pinned = self.store.open(target.key)
        except ObjectNotFound:
            days = [day for day, of_day in expected.items() if of_day.files and of_day.rows != 0]
            if days:
                what = f"the rows of {len(days)} days of by_date, the first {days[0]}"
                yield self._differs(target, None, Kind.MISSING, "nothing lies here", what)
            return
        with pinned, explained(self.store.uri_of(target.key)):
            file = parquet_file(pinned.file)
            if file.schema_arrow != self.dataset.schema:
                yield self._differs(target, None, Kind.ROWS, "other columns", "the dataset's columns")
                return
            digests = month_digests(file.metadata)
            groups: dict[date, list[int]] = {}
            for group, day in enumerate(row_group_days(file.metadata)):
                groups.setdefault(day, []).append(group)
            for day, of_day in expected.items():
                rows = sum(file.metadata.row_group(group).num_rows for group in groups.get(day, ()))
                found = self._compare(file, groups.get(day, ()), digests.get(day), rows, target, of_day)
                if found:
                    yield self._differs(target, day, *found)

    def _compare(
        self,
        file: pq.ParquetFile,
        groups: Sequence[int],
        digest: str | None,
        rows: int,
        target: Target,
        expected: _Expected,
    ) -> tuple[Kind, str, str] | None:
        if not expected.files or expected.rows == 0:
            if rows or digest:
                return Kind.EXTRA, f"{rows:,} rows of a day that by_date has not", "none"
            return None
        if expected.digest is not None and digest != expected.digest:
            return Kind.OUTDATED, "was put together from other day files", "those that lie in by_date"
        if expected.rows is not None and rows != expected.rows:
            return Kind.ROWS, f"{rows:,} rows", f"{expected.rows:,}, as in by_date"
        if self.full:
            at = first_difference(self._day_tables(target, expected.files), file, groups)
            if at is not None:
                return Kind.ROWS, f"other rows from the day's row {at:,} on", "those of by_date"
        return None

    def _expected(self, target: Target, day: date) -> _Expected:
        objects = [DayObject(day, place[1], info) for place, info in self.listed.items() if place[0] == day]
        files = members_of(target, objects)
        if not files:
            return _Expected((), None, None)
        if not self.dataset.per_instrument:
            members = self.rows.of(target, day, files)
            rows = sum(table.num_rows for table in self.rows.tables(target, members))
            return _Expected(tuple(files), self.rows.digest(target, members), rows)
        sums = [self.recorded.get((day, found.instrument)) for found in files]
        told = [
            found.info.crc32c if found.info.crc32c is not None or of is None else of.crc32c
            for found, of in zip(files, sums, strict=True)
        ]
        known = [(found.instrument, each) for found, each in zip(files, told, strict=True) if each is not None]
        counted = [each.rows for each in sums if each is not None]
        return _Expected(
            tuple(files),
            digest_of_files(known) if len(known) == len(files) else None,
            sum(counted) if len(counted) == len(files) else None,
        )

    def _day_tables(self, target: Target, files: Sequence[DayObject]) -> Iterator[pa.Table]:
        for found in files:
            for table in self.kept.tables(found.info.key, partial(self._read, found.info.key)):
                yield table if self.dataset.per_instrument else of_group(table, target)

    def _read(self, key: str) -> Iterator[pa.Table]:
        with self.store.open(key) as pinned, explained(self.store.uri_of(key)):
            for batch in parquet_file(at_once(pinned, SMALL)).iter_batches(_BATCH):
                yield pa.Table.from_batches([batch])

    def _differs(self, target: Target, day: date | None, kind: Kind, found: str, expected: str) -> Difference:
        uri = self.store.uri_of(target.key)
        where = f"{found} on {day}" if day else found
        first, last = (day, day) if day else (target.days[0], target.days[-1])
        remedy = mending(first, last)
        return Difference(
            kind, self.dataset.name, target.layout.name, day, None, target.key, uri, where, expected, remedy
        )


class _Kept:
    """The rows of small day files, which the month files of several layouts are compared with."""

    def __init__(self) -> None:
        self._tables: dict[str, list[pa.Table]] = {}
        self._room = _KEPT_BYTES
        self._lock = Lock()

    def tables(self, key: str, read: Callable[[], Iterator[pa.Table]]) -> Iterable[pa.Table]:
        """A day file's rows: kept, else read, and then kept if they are one piece and there is room."""
        if key in self._tables:
            return self._tables[key]
        pieces = read()
        first = list(islice(pieces, 2))
        with self._lock:
            size = sum(table.nbytes for table in first)
            if len(first) < 2 and key not in self._tables and size <= self._room:
                self._tables[key] = first
                self._room -= size
        return chain(first, pieces)


def first_difference(tables: Iterable[pa.Table], file: pq.ParquetFile, groups: Sequence[int]) -> int | None:
    """The number of the first row in which some tables differ from some row groups; None if there is none.

    Both are read a piece at a time. Numbers are compared by their bits, so that a NaN is equal to itself.
    """
    others = file.iter_batches(_BATCH, row_groups=list(groups)) if groups else iter(())
    at, held = 0, pa.table({})
    for table in tables:
        start = 0
        while start < table.num_rows:
            if not held.num_rows:
                batch = next(others, None)
                if batch is None:
                    return at
                held = pa.Table.from_batches([batch])
                continue
            count = min(table.num_rows - start, held.num_rows)
            one, other = _comparable(table.slice(start, count)), _comparable(held.slice(0, count))
            if not one.equals(other):
                return at + next((n for n in range(count) if not one.slice(n, 1).equals(other.slice(n, 1))), 0)
            held = held.slice(count)
            start, at = start + count, at + count
    return at if held.num_rows or next(others, None) is not None else None


def _comparable(table: pa.Table) -> pa.Table:
    return pa.table({name: _plain(column) for name, column in zip(table.column_names, table.columns, strict=True)})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        return pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())
    return column
