"""Labels of candles: what became of the price afterwards. They live in memory while a model is trained, nowhere else.

A label is known only from its end on, so each carries that time; whoever trains on it must leave out those that end
after what is to be predicted begins. No label reaches over a candle that is missing or has no price.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from market_data_pipeline.transforms.as_of import Booleans, Integers, Reals


class LabelKind(StrEnum):
    """How a candle is labelled."""

    TRIPLE_BARRIER = "triple_barrier"
    FORWARD_RETURN = "forward_return"


@dataclass(frozen=True)
class Path:
    """Candles of one timeframe, rising in time, as a label looks at them.

    Attributes:
        stamps: their opens, microseconds since 1970.
        high: highest prices; NaN where there is none.
        low: lowest prices.
        close: last prices.
        volatility: standard deviation of a candle's log return as it is known at the close; NaN where it is not.
        length: how long a candle lasts, microseconds.
    """

    stamps: Integers
    high: Reals
    low: Reals
    close: Reals
    volatility: Reals
    length: int

    def unbroken(self, steps: int) -> Booleans:
        """Whether the next `steps` candles of each candle are there, follow each other and have prices."""
        count = len(self.stamps)
        priced = np.isfinite(self.close) & np.isfinite(self.high) & np.isfinite(self.low)
        found = priced.copy()
        for step in range(1, steps + 1):
            here = np.zeros(count, bool)
            if step < count:
                here[:-step] = priced[step:] & (self.stamps[step:] - self.stamps[:-step] == step * self.length)
            found &= here
        return found


@dataclass(frozen=True)
class Labels:
    """A label for each candle, where it has one.

    Attributes:
        known: whether the candle has a label.
        up: whether the price went up; of no meaning without a label.
        start: when the candle closes and its label begins, microseconds since 1970.
        end: the first instant at which the label is known; of no meaning without one.
    """

    known: Booleans
    up: Booleans
    start: Integers
    end: Integers

    def ended(self, moment: int, embargo: int) -> Booleans:
        """Those that are over by a moment, with so many microseconds to spare.

        These may train what predicts from that moment on: purging and embargo of López de Prado, Advances in Financial
        Machine Learning, 2018, chapter 7.
        """
        return self.known & (self.end + embargo <= moment)


def forward_return(path: Path, horizon: int) -> Labels:
    """The sign of the return over the next `horizon` candles; no label where the price stands where it was."""
    ahead = _ahead(path.close, horizon)
    known = path.unbroken(horizon) & (ahead != path.close)
    return _labels(path, known, ahead > path.close, np.full(len(path.stamps), horizon))


def triple_barrier(path: Path, horizon: int, width: float) -> Labels:
    """Which barrier the price touches first: López de Prado, Advances in Financial Machine Learning, 2018, chapter 3.

    The upper and the lower one lie `width` × volatility × √horizon from the close, in logarithms. Where neither is
    touched within `horizon` candles, the vertical one counts: the sign of the return until then. A candle that touches
    both cannot tell which came first, so there is no label; nor is there one where the price stands where it was.
    """
    count = len(path.stamps)
    known, up = np.zeros(count, bool), np.zeros(count, bool)
    steps = np.zeros(count, np.int64)
    reach = np.where(path.volatility > 0, width * path.volatility * np.sqrt(horizon), np.nan)
    upper, lower = path.close * np.exp(reach), path.close * np.exp(-reach)
    waiting = np.isfinite(upper)
    for step in range(1, horizon + 1):
        waiting = waiting & path.unbroken(step)
        with np.errstate(invalid="ignore"):
            over, under = _ahead(path.high, step) >= upper, _ahead(path.low, step) <= lower
        touched = waiting & (over | under)
        known[touched] = (over != under)[touched]
        up[touched] = over[touched]
        steps[touched] = step
        waiting &= ~touched
    late = forward_return(path, horizon)
    vertical = waiting & late.known
    known[vertical], up[vertical], steps[vertical] = True, late.up[vertical], horizon
    return _labels(path, known, up, steps)


LABELS: dict[LabelKind, Callable[[Path, int, float], Labels]] = {
    LabelKind.TRIPLE_BARRIER: triple_barrier,
    LabelKind.FORWARD_RETURN: lambda path, horizon, _: forward_return(path, horizon),
}


def independent(start: Integers, end: Integers) -> int:
    """How many labels, given in order of their starts, can be chosen so that none overlaps another: greedily."""
    chosen, over = 0, np.iinfo(np.int64).min
    for begin, finish in zip(start.tolist(), end.tolist(), strict=True):
        if begin >= over:
            chosen, over = chosen + 1, finish
    return chosen


def _ahead(values: Reals, steps: int) -> Reals:
    """The value so many candles later; NaN at the end."""
    found = np.full(len(values), np.nan)
    if steps < len(values):
        found[:-steps] = values[steps:]
    return found


def _labels(path: Path, known: Booleans, up: Booleans, steps: Integers) -> Labels:
    start = path.stamps + path.length
    return Labels(known, up, start, start + steps * path.length)
