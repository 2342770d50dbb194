"""What a source of ticks is: which files it has for a day, and a stream of batches for each.

Every source (sample, files, …) fulfils `Source`; nothing here knows the lake or Dagster.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import pyarrow as pa

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.instruments import Instrument, Selection

Rejects = Counter[str]
"""Rows set aside while reading, counted by reason (the reason names the first place)."""


@dataclass(frozen=True)
class TickFile:
    """One instrument's day of one data type, as a source has it.

    Attributes:
        day: the source's day, by the source's own cut.
        instrument: whose ticks these are; None where the source's symbol could not be told apart. Then `read` raises
            the SourceError that says how to declare it.
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


class Source(Protocol):
    """Where ticks come from."""

    @property
    def name(self) -> str:
        """The name in MARKET_DATA_SOURCE."""
        ...

    @property
    def data_types(self) -> tuple[str, ...]:
        """The tick datasets that this source can give."""
        ...

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[TickFile]:
        """What the source has of a data type for a day and a selection; nothing where it has nothing.

        Each instrument comes once. Reading happens later, in `TickFile.read`; a symbol that cannot be told apart comes
        as a TickFile without an instrument, whatever the selection.

        Raises:
            SourceError: the source as a whole cannot be used (folder missing, mapping file malformed).
        """
        ...

    def describe(self, data_type: str) -> str:
        """What the source holds, in one line, for the message when a day is empty (such as the days it has)."""
        ...

    def contract(self, instrument: Instrument) -> Contract:
        """How this instrument's amounts become values."""
        ...

    def listings(self, day: date) -> pa.Table | None:
        """The instruments tradable on a day as known at its 00:00 UTC, or None where the source has no master.

        Columns: `model.datasets.LISTING_COLUMNS`, `known_from` = `listing`.
        """
        ...
