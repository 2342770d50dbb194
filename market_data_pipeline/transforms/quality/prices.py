"""Prices of trades: those that jump and return at once, and those (or amounts) that are not above zero."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from market_data_pipeline.transforms.quality.terms import (
    Flaw,
    Integers,
    Oddity,
    Reals,
    Thresholds,
    clock,
    plural,
    reals_of,
    stamps_of,
)

_LEAST = 100
_AGREE = 0.25
_BINS_OF_DECADE = 50
_DECADES = 9
_LEAST_MOVE = 1e-8
_MOST = 100_000


class Jumps:
    """Prices that jump and return at once, by more than the instrument's own moves account for.

    A price counts that lies beyond both its neighbours, while these lie near each other (within a quarter of the jump):
    a market that runs away does not count. Prices that repeat are one. With fewer than 100 moves a day nothing is said.
    """

    def __init__(self, thresholds: Thresholds) -> None:
        self._least, self._factor = thresholds.jump, thresholds.jump_factor
        self._moves = np.zeros(_BINS_OF_DECADE * _DECADES + 2, np.int64)
        self._prices: Reals = np.zeros(0)
        self._stamps: Integers = np.zeros(0, np.int64)
        self._large: list[tuple[Reals, Reals, Reals, Integers]] = []
        self._kept = 0

    def see(self, prices: Reals, stamps: Integers) -> None:
        """Takes some prices, all above zero, in the order of their times."""
        if not len(prices):
            return
        known = len(self._prices)
        prices, stamps = np.r_[self._prices, prices], np.r_[self._stamps, stamps]
        new = np.r_[True, prices[1:] != prices[:-1]]
        prices, stamps = prices[new], stamps[new]
        # of the prices that are held, the moves between them were counted before
        moves = np.diff(np.log(prices))
        self._count(np.abs(moves[max(known - 1, 0) :]))
        there, back = moves[:-1], moves[1:]
        size = np.minimum(np.abs(there), np.abs(back))
        alone = (there * back < 0) & (np.abs(there + back) <= _AGREE * size) & (size > np.log1p(self._least))
        where = np.flatnonzero(alone) + 1
        if len(where) and self._kept < _MOST:
            self._large.append((size[where - 1], prices[where], prices[where - 1], stamps[where]))
            self._kept += len(where)
        self._prices, self._stamps = prices[-2:], stamps[-2:]

    def _count(self, moves: Reals) -> None:
        if len(moves):
            places = np.floor((np.log10(np.maximum(moves, _LEAST_MOVE)) + _DECADES - 1) * _BINS_OF_DECADE)
            bins = np.clip(places.astype(np.int64) + 1, 0, len(self._moves) - 1)
            self._moves += np.bincount(bins, minlength=len(self._moves))

    def _usual(self) -> float:
        """The move that 99 of 100 moves stay below, to 5 in 100."""
        place = int(np.searchsorted(np.cumsum(self._moves), 0.99 * self._moves.sum()))
        return float(10 ** (place / _BINS_OF_DECADE - _DECADES + 1))

    def found(self, what: str, advice: str) -> Iterator[Oddity]:
        """The jumps of the day, if there are any."""
        if not self._large or self._moves.sum() < _LEAST:
            return
        usual = self._usual()
        sizes, prices, before, stamps = (np.concatenate(parts) for parts in zip(*self._large, strict=True))
        odd = np.flatnonzero(sizes > self._factor * usual)
        if not len(odd):
            return
        first, worst = odd[0], odd[np.argmax(sizes[odd])]
        largest = f"the largest at {clock(stamps[worst])}: {prices[worst]:g} beside {before[worst]:g}; "
        yield Oddity(
            Flaw.PRICE_JUMPS,
            f"{plural(len(odd), what)} {'jumps and returns' if len(odd) == 1 else 'jump and return'}, first at "
            f"{clock(stamps[first])}: {prices[first]:g} beside {before[first]:g}; "
            f"{largest if len(odd) > 1 else ''}99 of 100 moves of the day are below {np.expm1(usual):.2%}",
            ("jump", "jump_factor"),
            advice,
        )


class TradeJumps:
    """Trades whose price jumps and returns."""

    columns = ("timestamp", "price")

    def __init__(self, thresholds: Thresholds) -> None:
        self._jumps = Jumps(thresholds)

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        prices, stamps = reals_of(rows, "price"), stamps_of(rows)
        usable = prices > 0
        if not usable.all():
            prices, stamps = prices[usable], stamps[usable]
        self._jumps.see(prices, stamps)

    def found(self) -> Iterator[Oddity]:
        """The jumps."""
        advice = "compare it with the venue: a wrong print makes a wick in the candles"
        yield from self._jumps.found("price", advice)


class NotPositive:
    """Prices and amounts that are not above zero: the sources set them aside, so none should be here."""

    columns = ("timestamp", "price", "amount")

    def __init__(self) -> None:
        self._rows = 0
        self._first = 0

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        bad = ~((reals_of(rows, "price") > 0) & (reals_of(rows, "amount") > 0))
        if bad.any():
            self._first = self._first if self._rows else int(stamps_of(rows)[np.argmax(bad)])
            self._rows += int(np.count_nonzero(bad))

    def found(self) -> Iterator[Oddity]:
        """How many rows."""
        if self._rows:
            yield Oddity(
                Flaw.NOT_POSITIVE,
                f"{plural(self._rows, 'row has', 'rows have')} a price or an amount that is not above 0, first at "
                f"{clock(self._first)}",
                (),
                "materialize the day again: its source should have set them aside",
            )
