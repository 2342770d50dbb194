"""Funding, open interest, basis and liquidations of candles: hand-worked cases, and what the sample tells."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from market_data_pipeline.model.contracts import LINEAR
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES
from market_data_pipeline.model.errors import DatasetError, LakeError
from market_data_pipeline.sources.sample import market
from market_data_pipeline.transforms.candles import candles_from_trades
from market_data_pipeline.transforms.derivatives import TICKER_STALE
from market_data_pipeline.transforms.fundamental import LOOK_BACK, SCHEMA, fundamental_features
from market_data_pipeline.transforms.surface import CHAIN_STALE
from market_data_pipeline_tests.sources import sample_days
from market_data_pipeline_tests.sources.sample_days import FUTURE, FUTURES_BTC, SPOT_BTC, THE_DAY, around
from market_data_pipeline_tests.transforms.feature_tables import ONE, at, bars, column, numbers, ticks
from market_data_pipeline_tests.transforms.tables import MIDNIGHT

OWN = [name for name in SCHEMA.names if name not in ("timeframe", "timestamp", "close_time")]


def of_ticker(rows: list[dict[str, Any]], count: int = 3, **options: Any) -> pa.Table:
    return fundamental_features(bars([100.0] * count), ONE, ticker=ticks("derivative_ticker", rows), **options)


def test_the_columns_are_those_of_the_dataset_and_each_says_what_it_is() -> None:
    found = fundamental_features(bars([1.0]), ONE)
    assert found.schema.equals(DATASETS["fundamental_features"].own_schema)
    assert found.num_columns == 26
    dimensionless = {"timeframe", "timestamp", "close_time", "put_call_open_interest"}
    for each in DATASETS["fundamental_features"].columns:
        assert each.meaning
        assert each.unit or each.name in dimensionless or each.name.endswith("_count")
        assert each.look_back == 1


def test_what_an_instrument_cannot_have_is_null() -> None:
    found = fundamental_features(bars([1.0, 2.0]), ONE)
    assert column(found, "timeframe") == ["1m", "1m"]
    assert column(found, "close_time") == [at(60), at(120)]
    assert {name: found[name].null_count for name in OWN} == dict.fromkeys(OWN, 2)


def test_without_candles_there_are_no_rows() -> None:
    nothing = ticks("derivative_ticker", []), ticks("liquidations", [])
    found = fundamental_features(bars([]), ONE, ticker=nothing[0], liquidations=nothing[1], spot=bars([]))
    assert found.schema.equals(SCHEMA)
    assert found.num_rows == 0


def test_the_last_value_before_the_close_counts_and_one_at_the_close_belongs_to_the_next_candle() -> None:
    found = of_ticker(
        [
            {"timestamp": at(10), "open_interest": 1.0},
            {"timestamp": at(59.999999), "open_interest": 2.0},
            {"timestamp": at(60), "open_interest": 3.0},
            # of ticks with one time the last one counts
            {"timestamp": at(60), "open_interest": 4.0},
        ]
    )
    assert column(found, "open_interest") == [2.0, 4.0, 4.0]
    # nothing is known at the first open
    assert column(found, "open_interest_change") == [None, 2.0, 0.0]


def test_ticks_need_not_be_in_order_of_time() -> None:
    rows = [{"timestamp": at(second), "open_interest": float(second)} for second in (70, 5, 50, 110, 20)]
    assert column(of_ticker(rows), "open_interest") == [50.0, 110.0, 110.0]


def test_many_ticks_of_one_time_keep_their_order_though_others_are_late() -> None:
    rows = [{"timestamp": at(30), "open_interest": float(number)} for number in range(1, 1_001)]
    assert column(of_ticker([*rows, {"timestamp": at(5), "open_interest": 0.0}], 1), "open_interest") == [1_000.0]


def test_a_value_is_carried_over_midnight_from_ticks_of_the_day_before() -> None:
    rows = [{"timestamp": at(-30), "open_interest": 7.0}, {"timestamp": at(30), "open_interest": 5.0}]
    assert column(of_ticker(rows, 1), "open_interest_change") == [-2.0]


def test_a_value_is_missing_once_it_is_stale() -> None:
    limit = TICKER_STALE.total_seconds()
    known = {"open_interest": 5.0, "mark_price": 101.0, "index_price": 100.0, "funding_rate": 1e-4}
    for late, expected in ((0.0, 5.0), (-1e-6, None)):
        found = of_ticker([{"timestamp": at(60 - limit + late), **known}], 1)
        assert column(found, "open_interest") == [expected]
        names = ("mark_premium", "funding_rate", "basis")
        assert [found[name].null_count for name in names] == [expected is None] * 3


def test_each_value_comes_from_the_last_tick_that_has_it() -> None:
    found = of_ticker(
        [
            {"timestamp": at(1), "open_interest": 5.0, "mark_price": 101.0, "index_price": 100.0},
            {"timestamp": at(2), "mark_price": 150.0},
        ],
        1,
    )
    assert column(found, "open_interest") == [5.0]
    # mark and index of one tick, never of two moments
    assert column(found, "mark_premium") == pytest.approx([100.0])


def test_funding_is_that_of_the_next_one_however_far_it_is() -> None:
    found = of_ticker(
        [
            {"timestamp": at(1), "funding_timestamp": at(120), "funding_rate": 1e-4, "predicted_funding_rate": 2e-4},
            # four hours later, not eight
            {"timestamp": at(121), "funding_timestamp": at(120 + 4 * 3_600), "funding_rate": 3e-4},
        ],
        4,
    )
    assert column(found, "funding_rate") == [1e-4, 1e-4, 3e-4, 3e-4]
    assert column(found, "hours_to_funding") == pytest.approx([1 / 60, 0.0, 4 - 1 / 60, 4 - 2 / 60])
    # the last tick that has a prediction tells of a funding that is past
    assert column(found, "predicted_funding_rate") == [2e-4, 2e-4, None, None]


def test_a_funding_that_has_taken_place_is_not_the_next_one() -> None:
    found = of_ticker([{"timestamp": at(1), "funding_timestamp": at(90), "funding_rate": 1e-4}])
    assert column(found, "funding_rate") == [1e-4, None, None]
    assert column(found, "hours_to_funding") == [pytest.approx(1 / 120), None, None]


def test_continuous_funding_has_a_rate_and_no_time() -> None:
    found = of_ticker([{"timestamp": at(1), "funding_rate": 1e-4}], 1)
    assert (column(found, "funding_rate"), column(found, "hours_to_funding")) == ([1e-4], [None])


def test_basis_is_against_the_tickers_index_and_spot_basis_against_the_spots_close() -> None:
    ticker = ticks("derivative_ticker", [{"timestamp": at(1), "index_price": 80.0}])
    candles, spot = bars([100.0, 100.0]), bars([99.0, 101.0])
    of_index, of_spot = [2_500.0, 2_500.0], [(100 / 99 - 1) * 1e4, (100 / 101 - 1) * 1e4]
    both = fundamental_features(candles, ONE, ticker=ticker, spot=spot)
    assert column(both, "basis") == pytest.approx(of_index)
    assert column(both, "spot_basis") == pytest.approx(of_spot)
    # neither ever stands for the other
    index = fundamental_features(candles, ONE, ticker=ticker)
    assert (column(index, "basis"), column(index, "spot_basis")) == (pytest.approx(of_index), [None, None])
    alone = fundamental_features(candles, ONE, spot=spot)
    assert (column(alone, "basis"), column(alone, "spot_basis")) == ([None, None], pytest.approx(of_spot))
    for name in ("annualised_basis", "annualised_spot_basis"):
        assert column(both, name) == [None, None]


def test_basis_joins_by_close_time_and_takes_no_price_of_another_time() -> None:
    candles = bars([100.0] * 5, traded=[1, 0, 1, 1, 1])
    # the second minute of the perpetual is flat, the third of the spot; the spot's fourth is left out, its fifth null
    spot = pa.concat_tables([bars([50.0, 50.0, 50.0], traded=[1, 1, 0]), bars([None], first=4)])
    found = fundamental_features(candles, ONE, spot=spot)
    assert column(found, "spot_basis") == [pytest.approx(10_000.0), None, None, None, None]
    index = spot.select(["close_time", "close"])
    assert column(fundamental_features(candles, ONE, spot=index), "spot_basis")[2] == pytest.approx(10_000.0)
    ticker = ticks("derivative_ticker", [{"timestamp": at(1), "index_price": 50.0}])
    against = column(fundamental_features(candles, ONE, ticker=ticker), "basis")
    assert [value is None for value in against] == [False, True, False, False, False]


@pytest.mark.parametrize("name", ["annualised_basis", "annualised_spot_basis"])
def test_a_dated_futures_basis_by_the_year_and_none_on_its_last_day(name: str) -> None:
    day = TIMEFRAMES["1d"]

    def annualised(expiry: datetime) -> list[Any]:
        closes = [MIDNIGHT + number * day.length - timedelta(seconds=1) for number in (1, 2, 3)]
        index = ticks("derivative_ticker", [{"timestamp": close, "index_price": 100.0} for close in closes])
        price = {"spot": bars([100.0] * 3, day)} if "spot" in name else {"ticker": index}
        return column(fundamental_features(bars([101.0] * 3, day), day, expiry=expiry, **price), name)

    # 100 basis points over 73 days, a fifth of a year
    assert annualised(MIDNIGHT + timedelta(days=74))[0] == pytest.approx(500.0)
    for late, expected in ((0, pytest.approx(36_500.0)), (-1, None)):
        assert annualised(MIDNIGHT + timedelta(days=2, microseconds=late)) == [expected, None, None]
    last = annualised(MIDNIGHT + timedelta(days=3.5))
    assert last == [pytest.approx(100 * 365 / 2.5), pytest.approx(100 * 365 / 1.5), None]


@pytest.mark.parametrize("nonsense", [0.0, -5.0, None, float("nan")])
def test_a_price_that_is_none_gives_no_basis_and_no_premium(nonsense: float | None) -> None:
    found = of_ticker([{"timestamp": at(1), "mark_price": 100.0, "index_price": nonsense}], 1)
    assert (column(found, "mark_premium"), column(found, "basis")) == ([None], [None])


LIQUIDATIONS = [
    {"timestamp": at(-1), "side": "sell", "price": 1.0, "amount": 64.0},
    {"timestamp": at(0), "side": "sell", "price": 1.0, "amount": 1.0},
    {"timestamp": at(59.999999), "side": "sell", "price": 1.0, "amount": 2.0},
    {"timestamp": at(60), "side": "buy", "price": 1.0, "amount": 4.0},
    {"timestamp": at(61), "side": "unknown", "price": 1.0, "amount": 8.0},
    {"timestamp": at(240), "side": "buy", "price": 1.0, "amount": 16.0},
]


def test_a_sell_liquidated_a_long_and_a_buy_a_short() -> None:
    found = fundamental_features(bars([1.0] * 3), ONE, liquidations=ticks("liquidations", LIQUIDATIONS))
    assert column(found, "long_liquidation_count") == [2, 0, 0]
    assert column(found, "long_liquidation_volume") == [3.0, 0.0, 0.0]
    assert column(found, "short_liquidation_count") == [0, 1, 0]
    assert column(found, "short_liquidation_volume") == [0.0, 4.0, 0.0]
    assert column(found, "liquidation_volume_rising") == [None] * 3


def test_liquidations_in_a_gap_between_candles_belong_to_none() -> None:
    candles = pa.concat_tables([bars([1.0]), bars([1.0], first=4)])
    found = fundamental_features(candles, ONE, liquidations=ticks("liquidations", LIQUIDATIONS))
    assert column(found, "long_liquidation_count") == [2, 0]
    assert column(found, "short_liquidation_volume") == [0.0, 16.0]


def test_liquidations_with_rising_or_falling_open_interest() -> None:
    held = [(-1, 10.0), (30, 12.0), (90, 9.0), (150, 9.0)]
    found = of_ticker(
        [{"timestamp": at(second), "open_interest": value} for second, value in held],
        liquidations=ticks("liquidations", LIQUIDATIONS),
    )
    assert column(found, "liquidation_volume_rising") == [3.0, 0.0, 0.0]
    assert column(found, "liquidation_volume_falling") == [0.0, 12.0, 0.0]


def test_no_liquidations_are_zero_and_not_missing() -> None:
    found = of_ticker([], liquidations=ticks("liquidations", []))
    assert column(found, "long_liquidation_count") == [0, 0, 0]
    assert column(found, "short_liquidation_volume") == [0.0, 0.0, 0.0]


def test_the_look_back_covers_everything_that_goes_stale() -> None:
    assert max(TICKER_STALE, CHAIN_STALE) == LOOK_BACK


@pytest.mark.parametrize(
    ("table", "option"),
    [("derivative_ticker", "ticker"), ("liquidations", "liquidations"), ("ohlcv_1m", "spot"), (None, "surface")],
)
def test_a_missing_column_is_named(table: str | None, option: str) -> None:
    lacking = DATASETS[table].own_schema.empty_table().select(["timestamp"]) if table else pa.table({"close_time": []})
    with pytest.raises(DatasetError, match=r"lack the columns .*; they have"):
        fundamental_features(bars([1.0]), ONE, **{option: lacking})


def test_candles_out_of_order_or_of_another_length_are_refused() -> None:
    rows = bars([1.0, 2.0])
    with pytest.raises(LakeError, match="candles must rise in time: the one of 2024-08-08 00:00"):
        fundamental_features(rows.take([1, 0]), ONE)
    with pytest.raises(LakeError, match="none of 5m; give the candles' own timeframe"):
        fundamental_features(rows, TIMEFRAMES["5m"])


# freqtrade's test data: Binance's funding rates of XRP/USDT and hours of its perpetual; the rate of each funding is
# known from eight hours before it, and fundings are stamped some milliseconds late (all three rates are the same: the
# test tells them apart by a millionth)
REAL_FUNDINGS = [
    (datetime(2021, 11, 18, 0, 0, 0, 17_000, UTC), 0.0001),
    (datetime(2021, 11, 18, 8, 0, 0, 7_000, UTC), 0.0001),
    (datetime(2021, 11, 18, 16, 0, 0, 11_000, UTC), 0.0001),
]


def test_real_funding_times_beside_hours() -> None:
    hour = TIMEFRAMES["1h"]
    rows = []
    for number, (paid, rate) in enumerate(REAL_FUNDINGS):
        for minute in range(0, 480, 5):
            seen = paid - timedelta(hours=8) + timedelta(minutes=minute)
            rows.append({"timestamp": seen, "funding_timestamp": paid, "funding_rate": rate + number * 1e-6})
    first = (REAL_FUNDINGS[0][0] - MIDNIGHT) // hour.length - 8
    candles = bars([1.08] * 24, hour, first)
    found = fundamental_features(candles, hour, ticker=ticks("derivative_ticker", rows))
    hours = [8.0 - 1 - index % 8 for index in range(24)]
    assert column(found, "hours_to_funding") == pytest.approx(hours, abs=1e-5)
    assert column(found, "funding_rate") == pytest.approx([1e-4 + index // 8 * 1e-6 for index in range(24)], abs=1e-12)


@pytest.fixture(scope="module")
def perpetual() -> pa.Table:
    """A day of the sample's perpetual, with its ticker, its liquidations and its spot pair."""
    return fundamental_features(
        minutes(FUTURES_BTC),
        ONE,
        ticker=around("derivative_ticker", FUTURES_BTC),
        liquidations=around("liquidations", FUTURES_BTC),
        spot=minutes(SPOT_BTC),
    )


