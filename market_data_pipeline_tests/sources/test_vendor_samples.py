"""Each vendor sample through the `files` source: every value of every row is the file's own, read here with `csv`."""

import csv
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from market_data_pipeline.model.datasets import DATASETS, TIME, Kind
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.model.windows import as_day
from market_data_pipeline.sources.files.source import FilesSource

SAMPLES = Path(__file__).parents[1] / "fixtures" / "tardis_samples"
NAMES = {
    "binance-futures_book_snapshot_25_2020-09-01_BTCUSDT.csv": {"BTCUSDT": "binance-futures:Perp:BTC-USDT"},
    "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv": {"BTCUSDT": "binance-futures:Perp:BTC-USDT"},
    "binance-futures_liquidations_2021-09-19_BTCUSDT.csv": {"BTCUSDT": "binance-futures:Perp:BTC-USDT"},
    "bitmex_derivative_ticker_2020-04-01_ETHUSD.csv": {"ETHUSD": "bitmex:Perp:ETH-USD"},
    "bitmex_trades_2020-03-01_XBTUSD.csv": {"XBTUSD": "bitmex:Perp:BTC-USD"},
    "deribit_options_chain_2020-06-08_OPTIONS.csv": {
        f"BTC-9JUN20-{strike}-{side}": f"deribit:Option:BTC-USD-{strike}-200609-{side}"
        for strike in (9875, 9750, 9625, 9500)
        for side in "CP"
    },
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def our_name(column: str) -> str:
    """`asks[0].price` is `ask_price_1`; the others have the same name."""
    match = re.fullmatch(r"(ask|bid)s\[(\d+)\]\.(price|amount)", column)
    return f"{match[1]}_{match[3]}_{int(match[2]) + 1}" if match else column


def value(cell: str, column: str, data_type: str) -> object:
    if not cell:
        return None
    kind = DATASETS[data_type].own_schema.field(column).type
    if kind == TIME:
        return EPOCH + timedelta(microseconds=int(cell))
    return float(cell) if str(kind) == "double" else cell


def rows_of(path: Path, data_type: str) -> dict[str, list[dict[str, object]]]:
    """The file's rows by symbol, in its order."""
    found = defaultdict(list)
    with path.open(newline="") as text:
        for row in csv.DictReader(text):
            del row["exchange"]
            named = {our_name(column): cell for column, cell in row.items()}
            found[named.pop("symbol")].append({name: value(cell, name, data_type) for name, cell in named.items()})
    return found


def parts(name: str) -> tuple[str, str]:
    match = re.fullmatch(r"[a-z-]+_([a-z_0-9]+)_(\d{4}-\d{2}-\d{2})_[A-Z]+\.csv", name)
    return match[1], match[2]


def test_there_is_a_sample_of_every_tick_dataset():
    assert {path.name for path in SAMPLES.iterdir()} == set(NAMES)
    assert {parts(name)[0] for name in NAMES} == {name for name in DATASETS if DATASETS[name].kind is Kind.TICKS}
    assert set(FilesSource(SAMPLES).data_types) == {parts(name)[0] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_the_files_own(name):
    data_type, day = parts(name)
    truth = rows_of(SAMPLES / name, data_type)
    rejects = Rejects()
    found = {
        file.instrument.id: [row for batch in file.read(rejects) for row in batch.to_pylist()]
        for file in FilesSource(SAMPLES).files(data_type, as_day(day), Selection())
    }
    assert not rejects
    assert found == {NAMES[name][symbol]: rows for symbol, rows in truth.items()}
    assert sum(map(len, found.values())) == len((SAMPLES / name).read_text().splitlines()) - 1


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_cell_is_null_in_every_column_that_may_be_empty(tmp_path, name):
    data_type, day = parts(name)
    with (SAMPLES / name).open(newline="") as text:
        header, first, *_ = csv.reader(text)
    needed = {"exchange", "symbol", "timestamp", "side"} | ({"price", "amount"} if "side" in header else set())
    cells = [cell if column in needed else "" for column, cell in zip(header, first, strict=True)]
    (tmp_path / name).write_text("\n".join(",".join(line) for line in (header, cells)) + "\n")
    (file,) = FilesSource(tmp_path).files(data_type, as_day(day), Selection())
    (row,) = [row for batch in file.read(Rejects()) for row in batch.to_pylist()]
    assert row["local_timestamp"] == row["timestamp"]
    filled = {our_name(column) for column in needed} - {"exchange", "symbol"} | {"local_timestamp"}
    assert {column for column, found in row.items() if found is not None} == filled & set(row)
