"""The command that prints statements for BigQuery, and the settings that it goes by."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from market_data_pipeline.cli import main
from market_data_pipeline.lake.bigquery import Warehouse
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.gcs_server import GcsServer
from market_data_pipeline_tests.lake.bigquery_on_duckdb import parsed, uris
from market_data_pipeline_tests.lake.made_up import DAYS, SOME, ingest, made_ticks
from market_data_pipeline_tests.store_fixtures import Ground, gcs_ground

HERE = ("--project", "my-project", "--dataset", "lake")


@pytest.fixture(scope="module")
def ground(running_gcs_server: GcsServer) -> Ground:
    """A lake in a bucket."""
    found = gcs_ground(running_gcs_server.url)
    ingest(found.store, made_ticks(), only=SOME)
    return found


def printed(ground: Ground, server: GcsServer, *arguments: str, **settings: str) -> Result:
    told = {"MARKET_DATA_LAKE": ground.store.uri, "STORAGE_EMULATOR_HOST": server.url, **settings}
    return CliRunner().invoke(main, ["bigquery", *arguments], env=told)


def statements(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(";\n\n")
    return result.stdout.removesuffix(";\n\n").split(";\n\n")


def test_the_statements_are_those_of_the_lake_of_the_settings(ground: Ground, running_gcs_server: GcsServer) -> None:
    found = [parsed(each) for each in statements(printed(ground, running_gcs_server, *HERE))]
    tables = {each.this.this.name: each for each in found}
    assert set(SOME) < set(tables)
    assert "liquidations" not in tables
    assert "ohlcv_1m_by_venue_between" in tables
    assert len(uris(tables["trades"])) == len(DAYS)
    for each in uris(tables["trades"]):
        assert each.startswith(f"{ground.store.uri.rstrip('/')}/market-data-tick/raw_tick_data/by_date/year-2024/")


def test_only_some_datasets(ground: Ground, running_gcs_server: GcsServer) -> None:
    text = printed(ground, running_gcs_server, "trades", "trades", *HERE, "--connection", "eu.market-data")
    found = statements(text)
    assert [parsed(each).this.this.name for each in found] == ["trades", "trades_between", "trades_of"]
    assert "WITH CONNECTION `my-project.eu.market-data`\n" in found[0]


def test_what_options_do_not_say_the_settings_do(ground: Ground, running_gcs_server: GcsServer) -> None:
    told = {"MARKET_DATA_BIGQUERY": "one-project.one", "MARKET_DATA_BIGQUERY_CONNECTION": "us.one"}
    text = printed(ground, running_gcs_server, "trades", **told).stdout
    assert "EXTERNAL TABLE `one-project`.`one`.`trades`" in text
    assert "WITH CONNECTION `one-project.us.one`\n" in text
    text = printed(ground, running_gcs_server, "trades", "--dataset", "two", "--connection", "", **told).stdout
    assert "EXTERNAL TABLE `one-project`.`two`.`trades`" in text
    assert "CONNECTION" not in text


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (HERE, {"MARKET_DATA_LAKE": "data"}, "MARKET_DATA_LAKE is 'data'; BigQuery reads Google Cloud Storage alone"),
        ((), {}, "where are the tables to be? give --project and --dataset, or set MARKET_DATA_BIGQUERY"),
        (("--project", "my-project"), {}, "where are the tables to be?"),
        (("--project", "my-project", "--dataset", "a-b"), {}, "'a-b' is no dataset of BigQuery"),
        (("tradez", *HERE), {}, "tradez"),
        (("liquidations", *HERE), {}, "has no day on record of liquidations to make tables of"),
    ],
)
def test_what_cannot_be_is_one_clear_error(
    ground: Ground, running_gcs_server: GcsServer, arguments: tuple[str, ...], settings: dict[str, str], message: str
) -> None:
    result = printed(ground, running_gcs_server, *arguments, **settings)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_settings(tmp_path: Path) -> None:
    assert Settings.load({}, tmp_path).bigquery is None
    told = {"MARKET_DATA_LAKE": "gs://b", "MARKET_DATA_BIGQUERY": "example.com:my-project.lake"}
    assert Settings.load(told, tmp_path).bigquery == Warehouse("example.com:my-project", "lake")
    with_connection = Settings.load(told | {"MARKET_DATA_BIGQUERY_CONNECTION": "eu.c"}, tmp_path)
    assert with_connection.bigquery == Warehouse("example.com:my-project", "lake", "eu.c")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"MARKET_DATA_LAKE": "gs://b", "MARKET_DATA_BIGQUERY": "lake"}, "is 'lake': 'lake' names no dataset"),
        (
            {"MARKET_DATA_BIGQUERY": "my-project.lake"},
            "is 'my-project.lake': MARKET_DATA_LAKE is 'data'",
        ),
        ({"MARKET_DATA_BIGQUERY_CONNECTION": "eu.c"}, "names no dataset that the tables are made in; set both"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, values: dict[str, str], message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(f"MARKET_DATA_BIGQUERY {message}")):
        Settings.load(values, tmp_path)
