import os
import shutil
from datetime import date
from pathlib import Path

import pytest

from market_data_pipeline.model.contracts import VolumeUnit
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.sources.files import folder_index
from market_data_pipeline.sources.files.source import FilesSource
from market_data_pipeline_tests.sources.source_contract import SourceContract, read
from market_data_pipeline_tests.sources.vendor_files import (
    CM,
    DAY,
    SPOT_MS,
    TARDIS_HEADER,
    UM,
    tardis_line,
    write,
    write_trades,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
ALL = Selection()


def ids(source, data_type="trades", day=DAY, selection=ALL):
    return [file.instrument and file.instrument.id for file in source.files(data_type, day, selection)]


def refusal(source, data_type="trades", day=DAY):
    (file,) = source.files(data_type, day, ALL)
    with pytest.raises(SourceError) as caught:
        list(file.read(Rejects()))
    return file.instrument, str(caught.value)


class TestContract(SourceContract):
    day = DAY
    empty_day = date(2024, 8, 9)

    @pytest.fixture
    def source(self, tmp_path):
        shutil.copytree(FIXTURES / "tardis", tmp_path / "tardis")
        write_trades(tmp_path, "ETHUSDT", 50)
        write(tmp_path / "spot" / f"BTCUSDT-trades-{DAY}.zip", [SPOT_MS] * 5)
        write(tmp_path / "cm" / f"BTCUSD_PERP-trades-{DAY}.zip", [CM] * 5)
        return FilesSource(tmp_path)


class TestBooks(SourceContract):
    data_type = "book_snapshot_5"
    day = date(2020, 9, 1)
    empty_day = date(2020, 9, 2)

    @pytest.fixture
    def source(self, tmp_path):
        sample = "binance-futures_book_snapshot_5_2020-09-01_BTCUSDT.csv"
        text = (FIXTURES / "tardis_samples" / sample).read_text()
        (tmp_path / sample).write_text(text)
        (tmp_path / sample.replace("BTC", "ETH")).write_text(text.replace("BTC", "ETH"))
        return FilesSource(tmp_path)


def test_the_fixtures_are_known_by_their_names():
    source = FilesSource(FIXTURES / "tardis_samples")
    assert ids(source, "liquidations", date(2021, 9, 19)) == ["binance-futures:Perp:BTC-USDT"]
    assert ids(source, "derivative_ticker", date(2020, 4, 1)) == ["bitmex:Perp:ETH-USD"]
    assert ids(source, "book_snapshot_25", date(2020, 9, 1)) == ["binance-futures:Perp:BTC-USDT"]
    for data_type, day in (("trades", date(2020, 3, 1)), ("derivative_ticker", date(2020, 4, 1))):
        (file,) = source.files(data_type, day, ALL)
        assert read(file)[0].num_rows


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("deep/er/deribit_trades_2024-08-08_BTC-PERPETUAL.csv.gz", "deribit:Perp:BTC-USD"),
        ("okex-swap_trades_2024-08-08_BTC-USDT-SWAP.csv", "okex-swap:Perp:BTC-USDT"),
        ("binance-delivery_trades_2024-08-08_BTCUSD_PERP.csv.gz", "binance-delivery:Perp:BTC-USD"),
        ("v1/binance-delivery/trades/2024/08/08/BTCUSD_240927.csv.gz", "binance-delivery:Future:BTC-USD-240927"),
        ("kraken/trades/2024/08/08/XBT-USD.csv.gz", "kraken:SPOT_PAIR:BTC-USD"),
        ("data/spot/daily/trades/ETHUSDT/ETHUSDT-trades-2024-08-08.zip", "binance:SPOT_PAIR:ETH-USDT"),
        ("data/futures/um/daily/trades/ETHUSDT/ETHUSDT-trades-2024-08-08.zip", "binance-futures:Perp:ETH-USDT"),
        ("data/futures/cm/daily/trades/BTCUSD_PERP/BTCUSD_PERP-trades-2024-08-08.zip", "binance-delivery:Perp:BTC-USD"),
        ("spot/ETHUSDT-trades-2024-08-08.zip", "binance:SPOT_PAIR:ETH-USDT"),
        ("binance/um/ETHUSDT-trades-2024-08-08.csv", "binance-futures:Perp:ETH-USDT"),
        ("binance-futures/ETHUSDT-trades-2024-08-08.csv.gz", "binance-futures:Perp:ETH-USDT"),
        ("BTCUSD_PERP-trades-2024-08-08.zip", "binance-delivery:Perp:BTC-USD"),
        ("BTCUSD_240927-trades-2024-08-08.zip", "binance-delivery:Future:BTC-USD-240927"),
        ("BTCUSDT_240927-trades-2024-08-08.zip", "binance-futures:Future:BTC-USDT-240927"),
    ],
)
def test_the_path_tells_the_instrument_without_opening_the_file(tmp_path, path, expected):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(b"not even a gzip")
    assert ids(FilesSource(tmp_path)) == [expected]


