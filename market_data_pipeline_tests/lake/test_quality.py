"""What is odd in a lake: nothing in the sample's days; a planted fault is found, named and placed, and nothing else."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data_pipeline.lake.derived import first_candles
from market_data_pipeline.lake.master import INSTRUMENTS, listed_rows
from market_data_pipeline.lake.quality import quality_problems
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.sources.sample.source import SampleSource
from market_data_pipeline.transforms.candles import FILLS
from market_data_pipeline.transforms.quality import FLAWS, Thresholds
from market_data_pipeline_tests.lake.made_up import rows_of
from market_data_pipeline_tests.store_fixtures import Ground

SAMPLE = SampleSource()
DAY = date(2024, 8, 8)
BTC = Instrument.parse("binance-futures:Perp:BTC-USDT")
ETH = Instrument.parse("binance-futures:Perp:ETH-USDT")
BOTH = Selection.of([BTC, ETH])


def sample(name: str, day: date = DAY, selection: Selection = BOTH) -> list[DayRows]:
    return list(SAMPLE.files(name, day, selection))


def spoilt(rows: DayRows, spoil: Callable[[pa.Table], pa.Table]) -> DayRows:
    table = pa.Table.from_batches(list(rows.read(Rejects()))).unify_dictionaries()
    return rows_of(rows.day, rows.instrument, spoil(table))


def put(column: str, where: slice | list[int], value: Any) -> Callable[[pa.Table], pa.Table]:
    """Changes some values of a column; a callable makes them of those that were there."""

    def spoil(table: pa.Table) -> pa.Table:
        place, field = table.schema.get_field_index(column), table.schema.field(column)
        times = pa.types.is_timestamp(field.type)
        values = np.array((table[column].cast(pa.int64()) if times else table[column]).to_pylist(), dtype=object)
        values[where] = value(values) if callable(value) else value
        made = pa.array(values.tolist(), pa.int64() if times else field.type).cast(field.type)
        return table.set_column(place, field, made)

    return spoil


def renumbered(table: pa.Table) -> pa.Table:
    return put("id", slice(None), [str(50_000 + n) for n in range(table.num_rows)])(table)


def kept(*spans: tuple[int, int]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: pa.concat_tables([table.slice(start, stop - start) for start, stop in spans])


def with_holes(table: pa.Table) -> pa.Table:
    return kept((0, 5_000), (5_007, table.num_rows))(renumbered(table))


def stopped(table: pa.Table) -> pa.Table:
    return table.slice(0, int(table.num_rows * 0.7))


def told(store: ObjectStore, name: str, day: date = DAY, **limits: float) -> list[str]:
    return [
        finding.text for finding in quality_problems(store, DATASETS[name], [day], Selection(), Thresholds(**limits))
    ]


PLANTED: list[tuple[str, str, Callable[[pa.Table], pa.Table], str]] = [
    ("trades", "duplicate_ids", put("id", [900], lambda ids: ids[899]), "1 row of"),
    ("trades", "missing_ids", with_holes, "7 of"),
    (
        "trades",
        "out_of_order",
        put("local_timestamp", [900], lambda stamps: stamps[900] + 90_000_000),
        "1 time a tick came up to 90 s",
    ),
    ("trades", "gaps", kept((0, 10_000), (20_000, 30_000)), "gap"),
    ("trades", "gaps", stopped, "to 00:00:00.000"),
    ("trades", "price_jumps", put("price", [900], lambda prices: prices[900] * 1.3), "1 price lies apart"),
    ("trades", "not_positive", put("amount", [900, 901], 0.0), "2 rows have"),
    ("liquidations", "duplicate_ids", put("id", [8, 9], "the same"), "1 row of 2"),
    ("liquidations", "not_positive", put("price", [9], -1.0), "1 row has"),
    ("book_snapshot_5", "crossed_books", put("bid_price_1", slice(900, 950), 1e9), "(50 snapshots)"),
    ("book_snapshot_5", "one_sided_books", put("ask_price_1", slice(900, 2_000), None), "a side is missing for"),
    ("book_snapshot_25", "level_order", put("ask_price_20", [900], 1.0), "1 snapshot has levels"),
    ("book_snapshot_25", "gaps", stopped, "to 00:00:00.000"),
    ("derivative_ticker", "gaps", stopped, "to 00:00:00.000"),
]


@pytest.mark.parametrize(("name", "flaw", "spoil", "said"), PLANTED, ids=[f"{each[0]}-{each[1]}" for each in PLANTED])
def test_a_planted_fault_is_found_and_named(
    local: Ground, name: str, flaw: str, spoil: Callable[[pa.Table], pa.Table], said: str
) -> None:
    rows = [spoilt(each, spoil) if each.instrument == ETH else each for each in sample(name)]
    write_days(local.store, INSTRUMENTS, [DAY], BOTH, [listed_rows(local.store, DAY, BOTH, SAMPLE.listings)])
    write_days(local.store, DATASETS[name], [DAY], BOTH, rows)
    texts = told(local.store, name)
    (text,) = [text for text in texts if f": {flaw}: " in text]
    assert text.startswith(f"{ETH} on {DAY}: {flaw}: ")
    assert said in text
    # a side or a level that is taken away takes the order of levels along, an id that is changed leaves a hole
    along = {"one_sided_books": "level_order", "duplicate_ids": "missing_ids"}.get(flaw, flaw)
    assert all(each == text or f": {along}: " in each for each in texts)


@pytest.mark.parametrize("day", [date(2020, 3, 12), date(2022, 11, 9), DAY, date(2025, 6, 27)], ids=str)
def test_the_samples_days_have_nothing_odd(local: Ground, day: date) -> None:
    store, everything = local.store, Selection()
    write_days(store, INSTRUMENTS, [day], everything, [listed_rows(store, day, everything, SAMPLE.listings)])
    for name in SAMPLE.data_types:
        write_days(store, DATASETS[name], [day], everything, SAMPLE.files(name, day, everything))
    made = first_candles(store, [day], everything, SAMPLE.contract, FILLS)
    write_days(store, DATASETS["ohlcv_1m"], [day], everything, made)
    assert [text for name in FLAWS for text in told(store, name, day)] == []


HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
BEFORE = DAY - timedelta(days=1)
OF_ETH = Selection.of(ETH)


def write_trades(ground: Ground, day: date, start: timedelta, stop: timedelta) -> None:
    """The sample's trades of ETH between two times of a day."""

    def cut(table: pa.Table) -> pa.Table:
        since = pc.subtract(table["timestamp"], pa.scalar(midnight(day), TIME))
        return table.filter(pc.and_(pc.greater_equal(since, start), pc.less(since, stop)))

    rows = [spoilt(each, cut) for each in sample("trades", day, OF_ETH)]
    write_days(ground.store, DATASETS["trades"], [day], OF_ETH, rows)


