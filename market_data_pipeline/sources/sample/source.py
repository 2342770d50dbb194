"""The source `sample`: a made-up market that is the same on every machine, for any day from 2019 on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from types import MappingProxyType

import pyarrow as pa

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.sources.sample.books import DEEP, SHALLOW, day_books
from market_data_pipeline.sources.sample.chain import day_chain
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
from market_data_pipeline.sources.sample.positions import day_liquidations
from market_data_pipeline.sources.sample.tickers import day_tickers
from market_data_pipeline.sources.sample.trades import day_trades
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
_BOOKED = (InstrumentType.SPOT, *_LEVERAGED)
_OPTIONS = (InstrumentType.OPTION,)

# an option's book is the best bid and ask of its chain
_KINDS: Mapping[str, _Kind] = MappingProxyType(
    {
        "trades": _Kind(
            (*_BOOKED, *_OPTIONS), "all its instruments", lambda each, day: trade_columns(day_trades(each, day), each)
        ),
        "book_snapshot_5": _Kind(
            _BOOKED, "spot, perpetuals and futures", lambda each, day: book_columns(day_books(each, day, SHALLOW), each)
        ),
        "book_snapshot_25": _Kind(
            _BOOKED, "spot, perpetuals and futures", lambda each, day: book_columns(day_books(each, day, DEEP), each)
        ),
        "liquidations": _Kind(
            _LEVERAGED,
            "perpetuals and futures, where prices move fast,",
            lambda each, day: liquidation_columns(day_liquidations(each, day), each),
            everyday=False,
        ),
        "derivative_ticker": _Kind(
            _LEVERAGED, "perpetuals and futures", lambda each, day: ticker_columns(day_tickers(each, day), each)
        ),
        "options_chain": _Kind(_OPTIONS, "options", lambda each, day: chain_columns(day_chain(each, day), each)),
    }
)


class SampleSource:
    """Ticks of a made-up market: spot, perpetuals, futures and options of two assets on four venues.

    Made, not recorded: the prices are plausible and consistent with each other, but not history. Days are cut as a
    vendor cuts them, by its own clock, so ticks reach over midnight both ways. May be used from any thread.
    """

    name = "sample"
    data_types: tuple[str, ...] = tuple(_KINDS)

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """The instruments that have rows on a day, in the order of their ids."""
        kind = _KINDS.get(data_type)
        if kind is None:
            return
        for listed in listed_on(day):
            if listed.instrument.type in kind.types and listed.instrument in selection:
                read = partial(_read, data_type, listed, day)
                if kind.everyday or any(True for _ in read(Rejects())):
                    yield DayRows(day, listed.instrument, self.name, read)

    def describe(self, data_type: str) -> str:
        """What the source holds, in one line."""
        kind = _KINDS.get(data_type)
        if kind is None:
            return f"sample holds no {data_type}, only {', '.join(self.data_types)}"
        return f"sample holds {data_type} of {kind.whose} for every day from {FIRST_DAY} to {LAST_DAY}"

    def contract(self, instrument: Instrument) -> Contract:
        """How this instrument's amounts become values: the venue's built-in rule."""
        return contract_of(instrument)

    def listings(self, day: date) -> pa.Table | None:
        """The instruments that are listed at 00:00 UTC of a day and not expired; none before 2019.

        One that begins later on the day has ticks that day, but is not in its table.
        """
        return listing_table(day)


def _read(data_type: str, listed: Listed, day: date, _: Rejects) -> Iterator[pa.RecordBatch]:
    return batches(data_type, _KINDS[data_type].columns(listed, day))
