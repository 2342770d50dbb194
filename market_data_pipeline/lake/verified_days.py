"""Whether day files are what was recorded of them, and the same files in every day layout."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from market_data_pipeline.lake.catalog import DayObject, day_objects
from market_data_pipeline.lake.day_files import Place
from market_data_pipeline.lake.differences import Difference, Kind, What, mending, of_day_file, restoring
from market_data_pipeline.lake.parquet import at_once, explained, parquet_file
from market_data_pipeline.lake.records import Sum
from market_data_pipeline.lake.stores.content import crc32c_of
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore
from market_data_pipeline.lake.stores.parallel import parallel
from market_data_pipeline.lake.survey import Group, group_of
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError, ObjectChanged, ObjectNotFound
from market_data_pipeline.model.layouts import Layout

SMALL = 8 << 20
"""Bytes of an object that is read at once where all of it is looked at."""
_THREADS = 8


@dataclass(frozen=True)
class DayFiles:
    """What lies in `by_date` on some days of a month, and what is recorded of them; None without a record."""

    dataset: Dataset
    days: tuple[date, ...]
    listed: Mapping[Place, ObjectInfo]
    recorded: Mapping[Place, Sum] | None

    @property
    def places(self) -> list[Place]:
        """Every day file that is there or should be, in order."""
        days = set(self.days)
        return in_order(self.listed.keys() | {place for place in self.recorded or () if place[0] in days})


def in_order(places: Iterable[Place]) -> list[Place]:
    """By day, then by instrument."""
    return sorted(places, key=lambda place: (place[0], str(place[1])))


def list_days(store: ObjectStore, dataset: Dataset, days: Sequence[date]) -> dict[Place, ObjectInfo]:
    """The day files of `by_date`."""
    return _listed(store, dataset, dataset.layouts[0], [(day, ()) for day in days])


def _listed(
    store: ObjectStore, dataset: Dataset, layout: Layout, folders: Sequence[tuple[date, Group]]
) -> dict[Place, ObjectInfo]:
    """The day files in some folders of a layout; several are listed at once, for each is a request."""

    def listed(folder: tuple[date, Group]) -> list[DayObject]:
        return list(day_objects(store, dataset, folder[0], layout, **dict(folder[1])))

    found = list(parallel(listed, folders, _THREADS))
    return {(each.day, each.instrument): each.info for of_folder in found for each in of_folder}


def primary_differences(store: ObjectStore, files: DayFiles, full: bool) -> Iterator[Difference]:
    """The day files of `by_date` against what is recorded of them."""
    primary, recorded = files.dataset.layouts[0], files.recorded or {}
    for place in files.places:
        info, told = files.listed.get(place), recorded.get(place)
        what = None if files.recorded is None else _against_record(info, told)
        if what is None and full and info is not None:
            what = _read(store, info, told)
        if what:
            remedy = mending(place[0], place[0]) if told is None else restoring(place[0])
            yield of_day_file(store, files.dataset, primary, place, what, remedy)


def _against_record(info: ObjectInfo | None, told: Sum | None) -> What | None:
    if info is None:
        return (Kind.MISSING, "nothing lies here", f"{told.size:,} bytes, as recorded") if told else None
    if told is None:
        return Kind.UNRECORDED, f"{info.size:,} bytes that are not recorded", "a record of it"
    if info.size != told.size:
        return Kind.SIZE, f"{info.size:,} bytes", f"{told.size:,}, as recorded"
    if info.crc32c not in (None, told.crc32c):
        return Kind.BYTES, f"CRC-32C {info.crc32c:08x}", f"{told.crc32c:08x}, as recorded"
    return None


def _read(store: ObjectStore, info: ObjectInfo, told: Sum | None) -> What | None:
    try:
        with store.open(info.key) as pinned, explained(store.uri_of(info.key)):
            file = at_once(pinned, SMALL)
            if told is None:  # its pages have checksums of their own
                deque(parquet_file(file).iter_batches(), maxlen=0)
                return None
            checksum = content_crc32c(file)
            if checksum != told.crc32c:
                return Kind.BYTES, f"content of CRC-32C {checksum:08x}", f"{told.crc32c:08x}, as recorded"
            rows = parquet_file(file).metadata.num_rows
    except ObjectNotFound:
        return Kind.MISSING, "nothing lies here", f"the {info.size:,} bytes that were listed"
    except LakeError as error:
        return Kind.UNREADABLE, f"cannot be read ({error.__cause__ or error})", "a Parquet file"
    return None if rows == told.rows else (Kind.ROWS, f"{rows:,} rows", f"{told.rows:,}, as recorded")


def content_crc32c(file: pa.NativeFile) -> int:
    """The CRC-32C of a pinned file, read now; raises LakeError or OSError."""
    file.seek(0)
    return crc32c_of(file)


def copy_differences(
    store: ObjectStore, files: DayFiles, layout: Layout, seen: Iterable[Group], full: bool
) -> Iterator[Difference]:
    """The day files of another layout against those of `by_date`: the same files, and no others.

    Args:
        store: the lake.
        files: what `by_date` has.
        layout: the other layout.
        seen: groups in which files may lie, besides those that `by_date` and the record know.
        full: read what is another file of the same size, whatever the store remembers of it.
    """
    dataset = files.dataset
    known = {group_of(layout, dataset.path_fields(instrument)) for _, instrument in files.places if instrument}
    groups = sorted(known.union(seen))
    found = _listed(store, dataset, layout, [(day, group) for day in files.days for group in groups])
    for place in in_order(found.keys() | files.listed.keys()):
        what = _against_truth(store, found.get(place), files.listed.get(place), full)
        if what:
            yield of_day_file(store, dataset, layout, place, what, mending(place[0], place[0]))


def _against_truth(store: ObjectStore, copy: ObjectInfo | None, truth: ObjectInfo | None, full: bool) -> What | None:
    if truth is None:
        return (Kind.EXTRA, f"{copy.size:,} bytes", "nothing, as by_date has none") if copy else None
    if copy is None:
        return Kind.MISSING, "nothing lies here", f"the file of by_date ({truth.size:,} bytes)"
    if copy.size != truth.size:
        return Kind.SIZE, f"{copy.size:,} bytes", f"{truth.size:,}, as in by_date"
    return None if _same_bytes(store, copy, truth, full) else (Kind.BYTES, "other bytes", "those of by_date")


def _same_bytes(store: ObjectStore, copy: ObjectInfo, truth: ObjectInfo, full: bool) -> bool:
    if copy.identity is not None and copy.identity == truth.identity:
        return True
    try:
        if not full or copy.crc32c is not None:
            return store.crc32c(copy) == store.crc32c(truth)
        with store.open(copy.key) as one, store.open(truth.key) as other:
            return content_crc32c(one.file) == content_crc32c(other.file)
    except (ObjectNotFound, ObjectChanged):  # looked at again
        return False
