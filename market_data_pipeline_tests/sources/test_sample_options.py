import csv
import math
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.model.instruments import InstrumentType
from market_data_pipeline.model.windows import DAY, EPOCH, days_between, microseconds, midnight
from market_data_pipeline.sources.sample import black76, market
from market_data_pipeline.sources.sample.chain import hour_chain
from market_data_pipeline.sources.sample.listing import listed_on, underlying_index
from market_data_pipeline.sources.sample.market import hour_of
from market_data_pipeline.sources.sample.source import SampleSource
from market_data_pipeline_tests.sources.sample_days import (
    CALL,
    FUTURE,
    PUT,
    THE_DAY,
    around,
    crc,
    listed,
    names,
    on_grid,
    options,
    reals,
    rows_of,
    times,
)
from market_data_pipeline_tests.sources.source_contract import SourceContract

KIND = "options_chain"
FIXTURES = Path(__file__).parents[1] / "fixtures"
YEAR = 365 * 86_400_000_000


class TestContract(SourceContract):
    data_type = KIND
    day = THE_DAY
    empty_day = date(2018, 12, 31)

    @pytest.fixture
    def source(self):
        return SampleSource()


@pytest.mark.parametrize(
    ("instrument", "day", "rows", "checksum"),
    [(PUT, THE_DAY, 4_591, 3120921853), (CALL, date(2024, 8, 30), 1_495, 2707200619)],
)
def test_the_bytes_never_change(instrument, day, rows, checksum):
    table = rows_of(KIND, instrument, day)
    assert (table.num_rows, crc(table)) == (rows, checksum)


def exact(is_call, forward, strike, years, volatility, rate=0.0):
    """Black-Scholes in dollars, on a spot price, with the standard library's functions."""
    root = volatility * math.sqrt(years)
    upper = (math.log(forward / strike) + rate * years) / root + root / 2

    def cdf(x):
        return (1 + math.erf(x / math.sqrt(2))) / 2

    call = forward * cdf(upper) - strike * math.exp(-rate * years) * cdf(upper - root)
    return call if is_call else call - forward + strike * math.exp(-rate * years)


prices = st.tuples(
    st.booleans(),
    st.floats(5_000, 200_000),
    st.floats(-0.4, 0.4),
    st.floats(2 / 365, 0.5),
    st.floats(0.3, 1.2),
)


