"""Footers that were read before: a day that is asked for hour by hour has its footer decoded once.

A footer is known by the file it is of, so what was published since is read anew. Whoever compares what lies on the disk
with what should lie there reads it from there.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline.lake.parquet import at_once, explained, parquet_file, row_group_times
from market_data_pipeline.lake.stores.contract import ObjectInfo, ObjectStore

_KEPT = 8 << 20  # bytes of footers as they are stored: some hundred days of ticks


@dataclass(frozen=True)
class Facts:
    """What the footer of a file tells, worked out once.

    Attributes:
        metadata: the footer.
    """

    metadata: pq.FileMetaData

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.metadata.schema.to_arrow_schema()

    @cached_property
    def groups(self) -> tuple[tuple[int, datetime, datetime], ...]:
        """Rows, earliest and latest `timestamp` of each row group; raises as `row_group_times`."""
        rows = [self.metadata.row_group(group).num_rows for group in range(self.metadata.num_row_groups)]
        return tuple((count, *row_group_times(self.metadata, group)) for group, count in enumerate(rows))


class _Remembered:
    """The facts of the files that were read last."""

    def __init__(self) -> None:
        self._facts: OrderedDict[tuple[int, ...], Facts] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, file: tuple[int, ...]) -> Facts | None:
        with self._lock:
            found = self._facts.get(file)
            if found:
                self._facts.move_to_end(file)
            return found

    def keep(self, file: tuple[int, ...], facts: Facts) -> None:
        with self._lock:
            if file not in self._facts:
                self._facts[file] = facts
                self._size += facts.metadata.serialized_size
            while self._size > _KEPT:
                _, dropped = self._facts.popitem(last=False)
                self._size -= dropped.metadata.serialized_size


_remembered = _Remembered()


def facts_of(info: ObjectInfo, content: pa.NativeFile) -> Facts:
    """What the footer of a Parquet file tells; where the store does not say which file it is, it is read each time."""
    if info.identity is None:
        return Facts(parquet_file(content).metadata)
    file = (*info.identity, info.size)
    facts = _remembered.get(file)
    if facts is None:
        facts = Facts(parquet_file(content).metadata)
        _remembered.keep(file, facts)
    return facts


@contextmanager
def reopened(store: ObjectStore, key: str) -> Iterator[pq.ParquetFile]:
    """As `parquet.opened`, but a footer that was read before is not read again."""
    with store.open(key) as pinned, explained(store.uri_of(key)):
        content = at_once(pinned)
        yield parquet_file(content, facts_of(pinned.info, content).metadata)
