"""A day file of `by_date` that is not what was recorded: whether it is sound all the same, and who else has its rows.

The same rows give the same bytes. So a file is sound if its rows, encoded once more, give the very file; and a copy, or
a month file's rows, are what was written if they give the recorded checksum. Another version of the encoder makes other
bytes of them: where there is nothing to lose any more, month files that agree on as many rows as recorded are believed.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from market_data_pipeline.lake.catalog import stored_fields
from market_data_pipeline.lake.day_files import Place
from market_data_pipeline.lake.encoding import write_day_file
from market_data_pipeline.lake.month_rows import rows_in_month
from market_data_pipeline.lake.parquet import explained, opened, parquet_file
from market_data_pipeline.lake.records import Sum
from market_data_pipeline.lake.stores.content import crc32c_of
from market_data_pipeline.lake.stores.contract import ObjectStore, Pinned
from market_data_pipeline.lake.verified_days import content_crc32c
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound
from market_data_pipeline.model.layouts import Layout

_BATCH = 65_536


@dataclass(frozen=True)
class Rescued:
    """A day file that is sound now.

    Attributes:
        sum: what lies there.
        sure: whether it lay there, or has the recorded checksum; else rows of another version may have come back.
    """

    sum: Sum
    sure: bool


def rescue(store: ObjectStore, dataset: Dataset, place: Place, told: Sum | None) -> Rescued | None:
    """Sees to it that a sound file lies in `by_date`, if one can be had.

    A sound file is never replaced: a run that has not yet recorded it may have written it. One that is damaged or
    missing is replaced by what has the recorded checksum; one that is missing, or cannot be read at all, else by the
    rows that the month files have.

    Args:
        store: the lake.
        dataset: whose day file.
        place: which.
        told: what is recorded of it; None for nothing.

    Returns:
        What lies there now; None where it must be materialized again.
    """
    key = dataset.path(dataset.layouts[0], *place)
    with _opened(store, key) as pinned:
        found = _sum_of(store, dataset, place, pinned, told) if pinned else None
        if found:
            return Rescued(found, True)
        legible = pinned is not None and _legible(pinned)
        for staged, has in _candidates(store, dataset, place, told, exactly=legible):
            with suppress(ObjectChanged):
                store.put(staged, [key], expect=pinned, crc32c=has.crc32c)
                return Rescued(has, told is not None and has.crc32c == told.crc32c)
    return None


def _legible(pinned: Pinned) -> bool:
    pinned.file.seek(0)
    try:
        with explained(pinned.info.key):
            deque(parquet_file(pinned.file).iter_batches(_BATCH), maxlen=0)
    except LakeError:
        return False
    return True


@contextmanager
def _opened(store: ObjectStore, key: str) -> Iterator[Pinned | None]:
    try:
        pinned = store.open(key)
    except ObjectNotFound:
        yield None
        return
    with pinned:
        yield pinned


def _sum_of(store: ObjectStore, dataset: Dataset, place: Place, pinned: Pinned, told: Sum | None) -> Sum | None:
    """What a file is, if it is as recorded, or sound, or (without a record) at least whole; else None."""
    try:
        checksum = content_crc32c(pinned.file)
        size = pinned.info.size
        with store.stage() as path:
            rows = _encode(path, store, dataset, place, _own_tables(dataset, pinned))
            again = _checksum_of(path) if rows else None
        if rows and (again == checksum or told is None or told.crc32c == checksum):
            return Sum(rows, size, checksum)
    except LakeError:
        return None
    return None


def _encode(path: Path, store: ObjectStore, dataset: Dataset, place: Place, tables: Iterator[pa.Table]) -> int:
    with explained(store.uri_of(dataset.path(dataset.layouts[0], *place))):
        return write_day_file(path, dataset, *place, tables).rows


def _checksum_of(path: Path) -> int:
    with path.open("rb", buffering=0) as file:
        return crc32c_of(file)


def _own_tables(dataset: Dataset, pinned: Pinned) -> Iterator[pa.Table]:
    pinned.file.seek(0)
    names = dataset.own_schema.names
    file = parquet_file(pinned.file)
    for batch in file.iter_batches(_BATCH, columns=names):
        yield pa.Table.from_batches([batch]).select(names).cast(dataset.own_schema)


def _candidates(
    store: ObjectStore, dataset: Dataset, place: Place, told: Sum | None, *, exactly: bool
) -> Iterator[tuple[Path, Sum]]:
    """Staged files with the recorded checksum; without a record, copies that are sound.

    Then what the month files have: with the recorded checksum, or (if not `exactly`) in as many rows as recorded.
    """
    for layout in dataset.day_layouts[1:]:
        with _opened(store, dataset.path(layout, *place)) as pinned:
            has = _sum_of(store, dataset, place, pinned, told) if pinned else None
            if pinned and has and (told is None or has.crc32c == told.crc32c):
                with store.stage() as path:
                    pinned.file.seek(0)
                    pinned.file.download(path)
                    yield path, has
    with ExitStack() as staged:
        found: list[tuple[Path, Sum]] = []
        for layout in dataset.month_layouts:
            path = staged.enter_context(store.stage())
            with suppress(LakeError):
                if rows := _encode(path, store, dataset, place, _month_tables(store, dataset, layout, place)):
                    found.append((path, Sum(rows, path.stat().st_size, _checksum_of(path))))
        if exact := [each for each in found if told and each[1].crc32c == told.crc32c]:
            yield exact[0]
            return
        fitting = [each for each in found if told is None or each[1].rows == told.rows]
        if not exactly and len({has for _, has in fitting}) == 1:
            yield fitting[0]


def _month_tables(store: ObjectStore, dataset: Dataset, layout: Layout, place: Place) -> Iterator[pa.Table]:
    """A day file's own columns out of the month files of a layout."""
    day, instrument = place
    if instrument is not None:
        keys = [dataset.path(layout, day, instrument)]
    else:
        stored = stored_fields(store, dataset, layout)
        month = day.replace(day=1)
        keys = [layout.format(day, **(dataset.path_fields() | f)) for f in stored if layout.day_of(f) == month]
    found = [table for key in sorted(keys) for table in _of_day(store, dataset, key, place)]
    if instrument is None and found:
        table = pa.concat_tables(found).unify_dictionaries()
        keys = table.select(list(dataset.order)).to_pylist()
        found = [table.take(pa.array(sorted(range(len(keys)), key=lambda row: tuple(keys[row].values()))))]
    yield from found


def _of_day(store: ObjectStore, dataset: Dataset, key: str, place: Place) -> Iterator[pa.Table]:
    with suppress(ObjectNotFound), opened(store, key) as file:
        for table in rows_in_month(file, *place):
            yield table.select(dataset.own_schema.names).cast(dataset.own_schema)
