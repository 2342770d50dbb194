"""Labels by hand: what they are, when they end, where there is none, and which may train what comes after."""

from collections.abc import Sequence

import numpy as np
import pytest

from market_data_pipeline.transforms.labels import Labels, Path, forward_return, independent, triple_barrier

STEP = 900_000_000
NAN = float("nan")


def path(
    close: Sequence[float],
    high: Sequence[float] | None = None,
    low: Sequence[float] | None = None,
    *,
    places: Sequence[int] | None = None,
    volatility: float = 0.01,
) -> Path:
    """Candles at some places of the grid; high and low are the close unless told otherwise."""
    count = len(close)
    return Path(
        np.array(places if places is not None else range(count), np.int64) * STEP,
        np.array(close if high is None else high, float),
        np.array(close if low is None else low, float),
        np.array(close, float),
        np.full(count, volatility),
        STEP,
    )


def told(labels: Labels) -> list[tuple[bool, int] | None]:
    """Each candle's label and how many candles after its close it ends."""
    lengths = (labels.end - labels.start) // STEP
    return [
        (bool(up), int(length)) if known else None
        for known, up, length in zip(labels.known, labels.up, lengths, strict=True)
    ]


def test_the_forward_return_is_the_sign_over_the_horizon_and_ends_with_it() -> None:
    labels = forward_return(path([100, 101, 102, 101, 99]), 2)
    # the second stands where it was two candles later; the last two have no such candle
    assert told(labels) == [(True, 2), None, (False, 2), None, None]
    assert labels.start.tolist() == [(place + 1) * STEP for place in range(5)]
    assert labels.end[0] == 3 * STEP


def test_the_first_barrier_that_is_touched_counts_and_ends_the_label() -> None:
    # barriers at 1 % × √4 = 2 % in logarithms: 102.02 and 98.02
    close = [100, 100, 100, 100, 100, 100]
    high = [100, 101, 102.1, 100, 100, 100]
    low = [100, 99, 99, 97, 100, 100]
    labels = triple_barrier(path(close, high, low), 4, 1.0)
    assert told(labels)[:2] == [(True, 2), (True, 1)]
    # its upper barrier has gone by: the next one touched is the lower, one candle on
    assert told(labels)[2] == (False, 1)


def test_a_touch_is_at_or_beyond_the_barrier() -> None:
    barrier = 100 * np.exp(0.01 * np.sqrt(2))
    assert told(triple_barrier(path([100, 100, 100], [100, barrier, 100]), 2, 1.0))[0] == (True, 1)
    below = np.nextafter(barrier, 0)
    assert told(triple_barrier(path([100, 100, 100], [100, below, 100]), 2, 1.0))[0] is None


def test_neither_touched_is_the_sign_at_the_vertical_barrier() -> None:
    assert told(triple_barrier(path([100, 100.1, 99.9, 100]), 2, 1.0)) == [(False, 2), (False, 2), None, None]


def test_a_candle_that_touches_both_cannot_tell_which_came_first() -> None:
    labels = triple_barrier(path([100, 100, 105], [100, 103, 105], [100, 97, 105]), 2, 1.0)
    assert told(labels)[0] is None


@pytest.mark.parametrize("volatility", [NAN, 0.0])
def test_without_a_volatility_there_is_no_barrier_and_no_label(volatility: float) -> None:
    assert told(triple_barrier(path([100, 110, 120], volatility=volatility), 2, 1.0)) == [None] * 3


def test_no_label_reaches_over_a_hole() -> None:
    rising = [100.0, 100.1, 100.2, 100.3, 100.4, 100.5]
    holed = path(rising, places=[0, 1, 2, 96, 97, 98])  # the rest of the day is missing
    assert told(forward_return(holed, 2)) == [(True, 2), None, None, (True, 2), None, None]
    assert told(triple_barrier(holed, 2, 1.0)) == [(True, 2), None, None, (True, 2), None, None]


def test_a_barrier_touched_before_the_hole_counts_and_one_after_it_does_not() -> None:
    holed = path([100, 103, 100, 110, 110], places=[0, 1, 2, 4, 5])
    assert told(triple_barrier(holed, 4, 1.0))[:3] == [(True, 1), (False, 1), None]


def test_a_candle_without_a_price_has_no_label_and_ends_those_that_reach_it() -> None:
    assert told(forward_return(path([100, 101, NAN, 102, 103]), 1)) == [(True, 1), None, None, (True, 1), None]
    assert told(triple_barrier(path([100, 101, NAN, 102, 109]), 2, 1.0)) == [None, None, None, (True, 1), None]


def test_what_has_ended_with_the_embargo_may_train_and_nothing_else() -> None:
    labels = forward_return(path([100, 101, 102, 103, 104, 105]), 2)
    at = 5 * STEP
    assert labels.ended(at, 0).tolist() == [True, True, True, False, False, False]
    assert labels.ended(at - 1, 0).tolist() == [True, True, False, False, False, False]
    assert labels.ended(at, 2 * STEP).tolist() == [True, False, False, False, False, False]


def test_labels_are_counted_once_where_they_overlap() -> None:
    starts = np.arange(10)
    assert independent(starts, starts + 1) == 10
    assert independent(starts, starts + 4) == 3
    assert independent(np.array([0, 1, 5]), np.array([9, 2, 6])) == 1
    assert independent(np.empty(0, np.int64), np.empty(0, np.int64)) == 0
