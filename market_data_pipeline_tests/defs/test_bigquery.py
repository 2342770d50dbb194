"""The asset that keeps the lake's tables in BigQuery: where it is there, and what it sends to a fake client."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from google.api_core.exceptions import Forbidden

from market_data_pipeline.defs.bigquery import NAME, SCHEDULE, bigquery_asset, bigquery_definitions
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.launch import chosen_assets, launch, selected_assets
from market_data_pipeline.defs.resources import LakeResource
from market_data_pipeline.lake.bigquery import Warehouse
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Automatic, Settings
from market_data_pipeline_tests.defs.running import SmallSource
from market_data_pipeline_tests.lake.bigquery_on_duckdb import parsed, uris
from market_data_pipeline_tests.lake.made_up import DAYS, SOME, ingest, made_ticks

PLACE = Warehouse("my-project", "lake", "eu.market-data")


@dataclass
class Job:
    """What a client gives for a statement: done once one waits for its result."""

    statement: str
    done: list[str]
    refused: str

    def result(self) -> None:
        if self.refused and self.refused in self.statement:
            raise Forbidden("Access Denied: connection eu.market-data")
        self.done.append(self.statement)


@dataclass
class Client:
    """A client of BigQuery that notes the statements that were waited for."""

    refused: str = ""
    done: list[str] = field(default_factory=list)

    def query(self, statement: str) -> Job:
        return Job(statement, self.done, self.refused)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    """What dagster-gcp's resource makes in place of Google's client."""
    fake = Client()

    def made(project: str | None, location: str | None) -> Client:
        assert (project, location) == ("my-project", None)
        return fake

    monkeypatch.setattr("dagster_gcp.bigquery.resources.bigquery.Client", made)
    return fake


def materialized(folder: Path, *, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
    defs = bigquery_definitions(PLACE, [], dg.DefaultScheduleStatus.STOPPED)
    resources = {**(defs.resources or {}), "lake": LakeResource(url=str(folder))}
    return dg.materialize([bigquery_asset(PLACE, [])], resources=resources, raise_on_error=raise_on_error)


def names(statements: list[str]) -> list[str]:
    return [parsed(each).this.this.name for each in statements]


def test_it_makes_the_tables_of_what_lies_there_and_again_with_another_day(client: Client, tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ingest(store, made_ticks(DAYS[:1]), DAYS[:1], only=SOME)
    result = materialized(tmp_path)
    (made,) = result.asset_materializations_for_node(NAME)
    told = {name: value.value for name, value in made.metadata.items()}
    assert names(client.done) == told["made"]
    assert told["newest_day"] == str(DAYS[0])
    tables = [name for name in told["made"] if not name.endswith(("_between", "_of"))]
    assert (told["tables"], told["functions"]) == (len(tables), len(told["made"]) - len(tables))
    assert {name for name in tables if name in DATASETS} == set(SOME)
    (first,) = (each for each in client.done if parsed(each).this.this.name == "trades")
    assert len(uris(parsed(first))) == 1
    ingest(store, made_ticks(), only=SOME)
    client.done.clear()
    materialized(tmp_path)
    (again,) = (each for each in client.done if parsed(each).this.this.name == "trades")
    assert again.startswith("CREATE OR REPLACE EXTERNAL TABLE ")
    assert [re.findall(r"year-(\d+)/month-(\d+)/day-(\d+)", uri) for uri in uris(parsed(again))] == [
        [(f"{day:%Y}", f"{day:%m}", f"{day:%d}")] for day in DAYS
    ]


def test_an_empty_lake_makes_nothing(client: Client, tmp_path: Path) -> None:
    (made,) = materialized(tmp_path).asset_materializations_for_node(NAME)
    assert client.done == []
    assert made.metadata["newest_day"].value == "none"


def test_what_bigquery_refuses_is_named_with_what_to_do(client: Client, tmp_path: Path) -> None:
    ingest(open_store(tmp_path), made_ticks(DAYS[:1]), DAYS[:1], only=SOME)
    client.refused = "`ohlcv_1m`"
    result = materialized(tmp_path, raise_on_error=False)
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    said = event.step_failure_data.user_failure_data.description
    assert said.startswith("BigQuery did not make my-project.lake.ohlcv_1m: 403 Access Denied")
    assert "docs/bigquery.md" in said
    refused = event.step_failure_data.user_failure_data.metadata["refused"].value
    assert set(refused) == {"ohlcv_1m", "ohlcv_1m_between", "ohlcv_1m_of"}
    assert f"; 3 of {3 + len(client.done)} were refused;" in said
    # the others are as new as they can be
    assert {"trades", "trades_of", "ohlcv_1m_by_venue", "ohlcv_5m", "available_instruments"} <= set(names(client.done))


@pytest.fixture
def defs() -> dg.Definitions:
    settings = Settings(lake="gs://my-bucket/lake", emulator="http://127.0.0.1:9", bigquery=PLACE)
    return build_definitions(settings)


def test_it_is_there_where_a_setting_says_so_and_has_a_job_and_an_hour_of_its_own(defs: dg.Definitions) -> None:
    spec = next(spec for spec in defs.resolve_all_asset_specs() if spec.key == dg.AssetKey(NAME))
    assert spec.partitions_def is None
    assert {dep.asset_key.to_user_string() for dep in spec.deps} == set(DATASETS)
    assert defs.resolve_job_def("bigquery").asset_layer.executable_asset_keys == {dg.AssetKey(NAME)}
    schedule = defs.resolve_schedule_def(SCHEDULE)
    assert (schedule.cron_schedule, schedule.job_name) == ("0 9 * * *", "bigquery")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2024, 8, 9, 9, tzinfo=UTC), repository_def=defs.get_repository_def()
    )
    assert len(schedule.evaluate_tick(context).run_requests) == 1
    daily = frozenset({Automatic.DAILY})
    by_itself = Settings(lake="gs://b", emulator="http://127.0.0.1:9", bigquery=PLACE, automatic=daily)
    running = build_definitions(by_itself).resolve_schedule_def(SCHEDULE)
    assert running.default_status == dg.DefaultScheduleStatus.RUNNING


def test_days_are_made_without_it(defs: dg.Definitions, tmp_path: Path) -> None:
    assert defs.resolve_job_def("daily").asset_layer.executable_asset_keys == {dg.AssetKey(each) for each in DATASETS}
    assert {key.to_user_string() for key in chosen_assets(defs, None)} == set(DATASETS)
    after = selected_assets(defs, ["key:available_instruments+"])
    assert after == [dg.AssetKey("available_instruments")]
    with pytest.raises(SettingError, match=f"'{NAME}' is no asset; there are available_instruments"):
        selected_assets(defs, [NAME])
    # beside a lake on a disk, where nothing could be sent, a day is made all the same
    source = SmallSource([Instrument.parse("binance:SPOT_PAIR:BTC-USDT")])
    local = build_definitions(Settings(lake=str(tmp_path), bigquery=PLACE), source)
    with dg.DagsterInstance.ephemeral() as instance:
        assert launch(local, instance, DAYS[0], DAYS[0]).clean


def test_without_the_setting_there_is_none(defs: dg.Definitions) -> None:
    without = build_definitions(Settings(lake="gs://my-bucket/lake", emulator="http://127.0.0.1:9"))
    keys, others = ({spec.key for spec in each.resolve_all_asset_specs()} for each in (defs, without))
    assert keys - others == {dg.AssetKey(NAME)}
    assert SCHEDULE not in {each.name for each in without.get_repository_def().schedule_defs}
