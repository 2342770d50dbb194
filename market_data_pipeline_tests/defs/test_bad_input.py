"""Bad input: one clear message with file and line, and nothing else is lost."""

import gzip
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.defs.launch import require_partitions, selected_assets
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import pipeline
from market_data_pipeline_tests.defs.vendor_days import HEADER, SYMBOLS, file_of, write, write_days

DAY = date(2024, 8, 8)
BROKEN = ("deribit", "ETH-PERPETUAL")
ROW = "deribit,ETH-PERPETUAL,{stamp},{stamp},1,buy,{price},10\n"
NOON = 1723118400000000


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def without_price(path: Path) -> None:
    write(path, HEADER.replace("price", "cost") + ROW.format(stamp=NOON, price=1))


def no_number(path: Path) -> None:
    write(path, HEADER + ROW.format(stamp=NOON, price=1) + ROW.format(stamp=NOON, price="abc"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_days(tmp_path / "files", [DAY])
    return tmp_path / "files"


@pytest.fixture
def settings(tmp_path: Path, folder: Path) -> Settings:
    return Settings(lake=str(tmp_path / "lake"), source="files", source_path=folder)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(torn, "torn"), (without_price, "price"), (no_number, "'abc'")],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_only_that_instruments_day_fails(
    folder: Path, settings: Settings, spoil: Callable[[Path], None], said: str
) -> None:
    path = file_of(folder, *BROKEN, DAY)
    spoil(path)
    with pipeline(settings) as running:
        outcome = running.run(DAY)
        metadata = running.metadata("trades", DAY)
    assert outcome.succeeded
    (problem,) = outcome.problems
    assert "every_instrument_read" in problem
    assert path.name in problem
    assert said in problem
    assert [failed["instrument"] for failed in metadata["failed_instruments"]] == [SYMBOLS[BROKEN]]
    candles = MarketDataLake(settings.lake).candles(None, "1d", DAY, "2024-08-09")
    assert set(candles.column("instrument_id").to_pylist()) == set(SYMBOLS.values()) - {SYMBOLS[BROKEN]}


def test_a_broken_file_gets_no_candles_out_of_the_neighbours(folder: Path, settings: Settings) -> None:
    write_days(folder, [date(2024, 8, 7), date(2024, 8, 9)])
    torn(file_of(folder, *BROKEN, DAY))
    with pipeline(settings) as running:
        assert running.run("2024-08-07", "2024-08-09").succeeded
    candles = MarketDataLake(settings.lake).candles(None, "1d", DAY, "2024-08-09")
    assert set(candles.column("instrument_id").to_pylist()) == set(SYMBOLS.values()) - {SYMBOLS[BROKEN]}


def test_every_failure_is_told_however_many(folder: Path, settings: Settings) -> None:
    for number in range(30):
        (folder / f"deribit_trades_{DAY}_BTC-27SEP24-{60_000 + number}-C.csv.gz").write_bytes(b"no gzip")
    with pipeline(settings) as running:
        outcome = running.run(DAY)
    assert len(outcome.problems) == 30
    assert all(problem.count(".csv.gz") == 1 for problem in outcome.problems)


def test_the_line_is_named(folder: Path, settings: Settings) -> None:
    no_number(file_of(folder, *BROKEN, DAY))
    with pipeline(settings) as running:
        (problem,) = running.run(DAY).problems
    assert "line 3" in problem


def test_an_empty_gzip_is_a_day_without_rows(folder: Path, settings: Settings) -> None:
    file_of(folder, *BROKEN, DAY).write_bytes(gzip.compress(b""))
    with pipeline(settings) as running:
        outcome = running.run(DAY)
        metadata = running.metadata("trades", DAY)
    assert outcome.clean, outcome.problems
    assert metadata["instruments"] == len(SYMBOLS) - 1


def test_rows_that_cannot_be_used_are_counted_and_reported(folder: Path, settings: Settings) -> None:
    lines = [ROW.format(stamp=NOON, price=price) for price in (1, -1, 0, 2)]
    write(file_of(folder, *BROKEN, DAY), HEADER + "".join(lines))
    with pipeline(settings) as running:
        assert running.run(DAY).clean
        metadata = running.metadata("trades", DAY)
    assert metadata["rows_set_aside"] == 2
    assert any("line 3" in reason for reason in metadata["rows_set_aside_because"])


def test_rows_that_cannot_be_used_lie_in_the_quarantine_until_the_file_is_mended(
    folder: Path, settings: Settings
) -> None:
    lines = [ROW.format(stamp=NOON, price=price) for price in (1, -1, 0, 2)]
    path = file_of(folder, *BROKEN, DAY)
    write(path, HEADER + "".join(lines))
    lake = MarketDataLake(settings.lake)
    with pipeline(settings) as running:
        assert running.run(DAY, assets=["trades"]).clean
        told = Path(running.metadata("trades", DAY)["rows_set_aside_uri"])
        kept = lake.quarantine(DAY, "2024-08-09").select(["instrument_id", "origin", "line", "text"]).to_pylist()
        files = list(told.parent.iterdir())
        write(path, HEADER + lines[0])
        assert running.run(DAY, assets=["trades"]).clean
        assert "rows_set_aside" not in running.metadata("trades", DAY)
    assert [(row["line"], row["text"]) for row in kept] == [(3, lines[1].strip()), (4, lines[2].strip())]
    assert {(row["instrument_id"], row["origin"]) for row in kept} == {(SYMBOLS[BROKEN], path.name)}
    assert [file.name for file in files] == [f"{SYMBOLS[BROKEN]}.parquet"]
    assert lake.quarantine(DAY, "2024-08-09").num_rows == 0


def test_a_day_without_any_file_fails_and_says_what_the_folder_holds(settings: Settings) -> None:
    with pipeline(settings) as running:
        outcome = running.run("2024-08-07")
    assert not outcome.succeeded
    assert any("no trades on 2024-08-07" in problem and "2024-08-08" in problem for problem in outcome.problems)


def test_a_filter_that_nothing_matches_fails_and_names_the_setting(settings: Settings) -> None:
    from dataclasses import replace

    with pipeline(replace(settings, selection=Selection.of("kraken:*"))) as running:
        outcome = running.run(DAY)
    assert not outcome.succeeded
    assert any("MARKET_DATA_INSTRUMENTS" in problem and "kraken:*" in problem for problem in outcome.problems)


def test_a_folder_that_is_not_there_fails_and_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    with pipeline(Settings(lake=str(tmp_path / "lake"), source="files", source_path=missing)) as running:
        outcome = running.run(DAY)
    assert not outcome.succeeded
    assert any(str(missing) in problem and "MARKET_DATA_SOURCE_PATH" in problem for problem in outcome.problems)


def test_if_nothing_can_be_read_the_run_fails_and_the_lake_keeps_all(folder: Path, settings: Settings) -> None:
    with pipeline(settings) as running:
        assert running.run(DAY).clean
        for symbol in SYMBOLS:
            torn(file_of(folder, *symbol, DAY))
        outcome = running.run(DAY)
    assert not outcome.succeeded
    assert MarketDataLake(settings.lake).candles(None, "1d", DAY, "2024-08-09").num_rows == len(SYMBOLS)


def test_candles_without_any_ticks_say_so(settings: Settings) -> None:
    with pipeline(settings) as running:
        outcome = running.run(DAY, assets=["ohlcv_1m"])
    assert not outcome.succeeded
    assert any("ohlcv_1m" in problem and "nothing" in problem for problem in outcome.problems)


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("2018-12-31", "2019-01-02", "2018-12-31 is no partition"),
        ("2024-08-08", "2124-08-08", "2124-08-08 is no partition"),
        ("2024-08-08", "2024-08-07", "before it starts"),
    ],
)
def test_days_that_are_no_partitions_are_refused(first: str, last: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        require_partitions(Settings(), date.fromisoformat(first), date.fromisoformat(last))


def test_an_unknown_asset_is_refused_with_those_that_exist(settings: Settings) -> None:
    with pipeline(settings) as running, pytest.raises(SettingError, match=r"'ohlcv_2m' is no asset.*ohlcv_1m"):
        selected_assets(running.defs, ["ohlcv_2m"])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MARKET_DATA_INSTRUMENTS", "binance:BTC", "MARKET_DATA_INSTRUMENTS.*venue:TYPE:SYMBOL"),
        ("MARKET_DATA_SOURCE", "kaiko", "MARKET_DATA_SOURCE is 'kaiko'; expected sample or files"),
        ("MARKET_DATA_START", "yesterday", "MARKET_DATA_START.*2024-08-08"),
        ("MARKET_DATA_DAYS_PER_RUN", "0", "MARKET_DATA_DAYS_PER_RUN"),
        ("MARKET_DATA_EMPTY_CANDLES", "spot=maybe", "MARKET_DATA_EMPTY_CANDLES.*spot=flat"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, name: str, value: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Settings.load({name: value}, tmp_path)


def test_rows_of_a_grouped_file_lie_in_the_quarantine_of_their_instruments(folder: Path, settings: Settings) -> None:
    from dataclasses import replace

    path = folder / f"deribit_liquidations_{DAY}_PERPETUALS.csv.gz"
    rows = [("ETH", 1), ("BTC", -1), ("ETH", -2), ("BTC", 3), ("BTC", 0)]
    lines = [ROW.replace("ETH-", f"{asset}-").format(stamp=NOON, price=price) for asset, price in rows]
    write(path, HEADER + "".join(lines))
    lake, eth = MarketDataLake(settings.lake), SYMBOLS[BROKEN]
    btc = eth.replace("ETH", "BTC")

    def kept() -> list[tuple[str, int, str]]:
        found = lake.quarantine(DAY, "2024-08-09", data_type="liquidations")
        return [(row["instrument_id"], row["line"], row["text"] + "\n") for row in found.to_pylist()]

    with pipeline(settings) as running:
        assert running.run(DAY, assets=["liquidations"]).clean
    assert kept() == [(btc, 3, lines[1]), (btc, 6, lines[4]), (eth, 4, lines[2])]
    # the file is mended, but only one instrument is asked for
    write(path, HEADER + lines[0] + lines[3])
    with pipeline(replace(settings, selection=Selection.of(eth))) as running:
        assert running.run(DAY, assets=["liquidations"]).clean
    assert kept() == [(btc, 3, lines[1]), (btc, 6, lines[4])]
