"""The options chain of the sample: quotes, marks, implied volatilities and greeks of each listed option."""

from dataclasses import dataclass
from datetime import date
from functools import partial

import numpy as np

from market_data_pipeline.sources.sample import black76
from market_data_pipeline.sources.sample.listing import Listed
from market_data_pipeline.sources.sample.market import HOUR_MS, OptionView, option_view, quotes
from market_data_pipeline.sources.sample.numbers import Draws, Grid, Reals, spiky
from market_data_pipeline.sources.sample.positions import open_interest
from market_data_pipeline.sources.sample.ticks import Ticks, beats, received, received_on, while_listed
from market_data_pipeline.sources.sample.trades import hour_trades, last_prices

_EVERY_MS = 20_000
_LOTS = 4.0
_CENTS, _MARKS, _GREEKS, _GAMMAS = Grid("0.01"), Grid("0.00000001"), Grid("0.00001"), Grid("0.0000000001")


@dataclass(frozen=True)
class Chain(Ticks):
    """Columns of one option's part of the chain; prices in the base asset, ivs in percent a year, greeks in dollars.

    Attributes:
        open_interest: in the venue's own unit.
        last_price: of the last trade; NaN before the first.
        bid_price: NaN where nobody bids; so are its amount and its iv.
        bid_amount: in the venue's own unit.
        bid_iv: NaN also where the bid is below what exercise is worth.
        ask_price: always there.
        ask_amount: in the venue's own unit.
        ask_iv: NaN where the ask is next to what exercise is worth.
        mark_price: the Black-76 value.
        mark_iv: the market's volatility for the strike and the expiry.
        underlying_price: the forward, in dollars.
        delta: see black76.Greeks, as for the others.
        gamma: delta's change for a dollar.
        vega: for a percent.
        theta: for a day.
        rho: for a percent.
    """

    open_interest: Reals
    last_price: Reals
    bid_price: Reals
    bid_amount: Reals
    bid_iv: Reals
    ask_price: Reals
    ask_amount: Reals
    ask_iv: Reals
    mark_price: Reals
    mark_iv: Reals
    underlying_price: Reals
    delta: Reals
    gamma: Reals
    vega: Reals
    theta: Reals
    rho: Reals


def day_chain(listed: Listed, day: date) -> Chain:
    """The option's rows in the vendor's file of a day."""
    return received_on(day, partial(hour_chain, listed))


def hour_chain(listed: Listed, hour: int) -> Chain:
    """The option's rows of an hour by the exchange's clock, in order of time, at each order in it among others.

    Args:
        listed: an option; there are no rows before it begins or from its expiry on.
        hour: the hour, counted from 1970 (UTC).
    """
    terms, option = listed.terms, listed.instrument
    is_call = option.side == "C"
    of_orders = hour_trades(listed, hour).timestamp // 1_000 - hour * HOUR_MS
    offset = np.union1d(beats(f"chain/{option.id}", hour, _EVERY_MS), of_orders)
    draws, count = Draws("chain", option.id, hour), len(offset)
    timestamp = (hour * HOUR_MS + offset) * 1_000
    view = option_view(option, hour, offset)
    bid, ask = quotes(option, terms.tick, terms.spread, hour, offset)
    bids = bid > 0
    bid_price, ask_price = np.where(bids, terms.tick.values(bid), np.nan), terms.tick.values(ask)
    bid_iv, ask_iv = _implied(is_call, view, bid_price, ask_price)
    greeks = black76.greeks(is_call, view.forward, view.money, view.years, view.volatility)
    chain = Chain(
        timestamp=timestamp,
        local_timestamp=received(option.venue, timestamp, draws.uniform(count)),
        open_interest=open_interest(listed, hour, offset),
        last_price=last_prices(listed, hour, offset),
        bid_price=bid_price,
        bid_amount=np.where(bids, _amounts(listed, draws, count), np.nan),
        bid_iv=bid_iv,
        ask_price=ask_price,
        ask_amount=_amounts(listed, draws, count),
        ask_iv=ask_iv,
        mark_price=_MARKS.nearest(black76.value(is_call, view.money, view.deviation)),
        mark_iv=_CENTS.nearest(view.volatility * 100.0),
        underlying_price=_CENTS.nearest(view.forward),
        delta=_GREEKS.nearest(greeks.delta),
        gamma=_GAMMAS.nearest(greeks.gamma),
        vega=_GREEKS.nearest(greeks.vega),
        theta=_GREEKS.nearest(greeks.theta),
        rho=_GREEKS.nearest(greeks.rho),
    )
    return while_listed(chain, listed)


def _amounts(listed: Listed, draws: Draws, count: int) -> Reals:
    lots = 1 + (_LOTS * listed.terms.lots * spiky(draws.uniform(count), 40.0)).astype(np.int64)
    return listed.terms.lot.values(lots)


def _implied(is_call: bool, view: OptionView, *prices: Reals) -> list[Reals]:
    """The implied volatilities of some columns of prices, in percent a year."""
    times = len(prices)
    deviation = black76.implied_deviation(is_call, np.tile(view.money, times), np.concatenate(prices))
    return np.split(_CENTS.nearest(deviation / np.tile(np.sqrt(view.years), times) * 100.0), times)
