"""Stable order by time, in bounded memory, of rows that are nearly in order already.

Vendors cut and order their files by their own clock, so exchange times run backwards a little. Ties keep their order.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from market_data_pipeline.model.windows import Window, microseconds

Microseconds = npt.NDArray[np.int64]


def times(table: pa.Table | pa.RecordBatch, column: str = "timestamp") -> Microseconds:
    """A column of times as microseconds since 1970 UTC, without a copy where it is one chunk."""
    values = table.column(column)
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()
    return np.asarray(values.view(pa.int64()))


def within(table: pa.Table, window: Window) -> pa.Table:
    """The rows whose `timestamp` lies in a window, in their order; not copied where most do and lie together."""
    stamps = times(table)
    inside = (stamps >= microseconds(window.start)) & (stamps < microseconds(window.end))
    if inside.all():
        return table
    where = np.flatnonzero(inside)
    if len(where) and len(where) == where[-1] - where[0] + 1:
        found = table.slice(int(where[0]), len(where))
        # a few rows of many would keep the memory of all: of a disordered file every row group has some
        return found if 2 * len(where) >= table.num_rows else found.take(pa.array(np.arange(len(where))))
    return table.filter(pa.array(inside))


def in_order(values: Microseconds) -> bool:
    """True where no value is less than the one before it."""
    return bool(np.all(values[1:] >= values[:-1]))


def disordered(values: Microseconds) -> tuple[int, int]:
    """The smallest slice [start, stop) that must be sorted for all values to be in order; (0, 0) if none."""
    if in_order(values):
        return 0, 0
    least_after = np.minimum.accumulate(values[::-1])[::-1]
    most_before = np.maximum.accumulate(values)
    wrong = np.flatnonzero((values > least_after) | (values < most_before))
    return int(wrong[0]), int(wrong[-1]) + 1


def sort_by_time(table: pa.Table, column: str = "timestamp") -> pa.Table:
    """The rows in stable order of time; rows outside the disordered stretch are not copied."""
    values = times(table, column)
    start, stop = disordered(values)
    if start == stop:
        return table
    order = np.argsort(values[start:stop], kind="stable")
    middle = table.slice(start, stop - start).take(pa.array(order))
    return pa.concat_tables([table.slice(0, start), middle, table.slice(stop)])


def chunks_by_time(batches: Iterable[pa.Table | pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Re-chunks a stream into tables of `rows` rows (the last may be shorter), put in order as far as memory allows.

    Twice `rows` are held at a time, sorted, and the first half given out: a row may arrive up to `rows` rows late and
    still find its place. What comes out does not depend on how the batches were cut.
    """
    held: list[pa.Table] = []
    count = 0
    for batch in batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        while table.num_rows:
            taken = table.slice(0, 2 * rows - count)
            table = table.slice(taken.num_rows)
            held.append(taken)
            count += taken.num_rows
            if count == 2 * rows:
                first, *held = _first_in_order(held, rows)
                count = rows
                yield first
                del first  # its memory is the next one's
    if count:
        yield from _in_order(held, rows)


def _first_in_order(held: list[pa.Table], rows: int) -> list[pa.Table]:
    """What is held, of which the first `rows` rows, in order of time, are a table of their own. `held` is emptied."""
    start, stop = disordered(np.concatenate([times(table) for table in held]))
    if start < min(stop, rows):
        return _in_order(held, rows)
    table = pa.concat_tables(held)
    held.clear()
    return [canonical(table.slice(0, rows)), table.slice(rows)]


def _in_order(held: list[pa.Table], rows: int) -> list[pa.Table]:
    """What is held, in order of time and cut into tables of `rows` rows. `held` is emptied.

    One column after another is put in order and let go of, and no table keeps the memory of its neighbour: of wide rows
    (a book of 25 levels) a window is 100 MB, and several threads have one each.
    """
    schema = held[0].schema
    stamps = np.concatenate([times(table) for table in held])
    start, stop = disordered(stamps)
    order = np.argsort(stamps[start:stop], kind="stable")
    columns = [[chunk for table in held for chunk in table.column(i).chunks] for i in range(len(schema))]
    held.clear()
    cuts = range(0, len(stamps), rows)
    pieces: list[list[pa.Array]] = [[] for _ in cuts]
    while columns:
        column = _sorted(pa.chunked_array(columns.pop(0)).unify_dictionaries(), start, stop, order)
        for piece, cut in zip(pieces, cuts, strict=True):
            values = pa.concat_arrays(column.slice(cut, rows).chunks)
            piece.append(_canonical(values) if pa.types.is_dictionary(values.type) else values)
    return [pa.Table.from_arrays(piece, schema=schema) for piece in pieces]


def _sorted(column: pa.ChunkedArray, start: int, stop: int, order: npt.NDArray[np.int64]) -> pa.ChunkedArray:
    """The column with the rows of its stretch [start, stop) in this order; the others are not copied."""
    if start == stop:
        return column
    middle = column.slice(start, stop - start).combine_chunks().take(pa.array(order))
    return pa.chunked_array([*column.slice(0, start).chunks, middle, *column.slice(stop).chunks])


def canonical(table: pa.Table) -> pa.Table:
    """The same rows in one chunk, whose dictionaries hold just what occurs, sorted: nothing tells of earlier cuts."""
    table = table.combine_chunks()
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and table.num_rows:
            table = table.set_column(index, field, _canonical(table.column(index).chunk(0)))
    return table


def _canonical(column: pa.DictionaryArray) -> pa.DictionaryArray:
    indices = np.asarray(column.indices.fill_null(-1))
    names = column.dictionary.to_pylist()
    used = np.flatnonzero(np.bincount(indices[indices >= 0], minlength=len(names)))
    order = sorted(used.tolist(), key=names.__getitem__)
    renumbered = np.zeros(len(names) + 1, np.int32)  # the last place is that of null (-1)
    renumbered[order] = np.arange(len(order), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(renumbered[indices], mask=indices < 0 if column.null_count else None),
        pa.array([names[i] for i in order], column.dictionary.type),
    )
