"""Which objects answer a question about candles or features, and reading them.

Several layouts hold the same rows. The one that touches the fewest objects wins; a file of a group that is wanted only
in part counts as several, since all of it must be decoded.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import day_objects, stored_fields
from market_data_pipeline.lake.ordering import within
from market_data_pipeline.lake.parquet import read_columns, row_group_days, with_values
from market_data_pipeline.lake.remembered import reopened
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import TEXT, Dataset, day_values
from market_data_pipeline.model.errors import ObjectNotFound
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.layouts import Layout, instrument_fields
from market_data_pipeline.model.windows import DAY, Window, midnight

_UNKNOWN_INSTRUMENTS = 50
_UNKNOWN_GROUPS = 8
_OVERREAD = 8
_OF_THE_DAY = day_values(date.min).keys()


@dataclass(frozen=True)
class Question:
    """What rows are asked for.

    Attributes:
        dataset: of which dataset.
        selection: which instruments.
        window: which times.
        narrowed: fields that the instruments must have, such as `venue`.
    """

    dataset: Dataset
    selection: Selection
    window: Window
    narrowed: Mapping[str, str]

    def wants(self, instrument: Instrument) -> bool:
        """Whether an instrument is asked for."""
        return instrument in self.selection and self.narrowed.items() <= instrument_fields(instrument).items()

    @cached_property
    def exact(self) -> list[Instrument] | None:
        """The instruments, where each is named; else None."""
        named = self.selection.exact
        return None if named is None else [instrument for instrument in named if self.wants(instrument)]

    @cached_property
    def days(self) -> list[date]:
        """The days that the window touches."""
        return list(self.window.days())

    @cached_property
    def months(self) -> list[date]:
        """The first days of the months that it touches."""
        return sorted({day.replace(day=1) for day in self.days})


@dataclass(frozen=True)
class Piece:
    """One object to read: of an instrument (else of a group), of a day (else of a month)."""

    key: str
    instrument: Instrument | None
    day: date | None


def best_layout(question: Question) -> Layout:
    """The layout that answers a question with the least reading; the earlier one where two are equal."""
    return min(question.dataset.layouts, key=lambda layout: _cost(question, layout))


def _cost(question: Question, layout: Layout) -> float:
    exact = question.exact
    periods = len(question.days if layout.daily else question.months)
    if layout.per_instrument:
        if exact is not None:
            return periods * len(exact)
        return periods * (1 + _UNKNOWN_INSTRUMENTS) if layout.daily else float("inf")
    known = set(layout.group_fields) <= question.narrowed.keys()
    whole = question.selection.everything and question.narrowed.keys() <= set(layout.group_fields)
    if known:
        groups = 1
    elif exact is not None:
        groups = len({_group(layout, instrument_fields(instrument)) for instrument in exact})
    else:
        groups = 1 + _UNKNOWN_GROUPS
    return periods * groups * (1 if whole else _OVERREAD)


def _group(layout: Layout, fields: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, fields[name]) for name in layout.group_fields)


def pieces(store: ObjectStore, question: Question, layout: Layout) -> list[Piece]:
    """The objects of a layout that may hold rows for a question, in order of time for each instrument."""
    asked, exact = question.dataset, question.exact
    periods = question.days if layout.daily else question.months
    if layout.per_instrument and exact is not None:
        return [
            Piece(asked.path(layout, period, instrument), instrument, period if layout.daily else None)
            for instrument in exact
            for period in periods
        ]
    if layout.per_instrument:
        found = [
            Piece(each.info.key, each.instrument, each.day)
            for day in periods
            for each in day_objects(store, asked, day, layout, **question.narrowed)
            if each.instrument and question.wants(each.instrument)
        ]
        return sorted(found, key=lambda piece: (str(piece.instrument), piece.day))
    if set(layout.group_fields) <= question.narrowed.keys():
        groups = {_group(layout, question.narrowed)}
    elif exact is not None:
        groups = {_group(layout, instrument_fields(instrument)) for instrument in exact}
    else:
        groups = {_group(layout, found) for found in stored_fields(store, asked, layout)}
    return [
        Piece(layout.format(period, **(asked.path_fields() | dict(group))), None, period if layout.daily else None)
        for period in periods
        for group in sorted(groups)
    ]


@whole
def read_piece(store: ObjectStore, question: Question, piece: Piece, columns: Sequence[str]) -> list[pa.Table]:
    """The rows of one object that a question asks for, as tables with these columns (and `instrument_id` of a group).

    An object that is not there has none.

    Raises:
        LakeError: it is no Parquet file, or lacks a column.
    """
    try:
        with reopened(store, piece.key) as file:
            return [
                table
                for groups, day in _runs(_row_groups(file, question, piece), question, piece, columns)
                for table in (_read_groups(file, groups, day, question, piece, columns),)
                if table.num_rows
            ]
    except ObjectNotFound:
        return []


def _row_groups(file: pq.ParquetFile, question: Question, piece: Piece) -> Iterator[tuple[int, date]]:
    if piece.day is not None:
        yield from ((group, piece.day) for group in range(file.num_row_groups))
        return
    wanted = set(question.days)
    yield from ((group, day) for group, day in enumerate(row_group_days(file.metadata)) if day in wanted)


def _runs(
    groups: Iterable[tuple[int, date]], question: Question, piece: Piece, columns: Sequence[str]
) -> Iterator[tuple[list[int], date]]:
    """Row groups that are read at once: whole days of one instrument, where no column tells the day, else one each."""
    together = piece.instrument is not None and _OF_THE_DAY.isdisjoint(columns)
    for joined, run in groupby(groups, lambda each: together and not _cuts(question.window, each[1])):
        if joined:
            numbers, days = zip(*run, strict=True)
            yield list(numbers), days[0]
        else:
            yield from (([group], day) for group, day in run)


def _cuts(window: Window, day: date) -> bool:
    return midnight(day) < window.start or window.end < midnight(day) + DAY


def _read_groups(
    file: pq.ParquetFile, groups: Sequence[int], day: date, question: Question, piece: Piece, columns: Sequence[str]
) -> pa.Table:
    asked, instrument, window = question.dataset, piece.instrument, question.window
    values = asked.partition_values(day, instrument) if instrument else day_values(day)
    needed = dict.fromkeys(name for name in columns if name not in values)
    cut = _cuts(window, day)
    if cut or not needed:
        needed["timestamp"] = None
    if instrument is None:
        needed["instrument_id"] = None
    table = read_columns(file, list(needed), groups)
    if cut:
        table = within(table, window)
    if instrument is None:
        table = _of_wanted(table, question)
    return with_values(table, asked, {name: values[name] for name in columns if name in values})


def _of_wanted(table: pa.Table, question: Question) -> pa.Table:
    ids = table.column("instrument_id").cast(TEXT).combine_chunks()  # another tool may write plain text
    if isinstance(ids, pa.ChunkedArray):  # more than one chunk remains only where there are no rows
        return table
    wanted = np.array([question.wants(Instrument.parse(text)) for text in ids.dictionary.to_pylist()], bool)
    return table if wanted.all() else table.filter(pa.array(wanted[np.asarray(ids.indices)]))
