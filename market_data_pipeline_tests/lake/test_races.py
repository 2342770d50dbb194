"""Processes that write days of one month at once, while others read it; more and longer ones: `benchmarks.races`."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest

from market_data_pipeline_tests.lake.races import Race, racing, run
from market_data_pipeline_tests.store_fixtures import Ground

RACE = Race(writers=2, writes=7, readers=1, days=6)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with racing(RACE) as processes:
        yield processes


def test_no_row_is_lost_doubled_or_mixed_and_readers_see_whole_days(ground: Ground, pool: ProcessPoolExecutor) -> None:
    result = run(RACE, ground.again, 1, pool)
    assert result.sound, result
    assert result.rows > 100
    assert result.efforts[-1].reads > 0


def test_without_preconditions_rows_are_lost(ground: Ground, pool: ProcessPoolExecutor) -> None:
    """Only so is it known that the test above would see a row that is lost."""
    result = run(replace(RACE, writes=20, readers=0, conditional=False), ground.again, 1, pool)
    assert result.lost > 0, result
