"""The source `sample`: a made-up market that is the same on every machine, for any day from 2019 on."""

from collections.abc import Iterator
from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.contracts import Contract
from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.sources.sample.listing import FIRST_DAY, LAST_DAY, Listed, listed_on, listing_table
from market_data_pipeline.sources.sample.trades import Trades, day_trades
from market_data_pipeline.sources.venues import contract_of

_BATCH_ROWS = 8_192
_SIDES = ("buy", "sell")
_TRADES = DATASETS["trades"].own_schema


class SampleSource:
    """Ticks of a made-up market: spot, perpetuals, futures and options of two assets on four venues.

    Made, not recorded: the prices are plausible and consistent with each other, but not history. Days are cut as a
    vendor cuts them, by its own clock, so trades reach over midnight both ways. May be used from any thread.
    """

    name = "sample"
    data_types: tuple[str, ...] = ("trades",)
    has_listings = True

    def files(self, data_type: str, day: date, selection: Selection) -> Iterator[DayRows]:
        """The instruments that can be traded on a day, in the order of their ids."""
        if data_type in self.data_types:
            for listed in listed_on(day):
                if listed.instrument in selection:
                    yield DayRows(day, listed.instrument, self.name, partial(_read_trades, listed, day))

    def describe(self, data_type: str) -> str:
        """What the source holds, in one line."""
        if data_type not in self.data_types:
            return f"sample holds no {data_type}, only {' and '.join(self.data_types)}"
        return f"sample holds {data_type} for every day from {FIRST_DAY} to {LAST_DAY}"

    def contract(self, instrument: Instrument) -> Contract:
        """How this instrument's amounts become values: the venue's built-in rule."""
        return contract_of(instrument)

    def listings(self, day: date, _: Selection) -> pa.Table:
        """The instruments that are listed at 00:00 UTC of a day and not expired; none before 2019.

        One that begins later on the day has ticks that day, but is not in its table.
        """
        return listing_table(day)


def _read_trades(listed: Listed, day: date, _: Rejects) -> Iterator[pa.RecordBatch]:
    trades = day_trades(listed, day)
    for start in range(0, len(trades.number), _BATCH_ROWS):
        yield _batch(trades.take(np.arange(start, min(start + _BATCH_ROWS, len(trades.number)))), listed.instrument)


def _batch(trades: Trades, instrument: Instrument) -> pa.RecordBatch:
    ids = pa.array(trades.number).cast(pa.string())
    if instrument.venue == "deribit":
        # as Deribit does for all but its oldest markets; a reader must not take ids for numbers
        ids = pc.binary_join_element_wise(f"{instrument.base}-", ids, "")
    columns = {
        "timestamp": pa.array(trades.timestamp).cast(TIME),
        "local_timestamp": pa.array(trades.local_timestamp).cast(TIME),
        "id": ids,
        "side": pa.DictionaryArray.from_arrays(pa.array(np.where(trades.buy, 0, 1).astype(np.int32)), list(_SIDES)),
        "price": pa.array(trades.price),
        "amount": pa.array(trades.amount),
    }
    return pa.record_batch([columns[name] for name in _TRADES.names], schema=_TRADES)
