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

import hashlib
import logging
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from threading import Lock

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import DayObject, day_objects, stored_fields
from market_data_pipeline.lake.parquet import explained, month_digests, splice_month
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores.content import crc32c_of_bytes
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore, Pinned
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout, instrument_fields

log = logging.getLogger(__name__)

ROW_GROUP_ROWS = 1_000_000
_Group = tuple[tuple[str, str], ...]
_AT_ONCE = 256  # month files held open together; each batch costs one listing of its days
_ATTEMPTS = 40
_KEPT_BYTES = 128 << 20


@dataclass(frozen=True)
class Target:
    """One month file that some days belong to."""

    layout: Layout
    key: str
    fields: _Group
    days: tuple[date, ...]


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
    """What became of a month file, and the digests of the days that it was brought in step with."""

    month: MonthFile
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
        with store.open(key) as pinned, explained(store.uri_of(key)):
            return pq.ParquetFile(pinned.file).read()
    except ObjectNotFound:
        return dataset.schema.empty_table()


def publish_months(
    store: ObjectStore,
    dataset: Dataset,
    targets: Sequence[Target],
    *,
    leaving: frozenset[tuple[date, Instrument | None]] = frozenset(),
    threads: int = 4,
) -> list[MonthFile]:
    """Brings month files in step with the day files.

    Args:
        store: the lake.
        dataset: whose month files.
        targets: which files, and which of their days.
        leaving: day files that still lie there but are about to be deleted: taken as gone.
        threads: how many month files are put together at once.

    Returns:
        What each became, in order of key.

    Raises:
        LakeError: other runs kept publishing newer versions until all attempts were used up.
    """
    done: list[MonthFile] = []
    published: set[str] = set()
    pending = list(targets)
    members = _Members(store, dataset, leaving)
    for attempt in range(_ATTEMPTS):
        conflicts: list[Target] = []
        for batch in _batched(pending, _AT_ONCE):
            outcomes = _publish(store, dataset, batch, members, threads)
            published |= {outcome.month.key for outcome in outcomes if outcome and outcome.month.changed}
            for target, outcome in zip(batch, _still_true(batch, outcomes, members), strict=True):
                if outcome is None:
                    conflicts.append(target)
                else:
                    done.append(replace(outcome.month, changed=target.key in published))
        if not conflicts:
            return sorted(done, key=lambda month: month.key)
        pending = conflicts
        pause = random.uniform(0, min(5.0, 0.05 * 2**attempt))  # noqa: S311 - jitter, no secret
        log.info("%d month files were changed by another run; trying again in %.2f s", len(pending), pause)
        time.sleep(pause)
    raise LakeError(
        f"{store.uri_of(pending[0].key)} kept changing: other runs published newer versions {_ATTEMPTS} times. The day "
        "files are there; run these days again when fewer runs write to this month"
    )


def _batched(targets: Sequence[Target], size: int) -> Iterator[list[Target]]:
    remaining = iter(targets)
    while batch := list(islice(remaining, size)):
        yield batch


def _publish(
    store: ObjectStore, dataset: Dataset, batch: Sequence[Target], members: "_Members", threads: int
) -> list[_Outcome | None]:
    """Publishes a batch of month files; None for one that another run changed meanwhile."""
    with ExitStack() as held, ThreadPoolExecutor(threads) as pool:
        pins = [held.enter_context(pin) if pin else None for pin in pool.map(lambda t: _open(store, t.key), batch)]
        # listed only now, after the month files were opened: see the module's docstring
        listing = members.listed({day for target in batch for day in target.days})

        def publish(target: Target, pin: Pinned | None) -> _Outcome | None:
            try:
                chosen = {day: members.of(target, listing[day]) for day in target.days}
                wanted = {day: members.digest(target, objects) for day, objects in chosen.items()}
                return _Outcome(_splice(store, dataset, target, pin, chosen, wanted, members), wanted)
            except (ObjectChanged, ObjectNotFound):
                return None

        return list(pool.map(publish, batch, pins))


def _still_true(
    batch: Sequence[Target], outcomes: Sequence[_Outcome | None], members: "_Members"
) -> Iterator[_Outcome | None]:
    """The outcomes again, but None where day files have changed since a month file was made from them."""
    made = {day for outcome in outcomes if outcome and outcome.month.changed for day in outcome.digests}
    listing = members.listed(made)
    for target, outcome in zip(batch, outcomes, strict=True):
        if outcome is None or not outcome.month.changed:
            yield outcome
            continue
        try:
            now = {day: members.digest(target, members.of(target, listing[day])) for day in target.days}
        except (ObjectChanged, ObjectNotFound):
            now = {}
        yield outcome if now == outcome.digests else None


