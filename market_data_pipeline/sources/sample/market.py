"""The prices of the sample: one path for each asset, and what spot, perpetuals, futures and options make of it.

Everything is a closed function of the instrument and the time, so any day costs the same and neighbouring days join.
Times are an hour (counted from 1970, UTC) and milliseconds into it.
"""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from market_data_pipeline.model.instruments import Instrument, InstrumentType
from market_data_pipeline.model.windows import EPOCH
from market_data_pipeline.sources.sample import black76
from market_data_pipeline.sources.sample.numbers import Draws, Grid, Integers, Reals, exp, log, noise, spiky

HOUR_MS = 3_600_000
EXPIRY_TIME = time(8, tzinfo=UTC)
"""When futures and options expire on their last day."""

_SECONDS = 3_600
_HOURS_A_YEAR = 24 * 365.0
_DAY_OF_2019 = (date(2019, 1, 1) - EPOCH.date()).days
# price at the start of 2019 in dollars, growth a year (which slows), share of the market's and of its own moves
_ASSETS = MappingProxyType({"BTC": (5_200.0, 0.77, 0.9, 0.45), "ETH": (130.0, 1.03, 1.1, 0.7)})
# moves at lattices of 1, 2, 4 … 512 days, each √2 as large as the one before: a day moves by about 2.5 % in all
_OCTAVES, _FINEST = 10, 0.012
_HOUR_MOVE = 0.005
_PERPETUAL_PREMIUM = 6e-4
_SHORT_PREMIUM = 1.5e-4
_RECENT_MS = 300_000


def hour_of(moment: datetime) -> int:
    """The hour that a UTC time lies in, counted from 1970."""
    return int((moment - EPOCH).total_seconds()) // 3_600


def expiry_of(instrument: Instrument) -> datetime | None:
    """When a future or an option expires, UTC; None for what does not expire."""
    return None if instrument.expiry is None else datetime.combine(instrument.expiry, EXPIRY_TIME)


def level(asset: str, day: date) -> float:
    """The index price at 00:00 UTC of a day, in dollars."""
    return float(exp(np.array(_log_level(asset, (day - EPOCH.date()).days))))


