from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.model.contracts import LINEAR, Contract, VolumeUnit
from market_data_pipeline.model.datasets import DATASETS, LISTING_COLUMNS, Kind
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import DAY, EPOCH, days_between, microseconds, midnight
from market_data_pipeline.sources.sample import market, numbers
from market_data_pipeline.sources.sample.listing import FIRST_DAY, LAST_DAY, last_friday, listed_on
from market_data_pipeline.sources.sample.market import HOUR_MS, hour_of, mid, quotes
from market_data_pipeline.sources.sample.source import SampleSource
from market_data_pipeline.sources.sample.trades import NUMBERS_AN_HOUR, day_trades, hour_trades
from market_data_pipeline.sources.symbols import instrument_of
from market_data_pipeline.transforms.laws import broken_tick_laws
from market_data_pipeline_tests.sources.sample_days import (
    DERIBIT_BTC,
    FUTURES_BTC,
    THE_DAY,
    crc,
    file_of,
    listed,
    names,
    on_grid,
    options,
    times,
    trades,
)
from market_data_pipeline_tests.sources.source_contract import SourceContract

SCHEMA = DATASETS["trades"].own_schema
MINUTE = 60_000_000
any_day = st.dates(date(2019, 1, 1), date(2035, 12, 31))


def trade_numbers(table):
    return np.array([int(text.rpartition("-")[2]) for text in table["id"].to_pylist()])


class TestContract(SourceContract):
    day = THE_DAY
    empty_day = date(2018, 12, 31)

    @pytest.fixture
    def source(self):
        return SampleSource()


class TestSame:
    @pytest.mark.parametrize(
        ("instrument", "day", "rows", "checksum"),
        [
            ("deribit:Future:BTC-USD-240927", THE_DAY, 3_955, 1316080594),
            ("deribit:Option:BTC-USD-65000-240830-P", THE_DAY, 427, 91803837),
            ("binance-delivery:Perp:BTC-USD", date(2031, 2, 28), 9_704, 437331621),
        ],
    )
    def test_the_bytes_never_change(self, instrument, day, rows, checksum):
        table = trades(instrument, day)
        assert (table.num_rows, crc(table)) == (rows, checksum)

    def test_the_order_in_which_days_are_read_does_not_matter(self):
        days = list(days_between(date(2022, 3, 30), date(2022, 4, 2)))
        forward = {day: crc(trades("binance:SPOT_PAIR:ETH-USDT", day)) for day in days}
        for cache in (market.index_path, market.turbulence, market._log_hours, hour_trades):
            cache.cache_clear()
        numbers._lattice.cache_clear()
        assert {day: crc(trades("binance:SPOT_PAIR:ETH-USDT", day)) for day in reversed(days)} == forward
        assert len(set(forward.values())) == len(days)

    def test_two_threads_with_cold_caches_agree_with_one(self):
        jobs = [(each, day) for day in (THE_DAY, date(2020, 2, 29)) for each in names(day)]
        for cache in (market.index_path, market._log_hours, hour_trades):
            cache.cache_clear()
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(lambda job: crc(trades(*job)), jobs))
        assert together == [crc(trades(*job)) for job in jobs]

    def test_the_price_path_is_shared_and_cannot_be_changed(self):
        with pytest.raises(ValueError, match="read-only"):
            market.index_path("BTC", 450_000)[0] = 1.0