def test_the_real_archive_file_is_known_by_its_tree():
    (file,) = FilesSource(FIXTURES / "binance").files("trades", DAY, ALL)
    assert file.instrument.id == "binance-futures:Perp:BTC-USDT"
    assert read(file)[0].num_rows == 21_313


def test_the_archives_tree_may_begin_above_the_folder(tmp_path):
    folder = tmp_path / "data" / "futures" / "um" / "daily" / "trades"
    write(folder / "BTCUSDT" / f"BTCUSDT-trades-{DAY}.zip", [])
    assert ids(FilesSource(folder)) == ["binance-futures:Perp:BTC-USDT"]


@pytest.mark.parametrize(
    ("line", "expected"), [(SPOT_MS, "binance:SPOT_PAIR:BTC-USDT"), (UM, "binance-futures:Perp:BTC-USDT")]
)
def test_a_flat_binance_file_is_told_by_its_columns(tmp_path, line, expected):
    write(tmp_path / f"BTCUSDT-trades-{DAY}.zip", [line])
    (file,) = FilesSource(tmp_path).files("trades", DAY, ALL)
    assert file.instrument.id == expected
    assert read(file)[0].num_rows == 1


def test_a_market_that_nothing_tells_is_refused_or_declared(tmp_path):
    write(tmp_path / f"BTCUSDT-trades-{DAY}.zip", [])
    instrument, message = refusal(FilesSource(tmp_path))
    assert instrument is None
    assert "BTCUSDT-trades-2024-08-08.zip: neither path nor columns" in message
    assert "instruments.csv" in message
    (tmp_path / "instruments.csv").write_text(
        "venue,symbol,instrument_id\nbinance-futures,BTCUSDT,binance-futures:Perp:BTC-USDT\n"
    )
    assert ids(FilesSource(tmp_path)) == ["binance-futures:Perp:BTC-USDT"]


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "binance_quotes_2024-08-08_BTCUSDT.csv.gz",
        "binance_trades_2024-13-08_BTCUSDT.csv.gz",
        "BTCUSDT-trades-2024-08.zip",
        "BTCUSDT-aggTrades-2024-08-08.zip",
        "binance_trades_2024-08-08_BTCUSDT.csv.gz.part",
        "._binance_trades_2024-08-08_BTCUSDT.csv.gz",
    ],
)
def test_other_names_are_ignored_and_counted(tmp_path, name):
    (tmp_path / name).write_text("x")
    source = FilesSource(tmp_path)
    assert ids(source) == []
    assert source.describe("trades") == f"{tmp_path} holds no trades (1 file of no known name ignored)"


def test_it_describes_what_it_holds(tmp_path):
    for day in ("2024-08-06", "2024-08-07", "2024-08-08"):
        write(tmp_path / f"binance_trades_{day}_BTCUSDT.csv.gz", [])
        write(tmp_path / f"binance_trades_{day}_ETHUSDT.csv.gz", [])
    write(tmp_path / "a" / "b.txt", [])
    write(tmp_path / "c.txt", [])
    source = FilesSource(tmp_path)
    assert (
        source.describe("trades")
        == f"{tmp_path} holds trades for 3 days, 2024-08-06 to 2024-08-08 (2 files of no known name ignored)"
    )
    assert source.describe("liquidations").startswith(
        f"{tmp_path} holds no liquidations, but trades for 3 days, 2024-08-06 to 2024-08-08"
    )


def test_a_symbol_that_cannot_be_told_is_named_and_the_others_come(tmp_path):
    write_trades(tmp_path, "BTCUSDT")
    write(tmp_path / f"bitmex_trades_{DAY}_XBTZ24.csv.gz", [TARDIS_HEADER])
    known, unknown = FilesSource(tmp_path).files("trades", DAY, ALL)
    assert known.instrument.id == "binance-futures:Perp:BTC-USDT"
    assert unknown.instrument is None
    with pytest.raises(SourceError, match=r"bitmex_trades_2024-08-08_XBTZ24\.csv\.gz: .*'XBTZ24'.*instruments\.csv"):
        unknown.read(Rejects())


