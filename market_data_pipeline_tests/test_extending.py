"""What docs/extending.md says to add is added to a copy of the package, and works: half-hour candles, a layout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import market_data_pipeline
from market_data_pipeline import MarketDataLake

PACKAGE = Path(market_data_pipeline.__file__).parent
PROJECT = PACKAGE.parent
ASSETS = "trades,ohlcv_1m,ohlcv_5m,ohlcv_15m,ohlcv_1h"
ONE = {"MARKET_DATA_INSTRUMENTS": "binance:SPOT_PAIR:BTC-USDT"}


def run(folder: Path, package: Path, *arguments: str) -> str:
    """What the command says, with the package that lies in a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MARKET_DATA", "DAGSTER"))}
    done = subprocess.run(
        [sys.executable, "-c", "from market_data_pipeline.cli import main; main()", *arguments],
        cwd=folder,
        env=kept | ONE | {"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """A copy of the package with the two lines of the page."""
    timeframe, layout = re.findall(
        r"^```python\n(\w+\(.*\))\n```$", (PROJECT / "docs" / "extending.md").read_text(), re.MULTILINE
    )
    shutil.copytree(PACKAGE, tmp_path / "copy" / "market_data_pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "copy" / "market_data_pipeline" / "model" / "datasets.py"
    told = table.read_text()
    for line, before in ((timeframe, '        Timeframe("1h",'), (layout, '    Layout(\n        "by_timeframe",')):
        assert told.count(before) == 1
        told = told.replace(before, f"{before[: len(before) - len(before.lstrip())]}{line},\n{before}", 1)
    table.write_text(told)
    return tmp_path / "copy"


def test_the_two_lines_of_the_page_are_all_that_it_takes(tmp_path: Path, extended: Path) -> None:
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    # a day that lay there before comes into the new layout by a repair
    run(tmp_path, PROJECT, "materialize", "2024-08-07", "--assets", ASSETS)
    assert "ohlcv_30m" not in run(tmp_path, PROJECT, "ls")
    mended = run(tmp_path, extended, "repair", "2024-08-07", "2024-08-07")
    assert "by_quote_asset" in mended
    run(tmp_path, extended, "materialize", "2024-08-08", "--assets", f"{ASSETS},ohlcv_30m")
    assert "no difference" in run(tmp_path, extended, "verify", "2024-08-07", "2024-08-08", "--full")
    months = sorted((tmp_path / "data").glob("market-data-candles/daily/by_quote_asset/quote-USDT/*/*/*.parquet"))
    assert [month.name for month in months] == [
        *("ohlcv_15m.parquet", "ohlcv_1h.parquet", "ohlcv_1m.parquet", "ohlcv_30m.parquet", "ohlcv_5m.parquet")
    ]
    rows = run(
        tmp_path, extended, "show", "binance:SPOT_PAIR:BTC-USDT", "2024-08-08", "--timeframe", "30m"
    ).splitlines()
    assert len(rows) == 1 + 48
    quarters = MarketDataLake(tmp_path / "data").candles(None, "15m", "2024-08-08", "2024-08-09").to_pylist()
    first = dict(zip(rows[0].split("\t"), rows[1].split("\t"), strict=True))
    assert float(first["high"]) == max(quarter["high"] for quarter in quarters[:2])
    assert float(first["close"]) == quarters[1]["close"]
