"""The lake's files as DuckDB sees them: a file system that is only read, with the values of columns in its paths.

`lake://by_date/trades` stands for all files of a table. Each has a made-up path, whose folders are the columns that its
own path tells, as `name=value`: DuckDB takes these from there, and leaves out files by them before it opens any.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.parquet import explained
from market_data_pipeline.lake.sql_tables import TABLES, StoredTable
from market_data_pipeline.lake.stores.contract import ObjectStore, Pinned
from market_data_pipeline.model.errors import ObjectChanged, ObjectNotFound, QueryError
from market_data_pipeline.model.windows import EPOCH, Window

PROTOCOL = "lake"
_NULL = "__HIVE_DEFAULT_PARTITION__"
_HELD = 64  # files held open, since DuckDB opens each several times; on Google Cloud Storage each time is a request


class LakeFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The files of all tables, for one query.

    A table's first file has no rows and does not lie in the lake: from it DuckDB learns the columns and opens none of
    the others for that, and a dataset of which nothing is stored has them, too.

    Args:
        store: where the files are.
        window: the times that are asked about.
    """

    protocol = PROTOCOL
    cachable = False

    def __init__(self, store: ObjectStore, window: Window) -> None:
        super().__init__()
        self.failure: Exception | None = None
        """What went wrong first, of which DuckDB makes a text."""
        self.listing = False
        """Whether the lake's own files are told of: while views are made, their columns are all that is wanted."""
        self._store = store
        self._window = window
        self._paths: dict[str, list[str]] = {}
        self._keys: dict[str, str] = {}
        self._seen: dict[str, tuple[object, ...]] = {}
        self._held = lru_cache(_HELD)(self._pinned)

    def close(self) -> None:
        """Lets go of the files that are held open: they hold this object in turn, so else they stay until a sweep."""
        self._held.cache_clear()

    def uri_of(self, path: str) -> str:
        """The address of the object behind a made-up path, for people; else the path itself."""
        key = self._keys.get(self._strip_protocol(path))
        return self._store.uri_of(key) if key else path

    def glob(self, path: str, **_: object) -> list[str]:
        """The files of a table."""
        with self._noted():
            table = TABLES.get(self._strip_protocol(path))
            if table is None:
                raise _no_file(path)
            return [_columns_alone(table), *(self._files(table) if self.listing else [])]

    def _files(self, table: StoredTable) -> list[str]:
        if table.place not in self._paths:
            keys = {_path(table, values): key for key, values in table.files(self._store, self._window)}
            self._keys.update(keys)
            self._paths[table.place] = list(keys)
        return self._paths[table.place]

    def open(self, path: str, mode: str = "rb", **_: object) -> "_Reading":
        """A file, for reading."""
        with self._noted():
            if mode != "rb":
                raise QueryError(f"{path} cannot be written: a query only reads")
            return _Reading(self, path, self._file(path)[0])

    def info(self, path: str, **_: object) -> dict[str, object]:
        """What DuckDB asks about a file: its size."""
        with self._noted():
            return {"name": path, "size": self._file(path)[1], "type": "file"}

    def modified(self, path: str) -> datetime:
        """Always the same: a file that is replaced meanwhile is an error of its own."""
        return EPOCH

    def read_at(self, path: str, file: pa.NativeFile, size: int, at: int) -> bytes:
        """Some bytes of an open file."""
        with self._noted(), explained(self.uri_of(path)):
            data: bytes = file.read_at(size, at)
            return data

    def _file(self, path: str) -> tuple[pa.NativeFile, int]:
        name = self._strip_protocol(path)
        if name in self._keys:
            pinned = self._held(self._keys[name])
            return pinned.file, pinned.info.size
        table = TABLES.get("/".join(name.split("/")[:2]))
        if table is None or name != _columns_alone(table):
            raise _no_file(path)
        content = _without_rows(table.dataset.schema)
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

    def __init__(self, files: LakeFiles, path: str, file: pa.NativeFile) -> None:
        self._files = files
        self._path = path
        self._file = file
        self._place = threading.local()

    def seek(self, offset: int) -> int:
        """Moves this thread's place."""
        self._place.at = offset
        return offset

    def tell(self) -> int:
        """This thread's place."""
        return getattr(self._place, "at", 0)

    def read(self, size: int) -> bytes:
        """Bytes from this thread's place on, fewer only at the end."""
        data = self._files.read_at(self._path, self._file, size, self.tell())
        self._place.at = self.tell() + len(data)
        return data

    def close(self) -> None:
        """Others may be reading the same object: it is closed with the last of them."""


def _path(table: StoredTable, values: Mapping[str, object], holding: str = "rows") -> str:
    return "/".join([table.place, holding, *(f"{name}={value}" for name, value in values.items()), "file.parquet"])


def _columns_alone(table: StoredTable) -> str:
    # DuckDB sorts the paths, and learns the columns from the first
    return _path(table, dict.fromkeys((column.name for column in table.path_columns), _NULL), "columns")


@lru_cache
def _without_rows(schema: pa.Schema) -> pa.Buffer:
    out = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), out)
    return out.getvalue()


def _no_file(path: str) -> QueryError:
    return QueryError(f"{path} is no file of a table: a query reads the lake's datasets, and nothing else")
