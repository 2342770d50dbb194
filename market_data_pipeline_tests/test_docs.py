"""The documentation tells the truth: settings, commands, columns."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import market_data_pipeline
from market_data_pipeline.cli import main
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.settings import VARIABLES, Settings
from market_data_pipeline.transforms.inputs import INPUTS
from market_data_pipeline.transforms.models import INVERSE_PENALTY
from market_data_pipeline.transforms.signals import Recipe
from market_data_pipeline_tests.defs.running import pipeline

PROJECT = Path(market_data_pipeline.__file__).parents[1]
MAKEFILE = (PROJECT / "Makefile").read_text()


def test_the_table_of_settings_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*?) ?\| (.*) \|$", (PROJECT / "docs" / "settings.md").read_text(), re.MULTILINE
    )
    assert [(name, default.strip("`"), meaning.replace("`", "")) for name, default, meaning in rows] == [
        (variable.name, variable.default, variable.meaning.replace("`", "")) for variable in VARIABLES
    ]


def test_the_example_names_every_setting_with_its_default() -> None:
    lines = re.findall(r"^#(\w+)=(.*)$", (PROJECT / ".env.example").read_text(), re.MULTILINE)
    assert lines == [(variable.name, variable.default) for variable in VARIABLES]


@pytest.mark.parametrize("name", ["technical_features", "fundamental_features"])
def test_the_table_of_features_is_that_of_the_dataset(name: str) -> None:
    title = name.replace("_", " ").capitalize()
    page = (PROJECT / "docs" / "numbers.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) ?\| (.*) \| (\d+) \|$", page, re.MULTILINE)
    features = DATASETS[name].columns[3:]
    assert [tuple(row) for row in rows] == [
        (each.name, each.meaning, each.unit, each.formula, str(each.look_back)) for each in features
    ]
    assert [each.name for each in features if not each.formula] == []


def test_the_tables_of_signals_and_of_their_inputs_are_those_of_the_code() -> None:
    page = (PROJECT / "docs" / "numbers.md").read_text()
    part = page[page.index("## Signals") : page.index("## Instruments")]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) ?\|$", part, re.MULTILINE)
    columns = [(each.name, each.meaning, each.unit) for each in DATASETS["ml_signals"].columns[3:]]
    inputs = [(each.name, ", ".join(f"`{name}`" for name in each.columns), each.how) for each in INPUTS]
    assert rows == columns + inputs
    recipe = Recipe()
    assert f"× √{recipe.horizon} away, and an end after {recipe.horizon} candles" in part.replace("\n", " ")
    assert f"ended {recipe.embargo} candles before" in part.replace("\n", " ")
    assert f"fewer than {recipe.least_rows} labelled candles" in part.replace("\n", " ")
    assert f"from a probability of {0.5 + recipe.threshold:g} on, −1 from {0.5 - recipe.threshold:g} down" in part
    assert f"C = {INVERSE_PENALTY}" in part


def test_the_page_of_datasets_is_that_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, "tools/datasets.py"], cwd=PROJECT, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout == (PROJECT / "docs" / "datasets.md").read_text(encoding="utf-8"), "make docs renews it"


def test_every_make_target_that_is_written_of_exists() -> None:
    targets = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        for target in re.findall(r"(?:^|`)make (\w+)", page.read_text(), re.MULTILINE):
            assert target in targets, f"{page.name} speaks of make {target}"


def test_links_lead_somewhere() -> None:
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


@pytest.fixture(scope="module")
def demo_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake like that of `make demo`."""
    folder = tmp_path_factory.mktemp("demo")
    with pipeline(Settings(lake=str(folder / "data"))) as running:
        outcome = running.run(
            "2024-08-08", assets=["trades", "ohlcv_1m", "ohlcv_5m", "ohlcv_15m", "ohlcv_1h", "technical_features"]
        )
        assert outcome.clean, outcome.problems
        assert running.run("2024-08-08", assets=["available_instruments"]).clean
    return folder


def test_the_readmes_python_runs_as_it_stands(demo_day: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(demo_day)
    results: dict[str, Any] = {}
    # each expression statement of the snippet is a question to the lake
    questions = [part for part in ast.parse(snippet).body if isinstance(part, ast.Expr)]
    exec(snippet, results)
    assert len(questions) == 10
    for question in questions:
        answer = eval(compile(ast.Expression(question.value), "README.md", "eval"), results)
        assert len(answer) > 0, ast.unparse(question)


def test_the_readmes_looks_at_the_lake_run_as_they_stand(demo_day: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo_day)
    commands = re.findall(
        r"^\.venv/bin/market-data ((?:ls|coverage|show|export|sql)\b[^#\n]*)",
        (PROJECT / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(commands) == 5
    for command in commands:
        done = CliRunner().invoke(main, shlex.split(command))
        assert done.exit_code == 0, done.output
        assert len(done.stdout.splitlines()) >= 1
    assert len((demo_day / "candles.csv").read_text().splitlines()) > 24


def test_the_notebook_runs_as_it_stands(demo_day: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((PROJECT / "examples" / "backtest_inputs.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    monkeypatch.chdir(demo_day)
    found: dict[str, Any] = {}
    for cell in cells:
        exec(cell, found)
    assert found["universe"] == list(found["close"].columns)
    assert len(found["close"]) == 24
    assert found["close"].notna().to_numpy().all()
    assert found["earned"].abs().sum() > 0
