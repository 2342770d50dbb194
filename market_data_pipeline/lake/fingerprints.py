"""A short text that stands for the day files that a read looks at, from their recorded checksums."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import date

from market_data_pipeline.lake.catalog import DayObject, day_objects
from market_data_pipeline.lake.day_files import Place
from market_data_pipeline.lake.records import Sum, read_record
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import by_month


def fingerprint(store: ObjectStore, dataset: Dataset, days: Iterable[date], wants: Callable[[Instrument], bool]) -> str:
    """Stands for the day files of some days: 32 hexadecimal digits, the same for the same files on every store.

    No content is read: a listing for each day, and where listings carry no checksums the record of each month.

    Raises:
        LakeError: a file is not as recorded, so that nothing can be said without reading it.
    """
    digest = hashlib.blake2b(dataset.name.encode(), digest_size=16)
    for month in by_month(days):
        recorded: dict[Place, Sum] | None = None
        for day in month:
            found = [
                each for each in day_objects(store, dataset, day) if each.instrument is None or wants(each.instrument)
            ]
            for each in sorted(found, key=lambda each: str(each.instrument)):
                checksum = each.info.crc32c
                if checksum is None:
                    recorded = recorded if recorded is not None else read_record(store, dataset, day) or {}
                    checksum = _recorded(store, each, recorded)
                digest.update(f"\n{day} {each.instrument or '*'} {checksum:08x}".encode())
    return digest.hexdigest()


def _recorded(store: ObjectStore, found: DayObject, recorded: dict[Place, Sum]) -> int:
    told = recorded.get((found.day, found.instrument))
    if told is None or told.size != found.info.size:
        state = "is not recorded" if told is None else f"has {found.info.size:,} bytes, not {told.size:,} as recorded"
        raise LakeError(
            f"{store.uri_of(found.info.key)} {state}; run `market-data repair {found.day} {found.day}` once no run "
            "writes that day"
        )
    return told.crc32c
