"""Grouped files: split by instrument, each as if it had come in a file of its own."""

import gc
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.sources.files.source import FilesSource
from market_data_pipeline.sources.formats import spill, unpack
from market_data_pipeline.sources.formats.tardis_csv import read_tardis
from market_data_pipeline_tests.sources.source_contract import SourceContract, read
from market_data_pipeline_tests.sources.test_spill import open_below
from market_data_pipeline_tests.sources.vendor_files import (
    DAY,
    NOON,
    TARDIS_HEADER,
    tardis_line,
    write,
    write_trades,
)

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
ALL = Selection()
BTC = "binance-futures:Perp:BTC-USDT"
ETH = "binance-futures:Perp:ETH-USDT"
GROUP = f"binance-futures_trades_{DAY}_PERPETUALS.csv.gz"


@pytest.fixture(autouse=True)
def spilled(tmp_path, monkeypatch):
    """Small blocks and a small budget, so that even a short file makes many runs."""
    folder = tmp_path / "spilled"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(unpack, "BLOCK", 1000)
    monkeypatch.setattr(spill, "BUDGET", 2000)
    return folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def trade(symbol: str, number: int, **changed: object) -> str:
    return tardis_line(**{"symbol": symbol, "id": number, "timestamp": NOON + number * 1000, **changed})


def mixed(rows: int = 200) -> list[str]:
    return [trade(SYMBOLS[n % 7 % 3], n) for n in range(rows)]


def group(folder: Path, *lines: str, name: str = GROUP) -> Path:
    return write(folder / name, [TARDIS_HEADER, *lines] if lines else [])


def came(folder: Path, selection: object = None, data_type: str = "trades", day: date = DAY) -> list:
    return list(FilesSource(folder).files(data_type, day, Selection.of(selection)))


def refusal(file) -> str:
    with pytest.raises(SourceError) as caught:
        list(file.read(Rejects()))
    return str(caught.value)


def of(files: list, instrument: str | None):
    (file,) = [file for file in files if (file.instrument and file.instrument.id) == instrument]
    return file


class TestContract(SourceContract):
    day = DAY
    empty_day = date(2024, 8, 9)

    @pytest.fixture
    def source(self, folder):
        group(folder, *mixed())
        write_trades(folder, "ETHUSDT", exchange="binance")
        return FilesSource(folder)


class TestOptions(SourceContract):
    data_type = "options_chain"
    day = date(2020, 6, 8)
    empty_day = date(2020, 6, 9)

    @pytest.fixture
    def source(self):
        return FilesSource(Path(__file__).parents[1] / "fixtures" / "tardis_samples")


def test_each_instrument_is_as_if_in_a_file_of_its_own(folder):
    lines = mixed()
    group(folder, *lines)
    files = came(folder)
    assert [file.instrument.id for file in files] == [f"binance-futures:Perp:{s[:3]}-USDT" for s in SYMBOLS]
    for file, symbol in zip(files, SYMBOLS, strict=True):
        alone = write(folder / "alone.csv", [TARDIS_HEADER, *(line for line in lines if f",{symbol}," in line)])
        expected = list(read_tardis(alone, DATASETS["trades"], DAY, "binance-futures", symbol, Counter()))
        batches = list(file.read(Rejects()))
        assert [row for batch in batches for row in batch.to_pylist()] == [
            row for batch in expected for row in batch.to_pylist()
        ]
        assert len(batches) >= 3
        assert file.origin.endswith(GROUP)


def test_an_empty_grouped_file_is_a_day_without_rows(folder):
    for lines in ([], [TARDIS_HEADER]):
        write(folder / GROUP, lines)
        (file,) = came(folder)
        assert (file.instrument, list(file.read(Rejects()))) == (None, [])


def test_other_instruments_are_dropped_at_once(folder):
    group(folder, *mixed(), trade("HOLA", 999))
    (file,) = came(folder, BTC)
    assert read(file)[0].num_rows == sum(",BTCUSDT," in line for line in mixed())
    assert [found.instrument for found in came(folder, "deribit:*")] == []
    (folder / GROUP).write_bytes(b"not read at all")
    assert came(folder, "deribit:*") == []


def test_the_group_is_split_when_the_iterator_reaches_it(folder):
    path = group(folder, *mixed())
    coming = FilesSource(folder).files("trades", DAY, ALL)
    path.write_bytes(path.read_bytes()[:-10])
    assert "torn or damaged" in refusal(next(coming))


