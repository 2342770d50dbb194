"""Technical features from what the lake holds: candles with their look-backs, the day's trades, and its book."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from threading import Lock

import pyarrow as pa

from market_data_pipeline.lake.catalog import Stored, stored_instruments, waiting_for_the_day_after
from market_data_pipeline.lake.derived import TRADES, beside, day_window, trades_of
from market_data_pipeline.lake.histories import FINEST, instrument_days, stored_candles
from market_data_pipeline.lake.ordering import within
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.ticks import TickSeries
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset, Timeframe
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import Window
from market_data_pipeline.transforms.books import SNAPSHOT_COLUMNS, Books, book_window, books_of
from market_data_pipeline.transforms.delays import TRADE_COLUMNS, Delays, delays_of
from market_data_pipeline.transforms.technical import (
    CANDLE_COLUMNS,
    in_order,
    look_back_window,
    technical_features,
)

BOOKS = (DATASETS["book_snapshot_5"], DATASETS["book_snapshot_25"])
"""The datasets that books are taken from: the second where the first knows none."""


@dataclass
class LookBacks:
    """What was missing of the look-backs of a day, and how many instruments had a book.

    Attributes:
        instruments: how many instruments lacked any candle of any look-back.
        missing: how many candles were missing, of all instruments together, by timeframe.
        books: how many instruments had a book.
        waiting: venues whose trades or books of the day after are not in: some of this day's may still be missing.
    """

    instruments: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    books: int = 0
    waiting: tuple[str, ...] = ()
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, missing: Mapping[str, int], book: bool) -> None:
        """Adds one instrument's; several threads may do so."""
        with self._lock:
            self.instruments += any(missing.values())
            self.missing.update(missing)
            self.books += book


class _History:
    """One instrument's candles of some days and of their look-backs; each timeframe is read once."""

    def __init__(self, store: ObjectStore, instrument: Instrument, days: Sequence[date]) -> None:
        self._store, self._instrument, self._days = store, instrument, days
        self._read: dict[str, pa.Table] = {}
        self._lock = Lock()

    def of(self, timeframe: Timeframe, day: date) -> pa.Table:
        """The candles of a day and of its look-back, as far as they are there."""
        with self._lock:
            if timeframe.name not in self._read:
                first, last = (look_back_window(each, timeframe) for each in (self._days[0], self._days[-1]))
                window = Window(first.start, last.end)
                self._read[timeframe.name] = stored_candles(
                    self._store, timeframe, self._instrument, window, CANDLE_COLUMNS
                )
        return within(self._read[timeframe.name], look_back_window(day, timeframe))


def technical_rows(
    store: ObjectStore,
    days: Sequence[date],
    selection: Selection,
    look_backs: dict[date, LookBacks] | None = None,
) -> Iterator[DayRows]:
    """Technical features of some days: of every instrument that has 1m candles, for each timeframe that it has.

    Args:
        store: the lake.
        days: the days.
        selection: which instruments.
        look_backs: is told, for each day, which candles were missing.
    """
    told = {} if look_backs is None else look_backs
    stored = stored_instruments(store)
    for day in days:
        venues = {each.venue for each in stored(FINEST, day) if each in selection}
        waiting = waiting_for_the_day_after(stored, (TRADES, *BOOKS), day, venues.__contains__)
        told[day] = LookBacks(waiting=waiting)
    for instrument, having in instrument_days(store, FINEST, days, selection):
        history = _History(store, instrument, having)
        for day in having:
            read = partial(_technical, store, day, instrument, history, _with_books(stored, day, instrument), told[day])
            yield DayRows(day, instrument, f"candles of {instrument}", read)


def _technical(
    store: ObjectStore,
    day: date,
    instrument: Instrument,
    history: _History,
    booked: Sequence[Dataset],
    look_backs: LookBacks,
    _: Rejects,
) -> Iterator[pa.RecordBatch]:
    delays = _delays(store, day, instrument)
    books = _books(store, booked, day, instrument)
    found = {
        name: technical_features(history.of(timeframe, day), day, timeframe, delays, books)
        for name, timeframe in TIMEFRAMES.items()
    }
    look_backs.add({name: each.missing for name, each in found.items()}, book=bool(books.known.any()))
    yield from in_order(each.table for each in found.values()).to_batches()


@whole
def _delays(store: ObjectStore, day: date, instrument: Instrument) -> Delays:
    with trades_of(store, instrument, day) as series:
        return delays_of(series.read(day_window(day), TRADE_COLUMNS), day)


def _with_books(stored: Stored, day: date, instrument: Instrument) -> list[Dataset]:
    """The datasets that have files in which books of a day may lie."""
    return [dataset for dataset in BOOKS if any(instrument in stored(dataset, each) for each in beside(day))]


def _books(store: ObjectStore, booked: Sequence[Dataset], day: date, instrument: Instrument) -> Books:
    """The books of a day; where one dataset knows none, those of the next."""
    books = books_of([], day)
    for dataset in booked:
        if not books.complete:
            with TickSeries(store, dataset, instrument, beside(day)) as series:
                books = books.completed_by(books_of(series.read(book_window(day), SNAPSHOT_COLUMNS), day))
    return books
