"""What a source of ticks is: which files it has for a day, and a stream of batches for each.

Every source (sample, files, …) fulfils `Source`; nothing here knows the lake or Dagster.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Protocol, runtime_checkable

import pyarrow as pa

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows


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

    @property
    def venues(self) -> frozenset[str] | None:
        """The only venues that this source can have, so that what the lake has of others stays; None for any."""
        ...

    @property
    def has_listings(self) -> bool:
        """Whether it has a master of instruments."""
        ...

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """What the source has of a data type for a day and a selection; nothing where it has nothing.

        Each instrument comes once. Reading happens later, in `DayRows.read`; only a file that holds many instruments
        is split when the iterator reaches it, so take one after another rather than all at once. A symbol that cannot
        be told apart comes as a DayRows without an instrument, unless it cannot be one of the selection.

        Raises:
            SourceError: the source as a whole cannot be used (folder missing, mapping file malformed).
        """
        ...

    def days_with(self, data_type: str, days: Iterable[date], selection: Selection) -> set[date]:
        """Of some days those of which the source has, or should have, something; no tick is read for it.

        Raises:
            SourceError: the source as a whole cannot be used.
        """
        ...

    def describe(self, data_type: str) -> str:
        """What the source holds, in one line, for the message when a day is empty (such as the days it has)."""
        ...

    def contract(self, instrument: Instrument) -> Contract:
        """How this instrument's amounts become values."""
        ...

    def listings(self, day: date, selection: Selection) -> pa.Table | None:
        """The instruments tradable on a day as known at its 00:00 UTC, or None where the source has no master of it.

        The schema is `model.datasets.LISTING_SCHEMA`, `known_from` is `listing`. Instruments outside the selection may
        be left out.

        Raises:
            SourceError: the master cannot be had.
        """
        ...


@runtime_checkable
class KlineSource(Protocol):
    """A source that also has the exchange's own 1m candles, to compare ours with."""

    def klines(self, instrument: Instrument, day: date) -> pa.Table | None:
        """The exchange's 1m candles of an instrument's day, rising in time; None where it has none.

        Columns: `timestamp` (the open, UTC), and any of the candles' own columns, in their units.

        Raises:
            SourceError: they cannot be had whole, or are malformed.
        """
        ...


@runtime_checkable
class WatchedSource(Protocol):
    """A source that can tell cheaply, without reading any rows, that a day would now be read otherwise than before."""

    def states(self, data_type: str, days: Iterable[date], selection: Selection) -> dict[date, str]:
        """The state in which the source has some days of a data type, as a short text for each.

        While a day's state stays the same, `files` gives the same for the day and the selection. Days of which the
        source has nothing are left out.

        Raises:
            SourceError: the source as a whole cannot be used.
        """
        ...
