"""What Dagster tells of the layouts: a check on every asset, and days that were taken in."""

import io
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.defs import io_manager
from market_data_pipeline.defs.adopting import register
from market_data_pipeline.lake.adopted import adopt
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import SmallSource, pipeline

SOURCE = SmallSource([Instrument.parse("binance:SPOT_PAIR:BTC-USDT"), Instrument.parse("deribit:Perp:BTC-USD")])
TRADES = DATASETS["trades"]


def test_layouts_that_differ_fail_the_check_of_their_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = io_manager.write_days

    def damaging(store, dataset, *args, **kwargs):
        report = whole(store, dataset, *args, **kwargs)
        if dataset == TRADES:
            store.delete(TRADES.path(TRADES.layout("by_venue"), date(2024, 8, 8), SOURCE.instruments[0]))
        return report

    with pipeline(Settings(lake=str(tmp_path)), SOURCE) as running:
        assert running.run("2024-08-07", "2024-08-09", assets=["trades", "ohlcv_1m"]).clean
        monkeypatch.setattr(io_manager, "write_days", damaging)
        outcome = running.run("2024-08-07", "2024-08-09", assets=["trades", "ohlcv_1m"])
        assert outcome.succeeded
        (problem,) = outcome.problems
        assert problem.startswith("trades, layouts_agree: ")
        assert "by_venue" in problem
        assert "nothing lies here" in problem
        key = dg.AssetCheckKey(dg.AssetKey("trades"), "layouts_agree")
        records = running.instance.event_log_storage.get_asset_check_execution_history(key, limit=4)
        seen = {record.partition: record.status.value for record in records}
    assert seen == {"2024-08-07": "SUCCEEDED", "2024-08-08": "FAILED", "2024-08-09": "SUCCEEDED", None: "FAILED"}


def test_days_that_were_taken_in_are_materialized_as_by_a_run(tmp_path: Path) -> None:
    day = "2024-08-08"
    with pipeline(Settings(lake=str(tmp_path / "one")), SOURCE) as running:
        assert running.run(day, assets=["trades"]).clean
        wanted = running.metadata("trades", day)
    one, other = open_store(tmp_path / "one"), tmp_path / "other"
    for info in one.list("market-data-tick/raw_tick_data/by_date/"):
        with one.open(info.key) as pinned:
            rows = pq.ParquetFile(io.BytesIO(pinned.file.read())).read().select(TRADES.own_schema.names)
        (other / info.key).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, other / info.key)
    with pipeline(Settings(lake=str(other)), SOURCE) as running:
        store = open_store(other)
        adopted = adopt(store, TRADES, date(2024, 8, 7), date(2024, 8, 9))
        register(running.instance, store, adopted)
        assert running.instance.get_materialized_partitions(dg.AssetKey("trades")) == {day}
        told = running.metadata("trades", day)
        same = ("dagster/partition_row_count", "rows", "bytes", "instruments", "first_timestamp", "last_timestamp")
        assert {name: told[name] for name in same} == {name: wanted[name] for name in same}
        # files of another tool are written anew, which is told as a correction
        rewritten = {"corrected", "corrected_instruments"}
        assert told.keys() - rewritten == wanted.keys()
        assert {name: told[name] for name in ("picture", "preview")} == {
            name: wanted[name] for name in ("picture", "preview")
        }
        assert running.run(day, assets=["ohlcv_1m"]).clean
