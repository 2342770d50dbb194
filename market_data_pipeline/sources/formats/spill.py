"""Rows that come mixed, given out one code at a time: sorted into runs, of which all but a small rest lie on disk."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BUDGET = 128 << 20
"""Bytes of rows that are held before they are sorted and written; sorting them takes about as much again."""
BATCH = 4 << 20
"""Bytes of one code's rows that are given out at once."""
PREFIX = "market-data-spill-"
_ORPHAN_SECONDS = 3600.0

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Run:
    """Sorted rows: for each code the numbers of its batches, and how to get one."""

    places: dict[int, range]
    batch: Callable[[int], pa.RecordBatch]


class RowsByCode:
    """Takes rows in any order of their codes, and gives out each code's in the order in which they came.

    What exceeds `BUDGET` bytes goes to files in the temporary folder (`TMPDIR`) that have no name once they are whole:
    the system takes them back when the last reader lets go of them, and when the process is killed. Reading may be
    done from any thread, adding from one.

    Args:
        schema: of all batches.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._held: list[tuple[pa.RecordBatch, Codes]] = []
        self._bytes = 0
        self._runs: list[_Run] = []

    def add(self, rows: pa.RecordBatch, codes: Codes) -> None:
        """Takes some rows, with the code of each; raises OSError where the disk is full."""
        self._held.append((rows, codes))
        self._bytes += rows.nbytes
        if self._bytes >= BUDGET:
            self._runs.append(_stored(self._schema, *self._sorted()))

    def finish(self) -> None:
        """Ends adding; raises OSError where the disk is full."""
        if self._held:
            # where some lie on disk all do, so that reading holds no more than it must
            self._runs.append((_stored if self._runs else _kept)(self._schema, *self._sorted()))

    def read(self, code: int) -> Iterator[pa.RecordBatch]:
        """Streams the rows of a code."""
        for run in self._runs:
            for number in run.places.get(code, ()):
                yield run.batch(number)

    def _sorted(self) -> tuple[Codes, pa.RecordBatch]:
        """What is held, stably sorted by code; nothing is held afterwards."""
        codes = np.concatenate([codes for _, codes in self._held])
        columns = [[rows.column(i) for rows, _ in self._held] for i in range(len(self._schema))]
        self._held, self._bytes = [], 0
        # 16 bits are sorted by radix, which takes a tenth of the time
        order = pa.array(np.argsort(codes.astype(np.uint16) if codes.max() < 1 << 16 else codes, kind="stable"))
        arrays = []
        while columns:  # one column after another is let go of, so that only one lies there twice
            column = pa.chunked_array(columns.pop(0)).unify_dictionaries().combine_chunks()
            arrays.append(column.take(order))
        return codes[np.asarray(order)], pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _pieces(codes: Codes, rows: pa.RecordBatch) -> Iterator[tuple[int, list[pa.RecordBatch]]]:
    """The batches of each code."""
    step = max(1, BATCH * rows.num_rows // max(rows.nbytes, 1))
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(codes)], strict=True):
        yield int(codes[start]), [rows.slice(at, min(step, stop - at)) for at in range(start, stop, step)]


def _kept(schema: pa.Schema, codes: Codes, rows: pa.RecordBatch) -> _Run:
    places: dict[int, range] = {}
    batches: list[pa.RecordBatch] = []
    for code, pieces in _pieces(codes, rows):
        places[code] = range(len(batches), len(batches) + len(pieces))
        batches += pieces
    return _Run(places, batches.__getitem__)


def _stored(schema: pa.Schema, codes: Codes, rows: pa.RecordBatch) -> _Run:
    _sweep()
    places: dict[int, range] = {}
    handle, name = tempfile.mkstemp(".arrow", PREFIX)
    os.close(handle)
    try:
        written = 0
        with pa.OSFile(name, "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for code, pieces in _pieces(codes, rows):
                for piece in pieces:
                    writer.write_batch(piece)
                places[code] = range(written, written + len(pieces))
                written += len(pieces)
        reader = pa.ipc.open_file(pa.OSFile(name, "rb"))
    finally:
        Path(name).unlink(missing_ok=True)
    lock = Lock()

    def batch(number: int) -> pa.RecordBatch:
        with lock:
            return reader.get_batch(number)

    return _Run(places, batch)


def _sweep() -> None:
    """Removes what processes left behind that were killed while they wrote a file."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _ORPHAN_SECONDS:
                path.unlink()
