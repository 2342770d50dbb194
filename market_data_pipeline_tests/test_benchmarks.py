"""The measurements run, at a size that takes seconds; what they measure is left to people."""

import subprocess
import sys
from pathlib import Path

import pytest

import market_data_pipeline_tests

ROOT = Path(market_data_pipeline_tests.__file__).parent.parent


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (["options", "--rows", "3000", "--instruments", "40"], " 3,000 rows in 40 files x 3 layouts"),
        (["book", "--rows", "2000"], " rows, in order of time"),
        (["day", "--rows", "2000", "--instruments", "8"], "requests: "),
    ],
)
def test_grouped_and_wide_days(tmp_path: Path, what: list[str], said: str) -> None:
    command = [sys.executable, "-m", "benchmarks.grouped", *what, "--runs", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_features_beside_candles() -> None:
    small = ["--instruments", "3", "--trades", "3000", "--books", "500", "--options", "4", "--history", "2"]
    command = [sys.executable, "-m", "benchmarks.features", *small, "--runs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "features and signals / candles: " in done.stdout


def test_the_models_are_compared_on_each_market() -> None:
    command = [sys.executable, "-m", "benchmarks.models", "--seeds", "1", "--runs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for market in ("random walk", "linear", "interaction"):
        assert f"{market}: 1 markets" in done.stdout
    assert done.stdout.count("LogisticRegression") == done.stdout.count("HistGradientBoosting") == 4


def test_verify_beside_reading_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.verify", "--days", "3", "--instruments", "2", "--runs", "1"]
    done = subprocess.run([*command, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("of reading all") == 3
