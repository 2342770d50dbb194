"""What all ticks of the sample share: the moments at which they come, their two clocks, the vendor's cut into days."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from types import MappingProxyType
from typing import Self, TypeVar

import numpy as np

from market_data_pipeline.model.windows import DAY, microseconds, midnight
from market_data_pipeline.sources.sample.listing import Listed
from market_data_pipeline.sources.sample.market import HOUR_MS, hour_of
from market_data_pipeline.sources.sample.numbers import Booleans, Draws, Integers, Reals, spiky


@dataclass(frozen=True)
class Clock:
    """How what happens on a venue reaches the vendor.

    Attributes:
        delay: the least time from the exchange's stamp to the vendor's, in microseconds; below zero where the vendor's
            clock is behind the exchange's.
        jitter: the typical time on top of it, in microseconds.
    """

    delay: int
    jitter: int


_CLOCKS = MappingProxyType(
    {
        "binance": Clock(9_000, 4_000),
        "binance-futures": Clock(180_000, 15_000),
        "binance-delivery": Clock(60_000, 10_000),
        "deribit": Clock(-320_000, 6_000),
    }
)
NEVER = -1
"""A time that does not come, such as the next funding of a future."""

# no delay is longer than this many jitters, half a minute at most: a file needs one hour beyond either of its ends
_LONGEST_JITTER = 2_000.0


@dataclass(frozen=True)
class Ticks:
    """Columns of ticks, a row for each; the kinds of ticks add theirs.

    Attributes:
        timestamp: the exchange's time, microseconds since 1970 (whole milliseconds).
        local_timestamp: the vendor's, microseconds since 1970.
    """

    timestamp: Integers
    local_timestamp: Integers

    def take(self, rows: Integers | Booleans) -> Self:
        """These rows, in this order."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one after another."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


_Ticks = TypeVar("_Ticks", bound=Ticks)


def received_on(day: date, hour_ticks: Callable[[int], _Ticks]) -> _Ticks:
    """The vendor's file of a day: what it received on that day by its clock, in that order.

    Args:
        day: which day, UTC.
        hour_ticks: gives the ticks of an hour (counted from 1970) by the exchange's clock.
    """
    start, end = microseconds(midnight(day)), microseconds(midnight(day) + DAY)
    first = hour_of(midnight(day))
    parts = [hour_ticks(hour) for hour in range(first - 1, first + 25)]
    ticks = type(parts[0]).joined(parts)
    ticks = ticks.take((ticks.local_timestamp >= start) & (ticks.local_timestamp < end))
    return ticks.take(np.argsort(ticks.local_timestamp, kind="stable"))


def received(venue: str, timestamp: Integers, uniform: Reals) -> Integers:
    """When the vendor receives what a venue stamps at some times: soon after, by chance; microseconds since 1970."""
    clock = _CLOCKS[venue]
    return timestamp + clock.delay + (spiky(uniform, _LONGEST_JITTER) * clock.jitter).astype(np.int64)


def while_listed(ticks: _Ticks, listed: Listed) -> _Ticks:
    """The ticks from the instrument's start to before its expiry."""
    start = microseconds(listed.start)
    # by the vendor's clock too: no file holds what was received before the sample's first day
    listing = (ticks.timestamp >= start) & (ticks.local_timestamp >= start)
    if listed.end is not None:
        listing &= ticks.timestamp < microseconds(listed.end)
    return ticks if listing.all() else ticks.take(listing)


def beats(key: str, hour: int, every: int) -> Integers:
    """Moments about every so many milliseconds: rising milliseconds into the hour, one in each such stretch of it."""
    starts = np.arange(0, HOUR_MS, every)
    return starts + (Draws("beats", key, hour).uniform(len(starts)) * every).astype(np.int64)