class TestMidnight:
    """The vendor cuts days by its own clock."""

    @pytest.mark.parametrize("instrument", [FUTURES_BTC, DERIBIT_BTC, "binance:SPOT_PAIR:BTC-USDT"])
    def test_each_trade_lies_in_exactly_one_file(self, instrument):
        days = list(days_between(date(2023, 12, 30), date(2024, 1, 3)))
        in_files = [trade_numbers(trades(instrument, day)) for day in days]
        together = np.concatenate(in_files)
        assert len(np.unique(together)) == len(together)
        first = hour_of(midnight(days[1]))
        by_exchange_time = np.concatenate(
            [hour_trades(listed(instrument), hour).number for hour in range(first, first + 3 * 24)]
        )
        assert np.isin(by_exchange_time, together).all()
        # whatever is in the files of the inner days belongs to them or to the hours next to them
        stray = np.setdiff1d(np.concatenate(in_files[1:-1]), by_exchange_time)
        assert len(stray) < 200

    @pytest.mark.parametrize("day", [FIRST_DAY, THE_DAY])
    def test_numbers_have_no_gap_within_an_hour(self, day):
        instrument = "binance:SPOT_PAIR:BTC-USDT"
        found = np.sort(np.concatenate([trade_numbers(trades(instrument, each)) for each in (day, day + DAY)]))
        for hour in range(hour_of(midnight(day)) + 1, hour_of(midnight(day)) + 47):
            of_hour = found[found // NUMBERS_AN_HOUR == hour] % NUMBERS_AN_HOUR
            assert len(of_hour)
            assert of_hour.tolist() == list(range(len(of_hour)))

    @pytest.mark.parametrize(
        "day", [date(2019, 1, 2), date(2020, 2, 29), THE_DAY, date(2024, 12, 31), date(2033, 7, 3)]
    )
    def test_trades_reach_over_midnight_both_ways(self, day):
        start, end = microseconds(midnight(day)), microseconds(midnight(day) + DAY)
        late = times(trades(FUTURES_BTC, day))
        assert np.sum(late < start) > 0
        assert np.sum(late >= end) == 0
        early = times(trades(DERIBIT_BTC, day))
        assert np.sum(early < start) == 0
        assert np.sum(early >= end) > 0

    @pytest.mark.parametrize("instrument", [FUTURES_BTC, DERIBIT_BTC])
    def test_they_do_so_on_every_day_of_a_year(self, instrument):
        traded, late = listed(instrument), instrument == FUTURES_BTC
        for day in days_between(date(2024, 1, 1), date(2024, 12, 31)):
            turn = hour_of(midnight(day))
            rows = hour_trades(traded, turn - 1 if late else turn)
            turn_us = turn * HOUR_MS * 1_000
            assert np.any((rows.local_timestamp >= turn_us) == late)

    def test_a_file_is_ordered_and_cut_by_the_vendors_clock(self):
        start, end = microseconds(midnight(THE_DAY)), microseconds(midnight(THE_DAY) + DAY)
        for instrument in names(THE_DAY):
            local = times(trades(instrument), "local_timestamp")
            assert np.all(np.diff(local) >= 0)
            assert start <= local[0] <= local[-1] < end

    def test_exchange_times_are_a_little_out_of_order(self):
        stamps = times(trades(FUTURES_BTC))
        backwards = np.diff(stamps) < 0
        assert 0.001 < backwards.mean() < 0.2

    def test_no_day_before_the_first_has_anything(self):
        source = SampleSource()
        for day in (date(2018, 12, 31), date(1970, 1, 1), date.min, LAST_DAY + DAY, date.max):
            assert list(source.files("trades", day, Selection())) == []
            assert source.listings(day, Selection()).num_rows == 0
        assert len(names(FIRST_DAY)) >= 6
        assert len(names(LAST_DAY)) >= 6
        for instrument in names(FIRST_DAY):
            assert times(trades(instrument, FIRST_DAY)).min() >= microseconds(midnight(FIRST_DAY))


class TestPrices:
    @pytest.mark.parametrize("instrument", [FUTURES_BTC, DERIBIT_BTC, "binance-futures:Perp:ETH-USDT"])
    def test_they_continue_over_midnight(self, instrument):
        for day in (date(2019, 6, 30), THE_DAY, date(2034, 12, 31)):
            last = trades(instrument, day)["price"][-1].as_py()
            first = trades(instrument, day + DAY)["price"][0].as_py()
            assert abs(first / last - 1) < 0.002

    @settings(max_examples=25, deadline=None)
    @given(any_day, st.integers(0, 23), st.sampled_from(["BTC", "ETH"]))
    def test_the_path_joins_at_every_hour(self, day, hour, asset):
        first = hour_of(midnight(day)) + hour
        path, after = market.index_path(asset, first), market.index_path(asset, first + 1)
        assert abs(path[-1] - after[0]) < 1e-12
        assert np.abs(np.diff(path)).max() < 0.003
        if hour == 0:
            assert path[0] == pytest.approx(np.log(market.level(asset, day)), abs=1e-12)

    @settings(max_examples=50, deadline=None)
    @given(any_day)
    def test_levels_are_plausible_and_days_do_not_jump(self, day):
        for asset, low, high in (("BTC", 2_000, 2e6), ("ETH", 30, 2e5)):
            today, tomorrow = market.level(asset, day), market.level(asset, day + DAY)
            assert low < today < high
            assert abs(np.log(tomorrow / today)) < 0.3

    def test_prices_and_amounts_lie_on_their_grids_as_decimal_texts_do(self):
        listing = {row["instrument_id"]: row for row in SampleSource().listings(THE_DAY, Selection()).to_pylist()}
        for instrument, row in listing.items():
            table = trades(instrument)
            for column, step in (("price", row["tick_size"]), ("amount", row["lot_size"])):
                values = table[column].to_pylist()
                assert on_grid(values, step)
                assert max(len(repr(value)) for value in set(values)) < 14

    def test_deribit_amounts_are_tens_of_dollars(self):
        amounts = trades(DERIBIT_BTC)["amount"].to_numpy()
        assert np.all(amounts % 10 == 0)
        assert amounts.min() >= 10

    def test_instruments_of_an_asset_agree(self):
        def daily(instrument):
            return pc.mean(trades(instrument)["price"]).as_py()

        spot = daily("binance:SPOT_PAIR:BTC-USDT")
        for instrument in (FUTURES_BTC, DERIBIT_BTC, "binance-delivery:Perp:BTC-USD"):
            assert daily(instrument) / spot == pytest.approx(1, abs=0.01)
        assert 0.98 < daily("deribit:Future:BTC-USD-240927") / spot < 1.05

    def test_a_future_meets_the_index_at_its_expiry(self):
        future = Instrument.parse("deribit:Future:BTC-USD-240927")
        last = hour_of(market.expiry_of(future)) - 1
        offset = np.array([HOUR_MS - 1])
        index = np.exp(market.index_path("BTC", last)[-1])
        assert mid(future, last, offset)[0] / index == pytest.approx(1, abs=0.001)

    @settings(max_examples=20, deadline=None)
    @given(any_day, st.integers(0, 7))
    def test_quotes_never_cross_and_hold_the_mid(self, day, hour):
        offset = np.arange(0, HOUR_MS, 7_919)
        at = hour_of(midnight(day)) + hour
        for each in listed_on(day):
            bid, ask = quotes(each.instrument, each.terms.tick, each.terms.spread, at, offset)
            assert np.all((bid >= 0) & (bid < ask))
            middle = mid(each.instrument, at, offset) / each.terms.tick.step
            assert np.all((bid <= middle + 1e-6) & (ask >= middle - 1e-6))
            # only options can be so cheap that nobody bids
            assert np.all(bid > 0) or each.instrument.type is InstrumentType.OPTION

    @pytest.mark.parametrize(("day", "hour"), [(THE_DAY, 14), (date(2024, 8, 30), 5)])
    def test_takers_never_trade_inside_the_quotes(self, day, hour):
        for each in listed_on(day):
            at = hour_of(midnight(day)) + hour
            rows = hour_trades(each, at)
            offset = rows.timestamp // 1_000 - at * HOUR_MS
            bid, ask = quotes(each.instrument, each.terms.tick, each.terms.spread, at, offset)
            best_ask, best_bid = each.terms.tick.values(ask), each.terms.tick.values(bid)
            assert np.all(np.where(rows.buy, rows.price >= best_ask, rows.price <= best_bid))
            assert np.all(rows.buy | (bid > 0))


class TestOptions:
    @settings(max_examples=30, deadline=None)
    @given(any_day, st.integers(0, 23))
    def test_calls_and_puts_keep_parity(self, day, hour):
        at, offset = hour_of(midnight(day)) + hour, np.arange(0, HOUR_MS, 600_000)
        listed_options = [each.instrument for each in options(day)]
        assert len(listed_options) % 2 == 0
        for call in (each for each in listed_options if each.side == "C"):
            if market.expiry_of(call) <= EPOCH + timedelta(hours=at):
                continue
            put = Instrument.option(call.venue, call.base, call.quote, call.strike, call.expiry, "P")
            assert put in listed_options
            within = offset / HOUR_MS
            years = market.years_left(call, at, within)
            index = np.exp(market.index_path("BTC", at)[offset // 1_000])
            forward = index * np.exp(market.interest("BTC", at, within) * years)
            calls, puts = mid(call, at, offset), mid(put, at, offset)
            assert calls - puts == pytest.approx(1 - float(call.strike) / forward, abs=1e-6)
            assert np.all((calls >= 0) & (calls < 1) & (puts >= 0))

    def test_prices_are_in_the_base_asset_and_above_zero(self):
        # also on the last day, when one of the two is worth nothing
        for day in (THE_DAY, date(2024, 8, 30)):
            for instrument in (name for name in names(day) if ":Option:" in name):
                prices = trades(instrument, day)["price"].to_numpy()
                assert 0.0005 <= prices.min() <= prices.max() < 1

    def test_trades_are_sparse(self):
        for instrument in (name for name in names(THE_DAY) if ":Option:" in name):
            assert 100 < trades(instrument).num_rows < 1_500

    def test_the_exact_functions_are_right(self):
        x = np.linspace(-40, 40, 4_001)
        np.testing.assert_allclose(numbers.exp(x), np.exp(x), rtol=5e-16)
        for value in np.geomspace(1e-8, 1e9, 500):
            assert numbers.log(float(value)) == pytest.approx(np.log(value), rel=1e-15, abs=1e-15)
        assert numbers.normal_cdf(np.array([-1e3, -1.96, 0, 1, 1e3])) == pytest.approx(
            [0, 0.0249979, 0.5, 0.8413447, 1], abs=1e-7
        )


class TestActivity:
    def test_counts_are_those_of_a_small_market(self):
        counts = {instrument: trades(instrument).num_rows for instrument in names(THE_DAY)}
        assert 20_000 < counts[FUTURES_BTC] < 80_000
        assert 100_000 < sum(counts.values()) < 400_000

    def test_most_instruments_have_minutes_without_a_trade(self):
        start = microseconds(midnight(THE_DAY))
        quiet = {}
        for instrument in names(THE_DAY):
            stamps = times(trades(instrument))
            inside = stamps[(stamps >= start) & (stamps < start + 1_440 * MINUTE)]
            quiet[instrument] = 1_440 - len(np.unique(inside // MINUTE))
        assert sum(count > 0 for count in quiet.values()) >= len(quiet) - 1
        assert quiet[FUTURES_BTC] < 30

    def test_many_trades_share_a_millisecond(self):
        for instrument in (FUTURES_BTC, DERIBIT_BTC):
            stamps = times(trades(instrument))
            assert np.all(stamps % 1_000 == 0)
            assert np.mean(np.diff(np.sort(stamps)) == 0) > 0.2

    def test_trades_come_in_bursts(self):
        stamps = times(trades("binance:SPOT_PAIR:BTC-USDT"))
        a_minute = np.bincount((stamps - stamps.min()) // MINUTE)
        # a Poisson process would have a ratio of 1
        assert a_minute.var() / a_minute.mean() > 5

    def test_both_sides_trade(self):
        for instrument in names(THE_DAY):
            bought = pc.mean(pc.equal(trades(instrument)["side"].cast(pa.string()), "buy")).as_py()
            assert 0.3 < bought < 0.7

    def test_ids_are_unique_and_rise_with_the_exchanges_time(self):
        for instrument in names(THE_DAY):
            found = pa.concat_tables([trades(instrument), trades(instrument, THE_DAY + DAY)])
            number = trade_numbers(found)
            order = np.argsort(number)
            assert np.all(np.diff(number[order]) > 0)
            assert np.all(np.diff(times(found)[order]) >= 0)
            assert found["id"][0].as_py().isdigit() == (not instrument.startswith("deribit"))

    def test_a_liquid_day_comes_in_several_batches(self):
        batches = list(file_of(FUTURES_BTC, THE_DAY).read(Rejects()))
        assert len(batches) > 3
        assert all(batch.schema.equals(SCHEMA) for batch in batches)

    @settings(max_examples=15, deadline=None)
    @given(any_day)
    def test_any_day_keeps_the_laws_of_ticks(self, day):
        source = SampleSource()
        found = list(source.files("trades", day, Selection()))
        assert len(found) >= 8
        # one liquid instrument and the dated ones but for the puts: those that begin and end
        for file in found:
            if file.instrument.side == "P" or (file.instrument.expiry is None and file.instrument.id != DERIBIT_BTC):
                continue
            table = pa.Table.from_batches(file.read(Rejects()), SCHEMA)
            assert broken_tick_laws(table, day) == []
            assert table.num_rows > (500 if file.instrument.id == DERIBIT_BTC else 0)


class TestListing:
    def test_the_set_is_a_mix(self):
        kinds = {name.split(":")[1] for name in names(THE_DAY)}
        venues = {name.split(":")[0] for name in names(THE_DAY)}
        assert kinds == {"SPOT_PAIR", "Perp", "Future", "Option"}
        assert len(venues) >= 3

    def test_dated_instruments_come_and_go_over_a_year(self):
        seen: dict[str, list[date]] = {}
        for day in days_between(date(2024, 1, 1), date(2024, 12, 31)):
            today = names(day)
            assert today == sorted(today)
            assert any(":Future:" in name for name in today)
            assert 12 <= sum(":Option:" in name for name in today) <= 30
            for name in today:
                seen.setdefault(name, []).append(day)
        futures = sorted(name[-6:] for name in seen if ":Future:" in name)
        assert futures == ["240329", "240628", "240927", "241227", "250328"]
        for name, days in seen.items():
            expiry = Instrument.parse(name).expiry
            assert days == list(days_between(days[0], days[-1]))
            assert days[-1] == min(expiry or date(2024, 12, 31), date(2024, 12, 31))

    @settings(max_examples=50, deadline=None)
    @given(any_day)
    def test_a_future_lives_longer_than_some_days(self, day):
        longest = max(each.end for each in listed_on(day) if each.instrument.type is InstrumentType.FUTURE)
        assert longest - midnight(day) > timedelta(days=13)
        for each in listed_on(day):
            if each.instrument.expiry:
                assert each.instrument.expiry == last_friday(each.instrument.expiry.year, each.instrument.expiry.month)

    def test_nobody_trades_before_the_start_or_from_the_expiry_on(self):
        for name in ("deribit:Future:BTC-USD-240927", "deribit:Option:BTC-USD-65000-240830-C"):
            each = listed(name)
            first, last = trades(name, each.start.date()), trades(name, each.end.date())
            assert times(first).min() >= microseconds(each.start)
            assert times(last).max() < microseconds(each.end)
            assert name not in names(each.start.date() - DAY)
            assert name not in names(each.end.date() + DAY)

    def test_the_strike_is_near_the_price_at_the_listing(self):
        for day in days_between(date(2019, 2, 1), date(2021, 2, 1)):
            for each in listed_on(day):
                if each.instrument.strike and each.start.date() == day:
                    assert float(each.instrument.strike) / market.level("BTC", day) == pytest.approx(1, abs=0.23)

    def test_options_make_a_chain(self):
        about_the_price = []
        for day in list(days_between(date(2019, 1, 2), date(2024, 12, 31)))[::3]:
            strikes: dict[date, set[float]] = {}
            for each in options(day):
                if each.known_on(day):
                    strikes.setdefault(each.instrument.expiry, set()).add(float(each.instrument.strike))
            assert len(strikes) in (2, 3)
            assert all(len(each) >= 3 for each in strikes.values())
            nearest = strikes[min(strikes)]
            assert len(nearest) >= 4
            about_the_price.append(min(nearest) < market.level("BTC", day) < max(nearest))
        assert np.mean(about_the_price) > 0.7

    def test_the_table_has_the_declared_schema(self):
        table = SampleSource().listings(THE_DAY, Selection())
        assert table.schema == pa.schema([pa.field(c.name, c.type, c.nullable) for c in LISTING_COLUMNS])
        table.validate(full=True)
        assert table["instrument_id"].to_pylist() == names(THE_DAY)
        assert set(table["known_from"].to_pylist()) == {"listing"}

    def test_rows_say_what_the_venues_say(self):
        rows = {row["instrument_id"]: row for row in SampleSource().listings(THE_DAY, Selection()).to_pylist()}
        put = rows["deribit:Option:BTC-USD-65000-240830-P"]
        assert put["venue_symbol"] == "BTC-30AUG24-65000-P"
        assert (put["strike"], put["option_type"], put["settle_asset"]) == (65_000, "put", "BTC")
        assert put["expiry"] == put["available_to"] == datetime(2024, 8, 30, 8, tzinfo=UTC)
        assert put["available_from"] == datetime(2024, 7, 19, 8, tzinfo=UTC)
        assert rows["deribit:Future:BTC-USD-240927"]["venue_symbol"] == "BTC-27SEP24"
        coin = rows["binance-delivery:Perp:BTC-USD"]
        assert (coin["contract_multiplier"], coin["inverse"], coin["available_to"]) == (100, True, None)
        for row in rows.values():
            assert instrument_of(row["venue"], row["venue_symbol"]).id == row["instrument_id"]

    def test_what_begins_or_ends_on_the_day_is_judged_at_midnight(self):
        source, name = SampleSource(), "deribit:Future:BTC-USD-240927"
        each = listed(name)
        for day, known in (
            (each.start.date(), False),
            (each.start.date() + DAY, True),
            (each.end.date(), True),
            (each.end.date() + DAY, False),
        ):
            assert (name in source.listings(day, Selection())["instrument_id"].to_pylist()) is known

    def test_contracts_are_the_venues(self):
        source = SampleSource()
        assert source.contract(Instrument.parse(FUTURES_BTC)) == LINEAR
        assert source.contract(Instrument.parse(DERIBIT_BTC)) == Contract(True, 1.0, VolumeUnit.QUOTE)
        delivery = Instrument.parse("binance-delivery:Perp:BTC-USD")
        assert source.contract(delivery) == Contract(True, 100.0, VolumeUnit.CONTRACTS)

    def test_it_says_what_it_has(self):
        source = SampleSource()
        assert set(source.data_types) == {name for name, each in DATASETS.items() if each.kind is Kind.TICKS}
        assert list(source.files("ohlcv_1m", THE_DAY, Selection())) == []
        assert "no ohlcv_1m, only trades, " in source.describe("ohlcv_1m")
        assert "2019-01-01" in source.describe("trades")

    @pytest.mark.parametrize(
        ("data_type", "kinds"),
        [
            ("trades", {"SPOT_PAIR", "Perp", "Future", "Option"}),
            ("book_snapshot_5", {"SPOT_PAIR", "Perp", "Future"}),
            ("book_snapshot_25", {"SPOT_PAIR", "Perp", "Future"}),
            ("derivative_ticker", {"Perp", "Future"}),
            ("liquidations", {"Perp", "Future"}),
            ("options_chain", {"Option"}),
        ],
    )
    def test_each_kind_of_ticks_has_its_instruments(self, data_type, kinds):
        found = names(THE_DAY, data_type)
        assert {name.split(":")[1] for name in found} == kinds
        assert found == sorted(found)
        for day in (FIRST_DAY - DAY, LAST_DAY + DAY):
            assert names(day, data_type) == []
        assert names(FIRST_DAY, data_type)
        assert names(LAST_DAY, data_type)

    @pytest.mark.parametrize("data_type", SampleSource.data_types)
    def test_any_kind_keeps_the_laws_of_ticks_and_its_listing(self, data_type):
        # a day on which a future and options expire, one on which a future begins, options, and the sample itself
        days = [date(2024, 9, 27), date(2024, 6, 14), date(2024, 7, 19), FIRST_DAY]
        for day in days:
            for file in SampleSource().files(data_type, day, Selection()):
                each = listed(file.instrument.id, day)
                if each.instrument.side == "P" or day not in (each.start.date(), each.end and each.end.date()):
                    continue
                table = pa.Table.from_batches(file.read(Rejects()))
                assert broken_tick_laws(table, day) == []
                stamps = times(table)
                local = times(table, "local_timestamp")
                assert np.all(np.diff(local) >= 0)
                assert microseconds(midnight(day)) <= local[0] <= local[-1] < microseconds(midnight(day) + DAY)
                assert stamps.min() >= microseconds(each.start)
                assert each.end is None or stamps.max() < microseconds(each.end)
                assert np.all(stamps % 1_000 == 0)


def test_a_far_day_costs_what_a_near_one_does():
    near, far = day_trades(listed(FUTURES_BTC), THE_DAY), day_trades(listed(FUTURES_BTC, LAST_DAY), LAST_DAY)
    assert 0.2 < len(far.number) / len(near.number) < 5
