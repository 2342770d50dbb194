"""The tables that a query finds: of each dataset its day files, and its month files under the names of their layouts.

For each table: which columns the paths of its files tell, and which files may hold rows of a window.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import chain

from market_data_pipeline.lake.catalog import DayObject, day_objects, stored_files
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.parallel import in_parallel
from market_data_pipeline.model.datasets import DATASETS, Column, Dataset, Kind
from market_data_pipeline.model.errors import LayoutError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout, instrument_fields
from market_data_pipeline.model.windows import Window

ALWAYS = Window(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
"""A window that is open on both sides."""
_MANY = timedelta(days=10_000)  # no lake has so many: an end as far away is meant as none, and days are not listed each


@dataclass(frozen=True)
class StoredTable:
    """A dataset as one of its layouts holds it.

    Attributes:
        dataset: whose rows.
        layout: the primary one, or one that holds months.
    """

    dataset: Dataset
    layout: Layout

    @property
    def place(self) -> str:
        """Stands for all of its files: `by_date/trades`."""
        return f"{self.layout.name}/{self.dataset.name}"

    @cached_property
    def path_columns(self) -> tuple[Column, ...]:
        """The columns that have one value in a file, which its path tells."""
        if self.layout.daily:
            return self.dataset.partition_columns
        fields = instrument_fields(_ANY) if self.layout.per_instrument else self.layout.group_fields
        told = {"year", "month", "data_tier", *self.dataset.path_fields(), *fields}
        columns = (*self.dataset.columns, *self.dataset.partition_columns)
        return tuple(column for column in columns if column.name in told)

    def files(self, store: ObjectStore, window: Window) -> Iterator[tuple[str, Mapping[str, object]]]:
        """The key of each file that may hold rows of a window, with the values of the `path_columns`."""
        if window.empty:
            return
        if self.layout.daily:
            for found in self._days(store, window):
                yield found.info.key, self.dataset.partition_values(found.day, found.instrument)
            return
        first, last = window.start.date().replace(day=1), last_day(window)
        for info in store.list(self.layout.prefix(None, **self.dataset.path_fields())):
            try:
                fields = self.layout.parse(info.key)
            except LayoutError:
                continue
            if (
                fields.get("dataset", self.dataset.name) == self.dataset.name
                and first <= self.layout.day_of(fields) <= last
            ):
                yield info.key, self._month_values(fields)

    def _days(self, store: ObjectStore, window: Window) -> Iterator[DayObject]:
        """The day files that may hold rows; of ticks those of the days beside the window, too."""
        asked, beside = self.dataset, 1 if self.dataset.kind is Kind.TICKS else 0
        if window.end - window.start < _MANY:
            days = list(window.days(beside))
            yield from chain.from_iterable(in_parallel(store, lambda day: list(day_objects(store, asked, day)), days))
            return
        first, last = window.start.date(), last_day(window)
        for _, found in stored_files(store, [asked]):
            if (first - found.day).days <= beside and (found.day - last).days <= beside:
                yield found

    def _month_values(self, fields: Mapping[str, str]) -> dict[str, object]:
        named = fields.get("instrument_id")
        known: dict[str, object] = {
            **self.dataset.path_fields(Instrument.parse(named) if named else None),
            **fields,
            "year": int(fields["year"]),
            "month": int(fields["month"]),
            "data_tier": str(self.dataset.tier),
        }
        return {column.name: known[column.name] for column in self.path_columns}


def last_day(window: Window) -> date:
    """The last day that a window touches, if it touches any."""
    return (window.end - datetime.resolution).date()


_ANY = Instrument.parse("binance:SPOT_PAIR:BTC-USDT")
TABLES = {
    table.place: table
    for dataset in DATASETS.values()
    for layout in (dataset.layouts[0], *dataset.month_layouts)
    for table in [StoredTable(dataset, layout)]
}
"""All tables, by their places."""
