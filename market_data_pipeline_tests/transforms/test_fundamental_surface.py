"""The options' surface: hand-worked cases, and the sample's known volatility found again."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import DatasetError
from market_data_pipeline.sources.sample import market
from market_data_pipeline.transforms.fundamental import fundamental_features
from market_data_pipeline.transforms.surface import (
    CHAIN_COLUMNS,
    CHAIN_STALE,
    SCHEMA,
    SURFACE_COLUMNS,
    surface,
    surface_by_expiry,
)
from market_data_pipeline_tests.sources.sample_days import THE_DAY, around, options
from market_data_pipeline_tests.transforms.feature_tables import ONE, at, bars, column, microseconds, numbers, ticks
from market_data_pipeline_tests.transforms.tables import MIDNIGHT

MOMENT = at(60)


def option(days: float, strike: float, kind: str, iv: float | None = None, **more: Any) -> dict[str, Any]:
    """An option's row half a minute before the moment; it expires so many days after it."""
    return {
        "timestamp": at(30),
        "type": kind,
        "strike_price": strike,
        "expiration": MOMENT + timedelta(days=days),
        "mark_iv": iv,
        "underlying_price": 100.0,
        **more,
    }


def straddle(days: float, iv: float, **more: Any) -> list[dict[str, Any]]:
    return [option(days, 100.0, kind, iv, **more) for kind in ("call", "put")]


def wings(days: float, put: float, call: float) -> list[dict[str, Any]]:
    return [option(days, 80.0, "put", put, delta=-0.25), option(days, 120.0, "call", call, delta=0.25)]


def of(*rows: dict[str, Any], moment: datetime = MOMENT) -> dict[str, Any]:
    found = surface([ticks("options_chain", rows)], np.array([microseconds(moment)]))
    assert found.schema.equals(SCHEMA)
    (row,) = found.to_pylist()
    assert row.pop("close_time") == moment
    return row


def test_without_rows_everything_is_null() -> None:
    assert of() == dict.fromkeys(SURFACE_COLUMNS)
    two = np.array([microseconds(MOMENT), microseconds(at(120))])
    assert surface([], two).num_rows == 2
    assert surface([], two[:0]).schema.equals(SCHEMA)
    assert surface([ticks("options_chain", straddle(30, 50.0))], two[:0]).num_rows == 0


def test_at_the_money_between_two_strikes_by_the_options_out_of_the_money() -> None:
    rows = [option(30, 90.0, "put", 60.0), option(30, 90.0, "call", 99.0)]
    rows += [option(30, 120.0, "call", 50.0), option(30, 120.0, "put", 99.0), option(30, 300.0, "call", 99.0)]
    low, high = np.log(0.9), np.log(1.2)
    expected = np.sqrt(3_600 + (2_500 - 3_600) * -low / (high - low))
    found = of(*rows)
    assert found["atm_iv_nearest"] == pytest.approx(expected)
    assert found["atm_iv_30d"] == pytest.approx(expected)
    assert found["nearest_expiry_days"] == pytest.approx(30.0)
    # one expiry has no slope
    assert found["term_slope_30d"] is None


def test_the_option_in_the_money_stands_in_where_the_other_is_not_quoted() -> None:
    rows = [option(30, 90.0, "call", 60.0), option(30, 110.0, "call", 60.0)]
    assert of(*rows)["atm_iv_nearest"] == pytest.approx(60.0)


@pytest.mark.parametrize("strikes", [(110.0, 120.0), (80.0, 90.0), (100.000001,)])
def test_nothing_is_extrapolated_beyond_the_strikes(strikes: tuple[float, ...]) -> None:
    rows = [option(30, strike, kind, 50.0) for strike in strikes for kind in ("call", "put")]
    assert of(*rows)["atm_iv_nearest"] is None


def test_thirty_days_between_two_expiries_in_total_variance() -> None:
    found = of(*straddle(20, 50.0), *straddle(40, 60.0), *straddle(5, 90.0), *straddle(90, 10.0))
    assert found["atm_iv_30d"] == pytest.approx(np.sqrt((2_500 * 20 + 3_600 * 40) / 2 / 30))
    assert found["term_slope_30d"] == pytest.approx(10.0 / 20 * 30)
    # of two that are as near the earlier
    assert (found["nearest_expiry_days"], found["atm_iv_nearest"]) == pytest.approx((20.0, 50.0))


def test_thirty_days_outside_the_expiries_is_null_and_the_nearest_still_there() -> None:
    found = of(*straddle(34, 50.0), *straddle(62, 60.0))
    assert (found["atm_iv_30d"], found["skew_25d_30d"], found["term_slope_30d"]) == (None, None, None)
    assert (found["nearest_expiry_days"], found["atm_iv_nearest"]) == pytest.approx((34.0, 50.0))