class TestBlack76:
    @settings(max_examples=200, deadline=None)
    @given(prices)
    def test_values_are_blacks(self, inputs):
        is_call, forward, money, years, volatility = inputs
        strike = forward / math.exp(money)
        found = black76.value(is_call, np.array([money]), np.array([volatility * math.sqrt(years)]))[0]
        assert found == pytest.approx(exact(is_call, forward, strike, years, volatility) / forward, abs=3e-7)

    @settings(max_examples=200, deadline=None)
    @given(prices)
    def test_greeks_are_finite_differences_of_the_value(self, inputs):
        is_call, forward, money, years, volatility = inputs
        strike = forward / math.exp(money)
        found = black76.greeks(is_call, *(np.array([x]) for x in (forward, money, years, volatility)))

        def value(up=0.0, later=0.0, more=0.0, rate=0.0):
            return exact(is_call, forward + up, strike, years - later, volatility + more, rate)

        small = forward * 1e-4
        delta = (value(small) - value(-small)) / (2 * small)
        gamma = (value(small) - 2 * value() + value(-small)) / small**2
        day = 1 / 365
        assert found.delta[0] == pytest.approx(delta, abs=1e-5)
        assert found.gamma[0] * forward == pytest.approx(gamma * forward, rel=1e-3, abs=1e-4)
        assert found.vega[0] == pytest.approx((value(more=1e-5) - value(more=-1e-5)) / 2e-3, rel=1e-4, abs=1e-4)
        theta = (value(later=day / 100) - value(later=-day / 100)) / 0.02
        assert found.theta[0] == pytest.approx(theta, rel=1e-3, abs=1e-3)
        rho = (value(rate=1e-5) - value(rate=-1e-5)) / 2e-3
        assert found.rho[0] == pytest.approx(rho, rel=1e-4, abs=1e-4 * forward * years)

    @settings(max_examples=200, deadline=None)
    @given(prices)
    def test_a_values_implied_deviation_gives_it_back(self, inputs):
        is_call, _, money, years, volatility = inputs
        money, deviation = np.array([money]), np.array([volatility * math.sqrt(years)])
        value = black76.value(is_call, money, deviation)
        found = black76.implied_deviation(is_call, money, value)
        at_exercise = max(1 - math.exp(-money[0]), 0) if is_call else max(math.exp(-money[0]) - 1, 0)
        if value[0] - at_exercise <= 0.99e-5:
            assert math.isnan(found[0])
        elif value[0] - at_exercise > 1.01e-5:
            assert black76.value(is_call, money, found)[0] == pytest.approx(value[0], abs=1e-8)

    def test_a_price_without_a_solution_has_no_deviation(self):
        money = np.array([0.2, 0.2, -0.2, 0.0, 0.1])
        price = np.array([0.1, 1 - math.exp(-0.2), 0.0, np.nan, 1.5])
        assert np.isnan(black76.implied_deviation(True, money, price)).all()

    def test_they_are_those_that_the_vendor_records(self):
        sample = FIXTURES / "tardis_samples" / "deribit_options_chain_2020-06-08_OPTIONS.csv"
        with sample.open() as lines:
            rows = list(csv.DictReader(lines))
        assert len(rows) == 9
        for row in rows:
            is_call, forward = row["type"] == "call", float(row["underlying_price"])
            years = (int(row["expiration"]) - int(row["timestamp"])) / YEAR
            money, volatility = math.log(forward / float(row["strike_price"])), float(row["mark_iv"]) / 100
            inputs = (forward, money, years, volatility)
            greeks = black76.greeks(is_call, *(np.array([x]) for x in inputs))
            # the recorded volatility has four digits
            assert greeks.delta[0] == pytest.approx(float(row["delta"]), abs=3e-4)
            assert greeks.gamma[0] == pytest.approx(float(row["gamma"]), abs=6e-6)
            assert greeks.vega[0] == pytest.approx(float(row["vega"]), rel=1e-3)
            assert greeks.theta[0] == pytest.approx(float(row["theta"]), rel=2e-3)
            assert greeks.rho[0] == pytest.approx(float(row["rho"]), rel=2e-3)
            deviation = np.array([volatility * math.sqrt(years)])
            mark = black76.value(is_call, np.array([money]), deviation)[0]
            assert mark == pytest.approx(float(row["mark_price"]), abs=1e-5)
            for side in ("bid", "ask"):
                price = np.array([float(row[f"{side}_price"])])
                implied = black76.implied_deviation(is_call, np.array([money]), price)[0] / math.sqrt(years)
                assert implied * 100 == pytest.approx(float(row[f"{side}_iv"]), abs=0.15)


def pairs(day):
    """The calls of a day, each with the put of its strike and expiry."""
    ids = [each.instrument for each in options(day)]
    for call in (each for each in ids if each.side == "C"):
        (put,) = (each for each in ids if each.side == "P" and (each.strike, each.expiry) == (call.strike, call.expiry))
        yield call, put


