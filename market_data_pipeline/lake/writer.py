"""Writing days into the lake: day files in every layout, the month files that follow from them, and what goes away.

The `by_date` layout is the truth; all else is made from it: first the day files land (`lake.day_files`), then month
files, and the record of their checksums (`lake.records`), are put together from them (`lake.months`).
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from market_data_pipeline.lake.catalog import DayObject, day_objects
from market_data_pipeline.lake.day_files import THREADS, DayFile, Failure, Place, land, settle
from market_data_pipeline.lake.month_rows import MonthRows
from market_data_pipeline.lake.months import Contents, MonthFile, Target, publish_months, targets_of
from market_data_pipeline.lake.records import (
    Checksums,
    Sum,
    Sums,
    landed_sums,
    lost_files,
    read_record,
    record_key,
    record_targets,
)
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.parallel import in_parallel, together
from market_data_pipeline.lake.unchanged import Unchanged
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

    Rows that would be made from the same as the files that lie there are not read (see `lake.unchanged`). First of all
    it sweeps up what killed runs have left behind.

    Args:
        store: the lake.
        dataset: whose rows.
        days: the partitions that are asked for.
        selection: the instruments that are asked for.
        rows: their rows; each day and instrument once.
        threads: how many day files are read and encoded at once.
        progress: told of each day file as it is done.

    Raises:
        LakeError: the lake cannot be written, or `rows` are not what the dataset declares. Day files that were
            written until then stay; running again completes the rest.
    """
    if strays := store.sweep():
        log.info("%s: %d temporary files that killed runs had left were removed", store.uri, strays)
    before = store.bytes_written
    unchanged = Unchanged(store, dataset)
    landed, failures = land(store, dataset, rows, unchanged, threads, progress)
    files = unchanged.confirmed(landed)
    quarantine = QUARANTINE.get(dataset.name)
    (stored, lost), aside = together(
        store,
        partial(known_files, store, dataset, days),
        lambda: _listed(store, quarantine, days) if quarantine else [],
    )
    gone = _gone(dataset, [*stored, *map(place_of, lost)], selection, files, failures)
    if quarantine:
        _delete(store, quarantine, _mended(quarantine, aside, selection, files, failures))
    lost = [each for each in lost if place_of(each) not in set(gone)]
    months = follow(store, dataset, days, files, gone=gone, lost=lost, threads=threads)
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


def known_files(store: ObjectStore, dataset: Dataset, days: Sequence[date]) -> tuple[list[Place], list[DayObject]]:
    """What lies in `by_date` on some days, and what is recorded of them and not there.

    A file is recorded after it has landed, and taken out of the record before it goes: what the record had before the
    listing was made, and the listing has not, is lost or has just gone, by the hand of a run that says so once more.
    """
    wanted = set(days)
    recorded: dict[Place, Sum] = {}
    for month in {record_key(dataset, day): day for day in days}.values():
        told = read_record(store, dataset, month) or {}
        recorded |= {place: each for place, each in told.items() if place[0] in wanted}
    stored = _listed(store, dataset, days)
    return stored, lost_files(dataset, recorded, set(stored))


def _listed(store: ObjectStore, dataset: Dataset, days: Sequence[date]) -> list[Place]:
    """What lies in `by_date` on some days."""
    found = in_parallel(store, lambda day: list(day_objects(store, dataset, day)), days)
    return [place_of(each) for of_day in found for each in of_day]


def place_of(found: DayObject) -> Place:
    """Whose day an object holds."""
    return found.day, found.instrument


def _gone(
    dataset: Dataset,
    known: Iterable[Place],
    selection: Selection,
    files: Sequence[DayFile],
    failures: Sequence[Failure],
) -> list[Place]:
    """Of the known day files those of instruments that were asked for, could be read, and have no rows any more."""
    if not dataset.per_instrument:
        empty = {file.day for file in files if not file.span.rows}
        return [place for place in known if place[0] in empty]
    kept = {(file.day, file.instrument) for file in files if file.span.rows}
    kept |= {(failure.day, failure.instrument) for failure in failures}
    # where something could not be told apart, it may be any of those that seem to be missing
    unsure = {failure.day for failure in failures if failure.instrument is None}
    return [
        (day, instrument)
        for day, instrument in known
        if day not in unsure and instrument and instrument in selection and (day, instrument) not in kept
    ]


