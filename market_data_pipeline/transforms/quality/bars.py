"""Candles: prices that jump and return, within one (a wick) or from one to the next, and prices that stand still."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from market_data_pipeline.transforms.quality.prices import Jumps
from market_data_pipeline.transforms.quality.terms import Flaw, Oddity, Thresholds, at_least, reals_of, stamps_of
from market_data_pipeline.transforms.quality.times import Life, Pauses, told

_PATH = ("open", "high", "low", "close")


class CandleJumps:
    """Candles with a price beyond all beside it: open, high, low and close are looked at as four prices of a path."""

    columns = ("timestamp", *_PATH)

    def __init__(self, life: Life, thresholds: Thresholds) -> None:
        self._jumps = Jumps(life, thresholds)

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        path = np.stack([reals_of(rows, name) for name in _PATH], axis=1).ravel()
        usable = path > 0
        self._jumps.see(path[usable], np.repeat(stamps_of(rows), len(_PATH))[usable])

    def found(self) -> Iterator[Oddity]:
        """The jumps."""
        yield from self._jumps.found("look at the trades of that minute, and at the venue's own candle")


class FlatPrices:
    """Stretches in which the price does not move, though it does else: nothing traded, or a feed hung."""

    columns = ("timestamp", *_PATH)

    def __init__(self, life: Life, thresholds: Thresholds) -> None:
        self._pauses = Pauses(life, thresholds.flat_minutes, thresholds.gap_factor)
        self._close = np.nan

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        priced = rows.filter(rows.column("close").is_valid())
        if not priced.num_rows:
            return
        high, low, close = (reals_of(priced, name) for name in ("high", "low", "close"))
        moved = (high != low) | (close != np.r_[self._close, close[:-1]])
        self._close = float(close[-1])
        self._pauses.see(stamps_of(priced)[moved])

    def found(self) -> Iterator[Oddity]:
        """The stretches."""
        limit, stretches = self._pauses.found()
        if stretches:
            count = at_least(len(stretches), "stretch", "stretches")
            yield Oddity(
                Flaw.FLAT_PRICES,
                f"{count} without a move of the price: {told(stretches, limit)}",
                ("flat_minutes", "gap_factor"),
                "look whether trades are missing there",
            )
