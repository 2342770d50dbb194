"""The trades of the sample: orders that arrive in bursts, their fills, and the vendor's cut of them into days."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from types import MappingProxyType

import numpy as np

from market_data_pipeline.model.windows import DAY, microseconds, midnight
from market_data_pipeline.sources.sample.listing import Listed, Terms
from market_data_pipeline.sources.sample.market import HOUR_MS, hour_of, quotes, turbulence
from market_data_pipeline.sources.sample.numbers import Booleans, Draws, Integers, Reals, spiky

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


@dataclass(frozen=True)
class Clock:
    """How a venue's trades reach the vendor.

    Attributes:
        delay: the least time from the exchange's stamp to the vendor's, in microseconds; below zero where the vendor's
            clock is behind the exchange's.
        jitter: the typical time on top of it, in microseconds.
    """

    delay: int
    jitter: int


_CLOCKS = MappingProxyType(
    {
        "binance": Clock(9_000, 4_000),
        "binance-futures": Clock(180_000, 15_000),
        "binance-delivery": Clock(60_000, 10_000),
        "deribit": Clock(-320_000, 6_000),
    }
)
# no delay is longer than this many jitters, half a minute at most: a file needs one hour beyond either of its ends
_LONGEST_JITTER = 2_000.0
_FILL_GAP_US = 6


@dataclass(frozen=True)
class Trades:
    """Columns of trades.

    Attributes:
        timestamp: the exchange's time, microseconds since 1970 (whole milliseconds).
        local_timestamp: the vendor's, microseconds since 1970.
        number: the venue's number of the trade, rising in the order of trading.
        buy: whether the taker bought.
        price: in the quote asset.
        amount: in the venue's own unit.
    """

    timestamp: Integers
    local_timestamp: Integers
    number: Integers
    buy: Booleans
    price: Reals
    amount: Reals

    def take(self, rows: Integers | Booleans) -> "Trades":
        """These rows, in this order."""
        return Trades(*(getattr(self, field.name)[rows] for field in fields(Trades)))

    @staticmethod
    def joined(parts: "Sequence[Trades]") -> "Trades":
        """The rows of all parts, one after another."""
        return Trades(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Trades)))


def day_trades(listed: Listed, day: date) -> Trades:
    """The trades in the vendor's file of a day: those that it received on that day by its clock, in that order."""
    start, end = microseconds(midnight(day)), microseconds(midnight(day) + DAY)
    first = hour_of(midnight(day))
    trades = Trades.joined([hour_trades(listed, hour) for hour in range(first - 1, first + 25)])
    trades = trades.take((trades.local_timestamp >= start) & (trades.local_timestamp < end))
    return trades.take(np.argsort(trades.local_timestamp, kind="stable"))


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
    fills = np.minimum(1.0 / np.sqrt(draws.uniform(len(offset))), _MOST_FILLS).astype(np.int64)
    worse = draws.uniform(len(offset)) * terms.depth * ask
    clock = _CLOCKS[instrument.venue]
    late = (spiky(draws.uniform(len(offset)), _LONGEST_JITTER) * clock.jitter).astype(np.int64)

    order = np.repeat(np.arange(len(offset)), fills)
    fill = np.arange(len(order)) - np.repeat(np.cumsum(fills) - fills, fills)
    steps = (fill * worse[order]).astype(np.int64)
    ticks = np.where(buy[order], ask[order] + steps, np.maximum(bid[order] - steps, 1))
    lots = (terms.lots * spiky(draws.uniform(len(order)), 60.0)).astype(np.int64)
    timestamp = (hour * HOUR_MS + offset[order]) * 1_000
    trades = Trades(
        timestamp=timestamp,
        local_timestamp=timestamp + clock.delay + late[order] + fill * _FILL_GAP_US,
        number=hour * NUMBERS_AN_HOUR + np.arange(len(order)),
        buy=buy[order],
        price=terms.tick.values(ticks),
        amount=terms.lot.values(np.maximum(lots, 1)),
    )
    return _while_listed(trades, listed)


def _while_listed(trades: Trades, listed: Listed) -> Trades:
    start = microseconds(listed.start)
    # by the vendor's clock too: no file holds what was received before the sample's first day
    listing = (trades.timestamp >= start) & (trades.local_timestamp >= start)
    if listed.end is not None:
        listing &= trades.timestamp < microseconds(listed.end)
    return trades if listing.all() else trades.take(listing)


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
