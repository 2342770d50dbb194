"""Candles beside candles: the minutes and fields in which ours differ from another source's."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from market_data_pipeline.model.datasets import TIME
from market_data_pipeline.transforms.as_of import Booleans, Integers, Reals, reals, times

FIELDS = (
    *("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "buy_volume", "buy_quote_volume"),
    "base_volume",
)
_VALUES = ("quote_volume", "buy_quote_volume", "base_volume")
_RELATIVE = 1e-9
"""Sums of floats in another order differ by rounding alone."""
_DECIMALS = 1e-8
"""Exchanges write eight decimals; a value (price × amount, or amount / price) is cut there once for each trade."""


def differing_minutes(ours: pa.Table, theirs: pa.Table) -> Iterator[str]:
    """Each candle that is not equal in every field that both have, or that only one side has, in order of time.

    A candle without a trade that only one side has is none: some leave empty minutes out. Values may differ by what is
    lost when each trade's is written with eight decimals.

    Args:
        ours: candles of one instrument's day, rising in time, with `timestamp`, `trade_count` and any of FIELDS.
        theirs: the same from elsewhere; a field that is null on either side is not compared.
    """
    fields = [name for name in FIELDS if name in ours.column_names and name in theirs.column_names]
    at, beside = times(ours, "timestamp"), times(theirs, "timestamp")
    stamps = np.union1d(at, beside)
    sides = [_aligned(table, opens, stamps, fields) for table, opens in ((ours, at), (theirs, beside))]
    here, there = np.isin(stamps, at), np.isin(stamps, beside)
    traded = [(side.get("trade_count", np.ones(len(stamps))) > 0) for side in sides]
    missing = (here & ~there & traded[0]) | (there & ~here & traded[1])
    cut = _DECIMALS * (1 + np.nan_to_num(sides[0].get("trade_count", np.zeros(len(stamps)))))
    unequal = {
        name: here & there & _differ(sides[0][name], sides[1][name], cut if name in _VALUES else 0.0) for name in fields
    }
    wrong = missing | np.logical_or.reduce([*unequal.values(), np.zeros(len(stamps), bool)])
    for place in np.flatnonzero(wrong):
        minute = pa.scalar(int(stamps[place]), pa.int64()).cast(TIME).as_py().strftime("%H:%M")
        if missing[place]:
            yield f"{minute} {'only here' if here[place] else 'missing here'}"
        else:
            found = (name for name in fields if unequal[name][place])
            yield f"{minute} " + ", ".join(
                f"{n} {sides[0][n][place]:.12g} not {sides[1][n][place]:.12g}" for n in found
            )


def _aligned(table: pa.Table, opens: Integers, stamps: Integers, fields: list[str]) -> dict[str, Reals]:
    """The fields at these times; not a number where the table has no row or no value."""
    place = np.searchsorted(stamps, opens)
    aligned = {}
    for name in fields:
        values = np.full(len(stamps), np.nan)
        values[place] = reals(table, name)
        aligned[name] = values
    return aligned


def _differ(ours: Reals, theirs: Reals, slack: Reals | float) -> Booleans:
    known = ~(np.isnan(ours) | np.isnan(theirs))
    return known & (np.abs(ours - theirs) > slack + _RELATIVE * np.maximum(np.abs(ours), np.abs(theirs)))
