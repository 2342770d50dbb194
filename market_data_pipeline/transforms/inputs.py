"""What a model sees of a candle: features without a scale, so that a price of 1 and one of 60,000 look alike.

One table declares them all. Each is worked out from its own candle, or from a fixed number of those before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from market_data_pipeline.model.windows import DAY
from market_data_pipeline.transforms.as_of import MICROSECOND, Integers, Reals

PAST = 20
"""How many candles the inputs that compare with the past look back on, their own not included."""

_DAY = DAY // MICROSECOND


@dataclass(frozen=True)
class Candles:
    """Columns of candles and of their features, rising in time.

    Attributes:
        stamps: opens, microseconds since 1970.
        length: how long a candle lasts, microseconds.
        columns: as in the lake; NaN for null. A column that is not there counts as null.
    """

    stamps: Integers
    length: int
    columns: Mapping[str, Reals]

    def __getitem__(self, name: str) -> Reals:
        found = self.columns.get(name)
        return np.full(len(self.stamps), np.nan) if found is None else found

    def past_mean(self, name: str) -> Reals:
        """The mean of the PAST candles before each; NaN unless all of them are there, with a value."""
        values, count = self[name], len(self.stamps)
        found = np.full(count, np.nan)
        if count > PAST:
            # one shifted array after another: the same order of additions for every row, however many there are
            total = sum(values[PAST - back : count - back] for back in range(1, PAST + 1))
            whole = self.stamps[PAST:] - self.stamps[:-PAST] == PAST * self.length
            found[PAST:] = np.where(whole, total / PAST, np.nan)
        return found


@dataclass(frozen=True)
class Input:
    """One input of a model.

    Attributes:
        name: what it is called in a model's list.
        columns: the columns that it is made from.
        how: the transformation, for people and for the model's record.
        compute: gives a value for each candle; NaN where there is none.
    """

    name: str
    columns: tuple[str, ...]
    how: str
    compute: Callable[[Candles], Reals]


def _as_it_is(name: str) -> Input:
    return Input(name, (name,), "as it is", lambda candles: candles[name])


def _distance(name: str) -> Input:
    return Input(f"{name}_distance", (name, "close"), "close / it − 1", lambda c: c["close"] / c[name] - 1)


def _over(name: str, by: str) -> Input:
    return Input(f"{name}_by_{by}", (name, by), f"it / {by}", lambda candles: candles[name] / candles[by])


def _against_past(name: str) -> Input:
    # log1p keeps a candle without any from being minus infinity
    return Input(
        f"{name}_against_past",
        (name,),
        f"ln(1 + it / mean of the {PAST} candles before)",
        lambda candles: np.log1p(candles[name] / candles.past_mean(name)),
    )


def _logarithm(name: str) -> Input:
    return Input(f"log_{name}", (name,), "ln(it)", lambda candles: np.log(candles[name]))


def _balance(name: str, one: str, other: str) -> Input:
    return Input(
        name,
        (one, other),
        f"({one} − {other}) / ({one} + {other})",
        lambda candles: (candles[one] - candles[other]) / (candles[one] + candles[other]),
    )


def _hour(wave: Callable[[Reals], Reals], name: str) -> Input:
    return Input(
        f"hour_{name}",
        ("timestamp",),
        f"{name} of the close's part of the day",
        lambda candles: wave(2 * np.pi * ((candles.stamps + candles.length) % _DAY) / _DAY),
    )


_BAND = tuple(f"bollinger_{which}_20" for which in ("upper", "middle", "lower"))

INPUTS = (
    *map(_as_it_is, ("log_return", "realised_volatility_20")),
    *(_distance(f"{kind}_{length}") for kind in ("sma", "ema") for length in (10, 20, 50)),
    *map(_as_it_is, ("rsi_14", "adx_14", "stochastic_k", "stochastic_d", "cci_20", "mfi_14")),
    *(_over(name, "close") for name in ("macd", "macd_signal", "macd_histogram", "atr_14")),
    Input(
        "bollinger_place",
        (*_BAND, "close"),
        "(close − middle) / (upper − lower)",
        lambda c: (c["close"] - c[_BAND[1]]) / (c[_BAND[0]] - c[_BAND[2]]),
    ),
    Input(
        "bollinger_width",
        _BAND,
        "(upper − lower) / middle",
        lambda c: (c[_BAND[0]] - c[_BAND[2]]) / c[_BAND[1]],
    ),
    Input(
        "range_by_close",
        ("high", "low", "close"),
        "(high − low) / close",
        lambda c: (c["high"] - c["low"]) / c["close"],
    ),
    _as_it_is("vwap_distance"),
    _over("signed_volume", "volume"),
    *map(_against_past, ("volume", "trade_count", "mean_trade_size")),
    _as_it_is("book_spread_bps"),
    _distance("book_mid"),
    Input(
        "book_microprice_distance",
        ("book_microprice", "book_mid"),
        "microprice / mid − 1",
        lambda c: c["book_microprice"] / c["book_mid"] - 1,
    ),
    *map(_as_it_is, ("book_imbalance_1", "book_imbalance_5")),
    _balance("book_depth_balance", "book_bid_depth_5", "book_ask_depth_5"),
    *map(_as_it_is, ("funding_rate", "predicted_funding_rate", "hours_to_funding")),
    _over("open_interest_change", "open_interest"),
    *map(_as_it_is, ("mark_premium", "basis", "annualised_basis", "spot_basis", "annualised_spot_basis")),
    *(_over(f"{what}_liquidation_volume", "volume") for what in ("long", "short")),
    *(_over(f"liquidation_volume_{way}", "volume") for way in ("rising", "falling")),
    *map(
        _as_it_is,
        ("atm_iv_30d", "skew_25d_30d", "term_slope_30d", "atm_iv_nearest", "skew_25d_nearest"),
    ),
    _logarithm("put_call_open_interest"),
    _hour(np.sin, "sine"),
    _hour(np.cos, "cosine"),
)
"""All inputs."""

UNUSED = {
    "simple_return": "says the same as log_return",
    "buy_share": "says the same as signed_volume by volume",
    "obv": "counts from another start on each day",
    "delay_mean": "of the vendor's line, not of the market",
    "delay_median": "of the vendor's line, not of the market",
    "delay_min": "of the vendor's line, not of the market",
    "delay_max": "of the vendor's line, not of the market",
    "long_liquidation_count": "says little that the volume does not",
    "short_liquidation_count": "says little that the volume does not",
    "nearest_expiry_days": "a calendar",
}
"""Features that no input is made from, and why."""

COLUMNS = frozenset(column for each in INPUTS for column in each.columns)
"""The columns that the inputs are made from."""


def input_values(candles: Candles) -> Reals:
    """The inputs of each candle: a row for each candle, a column for each of INPUTS; NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [each.compute(candles) for each in INPUTS]
    values = np.column_stack(found) if len(candles.stamps) else np.empty((0, len(INPUTS)))
    values[~np.isfinite(values)] = np.nan
    return values
