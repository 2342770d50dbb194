"""The definitions as Dagster sees them: partitions, groups, schedule, checks, warnings."""

import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.asset_backfill import AssetBackfillData

import market_data_pipeline
from market_data_pipeline.defs import ACCEPTED_WARNINGS
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Settings
from market_data_pipeline.transforms.quality import FLAWS
from market_data_pipeline_tests.defs.running import SmallSource, pipeline

PROJECT = Path(market_data_pipeline.__file__).parents[1]
FRAMES = list(TIMEFRAMES)
TICKS = ["trades", "book_snapshot_5", "book_snapshot_25", "liquidations", "derivative_ticker", "options_chain"]
CANDLES = [f"ohlcv_{frame}" for frame in FRAMES]
FEATURES = ["technical_features", "fundamental_features", "ml_signals"]
ASSETS = ["instruments", *TICKS, *CANDLES, *FEATURES, "available_instruments"]


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_definitions(Settings())


def test_every_asset_has_days_a_group_kinds_and_a_description(defs: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert sorted(specs) == sorted(ASSETS)
    for spec in specs.values():
        assert isinstance(spec.partitions_def, dg.DailyPartitionsDefinition)
        assert spec.group_name in {"instruments", "ticks", "candles", "features", "availability"}
        assert "parquet" in spec.kinds
        assert spec.description
        assert spec.metadata["dagster/column_schema"].columns
        assert spec.owners == [f"team:{DATASETS[spec.key.to_user_string()].tier}"]


def test_every_column_that_is_worked_out_says_from_what(defs: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    for name, spec in specs.items():
        dataset = DATASETS[name]
        if dataset.from_source:
            assert "dagster/column_lineage" not in spec.metadata
            continue
        told = spec.metadata["dagster/column_lineage"].deps_by_column
        assert told.keys() == {column.name for column in dataset.columns}
        inputs = {dep.asset_key.to_user_string() for dep in spec.deps}
        for columns in told.values():
            assert columns
            for each in columns:
                above = each.asset_key.to_user_string()
                assert above in inputs
                assert each.column_name in DATASETS[above].own_schema.names
        # every input stands behind some column, or the edge would be unexplained
        assert {each.asset_key.to_user_string() for columns in told.values() for each in columns} == inputs


def test_what_a_column_is_made_from_is_said_where_the_columns_are_listed(defs: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    said = {
        (name, column.name): column.description
        for name, spec in specs.items()
        for column in spec.metadata["dagster/column_schema"].columns
    }
    assert said["ohlcv_1m", "close"] == "last price (quote asset) ← trades.price"
    assert said["ohlcv_5m", "vwap"].endswith("← ohlcv_1m.quote_volume, ohlcv_1m.base_volume")
    assert said["technical_features", "rsi_14"].endswith("← ohlcv_*.close")
    assert said["technical_features", "book_mid"].endswith("← book_snapshot_*.ask_price_1, book_snapshot_*.bid_price_1")
    assert said["available_instruments", "observed_data_types"].endswith("← all ticks.timestamp")
    assert said["ml_signals", "probability"].endswith(" more")
    assert said["trades", "price"] == "price (quote asset)"


def test_features_follow_from_candles_and_ticks_and_the_map_comes_last(defs: dg.Definitions) -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    above = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs.items()}
    assert above["technical_features"] == {"trades", "book_snapshot_5", "book_snapshot_25", *CANDLES}
    ticks = {"derivative_ticker", "liquidations", "options_chain"}
    assert above["fundamental_features"] == {"instruments", *ticks, *CANDLES}
    assert above["available_instruments"] == set(ASSETS) - {"available_instruments"}
    # a mapping would make a backfill run the days after the range as well
    assert {dep.partition_mapping for spec in specs.values() for dep in spec.deps} == {None}


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")  # Dagster's own call
def test_a_backfill_that_the_ui_starts_takes_the_days_that_were_asked_for_and_no_others(
    defs: dg.Definitions,
) -> None:
    days = {"2024-08-07", "2024-08-08", "2024-08-09"}
    with dg.DagsterInstance.ephemeral() as instance:
        backfill = AssetBackfillData.from_asset_partitions(
            asset_graph=defs.resolve_asset_graph(),
            partition_names=sorted(days),
            asset_selection=[dg.AssetKey(name) for name in ASSETS],
            dynamic_partitions_store=instance,
            backfill_start_timestamp=datetime(2024, 9, 1, tzinfo=UTC).timestamp(),
            all_partitions=False,
        )
    for name in ASSETS:
        assert set(backfill.target_subset.get_partitions_subset(dg.AssetKey(name)).get_partition_keys()) == days


def test_the_schedule_takes_the_day_before_at_seven(defs: dg.Definitions) -> None:
    schedule = defs.resolve_schedule_def("daily_at_seven")
    assert schedule.cron_schedule == "0 7 * * *"
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2024, 8, 9, 7, tzinfo=UTC), repository_def=defs.get_repository_def()
    )
    (request,) = schedule.evaluate_tick(context).run_requests
    assert request.partition_key == "2024-08-08"
    # runs of a backfill have none, which is 0
    assert int(request.tags["dagster/priority"]) > 0


