"""Signals from what the lake holds: candles and features of the training days, models kept beside the lake."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from threading import Lock

import numpy as np
import pyarrow as pa

from market_data_pipeline.lake.histories import instrument_days, stored_candles, stored_rows
from market_data_pipeline.lake.models import keep_model
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import Window
from market_data_pipeline.transforms.as_of import Reals, reals, times
from market_data_pipeline.transforms.lacking import Lacking, lacking
from market_data_pipeline.transforms.scores import Score, pooled
from market_data_pipeline.transforms.signals import (
    CANDLE_COLUMNS,
    FEATURE_COLUMNS,
    Recipe,
    Series,
    Trained,
    record,
    series_of,
    signals,
    train,
)

TECHNICAL = DATASETS["technical_features"]


@dataclass
class ModelCard:
    """What became of a day's models, over all its instruments.

    Attributes:
        models: how many were trained.
        short_windows: how many instruments lack any of the training days.
        lacking_today: how many instruments have no fundamental features on the day, though their training had.
        lacking_in_training: how many have none on any training day, though on another one or on the day.
        missing_inputs: inputs that models use and that are null all through the day, and of how many instruments.
        without: why an instrument has none, by its id.
        scores: out of sample, by instrument.
        positions: how many candles have a position of -1, 0 and 1.
        changes: sum of |position − that of the candle before| within the day.
        steps: over how many pairs of candles that follow one another and both have a position.
    """

    models: int = 0
    short_windows: int = 0
    lacking_today: int = 0
    lacking_in_training: int = 0
    missing_inputs: Counter[str] = field(default_factory=Counter)
    without: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=lambda: {-1: 0, 0: 0, 1: 0})
    changes: int = 0
    steps: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, instrument: Instrument, trained: Trained, lacks: Lacking, rows: pa.Table) -> None:
        """Adds one instrument's; several threads may do so."""
        positions, steps = reals(rows, "position"), _steps(rows)
        with self._lock:
            self.short_windows += trained.days_missing > 0
            self.lacking_today += lacks.today
            self.lacking_in_training += lacks.in_training
            self.missing_inputs.update(lacks.inputs)
            if trained.model is None:
                self.without[instrument.id] = trained.why
                return
            self.models += 1
            if trained.score is not None:
                self.scores[instrument.id] = trained.score
            for position in self.positions:
                self.positions[position] += int((positions == position).sum())
            self.changes += int(np.abs(steps).sum())
            self.steps += len(steps)

    @property
    def score(self) -> Score | None:
        """That of all instruments together; None where none could be scored."""
        return pooled([score for _, score in sorted(self.scores.items())]) if self.scores else None

    @property
    def turnover(self) -> float | None:
        """The mean of |change of position| from one candle to the next; None where there are no two."""
        return self.changes / self.steps if self.steps else None


def _steps(rows: pa.Table) -> Reals:
    follows = times(rows, "timestamp")[1:] == times(rows, "close_time")[:-1]
    changes: Reals = np.diff(reals(rows, "position"))[follows]
    known: Reals = changes[np.isfinite(changes)]
    return known


class _History:
    """One instrument's candles and features for some days and their training, read once."""

    def __init__(self, store: ObjectStore, instrument: Instrument, days: Sequence[date], recipe: Recipe) -> None:
        self._store, self._instrument, self._recipe = store, instrument, recipe
        self._window = Window(recipe.window(days[0]).start, recipe.window(days[-1]).end)
        self._series: Series | None = None
        self._lock = Lock()

    def series(self) -> Series:
        """All of it."""
        with self._lock:
            if self._series is None:
                self._series = self._read()
            return self._series

    def _read(self) -> Series:
        frame = self._recipe.timeframe
        place = (self._instrument, self._window)
        features = {
            name: stored_rows(self._store, DATASETS[name], *place, ["timestamp", *columns], frame)
            for name, columns in FEATURE_COLUMNS.items()
        }
        return series_of(stored_candles(self._store, frame, *place, CANDLE_COLUMNS), features, self._recipe)


def signal_rows(
    store: ObjectStore,
    days: Sequence[date],
    selection: Selection,
    recipe: Recipe,
    cards: dict[date, ModelCard] | None = None,
) -> Iterator[DayRows]:
    """Signals of some days, of every instrument that has technical features.

    Args:
        store: the lake; models are kept there before the rows that name them are given out.
        days: the days.
        selection: which instruments.
        recipe: how signals are made.
        cards: is told, for each day, what became of the models.
    """
    told = {} if cards is None else cards
    told |= {day: ModelCard() for day in days}
    for instrument, having in instrument_days(store, TECHNICAL, days, selection):
        history = _History(store, instrument, having, recipe)
        for day in having:
            read = partial(_signals, store, day, instrument, history, recipe, told[day])
            yield DayRows(day, instrument, f"features of {instrument}", read)


def _signals(
    store: ObjectStore,
    day: date,
    instrument: Instrument,
    history: _History,
    recipe: Recipe,
    card: ModelCard,
    _: Rejects,
) -> Iterator[pa.RecordBatch]:
    series = history.series()
    trained = train(series, day, recipe)
    name = keep_model(store, day, instrument, record(day, instrument.id, recipe, trained)) if trained.model else None
    rows = signals(series, day, recipe, trained, name)
    card.add(instrument, trained, lacking(series, day, recipe, trained.model), rows)
    yield from rows.to_batches()
