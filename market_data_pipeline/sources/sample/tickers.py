"""The tickers of the sample's perpetuals and futures: funding, open interest, last, index and mark price."""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial

import numpy as np

from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.sources.sample.listing import Listed
from market_data_pipeline.sources.sample.market import HOUR_MS, log_index, mark, premium
from market_data_pipeline.sources.sample.numbers import Draws, Grid, Integers, Reals, exp
from market_data_pipeline.sources.sample.positions import open_interest
from market_data_pipeline.sources.sample.ticks import NEVER, Ticks, beats, received, received_on, while_listed
from market_data_pipeline.sources.sample.trades import last_prices

_EVERY_MS = 5_000
_FUNDING_HOURS = 8
_INTEREST, _TOLERANCE = 1e-4, 5e-4
_CENTS, _RATES = Grid("0.01"), Grid("0.00000001")


@dataclass(frozen=True)
class Tickers(Ticks):
    """Columns of tickers.

    Attributes:
        funding_timestamp: when the next funding takes place, microseconds since 1970; NEVER for futures.
        funding_rate: of the next funding, a fraction; NaN for futures.
        predicted_funding_rate: of the one after it, as it looks so far; NaN for futures.
        open_interest: in the venue's own unit.
        last_price: of the last trade; NaN before the first.
        index_price: in dollars.
        mark_price: in the quote asset.
    """

    funding_timestamp: Integers
    funding_rate: Reals
    predicted_funding_rate: Reals
    open_interest: Reals
    last_price: Reals
    index_price: Reals
    mark_price: Reals


def day_tickers(listed: Listed, day: date) -> Tickers:
    """The tickers in the vendor's file of a day."""
    return received_on(day, partial(hour_tickers, listed))


def hour_tickers(listed: Listed, hour: int) -> Tickers:
    """The tickers of an hour by the exchange's clock, in order of time.

    Args:
        listed: a perpetual or a future; there are none before it begins or from its expiry on.
        hour: the hour, counted from 1970 (UTC).
    """
    instrument = listed.instrument
    offset = beats(f"ticker/{instrument.id}", hour, _EVERY_MS)
    timestamp = (hour * HOUR_MS + offset) * 1_000
    next_funding, rate, predicted = NEVER, np.full(len(offset), np.nan), np.full(len(offset), np.nan)
    if instrument.type is InstrumentType.PERPETUAL:
        interval = hour // _FUNDING_HOURS
        next_funding = (interval + 1) * _FUNDING_HOURS * HOUR_MS * 1_000
        minute = hour % _FUNDING_HOURS * 60 + offset // 60_000
        rate = np.full(len(offset), funding_rate(_average_premiums(instrument, interval - 1)[-1]))
        predicted = funding_rate(_average_premiums(instrument, interval)[minute])
    tickers = Tickers(
        timestamp=timestamp,
        local_timestamp=received(
            instrument.venue, timestamp, Draws("ticker", instrument.id, hour).uniform(len(offset))
        ),
        funding_timestamp=np.full(len(offset), next_funding),
        funding_rate=_RATES.nearest(rate),
        predicted_funding_rate=_RATES.nearest(predicted),
        open_interest=open_interest(listed, hour, offset),
        last_price=last_prices(listed, hour, offset),
        index_price=_CENTS.nearest(exp(log_index(instrument.base, hour, offset))),
        mark_price=_CENTS.nearest(mark(instrument, hour, offset)),
    )
    return while_listed(tickers, listed)


def funding_rate(average_premium: Reals) -> Reals:
    """The rate of a funding after eight hours with a premium: P + clamp(0.01 % − P, ±0.05 %), positive if longs pay.

    As BitMEX and Binance reckon; like BitMEX, the sample takes the average of the interval before the last funding, so
    the rate is known eight hours ahead.
    """
    return average_premium + np.clip(_INTEREST - average_premium, -_TOLERANCE, _TOLERANCE)


@lru_cache(maxsize=64)
def _average_premiums(perpetual: Instrument, interval: int) -> Reals:
    """The average premium from the start of a funding interval to each minute of it: 480 numbers."""
    minutes = np.arange(60) / 60
    hours = range(interval * _FUNDING_HOURS, (interval + 1) * _FUNDING_HOURS)
    averages = np.cumsum(np.concatenate([premium(perpetual, hour, minutes) for hour in hours]))
    averages /= np.arange(1, len(averages) + 1)
    # cached and shared between threads
    averages.flags.writeable = False
    return averages
