"""Rows that were set aside lie in the lake as long as their file has them and no longer; over both stores."""

from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import WriteReport, write_days
from market_data_pipeline.model.datasets import QUARANTINE, Dataset
from market_data_pipeline.model.errors import DatasetError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Reject, Rejects
from market_data_pipeline_tests.lake.made_up import (
    ALL,
    BTC_USD,
    BTC_USDT,
    DATASETS,
    DAYS,
    TRADES,
    made_trades,
    unreadable,
)
from market_data_pipeline_tests.store_fixtures import Ground

DAY, NEXT = DAYS[1], DAYS[2]
KEY = f"market-data-meta/quarantine/by_date/year-2024/month-02/day-29/data_type-trades/{BTC_USD}.parquet"


def rows_with(instrument: Instrument, lines: tuple[int, ...], day: date = DAY, more: int = 0) -> DayRows:
    """A day of trades; these lines of its file were set aside, and `more` that were only counted."""

    def read(rejects: Rejects) -> Iterator[pa.RecordBatch]:
        yield from made_trades(day, instrument).to_batches()
        for line in reversed(lines):
            reason = "price is not above 0" if line % 2 else "side is not known"
            rejects.places[reason] = f"/data/{day}.csv line {line}: '-1'"
            rejects.counts[reason] += 1 + more
            rejects.rows.append(Reject(f"{day}.csv", line, reason, f"text of line {line}"))

    return DayRows(day, instrument, f"/data/{day}.csv", read)


def write(
    store: ObjectStore,
    *rows: DayRows,
    days: tuple[date, ...] = (DAY,),
    selection: Selection = ALL,
    dataset: Dataset = TRADES,
) -> WriteReport:
    return write_days(store, dataset, days, selection, rows)


def found(store: ObjectStore, **asked: str) -> list[tuple[str, int]]:
    table = MarketDataLake(store=store).quarantine(DAYS[0], date(2024, 3, 2), **asked)
    return list(zip(table["instrument_id"].to_pylist(), table["line"].to_pylist(), strict=True))


def test_each_row_is_kept_with_its_place_reason_and_text(ground: Ground) -> None:
    write(ground.store, rows_with(BTC_USD, (3, 4, 7), more=500), rows_with(BTC_USDT, ()))
    assert [name for name in ground.names() if "quarantine" in name] == [KEY]
    table = MarketDataLake(store=ground.store).quarantine(DAY, NEXT)
    assert table.schema == QUARANTINE["trades"].schema
    wanted = ("date", "data_type", "instrument_id", "venue", "origin", "line", "reason", "reason_rows", "text")
    assert [tuple(row[name] for name in wanted) for row in table.to_pylist()] == [
        (DAY, "trades", BTC_USD.id, "binance", "2024-02-29.csv", line, reason, count, f"text of line {line}")
        for line, reason, count in (
            (3, "price is not above 0", 1002),
            (4, "side is not known", 501),
            (7, "price is not above 0", 1002),
        )
    ]


def test_a_second_run_writes_nothing_and_the_bytes_do_not_depend_on_the_run(ground: Ground) -> None:
    write(ground.store, rows_with(BTC_USD, (3, 4)))
    before = ground.get(KEY)
    report = write(ground.store, rows_with(BTC_USD, (3, 4)))
    assert report.bytes_written == 0
    assert ground.get(KEY) == before
    write(ground.store, rows_with(BTC_USD, (3,)))
    write(ground.store, rows_with(BTC_USD, (3, 4)))
    assert ground.get(KEY) == before


def test_a_mended_file_empties_it(ground: Ground) -> None:
    write(ground.store, rows_with(BTC_USD, (3,)), rows_with(BTC_USDT, (5,)))
    write(ground.store, rows_with(BTC_USD, ()), rows_with(BTC_USDT, (5,)))
    assert found(ground.store) == [(BTC_USDT.id, 5)]


def test_a_mended_file_empties_it_though_another_cannot_be_told_apart(ground: Ground) -> None:
    write(ground.store, rows_with(BTC_USD, (3,)), rows_with(BTC_USDT, (5,)))
    write(ground.store, rows_with(BTC_USD, ()), unreadable(DAY, None))
    assert found(ground.store) == [(BTC_USDT.id, 5)]


def test_what_goes_takes_its_quarantine_along(ground: Ground) -> None:
    write(ground.store, rows_with(BTC_USD, (3,)), rows_with(BTC_USDT, (5,)))
    write(ground.store, rows_with(BTC_USDT, (5,)))
    assert found(ground.store) == [(BTC_USDT.id, 5)]


def test_a_filtered_run_leaves_the_others(ground: Ground) -> None:
    write(ground.store, rows_with(BTC_USD, (3,)), rows_with(BTC_USDT, (5,)))
    write(ground.store, rows_with(BTC_USD, (9,)), selection=Selection.of(BTC_USD))
    assert found(ground.store) == [(BTC_USD.id, 9), (BTC_USDT.id, 5)]


def test_a_file_that_fails_keeps_what_it_had(ground: Ground) -> None:
    write(ground.store, rows_with(BTC_USD, (3,)), rows_with(BTC_USDT, ()))
    write(ground.store, unreadable(DAY, BTC_USD), rows_with(BTC_USDT, ()))
    assert found(ground.store) == [(BTC_USD.id, 3)]


def test_days_and_types_do_not_touch_each_other(ground: Ground) -> None:
    liquidations = DATASETS["liquidations"]
    write(ground.store, rows_with(BTC_USD, (3,)))
    write(ground.store, rows_with(BTC_USD, (4,)), dataset=liquidations)
    write(ground.store, rows_with(BTC_USD, (5,), NEXT), days=(NEXT,))
    assert found(ground.store) == [(BTC_USD.id, 3), (BTC_USD.id, 5), (BTC_USD.id, 4)]
    assert found(ground.store, data_type="liquidations") == [(BTC_USD.id, 4)]
    assert found(ground.store, instruments="*-USDT") == []
    write(ground.store, rows_with(BTC_USD, ()), dataset=liquidations)
    assert found(ground.store) == [(BTC_USD.id, 3), (BTC_USD.id, 5)]


def test_a_type_that_does_not_exist_is_an_error(ground: Ground) -> None:
    with pytest.raises(DatasetError, match="'candles' is no dataset of ticks"):
        MarketDataLake(store=ground.store).quarantine(DAY, NEXT, data_type="candles")
