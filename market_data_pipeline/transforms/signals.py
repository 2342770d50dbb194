"""Signals of a day: a model trained on the days before it, and its probabilities for the day's candles.

A model is of one instrument, one day and one timeframe. What it is trained on had ended before the day began, so the
signals depend neither on what comes after nor on which other days or instruments are computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from market_data_pipeline.model.datasets import DATASETS, TEXT, TIME, TIMEFRAMES, Timeframe
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.windows import DAY, EPOCH, Window, microseconds, midnight
from market_data_pipeline.transforms.as_of import MICROSECOND, Booleans, Integers, Reals, reals, times
from market_data_pipeline.transforms.inputs import COLUMNS, INPUTS, PAST, Candles, input_values
from market_data_pipeline.transforms.labels import LABELS, LabelKind, Labels, Path, independent
from market_data_pipeline.transforms.models import Model, fit, parameters, usable
from market_data_pipeline.transforms.scores import Score, score_of

SCHEMA = DATASETS["ml_signals"].own_schema
_VOLATILITY, _VOLATILITY_BARS = "realised_volatility_20", 20
_KEYS = frozenset(("timeframe", "timestamp", "close_time"))
CANDLE_COLUMNS = ("timestamp", "high", "low", "close", "volume", "trade_count")
"""The columns of candles that signals are made from."""
FEATURE_COLUMNS = {
    name: tuple(
        column
        for column in DATASETS[name].own_schema.names
        if column in (COLUMNS | {_VOLATILITY}) - _KEYS - set(CANDLE_COLUMNS)
    )
    for name in ("technical_features", "fundamental_features")
}
"""The features that they are made from, by dataset."""

_DIGITS = 9
_DAY = DAY // MICROSECOND


@dataclass(frozen=True)
class Recipe:
    """How signals are made.

    Attributes:
        timeframe: of which candles.
        training_days: how many days before the day a model may be trained on.
        label: how candles are labelled.
        horizon: how many candles a label looks ahead at most.
        width: of a triple barrier, its distance in standard deviations over the horizon.
        embargo: how many candles lie at least between the end of a label and what its model predicts.
        least_rows: with fewer labelled candles there is no model.
        threshold: how far from 1/2 a probability must be for a position.
    """

    timeframe: Timeframe = TIMEFRAMES["15m"]
    training_days: int = 60
    label: LabelKind = LabelKind.TRIPLE_BARRIER
    horizon: int = 4
    width: float = 1.0
    embargo: int = 4
    least_rows: int = 500
    threshold: float = 0.05

    @property
    def held_out_days(self) -> int:
        """The last fifth of the training days, a day at least, on which a model that has not seen them is scored."""
        return max(1, self.training_days // 5)

    def first_day(self, day: date) -> date:
        """The first day that the model of a day may be trained on."""
        return day - self.training_days * DAY

    def window(self, day: date) -> Window:
        """The times whose candles the signals of a day are made from: training, and what its inputs look back on."""
        return Window(midnight(self.first_day(day)) - PAST * self.timeframe.length, midnight(day) + DAY)


@dataclass(frozen=True)
class Series:
    """One instrument's candles, rising in time, as models see them.

    Attributes:
        stamps: opens, microseconds since 1970.
        inputs: a row for each candle, NaN for none.
        labels: what became of each candle.
        priced: whether it has a price.
        traded: whether anybody traded within it: only then could one have dealt at its close.
        fundamental: whether it has a row of fundamental features.
    """

    stamps: Integers
    inputs: Reals
    labels: Labels
    priced: Booleans
    traded: Booleans
    fundamental: Booleans

    @property
    def days(self) -> Integers:
        """The day that each opens on, days since 1970."""
        return self.stamps // _DAY

    def of_days(self, first: date, end: date) -> Booleans:
        """Which candles open on the days from `first` up to, not including, `end`."""
        return (self.stamps >= microseconds(midnight(first))) & (self.stamps < microseconds(midnight(end)))


@dataclass(frozen=True)
class Trained:
    """The outcome of training for a day.

    Attributes:
        model: the model that makes the day's signals; None where there is too little to learn from.
        why: why there is none.
        rows: how many labelled candles it was trained on, or would have been.
        start: close of the first of them, microseconds since 1970; None without any.
        end: when the last of their labels was known.
        days_missing: how many of the training days have no candle with a price.
        score: of a model that was trained in the same way without the held-out days; None where that was too little.
    """

    model: Model | None
    why: str
    rows: int
    start: int | None
    end: int | None
    days_missing: int
    score: Score | None


def series_of(candles: pa.Table, features: Mapping[str, pa.Table], recipe: Recipe) -> Series:
    """Candles of one timeframe with their features, as models see them.

    Args:
        candles: CANDLE_COLUMNS, rising in time.
        features: for each dataset that there is, `timestamp` and its FEATURE_COLUMNS for the same timeframe, rising in
            time; a candle that has no row there has none of its features.
        recipe: timeframe and labels.
    """
    stamps, length = times(candles, "timestamp"), recipe.timeframe.microseconds
    columns = {name: reals(candles, name) for name in CANDLE_COLUMNS[1:]}
    fundamental = np.zeros(len(stamps), bool)
    for name, table in features.items():
        place, there = _beside(stamps, times(table, "timestamp"))
        if name == "fundamental_features":
            fundamental = there
        for column in table.column_names:
            if column != "timestamp":
                columns[column] = np.full(len(stamps), np.nan)
                columns[column][there] = reals(table, column)[place[there]]
    seen = Candles(stamps, length, columns)
    volatility = seen[_VOLATILITY] / np.sqrt(_VOLATILITY_BARS)
    path = Path(stamps, seen["high"], seen["low"], seen["close"], volatility, length)
    labels = LABELS[recipe.label](path, recipe.horizon, recipe.width)
    priced, traded = np.isfinite(seen["close"]), seen["trade_count"] > 0
    return Series(stamps, input_values(seen), labels, priced, traded, fundamental)


def train(series: Series, day: date, recipe: Recipe) -> Trained:
    """Trains the model of a day, and scores one that was trained in the same way without the last days."""
    end = microseconds(midnight(day))
    held_out = microseconds(midnight(day - recipe.held_out_days * DAY))
    rows = _training_rows(series, day, recipe, end)
    model, why = _fitted(series, rows, recipe.least_rows)
    starts, ends = series.labels.start[rows], series.labels.end[rows]
    return Trained(
        model,
        why,
        len(rows),
        int(starts[0]) if len(rows) else None,
        int(ends.max()) if len(rows) else None,
        _days_missing(series, day, recipe),
        _score(series, rows, _training_rows(series, day, recipe, held_out), held_out, recipe) if model else None,
    )


def signals(series: Series, day: date, recipe: Recipe, trained: Trained, name: str | None) -> pa.Table:
    """Rows of SCHEMA for each candle of a day; `name` is the model's, None where there is none."""
    today = series.of_days(day, day + DAY)
    stamps, priced = series.stamps[today], series.priced[today]
    probability = np.full(len(stamps), np.nan)
    if trained.model is not None:
        probability[priced] = trained.model.probability(series.inputs[today][priced])
    return _table(stamps, probability, recipe, trained, name)


