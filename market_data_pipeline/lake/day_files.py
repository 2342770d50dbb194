"""Day files: each is encoded once and lands in every day layout as the same bytes, whatever other runs do."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Protocol

import pyarrow as pa

from market_data_pipeline.lake.encoding import write_day_file
from market_data_pipeline.lake.parquet import Span, opened, read_columns, span_at
from market_data_pipeline.lake.quarantine import quarantined
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores.content import crc32c_of
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore
from market_data_pipeline.lake.stores.waiting import wait_for_others
from market_data_pipeline.model.datasets import QUARANTINE, Dataset
from market_data_pipeline.model.errors import (
    LakeError,
    MarketDataError,
    MissingInput,
    NotGiven,
    ObjectChanged,
    ObjectNotFound,
)
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout
from market_data_pipeline.model.rows import DayRows, Rejects

log = logging.getLogger(__name__)

THREADS = 4
_ROUNDS = 40
Place = tuple[date, Instrument | None]
"""Whose day a file holds: None where it holds all instruments."""


@dataclass(frozen=True)
class DayFile:
    """One day file after a run.

    Attributes:
        day: the partition.
        instrument: whose rows it holds; None where it holds all instruments.
        origin: where the rows came from.
        span: rows, first and last time. Without rows there is no file.
        size: bytes of one copy.
        crc32c: the CRC-32C of its bytes as they were encoded.
        changed: whether this run wrote it; False where the same bytes were there already, in every layout.
        rejects: rows that were set aside on the way.
        before: what the file that it replaced held; None where it replaced none, or none that can be read.
        made_from: stands for what it was made from; None where that is not known, or where rows were set aside.
        facts: what its making told beside the rows.
    """

    day: date
    instrument: Instrument | None
    origin: str
    span: Span
    size: int
    crc32c: int
    changed: bool
    rejects: Rejects
    before: Span | None = None
    made_from: str | None = None
    facts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """One instrument's day that could not be written; what the lake had of it, it keeps.

    Attributes:
        day: the partition.
        instrument: whose rows they were; None where they could not be told apart, or where a whole day is missing.
        origin: where they came from.
        message: what is wrong and what to do.
        follows: nothing is wrong with it itself: what it is made from is missing.
        kept: nothing is wrong at all: the source does not give it, so what the lake has of it stays.
    """

    day: date
    instrument: Instrument | None
    origin: str
    message: str
    follows: bool = False
    kept: bool = False

    @property
    def label(self) -> str:
        """The instrument's id, or the origin where that is not known."""
        return self.instrument.id if self.instrument else self.origin

    def __str__(self) -> str:
        where = f"{self.label} on {self.day}: "
        # a file that could not be told apart is named by its message as a rule
        return self.message if self.instrument is None and self.origin in self.message else where + self.message


