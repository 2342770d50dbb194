"""One instrument's ticks by exchange time, out of day files that a vendor cut by its own clock.

A day file reaches a little over its edges, so a window is read from its days and the days beside them; of those only
the row groups at the edge are touched.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.ordering import sort_by_time, times
from market_data_pipeline.lake.parquet import row_group_times, with_values
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError, ObjectNotFound
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import Window, microseconds


@dataclass(frozen=True)
class _Run:
    """A row group that reaches into the window; numbered in the order of ties: by the file's day, then place."""

    number: int
    day: date
    group: int
    first: datetime
    last: datetime


class TickSeries:
    """The ticks of one instrument whose exchange times lie in a window, streamed in stable order of time.

    Opens the day files of the window and of the day before and after it, each once. Use it as a context manager.

    Attributes:
        days: the days whose files are there.
        counts: after streaming, how many rows came from each day's file.
    """

    def __init__(self, store: ObjectStore, dataset: Dataset, instrument: Instrument, window: Window) -> None:
        self._dataset, self._instrument = dataset, instrument
        self._start, self._end = window.start, window.end
        self._files: dict[date, pq.ParquetFile] = {}
        self.counts: Counter[date] = Counter()
        self._held = ExitStack()
        with ExitStack() as opening:
            for day in window.days(beside=1):
                try:
                    pinned = opening.enter_context(store.open(dataset.path(dataset.layouts[0], day, instrument)))
                    self._files[day] = pq.ParquetFile(pinned.file)
                except ObjectNotFound:
                    pass
                except pa.ArrowException as error:
                    raise LakeError(f"{store.uri_of(pinned.info.key)} is no Parquet file: {error}") from error
            self._held = opening.pop_all()
        self._clusters = _clusters(list(self._runs()))

    @property
    def days(self) -> tuple[date, ...]:
        """The days whose files are there, neighbours included."""
        return tuple(self._files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def __iter__(self) -> Iterator[pa.Table]:
        return self.read(self._dataset.own_schema.names)

    def read(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Streams tables with these columns; partition columns are those of the file that held the row."""
        for cluster in self._clusters:
            table = self._load(cluster, columns)
            if table.num_rows:
                yield table

    def last(self, columns: Sequence[str]) -> pa.Table:
        """The last row of the window in that order, or a table without rows."""
        for cluster in reversed(self._clusters):
            table = self._load(cluster, columns)
            if table.num_rows:
                return table.slice(table.num_rows - 1)
        return self._dataset.schema.empty_table().select(list(columns))

    def _runs(self) -> Iterator[_Run]:
        number = 0
        for day, file in self._files.items():
            for group in range(file.metadata.num_row_groups):
                first, last = row_group_times(file.metadata, group)
                number += 1
                if first < self._end and last >= self._start:
                    yield _Run(number, day, group, max(first, self._start), min(last, self._end))

    def _load(self, cluster: Sequence[_Run], columns: Sequence[str]) -> pa.Table:
        needed = dict.fromkeys(name for name in ("timestamp", *columns) if name in self._dataset.own_schema.names)
        parts = []
        for run in sorted(cluster, key=lambda run: run.number):
            part = self._within(self._files[run.day].read_row_group(run.group, columns=list(needed)))
            self.counts[run.day] += part.num_rows
            values = self._dataset.partition_values(run.day, self._instrument)
            parts.append(with_values(part, self._dataset, {name: values[name] for name in columns if name in values}))
        table = parts[0] if len(parts) == 1 else pa.concat_tables(parts).unify_dictionaries().combine_chunks()
        return sort_by_time(table).select(list(columns))

    def _within(self, part: pa.Table) -> pa.Table:
        stamps = times(part)
        low, high = microseconds(self._start), microseconds(self._end)
        inside = (stamps >= low) & (stamps < high)
        if inside.all():
            return part
        where = np.flatnonzero(inside)
        if len(where) and len(where) == where[-1] - where[0] + 1:
            return part.slice(int(where[0]), len(where))
        return part.filter(pa.array(inside))


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
