"""Rows worked out from the lake: candles across files, what is told of them, and the map of a day."""

import threading
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest

from market_data_pipeline.lake.derived import Selected, availability_rows, coarser_candles, first_candles
from market_data_pipeline.lake.master import INSTRUMENTS, contracts_on, listed_rows, listing_on
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.contracts import LINEAR, Contract, VolumeUnit
from market_data_pipeline.model.datasets import DATASETS, LISTING_SCHEMA, TIMEFRAMES
from market_data_pipeline.model.errors import DatasetError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import midnight
from market_data_pipeline.transforms.candles import FILLS
from market_data_pipeline_tests.lake.made_up import (
    ALL,
    BTC_USD,
    MAPS,
    OPTION,
    PERP,
    SPARSE,
    TRADES,
    contents,
    ingest,
    made_ticks,
    trades,
    write,
)
from market_data_pipeline_tests.store_fixtures import Ground

DAY = date(2024, 3, 5)
BEFORE, AFTER = DAY - ONE_DAY, DAY + ONE_DAY
MINUTES = DATASETS["ohlcv_1m"]


def file(store: ObjectStore, day: date, instrument: Instrument, *filed: tuple[float, float]) -> None:
    """Files trades, given as seconds after the midnight of DAY and price, under a day."""
    times = [midnight(DAY) + timedelta(seconds=seconds) for seconds, _ in filed]
    table = trades(times, [price for _, price in filed], [1.0] * len(filed))
    write(store, TRADES, {(day, instrument): table}, selection=Selection.of(instrument))


def minutes(
    store: ObjectStore,
    fills: Any = SPARSE,
    selected: dict[date, Selected] | None = None,
    day: date = DAY,
    contract: Contract = LINEAR,
) -> dict[str, list[dict[str, Any]]]:
    """The candles of a day, by instrument."""
    found = first_candles(store, [day], ALL, lambda _: contract, fills, selected)
    return {rows.instrument.id: rows_of(rows) for rows in found if rows.instrument}


def rows_of(rows: DayRows) -> list[dict[str, Any]]:
    return [row for batch in rows.read(Rejects()) for row in batch.to_pylist()]


def summary(rows: Iterable[dict[str, Any]]) -> list[tuple[str, float, float, int]]:
    return [(row["timestamp"].strftime("%H:%M"), row["open"], row["close"], row["trade_count"]) for row in rows]


def test_candles_take_the_ticks_of_the_files_beside_the_day(ground: Ground) -> None:
    file(ground.store, BEFORE, BTC_USD, (-30, 1), (0, 2), (70, 3))
    file(ground.store, DAY, BTC_USD, (-1, 4), (10, 5), (0, 6), (60, 7), (86_399, 8), (86_401, 9))
    file(ground.store, AFTER, BTC_USD, (86_398, 10), (86_399, 11), (86_402, 12))
    selected: dict[date, Selected] = {}
    found = minutes(ground.store, selected=selected)
    # ties: by the file's day, then the source's order
    assert summary(found[BTC_USD.id]) == [("00:00", 2, 5, 3), ("00:01", 7, 3, 2), ("23:59", 10, 11, 3)]
    told = selected[DAY]
    assert (told.before, told.own, told.after, told.final) == (2, 4, 2, True)


@pytest.mark.parametrize("there", ["before", "own", "after"])
def test_one_trade_in_any_file_is_enough_for_candles_beside_the_days_own_file(
    local_store: ObjectStore, there: str
) -> None:
    file(local_store, DAY, PERP, *([(5, 1.0)] if there == "own" else [(-1, 7.0)]))
    if there != "own":
        file(local_store, {"before": BEFORE, "after": AFTER}[there], PERP, (5, 1.0))
    selected: dict[date, Selected] = {}
    assert summary(minutes(local_store, selected=selected)[PERP.id]) == [("00:00", 1, 1, 1)]
    told = selected[DAY]
    assert {"before": told.before, "own": told.own, "after": told.after}[there] == 1
    assert told.before + told.own + told.after == 1
    assert told.final is (there == "after")
    assert told.waiting == (() if there == "after" else (PERP.venue,))


