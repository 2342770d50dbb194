"""Candles beside candles: equal ones are silent, and each kind of difference is named with its minute."""

from datetime import timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.transforms.candles import SCHEMA
from market_data_pipeline.transforms.differences import FIELDS, differing_minutes
from market_data_pipeline_tests.transforms.tables import MIDNIGHT

REALS = [name for name in FIELDS if name != "trade_count"]


def candles(**changed: dict[int, float | None]) -> pa.Table:
    """Three candles from midnight on; `field={minute: value}` changes one."""
    rows = []
    for minute in range(3):
        row = dict.fromkeys(REALS, 100.0 + minute) | {"trade_count": minute + 1}
        rows.append(row | {"timestamp": MIDNIGHT + timedelta(minutes=minute)})
    for name, values in changed.items():
        for minute, value in values.items():
            rows[minute][name] = value
    fields = [SCHEMA.field(name).with_nullable(True) for name in ("timestamp", *FIELDS)]
    return pa.Table.from_pylist(rows, pa.schema(fields))


def test_the_same_candles_do_not_differ() -> None:
    assert list(differing_minutes(candles(), candles())) == []
    assert list(differing_minutes(candles().slice(0, 0), candles().slice(0, 0))) == []


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_differs_is_named_with_both_values(name: str) -> None:
    (told,) = differing_minutes(candles(), candles(**{name: {1: 7.0}}))
    ours = 2 if name == "trade_count" else 101
    assert told == f"00:01 {name} {ours} not 7"


def test_several_fields_of_a_minute_stand_together_and_minutes_in_order() -> None:
    told = list(differing_minutes(candles(low={2: 1.0}, open={2: 3.0}, high={0: 9.0}), candles()))
    assert told == ["00:00 high 9 not 100", "00:02 open 3 not 102, low 1 not 102"]


def test_a_minute_that_only_one_side_has_is_told_unless_nothing_was_traded_in_it() -> None:
    assert list(differing_minutes(candles().slice(1), candles())) == ["00:00 missing here"]
    assert list(differing_minutes(candles(), candles().slice(0, 2))) == ["00:02 only here"]
    quiet = candles(trade_count={0: 0})
    assert list(differing_minutes(quiet.slice(1), quiet)) == list(differing_minutes(quiet, quiet.slice(1))) == []


def test_what_one_side_does_not_know_is_not_compared() -> None:
    unknown = candles(quote_volume={1: None})
    assert list(differing_minutes(unknown, candles())) == list(differing_minutes(candles(), unknown)) == []
    assert list(differing_minutes(candles(open={0: 1.0}), candles().drop_columns(["open"]))) == []


@given(st.floats(1e-6, 1e12), st.integers(-40, 40))
def test_rounding_of_sums_is_no_difference_and_more_is(value: float, ulps: int) -> None:
    close = value * (1 + ulps * 2**-52)
    assert list(differing_minutes(candles(volume={0: value}), candles(volume={0: close}))) == []
    far = value * (1 + 1e-8)
    assert len(list(differing_minutes(candles(volume={0: value}), candles(volume={0: far})))) == 1


@pytest.mark.parametrize("name", ["quote_volume", "buy_quote_volume", "base_volume"])
def test_values_may_lose_what_eight_decimals_cut_off_each_trade(name: str) -> None:
    # the candle of 00:02 has three trades
    assert list(differing_minutes(candles(**{name: {2: 0.5}}), candles(**{name: {2: 0.5 + 3.9e-8}}))) == []
    assert len(list(differing_minutes(candles(**{name: {2: 0.5}}), candles(**{name: {2: 0.5 + 4.2e-8}})))) == 1
    assert len(list(differing_minutes(candles(volume={2: 0.5}), candles(volume={2: 0.5 + 3.9e-8})))) == 1
