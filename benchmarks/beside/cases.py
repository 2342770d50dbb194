"""What a case is: some work, who does it, and how much of the others' time (or bytes) ours may take."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Size:
    """How much data a run is over.

    Attributes:
        trades: of one instrument's day.
        instruments: of the days of many.
        days: of a month, and of a backfill.
        listed: rows of an availability map.
        scale: trades of the whole days whose times are compared.
        scale_instruments: how many share these.
        selection: which instruments of the sample market; empty for all.
        latency: seconds that the test server of Google's storage adds to each request.
    """

    trades: int
    instruments: int
    days: int
    listed: int
    scale: tuple[int, ...]
    scale_instruments: int
    selection: str
    latency: float


SIZES = {
    "small": Size(20_000, 3, 2, 20, (2_000, 6_000, 20_000), 4, "binance:SPOT_PAIR:BTC-USDT", 0.002),
    "full": Size(1_000_000, 50, 31, 500, (10_000_000, 30_000_000, 100_000_000), 500, "", 0.02),
}


@dataclass(frozen=True)
class Ground:
    """Where a run's data lie: what all contenders share, and what each made for itself.

    Attributes:
        home: the folder.
        size: how much there is.
    """

    home: Path
    size: Size

    def own(self, name: str) -> Path:
        """A contender's own folder."""
        folder = self.home / "own" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def nothing(*_: Any) -> None:
    """Does nothing."""


@dataclass(frozen=True)
class Turn:
    """What a contender does when it is asked to.

    Attributes:
        run: the work that is timed; what it gives must be the same as the others'. A number where the case counts
            bytes.
        before: makes ready for one run; not timed.
        after: is given what the run gave, and returns what is said of it; not timed.
    """

    run: Callable[[], Any]
    before: Callable[[], None] = nothing
    after: Callable[[Any], str | None] = nothing


@dataclass(frozen=True)
class Contender:
    """One way of doing a case's work.

    Attributes:
        label: its name in the table.
        ready: opens what it needs; what it returns is run again and again.
        make: writes the files that it reads, once, in a process that ends before.
        peer: the package that it is, which the bench environment has; None for what runs in the project's own.
    """

    label: str
    ready: Callable[[Ground], Turn]
    make: Callable[[Ground], None] = nothing
    peer: str | None = None


@dataclass(frozen=True)
class Under:
    """A bound that is no ratio.

    Attributes:
        value: seconds or megabytes.
        of: what it bounds: `median`, `p95` or `peak`.
    """

    value: float
    of: str


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: what it is asked for by.
        work: what is done.
        contenders: ours first.
        goals: the most that ours may take of theirs, by label; without one, it is for information.
        under: bounds of ours that are no ratios.
        needs: the data that it is over, see `data.MADE`.
        calls: how often a contender runs in each of its turns.
        most: the most turns that it has; a run of minutes is not taken five times.
        unit: what is compared: `s`, or `bytes`.
        agree: whether all must give the same.
        note: what a reader of the table must know.
    """

    name: str
    work: str
    contenders: tuple[Contender, ...]
    goals: Mapping[str, float]
    under: tuple[Under, ...] = ()
    needs: tuple[str, ...] = ()
    calls: int = 1
    most: int = 1000
    unit: str = "s"
    agree: bool = True
    note: str = ""
