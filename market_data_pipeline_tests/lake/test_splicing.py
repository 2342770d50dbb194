"""Month files: days go in and out, all else is carried over as the bytes that it was."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data_pipeline.lake import footers, splicing
from market_data_pipeline.lake.encoding import write_day_file
from market_data_pipeline.lake.footers import Footer, RowGroup
from market_data_pipeline.lake.parquet import parquet_writer, row_group_days
from market_data_pipeline.lake.splicing import MONTH_DIGESTS, OpenMonth, month_digests, splice_month
from market_data_pipeline.model.datasets import DATASETS, Codec, Dataset
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline_tests.lake.made_up import BTC_USD, HOURLY, OPTION, hourly, write
from market_data_pipeline_tests.store_fixtures import Ground

FIRST = date(2024, 3, 4)
DAYS = [FIRST + timedelta(days=n) for n in range(6)]
SCHEMA = HOURLY.schema


def of_day(folder: Path, day: date, instrument: Instrument = BTC_USD, price: float = 1.0, rows: int = 3) -> pa.Table:
    write_day_file(folder / "day", HOURLY, day, instrument, [hourly(day, rows, price=price)])
    return pq.ParquetFile(folder / "day").read()


def opened(path: Path) -> OpenMonth:
    file = pa.OSFile(str(path))
    return OpenMonth(str(path), file, pq.ParquetFile(file))


def splice(
    path: Path, old: Path | None, replacing: Mapping[date, Iterable[pa.Table]], digests: Mapping[date, str]
) -> int:
    return splice_month(path, SCHEMA, HOURLY.codec, opened(old) if old else None, replacing, digests)


def never(*_: object) -> None:
    raise AssertionError("decoded")


def test_a_month_keeps_the_row_groups_of_other_days(tmp_path: Path) -> None:
    both = [of_day(tmp_path, DAYS[1]), of_day(tmp_path, DAYS[1], OPTION, 2.0)]
    assert splice(tmp_path / "one", None, {DAYS[1]: both}, {DAYS[1]: "b"}) == 6
    assert row_group_days(pq.ParquetFile(tmp_path / "one").metadata) == [DAYS[1], DAYS[1]]
    replacing = {DAYS[2]: [of_day(tmp_path, DAYS[2])], DAYS[0]: [of_day(tmp_path, DAYS[0])]}
    digests = {DAYS[2]: "c", DAYS[0]: "a", DAYS[1]: "b"}
    assert splice(tmp_path / "two", tmp_path / "one", replacing, digests) == 12
    two = pq.ParquetFile(tmp_path / "two")
    assert row_group_days(two.metadata) == [DAYS[0], DAYS[1], DAYS[1], DAYS[2]]
    assert month_digests(two.metadata) == digests
    assert two.read().schema.equals(SCHEMA)
    assert two.read().slice(3, 6).to_pylist() == pa.concat_tables(both).to_pylist()
    # a day that is replaced by nothing goes; so do all
    assert splice(tmp_path / "three", tmp_path / "two", {DAYS[1]: []}, {}) == 6
    assert row_group_days(pq.ParquetFile(tmp_path / "three").metadata) == [DAYS[0], DAYS[2]]
    assert splice(tmp_path / "none", tmp_path / "two", dict.fromkeys(DAYS, ()), {}) == 0


@given(st.lists(st.dictionaries(st.sampled_from(DAYS), st.lists(st.integers(1, 40), max_size=3)), max_size=6))
def test_whichever_way_a_month_came_to_be_it_is_the_file_that_one_writer_makes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[date, list[int]]]
) -> None:
    folder = tmp_path_factory.mktemp("months")
    old: Path | None = None
    content: dict[date, list[pa.Table]] = {}
    for number, step in enumerate([{DAYS[2]: [5]}, *steps]):
        replacing = {day: [of_day(folder, day, rows=rows, price=rows) for rows in each] for day, each in step.items()}
        content |= replacing
        digests = {day: f"{day} {number}" for day in content}
        splice(folder / str(number), old, replacing, digests)
        old = folder / str(number)
    assert old is not None
    with parquet_writer(folder / "whole", SCHEMA, HOURLY.codec) as writer:
        for day in sorted(content):
            for table in content[day]:
                writer.write_table(table, row_group_size=table.num_rows)
        writer.add_key_value_metadata({MONTH_DIGESTS: _as_written(digests)})
    assert old.read_bytes() == (folder / "whole").read_bytes()
    assert pq.ParquetFile(old, page_checksum_verification=True).read().num_rows == sum(
        table.num_rows for tables in content.values() for table in tables
    )


def _as_written(digests: Mapping[date, str]) -> bytes:
    return ("{" + ",".join(f'"{day}":"{digests[day]}"' for day in sorted(digests)) + "}").encode()


def test_days_that_stay_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splice(tmp_path / "one", None, {day: [of_day(tmp_path, day)] for day in DAYS[:3]}, {})
    replacing = {DAYS[1]: [of_day(tmp_path, DAYS[1], price=9.0)]}
    monkeypatch.setattr(splicing, "_decoded", never)
    splice(tmp_path / "two", tmp_path / "one", replacing, {})
    assert pq.ParquetFile(tmp_path / "two").read().column("open").to_pylist()[::3] == [1.0, 9.0, 1.0]


@pytest.mark.parametrize("other", ["index", "version", "columns", "codec"])
def test_what_another_version_wrote_is_encoded_anew(tmp_path: Path, other: str) -> None:
    tables = {day: of_day(tmp_path, day) for day in DAYS[:3]}
    schema = SCHEMA if other != "columns" else SCHEMA.set(0, SCHEMA.field(0).with_metadata({"unit": "us"}))
    codec = HOURLY.codec if other != "codec" else Codec.ZSTD
    with (
        pq.ParquetWriter(tmp_path / "one", schema, compression=codec, write_page_index=True)
        if other == "index"
        else parquet_writer(tmp_path / "one", schema, codec)
    ) as writer:
        for table in tables.values():
            writer.write_table(table.cast(schema))
    if other == "version":
        made = (tmp_path / "one").read_bytes()
        (tmp_path / "one").write_bytes(made.replace(b"parquet-cpp-arrow version", b"parquet-cpp-arrow versiom"))
    splice(tmp_path / "two", tmp_path / "one", {DAYS[1]: []}, {})
    splice(tmp_path / "three", None, {DAYS[0]: [tables[DAYS[0]]], DAYS[2]: [tables[DAYS[2]]]}, {})
    assert (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes()


def test_a_damaged_page_is_carried_over_as_it_is_so_that_its_checksum_still_tells(tmp_path: Path) -> None:
    splice(tmp_path / "one", None, {day: [of_day(tmp_path, day)] for day in DAYS[:2]}, {})
    made = bytearray((tmp_path / "one").read_bytes())
    column = pq.ParquetFile(tmp_path / "one").metadata.row_group(0).column(2)
    made[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    (tmp_path / "one").write_bytes(made)
    splice(tmp_path / "two", tmp_path / "one", {DAYS[1]: []}, {})
    with pytest.raises(OSError, match=r"CRC checksum"):
        pq.ParquetFile(tmp_path / "two", page_checksum_verification=True).read()


def test_a_broken_old_file_is_named(tmp_path: Path) -> None:
    splice(tmp_path / "one", None, {day: [of_day(tmp_path, day)] for day in DAYS[:2]}, {})
    old = opened(tmp_path / "one")
    made = (tmp_path / "one").read_bytes()
    cut = OpenMonth("its address", pa.BufferReader(made[:-400] + made[-4:]), old.parquet)
    with pytest.raises(
        LakeError, match=r"its address cannot be read as Parquet: .*; `market-data repair` puts it together anew"
    ):
        splice_month(tmp_path / "two", SCHEMA, HOURLY.codec, cut, {}, {})


@pytest.mark.parametrize("other", ["a column more", "no column", "days in one row group", "broken digests"])
def test_a_month_file_of_another_tool_is_named(local: Ground, other: str) -> None:
    write(local.store, HOURLY, {(day, BTC_USD): hourly(day) for day in DAYS[:2]})
    key = HOURLY.path(HOURLY.month_layouts[0], DAYS[0], BTC_USD)
    table = pq.read_table(BytesIO(local.get(key) or b""))
    rows = 3
    if other == "a column more":
        table = table.append_column("more", table.column("open"))
    elif other == "no column":
        table = table.drop_columns(["vwap"])
    elif other == "days in one row group":
        rows = table.num_rows
    else:
        table = table.replace_schema_metadata({MONTH_DIGESTS: b"[1"})
    with BytesIO() as content:
        pq.write_table(table, content, row_group_size=rows)
        foreign = content.getvalue()
    local.write(key, foreign)
    with pytest.raises(LakeError, match=rf"{key} cannot be read as Parquet: .*; `market-data repair` puts it together"):
        write(local.again(), HOURLY, {(DAYS[1], BTC_USD): hourly(DAYS[1], 5)})
    assert local.get(key) == foreign


@pytest.mark.parametrize(
    ("field", "number"),
    [(footers._START, 3), (footers._START, -8), (footers._SIZE, -1), (footers._SIZE, 1 << 30)],
)
def test_a_footer_that_tells_of_bytes_that_the_file_does_not_have_is_refused(
    tmp_path: Path, field: int, number: int
) -> None:
    splice(tmp_path / "one", None, {DAYS[0]: [of_day(tmp_path, DAYS[0])]}, {})
    content = (tmp_path / "one").read_bytes()
    footer = Footer.read(BytesIO(content))
    (group,) = footer.groups
    right = group.moved(group.start, 0)
    told = _telling(group, field, number)
    assert _telling(group, field, group.start if field == footers._START else group.size) == right
    body = content[: group.start + group.size]
    with pytest.raises(pa.ArrowInvalid, match="tells of bytes that it does not have"):
        Footer.read(BytesIO(body + footer.holding([told], group.rows)))
    assert Footer.read(BytesIO(body + footer.holding([right], group.rows))) == footer


def _telling(group: RowGroup, field: int, number: int) -> bytes:
    """The row group's struct with another number in one of its fields."""
    columns = footers._structs([column.content for column in group.columns])
    told = group.fields[field][0], _varint(number << 1 ^ number >> 63)
    return footers._struct({**group.fields, footers._COLUMNS: columns, field: told})


def _varint(value: int) -> bytes:
    return bytes([value & 127 | 128]) + _varint(value >> 7) if value > 127 else bytes([value])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_footer_or_refused(content: bytes) -> None:
    with BytesIO(b"PAR1" + content + len(content).to_bytes(4, "little") + b"PAR1") as file, suppress(pa.ArrowInvalid):
        Footer.read(file)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)
def test_the_footer_of_any_dataset_is_put_together_again(tmp_path: Path, dataset: Dataset) -> None:
    empty = dataset.schema.empty_table()
    with parquet_writer(tmp_path / "file", empty.schema, dataset.codec) as writer:
        writer.write_table(empty)
    content = (tmp_path / "file").read_bytes()
    with (tmp_path / "file").open("rb") as file:
        footer = Footer.read(file)
    assert content.endswith(footer.holding([group.moved(group.start, n) for n, group in enumerate(footer.groups)], 0))
