"""Signals: chance is told as chance, what can be foreseen is found, no future is seen, planted leaks are noticed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.windows import midnight
from market_data_pipeline.transforms import signals as subject
from market_data_pipeline.transforms.inputs import COLUMNS, INPUTS, PAST, UNUSED, Candles, input_values
from market_data_pipeline.transforms.labels import LABELS, LabelKind, Labels, Path
from market_data_pipeline.transforms.models import Model, fit
from market_data_pipeline.transforms.signals import SCHEMA, Recipe, Series, model_of, record, signals, train
from market_data_pipeline_tests.transforms.markets import A_DAY, DAY, MIDNIGHT, STEP, market, series, technical

NAME = "logistic-0123456789abcdef"
SMALL = Recipe(training_days=6, least_rows=200)
LARGER = Recipe(training_days=30)
SEEDS = range(20)
"""Chosen before any was looked at."""
KEYS = ("timeframe", "timestamp", "close_time")


def rows_of(found: Series, recipe: Recipe = SMALL) -> pa.Table:
    return signals(found, DAY, recipe, train(found, DAY, recipe), NAME)


def chance(seed: int) -> Series:
    return series(market(seed, LARGER.training_days + 4), LARGER)


def outside(found: list[Series]) -> int:
    """How many hit rates have an interval of confidence without 1/2."""
    scores = [train(each, DAY, LARGER).score for each in found]
    assert None not in scores
    return sum(not score.interval[0] <= 0.5 <= score.interval[1] for score in scores if score)


def test_a_random_walk_is_told_as_chance() -> None:
    # one of 20 is expected outside; more than three would come in 16 of 1,000 such tests
    assert outside([chance(seed) for seed in SEEDS]) <= 3


@pytest.mark.parametrize("label", LabelKind)
def test_what_can_be_foreseen_is_found(label: LabelKind) -> None:
    recipe = replace(LARGER, label=label, horizon=2)
    for seed in SEEDS[:3]:
        trained = train(series(market(seed, 34, echo=0.5), recipe), DAY, recipe)
        assert trained.score is not None
        assert trained.score.interval[0] > max(0.53, trained.score.base_hit_rate)
        assert trained.score.brier < trained.score.base_brier


def ahead(found: Series) -> Series:
    """The same with inputs of one candle later: a leak."""
    return replace(found, inputs=np.concatenate((found.inputs[1:], np.full((1, len(INPUTS)), np.nan))))


def test_a_feature_of_one_candle_later_makes_chance_look_like_skill() -> None:
    assert outside([ahead(chance(seed)) for seed in SEEDS[:4]]) == 4


def until(found: pa.Table, moment: int) -> pa.Table:
    return found.filter(pa.array(found.column("close_time").cast(pa.int64()).to_numpy() <= moment))


def cut_market(seed: int, last: int) -> tuple[pa.Table, pa.Table]:
    """A market, and the same without what comes after so many candles of the day."""
    whole = market(seed, SMALL.training_days + 4)
    return whole, whole.slice(0, whole.num_rows - A_DAY + last)


@given(seed=st.integers(0, 50), last=st.integers(1, A_DAY))
@settings(max_examples=15)
def test_rows_are_the_same_whether_the_candles_end_or_go_on(seed: int, last: int) -> None:
    whole, cut = cut_market(seed, last)
    moment = MIDNIGHT + last * STEP
    found = until(rows_of(series(whole, SMALL)), moment)
    assert found.num_rows == last
    assert found.column("probability").null_count == 0
    assert rows_of(series(cut, SMALL)).equals(found)


def test_the_law_is_broken_by_a_feature_of_one_candle_later() -> None:
    whole, cut = cut_market(0, 40)
    found = until(rows_of(ahead(series(whole, SMALL))), MIDNIGHT + 40 * STEP)
    assert not rows_of(ahead(series(cut, SMALL))).equals(found)


def test_the_law_is_broken_where_nothing_is_purged(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(labels: Labels, moment: int, embargo: int) -> Any:
        return labels.known & (labels.start <= moment)

    whole, cut = cut_market(0, 1)
    assert train(series(whole, SMALL), DAY, SMALL).end <= MIDNIGHT - SMALL.embargo * STEP
    monkeypatch.setattr(Labels, "ended", begun)
    assert train(series(whole, SMALL), DAY, SMALL).end > MIDNIGHT
    found = until(rows_of(series(whole, SMALL)), MIDNIGHT + STEP)
    assert not rows_of(series(cut, SMALL)).equals(found)


def test_what_is_held_out_begins_after_all_labels_that_the_scored_model_knew(monkeypatch: pytest.MonkeyPatch) -> None:
    found = series(market(1, 10), SMALL)
    known: list[Any] = []
    monkeypatch.setattr(subject, "fit", lambda inputs, up: known.append(len(inputs)) or fit(inputs, up))
    trained = train(found, DAY, SMALL)
    held_out = MIDNIGHT - SMALL.held_out_days * A_DAY * STEP
    used = found.labels.ended(held_out, SMALL.embargo * STEP)
    used &= found.stamps >= MIDNIGHT - SMALL.training_days * A_DAY * STEP
    # the model of the day, then the one that is scored
    assert known == [trained.rows, used.sum()]
    assert trained.score is not None
    inside = found.labels.ended(MIDNIGHT, SMALL.embargo * STEP) & (found.labels.start >= held_out)
    assert trained.score.rows == inside.sum()


def test_what_lies_before_the_training_days_makes_no_difference() -> None:
    candles = market(2, 12)
    features = technical(candles)
    found = subject.series_of(candles.select(subject.CANDLE_COLUMNS), {"technical_features": features}, SMALL)
    start = candles.num_rows - (SMALL.training_days + 1) * A_DAY - PAST
    less = candles.slice(start).select(subject.CANDLE_COLUMNS)
    short = subject.series_of(less, {"technical_features": features.slice(start)}, SMALL)
    assert rows_of(short).equals(rows_of(found))


def test_a_rows_probability_does_not_depend_on_the_rows_beside_it() -> None:
    found = series(market(3, 10), SMALL)
    model = train(found, DAY, SMALL).model
    assert model is not None
    today = found.inputs[-A_DAY:]
    alone = np.concatenate([model.probability(today[place : place + 1]) for place in range(A_DAY)])
    assert alone.tobytes() == model.probability(today).tobytes()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_no_bit(threads: int) -> None:
    candles = market(4, 34)
    expected = record(DAY, "x", LARGER, train(series(candles, LARGER), DAY, LARGER))
    with threadpool_limits(threads), ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda _: train(series(candles, LARGER), DAY, LARGER), range(2 * threads)))
    assert [record(DAY, "x", LARGER, each) for each in found] == [expected] * (2 * threads)


def test_a_record_makes_the_same_model_and_one_of_other_inputs_is_refused() -> None:
    found = series(market(5, 10), SMALL)
    trained = train(found, DAY, SMALL)
    told = record(DAY, "x", SMALL, trained)
    assert model_of(told) == trained.model
    assert told["training"]["rows"] == trained.rows
    told["inputs"][3]["how"] = "otherwise"
    with pytest.raises(LakeError, match=rf"its input {told['inputs'][3]['name']} is not made any more"):
        model_of(told)


def test_too_little_history_gives_null_and_says_how_much_there_is() -> None:
    recipe = replace(SMALL, least_rows=500)
    found = series(market(6, 5), recipe)
    trained = train(found, DAY, recipe)
    assert trained.why == f"{trained.rows} labelled candles with their inputs; 500 are needed"
    assert 0 < trained.rows < 500
    assert trained.days_missing == 2
    rows = signals(found, DAY, recipe, trained, None).to_pylist()
    assert len(rows) == A_DAY
    assert {(row["probability"], row["position"], row["model"], row["train_rows"]) for row in rows} == {
        (None, None, None, trained.rows)
    }
    empty = train(series(market(6, 1), recipe), DAY, recipe)
    assert (empty.rows, empty.start, empty.end, empty.score) == (0, None, None, None)


@pytest.mark.parametrize("frame", ["15m", "1h", "4h", "1d"])
def test_a_day_that_has_candles_is_not_missing_even_where_none_of_its_labels_has_ended(frame: str) -> None:
    recipe = replace(SMALL, timeframe=TIMEFRAMES[frame], training_days=40, least_rows=20)
    length = recipe.timeframe.microseconds
    opens = np.arange(MIDNIGHT - 40 * A_DAY * STEP, MIDNIGHT + A_DAY * STEP, length)
    draw = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, len(opens))))
    path = Path(opens, close * 1.005, close / 1.005, close, np.full(len(opens), 0.01), length)
    there = np.ones(len(opens), bool)
    whole = Series(
        opens, draw.normal(size=(len(opens), len(INPUTS))), LABELS[recipe.label](path, 4, 1.0), there, there, ~there
    )
    trained = train(whole, DAY, recipe)
    assert (trained.model is None, trained.days_missing) == (False, 0)
    # neither a day without a candle nor one of candles without a price is there; the day itself does not count
    blank = (opens // (A_DAY * STEP) - MIDNIGHT // (A_DAY * STEP)) % 10 == 0
    assert train(replace(whole, priced=~blank), DAY, recipe).days_missing == 4


def test_labels_that_are_all_the_same_make_no_model() -> None:
    found = series(market(7, 10), SMALL)
    one_way = replace(found, labels=replace(found.labels, up=np.ones(len(found.stamps), bool)))
    trained = train(one_way, DAY, SMALL)
    assert trained.model is None
    assert trained.why == f"all labels of {trained.rows} candles are the same"


def test_positions_follow_from_the_threshold_and_rows_name_their_training() -> None:
    recipe = replace(SMALL, threshold=0.02)
    trained = train(series(market(8, 10), recipe), DAY, recipe)
    rows = rows_of(series(market(8, 10), recipe), recipe)
    assert rows.schema.equals(SCHEMA)
    seen = set()
    for row in rows.to_pylist():
        expected = (row["probability"] >= 0.52) - (row["probability"] <= 0.48)
        assert row["position"] == expected
        seen.add(expected)
        assert (row["timeframe"], row["model"], row["train_rows"]) == ("15m", NAME, trained.rows)
        assert row["close_time"] - row["timestamp"] == timedelta(minutes=15)
        assert row["train_from"] < row["train_to"] <= midnight(DAY) - recipe.embargo * timedelta(minutes=15)
    assert seen == {-1, 0, 1}


def test_nobody_learns_from_a_candle_without_a_trade_and_one_without_a_price_has_no_signal() -> None:
    candles = market(9, 10)
    quiet, blank = candles.num_rows - 2 * A_DAY, candles.num_rows - 5
    counts = candles.column("trade_count").to_numpy().copy()
    counts[quiet] = 0
    changed = candles.set_column(candles.column_names.index("trade_count"), "trade_count", pa.array(counts))
    whole, less = (train(series(each, SMALL), DAY, SMALL) for each in (candles, changed))
    assert less.rows == whole.rows - 1
    found = series(candles, SMALL)
    priced = found.priced.copy()
    priced[blank] = False
    rows = rows_of(replace(found, priced=priced))
    assert np.flatnonzero(rows.column("probability").is_null()).tolist() == [A_DAY - 5]


def test_a_missing_input_counts_as_its_mean_and_with_half_of_them_missing_there_is_no_signal() -> None:
    model = Model((0, 2, 3), (1.0, 5.0, 0.0), (2.0, 1.0, 1.0), (0.5, -1.0, 0.0), 0.1)
    nan = np.nan
    inputs = np.array([[3, nan, 5, 0], [3, 7, nan, 0], [nan, 7, nan, 0], [1e9, 0, 5, 0]], float)
    odds = np.array([0.1 + 0.5, 0.1 + 0.5, 0, 0.1 + 0.5 * 5])
    expected = np.round(1 / (1 + np.exp(-odds)), 9)
    expected[2] = nan
    np.testing.assert_array_equal(model.probability(inputs), expected)


def test_what_is_null_or_stands_still_in_training_is_left_out() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(400, 4))
    inputs[:, 1], inputs[:, 2] = np.nan, 7.0
    model = fit(inputs, inputs[:, 0] > 0)
    assert model.places == (0, 3)
    assert model.weights[0] > 5 * abs(model.weights[1])


def test_inputs_have_no_scale() -> None:
    one, other = (series(market(10, 3, price=price, volume=volume), SMALL) for price, volume in ((1, 1), (6e4, 7e3)))
    np.testing.assert_allclose(one.inputs, other.inputs, rtol=1e-6, atol=1e-9)


def test_every_feature_is_an_input_or_is_said_not_to_be() -> None:
    features = {
        name for each in ("technical_features", "fundamental_features") for name in DATASETS[each].own_schema.names
    }
    candles = set(DATASETS["ohlcv_15m"].own_schema.names)
    assert features - set(KEYS) - COLUMNS == set(UNUSED)
    assert COLUMNS - features - candles == set()
    assert len({each.name for each in INPUTS}) == len(INPUTS)


def test_an_input_that_looks_back_needs_all_it_looks_back_on() -> None:
    count = PAST + 30
    stamps = np.arange(count) * STEP
    stamps[PAST + 5 :] += STEP  # a candle is missing
    volume = np.full(count, 2.0)
    volume[PAST] = 6.0
    place = [each.name for each in INPUTS].index("volume_against_past")
    found = input_values(Candles(stamps, STEP, {"volume": volume}))[:, place]
    assert np.isnan(found[:PAST]).all()
    assert found[PAST] == pytest.approx(np.log1p(3.0))
    assert np.isnan(found[PAST + 5 : 2 * PAST + 5]).all()
    assert np.isfinite(found[2 * PAST + 5 :]).all()


def test_features_are_joined_by_time_and_may_be_missing() -> None:
    candles = market(11, 3)
    features = technical(candles)
    kept = features.filter(pc.not_equal(features.column("timestamp"), features.column("timestamp")[250]))
    found = subject.series_of(candles.select(subject.CANDLE_COLUMNS), {"technical_features": kept}, SMALL)
    whole = series(candles, SMALL)
    place = [each.name for each in INPUTS].index("log_return")
    assert np.isnan(found.inputs[250, place])
    others = np.arange(len(found.stamps)) != 250
    np.testing.assert_array_equal(found.inputs[others, place], whole.inputs[others, place])
    none = subject.series_of(candles.select(subject.CANDLE_COLUMNS), {}, SMALL)
    assert np.isnan(none.inputs[:, place]).all()
    assert not none.labels.known.any()  # a barrier needs the volatility
