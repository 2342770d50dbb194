"""What Dagster's history tells for corrections: how partitions have changed, and from what each was made.

It is read once by each process, some seconds at a time, and then read on: it grows with every run.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import dagster as dg

from market_data_pipeline.defs.lineage import Change, Lineage, Partition
from market_data_pipeline.defs.recorded import ALL, CHANGED, CHANGED_FROM, READ_AT, STATE, mapping
from market_data_pipeline.defs.upstream import ASKED, FAILED
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import as_day

_PAGE = 500
_SECONDS = 20
"""How long one reading may take before it leaves the rest to the next: Dagster gives an evaluation a minute."""


@dataclass(frozen=True)
class _Making:
    """One materialization of a partition.

    Attributes:
        read_at: the place in the history up to which its inputs' changes were in.
        asked: the instruments that it was asked for, in words.
        failed: the ids of those that could not be made.
    """

    read_at: int
    asked: str
    failed: frozenset[str]


class History:
    """The changes of partitions, and how those that are made from others were made.

    Attributes:
        names: the assets that are read of.
        partitions: how many materializations have been read.
        changes: the changes that have not come yet into all that is made from them, as far as is known.
        states: in which state of the source days of ticks were last read with the instruments of the settings.
    """

    def __init__(self, lineage: Lineage, selection: Selection) -> None:
        self.names = sorted({*lineage, *(name for inputs in lineage.values() for name in inputs)})
        self.partitions = 0
        self._made, self._own = frozenset(lineage), str(selection)
        self._places = dict.fromkeys(self.names, 0)
        self.changes: list[Change] = []
        self.states: dict[Partition, str] = {}
        self._makings: dict[Partition, list[_Making]] = {}
        # one set for each set of names, however many days have the same
        self._sets: dict[frozenset[str], frozenset[str]] = {}

    def read_on(self, instance: dg.DagsterInstance) -> bool:
        """Reads what has come since the last time; false where there was not time enough for all of it."""
        until = time.monotonic() + _SECONDS
        for name in self.names:
            more = True
            while more:
                wanted = dg.AssetRecordsFilter(dg.AssetKey(name), after_storage_id=self._places[name])
                page = instance.fetch_materializations(wanted, _PAGE, ascending=True)
                for record in page.records:
                    self._places[name] = record.storage_id
                    self._take(name, record)
                more = page.has_more
                if more and time.monotonic() >= until:
                    return False
        return True

    def _take(self, name: str, record: dg.EventLogRecord) -> None:
        made = record.asset_materialization
        if made is None or made.partition is None:
            return
        self.partitions += 1
        day, at = as_day(made.partition), record.storage_id
        told = {key: value.value for key, value in made.metadata.items() if key in (ASKED, FAILED, READ_AT, STATE)}
        if changed := mapping(made.metadata, CHANGED):
            named = frozenset(changed)
            since = made.metadata.get(CHANGED_FROM)
            first = datetime.fromisoformat(str(since.value)).date() if since else day
            self.changes.append(Change(name, day, at, min(first, day), self._sets.setdefault(named, named)))
        if STATE in told and told.get(ASKED) == self._own:
            self.states[name, day] = str(told[STATE])
        if name in self._made:
            failed = told.get(FAILED)
            labels = frozenset(each["instrument"] for each in failed) if isinstance(failed, list) else frozenset()
            making = _Making(int(str(told.get(READ_AT, at))), str(told.get(ASKED, Selection())), labels)
            before = self._makings.get((name, day), [])
            kept = [each for each in before if each.asked != making.asked or making.failed]
            self._makings[name, day] = [*kept, making]

    def not_made_since(self, change: Change, partition: Partition, *, across: bool) -> frozenset[str]:
        """The instruments of a change that have not come into a partition since.

        Args:
            change: what changed.
            partition: what is made from it.
            across: whether the rows of an instrument are made from those of others.
        """
        makings = self._makings.get(partition, [])
        if not makings:  # it has just been made, and is not read of yet
            return change.instruments
        if all(each.read_at >= change.at for each in makings):
            return frozenset()
        told = tuple((each.asked, each.failed) for each in makings)
        *made, never = _whose(told, self._own, change.instruments, across)
        behind = [names for each, names in zip(makings, made, strict=True) if each.read_at < change.at and names]
        # mostly it is one of them alone; the same set again is known again at once
        return behind[0] if len(behind) == 1 and not never else never.union(*behind)


@lru_cache(maxsize=1024)
def _whose(
    told: tuple[tuple[str, frozenset[str]], ...], own: str, names: frozenset[str], across: bool
) -> tuple[frozenset[str], ...]:
    """Which of some names now lie in a partition as which of its makings left them; partitions mostly have this alike.

    Args:
        told: of each making what it was asked for, and what of it failed; the newest last.
        own: the instruments of the settings, in words.
        names: the instruments; of those that nobody ever asked for nothing lies there.
        across: whether ALL is looked for, too.

    Returns:
        The names of each making, and those that none of them could make. ALL is that of the newest that made all that
        the settings have. Where none did, each of them made a part of it.
    """
    found: list[set[str]] = [set() for _ in range(len(told) + 1)]
    for name in (*names, ALL) if across else names:
        asked = [number for number, (words, _) in enumerate(told) if _covers(words, own, name)]
        if asked:
            found[max((number for number in asked if name not in told[number][1]), default=-1)].add(name)
        elif name == ALL:
            for each in found[:-1]:
                each.add(ALL)
    return tuple(names if each == names else frozenset(each) for each in found)


@lru_cache(maxsize=65_536)
def _covers(asked: str, own: str, name: str) -> bool:
    """Whether a run that was asked for some instruments made a name anew; ALL where it made all that we ask for."""
    if asked in (own, str(Selection())) and name == ALL:
        return True
    return name != ALL and Instrument.parse(name) in chosen(asked)


@lru_cache(maxsize=1024)
def chosen(asked: str) -> Selection:
    """The selection of these words."""
    return Selection() if asked == str(Selection()) else Selection.of(asked.split(", "))
