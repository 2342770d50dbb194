"""Features from the lake: the same rows however the days are asked for, in every layout, blind to later days."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data_pipeline.lake.histories import stored_candles
from market_data_pipeline.lake.reader import MarketDataLake
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.technical import LookBacks, technical_rows
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import Window, midnight
from market_data_pipeline.transforms.candles import Fill
from market_data_pipeline.transforms.technical import CANDLE_COLUMNS, LOOK_BACK, look_back_window
from market_data_pipeline_tests.lake.made_up import (
    ALL,
    BTC_USD,
    OPTION,
    PERP,
    TRADES,
    Look,
    Watched,
    contents,
    ingest,
    made_books,
    made_trades,
    trades,
    write,
)
from market_data_pipeline_tests.parity import assert_layouts_agree
from market_data_pipeline_tests.store_fixtures import Ground, local_ground

FEATURES = DATASETS["technical_features"]
FLAT = dict.fromkeys(InstrumentType, Fill.FLAT)
FIRST = date(2024, 2, 25)
DAYS = [FIRST + number * ONE_DAY for number in range(7)]
LAST_THREE = DAYS[3:6]
"""Days that have a day before them and one after them, on both sides of a month's end."""
NO_TICKS = tuple(name for name in DATASETS if name.startswith("ohlcv_"))
SHALLOW, DEEP = DATASETS["book_snapshot_5"], DATASETS["book_snapshot_25"]
BOOK = [name for name in FEATURES.own_schema.names if name.startswith("book_")]


def fill(store: ObjectStore, days: Sequence[date] = DAYS, instruments: Sequence[Instrument] = (BTC_USD, PERP)) -> None:
    """Trades, books and candles of some days; the one instrument has books of five levels, the other of 25."""
    made = {(day, each): made_trades(day, each, count=300) for day in days for each in instruments}
    ingest(store, made, days, fills=FLAT, only=("trades", *NO_TICKS))
    for dataset, instrument, depth in ((SHALLOW, BTC_USD, 5), (DEEP, PERP, 25)):
        if instrument in instruments:
            write(store, dataset, {(day, instrument): made_books(day, instrument, depth) for day in days})


def materialize(store: ObjectStore, days: Sequence[date], selection: Selection = ALL) -> dict[date, LookBacks]:
    told: dict[date, LookBacks] = {}
    report = write_days(store, FEATURES, days, selection, technical_rows(store, days, selection, told))
    assert report.failures == ()
    return told


