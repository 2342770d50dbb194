"""A whole day's run on Google Cloud Storage: through dagster-gcp's client, over HTTP, to the test server."""

import json
import os
from pathlib import Path
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import ROOTS
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import SmallSource, pipeline
from market_data_pipeline_tests.gcs_server import GcsServer
from market_data_pipeline_tests.parity import assert_layouts_agree, objects
from market_data_pipeline_tests.store_fixtures import Ground

SOURCE = SmallSource(
    [Instrument.parse(text) for text in ("binance:SPOT_PAIR:BTC-USDT", "deribit:Perp:BTC-USD", "deribit:Perp:ETH-USD")]
)
DAYS = ("2024-08-07", "2024-08-09")


@pytest.fixture
def endpoint(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server that STORAGE_EMULATOR_HOST names, else our own."""
    named = os.environ.get("STORAGE_EMULATOR_HOST") or gcs_server.url
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", named)
    return named


def test_a_run_on_gcs_leaves_the_same_objects_as_on_a_local_disk(endpoint: str, gcs: Ground, tmp_path: Path) -> None:
    with pipeline(Settings(lake=gcs.store.uri), SOURCE) as running:
        outcome = running.run(*DAYS)
        assert outcome.clean, outcome.problems
        uri = running.metadata("trades", "2024-08-08")["uri_by_venue"]
        assert running.run(*DAYS).clean
        assert running.metadata("ohlcv_1m", "2024-08-08")["bytes_written"] == 0
    assert uri.startswith(f"{gcs.store.uri.rstrip('/')}/market-data-tick/raw_tick_data/by_venue/venue-*/year-2024/")
    assert_layouts_agree(gcs.store)
    with pipeline(Settings(lake=str(tmp_path / "lake")), SOURCE) as running:
        assert running.run(*DAYS).clean
    assert objects(gcs.store) == objects(open_store(tmp_path / "lake"))


def test_a_test_server_that_only_the_file_of_settings_names_is_used(
    endpoint: str, gcs: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    # credentials at hand would otherwise lead to the real buckets
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
    (tmp_path / ".env").write_text(f"MARKET_DATA_LAKE={gcs.store.uri}\nSTORAGE_EMULATOR_HOST={endpoint}\n")
    settings = Settings.load({}, tmp_path)
    with pipeline(settings, SOURCE) as running:
        outcome = running.run("2024-08-08")
    assert outcome.clean, outcome.problems
    assert objects(settings.open_store()) == objects(gcs.store) != {}


def test_with_buckets_of_their_own(endpoint: str, gcs_server: GcsServer) -> None:
    names = {root: f"{root[:20]}-{uuid4().hex[:8]}" for root in ROOTS}
    for name in names.values():
        body = json.dumps({"name": name}).encode()
        urlopen(
            Request(f"{endpoint}/storage/v1/b?project=test", body, {"Content-Type": "application/json"}), timeout=20
        )
    with pipeline(Settings(lake="gs://", buckets=names), SOURCE) as running:
        outcome = running.run("2024-08-08")
        assert outcome.clean, outcome.problems
        assert running.metadata("trades", "2024-08-08")["dagster/uri"].startswith(
            f"gs://{names[ROOTS[0]]}/raw_tick_data/"
        )


def test_a_bucket_that_is_not_there_is_named(endpoint: str, gcs_server: GcsServer) -> None:
    with pipeline(Settings(lake="gs://nobody-made-this/lake"), SOURCE) as running:
        outcome = running.run("2024-08-08")
    assert not outcome.succeeded
    assert any("nobody-made-this" in problem for problem in outcome.problems)
