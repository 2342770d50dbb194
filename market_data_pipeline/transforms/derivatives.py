"""What a derivative's ticker, its liquidations and the price it follows tell of each candle."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from market_data_pipeline.model.windows import DAY, microseconds
from market_data_pipeline.transforms.as_of import (
    MICROSECOND,
    Booleans,
    Integers,
    Reals,
    in_order,
    latest_before,
    needs,
    reals,
    says,
    taken,
    times,
)

TICKER_STALE = timedelta(minutes=10)
"""A value of the ticker that is older than this at a candle's close (or open) counts as missing."""
FEED_QUIET = timedelta(hours=25)
"""A venue's liquidations are known if it has told of any within this time: a day, and what vendors' clocks spill."""
LEAST_LEFT = DAY
"""With less time than this to the expiry a basis is not annualised: a tick of the price would be percents a year."""
TICKER_COLUMNS = (
    "timestamp",
    "funding_timestamp",
    "funding_rate",
    "predicted_funding_rate",
    "open_interest",
    "index_price",
    "mark_price",
)
"""The columns of derivative_ticker that features are made from."""
LIQUIDATION_COLUMNS = ("timestamp", "side", "amount")
"""Those of liquidations."""

BASIS_POINTS = 1e4
_HOUR = timedelta(hours=1) // MICROSECOND
_YEAR = timedelta(days=365) // MICROSECOND
_UNTOLD = np.iinfo(np.int64).min

Columns = Mapping[str, Reals]


@dataclass(frozen=True)
class Bars:
    """The candles that features belong to.

    Attributes:
        opens: microseconds since 1970, rising.
        closes: the exclusive ends; a candle does not end after the next one opens.
        close: last prices; NaN where nothing was traded within the candle.
    """

    opens: Integers
    closes: Integers
    close: Reals


def ticker_features(ticker: pa.Table, bars: Bars) -> Columns:
    """Funding, open interest and premium at each candle's close, from the last ticks before it.

    Each value comes from the last tick that has it, if that is at most TICKER_STALE old. The rate of a funding that
    has taken place by then is not the rate of the next one, and is missing; where the venue names no funding time
    (funding is continuous there) it stands.

    Args:
        ticker: rows with TICKER_COLUMNS of one instrument, ties in the order of the source.
        bars: the candles.
    """
    needs(ticker, TICKER_COLUMNS, "tickers")
    ticker = in_order(ticker)
    stamps = times(ticker, "timestamp")
    funding_at = times(ticker, "funding_timestamp")

    def at(values: Reals, moments: Integers = bars.closes) -> Integers:
        return latest_before(stamps, np.isfinite(values), moments, TICKER_STALE)

    def ahead(rows: Integers) -> Booleans:
        return (rows >= 0) & (funding_at[rows] >= bars.closes) if len(stamps) else np.zeros(len(rows), bool)

    def rate(name: str) -> Reals:
        values = reals(ticker, name)
        rows = at(values)
        untimed = (rows >= 0) & (funding_at[rows] == _UNTOLD) if len(stamps) else np.zeros(len(rows), bool)
        return np.where(ahead(rows) | untimed, taken(values, rows), np.nan)

    timed = np.where(funding_at == _UNTOLD, np.nan, funding_at.astype(np.float64))
    next_funding = at(timed)
    held = reals(ticker, "open_interest")
    at_close = taken(held, at(held))
    premium = _over(reals(ticker, "mark_price"), reals(ticker, "index_price"))
    return {
        "funding_rate": rate("funding_rate"),
        "predicted_funding_rate": rate("predicted_funding_rate"),
        "hours_to_funding": np.where(ahead(next_funding), (taken(timed, next_funding) - bars.closes) / _HOUR, np.nan),
        "open_interest": at_close,
        "open_interest_change": at_close - taken(held, at(held, bars.opens)),
        "mark_premium": taken(premium, at(premium)),
    }


