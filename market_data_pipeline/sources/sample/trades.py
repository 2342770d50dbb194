"""The trades of the sample: orders that arrive in bursts, and their fills."""

import math
from dataclasses import dataclass, fields
from datetime import date
from functools import lru_cache, partial

import numpy as np

from market_data_pipeline.sources.sample.listing import Listed, Terms
from market_data_pipeline.sources.sample.market import HOUR_MS, hour_of, quotes, turbulence
from market_data_pipeline.sources.sample.numbers import Booleans, Draws, Integers, Reals, spiky
from market_data_pipeline.sources.sample.ticks import Ticks, received, received_on, while_listed

NUMBERS_AN_HOUR = 1_000_000
"""Trade numbers set aside for each hour, many more than it can have: so they rise without being counted from 2019."""

_MINUTE_MS = 60_000
_MOST_FILLS = 12
_FILLS_AN_ORDER = 1.56
_ANCHORS = 3
_IN_BURSTS = 0.55
_BURST_MS, _RUSH_MS = 30, 150
# share of an average hour's trades, hour by hour (UTC): Asia's morning, Europe, and most when New York opens
_PROFILE = (
    1.1, 0.95, 0.85, 0.75, 0.7, 0.7, 0.75, 0.9, 1.05, 1.0, 0.95, 0.9,
    1.1, 1.4, 1.7, 1.6, 1.45, 1.25, 1.1, 1.0, 0.95, 0.9, 0.8, 0.8,
)  # fmt: skip
_WEEKEND = 0.65
_FILL_GAP_US = 6


@dataclass(frozen=True)
class Trades(Ticks):
    """Columns of trades.

    Attributes:
        number: the venue's number of the trade, rising in the order of trading.
        buy: whether the taker bought.
        price: in the quote asset.
        amount: in the venue's own unit.
    """

    number: Integers
    buy: Booleans
    price: Reals
    amount: Reals


def day_trades(listed: Listed, day: date) -> Trades:
    """The trades in the vendor's file of a day."""
    return received_on(day, partial(hour_trades, listed))


# books, tickers and chains of an hour ask for it again
@lru_cache(maxsize=64)
def hour_trades(listed: Listed, hour: int) -> Trades:
    """The trades of an hour by the exchange's clock, in the order of trading.

    Args:
        listed: the instrument; nothing is traded before it begins or from its expiry on.
        hour: the hour, counted from 1970 (UTC).
    """
    terms, instrument = listed.terms, listed.instrument
    draws = Draws("trades", instrument.id, hour)
    offset, buy = _orders(terms, hour, draws)
    bid, ask = quotes(instrument, terms.tick, terms.spread, hour, offset)
    # nobody can sell where nobody bids
    buy |= bid == 0
    fills = np.minimum(1.0 / np.sqrt(draws.uniform(len(offset))), _MOST_FILLS).astype(np.int64)
    worse = draws.uniform(len(offset)) * terms.depth * ask
    late = draws.uniform(len(offset))

    order = np.repeat(np.arange(len(offset)), fills)
    fill = np.arange(len(order)) - np.repeat(np.cumsum(fills) - fills, fills)
    steps = (fill * worse[order]).astype(np.int64)
    ticks = np.where(buy[order], ask[order] + steps, np.maximum(bid[order] - steps, 1))
    lots = (terms.lots * spiky(draws.uniform(len(order)), 60.0)).astype(np.int64)
    timestamp = (hour * HOUR_MS + offset[order]) * 1_000
    trades = Trades(
        timestamp=timestamp,
        local_timestamp=received(instrument.venue, timestamp, late[order]) + fill * _FILL_GAP_US,
        number=hour * NUMBERS_AN_HOUR + np.arange(len(order)),
        buy=buy[order],
        price=terms.tick.values(ticks),
        amount=terms.lot.values(np.maximum(lots, 1)),
    )
    trades = while_listed(trades, listed)
    for field in fields(trades):
        # cached and shared between threads
        getattr(trades, field.name).flags.writeable = False
    return trades


def last_prices(listed: Listed, hour: int, offset: Integers) -> Reals:
    """The price of the last trade at or before some milliseconds into an hour; NaN before the instrument's first."""
    trades = hour_trades(listed, hour)
    prices = np.concatenate([[_last_price_before(listed, hour)], trades.price])
    return prices[np.searchsorted(trades.timestamp, (hour * HOUR_MS + offset) * 1_000, side="right")]


@lru_cache(maxsize=1_024)
def _last_price_before(listed: Listed, hour: int) -> float:
    for earlier in range(hour - 1, hour_of(listed.start) - 1, -1):
        trades = hour_trades(listed, earlier)
        if len(trades.price):
            return float(trades.price[-1])
    return math.nan


def _orders(terms: Terms, hour: int, draws: Draws) -> tuple[Integers, Booleans]:
    """When the takers' orders of an hour arrive (rising milliseconds into it), and whether each buys.

    Some come on their own, some soon after one of a minute's few anchors and mostly on its side, and some are timed by
    the full hour.
    """
    minute = np.repeat(np.arange(60), _orders_a_minute(terms, hour, draws))
    count = len(minute)
    anchor = (minute, (draws.uniform(count) * _ANCHORS).astype(np.int64))
    anchors = draws.uniform(60 * _ANCHORS).reshape(60, _ANCHORS)[anchor]
    anchor_buys = draws.uniform(60 * _ANCHORS).reshape(60, _ANCHORS)[anchor] < 0.5
    burst = anchors * _MINUTE_MS + _soon(draws.uniform(count), _BURST_MS)
    in_burst = (draws.uniform(count) < _IN_BURSTS) & (burst < _MINUTE_MS)
    alone = draws.uniform(count) * _MINUTE_MS
    ordinary = minute * _MINUTE_MS + np.where(in_burst, burst, alone).astype(np.int64)
    buying = np.where(in_burst, np.where(anchor_buys, 0.85, 0.15), 0.5)

    rush = np.minimum(_soon(draws.uniform(2 * terms.rush), _RUSH_MS), _MINUTE_MS - 1).astype(np.int64)
    rush[terms.rush :] = HOUR_MS - 1 - rush[terms.rush :]
    offset = np.concatenate([ordinary, rush])
    buy = draws.uniform(len(offset)) < np.concatenate([buying, np.full(len(rush), 0.5)])
    order = np.argsort(offset, kind="stable")
    return offset[order], buy[order]


def _orders_a_minute(terms: Terms, hour: int, draws: Draws) -> Integers:
    # 1970-01-01 was a Thursday
    weekend = _WEEKEND if (hour // 24 + 3) % 7 >= 5 else 1.0
    average = terms.trades / _FILLS_AN_ORDER / 1_440 * _PROFILE[hour % 24] * weekend
    pace = average * turbulence(hour) * spiky(draws.uniform(60), 4.0)
    pace[draws.uniform(60) < terms.quiet] = 0.0
    return np.floor(pace + draws.uniform(60)).astype(np.int64) * (pace > 0)


def _soon(uniform: Reals, typical: float) -> Reals:
    """Waiting times: half of them shorter than the typical one, some very much longer."""
    return typical * (1.0 / uniform - 1.0)
