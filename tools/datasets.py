"""Prints docs/datasets.md: every dataset with its rows, layouts and columns, from the table that declares them.

Usage: python tools/datasets.py > docs/datasets.md
"""

import re
from collections.abc import Iterator, Sequence

from market_data_pipeline.defs.origins import in_words, origins
from market_data_pipeline.model.datasets import DATASETS, QUARANTINE, TEXT, Column, Dataset, Kind
from market_data_pipeline.transforms.signals import Recipe

_LEVEL = re.compile(r"(ask|bid)_(price|amount)_(\d+)")
_SET_ASIDE = "one row of a source's file that was set aside, with the reason"
_BEGINNING = """# Datasets

What lies in the lake, dataset by dataset. This page is made from the table that the code goes by
(`market_data_pipeline/model/datasets.py`): `make docs` renews it, and a test compares.

Every file also has the columns that its path tells, after its own:
{shared};
those of candles `timeframe` as well. Times are UTC, in microseconds. A layout with `{{day}}` in its path has a file a
day, one without it a file a month; `{{dataset}}` stands for the dataset's name.
[UNIVERSAL_PARTITIONING_STRATEGY.md](UNIVERSAL_PARTITIONING_STRATEGY.md) tells which to read when,
[numbers.md](numbers.md) what each number means.
"""


def page() -> str:
    """The whole page."""
    shared = ", ".join(f"`{column.name}`" for column in DATASETS["trades"].partition_columns)
    parts = [_BEGINNING.format(shared=shared)]
    alike: dict[object, list[Dataset]] = {}
    for dataset in (*DATASETS.values(), *QUARANTINE.values()):
        # candles differ in length alone, what was set aside in where it was
        own = "" if dataset.of or dataset.timeframe else dataset.name
        alike.setdefault((dataset.columns, dataset.layouts, own), []).append(dataset)
    parts.extend("\n".join(_section(several)) for several in alike.values())
    return "\n".join(parts)


def _section(several: Sequence[Dataset]) -> Iterator[str]:
    """Some datasets that have the same columns and layouts."""
    dataset = several[0]
    title = [each.name for each in several]
    yield f"## {title[0]}{' and ' if len(title) == 2 else ' to ' if len(title) > 2 else ''}{''.join(title[1:][-1:])}"
    yield ""
    row = _SET_ASIDE if dataset.of else dataset.row
    yield f"{row[0].upper()}{row[1:]}."
    yield ""
    order = " and ".join(f"`{name}`" for name in dataset.order)
    yield f"Kind `{dataset.kind}`, tier `{dataset.tier}`; in order of {order}."
    yield ""
    yield from (f"- `{layout.name}`: `{layout.template}`" for layout in dataset.layouts)
    yield ""
    made_from = {} if dataset.of else origins(dataset, Recipe())
    yield "| column | type | meaning | made from |" if made_from else "| column | type | meaning |"
    yield "| --- | --- | --- | --- |" if made_from else "| --- | --- | --- |"
    for column, name in _columns(dataset):
        told = f"{column.meaning} ({column.unit})" if column.unit else column.meaning
        cells = [f"`{name}`", _type(column), told.replace("|", "\\|")]
        if made_from:
            cells.append(in_words(made_from[column.name]))
        yield f"| {' | '.join(cells)} |"
    yield ""
    if dataset.kind is Kind.CANDLES:
        yield "Longer candles are made from shorter ones, column by column."
        yield ""


def _columns(dataset: Dataset) -> Iterator[tuple[Column, str]]:
    """The columns with their names; those of the levels of a book once for all levels."""
    deepest = max((int(found[3]) for each in dataset.columns if (found := _LEVEL.fullmatch(each.name))), default=0)
    for column in dataset.columns:
        level = _LEVEL.fullmatch(column.name)
        if not level:
            yield column, column.name
        elif level[3] == "1":
            yield column, f"{level[1]}_{level[2]}_1` to `_{deepest}"


def _type(column: Column) -> str:
    kind = "text" if column.type == TEXT else str(column.type).replace("timestamp[us, tz=UTC]", "time")
    return kind if column.nullable else f"{kind}, never null"


if __name__ == "__main__":
    print(page(), end="")
