"""Writing days into the lake: day files in every layout, the month files that follow from them, and what goes away.

The `by_date` layout is the truth; all else is made from it. A day file is encoded once and lands in every day layout
as the same bytes; month files are put together from the day files (`lake.months`).
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import date
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import day_objects
from market_data_pipeline.lake.months import MonthFile, Target, publish_months, targets_of, targets_of_tables
from market_data_pipeline.lake.parquet import Span, explained, write_day_file
from market_data_pipeline.lake.stores.content import crc32c_of
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError, MarketDataError, ObjectChanged, ObjectNotFound
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.layouts import Layout
from market_data_pipeline.model.rows import DayRows, Rejects

log = logging.getLogger(__name__)

THREADS = 4
_ROUNDS = 40
_Place = tuple[date, Instrument | None]


@dataclass(frozen=True)
class DayFile:
    """One day file after a run.

    Attributes:
        day: the partition.
        instrument: whose rows it holds; None where it holds all instruments.
        origin: where the rows came from.
        span: rows, first and last time. Without rows there is no file.
        size: bytes of one copy.
        changed: whether this run wrote it; False where the same bytes were there already, in every layout.
        rejects: rows that were set aside on the way, by reason.
    """

    day: date
    instrument: Instrument | None
    origin: str
    span: Span
    size: int
    changed: bool
    rejects: Rejects


@dataclass(frozen=True)
class Failure:
    """One instrument's day that could not be written; what the lake had of it, it keeps.

    Attributes:
        day: the partition.
        instrument: whose rows they were; None where they could not be told apart, or where a whole day is missing.
        origin: where they came from.
        message: what is wrong and what to do.
    """

    day: date
    instrument: Instrument | None
    origin: str
    message: str

    @property
    def label(self) -> str:
        """The instrument's id, or the origin where that is not known."""
        return self.instrument.id if self.instrument else self.origin


@dataclass(frozen=True)
class WriteReport:
    """What one run did to one dataset.

    Attributes:
        dataset: the dataset.
        days: the partitions that the run was asked for.
        files: the day files that could be read, in order of day and instrument.
        failures: what could not be.
        removed: what the source no longer has, taken out of every layout.
        months: the month files that the days belong to.
        bytes_written: bytes sent to the store, all layouts together; a link or a server-side copy is none.
    """

    dataset: Dataset
    days: tuple[date, ...]
    files: tuple[DayFile, ...]
    failures: tuple[Failure, ...]
    removed: tuple[tuple[date, Instrument], ...]
    months: tuple[MonthFile, ...]
    bytes_written: int


