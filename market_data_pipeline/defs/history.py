"""What Dagster's history tells for corrections: how partitions have changed, and from what state each was made.

It is read once by each process, some seconds at a time, and then read on: it grows with every run.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import dagster as dg

from market_data_pipeline.defs.lineage import Change, Lineage, Partition
from market_data_pipeline.defs.recorded import ALL, CHANGED, CHANGED_FROM, READ_AT, mapping
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
    """

    def __init__(self, lineage: Lineage, selection: Selection) -> None:
        self.names = sorted({*lineage, *(name for inputs in lineage.values() for name in inputs)})
        self.partitions = 0
        self._made, self._own = frozenset(lineage), str(selection)
        self._places = dict.fromkeys(self.names, 0)
        self.changes: list[Change] = []
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
        told = {key: value.value for key, value in made.metadata.items() if key in (ASKED, FAILED, READ_AT)}
        if changed := mapping(made.metadata, CHANGED):
            named = frozenset(changed)
            since = made.metadata.get(CHANGED_FROM)
            first = datetime.fromisoformat(str(since.value)).date() if since else day
            self.changes.append(Change(name, day, at, min(first, day), self._sets.setdefault(named, named)))
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
        return frozenset(
            name
            for name in (*change.instruments, *((ALL,) if across else ()))
            if (read_at := self._read_at(makings, name)) is not None and read_at < change.at
        )

    def _read_at(self, makings: list[_Making], name: str) -> int | None:
        """When the inputs were read of what now lies there of an instrument; None where nobody ever asked for it."""
        asked = [each for each in makings if _covers(each.asked, self._own, name)]
        return next((each.read_at for each in reversed(asked) if name not in each.failed), 0) if asked else None


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
