from datetime import date

import numpy as np
import pytest

from market_data_pipeline.model.windows import DAY, days_between, microseconds, midnight
from market_data_pipeline.sources.sample import market, tickers
from market_data_pipeline.sources.sample.market import hour_of
from market_data_pipeline.sources.sample.positions import open_interest
from market_data_pipeline.sources.sample.source import SampleSource
from market_data_pipeline.sources.sample.tickers import hour_tickers
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

KIND = "derivative_ticker"
EIGHT_HOURS = 8 * 3_600_000_000
PERPETUALS = (FUTURES_BTC, "binance-futures:Perp:ETH-USDT", DELIVERY_BTC, DERIBIT_BTC)


class TestContract(SourceContract):
    data_type = KIND
    day = THE_DAY
    empty_day = date(2018, 12, 31)

    @pytest.fixture
    def source(self):
        return SampleSource()


@pytest.mark.parametrize(
    ("instrument", "day", "rows", "checksum"),
    [
        (FUTURES_BTC, THE_DAY, 17_280, 796527031),
        (FUTURE, THE_DAY, 17_280, 1629809976),
        (DERIBIT_BTC, date(2031, 2, 28), 17_280, 2426626445),
    ],
)
def test_the_bytes_never_change(instrument, day, rows, checksum):
    table = rows_of(KIND, instrument, day)
    assert (table.num_rows, crc(table)) == (rows, checksum)


class TestFunding:
    @pytest.mark.parametrize("instrument", PERPETUALS)
    def test_it_takes_place_every_eight_hours(self, instrument):
        table = rows_of(KIND, instrument)
        funding, stamps = times(table, "funding_timestamp"), times(table)
        assert np.all(funding % EIGHT_HOURS == 0)
        assert np.all((stamps < funding) & (funding - stamps <= EIGHT_HOURS))
        start = microseconds(midnight(THE_DAY))
        assert set(times(around(KIND, instrument), "funding_timestamp")) == {start + n * EIGHT_HOURS for n in (1, 2, 3)}

    @pytest.mark.parametrize("instrument", PERPETUALS)
    def test_the_rate_comes_from_the_premium_of_the_interval_before(self, instrument):
        table, perpetual = around(KIND, instrument), listed(instrument).instrument
        for funding in np.unique(times(table, "funding_timestamp")):
            inside = times(table, "funding_timestamp") == funding
            (rate,) = set(reals(table, "funding_rate")[inside])
            first = funding // 3_600_000_000 - 16
            minutes = np.arange(60) / 60
            premium = np.mean([market.premium(perpetual, int(first) + hour, minutes) for hour in range(8)])
            assert rate == pytest.approx(premium + min(max(1e-4 - premium, -5e-4), 5e-4), abs=1e-8)

    def test_the_prediction_becomes_the_rate(self):
        for instrument in PERPETUALS:
            for day in days_between(THE_DAY, date(2024, 8, 11)):
                table = around(KIND, instrument, day)
                rate, predicted = reals(table, "funding_rate"), reals(table, "predicted_funding_rate")
                turns = np.flatnonzero(np.diff(times(table, "funding_timestamp")))
                assert len(turns) == 2
                assert rate[turns + 1] == pytest.approx(predicted[turns], abs=1e-8)

    def test_a_prediction_knows_only_what_was(self, monkeypatch):
        # a premium that is one thing until noon and another from then on
        instrument, noon = listed(FUTURES_BTC), hour_of(midnight(date(2023, 1, 1))) + 12

        def premium_until_noon(_, hour, within):
            return np.where(hour + within < noon, 2e-3, 9e-3)

        tickers._average_premiums.cache_clear()
        monkeypatch.setattr(tickers, "premium", premium_until_noon)
        before, after = hour_tickers(instrument, noon - 1), hour_tickers(instrument, noon)
        tickers._average_premiums.cache_clear()
        assert np.unique(before.predicted_funding_rate) == pytest.approx([1.5e-3])
        assert np.all(np.diff(after.predicted_funding_rate) >= 0)
        assert after.predicted_funding_rate[0] < after.predicted_funding_rate[-1] < 8.5e-3
        assert set(after.funding_rate) == {1.5e-3}

    def test_rates_are_plausible(self):
        first = hour_of(midnight(date(2024, 1, 1)))
        perpetuals = [listed(instrument) for instrument in PERPETUALS]
        rates = np.array(
            [hour_tickers(each, hour).funding_rate[0] for each in perpetuals for hour in range(first, first + 480, 8)]
        )
        assert np.abs(rates).max() < 2e-3
        assert 1e-5 < rates.mean() < 5e-4
        assert np.mean(rates == 1e-4) > 0.3
        assert len(np.unique(rates)) > 30

    def test_a_future_has_none(self):
        table = rows_of(KIND, FUTURE)
        for name in ("funding_timestamp", "funding_rate", "predicted_funding_rate"):
            assert table[name].null_count == table.num_rows
        assert sum(table[name].null_count for name in ("open_interest", "last_price", "index_price", "mark_price")) == 0


