"""The surface of implied volatility of one underlying, in a few numbers at each moment, from its options chain."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.transforms.as_of import (
    MICROSECOND,
    Booleans,
    Integers,
    Reals,
    latest_before,
    needs,
    reals,
    says,
    taken,
    times,
)

CHAIN_STALE = timedelta(minutes=30)
"""An option's row that is older than this at a moment counts as missing."""
MATURITY = timedelta(days=30)
"""The constant maturity that volatilities are interpolated to."""
CHAIN_COLUMNS = (
    "timestamp",
    "type",
    "strike_price",
    "expiration",
    "open_interest",
    "bid_iv",
    "ask_iv",
    "mark_iv",
    "underlying_price",
    "delta",
)
"""The columns of options_chain that the surface is made from."""
SURFACE_COLUMNS = (
    "atm_iv_30d",
    "skew_25d_30d",
    "term_slope_30d",
    "atm_iv_nearest",
    "skew_25d_nearest",
    "nearest_expiry_days",
    "put_call_open_interest",
)
SCHEMA = pa.schema(
    [DATASETS["fundamental_features"].own_schema.field(name) for name in ("close_time", *SURFACE_COLUMNS)]
)
"""The schema of the surface: a moment, then what is known before it."""

_DELTA = 0.25
_DAY = timedelta(days=1) // MICROSECOND
_MATURITY_DAYS = MATURITY / timedelta(days=1)


@dataclass(frozen=True)
class _Quotes:
    """Rows of the chain; times in microseconds since 1970, volatilities in percent a year."""

    expiry: Integers
    strike: Reals
    is_call: Booleans
    at: Integers
    volatility: Reals
    delta: Reals
    open_interest: Reals
    forward: Reals

    @classmethod
    def of(cls, chain: pa.Table) -> "_Quotes":
        needs(chain, CHAIN_COLUMNS, "rows of the options chain")
        marked = _positive(reals(chain, "mark_iv"))
        quoted = (_positive(reals(chain, "bid_iv")) + _positive(reals(chain, "ask_iv"))) / 2
        strike, is_call = reals(chain, "strike_price"), says(chain, "type", "call")
        told = (
            (is_call | says(chain, "type", "put")) & (strike > 0) & pc.is_valid(chain.column("expiration")).to_numpy()
        )
        return cls(
            expiry=times(chain, "expiration"),
            strike=strike,
            is_call=is_call,
            at=times(chain, "timestamp"),
            volatility=np.where(np.isnan(marked), quoted, marked),
            delta=reals(chain, "delta"),
            open_interest=reals(chain, "open_interest"),
            forward=_positive(reals(chain, "underlying_price")),
        ).take(told)

    def take(self, rows: Integers | Booleans | slice) -> "_Quotes":
        return _Quotes(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: "list[_Quotes]") -> "_Quotes":
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def last_of_each(self, moments: Integers) -> "_Quotes":
        """Of each option the last row before each moment, by option, then time; none at or after the last moment."""
        before = np.searchsorted(moments, self.at, side="right")
        # the sort is stable, so of rows with one time the one that the source had last is kept
        order = np.lexsort((self.at, self.is_call, self.strike, self.expiry))
        order = order[before[order] < len(moments)]
        keys = [values[order] for values in (self.expiry, self.strike, self.is_call, before)]
        return self.take(order[_ends(keys)])


@dataclass(frozen=True)
class _Smile:
    """One expiry at each moment: at-the-money and 25-delta volatilities (percent a year), open interest."""

    days: Reals
    atm: Reals
    put: Reals
    call: Reals
    puts_open: Reals
    calls_open: Reals


