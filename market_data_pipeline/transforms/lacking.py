"""What a model has to do without on its day, and had to in training: what is missing counts as the mean."""

from dataclasses import dataclass
from datetime import date

import numpy as np

from market_data_pipeline.model.windows import DAY
from market_data_pipeline.transforms.inputs import INPUTS
from market_data_pipeline.transforms.models import Model
from market_data_pipeline.transforms.signals import Recipe, Series


@dataclass(frozen=True)
class Lacking:
    """What one instrument lacks.

    Attributes:
        today: whether the day has no fundamental features, though any of the training days has.
        in_training: whether any training day has none, though another one or the day itself has.
        inputs: the inputs that its model uses and that are null all through the day, by name.
    """

    today: bool
    in_training: bool
    inputs: tuple[str, ...]


def lacking(series: Series, day: date, recipe: Recipe, model: Model | None) -> Lacking:
    """What an instrument lacks on a day and in the training for it; only days that have candles are looked at."""
    today, training = series.of_days(day, day + DAY), series.of_days(recipe.first_day(day), day)
    having, had = bool(series.fundamental[today].any()), bool(series.fundamental[training].any())
    whole = set(np.unique(series.days[training])) == set(np.unique(series.days[training & series.fundamental]))
    places = model.places if model and today.any() else ()
    there = set(np.flatnonzero(np.isfinite(series.inputs[today]).any(axis=0)).tolist())
    return Lacking(
        bool(today.any()) and had and not having,
        (had or having) and not whole,
        tuple(INPUTS[place].name for place in places if place not in there),
    )
