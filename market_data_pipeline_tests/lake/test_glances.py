"""What is shown of days that were written: whose rows, within bounds, and never at the price of the run."""

import logging
from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.lake import glances as glances_module
from market_data_pipeline.lake.glances import Glance, glances
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import WriteReport, write_days
from market_data_pipeline.model.datasets import DATASETS, TIME
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import microseconds, midnight

TRADES = DATASETS["trades"]
DAY = date(2024, 8, 8)
SMALL, LARGE = (Instrument.spot("binance", base, "USDT") for base in ("ETH", "BTC"))


def trades(instrument: Instrument, count: int) -> DayRows:
    def read(_: Rejects) -> Iterator[pa.RecordBatch]:
        stamps = [microseconds(midnight(DAY)) + number * 1_000_000 for number in range(count)]
        columns = {
            "timestamp": pa.array(stamps).view(TIME),
            "local_timestamp": pa.array(stamps).view(TIME),
            "id": pa.array([str(number) for number in range(count)]),
            "side": pa.array(["buy"] * count).dictionary_encode(),
            "price": pa.array([100 + number / 3 for number in range(count)]),
            "amount": pa.array([1.0] * count),
        }
        yield pa.RecordBatch.from_arrays([columns[name] for name in TRADES.own_schema.names], schema=TRADES.own_schema)

    return DayRows(DAY, instrument, "test", partial(read))


@pytest.fixture
def lake(tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path)


@pytest.fixture
def report(lake: ObjectStore) -> WriteReport:
    return write_days(lake, TRADES, [DAY], Selection(), [trades(SMALL, 50), trades(LARGE, 500)])


def test_the_largest_file_is_shown_with_its_first_rows(lake: ObjectStore, report: WriteReport) -> None:
    shown = glances(lake, report)[DAY]
    assert shown.picture is not None
    assert shown.picture.words.startswith(f"{LARGE.id} 100 to 266.333")
    assert [row["id"] for row in shown.rows] == ["0", "1", "2", "3", "4"]
    assert list(shown.rows[0]) == ["timestamp", "id", "side", "price", "amount"]


def test_a_file_with_too_many_values_gives_way_to_a_smaller_one(
    lake: ObjectStore, report: WriteReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glances_module, "_VALUES", 300)
    assert glances(lake, report)[DAY].picture.words.startswith(SMALL.id)


def test_where_all_are_too_large_some_row_groups_are_read(
    lake: ObjectStore, report: WriteReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glances_module, "_VALUES", 1)
    read: list[list[int]] = []
    real = glances_module.read_columns
    monkeypatch.setattr(
        glances_module, "read_columns", lambda file, names, groups: read.append(groups) or real(file, names, groups)
    )
    assert glances(lake, report)[DAY].picture.words.startswith(SMALL.id)
    assert read == [[0]]


def test_a_picture_of_a_part_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = open_store(tmp_path)
    many = write_days(lake, TRADES, [DAY], Selection(), [trades(LARGE, 3 * TRADES.row_group_rows)])
    assert glances(lake, many)[DAY].picture.words.startswith(f"{LARGE.id} 100 to")
    monkeypatch.setattr(glances_module, "_VALUES", 3 * TRADES.row_group_rows)
    assert glances(lake, many)[DAY].picture.words.startswith(f"{LARGE.id} (1 of 3 parts) 100 to")


def test_a_picture_that_fails_leaves_the_rows(
    lake: ObjectStore, report: WriteReport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(glances_module, "picture", fails)
    with caplog.at_level(logging.WARNING):
        shown = glances(lake, report)[DAY]
    assert len(shown.rows) == 5
    assert shown.picture is None
    assert "cannot be shown: odd" in caplog.text


def test_a_map_that_was_written_long_ago_has_nothing_to_show(lake: ObjectStore) -> None:
    maps = DATASETS["available_instruments"]
    path = Path(lake.uri) / maps.path(maps.layouts[0], DAY)
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"instrument_id": ["x"], "observed": [[{"dataset": "trades", "rows": 1}]]}), path)
    found = list(glances_module._maps(lake, maps, [DAY, DAY + timedelta(days=1)]))
    assert [(day, [each.listed for each in held]) for day, held in found] == [
        (DAY, [()]),
        (DAY + timedelta(days=1), [()]),
    ]


def test_a_day_that_cannot_be_read_has_an_empty_glance_and_a_line_in_the_log(
    lake: ObjectStore, report: WriteReport, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / TRADES.path(TRADES.layouts[0], DAY, LARGE)
    path.write_bytes(b"PAR1" + b"\0" * 50 + b"PAR1")
    with caplog.at_level(logging.WARNING):
        assert glances(lake, report) == {DAY: Glance()}
    assert f"trades of {DAY} cannot be shown" in caplog.text


def test_a_day_without_rows_has_an_empty_glance(lake: ObjectStore) -> None:
    empty = write_days(lake, TRADES, [DAY], Selection(), [])
    assert glances(lake, empty) == {DAY: Glance()}