@pytest.mark.parametrize(
    ("selection", "comes"),
    [
        ("*", True),
        ("*:Future:*", True),
        ("bitmex:*", True),
        ("binance-futures:*", False),
        (["binance-futures:Perp:BTC-USDT", "deribit:Perp:BTC-USD"], False),
        ("bitmex:Perp:BTC-USD", False),  # its own file was found
        ("bitmex:Perp:ETH-USD", True),  # this could be it
        (["bitmex:Perp:BTC-USD", "bitmex:Perp:ETH-USD"], True),
        (["bitmex:Perp:BTC-USD", "binance-futures:*"], True),  # a glob: what it means is not known
    ],
)
def test_what_the_selection_cannot_mean_is_passed_over(tmp_path, selection, comes):
    write_trades(tmp_path, "BTCUSDT")
    write_trades(tmp_path, "XBTUSD", exchange="bitmex")
    write(tmp_path / f"bitmex_trades_{DAY}_XBTZ24.csv.gz", [TARDIS_HEADER])
    assert (None in ids(FilesSource(tmp_path), selection=Selection.of(selection))) is comes


@pytest.mark.parametrize(
    ("selection", "comes"), [("*", True), ("binance-delivery:*", True), ("deribit:*", False), ("binance-us:*", False)]
)
def test_a_market_that_nothing_tells_can_be_any_of_binances(tmp_path, selection, comes):
    write(tmp_path / f"BTCUSDT-trades-{DAY}.zip", [])
    assert ids(FilesSource(tmp_path), selection=Selection.of(selection)) == [None] * comes


def test_a_mapping_file_declares_symbols_and_contracts(tmp_path):
    write(tmp_path / f"bitmex_trades_{DAY}_XBTZ24.csv.gz", [TARDIS_HEADER])
    declared = tmp_path / "elsewhere" / "my.csv"
    write(
        declared,
        [
            "venue,symbol,instrument_id,contract_multiplier,inverse,volume_unit",
            "bitmex,XBTZ24,bitmex:Future:BTC-USD-241227,2,true,contracts",
        ],
    )
    source = FilesSource(tmp_path, declared)
    assert ids(source) == ["bitmex:Future:BTC-USD-241227"]
    contract = source.contract(Instrument.parse("bitmex:Future:BTC-USD-241227"))
    assert (contract.inverse, contract.multiplier, contract.unit) == (True, 2.0, VolumeUnit.CONTRACTS)
    assert source.contract(Instrument.parse("binance-delivery:Perp:BTC-USD")).multiplier == 100
    assert "ignored" not in source.describe("trades")


def test_a_mapping_file_is_read_again_when_it_changes_and_must_be_whole(tmp_path):
    write(tmp_path / f"new_trades_{DAY}_A.csv.gz", [TARDIS_HEADER])
    source = FilesSource(tmp_path)
    assert ids(source) == [None]
    (tmp_path / "instruments.csv").write_text("venue,symbol,instrument_id\nnew,A,new:Perp:A-USD\n")
    assert ids(source) == ["new:Perp:A-USD"]
    (tmp_path / "instruments.csv").write_text("venue,symbol,instrument_id\nnew,A,new:Perp\n")
    with pytest.raises(SourceError, match=r"instruments\.csv line 2, column instrument_id"):
        ids(source)
    with pytest.raises(SourceError, match=r"gone\.csv: the mapping file cannot be read"):
        ids(FilesSource(tmp_path, tmp_path / "gone.csv"))


@pytest.mark.parametrize(
    "other",
    [
        f"data/futures/um/daily/trades/BTCUSDT/BTCUSDT-trades-{DAY}.zip",
        f"binance-futures_trades_{DAY}_BTCUSDT.csv",
        "binance-futures/trades/2024/08/08/BTCUSDT.csv.gz",
        f"binance-futures_trades_{DAY}_btcusdt.csv.gz",
    ],
)
def test_two_files_of_one_instrument_fail_its_day(tmp_path, other):
    first = write_trades(tmp_path)
    second = write(tmp_path / other, [])
    instrument, message = refusal(FilesSource(tmp_path))
    assert instrument.id == "binance-futures:Perp:BTC-USDT"
    assert str(first) in message
    assert str(second) in message


def test_a_torn_file_fails_its_day_only(tmp_path):
    torn = write_trades(tmp_path, "BTCUSDT", 2000)
    torn.write_bytes(torn.read_bytes()[:-100])
    write_trades(tmp_path, "ETHUSDT")
    broken, good = FilesSource(tmp_path).files("trades", DAY, ALL)
    assert read(good)[0].num_rows == 3
    with pytest.raises(SourceError, match=r"BTCUSDT\.csv\.gz: torn or damaged"):
        read(broken)


