"""What the guides say is so: their tables and messages are those of the code, and their links lead somewhere."""

import ast
import re
from bisect import bisect_left
from pathlib import Path

import pytest

import market_data_pipeline
from market_data_pipeline.model.datasets import DATASETS, Dataset, Kind
from market_data_pipeline.model.errors import InstrumentError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.layouts import _PATTERNS
from market_data_pipeline.sources.files.mapping import read_mapping
from market_data_pipeline.sources.symbols import VENUES, instrument_of

PROJECT = Path(market_data_pipeline.__file__).parents[1]
DOCS = PROJECT / "docs"
KEY, LAYOUTS = "INSTRUMENT_KEY", "UNIVERSAL_PARTITIONING_STRATEGY"

OF_OTHERS = {"database is locked": "SQLite's own"}
"""Messages of the pages that are not this project's."""
_LEAST = 8
"""Letters of a message that must stand together in the code."""


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


def group(dataset: Dataset) -> str:
    return {Kind.FEATURES: "features", Kind.CANDLES: "candles"}.get(dataset.kind, str(dataset.kind))


def test_the_table_of_layouts_is_that_of_the_datasets() -> None:
    listed = rows(LAYOUTS, "Layouts", columns=4)
    written = [(kind, code(row[1])[0], row[2], code(row[3])[0]) for row in listed for kind in row[0].split(", ")]
    what = {"venue": "a venue", "instrument_type": "a type"}
    what |= {name: f"a {name.replace('_', ' ')}" for name in ("base_asset", "quote_asset")}
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


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_links_to_headings_lead_to_one() -> None:
    found = []
    for page in (PROJECT / "README.md", *DOCS.glob("*.md")):
        for link, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text()):
            target = page.parent / link if link else page
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {link}#{anchor}"
            found.append(anchor)
    assert len(found) > 3
