"""What a fingerprint covers: the day files that a read looks at, and nothing else."""

from pathlib import Path

import pyarrow as pa
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake.encoding import write_day_file
from market_data_pipeline.lake.records import record_key
from market_data_pipeline.model.errors import DatasetError, LakeError
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline_tests.lake.made_up import (
    BTC_USD,
    DAYS,
    HOURLY,
    PERP,
    TRADES,
    Watched,
    hourly,
    made_trades,
    write,
)
from market_data_pipeline_tests.store_fixtures import Ground, local_ground

WINDOW = ("2024-02-29T06:00", "2024-02-29T18:00")


def filled(ground: Ground) -> MarketDataLake:
    places = [(day, instrument) for day in DAYS for instrument in (BTC_USD, PERP)]
    write(ground.store, HOURLY, {(day, instrument): hourly(day) for day, instrument in places})
    write(ground.store, TRADES, {(day, instrument): made_trades(day, instrument) for day, instrument in places})
    return MarketDataLake(store=ground.again())


def change(ground: Ground, dataset, day, instrument=PERP) -> None:
    table = made_trades(day, instrument, seed=4) if dataset is TRADES else hourly(day, price=7.0)
    write(ground.again(), dataset, {(day, instrument): table}, selection=Selection.of(instrument))


def test_equal_data_have_equal_fingerprints_on_every_store(ground: Ground, tmp_path: Path) -> None:
    one, other = filled(ground), filled(local_ground(tmp_path / "other"))
    for name in ("trades", "ohlcv_1h"):
        assert one.fingerprint(name, *WINDOW) == other.fingerprint(name, *WINDOW)
        assert len(one.fingerprint(name, *WINDOW)) == 32
    assert one.fingerprint("trades", *WINDOW) != one.fingerprint("ohlcv_1h", *WINDOW)
    assert one.fingerprint("ohlcv_5m", *WINDOW) != one.fingerprint("ohlcv_15m", *WINDOW)  # of nothing


def test_only_what_the_window_is_read_from_changes_it(ground: Ground) -> None:
    lake = filled(ground)
    before = {name: lake.fingerprint(name, *WINDOW) for name in ("trades", "ohlcv_1h")}
    named = lake.fingerprint("ohlcv_1h", *WINDOW, instruments="binance:*")
    assert named == lake.fingerprint("ohlcv_1h", *WINDOW, venue="binance") != before["ohlcv_1h"]
    # candles of the day after do not matter, ticks of the day after may
    change(ground, HOURLY, DAYS[2])
    change(ground, TRADES, DAYS[2])
    assert lake.fingerprint("ohlcv_1h", *WINDOW) == before["ohlcv_1h"]
    assert lake.fingerprint("trades", *WINDOW) != before["trades"]
    assert lake.fingerprint("trades", "2024-02-27", "2024-02-28") != before["trades"]
    change(ground, HOURLY, DAYS[1])
    assert lake.fingerprint("ohlcv_1h", *WINDOW) != before["ohlcv_1h"]
    assert lake.fingerprint("ohlcv_1h", *WINDOW, instruments="binance:*") == named
    write(ground.store, HOURLY, {}, days=[DAYS[1]], selection=Selection.of(BTC_USD))
    assert lake.fingerprint("ohlcv_1h", *WINDOW, instruments="binance:*") != named


def test_no_content_is_read(ground: Ground) -> None:
    filled(ground)
    watched = Watched(ground.again())
    MarketDataLake(store=watched).fingerprint("trades", DAYS[0], DAYS[2])
    assert {key for key in watched.named("open") if "_checksums" not in key} == set()


def same_size(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Two tables whose day files only their content tells apart."""
    made: dict[int, pa.Table] = {}
    for price in range(800, 4000):
        table = hourly(DAYS[1], price=price / 8)
        write_day_file(folder / "made", HOURLY, DAYS[1], PERP, table.to_batches())
        size = (folder / "made").stat().st_size
        if size in made:
            return made[size], table
        made[size] = table
    raise AssertionError("no two prices make files of one size")


def test_a_file_that_is_newer_than_its_record_is_read(
    local: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = same_size(tmp_path)
    write(local.store, HOURLY, {(DAYS[1], PERP): before})
    first = MarketDataLake(store=local.again()).fingerprint("ohlcv_1h", *WINDOW)
    with monkeypatch.context() as killed:
        killed.setattr("market_data_pipeline.lake.writer.follow", _die)
        with pytest.raises(KeyboardInterrupt):
            write(local.again(), HOURLY, {(DAYS[1], PERP): after})
    left = MarketDataLake(store=local.again()).fingerprint("ohlcv_1h", *WINDOW)
    assert left != first
    write(local.again(), HOURLY, {(DAYS[1], PERP): after})
    assert MarketDataLake(store=local.again()).fingerprint("ohlcv_1h", *WINDOW) == left


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_no_file_is_read_that_is_older_than_its_record(local: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(local)
    monkeypatch.setattr("market_data_pipeline.lake.stores.local.LocalStore.crc32c", _die)
    MarketDataLake(store=local.again()).fingerprint("trades", DAYS[0], DAYS[2])


def test_what_is_not_recorded_says_what_to_do(local: Ground) -> None:
    lake = filled(local)
    local.write(HOURLY.path(HOURLY.layouts[0], DAYS[1], PERP), b"other")
    with pytest.raises(
        LakeError, match=r"has 5 bytes, not .* as recorded; run `market-data repair 2024-02-29 2024-02-29`"
    ):
        lake.fingerprint("ohlcv_1h", *WINDOW)
    local.store.delete(record_key(HOURLY, DAYS[1]))
    with pytest.raises(LakeError, match=r"is not recorded; run `market-data repair"):
        lake.fingerprint("ohlcv_1h", *WINDOW)
    with pytest.raises(DatasetError):
        lake.fingerprint("ohlcv_7m", *WINDOW)
