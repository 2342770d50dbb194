"""Books over time: what their means are, that they see no future, and that cuts of the stream leave no trace."""

import csv
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.model.datasets import DATASETS, REAL, TIME, TIMEFRAMES
from market_data_pipeline.model.windows import EPOCH, as_day, microseconds
from market_data_pipeline.transforms.books import QUANTITIES, SNAPSHOT_COLUMNS, Books, book_window, books_of
from market_data_pipeline.transforms.technical import technical_features
from market_data_pipeline_tests.transforms.tables import DAY, LENGTH, MIDNIGHT, MINUTE, SECOND
from market_data_pipeline_tests.transforms.test_technical import BOOK, HOURS, candles

SAMPLES = Path(__file__).parents[1] / "fixtures" / "tardis_samples"
STALE = 10 * MINUTE
every_timeframe = pytest.mark.parametrize("length", [frame.microseconds for frame in TIMEFRAMES.values()])


class Snapshot(NamedTuple):
    """A book: microseconds since midnight, its best prices, and amounts from the best level on; None is missing."""

    at: int
    bid: float | None = 99.0
    ask: float | None = 101.0
    bids: tuple[float | None, ...] = (3.0,)
    asks: tuple[float | None, ...] = (1.0,)


def table_of(rows: Sequence[Snapshot]) -> pa.Table:
    def level(amounts: tuple[float | None, ...], number: int) -> float | None:
        return amounts[number - 1] if number <= len(amounts) else None

    start = microseconds(MIDNIGHT)
    columns: dict[str, pa.Array] = {
        "timestamp": pa.array([start + row.at for row in rows], pa.int64()).view(TIME),
        "ask_price_1": pa.array([row.ask for row in rows], REAL),
        "bid_price_1": pa.array([row.bid for row in rows], REAL),
    }
    for number in range(1, 6):
        columns[f"ask_amount_{number}"] = pa.array([level(row.asks, number) for row in rows], REAL)
        columns[f"bid_amount_{number}"] = pa.array([level(row.bids, number) for row in rows], REAL)
    return pa.table(columns).select(SNAPSHOT_COLUMNS)


def means(books: Books, length: int = MINUTE) -> dict[str, Any]:
    return books.of(np.arange(0, LENGTH, length), length)


def of(*rows: Snapshot, length: int = MINUTE) -> dict[str, Any]:
    return means(books_of([table_of(rows)], DAY), length)


def told(snapshot: Snapshot) -> dict[str, float] | None:
    """What one book tells, by the words of the documentation."""
    bids = [amount or 0.0 for amount in snapshot.bids[:5]]
    asks = [amount or 0.0 for amount in snapshot.asks[:5]]
    if not snapshot.bid or not snapshot.ask or not bids or not asks or not bids[0] or not asks[0]:
        return None
    if snapshot.bid >= snapshot.ask:
        return None
    mid = (snapshot.bid + snapshot.ask) / 2
    return {
        "spread_bps": 1e4 * (snapshot.ask - snapshot.bid) / mid,
        "mid": mid,
        "microprice": (snapshot.bid * asks[0] + snapshot.ask * bids[0]) / (bids[0] + asks[0]),
        "imbalance_1": (bids[0] - asks[0]) / (bids[0] + asks[0]),
        "imbalance_5": (sum(bids) - sum(asks)) / (sum(bids) + sum(asks)),
        "bid_depth_5": sum(bids),
        "ask_depth_5": sum(asks),
    }


def test_one_book_that_stands_is_what_it_says() -> None:
    found = of(Snapshot(0, 99.0, 101.0, (3.0, 2.0, None, 4.0), (1.0, 0.5, 0.5, 1.0, 2.0)))
    assert {name: values[0] for name, values in found.items()} == {
        "spread_bps": pytest.approx(200.0),
        "mid": 100.0,
        "microprice": 100.5,
        "imbalance_1": 0.5,
        "imbalance_5": pytest.approx(4 / 14),
        "bid_depth_5": 9.0,
        "ask_depth_5": 5.0,
    }


def test_each_book_counts_for_the_time_it_stood() -> None:
    found = of(
        Snapshot(-5 * SECOND, 99, 101), Snapshot(15 * SECOND, 100, 102), Snapshot(30 * SECOND, 101, 103)
    )  # 100 for 15 seconds, 101 for 15, 102 for 30 and for the next minutes
    assert found["mid"][0] == pytest.approx(101.25)
    assert found["mid"][1:10].tolist() == [102.0] * 9
    # it stood until 00:10:30, and a minute of which part is known has the mean of that part
    assert found["mid"][10] == 102.0
    assert np.isnan(found["mid"][11:]).all()
    assert of(Snapshot(0), Snapshot(4 * 60 * MINUTE), length=LENGTH)["mid"].tolist() == [100.0]