def index_at_close(ticker: pa.Table, bars: Bars) -> Reals:
    """The ticker's index price at each candle's close; NaN where it is stale."""
    needs(ticker, ("timestamp", "index_price"), "tickers")
    ticker = in_order(ticker)
    index = reals(ticker, "index_price")
    rows = latest_before(times(ticker, "timestamp"), np.isfinite(index), bars.closes, TICKER_STALE)
    return taken(index, rows)


def basis_features(name: str, bars: Bars, reference: Reals, expiry: datetime | None) -> Columns:
    """How far each close stands above the price that it follows; of a dated future also by the year.

    The annualised basis is simple, on 365 days: J. Hull, Options, Futures, and Other Derivatives, on the cost of carry.

    Args:
        name: of the basis: `basis` against an index, `spot_basis` against a spot pair.
        bars: the candles.
        reference: the index or spot price at each candle's close.
        expiry: when the future expires, UTC; None for what does not expire.
    """
    basis = _over(bars.close, reference)
    annualised = np.full(len(basis), np.nan)
    if expiry is not None:
        left = microseconds(expiry) - bars.closes
        enough = left >= LEAST_LEFT // MICROSECOND
        annualised[enough] = basis[enough] * (_YEAR / left[enough])
    return {name: basis, f"annualised_{name}": annualised}


def liquidation_features(liquidations: pa.Table, bars: Bars, open_interest_change: Reals) -> Columns:
    """Count and volume of the longs and of the shorts that were liquidated within each candle.

    A long is closed by a sell, a short by a buy; liquidations of an unknown side are in the volumes with rising or
    falling open interest alone.

    Args:
        liquidations: rows with LIQUIDATION_COLUMNS of one instrument; no rows means that none took place.
        bars: the candles.
        open_interest_change: over each candle; NaN where it is not known.
    """
    needs(liquidations, LIQUIDATION_COLUMNS, "liquidations")
    liquidations = in_order(liquidations)
    stamps, amount = times(liquidations, "timestamp"), reals(liquidations, "amount")
    count = len(bars.closes)
    bar = np.searchsorted(bars.closes, stamps, side="right")
    inside = (bar < count) & (stamps >= np.append(bars.opens, 0)[bar])

    def total(rows: Booleans, weights: Reals | None = None) -> Reals:
        # adds one after another within each candle, so that what lies outside cannot change a sum's last digit
        return np.bincount(bar[rows], None if weights is None else weights[rows], count).astype(np.float64)

    longs, shorts = (inside & says(liquidations, "side", side) for side in ("sell", "buy"))
    volume = total(inside, amount)
    change = open_interest_change
    return {
        "long_liquidation_count": total(longs),
        "long_liquidation_volume": total(longs, amount),
        "short_liquidation_count": total(shorts),
        "short_liquidation_volume": total(shorts, amount),
        "liquidation_volume_rising": np.where(np.isnan(change), np.nan, np.where(change > 0, volume, 0.0)),
        "liquidation_volume_falling": np.where(np.isnan(change), np.nan, np.where(change < 0, volume, 0.0)),
    }


def where_known(columns: Columns, feed: Integers, bars: Bars) -> Columns:
    """What liquidation_features tell, where the venue's liquidations are known: NaN elsewhere.

    Args:
        columns: from liquidation_features.
        feed: times of some liquidations of the venue, microseconds since 1970, rising: at a candle's close its feed is
            known to be there if any of them lies before it and at most FEED_QUIET back.
        bars: the candles.
    """
    known = latest_before(feed, np.ones(len(feed), bool), bars.closes, FEED_QUIET) >= 0
    return {name: np.where(known, values, np.nan) for name, values in columns.items()}


def _over(price: Reals, reference: Reals) -> Reals:
    """By how many basis points prices stand above others; NaN where either is missing or not above zero."""
    usable = (price > 0) & (reference > 0)
    with np.errstate(over="ignore"):
        return np.where(usable, price / np.where(usable, reference, 1.0) - 1.0, np.nan) * BASIS_POINTS
