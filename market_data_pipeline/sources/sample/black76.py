"""Values, greeks and implied volatility of options on a forward, without discounting.

F. Black, The pricing of commodity contracts (1976). Values are shares of the forward, as Deribit quotes; `money` is the
logarithm of forward / strike, `deviation` the volatility times the square root of the years to expiry.
"""

from dataclasses import dataclass

import numpy as np

from market_data_pipeline.sources.sample.numbers import Reals, exp, normal_cdf, normal_pdf

_DAYS_A_YEAR = 365.0
_PERCENT = 100.0
_LEAST_TIME_VALUE = 1e-5
_MOST_STEPS, _CLOSE_ENOUGH = 40, 1e-8


@dataclass(frozen=True)
class Greeks:
    """How an option's value in dollars changes, in Deribit's units.

    Attributes:
        delta: for a dollar of the forward.
        gamma: delta's change for a dollar of the forward.
        vega: for a percent of volatility.
        theta: for a day.
        rho: for a percent of interest, if the forward were a spot price and the interest zero.
    """

    delta: Reals
    gamma: Reals
    vega: Reals
    theta: Reals
    rho: Reals


def value(is_call: bool, money: Reals, deviation: Reals) -> Reals:
    """The value of a call or a put as a share of the forward."""
    share = exp(-money)
    call, _ = _call(money, share, deviation)
    # by parity, so that it holds to the last digit; the approximation may fall below zero by its error
    return np.maximum(call if is_call else call - 1.0 + share, 0.0)


def greeks(is_call: bool, forward: Reals, money: Reals, years: Reals, volatility: Reals) -> Greeks:
    """The greeks of a call or a put.

    Args:
        is_call: whether it is a call.
        forward: the forward price, in dollars.
        money: the logarithm of forward / strike.
        years: the time to the expiry.
        volatility: a fraction a year.
    """
    root = np.sqrt(years)
    upper = money / (volatility * root) + volatility * root / 2
    density = normal_pdf(upper)
    sign = 1.0 if is_call else -1.0
    exercised = normal_cdf(sign * (upper - volatility * root))
    return Greeks(
        delta=normal_cdf(upper, density) - (0.0 if is_call else 1.0),
        gamma=density / (forward * volatility * root),
        vega=forward * root * density / _PERCENT,
        theta=-forward * density * volatility / (2.0 * root) / _DAYS_A_YEAR,
        rho=sign * forward * exp(-money) * years * exercised / _PERCENT,
    )


def implied_deviation(is_call: bool, money: Reals, price: Reals) -> Reals:
    """The deviation at which an option has a price; NaN where the price leaves next to nothing beyond its exercise.

    Newton's method from the point of inflection, from where it leads straight to the solution: S. Manaster and
    G. Koehler, The calculation of implied variances from the Black-Scholes model (1982).

    Args:
        is_call: whether it is a call.
        money: the logarithm of forward / strike.
        price: as a share of the forward; NaN where there is none.
    """
    share = exp(-money)
    call = price if is_call else price + 1.0 - share
    # false for NaN as well
    solvable = (call - np.maximum(1.0 - share, 0.0) > _LEAST_TIME_VALUE) & (call < 1.0)
    money, share, call = money[solvable], share[solvable], call[solvable]
    found = np.maximum(np.sqrt(2.0 * np.abs(money)), 1e-4)
    open_rows = np.arange(len(found))
    for _ in range(_MOST_STEPS):
        guess = found[open_rows]
        reached, slope = _call(money[open_rows], share[open_rows], guess)
        step = (reached - call[open_rows]) / slope
        found[open_rows] = guess - step
        open_rows = open_rows[np.abs(step) > _CLOSE_ENOUGH]
        if not len(open_rows):
            break
    deviation = np.full(len(price), np.nan)
    deviation[solvable] = found
    return deviation


def _call(money: Reals, share: Reals, deviation: Reals) -> tuple[Reals, Reals]:
    """A call's value, and how it changes with the deviation; `share` is strike / forward."""
    upper = money / deviation + deviation / 2
    density = normal_pdf(upper)
    # strike / forward times the density at the lower point is the density at the upper one
    return normal_cdf(upper, density) - share * normal_cdf(upper - deviation, density / share), density
