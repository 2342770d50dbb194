"""What is made from what, and how far: which days of one asset a day of another can change.

Dagster's own edges between assets join equal days. What a day reads of other days is no partition mapping: with one, a
backfill would run days that nobody asked for. It is declared here instead, and corrections go by it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby

from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Kind, Timeframe, candles
from market_data_pipeline.model.windows import DAY
from market_data_pipeline.transforms.inputs import PAST
from market_data_pipeline.transforms.signals import Recipe
from market_data_pipeline.transforms.technical import LOOK_BACK


@dataclass(frozen=True)
class Reach:
    """Which days are made from an input's day, besides the same one.

    Attributes:
        before: how many before it: those of which its file can hold rows, as vendors cut days by their own clock.
        after: how many after it.
        across: whether an instrument's rows are made from those of others, too, such as a perpetual's from its spot's.
    """

    before: int = 0
    after: int = 0
    across: bool = False

    def days(self, day: date, first: date) -> Iterator[date]:
        """The days that an input's day can change, in order; of those before it, none before its `first` row's day."""
        start = max(day - self.before * DAY, min(first, day))
        return (start + number * DAY for number in range((day - start).days + self.after + 1))


Lineage = Mapping[str, Mapping[str, Reach]]
"""For each asset that is made from the lake, its inputs and how far each reaches."""

Partition = tuple[str, date]
"""An asset and a day."""

_SAME_DAY, _BESIDE = Reach(), Reach(before=1, after=1)


def lineage(recipe: Recipe) -> Lineage:
    """What each asset is made from, with signals made by this recipe. The map observes everything else."""
    ticks = [each.name for each in DATASETS.values() if each.kind is Kind.TICKS]
    books = [name for name in ticks if name.startswith("book_")]
    made: dict[str, dict[str, Reach]] = {
        # the close before midnight is of the day before, so its file reaches the next day in any case
        "ohlcv_1m": {"trades": _BESIDE, "instruments": _SAME_DAY},
    }
    for frame in TIMEFRAMES.values():
        if frame.source:
            made[candles(frame.name).name] = {candles(frame.source).name: _SAME_DAY}
    looked_back_on = {
        candles(frame.name).name: Reach(after=_days(LOOK_BACK - 1, frame)) for frame in TIMEFRAMES.values()
    }
    made["technical_features"] = {**dict.fromkeys(["trades", *books], _BESIDE), **looked_back_on}
    made["fundamental_features"] = {
        "derivative_ticker": _BESIDE,
        # one instrument's liquidations tell that its venue's are known, so that others had none
        **dict.fromkeys(["liquidations", "options_chain"], replace(_BESIDE, across=True)),
        "instruments": _SAME_DAY,
        **dict.fromkeys((candles(name).name for name in TIMEFRAMES), replace(_SAME_DAY, across=True)),
    }
    training = Reach(after=recipe.training_days + _days(PAST, recipe.timeframe))
    made["ml_signals"] = dict.fromkeys(
        ["technical_features", "fundamental_features", candles(recipe.timeframe.name).name], training
    )
    observed = [each.name for each in DATASETS.values() if each.name != "available_instruments"]
    made["available_instruments"] = {name: _SAME_DAY for name in observed if DATASETS[name].from_source or name in made}
    return made


def _days(candles_before: int, frame: Timeframe) -> int:
    """How many days so many candles begin before midnight, whole days."""
    return -(-candles_before * frame.length // DAY)


@dataclass(frozen=True)
class Change:
    """A partition that was materialized with other content than before.

    Attributes:
        dataset: whose partition.
        day: which.
        at: the place of the materialization in Dagster's history, which rises with time.
        first: the day of the first row that it held, before or after the change.
        instruments: the ids of those whose content changed.
    """

    dataset: str
    day: date
    at: int
    first: date
    instruments: frozenset[str]


def reached(change: Change, lineage: Lineage) -> Iterator[tuple[Partition, Reach]]:
    """The partitions that a change can change, made or not, each with what joins them."""
    for name, reach in _made_from(change.dataset, lineage):
        yield from (((name, day), reach) for day in reach.days(change.day, change.first))


def following(
    roots: Iterable[Partition], made: Mapping[str, Collection[date]], lineage: Lineage
) -> dict[str, set[date]]:
    """Some partitions and those that were made from them, one from the other.

    Args:
        roots: the partitions.
        made: for each asset, the partitions that are materialized and can be made again.
        lineage: what is made from what.

    Returns:
        For each asset its partitions; assets without any are left out.
    """
    found: dict[str, set[date]] = {}
    waiting = sorted(roots)
    while waiting:
        name, day = waiting.pop()
        days = found.setdefault(name, set())
        if day not in days:
            days.add(day)
            waiting.extend(
                (after, each)
                for after, reach in _made_from(name, lineage)
                for each in reach.days(day, day)
                if each in made.get(after, ()) and each not in found.get(after, ())
            )
    return found


def _made_from(dataset: str, lineage: Lineage) -> Iterator[tuple[str, Reach]]:
    return ((name, inputs[dataset]) for name, inputs in lineage.items() if dataset in inputs)


@dataclass(frozen=True)
class Span:
    """Some days of some assets that one run can make.

    Attributes:
        first: the first day.
        last: the last day, included.
        assets: their names, in order.
    """

    first: date
    last: date
    assets: tuple[str, ...]

    def holds(self, partition: Partition) -> bool:
        """Whether a partition is one of them."""
        name, day = partition
        return name in self.assets and self.first <= day <= self.last

    def __str__(self) -> str:
        days = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        return f"{', '.join(self.assets)} on {days}"


def spans(partitions: Mapping[str, Iterable[date]]) -> list[Span]:
    """Partitions as the fewest runs that make no other ones, in order of time.

    A later day may look back on an earlier one, so each run must have ended before the next begins.
    """
    assets_of: dict[date, list[str]] = {}
    for name in sorted(partitions):
        for day in partitions[name]:
            assets_of.setdefault(day, []).append(name)
    days = sorted(assets_of)
    # days that follow one another keep a constant distance to their place in the list
    runs = groupby(enumerate(days), lambda at: (at[1] - at[0] * timedelta(days=1), assets_of[at[1]]))
    made = []
    for (_, assets), run in runs:
        members: Sequence[date] = [day for _, day in run]
        made.append(Span(members[0], members[-1], tuple(assets)))
    return made
