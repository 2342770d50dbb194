"""Runs that cross and runs that are killed: no row is lost, and the layouts agree, at the latest after the next run."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import partial

import pyarrow as pa
import pytest

from market_data_pipeline.lake import months
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline_tests.lake.made_up import (
    BTC_USD,
    BTC_USDT,
    DAYS,
    FUTURE,
    HOURLY,
    MAPS,
    OPTION,
    PERP,
    SOME,
    TRADES,
    Look,
    Watched,
    contents,
    hourly,
    ingest,
    made_ticks,
    made_trades,
    write,
)
from market_data_pipeline_tests.store_fixtures import Ground

DAY, NEXT = date(2024, 3, 5), date(2024, 3, 6)
Tables = dict[tuple[date, Instrument | None], pa.Table]


class Killed(Exception):
    """Stands for the end of the process: from then on nothing of the run reaches the store."""


def killed_at(store: ObjectStore, call: int) -> Watched:
    """A store whose `call`-th change, and every one after it, does not take place."""
    changes = 0

    def step(verb: str, _: str) -> None:
        nonlocal changes
        changes += verb != "open"
        if changes > call:
            raise Killed

    return Watched(store, step)


def once_before(verb: str, of: str, act: Callable[[], object]) -> Callable[[str, str], None]:
    """Does something right before the first call of a verb on a key with this part."""
    done = []

    def step(called: str, key: str) -> None:
        if not done and called == verb and of in key:
            done.append(key)
            act()

    return step


def trade_tables(seed: int, *places: tuple[date, Instrument]) -> Tables:
    return {(day, instrument): made_trades(day, instrument, 8, seed) for day, instrument in places}


def candle_tables(seed: int, *places: tuple[date, Instrument]) -> Tables:
    return {(day, instrument): hourly(day, price=100.0 + seed) for day, instrument in places}


def map_tables(seed: int, *places: tuple[date, Instrument]) -> Tables:
    made: Tables = {}
    for day in {day for day, _ in places}:
        rows = [
            {
                "instrument_id": instrument.id,
                "venue": instrument.venue,
                "instrument_type": instrument.type.folder,
                "tick_size": float(seed),
            }
            for at, instrument in sorted(places)
            if at == day
        ]
        made[day, None] = pa.Table.from_pylist(rows, MAPS.own_schema)
    return made


KINDS = {"trades": (TRADES, trade_tables), "candles": (HOURLY, candle_tables), "maps": (MAPS, map_tables)}


@pytest.mark.parametrize(
    ("where", "kind", "next_run"),
    [
        *(("local", kind, next_run) for kind in KINDS for next_run in ("the same", "as it was")),
        ("gcs", "trades", "the same"),
        ("gcs", "candles", "as it was"),
        ("gcs", "maps", "the same"),
    ],
)
def test_a_run_killed_anywhere_is_completed_by_the_next(
    request: pytest.FixtureRequest, where: str, kind: str, next_run: str
) -> None:
    ground: Ground = request.getfixturevalue(where)
    dataset, make = KINDS[kind]
    before = make(0, (DAY, BTC_USD), (DAY, PERP), (NEXT, BTC_USD), (NEXT, OPTION))
    # changed, gone, unchanged (but for the map), new
    after = make(1, (DAY, BTC_USD)) | make(0, (NEXT, BTC_USD)) | make(0, (NEXT, BTC_USDT))
    if dataset is MAPS:
        after = make(1, (DAY, BTC_USD), (NEXT, BTC_USD), (NEXT, BTC_USDT))
    full = partial(write, ground.store, dataset, days=[DAY, NEXT])
    full(after)
    wanted = Look(ground).rows(dataset)
    full(before)
    original = Look(ground).rows(dataset)
    assert not original.equals(wanted)
    killed, call = True, 0
    while killed:
        try:
            write(killed_at(ground.store, call), dataset, after, days=[DAY, NEXT], threads=1)
            killed = False
        except Killed:
            call += 1
        full(after if next_run == "the same" else before)
        look = Look(ground)
        look.assert_layouts_agree([dataset])
        assert look.rows(dataset).equals(wanted if next_run == "the same" else original), call
        full(before)
    assert call > 5
    Look(ground).assert_layouts_agree([dataset])
    assert Look(ground).rows(dataset).equals(original)


def test_a_whole_day_killed_at_random_places_is_completed_by_the_next(ground: Ground) -> None:
    ticks = made_ticks((DAYS[1],), (BTC_USD, PERP))
    ingest(ground.store, ticks, (DAYS[1],), only=SOME)
    wanted = contents(ground)
    changed = {(DAYS[1], BTC_USD): made_trades(DAYS[1], BTC_USD, seed=3)}
    for call in (1, 4, 8, 13):
        with pytest.raises(Killed):
            ingest(killed_at(ground.store, call), changed, (DAYS[1],), only=SOME)
        ingest(ground.store, ticks, (DAYS[1],), only=SOME)
        Look(ground).assert_layouts_agree()
    after = contents(ground)
    assert after.keys() == wanted.keys()
    assert {name for name in after if after[name] != wanted[name] and "/day-" in name} == set()


def _write_places(open_store: Callable[[], ObjectStore], places: list[tuple[date, str]]) -> None:
    store = open_store()
    for day, text in places:
        instrument = Instrument.parse(text)
        selection = Selection.of(instrument)
        write(store, HOURLY, candle_tables(0, (day, instrument)), selection=selection, threads=1)
        write(store, TRADES, trade_tables(0, (day, instrument)), selection=selection, threads=1)


def _shares(workers: int) -> list[list[tuple[date, str]]]:
    places = [
        (DAY + timedelta(days=n), instrument.id) for n in range(3) for instrument in (BTC_USD, BTC_USDT, PERP, FUTURE)
    ]
    return [places[worker::workers] for worker in range(workers)]


def _assert_all_there(ground: Ground) -> None:
    look = Look(ground)
    look.assert_layouts_agree([HOURLY, TRADES])
    places = [(day, Instrument.parse(text)) for day, text in _shares(1)[0]]
    assert look.rows(HOURLY).num_rows == 3 * len(places)
    assert look.rows(TRADES).num_rows == 8 * len(places)
    for layout in HOURLY.layouts:
        for day, instrument in places:
            assert day in look.days(HOURLY, instrument, layout.name)


def test_threads_that_write_one_month_lose_no_row(ground: Ground) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(partial(_write_places, ground.again), _shares(4)))
    _assert_all_there(ground)


def test_processes_that_write_one_month_lose_no_row(local: Ground) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_places, args=(local.again, share)) for share in _shares(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    _assert_all_there(local)


def test_a_run_that_meets_a_newer_month_file_does_it_again(ground: Ground) -> None:
    other = partial(write, ground.again(), HOURLY, candle_tables(0, (NEXT, BTC_USD)), selection=Selection.of(BTC_USD))
    watched = Watched(ground.store, once_before("put", "/by_timeframe/", other))
    write(watched, HOURLY, candle_tables(0, (DAY, PERP)), days=[DAY])
    Look(ground).assert_layouts_agree([HOURLY])
    assert len([key for key in watched.named("put") if "/by_timeframe/" in key]) == 2
    assert Look(ground).rows(HOURLY).num_rows == 6


def test_a_run_that_meets_ever_newer_month_files_gives_up_in_words(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(months, "_ATTEMPTS", 3)
    other, seed = ground.again(), iter(range(100))

    def interfere(verb: str, key: str) -> None:
        if verb == "put" and "/by_venue/" in key:
            write(other, HOURLY, candle_tables(next(seed), (NEXT, PERP)), selection=Selection.of(PERP))

    with pytest.raises(LakeError, match=r"deribit_ohlcv_1h.parquet kept changing: other runs .* 3 times"):
        write(Watched(ground.store, interfere), HOURLY, candle_tables(0, (DAY, PERP)), days=[DAY])
    write(ground.store, HOURLY, candle_tables(0, (DAY, PERP)), days=[DAY])
    Look(ground).assert_layouts_agree([HOURLY])


def test_a_newer_day_file_of_the_same_size_is_not_taken_for_the_one_read_before(ground: Ground) -> None:
    sizes: dict[int, int] = {}
    for seed in range(200):
        (file,) = write(ground.store, HOURLY, candle_tables(seed, (NEXT, PERP))).files
        if file.size in sizes:
            break
        sizes[file.size] = seed
    else:
        pytest.fail("no two files of one size")
    for name in ground.names():
        ground.store.delete(name)
    newer = candle_tables(seed, (NEXT, PERP))

    def cross() -> None:
        with pytest.raises(Killed):
            write(killed_at(ground.again(), 1), HOURLY, newer)
        write(ground.again(), HOURLY, candle_tables(0, (DAY, FUTURE)))

    # by_venue is put together from the older file, then refused, for FUTURE's came: now the newer one must be read
    watched = Watched(ground.store, once_before("put", "/by_venue/", cross))
    write(watched, HOURLY, candle_tables(sizes[file.size], (NEXT, PERP)), threads=1)
    write(ground.again(), HOURLY, newer)
    Look(ground).assert_layouts_agree([HOURLY])
    assert Look(ground).rows(HOURLY).column("open")[-3].as_py() == 100.0 + seed


@pytest.mark.parametrize("back", [False, True], ids=["and stays", "and comes back"])
def test_a_day_file_replaced_while_it_is_read_is_not_taken_for_the_listed_one(ground: Ground, back: bool) -> None:
    old, new = candle_tables(0, (DAY, PERP)), candle_tables(1, (DAY, PERP))

    def land(tables: Tables) -> None:
        with pytest.raises(Killed):
            write(killed_at(ground.again(), 1), HOURLY, tables, threads=1)

    replaced = once_before("open", "/by_date/", partial(land, new))
    restored = once_before("put", "/by_venue/", partial(land, old) if back else lambda: None)

    def step(verb: str, key: str) -> None:
        replaced(verb, key)
        restored(verb, key)

    write(Watched(ground.store, step), HOURLY, old, threads=1)
    write(ground.again(), HOURLY, old)
    Look(ground).assert_layouts_agree([HOURLY])
    assert Look(ground).rows(HOURLY).column("open")[0].as_py() == 100.0


def test_a_month_file_is_not_deleted_once_another_run_has_put_a_day_into_it(ground: Ground) -> None:
    write(ground.store, HOURLY, candle_tables(0, (DAY, PERP)))
    cross = partial(write, ground.again(), HOURLY, candle_tables(0, (NEXT, PERP)))
    watched = Watched(ground.store, once_before("delete", "/by_timeframe/", cross))
    write(watched, HOURLY, {}, days=[DAY], threads=1)
    look = Look(ground)
    look.assert_layouts_agree([HOURLY])
    assert look.days(HOURLY, PERP) == {NEXT}


def test_a_month_file_is_not_put_back_to_what_it_was_made_from_before(ground: Ground) -> None:
    first, second = candle_tables(0, (DAY, PERP)), candle_tables(1, (DAY, PERP))
    write(ground.store, HOURLY, first)
    # another run brings back the first rows, and finds the month files as it wants them
    back = partial(write, ground.again(), HOURLY, first)
    write(Watched(ground.store, once_before("put", "/by_venue/", back)), HOURLY, second, threads=1)
    Look(ground).assert_layouts_agree([HOURLY])


@pytest.mark.parametrize("layout", [layout.name for layout in TRADES.layouts])
@pytest.mark.parametrize("other", ["writes", "removes"])
def test_day_files_that_two_runs_write_are_the_same_in_every_layout(ground: Ground, layout: str, other: str) -> None:
    tables = trade_tables(1, (DAY, PERP)) if other == "writes" else {}
    cross = partial(write, ground.again(), TRADES, tables, days=[DAY])
    watched = Watched(ground.store, once_before("put", f"/{layout}/", cross))
    write(watched, TRADES, trade_tables(0, (DAY, PERP)))
    Look(ground).assert_layouts_agree([TRADES])


@pytest.mark.parametrize("layout", [layout.name for layout in TRADES.layouts])
def test_a_day_file_that_one_run_removes_and_one_writes_is_the_same_in_every_layout(
    ground: Ground, layout: str
) -> None:
    write(ground.store, TRADES, trade_tables(0, (DAY, PERP)))
    cross = partial(write, ground.again(), TRADES, trade_tables(1, (DAY, PERP)))
    write(Watched(ground.store, once_before("delete", f"/{layout}/", cross)), TRADES, {}, days=[DAY])
    Look(ground).assert_layouts_agree([TRADES])


def test_a_day_file_that_goes_while_its_checksum_is_asked_for_is_written(ground: Ground) -> None:
    tables = trade_tables(0, (DAY, PERP))
    write(ground.store, TRADES, tables)

    class Late(Watched):
        def crc32c(self, info: object) -> int:
            write(ground.again(), TRADES, {}, days=[DAY])
            return ground.again().crc32c(info) if ground.kind == "local" else 0

    write(Late(ground.store), TRADES, tables)
    Look(ground).assert_layouts_agree([TRADES])


def test_a_removed_instrument_that_another_run_takes_for_lost_goes_all_the_same(ground: Ground) -> None:
    write(ground.store, HOURLY, candle_tables(0, (DAY, PERP), (DAY, FUTURE)))
    runs = iter((1, 2))

    def cross() -> None:
        tables = candle_tables(next(runs), (DAY, FUTURE))
        write(ground.again(), HOURLY, tables, selection=Selection.of(FUTURE), threads=1)

    # the first puts PERP back into the record and the month files, the second sees it there and no day file of it
    puts_back = once_before("delete", "/by_date/", cross)

    def step(verb: str, key: str) -> None:
        if verb == "open" and [call for call in watched.calls if call[0] == "delete" and "/by_date/" in call[1]]:
            misses("open", key)
        puts_back(verb, key)

    misses = once_before("open", "/by_", cross)
    watched = Watched(ground.store, step)
    write(watched, HOURLY, candle_tables(0, (DAY, FUTURE)), threads=1)
    assert next(runs, None) is None
    look = Look(ground)
    look.assert_layouts_agree([HOURLY])
    assert look.days(HOURLY, PERP, "by_timeframe") == set()


def test_a_removed_instrument_that_another_run_put_back_into_a_month_file_goes_again(ground: Ground) -> None:
    write(ground.store, HOURLY, candle_tables(0, (DAY, PERP), (DAY, FUTURE)))
    # it still sees PERP's day file, and so puts PERP into the month files of its own venue and timeframe again
    cross = partial(
        write, ground.again(), HOURLY, candle_tables(1, (DAY, FUTURE)), selection=Selection.of(FUTURE), threads=1
    )
    watched = Watched(ground.store, once_before("delete", "/by_date/", cross))
    write(watched, HOURLY, candle_tables(0, (DAY, FUTURE)), threads=1)
    look = Look(ground)
    look.assert_layouts_agree([HOURLY])
    assert {layout.name: look.days(HOURLY, PERP, layout.name) for layout in HOURLY.layouts} == {
        layout.name: set() for layout in HOURLY.layouts
    }