@dataclass
class _Folders:
    """Listings of the folders that hold day files, each made when it is first asked for."""

    store: ObjectStore
    listed: dict[str, dict[str, ObjectInfo]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def find(self, dataset: Dataset, layout: Layout, day: date, instrument: Instrument | None) -> ObjectInfo | None:
        fields = dataset.path_fields(instrument)
        for name in ("instrument_id", "short_name"):
            fields.pop(name, None)
        prefix = layout.prefix(day, **fields)
        with self.lock:
            if prefix not in self.listed:
                self.listed[prefix] = {info.key: info for info in self.store.list(prefix)}
            return self.listed[prefix].get(dataset.path(layout, day, instrument))

    def holds(
        self, dataset: Dataset, layout: Layout, day: date, instrument: Instrument | None, size: int, checksum: int
    ) -> bool:
        """Whether a day file of this size and checksum lies in a layout."""
        there = self.find(dataset, layout, day, instrument)
        try:
            return there is not None and there.size == size and self.store.crc32c(there) == checksum
        except ObjectNotFound:  # another run has deleted it since
            return False


class _Unreadable(Exception):
    """The rows' own input failed, as opposed to the lake's disk."""


def write_days(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    selection: Selection,
    rows: Iterable[DayRows],
    *,
    threads: int = THREADS,
    progress: Callable[[DayFile | Failure], None] = lambda _: None,
) -> WriteReport:
    """Brings some days of a dataset to what `rows` say, in every layout.

    What is replaced is exactly what was asked for and could be read: instruments outside the selection, and those whose
    rows fail, keep what they had. An instrument of the selection that `rows` no longer have goes from every layout,
    unless something of that day could not be told apart.

    Args:
        store: the lake.
        dataset: whose rows.
        days: the partitions that are asked for.
        selection: the instruments that are asked for.
        rows: their rows; each day and instrument once.
        threads: how many day files are read, encoded and sent at once.
        progress: told of each day file as it is done.

    Raises:
        LakeError: the lake cannot be written, or `rows` are not what the dataset declares. Day files that were
            written until then stay; running again completes the rest.
    """
    before = store.bytes_written
    files, failures = _land(store, dataset, rows, threads, progress)
    gone = _gone(store, dataset, days, selection, files, failures)
    months = _months(store, dataset, files, gone, threads)
    _settle(store, dataset, [*((file.day, file.instrument) for file in files if file.changed), *gone])
    return WriteReport(
        dataset,
        tuple(days),
        tuple(files),
        tuple(failures),
        tuple((day, instrument) for day, instrument in gone if instrument),
        tuple(months),
        store.bytes_written - before,
    )


def _land(
    store: ObjectStore,
    dataset: Dataset,
    rows: Iterable[DayRows],
    threads: int,
    progress: Callable[[DayFile | Failure], None],
) -> tuple[list[DayFile], list[Failure]]:
    """Writes the day files, several at once; the rows' order and threads leave no trace in the lake."""
    folders = _Folders(store)
    files: list[DayFile] = []
    failures: list[Failure] = []
    seen: set[tuple[date, Instrument | None]] = set()

    def collect(finished: Iterable[Future[DayFile | Failure]]) -> None:
        for future in finished:
            result = future.result()
            progress(result)
            if isinstance(result, DayFile):
                files.append(result)
            else:
                failures.append(result)

    with ThreadPoolExecutor(threads, "write") as pool:
        running: set[Future[DayFile | Failure]] = set()
        try:
            for day_rows in rows:
                place = (day_rows.day, day_rows.instrument)
                if place in seen and (day_rows.instrument or not dataset.per_instrument):
                    raise LakeError(f"{dataset.name} of {place[1] or 'all instruments'} on {place[0]} came twice")
                seen.add(place)
                running.add(pool.submit(_land_one, store, dataset, folders, day_rows))
                if len(running) >= 2 * threads:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    collect(finished)
            collect(running)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return (
        sorted(files, key=lambda file: (file.day, str(file.instrument))),
        sorted(failures, key=lambda failure: (failure.day, failure.label)),
    )


def _land_one(store: ObjectStore, dataset: Dataset, folders: _Folders, rows: DayRows) -> DayFile | Failure:
    rejects = Rejects()
    day, instrument = rows.day, rows.instrument
    with store.stage() as path:
        try:
            span = write_day_file(path, dataset, day, instrument, _readable(dataset, rows, rejects))
        except _Unreadable as failed:
            return Failure(day, instrument, rows.origin, str(failed.__cause__))
        if not span.rows:
            return DayFile(day, instrument, rows.origin, span, 0, False, rejects)
        with path.open("rb", buffering=0) as encoded:
            checksum = crc32c_of(encoded)
        size = path.stat().st_size
        missing = [
            dataset.path(layout, day, instrument)
            for layout in dataset.day_layouts
            if not folders.holds(dataset, layout, day, instrument, size, checksum)
        ]
        if missing:
            store.put(path, missing)
        return DayFile(day, instrument, rows.origin, span, size, bool(missing), rejects)


def _readable(dataset: Dataset, rows: DayRows, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    nameless = rows.instrument is None and dataset.per_instrument
    try:
        for batch in rows.read(rejects):
            if nameless:
                break
            yield batch
    except MarketDataError as error:
        raise _Unreadable from error
    if nameless:
        raise LakeError(f"rows from {rows.origin} belong to no instrument")


def _gone(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    selection: Selection,
    files: Sequence[DayFile],
    failures: Sequence[Failure],
) -> list[_Place]:
    """The stored days of instruments that were asked for, could be read, and have no rows any more."""
    if not dataset.per_instrument:
        empty = [file.day for file in files if not file.span.rows]
        return [(day, None) for day in empty if list(day_objects(store, dataset, day))]
    kept = {(file.day, file.instrument) for file in files if file.span.rows}
    kept |= {(failure.day, failure.instrument) for failure in failures}
    # where something could not be told apart, it may be any of those that seem to be missing
    unsure = {failure.day for failure in failures if failure.instrument is None}
    return [
        (day, found.instrument)
        for day in days
        if day not in unsure
        for found in day_objects(store, dataset, day)
        if found.instrument and found.instrument in selection and (day, found.instrument) not in kept
    ]


def _months(
    store: ObjectStore,
    dataset: Dataset,
    files: Sequence[DayFile],
    gone: Sequence[_Place],
    threads: int,
) -> list[MonthFile]:
    """Publishes the month files and deletes what is gone, in an order that a killed run cannot spoil.

    A day file that goes is first taken out of the month files, then deleted from `by_date` last of all: so a run that
    comes after a kill still sees what remains to be done. As another run may have put it back into a month file in the
    meantime, those are looked at once more.
    """
    if not dataset.month_layouts:
        _delete(store, dataset, gone)
        return []
    places = [(file.day, file.instrument) for file in files if file.span.rows]
    targets = _targets(store, dataset, [*places, *gone])
    months = publish_months(store, dataset, targets, leaving=frozenset(gone), threads=threads)
    if gone:
        _delete(store, dataset, gone)
        after = publish_months(store, dataset, _targets(store, dataset, gone), threads=threads)
        looked = {month.key: month for month in after}
        months = [
            replace(looked[month.key], changed=True) if month.changed and month.key in looked else month
            for month in months
        ]
    return months


def _targets(store: ObjectStore, dataset: Dataset, places: Iterable[_Place]) -> list[Target]:
    if dataset.per_instrument:
        return targets_of(dataset, [(day, instrument) for day, instrument in places if instrument])
    return targets_of_tables(store, dataset, {day: _stored_table(store, dataset, day) for day, _ in places})


def _delete(store: ObjectStore, dataset: Dataset, gone: Iterable[_Place]) -> None:
    for day, instrument in gone:
        for layout in reversed(dataset.day_layouts):
            store.delete(dataset.path(layout, day, instrument))


def _stored_table(store: ObjectStore, dataset: Dataset, day: date) -> pa.Table:
    key = dataset.path(dataset.layouts[0], day)
    try:
        with store.open(key) as pinned, explained(store.uri_of(key)):
            return pq.ParquetFile(pinned.file).read()
    except ObjectNotFound:
        return dataset.schema.empty_table()


def _settle(store: ObjectStore, dataset: Dataset, places: Iterable[_Place]) -> None:
    """Brings the day layouts in step with `by_date` where runs on the same day and instrument have crossed.

    One object after another is put or deleted, so two runs may leave one's file in one layout and the other's in the
    next. Each looks at what it touched once more, and so does the one that touches it last.
    """
    primary, *others = dataset.day_layouts
    crossed = list(places) if others else []
    for _ in range(_ROUNDS):
        folders = _Folders(store)
        crossed = [place for place in crossed if not _in_step(folders, dataset, *place)]
        if not crossed:
            return
        for day, instrument in crossed:
            log.info(
                "%s of %s on %s: another run wrote it, too; its layouts are brought in step",
                dataset.name,
                instrument,
                day,
            )
            keys = [dataset.path(layout, day, instrument) for layout in others]
            try:
                with store.open(dataset.path(primary, day, instrument)) as pinned, store.stage() as path:
                    pinned.file.download(path)
                    store.put(path, keys)
            except ObjectNotFound:
                for key in keys:
                    store.delete(key)
            except ObjectChanged:  # looked at again in the next round
                continue
    raise LakeError(
        f"{store.uri_of(dataset.path(primary, *crossed[0]))} kept changing: other runs wrote the same day {_ROUNDS} "
        "times; run it again when they are done"
    )


def _in_step(folders: _Folders, dataset: Dataset, day: date, instrument: Instrument | None) -> bool:
    primary, *others = dataset.day_layouts
    truth = folders.find(dataset, primary, day, instrument)
    if truth is None:
        return not any(folders.find(dataset, layout, day, instrument) for layout in others)
    try:
        checksum = folders.store.crc32c(truth)
    except ObjectNotFound:
        return False
    return all(folders.holds(dataset, layout, day, instrument, truth.size, checksum) for layout in others)
