"""How much lies in the lake: of each dataset by listings alone, of a day in each layout with its rows."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from market_data_pipeline.lake.catalog import DayObject, day_objects, stored_files
from market_data_pipeline.lake.months import targets_of
from market_data_pipeline.lake.parquet import explained, opened, parquet_file, row_group_days
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.errors import ObjectNotFound
from market_data_pipeline.model.windows import days_between


@dataclass(frozen=True)
class Share:
    """A day's share of one layout of one dataset.

    Attributes:
        dataset: the dataset's name.
        layout: the layout's name.
        objects: objects that hold rows of the day.
        rows: the day's rows in them.
        bytes: the bytes of these rows: of whole day files, and of the day's row groups in month files.
    """

    dataset: str
    layout: str
    objects: int
    rows: int
    bytes: int


def day_shares(store: ObjectStore, day: date) -> Iterator[Share]:
    """The shares of a day, in the order of the datasets and their layouts; datasets without rows are left out.

    Raises:
        LakeError: a file cannot be read.
    """
    for dataset in DATASETS.values():
        primary = list(day_objects(store, dataset, day))
        if not primary:
            continue
        targets = targets_of(store, dataset, [(day, found.instrument) for found in primary])
        for layout in dataset.layouts:
            if layout.daily:
                keys = [dataset.path(layout, day, found.instrument) for found in primary]
                parts = [part for key in keys if (part := _whole(store, key))]
            else:
                keys = [target.key for target in targets if target.layout == layout]
                parts = [part for key in keys if (part := _of_day(store, key, day))]
            yield Share(dataset.name, layout.name, len(parts), sum(r for r, _ in parts), sum(b for _, b in parts))


@whole
def _whole(store: ObjectStore, key: str) -> tuple[int, int] | None:
    try:
        with store.open(key) as pinned, explained(store.uri_of(key)):
            return parquet_file(pinned.file).metadata.num_rows, pinned.info.size
    except ObjectNotFound:
        return None


@whole
def _of_day(store: ObjectStore, key: str, day: date) -> tuple[int, int] | None:
    try:
        with opened(store, key) as file:
            metadata = file.metadata
            days = row_group_days(metadata)
    except ObjectNotFound:
        return None
    groups = [metadata.row_group(group) for group, at in enumerate(days) if at == day]
    if not groups:
        return None
    size = sum(group.column(leaf).total_compressed_size for group in groups for leaf in range(group.num_columns))
    return sum(group.num_rows for group in groups), size


@dataclass(frozen=True)
class Holding:
    """What lies of a dataset under its primary layout, and how many instruments where each has files of its own."""

    dataset: str
    first: date
    last: date
    days: int
    instruments: int | None
    files: int
    bytes: int


@dataclass(frozen=True)
class DayHolding:
    """What lies of a day of a dataset under its primary layout; instruments as of Holding."""

    day: date
    instruments: int | None
    files: int
    bytes: int


def holdings(store: ObjectStore) -> Iterator[Holding]:
    """What lies of each dataset, in their order; those of which nothing does are left out. Reads listings alone."""
    files: dict[str, int] = defaultdict(int)
    sizes: dict[str, int] = defaultdict(int)
    days: dict[str, set[date]] = defaultdict(set)
    instruments: dict[str, set[object]] = defaultdict(set)
    for dataset, found in stored_files(store, DATASETS.values()):
        files[dataset.name] += 1
        sizes[dataset.name] += found.info.size
        days[dataset.name].add(found.day)
        instruments[dataset.name] |= {found.instrument} - {None}
    for name in DATASETS:
        if at := days.get(name):
            named = len(instruments[name]) if DATASETS[name].per_instrument else None
            yield Holding(name, min(at), max(at), len(at), named, files[name], sizes[name])


def day_holdings(store: ObjectStore, dataset: Dataset, first: date | None, last: date | None) -> Iterator[DayHolding]:
    """What lies of each day of a dataset, rising; all days by default. Reads listings alone."""
    by_day: dict[date, list[DayObject]] = defaultdict(list)
    if first is None or last is None:
        for _, found in stored_files(store, [dataset]):
            by_day[found.day].append(found)
    else:
        for day in days_between(first, last):
            by_day[day] = list(day_objects(store, dataset, day))
    for day in sorted(by_day):
        if there := by_day[day]:
            named = len(there) if dataset.per_instrument else None
            yield DayHolding(day, named, len(there), sum(found.info.size for found in there))