class TestPrices:
    def test_the_last_price_is_the_last_trades(self):
        for instrument in names(THE_DAY, KIND):
            table, trades = around(KIND, instrument), around("trades", instrument)
            last = np.searchsorted(times(trades), times(table), side="right") - 1
            known = last >= 0
            assert np.mean(known) > 0.9
            price = reals(trades, "price")[last[known]]
            # trades of one millisecond: the file's order may not be that of trading
            same = reals(table, "last_price")[known] == price
            alone = np.isin(times(trades)[last[known]], _alone(times(trades)))
            assert np.all(same | ~alone)
            assert same.mean() > 0.95

    def test_index_and_mark_are_those_of_the_market(self):
        for instrument in PERPETUALS:
            table = rows_of(KIND, instrument)
            index, mark, last = (reals(table, f"{name}_price") for name in ("index", "mark", "last"))
            assert on_grid(index[:500].tolist() + mark[:500].tolist(), 0.01)
            assert np.abs(mark / index - 1).max() < 1.5e-3
            assert np.abs(last / mark - 1).max() < 3e-3
            stamps = times(table)
            hours = stamps // 3_600_000_000
            for hour in np.unique(hours)[2:20:5]:
                rows = hours == hour
                within = stamps[rows] % 3_600_000_000 / 3_600_000_000
                premium = market.premium(listed(instrument).instrument, int(hour), within)
                assert mark[rows] / index[rows] - 1 == pytest.approx(premium, abs=1e-5)

    def test_the_index_is_one_for_all_instruments_of_an_asset(self):
        def index(instrument):
            table = around(KIND, instrument)
            return times(table) / 1e6, reals(table, "index_price")

        at, price = index(FUTURES_BTC)
        for instrument in (DERIBIT_BTC, DELIVERY_BTC, FUTURE):
            # they are stamped at other moments: within some seconds prices move little
            between = np.interp(at, *index(instrument))
            assert np.abs(between / price - 1).max() < 2e-3
            assert abs(np.mean(between / price - 1)) < 1e-6
        spot = np.interp(at, times(around("trades", SPOT_BTC)) / 1e6, reals(around("trades", SPOT_BTC), "price"))
        assert np.abs(spot / price - 1).max() < 4e-3

    def test_a_future_stands_above_the_index_and_meets_it_at_its_expiry(self):
        table = rows_of(KIND, FUTURE)
        basis = reals(table, "mark_price") / reals(table, "index_price") - 1
        assert np.all((basis > 0) & (basis < 0.03))
        last = rows_of(KIND, FUTURE, listed(FUTURE).end.date())
        basis = reals(last, "mark_price") / reals(last, "index_price") - 1
        assert abs(basis[-1]) < 1e-5


class TestOpenInterest:
    @pytest.mark.parametrize("day", [date(2019, 3, 31), THE_DAY, date(2033, 12, 31)])
    def test_it_is_positive_and_goes_on_over_midnight(self, day):
        for instrument in names(day, KIND):
            if instrument not in names(day + DAY, KIND):
                continue
            today, tomorrow = (reals(around(KIND, instrument, each), "open_interest") for each in (day, day + DAY))
            both = np.concatenate([today, tomorrow])
            lot = listed(instrument, day).terms.lot.step
            assert both.min() >= lot
            assert on_grid(both[::500].tolist(), lot)
            assert np.abs(np.diff(both)).max() <= max(0.002 * both.max(), lot)
            assert len(np.unique(both)) > 100

    def test_a_future_begins_with_almost_none(self):
        each = listed(FUTURE)
        first = reals(rows_of(KIND, FUTURE, each.start.date()), "open_interest")
        later = reals(rows_of(KIND, FUTURE), "open_interest")
        assert first[0] < 0.001 * later[0]
        assert np.all(later > 1e7)
        at = hour_of(each.start)
        assert open_interest(each, at, np.array([0]))[0] == each.terms.lot.step


@pytest.mark.parametrize("instrument", [FUTURES_BTC, DERIBIT_BTC])
def test_each_ticker_lies_in_exactly_one_file(instrument):
    days = list(days_between(date(2023, 12, 30), date(2024, 1, 2)))
    stamps = np.concatenate([times(rows_of(KIND, instrument, day)) for day in days])
    assert len(np.unique(stamps)) == len(stamps)
    hours = range(hour_of(midnight(days[1])), hour_of(midnight(days[-1])))
    made = np.concatenate([hour_tickers(listed(instrument), hour).timestamp for hour in hours])
    inside = (stamps >= microseconds(midnight(days[1]))) & (stamps < microseconds(midnight(days[-1])))
    assert np.array_equal(np.sort(stamps[inside]), made)
    assert np.diff(made).max() <= 10_000_000


def _alone(stamps):
    found, counts = np.unique(stamps, return_counts=True)
    return found[counts == 1]