def record(day: date, instrument: str, recipe: Recipe, trained: Trained) -> dict[str, Any]:
    """All there is to know of a model, as plain numbers and texts; `model_of` makes the model from it again."""
    model = trained.model
    if model is None:
        raise ValueError(f"{instrument} has no model of {day}")
    inputs = [
        {
            "name": INPUTS[place].name,
            "columns": list(INPUTS[place].columns),
            "how": INPUTS[place].how,
            "mean": mean,
            "deviation": deviation,
            "weight": weight,
        }
        for place, mean, deviation, weight in zip(
            model.places, model.means, model.deviations, model.weights, strict=True
        )
    ]
    return {
        "instrument_id": instrument,
        "day": day.isoformat(),
        "timeframe": recipe.timeframe.name,
        **parameters(),
        "label": {
            "kind": str(recipe.label),
            "horizon": recipe.horizon,
            **({"width": recipe.width} if recipe.label is LabelKind.TRIPLE_BARRIER else {}),
        },
        "training": {
            "days": recipe.training_days,
            "from": _iso(trained.start),
            "to": _iso(trained.end),
            "rows": trained.rows,
            "days_missing": trained.days_missing,
            "purged": "labels that end after the day's 00:00 UTC less the embargo",
            "embargo": recipe.embargo,
        },
        "threshold": recipe.threshold,
        "score": _score_record(trained.score, recipe),
        "intercept": model.intercept,
        "inputs": inputs,
    }


def model_of(told: Mapping[str, Any]) -> Model:
    """The model that a record is of; raises LakeError where it is of inputs that are not made any more."""
    places = {(each.name, each.how): place for place, each in enumerate(INPUTS)}
    unknown = [each["name"] for each in told["inputs"] if (each["name"], each["how"]) not in places]
    if unknown:
        raise LakeError(
            f"the model is of another version of this pipeline: its input {unknown[0]} is not made any more"
        )
    inputs = told["inputs"]
    return Model(
        tuple(places[each["name"], each["how"]] for each in inputs),
        tuple(each["mean"] for each in inputs),
        tuple(each["deviation"] for each in inputs),
        tuple(each["weight"] for each in inputs),
        told["intercept"],
    )