def test_skew_is_the_25_delta_put_less_the_25_delta_call() -> None:
    rows = [option(30, 80.0, "put", 70.0, delta=-0.15), option(30, 90.0, "put", 60.0, delta=-0.35)]
    rows += [option(30, 110.0, "call", 50.0, delta=0.30), option(30, 120.0, "call", 40.0, delta=0.10)]
    put, call = np.sqrt((4_900 + 3_600) / 2), np.sqrt(2_500 * 0.75 + 1_600 * 0.25)
    found = of(*rows, *straddle(30, 55.0, delta=None))
    assert found["skew_25d_nearest"] == pytest.approx(put - call)
    assert found["skew_25d_30d"] == pytest.approx(put - call)
    assert of(*rows[:1], *rows[2:], *straddle(30, 55.0))["skew_25d_nearest"] is None


def test_both_legs_of_a_skew_are_of_the_same_expiries() -> None:
    rows = [*wings(20, 60.0, 50.0), *wings(40, 60.0, 50.0)]
    assert of(*rows)["skew_25d_30d"] == pytest.approx(10.0)
    # at 28 days there is a put alone: it takes no part
    assert of(*rows, option(28, 80.0, "put", 90.0, delta=-0.25))["skew_25d_30d"] == pytest.approx(10.0)


def test_the_put_call_ratio_is_of_all_expiries_and_strikes() -> None:
    rows = [option(20, 80.0, "put", open_interest=3.0), option(40, 90.0, "put", open_interest=6.0)]
    rows += [option(20, 120.0, "call", open_interest=4.0), option(20, 130.0, "call", open_interest=None)]
    assert of(*rows)["put_call_open_interest"] == pytest.approx(9 / 4)
    assert of(*rows[:2])["put_call_open_interest"] is None
    assert of(option(20, 80.0, "put", open_interest=3.0), rows[3])["put_call_open_interest"] is None


def test_the_volatility_is_the_marks_or_else_the_middle_of_bid_and_ask() -> None:
    quoted = {"bid_iv": 40.0, "ask_iv": 44.0}
    assert of(*straddle(30, 50.0, **quoted))["atm_iv_nearest"] == pytest.approx(50.0)
    assert of(*straddle(30, 0.0, **quoted))["atm_iv_nearest"] == pytest.approx(42.0)
    # a bid of zero is no bid
    assert of(*straddle(30, 0.0, bid_iv=0.0, ask_iv=44.0))["atm_iv_nearest"] is None


def test_a_row_at_the_moment_is_not_yet_known_and_an_old_one_no_more() -> None:
    limit = CHAIN_STALE
    for stamp, seen in (
        (MOMENT, False),
        (MOMENT - timedelta(microseconds=1), True),
        (MOMENT - limit, True),
        (MOMENT - limit - timedelta(microseconds=1), False),
    ):
        found = of(*straddle(30, 50.0, timestamp=stamp, open_interest=1.0))
        assert (found["atm_iv_nearest"] is not None) is seen
        assert (found["put_call_open_interest"] is not None) is seen


def test_of_an_options_rows_the_last_counts_as_the_source_had_them() -> None:
    tied = [row for iv in (10.0, 20.0, 30.0) for row in straddle(30, iv)]
    earlier = straddle(30, 99.0, timestamp=at(29))
    assert of(*tied, *earlier)["atm_iv_nearest"] == pytest.approx(30.0)


def test_an_option_that_has_expired_is_none_whatever_its_rows_say() -> None:
    rows = straddle(0, 50.0, open_interest=1.0)
    assert of(*rows) == dict.fromkeys(SURFACE_COLUMNS)
    assert of(*rows, moment=MOMENT - timedelta(seconds=1))["put_call_open_interest"] == 1.0


def test_rows_that_name_no_option_are_left_out() -> None:
    rows = [option(30, 100.0, "future", 10.0, open_interest=9.0), option(30, 0.0, "call", 10.0, open_interest=9.0)]
    rows += [dict(option(30, 100.0, "call", 10.0, open_interest=9.0), expiration=None)]
    assert of(*rows, *straddle(30, 50.0, open_interest=1.0)) == of(*straddle(30, 50.0, open_interest=1.0))


def test_the_forward_is_the_newest_of_the_expiry() -> None:
    rows = [option(30, strike, kind, iv) for strike, iv in ((90.0, 60.0), (110.0, 50.0)) for kind in ("call", "put")]
    newest = option(30, 500.0, "call", None, timestamp=at(40), underlying_price=110.0)
    assert of(*rows, newest)["atm_iv_nearest"] == pytest.approx(50.0)


def test_a_missing_column_is_named() -> None:
    chain = ticks("options_chain", straddle(30, 50.0)).select(CHAIN_COLUMNS).drop(["delta"])
    with pytest.raises(DatasetError, match="rows of the options chain lack the columns delta"):
        surface([chain], np.array([microseconds(MOMENT)]))