def _mended(
    quarantine: Dataset,
    stored: Sequence[Place],
    selection: Selection,
    files: Sequence[DayFile],
    failures: Sequence[Failure],
) -> list[Place]:
    """Of the stored ones, quarantined days of instruments that were read and have nothing set aside, or are gone."""
    aside = [file for file in files if file.rejects]
    clean = {(file.day, file.instrument) for file in files if not file.rejects}
    gone = set(_gone(quarantine, stored, selection, aside, failures))
    return [place for place in stored if place in clean or place in gone]


def follow(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    files: Sequence[DayFile],
    *,
    gone: Sequence[Place] = (),
    lost: Sequence[DayObject] = (),
    threads: int = THREADS,
) -> list[MonthFile]:
    """Brings all else in step with the day files that have landed, and deletes what is gone.

    That takes place in an order that a killed run cannot spoil: a day file that goes is first taken out of the month
    files, then out of the record, then deleted from `by_date` last of all, so that a run that comes after a kill still
    sees what remains to be done. As another run may have put it back into a month file in the meantime, those are
    looked at once more. The record is looked at for every day, as a killed run may have left it behind. What is lost is
    neither there nor gone: the record and the month files keep it.
    """
    if lost:
        first, last = min(each.day for each in lost), max(each.day for each in lost)
        log.warning(
            "%s is recorded but not there%s; `market-data repair %s %s` restores what another layout still has, "
            "with `--forget` it lets go of the rest",
            store.uri_of(lost[0].info.key),
            f", nor are {len(lost) - 1} others" if len(lost) > 1 else "",
            first,
            last,
        )
    landed = landed_sums(files)
    records = record_targets(dataset, [*days, *(day for day, _ in landed)])
    targets = targets_of(store, dataset, [*landed, *gone])
    # settling is about the other day layouts alone, publishing about what is made from `by_date`
    months, _ = together(
        store,
        partial(publish, store, dataset, [*targets, *records], landed, lost=lost, leaving=gone, threads=threads),
        partial(settle, store, dataset, [(file.day, file.instrument) for file in files if file.changed]),
    )
    if gone:
        _delete(store, dataset, gone)
        again = [*targets_of(store, dataset, gone), *record_targets(dataset, [day for day, _ in gone])]
        after = publish(store, dataset, again, landed, lost=lost, threads=threads)
        looked = {month.key: month for month in after}
        months = [
            replace(looked[month.key], changed=True) if month.changed and month.key in looked else month
            for month in months
        ]
        settle(store, dataset, gone)
    return [month for month in months if month.layout != RECORD.name]


def publish(
    store: ObjectStore,
    dataset: Dataset,
    targets: Sequence[Target],
    landed: Sums,
    *,
    lost: Sequence[DayObject] = (),
    leaving: Collection[Place] = (),
    threads: int = THREADS,
) -> list[MonthFile]:
    """Brings month files in step with the day files, of which `landed` are known and `lost` are missed; then records.

    Where a run is killed in between, the record names rows that month files no longer have, never the other way round:
    rows that it knew nothing of would stay in a month file for good once their day file is lost.
    """
    months = [target for target in targets if target.layout != RECORD]
    records = [target for target in targets if target.layout == RECORD]
    made: list[MonthFile] = []
    contents: Contents
    for chosen, contents in ((months, MonthRows(store, dataset, lost)), (records, Checksums(store, landed, lost))):
        made += publish_months(store, dataset, chosen, contents, leaving=frozenset(leaving), threads=threads)
    return made


def _delete(store: ObjectStore, dataset: Dataset, gone: Iterable[Place]) -> None:
    """Deletes day files, each from `by_date` last."""

    def delete(place: Place) -> None:
        for layout in reversed(dataset.day_layouts):
            store.delete(dataset.path(layout, *place))

    in_parallel(store, delete, list(gone))
