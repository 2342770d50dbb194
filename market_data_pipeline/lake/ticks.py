"""One instrument's ticks by exchange time, out of day files that a vendor cut by its own clock.

A day file reaches a little over its edges, so a window is read from its days and the days beside them; of those only
the row groups at the edge are touched. A few row groups of a file are decoded together, column beside column.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data_pipeline.lake.ahead import ahead
from market_data_pipeline.lake.ordering import sort_by_time, times, within
from market_data_pipeline.lake.parquet import check_columns, explained, parquet_file, read_columns, with_values
from market_data_pipeline.lake.remembered import Facts, facts_of
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import ObjectNotFound
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import Window, microseconds

Places = npt.NDArray[np.int64]

_TOGETHER = 2 << 20  # values, 16 MB of numbers: enough to keep the cores busy, and few beside what a reader holds


@dataclass(frozen=True)
class _Run:
    """A row group that reaches into a window; numbered in the order of ties: by the file's day, then place."""

    number: int
    day: date
    group: int
    rows: int
    first: datetime
    last: datetime
    cut: bool  # whether some of its rows lie outside the window


_Cluster = Sequence[_Run]
"""Row groups that are read together: those whose times cross can only together be put in order."""


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
        self._files: dict[date, tuple[pa.NativeFile, Facts]] = {}
        with ExitStack() as opening:
            for day in days:
                key = dataset.path(dataset.layouts[0], day, instrument)
                with suppress(ObjectNotFound), explained(store.uri_of(key)):
                    pinned = opening.enter_context(store.open(key))
                    facts = facts_of(pinned.info, pinned.file)
                    check_columns(facts.schema, dataset, store.uri_of(key))
                    self._files[day] = pinned.file, facts
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
        clusters = _together(_clusters(list(self._runs(window))), len(columns))
        for table, found in ahead(partial(self._load, window=window, columns=columns), clusters):
            if counts is not None:
                counts.update(found)
            if table.num_rows:
                yield table

    def read_windows(self, windows: Sequence[Window], columns: Sequence[str]) -> list[list[pa.Table]]:
        """The tables of each window, as `read` gives them, of which a row group is decoded once for all windows.

        What is given out keeps in memory twice its own rows at the most.
        """
        parts: list[list[pa.Table]] = [[] for _ in windows]
        spans = _joined(windows)
        if not spans:
            return parts
        whole = Window(spans[0].start, spans[-1].end)
        names = [*dict.fromkeys([*columns, "timestamp"])]
        clusters = _clusters([run for run in self._runs(whole) if _reached(run, spans)])
        load = partial(self._load, window=whole, columns=names)
        starts = np.array([microseconds(window.start) for window in windows])
        ends = np.array([microseconds(window.end) for window in windows])
        for table, _ in ahead(load, clusters):
            first, after = np.searchsorted(times(table), starts), np.searchsorted(times(table), ends)
            for place, rows in _sliced(table.select(list(columns)), first, after):
                parts[place].append(rows)
        return parts

    def last(self, window: Window, columns: Sequence[str]) -> pa.Table:
        """The last row of a window in that order, or a table without rows; reads as little as it can."""
        for cluster in reversed(_clusters(list(self._runs(window)))):
            table, _ = self._load(cluster, window, columns)
            if table.num_rows:
                return table.slice(table.num_rows - 1)
        return self._dataset.schema.empty_table().select(list(columns))

    def _runs(self, window: Window) -> Iterator[_Run]:
        number = 0
        for day, (_, facts) in self._files.items():
            with self._explained(day):
                groups = facts.groups
            for group, (rows, first, last) in enumerate(groups):
                number += 1
                if first < window.end and last >= window.start:
                    cut = first < window.start or last >= window.end
                    yield _Run(number, day, group, rows, max(first, window.start), min(last, window.end), cut)

    def _explained(self, day: date) -> AbstractContextManager[None]:
        return explained(self._store.uri_of(self._dataset.path(self._dataset.layouts[0], day, self._instrument)))

    def _load(self, cluster: _Cluster, window: Window, columns: Sequence[str]) -> tuple[pa.Table, Counter[date]]:
        """The rows of a cluster that lie in the window, and how many are of each day's file."""
        needed = list(dict.fromkeys(name for name in ("timestamp", *columns) if name in self._dataset.own_schema.names))
        parts, counts = [], Counter[date]()
        for day, each in groupby(sorted(cluster, key=lambda run: run.number), key=lambda run: run.day):
            runs = list(each)
            file, facts = self._files[day]
            with self._explained(day):
                part = read_columns(parquet_file(file, facts.metadata), needed, [run.group for run in runs])
            if any(run.cut for run in runs):
                part = within(part, window)
            counts[day] += part.num_rows
            values = self._dataset.partition_values(day, self._instrument)
            parts.append(with_values(part, self._dataset, {name: values[name] for name in columns if name in values}))
        table = parts[0] if len(parts) == 1 else pa.concat_tables(parts).unify_dictionaries().combine_chunks()
        return sort_by_time(table).select(list(columns)), counts


def _joined(windows: Iterable[Window]) -> list[Window]:
    """The same times as windows that neither touch nor cross, rising."""
    spans: list[Window] = []
    for window in sorted((window for window in windows if not window.empty), key=lambda window: window.start):
        if spans and window.start <= spans[-1].end:
            spans[-1] = Window(spans[-1].start, max(spans[-1].end, window.end))
        else:
            spans.append(window)
    return spans


def _reached(run: _Run, spans: Sequence[Window]) -> bool:
    """Whether a row group's times cross any of the windows, which `_joined` made."""
    place = bisect_right(spans, run.last, key=lambda span: span.start)
    return place > 0 and spans[place - 1].end > run.first


def _sliced(table: pa.Table, first: Places, after: Places) -> Iterator[tuple[int, pa.Table]]:
    """For each place whose rows are not none, the rows [first, after); few rows of many are copied, once for all."""
    places = np.flatnonzero(after > first)
    first, rows = first[places], (after - first)[places]
    if 2 * rows.sum() < table.num_rows:
        starts = np.cumsum(rows) - rows
        table = table.take(pa.array(np.arange(rows.sum()) + np.repeat(first - starts, rows)))
        first = starts
    for place, start, count in zip(places.tolist(), first.tolist(), rows.tolist(), strict=True):
        yield place, table.slice(start, count)


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


def _together(clusters: Iterable[_Cluster], columns: int) -> list[_Cluster]:
    """The clusters, of which row groups that stand in one file and follow one another are joined to fewer."""
    joined: list[_Cluster] = []
    room = 0  # values that may be read along with the last
    for cluster in clusters:
        values = columns * sum(run.rows for run in cluster)
        if len(cluster) == 1 and room >= values and joined[-1][0].day == cluster[0].day:
            joined[-1] = [*joined[-1], *cluster]
            room -= values
        else:
            joined.append(cluster)
            room = _TOGETHER - values if len(cluster) == 1 else 0
    return joined
