"""A grouped file of Tardis (all instruments of a type) as one DayRows for each instrument."""

from collections.abc import Callable, Iterator
from datetime import date
from functools import partial

from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, unreadable
from market_data_pipeline.sources.formats.grouped import split_tardis
from market_data_pipeline.sources.formats.unpack import Packed
from market_data_pipeline.sources.selecting import may_be_meant


def split_grouped(
    packed: Packed,
    dataset: Dataset,
    day: date,
    exchange: str,
    kind: InstrumentType,
    instrument_of: Callable[[str, str], Instrument],
    selection: Selection,
) -> Iterator[DayRows]:
    """Reads a grouped file once, when the first DayRows is asked for, and gives out its instruments.

    Args:
        packed: the file.
        dataset: which tick dataset it holds.
        day: the file's day.
        exchange: the vendor's exchange id.
        kind: the type of the group's instruments.
        instrument_of: tells the instrument of an exchange's symbol; raises InstrumentError.
        selection: which instruments are wanted.

    Yields:
        The selected instruments in order, then the symbols that may be meant and could not be told apart, which cannot
        be read; of a file without rows, one without an instrument and without rows.

    Raises:
        SourceError: the file cannot be had, or cannot be used.
    """
    held = split_tardis(packed, dataset, day, exchange, partial(instrument_of, exchange), selection)
    for instrument in held.instruments:
        yield DayRows(day, instrument, packed.name, partial(held.read, instrument))
    for unknown in held.unknown:
        if may_be_meant(selection, exchange, kind, unknown.symbol):
            yield unreadable(day, None, packed.name, unknown.message)
    if held.empty:
        yield DayRows(day, None, packed.name, lambda _: iter(()))
