"""Signals from the lake: the same rows however the days are asked for, in every layout, with models that stay."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.lake import signals as lake_signals
from market_data_pipeline.lake.histories import stored_rows
from market_data_pipeline.lake.models import keep_model, model_key, model_record
from market_data_pipeline.lake.signals import ModelCard, signal_rows
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.datasets import DATASETS, MODEL_LAYOUT, TIME, Dataset
from market_data_pipeline.model.errors import LakeError, ObjectNotFound
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.layouts import instrument_fields
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.transforms.labels import LabelKind
from market_data_pipeline.transforms.lacking import Lacking
from market_data_pipeline.transforms.models import Model
from market_data_pipeline.transforms.signals import (
    CANDLE_COLUMNS,
    FEATURE_COLUMNS,
    Recipe,
    Trained,
    model_of,
    series_of,
)
from market_data_pipeline.transforms.technical import technical_features
from market_data_pipeline_tests.lake.made_up import ALL, BTC_USD, PERP, Watched, contents, write
from market_data_pipeline_tests.parity import assert_layouts_agree
from market_data_pipeline_tests.store_fixtures import Ground, local_ground
from market_data_pipeline_tests.transforms.markets import DAY as LAST
from market_data_pipeline_tests.transforms.markets import QUARTERS, market

CANDLES, TECHNICAL, FUNDAMENTAL, SIGNALS = (
    DATASETS[name] for name in ("ohlcv_15m", "technical_features", "fundamental_features", "ml_signals")
)
RECIPE = Recipe(training_days=4, least_rows=150)
DAYS = [LAST - number * ONE_DAY for number in range(9, -1, -1)]
"""From 2024-07-30 on: a month ends among them, and only from the fifth on are look-backs full."""
LAST_THREE = DAYS[-3:]
SEEDS = {BTC_USD: 1, PERP: 2}


@cache
def made(instrument: Instrument, day: date, days: int = len(DAYS)) -> tuple[pa.Table, pa.Table]:
    """Candles and technical features of a day."""
    candles = market(SEEDS[instrument], days)
    features = technical_features(candles, day, QUARTERS).table
    start = microseconds(midnight(day))
    stamps = candles.column("timestamp").cast(pa.int64()).to_numpy()
    return candles.filter(pa.array((stamps >= start) & (stamps < start + 86_400_000_000))), features


def fill(store: ObjectStore, days: Sequence[date] = DAYS, instruments: Sequence[Instrument] = (BTC_USD, PERP)) -> None:
    for place, dataset in enumerate((CANDLES, TECHNICAL)):
        write(store, dataset, {(day, each): made(each, day)[place] for day in days for each in instruments})


def fundamental(instrument: Instrument, day: date, **columns: pa.Array) -> pa.Table:
    """Fundamental features of a day: a basis, or the columns that are given; all others are null."""
    technical, schema = made(instrument, day)[1], FUNDAMENTAL.own_schema
    count = technical.num_rows
    draw = np.random.default_rng([SEEDS[instrument], day.toordinal()])
    found = {name: technical.column(name) for name in ("timeframe", "timestamp", "close_time")}
    found |= columns or {"basis": pa.array(draw.normal(size=count))}
    return pa.table({name: found.get(name, pa.nulls(count, schema.field(name).type)) for name in schema.names}).cast(
        schema
    )


def fill_fundamental(
    store: ObjectStore, days: Sequence[date] = DAYS, instruments: Sequence[Instrument] = (PERP,)
) -> None:
    write(store, FUNDAMENTAL, {(day, each): fundamental(each, day) for day in days for each in instruments})


def materialize(
    store: ObjectStore, days: Sequence[date], selection: Selection = ALL, recipe: Recipe = RECIPE
) -> dict[date, ModelCard]:
    cards: dict[date, ModelCard] = {}
    report = write_days(store, SIGNALS, days, selection, signal_rows(store, days, selection, recipe, cards))
    assert report.failures == ()
    return cards


def rows(
    store: ObjectStore, day: date, selection: Selection = ALL, recipe: Recipe = RECIPE
) -> dict[Instrument, pa.Table]:
    return {
        each.instrument: pa.Table.from_batches(each.read(Rejects()), SIGNALS.own_schema)
        for each in signal_rows(store, [day], selection, recipe)
        if each.instrument
    }


def models(store: ObjectStore) -> list[str]:
    return [info.key for info in store.list("market-data-meta/models/")]


def test_every_layout_holds_the_same_rows_and_each_row_names_a_model_that_is_there(ground: Ground) -> None:
    fill(ground.store)
    cards = materialize(ground.store, LAST_THREE)
    assert assert_layouts_agree(ground.store)["ml_signals"] == 3 * 2 * 96
    named = set()
    for day in LAST_THREE:
        for instrument, found in rows(ground.store, day).items():
            (name,) = pc.unique(found.column("model")).to_pylist()
            named.add(model_key(day, instrument, name))
            told = model_record(ground.store, day, instrument, name)
            assert (told["instrument_id"], told["day"], told["timeframe"]) == (instrument.id, f"{day}", "15m")
            assert told["training"]["rows"] == found.column("train_rows")[0].as_py()
    assert named == set(models(ground.store))
    assert {MODEL_LAYOUT.parse(key)["instrument_id"] for key in named} == {BTC_USD.id, PERP.id}
    assert [(card.models, card.without, card.short_windows) for card in cards.values()] == [(2, {}, 0)] * 3
    for card in cards.values():
        assert card.score is not None
        assert card.score.rows == sum(score.rows for score in card.scores.values())
        assert sum(card.positions.values()) == 2 * 96


@pytest.fixture(scope="module")
def in_one_range(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | None]:
    ground = local_ground(tmp_path_factory.mktemp("range"))
    fill(ground.store)
    materialize(ground.store, LAST_THREE)
    return contents(ground)


@pytest.mark.parametrize(
    "order", list(permutations(LAST_THREE)), ids=lambda days: "-".join(f"{day.day}" for day in days)
)
def test_day_by_day_in_any_order_is_one_range(
    local: Ground, in_one_range: dict[str, bytes | None], order: tuple[date, ...]
) -> None:
    fill(local.store)
    for day in order:
        materialize(local.store, [day])
    assert contents(local) == in_one_range


def test_other_instruments_make_no_difference(local: Ground, in_one_range: dict[str, bytes | None]) -> None:
    fill(local.store, instruments=[PERP])
    materialize(local.store, LAST_THREE, Selection.of(PERP))
    mine = {name: data for name, data in in_one_range.items() if f"instrument-{PERP.id}/" in name}
    assert {name: data for name, data in contents(local).items() if f"instrument-{PERP.id}/" in name} == mine
    fill(local.store)
    assert set(rows(local.store, LAST, Selection.of(PERP))) == {PERP}
    assert rows(local.store, LAST, Selection.of(PERP))[PERP].equals(rows(local.store, LAST)[PERP])


def test_rows_are_the_same_whether_the_lake_ends_or_goes_on(tmp_path: Path) -> None:
    longer, shorter = local_ground(tmp_path / "longer").store, local_ground(tmp_path / "shorter").store
    fill(longer)
    fill(shorter, DAYS[:-2])
    assert rows(longer, DAYS[-3]) == rows(shorter, DAYS[-3])
    assert rows(longer, DAYS[-3])[PERP].column("probability").null_count == 0


BEFORE, CUT = DAYS[-6:-2], DAYS[-2:]
"""The training days of two days, and these."""
TwoLakes = tuple[dict[date, pa.Table], ObjectStore]


def cut(table: pa.Table, moment: datetime) -> pa.Table:
    return table.filter(pc.less_equal(table.column("close_time"), pa.scalar(moment)))


def fill_until(store: ObjectStore, days: Sequence[date], moment: datetime) -> None:
    """Candles and all features that are complete at a moment; nothing else stays of the days."""
    tables = {
        CANDLES: {day: made(PERP, day)[0] for day in days},
        TECHNICAL: {day: made(PERP, day)[1] for day in days},
        FUNDAMENTAL: {day: fundamental(PERP, day) for day in days},
    }
    for dataset, each in tables.items():
        known = {(day, PERP): cut(table, moment) for day, table in each.items() if midnight(day) < moment}
        write(store, dataset, known, days=days)


@pytest.fixture(scope="module")
def two_lakes(tmp_path_factory: pytest.TempPathFactory) -> TwoLakes:
    """One that holds all days, of which the signals are given, and one in which a test lets the last two end early."""
    longer, shorter = (local_ground(tmp_path_factory.mktemp(name)).store for name in ("longer", "shorter"))
    fill_until(longer, [*BEFORE, *CUT], midnight(LAST) + ONE_DAY)
    fill_until(shorter, BEFORE, midnight(LAST))
    return {day: rows(longer, day)[PERP] for day in CUT}, shorter


def past_stays(longer: dict[date, pa.Table], shorter: ObjectStore, candles: int) -> bool:
    """Whether signals of all candles that are complete so many candles after the two days begin are the same."""
    moment = midnight(CUT[0]) + candles * QUARTERS.length
    fill_until(shorter, CUT, moment)
    same = True
    for day in CUT[: 1 + (candles > 96)]:
        past, known = cut(longer[day], moment), rows(shorter, day)[PERP]
        assert past.num_rows == min(96, candles - 96 * CUT.index(day))
        assert past.column("probability").null_count == 0
        same &= known.equals(past)
    return same


@settings(max_examples=10)
@given(candles=st.integers(1, 192))
def test_rows_are_the_same_wherever_candles_and_all_features_end(two_lakes: TwoLakes, candles: int) -> None:
    assert past_stays(*two_lakes, candles)


def test_the_law_is_broken_by_fundamental_features_of_one_candle_later(
    two_lakes: TwoLakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def early(store: ObjectStore, dataset: Dataset, *asked: Any) -> pa.Table:
        found = stored_rows(store, dataset, *asked)
        if dataset is not FUNDAMENTAL:
            return found
        place = found.column_names.index("timestamp")
        moved = pc.subtract(found.column(place), pa.scalar(QUARTERS.length))
        return found.set_column(place, "timestamp", moved)

    _, shorter = two_lakes
    fill_until(shorter, CUT, midnight(LAST) + ONE_DAY)
    monkeypatch.setattr(lake_signals, "stored_rows", early)
    leaking = {day: rows(shorter, day)[PERP] for day in CUT}
    assert not past_stays(leaking, shorter, 40)


def test_a_second_run_and_one_with_other_threads_write_nothing(local: Ground) -> None:
    fill(local.store)
    materialize(local.store, LAST_THREE)
    before = contents(local)
    for threads in (1, 3):
        watched = Watched(local.store)
        made_again = signal_rows(watched, LAST_THREE, ALL, RECIPE)
        report = write_days(watched, SIGNALS, LAST_THREE, ALL, made_again, threads=threads)
        assert watched.named("put") == []
        assert report.bytes_written == 0
    assert contents(local) == before


def test_a_model_that_is_loaded_again_gives_the_stored_signals_bit_for_bit(local: Ground) -> None:
    fill(local.store)
    materialize(local.store, [LAST])
    stored = rows(local.store, LAST)[PERP]
    model = model_of(model_record(local.store, LAST, PERP, stored.column("model")[0].as_py()))
    # from the day itself and the candles that its inputs look back on, round the history that trained it
    before, today = made(PERP, DAYS[-2]), made(PERP, LAST)
    candles, features = (pa.concat_tables(pair) for pair in zip(before, today, strict=True))
    seen = series_of(
        candles.select(CANDLE_COLUMNS),
        {"technical_features": features.select(["timestamp", *FEATURE_COLUMNS["technical_features"]])},
        RECIPE,
    )
    assert model.probability(seen.inputs[-96:]).tobytes() == stored.column("probability").to_numpy().tobytes()


def test_no_label_lies_in_any_file(local: Ground) -> None:
    fill(local.store)
    materialize(local.store, [LAST])
    assert SIGNALS.own_schema.names == [
        *("timeframe", "timestamp", "close_time", "probability", "position"),
        *("model", "train_from", "train_to", "train_rows"),
    ]
    found = rows(local.store, LAST)[PERP]
    assert pc.max(found.column("train_to")).as_py() <= midnight(LAST) - RECIPE.embargo * QUARTERS.length


def test_a_model_of_other_data_has_another_name_and_the_old_one_stays(local: Ground) -> None:
    fill(local.store, instruments=[PERP])
    materialize(local.store, [LAST])
    (old,) = models(local.store)
    changed = made(PERP, DAYS[-2])[0]
    place = changed.column_names.index("trade_count")
    counts = changed.column("trade_count").to_numpy().copy()
    counts[:5] = 0
    write(local.store, CANDLES, {(DAYS[-2], PERP): changed.set_column(place, "trade_count", pa.array(counts))})
    materialize(local.store, [LAST])
    assert old in models(local.store)
    assert len(models(local.store)) == 2
    (name,) = pc.unique(rows(local.store, LAST)[PERP].column("model")).to_pylist()
    assert model_key(LAST, PERP, name) in set(models(local.store)) - {old}


def test_a_record_that_was_changed_is_refused_and_made_whole_by_the_next_run(ground: Ground) -> None:
    name = keep_model(ground.store, LAST, PERP, {"intercept": 0.5})
    key = model_key(LAST, PERP, name)
    assert model_record(ground.store, LAST, PERP, name) == {"intercept": 0.5}
    ground.write(key, b'{"intercept": 0.9}')
    with pytest.raises(LakeError, match="was changed"):
        model_record(ground.store, LAST, PERP, name)
    assert keep_model(ground.store, LAST, PERP, {"intercept": 0.5}) == name
    assert json.loads(ground.get(key) or b"") == {"intercept": 0.5}
    with pytest.raises(ObjectNotFound):
        model_record(ground.store, LAST, BTC_USD, name)


def test_a_model_is_kept_before_the_rows_that_name_it(local: Ground) -> None:
    fill(local.store, instruments=[PERP])

    def fails(verb: str, key: str) -> None:
        if verb == "put" and "/models/" in key:
            raise LakeError("the disk is full")

    watched = Watched(local.store, fails)
    report = write_days(watched, SIGNALS, [LAST], ALL, signal_rows(watched, [LAST], ALL, RECIPE))
    (failure,) = report.failures
    assert "the disk is full" in failure.message
    assert not [name for name in local.names() if "ml_signals" in name]


def test_too_little_history_is_rows_with_nulls_and_the_card_says_why(local: Ground) -> None:
    fill(local.store, DAYS[:2])
    card = materialize(local.store, [DAYS[1]])[DAYS[1]]
    assert card.models == 0
    assert set(card.without) == {BTC_USD.id, PERP.id}
    assert card.without[PERP.id].endswith("labelled candles with their inputs; 150 are needed")
    assert card.short_windows == 2
    assert (card.score, card.turnover) == (None, None)
    found = rows(local.store, DAYS[1])[PERP]
    assert found.num_rows == found.column("probability").null_count == found.column("model").null_count == 96
    assert models(local.store) == []


def test_no_label_bridges_a_day_that_is_not_there(local: Ground) -> None:
    missing = DAYS[-3]
    fill(local.store, [day for day in DAYS if day != missing], [PERP])
    found = rows(local.store, LAST)[PERP]
    whole = local_ground(Path(local.store.uri).parent / "whole").store
    fill(whole, instruments=[PERP])
    less = rows(whole, LAST)[PERP].column("train_rows")[0].as_py() - found.column("train_rows")[0].as_py()
    # the day's own candles, the last of the day before it, whose labels would end in it, and those of the next that
    # look back on what is not there
    assert 96 <= less <= 96 + RECIPE.horizon + 1
    path_ends = model_record(local.store, LAST, PERP, found.column("model")[0].as_py())["training"]
    assert path_ends["days_missing"] == 1


def test_the_history_of_a_month_is_read_from_as_few_objects_as_there_can_be(local: Ground) -> None:
    fill(local.store, instruments=[PERP])
    watched = Watched(local.store)
    for each in signal_rows(watched, LAST_THREE, ALL, RECIPE):
        list(each.read(Rejects()))
    opened = [key for key in watched.named("open") if "/models/" not in key]
    # a month file of candles and one of each kind of features, for each of the two months
    window = [RECIPE.window(LAST_THREE[0]).start.date(), LAST]
    months = {(day.year, day.month) for day in window}
    assert len(opened) == 3 * len(months)
    assert all("by_instrument_id" in key for key in opened)


def test_fundamental_features_are_used_where_they_are(local: Ground) -> None:
    fill(local.store, instruments=[PERP])
    without = rows(local.store, LAST)[PERP]
    fill_fundamental(local.store)
    found = rows(local.store, LAST)[PERP]
    assert not found.equals(without)
    names = [
        {each["name"] for each in model_record(local.store, LAST, PERP, table.column("model")[0].as_py())["inputs"]}
        for table in (without, found)
    ]
    assert names[1] - names[0] == {"basis"}
    assert "funding_rate" not in names[1]


@pytest.mark.parametrize(
    ("having", "told"),
    [
        (DAYS, (0, 0, {})),
        ([], (0, 0, {})),
        (DAYS[:-1], (1, 0, {"basis": 1})),
        (DAYS[-3:], (0, 1, {})),
        ([LAST], (0, 1, {})),
        (DAYS[-3:-1], (1, 1, {"basis": 1})),
        (DAYS[:2], (0, 0, {})),  # before the training days
    ],
    ids=["always", "never", "not today", "lately", "today", "yesterday", "long ago"],
)
def test_fundamental_features_that_are_missing_are_told(
    local: Ground, having: list[date], told: tuple[int, int, dict[str, int]]
) -> None:
    fill(local.store, instruments=[PERP])
    fill_fundamental(local.store, having)
    card = materialize(local.store, [LAST])[LAST]
    assert card.models == 1
    assert (card.lacking_today, card.lacking_in_training, card.missing_inputs) == told


def test_an_input_that_is_null_all_day_is_told_even_where_there_are_rows(local: Ground) -> None:
    fill(local.store, instruments=[PERP])
    fill_fundamental(local.store)
    for day, nulls, told in ((LAST, 96, {"basis": 1}), (LAST, 95, {}), (DAYS[-2], 96, {})):
        fill_fundamental(local.store, DAYS[-2:])
        basis = pa.array([None] * nulls + [1.0] * (96 - nulls), pa.float64())
        write(local.store, FUNDAMENTAL, {(day, PERP): fundamental(PERP, day, basis=basis)})
        card = materialize(local.store, [LAST])[LAST]
        assert (card.lacking_today, card.lacking_in_training, card.missing_inputs) == (0, 0, told)


def test_turnover_is_of_candles_that_follow_one_another_and_have_positions() -> None:
    opens = np.array([0, 1, 2, 3, 4, 6, 7]) * QUARTERS.microseconds  # the sixth is missing
    positions = [1, -1, None, 1, 1, -1, 0]
    rows = pa.table(
        {
            "timestamp": pa.array(opens).view(TIME),
            "close_time": pa.array(opens + QUARTERS.microseconds).view(TIME),
            "position": pa.array(positions, pa.int8()),
        }
    )
    card = ModelCard()
    card.add(PERP, Trained(Model((), (), (), (), 0.0), "", 0, None, None, 0, None), Lacking(False, False, ()), rows)
    assert (card.changes, card.steps, card.turnover) == (2 + 0 + 1, 3, 1.0)
    assert card.positions == {-1: 2, 0: 1, 1: 3}


def test_another_label_or_timeframe_is_another_model(local: Ground) -> None:
    fill(local.store, instruments=[PERP])
    names = {
        rows(local.store, LAST, recipe=recipe)[PERP].column("model")[0].as_py()
        for recipe in (RECIPE, replace(RECIPE, label=LabelKind.FORWARD_RETURN), replace(RECIPE, training_days=3))
    }
    assert len(names) == 3


def test_the_path_of_a_model_reads_like_the_lakes_others() -> None:
    assert model_key(LAST, PERP, "logistic-0123456789abcdef") == (
        "market-data-meta/models/by_date/year-2024/month-08/day-08/venue-deribit/instrument-deribit:Perp:BTC-USD/"
        "logistic-0123456789abcdef.json"
    )
    fields = MODEL_LAYOUT.parse(model_key(LAST, PERP, "logistic-0123456789abcdef"))
    times = {"year": "2024", "month": "08", "day": "08"}
    assert fields.items() <= (instrument_fields(PERP) | {"model": "logistic-0123456789abcdef"} | times).items()
