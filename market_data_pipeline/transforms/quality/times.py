"""Whether times are as they should be: no gap that is long for the instrument, nothing received long after its turn."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from market_data_pipeline.model.windows import DAY, microseconds, midnight
from market_data_pipeline.transforms.quality.terms import (
    MINUTE,
    SECOND,
    Flaw,
    Integers,
    Largest,
    Oddity,
    Thresholds,
    at_least,
    clock,
    plural,
    stamps_of,
)

RHYTHM_MINUTES, BUSY_MINUTES, BUSY_SECONDS = 60, 20, 300
"""Minutes with ticks that a day must have before it has a rhythm, or fewer with so many seconds: what trades now and
then has no gaps, nor has what traded in one burst."""
_DAY = DAY // timedelta(microseconds=1)
_SHOWN = 3


@dataclass(frozen=True)
class Life:
    """What is known of an instrument on a day.

    Attributes:
        day: the day.
        since: when it was last seen before the day's ticks, in microseconds since 1970 UTC: the last tick of the day
            before, or the day's start where it is only known to have been there. None where nothing is known before it.
        to_end: whether it could be traded until the day's end.
    """

    day: date
    since: int | None = None
    to_end: bool = True

    @property
    def start(self) -> int:
        """The day's start, in microseconds since 1970 UTC."""
        return microseconds(midnight(self.day))

    @property
    def end(self) -> int:
        """The day's end, in microseconds since 1970 UTC."""
        return self.start + _DAY


class Pauses:
    """The long pauses between the events of a day, measured against the day's own rhythm.

    The rhythm is told by minutes and seconds with events, not by events: a hundred trades of one order are no rhythm.

    Args:
        life: from when to when events must come.
        least: minutes that a pause must exceed.
        factor: how many times the 99th percentile of the day's pauses it must exceed.
    """

    def __init__(self, life: Life, least: float, factor: float) -> None:
        self._life, self._least, self._factor = life, least, factor
        self._seconds = np.zeros(_DAY // SECOND, bool)
        self._last = life.since
        self._earliest = life.start if life.since is None else min(life.since, life.start)
        self._long = Largest()

    def see(self, stamps: Integers) -> None:
        """Takes the times of some events, rising; those far before the day or after it count as its edges."""
        if not len(stamps):
            return
        start, end = self._life.start, self._life.end
        inside = stamps[(stamps >= start) & (stamps < end)]
        self._seconds[(inside - start) // SECOND] = True
        self._pause(np.clip(stamps, self._earliest, end))

    def _pause(self, stamps: Integers) -> None:
        if self._last is not None:
            stamps = np.r_[self._last, stamps]
        lengths = np.diff(stamps)
        where = np.flatnonzero(lengths > self._least * MINUTE)
        self._long.add(lengths[where], stamps[where], stamps[where + 1])
        self._last = int(stamps[-1])

    def found(self) -> tuple[float, list[tuple[int, int]]]:
        """The minutes that a pause must exceed on this day, and the pauses that do; none where there is no rhythm."""
        active = np.flatnonzero(self._seconds.reshape(-1, MINUTE // SECOND).any(axis=1))
        busy = len(active) >= BUSY_MINUTES and np.count_nonzero(self._seconds) >= BUSY_SECONDS
        if len(active) < RHYTHM_MINUTES and not busy:
            return self._least, []
        if self._life.to_end:
            self._pause(np.array([self._life.end]))
        # the lower value: of fewer than a hundred pauses the longest is not its own measure
        usual = float(np.quantile(np.diff(active), 0.99, method="lower"))
        limit = max(self._least, self._factor * usual)
        _, starts, ends = self._long.all()
        # what was long enough before midnight was told of the day before
        starts = np.where(self._life.start - starts > limit * MINUTE, self._life.start, starts)
        odd = ends - starts > limit * MINUTE
        return limit, list(zip(starts[odd].tolist(), ends[odd].tolist(), strict=True))


def told(pauses: list[tuple[int, int]], limit: float) -> str:
    """The pauses in words, the longest first."""
    longest = sorted(pauses, key=lambda pause: pause[0] - pause[1])
    spans = [
        f"{clock(start)}{' of the day before' * (start // _DAY < (end - 1) // _DAY)} to {clock(end)}"
        for start, end in longest[:_SHOWN]
    ]
    more = f" and {len(pauses) - _SHOWN} more" if len(pauses) > _SHOWN else ""
    return f"{', '.join(spans)}{more}, on a day where up to {limit:g} minutes are usual"


class Gaps:
    """Gaps between ticks that are long in themselves and against the instrument's own rhythm."""

    columns = ("timestamp",)

    def __init__(self, life: Life, thresholds: Thresholds) -> None:
        self._pauses = Pauses(life, thresholds.gap_minutes, thresholds.gap_factor)

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        self._pauses.see(stamps_of(rows))

    def found(self) -> Iterator[Oddity]:
        """The gaps."""
        limit, gaps = self._pauses.found()
        if gaps:
            yield Oddity(
                Flaw.GAPS,
                f"{at_least(len(gaps), 'gap', 'gaps')}: {told(gaps, limit)}",
                ("gap_minutes", "gap_factor"),
                "fetch the day again, or look whether the venue was down",
            )


class Order:
    """Ticks that came long after their turn: the lake sorts by the exchange's time, the vendor's clock then runs back.

    A tick that came so late that sorting could not put it in its place counts, too.
    """

    columns = ("timestamp", "local_timestamp")

    def __init__(self, thresholds: Thresholds) -> None:
        self._tolerance = round(thresholds.late_seconds * SECOND)
        self._local = self._exchange = np.iinfo(np.int64).min
        self._back = False
        self._late = self._unsorted = self._worst = 0
        self._first: int | None = None

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        if rows.column("local_timestamp").null_count:
            rows = rows.filter(rows.column("local_timestamp").is_valid())
        if not rows.num_rows:
            return
        stamps, local = stamps_of(rows), stamps_of(rows, "local_timestamp")
        falls = stamps < np.r_[self._exchange, stamps[:-1]]
        if falls.any():
            self._unsorted += int(np.count_nonzero(falls))
            self._first = int(stamps[np.argmax(falls)]) if self._first is None else self._first
        self._exchange = int(stamps[-1])
        highest = np.maximum.accumulate(np.maximum(local, self._local))
        back = highest - local > self._tolerance
        if back.any():
            begins = np.flatnonzero(back & ~np.r_[self._back, back[:-1]])
            self._late += len(begins)
            self._worst = max(self._worst, int((highest - local).max()))
            self._first = self._first if self._first is not None or not len(begins) else int(stamps[begins[0]])
        self._local, self._back = int(highest[-1]), bool(back[-1])

    def found(self) -> Iterator[Oddity]:
        """How often, and by how much."""
        if self._first is None:
            return
        parts = []
        if self._late:
            parts.append(f"{plural(self._late, 'time')} a tick came up to {self._worst / SECOND:g} s after its turn")
        if self._unsorted:
            parts.append(f"{plural(self._unsorted, 'time')} the exchange's time runs back in the lake's own file")
        yield Oddity(
            Flaw.OUT_OF_ORDER,
            f"{' and '.join(parts)}, first at {clock(self._first)}",
            ("late_seconds",),
            "look at the vendor's clock there: what trades by receipt must not use these ticks at their exchange time",
        )
