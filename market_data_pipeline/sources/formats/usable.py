"""Rows that parse but cannot be used: which they are, how many by reason, and what stands in them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.rows import Reject, Rejects
from market_data_pipeline.sources.formats.csv_ticks import Block
from market_data_pipeline.sources.formats.unpack import Origin

_SIDES = pa.array(["buy", "sell", "unknown"])
_SHOWN = 60
KEPT_OF_A_REASON = 1_000
"""Rows of a file (in a grouped one: of an instrument) that are kept of each reason."""
KEPT_OF_A_FILE = 20_000
"""Rows of a file that are kept in all, so that a rotten grouped file cannot fill memory."""
LONGEST_TEXT = 2_000
"""Characters of a row that are kept."""
MOST = 1e30
"""What a price or an amount may be."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with some rows of a block.

    Attributes:
        reason: what is wrong, without a place.
        bad: true for the rows at fault, one for each row of the block.
        values: the column that is at fault, to name what was found.
    """

    reason: str
    bad: npt.NDArray[np.bool_]
    values: pa.Array


@dataclass
class Room:
    """How many rows of a file may still be kept among those set aside."""

    rows: int = field(default_factory=lambda: KEPT_OF_A_FILE)


@dataclass
class Sieve:
    """Sets aside the rows of one file that cannot be used: counts all, keeps the first of each reason.

    A row counts once, under the first fault that it has.

    Attributes:
        path: the file.
        rejects: told of what is set aside.
        seen: rows that came in.
        kept: rows that can be used.
        of: whose rows they are, where the file holds those of others too.
        room: shared by all sieves of a file.
    """

    path: Origin
    rejects: Rejects
    seen: int = 0
    kept: int = 0
    of: str = ""
    room: Room = field(default_factory=Room)

    def keep(self, block: Block, faults: Iterable[Fault | None]) -> pa.Array | None:
        """The filter for a block of rows; None where all can be used."""
        rows = block.rows.num_rows
        good, found = first_faults(rows, faults)
        for fault, bad in found:
            self.set_aside(fault, np.flatnonzero(bad), block)
        kept = int(np.count_nonzero(good))
        self.seen += rows
        self.kept += kept
        return None if kept == rows else pa.array(good)

    def set_aside(self, fault: Fault, rows: npt.NDArray[np.int64], block: Block) -> None:
        """Sets some rows of a block aside under a fault.

        Args:
            fault: what they have.
            rows: which, counted from the block's first; rising, at least one.
            block: whose rows.
        """
        reason, rejects = fault.reason, self.rejects
        if reason not in rejects.places:
            found = str(fault.values[int(rows[0])].as_py())[:_SHOWN]
            rejects.places[reason] = f"{self.path} line {block.line + int(rows[0])}: {found!r}"
        room = max(0, min(self.room.rows, KEPT_OF_A_REASON - rejects.counts[reason]))
        name = file_name(self.path)
        for row in rows[:room].tolist():
            text = block.lines[row][: 4 * LONGEST_TEXT].decode("utf-8", "replace")
            rejects.rows.append(Reject(name, block.line + row, reason, text[:LONGEST_TEXT]))
            self.room.rows -= 1
        rejects.counts[reason] += len(rows)

    def finish(self) -> None:
        """Ends the file.

        Raises:
            SourceError: there were rows, and not one of them can be used: the file is not what its name says. Taking
                it for an empty day would make the lake drop what it has.
        """
        if self.seen and not self.kept:
            whose = f" of {self.of}" if self.of else ""
            raise SourceError(
                f"{self.path}: none of its {self.seen} rows{whose} can be used; {'; '.join(self.rejects.because)}"
            )


def file_name(origin: Origin) -> str:
    """A file's name alone: where it lies differs between machines, and the lake's bytes must not."""
    return str(origin).rsplit("/", 1)[-1]


def first_faults(
    rows: int, faults: Iterable[Fault | None]
) -> tuple[npt.NDArray[np.bool_], list[tuple[Fault, npt.NDArray[np.bool_]]]]:
    """Which rows of a block have no fault; and each fault with the rows that have it and none before it."""
    good = np.ones(rows, bool)
    found = []
    for fault in faults:
        if fault is not None and (bad := fault.bad & good).any():
            found.append((fault, bad))
            good &= ~bad
    return good, found


def far_from(day: date, times: pa.Array, unit: int) -> Fault | None:
    """Times further than a day from the file's day.

    Args:
        day: the day of the file.
        times: whole numbers since the epoch, no nulls.
        unit: microseconds that one of them stands for.
    """
    start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    hours = timedelta(days=1) // timedelta(microseconds=1)
    low, high = (start - hours) // unit, (start + 2 * hours) // unit
    if not len(times):
        return None
    ends = pc.min_max(times)
    if low <= ends["min"].as_py() and ends["max"].as_py() < high:
        return None
    numbers = times.to_numpy()
    return Fault(f"timestamp is further than a day from {day}", (numbers < low) | (numbers >= high), times)


def not_positive(name: str, values: pa.Array) -> Fault | None:
    """Numbers that are zero or less; no nulls."""
    if not len(values) or pc.min(values).as_py() > 0:
        return None
    return Fault(f"{name} is not above 0", values.to_numpy() <= 0, values)


def too_large(name: str, values: pa.Array) -> Fault | None:
    """Numbers that no market has; no nulls. Sums of them and their products would overflow in the candles."""
    if not len(values) or pc.max(values).as_py() <= MOST:
        return None
    return Fault(f"{name} is above {MOST:g}", values.to_numpy() > MOST, values)


def unlike(name: str, values: pa.DictionaryArray, wanted: Callable[[str], bool], expected: str) -> Fault | None:
    """Texts that are empty or not as wanted."""
    wrong = [code for code, text in enumerate(values.dictionary.to_pylist()) if not wanted(text)]
    if not wrong and not values.null_count:
        return None
    codes = values.indices.fill_null(-1).to_numpy()
    return Fault(f"{name} is not {expected}", np.isin(codes, [-1, *wrong]), values)


def sides(values: pa.DictionaryArray) -> tuple[pa.DictionaryArray, Fault | None]:
    """The taker's sides under one dictionary (buy, sell, unknown), and what is none of them."""
    known = pc.index_in(values.dictionary, _SIDES)
    fault = unlike("side", values, _SIDES.to_pylist().__contains__, "buy, sell or unknown")
    # numpy takes them ten times faster, and knows no nulls
    codes = known.take(values.indices) if fault else pa.array(known.to_numpy()[values.indices.to_numpy()])
    return pa.DictionaryArray.from_arrays(codes, _SIDES), fault


def all_rows(dataset: Dataset, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    """A batch of the dataset's own columns.

    Args:
        dataset: whose columns are wanted.
        columns: each of them by name, times as whole microseconds; a `local_timestamp` that is missing becomes the
            exchange's time.
    """
    local = columns["local_timestamp"]
    if local.null_count:
        columns = columns | {"local_timestamp": pc.coalesce(local, columns["timestamp"])}
    arrays = [columns[column.name].cast(column.type) for column in dataset.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=dataset.own_schema)


def usable_rows(batch: pa.RecordBatch, sieve: Sieve, block: Block, faults: Iterable[Fault | None]) -> pa.RecordBatch:
    """The batch without the rows at fault.

    Args:
        batch: the rows of a block.
        sieve: told of what is set aside.
        block: the block, as the file has it.
        faults: what is wrong with the rows.
    """
    keep = sieve.keep(block, faults)
    return batch if keep is None else batch.filter(keep)
