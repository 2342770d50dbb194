"""A short text that stands for the day files that a read looks at, from their recorded checksums."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import date
from functools import lru_cache, partial
from threading import RLock

from market_data_pipeline.lake.catalog import DayObject, day_objects
from market_data_pipeline.lake.day_files import Place
from market_data_pipeline.lake.records import MonthRecord, Sum, record_written, written
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument


def fingerprint(store: ObjectStore, dataset: Dataset, days: Iterable[date], wants: Callable[[Instrument], bool]) -> str:
    """Stands for the day files of some days: 32 hexadecimal digits, the same for the same files on every store.

    As a rule no content is read: a listing for each day, and where listings carry no checksums the record of each
    month. A file that is newer than the record, as a run that was killed in between leaves it, is read.

    Raises:
        LakeError: a file is not as recorded, so that nothing can be said without reading it.
    """
    return Moment(store).of(dataset, days, wants)


class Moment:
    """The day files of a lake as they are when they are first asked for; each listing and record is asked for once.

    May be used from any thread.

    Args:
        store: the lake.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = RLock()
        self._files = lru_cache(maxsize=None)(self._list)
        self._month = lru_cache(maxsize=None)(self._read)
        self._day = lru_cache(maxsize=None)(self._sums)
        self._of_all = lru_cache(maxsize=None)(partial(self.of, wants=lambda _: True))

    def of(self, dataset: Dataset, days: Iterable[date], wants: Callable[[Instrument], bool]) -> str:
        """Stands for the files of some instruments; raises as `fingerprint` does."""
        with self._lock:
            found = [each for day in days for each in self._files(dataset, day).values()]
            return self._digest(dataset, (each for each in found if each.instrument is None or wants(each.instrument)))

    def of_instrument(self, dataset: Dataset, days: Iterable[date], instrument: Instrument | None) -> str:
        """Stands for the files of one instrument, of all with None; raises as `fingerprint` does."""
        with self._lock:
            if instrument is None or not dataset.per_instrument:
                return self._of_all(dataset, tuple(days))
            listed = (self._files(dataset, day).get(instrument) for day in days)
            return self._digest(dataset, filter(None, listed))

    def _digest(self, dataset: Dataset, files: Iterable[DayObject]) -> str:
        digest = hashlib.blake2b(dataset.name.encode(), digest_size=16)
        for each in files:
            checksum = each.info.crc32c if each.info.crc32c is not None else self._recorded(dataset, each)
            digest.update(f"\n{each.day} {each.instrument or '*'} {checksum:08x}".encode())
        return digest.hexdigest()

    def _recorded(self, dataset: Dataset, found: DayObject) -> int:
        told = self._day(dataset, found.day).get((found.day, found.instrument))
        if told is None or told.size != found.info.size:
            state = (
                "is not recorded" if told is None else f"has {found.info.size:,} bytes, not {told.size:,} as recorded"
            )
            raise LakeError(
                f"{self._store.uri_of(found.info.key)} {state}; run `market-data repair {found.day} {found.day}` once "
                "no run writes that day"
            )
        _, since = self._month(dataset, found.day.replace(day=1))
        return self._store.crc32c(found.info) if written(found.info) > since else told.crc32c

    def _list(self, dataset: Dataset, day: date) -> dict[Instrument | None, DayObject]:
        """In order of instrument."""
        found = sorted(day_objects(self._store, dataset, day), key=lambda each: str(each.instrument))
        return {each.instrument: each for each in found}

    def _sums(self, dataset: Dataset, day: date) -> dict[Place, Sum]:
        record, _ = self._month(dataset, day.replace(day=1))
        return record.on(day) if record else {}

    def _read(self, dataset: Dataset, month: date) -> tuple[MonthRecord | None, int]:
        """What is recorded, and when that was written on a local disk, in nanoseconds."""
        since = record_written(self._store, dataset, month)
        return MonthRecord.read(self._store, dataset, month), since
