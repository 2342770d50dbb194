"""What the guides say to do can be done: their commands and their Python are run as they stand."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import market_data_pipeline
from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.settings import VARIABLES
from market_data_pipeline_tests.defs.vendor_days import write_days
from market_data_pipeline_tests.gcs_server import GcsServer
from market_data_pipeline_tests.sources.vendor_days import put_day, text
from market_data_pipeline_tests.sources.vendor_files import TARDIS_HEADER, tardis_line
from market_data_pipeline_tests.sources.vendor_server import VendorServer

PROJECT = Path(market_data_pipeline.__file__).parents[1]
DOCS = PROJECT / "docs"
COMMAND = Path(sys.executable).with_name("market-data")
PAGES = ("how-to", "sql", "troubleshooting", "INSTRUMENT_KEY", "UNIVERSAL_PARTITIONING_STRATEGY")
DAYS = [date(2024, 8, 7), date(2024, 8, 8), date(2024, 8, 9)]

NOT_RUN = {
    "gcloud ": "needs Google's tools and an account there",
    ".venv/bin/python -m pip ": "fetches packages from the network",
    ".venv/bin/jupyter ": "opens a browser and stays",
}
"""Commands of the pages that no test can run, by how they begin, and why."""
GNU = "date -u -d "
"""What only GNU's tools know, as the page says: run on Linux alone."""
OPTIONAL = ("polars",)
"""Libraries that the pages speak of and the project does not need: without them their files alone are looked for."""


@dataclass(frozen=True)
class Section:
    """A part of a page under one heading, with its fenced blocks: their languages and texts."""

    page: str
    title: str
    blocks: tuple[tuple[str, str], ...]


