"""The measurements run, at a size that takes seconds; what they measure is left to people."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import market_data_pipeline_tests
from benchmarks import scale
from benchmarks.beside import flame
from benchmarks.beside.cases import Case, Contender, Under, nothing
from benchmarks.beside.report import Line, circumstances, into_page, lines
from benchmarks.beside.runner import ContenderFailed, Measured, compare
from benchmarks.beside.table import CASES, THROUGH_DAGSTER

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


def test_what_a_day_asks_of_googles_storage_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "")  # which the count sets for itself
    (one,), (two,) = (scale.counted(instruments, 300, [[date(2024, 8, 1)]]) for instruments in (1, 2))
    # of an instrument: an upload and two copies of its ticks; nine day files and nine month files made of them
    assert (two["writes"] - one["writes"], two["copies"] - one["copies"]) == (19, 2)
    assert two["new objects"] - one["new objects"] == 3 + 9 + 9
    assert two["A"] == two["writes"] + two["copies"] + two["listings"]
    assert two["B"] == two["reads"] + two["looks"]
    assert two["listings"] == one["listings"]
    # copies are made by the server, and send nothing
    assert two["bytes of month files"] < two["bytes in"] < two["bytes of month files"] + two["bytes of day files"]
    # along the line of one, two and three instruments, with a further page for each thousand names
    three = {row: 2 * two[row] - one[row] for row in two}
    table = "\n".join(scale.days_table({1: one, 2: two, 3: three}, 300))
    pages = one["listings"] + (999 * (two["names listed"] - one["names listed"]) + one["names listed"]) / 1_000
    found = re.search(r"^\| listings \|(?: \d+ \|){3} ([\d,]+) ", table, re.MULTILINE)
    assert found
    assert float(found[1].replace(",", "")) == pytest.approx(pages, abs=1)


def test_verify_beside_reading_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.verify", "--days", "3", "--instruments", "2", "--runs", "1"]
    done = subprocess.run([*command, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("of reading all") == 3


NOWHERE, PEERS = Path("nowhere"), ROOT / ".venv-bench" / "bin" / "python"
# the peers' environment is made by `make bench`
ENVIRONMENTS = [NOWHERE, *([PEERS] if PEERS.exists() else [])]
QUICK = [name for name in CASES if name not in THROUGH_DAGSTER]


def beside(tmp_path: Path, names: list[str], peers: Path) -> dict[str, dict[str, Any]]:
    """The cases as they are told in JSON, by name."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.beside", "--size", "small", "--rounds", "1", "--only", ",".join(names)]
    command += ["--peers", str(peers), "--folder", str(tmp_path), "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {case["case"]: case for case in json.loads(figures.read_text())["cases"]}


@pytest.mark.parametrize("peers", ENVIRONMENTS, ids=["alone", "with peers"][: len(ENVIRONMENTS)])
def test_the_lake_beside_others(tmp_path: Path, peers: Path) -> None:
    told = beside(tmp_path, QUICK, peers)
    assert list(told) == QUICK
    for name, case in told.items():
        for contender in CASES[name].contenders:
            figures = case["contenders"][contender.label]
            if contender.peer and peers == NOWHERE:
                assert figures == "no bench environment"
            else:
                assert figures == "not installed for this Python" or min(figures["median"], figures["peak"]) > 0


@pytest.mark.parametrize("name", sorted(THROUGH_DAGSTER))
def test_whole_runs(tmp_path: Path, name: str) -> None:
    told = beside(tmp_path, [name], NOWHERE)
    assert all(figures["median"] > 0 for figures in told[name]["contenders"].values())


def test_a_contender_that_gives_something_else_is_found_out() -> None:
    case = CASES["read-hour"]
    compare(case, {"lake": [3, 1.0], "polars": [3, 1.0 + 1e-12], "decoding alone": None})
    with pytest.raises(ContenderFailed, match=r"read-hour: polars gave \[3, 2.0\], lake \[3, 1.0\]"):
        compare(case, {"lake": [3, 1.0], "polars": [3, 2.0]})


def test_goals_are_judged_by_medians_and_bounds_by_what_they_bound() -> None:
    ours, theirs = Measured([0.001, 0.002, 0.9], peak=10), Measured([0.002] * 3, peak=20)
    case = Case("name", "work", (), {"them": 1.0, "nobody": 0.5}, (Under(0.5, "median"), Under(0.5, "p95")))
    case = replace(
        case, contenders=(Contender("us", nothing), Contender("them", nothing), Contender("nobody", nothing))
    )
    found = list(lines(case, {"us": ours, "them": theirs, "nobody": "not installed for this Python"}))
    assert [(line.ratio, line.met) for line in found] == [(1.0, True), (None, None), (None, True), (None, False)]


def test_the_page_keeps_what_is_not_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    about = circumstances("small", 1, {"polars": "2.1.0"})
    into_page(page, about, [Line("work", "them", "1 ms", "2 ms", 0.5, "≤ 1", True, "1 / 2")], ["a note"])
    text = page.read_text()
    assert text.startswith("before\n<!-- measured: begin -->\n")
    assert text.endswith("- a note\n\n<!-- measured: end -->\nafter\n")
    assert "| work | them | 1 ms | 2 ms | 0.50 | ≤ 1 | yes | 1 / 2 |" in text
    assert "polars 2.1.0" in text
    assert "old" not in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match=r"page\.md lacks the marks"):
        into_page(page, about, [], [])


def test_a_flame_graph_shows_who_was_at_work_and_for_how_long() -> None:
    stacks = [
        "main (benchmarks/beside/profile.py:9);_ours.<locals>.run (benchmarks/beside/candles.py:26);"
        "read (market_data_pipeline/lake/ticks.py:9);0x7f6c (libc.so.6);arrow::Decode(int) (pyarrow/libarrow.so) 6",
        "Thread.run (t.py:1);_WorkItem.run (thread.py:53);_sum (market_data_pipeline/transforms/candles.py:1) 3",
        "Thread.run (threading.py:1);_worker (thread.py:81);_SimpleQueue.get (queue.c:1) 90",
        "_find_and_load (<frozen importlib>:1) 5",
    ]
    whole = flame._Box()
    for frames, samples in flame._worked(stacks):
        flame._add(whole, frames, samples)
    drawn = ElementTree.fromstring("\n".join(flame._drawn("candles", whole)))
    name = {"svg": "http://www.w3.org/2000/svg"}
    assert [title.text for title in drawn.iterfind(".//svg:title", name)] == [
        *("the thread that asks 66.7%", "ticks.read 66.7%", "arrow arrow::Decode 66.7%"),
        *("threads that help 33.3%", "candles._sum 33.3%"),
    ]
    assert [float(box.attrib["width"]) for box in drawn.iterfind(".//svg:rect", name)] == [800.0] * 3 + [400.0] * 2