def test_nothing_of_it_stays_once_it_is_let_go_of(folder, spilled):
    group(folder, *mixed())
    coming = FilesSource(folder).files("trades", DAY, ALL)
    first = next(coming)
    expected = read(first)[0]
    del coming  # given up midway
    gc.collect()
    assert open_below(spilled)
    assert read(first)[0] == expected
    del first
    gc.collect()
    assert not open_below(spilled)
    assert list(spilled.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "torn or damaged"),
        (lambda path: group(path.parent, *mixed(), trade("BTCUSDT", 1, price="abc")), "line 202: price 'abc'"),
        (lambda path: write(path, [TARDIS_HEADER.replace("price", "cost"), *mixed()]), "line 1: column 'price'"),
        (lambda path: write(path, [TARDIS_HEADER.replace("symbol", "name"), *mixed()]), "line 1: column 'symbol'"),
    ],
    ids=["torn", "no number", "no price", "no symbol"],
)
def test_a_broken_one_fails_as_a_whole_and_the_others_come(folder, spoil, said):
    spoil(group(folder, *mixed()))
    write_trades(folder, "ADAUSDT")
    broken, own = came(folder)
    assert broken.instrument is None
    assert GROUP in refusal(broken)
    assert said in refusal(broken)
    assert own.instrument.id == "binance-futures:Perp:ADA-USDT"


def test_a_symbol_that_cannot_be_told_fails_alone(folder):
    path = group(folder, *mixed(30), *(trade("HOLA", n) for n in range(7)), trade("", 1), *mixed(30))
    files = came(folder)
    assert [file.instrument is None for file in files] == [False] * 3 + [True] * 2
    nameless, hola = files[3:]
    assert hola.origin == f"{path} HOLA"
    assert f"{path}: 7 rows from line 32 on: symbol 'HOLA' ends in none of the quote assets" in refusal(hola)
    assert "instruments.csv (header venue,symbol,instrument_id) with a line such as binance-futures,HOLA," in refusal(
        hola
    )
    assert f"{path}: 1 rows from line 39 on: they have no symbol" in refusal(nameless)
    assert sum(read(file)[0].num_rows for file in files[:3]) == 60
    (folder / "instruments.csv").write_text(
        "venue,symbol,instrument_id\nbinance-futures,HOLA,binance-futures:Perp:HOLA-USDT\n"
    )
    assert read(of(came(folder), "binance-futures:Perp:HOLA-USDT"))[0].num_rows == 7


@pytest.mark.parametrize(
    ("selection", "unknown"),
    [
        (None, 1),
        ("binance-futures:*", 1),
        ([BTC, "binance-futures:Perp:HO-LA"], 1),  # which it may be
        ([BTC, "binance-futures:Perp:XRP-USDT"], 0),
        ([BTC, ETH, "deribit:Perp:BTC-USD"], 0),
        ([BTC, "binance-futures:Perp:ADA-USDT"], 0),  # ADA has a file of its own, told after the group
    ],
)
def test_a_symbol_that_the_selection_cannot_mean_is_passed_over(folder, selection, unknown):
    group(folder, *mixed(), trade("HOLA", 1))
    write_trades(folder, "ADAUSDT")
    assert [file.instrument for file in came(folder, selection)].count(None) == unknown


def test_rows_that_cannot_be_used_are_counted_by_instrument(folder):
    path = group(
        folder,
        *mixed(30),
        trade("BTCUSDT", 1, price="0"),
        trade("ETHUSDT", 2, price="-1"),
        *mixed(30),
        trade("BTCUSDT", 3, amount="0"),
        trade("BTCUSDT", 4, price="0"),
        trade("ETHUSDT", 5, side="BUY"),
        trade("ETHUSDT", 6, timestamp=NOON * 1000),
        trade("ETHUSDT", 7, exchange="binance"),
        trade("XRPUSDT", 8, price="0"),
        trade("XRPUSDT", 8, price="0"),
    )
    files = came(folder)
    assert read(of(files, BTC))[1].because == {
        f"price is not above 0 (first in {path} line 32: '0.0')": 2,
        f"amount is not above 0 (first in {path} line 64: '0.0')": 1,
    }
    eth = read(of(files, ETH))[1]
    assert eth == read(of(files, ETH))[1]
    assert eth.because == {
        f"price is not above 0 (first in {path} line 33: '-1.0')": 1,
        f"side is not buy, sell or unknown (first in {path} line 66: 'BUY')": 1,
        f"timestamp is further than a day from {DAY} (first in {path} line 67: '{NOON * 1000}')": 1,
        f"exchange is not binance-futures (first in {path} line 68: 'binance')": 1,
    }
    kept = sorted(eth.rows, key=lambda row: row.line)
    assert [(row.origin, row.line) for row in kept] == [(path.name, line) for line in (33, 66, 67, 68)]
    assert kept[1].text == trade("ETHUSDT", 5, side="BUY")
    assert not read(of(files, "binance-futures:Perp:SOL-USDT"))[1]
    # an instrument of which nothing is left is an error, not a day without rows
    assert refusal(of(files, "binance-futures:Perp:XRP-USDT")) == (
        f"{path}: none of its 2 rows of XRPUSDT can be used; price is not above 0 (first in {path} line 69: '0.0')"
    )


