"""What lies in the lake: listings of day files as days and instruments. Files of other kinds are passed over."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LayoutError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout
from market_data_pipeline.model.windows import DAY, by_month, days_between

Stored = Callable[[Dataset, date], frozenset[Instrument]]
"""The instruments of which a dataset has a file of a day."""
_LISTINGS = 32


@dataclass(frozen=True)
class DayObject:
    """A day file that lies in the lake.

    Attributes:
        day: the partition.
        instrument: whose rows it holds; None where it holds all.
        info: the object.
    """

    day: date
    instrument: Instrument | None
    info: ObjectInfo


def day_objects(
    store: ObjectStore, dataset: Dataset, day: date, layout: Layout | None = None, **fields: str
) -> Iterator[DayObject]:
    """The day files of a dataset on a day, in order of key, by one listing.

    Args:
        store: where to look.
        dataset: whose files.
        day: the day.
        layout: one of the dataset's day layouts; the primary one by default.
        fields: values of placeholders (such as `venue`) that narrow the listing.
    """
    layout = layout or dataset.layouts[0]
    for info in store.list(layout.prefix(day, **dataset.path_fields(), **fields)):
        found = _day_object(dataset, layout, info)
        if found and found.day == day:
            yield found


def stored_days(store: ObjectStore, dataset: Dataset, first: date, last: date) -> Iterator[DayObject]:
    """The day files of a dataset from one day to another, both included, rising in time; by one listing a month."""
    layout = dataset.layouts[0]
    for month in by_month(days_between(first, last)):
        year, number = f"{month[0]:%Y}", f"{month[0]:%m}"
        for info in store.list(layout.prefix(None, **dataset.path_fields(), year=year, month=number)):
            found = _day_object(dataset, layout, info)
            if found and first <= found.day <= last:
                yield found


def _day_object(dataset: Dataset, layout: Layout, info: ObjectInfo) -> DayObject | None:
    """An object as a day file of a dataset; None where it is none."""
    try:
        found = layout.parse(info.key)
    except LayoutError:
        return None
    if any(found.get(name, value) != value for name, value in dataset.path_fields().items()):
        return None
    named = found.get("instrument_id")
    return DayObject(layout.day_of(found), Instrument.parse(named) if named else None, info)


def stored_instruments(store: ObjectStore) -> Stored:
    """What listings tell of a lake; the last ones are remembered, so asking about neighbouring days costs one each."""

    @lru_cache(maxsize=_LISTINGS)
    def stored(dataset: Dataset, day: date) -> frozenset[Instrument]:
        return frozenset(found.instrument for found in day_objects(store, dataset, day) if found.instrument)

    return stored


def waiting_for_the_day_after(
    stored: Stored, datasets: Iterable[Dataset], day: date, concerns: Callable[[str], bool]
) -> tuple[str, ...]:
    """Venues that have files of a day and none of the day after: some of the day's last ticks may still be missing.

    Args:
        stored: the listings.
        datasets: of ticks, each by itself.
        day: the day.
        concerns: which venues count.
    """
    late: set[str] = set()
    for dataset in datasets:
        own, after = ({each.venue for each in stored(dataset, on)} for on in (day, day + DAY))
        late |= own - after
    return tuple(sorted(filter(concerns, late)))


def stored_fields(store: ObjectStore, dataset: Dataset, layout: Layout) -> Iterator[dict[str, str]]:
    """The placeholders' values of every object that lies in a layout of a dataset, by one listing."""
    for info in store.list(layout.prefix(None, **dataset.path_fields())):
        try:
            yield layout.parse(info.key)
        except LayoutError:
            continue


def stored_files(store: ObjectStore, datasets: Iterable[Dataset]) -> Iterator[tuple[Dataset, DayObject]]:
    """All day files of some datasets, under their primary layouts; each folder is listed once, whoever shares it."""
    sharing: dict[str, list[Dataset]] = {}
    for dataset in datasets:
        sharing.setdefault(dataset.layouts[0].prefix(None, **dataset.path_fields()), []).append(dataset)
    for prefix, among in sharing.items():
        for info in store.list(prefix):
            for dataset in among:
                if found := _day_object(dataset, dataset.layouts[0], info):
                    yield dataset, found
                    break