def minutes(instrument: str) -> pa.Table:
    return candles_from_trades([around("trades", instrument)], THE_DAY, ONE, LINEAR)


def test_the_samples_premium_and_funding(perpetual: pa.Table) -> None:
    instrument = sample_days.listed(FUTURES_BTC).instrument
    hour = market.hour_of(MIDNIGHT)
    every = np.arange(1, 60)
    for number in range(24):
        true = market.premium(instrument, hour + number, every / 60) * 1e4
        # prices are rounded to cents; a tick is at most some seconds before the close
        assert numbers(perpetual, "mark_premium")[number * 60 :][:59] == pytest.approx(true, abs=0.05)
    assert column(perpetual, "hours_to_funding") == pytest.approx([(480 - 1 - m % 480) / 60 for m in range(1_440)])
    assert perpetual["funding_rate"].null_count == 0


def test_the_samples_basis_is_near_its_premium(perpetual: pa.Table) -> None:
    for name in ("basis", "spot_basis"):
        apart = numbers(perpetual, name) - numbers(perpetual, "mark_premium")
        # the last trades, and the tick of the index, are of different seconds
        assert abs(np.nanmean(apart)) < 0.3
        assert np.isfinite(apart).mean() > 0.98


def test_the_samples_open_interest_adds_up_and_so_do_its_liquidations(perpetual: pa.Table) -> None:
    held, change = numbers(perpetual, "open_interest"), numbers(perpetual, "open_interest_change")
    assert change[1:] == pytest.approx(np.diff(held), abs=1e-6)
    rows = around("liquidations", FUTURES_BTC)
    sides = column(rows, "side")
    assert sum(column(perpetual, "long_liquidation_count")) == sides.count("sell") > 0
    assert sum(column(perpetual, "short_liquidation_count")) == sides.count("buy") > 0
    amounts = sum(numbers(perpetual, f"{side}_liquidation_volume").sum() for side in ("long", "short"))
    assert amounts == pytest.approx(numbers(rows, "amount").sum())


