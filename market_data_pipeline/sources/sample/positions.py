"""What is held open in the sample's derivatives, and which of its trades are liquidations."""

from datetime import date
from functools import partial

import numpy as np

from market_data_pipeline.sources.sample.listing import Listed
from market_data_pipeline.sources.sample.market import HOUR_MS, hour_of, recent_move
from market_data_pipeline.sources.sample.numbers import Draws, Integers, Reals, noise
from market_data_pipeline.sources.sample.ticks import received_on
from market_data_pipeline.sources.sample.trades import Trades, hour_trades

_GROWING_HOURS = 120
# the move of five minutes from which on positions are liquidated, and the share of trades that are so at twice as much
_CALM, _SHARE = 0.0025, 0.2


def open_interest(listed: Listed, hour: int, offset: Integers) -> Reals:
    """What is held open at some milliseconds into an hour, in the venue's own unit: above zero, without jumps.

    In what expires it grows from almost nothing at its listing.
    """
    key, within = f"open interest/{listed.instrument.id}", offset / HOUR_MS
    slow = noise(key, hour // 72, (hour % 72 + within) / 72)
    fast = noise(f"{key}/fast", hour // 6, (hour % 6 + within) / 6)
    size = 1.0 + 0.35 * noise(f"{key}/size", 0, 0.0)
    lots = listed.terms.open_interest * size * (1.0 + 0.12 * slow + 0.02 * fast)
    if listed.end is not None:
        age = np.maximum(hour + within - hour_of(listed.start), 0.0)
        lots = lots * (age / (age + _GROWING_HOURS))
    return listed.terms.lot.values(1 + lots.astype(np.int64))


def day_liquidations(listed: Listed, day: date) -> Trades:
    """The liquidations in the vendor's file of a day; on a calm one there may be none."""
    return received_on(day, partial(hour_liquidations, listed))


def hour_liquidations(listed: Listed, hour: int) -> Trades:
    """The trades of an hour that closed a position by force: longs by sells in a fall, shorts by buys in a rise."""
    trades = hour_trades(listed, hour)
    move = recent_move(listed.instrument.base, hour, trades.timestamp // 1_000 - hour * HOUR_MS)
    against = np.where(trades.buy, move, -move)
    chance = np.clip(against / _CALM - 1.0, 0.0, 1.0) * _SHARE
    return trades.take(Draws("liquidations", listed.instrument.id, hour).uniform(len(chance)) < chance)
