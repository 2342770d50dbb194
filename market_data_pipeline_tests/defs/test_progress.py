"""How far a step has come is told while it runs."""

from datetime import date
from pathlib import Path

import pytest

from market_data_pipeline.defs import progress
from market_data_pipeline.defs.progress import Progress, listening
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import SmallSource, pipeline

BTC, ETH = Instrument.spot("binance", "BTC", "USDT"), Instrument.spot("binance", "ETH", "USDT")
FIRST, LAST = date(2024, 3, 5), date(2024, 3, 7)


def test_a_listener_hears_of_each_instruments_day(tmp_path: Path) -> None:
    heard: list[Progress] = []
    with pipeline(Settings(lake=str(tmp_path)), SmallSource((BTC, ETH))) as running:
        with listening(heard.append):
            assert running.run(FIRST, LAST, assets=["trades", "ohlcv_1m"]).clean
        assert running.run(FIRST, assets=["trades"]).clean
    for asset, rows in (("trades", 3 * 2 * 40), ("ohlcv_1m", None)):
        mine = [each for each in heard if each.asset == asset]
        assert [each.files for each in mine] == [1, 2, 3, 4, 5, 6]
        assert {(each.latest.day, each.latest.instrument) for each in mine} == {
            (day, instrument) for day in (FIRST, date(2024, 3, 6), LAST) for instrument in (BTC, ETH)
        }
        assert all(each.day == (each.latest.day - FIRST).days + 1 and each.days == 3 for each in mine)
        assert rows in (None, mine[-1].rows)
    assert len(heard) == 12


@pytest.mark.parametrize(("every", "lines"), [(0.0, 2), (3600.0, 0)])
def test_the_log_is_told_from_time_to_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: float, lines: int
) -> None:
    monkeypatch.setattr(progress, "EVERY", every)
    with pipeline(Settings(lake=str(tmp_path)), SmallSource((BTC, ETH))) as running:
        outcome = running.run(FIRST, assets=["trades"])
        told = [
            record.user_message
            for record in running.instance.all_logs(outcome.run_id)
            if "rows a second" in record.user_message
        ]
    assert len(told) == lines
    if told:
        assert told[-1].startswith("trades: 2 files, 80 rows, ")
        assert told[-1].endswith(f"on {FIRST} (day 1 of 1)")