class TestQuotes:
    @pytest.mark.parametrize("day", [THE_DAY, date(2024, 8, 30), date(2019, 1, 25)])
    def test_parity_holds_within_the_spread(self, day):
        for call, put in pairs(day):
            calls, puts = rows_of(KIND, call.id, day), rows_of(KIND, put.id, day)
            # each row of the call against the put's quotes of nearly the same time, at the call's forward
            near = np.abs(times(puts)[None, ::3] - times(calls)[::3, None]) < 2_000_000
            rows, others = (index * 3 for index in np.nonzero(near))
            calls, puts = calls.take(rows), puts.take(others)
            forward = reals(calls, "underlying_price")
            worth = 1 - float(call.strike) / forward
            moved = np.abs(reals(puts, "underlying_price") / forward - 1)
            bid = {id(each): np.nan_to_num(reals(each, "bid_price")) for each in (calls, puts)}
            assert np.all(bid[id(calls)] - reals(puts, "ask_price") <= worth + 2 * moved + 1e-6)
            assert np.all(worth <= reals(calls, "ask_price") - bid[id(puts)] + 2 * moved + 1e-6)
            assert len(rows) > 20

    def test_marks_lie_between_the_quotes_and_ivs_likewise(self):
        for day in (THE_DAY, date(2024, 8, 30)):
            for instrument in names(day, KIND)[::3]:
                table = rows_of(KIND, instrument, day)
                bid, mark, ask = (reals(table, f"{name}_price") for name in ("bid", "mark", "ask"))
                assert np.all(np.isnan(bid) | ((bid <= mark + 1e-7) & (bid > 0)))
                assert np.all((mark <= ask + 1e-7) & (mark >= 0) & (ask < 1))
                ivs = [reals(table, f"{name}_iv") for name in ("bid", "mark", "ask")]
                assert not np.any(ivs[0] > ivs[1] + 0.02)
                # within the last minute the clock stands still
                assert not np.any(ivs[2] < ivs[1] - 0.02)
                assert np.all((ivs[1] > 20) & (ivs[1] < 150))
                assert on_grid(bid[~np.isnan(bid)].tolist() + ask.tolist(), 0.0005)
                amounts = table["bid_amount"].to_pylist() + table["ask_amount"].to_pylist()
                assert on_grid(amounts, 0.1)
                assert np.array_equal(np.isnan(bid), np.isnan(reals(table, "bid_amount")))

    def test_ivs_give_the_prices_back(self):
        for instrument in names(THE_DAY, KIND)[::3]:
            table = rows_of(KIND, instrument)
            is_call, strike = table["type"][0].as_py() == "call", table["strike_price"][0].as_py()
            years = (times(table, "expiration") - times(table)) / YEAR
            forward = reals(table, "underlying_price")
            for side in ("bid", "mark", "ask"):
                price, iv = reals(table, f"{side}_price"), reals(table, f"{side}_iv")
                for row in range(0, table.num_rows, 400):
                    if not math.isnan(iv[row]):
                        value = exact(is_call, forward[row], strike, years[row], iv[row] / 100) / forward[row]
                        assert value == pytest.approx(price[row], abs=1e-5)

    def test_a_worthless_option_has_an_ask_and_no_bid(self):
        expiry = date(2024, 8, 30)
        worthless = 0
        for instrument in names(expiry, KIND):
            table = rows_of(KIND, instrument, expiry)
            bid, bid_iv = reals(table, "bid_price"), reals(table, "bid_iv")
            assert np.all(np.isnan(bid_iv[np.isnan(bid)]))
            assert np.array_equal(np.isnan(bid), reals(table, "mark_price") * 0.98 < 0.0005)
            worthless += np.isnan(bid).any()
        assert worthless > 4

    @pytest.mark.parametrize("day", [THE_DAY, date(2024, 8, 30)])
    def test_no_trade_lies_inside_the_quotes_that_stand(self, day):
        for instrument in (CALL, PUT):
            chain, trades = around(KIND, instrument, day), around("trades", instrument, day)
            stands = np.searchsorted(times(chain), times(trades), side="right") - 1
            trades, stands = trades.slice(int(np.sum(stands < 0))), stands[stands >= 0]
            price, bought = reals(trades, "price"), np.array(trades["side"].to_pylist()) == "buy"
            ask, bid = reals(chain, "ask_price")[stands], reals(chain, "bid_price")[stands]
            assert np.all(np.where(bought, price >= ask, price <= bid))
            # at the moment of an order, the last price is that of its last fill
            last = np.searchsorted(times(trades), times(chain), side="right") - 1
            known = last >= 0
            assert np.mean(reals(chain, "last_price")[known] == price[last[known]]) > 0.9


