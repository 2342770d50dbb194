"""Order by time in bounded memory: a stable sort, whatever the batches."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.lake.ordering import (
    canonical,
    chunks_by_time,
    disordered,
    in_order,
    sort_by_time,
    times,
    within,
)
from market_data_pipeline.model.datasets import TEXT, TIME
from market_data_pipeline.model.windows import Window

SIDES = st.sampled_from(["sell", "buy", "unknown", None])


def table_of(stamps: list[int], sides: list[str | None]) -> pa.Table:
    """Rows numbered in the order they come in."""
    return pa.table(
        {
            "timestamp": pa.array(stamps, pa.int64()).cast(TIME),
            "side": pa.array(sides, pa.string()).dictionary_encode().cast(TEXT),
            "number": pa.array(range(len(stamps)), pa.int64()),
        }
    )


def batches_of(table: pa.Table, cuts: list[int]) -> list[pa.RecordBatch | pa.Table]:
    """The rows in pieces, each with dictionaries of its own, some as batches and some as tables."""
    edges = [0, *sorted(cut % (table.num_rows + 1) for cut in cuts), table.num_rows]
    pieces: list[pa.RecordBatch | pa.Table] = []
    for start, stop in pairwise(edges):
        sides = table.column("side").slice(start, stop - start).to_pylist()
        piece = table.slice(start, stop - start).set_column(
            1, "side", pa.array(sides, pa.string()).dictionary_encode().cast(TEXT)
        )
        pieces += piece.to_batches() if start % 2 else [piece]
    return pieces


@st.composite
def nearly_ordered(draw: st.DrawFn, rows: int) -> pa.Table:
    """Rows of which none comes more than `rows` rows later than a stable sort has it."""
    stamps = draw(st.lists(st.integers(0, 12), max_size=40))
    order = np.argsort(np.array(stamps, np.int64), kind="stable")
    late = [int(where) - place for place, where in enumerate(order)]
    if any(rows_late > rows for rows_late in late):
        block = draw(st.integers(1, rows))
        for start in range(0, len(stamps), block):
            stamps[start : start + block] = [start + value % block for value in stamps[start : start + block]]
    return table_of(stamps, draw(st.lists(SIDES, min_size=len(stamps), max_size=len(stamps))))


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_chunks_are_a_stable_sort_where_no_row_is_too_late(rows: int) -> None:
    @given(nearly_ordered(rows), st.lists(st.integers(0, 40), max_size=6))
    def check(table: pa.Table, cuts: list[int]) -> None:
        chunks = list(chunks_by_time(batches_of(table, cuts), rows))
        assert [chunk.num_rows for chunk in chunks[:-1]] == [rows] * (len(chunks) - 1)
        assert sum(chunk.num_rows for chunk in chunks) == table.num_rows
        order = np.argsort(times(table), kind="stable")
        found = [number for chunk in chunks for number in chunk.column("number").to_pylist()]
        assert found == order.tolist()
        sides = [side for chunk in chunks for side in chunk.column("side").to_pylist()]
        assert sides == [table.column("side")[int(row)].as_py() for row in order]

    check()


@given(
    st.lists(st.tuples(st.integers(0, 9), SIDES), max_size=30),
    st.lists(st.integers(0, 30), max_size=6),
    st.lists(st.integers(0, 30), max_size=6),
    st.integers(1, 7),
)
def test_chunks_tell_nothing_of_the_batches(
    rows: list[tuple[int, str | None]], cuts: list[int], other_cuts: list[int], size: int
) -> None:
    # however late a row is: the same rows give the same chunks, down to their dictionaries
    table = table_of([stamp for stamp, _ in rows], [side for _, side in rows])
    one = list(chunks_by_time(batches_of(table, cuts), size))
    other = list(chunks_by_time(batches_of(table, other_cuts), size))
    assert [chunk.to_pydict() for chunk in one] == [chunk.to_pydict() for chunk in other]
    for left, right in zip(one, other, strict=True):
        assert left.column("side").num_chunks == 1
        assert left.column("side").chunk(0).dictionary.equals(right.column("side").chunk(0).dictionary)
    assert sorted(n for chunk in one for n in chunk.column("number").to_pylist()) == list(range(len(rows)))


@pytest.mark.parametrize("stamps", [range(1000), [*range(999, -1, -1)]], ids=["in order", "out of order"])
@pytest.mark.parametrize("size", [7, 100, 150])
def test_a_chunk_keeps_no_memory_but_its_own(stamps: list[int], size: int) -> None:
    parts = [list(stamps)[start : start + size] for start in range(0, 1000, size)]
    for chunk in chunks_by_time([table_of(part, ["buy"] * len(part)) for part in parts], 100):
        # a chunk that lies in one batch is not copied, and keeps the whole of it
        assert chunk.get_total_buffer_size() < 1.5 * chunk.nbytes * max(1, size / 100)


def test_a_row_that_is_later_than_memory_reaches_is_kept_out_of_order() -> None:
    table = table_of([5, 6, 7, 8, 9, 1], ["buy"] * 6)
    chunks = list(chunks_by_time([table], 2))
    assert [number for chunk in chunks for number in chunk.column("number").to_pylist()] == [0, 1, 5, 2, 3, 4]


@given(st.lists(st.integers(0, 6), max_size=20))
def test_sorting_is_stable_and_touches_only_the_disordered_stretch(stamps: list[int]) -> None:
    table = table_of(stamps, ["buy"] * len(stamps))
    found = sort_by_time(table).column("number").to_pylist()
    assert found == sorted(range(len(stamps)), key=stamps.__getitem__)
    start, stop = disordered(times(table))
    assert (start == stop) == in_order(times(table)) == (stamps == sorted(stamps))
    moved = [place for place, number in enumerate(found) if place != number]
    if moved:
        assert start <= moved[0]
        assert moved[-1] < stop


@given(st.lists(st.integers(0, 6), min_size=2, max_size=20))
def test_the_disordered_stretch_is_as_small_as_can_be(stamps: list[int]) -> None:
    start, stop = disordered(np.array(stamps))
    assert stamps[:start] + sorted(stamps[start:stop]) + stamps[stop:] == sorted(stamps)
    if start < stop:
        assert stamps[: start + 1] + sorted(stamps[start + 1 : stop]) + stamps[stop:] != sorted(stamps)
        assert stamps[:start] + sorted(stamps[start : stop - 1]) + stamps[stop - 1 :] != sorted(stamps)


def test_times_need_no_copy_of_one_chunk() -> None:
    column = pa.array([3, 1], pa.int64()).cast(TIME)
    table = pa.table({"timestamp": column})
    assert times(table).tolist() == [3, 1]
    assert times(table).ctypes.data == column.buffers()[1].address
    assert times(pa.concat_tables([table, table.slice(1)])).tolist() == [3, 1, 1]


def test_canonical_dictionaries_hold_what_occurs_sorted() -> None:
    sides = pa.DictionaryArray.from_arrays(pa.array([2, 0, None, 2], pa.int32()), ["sell", "never", "buy"])
    found = canonical(pa.table({"side": pa.chunked_array([sides.slice(1), sides.slice(0, 1)])}))
    assert found.column("side").to_pylist() == ["sell", None, "buy", "buy"]
    assert found.column("side").chunk(0).dictionary.to_pylist() == ["buy", "sell"]
    assert canonical(found.slice(0, 0)).num_rows == 0


@pytest.mark.parametrize("first", [0, 40, 90])
@pytest.mark.parametrize("rows", [0, 5, 10])
def test_a_few_rows_of_many_keep_no_memory_but_their_own(first: int, rows: int) -> None:
    table = table_of(list(range(100)), ["buy", None] * 50)
    start = datetime(1970, 1, 1, microsecond=first, tzinfo=UTC)
    found = within(table, Window(start, start + timedelta(microseconds=rows)))
    assert found.column("number").to_pylist() == list(range(first, first + rows))
    assert found.column("side").to_pylist() == table.column("side").slice(first, rows).to_pylist()
    assert found.get_total_buffer_size() < table.get_total_buffer_size() / 2
