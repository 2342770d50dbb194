"""What the writer promises, over both stores; what lies there is read by plain pyarrow, round store and reader."""

import random
from dataclasses import replace
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.lake import month_rows
from market_data_pipeline.lake.day_files import DayFile
from market_data_pipeline.lake.records import record_key
from market_data_pipeline.lake.repaired import repair
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.datasets import AVAILABILITY_ROOT, DATASETS, TIMEFRAMES, Dataset, Kind
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import midnight
from market_data_pipeline_tests.lake.made_up import (
    ALL,
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
    Look,
    Watched,
    contents,
    hourly,
    ingest,
    made_ticks,
    made_trades,
    plain,
    rows_of,
    trades,
    unreadable,
    write,
)
from market_data_pipeline_tests.store_fixtures import Ground

FOUR = (BTC_USD, BTC_USDT, PERP, OPTION)
KEPT = [dataset for dataset in DATASETS.values() if dataset.kind is Kind.CANDLES or dataset in (TRADES, MAPS)]
CANDLES = [f"ohlcv_{name}" for name in TIMEFRAMES]


def assert_same_but(before: Look, after: Look, day: date, instrument: Instrument) -> None:
    """Every layout of every dataset is what it was, but for one instrument's day."""
    for dataset in KEPT:
        for layout in dataset.layouts:
            tables = []
            for look in (before, after):
                rows = look.rows(dataset, layout.name)
                places = zip(rows.column("date").to_pylist(), rows.column("instrument_id").to_pylist(), strict=True)
                tables.append(rows.filter(pa.array([place != (day, instrument.id) for place in places])))
            assert tables[0].equals(tables[1]), f"{dataset.name} {layout.name}"


def test_every_layout_of_every_dataset_holds_the_rows_of_by_date(ground: Ground) -> None:
    ticks = made_ticks()
    reports = ingest(ground.store, ticks)
    look = Look(ground)
    look.assert_layouts_agree()
    for dataset in KEPT:
        for layout in dataset.layouts:
            found = set(look.rows(dataset, layout.name).column("instrument_id").to_pylist())
            assert found == {instrument.id for instrument in INSTRUMENTS}, f"{dataset.name} {layout.name}"
            assert look.rows(dataset, layout.name).num_rows == sum(f.span.rows for f in reports[dataset.name].files)
    given = pa.concat_tables(
        [
            table.append_column("instrument_id", pa.array([instrument.id] * table.num_rows))
            for (_, instrument), table in ticks.items()
        ]
    )
    names = [*TRADES.own_schema.names, "instrument_id"]
    assert plain(look.rows(TRADES).select(names)).equals(plain(given.select(names)))
    assert sum(c for c in look.rows(DATASETS["ohlcv_1d"]).column("trade_count").to_pylist()) == len(
        [
            time
            for table in ticks.values()
            for time in table.column("timestamp").to_pylist()
            if DAYS[0] <= time.date() <= DAYS[-1]
        ]
    )


def test_unchanged_input_writes_nothing(ground: Ground) -> None:
    ticks = made_ticks(instruments=FOUR)
    ingest(ground.store, ticks, only=SOME)
    before, written = contents(ground), ground.store.bytes_written
    watched = Watched(ground.store)
    reports = ingest(watched, ticks, only=SOME)
    assert not watched.named("put")
    assert not watched.named("delete")
    assert ground.store.bytes_written == written
    assert contents(ground) == before
    for report in reports.values():
        assert report.bytes_written == 0
        assert not [file for file in report.files if file.changed]
        assert not [month for month in report.months if month.changed]
        assert all(month.rows and month.size for month in report.months)


def test_a_run_under_a_filter_finds_nothing_to_write_either(ground: Ground) -> None:
    # the map is put together in another way under a filter: its bytes must not tell
    ticks = made_ticks(instruments=FOUR)
    ingest(ground.store, ticks, only=SOME)
    before = contents(ground)
    for patterns in ("deribit:*", "binance:SPOT_PAIR:BTC-USD"):
        reports = ingest(ground.store, ticks, selection=Selection.of(patterns), only=SOME)
        assert sum(report.bytes_written for report in reports.values()) == 0
    assert contents(ground) == before


