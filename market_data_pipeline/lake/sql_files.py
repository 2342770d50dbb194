"""The lake's day files as DuckDB sees them: a file system that is only read, with the partition values in its paths.

`lake://trades` stands for all of a dataset's files. Each has a made-up path, whose folders are the columns that its own
path already tells, as `name=value`: DuckDB takes these from there, and leaves out files by them before it opens any.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.catalog import DayObject
from market_data_pipeline.lake.stores.contract import ObjectStore, Pinned
from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.errors import MarketDataError, ObjectChanged, ObjectNotFound, QueryError
from market_data_pipeline.model.windows import EPOCH

PROTOCOL = "lake"
_NULL = "__HIVE_DEFAULT_PARTITION__"
_HELD = 64  # files held open, since DuckDB opens each several times; on Google Cloud Storage each time is a request


class LakeFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The files of all datasets, for one query.

    A dataset's first file has no rows and does not lie in the lake: from it DuckDB learns the columns and opens none of
    the others for that, and a dataset of which nothing is stored has them, too.

    Args:
        store: where the files are.
        listed: the day files of a dataset that a query may want.
    """

    protocol = PROTOCOL
    cachable = False

    def __init__(self, store: ObjectStore, listed: Callable[[Dataset], Iterable[DayObject]]) -> None:
        super().__init__()
        self.failure: Exception | None = None
        """What went wrong first; DuckDB makes a text of it."""
        self.listing = False
        """Whether the lake's own files are told of: while views are made, their columns are all that is wanted."""
        self._store = store
        self._listed = listed
        self._paths: dict[str, list[str]] = {}
        self._keys: dict[str, str] = {}
        self._seen: dict[str, tuple[object, ...]] = {}
        self._held = lru_cache(_HELD)(self._pinned)

    def uri_of(self, path: str) -> str:
        """The address of the object behind a made-up path, for people; else the path itself."""
        key = self._keys.get(self._strip_protocol(path))
        return self._store.uri_of(key) if key else path

    def glob(self, path: str, **_: object) -> list[str]:
        """The files of a dataset."""
        with self._noted():
            name = self._strip_protocol(path)
            if name not in DATASETS:
                raise _no_file(path)
            columns = _columns_alone(DATASETS[name])
            return [columns, *self._files(DATASETS[name])] if self.listing else [columns]

    def _files(self, dataset: Dataset) -> list[str]:
        if dataset.name not in self._paths:
            keys = {_path(dataset, found): found.info.key for found in self._listed(dataset)}
            self._keys.update(keys)
            self._paths[dataset.name] = list(keys)
        return self._paths[dataset.name]

    def open(self, path: str, mode: str = "rb", **_: object) -> "_Reading":
        """A file, for reading."""
        with self._noted():
            if mode != "rb":
                raise QueryError(f"{path} cannot be written: a query only reads")
            return _Reading(self._file(path)[0], self._noted)

    def info(self, path: str, **_: object) -> dict[str, object]:
        """What DuckDB asks about a file: its size."""
        with self._noted():
            return {"name": path, "size": self._file(path)[1], "type": "file"}

    def modified(self, path: str) -> object:  # noqa: ARG002
        """Always the same: a file that is replaced meanwhile is an error of its own."""
        return EPOCH

    def _file(self, path: str) -> tuple[pa.NativeFile, int]:
        name = self._strip_protocol(path)
        if name in self._keys:
            pinned = self._held(self._keys[name])
            return pinned.file, pinned.info.size
        dataset = DATASETS.get(name.partition("/")[0])
        if dataset is None or name != _columns_alone(dataset):
            raise _no_file(path)
        content = _without_rows(dataset)
        return pa.BufferReader(content), content.size

    def _pinned(self, key: str) -> Pinned:
        """An object at what it was when this query first opened it; it is let go of when nothing reads it any more."""
        uri = self._store.uri_of(key)
        try:
            pinned = self._store.open(key)
        except ObjectNotFound as error:
            raise ObjectChanged(f"{uri}: was removed since it was listed; ask again") from error
        now = (pinned.info.size, pinned.info.crc32c, pinned.info.identity)
        if self._seen.setdefault(key, now) != now:
            raise ObjectChanged(f"{uri}: was replaced while it was read; ask again")
        return pinned

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error
            raise


class _Reading:
    """A file that several threads read at once: DuckDB seeks and reads in two calls, so each has its own place."""

    def __init__(self, file: pa.NativeFile, noted: Callable[[], object]) -> None:
        self._file = file
        self._noted = noted
        self._at = threading.local()

    def seek(self, offset: int) -> int:
        self._at.offset = offset
        return offset

    def tell(self) -> int:
        return getattr(self._at, "offset", 0)

    def read(self, size: int) -> bytes:
        with self._noted():
            at = self.tell()
            data: bytes = self._file.read_at(size, at)
            self._at.offset = at + len(data)
            return data

    def close(self) -> None:
        """Others may be reading the same file: it is closed with the last of them."""


def _path(dataset: Dataset, found: DayObject) -> str:
    values = dataset.partition_values(found.day, found.instrument)
    return "/".join([dataset.name, *(f"{name}={value}" for name, value in values.items()), "rows.parquet"])


def _columns_alone(dataset: Dataset) -> str:
    return "/".join([dataset.name, *(f"{column.name}={_NULL}" for column in dataset.partition_columns), "none.parquet"])


@lru_cache
def _without_rows(dataset: Dataset) -> pa.Buffer:
    out = pa.BufferOutputStream()
    pq.write_table(dataset.own_schema.empty_table(), out)
    return out.getvalue()


def _no_file(path: str) -> MarketDataError:
    return QueryError(f"{path} is no file of a dataset: a query reads the lake's datasets, and nothing else")
