"""What a person is shown of the days that a run has written: a few rows of one instrument, and a picture of its day.

All of it is read back from the lake, in bounded memory: the instrument is the one with the most bytes among those that
are small enough.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import DayObject, stored_days
from market_data_pipeline.lake.day_files import DayFile
from market_data_pipeline.lake.histories import stored_rows
from market_data_pipeline.lake.parquet import opened, read_columns
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.parallel import in_parallel
from market_data_pipeline.lake.writer import WriteReport
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset, Kind
from market_data_pipeline.model.windows import DAY, Window, days_between, midnight
from market_data_pipeline.transforms.pictures import DAYS, Picture, heat_map, needed, picture, reach

log = logging.getLogger(__name__)

_ROWS, _COLUMNS = 5, 8
_LISTED = (
    "instrument_id",
    "instrument_type",
    "venue_symbol",
    "tick_size",
    "lot_size",
    "contract_multiplier",
    "available_from",
    "available_to",
)
_SECOND_TIMES = ("local_timestamp", "close_time")
_VALUES = 2_000_000
_FINEST = next(iter(TIMEFRAMES))
_TICKS = frozenset(each.name for each in DATASETS.values() if each.kind is Kind.TICKS)


@dataclass(frozen=True)
class Glance:
    """What is shown of a day.

    Attributes:
        rows: its first rows, with some of their columns.
        picture: a picture; None where there is nothing to draw.
        gaps: of the map, how many minutes or candles are missing in each dataset, all instruments together.
    """

    rows: Sequence[Mapping[str, object]] = ()
    picture: Picture | None = None
    gaps: Mapping[str, int] = field(default_factory=dict)


def glances(store: ObjectStore, report: WriteReport) -> dict[date, Glance]:
    """A glance at each day of a run; what cannot be shown is left out, which is logged."""
    files: dict[date, list[DayFile]] = {day: [] for day in report.landed}
    for file in report.files:
        if file.span.rows and file.day in files:
            files[file.day].append(file)
    dataset, days = report.dataset, sorted(files)
    look = partial(_looked_at, store, dataset)
    found = dict(zip(days, in_parallel(store, lambda day: look(files[day]), days), strict=True))
    if dataset.kind is Kind.AVAILABILITY:
        with _shown_or_not(f"{dataset.name} of {len(days)} days"):
            for day, maps in _maps(store, dataset, days):
                listed = [row for each in maps for row in each.listed]
                gaps = next((each.gaps for each in maps if each.day == day), {})
                found[day] = replace(found[day], picture=heat_map(listed, day), gaps=gaps)
    return found


@contextmanager
def _shown_or_not(what: str) -> Iterator[None]:
    """Goes on whatever fails: rows are judged by the checks, and what is shown of them must not fail a run."""
    try:
        yield
    except Exception as error:  # the oddest of numbers, and files that were written long ago
        log.warning("%s cannot be shown: %s", what, error)


def _chosen(files: Sequence[DayFile], columns: int) -> DayFile:
    """The file with the most bytes of those whose columns are few enough values; else the one with the fewest rows."""
    small = [file for file in files if file.span.rows * columns <= _VALUES]
    if small:
        return max(small, key=lambda file: (file.size, str(file.instrument)))
    return min(files, key=lambda file: file.span.rows)


def _looked_at(store: ObjectStore, dataset: Dataset, files: Sequence[DayFile]) -> Glance:
    columns, found = needed(dataset), Glance()
    if files:
        file = _chosen(files, len(columns))
        with _shown_or_not(f"{dataset.name} of {file.day}"):
            first, rows, part = _read(store, dataset, file, columns)
            found = Glance(first)
            if rows is not None and file.instrument:
                whose = f"{file.instrument.id}{part}"
                found = replace(found, picture=picture(dataset, file.day, whose, rows))
    return found


@whole
def _read(
    store: ObjectStore, dataset: Dataset, file: DayFile, columns: Sequence[str]
) -> tuple[list[dict[str, object]], pa.Table | None, str]:
    """The first rows of a file, those that a picture is drawn from, and a word on it where that is a part of them."""
    part = ""
    with opened(store, dataset.path(dataset.layouts[0], file.day, file.instrument)) as found:
        first = _first_rows(found, dataset)
        if not columns or file.instrument is None:
            return first, None, part
        if reach(dataset) <= DAY:
            groups = found.num_row_groups
            most = min(groups, max(1, groups * _VALUES // (file.span.rows * len(columns))))
            rows = read_columns(found, columns, sorted({at * groups // most for at in range(most)}))
            part = f" ({most} of {groups} parts)" if most < groups else ""
    if reach(dataset) > DAY:  # of long candles those of the days before are drawn as well
        end = midnight(file.day) + DAY
        rows = stored_rows(store, dataset, file.instrument, Window(end - reach(dataset), end), columns)
    if "timeframe" in columns:
        rows = rows.filter(pc.equal(rows.column("timeframe").cast(pa.string()), _FINEST))
    return first, rows, part


def _first_rows(found: pq.ParquetFile, dataset: Dataset) -> list[dict[str, object]]:
    own = [column.name for column in dataset.columns if column.name not in _SECOND_TIMES]
    names = own[:_COLUMNS] if dataset.per_instrument else [name for name in _LISTED if name in own]
    for batch in found.iter_batches(_ROWS, [0], names, use_threads=False):
        return [{name: row[name] for name in names} for row in batch.to_pylist()]
    return []


@dataclass(frozen=True)
class _Map:
    """Of a stored map: the instruments with the rows of their ticks, and the gaps of each dataset."""

    day: date
    listed: Sequence[tuple[date, str, int]]
    gaps: Mapping[str, int]


def _maps(store: ObjectStore, dataset: Dataset, days: Sequence[date]) -> Iterator[tuple[date, list[_Map]]]:
    """For each day its map and those of the days before it that a picture shows, as far as they are there.

    No more are held than one picture shows.
    """
    if not days:
        return
    stored = {each.day: each for each in stored_days(store, dataset, days[0] - (DAYS - 1) * DAY, days[-1])}
    held: dict[date, _Map] = {}
    for day in days:
        shown = [at for at in days_between(day - (DAYS - 1) * DAY, day) if at in stored]
        lacking = [stored[at] for at in shown if at not in held]
        held |= {each.day: each for each in in_parallel(store, partial(_map_or_nothing, store), lacking)}
        held = {at: held[at] for at in shown}
        yield day, list(held.values())


def _map_or_nothing(store: ObjectStore, at: DayObject) -> _Map:
    """A map; one that cannot be read, or was written before its columns were these, has nothing to show."""
    read: list[_Map] = []
    with _shown_or_not(f"the map of {at.day}"):
        read.append(_map(store, at))
    return read[0] if read else _Map(at.day, (), {})


@whole
def _map(store: ObjectStore, at: DayObject) -> _Map:
    with opened(store, at.info.key) as file:
        rows = read_columns(file, ["instrument_id", "observed"])
    names = rows.column("instrument_id").cast(pa.string()).to_pylist()
    observed = rows.column("observed").combine_chunks()
    told = observed.flatten()
    datasets = np.asarray(told.field("dataset").to_numpy(zero_copy_only=False))
    of_ticks = np.isin(datasets, list(_TICKS))
    counts = np.bincount(
        np.asarray(pc.list_parent_indices(observed))[of_ticks],
        np.asarray(told.field("rows"))[of_ticks],
        len(names),
    )
    gaps = np.asarray(told.field("gaps"))
    sums = {str(name): int(gaps[datasets == name].sum()) for name in sorted(set(datasets))}
    return _Map(at.day, [(at.day, name, int(count)) for name, count in zip(names, counts, strict=True)], sums)
