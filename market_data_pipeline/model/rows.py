"""Rows on their way into the lake: one instrument's day of one dataset, streamed."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument

Rejects = Counter[str]
"""Rows set aside while reading, counted by reason (the reason names the first place)."""


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
            cannot be used are left out and counted in the Rejects that it is given. Raises SourceError, with file and
            line where there is one, when the input as a whole cannot be trusted (torn, column missing, no number).
    """

    day: date
    instrument: Instrument | None
    origin: str
    read: Callable[[Rejects], Iterator[pa.RecordBatch]]


def unreadable(day: date, instrument: Instrument | None, origin: str, why: str | SourceError) -> DayRows:
    """Rows that are known of but cannot be had: reading them raises a SourceError, which fails them alone."""
    error = why if isinstance(why, SourceError) else SourceError(why)

    def read(_: Rejects) -> Iterator[pa.RecordBatch]:
        raise error

    return DayRows(day, instrument, origin, read)
