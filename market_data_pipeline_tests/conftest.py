"""Fixtures for all tests; those of one subject stand in modules of their own."""

import os

import pytest
from hypothesis import settings

from market_data_pipeline.defs import ACCEPTED_WARNINGS

# By name, not by `pytest_plugins`: that is allowed only beside pyproject.toml, and `pytest .` would fail.
from market_data_pipeline_tests.store_fixtures import (
    gcs,
    gcs_server,
    gcs_store,
    ground,
    local,
    local_store,
    running_gcs_server,
    store,
)

__all__ = ["gcs", "gcs_server", "gcs_store", "ground", "local", "local_store", "running_gcs_server", "store"]

# a busy machine is slow, not wrong
settings.register_profile("house", deadline=None)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    """What Dagster may warn of stands in one place, and that is not here."""
    for category, beginning, _ in ACCEPTED_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{beginning}:{category.__module__}.{category.__qualname__}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With REQUIRE_ALL_TESTS a test that skips is a failure: where everything is installed nothing may be left out."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("REQUIRE_ALL_TESTS") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped, and REQUIRE_ALL_TESTS is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
