"""Month files: what the day files of `by_date` say, by group and month, published under a precondition.

A month file's footer keeps, for each day, a digest of the day files it was made from. A run looks which of its days
differ, carries the other row groups over, and publishes the result only if the object is still the one that was read;
else it does it again on the newer one. The day files are listed after the month file was opened, and every run lands
its day files before it opens a month file: so whichever run publishes last has seen all that landed before, and no row
is lost.

What was listed may be replaced before it is published, by a run that then finds the month file as it wants it and goes
home (its day file became again what the month file was made from). So a run that published looks at the day files once
more, and a digest is only ever written over the very bytes that it was made from.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from threading import BoundedSemaphore
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import DayObject, day_objects, stored_fields
from market_data_pipeline.lake.differences import restoring
from market_data_pipeline.lake.parquet import explained, opened, parquet_file
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.splicing import ADVICE, OpenMonth, month_digests, splice_month
from market_data_pipeline.lake.stores.contract import ObjectStore, Pinned
from market_data_pipeline.lake.stores.parallel import in_parallel
from market_data_pipeline.lake.stores.waiting import wait_for_others
from market_data_pipeline.model.datasets import Codec, Dataset
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout, instrument_fields

log = logging.getLogger(__name__)

_Group = tuple[tuple[str, str], ...]
_AT_ONCE = 256  # month files held open together; each batch costs one listing of its days
_ATTEMPTS = 40


@dataclass(frozen=True)
class Target:
    """One month file that some days belong to.

    Attributes:
        layout: its layout.
        key: its key in the store.
        fields: what the instruments in it have in common.
        days: which of its days are brought in step.
        anew: made from these days alone, whatever it holds: for one that is damaged.
    """

    layout: Layout
    key: str
    fields: _Group
    days: tuple[date, ...]
    anew: bool = False


class Contents(Protocol):
    """What month files of one kind are put together from; its members stand for day files."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the month files."""
        ...

    @property
    def codec(self) -> Codec:
        """How they are compressed."""
        ...

    def of(self, target: Target, day: date, objects: Sequence[DayObject], old: pq.ParquetFile | None) -> Sequence[Any]:
        """The members of a day that belong into a month file, in order; `old` is what it was.

        Raises:
            ObjectNotFound: one was deleted since it was listed.
        """
        ...

    def digest(self, target: Target, members: Sequence[Any]) -> str | None:
        """Tells whether a day's rows are the same as those of another time; None for none."""
        ...

    def tables(self, target: Target, members: Sequence[Any]) -> Iterator[pa.Table]:
        """Their rows; each table becomes a row group."""
        ...

    def same(self, target: Target, objects: Sequence[DayObject], members: Sequence[Any], digest: str | None) -> bool:
        """Whether a later listing shows what the members were made from."""
        ...


@dataclass(frozen=True)
class MonthFile:
    """A month file after a run.

    Attributes:
        layout: the layout's name.
        key: its key in the store.
        rows: rows of all its days; 0 where it became empty and was deleted.
        size: bytes.
        changed: whether this run published it.
    """

    layout: str
    key: str
    rows: int
    size: int
    changed: bool


@dataclass(frozen=True)
class _Outcome:
    """What became of a month file, and for each day the members and the digest that it was brought in step with."""

    month: MonthFile
    chosen: Mapping[date, Sequence[Any]]
    digests: Mapping[date, str | None]


def targets_of(store: ObjectStore, dataset: Dataset, places: Iterable[tuple[date, Instrument | None]]) -> list[Target]:
    """The month files that hold some day files' rows, or did so before, in order of key.

    Args:
        store: the lake.
        dataset: whose month files.
        places: the days, and whose they are: None where a day file holds all instruments.

    Raises:
        LakeError: a day file that holds all instruments cannot be read.
    """
    chosen = _by_instrument(dataset, places) if dataset.per_instrument else _by_rows(store, dataset, places)
    days: dict[tuple[str, Layout, _Group], set[date]] = {}
    for layout, group, day in chosen:
        key = layout.format(day, **(dataset.path_fields() | dict(group)))
        days.setdefault((key, layout, group), set()).add(day)
    targets = (Target(layout, key, group, tuple(sorted(found))) for (key, layout, group), found in days.items())
    return sorted(targets, key=lambda target: target.key)