def _open(store: ObjectStore, key: str) -> Pinned | None:
    try:
        return store.open(key)
    except ObjectNotFound:
        return None


def _splice(
    store: ObjectStore,
    dataset: Dataset,
    target: Target,
    pin: Pinned | None,
    chosen: Mapping[date, Sequence[DayObject]],
    wanted: Mapping[date, str | None],
    members: "_Members",
) -> MonthFile:
    old = _parquet(store, pin)
    digests = month_digests(old.metadata) if old else {}
    changed = [day for day in target.days if digests.get(day) != wanted[day]]
    if not changed:
        size = pin.info.size if pin else 0
        return MonthFile(target.layout.name, target.key, old.metadata.num_rows if old else 0, size, False)
    digests = {day: digest for day, digest in {**digests, **wanted}.items() if digest is not None}
    with store.stage() as path:
        replacing = {day: members.tables(target, chosen[day]) for day in changed}
        rows = splice_month(path, dataset, old, replacing, digests)
        if rows:
            store.put(path, [target.key], expect=pin)
        elif pin is not None:
            store.delete(target.key, expect=pin)
        size = path.stat().st_size if rows else 0
        return MonthFile(target.layout.name, target.key, rows, size, bool(rows) or pin is not None)


def _parquet(store: ObjectStore, pin: Pinned | None) -> pq.ParquetFile | None:
    if pin is None:
        return None
    advice = "delete it and run its days again: it is put together from the by_date files"
    with explained(store.uri_of(pin.info.key), advice):
        return pq.ParquetFile(pin.file)


class _Members:
    """The day files that month files are made of; keeps the bytes of small ones, which several layouts read."""

    def __init__(
        self, store: ObjectStore, dataset: Dataset, leaving: frozenset[tuple[date, Instrument | None]]
    ) -> None:
        self._store, self._dataset, self._leaving = store, dataset, leaving
        self._kept: dict[ObjectInfo, bytes] = {}
        self._room = _KEPT_BYTES
        self._lock = Lock()

    def listed(self, days: Iterable[date]) -> dict[date, list[DayObject]]:
        return {
            day: [
                found
                for found in day_objects(self._store, self._dataset, day)
                if (day, found.instrument) not in self._leaving
            ]
            for day in days
        }

    def of(self, target: Target, objects: Sequence[DayObject]) -> list[DayObject]:
        """Those that belong into the target, in order of instrument, each with its checksum.

        Raises:
            ObjectNotFound: one was deleted since it was listed.
        """
        wanted = dict(target.fields)
        chosen = [
            found
            for found in objects
            if found.instrument is None or wanted.items() <= instrument_fields(found.instrument).items()
        ]
        return [
            replace(found, info=replace(found.info, crc32c=self._store.crc32c(found.info)))
            for found in sorted(chosen, key=lambda found: str(found.instrument))
        ]

    def digest(self, target: Target, objects: Sequence[DayObject]) -> str | None:
        """Tells whether a day's rows are the same as those of another time; None for none."""
        if self._dataset.per_instrument:
            text = "\n".join(f"{found.instrument} {found.info.crc32c:08x}" for found in objects)
        else:  # the day file holds other groups as well, which do not matter here
            text = "\n".join(repr(row) for table in self.tables(target, objects) for row in table.to_pylist())
        if not text:
            return None
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def tables(self, target: Target, objects: Sequence[DayObject]) -> Iterator[pa.Table]:
        """Their rows as tables of about ROW_GROUP_ROWS, cut between instruments."""
        held: list[pa.Table] = []
        rows = 0
        for found in objects:
            table = self._table(found.info)
            if not self._dataset.per_instrument:
                for name, value in target.fields:
                    table = table.filter(pc.equal(table.column(name).cast(pa.string()), value))
            if held and rows + table.num_rows > ROW_GROUP_ROWS:
                yield pa.concat_tables(held).unify_dictionaries().combine_chunks()
                held, rows = [], 0
            held.append(table)
            rows += table.num_rows
        if rows:
            yield pa.concat_tables(held).unify_dictionaries().combine_chunks()

    def _table(self, info: ObjectInfo) -> pa.Table:
        content = self._kept.get(info)
        if content is None:
            with self._store.open(info.key) as pinned:
                content = pinned.file.read()
            if crc32c_of_bytes(content) != info.crc32c:
                raise ObjectChanged(f"{self._store.uri_of(info.key)}: was replaced since it was listed")
            with self._lock:
                if info not in self._kept and len(content) <= self._room:
                    self._kept[info] = content
                    self._room -= len(content)
        with explained(self._store.uri_of(info.key)):
            return pq.ParquetFile(pa.BufferReader(content)).read()