def test_the_features_take_it_by_close_time() -> None:
    found = surface([ticks("options_chain", straddle(30, 50.0))], np.array([microseconds(MOMENT)]))
    features = fundamental_features(bars([1.0, 1.0]), ONE, surface=found)
    assert column(features, "atm_iv_nearest") == [pytest.approx(50.0), None]
    assert column(features, "nearest_expiry_days") == [pytest.approx(30.0), None]


@pytest.fixture(scope="module")
def chain() -> list[pa.Table]:
    """The sample's options on a day when 30 days lie between two expiries."""
    return [around("options_chain", each.instrument.id) for each in options(THE_DAY)]


@pytest.fixture(scope="module")
def hours(chain: list[pa.Table]) -> pa.Table:
    return surface(chain, np.array([microseconds(MIDNIGHT + timedelta(hours=hour)) for hour in range(1, 25)]))


def smile(hour: int, days: float, money: float) -> float:
    """The volatility that the sample's market is made with, percent a year."""
    where = market.hour_of(MIDNIGHT) + hour, np.zeros(1)
    return float(market.volatility("BTC", *where, np.array([money]), np.array([days / 365]))[0]) * 100


def spread(chain: list[pa.Table]) -> float:
    """What bid and ask of an option near the money are apart in volatility, percent a year: the median."""
    rows = pa.concat_tables(chain)
    near = np.abs(np.log(numbers(rows, "strike_price") / numbers(rows, "underlying_price"))) < 0.1
    return float(np.nanmedian((numbers(rows, "ask_iv") - numbers(rows, "bid_iv"))[near]))


def test_the_samples_volatility_is_found_again_within_the_spread(hours: pa.Table, chain: list[pa.Table]) -> None:
    tolerance = spread(chain)
    assert 0.1 < tolerance < 5.0
    expiries = sorted(
        {(moment - MIDNIGHT) / timedelta(days=1) for t in chain for moment in t["expiration"][:1].to_pylist()}
    )
    for hour in range(1, 25):
        days = column(hours, "nearest_expiry_days")[hour - 1]
        found = column(hours, "atm_iv_nearest")[hour - 1]
        assert found == pytest.approx(smile(hour, days, 0.0), abs=tolerance)
        first, second = (each - hour / 24 for each in expiries[:2])
        assert first < 30 < second
        variances = [smile(hour, each, 0.0) ** 2 * each for each in (first, second)]
        expected = np.sqrt(np.interp(30.0, (first, second), variances) / 30)
        assert column(hours, "atm_iv_30d")[hour - 1] == pytest.approx(expected, abs=tolerance)
        slope = (smile(hour, second, 0.0) - smile(hour, first, 0.0)) / (second - first) * 30
        assert column(hours, "term_slope_30d")[hour - 1] == pytest.approx(slope, abs=tolerance)


def test_the_samples_skew_has_its_sign_and_size(hours: pa.Table, chain: list[pa.Table]) -> None:
    found = numbers(hours, "skew_25d_nearest")
    days = numbers(hours, "nearest_expiry_days")
    known = np.flatnonzero(np.isfinite(found))
    assert len(known) >= 20
    assert (found[known] > 0).all()
    for hour in known:
        # 25 deltas lie about two thirds of a deviation from the forward
        far = 0.6745 * smile(hour + 1, days[hour], 0.0) / 100 * np.sqrt(days[hour] / 365)
        expected = smile(hour + 1, days[hour], far) - smile(hour + 1, days[hour], -far)
        assert found[hour] == pytest.approx(expected, abs=spread(chain))


def test_the_samples_put_call_ratio_is_that_of_its_last_rows(hours: pa.Table, chain: list[pa.Table]) -> None:
    for hour in (1, 12, 24):
        end = microseconds(MIDNIGHT + timedelta(hours=hour))
        held = {"put": 0.0, "call": 0.0}
        for table in chain:
            last = np.flatnonzero(table["timestamp"].cast(pa.int64()).to_numpy() < end)[-1]
            held[table["type"][last].as_py()] += table["open_interest"][last].as_py()
        assert column(hours, "put_call_open_interest")[hour - 1] == pytest.approx(held["put"] / held["call"])


def test_it_reads_no_column_that_it_does_not_name(chain: list[pa.Table]) -> None:
    moment = np.array([microseconds(MIDNIGHT + timedelta(hours=3))])
    assert surface([table.select(CHAIN_COLUMNS) for table in chain], moment).equals(surface(chain, moment))
    assert set(CHAIN_COLUMNS) <= set(DATASETS["options_chain"].own_schema.names)


def test_expiry_by_expiry_in_any_order_gives_the_same_bits() -> None:
    moments = np.array([microseconds(MOMENT), microseconds(MOMENT + timedelta(minutes=7))])
    expiries = [ticks("options_chain", straddle(days, 40.0 + days)) for days in (20, 30, 45, 90)]
    whole = surface(expiries, moments)
    assert whole.column("atm_iv_30d").null_count < 2
    assert surface_by_expiry([[table] for table in expiries], moments).equals(whole)
    assert surface_by_expiry([[table] for table in reversed(expiries)], moments).equals(whole)