def test_an_instrument_that_the_source_no_longer_has_goes_from_every_layout(ground: Ground) -> None:
    ticks = made_ticks(instruments=FOUR)
    ingest(ground.store, ticks)
    before = Look(ground)
    del ticks[DAYS[1], BTC_USDT]
    # neighbours' ticks that reach over midnight would make candles: this one has none
    for day in (DAYS[0], DAYS[2]):
        ticks[day, BTC_USDT] = trades([midnight(day) + timedelta(hours=hour) for hour in range(5)])
    ingest(ground.store, ticks, (DAYS[0], DAYS[2]))
    reports = ingest(ground.store, ticks, (DAYS[1],))
    look = Look(ground)
    look.assert_layouts_agree()
    for dataset in KEPT:
        for layout in dataset.layouts:
            assert before.days(dataset, BTC_USDT, layout.name) == set(DAYS), f"{dataset.name} {layout.name}"
            assert look.days(dataset, BTC_USDT, layout.name) == {DAYS[0], DAYS[2]}, f"{dataset.name} {layout.name}"
            for other in (BTC_USD, PERP, OPTION):
                assert look.days(dataset, other, layout.name) == set(DAYS), f"{dataset.name} {layout.name} {other}"
    for name in ("trades", *CANDLES):
        assert reports[name].removed == ((DAYS[1], BTC_USDT),)
        assert reports[name].failures == ()
    assert [month.changed for month in reports["ohlcv_1h"].months if "BTC-USDT" in month.key] == [True]


def test_an_instrument_whose_input_fails_keeps_what_it_had_and_is_reported(ground: Ground) -> None:
    ticks = made_ticks(instruments=FOUR)
    ingest(ground.store, ticks)
    before = contents(ground)
    reports = ingest(ground.store, ticks, (DAYS[1],), failing=[unreadable(DAYS[1], BTC_USDT)])
    assert contents(ground) == before
    (failure,) = reports["trades"].failures
    assert (failure.day, failure.instrument, failure.label) == (DAYS[1], BTC_USDT, BTC_USDT.id)
    assert failure.message == "torn.csv.gz: line 7: torn"
    assert reports["trades"].removed == ()
    assert [file.instrument for file in reports["trades"].files] == [BTC_USD, OPTION, PERP]


def test_what_could_not_be_told_apart_removes_nothing_on_its_day(ground: Ground) -> None:
    ticks = made_ticks(instruments=FOUR)
    ingest(ground.store, ticks, only=SOME)
    fewer = {place: table for place, table in ticks.items() if place[1] != BTC_USDT}
    rows = [rows_of(day, instrument, table) for (day, instrument), table in fewer.items()]
    report = write_days(ground.store, TRADES, DAYS, ALL, [*rows, unreadable(DAYS[1], None, "XYZ.csv.gz")])
    assert [(failure.instrument, failure.label) for failure in report.failures] == [(None, "XYZ.csv.gz")]
    assert report.removed == ((DAYS[0], BTC_USDT), (DAYS[2], BTC_USDT))
    look = Look(ground)
    look.assert_layouts_agree([TRADES])
    assert look.days(TRADES, BTC_USDT) == {DAYS[1]}


def test_rows_without_an_instrument_are_refused(local_store: ObjectStore) -> None:
    many = made_trades(DAYS[0], BTC_USD)
    dataset = replace(TRADES, row_group_rows=4)
    for table in (many, many.slice(0, 1)):
        with pytest.raises(LakeError, match=r"rows from here belong to no instrument"):
            write_days(local_store, dataset, [DAYS[0]], ALL, [rows_of(DAYS[0], None, table, origin="here")])


def test_a_file_of_all_instruments_without_rows_is_a_day_that_was_read(local_store: ObjectStore) -> None:
    nothing = made_trades(DAYS[0], BTC_USD).slice(0, 0)
    report = write_days(local_store, TRADES, [DAYS[0]], ALL, [rows_of(DAYS[0], None, nothing, origin="here")])
    assert (report.landed, report.failures, report.months) == ((DAYS[0],), (), ())
    assert list(local_store.list("market-data-tick/")) == []


def test_a_filter_leaves_the_others_as_they_are(ground: Ground) -> None:
    ticks = made_ticks(instruments=FOUR)
    ingest(ground.store, ticks)
    before = Look(ground)
    # the source shows less and other things: only what was asked for may change
    changed = {(DAYS[1], BTC_USD): made_trades(DAYS[1], BTC_USD, count=12, seed=7)}
    asked = Selection.of("binance:*:BTC-USD")
    reports = ingest(ground.store, changed, (DAYS[1],), selection=asked)
    after = Look(ground)
    after.assert_layouts_agree()
    assert_same_but(before, after, DAYS[1], BTC_USD)
    assert not after.rows(TRADES).equals(before.rows(TRADES))
    assert after.days(TRADES, BTC_USD, "by_type") == set(DAYS)
    # and it goes from everywhere, the sibling stays, when the filtered source has nothing of it
    reports = ingest(ground.store, {}, DAYS, selection=asked)
    after = Look(ground)
    after.assert_layouts_agree()
    assert reports["ohlcv_5m"].removed == tuple((day, BTC_USD) for day in DAYS)
    for dataset in KEPT:
        for layout in dataset.layouts:
            assert after.days(dataset, BTC_USD, layout.name) == set()
            assert after.days(dataset, BTC_USDT, layout.name) == set(DAYS)
    assert not [name for name in ground.names() if "SPOT_PAIR:BTC-USD/" in name or "SPOT_PAIR:BTC-USD.parquet" in name]


