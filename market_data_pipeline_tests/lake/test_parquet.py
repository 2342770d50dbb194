"""Files as this lake writes them: the same rows give the same bytes, whole schema, its encodings and row groups."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.lake.encoding import write_day_file
from market_data_pipeline.lake.ordering import canonical
from market_data_pipeline.lake.parquet import (
    Span,
    explained,
    opened,
    parquet_writer,
    read_columns,
    row_group_days,
    row_group_times,
    span_of,
    with_values,
)
from market_data_pipeline.lake.stores.local import LocalStore
from market_data_pipeline.model.datasets import DATASETS, QUARANTINE, Dataset
from market_data_pipeline.model.errors import LakeError, ObjectChanged
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.windows import midnight
from market_data_pipeline_tests.lake.made_up import BTC_USD, HOURLY, MAPS, TRADES, made_trades, trades

DAY = date(2024, 3, 5)
SMALL_GROUPS = replace(TRADES, row_group_rows=7)


def written(
    path: Path, dataset: Dataset, batches: Iterable[pa.Table | pa.RecordBatch], instrument: Instrument | None = BTC_USD
) -> bytes:
    write_day_file(path, dataset, DAY, instrument, batches)
    return path.read_bytes()


def filled(dataset: Dataset, rows: int = 5) -> pa.Table:
    """Rows of any dataset, with values and with nulls in every column that may have them."""

    def value(kind: pa.DataType, row: int) -> object:
        if pa.types.is_timestamp(kind):
            return midnight(DAY) + timedelta(seconds=row)
        if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
            return "cab"[row % 3]
        if pa.types.is_list(kind):
            return [value(kind.value_type, row + n) for n in range(row % 3)]
        if pa.types.is_struct(kind):
            return {f.name: None if f.name == "gaps" and row % 2 else value(f.type, row) for f in kind}
        return bool(row % 2) if pa.types.is_boolean(kind) else row

    return pa.table(
        [
            pa.array([value(f.type, n) if n % 4 or not f.nullable else None for n in range(1, rows + 1)], f.type)
            if not pa.types.is_dictionary(f.type)
            else pa.array([value(f.type, n) if n % 4 or not f.nullable else None for n in range(1, rows + 1)])
            .cast(pa.string())
            .dictionary_encode()
            for f in dataset.own_schema
        ],
        schema=dataset.own_schema,
    )


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)
def test_a_file_of_any_dataset_gives_its_rows_back_in_the_full_schema(tmp_path: Path, dataset: Dataset) -> None:
    table = filled(dataset)
    instrument = BTC_USD if dataset.per_instrument else None
    span = write_day_file(tmp_path / "file", dataset, DAY, instrument, [table])
    found = pq.ParquetFile(tmp_path / "file").read()
    assert found.schema.equals(dataset.schema)
    assert found.select(dataset.own_schema.names).to_pylist() == table.to_pylist()
    expected = {"date": DAY, "year": 2024, "month": 3, "day": 5, "data_type": dataset.name, "data_tier": dataset.tier}
    if instrument:
        expected |= {"venue": "binance", "instrument_id": instrument.id, "instrument_type": "spot"}
        expected |= {"base_asset": "BTC", "quote_asset": "USD"}
    if dataset.timeframe:
        expected["timeframe"] = dataset.timeframe.name
    for name, value in expected.items():
        assert found.column(name).to_pylist() == [value] * 5, name
    timed = dataset.order[0] == "timestamp"
    first = midnight(DAY) + timedelta(seconds=1)
    assert span == (Span(5, first, first + timedelta(seconds=4)) if timed else Span(5))
    assert span_of(pq.ParquetFile(tmp_path / "file").metadata, dataset) == span


@pytest.mark.parametrize("dataset", [SMALL_GROUPS, HOURLY, MAPS], ids=lambda dataset: dataset.name)
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, dataset: Dataset) -> None:
    instrument = BTC_USD if dataset.per_instrument else None
    table = filled(dataset, 40)
    whole = written(tmp_path / "whole", dataset, [table], instrument)
    for size in (1, 3, 39):
        pieces = [table.slice(start, size).to_pydict() for start in range(0, 40, size)]
        # built anew, so that each piece has dictionaries of its own
        tables = [_encoded(piece, dataset.own_schema) for piece in pieces]
        batches = [batch for each in tables for batch in each.to_batches()]
        assert written(tmp_path / f"t{size}", dataset, tables, instrument) == whole, size
        assert written(tmp_path / f"b{size}", dataset, batches, instrument) == whole, size


def _encoded(values: dict[str, list[object]], schema: pa.Schema) -> pa.Table:
    return pa.table(
        [
            pa.array(values[f.name], pa.string()).dictionary_encode()
            if pa.types.is_dictionary(f.type)
            else pa.array(values[f.name], f.type)
            for f in schema
        ],
        schema=schema,
    )


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 9))
def test_row_groups_that_were_encoded_beside_each_other_are_the_file_that_one_writer_makes(
    tmp_path_factory: pytest.TempPathFactory, rows: int, batch: int, group: int
) -> None:
    folder = tmp_path_factory.mktemp("files")
    table = trades([midnight(DAY) + timedelta(seconds=second) for second in range(rows)])
    dataset = replace(TRADES, row_group_rows=group)
    write_day_file(folder / "ours", dataset, DAY, BTC_USD, table.to_batches(max_chunksize=batch))
    full = with_values(table, TRADES, TRADES.partition_values(DAY, BTC_USD)).select(TRADES.schema.names)
    with parquet_writer(folder / "whole", TRADES.schema, TRADES.codec) as writer:
        for start in range(0, rows, group):
            writer.write_table(canonical(full.slice(start, group)))
    assert (folder / "ours").read_bytes() == (folder / "whole").read_bytes()


def test_row_groups_are_cut_by_rows_and_in_order_of_time(tmp_path: Path) -> None:
    table = made_trades(DAY, BTC_USD, 30)
    span = write_day_file(tmp_path / "file", SMALL_GROUPS, DAY, BTC_USD, table.to_batches(max_chunksize=4))
    file = pq.ParquetFile(tmp_path / "file")
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [7, 7, 7, 7, 2]
    found = file.read(columns=["timestamp", "id"])
    stamps = table.column("timestamp").to_pylist()
    order = sorted(range(30), key=stamps.__getitem__)
    assert order != list(range(30))
    assert found.column("id").to_pylist() == [table.column("id")[row].as_py() for row in order]
    assert span == Span(30, min(stamps), max(stamps))
    for group in range(5):
        inside = file.read_row_group(group).column("timestamp").to_pylist()
        assert row_group_times(file.metadata, group) == (inside[0], inside[-1])


def test_encodings(tmp_path: Path) -> None:
    written(tmp_path / "file", TRADES, [made_trades(DAY, BTC_USD)])
    group = pq.ParquetFile(tmp_path / "file").metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    for name in ("timestamp", "local_timestamp"):
        assert "DELTA_BINARY_PACKED" in columns[name].encodings
        assert not columns[name].has_dictionary_page
    assert set(columns["id"].encodings) == {"PLAIN", "RLE"}
    for name in ("side", "price", "amount", "venue", "instrument_id", "date"):
        assert columns[name].has_dictionary_page, name
    assert all(column.is_stats_set for column in columns.values())
    assert not any(column.has_column_index for column in columns.values())  # it would lie apart from the row group


@pytest.mark.parametrize(
    ("dataset", "codec"), [(TRADES, "ZSTD"), (QUARANTINE["trades"], "ZSTD"), (HOURLY, "SNAPPY"), (MAPS, "SNAPPY")]
)
def test_ticks_are_packed_for_their_size_and_what_is_small_for_the_time_of_a_read(
    tmp_path: Path, dataset: Dataset, codec: str
) -> None:
    written(tmp_path / "file", dataset, [filled(dataset)], BTC_USD if dataset.per_instrument else None)
    group = pq.ParquetFile(tmp_path / "file").metadata.row_group(0)
    assert {group.column(n).compression for n in range(group.num_columns)} == {codec}


@pytest.mark.parametrize("rows", [10, 100_000])
def test_columns_are_read_in_the_order_asked_for(tmp_path: Path, rows: int) -> None:
    table = pa.table({name: pa.array(range(start, start + rows)) for start, name in enumerate("abc")})
    pq.write_table(table, tmp_path / "file", row_group_size=rows // 2)
    file = pq.ParquetFile(tmp_path / "file")
    assert read_columns(file, ["c", "a"]).equals(table.select(["c", "a"]))
    assert read_columns(file, ["b", "a"], [1]).equals(table.select(["b", "a"]).slice(rows // 2))


@pytest.mark.parametrize("rows", [10, 100_000])
def test_an_object_stays_what_it_was_when_it_was_opened(tmp_path: Path, rows: int) -> None:
    store = LocalStore(tmp_path)
    for start in (0, 1):
        with store.stage() as path:
            pq.write_table(pa.table({"a": range(start, start + rows)}), path)
            if start:
                with opened(store, "a/b") as file:
                    store.put(path, ["a/b"])
                    assert file.read().column("a")[0].as_py() == 0
            else:
                store.put(path, ["a/b"])


def test_no_rows_write_nothing(tmp_path: Path) -> None:
    for dataset, instrument in ((TRADES, BTC_USD), (MAPS, None)):
        for batches in ([], [dataset.own_schema.empty_table()], dataset.own_schema.empty_table().to_batches()):
            assert write_day_file(tmp_path / "file", dataset, DAY, instrument, batches) == Span(0)
    assert not (tmp_path / "file").exists()


def test_a_null_is_refused_where_none_may_be(tmp_path: Path) -> None:
    rows = made_trades(DAY, BTC_USD).slice(0, 3)
    for name in ("timestamp", "side", "price", "amount"):
        place = rows.schema.get_field_index(name)
        values = pa.array([*rows.column(name).to_pylist()[:2], None], rows.schema.field(name).type)
        lacking = pa.table([*rows.columns[:place], values, *rows.columns[place + 1 :]], schema=rows.schema)
        with pytest.raises(LakeError, match=f"trades for {BTC_USD} on 2024-03-05 have a null in column {name}"):
            write_day_file(tmp_path / "file", TRADES, DAY, BTC_USD, [rows, lacking])


def _retyped(schema: pa.Schema, name: str, kind: pa.DataType) -> pa.Schema:
    place = schema.get_field_index(name)
    return schema.set(place, pa.field(name, kind, schema.field(place).nullable))


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (TRADES.own_schema.remove(3), r"found .*id string, price double"),
        (TRADES.own_schema.append(pa.field("date", pa.date32())), r"amount double not null, date date32"),
        (_retyped(TRADES.own_schema, "price", pa.float32()), r"price float"),
        (_retyped(TRADES.own_schema, "side", pa.string()), r"side string"),
        (_retyped(TRADES.own_schema, "timestamp", pa.timestamp("us")), r"timestamp timestamp\[us\] not null,"),
        (pa.schema(reversed(list(TRADES.own_schema))), r"found    amount double not null, price"),
        (TRADES.schema, r"data_tier"),
    ],
)
def test_a_wrong_schema_is_refused(tmp_path: Path, schema: pa.Schema, told: str) -> None:
    with pytest.raises(LakeError, match=rf"rows of trades for {BTC_USD} on 2024-03-05 do not .*\n.*{told}"):
        write_day_file(tmp_path / "file", TRADES, DAY, BTC_USD, [schema.empty_table()])


def test_a_wrong_schema_is_refused_in_a_later_batch_too(tmp_path: Path) -> None:
    good = made_trades(DAY, BTC_USD, 30)
    bad = good.drop_columns(["id"])
    with pytest.raises(LakeError, match="declared columns"):
        write_day_file(tmp_path / "file", SMALL_GROUPS, DAY, BTC_USD, [good, bad])


def test_a_foreign_month_file_is_refused_by_its_missing_statistics(tmp_path: Path) -> None:
    table = pa.table({"date": [DAY], "timestamp": [datetime(2024, 3, 5, tzinfo=UTC)]})
    pq.write_table(table, tmp_path / "file", write_statistics=False)
    metadata = pq.ParquetFile(tmp_path / "file").metadata
    with pytest.raises(pa.ArrowInvalid, match=r"row group 0 has no statistics of date, so it was not written by this"):
        row_group_days(metadata)
    pq.write_table(table.drop_columns(["date"]), tmp_path / "file")
    with pytest.raises(pa.ArrowInvalid, match=r"no column date"):
        row_group_days(pq.ParquetFile(tmp_path / "file").metadata)


def test_a_row_group_that_spans_days_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"date": [DAY, DAY + timedelta(days=1)]}), tmp_path / "file")
    with pytest.raises(pa.ArrowInvalid, match=r"row group 0 spans days, 2024-03-05 to 2024-03-06, so it was not"):
        row_group_days(pq.ParquetFile(tmp_path / "file").metadata)


@pytest.mark.parametrize("error", [pa.ArrowInvalid("torn\n"), OSError("torn\n"), KeyError("torn")])
def test_what_arrow_says_of_a_broken_file_gets_a_name(error: Exception) -> None:
    with (
        pytest.raises(LakeError, match=r"^gs://b/k cannot be read as Parquet: '?torn'?; do this$"),
        explained("gs://b/k", "do this"),
    ):
        raise error
    with pytest.raises(ObjectChanged, match=r"^as it was$"), explained("gs://b/k"):
        raise ObjectChanged("as it was")
