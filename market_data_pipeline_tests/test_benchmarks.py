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


def test_verify_beside_reading_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.verify", "--days", "3", "--instruments", "2", "--runs", "1"]
    done = subprocess.run([*command, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("of reading all") == 3