@pytest.mark.parametrize("there", [BEFORE, AFTER])
def test_without_its_own_file_a_day_gets_no_candles_out_of_a_neighbours(local_store: ObjectStore, there: date) -> None:
    file(local_store, there, PERP, (5, 1.0))
    assert minutes(local_store) == {}
    # another instrument of the venue proves nothing
    file(local_store, DAY, OPTION, (5, 1.0))
    assert list(minutes(local_store)) == [OPTION.id]


def test_days_wait_only_for_the_venues_that_were_asked_for(local_store: ObjectStore) -> None:
    file(local_store, DAY, PERP, (5, 1.0))
    file(local_store, DAY, BTC_USD, (5, 1.0))
    file(local_store, AFTER, PERP, (86_405, 1.0))
    for pattern, waiting in (("*", (BTC_USD.venue,)), (PERP.id, ()), (BTC_USD.id, (BTC_USD.venue,))):
        selected: dict[date, Selected] = {}
        list(first_candles(local_store, [DAY], Selection.of(pattern), lambda _: LINEAR, SPARSE, selected))
        assert selected[DAY].waiting == waiting


def test_an_instrument_without_a_tick_in_the_day_has_no_candle(local_store: ObjectStore) -> None:
    file(local_store, BEFORE, BTC_USD, (-30, 1))
    file(local_store, DAY, BTC_USD, (-1, 4), (86_400, 9))
    for fills in (SPARSE, FILLS):
        assert minutes(local_store, fills)[BTC_USD.id] == []


def test_the_close_before_midnight_comes_from_the_day_before_only(local_store: ObjectStore) -> None:
    noon = (43_200, 50.0)
    file(local_store, DAY, BTC_USD, noon)
    file(local_store, BEFORE - ONE_DAY, BTC_USD, (-86_400 - 10, 1.0))
    file(local_store, BEFORE, BTC_USD, (-86_400 - 5, 2.0))  # in its file, but the day before that
    first = minutes(local_store, FILLS)[BTC_USD.id][0]
    assert summary([first]) == [("12:00", 50, 50, 1)]
    # the last by exchange time, in whichever file it lies, even today's
    file(local_store, BEFORE, BTC_USD, (-7, 3.0), (-9, 4.0))
    assert summary(minutes(local_store, FILLS)[BTC_USD.id][:1]) == [("00:00", 3, 3, 0)]
    file(local_store, DAY, BTC_USD, (-1, 5.0), noon)
    assert summary(minutes(local_store, FILLS)[BTC_USD.id][:1]) == [("00:00", 5, 5, 0)]
    assert len(minutes(local_store, FILLS)[BTC_USD.id]) == 1440


def test_options_are_not_filled(local_store: ObjectStore) -> None:
    file(local_store, BEFORE, OPTION, (-1, 1.0))
    file(local_store, DAY, OPTION, (61, 2.0))
    assert summary(minutes(local_store, FILLS)[OPTION.id]) == [("00:01", 2, 2, 1)]


def test_only_selected_instruments_are_worked_out(local_store: ObjectStore) -> None:
    ingest(local_store, made_ticks([DAY], [BTC_USD, PERP]), [DAY], only=["trades", "ohlcv_1m"])
    asked = Selection.of("deribit:*")
    for made in (
        first_candles(local_store, [DAY], asked, lambda _: LINEAR, SPARSE),
        coarser_candles(local_store, TIMEFRAMES["5m"], [DAY], asked, SPARSE),
    ):
        assert [rows.instrument for rows in made] == [PERP]


def test_the_finest_candles_are_rolled_up_from_nothing(local_store: ObjectStore) -> None:
    with pytest.raises(DatasetError, match=r"there are 1m, 5m"):
        list(coarser_candles(local_store, TIMEFRAMES["1m"], [DAY], ALL, SPARSE))


