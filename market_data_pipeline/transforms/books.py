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
        _add(books, batch.slice(0, -1), batch.stamps[1:])
        # how long the last one stands is told by the next table
        held = batch.slice(-1, None)
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
        asks, bids = ([_amount(table, f"{side}_amount_{level}") for level in _LEVELS] for side in ("ask", "bid"))
        asked, bidden = sum(asks[1:], asks[0]), sum(bids[1:], bids[0])
        first, five = asks[0] + bids[0], asked + bidden
        mid = (ask + bid) / 2
        known = (bid > 0) & (ask > bid) & (asks[0] > 0) & (bids[0] > 0) & np.isfinite(mid) & np.isfinite(five)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = (
                (ask - bid) / mid * _BASIS_POINTS,
                mid,
                (ask * bids[0] + bid * asks[0]) / first,
                (bids[0] - asks[0]) / first,
                (bidden - asked) / five,
                bidden,
                asked,
            )
        return cls(times(table, "timestamp") - midnight_, known, dict(zip(QUANTITIES, values, strict=True)))

    def slice(self, start: int, stop: int | None) -> "_Snapshots":
        part = slice(start, stop)
        return _Snapshots(self.stamps[part], self.known[part], {name: each[part] for name, each in self.values.items()})


def _amount(table: pa.Table, name: str) -> Reals:
    amount = reals(table, name)
    return np.where(amount > 0, amount, 0.0)


def _add(books: Books, snapshots: _Snapshots, replaced: Integers) -> None:
    """Adds what snapshots tell to the sums of the buckets in which they stood, until they are replaced."""
    begins = np.maximum(snapshots.stamps, 0)
    ends = np.minimum(np.minimum(snapshots.stamps + STALE // MICROSECOND, replaced), DAY // MICROSECOND)
    rows = np.flatnonzero(snapshots.known & (ends > begins))
    begins, ends = begins[rows], ends[rows]
    # where a snapshot stands over an edge of buckets, its time is cut there
    first = begins // _FINEST
    pieces = (ends - 1) // _FINEST - first + 1
    place = np.repeat(np.arange(len(rows)), pieces)
    buckets = first[place] + np.arange(len(place)) - (np.cumsum(pieces) - pieces)[place]
    durations = np.minimum(ends[place], (buckets + 1) * _FINEST) - np.maximum(begins[place], buckets * _FINEST)
    rows = rows[place]
    # one after another onto the totals: a sum of its own for each table would round differently for other cuts
    np.add.at(books.known, buckets, durations)
    for name, sums in books.sums.items():
        np.add.at(sums, buckets, snapshots.values[name][rows] * durations)