PROMISED = ("by_date", "by_venue", "by_instrument_id", "by_timeframe")


def counts(ground: Ground) -> dict[str, int]:
    """How many objects lie in each layout that candles have in any case."""
    return {layout: sum(f"/daily/{layout}/" in name for name in ground.names()) for layout in PROMISED}


def test_a_month_file_that_becomes_empty_is_deleted(ground: Ground) -> None:
    march = date(2024, 3, 1)
    write(ground.store, HOURLY, {(march, BTC_USD): hourly(march), (march, PERP): hourly(march)})
    assert counts(ground) == {"by_date": 2, "by_venue": 2, "by_instrument_id": 2, "by_timeframe": 1}
    report = write(ground.store, HOURLY, {(march, PERP): hourly(march)})
    changed = {(month.layout, month.rows, month.size > 0) for month in report.months if month.changed}
    assert {each for each in changed if each[0] in PROMISED} == {
        ("by_venue", 0, False),
        ("by_instrument_id", 0, False),
        ("by_timeframe", 3, True),
    }
    Look(ground).assert_layouts_agree([HOURLY])
    assert counts(ground) == dict.fromkeys(PROMISED, 1)
    report = write(ground.store, HOURLY, {}, days=[march])
    assert all(month.rows == month.size == 0 and month.changed for month in report.months)
    assert ground.names() == set()


def test_a_map_that_becomes_empty_goes_from_every_layout(ground: Ground) -> None:
    ticks = made_ticks(instruments=(BTC_USD, PERP))
    ingest(ground.store, ticks, only=SOME)
    gone = DAYS[1]
    left = {(day, instrument): table for (day, instrument), table in ticks.items() if day != gone}
    ingest(ground.store, left, only=SOME)
    look = Look(ground)
    look.assert_layouts_agree()
    for layout in MAPS.layouts:
        assert look.days(MAPS, PERP, layout.name) == {DAYS[0], DAYS[2]}, layout.name


def test_a_group_that_leaves_the_map_leaves_its_month_file(ground: Ground) -> None:
    ticks = made_ticks(DAYS[:2], (BTC_USD, PERP))
    ingest(ground.store, ticks, DAYS[:2], only=SOME)
    for day in DAYS[:2]:
        del ticks[day, PERP]
        ingest(ground.store, ticks, [day], only=SOME)
        Look(ground).assert_layouts_agree([MAPS])
    assert not [name for name in ground.names() if name.startswith(AVAILABILITY_ROOT) and "deribit" in name]


def test_siblings_never_mix(ground: Ground) -> None:
    day = DAYS[0]
    both = {(day, BTC_USD): hourly(day, price=1.0), (day, BTC_USDT): hourly(day, price=900.0)}
    write(ground.store, HOURLY, both)
    write(ground.store, HOURLY, {(day, BTC_USD): hourly(day, price=2.0)}, selection=Selection.of(BTC_USD))
    look = Look(ground)
    look.assert_layouts_agree([HOURLY])
    for layout in HOURLY.layouts:
        rows = look.rows(HOURLY, layout.name)
        seen = set(zip(rows.column("instrument_id").to_pylist(), rows.column("open").to_pylist(), strict=True))
        assert seen == {(BTC_USD.id, 2.0 + n) for n in range(3)} | {(BTC_USDT.id, 900.0 + n) for n in range(3)}


def test_a_day_of_many_instruments_is_cut_between_them_in_month_files(ground: Ground, monkeypatch) -> None:
    monkeypatch.setattr(month_rows, "ROW_GROUP_ROWS", 7)  # of three rows each: two go together
    day, instruments = DAYS[0], [Instrument.spot("binance", f"A{number}", "USDT") for number in range(5)]
    write(ground.store, HOURLY, {(day, each): hourly(day, price=1.0 + at) for at, each in enumerate(instruments)})
    Look(ground).assert_layouts_agree([HOURLY])
    content = ground.get(HOURLY.path(HOURLY.layout("by_venue"), day, instruments[0]))
    assert content is not None
    metadata = pq.ParquetFile(pa.BufferReader(content)).metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [6, 6, 3]


