"""Day files that need not be made again: what each would be made from is what it was made from.

That is told by a short text of the code, and of what the rows say of their inputs; the record keeps it of each file. A
file stays unread and unmade only if its text is the same, and the very bytes that are recorded lie in every layout.
"""

import hashlib
import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from threading import Lock

import market_data_pipeline
from market_data_pipeline.lake.day_files import DayFile, Folders, Place
from market_data_pipeline.lake.parquet import span_at
from market_data_pipeline.lake.records import MonthRecord, Sums
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError, MarketDataError
from market_data_pipeline.model.rows import DayRows, Rejects

LIBRARIES = ("numpy", "pyarrow", "scikit-learn", "TA-Lib")
"""Whose versions count as code: they make values, or the bytes of files."""


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def _code() -> str:
    folder = Path(market_data_pipeline.__file__).parent
    modules = sorted(folder.rglob("*.py"))
    return _digest(
        *(f"{path.relative_to(folder)} {hashlib.blake2b(path.read_bytes()).hexdigest()}" for path in modules),
        *(f"{name} {version(name)}" for name in LIBRARIES),
        f"Python {platform.python_version()} {platform.machine()}",
    )


CODE = _code()
"""Stands for the code: all of the package's, so that nobody has to remember to tell of a change.

Worked out when it is loaded (some 10 ms): what changes on the disk afterwards is not what runs.
"""


class Unchanged:
    """Tells which day files of a dataset need not be made again; for one run.

    Args:
        store: the lake.
        dataset: whose day files.
    """

    def __init__(self, store: ObjectStore, dataset: Dataset) -> None:
        self._store, self._dataset = store, dataset
        self._first, self._second = object(), object()
        self._tellers: dict[Place, Callable[[object], str | None]] = {}
        self._months: dict[date, MonthRecord | None] = {}
        self._days: dict[date, Sums] = {}
        self._lock = Lock()

    def made_from(self, rows: DayRows) -> str | None:
        """Stands for the code and all that some rows are made from, as it is before they are read; None if unknown."""
        told = self._text(rows.made_from, self._first)
        if told:
            self._tellers[rows.day, rows.instrument] = rows.made_from
        return told

    def kept(self, rows: DayRows, made_from: str | None, folders: Folders) -> DayFile | None:
        """The day file that lies in the lake, if it was made from just that and is what was recorded; else None.

        Its bytes are compared, so a damaged file is made again. Nothing had been set aside for it: what it is made from
        is recorded only then.
        """
        day, instrument = place = rows.day, rows.instrument
        told = self._recorded(day).get(place) if made_from else None
        if told is None or told.made_from != made_from:
            return None
        folders.ask(self._dataset, *place)
        layouts = self._dataset.day_layouts
        if not all(folders.holds(self._dataset, each, *place, told.size, told.crc32c) for each in layouts):
            return None
        try:
            span = span_at(self._store, self._dataset, self._dataset.path(layouts[0], *place))
        except LakeError:
            return None
        if span.rows != told.rows:
            return None
        del self._tellers[place]
        rows.recall(told.facts)
        return DayFile(
            day, instrument, rows.origin, span, told.size, told.crc32c, False, Rejects(), None, made_from, told.facts
        )

    def confirmed(self, files: Iterable[DayFile]) -> list[DayFile]:
        """The day files again, once all have landed: those that were read told by what they were made from, if sure.

        What changed while it was read may have been read in part, or as neither of what it was before and after.
        """
        return [
            replace(file, made_from=None, facts={})
            if (tell := self._tellers.get((file.day, file.instrument)))
            and self._text(tell, self._second) != file.made_from
            else file
            for file in files
        ]

    def _recorded(self, day: date) -> Sums:
        month = day.replace(day=1)
        with self._lock:
            if month not in self._months:
                self._months[month] = None
                with suppress(LakeError):  # whoever writes it says so
                    self._months[month] = MonthRecord.read(self._store, self._dataset, month)
            if day not in self._days:
                record = self._months[month]
                self._days[day] = record.on(day) if record else {}
            return self._days[day]

    def _text(self, tell: Callable[[object], str | None], look: object) -> str | None:
        try:
            told = tell(look)
        except MarketDataError:  # whoever reads the rows is told
            return None
        return _digest(CODE, self._dataset.name, told) if told else None