class TestChain:
    def test_greeks_are_those_of_the_rows_own_numbers(self):
        for instrument in names(THE_DAY, KIND)[::3]:
            table = rows_of(KIND, instrument).slice(1_000, 500)
            is_call, strike = table["type"][0].as_py() == "call", table["strike_price"][0].as_py()
            years = (times(table, "expiration") - times(table)) / YEAR
            forward = reals(table, "underlying_price")
            again = black76.greeks(is_call, forward, np.log(forward / strike), years, reals(table, "mark_iv") / 100)
            for name in ("delta", "gamma", "vega", "theta", "rho"):
                assert reals(table, name) == pytest.approx(getattr(again, name), rel=2e-3, abs=2e-5)

    def test_values_fall_with_the_strike_and_bend_upwards(self):
        # no arbitrage between strikes, though they have a smile
        for day in days_between(date(2019, 1, 2), date(2024, 12, 31)):
            if day.day % 9:
                continue
            at, noon = hour_of(midnight(day)) + 12, np.array([0])
            chains = {}
            for each in options(day):
                if each.start <= EPOCH + timedelta(hours=at) < each.end and each.instrument.side == "C":
                    chains.setdefault(each.instrument.expiry, []).append(each.instrument)
            for calls in chains.values():
                calls.sort(key=lambda each: float(each.strike))
                strikes = np.array([float(each.strike) for each in calls])
                view = [market.option_view(each, at, noon) for each in calls]
                values = np.array([market.mid(each, at, noon)[0] for each in calls]) * view[0].forward[0]
                slopes = np.diff(values) / np.diff(strikes)
                assert np.all((slopes >= -1.0001) & (slopes <= 0.0001))
                assert np.all(np.diff(slopes) > -0.0001)

    def test_the_smile_moves(self):
        smiles = set()
        for day in (THE_DAY, date(2024, 8, 20)):
            ivs = {}
            for instrument in names(day, KIND):
                if instrument.endswith("240927-C"):
                    table = rows_of(KIND, instrument, day)
                    ivs[table["strike_price"][0].as_py()] = reals(table, "mark_iv")[2_000]
            assert len(set(ivs.values())) == len(ivs) >= 3
            smiles.add(max(ivs.values()) - min(ivs.values()))
        assert len(smiles) == 2

    def test_rows_say_what_the_option_is(self):
        table = rows_of(KIND, PUT)
        assert set(table["type"].to_pylist()) == {"put"}
        assert set(reals(table, "strike_price")) == {65_000.0}
        assert set(times(table, "expiration")) == {microseconds(datetime.fromisoformat("2024-08-30T08:00Z"))}
        assert set(table["underlying_index"].to_pylist()) == {"SYN.BTC-30AUG24"}
        quarter = next(name for name in names(THE_DAY, KIND) if name.endswith("240927-C"))
        assert set(rows_of(KIND, quarter)["underlying_index"].to_pylist()) == {"BTC-27SEP24"}

    def test_an_underlying_future_is_listed_and_has_the_forwards_price(self):
        for day in days_between(date(2019, 1, 1), date(2020, 12, 31)):
            dated = (each for each in listed_on(day) if each.instrument.type is InstrumentType.FUTURE)
            futures = {each.venue_symbol: each for each in dated}
            for each in options(day):
                index = underlying_index(each.instrument)
                assert (index in futures) == (not index.startswith("SYN."))
                assert not index.startswith("SYN.") or index[4:] not in futures
                assert index.startswith("SYN.") or futures[index].start <= each.start
        quarter = next(name for name in names(THE_DAY, KIND) if name.endswith("240927-C"))
        chain, ticker = around(KIND, quarter), around("derivative_ticker", FUTURE)
        mark = np.interp(times(chain), times(ticker), reals(ticker, "mark_price"))
        assert np.abs(mark / reals(chain, "underlying_price") - 1).max() < 2e-3
        assert abs(np.mean(mark / reals(chain, "underlying_price") - 1)) < 1e-5

    def test_open_interest_is_positive_and_goes_on_over_midnight(self):
        for instrument in (CALL, PUT):
            both = np.concatenate(
                [reals(around(KIND, instrument, day), "open_interest") for day in (THE_DAY, THE_DAY + DAY)]
            )
            assert both.min() > 0
            assert on_grid(both[::100].tolist(), 0.1)
            assert np.abs(np.diff(both)).max() < 0.01 * both.max()
        assert len({reals(rows_of(KIND, name), "open_interest")[0] for name in names(THE_DAY, KIND)}) > 10

    def test_each_row_lies_in_exactly_one_file(self):
        days = list(days_between(date(2024, 8, 5), date(2024, 8, 8)))
        stamps = np.concatenate([times(rows_of(KIND, CALL, day)) for day in days])
        assert len(np.unique(stamps)) == len(stamps)
        hours = range(hour_of(midnight(days[1])), hour_of(midnight(days[-1])))
        made = np.concatenate([hour_chain(listed(CALL), hour).timestamp for hour in hours])
        inside = (stamps >= microseconds(midnight(days[1]))) & (stamps < microseconds(midnight(days[-1])))
        assert np.array_equal(np.sort(stamps[inside]), made)
        assert np.diff(made).max() <= 40_000_000

    def test_nothing_is_known_before_the_first_trade(self):
        start = listed(CALL).start
        table = rows_of(KIND, CALL, start.date())
        first = times(rows_of("trades", CALL, start.date())).min()
        unknown = np.isnan(reals(table, "last_price"))
        assert np.array_equal(unknown, times(table) < first)
        assert times(table).min() >= microseconds(start)
        assert times(rows_of(KIND, CALL, date(2024, 8, 30))).max() < microseconds(listed(CALL).end)
