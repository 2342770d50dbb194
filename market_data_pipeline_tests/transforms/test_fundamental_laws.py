"""The laws of fundamental features: no row sees the future, and a day on its own is a day within a range."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.model.datasets import TIMEFRAMES, Timeframe
from market_data_pipeline.model.windows import DAY
from market_data_pipeline.transforms import as_of, derivatives, fundamental
from market_data_pipeline.transforms import surface as surfaces
from market_data_pipeline.transforms.fundamental import LOOK_BACK, fundamental_features
from market_data_pipeline.transforms.surface import surface
from market_data_pipeline_tests.transforms.feature_tables import bars, before, cut, moments, since, ticks
from market_data_pipeline_tests.transforms.tables import MIDNIGHT

DAYS = 2
EXPIRY = MIDNIGHT + timedelta(days=30)
timeframes = st.sampled_from([TIMEFRAMES[name] for name in ("15m", "1h", "4h", "1d")])


@dataclass(frozen=True)
class Inputs:
    """Everything that two days of features are made from."""

    timeframe: Timeframe
    candles: pa.Table
    spot: pa.Table
    ticker: pa.Table
    liquidations: pa.Table
    chain: pa.Table

    def ticks(self, change: Callable[[pa.Table], pa.Table]) -> "Inputs":
        """The same with changed ticks."""
        kinds = ("ticker", "liquidations", "chain")
        return replace(self, **{kind: change(getattr(self, kind)) for kind in kinds})

    def bars(self, start: int, stop: int) -> "Inputs":
        """The same with some of the candles."""
        taken = {kind: getattr(self, kind).slice(start, stop - start) for kind in ("candles", "spot")}
        return replace(self, **taken)


def features(given: Inputs, chain: list[pa.Table] | None = None) -> pa.Table:
    return fundamental_features(
        given.candles,
        given.timeframe,
        ticker=given.ticker,
        liquidations=given.liquidations,
        spot=given.spot,
        expiry=EXPIRY,
        surface=surface([given.chain] if chain is None else chain, moments(given.candles)),
    )


def check_that_the_past_stays(given: Inputs, rows: int) -> None:
    """Rows up to a candle are the same whether the lake ends at its close or goes on."""
    whole = features(given).slice(0, rows)
    end = given.candles["close_time"][rows - 1].as_py()
    past = given.ticks(lambda table: before(table, end))
    assert features(past).slice(0, rows).equals(whole)
    assert features(past.bars(0, rows)).equals(whole)


def made(timeframe: Timeframe, rows: dict[str, list[dict[str, Any]]], prices: list[float]) -> Inputs:
    count = DAYS * (DAY // timeframe.length)
    closes = [prices[index % len(prices)] for index in range(count)]
    traded = [int(price) % 7 and 1 for price in closes]
    return Inputs(
        timeframe,
        bars(closes, timeframe, traded=traded),
        bars(closes[::-1], timeframe, traded=traded[::-1]),
        ticks("derivative_ticker", rows["ticker"]),
        ticks("liquidations", rows["liquidations"]),
        ticks("options_chain", rows["chain"]),
    )


_minutes = st.integers(-60, DAYS * 24 * 60)
_edges = st.builds(lambda quarters, beside: quarters * 15 + beside, st.integers(-4, DAYS * 96), st.integers(-12, 1))
_times = st.builds(
    lambda minute, beside: MIDNIGHT + timedelta(minutes=minute, microseconds=beside),
    _minutes | _edges,
    st.integers(-1, 1),
)
_reals = st.none() | st.floats(0.01, 1e6)
_tickers = st.fixed_dictionaries(
    {
        "timestamp": _times,
        "funding_timestamp": st.none() | st.integers(0, 12).map(lambda count: MIDNIGHT + timedelta(hours=4 * count)),
        "funding_rate": _reals,
        "predicted_funding_rate": _reals,
        "open_interest": _reals,
        "index_price": _reals,
        "mark_price": _reals,
    }
)
_liquidations = st.fixed_dictionaries(
    {"timestamp": _times, "side": st.sampled_from(["buy", "sell", "unknown"]), "amount": st.floats(0.01, 1e6)}
)
_chain = st.fixed_dictionaries(
    {
        "timestamp": _times,
        "type": st.sampled_from(["call", "put"]),
        "strike_price": st.sampled_from([90.0, 100.0, 110.0]),
        "expiration": st.sampled_from([1, 20, 31, 45]).map(lambda days: MIDNIGHT + timedelta(days=days, hours=8)),
        "open_interest": _reals,
        "mark_iv": st.none() | st.floats(1.0, 300.0),
        "underlying_price": st.floats(85.0, 115.0),
        "delta": st.floats(-1.0, 1.0),
    }
)
inputs = st.builds(
    made,
    timeframes,
    st.fixed_dictionaries(
        {
            "ticker": st.lists(_tickers, max_size=25),
            "liquidations": st.lists(_liquidations, max_size=15),
            "chain": st.lists(_chain, max_size=40),
        }
    ),
    st.lists(st.floats(1.0, 100.0), min_size=1, max_size=9),
)


@settings(max_examples=60)
@given(given_=inputs, place=st.floats(0, 1))
def test_the_future_changes_no_row(given_: Inputs, place: float) -> None:
    check_that_the_past_stays(given_, 1 + int(place * (given_.candles.num_rows - 1)))


@settings(max_examples=60)
@given(given_=inputs)
def test_a_day_on_its_own_is_that_day_within_a_range(given_: Inputs) -> None:
    whole, a_day = features(given_), given_.candles.num_rows // DAYS
    for number in range(DAYS):
        start = MIDNIGHT + number * DAY
        alone = given_.bars(number * a_day, (number + 1) * a_day).ticks(
            lambda table, start=start: before(since(table, start - LOOK_BACK), start + DAY)
        )
        assert features(alone).equals(whole.slice(number * a_day, a_day))


@settings(max_examples=60)
@given(given_=inputs, cuts=st.lists(st.integers(0, 40), max_size=5))
def test_how_ticks_are_cut_makes_no_difference(given_: Inputs, cuts: list[int]) -> None:
    whole = features(given_)
    chunked = given_.ticks(lambda table: pa.concat_tables(cut(table, cuts)))
    assert features(chunked, cut(given_.chain, cuts)).equals(whole)
    # an option a table, as the lake has them
    names = ("expiration", "strike_price", "type")
    keys = np.array(["/".join(str(row[name]) for name in names) for row in given_.chain.to_pylist()])
    options = [given_.chain.filter(pa.array(keys == key)) for key in np.unique(keys)]
    assert features(given_, options).equals(whole)


@pytest.fixture(scope="module")
def plenty() -> Inputs:
    """Hours in which everything changes all the time, and ticks exactly on their edges."""
    random = np.random.default_rng(7)
    stamps = [MIDNIGHT + timedelta(minutes=int(minute)) for minute in range(-60, DAYS * 24 * 60, 5)]

    def real(low: float = 1.0, high: float = 2.0) -> float:
        return float(random.uniform(low, high))

    ticker = [
        {name: real() for name in derivatives.TICKER_COLUMNS[2:]}
        | {"timestamp": stamp, "funding_timestamp": stamp + timedelta(hours=real(2.0, 8.0))}
        for stamp in stamps
    ]
    liquidations = [
        {"timestamp": stamp, "side": str(random.choice(["buy", "sell"])), "amount": real()} for stamp in stamps
    ]
    chain = [
        {
            "timestamp": stamp,
            "type": kind,
            "strike_price": strike,
            "expiration": MIDNIGHT + timedelta(days=days),
            "open_interest": real(),
            "mark_iv": real(40, 60),
            "underlying_price": 100.0,
            "delta": delta if kind == "call" else delta - 1,
        }
        for stamp in stamps
        for days in (20, 45)
        for kind in ("call", "put")
        for strike, delta in ((80.0, 0.85), (100.0, 0.5), (120.0, 0.15))
    ]
    rows = {"ticker": ticker, "liquidations": liquidations, "chain": chain}
    return made(TIMEFRAMES["1h"], rows, [real(1, 6) for _ in range(9)])


def test_there_is_plenty_to_leak(plenty: Inputs) -> None:
    found = features(plenty)
    assert {name: found[name].null_count for name in found.column_names} == dict.fromkeys(found.column_names, 0)
    check_that_the_past_stays(plenty, 24)


HOUR = timedelta(hours=1) // timedelta(microseconds=1)


def ahead(by: int) -> Callable[..., Any]:
    """The last tick before a moment that lies too late by so many microseconds."""
    return lambda stamps, known, when, stale: as_of.latest_before(stamps, known, when + by, stale)


def late_liquidations(table: pa.Table, hours: derivatives.Bars, change: Any) -> Any:
    shifted = replace(hours, opens=hours.opens + HOUR, closes=hours.closes + HOUR)
    return derivatives.liquidation_features(table, shifted, change)


def late_surface(chain: Any, when: Any) -> pa.Table:
    rows = surfaces.surface(chain, when + HOUR)
    return rows.set_column(0, "close_time", pa.array(when).view(rows.schema.field(0).type))


@pytest.mark.parametrize(
    ("module", "name", "leak"),
    [
        pytest.param(derivatives, "latest_before", ahead(1), id="a tick at the close"),
        pytest.param(derivatives, "latest_before", ahead(HOUR), id="the ticker of the next candle"),
        pytest.param(surfaces, "latest_before", ahead(HOUR), id="the options of the next candle"),
        pytest.param(fundamental, "liquidation_features", late_liquidations, id="the next candle's liquidations"),
        pytest.param(None, "surface", late_surface, id="the next candle's surface"),
    ],
)
def test_a_planted_leak_is_found(
    plenty: Inputs, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, leak: Callable[..., Any]
) -> None:
    if module is None:
        monkeypatch.setitem(globals(), name, leak)
    else:
        monkeypatch.setattr(module, name, leak)
    with pytest.raises(AssertionError):
        check_that_the_past_stays(plenty, 24)


def test_a_spot_close_of_the_next_candle_is_found(plenty: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    matched = fundamental._matched

    def leak(other: pa.Table, hours: derivatives.Bars, values: Any) -> Any:
        return matched(other, replace(hours, closes=hours.closes + HOUR), values)

    monkeypatch.setattr(fundamental, "_matched", leak)
    with pytest.raises(AssertionError):
        check_that_the_past_stays(plenty, 24)


def test_a_shorter_look_back_is_found(plenty: Inputs) -> None:
    """The day alone needs the ticks of the look-back: without them its first rows are others."""
    second = plenty.bars(24, 48)
    assert not features(second.ticks(lambda table: since(table, MIDNIGHT + DAY))).equals(features(plenty).slice(24))
