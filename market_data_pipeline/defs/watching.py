"""Which materialized days of ticks the source would now give otherwise than they were read, and which to ask for."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from typing import Self

from market_data_pipeline.defs.lineage import Partition, Span, spans
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.windows import as_day, by_month
from market_data_pipeline.sources.contract import WatchedSource

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
        return self._moved(span, Stage.DUE, Stage.ASKED)

    def due_again(self, span: Span) -> "Looked":
        """The same, once a run that had been asked for has died."""
        return self._moved(span, Stage.ASKED, Stage.DUE)

    def _moved(self, span: Span, before: Stage, after: Stage) -> "Looked":
        changed = {
            each: (state, after if stage is before and span.holds(each) else stage)
            for each, (state, stage) in self.changed.items()
        }
        return replace(self, changed=changed)


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

    def look(self, read: Mapping[Partition, str], made: Mapping[str, Mapping[date, int]], before: Looked) -> Looked:
        """Looks at as many partitions as there is time for, at one batch in any case.

        Args:
            read: in which states days were last read with these instruments.
            made: for each asset its materialized partitions.
            before: what the last look has shown.

        Raises:
            SourceError: the source cannot be used.
        """
        until = time.monotonic() + self.seconds
        batches = list(self._batches(read, made))
        changed, goes_on = dict(before.changed), before.goes_on
        for number in range(before.goes_on, len(batches)):
            name, days = batches[number]
            now = self.source.states(name, days, self.selection)
            for day in days:
                _follow(changed, (name, day), now.get(day), read[name, day])
            goes_on = number + 1
            if time.monotonic() >= until:
                break
        return Looked(changed, goes_on if goes_on < len(batches) else 0)

    def _batches(
        self, read: Mapping[Partition, str], made: Mapping[str, Mapping[date, int]]
    ) -> Iterator[tuple[str, list[date]]]:
        for name in self.names:
            days = sorted(day for day in made[name] if (name, day) in read)
            yield from ((name, days[at : at + _DAYS]) for at in range(0, len(days), _DAYS))


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
