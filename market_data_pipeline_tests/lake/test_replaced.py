"""Reading while objects are replaced: on Google Cloud Storage their rest is gone, so what was read is read anew."""

import logging
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake import rereading
from market_data_pipeline.lake.derived import first_candles
from market_data_pipeline.lake.stores import gcs as gcs_stores
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.contracts import LINEAR
from market_data_pipeline.model.errors import ObjectChanged
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline_tests.lake.made_up import BTC_USD, HOURLY, PERP, SPARSE, TRADES, hourly, made_trades, write
from market_data_pipeline_tests.store_fixtures import Ground

DAY, NEXT = date(2024, 3, 5), date(2024, 3, 6)
MONTH, AFTER = date(2024, 3, 1), date(2024, 4, 1)


@pytest.fixture(autouse=True)
def small_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small objects, too, are read by several requests."""
    monkeypatch.setattr(gcs_stores, "TAIL_BYTES", 64)


def put_candles(store: ObjectStore, price: float) -> None:
    tables = {(day, instrument): hourly(day, price=price) for day in (DAY, NEXT) for instrument in (PERP, BTC_USD)}
    write(store, HOURLY, tables)


def put_trades(store: ObjectStore, seed: float) -> None:
    write(store, TRADES, {(DAY, PERP): made_trades(DAY, PERP, 40, int(seed))})


class Replacing:
    """A store in which another run replaces things right after an object was opened, the first few times."""

    def __init__(self, ground: Ground, act: Callable[[int], None], times: int = 1) -> None:
        self._store, self._act, self._times = ground.again(), act, times
        self.done = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(self, key: str) -> Any:
        pinned = self._store.open(key)
        if self.done < self._times:
            self.done += 1
            self._act(self.done)
        return pinned


@pytest.mark.parametrize("question", ["by_timeframe", "by_venue", "by_instrument_id", "by_date"])
def test_candles_replaced_between_two_ranges_are_read_anew(
    gcs: Ground, question: str, caplog: pytest.LogCaptureFixture
) -> None:
    put_candles(gcs.store, 100.0)
    again = gcs.again()
    replacing = Replacing(gcs, lambda number: put_candles(again, 100.0 * (1 + number)), 2)
    lake = MarketDataLake(store=replacing)
    with caplog.at_level(logging.INFO):
        match question:
            case "by_timeframe":
                found = lake.candles(None, "1h", MONTH, AFTER)
            case "by_venue":
                found = lake.candles(None, "1h", MONTH, AFTER, venue="deribit")
            case "by_instrument_id":
                found = lake.candles(PERP, "1h", MONTH, AFTER)
            case _:
                found = lake.candles(PERP, "1h", DAY, NEXT)
    assert replacing.done == 2
    assert "read anew in " in caplog.text
    rows = found.filter(pc.equal(found.column("date"), DAY)).to_pylist()
    assert [row["open"] for row in rows if row["instrument_id"] == PERP.id] == [300.0, 301.0, 302.0]


def test_ticks_replaced_between_two_ranges_are_read_anew(gcs: Ground) -> None:
    put_trades(gcs.store, 0)
    again = gcs.again()
    replacing = Replacing(gcs, lambda number: put_trades(again, number), 2)
    found = MarketDataLake(store=replacing).ticks(PERP, "trades", MONTH, AFTER)
    assert replacing.done == 2
    assert found.equals(MarketDataLake(store=gcs.again()).ticks(PERP, "trades", MONTH, AFTER))
    assert found.num_rows == 40


def test_candles_are_made_of_whole_trades(gcs: Ground) -> None:
    def made(store: ObjectStore) -> list[pa.Table]:
        days = first_candles(store, [DAY], Selection(), lambda _: LINEAR, SPARSE)
        return [pa.Table.from_batches(rows.read(Rejects())) for rows in days]

    put_trades(gcs.store, 0)
    again = gcs.again()
    replacing = Replacing(gcs, lambda number: put_trades(again, number))
    assert made(replacing) == made(gcs.again())
    assert replacing.done == 1


def test_a_stream_says_that_it_must_begin_anew(gcs: Ground) -> None:
    put_trades(gcs.store, 0)
    again = gcs.again()
    replacing = Replacing(gcs, lambda number: put_trades(again, number))
    with pytest.raises(ObjectChanged, match="replaced or removed while it was read"):
        list(MarketDataLake(store=replacing).stream_ticks(PERP, "trades", DAY, NEXT))


def test_an_object_that_is_replaced_for_ever_is_given_up_in_words(gcs: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rereading, "ATTEMPTS", 3)
    put_trades(gcs.store, 0)
    again = gcs.again()
    replacing = Replacing(gcs, lambda number: put_trades(again, number), 100)
    with pytest.raises(ObjectChanged, match="open it again"):
        MarketDataLake(store=replacing).ticks(PERP, "trades", DAY, NEXT)
    assert replacing.done == 3


def test_what_is_deleted_after_the_listing_counts_as_not_there(local: Ground) -> None:
    put_candles(local.store, 100.0)

    class Late(Replacing):
        def open(self, key: str) -> Any:
            write(local.again(), HOURLY, {}, days=[DAY, NEXT])
            return super().open(key)

    lake = MarketDataLake(store=Late(local, lambda _: None))
    assert lake.coverage("ohlcv_1h", DAY, NEXT + timedelta(days=1)).column("rows").to_pylist() == [0, 0, 0, 0]
