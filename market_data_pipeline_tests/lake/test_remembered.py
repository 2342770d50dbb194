"""Footers that were read before."""

from datetime import date, timedelta

import pytest

from market_data_pipeline.lake import remembered
from market_data_pipeline.lake.remembered import facts_of, reopened
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.windows import midnight
from market_data_pipeline_tests.lake.made_up import BTC_USD, TRADES, trades, write
from market_data_pipeline_tests.store_fixtures import Ground

DAY = date(2024, 3, 5)
KEY = TRADES.path(TRADES.layouts[0], DAY, BTC_USD)


def land(store: ObjectStore, seconds: int, day: date = DAY) -> None:
    write(store, TRADES, {(day, BTC_USD): trades([midnight(day) + timedelta(seconds=n) for n in range(seconds)])})


def facts(store: ObjectStore, key: str = KEY) -> remembered.Facts:
    with store.open(key) as pinned:
        return facts_of(pinned.info, pinned.file)


def test_a_footer_is_read_once_whatever_the_layout_and_anew_when_the_file_is_another(local_store: ObjectStore) -> None:
    land(local_store, 10)
    first = facts(local_store)
    assert first.groups == ((10, midnight(DAY), midnight(DAY) + timedelta(seconds=9)),)
    assert first.schema == TRADES.schema
    by_venue = TRADES.path(TRADES.layout("by_venue"), DAY, BTC_USD)
    assert facts(local_store) is first is facts(local_store, by_venue)
    land(local_store, 12)
    second = facts(local_store)
    assert [rows for rows, _, _ in second.groups] == [12]
    assert facts(local_store) is second


def test_a_store_that_does_not_say_which_file_it_is_has_the_footer_read_each_time(gcs_store: ObjectStore) -> None:
    land(gcs_store, 10)
    first, second = facts(gcs_store), facts(gcs_store)
    assert first is not second
    assert first.groups == second.groups


def test_rows_are_those_of_the_newest_file(ground: Ground) -> None:
    for seconds in (5, 6, 5, 7):
        land(ground.store, seconds)
        for _ in range(2):
            with reopened(ground.store, KEY) as file:
                assert file.read(["price"]).num_rows == seconds == file.metadata.num_rows


def test_what_was_not_asked_for_of_late_is_forgotten(local_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [DAY + timedelta(days=n) for n in range(4)]
    for day in days:
        land(local_store, 10, day)
    keys = [TRADES.path(TRADES.layouts[0], day, BTC_USD) for day in days]
    size = facts(local_store, keys[0]).metadata.serialized_size
    monkeypatch.setattr(remembered, "_remembered", remembered._Remembered())
    monkeypatch.setattr(remembered, "_KEPT", int(2.5 * size))
    first, second = facts(local_store, keys[0]), facts(local_store, keys[1])
    assert facts(local_store, keys[0]) is first
    third = facts(local_store, keys[2])  # of the first two the second was asked for longest ago
    assert facts(local_store, keys[0]) is first
    assert facts(local_store, keys[2]) is third
    assert facts(local_store, keys[1]) is not second
