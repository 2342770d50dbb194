"""Which partitions were made from something that has changed since, and which of them may be made anew."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter

from market_data_pipeline.defs.checks import QUALITY_CHECK
from market_data_pipeline.defs.history import History
from market_data_pipeline.defs.lineage import Change, Lineage, Partition, Span, following, reached, spans
from market_data_pipeline.defs.recorded import ALL
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.transforms.quality import FLAWS


@dataclass
class Outdated:
    """Partitions by what is to be done about them, each with the changes that have not come into it.

    Attributes:
        due: may be made anew.
        again: were asked for since the newest of these changes, and are out of date all the same.
        held: would take in rows that failed a check which blocks; only these changes stand here.
        beyond: of instruments that the settings leave out.
    """

    due: dict[Partition, list[Change]] = field(default_factory=dict)
    again: dict[Partition, list[Change]] = field(default_factory=dict)
    held: dict[Partition, list[Change]] = field(default_factory=dict)
    beyond: dict[Partition, list[Change]] = field(default_factory=dict)

    @property
    def newest(self) -> int:
        """The place in Dagster's history of the newest change on account of which something is due."""
        return max((change.at for changes in self.due.values() for change in changes), default=0)

    def next_run(self, made: Mapping[str, Collection[date]], lineage: Lineage) -> Span | None:
        """The first of the runs that make anew what is due and what follows from it; None for none."""
        free = {name: {day for day in made[name] if (name, day) not in self.held} for name in made}
        runs = spans(following(self.due, free, lineage))
        return runs[0] if runs else None

    def said(self) -> list[str]:
        """Why some of them are not asked for."""
        told = []
        if self.again:
            (name, day), others = _first(self.again)
            told.append(
                f"{name} of {day}{others} was asked for, and that did not succeed; materialize it and the rest goes "
                "on, or reset this sensor's cursor to ask again"
            )
        if self.held:
            (name, day), others = _first(self.held)
            told.append(
                f"{name} of {day}{others} is held back: {_named(self.held)} failed the check {QUALITY_CHECK} "
                "(MARKET_DATA_QUALITY_BLOCKING); after a look, materialize what was checked, or what is held back"
            )
        if self.beyond:
            (name, day), others = _first(self.beyond)
            told.append(
                f"{name} of {day}{others} is out of date for instruments that MARKET_DATA_INSTRUMENTS leaves out: "
                f"{_named(self.beyond)} changed; materialize it with a setting that has them"
            )
        return told


def outdated(
    instance: dg.DagsterInstance,
    history: History,
    made: Mapping[str, Collection[date]],
    lineage: Lineage,
    selection: Selection,
    asked: Iterable[tuple[Span, int]],
) -> Outdated:
    """Looks through the changes, and lets the history forget those that have come into everything.

    Only runs that went on meanwhile could have read before a change and be recorded after it; call it while none does.

    Args:
        instance: tells which checks failed.
        history: the changes, and how partitions were made.
        made: for each asset its materialized partitions.
        lineage: what is made from what.
        selection: the instruments of the settings.
        asked: what has been asked for, each with the place of the newest change on account of which it was.
    """
    found = Outdated()
    within: dict[Partition, list[Change]] = {}
    lacking: dict[Change, None] = {}
    ours_of = _Ours(selection)
    for change in history.changes:
        for partition, reach in reached(change, lineage):
            name, day = partition
            if day not in made[name]:
                continue
            missing = history.not_made_since(change, partition, across=reach.across)
            if missing:
                lacking[change] = None
            ours = ours_of[missing]
            if ours:
                within.setdefault(partition, []).append(change)
            if ours < missing:
                found.beyond.setdefault(partition, []).append(change)
    history.changes = list(lacking)
    blocked = _Blocked(instance)
    for partition, changes in within.items():
        if stopped := list(filter(blocked, changes)):
            found.held[partition] = stopped
        elif any(span.holds(partition) and at >= max(each.at for each in changes) for span, at in asked):
            found.again[partition] = changes
        else:
            found.due[partition] = changes
    return found


def still_asked(
    asked: Iterable[tuple[Span, int]], found: Outdated, ticks: Iterable[Partition]
) -> tuple[tuple[Span, int], ...]:
    """Of what has been asked for, that which is not made yet, or whose `ticks` are not known to have been read."""
    waiting = [*found.again, *ticks]
    return tuple((span, at) for span, at in asked if any(span.holds(each) for each in waiting))


class _Ours(dict[frozenset[str], frozenset[str]]):
    """Which of some names the settings have; worked out once for each set of names."""

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self._selection = selection

    def __missing__(self, names: frozenset[str]) -> frozenset[str]:
        ours = frozenset(each for each in names if each == ALL or Instrument.parse(each) in self._selection)
        return self.setdefault(names, ours)


class _Blocked:
    """Whether the newest look at a partition's quality found what blocks; asked once for each partition."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._storage = instance.event_log_storage
        self._known: dict[Partition, bool] = {}

    def __call__(self, change: Change) -> bool:
        partition = (change.dataset, change.day)
        if partition not in self._known:
            self._known[partition] = change.dataset in FLAWS and self._failed(*partition)
        return self._known[partition]

    def _failed(self, name: str, day: date) -> bool:
        key = dg.AssetCheckKey(dg.AssetKey(name), QUALITY_CHECK)
        only = PartitionKeyFilter(key=day.isoformat())
        for record in self._storage.get_asset_check_execution_history(key, limit=5, partition_filter=only):
            entry = record.event.dagster_event if record.event else None
            if entry is not None and entry.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                told = entry.asset_check_evaluation_data
                return not told.passed and told.severity is dg.AssetCheckSeverity.ERROR
        return False


def _first(partitions: Mapping[Partition, object]) -> tuple[Partition, str]:
    others = f" ({len(partitions)} partitions in all)" if len(partitions) > 1 else ""
    return min(partitions, key=lambda each: (each[1], each[0])), others


def _named(partitions: Mapping[Partition, list[Change]]) -> str:
    change = min((each for changes in partitions.values() for each in changes), key=lambda each: each.at)
    return f"{change.dataset} of {change.day}"
