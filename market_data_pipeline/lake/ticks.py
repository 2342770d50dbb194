"""One instrument's ticks by exchange time, out of day files that a vendor cut by its own clock.

A day file reaches a little over its edges, so a window is read from its days and the days beside them; of those only
the row groups at the edge are touched.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from datetime import date, datetime
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.ordering import sort_by_time, within
from market_data_pipeline.lake.parquet import check_columns, explained, parquet_file, row_group_times, with_values
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import ObjectNotFound
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import Window


@dataclass(frozen=True)
class _Run:
    """A row group that reaches into a window; numbered in the order of ties: by the file's day, then place."""

    number: int
    day: date
    group: int
    first: datetime
    last: datetime


class TickSeries:
    """One instrument's ticks out of the files of some days. Opens each file once; use it as a context manager.

    Args:
        store: the lake.
        dataset: a tick dataset.
        instrument: whose ticks.
        days: the days whose files are looked at, rising; those that are not there are passed over.

    Raises:
        LakeError: a file cannot be read.
    """

    def __init__(self, store: ObjectStore, dataset: Dataset, instrument: Instrument, days: Iterable[date]) -> None:
        self._store, self._dataset, self._instrument = store, dataset, instrument
        self._files: dict[date, pq.ParquetFile] = {}
        with ExitStack() as opening:
            for day in days:
                key = dataset.path(dataset.layouts[0], day, instrument)
                with suppress(ObjectNotFound), explained(store.uri_of(key)):
                    file = parquet_file(opening.enter_context(store.open(key)).file)
                    check_columns(file.schema_arrow, dataset, store.uri_of(key))
                    self._files[day] = file
            self._held = opening.pop_all()

    @property
    def days(self) -> tuple[date, ...]:
        """The days whose files are there."""
        return tuple(self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def read(self, window: Window, columns: Sequence[str], counts: Counter[date] | None = None) -> Iterator[pa.Table]:
        """Streams the rows whose exchange times lie in a window, in stable order of time across all tables.

        Args:
            window: which times.
            columns: which columns; partition columns are those of the file that held the row.
            counts: is told how many rows came from each day's file.
        """
        for cluster in _clusters(list(self._runs(window))):
            table = self._load(cluster, window, columns, Counter() if counts is None else counts)
            if table.num_rows:
                yield table

    def last(self, window: Window, columns: Sequence[str]) -> pa.Table:
        """The last row of a window in that order, or a table without rows; reads as little as it can."""
        for cluster in reversed(_clusters(list(self._runs(window)))):
            table = self._load(cluster, window, columns, Counter())
            if table.num_rows:
                return table.slice(table.num_rows - 1)
        return self._dataset.schema.empty_table().select(list(columns))

    def _runs(self, window: Window) -> Iterator[_Run]:
        number = 0
        for day, file in self._files.items():
            for group in range(file.metadata.num_row_groups):
                with self._explained(day):
                    first, last = row_group_times(file.metadata, group)
                number += 1
                if first < window.end and last >= window.start:
                    yield _Run(number, day, group, max(first, window.start), min(last, window.end))

    def _explained(self, day: date) -> AbstractContextManager[None]:
        return explained(self._store.uri_of(self._dataset.path(self._dataset.layouts[0], day, self._instrument)))

    def _load(self, cluster: Sequence[_Run], window: Window, columns: Sequence[str], counts: Counter[date]) -> pa.Table:
        needed = dict.fromkeys(name for name in ("timestamp", *columns) if name in self._dataset.own_schema.names)
        parts = []
        for run in sorted(cluster, key=lambda run: run.number):
            with self._explained(run.day):
                part = within(self._files[run.day].read_row_group(run.group, columns=list(needed)), window)
            counts[run.day] += part.num_rows
            values = self._dataset.partition_values(run.day, self._instrument)
            parts.append(with_values(part, self._dataset, {name: values[name] for name in columns if name in values}))
        table = parts[0] if len(parts) == 1 else pa.concat_tables(parts).unify_dictionaries().combine_chunks()
        return sort_by_time(table).select(list(columns))


def _clusters(runs: list[_Run]) -> list[list[_Run]]:
    """Groups runs so that whole clusters follow one another in time, ties included; most hold a single run."""
    clusters: list[list[_Run]] = []
    reach: datetime | None = None
    for run in sorted(runs, key=lambda run: (run.first, run.number)):
        touching = reach is not None and (
            run.first < reach or (run.first == reach and run.number < max(r.number for r in clusters[-1]))
        )
        if touching:
            clusters[-1].append(run)
        else:
            clusters.append([run])
        reach = run.last if reach is None else max(reach, run.last)
    return clusters