@pytest.mark.parametrize("dataset", [TRADES, HOURLY, MAPS], ids=lambda dataset: dataset.name)
def test_a_wrong_schema_is_refused(local_store: ObjectStore, dataset: Dataset) -> None:
    wrong = dataset.own_schema.empty_table().rename_columns(["when", *dataset.own_schema.names[1:]])
    instrument = BTC_USD if dataset.per_instrument else None
    row = pa.Table.from_batches([pa.RecordBatch.from_pylist([{}], wrong.schema)])
    with pytest.raises(LakeError, match=r"do not have the declared columns:\n  found    when .*\n  expected "):
        write(local_store, dataset, {(DAYS[0], instrument): row})
    assert list(local_store.list("market-data-tick/")) == []


@pytest.mark.parametrize(("dataset", "instrument"), [(TRADES, BTC_USD), (MAPS, None)], ids=lambda value: str(value)[:9])
def test_rows_that_come_twice_are_refused(
    local_store: ObjectStore, dataset: Dataset, instrument: Instrument | None
) -> None:
    twice = [rows_of(DAYS[0], instrument, dataset.own_schema.empty_table()) for _ in range(2)]
    with pytest.raises(LakeError, match=r"on 2024-02-28 came twice"):
        write_days(local_store, dataset, [DAYS[0]], ALL, twice)


def test_several_inputs_that_cannot_be_told_apart_are_no_doublets(local_store: ObjectStore) -> None:
    rows = [unreadable(DAYS[0], None, name) for name in ("b.csv", "a.csv")]
    report = write_days(local_store, TRADES, [DAYS[0]], ALL, rows)
    assert [failure.label for failure in report.failures] == ["a.csv", "b.csv"]


def test_no_rows_no_file(ground: Ground) -> None:
    report = write(ground.store, TRADES, {(DAYS[0], BTC_USD): TRADES.own_schema.empty_table()})
    assert ground.names() == set()
    assert [(file.span.rows, file.size, file.changed) for file in report.files] == [(0, 0, False)]


def test_the_report_says_what_was_written(ground: Ground) -> None:
    told: list[DayFile] = []
    places = {(day, instrument): made_trades(day, instrument) for day in DAYS[:2] for instrument in (PERP, BTC_USD)}
    rows = [rows_of(day, instrument, table) for (day, instrument), table in places.items()]
    report = write_days(ground.store, TRADES, DAYS[:2], ALL, rows, progress=told.append)  # type: ignore[arg-type]
    assert [(f.day, f.instrument) for f in report.files] == [(d, i) for d in DAYS[:2] for i in (BTC_USD, PERP)]
    assert sorted(told, key=str) == sorted(report.files, key=str)
    record = len(ground.get(record_key(TRADES, DAYS[0])) or b"")
    assert report.bytes_written == sum(file.size for file in report.files) + record  # once, whatever the layouts
    for file in report.files:
        times = sorted(places[file.day, file.instrument].column("timestamp").to_pylist())
        assert (file.span.rows, file.span.first, file.span.last) == (len(times), times[0], times[-1])
        sizes = {len(ground.get(TRADES.path(layout, file.day, file.instrument)) or b"") for layout in TRADES.layouts}
        assert sizes == {file.size}


def test_a_damaged_layout_is_mended_by_the_next_run(ground: Ground) -> None:
    tables = {(DAYS[0], BTC_USD): made_trades(DAYS[0], BTC_USD)}
    write(ground.store, TRADES, tables)
    whole = contents(ground)
    for layout in TRADES.layouts:
        key = TRADES.path(layout, DAYS[0], BTC_USD)
        ground.write(key, b"PAR1 not what it was PAR1")
        (file,) = write(ground.again(), TRADES, tables).files
        assert file.changed
        assert contents(ground) == whole, layout.name


@pytest.mark.parametrize("layout", HOURLY.month_layouts, ids=lambda layout: layout.name)
@pytest.mark.parametrize("damage", ["deleted", "no footer", "torn footer"])
def test_a_month_file_that_is_damaged_says_so_or_is_made_anew(ground: Ground, layout, damage: str) -> None:
    tables = {(DAYS[0], BTC_USD): hourly(DAYS[0])}
    write(ground.store, HOURLY, tables)
    whole = contents(ground)
    key = HOURLY.path(layout, DAYS[0], BTC_USD)
    content = whole[key]
    if damage == "no footer":
        ground.write(key, content[:-1])
    elif damage == "torn footer":
        ground.write(key, content[:-60] + b"\xff" * 40 + content[-20:])
    if damage != "deleted":
        with pytest.raises(LakeError, match=r"cannot be read as Parquet.*; `market-data repair` puts it together anew"):
            write(ground.again(), HOURLY, tables)
    ground.store.delete(key)
    write(ground.again(), HOURLY, tables)
    assert contents(ground) == whole


