"""Whether all layouts of a dataset hold the same rows: what lies there against the record of what was written.

The record says what each day file of `by_date` was; the files of the other day layouts must be those very files, and a
month file's footer must tell that it was put together from them. That takes listings and footers, and the files that
are newer than the record. In full, everything is read as well: a disk changes a file without a trace in any listing.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date

from market_data_pipeline.lake.differences import Difference, Kind, mending
from market_data_pipeline.lake.records import read_record, record_key, record_written, written
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore
from market_data_pipeline.lake.survey import Survey
from market_data_pipeline.lake.verified_days import DayFiles, copy_differences, list_days, primary_differences
from market_data_pipeline.lake.verified_months import month_differences
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError, ObjectNotFound
from market_data_pipeline.model.records import RECORD
from market_data_pipeline.model.windows import by_month, days_between

PAUSE = 0.5
_LOOKS = 5


def verify(
    store: ObjectStore,
    datasets: Sequence[Dataset],
    first: date,
    last: date,
    *,
    full: bool = False,
    pause: float = PAUSE,
) -> Iterator[Difference]:
    """What differs between the layouts of some datasets, and what lies under their roots and belongs nowhere.

    Nothing is changed. A run that writes the same days shows as differences until it is done: what differs is looked
    at again after a pause, and told once it stays the same. Memory is bounded by a month of one dataset's listings.

    Args:
        store: the lake.
        datasets: which datasets.
        first: the first day (UTC).
        last: the last day, included.
        full: read and compare everything; else listings and footers, what is no link of the `by_date` file, and what is
            newer than the record.
        pause: seconds between looks.

    Raises:
        LakeError: the lake cannot be listed or read at all.
    """
    survey = Survey()
    yield from survey.walk(store, datasets, first, last)
    for days in by_month(days_between(first, last)):
        for dataset in datasets:
            yield from verify_days(store, dataset, days, full=full, survey=survey, pause=pause)


def verify_days(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    *,
    full: bool = False,
    survey: Survey | None = None,
    pause: float = PAUSE,
) -> list[Difference]:
    """What differs on some days of one month; without a survey only in groups that `by_date` or the record knows."""
    found = list(_look(store, dataset, days, full, survey or Survey()))
    for _ in range(_LOOKS - 1):
        if not found:
            break
        time.sleep(pause)
        told = {difference.day for difference in found if difference.day}
        again = days if any(difference.day is None for difference in found) else sorted(told)
        before, found = found, list(_look(store, dataset, again, full, survey or Survey()))
        if found == before:
            break
    return found


def _look(
    store: ObjectStore, dataset: Dataset, days: Sequence[date], full: bool, survey: Survey
) -> Iterator[Difference]:
    recorded, trouble = None, ""
    since = record_written(store, dataset, days[0])
    try:
        recorded = read_record(store, dataset, days[0])
    except LakeError as error:
        trouble = f"cannot be read ({error.__cause__ or error})"
    listed = list_days(store, dataset, days)
    if recorded is not None:
        listed = {place: _weighed(store, info, since) for place, info in listed.items()}
    files = DayFiles(dataset, tuple(days), listed, recorded)
    if trouble:
        yield _of_record(store, files, Kind.UNREADABLE, trouble)
    elif recorded is None and listed:
        yield _of_record(store, files, Kind.UNRECORDED, "there is no record")
    yield from primary_differences(store, files, full)
    for layout in dataset.day_layouts[1:]:
        yield from copy_differences(store, files, layout, survey.groups[dataset.name, layout.name], full)
    if dataset.month_layouts:
        yield from month_differences(store, files, survey.months[dataset.name, days[0].replace(day=1)], full)


def _weighed(store: ObjectStore, info: ObjectInfo, since: int) -> ObjectInfo:
    """With its checksum, where it is newer than the record: a run that was killed before it recorded it wrote it."""
    if info.crc32c is None and written(info) > since:
        with suppress(ObjectNotFound):
            return replace(info, crc32c=store.crc32c(info))
    return info


def _of_record(store: ObjectStore, files: DayFiles, kind: Kind, found: str) -> Difference:
    dataset, days = files.dataset, files.days
    key = record_key(dataset, days[0])
    expected = f"the checksums of the day files of {dataset.name}"
    remedy = mending(days[0], days[-1])
    return Difference(kind, dataset.name, RECORD.name, None, None, key, store.uri_of(key), found, expected, remedy)
