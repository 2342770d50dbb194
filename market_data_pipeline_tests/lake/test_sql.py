"""What SQL says of the lake, over both stores, against the reader; which files it opens; that it only reads."""

import gc
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake import sql_files
from market_data_pipeline.lake.sql_files import LakeFiles
from market_data_pipeline.lake.sql_tables import ALWAYS
from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.errors import DatasetError, LakeError, ObjectChanged, QueryError, WindowError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import Window
from market_data_pipeline_tests.gcs_server import GcsServer
from market_data_pipeline_tests.lake.made_up import (
    BTC_USD,
    BTC_USDT,
    DAYS,
    FUTURE,
    HOURLY,
    INSTRUMENTS,
    MAPS,
    OPTION,
    PERP,
    SOME,
    TRADES,
    Watched,
    contents,
    decoded,
    hourly,
    ingest,
    made_ticks,
    made_trades,
    plain,
    write,
)
from market_data_pipeline_tests.store_fixtures import Ground, gcs_ground, local_ground

MINUTES = DATASETS["ohlcv_1m"]
FIRST, MIDDLE, LAST = DAYS
END = LAST + timedelta(days=1)
MONTHS = [f"{layout.name}.{dataset.name}" for dataset in (MINUTES, MAPS) for layout in dataset.month_layouts]


@dataclass(frozen=True)
class Library:
    """A lake to ask, and the way round it."""

    ground: Ground
    lake: MarketDataLake


class Listed(Watched):
    """Notes which folders are listed, too."""

    def list(self, prefix: str) -> Any:
        self._about_to("list", prefix)
        return self._store.list(prefix)


