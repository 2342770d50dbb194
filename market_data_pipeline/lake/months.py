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

from market_data_pipeline.lake.catalog import DayObject, day_objects
from market_data_pipeline.lake.parquet import explained, month_digests, splice_month
from market_data_pipeline.lake.stores.content import crc32c_of_bytes
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore, Pinned
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError, LayoutError, ObjectChanged, ObjectNotFound
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout, instrument_fields

log = logging.getLogger(__name__)

ROW_GROUP_ROWS = 1_000_000
_AT_ONCE = 256  # month files held open together; each batch costs one listing of its days
_ATTEMPTS = 40
_KEPT_BYTES = 128 << 20


@dataclass(frozen=True)
class Target:
    """One month file that some days belong to."""

    layout: Layout
    key: str
    fields: tuple[tuple[str, str], ...]
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


def targets_of(dataset: Dataset, places: Iterable[tuple[date, Instrument]]) -> list[Target]:
    """The month files that hold these instruments' days, in order of key."""
    days: dict[tuple[str, str, tuple[tuple[str, str], ...]], set[date]] = {}
    for day, instrument in places:
        values = instrument_fields(instrument)
        for layout in dataset.month_layouts:
            fields = tuple((name, values[name]) for name in layout.group_fields)
            days.setdefault((layout.name, dataset.path(layout, day, instrument), fields), set()).add(day)
    return [
        Target(dataset.layout(name), key, fields, tuple(sorted(of_target)))
        for (name, key, fields), of_target in sorted(days.items())
    ]


def targets_of_tables(store: ObjectStore, dataset: Dataset, tables: Mapping[date, pa.Table]) -> list[Target]:
    """The month files that hold rows of these days, or did so before, of a dataset whose day file holds all groups."""
    days: dict[tuple[str, str, tuple[tuple[str, str], ...]], set[date]] = {}
    for layout in dataset.month_layouts:
        stored = []
        for info in store.list(layout.prefix(None, **dataset.path_fields())):
            try:
                stored.append(layout.parse(info.key))
            except LayoutError:
                continue
        for day, table in tables.items():
            groups = {
                tuple(row[name] for name in layout.group_fields)
                for row in table.select(list(layout.group_fields)).to_pylist()
            }
            for found in stored:
                if layout.day_of(found) == day.replace(day=1):
                    groups.add(tuple(found[name] for name in layout.group_fields))
            for group in groups:
                fields = tuple(zip(layout.group_fields, group, strict=True))
                key = layout.format(day, **(dataset.path_fields() | dict(fields)))
                days.setdefault((layout.name, key, fields), set()).add(day)
    return [
        Target(dataset.layout(name), key, fields, tuple(sorted(of_target)))
        for (name, key, fields), of_target in sorted(days.items())
    ]


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
