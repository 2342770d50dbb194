"""The statements for BigQuery: that they are of its language, fit the files, and name nothing that it would refuse."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.lake import bigquery
from market_data_pipeline.lake.bigquery import (
    Statement,
    Warehouse,
    column_type,
    object_patterns,
    statements,
    table_name,
)
from market_data_pipeline.lake.parquet import parquet_writer
from market_data_pipeline.lake.records import recorded_days
from market_data_pipeline.lake.sql_tables import TABLES, StoredTable
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import DATASETS, QUARANTINE, Dataset
from market_data_pipeline.model.errors import DatasetError, SettingError
from market_data_pipeline.model.layouts import Layout
from market_data_pipeline_tests.lake.bigquery_on_duckdb import columns, fits, option, parsed, uris
from market_data_pipeline_tests.lake.made_up import DAYS, INSTRUMENTS, MAPS, SOME, TRADES, ingest, made_ticks

PLACE = Warehouse("my-project", "lake", "eu.market-data")
TOLD: Mapping[str, Sequence[date]] = dict.fromkeys(DATASETS, DAYS)
EARLIER = date(2023, 12, 31)


def address(key: str) -> str:
    return f"gs://my-bucket/some/prefix/{key}"


def made(warehouse: Warehouse = PLACE, days: Mapping[str, Sequence[date]] = TOLD) -> dict[str, Statement]:
    return {each.name: each for each in statements(warehouse, address, days)}


def keys(dataset: Dataset, layout: Layout, days: Sequence[date] = DAYS) -> set[str]:
    """The objects that lie there if each instrument has each day."""
    return {dataset.path(layout, day, instrument) for day in days for instrument in INSTRUMENTS}


@pytest.mark.parametrize("name", list(TABLES))
def test_a_table_has_the_files_of_its_layout_and_no_others(name: str) -> None:
    table = TABLES[name]
    patterns = object_patterns(table, DAYS)
    assert all(pattern.count("*") == 1 and "/*" in pattern for pattern in patterns)
    everything = {
        key
        for dataset in (*DATASETS.values(), *QUARANTINE.values())
        for layout in dataset.layouts
        for key in keys(dataset, layout)
    }
    found = {key for key in everything if any(fits(pattern, key) for pattern in patterns)}
    assert found == keys(table.dataset, table.layout)


def test_ticks_have_an_address_for_each_day_and_all_else_has_one() -> None:
    for name, table in TABLES.items():
        expected = len(DAYS) if table.dataset.name in ("trades", *_other_ticks()) else 1
        assert len(object_patterns(table, DAYS)) == expected, name
        assert object_patterns(table, []) == []
    assert uris(parsed(made()["trades"].text)) == [
        address(f"market-data-tick/raw_tick_data/by_date/year-{day:%Y/month-%m/day-%d}/data_type-trades/*.parquet")
        for day in DAYS
    ]


def _other_ticks() -> list[str]:
    return [name for name, dataset in DATASETS.items() if dataset.layouts == TRADES.layouts]


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda each: each.name)
def test_the_columns_are_those_of_the_files_in_their_order(dataset: Dataset) -> None:
    found = [parsed(each.text) for each in made().values() if not each.function and each.name.startswith(dataset.name)]
    assert len(found) == 1 + len(dataset.month_layouts)
    for create in found:
        assert list(columns(create)) == dataset.schema.names
        for name, type_ in columns(create).items():
            assert type_.replace("`", "") == column_type(dataset.schema.field(name).type).replace("`", "")
        assert option(create, "enable_list_inference").sql("bigquery") == "TRUE"
        assert "FORMAT='PARQUET'" in create.sql("bigquery")


@pytest.mark.parametrize(
    ("arrow", "expected"),
    [
        (pa.dictionary(pa.int32(), pa.string()), "STRING"),
        (pa.timestamp("us", tz="UTC"), "TIMESTAMP"),
        (pa.int8(), "INT64"),
        (pa.list_(pa.string()), "ARRAY<STRING>"),
        (MAPS.schema.field("inverse").type, "BOOL"),
        (
            MAPS.schema.field("observed").type,
            "ARRAY<STRUCT<`dataset` STRING, `rows` INT64, `first_timestamp` TIMESTAMP, `last_timestamp` TIMESTAMP, "
            "`gaps` INT64>>",
        ),
    ],
)
def test_types(arrow: pa.DataType, expected: str) -> None:
    assert column_type(arrow) == expected


@pytest.mark.parametrize("arrow", [pa.timestamp("ns", tz="UTC"), pa.timestamp("us"), pa.uint64(), pa.decimal128(9)])
def test_a_type_that_bigquery_reads_otherwise_or_not_at_all_is_refused(arrow: pa.DataType) -> None:
    with pytest.raises(DatasetError, match=re.escape(f"no type for a column of {arrow}")):
        column_type(arrow)


# https://docs.cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#type_conversions
DOCUMENTED = {
    ("BOOLEAN", "None"): "BOOL",
    **{("INT32", f"Int(bitWidth={bits}, isSigned=true)"): "INT64" for bits in (8, 16)},
    ("INT32", "Date"): "DATE",
    ("INT64", "None"): "INT64",
    ("DOUBLE", "None"): "FLOAT64",
    ("BYTE_ARRAY", "String"): "STRING",
    ("INT64", "Timestamp(isAdjustedToUTC=true, timeUnit=microseconds)"): "TIMESTAMP",
}


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda each: each.name)
def test_what_the_files_hold_are_types_and_codecs_of_which_bigquerys_page_tells(dataset: Dataset) -> None:
    out = pa.BufferOutputStream()
    with parquet_writer(out, dataset.schema, dataset.codec) as writer:
        writer.write_table(dataset.schema.empty_table())
        columns_told = [column_type(field.type) for field in dataset.schema]
    metadata = pq.ParquetFile(pa.BufferReader(out.getvalue())).metadata
    found: dict[str, list[str]] = {}
    for leaf in range(metadata.num_columns):
        column = metadata.schema.column(leaf)
        logical = re.sub(r", (?:is_from_converted_type|force_set_converted_type)=\w+", "", str(column.logical_type))
        steps = column.path.split(".")
        # lists are in the standard form, which `enable_list_inference` looks for
        assert steps[1:3] in ([], ["list", "element"]), column.path
        found.setdefault(steps[0], []).append(DOCUMENTED[column.physical_type, logical])
    told = {
        name: re.findall(r"[A-Z0-9]+", re.sub(r"ARRAY|STRUCT|`\w+`", "", type_))
        for name, type_ in zip(dataset.schema.names, columns_told, strict=True)
    }
    assert found == told
    assert str(dataset.codec).upper() in ("GZIP", "LZO_1C", "LZO_1X", "LZ4_RAW", "SNAPPY", "ZSTD")


def test_every_statement_is_of_bigquerys_language_and_has_a_name_of_its_own() -> None:
    found = list(statements(PLACE, address, TOLD))
    assert len({each.name for each in found}) == len(found) > 100
    for each in found:
        create = parsed(each.text)
        table = create.this.this
        assert [table.catalog, table.db, table.name] == ["my-project", "lake", each.name]
        assert create.args["replace"]
        assert create.kind == ("FUNCTION" if each.function else "TABLE")
        assert len(option(create, "description").name) <= 1024
        assert ("WITH CONNECTION `my-project.eu.market-data`\n" in each.text) is not each.function


def test_no_name_means_two_things() -> None:
    """A parameter of a function that is also a column is read as the column; so is a table in its own query."""
    names = {name.lower() for dataset in DATASETS.values() for name in dataset.schema.names}
    found = made()
    parameters = {each.name for one in found.values() if one.function for each in parsed(one.text).this.expressions}
    assert parameters == {
        *("first_day", "last_day", "instruments_like", "of_venue", "of_instrument_id", "of_instrument_type")
    }
    assert not parameters & names
    assert not set(found) & names
    assert not [name for name in names if name.startswith(("_table_", "_file_", "_partition", "_row_timestamp"))]


def test_a_function_isolates_the_name_of_the_file_and_compares_it_with_constants() -> None:
    text = made()["ohlcv_1m_by_venue_between"].text
    folder = "gs://my-bucket/some/prefix/market-data-candles/daily/by_venue/venue-"
    assert f"_FILE_NAME >= CONCAT('{folder}', of_venue, '/', FORMAT_DATE('year-%Y/month-%m/', first_day))" in text
    assert f"_FILE_NAME < CONCAT('{folder}', of_venue, '/', FORMAT_DATE('year-%Y/month-%m0', last_day))" in text
    assert "`date` BETWEEN first_day AND last_day" in text
    # of day files the name alone tells, and no column is read for it
    assert "`date`" not in made()["ohlcv_1m_between"].text
    for each in made().values():
        if each.function:
            compared = re.findall(r"(?:WHERE|AND) (.*?)(?: >=| <| LIKE| BETWEEN)", each.text)
            assert set(compared) <= {"_FILE_NAME", "`date`"}


def test_what_could_end_a_text_or_a_name_does_not() -> None:
    awkward = "gs://b/it's \\{odd} 50% `"
    found = list(statements(PLACE, lambda key: f"{awkward}/{key}", {"trades": DAYS[:1], "ohlcv_1d": DAYS}))
    assert len(found) > 10
    for each in found:
        create = parsed(each.text)
        if not each.function:
            assert all(uri.startswith(f"{awkward}/market-data-") for uri in uris(create))
    assert f"CONCAT({bigquery.quoted(awkward)[:-1]}/market-data-tick" in found[1].text
    assert "FORMAT_DATE('year-%Y" in found[1].text


def test_an_address_of_the_lake_with_a_star_is_an_error() -> None:
    with pytest.raises(SettingError, match=r"gs://b/all\*/market-data-tick/ holds a \*"):
        list(statements(PLACE, lambda key: f"gs://b/all*/{key}", TOLD))


def test_all_statements_in_one_script_are_within_bigquerys_bound_for_two_years_and_a_table_alone_for_19() -> None:
    most = 1_000_000

    def length(days: int, *names: str) -> int:
        told = [EARLIER - timedelta(days=at) for at in range(days)]
        return sum(len(f"{each.text};\n\n") for each in made(days=dict.fromkeys(names or DATASETS, told)).values())

    assert length(2 * 365) < most < length(3 * 365)
    assert length(19 * 365, "book_snapshot_25") < most


def test_a_dataset_of_which_nothing_lies_there_is_left_out() -> None:
    assert set(made(days={"instruments": DAYS, "trades": []})) == {"instruments", "instruments_between"}
    assert made(days={}) == {}


def test_without_a_connection_the_tables_are_plain_external_ones() -> None:
    for each in made(Warehouse("my-project", "lake")).values():
        assert "WITH CONNECTION" not in each.text
        parsed(each.text)
    other = made(Warehouse("my-project", "lake", "other-project.eu.c"))["trades"].text
    assert "WITH CONNECTION `other-project.eu.c`\n" in other


MONTHS = "year-{year}/month-{month}"


@pytest.mark.parametrize(
    ("template", "patterns", "functions"),
    [
        (f"market-data-candles/x/quote-{{quote_asset}}/{MONTHS}/{{dataset}}.parquet", 1, ["of_quote_asset"]),
        (f"market-data-candles/x/{MONTHS}/{{dataset}}/{{venue}}.parquet", 3, []),
        (f"market-data-candles/x/{{venue}}/{{dataset}}/{MONTHS}.parquet", 3, None),
        (f"market-data-candles/x/{{venue}}/{{dataset}}/{{base_asset}}/{MONTHS}/all.parquet", 0, None),
        ("market-data-candles/x/{month}/year-{year}/{dataset}.parquet", 1, None),
    ],
)
def test_other_layouts(
    template: str, patterns: int, functions: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = StoredTable(DATASETS["ohlcv_1m"], Layout("other", template))
    monkeypatch.setattr(bigquery, "TABLES", {"other": table})
    days = [EARLIER, *DAYS]
    assert len(object_patterns(table, days)) == patterns
    found = [parsed(each.text) for each in statements(PLACE, address, {"ohlcv_1m": days})]
    assert len(found) == (patterns > 0) + (patterns > 0 and functions is not None)
    if functions is not None:
        asked = [each.name for each in found[1].this.expressions]
        assert asked == [*functions, "first_day", "last_day"]
        assert found[1].this.this.name == f"{table_name(table)}_between" == "ohlcv_1m_other_between"


@pytest.mark.parametrize(
    ("text", "connection", "message"),
    [
        ("lake", "", "'lake' names no dataset of BigQuery; write it project.dataset"),
        ("my-project.", "", "'' is no dataset"),
        ("my-project.la-ke", "", "'la-ke' is no dataset of BigQuery: letters, digits and underscores"),
        ("My_Project.lake", "", "'My_Project' is no project"),
        ("my-project.lake`; drop", "", "no dataset"),
        ("my-project.lake", "eu", "'eu' is no connection of BigQuery; write it location.name"),
        ("my-project.lake", "eu.a`b", "no connection"),
    ],
)
def test_what_can_be_no_name_in_bigquery_is_refused(text: str, connection: str, message: str) -> None:
    with pytest.raises(SettingError, match=re.escape(message)):
        Warehouse.of(text, connection)


def test_a_project_of_a_domain_is_one() -> None:
    assert Warehouse.of("example.com:my-project.lake").named("trades") == "`example.com:my-project`.`lake`.`trades`"


def test_the_days_of_which_tables_are_told_are_those_that_lie_there(store: ObjectStore) -> None:
    assert recorded_days(store, TRADES) == []
    ticks = made_ticks()
    ingest(store, {place: rows for place, rows in ticks.items() if place[0] != DAYS[1]}, only=SOME)
    assert recorded_days(store, TRADES) == [DAYS[0], DAYS[2]]
    assert recorded_days(store, DATASETS["ohlcv_1d"]) == []
    assert recorded_days(store, MAPS)[0] == DAYS[0]
