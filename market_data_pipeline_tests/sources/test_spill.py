import gc
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.sources.formats import spill
from market_data_pipeline.sources.formats.spill import RowsByCode

SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("side", pa.dictionary(pa.int32(), pa.string())),
        pa.field("id", pa.string()),
        pa.field("price", pa.float64()),
    ]
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def batch_of(numbers: list[int]) -> pa.RecordBatch:
    """Rows told apart by a number; each batch has a dictionary of its own, and some values are missing."""
    sides = pa.array([("buy", None, "sell", "unknown")[n % 4] for n in numbers], pa.string()).dictionary_encode()
    texts = pa.array([None if n % 5 == 0 else f"id{n}" for n in numbers], pa.string())
    prices = pa.array([None if n % 3 == 0 else n / 7 for n in numbers], pa.float64())
    return pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64()), sides, texts, prices], schema=SCHEMA)


def filled(codes: list[int], cuts: int) -> RowsByCode:
    rows = RowsByCode(SCHEMA)
    for start in range(0, len(codes), cuts):
        piece = codes[start : start + cuts]
        rows.add(batch_of(list(range(start, start + len(piece)))), np.array(piece, np.int32))
    rows.finish()
    return rows


def numbers_of(rows: RowsByCode, code: int) -> list[int]:
    return [number for batch in rows.read(code) for number in batch.column("number").to_pylist()]


def open_below(folder: Path) -> list[str]:
    """The files of a folder that this process holds open, whether they still have a name or not."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the folder's own handle is gone by now
            found.append(str(link.readlink()))
    return [name for name in found if str(folder) in name]


@given(
    st.lists(st.integers(0, 6) | st.sampled_from([70_000, 65_535]), max_size=60),
    st.integers(1, 20),
    st.sampled_from([1, 300, 1 << 30]),
    st.sampled_from([1, 100, 1 << 20]),
)
def test_each_code_has_its_rows_in_their_order(codes, cuts, budget, batch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "BUDGET", budget)
        patch.setattr(spill, "BATCH", batch)
        rows = filled(codes, cuts)
        for code in {*codes, 3}:
            wanted = [number for number, found in enumerate(codes) if found == code]
            batches = list(rows.read(code))
            assert [row for piece in batches for row in piece.to_pylist()] == batch_of(wanted).to_pylist()
            assert all(piece.schema.equals(SCHEMA, check_metadata=True) and piece.num_rows for piece in batches)
            for piece in batches:
                piece.validate(full=True)


def test_what_fits_needs_no_disk(folder, monkeypatch):
    monkeypatch.setattr(spill.tempfile, "mkstemp", None)
    assert numbers_of(filled([1, 0, 1], 2), 1) == [0, 2]


def test_a_file_has_no_name_once_it_is_written_and_goes_with_its_last_reader(folder, monkeypatch):
    monkeypatch.setattr(spill, "BUDGET", 1)
    rows = filled([0, 1, 0, 1], 2)
    assert list(folder.iterdir()) == []
    assert open_below(folder)
    reading = rows.read(1)
    assert next(reading).column("number").to_pylist() == [1]
    del rows
    gc.collect()
    assert next(reading).column("number").to_pylist() == [3]
    del reading
    gc.collect()
    assert not open_below(folder)


def test_batches_are_small_so_that_readers_hold_little(monkeypatch):
    monkeypatch.setattr(spill, "BUDGET", 1)
    monkeypatch.setattr(spill, "BATCH", 1000)
    rows = filled([0] * 500, 500)
    batches = list(rows.read(0))
    assert len(batches) > 5
    assert max(batch.nbytes for batch in batches) < 2000


def test_no_more_is_held_than_the_budget(monkeypatch):
    monkeypatch.setattr(spill, "BUDGET", 1 << 20)
    rows, before, most, added = RowsByCode(SCHEMA), pa.total_allocated_bytes(), 0, 0
    for start in range(0, 400_000, 4000):
        batch = batch_of(list(range(start, start + 4000)))
        rows.add(batch, np.arange(4000, dtype=np.int32))
        most, added = max(most, pa.total_allocated_bytes() - before), added + batch.nbytes
    rows.finish()
    assert added > 10 << 20
    assert most < 2 << 20


def test_several_threads_read_at_once(monkeypatch):
    monkeypatch.setattr(spill, "BUDGET", 2000)
    codes = [n * 7 % 50 for n in range(4000)]
    rows = filled(codes, 100)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda code: numbers_of(rows, code), [*range(50)] * 4))
    assert found == [[n for n, code in enumerate(codes) if code == wanted] for wanted in range(50)] * 4


def test_a_full_disk_leaves_nothing(folder, monkeypatch):
    monkeypatch.setattr(spill, "BUDGET", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spill.pa.ipc, "new_file", full)
    with pytest.raises(OSError, match="No space left"):
        filled([1, 2], 1)
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_left_is_swept_later(folder, monkeypatch):
    monkeypatch.setattr(spill, "BUDGET", 1)
    left, fresh, other = folder / f"{spill.PREFIX}a.arrow", folder / f"{spill.PREFIX}b.arrow", folder / "c.arrow"
    for path in (left, fresh, other):
        path.write_bytes(b"half")
    hours_ago = time.time() - 7200
    os.utime(left, (hours_ago, hours_ago))
    os.utime(other, (hours_ago, hours_ago))
    filled([1, 2], 1)
    assert sorted(folder.iterdir()) == [other, fresh]


def test_a_killed_process_leaves_nothing_of_what_it_had_written(folder):
    script = """
import sys, tempfile, time
from pathlib import Path
import numpy as np, pyarrow as pa
from market_data_pipeline.sources.formats import spill
spill.BUDGET, tempfile.tempdir = 1, sys.argv[1]
rows = spill.RowsByCode(pa.schema([("number", pa.int64())]))
rows.add(pa.record_batch({"number": pa.array([1, 2])}), np.array([1, 2], np.int32))
print(len(list(rows.read(2))), flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"1\n"
        running.kill()
    assert list(folder.iterdir()) == []