def test_partitions_begin_where_the_setting_says_and_end_yesterday() -> None:
    from datetime import date

    defs = build_definitions(Settings(start=date(2024, 1, 1)))
    keys = defs.resolve_all_asset_specs()[0].partitions_def.get_partition_keys(
        current_time=datetime(2024, 1, 4, 12, tzinfo=UTC)
    )
    assert keys == ["2024-01-01", "2024-01-02", "2024-01-03"]


def test_every_asset_has_its_checks(defs: dg.Definitions) -> None:
    checks = {(key.asset_key.to_user_string(), key.name) for key in defs.resolve_asset_graph().asset_check_keys}
    assert checks == {(asset, name) for asset in ASSETS for name in ("every_instrument_read", "layouts_agree")} | {
        (f"ohlcv_{frame}", name) for frame in FRAMES for name in ("candle_laws", "volume_kept")
    } | {(asset, "quality") for asset in FLAWS} | {("available_instruments", "newest_day")}


def test_dagsters_own_check_of_the_project_is_clean(tmp_path: Path) -> None:
    tool = Path(sys.executable).with_name("dg")
    (tmp_path / "dagster.yaml").write_bytes((PROJECT / "dagster.yaml").read_bytes())
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path)}
    done = subprocess.run(
        [tool, "check", "defs"], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


def test_nothing_warns_in_a_run_but_what_is_accepted_in_one_place(tmp_path: Path) -> None:
    source = SmallSource([Instrument.parse("binance:SPOT_PAIR:BTC-USDT")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for category, beginning, _ in ACCEPTED_WARNINGS:
            warnings.filterwarnings("ignore", message=beginning, category=category)
        with pipeline(Settings(lake=str(tmp_path)), source) as running:
            assert running.run("2024-08-08").clean
    ours = (DeprecationWarning, dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning)
    assert [str(warning.message) for warning in caught if issubclass(warning.category, ours)] == []


def test_each_day_of_a_range_has_its_own_check_result(tmp_path: Path) -> None:
    class Half(SmallSource):
        def _read(self, day, instrument, rejects):
            if day.day == 8 and instrument.base == "ETH":
                raise SourceError("eth.csv.gz line 7: torn")
            return super()._read(day, instrument, rejects)

    source = Half([Instrument.parse(f"binance:SPOT_PAIR:{base}-USDT") for base in ("BTC", "ETH")])
    with pipeline(Settings(lake=str(tmp_path)), source) as running:
        outcome = running.run("2024-08-07", "2024-08-09")
        assert outcome.succeeded
        (problem,) = outcome.problems
        assert "eth.csv.gz line 7" in problem
        key = dg.AssetCheckKey(dg.AssetKey("trades"), "every_instrument_read")
        records = running.instance.event_log_storage.get_asset_check_execution_history(key, limit=20)
        seen = {record.partition: record.status.value for record in records if record.event}
    assert seen == {"2024-08-07": "SUCCEEDED", "2024-08-08": "FAILED", "2024-08-09": "SUCCEEDED", None: "FAILED"}
