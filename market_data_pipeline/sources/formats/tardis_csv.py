"""Tardis CSV files (all six tick datasets) as batches of the dataset's own columns; `grouped` splits those of many.

Format: https://docs.tardis.dev/downloadable-csv-files
"""

import re
from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.datasets import TEXT, TIME, Column, Dataset
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.sources.formats.csv_ticks import Block, Field, Form, typed_blocks
from market_data_pipeline.sources.formats.unpack import Origin
from market_data_pipeline.sources.formats.usable import (
    Fault,
    Sieve,
    all_rows,
    far_from,
    not_positive,
    sides,
    too_large,
    unlike,
    usable_rows,
)
from market_data_pipeline.sources.symbols import file_symbol

_LEVEL = re.compile(r"(ask|bid)_(price|amount)_([0-9]+)")
_EVENTS = ("trades", "liquidations")
_SHOWN = 500
_VOLATILITIES = ("bid_iv", "ask_iv", "mark_iv")
_PERCENT = {"okex-options": 100.0, "binance-european-options": 100.0}
"""What a unit of a venue's implied volatilities is in percent: these tell fractions, which the vendor hands on as they
come (the mappers of https://github.com/tardis-dev/tardis-node). All others are taken to tell percent, as Deribit
does."""


def vendor_name(column: str) -> str:
    """What Tardis calls a column of ours: `ask_price_1` is `asks[0].price`; the others have the same name."""
    match = _LEVEL.fullmatch(column)
    return f"{match[1]}s[{int(match[3]) - 1}].{match[2]}" if match else column


def read_tardis(
    path: Origin, dataset: Dataset, day: date, exchange: str, symbol: str, rejects: Rejects
) -> Iterator[pa.RecordBatch]:
    """Streams one file, in its order.

    Set aside are rows of another exchange or symbol, rows further than a day from the file's day, and in
    trades and liquidations those without a side or with a price or amount that is not above 0 or is above 1e30. Columns
    may stand in any order; unknown ones are ignored.

    Args:
        path: the file.
        dataset: which tick dataset it holds.
        day: the file's day.
        exchange: the vendor's exchange id, as in the file's name.
        symbol: the symbol as in the file's name.
        rejects: told of what is set aside.

    Yields:
        Batches of `dataset.own_schema`, none of them empty.

    Raises:
        SourceError: the file is torn, a column is missing, a number is none, or no row can be used.
    """
    sieve = Sieve(path, rejects)
    for block in tardis_blocks(path, dataset):
        rows, faults = own_rows(block, dataset, day, exchange)
        symbols = block.rows.column("symbol")
        foreign = unlike("symbol", symbols, lambda text: file_symbol(text) == file_symbol(symbol), symbol)
        batch = usable_rows(rows, sieve, block, [foreign, *faults])
        if batch.num_rows:
            yield batch
    sieve.finish()


def tardis_blocks(path: Origin, dataset: Dataset) -> Iterator[Block]:
    """Streams a file's rows, typed, with the columns `exchange`, `symbol` and the vendor's names of the dataset's own.

    Raises:
        SourceError: the file is torn, a column is missing, or a number is none.
    """
    return typed_blocks(path, lambda header: _form(path, dataset, header))


def own_rows(block: Block, dataset: Dataset, day: date, exchange: str) -> tuple[pa.RecordBatch, list[Fault | None]]:
    """All rows of a block as the dataset's own columns, and what is wrong with some of them.

    Args:
        block: one of `tardis_blocks`.
        dataset: which tick dataset it holds.
        day: the file's day.
        exchange: the vendor's exchange id, as in the file's name.
    """
    columns = {column.name: block.rows.column(vendor_name(column.name)) for column in dataset.columns}
    if exchange in _PERCENT and dataset.name == "options_chain":
        columns |= {name: pc.multiply(columns[name], _PERCENT[exchange]) for name in _VOLATILITIES}
    faults = [
        unlike("exchange", block.rows.column("exchange"), exchange.__eq__, exchange),
        far_from(day, columns["timestamp"], 1),
    ]
    if dataset.name in _EVENTS:
        columns["side"], fault = sides(columns["side"])
        faults.append(fault)
        for name in ("price", "amount"):
            faults += [not_positive(name, columns[name]), too_large(name, columns[name])]
    return all_rows(dataset, columns), faults


def _form(path: Origin, dataset: Dataset, header: list[str]) -> Form:
    fields = (Field("exchange", TEXT), Field("symbol", TEXT), *(_field(dataset, column) for column in dataset.columns))
    for field in fields:
        if header.count(field.name) != 1:
            what = "stands twice in" if field.name in header else "is missing from"
            raise SourceError(f"{path} line 1: column {field.name!r} {what} the header {','.join(header)[:_SHOWN]!r}")
    return Form(tuple(header), fields, has_header=True)


def _field(dataset: Dataset, column: Column) -> Field:
    required = not column.nullable and column.name != "side"  # an empty one is unknown
    return Field(vendor_name(column.name), pa.int64() if column.type == TIME else column.type, required)
