"""The command line in processes of its own, as `make` calls it."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

import market_data_pipeline
from market_data_pipeline import MarketDataLake
from market_data_pipeline.cli import main
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline_tests.defs.test_alerts import hook
from market_data_pipeline_tests.defs.vendor_days import HEADER, file_of, write, write_days
from market_data_pipeline_tests.parity import assert_layouts_agree

PROJECT = Path(market_data_pipeline.__file__).parents[1]
COMMAND = Path(sys.executable).with_name("market-data")
DAY = date(2024, 8, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to work in: what the command needs of the project's."""
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    return tmp_path


def command(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MARKET_DATA", "DAGSTER"))}
    return subprocess.run(
        [COMMAND, *arguments], cwd=folder, env=kept | settings, capture_output=True, text=True, check=False
    )


def test_demo_shows_a_day_and_records_it(folder: Path) -> None:
    done = command(folder, "demo")
    assert done.returncode == 0, done.stderr
    for text in ("trades", "by_instrument_id", "available_instruments", "15m, 2024-08-08 UTC", "What to type next"):
        assert text in done.stdout
    assert done.stderr == ""
    (home,) = (folder / ".dagster").iterdir()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for asset in ("trades", "ohlcv_1d", "available_instruments"):
            assert instance.get_materialized_partitions(dg.AssetKey(asset)) == {"2024-08-08"}
    assert_layouts_agree(open_store(folder / "data"))


def test_what_fails_ends_with_a_status_and_a_message_and_shows_what_landed(folder: Path) -> None:
    files = folder / "files"
    write_days(files, [DAY])
    path = file_of(files, "binance", "ETHUSDT", DAY)
    path.write_bytes(path.read_bytes()[:-20])
    dropped = file_of(files, "binance", "BTCUSDT", DAY)
    row = "binance,BTCUSDT,1723118400000000,,{price},buy,{price},1\n"
    write(dropped, HEADER + "".join(row.format(price=price) for price in (7, 8, -1)))
    done = command(folder, "materialize", str(DAY), MARKET_DATA_SOURCE="files", MARKET_DATA_SOURCE_PATH=str(files))
    assert (done.returncode, done.stderr) == (1, "")
    # one line each, however long: the broken file with the remedy, and the row that was set aside
    assert [line for line in done.stdout.splitlines() if line.startswith("✗") and str(path) in line and "torn" in line]
    assert [line for line in done.stdout.splitlines() if "rows set aside: 1, " in line and f"{dropped} line 4" in line]
    assert "by_instrument_id" in done.stdout
    assert MarketDataLake(folder / "data").candles(None, "1d", DAY, "2024-08-09").num_rows == 4


def test_a_run_that_fails_says_why_in_words_alone(folder: Path) -> None:
    files = folder / "files"
    write_days(files, [DAY])
    done = command(folder, "materialize", "2024-08-07", MARKET_DATA_SOURCE="files", MARKET_DATA_SOURCE_PATH=str(files))
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("✗ trades: trades on 2024-08-07: nothing could be read")
    assert len(lines) <= 4, done.stdout


def test_a_file_of_the_lake_that_is_no_parquet_is_named(folder: Path) -> None:
    settings = {"MARKET_DATA_INSTRUMENTS": "deribit:Option:*-240830-c"}
    assert command(folder, "materialize", str(DAY), "--assets", "trades", **settings).returncode == 0
    broken = next((folder / "data").rglob("by_date/**/*.parquet"))
    broken.unlink()
    broken.write_bytes(b"junk")
    done = command(folder, "materialize", str(DAY), "--assets", "ohlcv_1m", **settings)
    assert done.returncode == 1
    assert str(broken) in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_verify_repair_and_adopt_end_with_a_status_that_says_what_they_found(folder: Path) -> None:
    some = {"MARKET_DATA_INSTRUMENTS": "binance:*:ETH-USDT"}
    assert command(folder, "materialize", str(DAY), "--assets", "trades,ohlcv_1m", **some).returncode == 0
    whole = command(folder, "verify", str(DAY), str(DAY), "--full")
    assert (whole.returncode, whole.stderr) == (0, "")
    assert "every row: no differences" in whole.stdout
    copy = next((folder / "data").rglob("by_venue/**/data_type-trades/*.parquet"))
    copy.unlink()
    stray = folder / "data" / "market-data-candles" / "year=2024" / "candles.parquet"
    stray.parent.mkdir()
    stray.write_bytes(b"x")
    found = command(folder, "verify", str(DAY), str(DAY))
    assert found.returncode == 1
    # a line each, however long
    assert [line for line in found.stdout.splitlines() if str(copy) in line and "nothing lies here" in line]
    assert [line for line in found.stdout.splitlines() if str(stray) in line and "Hive-style" in line]
    assert command(folder, "verify", str(DAY), str(DAY), "--dataset", "ohlcv_1m").stdout.count("✗") == 1
    mended = command(folder, "repair", str(DAY), str(DAY))
    assert mended.returncode == 1
    assert "1 mended, 1 left" in mended.stdout
    assert copy.exists()
    stray.unlink()
    assert command(folder, "verify", str(DAY), str(DAY)).returncode == 0
    shutil.rmtree(folder / ".dagster")
    taken = command(folder, "adopt", "2024-08-07", "2024-08-09")
    assert (taken.returncode, taken.stderr) == (0, ""), taken.stdout
    assert "✓ trades: 1 days from 2024-08-08 to 2024-08-08" in taken.stdout
    (home,) = (folder / ".dagster").iterdir()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("ohlcv_1m")) == {str(DAY)}
    for path in (folder / "data").rglob("data_type-trades/*.parquet"):
        path.unlink()
    assert command(folder, "repair", str(DAY), str(DAY)).returncode == 1
    forgotten = command(folder, "repair", str(DAY), str(DAY), "--forget")
    assert (forgotten.returncode, forgotten.stderr) == (0, "")
    assert "it is forgotten: out of the record and the month files" in forgotten.stdout
    assert command(folder, "verify", str(DAY), str(DAY), "--full").returncode == 0


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command(folder, "dev", "--port", str(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert f"make dev PORT={port + 1}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "said"),
    [
        (["materialize", "2024-13-01"], {}, 2, "2024-08-08"),
        (["materialize", "2018-01-01"], {}, 1, "2018-01-01 is no partition"),
        (["materialize", "2024-08-08", "--assets", "ohlcv_2m"], {}, 1, "'ohlcv_2m' is no asset"),
        (["materialize", "2024-08-08"], {"MARKET_DATA_SOURCE": "kaiko"}, 1, "MARKET_DATA_SOURCE is 'kaiko'"),
        (["materialize", "2024-08-08"], {"MARKET_DATA_LAKE": "s3://bucket"}, 1, "s3://bucket"),
        (["backfill", "2024-08-08", "2024-08-07"], {}, 1, "before it starts"),
        (["materialize", "2024-08-08", "--assets", " , "], {}, 1, "names no asset"),
        (["dev", "--port", "99999"], {}, 2, "99999"),
        (["verify", "2024-08-08", "2024-08-07"], {}, 1, "before it starts"),
        (["repair", "2024-08-08", "2024-08-08", "--dataset", "ohlcv_2m"], {}, 1, "'ohlcv_2m' is no dataset"),
        (["adopt", "2018-01-01", "2018-01-01"], {}, 1, "2018-01-01 is no partition"),
    ],
)
def test_wrong_input_is_named(
    folder: Path, arguments: list[str], settings: dict[str, str], status: int, said: str
) -> None:
    done = command(folder, *arguments, **settings)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert said in done.stderr


def test_a_backfill_in_slices_is_one_run_for_each(folder: Path) -> None:
    done = command(
        folder, "backfill", "2024-08-01", "2024-08-05", "--assets", "trades", MARKET_DATA_DAYS_PER_RUN="2",
        MARKET_DATA_INSTRUMENTS="deribit:Option:*",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("done (run") == 3


def test_a_backfill_of_what_is_missing_runs_these_days_alone(folder: Path) -> None:
    asked = ("--assets", "trades,ohlcv_1m", "--missing")
    only = {"MARKET_DATA_INSTRUMENTS": "deribit:Option:BTC-USD-52000-*"}
    assert command(folder, "materialize", "2024-08-02", "--assets", "trades,ohlcv_1m", **only).returncode == 0
    assert command(folder, "materialize", "2024-08-05", "--assets", "trades", **only).returncode == 0
    done = command(folder, "backfill", "2024-08-01", "2024-08-05", *asked, **only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2024-08-01 to 2024-08-05: 4 days are missing" in done.stdout
    assert [line.partition(": done")[0] for line in done.stdout.splitlines() if "done (run" in line] == [
        *("2024-08-01", "2024-08-03 to 2024-08-04"),  # trades
        *("2024-08-01", "2024-08-03 to 2024-08-05"),  # candles
    ]
    again = command(folder, "backfill", "2024-08-01", "2024-08-05", *asked, **only)
    assert (again.returncode, again.stdout) == (0, "2024-08-01 to 2024-08-05: 0 days are missing\n")


def test_several_at_once_on_one_lake(folder: Path) -> None:
    days = ["2024-08-07", "2024-08-08", "2024-08-09"]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda day: command(folder, "materialize", day), days))
    assert [each.returncode for each in done] == [0, 0, 0], [each.stdout + each.stderr for each in done]
    rows = assert_layouts_agree(open_store(folder / "data"))
    assert rows["ohlcv_1d"] == MarketDataLake(folder / "data").candles(None, "1d", days[0], "2024-08-10").num_rows


def test_a_backfill_of_what_is_missing_runs_days_on_which_an_instrument_failed(folder: Path) -> None:
    files = folder / "files"
    write_days(files, [DAY, DAY + timedelta(days=1)])
    broken = file_of(files, "binance", "ETHUSDT", DAY)
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-20])
    source = {"MARKET_DATA_SOURCE": "files", "MARKET_DATA_SOURCE_PATH": str(files)}
    asked = ("backfill", "2024-08-08", "2024-08-09", "--assets", "trades,ohlcv_1m")
    assert command(folder, *asked, **source).returncode == 1
    again = command(folder, *asked, "--missing", **source)
    assert again.returncode == 1
    assert "1 days are missing" in again.stdout
    broken.write_bytes(whole)
    assert command(folder, *asked, "--missing", **source).returncode == 0
    assert "0 days are missing" in command(folder, *asked, "--missing", **source).stdout