def test_a_file_of_which_no_row_can_be_used_fails_as_a_whole(folder):
    group(folder, *(trade(symbol, n, exchange="binance") for n in range(9) for symbol in SYMBOLS))
    (file,) = came(folder)
    assert file.instrument is None
    assert "none of its 27 rows can be used; exchange is not binance-futures" in refusal(file)


def test_an_instrument_that_lies_in_two_files_fails_and_names_both(folder):
    path, own = group(folder, *mixed()), write_trades(folder, "BTCUSDT")
    files = came(folder)
    assert len(files) == 3
    assert f"{BTC} on {DAY}: 2 files hold it, {own} and {path}; keep one of them" in refusal(of(files, BTC))
    assert read(of(files, ETH))[0].num_rows


@pytest.mark.parametrize("other", [GROUP.removesuffix(".gz"), "binance-futures/trades/2024/08/08/PERPETUALS.csv.gz"])
def test_two_grouped_files_of_a_kind_are_refused(folder, other):
    paths = [group(folder, *mixed()), group(folder, *mixed(), name=other)]
    write_trades(folder, "ADAUSDT")
    refused, own = came(folder)
    assert refused.instrument is None
    assert all(str(path) in refusal(refused) for path in paths)
    assert read(own)[0].num_rows == 3


def test_an_instrument_of_two_groups_is_given_once_and_told(folder):
    group(folder, *mixed())
    path = group(folder, *mixed(), trade("BTCUSDT_240927", 1), name=GROUP.replace("PERPETUALS", "FUTURES"))
    files = came(folder)
    given = [file.instrument.id for file in files if file.instrument]
    assert len(given) == len(set(given)) == 4
    told = {refusal(file) for file in files if file.instrument is None}
    other = path.with_name(GROUP)
    assert told == {
        f"{other}: binance-futures:Perp:{symbol[:3]}-USDT lies in another grouped file, too; correct the mapping file, "
        "or keep one"
        for symbol in SYMBOLS
    }


def test_two_symbols_that_mean_one_instrument_fail_it(folder):
    group(folder, *mixed(), trade("BTCX", 1))
    (folder / "instruments.csv").write_text(f"venue,symbol,instrument_id\nbinance-futures,BTCX,{BTC}\n")
    files = came(folder)
    assert f"the symbols BTCUSDT and BTCX both mean {BTC}" in refusal(of(files, BTC))
    assert read(of(files, ETH))[0].num_rows


def test_symbols_are_told_as_file_names_have_them(folder):
    lines = [tardis_line(exchange="kraken", symbol=symbol) for symbol in ("XBT/USD", "xbt/usd", "XBT-USD", "ETH/USD")]
    write(folder / f"kraken_trades_{DAY}_SPOT.csv", [TARDIS_HEADER, *lines])
    files = came(folder)
    assert [(file.instrument.id, read(file)[0].num_rows) for file in files] == [
        ("kraken:SPOT_PAIR:BTC-USD", 3),
        ("kraken:SPOT_PAIR:ETH-USD", 1),
    ]


def test_a_full_temporary_folder_is_named_with_the_remedy(folder, spilled, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spill.pa.ipc, "new_file", full)
    path = group(folder, *mixed())
    (file,) = came(folder)
    assert refusal(file) == (
        f"{path}: splitting it by instrument needs room in {spilled}: No space left on device; free some, or set "
        "TMPDIR to a folder that has more"
    )
