"""Rows worked out from what the lake holds: candles from trades, coarser candles, the availability map of a day.

Reads by `lake`, computes by `transforms`, and gives out rows for the writer; knows no Dagster.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache, partial
from threading import Lock

import pyarrow as pa

from market_data_pipeline.lake.catalog import DayObject, day_objects, stored_instruments, waiting_for_the_day_after
from market_data_pipeline.lake.day_files import own_rows
from market_data_pipeline.lake.master import ContractOf, contracts_on, listing_on, of_selection, with_others
from market_data_pipeline.lake.ordering import times
from market_data_pipeline.lake.parquet import opened, read_columns, span_of
from market_data_pipeline.lake.rereading import whole
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.ticks import TickSeries
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset, Kind, Timeframe, candles
from market_data_pipeline.model.errors import MarketDataError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, Rejects, unreadable
from market_data_pipeline.model.windows import DAY, Window, midnight
from market_data_pipeline.transforms import availability as maps
from market_data_pipeline.transforms.candles import TRADE_COLUMNS, Fill, candles_from_trades, roll_up
from market_data_pipeline.transforms.laws import TICK_COLUMNS, broken_candle_laws, broken_tick_laws

TRADES = DATASETS["trades"]
AVAILABILITY = DATASETS["available_instruments"]
_MINUTE = timedelta(minutes=1) // timedelta(microseconds=1)

Fills = Mapping[InstrumentType, Fill]


@dataclass
class Selected:
    """The trades that went into the candles of one day, by where they lay.

    Attributes:
        before: from the file of the day before.
        own: from the day's own file.
        after: from the file of the day after.
        waiting: venues whose ticks of the day after are not in, so that some of this day's may still be missing.
    """

    before: int = 0
    own: int = 0
    after: int = 0
    waiting: tuple[str, ...] = ()
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def final(self) -> bool:
        """Whether the day after is in for every venue, so that nothing can be missing."""
        return not self.waiting

    def add(self, day: date, counts: Counter[date]) -> None:
        """Adds one instrument's counts by the file's day; several threads may do so."""
        with self._lock:
            self.before += counts[day - DAY]
            self.own += counts[day]
            self.after += counts[day + DAY]

    def recall(self, day: date, facts: Mapping[str, int]) -> None:
        """Adds one instrument's as they were told when its candles were made."""
        self.add(day, Counter({date.fromisoformat(file): count for file, count in facts.items()}))


def day_window(day: date) -> Window:
    """The UTC day."""
    return Window(midnight(day), midnight(day) + DAY)


def beside(day: date) -> tuple[date, date, date]:
    """The days whose files hold the ticks of a day by exchange time, and of a little before it."""
    return day - DAY, day, day + DAY


def trades_of(store: ObjectStore, instrument: Instrument, day: date) -> TickSeries:
    """The files that the candles of a day are made from: the day's own and those beside it."""
    return TickSeries(store, TRADES, instrument, beside(day))


def first_candles(
    store: ObjectStore,
    days: Sequence[date],
    selection: Selection,
    contract_of: ContractOf,
    fills: Fills,
    selected: dict[date, Selected] | None = None,
) -> Iterator[DayRows]:
    """1m candles of some days, from the lake's trades by exchange time.

    An instrument has candles for a day if the lake has its trades of that day. They take in what the neighbouring days'
    files hold of the day; but without its own file those few seconds would be passed off as the whole of it.

    Args:
        store: the lake.
        days: the days.
        selection: which instruments.
        contract_of: how an instrument's amounts become values, where the day's stored master does not say.
        fills: what stands for an empty bucket, by type of instrument.
        selected: is told, for each day, where the trades lay.
    """
    told = {} if selected is None else selected
    stored = stored_instruments(store)
    for day in days:
        try:
            contracts_on(store, day, contract_of)
        except MarketDataError as problem:  # of the day, once, not of each instrument
            yield unreadable(day, None, f"instruments on {day}", str(problem))
            continue
        # what counts is read with the rows: until then it may become another, and they tell what they are made from
        contracts = lru_cache(maxsize=1)(partial(contracts_on, store, day, contract_of))
        chosen = sorted(instrument for instrument in stored(TRADES, day) if instrument in selection)
        venues = {instrument.venue for instrument in chosen}
        told[day] = Selected(waiting=waiting_for_the_day_after(stored, [TRADES], day, venues.__contains__))
        for instrument in chosen:
            facts: dict[str, int] = {}
            read = partial(_first_candles, store, day, instrument, contracts, fills[instrument.type], facts, told[day])
            recall = partial(told[day].recall, day)
            yield DayRows(day, instrument, f"trades of {instrument}", read, facts=facts, recall=recall)


