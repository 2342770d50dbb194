"""Days fetched from the vendors' test server, through Dagster into the lake, with everything that may go wrong."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake.stores import open_store
from market_data_pipeline.model.datasets import DATASETS, Kind
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import pipeline
from market_data_pipeline_tests.parity import assert_layouts_agree
from market_data_pipeline_tests.sources.vendor_days import put_day, real_klines, text
from market_data_pipeline_tests.sources.vendor_files import DAY, TARDIS_HEADER, tardis_line
from market_data_pipeline_tests.sources.vendor_server import Fault, VendorServer

BTC, ETH = "binance-futures:Perp:BTC-USDT", "binance-futures:Perp:ETH-USDT"
COMMAND = "from market_data_pipeline.cli import main; main()"


@pytest.fixture
def vendor() -> Iterator[VendorServer]:
    with VendorServer() as server:
        put_day(server)
        yield server


def settings(vendor: VendorServer, folder: Path, source: str, **remote: object) -> Settings:
    return Settings(
        lake=str(folder / "lake"),
        source=source,
        remote=vendor.remote(cache=folder / "cache", **remote),
        selection=Selection.of("binance-futures:*"),
    )


def leftovers(folder: Path) -> list[str]:
    """What a killed or failed run should not have left."""
    return [path.name for path in folder.rglob("*") if path.is_file() and path.suffix in (".part", ".tmp")]


def trades(folder: Path) -> dict[str, int]:
    rows = MarketDataLake(folder / "lake").ticks(None, "trades", "2024-08-08", "2024-08-09")
    counts = rows.group_by("instrument_id").aggregate([([], "count_all")]).to_pydict()
    return dict(zip(counts["instrument_id"], counts["count_all"], strict=True))


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
@pytest.mark.parametrize("source", ["tardis", "binance"])
def test_a_day_comes_from_the_vendor_as_the_exchange_saw_it(
    vendor: VendorServer, tmp_path: Path, source: str, cache_bytes: int
) -> None:
    vendor.faults += [
        Fault("/BTCUSDT", status=503),
        Fault("/BTCUSDT", status=429, headers={"Retry-After": "0"}),
        Fault("/BTCUSDT", times=3, cut=50_000),
    ]
    with pipeline(settings(vendor, tmp_path, source, cache_bytes=cache_bytes)) as running:
        outcome = running.run("2024-08-08", assets=["trades", "ohlcv_1m"])
    if source == "tardis":
        assert outcome.clean, outcome.problems
    else:
        # the archive has the exchange's own candles: the trades begin within the third of them
        (problem,) = outcome.problems
        assert problem.startswith("ohlcv_1m, equals_the_exchanges_own: ")
        assert f"{BTC} on {DAY}: 3 minutes differ" in problem
        told = problem.partition("own: ")[2].partition("own: ")[2].split("; ")
        assert told[:2] == ["23:52 missing here", "23:53 missing here"]
        assert told[2].startswith("23:54 open ")
    candles = MarketDataLake(tmp_path / "lake").candles(BTC, "1m", "2024-08-08T23:55", "2024-08-09").to_pylist()
    truth = [line.split(",") for line in real_klines()][-5:]
    assert [(each["open"], each["high"], each["low"], each["close"], each["trade_count"]) for each in candles] == [
        (*map(float, line[1:5]), int(line[8])) for line in truth
    ]
    assert leftovers(tmp_path) == []


def test_a_whole_day_of_the_vendor_fills_every_type_that_it_has(vendor: VendorServer, tmp_path: Path) -> None:
    with pipeline(settings(vendor, tmp_path, "tardis", cache_bytes=10**9)) as running:
        outcome = running.run("2024-08-08")
        assert outcome.clean, outcome.problems
        assert running.metadata("options_chain", "2024-08-08")["rows"] == 0
    rows = assert_layouts_agree(open_store(tmp_path / "lake"))
    ticks = {"trades", "book_snapshot_5", "book_snapshot_25", "liquidations", "derivative_ticker"}
    assert {name for name in rows if DATASETS[name].kind is Kind.TICKS} == ticks
    found = MarketDataLake(tmp_path / "lake").available_instruments("2024-08-08", observed=True).to_pylist()
    assert {row["instrument_id"]: set(row["observed_data_types"]) for row in found} == {BTC: ticks, ETH: ticks}
    assert {row["known_from"] for row in found} == {"listing"}


def test_one_file_that_fails_leaves_the_others_and_what_the_lake_had(vendor: VendorServer, tmp_path: Path) -> None:
    with pipeline(settings(vendor, tmp_path, "tardis", cache_bytes=10**9)) as running:
        assert running.run("2024-08-08", assets=["trades"]).clean
        assert trades(tmp_path) == {BTC: 21_313, ETH: 3}
        path = "/v1/binance-futures/trades/2024/08/08/BTCUSDT.csv.gz"
        vendor.put(path, vendor.files[path].content[:-1000])
        lines = [TARDIS_HEADER, *(tardis_line(symbol="ETHUSDT", id=n) for n in range(5))]
        vendor.put_tardis("binance-futures", "trades", DAY, "ETHUSDT", text(lines))
        outcome = running.run("2024-08-08", assets=["trades"])
        assert not outcome.clean
        assert f"{vendor.url}{path}: torn or damaged" in " ".join(" ".join(outcome.problems).split())
    assert trades(tmp_path) == {BTC: 21_313, ETH: 5}
    assert leftovers(tmp_path) == []


def test_the_archive_of_one_exchange_leaves_other_venues_alone(vendor: VendorServer, tmp_path: Path) -> None:
    lake = str(tmp_path / "lake")
    deribit = Selection.of("deribit:Perp:*")
    with pipeline(Settings(lake=lake, selection=deribit)) as running:
        assert running.run("2024-08-08", assets=["trades", "ohlcv_1m"]).clean
    remote = vendor.remote(cache=tmp_path / "cache")
    with pipeline(Settings(lake=lake, source="binance", remote=remote)) as running:
        outcome = running.run("2024-08-08", assets=["trades", "ohlcv_1m"])
        assert outcome.succeeded
        # the real trades begin within a minute; the exchange's candles say so, and nothing else is wrong
        (problem,) = outcome.problems
        assert f"{BTC} on 2024-08-08: 3 minutes differ" in problem
    found = set(trades(tmp_path))
    assert "deribit:Perp:BTC-USD" in found
    assert {"binance:SPOT_PAIR:BTC-USDT", "binance-delivery:Perp:BTC-USD", BTC, ETH} < found


def test_a_run_killed_midway_and_started_again(vendor: VendorServer, tmp_path: Path) -> None:
    environment = os.environ | {
        "MARKET_DATA_LAKE": str(tmp_path / "lake"),
        "MARKET_DATA_SOURCE": "tardis",
        "MARKET_DATA_INSTRUMENTS": "binance-futures:*",
        "MARKET_DATA_CACHE": str(tmp_path / "cache"),
        "TARDIS_BASE_URL": vendor.url,
        "TARDIS_API_URL": f"{vendor.url}/api",
        "DAGSTER_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", COMMAND, "materialize", "2024-08-08", "--assets", "trades"]
    stalled = threading.Event()
    vendor.faults.append(Fault("/BTCUSDT.csv.gz", stall=(200_000, stalled)))
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not any(path.stat().st_size for path in (tmp_path / "cache").glob("*.part")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stalled.set()
    assert BTC not in trades(tmp_path)
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert trades(tmp_path) == {BTC: 21_313, ETH: 3}
    assert leftovers(tmp_path / "cache") == []
