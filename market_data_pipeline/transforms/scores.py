"""How good probabilities were on candles that their model had not seen: hit rate, Brier score, calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np

from market_data_pipeline.transforms.as_of import Booleans, Reals

_NORMAL_95 = 1.959963984540054
EDGES = (0.0, 0.4, 0.45, 0.5, 0.55, 0.6, 1.0)
"""Edges of the calibration's bins: fine where probabilities of markets lie."""


@dataclass(frozen=True)
class Bin:
    """The candles whose probability lies in [low, high) (the last one with its high).

    Attributes:
        low: lowest probability.
        high: highest.
        rows: how many candles.
        forecast: sum of their probabilities.
        ups: how many went up.
    """

    low: float
    high: float
    rows: int
    forecast: float
    ups: int


@dataclass(frozen=True)
class Score:
    """What probabilities were worth, beside the same forecast for all: the base rate of the model's training.

    Attributes:
        rows: labelled candles that were predicted.
        independent: how many of their labels can be chosen so that none overlaps another.
        hits: probabilities on the right side of 1/2.
        base_hits: how often the more frequent side of the training was right.
        squares: sum of (probability − outcome)².
        base_squares: the same for the base rate as probability.
        bins: calibration.
    """

    rows: int
    independent: int
    hits: int
    base_hits: int
    squares: float
    base_squares: float
    bins: tuple[Bin, ...]

    @property
    def hit_rate(self) -> float:
        """Share of candles whose probability was on the right side of 1/2."""
        return self.hits / self.rows

    @property
    def base_hit_rate(self) -> float:
        """Share of candles for which the more frequent side of the training was right."""
        return self.base_hits / self.rows

    @property
    def interval(self) -> tuple[float, float]:
        """The hit rate's interval of 95 % confidence, as if only the independent labels had been seen."""
        return wilson(self.hit_rate, self.independent)

    @property
    def brier(self) -> float:
        """Brier, Verification of Forecasts Expressed in Terms of Probability, 1950, for one of the two outcomes."""
        return self.squares / self.rows

    @property
    def base_brier(self) -> float:
        """The Brier score of the base rate."""
        return self.base_squares / self.rows


def score_of(probability: Reals, up: Booleans, base_rate: float, independent: int) -> Score:
    """The score of probabilities of going up.

    Args:
        probability: one for each candle, at least one; none of them NaN.
        up: what happened.
        base_rate: the share of candles that went up in the model's training.
        independent: how many of the labels do not overlap.
    """
    outcome = up.astype(np.float64)
    place = np.clip(np.searchsorted(EDGES, probability, side="right") - 1, 0, len(EDGES) - 2)
    bins = tuple(
        Bin(low, high, int(inside.sum()), float(probability[inside].sum()), int(up[inside].sum()))
        for number, (low, high) in enumerate(pairwise(EDGES))
        for inside in (place == number,)
    )
    return Score(
        len(up),
        independent,
        int(np.count_nonzero((probability > 0.5) == up)),
        int(np.count_nonzero(up == (base_rate > 0.5))),
        float(((probability - outcome) ** 2).sum()),
        float(((base_rate - outcome) ** 2).sum()),
        bins,
    )


def pooled(scores: Sequence[Score]) -> Score:
    """The score over several instruments, at least one.

    Markets move together, so labels of different instruments at the same time tell little more than one of them: the
    independent ones are those of the instrument that has the most.
    """
    bins = tuple(
        Bin(
            same[0].low,
            same[0].high,
            sum(b.rows for b in same),
            sum(b.forecast for b in same),
            sum(b.ups for b in same),
        )
        for same in zip(*(score.bins for score in scores), strict=True)
    )
    return Score(
        sum(score.rows for score in scores),
        max(score.independent for score in scores),
        sum(score.hits for score in scores),
        sum(score.base_hits for score in scores),
        sum(score.squares for score in scores),
        sum(score.base_squares for score in scores),
        bins,
    )


def wilson(rate: float, count: int) -> tuple[float, float]:
    """An interval of 95 % confidence for a rate over so many independent trials: Wilson, JASA 22, 1927.

    Without a trial it is [0, 1].
    """
    if not count:
        return 0.0, 1.0
    square = _NORMAL_95**2
    middle = (rate + square / (2 * count)) / (1 + square / count)
    reach = _NORMAL_95 / (1 + square / count) * sqrt(rate * (1 - rate) / count + square / (4 * count**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)
