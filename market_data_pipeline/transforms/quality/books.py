"""Books: crossed or locked, without a side, with levels that are not in order."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from market_data_pipeline.transforms.quality.terms import (
    Flags,
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


class Share:
    """The share of time that some snapshots stand for: each until the next one, the last for none."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = 0
        self._time = self._whole = 0
        self._pending: tuple[int, bool] | None = None

    def add(self, stamps: Integers, bad: Flags) -> None:
        """Takes snapshots, rising in time, at least one, and which of them are meant."""
        if bad.any():
            self.first = self.first if self.rows else int(stamps[np.argmax(bad)])
            self.rows += int(np.count_nonzero(bad))
        lasted = np.diff(stamps)
        self._time += int(lasted[bad[:-1]].sum())
        self._whole += int(stamps[-1] - stamps[0])
        if self._pending is not None:
            since = int(stamps[0]) - self._pending[0]
            self._whole += since
            self._time += since * self._pending[1]
        self._pending = int(stamps[-1]), bool(bad[-1])

    @property
    def share(self) -> float:
        """The part of the time, 0 to 1."""
        return self._time / self._whole if self._whole else float(self.rows > 0)


class Book:
    """Crossed and one-sided books by their share of time, and levels that are not in order, by one look at the prices.

    Args:
        depth: how many levels the rows have.
        thresholds: which shares are odd.
        two_sided: whether a missing side is odd; for an option far from the money it is not.
    """

    def __init__(self, depth: int, thresholds: Thresholds, *, two_sided: bool) -> None:
        self._depth, self._thresholds, self._two_sided = depth, thresholds, two_sided
        self.columns = (
            "timestamp",
            *(f"{side}_price_{level}" for side in ("ask", "bid") for level in range(1, depth + 1)),
        )
        self._crossed, self._one_sided = Share(), Share()
        self._disorder = 0
        self._first_disorder = 0

    def add(self, rows: pa.Table) -> None:
        """Looks at some rows."""
        if not rows.num_rows:
            return
        stamps = stamps_of(rows)
        ask, bid = reals_of(rows, "ask_price_1"), reals_of(rows, "bid_price_1")
        self._crossed.add(stamps, bid >= ask)
        self._one_sided.add(stamps, np.isnan(bid) | np.isnan(ask))
        wrong = np.zeros(len(stamps), bool)
        for side, best in (("ask", ask), ("bid", bid)):
            inner = best
            for level in range(2, self._depth + 1):
                outer = reals_of(rows, f"{side}_price_{level}")
                wrong |= ~_in_order(inner, outer, rising=side == "ask")
                inner = outer
        if wrong.any():
            self._first_disorder = self._first_disorder if self._disorder else int(stamps[np.argmax(wrong)])
            self._disorder += int(np.count_nonzero(wrong))

    def found(self) -> Iterator[Oddity]:
        """Crossed, one-sided, disordered."""
        limits = self._thresholds
        if self._crossed.share > limits.crossed_share:
            yield Oddity(
                Flaw.CROSSED_BOOKS,
                f"the best bid is at or above the best ask for {_told(self._crossed)}",
                ("crossed_share",),
                "leave these snapshots out, or fetch the day again: the vendor may have lost the book there",
            )
        if self._two_sided and self._one_sided.share > limits.one_sided_share:
            yield Oddity(
                Flaw.ONE_SIDED_BOOKS,
                f"a side is missing for {_told(self._one_sided)}",
                ("one_sided_share",),
                "look whether the venue was in auction or down, or fetch the day again",
            )
        if self._disorder:
            yield Oddity(
                Flaw.LEVEL_ORDER,
                f"{plural(self._disorder, 'snapshot has', 'snapshots have')} levels that are not in order of price, "
                f"first at {clock(self._first_disorder)}",
                (),
                "fetch the day again: the vendor's book was wrong there",
            )


def _in_order(inner: Reals, outer: Reals, *, rising: bool) -> Flags:
    """Whether the outer level lies beyond the inner one, or is missing."""
    beyond = outer > inner if rising else outer < inner
    in_order: Flags = beyond | np.isnan(outer)
    return in_order


def _told(share: Share) -> str:
    return f"{share.share:.3%} of the time ({plural(share.rows, 'snapshot')}), first at {clock(share.first)}"
