from datetime import date

import numpy as np
import pytest

from market_data_pipeline.model.instruments import InstrumentType
from market_data_pipeline.model.windows import DAY, days_between, microseconds, midnight
from market_data_pipeline.sources.sample.books import hour_books
from market_data_pipeline.sources.sample.listing import listed_on
from market_data_pipeline.sources.sample.market import hour_of
from market_data_pipeline.sources.sample.source import SampleSource
from market_data_pipeline_tests.sources.sample_days import (
    DELIVERY_BTC,
    DERIBIT_BTC,
    FUTURE,
    FUTURES_BTC,
    SPOT_BTC,
    THE_DAY,
    around,
    crc,
    listed,
    names,
    on_grid,
    reals,
    rows_of,
    times,
)
from market_data_pipeline_tests.sources.source_contract import SourceContract

KINDS = {"book_snapshot_5": 5, "book_snapshot_25": 25}
SIDES = ("ask", "bid")


def levels(table, side, what, depth):
    return np.column_stack([reals(table, f"{side}_{what}_{level}") for level in range(1, depth + 1)])


class TestShallowContract(SourceContract):
    data_type = "book_snapshot_5"
    day = THE_DAY
    empty_day = date(2018, 12, 31)

    @pytest.fixture
    def source(self):
        return SampleSource()


class TestDeepContract(TestShallowContract):
    data_type = "book_snapshot_25"


@pytest.mark.parametrize(
    ("data_type", "instrument", "day", "rows", "checksum"),
    [
        ("book_snapshot_5", FUTURE, THE_DAY, 19_835, 716717765),
        ("book_snapshot_25", FUTURE, THE_DAY, 4_466, 381434493),
        ("book_snapshot_25", SPOT_BTC, date(2031, 2, 28), 5_716, 3860361637),
    ],
)
def test_the_bytes_never_change(data_type, instrument, day, rows, checksum):
    table = rows_of(data_type, instrument, day)
    assert (table.num_rows, crc(table)) == (rows, checksum)


class TestLevels:
    @pytest.mark.parametrize("data_type", KINDS)
    def test_prices_move_away_from_the_best_and_never_cross(self, data_type):
        depth = KINDS[data_type]
        for instrument in names(THE_DAY, data_type):
            table = rows_of(data_type, instrument)
            asks, bids = levels(table, "ask", "price", depth), levels(table, "bid", "price", depth)
            assert np.all(asks[:, 0] > bids[:, 0])
            # a comparison with NaN, a level that is not there, is false
            assert not np.any(np.diff(asks, axis=1) <= 0)
            assert not np.any(np.diff(bids, axis=1) >= 0)
            assert not np.any(bids <= 0)
            # 25 levels are no wider than prices move in some minutes
            assert np.nanmax(asks) / np.nanmin(bids) < 1.2

    @pytest.mark.parametrize("data_type", KINDS)
    def test_levels_lie_on_the_grids(self, data_type):
        for instrument in names(THE_DAY, data_type):
            table, terms = rows_of(data_type, instrument).slice(0, 300), listed(instrument).terms
            for side in SIDES:
                for what, step in (("price", terms.tick.step), ("amount", terms.lot.step)):
                    values = levels(table, side, what, KINDS[data_type]).ravel()
                    values = values[~np.isnan(values)].tolist()
                    assert min(values) >= step
                    assert on_grid(values, step)

    def test_thin_books_lack_levels_at_their_ends(self):
        lacking = {}
        for instrument in names(THE_DAY, "book_snapshot_25"):
            table = rows_of("book_snapshot_25", instrument)
            for side in SIDES:
                missing = np.isnan(levels(table, side, "price", 25))
                assert np.array_equal(missing, np.isnan(levels(table, side, "amount", 25)))
                assert np.all(missing[:, 1:] >= missing[:, :-1])
                lacking[instrument, side] = missing
        assert 0.5 < lacking[FUTURE, "ask"][:, -1].mean() < 0.9
        assert 0 < lacking[FUTURE, "bid"][:, 4].mean() < 0.2
        assert not lacking[FUTURE, "bid"][:, 0].any()
        assert lacking[DELIVERY_BTC, "bid"].any()
        assert not lacking[FUTURES_BTC, "ask"].any()
        # the two sides are drawn on their own
        assert not np.array_equal(lacking[FUTURE, "ask"], lacking[FUTURE, "bid"])

    def test_a_deep_snapshot_begins_with_the_shallow_one_of_its_time(self):
        for instrument in names(THE_DAY, "book_snapshot_25"):
            shallow, deep = rows_of("book_snapshot_5", instrument), rows_of("book_snapshot_25", instrument)
            at = times(shallow)
            where = np.array([np.flatnonzero(at == time)[0] for time in times(deep)[::50]])
            assert shallow.take(where) == deep.take(np.arange(0, deep.num_rows, 50)).select(shallow.column_names)
            assert np.isin(times(deep), at).all()
            assert deep.num_rows < shallow.num_rows / 2


