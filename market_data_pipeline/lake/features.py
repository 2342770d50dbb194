"""Features worked out from what the lake holds: technical features from candles and the day's trades.

Look-backs are read from the layout that answers with the fewest objects, once for all days of a month.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import groupby
from threading import Lock

import pyarrow as pa

from market_data_pipeline.lake.catalog import day_objects
from market_data_pipeline.lake.derived import day_window, trades_of
from market_data_pipeline.lake.ordering import within
from market_data_pipeline.lake.plans import Question, best_layout, pieces, read_piece
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import TIMEFRAMES, Timeframe, candles
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import Window
from market_data_pipeline.transforms.delays import TRADE_COLUMNS, Delays, delays_of
from market_data_pipeline.transforms.technical import (
    CANDLE_COLUMNS,
    in_order,
    look_back_window,
    technical_features,
)

FINEST = candles("1m")
"""The candles that tell which instruments have features on a day."""


@dataclass
class LookBacks:
    """What was missing of the look-backs of a day.

    Attributes:
        instruments: how many instruments lacked any candle of any look-back.
        missing: how many candles were missing, of all instruments together, by timeframe.
    """

    instruments: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, missing: Mapping[str, int]) -> None:
        """Adds one instrument's; several threads may do so."""
        with self._lock:
            self.instruments += any(missing.values())
            self.missing.update(missing)


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
                self._read[timeframe.name] = stored_candles(self._store, timeframe, self._instrument, window)
        return within(self._read[timeframe.name], look_back_window(day, timeframe))


def stored_candles(store: ObjectStore, timeframe: Timeframe, instrument: Instrument, window: Window) -> pa.Table:
    """One instrument's candles of a window with CANDLE_COLUMNS, rising in time; what is not there has no rows.

    Raises:
        LakeError: a file cannot be read.
    """
    dataset = candles(timeframe.name)
    question = Question(dataset, Selection.of(instrument), window, {})
    found = pieces(store, question, best_layout(question))
    tables = [table for piece in found for table in read_piece(store, question, piece, CANDLE_COLUMNS)]
    empty = pa.schema([dataset.schema.field(name) for name in CANDLE_COLUMNS]).empty_table()
    return pa.concat_tables([empty, *(table.select(CANDLE_COLUMNS) for table in tables)]).combine_chunks()


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
    for _, month in groupby(sorted(days), lambda day: (day.year, day.month)):
        of_instrument: dict[Instrument, list[date]] = {}
        for day in month:
            told[day] = LookBacks()
            for found in day_objects(store, FINEST, day):
                if found.instrument and found.instrument in selection:
                    of_instrument.setdefault(found.instrument, []).append(day)
        for instrument, having in sorted(of_instrument.items()):
            history = _History(store, instrument, having)
            for day in having:
                read = partial(_technical, store, day, instrument, history, told[day])
                yield DayRows(day, instrument, f"candles of {instrument}", read)


def _technical(
    store: ObjectStore, day: date, instrument: Instrument, history: _History, look_backs: LookBacks, _: Rejects
) -> Iterator[pa.RecordBatch]:
    delays = _delays(store, day, instrument)
    found = {
        name: technical_features(history.of(timeframe, day), day, timeframe, delays)
        for name, timeframe in TIMEFRAMES.items()
    }
    look_backs.add({name: each.missing for name, each in found.items()})
    yield from in_order(each.table for each in found.values()).to_batches()


def _delays(store: ObjectStore, day: date, instrument: Instrument) -> Delays:
    with trades_of(store, instrument, day) as series:
        return delays_of(series.read(day_window(day), TRADE_COLUMNS), day)
