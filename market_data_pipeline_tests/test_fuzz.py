"""A few examples of each target of `fuzz`; `benchmarks.fuzz` runs more."""

import pytest
from hypothesis import settings

from market_data_pipeline_tests.fuzz import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_from_outside_gives_a_foreign_error(name: str) -> None:
    settings(max_examples=60)(TARGETS[name])()
