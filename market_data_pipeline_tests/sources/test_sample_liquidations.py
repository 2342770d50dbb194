from collections import Counter
from datetime import date, timedelta

import numpy as np
import pytest

from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import days_between
from market_data_pipeline.sources.sample import market
from market_data_pipeline.sources.sample.market import HOUR_MS
from market_data_pipeline.sources.sample.positions import hour_liquidations
from market_data_pipeline.sources.sample.source import SampleSource
from market_data_pipeline_tests.sources.sample_days import (
    DELIVERY_BTC,
    DERIBIT_BTC,
    FUTURE,
    FUTURES_BTC,
    THE_DAY,
    crc,
    listed,
    names,
    on_grid,
    rows_of,
    times,
    trades,
)
from market_data_pipeline_tests.sources.source_contract import SourceContract

KIND = "liquidations"
SOME_DAYS = [THE_DAY + timedelta(days=97 * n) for n in range(-15, 15)]


class TestContract(SourceContract):
    data_type = KIND
    day = THE_DAY
    empty_day = date(2018, 12, 31)
    told_ahead = False

    @pytest.fixture
    def source(self):
        return SampleSource()


@pytest.mark.parametrize(
    ("instrument", "day", "rows", "checksum"),
    [(FUTURES_BTC, THE_DAY, 303, 4154108910), (DERIBIT_BTC, date(2031, 2, 28), 105, 2745742350)],
)
def test_the_bytes_never_change(instrument, day, rows, checksum):
    table = rows_of(KIND, instrument, day)
    assert (table.num_rows, crc(table)) == (rows, checksum)


def moves(table, asset="BTC"):
    """By which fraction the index has moved in the five minutes before each row, reckoned from its seconds."""

    def index(second):
        hour, within = divmod(second, 3_600)
        return market.index_path(asset, int(hour))[int(within)]

    seconds = times(table) // 1_000_000
    return np.array([index(second) - index(second - 300) for second in seconds])


class TestWhen:
    def test_longs_go_in_a_fall_and_shorts_in_a_rise(self):
        sides = set()
        for day in SOME_DAYS:
            table = rows_of(KIND, FUTURES_BTC, day)
            if table.num_rows:
                side, move = np.array(table["side"].to_pylist()), moves(table)
                assert np.all(np.where(side == "buy", move > 0.002, move < -0.002))
                sides |= set(side)
        assert sides == {"buy", "sell"}

    def test_they_are_rare_and_come_together(self):
        counts, dense = [], 0
        for day in SOME_DAYS:
            stamps = times(rows_of(KIND, FUTURES_BTC, day))
            counts.append(len(stamps))
            minutes = np.unique(stamps // 60_000_000)
            dense += len(minutes) < 0.1 * 1_440
        assert 20 < np.mean(counts) < 1_000
        assert dense == len(SOME_DAYS)
        share = sum(counts) / sum(trades(FUTURES_BTC, day).num_rows for day in SOME_DAYS)
        assert 0.0002 < share < 0.02

    def test_what_has_none_on_a_day_has_no_file(self):
        days = days_between(THE_DAY, date(2024, 9, 20))
        calm = next(day for day in days if not rows_of(KIND, FUTURE, day).num_rows)
        source = SampleSource()
        assert list(source.files(KIND, calm, Selection.of(FUTURE))) == []
        assert FUTURE in names(calm, "trades")
        for file in source.files(KIND, calm, Selection()):
            assert sum(batch.num_rows for batch in file.read(Rejects())) > 0
        assert "where prices move fast from 2019" in source.describe(KIND)

    def test_the_most_traded_has_some_on_most_days(self):
        assert np.mean([rows_of(KIND, FUTURES_BTC, day).num_rows > 0 for day in SOME_DAYS]) > 0.9


class TestWhat:
    @pytest.mark.parametrize("instrument", [FUTURES_BTC, DERIBIT_BTC, DELIVERY_BTC, FUTURE])
    def test_each_is_a_trade_too(self, instrument):
        columns = ["timestamp", "local_timestamp", "side", "price", "amount"]
        found = 0
        for day in days_between(THE_DAY, date(2024, 8, 14)):
            table = rows_of(KIND, instrument, day)
            if table.num_rows:
                of_trades = trades(instrument, day).select(columns)
                of_trades = of_trades.filter(np.isin(times(of_trades), times(table))).to_pylist()
                assert not Counter(map(str, table.select(columns).to_pylist())) - Counter(map(str, of_trades))
                terms = listed(instrument, day).terms
                assert on_grid(table["price"].to_pylist(), terms.tick.step)
                assert on_grid(table["amount"].to_pylist(), terms.lot.step)
                assert table["id"].null_count == (0 if instrument.startswith("deribit") else table.num_rows)
                found += table.num_rows
        assert found

    def test_the_move_is_reckoned_over_the_turn_of_an_hour(self):
        for hour in range(474_300, 474_340):
            offsets = np.array([0, 1_000, 299_000, 300_000, HOUR_MS - 1_000])
            last, this = market.index_path("ETH", hour - 1), market.index_path("ETH", hour)
            both = np.concatenate([last[:-1], this])
            seconds = offsets // 1_000 + 3_600
            expected = both[seconds] - both[seconds - 300]
            assert market.recent_move("ETH", hour, offsets) == pytest.approx(expected, abs=1e-12)

    def test_no_trade_is_taken_before_the_hour_or_after_it(self):
        found = 0
        for hour in range(478_000, 478_024):
            rows = hour_liquidations(listed(FUTURES_BTC), hour)
            assert np.all(rows.timestamp // (HOUR_MS * 1_000) == hour)
            found += len(rows.timestamp)
        assert found
