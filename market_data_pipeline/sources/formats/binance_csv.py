"""Trade files of Binance's public archive as batches of the dataset's own columns.

Format: https://github.com/binance/binance-public-data
"""

from collections.abc import Iterator
from datetime import date
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.model.rows import Rejects
from market_data_pipeline.sources.formats.csv_ticks import Block, Field, Form, typed_blocks
from market_data_pipeline.sources.formats.unpack import Origin, first_line
from market_data_pipeline.sources.formats.usable import (
    Sieve,
    all_rows,
    far_from,
    not_positive,
    sides,
    too_large,
    usable_rows,
)


class Market(StrEnum):
    """The archive's markets; the value is the venue's id."""

    SPOT = "binance"
    UM = "binance-futures"
    CM = "binance-delivery"


_TRADES = DATASETS["trades"]
_FUTURES = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker")
# how each market writes its columns where the file has no header; spot's names are written as in futures
_COLUMNS = {
    Market.SPOT: (*_FUTURES, "is_best_match"),
    Market.UM: _FUTURES,
    Market.CM: ("id", "price", "qty", "base_qty", "time", "is_buyer_maker"),
}
_FIELDS = (
    Field("id", pa.string()),
    Field("price", pa.float64(), required=True),
    Field("qty", pa.float64(), required=True),
    Field("time", pa.int64(), required=True),
    Field("is_buyer_maker", pa.bool_()),
)
_NAMES = {name.replace("_", ""): name for names in _COLUMNS.values() for name in names}
MICROSECONDS_FROM = 10**14
"""Times from this on count microseconds (1973 on), times below milliseconds (until 5138)."""
_MAKER = pa.array(["buy", "sell"])
_SHOWN = 300


def read_binance_trades(path: Origin, market: Market, day: date, rejects: Rejects) -> Iterator[pa.RecordBatch]:
    """Streams one file of trades, in its order.

    With or without a header; milli- or microseconds, told apart by the size of the first block's times. The taker sold
    where the buyer was the maker. Set aside are rows further than a day from the file's day and those
    without a side or with a price or quantity that is not above 0 or is above 1e30.

    Args:
        path: the file.
        market: which market it is of; the columns must fit it.
        day: the file's day.
        rejects: told of what is set aside.

    Yields:
        Batches of the trades' `own_schema`, none of them empty. `local_timestamp` is the exchange's time.

    Raises:
        SourceError: the file is torn, its columns are another market's, a number is none, or no row can be used.
    """
    sieve = Sieve(path, rejects)
    unit = 0
    for block in typed_blocks(path, lambda cells: _form(path, market, cells)):
        unit = unit or _unit(block.rows.column("time"))
        batch = _batch(block, unit, sieve, day)
        if batch.num_rows:
            yield batch
    sieve.finish()


def market_by_columns(path: Origin) -> Market | None:
    """The market that a file's columns tell: 7 are spot, 6 are futures; None for an empty text or other counts.

    Coin-margined files have as many columns as the others: only a header tells them apart (the symbol does as well).

    Raises:
        SourceError: the file cannot be read.
    """
    line = first_line(path)
    if line is None:
        return None
    names = _known(line.split(","))
    if "base_qty" in names:
        return Market.CM
    return {7: Market.SPOT, 6: Market.UM}.get(len(names))


def _known(cells: list[str]) -> tuple[str, ...]:
    """A header's names, in the form that `_COLUMNS` has."""
    return tuple(_NAMES.get(cell.strip().replace("_", "").lower(), cell) for cell in cells)


def _form(path: Origin, market: Market, cells: list[str]) -> Form:
    names = _known(cells)
    if any(cell in _NAMES.values() for cell in names):
        return _named(path, market, names)
    expected = _COLUMNS[market]
    # only spot may have more columns: one more than a futures file's is how a spot file looks
    if len(cells) < len(expected) or (market is not Market.SPOT and len(cells) > len(expected)):
        raise _misfit(path, market, f"{len(cells)} columns in {','.join(cells)[:_SHOWN]!r}")
    spare = tuple(f"column {n}" for n in range(len(expected) + 1, len(cells) + 1))
    return Form((*expected, *spare), _FIELDS, has_header=False)


def _named(path: Origin, market: Market, names: tuple[str, ...]) -> Form:
    for field in _FIELDS:
        if names.count(field.name) != 1:
            what = "stands twice in" if field.name in names else "is missing from"
            raise SourceError(f"{path} line 1: column {field.name!r} {what} the header {','.join(names)[:_SHOWN]!r}")
    found = {name for name in ("is_best_match", "base_qty", "quote_qty") if name in names}
    strange = found - set(_COLUMNS[market])
    if strange or (market is Market.SPOT and "is_best_match" not in names):
        raise _misfit(path, market, f"the header {','.join(names)[:_SHOWN]!r}")
    return Form(names, _FIELDS, has_header=True)


def _misfit(path: Origin, market: Market, found: str) -> SourceError:
    return SourceError(
        f"{path} line 1: taken for trades of {market.value}, expected columns {','.join(_COLUMNS[market])}, found "
        f"{found}; is it of another market? Put it under spot/, um/ or cm/"
    )


def _unit(times: pa.Array) -> int:
    """Microseconds that one unit of the times stands for; the median, since a single row may be wrong."""
    return 1 if np.median(times.to_numpy()) >= MICROSECONDS_FROM else 1000


def _batch(block: Block, unit: int, sieve: Sieve, day: date) -> pa.RecordBatch:
    rows = block.rows
    times = rows.column("time")
    # judged before it is scaled, so that a senseless time cannot overflow into a sensible one
    faults = [far_from(day, times, unit)]
    stamps = pc.multiply(times, unit) if unit > 1 else times
    maker = rows.column("is_buyer_maker").cast(pa.int32())
    side, fault = sides(pa.DictionaryArray.from_arrays(maker, _MAKER))
    price, amount = rows.column("price"), rows.column("qty")
    faults.append(fault)
    for name, values in (("price", price), ("qty", amount)):
        faults += [not_positive(name, values), too_large(name, values)]
    columns = {
        "timestamp": stamps,
        "local_timestamp": stamps,
        "id": rows.column("id"),
        "side": side,
        "price": price,
        "amount": amount,
    }
    return usable_rows(all_rows(_TRADES, columns), sieve, block, faults)
