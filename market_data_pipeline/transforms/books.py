"""What the book was like over a bucket of any timeframe: means weighted by how long each snapshot stood."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data_pipeline.model.datasets import TIMEFRAMES
from market_data_pipeline.model.windows import DAY, Window, microseconds, midnight
from market_data_pipeline.transforms.as_of import MICROSECOND, Booleans, Integers, Reals, reals, times

STALE = timedelta(minutes=10)
"""How long a snapshot stands at the most; when it is older and no other has come, the book is unknown."""
_LEVELS = range(1, 6)
SNAPSHOT_COLUMNS = (
    "timestamp",
    "ask_price_1",
    "bid_price_1",
    *(f"{side}_amount_{level}" for side in ("ask", "bid") for level in _LEVELS),
)
"""The columns of book snapshots that features are made from."""
QUANTITIES = ("spread_bps", "mid", "microprice", "imbalance_1", "imbalance_5", "bid_depth_5", "ask_depth_5")
"""What is told of a book."""

_FINEST = TIMEFRAMES["1m"].microseconds
_BUCKETS = DAY // TIMEFRAMES["1m"].length
_BASIS_POINTS = 1e4


def book_window(day: date) -> Window:
    """The times whose snapshots the books of a day are made from: the day, and what may still stand at its start."""
    return Window(midnight(day) - STALE, midnight(day) + DAY)


@dataclass(frozen=True)
class Books:
    """The book of one instrument's day, by bucket of the finest timeframe.

    Attributes:
        sums: for each of QUANTITIES its values, each times the microseconds for which it stood, added up.
        known: for how many microseconds the book was known.
    """

    sums: Mapping[str, Reals]
    known: Integers

    @property
    def complete(self) -> bool:
        """Whether no bucket is without a book."""
        return bool(self.known.all())

    def completed_by(self, other: "Books") -> "Books":
        """The same, but buckets in which the book was never known are those of another.

        Which of both a bucket is taken from hangs on its own snapshots and those before it.
        """
        lacking = self.known == 0
        sums = {name: np.where(lacking, other.sums[name], own) for name, own in self.sums.items()}
        return Books(sums, np.where(lacking, other.known, self.known))

    def of(self, opens: Integers, length: int) -> dict[str, Reals]:
        """The time-weighted means of the buckets that open at these times of the day.

        Args:
            opens: microseconds since midnight, multiples of `length`.
            length: of a bucket in microseconds; a multiple of the finest timeframe that divides the day.

        Returns:
            An array for each of QUANTITIES; NaN where the book was never known in a bucket.
        """

        def joined(finest: npt.NDArray[Any]) -> npt.NDArray[Any]:
            of_day: npt.NDArray[Any] = finest.reshape(-1, length // _FINEST).sum(axis=1)
            return of_day[opens // length]

        known = joined(self.known)
        with np.errstate(invalid="ignore"):
            return {name: joined(sums) / known for name, sums in self.sums.items()}


def books_of(snapshots: Iterable[pa.Table], day: date) -> Books:
    """The books of a day.

    A snapshot stands from its time until the next one's, but no longer than STALE; of those with one time the last
    counts. A book that lacks a side, or whose bid is not below its ask, is unknown for as long as it stands. A deeper
    level that is missing has nothing on it.

    Args:
        snapshots: tables with SNAPSHOT_COLUMNS in order of time across all tables. How they are cut makes no
            difference: stretches of time are added one after another. Nor does what lies outside `book_window`.
        day: the day, UTC.
    """
    start = microseconds(midnight(day))
    books = Books({name: np.zeros(_BUCKETS) for name in QUANTITIES}, np.zeros(_BUCKETS, np.int64))
    held: _Snapshots | None = None
    for table in snapshots:
        if not table.num_rows:
            continue
        batch = _Snapshots.of(table, start)
        if held:
            _add(books, held, batch.stamps[:1])
        _add(books, batch.at(slice(0, -1)), batch.stamps[1:])
        # how long the last one stands is told by the next table
        held = batch.at(slice(-1, None))
    if held:
        _add(books, held, np.array([DAY // MICROSECOND]))
    return books


@dataclass(frozen=True)
class _Snapshots:
    """Some snapshots: their times in microseconds since midnight, which tell something, and what they tell."""

    stamps: Integers
    known: Booleans
    values: Mapping[str, Reals]

    @classmethod
    def of(cls, table: pa.Table, midnight_: int) -> "_Snapshots":
        ask, bid = reals(table, "ask_price_1"), reals(table, "bid_price_1")
        (best_asks, asks), (best_bids, bids) = _amounts(table, "ask"), _amounts(table, "bid")
        mid, best, five = (ask + bid) / 2, best_asks + best_bids, asks + bids
        known = (bid > 0) & (ask > bid) & (best_asks > 0) & (best_bids > 0) & np.isfinite(mid) & np.isfinite(five)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = (
                (ask - bid) / mid * _BASIS_POINTS,
                mid,
                (ask * best_bids + bid * best_asks) / best,
                (best_bids - best_asks) / best,
                (bids - asks) / five,
                bids,
                asks,
            )
        return cls(times(table, "timestamp") - midnight_, known, dict(zip(QUANTITIES, values, strict=True)))

    def at(self, places: slice | Integers) -> "_Snapshots":
        values = {name: each[places] for name, each in self.values.items()}
        return _Snapshots(self.stamps[places], self.known[places], values)


def _amounts(table: pa.Table, side: str) -> tuple[Reals, Reals]:
    """The amount at the best level of a side, and that of five levels together."""
    best, *deeper = (np.fmax(reals(table, f"{side}_amount_{level}"), 0.0) for level in _LEVELS)
    five = best.copy()
    for amount in deeper:
        five += amount
    return best, five


def _add(books: Books, snapshots: _Snapshots, replaced: Integers) -> None:
    """Adds what snapshots tell to the sums of the buckets in which they stood, until they are replaced."""
    begins = np.maximum(snapshots.stamps, 0)
    ends = np.minimum(np.minimum(snapshots.stamps + STALE // MICROSECOND, replaced), DAY // MICROSECOND)
    stood = np.flatnonzero(snapshots.known & (ends > begins))
    if len(stood) < len(begins):
        snapshots, begins, ends = snapshots.at(stood), begins[stood], ends[stood]
    first = begins // _FINEST
    after = (ends - 1) // _FINEST - first
    # one that stands over an edge of buckets is the first to stand in those after it: it may come before all others
    place = np.repeat(np.arange(len(after)), after)
    later = first[place] + 1 + np.arange(len(place)) - (np.cumsum(after) - after)[place]
    _sum_up(books, later, np.minimum(ends[place] - later * _FINEST, _FINEST), snapshots.at(place))
    _sum_up(books, first, np.minimum(ends, (first + 1) * _FINEST) - begins, snapshots)


def _sum_up(books: Books, buckets: Integers, durations: Integers, snapshots: _Snapshots) -> None:
    # one after another onto the totals: a sum of its own for each table would round differently for other cuts
    np.add.at(books.known, buckets, durations)
    weights = durations.astype(np.float64)
    for name, sums in books.sums.items():
        np.add.at(sums, buckets, snapshots.values[name] * weights)
