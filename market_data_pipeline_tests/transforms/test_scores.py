"""Scores by hand."""

import numpy as np
import pytest

from market_data_pipeline.transforms.scores import pooled, score_of, wilson

PROBABILITY = np.array([0.1, 0.52, 0.58, 0.7, 1.0])
UP = np.array([False, False, True, True, False])


def test_a_score_by_hand() -> None:
    score = score_of(PROBABILITY, UP, 0.4, 2)
    assert (score.rows, score.independent) == (5, 2)
    assert score.hit_rate == 3 / 5
    assert score.base_hit_rate == 3 / 5  # the base rate says down each time
    assert score.brier == pytest.approx((0.1**2 + 0.52**2 + 0.42**2 + 0.3**2 + 1) / 5)
    assert score.base_brier == pytest.approx((3 * 0.4**2 + 2 * 0.6**2) / 5)
    assert [(each.low, each.rows, each.ups) for each in score.bins] == [
        (0.0, 1, 0),
        (0.4, 0, 0),
        (0.45, 0, 0),
        (0.5, 1, 0),
        (0.55, 1, 1),
        (0.6, 2, 1),
    ]
    assert sum(each.forecast for each in score.bins) == pytest.approx(PROBABILITY.sum())


def test_instruments_together_count_all_candles_but_the_independent_labels_of_one() -> None:
    one, other = score_of(PROBABILITY, UP, 0.4, 2), score_of(PROBABILITY[:2], UP[:2], 0.6, 1)
    both = pooled([one, other])
    assert (both.rows, both.independent, both.hits) == (7, 2, one.hits + other.hits)
    assert both.brier == pytest.approx((one.squares + other.squares) / 7)
    assert [each.rows for each in both.bins] == [2, 0, 0, 2, 1, 2]


@pytest.mark.parametrize(
    ("rate", "count", "low", "high"),
    [(0.5, 100, 0.4038, 0.5962), (0.9, 10, 0.5958, 0.9821), (0.0, 10, 0.0, 0.2775), (0.5, 0, 0.0, 1.0)],
)
def test_the_interval_of_wilson(rate: float, count: int, low: float, high: float) -> None:
    assert wilson(rate, count) == pytest.approx((low, high), abs=5e-5)
