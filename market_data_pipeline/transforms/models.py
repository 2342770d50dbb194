"""A logistic regression over inputs: fitted by scikit-learn, kept as plain numbers, applied without it.

What is fitted is rounded to nine digits, so that the last bits, which differ between processors, make no other model.
"""

from dataclasses import dataclass
from importlib.metadata import version
from threading import Lock
from typing import Any

import numpy as np

from market_data_pipeline.transforms.as_of import Booleans, Reals

INVERSE_PENALTY = 0.0003
"""scikit-learn's C: labels overlap, so there is less to learn from than there are rows."""
FARTHEST = 5.0
"""How many standard deviations from its mean an input may count."""
LEAST_PRESENT = 0.5
"""The share of the inputs that a candle must have, to be trained on or predicted."""
_DIGITS = 9
LIBRARIES = ("scikit-learn", "scipy", "numpy")

# the number of threads that scikit-learn's libraries use belongs to the process, so one model is fitted at a time
_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True)
class Model:
    """A fitted logistic regression.

    An input counts by its distance from the training's mean in standard deviations, FARTHEST at most; one that is
    missing counts as the mean, here as in training.

    Attributes:
        places: which columns of the inputs it uses.
        means: their means in training.
        deviations: their standard deviations in training.
        weights: what a standard deviation of each adds to the logarithm of the odds.
        intercept: the logarithm of the odds at the means.
    """

    places: tuple[int, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def probability(self, inputs: Reals) -> Reals:
        """The probability of going up for each row of all inputs; NaN where too few are there."""
        chosen = inputs[:, list(self.places)]
        # one input after another: the same order of additions for a row, whatever rows stand beside it
        odds = np.full(len(inputs), self.intercept)
        for place, weight in enumerate(self.weights):
            odds = odds + weight * _standing(chosen[:, place], self.means[place], self.deviations[place])
        return np.where(_enough(chosen), np.round(1 / (1 + np.exp(-odds)), _DIGITS), np.nan)


def usable(inputs: Reals) -> Booleans:
    """Whether each row has enough of the inputs that any row has, to be trained on."""
    present = np.isfinite(inputs)
    return _enough(inputs[:, present.any(axis=0)])


def fit(inputs: Reals, up: Booleans) -> Model:
    """Fits a model; one input at least must be there and vary.

    Args:
        inputs: a row for each candle, NaN for none.
        up: whether each went up; both must occur.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    places = [place for place in range(inputs.shape[1]) if _varies(inputs[:, place])]
    means = _rounded(np.array([np.nanmean(inputs[:, place]) for place in places]))
    deviations = _rounded(np.array([np.nanstd(inputs[:, place]) for place in places]))
    standing = np.column_stack(
        [_standing(inputs[:, place], mean, by) for place, mean, by in zip(places, means, deviations, strict=True)]
    )
    regression = LogisticRegression(C=INVERSE_PENALTY, solver="newton-cholesky", tol=1e-9, max_iter=200)
    with _ONE_AT_A_TIME, threadpool_limits(1):
        regression.fit(standing, up)
    return Model(
        tuple(places),
        tuple(means.tolist()),
        tuple(deviations.tolist()),
        tuple(_rounded(regression.coef_[0]).tolist()),
        float(_rounded(regression.intercept_)[0]),
    )


def parameters() -> dict[str, Any]:
    """What a model's record says of how it was fitted."""
    return {
        "model": "logistic regression",
        "inverse_penalty": INVERSE_PENALTY,
        "farthest": FARTHEST,
        "least_present": LEAST_PRESENT,
        "missing": "counts as the mean of the training",
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _varies(values: Reals) -> bool:
    there = values[np.isfinite(values)]
    # what differs in the last bits alone does not vary
    return len(there) > 1 and float(np.ptp(there)) > 1e-12 * float(np.abs(there).max())


def _standing(values: Reals, mean: float, deviation: float) -> Reals:
    return np.nan_to_num(np.clip((values - mean) / deviation, -FARTHEST, FARTHEST), nan=0.0)


def _enough(chosen: Reals) -> Booleans:
    present = np.isfinite(chosen).sum(axis=1)
    return np.asarray(present >= max(1, LEAST_PRESENT * chosen.shape[1]))


def _rounded(values: Reals) -> Reals:
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values.tolist()])