def sections() -> Iterator[Section]:
    for page in PAGES:
        for part in re.split(r"^(?=## )", (DOCS / f"{page}.md").read_text(), flags=re.MULTILINE):
            title = part.partition("\n")[0].removeprefix("## ") if part.startswith("## ") else ""
            blocks = re.findall(r"^```(\w+)\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
            if blocks:
                yield Section(page, title, tuple(blocks))


SECTIONS = list(sections())


def commands(block: str) -> list[str]:
    """The lines of a block; one that ends in a backslash goes on in the next."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def can_be_run(command: str) -> bool:
    return not command.startswith(tuple(NOT_RUN)) and (GNU not in command or sys.platform == "linux")


def project_folder(folder: Path) -> None:
    """What a checkout has after `make install`, with the commands of the running environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "dagster.yaml"):
        shutil.copy2(PROJECT / name, folder)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/market-data").symlink_to(COMMAND)
    (folder / ".venv/.installed").touch()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment without what steers the project, or a `make` that runs the tests; and some settings."""
    steering = ("MARKET_DATA", "DAGSTER", "TARDIS", "BINANCE", "STORAGE", "GOOGLE", "MAKE", "MFLAGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return kept | {"PYTHONPATH": str(PROJECT)} | settings


def run(folder: Path, command: str, settings: Mapping[str, str]) -> str:
    """What a command of a page says when a shell runs it in a project's folder; it must end well, and say something."""
    line = ["bash", "-euo", "pipefail", "-c", command.replace("/path/to/", f"{folder}/")]
    done = subprocess.run(line, cwd=folder, env=environment(settings), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert done.stdout.strip(), f"{command} says nothing\n{done.stderr}"
    return done.stdout


Ground = Callable[[Path, ExitStack], dict[str, str]]
"""Prepares a folder for the commands of a section; the settings that they need beside those of the page."""

SAMPLE = {"MARKET_DATA_INSTRUMENTS": "binance:SPOT_PAIR:BTC-USDT,deribit:Perp:BTC-USD"}


@pytest.fixture(scope="module")
def sample_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a day of two instruments of the sample, to be copied: what `make demo` leaves, but smaller."""
    folder = tmp_path_factory.mktemp("sample")
    project_folder(folder)
    run(folder, f"make materialize DAY={DAYS[1]}", SAMPLE)
    return folder / "data"


def nothing(_: Path, __: ExitStack) -> dict[str, str]:
    """The sample without a lake: one instrument that trades seldom."""
    return {"MARKET_DATA_INSTRUMENTS": "deribit:Option:BTC-USD-52000-240927-C"}


def own_files(folder: Path, _: ExitStack) -> dict[str, str]:
    write_days(folder / "folder", DAYS)
    return {}


def vendor(_: Path, held: ExitStack) -> dict[str, str]:
    """Both vendors' servers, with a few trades of three days beside what they always have."""
    server = held.enter_context(VendorServer())
    put_day(server)
    server.key = "your-key"
    for exchange, symbol in (("deribit", "BTC-PERPETUAL"), ("binance", "BTCUSDT")):
        for day in (date(2024, 8, 1), *DAYS[:2]):
            stamps = [microseconds(midnight(day)) + minute * 60_000_000 for minute in (600, 601, 602)]
            lines = [
                tardis_line(exchange=exchange, symbol=symbol, id=at, timestamp=at, local_timestamp=at) for at in stamps
            ]
            server.put_tardis(exchange, "trades", day, symbol, text([TARDIS_HEADER, *lines]))
    return {
        "TARDIS_BASE_URL": server.url,
        "TARDIS_API_URL": f"{server.url}/api",
        "BINANCE_BASE_URL": server.url,
        "BINANCE_LIST_URL": f"{server.url}/bucket",
    }


def bucket(_: Path, held: ExitStack) -> dict[str, str]:
    """Google Cloud Storage with the bucket that the page has made."""
    server = GcsServer().start()
    held.callback(server.stop)
    made = Request(
        f"{server.url}/storage/v1/b?project=test", b'{"name": "my-bucket"}', {"Content-Type": "application/json"}
    )
    urlopen(made, timeout=20).close()
    return {"STORAGE_EMULATOR_HOST": server.url, "MARKET_DATA_INSTRUMENTS": "deribit:Option:BTC-USD-52000-*"}


GROUNDS: dict[str, Ground] = {
    "Backfill a range": nothing,
    "Ranges and backfills": nothing,
    "Runs": nothing,
    "Bring your own files": own_files,
    "Fetch from Tardis": vendor,
    "Fetch from Binance's archive": vendor,
    "Keep the lake on Google Cloud Storage": bucket,
}
"""What the commands of a section stand on, where it is not the sample's lake."""


@pytest.mark.parametrize("section", SECTIONS, ids=lambda each: f"{each.page}: {each.title}")
def test_what_a_section_says_to_do_can_be_done(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    project_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    with ExitStack() as held:
        if ground := GROUNDS.get(section.title):
            settings = ground(tmp_path, held)
        else:
            settings = SAMPLE
            # linked: what the lake holds is replaced, never written over
            shutil.copytree(request.getfixturevalue("sample_lake"), tmp_path / "data", copy_function=os.link)
        for language, block in section.blocks:
            match language:
                case "sh":
                    for command in commands(block):
                        if can_be_run(command):
                            run(tmp_path, command, settings)
                case "ini":
                    with (tmp_path / ".env").open("a") as stored:
                        stored.write(block.replace("/path/to/", f"{tmp_path}/"))
                case "python":
                    check_python(block)
                case _:
                    pytest.fail(f"{section.page}, {section.title}: nobody knows how to test a block of {language}")


def check_python(block: str) -> None:
    """Runs a block; what follows `# →` after an expression is its value."""
    parts = ast.parse(block).body
    lacking = [name for name in OPTIONAL if f"import {name}" in block and not importlib.util.find_spec(name)]
    if lacking:
        patterns = re.findall(r'"(data/[^"]+)"', block)
        assert patterns
        assert all(list(Path().glob(pattern)) for pattern in patterns)
        return
    lines, found = block.splitlines(), dict[str, object]()
    for part in parts:
        source = ast.get_source_segment(block, part) or ""
        if not isinstance(part, ast.Expr):
            exec(source, found)
            continue
        value = eval(source, found)
        if (told := lines[(part.end_lineno or 1) - 1].partition("# → ")[2]) or "→" in source:
            assert repr(value) == told, source


def test_what_is_not_run_is_there_and_all_else_is_a_command() -> None:
    written = [
        line for each in SECTIONS for language, block in each.blocks if language == "sh" for line in commands(block)
    ]
    for beginning in NOT_RUN:
        assert any(line.startswith(beginning) for line in written), f"no page has {beginning!r} any more"
    ours = [line for line in written if line.startswith((".venv/bin/market-data ", "make "))]
    assert len(ours) > 35
    assert [line for line in written if line not in ours and not line.startswith(tuple(NOT_RUN))] == []


def test_settings_that_are_to_go_into_the_file_of_settings_are_settings() -> None:
    known = {variable.name for variable in VARIABLES}
    named = [
        line.partition("=")[0]
        for each in SECTIONS
        for language, block in each.blocks
        if language == "ini"
        for line in block.splitlines()
    ]
    assert len(named) > 5
    assert set(named) <= known