@pytest.fixture(scope="module", params=["local", "gcs"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    if request.param == "local":
        ground = local_ground(tmp_path_factory.mktemp("asked"))
    else:
        ground = gcs_ground(request.getfixturevalue("running_gcs_server").url)
    ticks = made_ticks()
    del ticks[LAST, FUTURE]
    ingest(ground.store, ticks, only=SOME)
    return Library(ground, MarketDataLake(store=ground.store))


def watched(library: Library) -> tuple[MarketDataLake, Listed]:
    store: Any = Listed(library.ground.store)
    return MarketDataLake(store=store), store


def keys(dataset: Dataset, days: tuple[date, ...] = DAYS, wanted: Callable[[Instrument], bool] = bool) -> set[str]:
    """The day files of some days and instruments."""
    there = [(day, each) for day in days for each in INSTRUMENTS if wanted(each) and (day, each) != (LAST, FUTURE)]
    return {dataset.path(dataset.layouts[0], *place) for place in there}


WINDOWS: list[dict[str, Any]] = [
    {},
    {"start": MIDDLE, "end": LAST},
    {"start": "2024-02-28T23:59:59.5", "end": "2024-03-01T00:00:03"},
    {"start": "2024-02-29T05:30:00+05:30", "end": "2024-02-29T11:30"},
    {"start": LAST},
    {"end": MIDDLE},
    {"start": MIDDLE, "end": MIDDLE},
    {"start": "2024-01-01", "end": "2024-02-01"},
    {"start": "2024-03-02"},
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_the_rows_are_the_readers(library: Library, window: dict[str, Any]) -> None:
    lake, (start, end) = library.lake, (window.get("start", "2024-02-01"), window.get("end", "2024-04-01"))
    for query, expected in (
        ("from trades", lake.ticks(None, "trades", start, end)),
        ("from ohlcv_1m", lake.candles(None, "1m", start, end)),
        ("from ohlcv_5m where venue = 'deribit'", lake.candles(None, "5m", start, end, venue="deribit")),
        ("from available_instruments", lake.universe(start, end, observed=True)),
    ):
        found = lake.sql(query, **window)
        common = [name for name in found.column_names if name in expected.column_names]
        assert plain(found.select(common)).equals(plain(expected.select(common))), query
    everything = lake.sql("from trades").num_rows
    assert everything == sum(made_trades(*place).num_rows for place in made_ticks() if place != (LAST, FUTURE))


def test_questions_across_datasets(library: Library) -> None:
    found = library.lake.sql(
        """
        with traded as (
            select instrument_id, time_bucket(interval 1 minute, timestamp) as timestamp, sum(amount) as amount
            from trades group by all
        )
        select count(*) as candles, max(abs(volume - amount)) as difference
        from ohlcv_1m join traded using (instrument_id, timestamp)
        """
    ).to_pylist()
    candles = library.lake.sql("select count(*) as n from ohlcv_1m").column("n")[0].as_py()
    assert candles > 100
    assert found[0]["candles"] == candles
    assert found[0]["difference"] < 1e-9
    sides = library.lake.sql("from (pivot trades on side using count(*) group by venue) order by venue")
    counted = library.lake.sql("select venue, count(*) as n from trades group by venue order by venue")
    assert set(sides.column_names) == {"venue", "buy", "sell", "unknown"}
    assert [sum(list(row.values())[1:]) for row in sides.to_pylist()] == counted.column("n").to_pylist()


def test_no_file_stays_open_after_a_query(tmp_path: Path) -> None:
    ground = local_ground(tmp_path)
    write(ground.store, HOURLY, {(day, PERP): hourly(day) for day in DAYS})
    opened: list[weakref.ref[Any]] = []

    class Opening(Watched):
        def open(self, key: str) -> Any:
            pinned = super().open(key)
            opened.append(weakref.ref(pinned.file))
            return pinned

    store: Any = Opening(ground.store)
    gc.disable()
    try:
        assert MarketDataLake(store=store).sql("select sum(close) from ohlcv_1h").num_rows == 1
        with pytest.raises(QueryError):
            MarketDataLake(store=store).sql("select error(close::varchar) from ohlcv_1h")
        assert len(opened) > len(DAYS)
        assert [each for each in opened if each() is not None] == []
    finally:
        gc.enable()


def test_a_query_without_end_can_be_stopped(tmp_path: Path) -> None:
    script = """
import os, signal, sys, threading
from market_data_pipeline import MarketDataLake

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may be told to ignore it
threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
MarketDataLake(sys.argv[1]).sql("select count(*) from range(100000000) a, range(100000000) b where hash(a, b) % 7 = 3")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "lake")],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stderr.endswith("KeyboardInterrupt\n")
    assert list(tmp_path.glob("market-data-sql-*")) == []


def test_several_may_ask_at_once(library: Library) -> None:
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda day: library.lake.sql("from trades", start=day).num_rows, DAYS * 4))
    assert counts == [library.lake.sql("from trades", start=day).num_rows for day in DAYS] * 4
    assert counts[0] > counts[1] > counts[2] > 0


@pytest.mark.parametrize(
    ("condition", "days", "wanted"),
    [
        ("date = '2024-02-29'", (MIDDLE,), bool),
        ("date between '2024-02-28' and '2024-02-29'", (FIRST, MIDDLE), bool),
        ("date >= '2024-03-01'", (LAST,), bool),
        ("date_trunc('month', date) = '2024-02-01'", (FIRST, MIDDLE), bool),
        ("month = 3", (LAST,), bool),
        ("year = 2024 and month = 2", (FIRST, MIDDLE), bool),
        ("date > date_trunc('month', date '2024-02-29') + interval 28 day", (LAST,), bool),
        ("date > current_date - 10", (), bool),
        ("venue = 'deribit'", DAYS, lambda each: each.venue == "deribit"),
        (f"instrument_id = '{BTC_USD}'", DAYS, lambda each: each == BTC_USD),
        (f"instrument_id in ('{BTC_USD}', '{OPTION}') and day > 28", (MIDDLE,), lambda each: each in (BTC_USD, OPTION)),
        ("instrument_type = 'spot' and date = '2024-02-28'", (FIRST,), lambda each: each in (BTC_USD, BTC_USDT)),
        ("quote_asset = 'USDT' and instrument_id like 'binance:%'", DAYS, lambda each: each == BTC_USDT),
        ("date = '2023-02-28'", (), bool),
        ("date = '2024-02-28' or date = '2024-03-01'", (FIRST, LAST), bool),
    ],
)
def test_a_condition_opens_only_the_files_that_it_allows(
    library: Library, condition: str, days: tuple[date, ...], wanted: Callable[[Instrument], bool]
) -> None:
    lake, store = watched(library)
    for dataset in (TRADES, MINUTES):
        store.calls.clear()
        lake.sql(f"select max(timestamp) from {dataset.name} where {condition}")
        assert sorted(store.named("open")) == sorted(keys(dataset, days, wanted))


def test_what_is_opened_stands_in_the_plan(library: Library) -> None:
    plan = library.lake.sql("explain analyze select sum(price) from trades where date = '2024-02-28'")
    text = plan.column("explain_value")[0].as_py()
    assert f"Total Files Read: {len(INSTRUMENTS)} " in text
    assert re.search(rf"Scanning Files: {len(INSTRUMENTS)}/{len(keys(TRADES)) + 1} ", text)


def test_a_join_opens_files_of_its_own_condition(library: Library) -> None:
    lake, store = watched(library)
    lake.sql(
        "select max(t.price - m.close) from trades t join ohlcv_1m m using (date, instrument_id) "
        f"where date = '2024-02-29' and instrument_id = '{PERP}'"
    )
    there = {dataset.path(dataset.layouts[0], MIDDLE, PERP) for dataset in (TRADES, MINUTES)}
    assert set(store.named("open")) == there


def test_only_what_is_named_is_listed(library: Library) -> None:
    lake, store = watched(library)
    for query in ("select 1", "show tables", "describe trades", "select table_name from information_schema.tables"):
        lake.sql(query)
    assert set(lake.sql("show tables").column("name").to_pylist()) == set(DATASETS)
    assert set(store.named("list")) <= {"market-data-tick/raw_tick_data/by_date/"}
    store.calls.clear()
    lake.sql("select count(*) from query_table('Available_Instruments')")
    assert store.named("list") == ["market-data-instrument-availability/daily/by_date/"]
    store.calls.clear()
    lake.sql("from ohlcv_1m", start=MIDDLE, end=LAST)
    assert store.named("list") == [MINUTES.layouts[0].prefix(MIDDLE)]
    store.calls.clear()
    assert lake.sql("from trades", start=MIDDLE, end=LAST).num_rows
    assert sorted(store.named("list")) == [TRADES.layouts[0].prefix(day, dataset="trades") for day in DAYS]
    assert set(store.named("open")) == keys(TRADES)


@pytest.mark.parametrize("end", ["2100-01-01", "9999-12-31T12:00"])
def test_a_far_end_is_not_listed_day_by_day(library: Library, end: str) -> None:
    lake, store = watched(library)
    found = lake.sql("from trades", start="1970-01-01", end=end)
    assert found.num_rows == library.lake.sql("from trades").num_rows
    assert store.named("list") == [TRADES.layouts[0].prefix()]
    assert lake.sql("from trades", start=LAST, end=end).num_rows == lake.sql("from trades", start=LAST).num_rows


@pytest.mark.parametrize("name", MONTHS)
def test_month_files_have_the_same_rows(library: Library, name: str) -> None:
    layout, _, dataset = name.partition(".")
    folder = DATASETS[dataset].layout(layout).prefix(None, **DATASETS[dataset].path_fields())
    lake, store = watched(library)
    expected = lake.sql(f"from {dataset}")
    store.calls.clear()
    found = lake.sql(f"from {name}")
    assert plain(found).equals(plain(expected))
    opened = store.named("open")
    assert opened
    assert all(f"/{layout}/" in key for key in opened)
    assert set(store.named("list")) == {folder}
    store.calls.clear()
    in_march = lake.sql(f"from {name} where month = 3")
    assert sorted(store.named("open")) == sorted(key for key in opened if "/month-03/" in key)
    assert plain(lake.sql(f"from {name}", start=LAST)).equals(plain(in_march))
    assert plain(lake.sql(f"from {name} where date = '2024-03-01'")).equals(plain(in_march))
    for window in ({"start": MIDDLE}, {"end": MIDDLE}, {"start": MIDDLE, "end": LAST}, {"start": LAST, "end": LAST}):
        assert plain(lake.sql(f"from {name}", **window)).equals(plain(lake.sql(f"from {dataset}", **window)))


def test_a_month_file_is_left_out_by_its_venue_or_instrument(library: Library) -> None:
    lake, store = watched(library)
    lake.sql("select max(close) from by_venue.ohlcv_1m where venue = 'deribit' and month = 2")
    assert store.named("open") == [MINUTES.path(MINUTES.layout("by_venue"), FIRST, PERP)]
    store.calls.clear()
    lake.sql("select max(close) from by_instrument_id.ohlcv_1m where base_asset = 'ETH' and month = 3")
    assert [key.rpartition("/")[2] for key in store.named("open")] == ["ethusdt_ohlcv_1m.parquet"]


@pytest.mark.parametrize("name", [*DATASETS, *MONTHS])
def test_a_dataset_without_files_has_its_columns(tmp_path: Path, name: str) -> None:
    found = MarketDataLake(tmp_path).sql(f"from {name}")
    assert found.num_rows == 0
    assert found.schema.equals(decoded(DATASETS[name.rpartition(".")[2]].schema.empty_table()).schema)


def test_columns_are_of_the_same_types_where_files_lie(library: Library) -> None:
    for name in SOME:
        found = library.lake.sql(f"from {name}")
        assert found.num_rows
        assert found.schema.equals(decoded(DATASETS[name].schema.empty_table()).schema)


@pytest.mark.parametrize("query", ["from tradez", "select 1 from trades, nothing.at_all", "from by_type.trades"])
def test_a_table_that_is_none_is_an_error_with_the_datasets(library: Library, query: str) -> None:
    with pytest.raises(DatasetError, match="does not exist") as caught:
        library.lake.sql(query)
    assert str(caught.value).endswith(f"The datasets are {', '.join(DATASETS)}")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("selec 1", "syntax error"),
        ("select colour from trades", "colour"),
        ("", "found 0 statements"),
        ("select 1; select 2", "found 2 statements"),
        ("select ? from trades", "parameter"),
        ("select date from trades where date = 'today'", "date"),
        ("from read_parquet('lake://by_date/nothing')", "nothing is no file of a table"),
        ("from '/etc/hosts.csv'", "nothing else"),
        ("from read_text('/etc/hosts')", "nothing else"),
        ("from read_avro('x')", "avro extension.\nA query has what comes with DuckDB; no extension is loaded$"),
        ("select st_point(1, 2)", "no extension is loaded$"),
        ("update extensions", "a query only reads"),
    ],
)
def test_a_query_that_cannot_be_run_is_an_error(library: Library, query: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        library.lake.sql(query)


def test_a_variable_of_the_program_is_no_table(library: Library) -> None:
    rows = pa.table({"a": [1]})
    assert rows.num_rows
    with pytest.raises(DatasetError, match="rows"):
        library.lake.sql("from rows")


def test_a_window_that_runs_backwards_is_an_error(library: Library) -> None:
    with pytest.raises(WindowError, match="before it starts"):
        library.lake.sql("from trades", start=LAST, end=FIRST)


@pytest.mark.parametrize(
    "query",
    [
        "copy trades to '{target}'",
        "with written as (copy trades to '{target}' (format parquet, use_tmp_file false)) from written",
        "explain analyze copy trades to '{target}' (format parquet, use_tmp_file false)",
        "with written as (copy trades to 'lake://{key}' (use_tmp_file false)) from written",
        "with written as (copy trades to 'lake://by_date/trades' (format parquet)) from written",
        "export database '{target}'",
        "attach '{target}'",
        "insert into trades from trades",
        "with gone as (delete from trades returning *) from gone",
        "create table mine as from trades",
        "drop view trades",
        "set enable_external_access = true",
        "install httpfs",
        "load httpfs",
    ],
)
def test_nothing_is_written(library: Library, tmp_path: Path, query: str) -> None:
    before = contents(library.ground)
    key = TRADES.path(TRADES.layouts[0], FIRST, BTC_USD)
    there = library.ground.store.uri_of(key)
    for target in (tmp_path / "written", there):
        with pytest.raises(QueryError):
            library.lake.sql(query.format(target=target, key=key))
    assert list(tmp_path.iterdir()) == []
    assert contents(library.ground) == before


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    ground = local_ground(tmp_path / "la[ke] {a,b} *?'\"; é year-2023" / "month-01" / "date=2001-01-01")
    write(ground.store, HOURLY, {(day, each): hourly(day) for day in DAYS for each in (BTC_USD, PERP)})
    store: Any = Watched(ground.store)
    lake = MarketDataLake(store=store)
    found = lake.sql("select distinct date, instrument_id from ohlcv_1h where date > '2024-02-28' order by all")
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        (day, each.id) for day in (MIDDLE, LAST) for each in (BTC_USD, PERP)
    ]
    assert len(store.named("open")) == 4
    assert lake.sql("from by_venue.ohlcv_1h").num_rows == lake.sql("from ohlcv_1h").num_rows == 18


def test_values_are_plain(library: Library) -> None:
    found = library.lake.sql("select sum(trade_count) as n, 1 as n, 2 as n_1, 1e30::hugeint as big from ohlcv_1m")
    assert found.column_names == ["n", "n_2", "n_1", "big"]
    assert found.schema.field(0).type == pa.int64()
    assert found.column(0)[0].as_py() == library.lake.candles(None, "1m", FIRST, END)["trade_count"].to_pandas().sum()
    assert found.column("big")[0].as_py() == int(1e30)
    assert library.lake.sql("select timestamp from trades limit 1").schema.field(0).type == pa.timestamp("us", "UTC")


def test_a_file_that_goes_while_it_is_asked_about_is_not_missed(ground: Ground) -> None:
    write(ground.store, HOURLY, {(day, PERP): hourly(day) for day in DAYS})
    gone = HOURLY.path(HOURLY.layouts[0], LAST, PERP)

    at_a_time = Lock()  # DuckDB opens files in several threads

    def step(verb: str, key: str) -> None:
        with at_a_time:
            if verb == "open" and ground.get(gone) is not None:
                ground.store.delete(gone)

    store: Any = Watched(ground.store, step)
    found = MarketDataLake(store=store).sql("select date, count(*) as n from ohlcv_1h group by all order by all")
    assert found.to_pylist() == [{"date": day, "n": 3} for day in (FIRST, MIDDLE)]


def test_a_file_that_is_replaced_is_not_read_in_two_versions(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_files, "_HELD", 1)
    write(ground.store, HOURLY, {(day, PERP): hourly(day) for day in DAYS})
    files = LakeFiles(ground.store, ALWAYS)
    files.listing = True
    _, first, second, _ = files.glob("by_date/ohlcv_1h")
    for path in (first, second, first):
        assert files.info(path)["size"]
    files.info(second)
    write(ground.store, HOURLY, {(FIRST, PERP): hourly(FIRST, 5)})
    with pytest.raises(ObjectChanged, match="was replaced while it was read"):
        files.open(first)
    assert isinstance(files.failure, ObjectChanged)


def test_each_thread_has_its_own_place_in_a_file(ground: Ground) -> None:
    write(ground.store, HOURLY, {(FIRST, PERP): hourly(FIRST)})
    files = LakeFiles(ground.store, Window.of(FIRST, MIDDLE))
    files.listing = True
    _, path = files.glob("by_date/ohlcv_1h")
    whole = ground.get(HOURLY.path(HOURLY.layouts[0], FIRST, PERP)) or b""
    file = files.open(path)

    def elsewhere() -> bytes:
        file.seek(len(whole) - 4)
        return file.read(100)

    with ThreadPoolExecutor(1) as pool:
        file.seek(0)
        assert pool.submit(elsewhere).result() == whole[-4:] == b"PAR1"
        assert file.read(50) + file.read(70) == whole[:120]
        assert file.tell() == 120


def test_large_files_are_read_by_several_threads(ground: Ground) -> None:
    count = 150_000
    start = np.datetime64(FIRST, "us").astype(np.int64)
    times = pa.array(start + np.arange(count) * 500_000, pa.timestamp("us", "UTC"))
    chance = np.random.default_rng(7)
    tables = {
        (FIRST, each): pa.table(
            {
                "timestamp": times,
                "local_timestamp": times,
                "id": [str(number) for number in chance.integers(0, 1 << 40, count)],
                "side": pa.array(["buy"] * count).dictionary_encode(),
                "price": chance.random(count),
                "amount": np.arange(count, dtype=float),
            }
        ).cast(TRADES.own_schema)
        for each in (BTC_USD, PERP)
    }
    write(ground.store, TRADES, tables)
    lake = MarketDataLake(store=ground.store)
    for (_, each), table in tables.items():
        found = lake.sql(f"select * from trades where instrument_id = '{each}'").select(table.column_names)
        assert found.equals(decoded(table).cast(found.schema))
    hour = lake.sql("from trades where timestamp >= '2024-02-28T01:00Z'", end="2024-02-28T02:00")
    assert hour.num_rows == 2 * 7200


def test_in_the_cloud_a_small_file_is_one_request(gcs_server: GcsServer) -> None:
    gcs = gcs_ground(gcs_server.url)
    write(gcs.store, HOURLY, {(day, each): hourly(day) for day in DAYS for each in (BTC_USD, PERP)})
    lake = MarketDataLake(store=gcs.store)
    gcs_server.requests.clear()
    found = lake.sql("select date, sum(close) from ohlcv_1h where date > '2024-02-28' group by date")
    assert found.num_rows == 2
    assert len([request for request in gcs_server.requests if request.is_media]) == 4
    assert len(gcs_server.requests) == 5


def test_in_the_cloud_what_is_refused_is_told_as_by_the_reader(gcs_server: GcsServer) -> None:
    gcs = gcs_ground(gcs_server.url)
    write(gcs.store, HOURLY, {(FIRST, PERP): hourly(FIRST)})
    lake = MarketDataLake(store=gcs.store)
    gcs_server.fail(lambda request: request.is_media, status=403, times=1)
    with pytest.raises(LakeError, match="gs://") as caught:
        lake.sql("from ohlcv_1h")
    gcs_server.fail(lambda request: request.is_media, status=403, times=1)
    with pytest.raises(LakeError, match="gs://") as told:
        lake.candles(PERP, "1h", FIRST, MIDDLE)
    assert str(caught.value) == str(told.value)


@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda whole: b"PAR1\0\0\0\0PAR1", lambda whole: b""])
def test_a_file_that_cannot_be_read_is_named(ground: Ground, damage: Callable[[bytes], bytes]) -> None:
    write(ground.store, HOURLY, {(day, PERP): hourly(day) for day in DAYS})
    key = HOURLY.path(HOURLY.layouts[0], MIDDLE, PERP)
    ground.write(key, damage(ground.get(key) or b""))
    lake = MarketDataLake(store=ground.store)
    with pytest.raises(LakeError, match="verify") as caught:
        lake.sql("select sum(close) from ohlcv_1h")
    assert ground.store.uri_of(key) in str(caught.value)
    assert lake.sql("select count(*) as n from ohlcv_1h where date != '2024-02-29'").to_pylist() == [{"n": 6}]