def test_of_books_with_one_time_the_last_counts() -> None:
    assert of(Snapshot(0, 99, 101), Snapshot(0, 109, 111))["mid"][0] == 110.0
    crossed = of(Snapshot(0, 99, 101), Snapshot(0, 111, 109))
    assert np.isnan(crossed["mid"]).all()


@pytest.mark.parametrize(
    "broken",
    [
        Snapshot(30 * SECOND, bid=None),
        Snapshot(30 * SECOND, ask=None),
        Snapshot(30 * SECOND, bids=()),
        Snapshot(30 * SECOND, asks=(0.0, 5.0)),
        Snapshot(30 * SECOND, bids=(0.0, 5.0)),
        Snapshot(30 * SECOND, 101.0, 101.0),
        Snapshot(30 * SECOND, 102.0, 101.0),
        Snapshot(30 * SECOND, float("nan")),
    ],
    ids=[
        "no bid",
        "no ask",
        "no bids",
        "nothing at the best ask",
        "nothing at the best bid",
        "locked",
        "crossed",
        "not a number",
    ],
)
def test_a_book_without_a_side_or_crossed_is_unknown_as_long_as_it_stands(broken: Snapshot) -> None:
    # the good one before it does not go on under it
    found = of(Snapshot(0, 99, 101), broken, Snapshot(2 * MINUTE + 30 * SECOND, 100, 102))
    for name, values in found.items():
        assert values[0] == told(Snapshot(0, 99, 101))[name]  # type: ignore[index]
        assert np.isnan(values[1])
        assert values[2] == pytest.approx(told(Snapshot(0, 100, 102))[name])  # type: ignore[index]


def test_a_book_before_midnight_stands_until_it_is_stale() -> None:
    found = of(Snapshot(-STALE + 90 * SECOND))
    assert found["mid"][:2].tolist() == [100.0, 100.0]
    assert np.isnan(found["mid"][2:]).all()
    assert np.isnan(of(Snapshot(-STALE))["mid"]).all()
    assert book_window(DAY).start == MIDNIGHT - timedelta(microseconds=STALE)
    assert book_window(DAY).end == MIDNIGHT + timedelta(days=1)


def test_a_book_at_the_close_belongs_to_the_next_candle() -> None:
    assert of(Snapshot(0, 99, 101), Snapshot(MINUTE, 109, 111))["mid"][:2].tolist() == [100.0, 110.0]
    assert of(Snapshot(0, 99, 101), Snapshot(MINUTE - 1, 109, 111))["mid"][0] == pytest.approx(100 + 10 / MINUTE)


def test_what_one_book_does_not_know_another_completes() -> None:
    first = books_of([table_of([Snapshot(30 * SECOND, 99, 101), Snapshot(45 * SECOND, 0.0)])], DAY)
    other = books_of([table_of([Snapshot(0, 199, 201)])], DAY)
    both = means(first.completed_by(other))["mid"]
    # what is known of a bucket counts, however little; the other begins with the bucket after
    assert both[:3].tolist() == [100.0, 200.0, 200.0]
    assert not first.complete
    assert not first.completed_by(other).complete
    assert bits(first.completed_by(first)) == bits(first)


def test_a_day_without_books_is_unknown() -> None:
    for tables in ([], [table_of([])], [table_of([Snapshot(-STALE - 1), Snapshot(LENGTH)])]):
        for values in means(books_of(tables, DAY)).values():
            assert len(values) == 1440
            assert np.isnan(values).all()


_amounts = st.lists(st.none() | st.sampled_from([0.0, 0.1, 0.7, 3.3, 12.0]), max_size=6).map(tuple)
_prices = st.none() | st.sampled_from([0.0, 99.7, 99.9, 100.1, 100.3])
_times = (
    st.integers(-STALE - SECOND, LENGTH + SECOND)
    | st.integers(-STALE, 3 * MINUTE)
    | st.builds(lambda minute, beside: minute * MINUTE + beside, st.integers(-2, 1440), st.integers(-1, 1))
)
_good = st.builds(
    lambda at, bid, width, bids, asks: Snapshot(at, bid, bid + width, (1.3, *bids), (0.7, *asks)),
    _times,
    st.floats(90, 110),
    st.floats(0.01, 1),
    _amounts,
    _amounts,
)
_snapshots = st.lists(_good | st.builds(Snapshot, _times, _prices, _prices, _amounts, _amounts), max_size=30).map(
    lambda rows: sorted(rows, key=lambda row: row.at)
)


