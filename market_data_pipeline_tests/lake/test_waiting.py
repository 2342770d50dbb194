"""Waiting for other runs: longer each time, never before the first attempt, and told."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from market_data_pipeline.lake.day_files import settle
from market_data_pipeline.lake.encoding import write_day_file
from market_data_pipeline.lake.stores import waiting
from market_data_pipeline.lake.stores.local import LocalStore
from market_data_pipeline.lake.stores.waiting import wait_for_others
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline_tests.lake.made_up import BTC_USD, DAYS, TRADES, made_trades

log = logging.getLogger("test")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, at its longest."""
    pauses: list[float] = []
    monkeypatch.setattr(waiting.random, "uniform", lambda _, longest: longest)
    monkeypatch.setattr(waiting.time, "sleep", pauses.append)
    return pauses


def test_pauses_double_up_to_five_seconds(slept: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for attempt in range(10):
            wait_for_others(attempt, 10, "x was replaced", log)
    assert slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert caplog.messages[0] == "x was replaced; attempt 2 of 10 in 0.05 s"
    assert len(caplog.messages) == 9


class Busy:
    """A store in which another run writes the same day's by_date whenever the other layouts were put in step."""

    def __init__(self, store: LocalStore) -> None:
        self._store, self._versions = store, iter(range(1_000))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, staged: Path, keys: Sequence[str], **told: Any) -> None:
        self._store.put(staged, keys, **told)
        self.interfere()

    def interfere(self) -> None:
        with self._store.stage() as path:
            rows = made_trades(DAYS[0], BTC_USD, seed=next(self._versions))
            write_day_file(path, TRADES, DAYS[0], BTC_USD, [rows])
            self._store.put(path, [TRADES.path(TRADES.layouts[0], DAYS[0], BTC_USD)])


def test_a_day_that_other_runs_keep_writing_is_waited_for_and_named(tmp_path: Path, slept: list[float]) -> None:
    store = Busy(LocalStore(tmp_path))
    store.interfere()
    with pytest.raises(LakeError, match=r"by_date/.*BTC-USD.* kept changing: other runs wrote the same day"):
        settle(store, TRADES, [(DAYS[0], BTC_USD)])
    assert slept[:3] == [0.05, 0.1, 0.2]
    assert max(slept) == 5.0
