"""A whole day's run on Google Cloud Storage while requests fail at random: it ends right, or says in words why not."""

import pytest
from google.cloud.storage.retry import DEFAULT_RETRY

from market_data_pipeline.lake.stores import gcs as gcs_stores
from market_data_pipeline_tests.defs.weather import Weather, passage
from market_data_pipeline_tests.gcs_server import GcsServer


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch, gcs_server: GcsServer) -> GcsServer:
    """The server that the settings lead to; failures are tried again soon."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    monkeypatch.setattr(gcs_stores, "DEFAULT_RETRY", DEFAULT_RETRY.with_delay(0.01, 0.05, 1.5).with_timeout(20))
    return gcs_server


@pytest.mark.parametrize("seed", [1, 2])
def test_a_day_in_bad_weather_ends_as_in_good_weather(patience: GcsServer, seed: int) -> None:
    weather = Weather(seed, 0.1)
    passed = passage(patience, patience.url, weather)
    assert sum(weather.counted.values()) > 20
    assert passed.clean, passed.problems
    assert passed.same


def test_a_day_in_the_worst_weather_says_so_and_doubles_nothing(
    patience: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs_stores, "DEFAULT_RETRY", DEFAULT_RETRY.with_delay(0.01, 0.02, 1.0).with_timeout(0.1))
    passed = passage(patience, patience.url, Weather(3, 0.85))
    assert not passed.clean
    assert passed.problems
    for problem in passed.problems:
        assert "stack trace" not in problem, "an error that is none of ours"
    assert any("gs://" in problem for problem in passed.problems)