def test_a_run_that_failed_is_told_to_the_webhook_by_the_command_itself(folder: Path) -> None:
    (folder / "files").mkdir()
    settings = {"MARKET_DATA_SOURCE": "files", "MARKET_DATA_SOURCE_PATH": str(folder / "files")}
    with hook() as server:
        done = command(folder, "materialize", "2024-08-08", MARKET_DATA_WEBHOOK=server.url, **settings)
        assert done.returncode == 1
        (text,) = server.told
        assert text.startswith("Market data: the run of 2024-08-08 failed (")
        assert "nothing could be read" in text
    with hook(404) as server:
        done = command(folder, "materialize", "2024-08-08", MARKET_DATA_WEBHOOK=server.url, **settings)
        assert "! nobody was told: 127.0.0.1: answered 404" in done.stdout


def test_a_killed_backfill_of_a_month_goes_on_with_the_days_that_are_missing(folder: Path) -> None:
    settings = {"MARKET_DATA_DAYS_PER_RUN": "4", "MARKET_DATA_INSTRUMENTS": "binance:SPOT_PAIR:BTC-USDT"}
    asked = ("backfill", "2024-07-01", "2024-07-31", "--assets", "trades,ohlcv_1m")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MARKET_DATA", "DAGSTER"))}
    killed = subprocess.Popen(
        [COMMAND, *asked], cwd=folder, env=environment | settings, stdout=subprocess.PIPE, text=True
    )
    ended = 0
    for line in killed.stdout:  # until some runs have ended, and in the middle of the next
        ended += ": done" in line
        if ended == 3:
            break
    killed.kill()
    killed.wait()
    killed.stdout.close()
    (home,) = (folder / ".dagster").iterdir()

    def runs_of() -> dict[str, set[str]]:
        """The days of each run's trades."""
        with dg.DagsterInstance.from_config(str(home)) as instance:
            records = instance.fetch_materializations(dg.AssetKey("trades"), 1_000).records
            found: dict[str, set[str]] = {}
            for record in records:
                found.setdefault(record.run_id, set()).add(record.partition_key)
            return found

    before = runs_of()
    made = set().union(*before.values())
    assert 12 <= len(made) < 31
    again = command(folder, *asked, "--missing", **settings)
    assert again.returncode == 0, again.stderr
    after = [day for run, days in runs_of().items() if run not in before for day in days]
    assert len(after) == len(set(after)) == 31 - len(made)
    assert made.isdisjoint(after)
    lake = MarketDataLake(folder / "data")
    assert lake.candles(None, "1m", "2024-07-01", "2024-08-01").num_rows == 31 * 1440
    assert "0 days are missing" in command(folder, *asked, "--missing", **settings).stdout


def test_the_examples_of_the_help_are_commands_with_their_options() -> None:
    told = CliRunner().invoke(main, ["--help"]).output
    examples = [shlex.split(line)[1:] for line in told.splitlines() if line.startswith("    market-data ")]
    assert {example[0] for example in examples} <= main.commands.keys()
    assert len(examples) == 6
    for name, *arguments in examples:
        options = {each for option in main.commands[name].params for each in option.opts}
        assert {argument for argument in arguments if argument.startswith("--")} <= options
    for command in main.commands.values():
        assert "..." not in command.get_short_help_str(45)