def test_longs_are_liquidated_in_the_samples_falls(perpetual: pa.Table) -> None:
    close = np.log(numbers(minutes(FUTURES_BTC), "close"))
    move = close[5:] - close[:-5]
    longs, shorts = (numbers(perpetual, f"{side}_liquidation_count")[5:] > 0 for side in ("long", "short"))
    assert move[longs].mean() < 0 < move[shorts].mean()


def test_the_samples_future_pays_the_interest_that_it_is_made_with() -> None:
    instrument, expiry = sample_days.listed(FUTURE).instrument, sample_days.listed(FUTURE).end
    found = fundamental_features(minutes(FUTURE), ONE, ticker=around("derivative_ticker", FUTURE), expiry=expiry)
    assert (found["funding_rate"].null_count, found["hours_to_funding"].null_count) == (1_440, 1_440)
    true = market.interest(instrument.base, market.hour_of(MIDNIGHT) + 12, np.zeros(1))[0] * 1e4
    # an exponential rate against a simple one, and last trades that are up to a minute old
    assert np.nanmedian(numbers(found, "annualised_basis")) == pytest.approx(true, rel=0.1)


def test_what_is_not_finite_is_null() -> None:
    tiny = [{"timestamp": at(1), "index_price": 1e-310, "mark_price": 1.0}]
    found = fundamental_features(bars([100.0]), ONE, ticker=ticks("derivative_ticker", tiny))
    assert found.select(["basis", "mark_premium"]).to_pylist() == [{"basis": None, "mark_premium": None}]
