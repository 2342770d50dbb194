"""A short text that stands for the day files that a read looks at, from their recorded checksums."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

from market_data_pipeline.lake.catalog import DayObject, day_objects
from market_data_pipeline.lake.day_files import Place
from market_data_pipeline.lake.records import Sum, read_record, record_written, written
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import by_month


def fingerprint(store: ObjectStore, dataset: Dataset, days: Iterable[date], wants: Callable[[Instrument], bool]) -> str:
    """Stands for the day files of some days: 32 hexadecimal digits, the same for the same files on every store.

    As a rule no content is read: a listing for each day, and where listings carry no checksums the record of each
    month. A file that is newer than the record, as a run that was killed in between leaves it, is read.

    Raises:
        LakeError: a file is not as recorded, so that nothing can be said without reading it.
    """
    digest = hashlib.blake2b(dataset.name.encode(), digest_size=16)
    for month in by_month(days):
        record: _Record | None = None
        for day in month:
            found = [
                each for each in day_objects(store, dataset, day) if each.instrument is None or wants(each.instrument)
            ]
            for each in sorted(found, key=lambda each: str(each.instrument)):
                checksum = each.info.crc32c
                if checksum is None:
                    record = record or _read(store, dataset, day)
                    checksum = _recorded(store, each, record)
                digest.update(f"\n{day} {each.instrument or '*'} {checksum:08x}".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Record:
    """What is recorded of a month's day files, and when that was written on a local disk, in nanoseconds."""

    sums: dict[Place, Sum]
    written: int


def _read(store: ObjectStore, dataset: Dataset, day: date) -> _Record:
    since = record_written(store, dataset, day)
    return _Record(read_record(store, dataset, day) or {}, since)


def _recorded(store: ObjectStore, found: DayObject, record: _Record) -> int:
    told = record.sums.get((found.day, found.instrument))
    if told is None or told.size != found.info.size:
        state = "is not recorded" if told is None else f"has {found.info.size:,} bytes, not {told.size:,} as recorded"
        raise LakeError(
            f"{store.uri_of(found.info.key)} {state}; run `market-data repair {found.day} {found.day}` once no run "
            "writes that day"
        )
    return store.crc32c(found.info) if written(found.info) > record.written else told.crc32c
