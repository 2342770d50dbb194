"""The guides tell the truth: their commands are run as they stand, their tables are those of the code."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import market_data_pipeline
from market_data_pipeline.model.datasets import DATASETS, Dataset, Kind
from market_data_pipeline.model.errors import InstrumentError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.layouts import _PATTERNS
from market_data_pipeline.model.windows import microseconds, midnight
from market_data_pipeline.settings import VARIABLES
from market_data_pipeline.sources.files.mapping import read_mapping
from market_data_pipeline.sources.symbols import VENUES, instrument_of
from market_data_pipeline_tests.defs.vendor_days import write_days
from market_data_pipeline_tests.gcs_server import GcsServer
from market_data_pipeline_tests.sources.vendor_days import put_day, text
from market_data_pipeline_tests.sources.vendor_files import TARDIS_HEADER, tardis_line
from market_data_pipeline_tests.sources.vendor_server import VendorServer

PROJECT = Path(market_data_pipeline.__file__).parents[1]
DOCS = PROJECT / "docs"
COMMAND = Path(sys.executable).with_name("market-data")
PAGES = ("how-to", "troubleshooting", "INSTRUMENT_KEY", "UNIVERSAL_PARTITIONING_STRATEGY")
DAYS = [date(2024, 8, 7), date(2024, 8, 8), date(2024, 8, 9)]

NOT_RUN = {
    "gcloud ": "needs Google's tools and an account there",
    ".venv/bin/python -m pip ": "fetches packages from the network",
    ".venv/bin/jupyter ": "opens a browser and stays",
}
"""Commands of the pages that no test can run, by how they begin, and why."""
OPTIONAL = ("duckdb", "polars")
"""Libraries that the pages speak of and the project does not need: without them their files alone are looked for."""
OF_OTHERS = {"database is locked": "SQLite's own"}
"""Messages of the pages that are not this project's."""
_LEAST = 8
"""Letters of a message that must stand together in the code."""


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


def rows(page: str, heading: str = "", columns: int = 2) -> list[list[str]]:
    """The cells of the tables below a heading of a page, without the lines that name the columns."""
    part = (DOCS / f"{page}.md").read_text()
    if heading:
        part = part.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"^\|.*\|\n\| ---.*\|\n((?:\|.*\|\n)+)", part, re.MULTILINE)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for table in tables for row in table.splitlines()]
    return [row for row in cells if len(row) == columns]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


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


def sample_day(folder: Path, _: ExitStack) -> dict[str, str]:
    """A lake with a day of two instruments of the sample, in the place of the one that `make demo` leaves."""
    run(folder, f"make materialize DAY={DAYS[1]}", SAMPLE)
    return SAMPLE


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
    "Bring your own files": own_files,
    "Fetch from Tardis": vendor,
    "Fetch from Binance's archive": vendor,
    "Keep the lake on Google Cloud Storage": bucket,
}
"""What the commands of a section stand on, where it is not a day of the sample."""


