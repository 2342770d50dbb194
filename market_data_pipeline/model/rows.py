"""Rows on their way into the lake: one instrument's day of one dataset, streamed."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument


@dataclass(frozen=True)
class Reject:
    """One row that was set aside.

    Attributes:
        origin: the name of the file that it stands in, without folder or host.
        line: the line of the file, counted from 1.
        reason: what is wrong with it.
        text: the line as it stood; a very long one is cut.
    """

    origin: str
    line: int
    reason: str
    text: str


@dataclass
class Rejects:
    """The rows of one file that were set aside while it was read: all are counted, a bounded number is kept.

    Attributes:
        counts: how many, by reason.
        places: the first place of each reason, and what was found there.
        rows: the first of each reason, in no particular order.
    """

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, str] = field(default_factory=dict)
    rows: list[Reject] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.counts)

    @property
    def because(self) -> dict[str, int]:
        """How many, by reason with its first place."""
        return {f"{reason} (first in {self.places[reason]})": count for reason, count in self.counts.items()}

    def take(self, others: "Rejects") -> None:
        """Adds what another one holds, which stays as it is."""
        self.counts.update(others.counts)
        self.places = others.places | self.places
        self.rows.extend(others.rows)


def _cannot_tell(_: object) -> None:
    return None


def _tells_nobody(_: Mapping[str, int]) -> None:
    return None


@dataclass(frozen=True)
class DayRows:
    """One day of one dataset: of one instrument, or of all where the dataset's day file holds all.

    Attributes:
        day: the partition; for ticks the source's day, by the source's own cut.
        instrument: whose rows these are; None where the dataset's day file holds all instruments, and where a source's
            symbol could not be told apart. In that case `read` raises the SourceError that says how to declare it.
        origin: where the rows come from (a path, a URL, `sample`), for messages.
        read: streams the rows, in the source's own order, as record batches of the dataset's own columns
            (`Dataset.own_schema`: times in UTC microseconds). May be called again and from any thread. Rows that
            cannot be used are left out and told to the Rejects that it is given. Raises SourceError, with file and
            line where there is one, when the input as a whole cannot be trusted (torn, column missing, no number).
        made_from: a text that stands for all that the rows are made from beside the code: contents of files, settings.
            While it stays the same, `read` gives the same rows. None where it cannot be told without reading them. What
            calls with one and the same object find out they may share; with another one they look anew.
        facts: what reading found out beside the rows, by name; complete once they have been read.
        recall: called with these facts instead of a reading that the lake can do without.
    """

    day: date
    instrument: Instrument | None
    origin: str
    read: Callable[[Rejects], Iterator[pa.RecordBatch]]
    made_from: Callable[[object], str | None] = _cannot_tell
    facts: dict[str, int] = field(default_factory=dict, compare=False)
    recall: Callable[[Mapping[str, int]], None] = _tells_nobody


def unreadable(day: date, instrument: Instrument | None, origin: str, why: str | SourceError) -> DayRows:
    """Rows that are known of but cannot be had: reading them raises a SourceError, which fails them alone."""
    error = why if isinstance(why, SourceError) else SourceError(why)

    def read(_: Rejects) -> Iterator[pa.RecordBatch]:
        raise error

    return DayRows(day, instrument, origin, read)