def _by_instrument(
    dataset: Dataset, places: Iterable[tuple[date, Instrument | None]]
) -> Iterator[tuple[Layout, _Group, date]]:
    for day, instrument in places:
        if instrument is not None:
            values = instrument_fields(instrument)
            for layout in dataset.month_layouts:
                yield layout, tuple((name, values[name]) for name in layout.group_fields), day


def _by_rows(
    store: ObjectStore, dataset: Dataset, places: Iterable[tuple[date, Instrument | None]]
) -> Iterator[tuple[Layout, _Group, date]]:
    """The groups of the stored rows, and those whose month file is there: they may have had rows before."""
    tables = {day: _stored_table(store, dataset, day) for day, _ in places}
    for layout in dataset.month_layouts:
        stored = list(stored_fields(store, dataset, layout))
        for day, table in tables.items():
            of_month = [found for found in stored if layout.day_of(found) == day.replace(day=1)]
            rows = table.select(list(layout.group_fields)).to_pylist()
            for group in {tuple((name, row[name]) for name in layout.group_fields) for row in (*rows, *of_month)}:
                yield layout, group, day


@whole
def _stored_table(store: ObjectStore, dataset: Dataset, day: date) -> pa.Table:
    key = dataset.path(dataset.layouts[0], day)
    try:
        with opened(store, key, restoring(day)) as file:
            return file.read()
    except ObjectNotFound:
        return dataset.schema.empty_table()


def publish_months(
    store: ObjectStore,
    dataset: Dataset,
    targets: Sequence[Target],
    contents: Contents,
    *,
    leaving: frozenset[tuple[date, Instrument | None]] = frozenset(),
    threads: int = 4,
) -> list[MonthFile]:
    """Brings month files in step with the day files.

    Args:
        store: the lake.
        dataset: whose month files.
        targets: which files, and which of their days.
        contents: what they are put together from.
        leaving: day files that still lie there but are about to be deleted: taken as gone.
        threads: how many month files are put together at once; as many are opened and sent as the store lets pay.

    Returns:
        What each became, in order of key.

    Raises:
        LakeError: other runs kept publishing newer versions until all attempts were used up.
    """
    done: list[MonthFile] = []
    published: set[str] = set()
    pending = list(targets)
    publishing = _Publishing(store, dataset, contents, leaving, threads, BoundedSemaphore(threads))
    for attempt in range(_ATTEMPTS):
        changed = f"{dataset.name}: {len(pending)} month files were changed by another run"
        wait_for_others(attempt, _ATTEMPTS, changed + "".join(f", first {each.key}" for each in pending[:1]), log)
        conflicts: list[Target] = []
        for batch in _batched(pending, _AT_ONCE):
            outcomes = publishing.publish(batch)
            published |= {outcome.month.key for outcome in outcomes if outcome and outcome.month.changed}
            for target, outcome in zip(batch, publishing.still_true(batch, outcomes), strict=True):
                if outcome is None:
                    conflicts.append(target)
                else:
                    done.append(replace(outcome.month, changed=target.key in published))
        if not conflicts:
            return sorted(done, key=lambda month: month.key)
        pending = conflicts
    raise LakeError(
        f"{store.uri_of(pending[0].key)} kept changing: other runs published newer versions {_ATTEMPTS} times. The day "
        "files are there; run these days again when fewer runs write to this month"
    )


def _batched(targets: Sequence[Target], size: int) -> Iterator[list[Target]]:
    remaining = iter(targets)
    while batch := list(islice(remaining, size)):
        yield batch