class Folders:
    """Listings of the folders that hold day files, each made when it is first asked for; a context manager."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._listed: dict[str, Future[dict[str, ObjectInfo]]] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(store.transfers, "list")

    def __enter__(self) -> "Folders":
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def ask(self, dataset: Dataset, day: date, instrument: Instrument | None) -> None:
        """Begins to list the folders of all layouts in which a day file may lie."""
        for layout in dataset.day_layouts:
            self._folder(dataset, layout, day, instrument)

    def find(self, dataset: Dataset, layout: Layout, day: date, instrument: Instrument | None) -> ObjectInfo | None:
        """What lies in a layout."""
        return self._folder(dataset, layout, day, instrument).result().get(dataset.path(layout, day, instrument))

    def holds(
        self, dataset: Dataset, layout: Layout, day: date, instrument: Instrument | None, size: int, checksum: int
    ) -> bool:
        """Whether a day file of this size and checksum lies in a layout."""
        there = self.find(dataset, layout, day, instrument)
        try:
            return there is not None and there.size == size and self.store.crc32c(there) == checksum
        except ObjectNotFound:  # another run has deleted it since
            return False

    def _folder(
        self, dataset: Dataset, layout: Layout, day: date, instrument: Instrument | None
    ) -> Future[dict[str, ObjectInfo]]:
        fields = dataset.path_fields(instrument)
        for name in ("instrument_id", "short_name"):
            fields.pop(name, None)
        prefix = layout.prefix(day, **fields)
        with self._lock:
            if prefix not in self._listed:
                self._listed[prefix] = self._pool.submit(self._list, prefix)
            return self._listed[prefix]

    def _list(self, prefix: str) -> dict[str, ObjectInfo]:
        return {info.key: info for info in self.store.list(prefix)}


class Earlier(Protocol):
    """What is known of day files that earlier runs have made (see `lake.unchanged`)."""

    def made_from(self, rows: DayRows) -> str | None:
        """Stands for what some rows are made from, asked before they are read; None where that cannot be told."""
        ...

    def kept(self, rows: DayRows, made_from: str | None, folders: Folders) -> DayFile | None:
        """The file that lies there and was made from just that; None where it must be made."""
        ...


class _Unreadable(Exception):
    """The rows' own input failed, as opposed to the lake's disk."""


def land(
    store: ObjectStore,
    dataset: Dataset,
    rows: Iterable[DayRows],
    earlier: Earlier,
    threads: int,
    progress: Callable[[DayFile | Failure], None],
) -> tuple[list[DayFile], list[Failure]]:
    """Writes the day files, several at once; the rows' order and threads leave no trace in the lake.

    What `earlier` knows to be there already is not read. Reading and encoding keep processors busy and take memory, so
    `threads` do that and no others. What is encoded lies on the disk until it is sent, and waits for the network: as
    many are on their way as the store lets pay.
    """
    at_once = max(threads, store.transfers)
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

    with (
        Folders(store) as folders,
        ThreadPoolExecutor(threads, "encode") as encoding,
        ThreadPoolExecutor(at_once, "send") as pool,
    ):
        running: set[Future[DayFile | Failure]] = set()
        try:
            for day_rows in rows:
                place = (day_rows.day, day_rows.instrument)
                if place in seen and (day_rows.instrument or not dataset.per_instrument):
                    raise LakeError(f"{dataset.name} of {place[1] or 'all instruments'} on {place[0]} came twice")
                seen.add(place)
                running.add(pool.submit(_land_one, store, dataset, folders, day_rows, earlier, encoding))
                if len(running) >= at_once + threads:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    collect(finished)
            collect(running)
        except BaseException:
            encoding.shutdown(cancel_futures=True)
            pool.shutdown(cancel_futures=True)
            raise
    return (
        sorted(files, key=lambda file: (file.day, str(file.instrument))),
        sorted(failures, key=lambda failure: (failure.day, failure.label)),
    )


def _land_one(
    store: ObjectStore, dataset: Dataset, folders: Folders, rows: DayRows, earlier: Earlier, encoding: Executor
) -> DayFile | Failure:
    made_from = encoding.submit(earlier.made_from, rows).result()
    if there := earlier.kept(rows, made_from, folders):
        return there
    rejects = Rejects()
    day, instrument = rows.day, rows.instrument
    with store.stage() as path:
        try:
            readable = _readable(dataset, rows, rejects)
            span = encoding.submit(write_day_file, path, dataset, day, instrument, readable).result()
        except _Unreadable as failed:
            why = failed.__cause__
            follows, kept = isinstance(why, MissingInput), isinstance(why, NotGiven)
            return Failure(day, instrument, rows.origin, str(why), follows, kept)
        if not span.rows:
            return DayFile(day, instrument, rows.origin, span, 0, 0, False, rejects)
        if rejects:
            _keep_rejects(store, QUARANTINE[dataset.name], folders, rows, rejects)
            made_from = None
        size, checksum, changed, before = _publish(store, dataset, folders, path, day, instrument)
        facts = dict(rows.facts) if made_from else {}
        return DayFile(day, instrument, rows.origin, span, size, checksum, changed, rejects, before, made_from, facts)


def _keep_rejects(store: ObjectStore, quarantine: Dataset, folders: Folders, rows: DayRows, rejects: Rejects) -> None:
    """Writes what was set aside, before the rows that it is missing from."""
    with store.stage() as path:
        write_day_file(path, quarantine, rows.day, rows.instrument, [quarantined(quarantine, rejects)])
        _publish(store, quarantine, folders, path, rows.day, rows.instrument)


def _publish(
    store: ObjectStore, dataset: Dataset, folders: Folders, path: Path, day: date, instrument: Instrument | None
) -> tuple[int, int, bool, Span | None]:
    """Puts an encoded day file into each layout that lacks its bytes.

    Returns:
        Its size and CRC-32C, whether any layout lacked it, and what the file held that it replaced.
    """
    folders.ask(dataset, day, instrument)
    with path.open("rb", buffering=0) as encoded:
        checksum = crc32c_of(encoded)
    size = path.stat().st_size
    missing = [
        dataset.path(layout, day, instrument)
        for layout in dataset.day_layouts
        if not folders.holds(dataset, layout, day, instrument, size, checksum)
    ]
    primary = dataset.path(dataset.layouts[0], day, instrument)
    before = None
    if primary in missing and folders.find(dataset, dataset.layouts[0], day, instrument):
        before = _held(store, dataset, primary)
    if missing:
        store.put(path, missing, crc32c=checksum)
    return size, checksum, bool(missing), before


def _held(store: ObjectStore, dataset: Dataset, key: str) -> Span | None:
    """What a day file that is about to be replaced holds, from its footer; None where that cannot be read."""
    try:
        return span_at(store, dataset, key)
    except LakeError:
        return None


def _readable(dataset: Dataset, rows: DayRows, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    nameless = rows.instrument is None and dataset.per_instrument
    try:
        for batch in rows.read(rejects):
            if nameless and batch.num_rows:
                break
            yield batch
        else:
            nameless = False  # a file of all instruments, without rows
    except MarketDataError as error:
        raise _Unreadable from error
    if nameless:
        raise LakeError(f"rows from {rows.origin} belong to no instrument")


@whole
def own_rows(store: ObjectStore, dataset: Dataset, key: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A day file's own columns, or some of them in this order.

    Raises:
        ObjectNotFound: it is not there.
        LakeError: it cannot be read, or lacks a column.
    """
    schema = pa.schema([dataset.own_schema.field(name) for name in columns or dataset.own_schema.names])
    with opened(store, key) as file:
        return read_columns(file, schema.names).cast(schema)


def settle(store: ObjectStore, dataset: Dataset, places: Iterable[Place]) -> None:
    """Brings the day layouts in step with `by_date` where runs on the same day and instrument have crossed.

    One object after another is put or deleted, so two runs may leave one's file in one layout and the other's in the
    next. Each looks at what it touched once more, and so does the one that touches it last.
    """
    primary, *others = dataset.day_layouts
    crossed = list(places) if others else []
    for attempt in range(_ROUNDS):
        wait_for_others(attempt, _ROUNDS, f"{dataset.name}: {len(crossed)} day files are written by another run", log)
        with Folders(store) as folders:
            for place in crossed:
                folders.ask(dataset, *place)
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


def _in_step(folders: Folders, dataset: Dataset, day: date, instrument: Instrument | None) -> bool:
    primary, *others = dataset.day_layouts
    truth = folders.find(dataset, primary, day, instrument)
    if truth is None:
        return not any(folders.find(dataset, layout, day, instrument) for layout in others)
    try:
        checksum = folders.store.crc32c(truth)
    except ObjectNotFound:
        return False
    return all(folders.holds(dataset, layout, day, instrument, truth.size, checksum) for layout in others)
