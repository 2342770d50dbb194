"""All six tick types through Dagster: vendors' own rows come back from the reader; the sample fills every dataset."""

import gzip
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import DATASETS, Kind
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import DAY as ONE_DAY
from market_data_pipeline.model.windows import as_day
from market_data_pipeline.settings import Settings
from market_data_pipeline.sources.contract import Source
from market_data_pipeline.sources.files.source import FilesSource
from market_data_pipeline.sources.sample.source import SampleSource
from market_data_pipeline_tests.defs.running import pipeline
from market_data_pipeline_tests.parity import assert_layouts_agree
from market_data_pipeline_tests.sources.test_vendor_samples import NAMES, SAMPLES, parts

TICKS = [name for name, dataset in DATASETS.items() if dataset.kind is Kind.TICKS]
DAY = date(2024, 8, 8)
FEW = Selection.of(
    ["binance:SPOT_PAIR:BTC-USDT", "deribit:Perp:BTC-USD", "deribit:Future:*", "deribit:Option:*-240830-c"]
)


def given(source: Source, data_type: str, day: date, selection: Selection) -> list[dict[str, object]]:
    """The source's rows as the reader should give them: by instrument, then time, ties in the source's order."""
    rows = []
    for file in sorted(source.files(data_type, day, selection), key=lambda file: str(file.instrument)):
        batches = list(file.read(Rejects()))
        assert batches
        table = pa.Table.from_batches(batches)
        of_one = table.append_column("instrument_id", pa.array([str(file.instrument)] * table.num_rows)).to_pylist()
        rows += sorted(of_one, key=lambda row: row["timestamp"])
    return rows


def read(lake: str, data_type: str, day: date) -> list[dict[str, object]]:
    names = [*DATASETS[data_type].own_schema.names, "instrument_id"]
    around = MarketDataLake(lake).ticks(None, data_type, day - ONE_DAY, day + 2 * ONE_DAY, columns=names)
    return around.to_pylist()


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_a_vendors_sample_comes_back_from_the_lake(tmp_path: Path, name: str) -> None:
    data_type, text = parts(name)
    day = as_day(text)
    with pipeline(Settings(lake=str(tmp_path), source="files", source_path=SAMPLES)) as running:
        outcome = running.run(day, assets=[data_type])
        assert outcome.clean, outcome.problems
    # that the source's rows are the file's own, cell by cell, has a test of its own
    rows = given(FilesSource(SAMPLES), data_type, day, Selection())
    assert len(rows) == len((SAMPLES / name).read_text().splitlines()) - 1
    assert read(str(tmp_path), data_type, day) == rows
    assert_layouts_agree(open_store(tmp_path))


