"""The availability map: what ids and contracts prove, what a master lists, and what the lake holds."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.model.contracts import LINEAR, Contract, VolumeUnit
from market_data_pipeline.model.datasets import DATASETS, OBSERVED_COLUMNS
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.transforms.availability import (
    LISTING_SCHEMA,
    SCHEMA,
    Observed,
    availability,
    buckets_of,
    empty_buckets,
    proven_by_ticks,
)
from market_data_pipeline_tests.transforms.tables import DAY, LENGTH, MIDNIGHT, MINUTE

SPOT = Instrument.parse("binance:SPOT_PAIR:BTC-USDT")
PERPETUAL = Instrument.parse("binance-delivery:Perp:BTC-USD")
FUTURE = Instrument.parse("deribit:Future:BTC-USD-241225")
CALL = Instrument.parse("deribit:Option:BTC-USD-50000-241225-C")
PUT = Instrument.parse("deribit:Option:XRP-USDC-0.5-690101-P")
CONTRACT = {
    SPOT: LINEAR,
    PERPETUAL: Contract(inverse=True, multiplier=100.0, unit=VolumeUnit.CONTRACTS),
    FUTURE: Contract(inverse=True, unit=VolumeUnit.QUOTE),
    CALL: Contract(multiplier=None, unit=VolumeUnit.CONTRACTS),
    PUT: LINEAR,
}
OBSERVED = [column.name for column in OBSERVED_COLUMNS]


def listed(instrument: Instrument) -> dict[str, Any]:
    (row,) = proven_by_ticks([instrument], CONTRACT).to_pylist()
    return row


@pytest.mark.parametrize(
    ("instrument", "told"),
    [
        (SPOT, {"instrument_type": "spot", "base_asset": "BTC", "quote_asset": "USDT", "contract_multiplier": 1.0}),
        (PERPETUAL, {"instrument_type": "perpetual", "contract_multiplier": 100.0, "inverse": True}),
        (FUTURE, {"expiry": datetime(2024, 12, 25, tzinfo=UTC), "strike": None, "option_type": None, "inverse": True}),
        (
            CALL,
            {
                "expiry": datetime(2024, 12, 25, tzinfo=UTC),
                "strike": 50000.0,
                "option_type": "call",
                "contract_multiplier": None,
                "inverse": False,
            },
        ),
        (PUT, {"expiry": datetime(2069, 1, 1, tzinfo=UTC), "strike": 0.5, "option_type": "put"}),
    ],
    ids=str,
)
def test_what_an_id_and_a_contract_prove(instrument: Instrument, told: dict[str, Any]) -> None:
    row = listed(instrument)
    assert {name: row[name] for name in told} == told
    assert row["instrument_id"] == instrument.id
    assert row["venue"] == instrument.venue
    assert row["known_from"] == "ticks"


@pytest.mark.parametrize("instrument", CONTRACT, ids=str)
def test_what_only_a_master_can_tell_is_null(instrument: Instrument) -> None:
    row = listed(instrument)
    unknown = ("venue_symbol", "settle_asset", "underlying", "tick_size", "lot_size", "available_from")
    assert [row[name] for name in unknown] == [None] * 6
    # of the future, only an expiry is known by the day's 00:00
    assert (row["available_to"] is None) is (instrument.expiry is None)


def test_ticks_of_nothing_prove_nothing() -> None:
    assert proven_by_ticks([], {}).equals(LISTING_SCHEMA.empty_table())


def seen(dataset: str, *, gaps: int = 0, lawful: bool = True) -> Observed:
    return Observed(dataset, 7, MIDNIGHT, MIDNIGHT + timedelta(hours=1), gaps, lawful)


def test_a_map_has_a_row_for_each_listed_instrument_in_order_of_id() -> None:
    made = availability(proven_by_ticks([SPOT, CALL, PERPETUAL], CONTRACT), {})
    assert made.schema.equals(SCHEMA)
    assert SCHEMA.equals(DATASETS["available_instruments"].own_schema)
    assert made.column("instrument_id").to_pylist() == [PERPETUAL.id, SPOT.id, CALL.id]
    assert made.select(LISTING_SCHEMA.names).to_pylist() == [listed(each) for each in (PERPETUAL, SPOT, CALL)]


def test_a_map_of_nothing_is_an_empty_table() -> None:
    assert availability(LISTING_SCHEMA.empty_table(), {}).equals(SCHEMA.empty_table())


def test_a_master_s_row_is_kept_as_it_is() -> None:
    row = listed(SPOT) | {
        "venue_symbol": "BTCUSDT",
        "tick_size": 0.01,
        "available_from": datetime(2017, 8, 17, tzinfo=UTC),
        "known_from": "listing",
    }
    (found,) = availability(pa.Table.from_pylist([row], LISTING_SCHEMA), {SPOT.id: [seen("trades")]}).to_pylist()
    assert {name: found[name] for name in row} == row


def test_what_the_lake_holds_stands_beside_the_listing() -> None:
    found = [
        seen("trades", gaps=3),
        seen("book_snapshot_5"),
        seen("ohlcv_1m"),
        Observed("ohlcv_4h", 0, None, None, 6, lawful=True),
        seen("technical_features", lawful=False),
    ]
    rows = availability(proven_by_ticks([SPOT, FUTURE], CONTRACT), {SPOT.id: found}).to_pylist()
    with_data, without = ({name: row[name] for name in OBSERVED} for row in rows)
    ends = {"first_timestamp": MIDNIGHT, "last_timestamp": MIDNIGHT + timedelta(hours=1)}
    assert with_data == {
        "observed_data_types": ["trades", "book_snapshot_5"],
        "observed_timeframes": ["1m", "4h"],
        "observed": [
            {"dataset": "trades", "rows": 7, **ends, "gaps": 3},
            {"dataset": "book_snapshot_5", "rows": 7, **ends, "gaps": 0},
            {"dataset": "ohlcv_1m", "rows": 7, **ends, "gaps": 0},
            {"dataset": "ohlcv_4h", "rows": 0, "first_timestamp": None, "last_timestamp": None, "gaps": 6},
            {"dataset": "technical_features", "rows": 7, **ends, "gaps": 0},
        ],
        "ticks_lawful": True,
        "candles_lawful": True,
    }
    assert without == {
        "observed_data_types": [],
        "observed_timeframes": [],
        "observed": [],
        "ticks_lawful": None,
        "candles_lawful": None,
    }


@pytest.mark.parametrize(
    ("found", "ticks", "candles"),
    [
        ([seen("trades"), seen("ohlcv_1m", lawful=False)], True, False),
        ([seen("trades", lawful=False), seen("ohlcv_1m")], False, True),
        ([seen("trades"), seen("liquidations", lawful=False)], False, None),
        ([seen("ohlcv_1m"), seen("ohlcv_5m")], None, True),
        ([seen("ml_signals")], None, None),
    ],
)
def test_one_unlawful_dataset_makes_its_kind_unlawful(
    found: list[Observed], ticks: bool | None, candles: bool | None
) -> None:
    (row,) = availability(proven_by_ticks([SPOT], CONTRACT), {SPOT.id: found}).to_pylist()
    assert (row["ticks_lawful"], row["candles_lawful"]) == (ticks, candles)


START = int(MIDNIGHT.timestamp()) * 1_000_000


def stamps(*offsets: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([START + offset for offset in offsets], np.int64)


@pytest.mark.parametrize(
    ("parts", "length", "gaps"),
    [
        ([], MINUTE, 1440),
        ([stamps()], MINUTE, 1440),
        ([stamps(0, 1, MINUTE - 1)], MINUTE, 1439),
        ([stamps(MINUTE - 1, MINUTE)], MINUTE, 1438),
        ([stamps(0), stamps(0, LENGTH - 1)], MINUTE, 1438),
        # ticks of the days beside this one fill none of its minutes
        ([stamps(-1, LENGTH)], MINUTE, 1440),
        ([stamps(*range(0, LENGTH, MINUTE))], MINUTE, 0),
        ([stamps(0, 4 * 60 * MINUTE)], 4 * 60 * MINUTE, 4),
        ([stamps(0)], LENGTH, 0),
    ],
)
def test_gaps_are_the_empty_buckets_of_the_day(
    parts: list[np.ndarray[Any, np.dtype[np.int64]]], length: int, gaps: int
) -> None:
    assert empty_buckets([buckets_of(part, length) for part in parts], DAY, length) == gaps


@given(st.lists(st.integers(-LENGTH, 2 * LENGTH - 1)), st.sampled_from([MINUTE, 5 * MINUTE, 60 * MINUTE, LENGTH]))
def test_gaps_and_filled_buckets_make_up_the_day(offsets: list[int], length: int) -> None:
    filled = {offset // length for offset in offsets if 0 <= offset < LENGTH}
    gaps = empty_buckets([buckets_of(stamps(*offsets), length)], DAY, length)
    assert gaps + len(filled) == LENGTH // length


def test_gaps_of_another_day() -> None:
    assert empty_buckets([buckets_of(stamps(0), MINUTE)], date(2024, 8, 9), MINUTE) == 1440