def test_the_first_pause_counts_where_the_lake_knows_that_the_instrument_was_there(ground: Ground) -> None:
    write_trades(ground, DAY, 9 * HOUR, 24 * HOUR)
    assert told(ground.store, "trades") == []  # it may have been listed that day
    write_trades(ground, BEFORE, 0 * HOUR, 24 * HOUR)
    (text,) = told(ground.store, "trades")
    assert ": gaps: 1 gap: 23:59:" in text
    assert " of the day before to 09:00:" in text
    assert "(MARKET_DATA_QUALITY_GAP_MINUTES=10, MARKET_DATA_QUALITY_GAP_FACTOR=10)" in text


def test_a_gap_over_midnight_counts_from_the_last_tick_of_the_day_before(local: Ground) -> None:
    for minutes, count in ((4, 0), (7, 1)):
        write_trades(local, BEFORE, 0 * HOUR, 24 * HOUR - minutes * MINUTE)
        write_trades(local, DAY, minutes * MINUTE, 24 * HOUR)
        assert [text for text in told(local.store, "trades", BEFORE) if "gaps" in text] == []
        texts = told(local.store, "trades")
        assert len(texts) == count
        assert all("1 gap: 23:52:" in text and " of the day before to 00:0" in text for text in texts)


def test_a_gap_that_the_day_before_tells_is_not_told_again(local: Ground) -> None:
    write_trades(local, BEFORE, 0 * HOUR, 16 * HOUR)
    write_trades(local, DAY, 1 * MINUTE, 24 * HOUR)
    (text,) = told(local.store, "trades", BEFORE)
    assert ": gaps: 1 gap: 15:59:" in text
    assert told(local.store, "trades") == []
    write_trades(local, DAY, 25 * MINUTE, 24 * HOUR)
    (text,) = told(local.store, "trades")
    assert ": gaps: 1 gap: 00:00:00.000 to 00:25:0" in text


def test_a_day_before_that_cannot_be_read_ends_at_midnight(local: Ground) -> None:
    trades = DATASETS["trades"]
    write_trades(local, BEFORE, 0 * HOUR, 24 * HOUR)
    write_trades(local, DAY, 25 * MINUTE, 24 * HOUR)
    local.write(trades.path(trades.layouts[0], BEFORE, ETH), b"no parquet")
    (text,) = told(local.again(), "trades")
    assert ": gaps: 1 gap: 00:00:00.000 to 00:25:0" in text


def test_the_last_pause_does_not_count_on_the_day_of_expiry(local: Ground) -> None:
    expiring, trades = Instrument.parse("deribit:Future:BTC-USD-240808"), DATASETS["trades"]
    (of_eth,) = sample("trades", selection=OF_ETH)
    rows = spoilt(of_eth, stopped)
    for instrument, count in ((expiring, 0), (ETH, 1)):
        one = Selection.of(instrument)
        write_days(local.store, trades, [DAY], one, [DayRows(DAY, instrument, "made up", rows.read)])
        texts = list(quality_problems(local.store, trades, [DAY], one, Thresholds()))
        assert len(texts) == count


def test_the_last_pause_does_not_count_on_the_day_of_delisting(local: Ground) -> None:
    write_trades(local, DAY, 0 * HOUR, 17 * HOUR)
    listed = listed_rows(local.store, DAY, OF_ETH, SAMPLE.listings)
    for after, count in ((17 * HOUR, 0), (24 * HOUR, 1), (48 * HOUR, 1)):
        rows = spoilt(listed, put("available_to", slice(None), microseconds(midnight(DAY) + after)))
        write_days(local.store, INSTRUMENTS, [DAY], OF_ETH, [rows])
        assert len(told(local.store, "trades")) == count


def test_a_finding_is_an_error_only_where_its_flaw_blocks(local: Ground) -> None:
    rows = [spoilt(each, put("amount", [9], 0.0)) for each in sample("trades", selection=Selection.of(ETH))]
    write_days(local.store, DATASETS["trades"], [DAY], BOTH, rows)
    for blocking, warns in (((), True), (("gaps",), True), (("not_positive",), False)):
        (finding,) = quality_problems(local.store, DATASETS["trades"], [DAY], BOTH, Thresholds(), blocking)
        assert finding.warns is warns


def test_a_file_that_cannot_be_read_is_an_error(local: Ground) -> None:
    trades = DATASETS["trades"]
    write_days(local.store, trades, [DAY], BOTH, sample("trades"))
    local.write(trades.path(trades.layouts[0], DAY, ETH), b"no parquet")
    (finding,) = quality_problems(local.again(), trades, [DAY], BOTH, Thresholds())
    assert not finding.warns
    assert str(ETH) in finding.text