@dataclass(frozen=True)
class _Publishing:
    """One attempt after another at some month files of a dataset."""

    store: ObjectStore
    dataset: Dataset
    contents: Contents
    leaving: frozenset[tuple[date, Instrument | None]]
    threads: int
    room: BoundedSemaphore

    def publish(self, batch: Sequence[Target]) -> list[_Outcome | None]:
        """Publishes a batch of month files; None for one that another run changed meanwhile."""
        with ExitStack() as held, ThreadPoolExecutor(max(self.threads, self.store.transfers), "months") as pool:
            opened = pool.map(lambda target: _open(self.store, target.key), batch)
            pins = [held.enter_context(pin) if pin else None for pin in opened]
            # listed only now, after the month files were opened: see the module's docstring
            listing = self._listed({day for target in batch for day in target.days})
            return list(pool.map(lambda target, pin: self._publish_one(target, pin, listing), batch, pins))

    def _publish_one(
        self, target: Target, pin: Pinned | None, listing: Mapping[date, Sequence[DayObject]]
    ) -> _Outcome | None:
        old = None if target.anew else _parquet(self.store, pin)
        try:
            chosen = {day: self.contents.of(target, day, listing[day], old) for day in target.days}
            wanted = {day: self.contents.digest(target, members) for day, members in chosen.items()}
            return _Outcome(self._splice(target, pin, old, chosen, wanted), chosen, wanted)
        except (ObjectChanged, ObjectNotFound):
            return None

    def still_true(self, batch: Sequence[Target], outcomes: Sequence[_Outcome | None]) -> Iterator[_Outcome | None]:
        """The outcomes again, but None where day files have changed since a month file was made from them."""
        made = {day for outcome in outcomes if outcome and outcome.month.changed for day in outcome.digests}
        listing = self._listed(made)
        for target, outcome in zip(batch, outcomes, strict=True):
            if outcome is None or not outcome.month.changed or self._same(target, outcome, listing):
                yield outcome
            else:
                yield None

    def _same(self, target: Target, outcome: _Outcome, listing: Mapping[date, Sequence[DayObject]]) -> bool:
        try:
            return all(
                self.contents.same(target, listing[day], outcome.chosen[day], outcome.digests[day])
                for day in target.days
            )
        except (ObjectChanged, ObjectNotFound):
            return False

    def _listed(self, days: Iterable[date]) -> dict[date, list[DayObject]]:
        asked = list(days)
        return dict(zip(asked, in_parallel(self.store, self._objects, asked), strict=True))

    def _objects(self, day: date) -> list[DayObject]:
        found = day_objects(self.store, self.dataset, day)
        return [each for each in found if (day, each.instrument) not in self.leaving]

    def _splice(
        self,
        target: Target,
        pin: Pinned | None,
        old: pq.ParquetFile | None,
        chosen: Mapping[date, Sequence[Any]],
        wanted: Mapping[date, str | None],
    ) -> MonthFile:
        with explained(self.store.uri_of(target.key), ADVICE):
            digests = month_digests(old.metadata) if old else {}
        changed = [day for day in target.days if target.anew or digests.get(day) != wanted[day]]
        if not changed:
            size = pin.info.size if pin else 0
            return MonthFile(target.layout.name, target.key, old.metadata.num_rows if old else 0, size, False)
        digests = {day: digest for day, digest in {**digests, **wanted}.items() if digest is not None}
        with self.store.stage() as path:
            replacing = {day: self.contents.tables(target, chosen[day]) for day in changed}
            before = OpenMonth(self.store.uri_of(target.key), pin.file, old) if pin and old else None
            with self.room:
                rows = splice_month(path, self.contents.schema, self.contents.codec, before, replacing, digests)
            if rows:
                self.store.put(path, [target.key], expect=pin)
            elif pin is not None:
                self.store.delete(target.key, expect=pin)
            size = path.stat().st_size if rows else 0
            return MonthFile(target.layout.name, target.key, rows, size, bool(rows) or pin is not None)


def _open(store: ObjectStore, key: str) -> Pinned | None:
    try:
        return store.open(key)
    except ObjectNotFound:
        return None


def _parquet(store: ObjectStore, pin: Pinned | None) -> pq.ParquetFile | None:
    if pin is None:
        return None
    with explained(store.uri_of(pin.info.key), ADVICE):
        return parquet_file(pin.file)