def test_a_sample_day_fills_every_dataset_and_comes_back_as_it_was(tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    with pipeline(Settings(lake=lake, selection=FEW)) as running:
        outcome = running.run(DAY)
        assert outcome.clean, outcome.problems
        assert running.metadata("options_chain", DAY)["instruments"] >= 2
        # an option has candles where it traded, which is no gap
        candles = running.metadata("ohlcv_1m", DAY)
        assert candles["gaps"] == 0
        assert candles["rows"] < candles["instruments"] * 24 * 60
        told = running.metadata("fundamental_features", DAY)
        # the ends of the neighbouring days are not in this lake
        assert (told["look_backs_missing"], told["final"]) == (3, False)
        assert told["options_missing_on_the_day_before"] == ["deribit BTC-USD"]
    rows = assert_layouts_agree(open_store(lake))
    assert set(rows) == set(DATASETS)
    for data_type in TICKS:
        assert read(lake, data_type, DAY) == given(SampleSource(), data_type, DAY, FEW)


def test_the_map_takes_its_listing_from_the_master(tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    with pipeline(Settings(lake=lake, selection=FEW)) as running:
        assert running.run(DAY, assets=["instruments", "available_instruments"]).clean
        found = MarketDataLake(lake).available_instruments(DAY, observed=True).to_pylist()
    listed = {row["instrument_id"]: row for row in SampleSource().listings(DAY, FEW).to_pylist()}
    assert {row["instrument_id"] for row in found} == {name for name in listed if Instrument.parse(name) in FEW}
    for row in found:
        assert {name: row[name] for name in listed[row["instrument_id"]]} == listed[row["instrument_id"]]
        assert (row["known_from"], row["observed_data_types"]) == ("listing", [])


def test_what_a_source_cannot_give_is_passed_over_and_stays(tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    spot = Selection.of("binance:SPOT_PAIR:BTC-USDT")
    with pipeline(Settings(lake=lake, selection=spot)) as running:
        assert running.run(DAY).clean
    before = read(lake, "book_snapshot_5", DAY)
    assert before
    folder = tmp_path / "files"
    folder.mkdir()
    row = "binance,BTCUSDT,1723118400000000,1723118400002000,1,buy,7,70\n"
    (folder / f"binance_trades_{DAY}_BTCUSDT.csv").write_text(
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n" + row
    )
    with pipeline(Settings(lake=lake, source="files", source_path=folder, selection=spot)) as running:
        outcome = running.run(DAY)
        assert outcome.clean, outcome.problems
        assert running.defs.resolve_asset_graph().get(dg.AssetKey("book_snapshot_5")).is_materializable is False
    assert len(read(lake, "trades", DAY)) == 1
    assert read(lake, "book_snapshot_5", DAY) == before


@pytest.mark.parametrize("asked", ["binance:SPOT_PAIR:BTC-USDT", "binance:*:BTC-*"])
def test_a_type_that_a_selection_lacks_on_a_day_stays(tmp_path: Path, asked: str) -> None:
    lake, folder = str(tmp_path / "lake"), tmp_path / "files"
    with pipeline(Settings(lake=lake, selection=Selection.of(asked))) as running:
        assert running.run(DAY, assets=["trades", "book_snapshot_5"]).clean
    before = read(lake, "book_snapshot_5", DAY)
    assert before
    folder.mkdir()
    header = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
    row = "binance,BTCUSDT,1723118400000000,1723118400002000,1,buy,7,70\n"
    (folder / f"binance_trades_{DAY}_BTCUSDT.csv").write_text(header + row)
    # the folder has books, but of another day and instrument
    (book,) = (path for path in SAMPLES.iterdir() if "book_snapshot_5_" in path.name)
    (folder / book.name).write_bytes(book.read_bytes())
    settings = Settings(lake=lake, source="files", source_path=folder, selection=Selection.of(asked))
    with pipeline(settings) as running:
        outcome = running.run(DAY)
        assert outcome.clean, outcome.problems
        assert running.metadata("book_snapshot_5", DAY)["rows"] == 0
    assert read(lake, "book_snapshot_5", DAY) == before
    assert len(read(lake, "trades", DAY)) == 1


def test_without_a_selection_a_type_that_is_missing_on_a_day_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    with pipeline(Settings(lake=str(tmp_path), source="files", source_path=SAMPLES)) as running:
        outcome = running.run("2020-03-01")
        assert outcome.succeeded
        assert sorted(problem.partition(",")[0] for problem in outcome.problems) == sorted(set(TICKS) - {"trades"})
        assert any("no book_snapshot_5 on 2020-03-01" in problem for problem in outcome.problems)
        for name in DATASETS:
            if name in ("trades", "ohlcv_1m", "ohlcv_1d", "available_instruments"):
                assert running.instance.get_materialized_partitions(dg.AssetKey(name)) == {"2020-03-01"}
            elif name in TICKS:
                # recorded neither for the day nor for none
                key = dg.AssetKey(name)
                assert not running.instance.get_materialized_partitions(key)
                assert running.instance.get_latest_materialization_event(key) is None
    assert MarketDataLake(tmp_path).available_instruments("2020-03-01").num_rows == 1


def test_without_the_master_candles_and_the_map_are_made_all_the_same(tmp_path: Path) -> None:
    class Broken(SampleSource):
        def listings(self, day: date, _: Selection) -> pa.Table:
            raise SourceError("the API of instruments: HTTP 503")

    lake = str(tmp_path / "lake")
    with pipeline(Settings(lake=lake, selection=FEW), Broken()) as running:
        outcome = running.run(DAY, assets=["instruments", "trades", "ohlcv_1m", "available_instruments"])
        assert outcome.succeeded
        (problem,) = outcome.problems
        assert "HTTP 503" in problem
        assert not running.instance.get_materialized_partitions(dg.AssetKey("instruments"))
    assert set(MarketDataLake(lake).available_instruments(DAY)["known_from"].to_pylist()) == {"ticks"}


def test_a_grouped_file_without_rows_is_a_day_without_rows(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / f"deribit_trades_{DAY}_PERPETUALS.csv.gz").write_bytes(gzip.compress(b""))
    with pipeline(Settings(lake=str(tmp_path / "lake"), source="files", source_path=folder)) as running:
        outcome = running.run(DAY)
        assert outcome.clean, outcome.problems
        assert running.metadata("trades", DAY)["rows"] == 0


def test_a_group_of_another_type_than_asked_for_is_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    header = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
    row = "deribit,BTC-PERPETUAL,1723118400000000,1723118400002000,1,buy,7,70\n"
    (folder / f"deribit_trades_{DAY}_BTC-PERPETUAL.csv").write_text(header + row)
    (folder / f"deribit_trades_{DAY}_OPTIONS.csv.gz").write_bytes(b"torn")
    for asked, clean in (("deribit:Perp:*", True), ("deribit:*", False)):
        settings = Settings(
            lake=str(tmp_path / "lake"), source="files", source_path=folder, selection=Selection.of(asked)
        )
        with pipeline(settings) as running:
            outcome = running.run(DAY, assets=["trades"])
        assert outcome.clean is clean, outcome.problems