def surface(chain: Iterable[pa.Table], moments: Integers) -> pa.Table:
    """What is known of an underlying's options before each moment.

    An option's volatility is its mark's, else the middle of its bid's and its ask's; a row counts if it is at most
    CHAIN_STALE old and the option has not expired. Nothing is extrapolated:

    - At the money means strike = forward (`underlying_price` of the expiry's newest row): between the nearest strikes
      on either side the variance is linear in log(strike / forward), each strike by its out-of-the-money option where
      that is quoted.
    - 25 delta: of each side the variance, linear in the delta that the venue gives, at a delta of 0.25 and −0.25.
      The skew is the put's volatility less the call's.
    - 30 days: between the nearest expiries on either side total variance (variance × time) is linear in time, as in
      Cboe's Volatility Index white paper (2003) and J. Gatheral, The Volatility Surface (2006). The term slope is
      between the same two expiries.

    Args:
        chain: tables with CHAIN_COLUMNS. How rows and options are cut into tables makes no difference, but an option's
            rows with one time stand in the order of the source. They are read once and only the last ones before each
            moment are kept.
        moments: microseconds since 1970, rising.

    Returns:
        A table of SCHEMA, one row a moment; null where an expiry, a strike or a quote is missing.

    Raises:
        DatasetError: a column is missing.
    """
    return surface_by_expiry([chain], moments)


def surface_by_expiry(chains: Iterable[Iterable[pa.Table]], moments: Integers) -> pa.Table:
    """The same from chains of which no two hold rows of one expiry: each is let go of before the next is read.

    Args:
        chains: in any order; each as for `surface`.
        moments: microseconds since 1970, rising.
    """
    found = [smile for chain in chains for smile in _smiles_of(chain, moments)]
    smiles = [smile for _, smile in sorted(found, key=lambda each: each[0])]
    columns = _summary(smiles) if smiles else {name: np.full(len(moments), np.nan) for name in SURFACE_COLUMNS}
    arrays = [pa.array(moments).view(TIME), *(pa.array(columns[name], from_pandas=True) for name in SURFACE_COLUMNS)]
    return pa.table(arrays, schema=SCHEMA)


def _summary(smiles: list[_Smile]) -> Mapping[str, Reals]:
    """The surface's columns from its expiries, the nearest first."""
    days, atm, put, call, puts_open, calls_open = (
        np.column_stack([getattr(smile, field.name) for smile in smiles]) for field in fields(_Smile)
    )
    after = np.where(np.isnan(atm), np.nan, days)

    def at_maturity(volatility: Reals) -> Reals:
        return np.sqrt(_between(days, volatility**2 * days, _MATURITY_DAYS) / _MATURITY_DAYS)

    # a skew is of two options of one expiry
    unpaired = np.isnan(put) | np.isnan(call)
    put, call = np.where(unpaired, np.nan, put), np.where(unpaired, np.nan, call)
    first, second = _neighbours(after, _MATURITY_DAYS)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (_at(atm, second) - _at(atm, first)) / (_at(days, second) - _at(days, first)) * _MATURITY_DAYS
        # added one after another: an expiry without rows adds an exact zero
        ratio = np.cumsum(puts_open, axis=1)[:, -1] / np.cumsum(calls_open, axis=1)[:, -1]
    distance = np.where(np.isnan(after), np.inf, np.abs(after - _MATURITY_DAYS))
    nearest = np.where(np.isfinite(distance).any(axis=1), np.argmin(distance, axis=1), -1)
    return {
        "atm_iv_30d": at_maturity(atm),
        "skew_25d_30d": at_maturity(put) - at_maturity(call),
        "term_slope_30d": np.where(np.isfinite(slope), slope, np.nan),
        "atm_iv_nearest": _at(atm, nearest),
        "skew_25d_nearest": _at(put, nearest) - _at(call, nearest),
        "nearest_expiry_days": _at(days, nearest),
        "put_call_open_interest": np.where(np.isfinite(ratio), ratio, np.nan),
    }


def _smiles_of(chain: Iterable[pa.Table], moments: Integers) -> "list[tuple[int, _Smile]]":
    """The expiries of a chain, the nearest first, each with its time."""
    parts = [_Quotes.of(table).last_of_each(moments) for table in chain if table.num_rows]
    if not parts:
        return []
    quotes = _Quotes.joined(parts).last_of_each(moments)
    return [(int(quotes.expiry[run.start]), _smile(quotes.take(run), moments)) for run in _runs([quotes.expiry])]


