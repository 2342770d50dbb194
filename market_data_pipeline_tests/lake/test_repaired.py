"""Any mixture of damage to what is derived is mended; and neither verify nor repair disturbs the runs beside it."""

import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_data_pipeline.lake import encoding
from market_data_pipeline.lake.month_rows import digest_of_files
from market_data_pipeline.lake.records import record_key
from market_data_pipeline.lake.repaired import Repaired, repair
from market_data_pipeline.lake.splicing import MONTH_DIGESTS
from market_data_pipeline.lake.verified import verify
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline_tests.lake.made_up import (
    BTC_USD,
    DAYS,
    FUTURE,
    HOURLY,
    MAPS,
    PERP,
    TRADES,
    Look,
    contents,
    hourly,
    ingest,
    made_ticks,
    made_trades,
    write,
)
from market_data_pipeline_tests.lake.test_verified import rewritten, with_another_price
from market_data_pipeline_tests.store_fixtures import Ground, local_ground

ASKED = [TRADES, HOURLY, MAPS]
DAY = DAYS[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A lake in order."""
    ground = local_ground(tmp_path_factory.mktemp("whole") / "lake")
    ingest(ground.store, made_ticks(DAYS[:2], (BTC_USD, PERP)), DAYS[:2], only=("trades", "available_instruments"))
    write(ground.store, HOURLY, {(day, each): hourly(day) for day in DAYS[:2] for each in (BTC_USD, PERP)})
    return ground


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_damage_to_what_is_derived_is_mended(
    whole: Ground, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lake = local_ground(tmp_path_factory.mktemp("lake"))
    before = contents(whole)
    for name, content in before.items():
        lake.write(name, content or b"")
    derived = [name for name in before if "/by_date/" not in name]
    for name in data.draw(st.lists(st.sampled_from(derived), min_size=1, max_size=6, unique=True)):
        how = data.draw(st.sampled_from(["gone", "short", "flipped", "another"]))
        content = before[name] or b""
        if how == "gone":
            lake.store.delete(name)
        elif how == "short":
            lake.write(name, content[: data.draw(st.integers(0, len(content) - 1))])
        elif how == "flipped":
            at = data.draw(st.integers(0, len(content) - 1))
            lake.write(name, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        else:
            lake.write(name, before[data.draw(st.sampled_from(sorted(before)))] or b"")
    left = [str(each.difference) for each in repair(lake.again(), ASKED, DAYS[0], DAYS[1], pause=0) if not each.mended]
    assert left == []
    assert list(verify(lake.again(), ASKED, DAYS[0], DAYS[1], full=True, pause=0)) == []
    Look(lake).assert_layouts_agree(ASKED)
    assert list(repair(lake.again(), ASKED, DAYS[0], DAYS[1], pause=0)) == []


@pytest.mark.parametrize("what", ["verify", "repair"])
def test_beside_runs_that_write_nothing_is_lost_and_no_difference_stays(ground: Ground, what: str) -> None:
    days = [DAY - timedelta(days=number) for number in range(3)]
    done = threading.Event()

    def run(instrument) -> None:
        store = ground.again()
        for seed in range(3):
            for day in days:
                only = Selection.of(instrument)
                table = {(day, instrument): hourly(day, price=100.0 + seed)}
                write(store, HOURLY, table, selection=only, threads=1)
                ticks = {(day, instrument): made_trades(day, instrument, count=8 + seed, seed=seed)}
                write(store, TRADES, ticks, selection=only, threads=1)

    def beside() -> None:
        while not done.is_set():
            if what == "verify":
                list(verify(ground.again(), ASKED, days[-1], DAY, full=True, pause=0))
            else:
                list(repair(ground.again(), ASKED, days[-1], DAY, pause=0))

    with ThreadPoolExecutor(4) as pool:
        looking = pool.submit(beside)
        try:
            list(pool.map(run, (BTC_USD, PERP, FUTURE)))
        finally:
            done.set()
        looking.result()
    assert list(verify(ground.again(), ASKED, days[-1], DAY, full=True, pause=0)) == []
    look = Look(ground)
    look.assert_layouts_agree([TRADES, HOURLY])
    assert look.rows(HOURLY).column("open").to_pylist() == [102.0, 103.0, 104.0] * 9
    assert look.rows(TRADES).num_rows == 10 * 9


def test_a_file_without_a_record_is_brought_back_from_a_copy(ground: Ground) -> None:
    write(ground.store, TRADES, {(DAY, each): made_trades(DAY, each) for each in (BTC_USD, PERP)})
    before = contents(ground)
    ground.store.delete(record_key(TRADES, DAY))
    ground.store.delete(TRADES.path(TRADES.layouts[0], DAY, PERP))
    assert all(each.mended for each in repair(ground.again(), [TRADES], DAY, DAY, pause=0))
    assert contents(ground) == before


def month_rows(ground: Ground, instrument: Instrument = PERP, day: date = DAY) -> dict[str, int]:
    """How many rows each month layout has of an instrument's day."""
    look = Look(ground)
    tables = {layout.name: look.rows(HOURLY, layout.name) for layout in HOURLY.month_layouts}
    return {
        name: sum(row == {"date": day, "instrument_id": instrument.id} for row in table.to_pylist())
        for name, whole in tables.items()
        for table in [whole.select(["date", "instrument_id"])]
    }


def candles(ground: Ground) -> None:
    write(ground.store, HOURLY, {(day, each): hourly(day) for day in DAYS[:2] for each in (BTC_USD, PERP)})


def mend(ground: Ground, day: date = DAY, dataset: Dataset = HOURLY) -> list[Repaired]:
    return list(repair(ground.again(), [dataset], day, day, pause=0))


BY_DATE = HOURLY.path(HOURLY.layouts[0], DAY, PERP)


@pytest.mark.parametrize("record", ["of another encoder", "gone"])
@pytest.mark.parametrize("asked", DAYS[:2])
def test_rows_that_only_month_files_have_come_back(
    ground: Ground, record: str, asked: date, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if record == "of another encoder":
            patch.setattr(encoding, "parquet_writer", lambda file, schema, _: pq.ParquetWriter(file, schema))
        candles(ground)
    rows = Look(ground).rows(HOURLY)
    ground.store.delete(BY_DATE)
    if record == "gone":
        ground.store.delete(record_key(HOURLY, DAY))
    if asked != DAY:  # another day is asked for, whose month files have to be made anew as well
        for layout in HOURLY.month_layouts:
            key = HOURLY.path(layout, DAY, PERP)
            ground.write(key, rewritten(with_another_price_at(asked))(ground.get(key) or b""))
    assert all(each.mended for each in mend(ground, asked))
    Look(ground).assert_layouts_agree([HOURLY])
    assert Look(ground).rows(HOURLY).equals(rows)
    assert list(verify(ground.again(), [HOURLY], DAYS[0], DAYS[1], full=True, pause=0)) == []


def test_rows_without_the_recorded_checksum_come_back_with_a_word(ground: Ground) -> None:
    candles(ground)
    recorded = ground.get(record_key(HOURLY, DAY)) or b""
    write(ground.store, HOURLY, {(DAY, PERP): hourly(DAY, price=7.0)}, selection=Selection.of(PERP))
    ground.store.delete(BY_DATE)
    ground.write(record_key(HOURLY, DAY), recorded)  # of another version than the month files
    (told,) = [each for each in mend(ground) if each.difference.key == BY_DATE]
    assert told.mended
    assert "came back without the checksum that was recorded" in told.difference.found
    assert told.difference.remedy == "they may be of another version: materializing the day again makes sure"
    Look(ground).assert_layouts_agree([HOURLY])
    # with the recorded checksum there is nothing to say
    ground.store.delete(BY_DATE)
    (told,) = [each for each in mend(ground) if each.difference.key == BY_DATE]
    assert (told.mended, told.difference.found) == (True, "nothing lies here")


def test_a_loss_can_be_let_go_of(ground: Ground) -> None:
    write(ground.store, TRADES, {(DAY, each): made_trades(DAY, each) for each in (BTC_USD, PERP)})
    before = contents(ground)
    for layout in TRADES.day_layouts:
        ground.store.delete(TRADES.path(layout, DAY, PERP))
    assert [each.mended for each in mend(ground, dataset=TRADES)] == [False]
    key = TRADES.path(TRADES.layouts[0], DAY, PERP)
    (told,) = repair(ground.again(), [TRADES], DAY, DAY, forget=True, pause=0)
    assert (told.mended, told.difference.key) == (True, key)
    assert told.difference.remedy == "it is forgotten: out of the record and the month files"
    look = Look(ground)
    look.assert_layouts_agree([TRADES])
    assert look.days(TRADES, PERP) == set()
    assert mend(ground, dataset=TRADES) == []
    write(ground.again(), TRADES, {(DAY, PERP): made_trades(DAY, PERP)}, selection=Selection.of(PERP))
    assert contents(ground) == before


def test_what_can_be_restored_is_never_let_go_of(ground: Ground) -> None:
    candles(ground)
    before = contents(ground)
    ground.store.delete(BY_DATE)
    assert all(each.mended for each in repair(ground.again(), [HOURLY], DAY, DAY, forget=True, pause=0))
    assert contents(ground) == before


def test_rows_that_month_files_do_not_agree_on_are_let_go_of_when_asked(ground: Ground) -> None:
    candles(ground)
    ground.store.delete(BY_DATE)
    for layout in HOURLY.month_layouts:
        key = HOURLY.path(layout, DAY, PERP)
        doubled = rewritten(lambda tables: [tables[0].slice(len(tables[0]) - 2), *tables])
        ground.write(key, doubled(ground.get(key) or b""))
    done = list(repair(ground.again(), [HOURLY], DAY, DAY, forget=True, pause=0))
    assert all(each.mended for each in done)
    assert BY_DATE in {each.difference.key for each in done}
    look = Look(ground)
    look.assert_layouts_agree([HOURLY])
    assert look.days(HOURLY, PERP) == {DAYS[1]}
    assert look.days(HOURLY, BTC_USD) == set(DAYS[:2])


@pytest.mark.parametrize("what", ["days in one row group", "no statistics", "no ids"])
def test_a_month_file_of_another_tool_is_left_alone_where_nobody_can_tell_what_it_holds(
    ground: Ground, what: str
) -> None:
    candles(ground)
    key = HOURLY.path(HOURLY.month_layouts[0], DAY, PERP)
    table = pq.read_table(io.BytesIO(ground.get(key) or b""))
    with io.BytesIO() as content:
        pq.write_table(
            table.drop_columns(["instrument_id"]) if what == "no ids" else table,
            content,
            row_group_size=table.num_rows if what == "days in one row group" else 3,
            write_statistics=what != "no statistics",
        )
        foreign = content.getvalue()
    ground.write(key, foreign)
    (left,) = mend(ground)
    assert not left.mended
    assert left.difference.key == key
    assert "this lake did not put it together, so it was left as it is: move it away" in left.difference.remedy
    assert ground.get(key) == foreign
    ground.store.delete(key)
    assert all(each.mended for each in mend(ground))
    Look(ground).assert_layouts_agree([HOURLY])


def with_another_price_at(day: date) -> Callable[[list[pa.Table]], list[pa.Table]]:
    def change(tables: list[pa.Table]) -> list[pa.Table]:
        return [with_another_price([table])[0] if table.column("date")[0].as_py() == day else table for table in tables]

    return change


@pytest.mark.parametrize("record", [True, False], ids=["recorded", "not recorded"])
def test_rows_that_month_files_do_not_agree_on_are_left_alone_and_told(local: Ground, record: bool) -> None:
    candles(local)
    wanted = contents(local)
    local.store.delete(BY_DATE)
    for number, layout in enumerate(HOURLY.month_layouts):
        key = HOURLY.path(layout, DAY, PERP)
        # without a record two agree and one does not; with one none has as many rows as recorded
        if record or not number:
            local.write(
                key, rewritten(lambda tables: [tables[0].slice(len(tables[0]) - 2), *tables])(local.get(key) or b"")
            )
    if not record:
        local.store.delete(record_key(HOURLY, DAY))
    before = month_rows(local)
    left = [each.difference for each in mend(local) if not each.mended]
    assert month_rows(local) == before
    assert {each.layout for each in left} == {layout.name for layout in HOURLY.month_layouts} | (
        {"by_date"} if record else set()
    )
    told = [each.remedy for each in left if each.layout != "by_date"]
    assert all(
        "it alone has rows of deribit:Perp:BTC-USD on 2024-02-28, so it was left as it is" in text for text in told
    )
    assert [each.difference for each in mend(local) if not each.mended] == left
    write(local.again(), HOURLY, {(DAY, PERP): hourly(DAY)}, selection=Selection.of(PERP))
    assert all(each.mended for each in mend(local))
    assert contents(local) == wanted


def test_a_damaged_file_that_can_be_read_is_not_replaced_by_other_rows(local: Ground) -> None:
    """It may be a newer one, of another tool."""
    candles(local)
    sink = io.BytesIO()
    pq.write_table(hourly(DAY, price=7.0), sink)
    local.write(BY_DATE, sink.getvalue())
    local.store.delete(record_key(HOURLY, DAY))
    mend(local)
    assert local.get(BY_DATE) == sink.getvalue()


@pytest.mark.parametrize("column", ["rows", "bytes", "crc32c"])
@pytest.mark.parametrize("digests", ["as they were", "of what it says"])
def test_a_record_that_says_something_else_is_mended(local: Ground, column: str, digests: str) -> None:
    candles(local)
    wanted = contents(local)
    key = record_key(HOURLY, DAY)
    whole = pq.ParquetFile(io.BytesIO(local.get(key) or b""))
    footer = whole.metadata.metadata[MONTH_DIGESTS]
    said = whole.read()
    said = said.set_column(said.schema.get_field_index(column), said.schema.field(column), pa.array([1] * len(said)))
    days = {day: said.filter(pc.equal(said["date"], pa.scalar(day))) for day in DAYS[:2]}
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, said.schema) as writer:
        for table in days.values():
            writer.write_table(table)
        if digests == "of what it says":
            told = {
                str(day): digest_of_files((row["instrument_id"], row["crc32c"]) for row in table.to_pylist())
                for day, table in days.items()
            }
            footer = json.dumps(told).encode()
        writer.add_key_value_metadata({MONTH_DIGESTS: footer})
    local.write(key, sink.getvalue())
    assert list(verify(local.again(), [HOURLY], DAY, DAYS[1], full=True, pause=0)) != []
    assert all(each.mended for each in repair(local.again(), [HOURLY], DAY, DAYS[1], pause=0))
    assert contents(local) == wanted


def test_a_record_of_another_dataset_is_made_anew(local: Ground) -> None:
    ingest(local.store, made_ticks(DAYS[:1], (BTC_USD, PERP)), DAYS[:1], only=("trades", "available_instruments"))
    before = contents(local)
    local.write(record_key(TRADES, DAY), before[record_key(MAPS, DAY)] or b"")
    with pytest.raises(LakeError, match=r"is no record of trades; `market-data repair` makes it anew"):
        write(local.again(), TRADES, {(DAY, PERP): made_trades(DAY, PERP)}, selection=Selection.of(PERP))
    assert [each.mended for each in mend(local, dataset=TRADES)] == [True]
    assert contents(local) == before


def test_a_copy_is_taken_back_though_the_record_knows_nothing_of_it(ground: Ground) -> None:
    write(ground.store, TRADES, {(DAY, BTC_USD): made_trades(DAY, BTC_USD)})
    record = ground.get(record_key(TRADES, DAY)) or b""
    write(ground.store, TRADES, {(DAY, each): made_trades(DAY, each) for each in (BTC_USD, PERP)})
    before = contents(ground)
    ground.write(record_key(TRADES, DAY), record)
    ground.store.delete(TRADES.path(TRADES.layouts[0], DAY, PERP))
    assert all(each.mended for each in mend(ground, dataset=TRADES))
    assert contents(ground) == before


def test_a_folder_of_nothing_has_nothing_to_mend(tmp_path: Path) -> None:
    lake = local_ground(tmp_path / "lake")
    assert list(verify(lake.store, ASKED, DAYS[0], DAYS[-1], full=True)) == []
    assert list(repair(lake.store, ASKED, DAYS[0], DAYS[-1])) == []
    assert lake.names() == set()
