"""How far a step has come: told to the run's log from time to time, and to whoever listens in this process."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date

from market_data_pipeline.lake.day_files import DayFile, Failure

EVERY = 10.0
"""Seconds between two lines in the log."""


@dataclass(frozen=True)
class Progress:
    """What a step has done so far.

    Attributes:
        asset: the asset that it makes.
        latest: the instrument's day that was done last.
        day: its place among the days of the run, counted from 1.
        days: how many these are.
        files: instruments' days that are done, those that failed among them.
        rows: rows of these.
        seconds: since the step began to write.
    """

    asset: str
    latest: DayFile | Failure
    day: int
    days: int
    files: int
    rows: int
    seconds: float

    def __str__(self) -> str:
        which = str(self.latest.instrument or "all instruments")
        speed = f"{self.rows / self.seconds:,.0f} rows a second" if self.seconds else ""
        return (
            f"{self.asset}: {self.files:,} files, {self.rows:,} rows, {speed}; "
            f"{which} on {self.latest.day} (day {self.day} of {self.days})"
        )


Listener = Callable[[Progress], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Has all steps that run in this thread tell a listener of each instrument's day as it is done."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@dataclass
class Teller:
    """Counts what a step has done, and tells of it. Not for several threads at once.

    Args:
        asset: the asset that it makes.
        days: the days of the run.
        log: the run's log.
    """

    asset: str
    days: Sequence[date]
    log: logging.Logger
    files: int = field(default=0, init=False)
    rows: int = field(default=0, init=False)
    _began: float = field(default_factory=time.monotonic, init=False)
    _told: float = field(default_factory=time.monotonic, init=False)

    def __call__(self, done: DayFile | Failure) -> None:
        """Takes in one instrument's day."""
        self.files += 1
        self.rows += done.span.rows if isinstance(done, DayFile) else 0
        now = time.monotonic()
        day = self.days.index(done.day) + 1 if done.day in self.days else len(self.days)
        progress = Progress(self.asset, done, day, len(self.days), self.files, self.rows, now - self._began)
        if listener := _listener.get():
            listener(progress)
        if now - self._told >= EVERY:
            self._told = now
            self.log.info("%s", progress)
