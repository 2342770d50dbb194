"""The laws of stored candles and their volume: silent over a sound lake, told where a file was changed."""

import io
from collections.abc import Callable
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.lake.checked import candle_problems, volume_problems
from market_data_pipeline.lake.inventory import day_shares
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline_tests.lake.made_up import (
    ALL,
    BTC_USD,
    BTC_USDT,
    DAYS,
    PERP,
    TRADES,
    Look,
    ingest,
    made_ticks,
    made_trades,
    write,
)
from market_data_pipeline_tests.store_fixtures import Ground

DAY = DAYS[1]
FRAMES = list(TIMEFRAMES.values())


@pytest.fixture
def sound(local: Ground) -> Ground:
    ingest(local.store, made_ticks(DAYS, (BTC_USD, PERP)))
    return local


def changed(table: pa.Table, name: str, change: Callable[[np.ndarray], np.ndarray]) -> pa.Table:
    place = table.schema.get_field_index(name)
    column = table.column(name)
    plain = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    values = change(plain.to_numpy().copy())
    return table.set_column(place, table.schema.field(place), pa.array(values).cast(column.type))


def tamper(ground: Ground, timeframe: str, change: Callable[[pa.Table], pa.Table]) -> ObjectStore:
    dataset = DATASETS[f"ohlcv_{timeframe}"]
    key = dataset.path(dataset.layouts[0], DAY, PERP)
    sink = pa.BufferOutputStream()
    pq.write_table(change(pq.read_table(io.BytesIO(ground.get(key) or b""))), sink)
    ground.write(key, bytes(sink.getvalue()))
    return ground.again()


def test_a_sound_lake_has_no_problems(ground: Ground) -> None:
    ingest(ground.store, made_ticks(DAYS, (BTC_USD, PERP)))
    for frame in FRAMES:
        assert list(candle_problems(ground.store, frame, DAYS, ALL)) == []
        assert list(volume_problems(ground.store, frame, DAYS, ALL)) == []


def bumped(place: int, by: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[place] += by
        return values

    return change


@pytest.mark.parametrize(
    ("column", "change", "law"),
    [
        ("low", bumped(0, 50.0), "low <= open <= high"),
        ("close", bumped(1, 50.0), "low <= close <= high"),
        ("volume", lambda values: -values, "volume >= 0"),
        ("buy_volume", bumped(0, 99.0), "0 <= buy_volume <= volume"),
        ("trade_count", lambda values: -values, "trade_count >= 0"),
        ("timestamp", bumped(0, 7.0), "every candle opens on the grid of 1h"),
        ("timestamp", bumped(-1, 86_400e6), f"every candle opens inside {DAY}"),
        ("close_time", bumped(2, 1.0), "close_time is the open plus the timeframe"),
        ("timestamp", lambda values: values[::-1], "times rise"),
    ],
)
def test_a_broken_law_is_told_with_instrument_and_day(
    sound: Ground, column: str, change: Callable[[np.ndarray], np.ndarray], law: str
) -> None:
    store = tamper(sound, "1h", lambda table: changed(table, column, change))
    problems = [each.text for each in candle_problems(store, TIMEFRAMES["1h"], DAYS, ALL)]
    assert any(problem.startswith(f"{PERP} on {DAY}: {law}: broken by ") for problem in problems), problems
    assert all(problem.startswith(f"{PERP} on {DAY}: ") for problem in problems)
    assert list(candle_problems(store, TIMEFRAMES["1h"], DAYS, Selection.of(BTC_USD))) == []
    assert list(candle_problems(store, TIMEFRAMES["1h"], [DAYS[0]], ALL)) == []
    assert list(candle_problems(store, TIMEFRAMES["5m"], DAYS, ALL)) == []


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1d"])
@pytest.mark.parametrize("column", ["volume", "trade_count"])
def test_lost_volume_is_told(sound: Ground, timeframe: str, column: str) -> None:
    store = tamper(sound, timeframe, lambda table: changed(table, column, bumped(0, 1)))
    (problem,) = volume_problems(store, TIMEFRAMES[timeframe], DAYS, ALL)
    assert problem.text.startswith(f"{PERP} on {DAY}: ohlcv_{timeframe} has volume ")
    assert problem.text.endswith(f"; materialize ohlcv_{timeframe} again")
    assert not problem.outdated
    coarser = [frame for frame in FRAMES if frame.source == timeframe]
    for frame in coarser:  # what was made from it no longer adds up either
        assert len(list(volume_problems(store, frame, DAYS, ALL))) == 1
    assert list(volume_problems(store, TIMEFRAMES[timeframe], DAYS, Selection.of(BTC_USD))) == []


def without_the_busiest(table: pa.Table) -> pa.Table:
    where = int(np.argmax(table.column("volume").to_numpy()))
    return pa.concat_tables([table.slice(0, where), table.slice(where + 1)])


def test_a_lost_row_is_told(sound: Ground) -> None:
    store = tamper(sound, "1m", without_the_busiest)
    assert len(list(volume_problems(store, TIMEFRAMES["1m"], DAYS, ALL))) == 1


def test_candles_that_lack_a_neighbours_ticks_are_outdated(local_store: ObjectStore) -> None:
    ingest(local_store, made_ticks([DAY], [PERP]))
    assert list(volume_problems(local_store, TIMEFRAMES["1m"], [DAY], ALL)) == []
    write(local_store, TRADES, made_ticks([DAYS[0], DAYS[2]], [PERP]), days=DAYS[::2])
    (problem,) = volume_problems(local_store, TIMEFRAMES["1m"], [DAY], ALL)
    assert problem.outdated
    assert problem.text.startswith(f"{PERP} on {DAY}: ")


def test_ticks_that_came_later_are_told(sound: Ground) -> None:
    write(sound.store, TRADES, {(DAY, PERP): made_trades(DAY, PERP, 40, seed=1)}, selection=Selection.of(PERP))
    (problem,) = volume_problems(sound.store, TIMEFRAMES["1m"], [DAY], ALL)
    assert problem.text.startswith(f"{PERP} on {DAY}: ")
    assert not problem.outdated


def test_candles_of_trades_that_are_gone_are_told(sound: Ground) -> None:
    for day in DAYS:
        for layout in TRADES.layouts:
            sound.store.delete(TRADES.path(layout, day, PERP))
    (problem,) = volume_problems(sound.store, TIMEFRAMES["1m"], [DAY], ALL)
    assert "what it was made from has 0.0 in 0" in problem.text


def test_the_shares_of_a_day_are_the_same_in_every_layout(ground: Ground) -> None:
    ingest(ground.store, made_ticks(DAYS, (BTC_USD, BTC_USDT, PERP)))
    look = Look(ground)
    shares = list(day_shares(ground.store, DAY))
    kept = [d for d in DATASETS.values() if d.timeframe or d.name in ("trades", "available_instruments")]
    assert [(s.dataset, s.layout) for s in shares] == [(d.name, layout.name) for d in kept for layout in d.layouts]
    for share in shares:
        rows = look.rows(DATASETS[share.dataset], share.layout)
        assert share.rows == sum(day == DAY for day in rows.column("date").to_pylist()), share
        assert share.bytes > 0
    objects = {(s.dataset, s.layout): s.objects for s in shares}
    assert objects["trades", "by_type"] == objects["ohlcv_1h", "by_instrument_id"] == 3
    assert objects["ohlcv_1h", "by_venue"] == objects["available_instruments", "by_instrument_type"] == 2
    assert objects["ohlcv_1h", "by_timeframe"] == objects["available_instruments", "by_date"] == 1
    assert list(day_shares(ground.store, date(2020, 1, 1))) == []
