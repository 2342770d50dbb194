"""How much later than the exchange's time the vendor received the trades of a day, by bucket of any timeframe."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from market_data_pipeline.model.datasets import TIMEFRAMES
from market_data_pipeline.model.windows import DAY, microseconds, midnight
from market_data_pipeline.transforms.as_of import Integers, Reals

TRADE_COLUMNS = ("timestamp", "local_timestamp")
"""The columns of trades that delays are made from."""

_FINEST = TIMEFRAMES["1m"].microseconds
_BUCKETS = DAY // TIMEFRAMES["1m"].length
_MILLISECOND = 1000


@dataclass(frozen=True)
class Delays:
    """The delays of one instrument's day of trades.

    Attributes:
        values: microseconds, in order of the trades' exchange time.
        edges: where each bucket of the finest timeframe starts among them, and last where the day ends.
    """

    values: Integers
    edges: Integers

    def of(self, opens: Integers, length: int) -> dict[str, Reals]:
        """Mean, median, min and max of the buckets that open at these times of the day, in milliseconds.

        Args:
            opens: microseconds since midnight, multiples of `length`.
            length: of a bucket in microseconds; a multiple of the finest timeframe.

        Returns:
            An array for each; NaN where a bucket has no trade.
        """
        found = {name: np.full(len(opens), np.nan) for name in ("mean", "median", "min", "max")}
        firsts, lasts = self.edges[opens // _FINEST], self.edges[(opens + length) // _FINEST]
        filled = np.flatnonzero(lasts > firsts)
        firsts, counts = firsts[filled], (lasts - firsts)[filled]
        values = np.append(self.values, 0)  # a bucket may end where they do, and reduceat wants a place for that
        bounds = np.column_stack((firsts, firsts + counts)).ravel()
        sums, least, most = (each.reduceat(values, bounds)[::2] for each in (np.add, np.minimum, np.maximum))
        found["mean"][filled] = [total / count for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]
        found["median"][filled] = _medians(values, firsts, counts)
        found["min"][filled], found["max"][filled] = least, most
        return {name: told / _MILLISECOND for name, told in found.items()}


def _medians(values: Integers, firsts: Integers, counts: Integers) -> Reals:
    """The medians of stretches of some values, which are put into another order within each."""
    low, high = (counts - 1) // 2, counts // 2  # the places of the one or the two in the middle
    many = counts > 2
    for first, count, *middle in np.column_stack((firsts, counts, low, high))[many].tolist():
        values[first : first + count].partition(middle)  # much faster than numpy's median of so few
    medians: Reals = (values[firsts + low].astype(np.float64) + values[firsts + high]) / 2
    return medians


def delays_of(trades: Iterable[pa.Table], day: date) -> Delays:
    """The delays of a day; 8 bytes a trade are held, as the median of a day needs all.

    Args:
        trades: tables with TRADE_COLUMNS whose exchange times lie in the day, in order of time across all tables.
            Trades without a local time are left out.
        day: the day, UTC.
    """
    start = microseconds(midnight(day))
    counts = np.zeros(_BUCKETS, np.int64)
    parts = [np.empty(0, np.int64)]
    for table in trades:
        known = table.filter(table.column("local_timestamp").is_valid()) if table.column(1).null_count else table
        stamps, local = (
            np.asarray(known.column(name).cast(pa.int64()).combine_chunks().to_numpy()) for name in TRADE_COLUMNS
        )
        counts += np.bincount((stamps - start) // _FINEST, minlength=_BUCKETS)
        parts.append(local - stamps)
    return Delays(np.concatenate(parts), np.concatenate(([0], np.cumsum(counts))))
