"""What holds of the candles that lie in the lake: their laws, and that no volume was lost on the way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from market_data_pipeline.lake.catalog import DayObject, day_objects
from market_data_pipeline.lake.day_files import own_rows
from market_data_pipeline.lake.derived import TRADES, day_window
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.ticks import TickSeries
from market_data_pipeline.model.datasets import Dataset, Timeframe, candles
from market_data_pipeline.model.errors import MarketDataError, ObjectNotFound, SourceError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import DAY
from market_data_pipeline.transforms.differences import differing_minutes
from market_data_pipeline.transforms.laws import broken_candle_laws

_MINUTES = 10
_SUMMED = ("volume", "trade_count")
Klines = Callable[[Instrument, date], pa.Table | None]
_RELATIVE = 1e-9
"""Sums of floats over other orders and groups differ by rounding alone."""


@dataclass(frozen=True)
class Finding:
    """Something that a check found.

    Attributes:
        text: what, where and what to do.
        follows: what it is made from is missing, which has a finding of its own.
        outdated: nothing is known to be wrong, but what it was made from has grown since, or cannot be had to compare.
        odd: it may be true all the same, but is worth a look.
    """

    text: str
    outdated: bool = False
    follows: bool = False
    odd: bool = False

    @property
    def warns(self) -> bool:
        """Whether it is a warning, where others are errors."""
        return self.outdated or self.odd


def candle_problems(
    store: ObjectStore, timeframe: Timeframe, days: Sequence[date], selection: Selection
) -> Iterator[Finding]:
    """Each law that stored candles break: low ≤ open, close ≤ high; times rising, on the grid and inside the day."""
    dataset = candles(timeframe.name)

    def look(found: DayObject, instrument: Instrument) -> Iterator[Finding]:
        for law in broken_candle_laws(own_rows(store, dataset, found.info.key), found.day, timeframe):
            yield Finding(f"{instrument} on {found.day}: {law}")

    return findings(store, dataset, days, selection, look)


def volume_problems(
    store: ObjectStore, timeframe: Timeframe, days: Sequence[date], selection: Selection
) -> Iterator[Finding]:
    """Each instrument's day whose candles do not add up to what they were made from: trades, or finer candles.

    Candles that add up but for the trades of a neighbouring day's file are outdated: the file may have come into the
    lake after they were made.
    """
    dataset = candles(timeframe.name)

    def look(found: DayObject, instrument: Instrument) -> Iterator[Finding]:
        made = _sums(own_rows(store, dataset, found.info.key, _SUMMED))
        sources = (
            _traded(store, instrument, found.day)
            if timeframe.source is None
            else [_finer(store, candles(timeframe.source), instrument, found.day)]
        )
        if not _equal(made, sources[-1]):
            yield Finding(
                f"{instrument} on {found.day}: {dataset.name} has volume {made[0]!r} in {made[1]} trades, what it was "
                f"made from has {sources[-1][0]!r} in {sources[-1][1]}; materialize {dataset.name} again",
                outdated=any(_equal(made, source) for source in sources[:-1]),
            )

    return findings(store, dataset, days, selection, look)


def kline_problems(
    store: ObjectStore,
    klines: Callable[[Instrument, date], pa.Table | None],
    days: Sequence[date],
    selection: Selection,
) -> Iterator[Finding]:
    """Each instrument's day whose 1m candles differ from the exchange's own, with the minutes and fields that differ.

    Args:
        store: the lake.
        klines: the exchange's candles, or None where it has none, which is no problem; may raise SourceError.
        days: the days.
        selection: which instruments.
    """
    dataset = candles("1m")

    def look(found: DayObject, instrument: Instrument) -> Iterator[Finding]:
        where = f"{instrument} on {found.day}"
        try:
            official = klines(instrument, found.day)
        except SourceError as error:
            yield Finding(f"{where}: the exchange's candles cannot be had: {error}", outdated=True)
            return
        if official is None:
            return
        minutes = list(differing_minutes(own_rows(store, dataset, found.info.key), official))
        if minutes:
            more = f"; … and {len(minutes) - _MINUTES} more" if len(minutes) > _MINUTES else ""
            yield Finding(
                f"{where}: {len(minutes)} minutes differ from the exchange's own: {'; '.join(minutes[:_MINUTES])}{more}"
            )

    return findings(store, dataset, days, selection, look)


def findings(
    store: ObjectStore,
    dataset: Dataset,
    days: Sequence[date],
    selection: Selection,
    look: Callable[[DayObject, Instrument], Iterator[Finding]],
) -> Iterator[Finding]:
    """What a look at each stored day of an instrument finds; a file that cannot be read is a finding, too."""
    for found, instrument in _stored(store, dataset, days, selection):
        try:
            yield from look(found, instrument)
        except MarketDataError as error:
            yield Finding(f"{instrument} on {found.day}: {error}")


def _stored(
    store: ObjectStore, dataset: Dataset, days: Sequence[date], selection: Selection
) -> Iterator[tuple[DayObject, Instrument]]:
    for day in days:
        for found in day_objects(store, dataset, day):
            if found.instrument and found.instrument in selection:
                yield found, found.instrument


@whole
def _traded(store: ObjectStore, instrument: Instrument, day: date) -> list[tuple[float, int]]:
    """The sums that candles of a day may have: without, with one and (last) with both of the files beside its own."""
    sums = {}
    for file in (day - DAY, day, day + DAY):
        volume, count = 0.0, 0
        with TickSeries(store, TRADES, instrument, [file]) as series:
            for trades in series.read(day_window(day), ["amount"]):
                volume += pc.sum(trades.column("amount")).as_py()
                count += trades.num_rows
        sums[file] = (volume, count)
    own = sums.pop(day)
    return [
        (own[0] + sum(volume for volume, _ in chosen), own[1] + sum(count for _, count in chosen))
        for size in range(len(sums) + 1)
        for chosen in combinations(sums.values(), size)
    ]


def _finer(store: ObjectStore, dataset: Dataset, instrument: Instrument, day: date) -> tuple[float, int]:
    try:
        return _sums(own_rows(store, dataset, dataset.path(dataset.layouts[0], day, instrument), _SUMMED))
    except ObjectNotFound:
        return 0.0, 0


def _sums(rows: pa.Table) -> tuple[float, int]:
    return pc.sum(rows.column("volume")).as_py() or 0.0, pc.sum(rows.column("trade_count")).as_py() or 0


def _equal(one: tuple[float, int], other: tuple[float, int]) -> bool:
    return one[1] == other[1] and abs(one[0] - other[0]) <= _RELATIVE * max(one[0], other[0])
