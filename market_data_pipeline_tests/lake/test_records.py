"""The record of the day files: what was encoded, not what a disk has made of it; read round the store."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

import google_crc32c
import pyarrow as pa
import pytest

from market_data_pipeline.lake import month_rows
from market_data_pipeline.lake.month_rows import held_in_month
from market_data_pipeline.lake.records import Sum, read_record, record_key
from market_data_pipeline.lake.repaired import repair
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.verified import verify
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline_tests.lake.made_up import (
    BTC_USD,
    DAYS,
    HOURLY,
    MAPS,
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
from market_data_pipeline_tests.store_fixtures import Ground, local_ground

DAY = DAYS[0]


def day_files(ground: Ground, instruments: Sequence[Instrument] = (BTC_USD, PERP), seed: int = 0) -> None:
    write(
        ground.store, TRADES, {(DAY, instrument): made_trades(DAY, instrument, seed=seed) for instrument in instruments}
    )


def test_every_dataset_has_a_record_of_its_day_files(ground: Ground) -> None:
    ingest(ground.store, made_ticks(instruments=(BTC_USD, PERP)), only=SOME)
    look = Look(ground)
    look.assert_layouts_agree()
    assert {name for name, _, _ in look.records} == set(SOME)
    content = ground.get(TRADES.path(TRADES.layouts[0], DAY, PERP)) or b""
    told = read_record(ground.again(), TRADES, DAY)
    assert told is not None
    assert told[DAY, PERP] == Sum(16, len(content), google_crc32c.value(content))
    assert set(told) == {(day, each) for day in DAYS[:2] for each in (BTC_USD, PERP)}  # of February
    assert set(read_record(ground.store, MAPS, DAYS[2]) or ()) == {(DAYS[2], None)}
    assert read_record(ground.store, HOURLY, DAY) is None


def test_equal_days_are_recorded_in_equal_bytes_on_every_store(ground: Ground, tmp_path) -> None:
    other = local_ground(tmp_path / "other")
    for each in (ground, other):
        day_files(each)
    key = record_key(TRADES, DAY)
    assert ground.get(key) == other.get(key)


def test_a_damaged_file_keeps_the_checksum_that_it_was_encoded_with(local: Ground) -> None:
    day_files(local)
    wanted = read_record(local.store, TRADES, DAY)
    key = TRADES.path(TRADES.layouts[0], DAY, PERP)
    path = local.store.root / key  # type: ignore[attr-defined]
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    # a run that reads the file but wasn't asked for it
    local.again().crc32c(next(local.store.list(key)))
    write(local.again(), TRADES, {(DAY, BTC_USD): made_trades(DAY, BTC_USD, seed=5)}, selection=Selection.of(BTC_USD))
    told = read_record(local.store, TRADES, DAY)
    assert wanted is not None
    assert told is not None
    assert told[DAY, PERP] == wanted[DAY, PERP]
    assert told[DAY, BTC_USD] != wanted[DAY, BTC_USD]


def test_a_run_reads_no_file_that_it_was_not_asked_for(ground: Ground) -> None:
    day_files(ground)

    class Counting(Watched):
        def crc32c(self, info) -> int:
            self._about_to("crc32c", info.key)
            return self._store.crc32c(info)

    watched = Counting(ground.again())
    write(watched, TRADES, {(DAY, BTC_USD): made_trades(DAY, BTC_USD, seed=5)}, selection=Selection.of(BTC_USD))
    assert [key for verb, key in watched.calls if verb in ("open", "crc32c") and PERP.id in key] == []
    Look(ground).assert_layouts_agree([TRADES])


def test_a_lake_without_records_gets_them_from_its_next_run(ground: Ground) -> None:
    day_files(ground)
    ground.store.delete(record_key(TRADES, DAY))
    day_files(ground, [BTC_USD])  # PERP goes with it: the source has it no more
    Look(ground).assert_layouts_agree([TRADES])
    day_files(ground)
    ground.store.delete(record_key(TRADES, DAY))
    write(ground.again(), TRADES, {(DAY, BTC_USD): made_trades(DAY, BTC_USD)}, selection=Selection.of(BTC_USD))
    Look(ground).assert_layouts_agree([TRADES])


def test_a_record_that_a_killed_run_left_behind_is_brought_in_step(ground: Ground) -> None:
    day_files(ground)
    old = ground.get(record_key(TRADES, DAY)) or b""
    day_files(ground, seed=1)
    ground.write(record_key(TRADES, DAY), old)
    with pytest.raises(AssertionError):
        Look(ground).assert_layouts_agree([TRADES])
    report = write(ground.again(), TRADES, {(DAY, each): made_trades(DAY, each, seed=1) for each in (BTC_USD, PERP)})
    assert not [file for file in report.files if file.changed]
    Look(ground).assert_layouts_agree([TRADES])


def test_a_day_file_that_is_lost_is_remembered_and_comes_back(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    write(ground.store, HOURLY, {(DAY, each): hourly(DAY) for each in (BTC_USD, PERP)})
    before = contents(ground)
    key = HOURLY.path(HOURLY.layouts[0], DAY, PERP)
    ground.store.delete(key)
    newer = {(DAY, BTC_USD): hourly(DAY, price=5.0)}
    write(ground.again(), HOURLY, newer, selection=Selection.of(BTC_USD))
    (warned,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{ground.store.uri_of(key)} is recorded but not there; `market-data repair {DAY} {DAY}`" in warned
    assert (read_record(ground.again(), HOURLY, DAY) or {}).keys() == {(DAY, BTC_USD), (DAY, PERP)}
    look = Look(ground)
    assert {layout.name: look.days(HOURLY, PERP, layout.name) for layout in HOURLY.month_layouts} == {
        layout.name: {DAY} for layout in HOURLY.month_layouts
    }
    found = list(verify(ground.again(), [HOURLY], DAY, DAY, pause=0))
    assert "nothing lies here; expected" in str(found[0])
    assert all(each.mended for each in repair(ground.again(), [HOURLY], DAY, DAY, pause=0))
    Look(ground).assert_layouts_agree([HOURLY])
    write(ground.again(), HOURLY, {(DAY, BTC_USD): hourly(DAY)}, selection=Selection.of(BTC_USD))
    assert contents(ground) == before


def test_a_day_file_that_is_lost_is_remembered_though_nothing_else_is_left_of_the_day(ground: Ground) -> None:
    write(ground.store, HOURLY, {(DAY, each): hourly(DAY) for each in (BTC_USD, PERP)})
    ground.store.delete(HOURLY.path(HOURLY.layouts[0], DAY, PERP))
    write(ground.again(), HOURLY, {}, days=[DAY], selection=Selection.of(BTC_USD))
    assert (read_record(ground.again(), HOURLY, DAY) or {}).keys() == {(DAY, PERP)}
    assert all(each.mended for each in repair(ground.again(), [HOURLY], DAY, DAY, pause=0))
    look = Look(ground)
    look.assert_layouts_agree([HOURLY])
    assert look.rows(HOURLY).num_rows == 3


def test_a_day_file_that_is_lost_and_that_its_source_no_longer_has_goes(ground: Ground) -> None:
    write(ground.store, HOURLY, {(DAY, each): hourly(DAY) for each in (BTC_USD, PERP)})
    ground.store.delete(HOURLY.path(HOURLY.layouts[0], DAY, PERP))
    assert write(ground.again(), HOURLY, {(DAY, BTC_USD): hourly(DAY)}).removed == ((DAY, PERP),)
    look = Look(ground)
    look.assert_layouts_agree([HOURLY])
    assert look.rows(HOURLY).num_rows == 3


def killed(ground: Ground, before: Collection[str], tables: Mapping[tuple[date, Instrument], pa.Table]) -> None:
    """A run that is killed before it has published any of some objects."""

    def step(verb: str, key: str) -> None:
        if key in before and verb in ("put", "delete"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(Watched(ground.again(), step), HOURLY, tables)


def test_a_killed_run_never_leaves_month_files_with_rows_that_the_record_has_let_go(ground: Ground) -> None:
    write(ground.store, HOURLY, {(DAY, each): hourly(DAY) for each in (BTC_USD, PERP)})
    ground.store.delete(HOURLY.path(HOURLY.layouts[0], DAY, PERP))
    left = {(DAY, BTC_USD): hourly(DAY)}
    killed(ground, [HOURLY.path(layout, DAY, PERP) for layout in HOURLY.month_layouts], left)
    assert write(ground.again(), HOURLY, left).removed == ((DAY, PERP),)
    look = Look(ground)
    look.assert_layouts_agree([HOURLY])
    assert look.rows(HOURLY).num_rows == 3


def test_rows_that_are_kept_are_replaced_when_their_file_is_made_again(ground: Ground) -> None:
    first = {(DAY, each): hourly(DAY, price=1.0) for each in (BTC_USD, PERP)}
    write(ground.store, HOURLY, first)
    recorded = ground.get(record_key(HOURLY, DAY)) or b""
    # the month files have rows of another version than the record says
    killed(ground, [record_key(HOURLY, DAY)], {(DAY, each): hourly(DAY, price=2.0) for each in (BTC_USD, PERP)})
    assert ground.get(record_key(HOURLY, DAY)) == recorded
    ground.store.delete(HOURLY.path(HOURLY.layouts[0], DAY, PERP))
    write(ground.again(), HOURLY, {(DAY, BTC_USD): hourly(DAY, price=3.0)}, selection=Selection.of(BTC_USD))
    write(ground.again(), HOURLY, {(DAY, PERP): hourly(DAY, price=1.0)}, selection=Selection.of(PERP))
    Look(ground).assert_layouts_agree([HOURLY])
    assert list(verify(ground.again(), [HOURLY], DAY, DAY, full=True, pause=0)) == []


def test_of_a_month_file_only_the_day_of_a_loss_is_looked_at(local: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    write(local.store, HOURLY, {(day, each): hourly(day) for day in DAYS[:2] for each in (BTC_USD, PERP)})
    local.store.delete(HOURLY.path(HOURLY.layouts[0], DAY, PERP))
    looked: set[date] = set()

    def held(*asked: Any) -> set[tuple[date, str]]:
        found = held_in_month(*asked)
        looked.update(day for day, _ in found)
        return found

    monkeypatch.setattr(month_rows, "held_in_month", held)
    write(local.again(), HOURLY, {(DAY, BTC_USD): hourly(DAY, price=2.0)}, selection=Selection.of(BTC_USD))
    assert looked == {DAY}


def test_a_record_that_cannot_be_read_says_what_to_do(ground: Ground, store: ObjectStore) -> None:
    write(store, HOURLY, {(DAY, PERP): hourly(DAY)})
    ground.write(record_key(HOURLY, DAY), b"PAR1 torn PAR1")
    with pytest.raises(LakeError, match=r"ohlcv_1h_checksums.parquet cannot be read as Parquet.*`market-data repair`"):
        read_record(ground.again(), HOURLY, DAY)
