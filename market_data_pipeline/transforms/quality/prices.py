"""Prices of trades: those that jump and return at once, and those (or amounts) that are not above zero."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from market_data_pipeline.transforms.quality.terms import (
    Flaw,
    Integers,
    Largest,
    Oddity,
    Reals,
    Thresholds,
    at_least,
    clock,
    plural,
    reals_of,
    stamps_of,
)
from market_data_pipeline.transforms.quality.times import Life

_LEAST = 100
_LONGEST = 4
_EDGE = 9
_AGREE = 0.25
_BINS_OF_DECADE = 50
_DECADES = 9
_LEAST_MOVE = 1e-8


class Jumps:
    """Prices that jump and return at once, by more than the instrument's own moves account for.

    Up to four prices in a row (as many as a candle has) count that lie away from both the one before and the one after
    them, while these lie near each other (within a quarter of the jump): a market that runs away does not count. Prices
    that repeat are one. For the price before the day's first and after its last one, the middle one of the nine nearest
    stands in; not where the instrument's life begins or ends on the day. With fewer than 100 moves a day nothing is
    said.
    """

    def __init__(self, life: Life, thresholds: Thresholds) -> None:
        self._least, self._factor = np.log1p(thresholds.jump), thresholds.jump_factor
        self._life = life
        self._moves = np.zeros(_BINS_OF_DECADE * _DECADES + 2, np.int64)
        self._prices: Reals = np.zeros(0)
        self._stamps: Integers = np.zeros(0, np.int64)
        self._first = self._prices, self._stamps
        self._large = Largest()

    def see(self, prices: Reals, stamps: Integers) -> None:
        """Takes some prices, all above zero, in the order of their times."""
        if not len(prices):
            return
        known = len(self._prices)
        prices, stamps = np.r_[self._prices, prices], np.r_[self._stamps, stamps]
        new = np.r_[True, prices[1:] != prices[:-1]]
        prices, stamps = prices[new], stamps[new]
        if len(self._first[0]) < _EDGE:
            self._first = prices[:_EDGE], stamps[:_EDGE]
        moves = np.abs(np.diff(np.log(prices)))
        # of the prices that are held, the moves between them were counted before
        self._count(moves[max(known - 1, 0) :])
        self._compare(prices, stamps, np.flatnonzero(moves > self._least), known)
        self._prices, self._stamps = prices[-_EDGE:], stamps[-_EDGE:]

    def _compare(self, prices: Reals, stamps: Integers, before: Integers, known: int) -> None:
        """Keeps the prices in a row that lie apart, each row after one of the places `before`, which rise.

        Of the first `known` prices alone this was done before.
        """
        path = np.log(prices)
        for length in range(1, _LONGEST + 1):
            where = before[(before + length + 1 >= known) & (before + length + 1 < len(path))]
            one, other = path[where, None], path[where + length + 1, None]
            between = path[where[:, None] + np.arange(1, length + 1)]
            size = np.minimum(np.abs(between - one), np.abs(between - other)).min(axis=1)
            alone = (size > self._least) & (np.abs(one - other)[:, 0] <= _AGREE * size)
            where = where[alone]
            self._large.add(size[alone], prices[where + 1], prices[where], stamps[where + 1])

    def _compare_edges(self) -> None:
        """Looks at the first and the last prices as if their middle one stood before and after them."""
        for there, prices, stamps in (
            (self._life.since is not None, *self._first),
            (self._life.to_end, self._prices[::-1], self._stamps[::-1]),
        ):
            if there:
                beyond = np.sort(prices)[len(prices) // 2]
                self._compare(np.r_[beyond, prices], np.r_[0, stamps], np.zeros(1, np.int64), 0)

    def _count(self, moves: Reals) -> None:
        if len(moves):
            places = np.floor((np.log10(np.maximum(moves, _LEAST_MOVE)) + _DECADES - 1) * _BINS_OF_DECADE)
            bins = np.clip(places.astype(np.int64) + 1, 0, len(self._moves) - 1)
            self._moves += np.bincount(bins, minlength=len(self._moves))

    def _usual(self) -> float:
        """The move that 99 of 100 moves stay below, to 5 in 100."""
        place = int(np.searchsorted(np.cumsum(self._moves), 0.99 * self._moves.sum()))
        return float(10 ** (place / _BINS_OF_DECADE - _DECADES + 1))

    def found(self, advice: str) -> Iterator[Oddity]:
        """The jumps of the day, if there are any."""
        if self._moves.sum() < _LEAST:
            return
        self._compare_edges()
        usual = self._usual()
        sizes, prices, before, stamps = self._large.all()
        odd = np.flatnonzero(sizes > self._factor * usual)
        if not len(odd):
            return
        first, worst = odd[np.argmin(stamps[odd])], odd[np.argmax(sizes[odd])]
        largest = f"the largest at {clock(stamps[worst])}: {prices[worst]:g} beside {before[worst]:g}; "
        yield Oddity(
            Flaw.PRICE_JUMPS,
            f"{at_least(len(odd), 'price lies', 'prices lie')} apart, first at "
            f"{clock(stamps[first])}: {prices[first]:g} beside {before[first]:g}; "
            f"{largest if len(odd) > 1 else ''}99 of 100 moves of the day are below {np.expm1(usual):.2%}",
            ("jump", "jump_factor"),
            advice,
        )


class TradeJumps:
    """Trades whose price jumps and returns, or lies apart at the day's edge."""

    columns = ("timestamp", "price")

    def __init__(self, life: Life, thresholds: Thresholds) -> None:
        self._jumps = Jumps(life, thresholds)

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        prices, stamps = reals_of(rows, "price"), stamps_of(rows)
        usable = prices > 0
        if not usable.all():
            prices, stamps = prices[usable], stamps[usable]
        self._jumps.see(prices, stamps)

    def found(self) -> Iterator[Oddity]:
        """The jumps."""
        yield from self._jumps.found("compare it with the venue: a wrong print makes a wick in the candles")


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
