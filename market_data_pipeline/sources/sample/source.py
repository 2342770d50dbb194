"""The source `sample`: a made-up market that is the same on every machine, for any day from 2019 on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from types import MappingProxyType

import pyarrow as pa

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.sources.sample.books import DEEP, SHALLOW
from market_data_pipeline.sources.sample.columns import (
    Columns,
    batches,
    book_columns,
    chain_columns,
    liquidation_columns,
    ticker_columns,
    trade_columns,
)
from market_data_pipeline.sources.sample.listing import FIRST_DAY, LAST_DAY, Listed, listed_on, listing_table
from market_data_pipeline.sources.venues import contract_of


@dataclass(frozen=True)
class _Kind:
    """One data type of the sample.

    Attributes:
        types: which instruments have it.
        whose: the same in words.
        columns: makes one instrument's day of it.
        everyday: whether each of them has rows on every day.
    """

    types: tuple[InstrumentType, ...]
    whose: str
    columns: Callable[[Listed, date], Columns]
    everyday: bool = True


_LEVERAGED = (InstrumentType.PERPETUAL, InstrumentType.FUTURE)
# an option's book is the best bid and ask of its chain
_BOOKED = (InstrumentType.SPOT, *_LEVERAGED)

_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "trades": _Kind(tuple(InstrumentType), "all its instruments", trade_columns),
        "book_snapshot_5": _Kind(_BOOKED, "spot, perpetuals and futures", partial(book_columns, depth=SHALLOW)),
        "book_snapshot_25": _Kind(_BOOKED, "spot, perpetuals and futures", partial(book_columns, depth=DEEP)),
        "liquidations": _Kind(
            _LEVERAGED, "perpetuals and futures where prices move fast", liquidation_columns, everyday=False
        ),
        "derivative_ticker": _Kind(_LEVERAGED, "perpetuals and futures", ticker_columns),
        "options_chain": _Kind((InstrumentType.OPTION,), "options", chain_columns),
    }
)


class SampleSource:
    """Ticks of a made-up market: spot, perpetuals, futures and options of two assets on four venues.

    Made, not recorded: the prices are plausible and consistent with each other, but not history. Days are cut as a
    vendor cuts them, by its own clock, so ticks reach over midnight both ways. May be used from any thread.
    """

    name = "sample"
    data_types: tuple[str, ...] = tuple(_KINDS)
    has_listings = True
    venues: frozenset[str] | None = None

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """The instruments that have rows on a day, in the order of their ids."""
        kind = _KINDS.get(data_type)
        if kind is None:
            return
        for listed in listed_on(day):
            if listed.instrument.type in kind.types and listed.instrument in selection:
                read = partial(_read, data_type, listed, day)
                if kind.everyday or next(read(Rejects()), None) is not None:
                    yield DayRows(day, listed.instrument, self.name, read)

    def days_with(self, data_type: str, days: Iterable[date], _: Selection) -> set[date]:
        """All days of its years, of what there is every day; of the rest nobody knows before it is made."""
        kind = _KINDS.get(data_type)
        return {day for day in days if kind and kind.everyday and FIRST_DAY <= day <= LAST_DAY}

    def describe(self, data_type: str) -> str:
        """What the source holds, in one line."""
        kind = _KINDS.get(data_type)
        if kind is None:
            return f"sample holds no {data_type}, only {', '.join(self.data_types)}"
        often = "for every day " if kind.everyday else ""
        return f"sample holds {data_type} of {kind.whose} {often}from {FIRST_DAY} to {LAST_DAY}"

    def contract(self, instrument: Instrument) -> Contract:
        """How this instrument's amounts become values: the venue's built-in rule."""
        return contract_of(instrument)

    def listings(self, day: date, _: Selection) -> pa.Table:
        """The instruments that are listed at 00:00 UTC of a day and not expired; none before 2019.

        One that begins later on the day has ticks that day, but is not in its table.
        """
        return listing_table(day)


def _read(data_type: str, listed: Listed, day: date, _: Rejects) -> Iterator[pa.RecordBatch]:
    return batches(data_type, _KINDS[data_type].columns(listed, day))
