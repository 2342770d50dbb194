"""What must hold for ticks and candles, whoever made them. Each law that is broken is named, with the first place."""

import math
from collections.abc import Iterator
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.model.datasets import TIME, Timeframe
from market_data_pipeline.model.windows import DAY, microseconds, midnight

TICK_COLUMNS = ("timestamp", "side", "price", "amount")
"""The columns that the laws of ticks look at, as far as a dataset has them; others of numbers are looked at, too."""
SIDES = ("buy", "sell", "unknown")


def broken_tick_laws(ticks: pa.Table, day: date) -> list[str]:
    """The laws that one day file of ticks breaks.

    Times lie within a day of the file's day (vendors cut by their own clock); a side is one of SIDES; prices and
    amounts are above zero, and every number is finite (what is not known is null).

    Args:
        ticks: rows with those of TICK_COLUMNS that the dataset has, or more of its columns.
        day: the file's day.
    """
    near = (midnight(day) - DAY, midnight(day) + 2 * DAY)
    stamps = ticks.column("timestamp")
    checks = {
        f"every timestamp lies within a day of {day}": pc.and_kleene(
            pc.greater_equal(stamps, pa.scalar(near[0], TIME)), pc.less(stamps, pa.scalar(near[1], TIME))
        )
    }
    if "side" in ticks.column_names and (known := _known_sides(ticks.column("side"))) is not None:
        checks[f"side is one of {', '.join(SIDES)}"] = known
    for field in ticks.schema:
        column = ticks.column(field.name)
        if field.name in ("price", "amount"):
            checks[f"{field.name} is above zero and finite"] = pc.and_(pc.greater(column, 0), pc.less(column, math.inf))
        elif pa.types.is_floating(field.type):
            checks[f"{field.name} is finite"] = pc.is_finite(column)
    return list(_broken(ticks, checks))


def _known_sides(sides: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Which sides are known, by a look at each text of the dictionaries instead of each row; None where all are."""
    chunks = [chunk.dictionary_encode() for chunk in sides.chunks]
    known = [pc.is_in(chunk.dictionary, pa.array([*SIDES, None], pa.string())) for chunk in chunks]
    if all(pc.all(texts).as_py() for texts in known):
        return None
    return pa.chunked_array([texts.take(chunk.indices) for texts, chunk in zip(known, chunks, strict=True)])


def broken_candle_laws(candles: pa.Table, day: date, timeframe: Timeframe) -> list[str]:
    """The laws that one instrument's candles of a day break.

    Times rise, lie inside the day and on the timeframe's grid; low ≤ open, close ≤ high; volumes and counts are not
    negative, and buys are part of them.

    Args:
        candles: rows with the own columns of a candle dataset.
        day: the day, UTC.
        timeframe: the candles' length.
    """
    stamps = candles.column("timestamp").cast(pa.int64())
    start, length = microseconds(midnight(day)), timeframe.microseconds
    low, high, opened, close = (candles.column(name) for name in ("low", "high", "open", "close"))
    volume, bought = candles.column("volume"), candles.column("buy_volume")
    # sums of floats: what was bought may differ from the volume by rounding alone
    slack = pc.add(pc.multiply(volume, 1e-9), 1e-12)
    offsets = pc.subtract(stamps, start)
    checks = {
        f"every candle opens inside {day}": pc.and_kleene(
            pc.greater_equal(offsets, 0), pc.less(offsets, microseconds(midnight(day) + DAY) - start)
        ),
        f"every candle opens on the grid of {timeframe.name}": pc.equal(
            pc.multiply(pc.divide(offsets, length), length), offsets
        ),
        "close_time is the open plus the timeframe": pc.equal(
            pc.add(stamps, length), candles.column("close_time").cast(pa.int64())
        ),
        "low <= open <= high": pc.and_kleene(pc.less_equal(low, opened), pc.less_equal(opened, high)),
        "low <= close <= high": pc.and_kleene(pc.less_equal(low, close), pc.less_equal(close, high)),
        "volume >= 0": pc.greater_equal(volume, 0),
        "0 <= buy_volume <= volume": pc.and_kleene(
            pc.greater_equal(bought, 0), pc.less_equal(bought, pc.add(volume, slack))
        ),
        "trade_count >= 0": pc.greater_equal(candles.column("trade_count"), 0),
    }
    if candles.num_rows > 1:
        rises = pc.greater(stamps.slice(1), stamps.slice(0, candles.num_rows - 1)).combine_chunks()
        first = pa.array([True])
        checks["times rise"] = pa.chunked_array(
            [first, *(rises.chunks if isinstance(rises, pa.ChunkedArray) else [rises])]
        )
    return list(_broken(candles, checks))


def _broken(rows: pa.Table, checks: "dict[str, pa.ChunkedArray]") -> Iterator[str]:
    for law, holds in checks.items():
        # a null price (an empty candle) breaks no law; beside a false half of a law it doesn't hide it
        where = pc.index(holds, pa.scalar(False)).as_py()
        if where >= 0:
            count = pc.sum(pc.invert(holds)).as_py()
            yield f"{law}: broken by {count} of {rows.num_rows} rows, first at {_at(rows.column('timestamp')[where])}"


def _at(stamp: pa.TimestampScalar) -> str:
    try:
        return str(stamp)
    except (OverflowError, ValueError):  # beyond the years that Python knows
        return f"{stamp.value} microseconds after 1970"
