"""Keys stay where they belong: failing runs are recorded whole, and what was recorded is searched for them."""

import base64
import gzip
import json
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.launch import Outcome, launch
from market_data_pipeline.model.errors import MarketDataError
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.windows import as_day
from market_data_pipeline.settings import Settings, read_values
from market_data_pipeline.sources import open_source
from market_data_pipeline_tests.defs.running import SmallSource
from market_data_pipeline_tests.sources.vendor_days import put_day
from market_data_pipeline_tests.sources.vendor_server import Fault, VendorServer

KEY = "TD.s3cretKeyOfTheTests0123456789"
DAY = "2024-08-08"


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        put_day(server)
        yield server


def run_recorded(settings: Settings, folder: Path, source: SmallSource | None = None) -> Outcome:
    """A day's run, recorded on disk as in production: events, logs, run configuration, what steps print."""
    folder.mkdir()
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        defs = build_definitions(settings, source)
        return launch(defs, instance, as_day(DAY), as_day(DAY))


def assert_nowhere(secret: str, folder: Path, *texts: str) -> None:
    """Neither the texts nor any file below the folder holds the secret, plain or in base64."""
    forms = [secret.encode(), base64.b64encode(secret.encode()).rstrip(b"=")[:-2]]
    searched = 0
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            searched += len(content)
            assert not any(form in content for form in forms), path
    assert searched
    for text in texts:
        assert not any(form in text.encode("utf-8", "replace") for form in forms), text


_ECHO = gzip.compress(
    "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
    f"binance-futures,BTCUSDT,1723075200000000,1723075200000000,1,buy,{KEY},1\n".encode()
)
"""A file of trades in which a vendor gives back the key that it was sent."""


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/", times=10_000, status=401),
        Fault("/", times=10_000, status=403),
        Fault("/", times=10_000, status=404),
        Fault("/v1/", times=10_000, status=200, body=_ECHO),
    ],
    ids=["401", "403", "404", "in a price"],
)
def test_the_vendors_key_is_in_nothing_that_a_failing_run_leaves(
    vendor: VendorServer,
    tmp_path: Path,
    fault: Fault,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    vendor.faults.append(fault)
    settings = Settings(
        lake=str(tmp_path / "lake"),
        source="tardis",
        remote=vendor.remote(cache=tmp_path / "cache", tardis_key=KEY),
        selection=Selection.of("binance-futures:*"),
    )
    with caplog.at_level(logging.DEBUG):
        outcome = run_recorded(settings, tmp_path / "instance")
    assert not outcome.clean
    said = capfd.readouterr()
    source = open_source("tardis", None, settings.remote)
    assert_nowhere(
        KEY, tmp_path, *outcome.problems, *outcome.notes, caplog.text, said.out, said.err, repr(settings), repr(source)
    )


def test_googles_credentials_are_in_nothing_that_a_failing_run_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "k",
        "private_key": pem,
        "client_email": "a@p.iam",
        "token_uri": "http://127.0.0.1:9/token",
    }
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "account.json").write_text(json.dumps(account))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(elsewhere / "account.json"))
    from google.cloud.storage.retry import DEFAULT_RETRY

    from market_data_pipeline.lake.stores import gcs

    monkeypatch.setattr(gcs, "DEFAULT_RETRY", DEFAULT_RETRY.with_delay(0.01, 0.05, 1.5).with_timeout(0.2))
    with caplog.at_level(logging.DEBUG):
        outcome = run_recorded(Settings(lake="gs://some-bucket/lake"), tmp_path / "instance", SmallSource([]))
    assert not outcome.succeeded
    said = capfd.readouterr()
    for line in pem.splitlines()[1:-1]:
        assert_nowhere(line, tmp_path / "instance", *outcome.problems, caplog.text, said.out, said.err)


def test_a_broken_file_of_settings_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(f"TARDIS_API_KEY={KEY}\n\xff".encode("latin-1"))
    with pytest.raises(MarketDataError, match="it is no UTF-8 text") as caught:
        read_values({}, tmp_path)
    error: BaseException | None = caught.value
    assert KEY not in "".join(traceback.format_exception(error))
    assert error is not None
    assert error.__cause__ is None