@lru_cache(maxsize=64)
def turbulence(hour: int) -> Reals:
    """How lively the market is in each minute of an hour, for prices and trades: 60 numbers of mean about 1."""
    draws = Draws("turbulence", hour)
    tide = 1.0 + 0.3 * noise("tide", hour // 6, hour % 6 / 6)
    return _frozen(tide * spiky(draws.uniform(60), 5.0))


@lru_cache(maxsize=128)
def index_path(asset: str, hour: int) -> Reals:
    """The logarithm of the index price at each second of an hour and at its end: 3,601 numbers."""
    _, _, market, own = _ASSETS[asset]
    start, end = _log_hour(asset, hour), _log_hour(asset, hour + 1)
    moves = market * Draws("market", "path", hour).normal(_SECONDS) + own * Draws(asset, "path", hour).normal(_SECONDS)
    moves *= np.sqrt(np.repeat(turbulence(hour), 60)) * (_HOUR_MOVE / 60)
    return _frozen(_bridge(moves, start, end))


def log_index(asset: str, hour: int, offset: Integers) -> Reals:
    """The logarithm of the index price at some milliseconds into an hour."""
    path = index_path(asset, hour)
    second, rest = offset // 1_000, (offset % 1_000) / 1_000.0
    return path[second] + (path[second + 1] - path[second]) * rest


def recent_move(asset: str, hour: int, offset: Integers) -> Reals:
    """By how much the logarithm of the index price has changed within the five minutes before."""
    before = offset - _RECENT_MS
    within_hour = log_index(asset, hour, np.maximum(before, 0))
    hour_before = log_index(asset, hour - 1, np.minimum(before + HOUR_MS, HOUR_MS - 1))
    return log_index(asset, hour, offset) - np.where(before >= 0, within_hour, hour_before)


def mid(instrument: Instrument, hour: int, offset: Integers) -> Reals:
    """The fair price of an instrument, in its quote asset; of an option in its base asset, as Deribit quotes.

    A perpetual and a spot pair stray a little from the index. A future is the index with interest until its expiry.
    An option has its Black-76 value, undiscounted, on the forward of its expiry.

    Args:
        instrument: one of the sample's.
        hour: the hour, counted from 1970 (UTC).
        offset: milliseconds into the hour.
    """
    if instrument.type is InstrumentType.OPTION:
        return mark(instrument, hour, offset)
    within = offset / HOUR_MS
    short = _SHORT_PREMIUM * noise(f"premium/{instrument.id}", hour, within)
    return exp(log_index(instrument.base, hour, offset) + (short + _carry(instrument, hour, within)))


def mark(instrument: Instrument, hour: int, offset: Integers) -> Reals:
    """The price at which positions are valued: the fair price, of anything but an option without what it strays."""
    if instrument.type is InstrumentType.OPTION:
        view = option_view(instrument, hour, offset)
        return black76.value(instrument.side == "C", view.money, view.deviation)
    return exp(log_index(instrument.base, hour, offset) + _carry(instrument, hour, offset / HOUR_MS))


@dataclass(frozen=True)
class OptionView:
    """What an option's value depends on, at some times.

    Attributes:
        forward: the index with interest until the expiry, in dollars.
        money: the logarithm of forward / strike.
        years: the time to the expiry.
        volatility: implied, a fraction a year.
    """

    forward: Reals
    money: Reals
    years: Reals
    volatility: Reals

    @property
    def deviation(self) -> Reals:
        """The standard deviation of the logarithm of the price at expiry."""
        return self.volatility * np.sqrt(self.years)


def option_view(option: Instrument, hour: int, offset: Integers) -> OptionView:
    """What an option's value depends on, at some milliseconds into an hour."""
    within = offset / HOUR_MS
    years = years_left(option, hour, within)
    log_forward = log_index(option.base, hour, offset) + interest(option.base, hour, within) * years
    money = log_forward - log(float(option.strike or 0))
    return OptionView(exp(log_forward), money, years, volatility(option.base, hour, within, money, years))


def quotes(instrument: Instrument, tick: Grid, spread: float, hour: int, offset: Integers) -> tuple[Integers, Integers]:
    """The best bid and the best ask at some times, as whole ticks: bid < ask; a bid of zero where nobody bids.

    Args:
        instrument: one of the sample's.
        tick: the grid of its prices.
        spread: ask less bid as a fraction of the mid; a tick where that is more.
        hour: the hour, counted from 1970 (UTC).
        offset: milliseconds into the hour.
    """
    middle = mid(instrument, hour, offset) / tick.step
    bid = np.floor(middle * (1 - spread / 2)).astype(np.int64)
    ask = np.maximum(np.ceil(middle * (1 + spread / 2)).astype(np.int64), bid + 1)
    return bid, ask


def premium(instrument: Instrument, hour: int, within: Reals) -> Reals:
    """By which fraction a perpetual stands above its index for a while: what its funding is paid for."""
    return _PERPETUAL_PREMIUM * (noise(f"funding/{instrument.id}", hour // 16, (hour % 16 + within) / 16) + 0.2)


def interest(asset: str, hour: int, within: Reals) -> Reals:
    """The yearly rate, a fraction, at which futures of an asset stand above its index."""
    return 0.06 + 0.03 * noise(f"interest/{asset}", hour // 240, (hour % 240 + within) / 240)


def volatility(asset: str, hour: int, within: Reals, money: Reals, years: Reals) -> Reals:
    """The implied volatility of an asset's options, a fraction a year: higher away from the forward, a smile.

    Args:
        asset: the underlying asset.
        hour: the hour, counted from 1970 (UTC).
        within: how far into the hour, 0 to 1.
        money: the logarithm of forward / strike.
        years: the time to the expiry.
    """
    cell, part = hour // 96, (hour % 96 + within) / 96
    level = 0.58 + 0.1 * noise(f"volatility/{asset}", cell, part)
    term = 0.06 * noise(f"volatility/{asset}/term", cell, part) * np.minimum(years * 6, 1.0)
    skew = 0.06 + 0.05 * noise(f"volatility/{asset}/skew", cell, part)
    # as far as prices go until the expiry, so that a week's smile is as wide as a month's; flat beyond
    far = np.clip(money / np.sqrt(np.maximum(years, 1 / 52)), -1.2, 1.2)
    return level * (1.0 + term + skew * far + 0.12 * far * far)


def years_left(instrument: Instrument, hour: int, within: Reals) -> Reals:
    """The time to the expiry of a future or an option, in years; a minute at least."""
    expiry = expiry_of(instrument)
    if expiry is None:
        raise ValueError(f"{instrument} does not expire")
    return np.maximum(hour_of(expiry) - hour - within, 1 / 60) / _HOURS_A_YEAR


def _carry(instrument: Instrument, hour: int, within: Reals) -> Reals | float:
    """By which logarithm a spot pair, a perpetual or a future stands above the index for longer than a moment."""
    if instrument.type is InstrumentType.FUTURE:
        return interest(instrument.base, hour, within) * years_left(instrument, hour, within)
    return premium(instrument, hour, within) if instrument.type is InstrumentType.PERPETUAL else 0.0


@lru_cache(maxsize=1_024)
def _log_level(asset: str, day: int) -> float:
    """The logarithm of the index price at 00:00 of a day, counted from 1970."""
    start, growth, market, own = _ASSETS[asset]
    years = (day - _DAY_OF_2019) / 365.0
    slow = log(start) + growth * years / (1 + years / 6)
    wander = 0.0
    for octave in range(_OCTAVES):
        days = 2**octave
        cell, within = day // days, day % days / days
        both = market * noise(f"market/{octave}", cell, within) + own * noise(f"{asset}/{octave}", cell, within)
        wander += _FINEST * math.sqrt(days) * both
    return slow + wander


@lru_cache(maxsize=256)
def _log_hours(asset: str, day: int) -> Reals:
    """The logarithm of the index price at each full hour of a day, both midnights included: 25 numbers."""
    _, _, market, own = _ASSETS[asset]
    moves = market * Draws("market", "hours", day).normal(24) + own * Draws(asset, "hours", day).normal(24)
    return _frozen(_bridge(moves * _HOUR_MOVE, _log_level(asset, day), _log_level(asset, day + 1)))


def _log_hour(asset: str, hour: int) -> float:
    return float(_log_hours(asset, hour // 24)[hour % 24])


def _bridge(moves: Reals, start: float, end: float) -> Reals:
    """A random walk by these moves, bent so that it leads from `start` to `end`."""
    count = len(moves)
    walk = np.concatenate([[0.0], np.cumsum(moves)])
    path: Reals = start + walk + (end - start - walk[-1]) * (np.arange(count + 1) / count)
    return path


def _frozen(values: Reals) -> Reals:
    # cached and shared between threads
    values.flags.writeable = False
    return values
