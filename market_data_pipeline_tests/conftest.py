"""Fixtures for all tests; those of one subject stand in modules of their own."""

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
