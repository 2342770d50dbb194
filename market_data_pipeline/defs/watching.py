"""Which materialized days of ticks the source would now give otherwise than they were read, and which to ask for."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Self

import dagster as dg

from market_data_pipeline.defs.lineage import Partition, Span, spans
from market_data_pipeline.defs.upstream import ASKED
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.windows import as_day, by_month
from market_data_pipeline.sources.contract import WatchedSource

STATE = "source_state"
"""Metadata of a partition of ticks: the state of the source before it was read; empty where it had nothing."""
_PAGE = 500
_DAYS = 366
"""Partitions that are looked at together: few enough to be looked at in a second or so, even on a network drive."""


class Stage(StrEnum):
    """How far it has come with a state that differs from the one in which the partition was read."""

    SEEN = "seen"
    DUE = "due"
    ASKED = "asked"


@dataclass(frozen=True)
class Looked:
    """What looking at the source has shown, in the sensor's cursor.

    Attributes:
        changed: partitions whose days differ in the source, with the state there and the stage.
        goes_on: with which batch of partitions the next look begins; 0 once all have been looked at.
    """

    changed: Mapping[Partition, tuple[str, Stage]] = field(default_factory=dict)
    goes_on: int = 0

    @classmethod
    def load(cls, told: object) -> Self:
        """From what `dump` gave; nothing has been looked at without it."""
        if not isinstance(told, dict):
            return cls()
        changed = {(name, as_day(day)): (state, Stage(stage)) for name, day, state, stage in told["changed"]}
        return cls(changed, told["goes_on"])

    def dump(self) -> dict[str, object]:
        """As JSON has it."""
        changed = [[name, str(day), state, stage] for (name, day), (state, stage) in self.changed.items()]
        return {"changed": changed, "goes_on": self.goes_on}

    def at(self, stage: Stage) -> list[Partition]:
        """The partitions at a stage, in order."""
        return sorted(each for each, (_, reached) in self.changed.items() if reached is stage)

    @property
    def next_run(self) -> Span | None:
        """The next run to ask for: days of one month, so that one that fails leaves the others; None for none."""
        due = self.at(Stage.DUE) if not self.goes_on else []
        if not due:
            return None
        month = by_month(day for _, day in due)[0]
        return spans({name: {day for at, day in due if at == name and day in month} for name, _ in due})[0]

    def asked_for(self, span: Span) -> "Looked":
        """The same, once a run has been asked for."""
        return Looked(
            {
                (name, day): (state, Stage.ASKED if name in span.assets and span.first <= day <= span.last else stage)
                for (name, day), (state, stage) in self.changed.items()
            },
            self.goes_on,
        )


class Watch:
    """Compares the state of the source with the one in which days were read.

    A changed day is due once two looks in a row have found it in the same state: files that are being written or
    taken away just now are left in peace. It is asked for once in each state. A day of which the source has nothing
    any more is not: the lake would keep what it has.

    Attributes:
        source: what is looked at.
        names: the assets that are read from it.
        selection: the instruments of the settings; a day counts as it was last read with these.
        seconds: how long a look may take before it leaves the rest to the next one.
    """

    def __init__(self, source: WatchedSource, names: Sequence[str], selection: Selection, seconds: float = 5) -> None:
        self.source, self.names, self.selection, self.seconds = source, sorted(names), selection, seconds
        # what Dagster's history says is read once by each process, and then read on: it grows with every run
        self._read: dict[str, dict[date, str]] = {name: {} for name in self.names}
        self._places: dict[str, int] = dict.fromkeys(self.names, 0)

    def look(self, instance: dg.DagsterInstance, made: Mapping[str, Mapping[date, int]], before: Looked) -> Looked:
        """Looks at as many partitions as there is time for, at one batch in any case.

        Args:
            instance: tells in which states days were read.
            made: for each asset its materialized partitions.
            before: what the last look has shown.

        Raises:
            SourceError: the source cannot be used.
        """
        until = time.monotonic() + self.seconds
        if not all(self._caught_up(instance, name, until) for name in self.names):
            return before
        batches = list(self._batches(made))
        changed, goes_on = dict(before.changed), before.goes_on
        for number in range(before.goes_on, len(batches)):
            name, days = batches[number]
            now = self.source.states(name, days, self.selection)
            for day in days:
                _follow(changed, (name, day), now.get(day), self._read[name][day])
            goes_on = number + 1
            if time.monotonic() >= until:
                break
        return Looked(changed, goes_on if goes_on < len(batches) else 0)

    def _batches(self, made: Mapping[str, Mapping[date, int]]) -> Iterator[tuple[str, list[date]]]:
        for name in self.names:
            days = sorted(self._read[name].keys() & made[name].keys())
            yield from ((name, days[at : at + _DAYS]) for at in range(0, len(days), _DAYS))

    def _caught_up(self, instance: dg.DagsterInstance, name: str, until: float) -> bool:
        """Reads on in the history of an asset; false where time was too short for all of it."""
        while True:
            page = instance.fetch_materializations(
                dg.AssetRecordsFilter(dg.AssetKey(name), after_storage_id=self._places[name]), _PAGE, ascending=True
            )
            for record in page.records:
                self._places[name] = record.storage_id
                self._take(name, record)
            if not page.has_more:
                return True
            if time.monotonic() >= until:
                return False

    def _take(self, name: str, record: dg.EventLogRecord) -> None:
        made = record.asset_materialization
        if made is None or made.partition is None:
            return
        told = {key: value.value for key, value in made.metadata.items() if key in (STATE, ASKED)}
        if STATE in told and told.get(ASKED) == str(self.selection):
            self._read[name][as_day(made.partition)] = str(told[STATE])


def _follow(changed: dict[Partition, tuple[str, Stage]], partition: Partition, now: str | None, read: str) -> None:
    """Brings what is known of a changed partition up to date with its state in the source."""
    known, stage = changed.get(partition, (None, Stage.SEEN))
    if now == read:
        changed.pop(partition, None)
    elif now is not None and now != known:
        changed[partition] = (now, Stage.SEEN)
    elif now is not None and stage is Stage.SEEN:
        changed[partition] = (now, Stage.DUE)
    elif now is None and stage is not Stage.ASKED:
        changed.pop(partition, None)