def _smile(quotes: _Quotes, moments: Integers) -> _Smile:
    """One expiry's rows, by option, then time, at each moment."""
    strikes = np.unique(quotes.strike)
    shape = len(moments), len(strikes)
    volatility, delta = ({side: np.full(shape, np.nan) for side in (True, False)} for _ in range(2))
    held = {side: np.zeros(len(moments)) for side in (True, False)}
    forward, newest = np.full(len(moments), np.nan), np.full(len(moments), -1)
    left = (int(quotes.expiry[0]) - moments) / _DAY
    for option in _runs([quotes.strike, quotes.is_call]):
        rows = quotes.take(option)
        side, strike = bool(rows.is_call[0]), int(np.searchsorted(strikes, rows.strike[0]))
        last = latest_before(rows.at, np.ones(len(rows.at), bool), moments, CHAIN_STALE)
        last[left <= 0] = -1
        volatility[side][:, strike], delta[side][:, strike] = taken(rows.volatility, last), taken(rows.delta, last)
        held[side] += np.nan_to_num(taken(rows.open_interest, last))
        quoted_at = np.where(np.isnan(taken(rows.forward, last)), -1, np.append(rows.at, -1)[last])
        forward = np.where(quoted_at > newest, taken(rows.forward, last), forward)
        newest = np.maximum(quoted_at, newest)
    above = strikes >= forward[:, None]
    outside = np.where(above, volatility[True], volatility[False])
    inside = np.where(above, volatility[False], volatility[True])
    money = np.log(strikes / forward[:, None])
    return _Smile(
        days=np.where(left > 0, left, np.nan),
        atm=np.sqrt(_between(money, np.where(np.isnan(outside), inside, outside) ** 2, 0.0)),
        put=np.sqrt(_between(delta[False], volatility[False] ** 2, -_DELTA)),
        call=np.sqrt(_between(delta[True], volatility[True] ** 2, _DELTA)),
        puts_open=held[False],
        calls_open=held[True],
    )


def _between(places: Reals, values: Reals, at: float) -> Reals:
    """In each row the value at a place, linear between the nearest places on either side; NaN where there are none."""
    places = np.where(np.isnan(values), np.nan, places)
    first, second = _neighbours(places, at)
    start, width = _at(places, first), _at(places, second) - _at(places, first)
    share = np.divide(at - start, width, out=np.zeros(len(width)), where=width > 0)
    return _at(values, first) * (1.0 - share) + _at(values, second) * share


def _neighbours(places: Reals, at: float) -> tuple[Integers, Integers]:
    """In each row the column of the nearest place at or below, and at or above; -1 for both unless both are there."""
    below, above = np.where(places <= at, places, -np.inf), np.where(places >= at, places, np.inf)
    both = np.isfinite(below).any(axis=1) & np.isfinite(above).any(axis=1)
    return np.where(both, np.argmax(below, axis=1), -1), np.where(both, np.argmin(above, axis=1), -1)


def _at(values: Reals, column: Integers) -> Reals:
    """In each row the value of a column; NaN for column -1."""
    return np.where(column < 0, np.nan, np.take_along_axis(values, np.maximum(column, 0)[:, None], axis=1)[:, 0])


def _positive(values: Reals) -> Reals:
    return np.where(values > 0, values, np.nan)


def _ends(keys: "list[Integers | Reals | Booleans]") -> Booleans:
    """Where the next row has another key, and the last row."""
    changes = np.zeros(max(len(keys[0]) - 1, 0), bool)
    for key in keys:
        changes |= key[1:] != key[:-1]
    return np.append(changes, True)[: len(keys[0])]


def _runs(keys: "list[Integers | Reals | Booleans]") -> Iterator[slice]:
    start = 0
    for end in np.flatnonzero(_ends(keys)) + 1:
        yield slice(start, int(end))
        start = int(end)