def test_a_damaged_day_file_of_another_instrument_is_named_with_what_to_do(ground: Ground) -> None:
    write(ground.store, HOURLY, {(DAYS[0], BTC_USD): hourly(DAYS[0]), (DAYS[0], BTC_USDT): hourly(DAYS[0])})
    key = HOURLY.path(HOURLY.layouts[0], DAYS[0], BTC_USDT)
    content = ground.get(key) or b""
    ground.write(key, content[:20] + bytes([content[20] ^ 1]) + content[21:])
    with pytest.raises(LakeError, match=rf"{key} cannot be read as Parquet: .*; `market-data repair 2024-02-28 2024-"):
        write(ground.again(), HOURLY, {(DAYS[0], BTC_USD): hourly(DAYS[0], 5)}, selection=Selection.of(BTC_USD))
    assert all(each.mended for each in repair(ground.again(), [HOURLY], DAYS[0], DAYS[0], pause=0))
    assert ground.get(key) == content
    Look(ground).assert_layouts_agree([HOURLY])


def test_candles_change_when_the_neighbours_ticks_arrive(ground: Ground) -> None:
    first, middle, last = DAYS
    noon = timedelta(hours=12)

    def at(*times: tuple[date, timedelta]) -> pa.Table:
        return trades([midnight(day) + offset for day, offset in times])

    seconds = timedelta(seconds=1)
    ticks = {
        (first, BTC_USD): at((first, noon), (middle, 2 * seconds)),
        (middle, BTC_USD): at((first, timedelta(hours=24) - seconds), (middle, noon), (last, seconds)),
        (last, BTC_USD): at((middle, timedelta(hours=24) - seconds), (last, noon)),
    }

    def counts(day: date) -> list[tuple[str, int]]:
        rows = Look(ground).rows(DATASETS["ohlcv_1h"])
        return [
            (time.strftime("%H"), count)
            for at, time, count in zip(
                *(rows.column(c).to_pylist() for c in ("date", "timestamp", "trade_count")), strict=True
            )
            if at == day
        ]

    ingest(ground.store, ticks, [middle])
    assert counts(middle) == [("12", 1)]
    ingest(ground.store, ticks, [first])
    assert counts(first) == [("12", 1), ("23", 1)]
    assert counts(middle) == [("12", 1)]
    ingest(ground.store, ticks, [middle])
    assert counts(middle) == [("00", 1), ("12", 1)]
    ingest(ground.store, ticks, [last])
    reports = ingest(ground.store, ticks, [middle])
    assert counts(middle) == [("00", 1), ("12", 1), ("23", 1)]
    assert counts(last) == [("00", 1), ("12", 1)]
    assert not reports["trades"].bytes_written
    assert reports["ohlcv_1m"].bytes_written
    Look(ground).assert_layouts_agree()


def test_a_month_at_once_equals_its_days_in_any_order(ground: Ground) -> None:
    length = 31 if ground.kind == "local" else 7
    january = [date(2024, 1, 1) + timedelta(days=n) for n in range(length)]
    ticks = {(day, FUTURE): made_trades(day, FUTURE, count=8) for day in january}
    made = [TRADES, DATASETS["ohlcv_1m"]]

    def run(*days: date) -> None:
        ingest(ground.store, ticks, days, only=[dataset.name for dataset in made])

    run(*january)
    at_once, rows_at_once = contents(ground), Look(ground)
    for name in at_once:
        ground.store.delete(name)
    assert not ground.names()

    one_by_one = random.Random(5).sample(january, len(january))
    for day in one_by_one:
        run(day)
    behind = [
        day
        for place, day in enumerate(one_by_one)
        if {day - timedelta(days=1), day + timedelta(days=1)} & set(one_by_one[place + 1 :])
    ]
    assert 0 < len(behind) < length
    run(*behind)
    after, rows_after = contents(ground), Look(ground)
    assert after.keys() == at_once.keys()
    day_files = [name for name in after if "/day-" in name]
    assert len(day_files) == length * (3 + 1)
    assert [name for name in day_files if after[name] != at_once[name]] == []
    for dataset in made:
        for layout in dataset.layouts:
            assert rows_after.rows(dataset, layout.name).equals(rows_at_once.rows(dataset, layout.name))
