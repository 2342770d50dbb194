"""What holds of the candles that lie in the lake: their laws, and that no volume was lost on the way."""

from collections.abc import Iterator, Sequence
from datetime import date

import pyarrow.compute as pc

from market_data_pipeline.lake.catalog import DayObject, day_objects
from market_data_pipeline.lake.derived import day_window, own_rows, trades_of
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.model.datasets import Dataset, Timeframe, candles
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.transforms.laws import broken_candle_laws

_RELATIVE = 1e-9
"""Sums of floats over other orders and groups differ by rounding alone."""


def candle_problems(
    store: ObjectStore, timeframe: Timeframe, days: Sequence[date], selection: Selection
) -> Iterator[str]:
    """Each law that stored candles break: low ≤ open, close ≤ high; times rising, on the grid and inside the day."""
    dataset = candles(timeframe.name)
    for found, name in _stored(store, dataset, days, selection):
        for law in broken_candle_laws(own_rows(store, dataset, found), found.day, timeframe):
            yield f"{name} on {found.day}: {law}"


def volume_problems(
    store: ObjectStore, timeframe: Timeframe, days: Sequence[date], selection: Selection
) -> Iterator[str]:
    """Each instrument's day whose candles do not add up to what they were made from: trades, or finer candles."""
    dataset = candles(timeframe.name)
    for found, instrument in _stored(store, dataset, days, selection):
        rows = own_rows(store, dataset, found)
        made = (pc.sum(rows.column("volume")).as_py() or 0.0, pc.sum(rows.column("trade_count")).as_py() or 0)
        volume, count = (
            _traded(store, instrument, found.day)
            if timeframe.source is None
            else _finer(store, candles(timeframe.source), instrument, found.day)
        )
        if count != made[1] or abs(volume - made[0]) > _RELATIVE * max(volume, made[0]):
            yield (
                f"{instrument} on {found.day}: {dataset.name} has volume {made[0]!r} in {made[1]} trades, "
                f"what it was made from has {volume!r} in {count}; materialize {dataset.name} again"
            )


def _stored(
    store: ObjectStore, dataset: Dataset, days: Sequence[date], selection: Selection
) -> Iterator[tuple[DayObject, Instrument]]:
    for day in days:
        for found in day_objects(store, dataset, day):
            if found.instrument and found.instrument in selection:
                yield found, found.instrument


def _traded(store: ObjectStore, instrument: Instrument, day: date) -> tuple[float, int]:
    volume, count = 0.0, 0
    with trades_of(store, instrument, day) as series:
        for trades in series.read(day_window(day), ["amount"]):
            volume += pc.sum(trades.column("amount")).as_py()
            count += trades.num_rows
    return volume, count


def _finer(store: ObjectStore, dataset: Dataset, instrument: Instrument, day: date) -> tuple[float, int]:
    for found in day_objects(store, dataset, day, venue=instrument.venue):
        if found.instrument == instrument:
            rows = own_rows(store, dataset, found)
            return pc.sum(rows.column("volume")).as_py() or 0.0, pc.sum(rows.column("trade_count")).as_py() or 0
    return 0.0, 0