def _days_missing(series: Series, day: date, recipe: Recipe) -> int:
    # days whose labels have not ended yet teach nothing, and are there all the same
    there = series.priced & series.of_days(recipe.first_day(day), day)
    return recipe.training_days - len(np.unique(series.days[there]))


def _training_rows(series: Series, day: date, recipe: Recipe, end: int) -> Integers:
    """The places of the candles that may train what predicts from `end` on."""
    start = microseconds(midnight(recipe.first_day(day)))
    embargo = recipe.embargo * recipe.timeframe.microseconds
    chosen = np.flatnonzero((series.stamps >= start) & series.traded & series.labels.ended(end, embargo))
    return chosen[usable(series.inputs[chosen])]


def _fitted(series: Series, rows: Integers, least: int) -> tuple[Model | None, str]:
    if len(rows) < least:
        return None, f"{len(rows)} labelled candles with their inputs; {least} are needed"
    up = series.labels.up[rows]
    if up.all() or not up.any():
        return None, f"all labels of {len(rows)} candles are the same"
    return fit(series.inputs[rows], up), ""


def _score(series: Series, all_rows: Integers, rows: Integers, held_out: int, recipe: Recipe) -> Score | None:
    """The score on the labels that begin with the held-out days, of a model of those that had ended before."""
    share = 1 - recipe.held_out_days / recipe.training_days
    model, _ = _fitted(series, rows, max(2, int(recipe.least_rows * share)))
    if model is None:
        return None
    unseen = all_rows[series.labels.start[all_rows] >= held_out]
    probability = model.probability(series.inputs[unseen])
    unseen, probability = unseen[np.isfinite(probability)], probability[np.isfinite(probability)]
    if not len(unseen):
        return None
    base_rate = float(series.labels.up[rows].mean())
    apart = independent(series.labels.start[unseen], series.labels.end[unseen])
    return score_of(probability, series.labels.up[unseen], base_rate, apart)


def _score_record(score: Score | None, recipe: Recipe) -> dict[str, Any] | None:
    if score is None:
        return None
    low, high = score.interval
    return {
        "of": f"a model trained in the same way without the last {recipe.held_out_days} days, on those days",
        "rows": score.rows,
        "independent_labels": score.independent,
        "hit_rate": round(score.hit_rate, _DIGITS),
        "hit_rate_95": [round(low, _DIGITS), round(high, _DIGITS)],
        "base_hit_rate": round(score.base_hit_rate, _DIGITS),
        "brier": round(score.brier, _DIGITS),
        "base_brier": round(score.base_brier, _DIGITS),
        "calibration": [
            {"from": each.low, "to": each.high, "rows": each.rows, "forecast": round(each.forecast, 6), "ups": each.ups}
            for each in score.bins
        ],
    }


def _table(stamps: Integers, probability: Reals, recipe: Recipe, trained: Trained, name: str | None) -> pa.Table:
    count, missing = len(stamps), ~np.isfinite(probability)
    with np.errstate(invalid="ignore"):
        long, short = probability >= 0.5 + recipe.threshold, probability <= 0.5 - recipe.threshold
    columns = {
        "timeframe": _same(recipe.timeframe.name, count),
        "timestamp": pa.array(stamps).view(TIME),
        "close_time": pa.array(stamps + recipe.timeframe.microseconds).view(TIME),
        "probability": pa.array(probability, mask=missing),
        "position": pa.array(long.astype(np.int8) - short.astype(np.int8), mask=missing),
        "model": _same(name, count),
        "train_from": pa.array([trained.start] * count, pa.int64()).view(TIME),
        "train_to": pa.array([trained.end] * count, pa.int64()).view(TIME),
        "train_rows": pa.array(np.full(count, trained.rows)),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _same(text: str | None, count: int) -> pa.Array:
    return pa.array([text] * count, pa.string()).dictionary_encode().cast(TEXT)


def _beside(stamps: Integers, theirs: Integers) -> tuple[Integers, Booleans]:
    """For each time the place of the other row of that time, and whether there is one."""
    if not len(theirs):
        return np.zeros(len(stamps), np.int64), np.zeros(len(stamps), bool)
    place = np.minimum(np.searchsorted(theirs, stamps), len(theirs) - 1)
    return place, theirs[place] == stamps


def _iso(moment: int | None) -> str | None:
    return None if moment is None else (EPOCH + timedelta(microseconds=moment)).isoformat()