@given(_snapshots, st.sampled_from([frame.microseconds for frame in TIMEFRAMES.values()]))
def test_the_means_are_those_of_each_stretch_of_time_by_itself(rows: list[Snapshot], length: int) -> None:
    """Every edge of candles, books and staleness cuts the day; in between nothing changes."""
    moments = {0, LENGTH, *range(0, LENGTH, length)}
    moments |= {row.at + later for row in rows for later in (0, STALE)}
    cuts = sorted(each for each in moments if 0 <= each <= LENGTH)
    sums: dict[int, dict[str, float]] = {}
    known: dict[int, int] = {}
    for begin, end in pairwise(cuts):
        standing = [row for row in rows if row.at <= begin]
        values = told(standing[-1]) if standing and begin < standing[-1].at + STALE else None
        if values:
            bucket = begin // length
            known[bucket] = known.get(bucket, 0) + end - begin
            for name, value in values.items():
                of_bucket = sums.setdefault(bucket, dict.fromkeys(QUANTITIES, 0.0))
                of_bucket[name] += value * (end - begin)
    found = of(*rows, length=length)
    for name in QUANTITIES:
        expected = [
            sums[bucket][name] / known[bucket] if bucket in known else np.nan for bucket in range(LENGTH // length)
        ]
        np.testing.assert_allclose(found[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


def bits(books: Books) -> list[bytes]:
    return [*(each.tobytes() for each in books.sums.values()), books.known.tobytes()]


@given(_snapshots, st.lists(st.integers(0, 30), max_size=8).map(sorted))
def test_cuts_of_the_stream_leave_no_trace(rows: list[Snapshot], cuts: list[int]) -> None:
    table = table_of(rows)
    parts = [table.slice(start, stop - start) for start, stop in pairwise([0, *cuts, max(len(rows), *cuts, 0)])]
    assert bits(books_of(parts, DAY)) == bits(books_of([table], DAY))


def busy(count: int = 5000, seed: int = 1) -> list[Snapshot]:
    """A day of books, so many that the order of additions shows in the last digits."""
    draw = np.random.default_rng(seed)
    stamps = np.sort(draw.integers(-MINUTE, 20 * MINUTE, count))
    return [
        Snapshot(int(at), 100 - width, 100 + width / 3, (up,), (down,))
        for at, width, up, down in zip(stamps, *draw.random((3, count)) + 0.01, strict=True)
    ]


def test_cuts_of_a_busy_stream_leave_no_trace_in_any_digit() -> None:
    table = table_of(busy())
    whole = bits(books_of([table], DAY))
    for size in (1, 7, 64, 1000):
        assert bits(books_of([table.slice(at, size) for at in range(0, table.num_rows, size)], DAY)) == whole


Make = Callable[[list[Snapshot]], Books]


def assert_blind_to_the_future(make: Make, rows: list[Snapshot], at: int, length: int) -> None:
    """What closes at or before a moment is the same to the last bit without the books from that moment on."""
    closed = slice(0, at // length)
    whole, cut = (means(make(each), length) for each in (rows, [row for row in rows if row.at < at]))
    for name in QUANTITIES:
        assert cut[name][closed].tobytes() == whole[name][closed].tobytes(), name


def honest(rows: list[Snapshot]) -> Books:
    return books_of([table_of(rows)], DAY)


@settings(max_examples=50)
@given(_snapshots, _times, st.sampled_from([frame.microseconds for frame in TIMEFRAMES.values()]))
def test_means_are_the_same_whether_the_books_end_or_go_on(rows: list[Snapshot], at: int, length: int) -> None:
    assert_blind_to_the_future(honest, rows, max(0, min(at, LENGTH)), length)


@pytest.mark.parametrize("early", [MINUTE, 1], ids=["a candle early", "at the close"])
def test_a_book_that_is_known_too_early_would_be_seen(early: int) -> None:
    rows = [Snapshot(number * MINUTE, 90 + number % 7, 101 + number % 5) for number in range(30)]

    def leaking(given: list[Snapshot]) -> Books:
        return honest([row._replace(at=row.at - early) for row in given])

    assert_blind_to_the_future(honest, rows, 20 * MINUTE, MINUTE)
    with pytest.raises(AssertionError):
        assert_blind_to_the_future(leaking, rows, 20 * MINUTE, MINUTE)


@every_timeframe
def test_coarser_means_are_the_finer_ones_by_the_time_for_which_the_book_was_known(length: int) -> None:
    books = honest([*busy(), Snapshot(LENGTH // 2, 98, 103)])
    known = books.known.reshape(-1, length // MINUTE)
    for name, finer in means(books).items():
        weighted = (np.nan_to_num(finer).reshape(known.shape) * known).sum(axis=1)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(means(books, length)[name], weighted / known.sum(axis=1), rtol=1e-12)


def test_only_the_buckets_asked_for_are_told() -> None:
    books = honest(busy())
    some = np.array([3, 5, 19, 700]) * MINUTE
    for name, values in books.of(some, MINUTE).items():
        assert values.tobytes() == means(books)[name][some // MINUTE].tobytes()


def test_books_stand_beside_their_candles() -> None:
    books = honest([Snapshot(0), Snapshot(60 * MINUTE, 99, 103), Snapshot(180 * MINUTE, 103, 99)])
    found = technical_features(candles(HOURS), DAY, HOURS, None, books).table
    assert found.column("book_mid").to_pylist()[:4] == [100.0, 101.0, None, None]
    assert set(BOOK) == {f"book_{name}" for name in QUANTITIES}
    for name in BOOK:
        assert found.column(name).null_count == found.num_rows - 2


def sample(depth: int) -> pa.Table:
    """The vendor's own rows of 2020-09-01, from 00:00:03.696 to 00:00:04.284."""
    (path,) = SAMPLES.glob(f"*_book_snapshot_{depth}_*.csv")
    with path.open(newline="") as text:
        rows = list(csv.DictReader(text))
    columns: dict[str, pa.Array] = {
        "timestamp": pa.array([int(row["timestamp"]) for row in rows], pa.int64()).view(TIME)
    }
    for name in SNAPSHOT_COLUMNS[1:]:
        side, what, level = name.split("_")
        columns[name] = pa.array([float(row[f"{side}s[{int(level) - 1}].{what}"]) for row in rows])
    return pa.table(columns)


def test_of_the_vendors_books_of_five_levels() -> None:
    books = books_of([sample(5)], as_day("2020-09-01"))
    # from the first book at 3.696 s to the end of the minute
    assert books.known[0] == 60_000_000 - 3_696_000
    found = {name: values[0] for name, values in books.of(np.array([0]), MINUTE).items()}
    # worked out by hand: the best prices never change; at the best ask there lay 1.714 for 192 ms, 1.476 for 42,
    # 1.475 for 35 + 56 + 24, 1.321 for 81 + 6, 1.477 for 112, 1.631 for 40, and 1.393 for the last 55.716 s
    assert found["mid"] == pytest.approx(11657.075, rel=1e-12)
    assert found["spread_bps"] == pytest.approx(0.01 / 11657.075 * 1e4, rel=1e-6)
    milliseconds = {1.714: 192, 1.476: 42, 1.475: 115, 1.321: 87, 1.477: 112, 1.631: 40, 1.393: 55_716}
    assert sum(milliseconds.values()) == 56_304
    best_ask = sum(amount * time for amount, time in milliseconds.items()) / 56_304
    assert found["ask_depth_5"] == pytest.approx(best_ask + 5.4 + 0.238 + 0.077 + 0.918, rel=1e-12)
    # of bids 10.896 for 234 + 35 ms, then 10.881; below it lay 1.491 until 4.021, 1.568 until 4.132, 5.924 until 4.284
    bids = (10.896 * 269 + 10.881 * 56_035 + 1.491 * 325 + 1.568 * 111 + 5.924 * 152 + 1.568 * 55_716) / 56_304
    assert found["bid_depth_5"] == pytest.approx(bids, rel=1e-12)
    last = {10.896: [(1.714, 192), (1.476, 42), (1.475, 35)], 10.881: [(1.475, 80), (1.321, 87), (1.477, 112)]}
    last[10.881] += [(1.631, 40), (1.393, 55_716)]
    one = sum((bid - ask) / (bid + ask) * time for bid, asks in last.items() for ask, time in asks) / 56_304
    assert found["imbalance_1"] == pytest.approx(one, rel=1e-12)
    # the microprice lies from the mid by half the imbalance of the spread
    assert found["microprice"] == pytest.approx(11657.075 + 0.01 / 2 * one, rel=1e-12)


def test_of_the_vendors_books_of_25_levels_five_count() -> None:
    books = books_of([sample(25)], as_day("2020-09-01"))
    (path,) = SAMPLES.glob("*_book_snapshot_25_*.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    stamps = [(int(row["timestamp"]) - microseconds(EPOCH)) % LENGTH for row in rows]
    assert books.known[0] == MINUTE - stamps[0]
    durations = [end - begin for begin, end in pairwise([*stamps, MINUTE])]
    depth = sum(
        time * sum(float(row[f"bids[{level}].amount"]) for level in range(5))
        for row, time in zip(rows, durations, strict=True)
    )
    assert books.of(np.array([0]), MINUTE)["bid_depth_5"][0] == pytest.approx(depth / sum(durations), rel=1e-12)


def test_the_columns_that_are_read_are_in_either_dataset() -> None:
    for name in ("book_snapshot_5", "book_snapshot_25"):
        assert set(SNAPSHOT_COLUMNS) <= set(DATASETS[name].own_schema.names)