class TestTrades:
    @pytest.mark.parametrize("day", [THE_DAY, date(2019, 6, 28)])
    def test_no_trade_lies_inside_the_book_that_stands_at_its_time(self, day):
        for instrument in names(day, "book_snapshot_5"):
            books, trades = around("book_snapshot_5", instrument, day), around("trades", instrument, day)
            stands = np.searchsorted(times(books), times(trades), side="right") - 1
            # before the day's first snapshot stands one of the day before
            trades, stands = trades.slice(int(np.sum(stands < 0))), stands[stands >= 0]
            price, bought = reals(trades, "price"), np.array(trades["side"].to_pylist()) == "buy"
            asks, bids = reals(books, "ask_price_1")[stands], reals(books, "bid_price_1")[stands]
            assert np.all(np.where(bought, price >= asks, price <= bids))
            # and most lie at it
            assert np.mean(np.where(bought, price == asks, price == bids)) > 0.4

    def test_deep_snapshots_stand_where_orders_went_deep(self):
        deep, trades = times(around("book_snapshot_25", FUTURES_BTC)), times(around("trades", FUTURES_BTC))
        stamps, fills = np.unique(trades, return_counts=True)
        assert np.isin(stamps[fills >= 4], deep).all()
        assert not np.isin(stamps[fills < 4], deep).any() or np.isin(stamps[fills < 4], deep).mean() < 0.01


class TestTime:
    @pytest.mark.parametrize(("data_type", "longest"), [("book_snapshot_5", 10), ("book_snapshot_25", 40)])
    def test_no_instrument_is_without_a_snapshot_for_long(self, data_type, longest):
        for instrument in names(THE_DAY, data_type):
            stamps = times(around(data_type, instrument))
            assert np.diff(stamps).max() <= longest * 1_000_000
            # one snapshot at a time
            assert np.all(np.diff(stamps) > 0)

    @pytest.mark.parametrize("instrument", [FUTURES_BTC, DERIBIT_BTC])
    @pytest.mark.parametrize("data_type", KINDS)
    def test_each_snapshot_lies_in_exactly_one_file(self, instrument, data_type):
        days = list(days_between(date(2023, 12, 30), date(2024, 1, 2)))
        stamps = np.concatenate([times(rows_of(data_type, instrument, day)) for day in days])
        assert len(np.unique(stamps)) == len(stamps)
        hours = range(hour_of(midnight(days[1])), hour_of(midnight(days[-1])))
        made = [hour_books(listed(instrument), hour, KINDS[data_type]).timestamp for hour in hours]
        inside = (stamps >= microseconds(midnight(days[1]))) & (stamps < microseconds(midnight(days[-1])))
        assert np.array_equal(np.sort(stamps[inside]), np.concatenate(made))

    def test_snapshots_reach_over_midnight_both_ways(self):
        # the books of many days, so that one of them surely is under way at midnight
        late = early = 0
        for day in days_between(date(2024, 1, 1), date(2024, 3, 31)):
            turn = hour_of(midnight(day))
            turn_us = microseconds(midnight(day))
            late += np.sum(hour_books(listed(FUTURES_BTC), turn - 1, 5).local_timestamp >= turn_us)
            early += np.sum(hour_books(listed(DERIBIT_BTC), turn, 5).local_timestamp < turn_us)
        assert late > 20
        assert early > 20

    def test_a_book_begins_and_ends_with_its_instrument(self):
        each = listed(FUTURE)
        first, last = (
            rows_of("book_snapshot_5", FUTURE, each.start.date()),
            rows_of("book_snapshot_5", FUTURE, each.end.date()),
        )
        assert 0 <= times(first).min() - microseconds(each.start) < 10_000_000
        assert 0 < microseconds(each.end) - times(last).max() < 10_000_000
        assert FUTURE not in names(each.end.date() + DAY, "book_snapshot_5")

    def test_prices_continue_over_midnight(self):
        for instrument in (FUTURES_BTC, SPOT_BTC, DERIBIT_BTC):
            today, tomorrow = (around("book_snapshot_5", instrument, day) for day in (THE_DAY, THE_DAY + DAY))
            last, first = reals(today, "ask_price_1")[-1], reals(tomorrow, "ask_price_1")[0]
            assert abs(first / last - 1) < 0.002


def test_options_have_no_books():
    assert any(each.instrument.type is InstrumentType.OPTION for each in listed_on(THE_DAY))
    assert not any(":Option:" in name for name in names(THE_DAY, "book_snapshot_5"))