@pytest.mark.parametrize("section", SECTIONS, ids=lambda each: f"{each.page}: {each.title}")
def test_what_a_section_says_to_do_can_be_done(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    with ExitStack() as held:
        settings = GROUNDS.get(section.title, sample_day)(tmp_path, held)
        for language, block in section.blocks:
            match language:
                case "sh":
                    for command in commands(block):
                        if not command.startswith(tuple(NOT_RUN)):
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
    assert len(ours) > 40
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


def told_by_the_code() -> list[str]:
    """All texts that the code may say, without docstrings; of f-strings what stands between the values."""
    texts = [(PROJECT / "Makefile").read_text()]
    for path in sorted((PROJECT / "market_data_pipeline").rglob("*.py")):
        tree = ast.parse(path.read_text())
        silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts += [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent
        ]
    return texts


def is_told(message: str, texts: str) -> bool:
    """Whether a message can be put together from texts of the code; `…` stands for anything."""
    return all(_made_of(fragment.strip(), texts) for fragment in message.split("…"))


def _made_of(fragment: str, texts: str) -> bool:
    if fragment in texts:
        return True
    longest = bisect_left(range(len(fragment)), True, key=lambda end: fragment[: end + 1] not in texts)
    cuts = range(min(longest, len(fragment) - _LEAST), _LEAST - 1, -1)
    return any(_made_of(fragment[end:].strip(), texts) for end in cuts)


def messages(page: str) -> list[str]:
    """What stands as code in the first column of a page's tables of messages."""
    part = (DOCS / f"{page}.md").read_text().partition("\n## No error")[0]
    tables = re.findall(
        r"^\| (?:check, or )?(?:message|what you see) .*\n\| ---.*\n((?:\|.*\|\n)+)", part, re.MULTILINE
    )
    return [each for table in tables for row in table.splitlines() for each in code(row.split("|")[1])]


def test_messages_are_those_of_the_code() -> None:
    told, listed = "\n".join(told_by_the_code()), messages("troubleshooting")
    assert len(listed) > 70
    assert [each for each in listed if each not in OF_OTHERS and not is_told(each, told)] == []
    assert not is_told("the lake has no … to make … of; begin with … first", told)


KEY = "INSTRUMENT_KEY"


def test_the_types_and_examples_of_keys_are_those_of_the_code() -> None:
    listed = [[code(cell) for cell in row] for row in rows(KEY, columns=3) if row[0].strip("`") in list(InstrumentType)]
    assert [kind for (kind,), *_ in listed] == [str(kind) for kind in InstrumentType]
    for (kind,), _, (example,) in listed:
        read = Instrument.parse(example)
        assert (read.id, str(read.type)) == (example, kind)


def test_what_is_accepted_is_accepted_and_what_is_refused_is_refused() -> None:
    listed = [(code(row[0])[0], code(row[1])) for row in rows(KEY, "What is accepted, and what is refused")]
    aliases = {alias: ids[0] for alias, ids in listed if ids}
    refused = [written for written, ids in listed if not ids]
    assert (len(aliases), len(refused)) == (5, 14)
    assert {alias: Instrument.parse(alias).id for alias in aliases} == aliases
    for written in refused:
        with pytest.raises(InstrumentError):
            Instrument.parse(written)


def test_symbols_and_venues_are_those_of_the_code(tmp_path: Path) -> None:
    part = (DOCS / f"{KEY}.md").read_text().partition("\n## From a venue's symbol to a key\n")[2]
    listed = [[code(cell)[0] for cell in row] for row in rows(KEY, "From a venue's symbol to a key", columns=3)]
    assert len(listed) > 10
    assert [[venue, symbol, instrument_of(venue, symbol).id] for venue, symbol, _ in listed] == listed
    assert tuple(code(part.partition("There are rules for these venues:")[2].partition("\n\n")[0])) == VENUES
    mapping = tmp_path / "instruments.csv"
    mapping.write_text(part.partition("\n```\n")[2].partition("```")[0])
    declared = read_mapping(mapping)
    assert [str(each) for each in declared.instruments.values()] == [
        "okex-swap:Perp:BTC-USDT",
        "kaiko:SPOT_PAIR:BTC-USD",
    ]
    assert ("kaiko", "XBT-USD") in declared.instruments


def test_selections_mean_what_is_said_of_them() -> None:
    universe = [
        *("binance:SPOT_PAIR:BTC-USDT", "binance:SPOT_PAIR:ETH-USDT", "binance:SPOT_PAIR:BNB-USDT"),
        *("binance-futures:Perp:BTC-USDT", "deribit:Perp:ETH-USD", "deribit:Option:BTC-USD-50000-240927-C"),
        *("deribit:Option:BTC-USD-60000-240927-P", "deribit:Option:ETH-USD-3000-241227-C"),
    ]
    listed = {code(row[0])[0]: row[1] for row in rows(KEY, "Selections")}
    held = {
        glob: [at for at, each in enumerate(universe) if Instrument.parse(each) in Selection.of(glob)]
        for glob in listed
    }
    assert list(held.values()) == [[0], [0], [0, 3], [3, 4], [5, 6], [5, 7], [0, 1]]


LAYOUTS = "UNIVERSAL_PARTITIONING_STRATEGY"


def group(dataset: Dataset) -> str:
    return {Kind.FEATURES: "features", Kind.CANDLES: "candles"}.get(dataset.kind, str(dataset.kind))


def test_the_table_of_layouts_is_that_of_the_datasets() -> None:
    listed = rows(LAYOUTS, "Layouts", columns=4)
    written = [(kind, code(row[1])[0], row[2], code(row[3])[0]) for row in listed for kind in row[0].split(", ")]
    what = {"venue": "a venue", "instrument_type": "a type"}
    declared = set()
    for dataset in DATASETS.values():
        for layout in dataset.layouts:
            of = [what[name] for name in layout.group_fields if name in what]
            whose = "an instrument" if layout.per_instrument else of[0] if of else "everything"
            span = "a day" if layout.daily else "a month"
            path = layout.template[layout.template.index(f"{layout.name}/") :]
            declared.add((group(dataset), layout.name, f"{span} of {whose}", path))
    assert set(written) == declared
    assert len(written) == len(declared)


def test_the_placeholders_are_those_of_the_code() -> None:
    listed = rows(LAYOUTS, "Layouts", columns=3)
    named = [
        (name.strip("{}"), example) for row in listed for name, example in zip(code(row[0]), code(row[2]), strict=False)
    ]
    assert {name.strip("{}") for row in listed for name in code(row[0])} == set(_PATTERNS)
    for name, example in named:
        assert re.fullmatch(_PATTERNS[name], example), f"{example} is no {name}"