def _first_candles(
    store: ObjectStore,
    day: date,
    instrument: Instrument,
    contracts: Callable[[], ContractOf],
    fill: Fill,
    facts: dict[str, int],
    selected: Selected,
    _: Rejects,
) -> Iterator[pa.RecordBatch]:
    made, counts = _candles(store, day, instrument, contracts(), fill)
    facts |= {file.isoformat(): count for file, count in counts.items()}
    selected.add(day, counts)
    yield from made.to_batches()


@whole
def _candles(
    store: ObjectStore, day: date, instrument: Instrument, contract_of: ContractOf, fill: Fill
) -> tuple[pa.Table, Counter[date]]:
    counts: Counter[date] = Counter()
    with trades_of(store, instrument, day) as series:
        close = None
        if fill is Fill.FLAT:
            price = series.last(day_window(day - DAY), ["price"]).column("price")
            close = price[0].as_py() if len(price) else None
        trades = series.read(day_window(day), TRADE_COLUMNS, counts)
        made = candles_from_trades(
            trades, day, TIMEFRAMES["1m"], contract_of(instrument), fill=fill, previous_close=close
        )
    return made, counts


def coarser_candles(
    store: ObjectStore, timeframe: Timeframe, days: Sequence[date], selection: Selection, fills: Fills
) -> Iterator[DayRows]:
    """Candles of a timeframe that is rolled up from a finer one in the lake; raises DatasetError for the finest."""
    finer = candles(timeframe.source or "")
    for day in days:
        for found in day_objects(store, finer, day):
            if found.instrument and found.instrument in selection:
                read = partial(_rolled_up, store, timeframe, finer, found, fills[found.instrument.type])
                yield DayRows(day, found.instrument, f"{finer.name} of {found.instrument}", read)


def _rolled_up(
    store: ObjectStore, timeframe: Timeframe, finer: Dataset, found: DayObject, fill: Fill, _: Rejects
) -> Iterator[pa.RecordBatch]:
    table = own_rows(store, finer, found.info.key)
    yield from roll_up(table, found.day, timeframe, fill=fill).to_batches()


def availability_rows(
    store: ObjectStore, days: Sequence[date], selection: Selection, contract_of: ContractOf
) -> Iterator[DayRows]:
    """The availability map of some days: what the stored master lists, and what the lake holds.

    Instruments outside the selection keep the rows that the stored map has of them.
    """
    for day in days:
        yield DayRows(day, None, f"the lake on {day}", partial(_availability, store, day, selection, contract_of))


def _availability(
    store: ObjectStore, day: date, selection: Selection, contract_of: ContractOf, _: Rejects
) -> Iterator[pa.RecordBatch]:
    observed: dict[str, list[maps.Observed]] = {}
    ticked: set[Instrument] = set()
    for dataset in DATASETS.values():
        if not dataset.per_instrument:
            continue
        for found in day_objects(store, dataset, day):
            if found.instrument and found.instrument in selection:
                observed.setdefault(found.instrument.id, []).append(observe(store, dataset, found))
                if dataset.kind is Kind.TICKS:
                    ticked.add(found.instrument)
    listed = of_selection(listing_on(store, day), selection)
    known = set(listed.column("instrument_id").to_pylist())
    proven = sorted(instrument for instrument in ticked if instrument.id not in known)
    rows = maps.proven_by_ticks(proven, {instrument: contract_of(instrument) for instrument in proven})
    made = maps.availability(pa.concat_tables([listed, rows]), observed)
    yield from with_others(store, AVAILABILITY, made, day, selection).to_batches()


@whole
def observe(store: ObjectStore, dataset: Dataset, found: DayObject) -> maps.Observed:
    """What a day file holds, read a row group at a time."""
    tick = dataset.kind is Kind.TICKS
    length = dataset.timeframe.microseconds if dataset.timeframe else _MINUTE
    # whatever has no laws is read for its times alone
    needed = TICK_COLUMNS if tick else dataset.own_schema.names if dataset.timeframe else ("timestamp",)
    columns = [name for name in needed if name in dataset.own_schema.names]
    lawful = True
    stamps = []
    with opened(store, found.info.key) as file:
        span = span_of(file.metadata, dataset)
        for group in range(file.num_row_groups):
            rows = read_columns(file, columns, [group])
            stamps.append(maps.buckets_of(times(rows), length))
            if tick:
                lawful &= not broken_tick_laws(rows, found.day)
            elif dataset.timeframe:
                lawful &= not broken_candle_laws(rows, found.day, dataset.timeframe)
    gaps = maps.empty_buckets(stamps, found.day, length)
    return maps.Observed(dataset.name, span.rows, span.first, span.last, gaps, lawful)
