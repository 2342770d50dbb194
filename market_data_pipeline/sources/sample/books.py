"""The books of the sample: snapshots about every few seconds, and one at each taker's order."""

from dataclasses import dataclass
from datetime import date
from functools import partial

import numpy as np

from market_data_pipeline.sources.sample.listing import Listed
from market_data_pipeline.sources.sample.market import HOUR_MS, quotes
from market_data_pipeline.sources.sample.numbers import Booleans, Draws, Integers, Reals, spiky
from market_data_pipeline.sources.sample.ticks import Ticks, beats, received, received_on, while_listed
from market_data_pipeline.sources.sample.trades import hour_trades

SHALLOW, DEEP = 5, 25
"""How many levels a side the two kinds of snapshots have."""

_EVERY_MS = 5_000
# deep snapshots: every fourth beat, and where orders took at least so many fills
_DEEP_BEATS, _DEEP_FILLS = 4, 4
_MORE_LEVELS = 30
_LOTS = 2.5


@dataclass(frozen=True)
class Books(Ticks):
    """Columns of snapshots; prices and amounts have a row for each snapshot and a column for each level, best first.

    Attributes:
        ask_price: in the quote asset; NaN where the side has no such level, as in the others.
        ask_amount: in the venue's own unit.
        bid_price: in the quote asset.
        bid_amount: in the venue's own unit.
    """

    ask_price: Reals
    ask_amount: Reals
    bid_price: Reals
    bid_amount: Reals


def day_books(listed: Listed, day: date, depth: int) -> Books:
    """The snapshots in the vendor's file of a day; `depth` as in hour_books."""
    return received_on(day, partial(hour_books, listed, depth=depth))


def hour_books(listed: Listed, hour: int, depth: int) -> Books:
    """The snapshots of an hour by the exchange's clock, in order of time, each with the quotes of its moment.

    At the time of a deep snapshot there is a shallow one too, with the same first levels.

    Args:
        listed: the instrument; it has no book before it begins or from its expiry on.
        hour: the hour, counted from 1970 (UTC).
        depth: SHALLOW or DEEP.
    """
    terms, instrument = listed.terms, listed.instrument
    offset, deep = _moments(listed, hour)
    late = Draws("book", instrument.id, hour).uniform(len(offset))
    rows = np.flatnonzero(deep) if depth == DEEP else np.arange(len(offset))
    bid, ask = quotes(instrument, terms.tick, terms.spread, hour, offset[rows])
    # a fill is on average half the depth worse than the one before: so are the levels
    typical = ask.astype(np.float64) * (terms.depth / 2)
    asks = _side(listed, Draws("asks", instrument.id, hour), deep, depth)
    bids = _side(listed, Draws("bids", instrument.id, hour), deep, depth)
    timestamp = (hour * HOUR_MS + offset[rows]) * 1_000
    books = Books(
        timestamp=timestamp,
        local_timestamp=received(instrument.venue, timestamp, late[rows]),
        ask_price=asks.prices(ask, typical, 1),
        ask_amount=asks.amounts(),
        bid_price=bids.prices(bid, typical, -1),
        bid_amount=bids.amounts(),
    )
    return while_listed(books, listed)


def _moments(listed: Listed, hour: int) -> tuple[Integers, Booleans]:
    """When the snapshots of an hour are taken, in rising milliseconds into it, and at which of them deep ones."""
    regular = beats(f"book/{listed.instrument.id}", hour, _EVERY_MS)
    of_orders, fills = np.unique(hour_trades(listed, hour).timestamp // 1_000 - hour * HOUR_MS, return_counts=True)
    offset = np.union1d(regular, of_orders)
    deep = np.concatenate([regular[::_DEEP_BEATS], of_orders[fills >= _DEEP_FILLS]])
    return offset, np.isin(offset, deep)


@dataclass(frozen=True)
class _Side:
    """One side of some snapshots; a row for each of them and a column for each level.

    Attributes:
        listed: the instrument.
        missing: which levels are not there.
        gaps: draws for the distance of each level from the one before it.
        lots: draws for the amounts.
    """

    listed: Listed
    missing: Booleans
    gaps: Reals
    lots: Reals

    def prices(self, best: Integers, typical: Reals, away: int) -> Reals:
        """The levels' prices: the best in whole ticks, then ever further up (1) or down (-1) from it."""
        steps = 1 + (typical[:, None] * (np.minimum(1.0 / np.sqrt(self.gaps), 20.0) - 1.0)).astype(np.int64)
        steps[:, 0] = 0
        ticks = best[:, None] + away * np.cumsum(steps, axis=1)
        return np.where(self.missing | (ticks < 1), np.nan, self.listed.terms.tick.values(ticks))

    def amounts(self) -> Reals:
        """The levels' amounts."""
        lots = 1 + (_LOTS * self.listed.terms.lots * spiky(self.lots, 40.0)).astype(np.int64)
        return np.where(self.missing, np.nan, self.listed.terms.lot.values(lots))


def _side(listed: Listed, draws: Draws, deep: Booleans, depth: int) -> _Side:
    # draws of all snapshots first, for the levels that both kinds have: so they are the same in both
    count, deep_count = len(deep), int(deep.sum())
    levels = listed.terms.levels + (draws.uniform(count) * _MORE_LEVELS).astype(np.int64)
    gaps = draws.uniform(count * SHALLOW).reshape(count, SHALLOW)
    lots = draws.uniform(count * SHALLOW).reshape(count, SHALLOW)
    if depth > SHALLOW:
        more = depth - SHALLOW
        levels = levels[deep]
        gaps = np.hstack([gaps[deep], draws.uniform(deep_count * more).reshape(deep_count, more)])
        lots = np.hstack([lots[deep], draws.uniform(deep_count * more).reshape(deep_count, more)])
    return _Side(listed, np.arange(depth) >= levels[:, None], gaps, lots)