def test_a_file_that_vanished_is_named(tmp_path):
    path = write_trades(tmp_path)
    (file,) = FilesSource(tmp_path).files("trades", DAY, ALL)
    path.unlink()
    with pytest.raises(SourceError, match="cannot be opened"):
        read(file)


def test_files_that_come_and_go_are_seen(tmp_path):
    source = FilesSource(tmp_path)
    assert ids(source) == []
    path = write_trades(tmp_path / "deep" / "er")
    assert ids(source) == ["binance-futures:Perp:BTC-USDT"]
    write_trades(tmp_path / "deep" / "er", "ETHUSDT")
    assert len(ids(source)) == 2
    path.unlink()
    assert ids(source) == ["binance-futures:Perp:ETH-USDT"]


def test_a_settled_folder_is_walked_once(tmp_path, monkeypatch):
    write_trades(tmp_path)
    os.utime(tmp_path, (1, 1))
    walks = []
    walk = folder_index.FolderIndex._walk
    monkeypatch.setattr(folder_index.FolderIndex, "_walk", lambda self: walks.append(1) or walk(self))
    source = FilesSource(tmp_path)
    for _ in range(5):
        assert len(ids(source)) == 1
    assert len(walks) == 1


def test_links_do_not_lead_out_of_the_folder(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    path = write_trades(outside)
    inside.mkdir()
    (inside / "folder").symlink_to(outside, target_is_directory=True)
    (inside / path.name).symlink_to(path)
    (inside / "loop").symlink_to(inside, target_is_directory=True)
    source = FilesSource(inside)
    assert ids(source) == []
    assert "3 files of no known name ignored" in source.describe("trades")
    kept = write(inside / "objects" / "42", [TARDIS_HEADER, tardis_line()])
    (inside / f"binance-futures_trades_{DAY}_BTCUSDT.csv").symlink_to(kept)
    assert ids(source) == ["binance-futures:Perp:BTC-USDT"]


def test_a_link_that_leads_nowhere_is_a_file_that_cannot_be_read(tmp_path):
    link = tmp_path / f"binance_trades_{DAY}_ETHUSDT.csv.gz"
    link.symlink_to(tmp_path / "unmounted" / "file")
    (file,) = FilesSource(tmp_path).files("trades", DAY, Selection())
    assert file.instrument == Instrument.parse("binance:SPOT_PAIR:ETH-USDT")
    with pytest.raises(SourceError, match=f"{link.name}: cannot be opened: No such file"):
        list(file.read(Rejects()))


@pytest.mark.parametrize("ask", [ids, lambda source: source.describe("trades")])
def test_a_folder_that_is_none_is_named_with_its_setting(tmp_path, ask):
    with pytest.raises(SourceError, match="set MARKET_DATA_SOURCE_PATH"):
        ask(FilesSource(None))
    with pytest.raises(SourceError, match=r"MARKET_DATA_SOURCE_PATH=.*gone: the folder cannot be opened: No such"):
        ask(FilesSource(tmp_path / "gone"))
    file = write_trades(tmp_path)
    with pytest.raises(SourceError, match=r"MARKET_DATA_SOURCE_PATH=.*is a file; expected the folder"):
        ask(FilesSource(file))


def test_a_relative_folder_works(tmp_path, monkeypatch):
    write_trades(tmp_path / "ticks")
    monkeypatch.chdir(tmp_path)
    (file,) = FilesSource(Path("ticks")).files("trades", DAY, ALL)
    assert file.origin == f"ticks/binance-futures_trades_{DAY}_BTCUSDT.csv.gz"
    assert read(file)[0].num_rows == 3


def state(source, data_type="trades", selection=ALL):
    return source.states(data_type, [DAY], selection).get(DAY)


def declare(folder, *lines):
    return write(folder / "instruments.csv", ["venue,symbol,instrument_id,contract_multiplier", *lines])


def test_the_state_of_a_day_is_that_of_its_own_files(tmp_path):
    source = FilesSource(tmp_path)
    assert state(source) is None
    path = write_trades(tmp_path)
    before = state(source)
    write(tmp_path / "binance-futures_trades_2024-08-09_BTCUSDT.csv.gz", [])
    write(tmp_path / f"binance-futures_liquidations_{DAY}_BTCUSDT.csv.gz", [])
    write(tmp_path / "notes.txt", ["x"])
    assert state(source) == before
    kept = path.rename(tmp_path / "elsewhere")
    assert state(source) is None
    path.symlink_to(tmp_path / "nowhere")
    assert state(source) not in (None, before)
    path.unlink()
    path.symlink_to(kept)
    assert state(source) == before


def test_files_outside_the_selection_do_not_count(tmp_path):
    for symbol in ("BTCUSDT", "ETHUSDT"):
        write_trades(tmp_path, symbol)
    write(tmp_path / f"bitmex_trades_{DAY}_XBTZ24.csv.gz", [TARDIS_HEADER])
    write(tmp_path / f"deribit_trades_{DAY}_OPTIONS.csv.gz", [TARDIS_HEADER])
    write(tmp_path / f"SOLUSDT-trades-{DAY}.zip", [])
    source = FilesSource(tmp_path)
    chosen = Selection.of("binance-futures:Perp:ETH-*")
    before = state(source, selection=chosen)
    assert before
    assert before != state(source)
    assert state(source, selection=Selection.of("kraken:*")) is None
    # a file of Binance's that its columns tell may be one of any of its markets
    for name, counts in (
        ("BTCUSDT.csv.gz", False),
        ("XBTZ24.csv.gz", False),
        ("OPTIONS.csv.gz", False),
        (".zip", True),
    ):
        (path,) = tmp_path.glob(f"*{name}")
        os.utime(path, (1, 1))
        assert (state(source, selection=chosen) != before) is counts, name


@pytest.mark.parametrize(
    ("name", "venue", "other"),
    [
        ("new_trades_2024-08-08_A.csv.gz", "new", "new,B"),
        ("deribit_trades_2024-08-08_OPTIONS.csv.gz", "deribit", "okex,A"),
        ("A-trades-2024-08-08.zip", "binance", "binance,B"),
    ],
)
def test_what_the_mapping_makes_of_a_file_is_part_of_its_state(tmp_path, name, venue, other):
    write(tmp_path / name, [])
    source = FilesSource(tmp_path)
    undeclared = state(source)
    declare(tmp_path, f"{other},{other.partition(',')[0]}:Perp:B-USD,")
    assert state(source) == undeclared
    declare(tmp_path, f"{venue},A,{venue}:Perp:A-USD,")
    declared = state(source)
    assert declared != undeclared
    declare(tmp_path, f"{venue},A,{venue}:Perp:AA-USD,")
    assert state(source) not in (declared, undeclared)


def test_a_contract_that_changes_leaves_the_state_of_ticks(tmp_path):
    write(tmp_path / f"okex-swap_trades_{DAY}_A.csv.gz", [])
    source = FilesSource(tmp_path)
    states = set()
    for multiplier in ("0.01", "0.001"):
        write(
            tmp_path / "instruments.csv",
            [
                "venue,symbol,instrument_id,contract_multiplier,volume_unit",
                f"okex-swap,A,okex-swap:Perp:A-USDT,{multiplier},contracts",
            ],
        )
        states.add(state(source))
    assert len(states) == 1


def told(source: FilesSource) -> list[str | None]:
    return [file.made_from(object()) for file in source.files("trades", DAY, ALL)]


def test_what_rows_are_made_from_is_the_content_and_what_it_is_taken_for(tmp_path: Path) -> None:
    path = write_trades(tmp_path, "ETHUSDT", 50)
    (before,) = told(FilesSource(tmp_path))
    os.utime(path, (0, 0))
    assert told(FilesSource(tmp_path)) == [before] != [None]
    shutil.copytree(tmp_path, tmp_path.parent / "elsewhere")
    assert told(FilesSource(tmp_path.parent / "elsewhere")) == [before]
    write_trades(tmp_path, "ETHUSDT", 51)
    assert told(FilesSource(tmp_path)) not in ([before], [None])
    write_trades(tmp_path, "ETHUSDT", 50)
    assert told(FilesSource(tmp_path)) == [before]
    path.rename(path.with_name(path.name.replace("ETHUSDT", "BTCUSDT")))
    assert told(FilesSource(tmp_path)) not in ([before], [None])


def test_what_rows_are_made_from_is_looked_at_again_where_the_file_has_changed(tmp_path: Path) -> None:
    path = write_trades(tmp_path, "ETHUSDT", 50)
    (file,) = FilesSource(tmp_path).files("trades", DAY, ALL)
    before = file.made_from(object())
    write_trades(tmp_path, "ETHUSDT", 51)
    assert file.made_from(object()) not in (before, None)
    path.unlink()
    assert file.made_from(object()) is None
