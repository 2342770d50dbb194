"""Rows that are known of but cannot be read: the reason comes when they are read, and fails them alone."""

from collections.abc import Iterator
from datetime import date

import pyarrow as pa

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.rows import DayRows, Rejects

_SHOWN = 10


def unreadable(day: date, instrument: Instrument | None, origin: str, why: str) -> DayRows:
    """A day's rows of an instrument (or of a symbol that none is known of), reading which raises a SourceError."""

    def read(_: Rejects) -> Iterator[pa.RecordBatch]:
        raise SourceError(why)

    return DayRows(day, instrument, origin, read)


def unknown_symbols(day: date, origin: str, venue: str, symbols: list[str]) -> DayRows:
    """The rows of symbols that may be meant, but that no rule tells apart."""
    some = ", ".join(symbols[:_SHOWN]) + (", …" if len(symbols) > _SHOWN else "")
    return unreadable(
        day,
        None,
        origin,
        f"{origin}: {len(symbols)} symbols of {venue} may be meant, but no rule tells what they are: {some}; they are "
        "left out: name the instruments that you want one by one in MARKET_DATA_INSTRUMENTS",
    )
