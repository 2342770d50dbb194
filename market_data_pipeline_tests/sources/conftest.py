"""Fixtures of the sources that fetch over HTTP."""

from collections.abc import Iterator

import pytest

from market_data_pipeline.sources.downloads.tries import Patience
from market_data_pipeline_tests.sources.vendor_server import VendorServer

QUICK = Patience(tries=3, step=0.001, longest=0.01, connect=5.0, silence=5.0)
"""Waits that nobody notices."""


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server