def test_notes_of_many_threads_add_up(local_store: ObjectStore) -> None:
    instruments = [Instrument.spot("binance", f"A{n}", "USD") for n in range(40)]
    for day, place in ((BEFORE, 1.0), (DAY, 2.0), (AFTER, 3.0)):
        write(
            local_store,
            TRADES,
            {(day, i): trades([midnight(DAY) + timedelta(seconds=place)] * 2) for i in instruments},
            threads=4,
        )
    selected: dict[date, Selected] = {}
    rows = first_candles(local_store, [DAY], ALL, lambda _: LINEAR, SPARSE, selected)
    write_days(local_store, MINUTES, [DAY], ALL, rows, threads=8)
    told = selected[DAY]
    assert (told.before, told.own, told.after) == (80, 80, 80)


def test_notes_are_added_one_at_a_time() -> None:
    class Slow(dict[date, int]):
        def __missing__(self, day: date) -> int:
            threading.Event().wait(0.001)  # lets another thread go first
            return 1

    selected = Selected()
    threads = [threading.Thread(target=selected.add, args=(DAY, Slow())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (selected.before, selected.own, selected.after) == (20, 20, 20)


def test_a_broken_day_of_trades_fails_that_instrument_alone(ground: Ground) -> None:
    ticks = made_ticks([DAY], [BTC_USD, PERP])
    ingest(ground.store, ticks, [DAY])
    key = TRADES.path(TRADES.layouts[0], DAY, BTC_USD)
    content = ground.get(key) or b""
    ground.write(key, content[:-60] + b"\xff" * 50 + content[-10:])
    before, store = contents(ground), ground.again()
    rows = first_candles(store, [DAY], ALL, lambda _: LINEAR, SPARSE)
    report = write_days(store, MINUTES, [DAY], ALL, rows)
    assert [failure.instrument for failure in report.failures] == [BTC_USD]
    assert "cannot be read as Parquet" in report.failures[0].message
    assert report.removed == ()
    assert contents(ground) == before


def map_of(store: ObjectStore, listing: pa.Table | None = None, selection: Selection = ALL) -> list[dict[str, Any]]:
    if listing is not None:
        keep_master(store, listing)
    (rows,) = availability_rows(store, [DAY], selection, lambda _: LINEAR)
    return rows_of(rows)


def listed(*instruments: Instrument, **more: object) -> pa.Table:
    rows = [
        {"instrument_id": i.id, "venue": i.venue, "instrument_type": i.type.folder, "known_from": "listing"} | more
        for i in sorted(instruments)
    ]
    return pa.Table.from_pylist(rows, LISTING_SCHEMA)


def keep_master(store: ObjectStore, listing: pa.Table, selection: Selection = ALL) -> None:
    rows = [listed_rows(store, DAY, selection, lambda _day, _selection: listing)]
    assert not write_days(store, INSTRUMENTS, [DAY], selection, rows).failures


def test_a_master_under_a_filter_keeps_the_others_rows(ground: Ground) -> None:
    keep_master(ground.store, listed(BTC_USD, PERP, tick_size=1.0))
    keep_master(ground.store, listed(PERP, OPTION, BTC_USD, tick_size=2.0), Selection.of("deribit:*"))
    rows = listing_on(ground.store, DAY).to_pylist()
    assert [row["instrument_id"] for row in rows] == sorted([BTC_USD.id, PERP.id, OPTION.id])
    assert {row["instrument_id"]: row["tick_size"] for row in rows} == {BTC_USD.id: 1.0, PERP.id: 2.0, OPTION.id: 2.0}
    keep_master(ground.store, listed(PERP))
    assert [row["instrument_id"] for row in listing_on(ground.store, DAY).to_pylist()] == [PERP.id]


def test_a_source_without_a_master_of_the_day_fails_and_the_stored_one_stays(local_store: ObjectStore) -> None:
    keep_master(local_store, listed(BTC_USD))
    rows = [listed_rows(local_store, DAY, ALL, lambda _day, _selection: None)]
    report = write_days(local_store, INSTRUMENTS, [DAY], ALL, rows)
    assert (report.landed, len(report.failures)) == ((), 1)
    assert listing_on(local_store, DAY).num_rows == 1


def test_a_multiplier_that_no_rule_knows_comes_from_the_days_master(local_store: ObjectStore) -> None:
    counted = Contract(inverse=False, multiplier=None, unit=VolumeUnit.CONTRACTS)
    told = Contract(inverse=True, multiplier=100.0, unit=VolumeUnit.CONTRACTS)
    keep_master(local_store, listed(PERP, inverse=True, contract_multiplier=100.0, settle_asset="BTC"))
    assert contracts_on(local_store, DAY, lambda _: counted)(PERP) == told
    assert contracts_on(local_store, DAY, lambda _: LINEAR)(PERP) == LINEAR
    assert contracts_on(local_store, DAY, lambda _: counted)(BTC_USD) == counted
    assert contracts_on(local_store, AFTER, lambda _: counted)(PERP) == counted
    file(local_store, DAY, PERP, (5, 50.0))
    (candle,) = minutes(local_store, contract=counted)[PERP.id]
    assert (candle["volume"], candle["quote_volume"], candle["base_volume"]) == (1.0, 100.0, 2.0)
    # a quanto contract is paid in a third asset, in which its multiplier is
    keep_master(local_store, listed(PERP, inverse=False, contract_multiplier=0.1, settle_asset="ETH"))
    assert contracts_on(local_store, DAY, lambda _: counted)(PERP) == counted


def test_the_map_holds_what_is_listed_and_what_the_ticks_prove(local_store: ObjectStore) -> None:
    file(local_store, DAY, BTC_USD, (60, 1.0), (3_600, 2.0))
    file(local_store, DAY, PERP, (60, 1.0))
    ingest(local_store, {}, [DAY], selection=Selection.of("okex:*"))  # no candles yet
    found = {row["instrument_id"]: row for row in map_of(local_store, listed(OPTION, BTC_USD))}
    assert list(found) == sorted([BTC_USD.id, PERP.id, OPTION.id])
    assert {name: row["known_from"] for name, row in found.items()} == {
        BTC_USD.id: "listing",
        OPTION.id: "listing",
        PERP.id: "ticks",
    }
    assert [row["observed_data_types"] for row in found.values()] == [["trades"], [], ["trades"]]
    (told,) = found[BTC_USD.id]["observed"]
    assert told == {
        "dataset": "trades",
        "rows": 2,
        "first_timestamp": midnight(DAY) + timedelta(minutes=1),
        "last_timestamp": midnight(DAY) + timedelta(hours=1),
        "gaps": 1438,
    }
    assert found[BTC_USD.id]["ticks_lawful"] is True
    assert found[OPTION.id]["ticks_lawful"] is None


def test_the_map_tells_of_broken_laws(local_store: ObjectStore) -> None:
    file(local_store, DAY, BTC_USD, (60, 1.0), (70, -1.0))
    file(local_store, DAY, PERP, (60, 1.0), (3 * 86_400, 1.0))
    assert [row["ticks_lawful"] for row in map_of(local_store)] == [False, False]


def test_a_map_under_a_filter_keeps_the_others_rows(ground: Ground) -> None:
    ingest(ground.store, made_ticks([DAY], [BTC_USD, PERP, OPTION]), [DAY])
    whole = map_of(ground.store)
    assert len(whole) == 3
    for patterns in ("binance:*", PERP.id, "deribit:*", "okex:*"):
        assert map_of(ground.store, selection=Selection.of(patterns)) == whole
    # one that is no longer there goes, the others' rows are those of the stored map
    write(ground.store, TRADES, {}, days=[DAY], selection=Selection.of(PERP))
    assert [row["instrument_id"] for row in map_of(ground.store, selection=Selection.of(PERP))] == [
        BTC_USD.id,
        OPTION.id,
    ]
    assert map_of(ground.store, selection=Selection.of(BTC_USD)) == whole


def test_a_map_under_a_filter_without_a_stored_one(local_store: ObjectStore) -> None:
    file(local_store, DAY, BTC_USD, (60, 1.0))
    file(local_store, DAY, PERP, (60, 1.0))
    assert [row["instrument_id"] for row in map_of(local_store, selection=Selection.of("deribit:*"))] == [PERP.id]
    assert [row["instrument_id"] for row in map_of(local_store, listed(BTC_USD), Selection.of("deribit:*"))] == [
        PERP.id
    ]
    assert MAPS.own_schema.names == list(map_of(local_store)[0])
