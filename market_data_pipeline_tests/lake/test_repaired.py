"""Any mixture of damage to what is derived is mended; and neither verify nor repair disturbs the runs beside it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_data_pipeline.lake.records import record_key
from market_data_pipeline.lake.repaired import repair
from market_data_pipeline.lake.verified import verify
from market_data_pipeline.model.instruments import Selection
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


def test_a_folder_of_nothing_has_nothing_to_mend(tmp_path: Path) -> None:
    lake = local_ground(tmp_path / "lake")
    assert list(verify(lake.store, ASKED, DAYS[0], DAYS[-1], full=True)) == []
    assert list(repair(lake.store, ASKED, DAYS[0], DAYS[-1])) == []
    assert lake.names() == set()
