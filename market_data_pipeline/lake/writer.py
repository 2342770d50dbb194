"""Writing days into the lake: day files in every layout, the month files that follow from them, and what goes away.

The `by_date` layout is the truth; all else is made from it: first the day files land (`lake.day_files`), then month
files, and the record of their checksums (`lake.records`), are put together from them (`lake.months`).
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from market_data_pipeline.lake.catalog import day_objects
from market_data_pipeline.lake.day_files import THREADS, DayFile, Failure, Place, land, settle
from market_data_pipeline.lake.month_rows import MonthRows
from market_data_pipeline.lake.months import Contents, MonthFile, Target, publish_months, targets_of
from market_data_pipeline.lake.records import Checksums, Sums, landed_sums, record_targets
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import QUARANTINE, Dataset
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.records import RECORD
from market_data_pipeline.model.rows import DayRows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WriteReport:
    """What one run did to one dataset.

    Attributes:
        dataset: the dataset.
        days: the partitions that the run was asked for.
        selection: the instruments that it was asked for.
        files: the day files that could be read, in order of day and instrument.
        failures: what could not be.
        removed: what the source no longer has, taken out of every layout.
        months: the month files that the days belong to.
        bytes_written: bytes sent to the store, all layouts together; a link or a server-side copy is none.
    """

    dataset: Dataset
    days: tuple[date, ...]
    selection: Selection
    files: tuple[DayFile, ...]
    failures: tuple[Failure, ...]
    removed: tuple[tuple[date, Instrument], ...]
    months: tuple[MonthFile, ...]
    bytes_written: int

    @property
    def landed(self) -> tuple[date, ...]:
        """The days of which anything could be read, if only that they have no rows; the others were left alone."""
        read = {file.day for file in self.files} | {day for day, _ in self.removed}
        failed = {failure.day for failure in self.failures if not failure.kept}
        return tuple(day for day in self.days if day in read or day not in failed)


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

    First of all it sweeps up what killed runs have left behind.

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
    if strays := store.sweep():
        log.info("%s: %d temporary files that killed runs had left were removed", store.uri, strays)
    before = store.bytes_written
    files, failures = land(store, dataset, rows, threads, progress)
    gone = _gone(store, dataset, days, selection, files, failures)
    if quarantine := QUARANTINE.get(dataset.name):
        _delete(store, quarantine, _mended(store, quarantine, days, selection, files, failures))
    months = _months(store, dataset, days, files, gone, threads)
    settle(store, dataset, [*((file.day, file.instrument) for file in files if file.changed), *gone])
    return WriteReport(
        dataset,
        tuple(days),
        selection,
        tuple(files),
        tuple(failures),
        tuple((day, instrument) for day, instrument in gone if instrument),
        tuple(months),
        store.bytes_written - before,
    )


def _gone(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    selection: Selection,
    files: Sequence[DayFile],
    failures: Sequence[Failure],
) -> list[Place]:
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


def _mended(
    store: ObjectStore,
    quarantine: Dataset,
    days: Sequence[date],
    selection: Selection,
    files: Sequence[DayFile],
    failures: Sequence[Failure],
) -> list[Place]:
    """The quarantined days of instruments that were read and have nothing set aside any more, or are gone."""
    stored = [(day, found.instrument) for day in days for found in day_objects(store, quarantine, day)]
    if not stored:
        return []
    aside = [file for file in files if file.rejects]
    clean = {(file.day, file.instrument) for file in files if not file.rejects}
    gone = set(_gone(store, quarantine, days, selection, aside, failures))
    return [place for place in stored if place in clean or place in gone]


def _months(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    files: Sequence[DayFile],
    gone: Sequence[Place],
    threads: int,
) -> list[MonthFile]:
    """Publishes the month files and the record, and deletes what is gone, in an order that a killed run cannot spoil.

    A day file that goes is first taken out of the month files, then deleted from `by_date` last of all: so a run that
    comes after a kill still sees what remains to be done. As another run may have put it back into a month file in the
    meantime, those are looked at once more. The record is looked at for every day, as a killed run
    may have left it behind.
    """
    landed = landed_sums(files)
    records = record_targets(dataset, [*days, *(day for day, _ in landed)])
    targets = targets_of(store, dataset, [*landed, *gone])
    months = publish(store, dataset, [*targets, *records], landed, leaving=frozenset(gone), threads=threads)
    if gone:
        _delete(store, dataset, gone)
        again = [*targets_of(store, dataset, gone), *record_targets(dataset, [day for day, _ in gone])]
        after = publish(store, dataset, again, landed, threads=threads)
        looked = {month.key: month for month in after}
        months = [
            replace(looked[month.key], changed=True) if month.changed and month.key in looked else month
            for month in months
        ]
    return [month for month in months if month.layout != RECORD.name]


def publish(
    store: ObjectStore,
    dataset: Dataset,
    targets: Sequence[Target],
    landed: Sums,
    *,
    leaving: frozenset[Place] = frozenset(),
    threads: int = THREADS,
) -> list[MonthFile]:
    """Brings month files and records in step with the day files, of which `landed` are known."""
    rows, sums = MonthRows(store, dataset), Checksums(store, landed)

    def contents(target: Target) -> Contents:
        return sums if target.layout == RECORD else rows

    return publish_months(store, dataset, targets, contents, leaving=leaving, threads=threads)


def _delete(store: ObjectStore, dataset: Dataset, gone: Iterable[Place]) -> None:
    for day, instrument in gone:
        for layout in reversed(dataset.day_layouts):
            store.delete(dataset.path(layout, day, instrument))