def test_every_layout_holds_the_same_rows_in_order(ground: Ground) -> None:
    fill(ground.store, DAYS[2:5])
    told = materialize(ground.store, DAYS[2:5])
    rows = assert_layouts_agree(ground.store)
    assert rows["technical_features"] == 3 * 2 * sum(ONE_DAY // timeframe.length for timeframe in TIMEFRAMES.values())
    Look(ground).assert_layouts_agree([FEATURES])
    found = MarketDataLake(store=ground.store).features(None, "technical_features", DAYS[2], DAYS[5])
    names = ("instrument_id", *FEATURES.order)
    keys = list(zip(*(found.column(name).to_pylist() for name in names), strict=True))
    assert keys == sorted(keys)
    assert len(keys) == rows["technical_features"]
    assert {day: each.instruments for day, each in told.items()} == dict.fromkeys(DAYS[2:5], 2)
    assert {day: each.books for day, each in told.items()} == dict.fromkeys(DAYS[2:5], 2)
    # of the 299 days before, two days later there are two; the 1m look-back is whole
    assert told[DAYS[4]].missing["1d"] == 2 * (LOOK_BACK - 1 - 2)
    assert told[DAYS[4]].missing["1m"] == 0
    assert told[DAYS[3]].waiting == ()
    assert told[DAYS[4]].waiting == tuple(sorted({BTC_USD.venue, PERP.venue}))
    assert told[DAYS[2]].missing["1m"] == 2 * (LOOK_BACK - 1)


@pytest.fixture(scope="module")
def in_one_range(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | None]:
    ground = local_ground(tmp_path_factory.mktemp("range"))
    fill(ground.store)
    materialize(ground.store, LAST_THREE)
    return contents(ground)


@pytest.mark.parametrize(
    "order", list(permutations(LAST_THREE)), ids=lambda days: "-".join(f"{day.day}" for day in days)
)
def test_day_by_day_in_any_order_is_one_range(
    local: Ground, in_one_range: dict[str, bytes | None], order: tuple[date, ...]
) -> None:
    fill(local.store)
    for day in order:
        materialize(local.store, [day])
    assert contents(local) == in_one_range


def rows(store: ObjectStore, day: date, selection: Selection = ALL) -> dict[Instrument, pa.Table]:
    return {
        each.instrument: pa.Table.from_batches(each.read(Rejects()), FEATURES.own_schema)
        for each in technical_rows(store, [day], selection)
        if each.instrument
    }


def test_rows_are_the_same_whether_the_lake_ends_or_goes_on(tmp_path: Path) -> None:
    longer, shorter = local_ground(tmp_path / "longer").store, local_ground(tmp_path / "shorter").store
    fill(longer, DAYS[:6])
    fill(shorter, DAYS[:5])  # the day after is there for its share of the last trades
    assert rows(longer, DAYS[3]) == rows(shorter, DAYS[3])
    # what comes after a moment of the day itself changes nothing that stands before it
    moment = midnight(DAYS[3]) + timedelta(hours=13)
    kept = {(DAYS[3], each): until(made_trades(DAYS[3], each, count=300), moment) for each in (BTC_USD, PERP)}
    ingest(shorter, kept, [DAYS[3]], fills=FLAT, only=("trades", *NO_TICKS))
    for dataset, instrument, depth in ((SHALLOW, BTC_USD, 5), (DEEP, PERP, 25)):
        books = until(made_books(DAYS[3], instrument, depth), moment)
        # nor does it matter where the row groups of a file are cut
        write(shorter, replace(dataset, row_group_rows=7), {(DAYS[3], instrument): books})
    assert_same_until(moment, rows(shorter, DAYS[3]), rows(longer, DAYS[3]))


def assert_same_until(moment: datetime, cut: dict[Instrument, pa.Table], whole: dict[Instrument, pa.Table]) -> None:
    assert list(cut) == list(whole) == [BTC_USD, PERP]
    for instrument, found in cut.items():
        complete = pc.less_equal(found.column("close_time"), pa.scalar(moment))
        assert found.filter(complete).equals(whole[instrument].filter(complete))
        assert found.filter(complete).column("book_mid").null_count < found.num_rows / 4
        assert not found.equals(whole[instrument])


def until(table: pa.Table, moment: datetime) -> pa.Table:
    return table.filter(pc.less(table.column("timestamp"), pa.scalar(moment)))


def since(table: pa.Table, moment: datetime) -> pa.Table:
    return table.filter(pc.greater_equal(table.column("timestamp"), pa.scalar(moment)))


def test_a_look_back_is_read_from_as_few_objects_as_there_can_be(local: Ground) -> None:
    days = [date(2024, 1, 30) + number * ONE_DAY for number in range(4)]
    fill(local.store, days, [PERP])
    watched = Watched(local.store)
    for day in days:
        list(technical_rows(watched, [day], ALL))
    assert watched.named("open") == []
    frame = TIMEFRAMES["1d"]
    window = look_back_window(days[-1], frame)
    found = stored_candles(watched, frame, PERP, window, CANDLE_COLUMNS)
    assert found.num_rows == len(days)
    assert len(watched.named("open")) == len({(day.year, day.month) for day in window.days()})
    assert all("by_instrument_id" in key for key in watched.named("open"))


def test_the_candles_of_a_window_are_those_of_the_reader(local: Ground) -> None:
    fill(local.store, DAYS[3:6])
    window = Window(midnight(DAYS[3]) + timedelta(hours=5), midnight(DAYS[5]) + timedelta(hours=1))
    for name in ("1m", "4h"):
        found = stored_candles(local.store, TIMEFRAMES[name], PERP, window, CANDLE_COLUMNS)
        told = MarketDataLake(store=local.store).candles(PERP, name, window.start, window.end)
        assert found.to_pylist() == told.select(found.column_names).to_pylist()
        assert found.num_rows > 0


def test_only_what_was_asked_for_and_has_candles_is_made(local: Ground) -> None:
    fill(local.store, DAYS[3:5])
    assert set(rows(local.store, DAYS[3])) == {BTC_USD, PERP}
    assert set(rows(local.store, DAYS[3], Selection.of(PERP))) == {PERP}
    assert rows(local.store, DAYS[3], Selection.of(OPTION)) == {}
    assert rows(local.store, DAYS[0]) == {}


def test_delays_are_those_of_the_trades_that_the_candles_are_made_from(local: Ground) -> None:
    at = [midnight(DAYS[3]) + timedelta(seconds=second) for second in (-1, 5, 20, 61)]
    write(local.store, TRADES, {(DAYS[3], PERP): trades(at)})
    only = dict.fromkeys(InstrumentType, Fill.OMIT)
    ingest(local.store, {(DAYS[3], PERP): trades(at)}, [DAYS[3]], fills=only, only=("trades", *NO_TICKS))
    found = rows(local.store, DAYS[3])[PERP].to_pylist()
    assert [(row["timeframe"], row["timestamp"].minute) for row in found] == [
        ("1m", 0),
        *((name, 0) for name in [*TIMEFRAMES][1:]),
        ("1m", 1),
    ]
    assert {row[f"delay_{which}"] for row in found for which in ("mean", "median", "min", "max")} == {5.0}
    assert [row["mean_trade_size"] for row in found[:2]] == [2.5, pytest.approx(2.0)]


def test_a_file_that_cannot_be_read_fails_its_own_instrument_and_says_which_file(local: Ground) -> None:
    fill(local.store, DAYS[3:5])
    candles = DATASETS["ohlcv_1h"]
    for layout in candles.layouts:
        if layout.per_instrument:
            local.write(candles.path(layout, DAYS[3], PERP), b"no parquet")
    report = write_days(local.store, FEATURES, [DAYS[3]], ALL, technical_rows(local.store, [DAYS[3]], ALL))
    assert [file.instrument for file in report.files] == [BTC_USD]
    (failure,) = report.failures
    assert failure.instrument == PERP
    assert "ohlcv_1h" in failure.message


def book(store: ObjectStore, instrument: Instrument = PERP, day: date = DAYS[3]) -> pa.Table:
    return rows(store, day, Selection.of(instrument))[instrument].select(["timeframe", "timestamp", *BOOK])


def test_the_first_five_of_25_levels_are_a_book_of_five(local: Ground, tmp_path: Path) -> None:
    fill(local.store, DAYS[2:5])
    deep = book(local.store)
    assert deep.column("book_mid").null_count < deep.num_rows / 4
    for day in DAYS[2:5]:
        for layout in DEEP.layouts:
            local.store.delete(DEEP.path(layout, day, PERP))
    assert all(book(local.store).column(name).null_count == deep.num_rows for name in BOOK)
    write(local.store, SHALLOW, {(day, PERP): made_books(day, PERP, 5) for day in DAYS[2:5]})
    assert book(local.store).equals(deep)


def test_of_two_books_that_of_five_levels_is_taken_and_the_other_where_it_knows_none(local: Ground) -> None:
    fill(local.store, DAYS[2:5])
    deep = book(local.store)
    noon = midnight(DAYS[3]) + timedelta(hours=12)
    higher = made_books(DAYS[3], PERP, 5, count=5_000)
    for name in ("ask_price_1", "bid_price_1"):
        place = higher.column_names.index(name)
        higher = higher.set_column(place, higher.schema.field(place), pc.add(higher.column(name), 900.0))
    write(local.store, SHALLOW, {(DAYS[3], PERP): since(higher, noon)})
    minutes = pc.equal(deep.column("timeframe").cast(pa.string()), "1m")
    found, deep = book(local.store).filter(minutes), deep.filter(minutes)
    assert found.slice(0, 720).equals(deep.slice(0, 720))
    assert pc.min(found.slice(721).column("book_mid")).as_py() > 990
    # the other is not opened where the book is known all day
    write(local.store, SHALLOW, {(DAYS[3], PERP): higher})
    watched = Watched(local.store)
    assert book(watched).column("book_mid").null_count == 0
    assert [key for key in watched.named("open") if DEEP.name in key] == []


def dense(day: date, instrument: Instrument, depth: int) -> pa.Table:
    return made_books(day, instrument, depth, count=1_000)


CUTS = [timedelta(minutes=1), timedelta(hours=7), timedelta(hours=20, minutes=30), timedelta(hours=13, seconds=30)]


@pytest.mark.parametrize(
    ("instrument", "cut"),
    [(BTC_USD, CUTS[0]), *((PERP, cut) for cut in CUTS)],
    ids=["five levels alone", *(f"five levels late, cut at {cut}" for cut in CUTS)],
)
def test_books_are_the_same_whether_the_lake_ends_or_goes_on(
    tmp_path: Path, instrument: Instrument, cut: timedelta
) -> None:
    moment, late = midnight(DAYS[3]) + cut, midnight(DAYS[3]) + timedelta(hours=20)
    of_trades = {(day, instrument): made_trades(day, instrument, count=300) for day in DAYS[2:5]}
    five = {(day, instrument): dense(day, instrument, 5) for day in DAYS[2:5]}
    deep = {} if instrument == BTC_USD else {(day, instrument): dense(day, instrument, 25) for day in DAYS[2:5]}
    if deep:
        five = {place: since(table, late) for place, table in five.items()}
    made = []
    for name, end in (("longer", midnight(DAYS[5])), ("shorter", moment)):
        store = local_ground(tmp_path / name).store
        # candles of the day itself are whole in both: they are known by their own closes
        ingest(store, of_trades, DAYS[2:5], fills=FLAT, only=("trades", *NO_TICKS))
        for dataset, books in ((SHALLOW, five), (DEEP, deep)):
            kept = {place: until(table, end) for place, table in books.items()}
            write(store, dataset, {place: table for place, table in kept.items() if table.num_rows})
        made.append(book(store, instrument))
    whole, ended = (each.filter(pc.less_equal(closes(each), pa.scalar(moment))) for each in made)
    assert whole.equals(ended)
    assert whole.column("book_mid").null_count < whole.num_rows / 4


def closes(table: pa.Table) -> pa.Array:
    lengths = [TIMEFRAMES[name].length for name in table.column("timeframe").to_pylist()]
    return pc.add(table.column("timestamp"), pa.array(lengths, pa.duration("us")))


def test_books_go_by_the_exchanges_time_whatever_file_they_lie_in(local: Ground) -> None:
    fill(local.store, DAYS[2:5], [PERP])
    found = book(local.store)
    every = pa.concat_tables([made_books(day, PERP, 25) for day in DAYS[2:5]])
    # the vendor's clock is ten minutes ahead: the day's last books lie in the file of the day after
    start = midnight(DAYS[3]) - timedelta(minutes=10)
    moved = since(until(every, start + ONE_DAY), start)
    late = since(every, start + ONE_DAY)
    write(local.store, DEEP, {(DAYS[3], PERP): moved, (DAYS[4], PERP): late})
    assert book(local.store).equals(found)
    for layout in DEEP.layouts:
        local.store.delete(DEEP.path(layout, DAYS[4], PERP))
    alone = book(local.store)
    assert not alone.equals(found)
    morning = pa.scalar(midnight(DAYS[3]) + timedelta(hours=12))
    early = pc.less(found.column("timestamp"), morning)
    minutes = pc.and_(early, pc.equal(found.column("timeframe").cast(pa.string()), "1m"))
    assert alone.filter(minutes).equals(found.filter(minutes))
