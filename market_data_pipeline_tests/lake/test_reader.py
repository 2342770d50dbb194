"""What the reader answers, over both stores, against the same rows put together the plain way."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake import reader
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, LISTING_COLUMNS, OBSERVED_COLUMNS, TIMEFRAMES, Dataset
from market_data_pipeline.model.errors import DatasetError, InstrumentError, LakeError, SettingError, WindowError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import as_moment, midnight
from market_data_pipeline_tests.lake.made_up import (
    BTC_USD,
    BTC_USDT,
    DAYS,
    ETH,
    FUTURE,
    HOURLY,
    INSTRUMENTS,
    MAPS,
    OPTION,
    PERP,
    TRADES,
    Look,
    Ticks,
    Watched,
    decoded,
    hourly,
    ingest,
    made_ticks,
    plain,
    trades,
    write,
)
from market_data_pipeline_tests.store_fixtures import Ground, gcs_ground, local_ground

FEATURES = DATASETS["technical_features"]
FIRST, MIDDLE, LAST = DAYS
END = LAST + timedelta(days=1)
LEFT_OUT = (LAST, FUTURE)
"""This instrument has no ticks on that day."""


@dataclass(frozen=True)
class Library:
    """A lake to read from, and all that lies in it."""

    ground: Ground
    lake: MarketDataLake
    look: Look
    ticks: Ticks


@pytest.fixture(scope="module", params=["local", "gcs"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    if request.param == "local":
        ground = local_ground(tmp_path_factory.mktemp("library"))
    else:
        ground = gcs_ground(request.getfixturevalue("running_gcs_server").url)
    ticks = made_ticks()
    del ticks[LEFT_OUT]
    ingest(ground.store, ticks)
    write(ground.store, FEATURES, {(day, i): features(day) for day in DAYS for i in (BTC_USD, PERP)})
    return Library(ground, MarketDataLake(store=ground.store), Look(ground), ticks)


def features(day: date) -> pa.Table:
    opens = [(midnight(day) + timedelta(hours=hour), "1h") for hour in range(0, 24, 2)]
    opens += [(midnight(day) + timedelta(hours=hour), "4h") for hour in range(0, 24, 4)]
    own = [
        {"timestamp": at, "close_time": at + TIMEFRAMES[name].length, "timeframe": name} for at, name in sorted(opens)
    ]
    return pa.Table.from_pylist(own, FEATURES.own_schema)


def everything(_: Instrument) -> bool:
    return True


def some(*wanted: Instrument) -> Callable[[Instrument], bool]:
    return lambda instrument: instrument in wanted


QUESTIONS: list[tuple[Any, dict[str, str], Callable[[Instrument], bool]]] = [
    (None, {}, everything),
    (BTC_USD.id, {}, some(BTC_USD)),
    (BTC_USDT, {}, some(BTC_USDT)),
    ("DERIBIT:option:BTC-USD-241225-50000-call", {}, some(OPTION)),
    ([PERP.id, BTC_USD], {}, some(PERP, BTC_USD)),
    ("binance:*:BTC-USD*", {}, some(BTC_USD, BTC_USDT)),
    ("*:btc-usd", {}, some(BTC_USD, PERP)),
    (["deribit:*", ETH.id], {}, some(PERP, FUTURE, OPTION, ETH)),
    (None, {"venue": "deribit"}, some(PERP, FUTURE, OPTION)),
    (None, {"venue": "BINANCE"}, some(BTC_USD, BTC_USDT)),
    (None, {"instrument_type": "perpetual"}, some(ETH, PERP)),
    (None, {"instrument_type": "Perp", "venue": "deribit"}, some(PERP)),
    ("*:*:BTC-*", {"instrument_type": "spot"}, some(BTC_USD, BTC_USDT)),
    ([BTC_USD.id, PERP.id], {"venue": "deribit"}, some(PERP)),
    (BTC_USD.id, {"venue": "deribit"}, some()),
    ("okex:*", {}, some()),
    (None, {"venue": "okex"}, some()),
]
INDIA = timezone(timedelta(hours=5, minutes=30))
WINDOWS = [
    (FIRST, END),
    (MIDDLE, LAST),
    ("2024-02-29", "2024-03-01T00:00:00"),
    (datetime(2024, 2, 28, 23, 59, 59, 500_000, tzinfo=UTC), datetime(2024, 3, 1, 0, 0, 3)),  # noqa: DTZ001
    (datetime(2024, 2, 29, 2, 30, tzinfo=INDIA), datetime(2024, 2, 29, 11, 30, tzinfo=INDIA)),
    ("2024-02-28T13:00:00+01:00", "2024-02-28T20:00Z"),
    ("2024-02-28T02:50:00.000001", "2024-02-28T02:50:00.000002"),
    (datetime(2024, 2, 28, 2, 50, tzinfo=UTC), datetime(2024, 2, 28, 2, 50, 0, 1, tzinfo=UTC)),
    (LAST, END),  # one instrument's ticks of it lie in the file of the day before alone
    (date(2024, 1, 15), date(2024, 3, 20)),
]
WHOLE, ODD = WINDOWS[0], WINDOWS[3]


def of_ticks(library: Library, wanted: Callable[[Instrument], bool], window: tuple[Any, Any]) -> list[tuple[Any, ...]]:
    """Ticks the plain way: for each instrument a stable sort by time over the files in order of their days."""
    start, end = map(as_moment, window)
    rows = []
    for instrument in sorted(filter(wanted, INSTRUMENTS)):
        mine = [
            (instrument.id, row["timestamp"], day, row["id"], row["price"])
            for day in DAYS
            for row in library.ticks.get((day, instrument), TRADES.own_schema.empty_table()).to_pylist()
            if start <= row["timestamp"] < end
        ]
        rows += sorted(mine, key=lambda row: row[1])
    return rows


def of_rows(
    library: Library, dataset: Dataset, wanted: Callable[[Instrument], bool], window: tuple[Any, Any]
) -> pa.Table:
    """Candles the plain way, out of all that lies under by_date."""
    start, end = map(as_moment, window)
    rows = library.look.rows(dataset)
    mine = [
        wanted(Instrument.parse(name)) and start <= time < end
        for name, time in zip(*(rows.column(c).to_pylist() for c in ("instrument_id", "timestamp")), strict=True)
    ]
    return rows.filter(pa.array(mine, pa.bool_())).sort_by([("instrument_id", "ascending"), ("timestamp", "ascending")])


def as_rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(
        zip(
            *(table.column(c).to_pylist() for c in ("instrument_id", "timestamp", "date", "id", "price")),
            strict=True,
        )
    )


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{question[0]} {question[1]}"[:40])
def test_ticks(library: Library, question: tuple[Any, dict[str, str], Callable[[Instrument], bool]]) -> None:
    instruments, narrowed, wanted = question
    for window in (WHOLE, ODD, WINDOWS[1]):
        found = library.lake.ticks(instruments, "trades", *window, **narrowed)
        assert as_rows(found) == of_ticks(library, wanted, window)
        assert found.schema.equals(TRADES.schema)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: f"{question[0]} {question[1]}"[:40])
def test_candles(library: Library, question: tuple[Any, dict[str, str], Callable[[Instrument], bool]]) -> None:
    instruments, narrowed, wanted = question
    for timeframe, window in (("1h", WHOLE), ("5m", ODD), ("1d", WINDOWS[1])):
        dataset = DATASETS[f"ohlcv_{timeframe}"]
        found = library.lake.candles(instruments, timeframe, *window, **narrowed)
        assert decoded(found).equals(of_rows(library, dataset, wanted, window))
        assert found.schema.equals(dataset.schema)


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: f"{window[0]} {window[1]}")
def test_windows(library: Library, window: tuple[Any, Any]) -> None:
    for instruments, wanted in ((None, everything), (PERP.id, some(PERP))):
        found = library.lake.candles(instruments, "1m", *window)
        assert decoded(found).equals(of_rows(library, DATASETS["ohlcv_1m"], wanted, window))
        assert as_rows(library.lake.ticks(instruments, "trades", *window)) == of_ticks(library, wanted, window)


def test_windows_that_should_hold_rows_do(library: Library) -> None:
    empty = {WINDOWS[6]}
    for window in WINDOWS:
        assert bool(of_ticks(library, everything, window)) == (window not in empty), window
    over_midnight = [row for row in of_ticks(library, everything, ODD) if row[1].date() != row[2]]
    assert len(over_midnight) > 9


@pytest.mark.parametrize("layout", HOURLY.layouts, ids=lambda layout: layout.name)
@pytest.mark.parametrize("window", [WHOLE, ODD], ids=["whole", "odd"])
def test_every_layout_gives_the_same_answer(
    library: Library, monkeypatch: pytest.MonkeyPatch, layout: Any, window: tuple[Any, Any]
) -> None:
    monkeypatch.setattr(reader, "best_layout", lambda _: layout)
    for instruments, narrowed, wanted in QUESTIONS:
        if layout.name == "by_instrument_id" and Selection.of(instruments).exact is None:
            continue  # it is chosen only where each instrument is named
        found = library.lake.candles(instruments, "1h", *window, **narrowed)
        assert decoded(found).equals(of_rows(library, HOURLY, wanted, window)), (layout.name, instruments, narrowed)
        few = library.lake.candles(instruments, "1h", *window, columns=["close", "day", "instrument_id"], **narrowed)
        assert decoded(few).equals(decoded(found.select(["close", "day", "instrument_id"])))


@pytest.mark.parametrize(
    ("instruments", "narrowed", "window", "opened"),
    [
        (BTC_USD.id, {}, (FIRST, MIDDLE), ["by_date"]),
        (BTC_USD.id, {}, (FIRST, LAST), ["by_instrument_id"]),
        (BTC_USD.id, {}, (FIRST, END), ["by_instrument_id", "by_instrument_id"]),
        ([BTC_USD.id, PERP.id], {}, (FIRST, LAST), ["by_instrument_id", "by_instrument_id"]),
        (None, {"venue": "deribit"}, (FIRST, LAST), ["by_venue"]),
        (None, {"venue": "deribit"}, (FIRST, END), ["by_venue", "by_venue"]),
        (None, {}, (FIRST, MIDDLE), ["by_timeframe"]),
        (None, {}, (FIRST, END), ["by_timeframe", "by_timeframe"]),
        (None, {"instrument_type": "spot"}, (FIRST, LAST), ["by_timeframe"]),
        ("binance:*", {}, (FIRST, LAST), ["by_timeframe"]),
        (None, {}, (FIRST, FIRST), []),
        (BTC_USD.id, {"venue": "deribit"}, (FIRST, END), []),
    ],
)
def test_candles_come_from_the_layout_that_touches_the_fewest_objects(
    library: Library, instruments: Any, narrowed: dict[str, str], window: tuple[Any, Any], opened: list[str]
) -> None:
    watched = Watched(library.ground.store)
    MarketDataLake(store=watched).candles(instruments, "1h", *window, **narrowed)
    assert [key.split("/")[2] for key in watched.named("open")] == opened


@pytest.mark.parametrize(
    ("instruments", "window", "opened"),
    [
        (BTC_USD.id, (MIDDLE, LAST), 3),
        (BTC_USD.id, ("2024-02-29T12:00", "2024-02-29T12:01"), 3),
        (BTC_USD.id, (MIDDLE, MIDDLE), 0),
        ([BTC_USD.id, PERP.id], (FIRST, END), 2 * 5),
    ],
)
def test_ticks_open_a_days_file_and_its_neighbours_once(
    library: Library, instruments: Any, window: tuple[Any, Any], opened: int
) -> None:
    watched = Watched(library.ground.store)
    MarketDataLake(store=watched).ticks(instruments, "trades", *window)
    assert len(watched.named("open")) == len(set(watched.named("open"))) == opened


@pytest.mark.parametrize(
    "columns",
    [["close"], ["close", "open"], ["timestamp", "close"], ["year"], ["timeframe", "venue", "date", "volume_unit"]],
)
def test_columns_come_as_asked(library: Library, columns: list[str]) -> None:
    for instruments, narrowed in ((BTC_USD.id, {}), (None, {"venue": "binance"}), (None, {})):
        for window in (WHOLE, ODD, (FIRST, MIDDLE), (date(2020, 1, 1), date(2020, 1, 2))):
            found = library.lake.candles(instruments, "1h", *window, columns=columns, **narrowed)
            whole = library.lake.candles(instruments, "1h", *window, **narrowed)
            assert decoded(found).equals(decoded(whole.select(columns)))
            assert found.schema.equals(pa.schema([HOURLY.schema.field(name) for name in columns]))


def test_columns_of_ticks_come_as_asked(library: Library) -> None:
    for columns in (["price", "id"], ["side"], ["date", "instrument_id", "base_asset"], ["amount", "amount", "day"]):
        found = library.lake.ticks("binance:*", "trades", *ODD, columns=columns)
        whole = library.lake.ticks("binance:*", "trades", *ODD)
        assert found.num_rows
        assert decoded(found).equals(decoded(whole.select(list(dict.fromkeys(columns)))))


@pytest.mark.parametrize("window", [(date(2020, 1, 1), date(2020, 2, 1)), (FIRST, FIRST)])
@pytest.mark.parametrize("instruments", [None, BTC_USD.id, "binance:*", [BTC_USD.id, PERP.id]])
def test_nothing_stored_is_an_empty_table_with_the_right_columns(
    library: Library, window: tuple[date, date], instruments: Any
) -> None:
    lake = library.lake
    for found, dataset in (
        (lake.ticks(instruments, "trades", *window), TRADES),
        (lake.ticks(instruments, "book_snapshot_5", *WHOLE), DATASETS["book_snapshot_5"]),
        (lake.candles(instruments, "1h", *window), HOURLY),
        (lake.features(instruments, "ml_signals", *WHOLE), DATASETS["ml_signals"]),
        (lake.features(instruments, "ml_signals", *WHOLE, timeframe="1h"), DATASETS["ml_signals"]),
    ):
        assert found.num_rows == 0
        assert found.schema.equals(dataset.schema)


@pytest.mark.parametrize("instruments", [None, "*", [BTC_USD.id], []], ids=str)
def test_a_lake_with_nothing_in_it(store: ObjectStore, instruments: Any) -> None:
    lake = MarketDataLake(store=store)
    if instruments == []:
        with pytest.raises(InstrumentError, match=r"pass None for all"):
            lake.features(instruments, "technical_features", FIRST, END)
        return
    for timeframe in (None, "1h"):
        found = lake.features(instruments, "technical_features", FIRST, END, timeframe=timeframe)
        assert found.num_rows == 0
        assert found.schema.equals(FEATURES.schema)
        columns = ["close_time", "venue"]
        found = lake.features(
            instruments, "technical_features", FIRST, END, timeframe=timeframe, columns=columns, venue="binance"
        )
        assert (found.num_rows, found.column_names) == (0, columns)
    named = 0 if instruments in (None, "*") else 3
    assert lake.coverage("trades", FIRST, END, instruments=instruments).num_rows == named
    assert lake.available_instruments(FIRST).num_rows == 0
    assert list(lake.stream_ticks(BTC_USD, "trades", FIRST, END)) == []


def test_features(library: Library) -> None:
    for instruments, narrowed, wanted in QUESTIONS:
        found = library.lake.features(instruments, "technical_features", *ODD, **narrowed)
        expected = of_rows(library, FEATURES, wanted, ODD)
        assert plain(found).equals(plain(expected))
        keys = list(zip(*(found.column(c).to_pylist() for c in ("instrument_id", "timestamp")), strict=True))
        assert keys == sorted(keys)
        for timeframe in ("1h", "4h", "5m"):
            of_one = library.lake.features(
                instruments, "technical_features", *ODD, timeframe=timeframe, columns=["timestamp", "venue"], **narrowed
            )
            rows = [row for row in decoded(found).to_pylist() if row["timeframe"] == timeframe]
            assert of_one.column_names == ["timestamp", "venue"]
            assert of_one.column("timestamp").to_pylist() == [row["timestamp"] for row in rows]
    assert library.lake.features(None, "technical_features", *ODD, timeframe="4h").num_rows > 0


def test_a_stream_of_ticks_is_what_ticks_gives(library: Library) -> None:
    for window in (WHOLE, ODD, (date(2023, 12, 31), date(2024, 6, 1))):
        for instrument in (BTC_USD, OPTION.id):
            pieces = list(library.lake.stream_ticks(instrument, "trades", *window))
            assert decoded(pa.concat_tables(pieces)).equals(decoded(library.lake.ticks(instrument, "trades", *window)))
            few = list(library.lake.stream_ticks(instrument, "trades", *window, columns=["price"]))
            assert {tuple(piece.column_names) for piece in few} == {("price",)}


def test_ticks_of_windows_are_what_ticks_gives(library: Library) -> None:
    windows = [ODD, WHOLE, (date(2023, 12, 31), date(2024, 6, 1)), ODD, (date(2019, 1, 1), date(2019, 1, 2))]
    for instrument in (BTC_USD, OPTION.id):
        for columns in (None, ["price"], ["date", "id", "venue"]):
            found = library.lake.tick_windows(instrument, "trades", windows, columns=columns)
            asked = [library.lake.ticks(instrument, "trades", *window, columns=columns) for window in windows]
            assert [decoded(table) for table in found] == [decoded(table) for table in asked]
    assert library.lake.tick_windows(BTC_USD, "trades", []) == []
    with pytest.raises(WindowError, match=r"ends .* before it starts"):
        library.lake.tick_windows(BTC_USD, "trades", [ODD, (ODD[1], ODD[0])])


def test_a_long_stream_opens_a_bounded_number_of_files_at_a_time(local_store: ObjectStore) -> None:
    open_now: list[str] = []
    most = 0

    class Counting(Watched):
        def open(self, key: str) -> Any:
            pinned = super().open(key)
            return _Counted(pinned, open_now)

    class _Counted:
        def __init__(self, pinned: Any, now: list[str]) -> None:
            self._pinned, self._now = pinned, now

        def __getattr__(self, name: str) -> Any:
            return getattr(self._pinned, name)

        def __enter__(self) -> Any:
            nonlocal most
            self._now.append("")
            most = max(most, len(self._now))
            return self

        def __exit__(self, *exc: object) -> None:
            self._now.pop()
            self._pinned.__exit__(*exc)

    days = [FIRST + timedelta(days=n) for n in range(70)]
    write(local_store, TRADES, {(day, PERP): made_ticks([day], [PERP])[day, PERP].slice(0, 5) for day in days})
    lake = MarketDataLake(store=Counting(local_store))
    rows = sum(table.num_rows for table in lake.stream_ticks(PERP, "trades", FIRST, days[-1] + timedelta(days=2)))
    inside = lake.ticks(PERP, "trades", FIRST, days[-1] + timedelta(days=2)).num_rows
    assert rows == inside
    assert rows > 300
    # a window that is longer than the days whose files are open at a time, and one that begins in it
    windows = [(days[1], days[-1]), (days[20], days[40]), (days[0], days[0])]
    found = lake.tick_windows(PERP, "trades", windows)
    assert [table.to_pylist() for table in found] == [lake.ticks(PERP, "trades", *each).to_pylist() for each in windows]
    assert most == 33
    assert open_now == []


@pytest.mark.parametrize(
    ("ask", "error", "told"),
    [
        (
            lambda lake: lake.ticks(None, "trade", *WHOLE),
            DatasetError,
            r"'trade' is no dataset of ticks; there are trades,",
        ),
        (lambda lake: lake.ticks(None, "ohlcv_1m", *WHOLE), DatasetError, r"there are trades, book_snapshot_5"),
        (lambda lake: lake.candles(None, "2h", *WHOLE), DatasetError, r"'2h' is no timeframe; there are 1m, 5m"),
        (lambda lake: lake.features(None, "trades", *WHOLE), DatasetError, r"there are technical_features,"),
        (lambda lake: lake.features(None, "ml_signals", *WHOLE, timeframe="7m"), DatasetError, r"there are 1m"),
        (lambda lake: lake.coverage("nothing", *WHOLE), DatasetError, r"'nothing' is no dataset; there are trades"),
        (
            lambda lake: lake.candles(None, "1h", *WHOLE, columns=["open", "prize"]),
            DatasetError,
            r"ohlcv_1h has no column 'prize'; it has timestamp, close_time, open",
        ),
        (lambda lake: lake.candles(None, "1h", *WHOLE, columns="open"), DatasetError, r"no column 'o"),
        (lambda lake: lake.ticks("BTC-USDT", "trades", *WHOLE), InstrumentError, r"'BTC-USDT': expected venue:TYPE:"),
        (lambda lake: lake.ticks("a:Swap:BTC-USDT", "trades", *WHOLE), InstrumentError, r"expected one of SPOT_PAIR"),
        (lambda lake: lake.ticks([], "trades", *WHOLE), InstrumentError, r"pass None for all"),
        (
            lambda lake: lake.candles(None, "1h", *WHOLE, instrument_type="swap"),
            InstrumentError,
            r"'swap' is unknown; expected one of spot, perpetual, future, option",
        ),
        (lambda lake: lake.candles(None, "1h", LAST, FIRST), WindowError, r"ends .* before it starts"),
        (lambda lake: lake.candles(None, "1h", "08.08.2024", LAST), WindowError, r"'08.08.2024' is no time; write it"),
        (lambda lake: lake.candles(None, "1h", 20240808, LAST), WindowError, r"found 20240808"),
        (lambda lake: lake.available_instruments("2024-8-8"), WindowError, r"'2024-8-8' is no date"),
        (lambda lake: lake.available_instruments(datetime(2024, 8, 8, tzinfo=UTC)), WindowError, r"expected a date"),
        (lambda lake: lake.available_instruments(FIRST, instrument_type="x"), InstrumentError, r"expected one of spot"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_what_can(
    local_store: ObjectStore, ask: Callable[[MarketDataLake], object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        ask(MarketDataLake(store=local_store))


def test_an_address_of_no_known_kind_is_refused() -> None:
    with pytest.raises(SettingError):
        MarketDataLake("s3://bucket")


def test_coverage_tells_each_day_of_each_instrument(library: Library) -> None:
    found = decoded(library.lake.coverage("trades", FIRST, END + timedelta(days=1))).to_pylist()
    days = [*DAYS, END]
    assert [(row["date"], row["instrument_id"]) for row in found] == [
        (day, instrument.id) for day in days for instrument in sorted(INSTRUMENTS)
    ]
    for row in found:
        ticks = library.ticks.get((row["date"], Instrument.parse(row["instrument_id"])))
        if ticks is None:
            assert (row["rows"], row["bytes"], row["first_timestamp"], row["last_timestamp"]) == (0, 0, None, None)
            continue
        times = ticks.column("timestamp").to_pylist()
        assert (row["rows"], row["first_timestamp"], row["last_timestamp"]) == (len(times), min(times), max(times))
        key = TRADES.path(TRADES.layouts[0], row["date"], Instrument.parse(row["instrument_id"]))
        assert row["bytes"] == len(library.ground.get(key) or b"")
    assert sum(row["rows"] == 0 for row in found) == len(INSTRUMENTS) + 1


def test_coverage_of_some_instruments(library: Library) -> None:
    never = "okex:SPOT_PAIR:BTC-USDT"
    found = decoded(library.lake.coverage("ohlcv_1h", MIDDLE, LAST, instruments=[never, BTC_USD.id])).to_pylist()
    assert [(row["instrument_id"], row["rows"] > 0) for row in found] == [(BTC_USD.id, True), (never, False)]
    found = decoded(library.lake.coverage("ohlcv_1h", ODD[0], ODD[1], instruments="deribit:*")).to_pylist()
    assert {(row["date"], row["instrument_id"]) for row in found} == {
        (day, instrument.id) for day in DAYS for instrument in (PERP, FUTURE, OPTION)
    }
    assert library.lake.coverage("trades", FIRST, FIRST).num_rows == 0


def test_coverage_of_the_map(library: Library) -> None:
    found = library.lake.coverage("available_instruments", FIRST, END).to_pylist()
    assert [(row["date"], row["instrument_id"], row["rows"]) for row in found] == [
        (FIRST, None, 6),
        (MIDDLE, None, 6),
        (LAST, None, 5),
    ]


@pytest.mark.parametrize("observed", [False, True])
def test_the_map_of_a_day(library: Library, observed: bool) -> None:
    listing = ["date", *(column.name for column in LISTING_COLUMNS)]
    names = [*listing, *(column.name for column in OBSERVED_COLUMNS)] if observed else listing
    for narrowed, wanted in (
        ({}, everything),
        ({"venue": "Deribit"}, some(PERP, FUTURE, OPTION)),
        ({"instrument_type": "Perp"}, some(PERP, ETH)),
        ({"venue": "deribit", "instrument_type": "option"}, some(OPTION)),
        ({"venue": "okex"}, some()),
    ):
        for day in DAYS:
            found = library.lake.available_instruments(day.isoformat(), observed=observed, **narrowed)
            there = sorted(i.id for i in filter(wanted, INSTRUMENTS) if (day, i) != LEFT_OUT)
            assert found.column("instrument_id").to_pylist() == there
            assert found.column_names == names
            assert found.schema.equals(pa.schema([MAPS.schema.field(name) for name in names]))
            assert set(found.column("date").to_pylist()) <= {day}
    none = library.lake.available_instruments(date(2020, 1, 1), observed=observed)
    assert (none.num_rows, none.column_names) == (0, names)
    assert none.schema.equals(library.lake.available_instruments(FIRST, observed=observed).schema)


@pytest.mark.parametrize("observed", [False, True])
def test_the_universe_is_the_maps_of_its_days(library: Library, observed: bool) -> None:
    for instruments, narrowed, wanted in QUESTIONS:
        for start, end, days in (
            (FIRST, END, DAYS),
            (MIDDLE, LAST, [MIDDLE]),
            (as_moment(FIRST) + timedelta(hours=5), as_moment(MIDDLE) + timedelta(hours=1), [FIRST, MIDDLE]),
            (FIRST, FIRST, []),
            (date(2020, 1, 1), date(2020, 2, 1), []),
        ):
            found = library.lake.universe(start, end, instruments=instruments, observed=observed, **narrowed)
            maps = [library.lake.available_instruments(day, observed=observed) for day in days]
            there = [row for each in maps for row in each.to_pylist() if wanted(Instrument.parse(row["instrument_id"]))]
            assert found.to_pylist() == there
            assert found.schema.equals(library.lake.available_instruments(FIRST, observed=observed).schema)
    assert library.lake.universe(FIRST, END).num_rows == len(INSTRUMENTS) * len(DAYS) - 1


@pytest.mark.parametrize("field", ["close", "trade_count", "volume_unit", "timestamp"])
def test_a_panel_has_each_instruments_candles_under_its_name(library: Library, field: str) -> None:
    for instruments, narrowed, wanted in QUESTIONS:
        found = library.lake.panel(field, instruments, "1h", *ODD, **narrowed)
        rows = of_rows(library, HOURLY, wanted, ODD).select(["instrument_id", "timestamp"]).to_pylist()
        values = of_rows(library, HOURLY, wanted, ODD).column(field).to_pylist()
        stamps = sorted({row["timestamp"] for row in rows})
        told = {(row["instrument_id"], row["timestamp"]): value for row, value in zip(rows, values, strict=True)}
        assert found.column("timestamp").to_pylist() == stamps
        assert found.column_names == ["timestamp", *sorted({row["instrument_id"] for row in rows})]
        for name in found.column_names[1:]:
            assert found.column(name).to_pylist() == [told.get((name, at)) for at in stamps], name


def test_a_panel_of_features_is_of_one_timeframe(library: Library) -> None:
    found = library.lake.panel("close_time", "*", "4h", FIRST, END, dataset="technical_features")
    assert found.column_names == ["timestamp", *sorted([BTC_USD.id, PERP.id])]
    assert found.num_rows == 6 * len(DAYS)
    ends = [at + timedelta(hours=4) for at in found.column("timestamp").to_pylist()]
    assert found.column(PERP.id).to_pylist() == ends
    with pytest.raises(DatasetError, match="ohlcv_1h has no column 'nothing'"):
        library.lake.panel("nothing", "*", "1h", FIRST, END)


def test_the_map_tells_what_was_observed_only_when_asked(library: Library) -> None:
    row = library.lake.available_instruments(FIRST, observed=True).to_pylist()[0]
    assert row["observed_data_types"] == ["trades"]
    assert row["observed_timeframes"] == list(TIMEFRAMES)
    assert row["known_from"] == "ticks"
    assert not [name for name in library.lake.available_instruments(FIRST).column_names if "observed" in name]
    assert "ticks_lawful" not in library.lake.available_instruments(FIRST).column_names


def _broken_footer(content: bytes) -> bytes:
    return content[:-60] + b"\xff" * 50 + content[-10:]


def _other_columns(_: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"close": [1.0]}), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("damage", [_broken_footer, lambda content: content[:-1], _other_columns])
def test_a_broken_file_is_named(ground: Ground, damage: Callable[[bytes], bytes]) -> None:
    ingest(ground.store, made_ticks([FIRST], [BTC_USD]), [FIRST], only=["trades", "available_instruments"])
    write(ground.store, HOURLY, {(FIRST, BTC_USD): hourly(FIRST)})
    for name in ground.names():
        ground.write(name, damage(ground.get(name) or b""))
    lake = MarketDataLake(store=ground.again())
    for ask in (
        lambda: lake.candles(BTC_USD, "1h", FIRST, MIDDLE),
        lambda: lake.candles(None, "1h", FIRST, MIDDLE),
        lambda: lake.ticks(BTC_USD, "trades", FIRST, MIDDLE),
        lambda: lake.available_instruments(FIRST),
        lambda: lake.coverage("trades", FIRST, MIDDLE),
    ):
        with pytest.raises(
            LakeError, match=r"(\.parquet cannot be read as Parquet|the file has no column|does not have the columns)"
        ):
            ask()


def _flipped_bit(content: bytes) -> bytes:
    metadata = pq.ParquetFile(pa.BufferReader(content)).metadata
    leaf = next(n for n in range(metadata.num_columns) if metadata.schema.column(n).path in ("price", "close"))
    column = metadata.row_group(0).column(leaf)
    damaged = bytearray(content)
    damaged[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1] ^= 4
    return bytes(damaged)


def test_a_flipped_bit_is_an_error_not_a_wrong_number(ground: Ground) -> None:
    ingest(ground.store, made_ticks([FIRST], [BTC_USD]), [FIRST], only=["trades"])
    write(ground.store, HOURLY, {(FIRST, BTC_USD): hourly(FIRST)})
    for name in ground.names():
        if "checksums" not in name and "meta" not in name:
            ground.write(name, _flipped_bit(ground.get(name) or b""))
    lake = MarketDataLake(store=ground.again())
    for ask in (
        lambda: lake.candles(BTC_USD, "1h", FIRST, MIDDLE),
        lambda: lake.candles(None, "1h", FIRST, MIDDLE),
        lambda: lake.ticks(BTC_USD, "trades", FIRST, MIDDLE),
    ):
        with pytest.raises(LakeError, match=r"\.parquet cannot be read as Parquet: .*(CRC|checksum)"):
            ask()


def test_a_month_file_of_plain_text_is_read(local: Ground) -> None:
    write(local.store, HOURLY, {(FIRST, each): hourly(FIRST) for each in (BTC_USD, BTC_USDT)})
    key = HOURLY.path(HOURLY.month_layouts[0], FIRST, BTC_USD)
    table = pq.read_table(io.BytesIO(local.get(key) or b""))
    with io.BytesIO() as content:
        pq.write_table(decoded(table), content)
        local.write(key, content.getvalue())
    store = Watched(local.again())
    found = MarketDataLake(store=store).candles(None, "1h", FIRST, MIDDLE, venue="binance")
    assert store.named("open") == [key]
    assert found.num_rows == 6
    assert plain(found).equals(plain(table))


def test_reading_goes_on_while_a_month_file_is_replaced(ground: Ground) -> None:
    write(ground.store, HOURLY, {(FIRST, BTC_USD): hourly(FIRST), (FIRST, PERP): hourly(FIRST)})
    steps: Iterator[float] = iter([1.0, 2.0, 3.0])

    def replaced(verb: str, key: str) -> None:
        price = next(steps, None)
        if price is not None:
            write(ground.again(), HOURLY, {(FIRST, BTC_USD): hourly(FIRST, price=price), (FIRST, PERP): hourly(FIRST)})

    lake = MarketDataLake(store=Watched(ground.store, replaced))
    for expected in (1.0, 2.0, 3.0, 3.0):
        found = lake.candles(None, "1h", FIRST, MIDDLE)
        assert found.num_rows == 6
        assert found.column("open")[0].as_py() == expected


def test_days_of_many_row_groups_are_read_by_many_threads_at_once(ground: Ground) -> None:
    rows, day = 200_000, DAYS[0]
    stamps = pa.array(range(rows)).cast(pa.duration("us"))
    times = pc.add(pa.scalar(midnight(day), TRADES.own_schema.field("timestamp").type), stamps)
    table = trades([midnight(day)] * rows).set_column(0, TRADES.own_schema.field("timestamp"), times)
    wanted = [BTC_USD, BTC_USDT, ETH, PERP]
    write(ground.store, TRADES, {(day, instrument): table for instrument in wanted})
    lake = MarketDataLake(store=ground.store)
    for _ in range(5):
        found = lake.ticks(wanted, "trades", day, day + timedelta(days=1))
        assert found.num_rows == rows * len(wanted)
        for instrument, part in zip(sorted(wanted), range(len(wanted)), strict=True):
            mine = found.slice(part * rows, rows)
            assert mine.column("instrument_id")[0].as_py() == instrument.id
            assert mine.select(TRADES.own_schema.names).combine_chunks().equals(table.combine_chunks())
