"""What quality is spoken of in: what may be odd about a day's rows, the thresholds, and a rule that looks for it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data_pipeline.model.windows import EPOCH

Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
MINUTE = timedelta(minutes=1) // timedelta(microseconds=1)
SECOND = timedelta(seconds=1) // timedelta(microseconds=1)


class Flaw(StrEnum):
    """What may be odd about the rows of an instrument's day."""

    DUPLICATE_IDS = "duplicate_ids"
    MISSING_IDS = "missing_ids"
    OUT_OF_ORDER = "out_of_order"
    GAPS = "gaps"
    PRICE_JUMPS = "price_jumps"
    NOT_POSITIVE = "not_positive"
    CROSSED_BOOKS = "crossed_books"
    ONE_SIDED_BOOKS = "one_sided_books"
    LEVEL_ORDER = "level_order"
    FLAT_PRICES = "flat_prices"


def _threshold(default: float, meaning: str) -> float:
    value: float = field(default=default, metadata={"meaning": meaning, "most": math.inf})
    return value


def _share(default: float, meaning: str) -> float:
    value: float = field(default=default, metadata={"meaning": meaning, "most": 1.0})
    return value


@dataclass(frozen=True)
class Thresholds:
    """From where on something is odd; each has its meaning, with the unit, and the most that it may be beside it."""

    duplicate_ids: float = _threshold(0, "rows that may repeat a trade id of the day")
    missing_ids: float = _threshold(0, "numbers that may be missing from trade ids that are consecutive otherwise")
    late_seconds: float = _threshold(60, "seconds by which a tick may come after one that the exchange made later")
    gap_minutes: float = _threshold(10, "minutes without a tick that are no gap yet")
    flat_minutes: float = _threshold(60, "minutes in which the price of the candles may stand still")
    gap_factor: float = _threshold(
        10, "how many times the instrument's own rhythm (99 of 100 of the day's pauses are shorter) a gap must last"
    )
    jump: float = _share(0.02, "fraction by which a price may jump and return")
    jump_factor: float = _threshold(
        10, "how many times the instrument's own moves (99 of 100 of the day's are smaller) such a jump must be"
    )
    crossed_share: float = _share(
        0.0001, "share of the time between a day's books in which a book may be crossed or locked"
    )
    one_sided_share: float = _share(
        0.01, "share of the time between a day's books in which a book may lack a side; not of options"
    )


def setting(threshold: str) -> str:
    """The name of the setting of a threshold."""
    return f"MARKET_DATA_QUALITY_{threshold.upper()}"


@dataclass(frozen=True)
class Oddity:
    """Something odd about an instrument's day: one for each flaw, however often it is there.

    Attributes:
        flaw: what it is.
        text: how often, where first, how bad.
        limits: the thresholds that say so.
        advice: what to do.
    """

    flaw: Flaw
    text: str
    limits: tuple[str, ...]
    advice: str


class Rule(Protocol):
    """Looks for one flaw in rows that come in pieces, in the order of their file.

    Bounded in memory, but for `ids.Ids`, which says what it keeps.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        ...

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        ...

    def found(self) -> Iterator[Oddity]:
        """What is odd about all of them; asked once, at the end."""
        ...


class Largest:
    """The `MOST` largest of some things with what is told of each, the earlier ones where they are equal."""

    MOST = 10_000

    def __init__(self) -> None:
        self._kept: list[tuple[npt.NDArray[Any], ...]] = []
        self._count = 0

    def add(self, *columns: npt.NDArray[Any]) -> None:
        """Takes some things, their sizes first."""
        self._kept.append(columns)
        self._count += len(columns[0])
        if self._count > 2 * self.MOST:
            self._kept = [self.all()]
            self._count = self.MOST

    def all(self) -> tuple[npt.NDArray[Any], ...]:
        """What is kept, in the order in which it came; something must have been added."""
        columns = [np.concatenate(parts) for parts in zip(*self._kept, strict=True)]
        kept = np.sort(np.argsort(-columns[0], kind="stable")[: self.MOST])
        return tuple(column[kept] for column in columns)


def stamps_of(rows: pa.Table, column: str = "timestamp") -> Integers:
    """A column of times as microseconds since 1970 UTC."""
    return np.asarray(rows.column(column).combine_chunks().view(pa.int64()))


def reals_of(rows: pa.Table, column: str) -> Reals:
    """A column of numbers; a null is nan."""
    return np.asarray(rows.column(column).to_numpy())


def clock(stamp: int) -> str:
    """A time of day, for people."""
    return (EPOCH + timedelta(microseconds=int(stamp))).strftime("%H:%M:%S.%f")[:-3]


def at_least(count: int, what: str, whats: str) -> str:
    """As `plural`, of things of which the largest were kept."""
    return f"{'at least ' if count >= Largest.MOST else ''}{plural(count, what, whats)}"


def plural(count: int, what: str, whats: str = "") -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {what if count == 1 else whats or what + 's'}"
