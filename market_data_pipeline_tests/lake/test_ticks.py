"""Ticks by exchange time, out of day files that a vendor cut by its own clock."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.ticks import TickSeries
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import Window, midnight
from market_data_pipeline_tests.lake.made_up import BTC_USD, TRADES, Watched, trades, write
from market_data_pipeline_tests.store_fixtures import Ground

DAY = date(2024, 3, 5)
BEFORE, AFTER = DAY - ONE_DAY, DAY + ONE_DAY
START = midnight(DAY)
SMALL_GROUPS = replace(TRADES, row_group_rows=4)
Filed = list[tuple[date, datetime, str]]


def at(seconds: float, day: date = DAY) -> datetime:
    return midnight(day) + timedelta(seconds=seconds)


def file(store: ObjectStore, filed: Filed) -> None:
    """Files ticks (by file's day, time, id) in the order given, in small row groups."""
    for day in sorted({day for day, _, _ in filed}):
        mine = [(time, name) for at_day, time, name in filed if at_day == day]
        table = trades([time for time, _ in mine], ids=[name for _, name in mine])
        write(store, SMALL_GROUPS, {(day, BTC_USD): table})


def read(store: ObjectStore, window: Window, days: tuple[date, ...] = (BEFORE, DAY, AFTER)) -> list[str]:
    with TickSeries(store, TRADES, BTC_USD, days) as series:
        tables = list(series.read(window, ["id", "timestamp"]))
    assert all(table.num_rows for table in tables)
    stamps = [time for table in tables for time in table.column("timestamp").to_pylist()]
    assert stamps == sorted(stamps)
    return [name for table in tables for name in table.column("id").to_pylist()]


def expected(filed: Filed, window: Window) -> list[str]:
    """The plain way: by the file's day, then as written, then a stable sort by time."""
    inside = [row for row in sorted(filed, key=lambda row: row[0]) if window.start <= row[1] < window.end]
    return [name for _, _, name in sorted(inside, key=lambda row: row[1])]


def test_a_day_reaches_into_the_files_beside_it(local_store: ObjectStore) -> None:
    filed = [
        (BEFORE, at(-1), "yesterday's"),
        (BEFORE, at(0), "midnight in yesterday's file"),
        (BEFORE, at(2), "early in yesterday's file"),
        (DAY, at(-0.5), "yesterday's in today's file"),
        (DAY, at(1), "early"),
        (DAY, at(86_399), "late"),
        (DAY, at(86_400), "tomorrow's in today's file"),
        (AFTER, at(86_398), "late in tomorrow's file"),
        (AFTER, at(86_401), "tomorrow's"),
    ]
    file(local_store, filed)
    found = read(local_store, Window.of(DAY, AFTER))
    assert found == [
        "midnight in yesterday's file",
        "early",
        "early in yesterday's file",
        "late in tomorrow's file",
        "late",
    ]
    assert read(local_store, Window.of(at(-1), at(0))) == ["yesterday's", "yesterday's in today's file"]
    assert read(local_store, Window.of(at(86_400), at(90_000))) == ["tomorrow's in today's file", "tomorrow's"]


def test_ties_follow_the_files_day_then_the_sources_order(local_store: ObjectStore) -> None:
    filed = [(day, at(0), f"{day.day}-{n}") for day in (AFTER, BEFORE, DAY) for n in range(9)]
    file(local_store, filed)
    assert read(local_store, Window.of(DAY, AFTER)) == [f"{day}-{n}" for day in (4, 5, 6) for n in range(9)]


def test_ties_at_the_edges_of_row_groups_keep_their_order(local_store: ObjectStore) -> None:
    # today's row group begins earlier, but of the ticks at 20 s yesterday's file comes first
    filed = [(BEFORE, at(20), "a"), (BEFORE, at(21), "b"), (DAY, at(10), "c"), (DAY, at(20), "d")]
    file(local_store, filed)
    assert read(local_store, Window.of(DAY, AFTER)) == ["c", "a", "d", "b"]


@pytest.mark.parametrize("seed", range(12))
def test_any_disorder_within_reach_is_a_stable_sort(local_store: ObjectStore, seed: int) -> None:
    chance = random.Random(seed)
    filed: Filed = []
    for day in (BEFORE, DAY, AFTER):
        seconds = sorted(chance.choices(range(-3, 40), k=24)) + sorted(chance.choices(range(86_360, 86_404), k=24))
        for start in range(0, 48, 4):  # no row comes later than a row group is long
            part = seconds[start : start + 4]
            chance.shuffle(part)
            filed += [(day, at(second, day), f"{day}-{start}-{n}") for n, second in enumerate(part)]
    file(local_store, filed)
    edges = [at(0), at(86_400), *(at(chance.uniform(-5, 86_410)) for _ in range(4)), at(20), at(86_380)]
    for start in edges:
        for end in edges:
            if start < end:
                window = Window.of(start, end)
                assert read(local_store, window) == expected(filed, window)
                with TickSeries(local_store, TRADES, BTC_USD, (BEFORE, DAY, AFTER)) as series:
                    last = series.last(window, ["id"]).column("id").to_pylist()
                assert last == expected(filed, window)[-1:]


def test_a_file_that_is_wholly_disordered_is_read_in_order(local_store: ObjectStore) -> None:
    # later by far than the writer holds rows: its row groups overlap, the reader sorts them together
    seconds = random.Random(1).sample(range(80_000), 61)
    filed = [(DAY, at(second), str(n)) for n, second in enumerate(seconds)]
    file(local_store, filed)
    for window in (Window.of(DAY, AFTER), Window.of(at(10_000), at(50_000)), Window.of(at(10_000), at(10_001))):
        found = read(local_store, window)
        assert found == expected(filed, window)


def test_counts_tell_which_file_each_row_came_from(local_store: ObjectStore) -> None:
    filed = [
        (BEFORE, at(0), "a"),
        (DAY, at(1), "b"),
        (DAY, at(2), "c"),
        (DAY, at(-1), "not in it"),
        (AFTER, at(3), "d"),
    ]
    file(local_store, filed)
    counts: Counter[date] = Counter()
    with TickSeries(local_store, TRADES, BTC_USD, (BEFORE, DAY, AFTER)) as series:
        assert series.days == (BEFORE, DAY, AFTER)
        list(series.read(Window.of(DAY, AFTER), ["id"], counts))
        assert counts == {BEFORE: 1, DAY: 2, AFTER: 1}
        counts.clear()
        table = pa.concat_tables(series.read(Window.of(DAY, AFTER), ["date", "id", "venue"]))
        assert table.column_names == ["date", "id", "venue"]
        assert table.column("date").to_pylist() == [BEFORE, DAY, DAY, AFTER]
        assert set(table.column("venue").to_pylist()) == {"binance"}


def test_last_of_nothing_has_the_columns_and_no_row(local_store: ObjectStore) -> None:
    file(local_store, [(DAY, at(5), "a")])
    with TickSeries(local_store, TRADES, BTC_USD, (DAY,)) as series:
        last = series.last(Window.of(at(6), at(7)), ["price", "date"])
        assert (last.num_rows, last.column_names) == (0, ["price", "date"])
        assert series.last(Window.of(at(5), at(6)), ["date", "price"]).to_pylist() == [{"date": DAY, "price": 100.0}]


def test_days_without_a_file_are_passed_over_and_each_file_is_opened_once(ground: Ground) -> None:
    file(ground.store, [(DAY, at(second), str(second)) for second in range(20)])
    watched = Watched(ground.store)
    with TickSeries(watched, TRADES, BTC_USD, (BEFORE, DAY, AFTER)) as series:
        assert series.days == (DAY,)
        for _ in range(3):
            assert sum(table.num_rows for table in series.read(Window.of(DAY, AFTER), ["price"])) == 20
    assert len(watched.named("open")) == len(set(watched.named("open"))) == 3


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that are decoded, as they are."""
    groups: list[int] = []
    read_row_groups = pq.ParquetFile.read_row_groups

    def noting(parquet: pq.ParquetFile, wanted: Sequence[int], **how: object) -> pa.Table:
        groups.extend(wanted)
        return read_row_groups(parquet, wanted, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noting)
    return groups


def test_only_the_row_groups_of_the_window_are_read(local_store: ObjectStore, decoded: list[int]) -> None:
    file(local_store, [(DAY, at(second), str(second)) for second in range(40)])
    with TickSeries(local_store, TRADES, BTC_USD, (DAY,)) as series:
        list(series.read(Window.of(at(9), at(14)), ["price"]))
        assert sorted(decoded) == [2, 3]
        decoded.clear()
        series.last(Window.of(at(0), at(39)), ["price"])
        assert decoded == [9]


def test_windows_decode_each_row_group_once_and_only_those_that_they_touch(
    local_store: ObjectStore, decoded: list[int]
) -> None:
    file(local_store, [(DAY, at(second), str(second)) for second in range(40)])
    windows = [Window.of(at(start), at(start + 3)) for start in (33, 9, 10, 0, 34, 12)]
    with TickSeries(local_store, TRADES, BTC_USD, (DAY,)) as series:
        series.read_windows(windows, ["price"])
    assert sorted(decoded) == [0, 2, 3, 8, 9]


@pytest.mark.parametrize("seed", range(12))
def test_windows_hold_what_each_would_hold_alone(local_store: ObjectStore, seed: int) -> None:
    chance = random.Random(seed)
    filed = [
        (day, at(chance.choice([*range(-3, 40), *range(86_370, 86_404)]), day), f"{day}-{number}")
        for day in (BEFORE, DAY, AFTER)
        for number in range(60)
    ]
    file(local_store, filed)
    starts = [at(chance.choice([-30, -1, 0, 5, 10, 10, 39, 50_000, 86_380, 86_400, 86_420])) for _ in range(12)]
    windows = [Window.of(start, start + timedelta(seconds=chance.choice([0, 1, 2, 20, 100_000]))) for start in starts]
    with TickSeries(local_store, TRADES, BTC_USD, (BEFORE, DAY, AFTER)) as series:
        found = series.read_windows(windows, ["id"])
        assert [[name for table in tables for name in table.column("id").to_pylist()] for tables in found] == [
            expected(filed, window) for window in windows
        ]
        assert all(table.column_names == ["id"] and table.num_rows for tables in found for table in tables)
        assert series.read_windows([], ["id"]) == []
        assert series.read_windows([Window.of(DAY, DAY)], ["id"]) == [[]]


def test_few_rows_of_many_do_not_keep_the_others_in_memory(local_store: ObjectStore) -> None:
    write(local_store, TRADES, {(DAY, BTC_USD): trades([at(second / 10) for second in range(10_000)])})
    windows = [Window.of(at(second), at(second + 1)) for second in range(0, 900, 100)]
    with TickSeries(local_store, TRADES, BTC_USD, (DAY,)) as series:
        before = pa.total_allocated_bytes()
        found = series.read_windows(windows, ["price", "amount"])
        kept = pa.total_allocated_bytes() - before
    rows = sum(table.num_rows for tables in found for table in tables)
    assert rows == 90
    assert kept < 20 * 16 * rows < 16 * 10_000  # allocations are rounded up


@pytest.mark.parametrize("damage", ["magic", "footer"])
def test_a_broken_file_is_named(ground: Ground, damage: str) -> None:
    file(ground.store, [(DAY, at(5), "a")])
    key = TRADES.path(TRADES.layouts[0], DAY, BTC_USD)
    content = ground.get(key) or b""
    ground.write(key, content[:-1] if damage == "magic" else content[:-60] + b"\xff" * 50 + content[-10:])
    with (
        pytest.raises(LakeError, match=r"day-05/.*BTC-USD.parquet cannot be read as Parquet"),
        TickSeries(ground.again(), TRADES, BTC_USD, (DAY,)),
    ):
        pass


def test_a_file_of_another_tool_is_named_and_how_to_take_it_in(ground: Ground) -> None:
    file(ground.store, [(DAY, at(5), "a")])
    key = TRADES.path(TRADES.layouts[0], DAY, BTC_USD)
    table = pq.ParquetFile(pa.BufferReader(ground.get(key))).read()
    column = table.column_names.index("side")
    with pa.BufferOutputStream() as sink:
        pq.write_table(table.set_column(column, "side", table.column("side").cast(pa.string())), sink)
        ground.write(key, sink.getvalue().to_pybytes())
    with (
        pytest.raises(LakeError, match=r"BTC-USD.parquet does not have the columns of trades .* `market-data adopt`"),
        TickSeries(ground.again(), TRADES, BTC_USD, (DAY,)),
    ):
        pass
