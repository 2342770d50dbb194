"""Fundamental features from what the lake holds: candles with the ticker, liquidations, spot pair and options of each.

Ticks count by exchange time, whichever file they lie in. The map of instruments comes last and is never asked.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from itertools import groupby
from threading import Lock

import numpy as np
import pyarrow as pa

from market_data_pipeline.lake.catalog import Stored, stored_instruments, waiting_for_the_day_after
from market_data_pipeline.lake.derived import beside, day_window
from market_data_pipeline.lake.histories import FINEST, stored_candles
from market_data_pipeline.lake.master import listing_on
from market_data_pipeline.lake.parquet import Span, span_at
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.ticks import TickSeries
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset, Timeframe
from market_data_pipeline.model.errors import LakeError, MarketDataError, ObjectNotFound
from market_data_pipeline.model.exchanges import spot_venue
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.rows import DayRows, Rejects, unreadable
from market_data_pipeline.model.windows import DAY, Window, microseconds, midnight
from market_data_pipeline.transforms.as_of import Integers
from market_data_pipeline.transforms.derivatives import LIQUIDATION_COLUMNS, TICKER_COLUMNS
from market_data_pipeline.transforms.fundamental import CANDLE_COLUMNS, LOOK_BACK, fundamental_features
from market_data_pipeline.transforms.surface import CHAIN_COLUMNS, surface_by_expiry

FEATURES = DATASETS["fundamental_features"]
TICKERS, LIQUIDATIONS, OPTIONS = (DATASETS[name] for name in ("derivative_ticker", "liquidations", "options_chain"))

_FOLLOWING = (InstrumentType.PERPETUAL, InstrumentType.FUTURE)
"""What follows a price: it has a ticker, liquidations and a spot pair."""
_FINEST = TIMEFRAMES["1m"].microseconds


@dataclass(frozen=True)
class Sources:
    """What the features of a day are made from beside candles; instruments by their ids.

    Attributes:
        tickers: those that have a ticker, of the day or the day before.
        liquidations: those whose venue has liquidations of the day or of the day before.
        none_liquidated: of these, those without a file of the day: where others of the venue show that its
            liquidations are known, none took place.
        spots: those whose spot pair has candles.
        surfaces: those whose underlying has options.
        tickers_without_day_before: those that have a ticker of the day, but none of the day before.
        options_without_day_before: underlyings that have options on the day, but not on the day before.
        waiting: venues whose tickers, liquidations or options of the day after are not in: some of this day's may
            still be missing.
    """

    tickers: Sequence[str] = ()
    liquidations: Sequence[str] = ()
    none_liquidated: Sequence[str] = ()
    spots: Sequence[str] = ()
    surfaces: Sequence[str] = ()
    tickers_without_day_before: Sequence[str] = ()
    options_without_day_before: Sequence[str] = ()
    waiting: Sequence[str] = ()


def fundamental_rows(
    store: ObjectStore,
    days: Sequence[date],
    selection: Selection,
    sources: dict[date, Sources] | None = None,
) -> Iterator[DayRows]:
    """Fundamental features of some days: of every instrument that has 1m candles, for each timeframe that it has.

    Args:
        store: the lake.
        days: the days.
        selection: which instruments. Their spot pairs and options need not be among them.
        sources: is told, for each day, what there was to make features from.
    """
    told = {} if sources is None else sources
    stored = stored_instruments(store)
    for day in days:
        try:
            around = _Around(store, day, stored)
        except MarketDataError as problem:
            yield unreadable(day, None, f"instruments on {day}", str(problem))
            continue
        every = [around.inputs_of(each) for each in sorted(stored(FINEST, day)) if each in selection]
        told[day] = around.sources_of(every)
        for inputs in every:
            label = f"candles of {inputs.instrument}"
            yield DayRows(day, inputs.instrument, label, partial(_fundamental, store, inputs))
        yield from _broken_chains(day, every)


@dataclass(frozen=True)
class _Underlying:
    """What options are written on: a pair at an exchange, whichever of its venues trades them."""

    exchange: str
    base: str
    quote: str

    @classmethod
    def of(cls, instrument: Instrument) -> "_Underlying":
        return cls(spot_venue(instrument.venue), instrument.base, instrument.quote)

    def __str__(self) -> str:
        return f"{self.exchange} {self.base}-{self.quote}"


class _Chain:
    """The options of an underlying on a day; whoever asks first has their surface worked out, for everybody."""

    def __init__(self, store: ObjectStore, day: date, underlying: _Underlying, options: Iterable[Instrument]) -> None:
        self.underlying = underlying
        self._store, self._day, self._options = store, day, sorted(options)
        self._found: pa.Table | MarketDataError | None = None
        self._lock = Lock()

    def surface(self) -> pa.Table | None:
        """At the close times of the day's minutes, which hold those of all timeframes; None if a file is broken."""
        found = self._worked_out()
        return None if isinstance(found, MarketDataError) else found

    @property
    def problem(self) -> MarketDataError | None:
        """Why there is no surface: the options' file that cannot be read."""
        found = self._worked_out()
        return found if isinstance(found, MarketDataError) else None

    def _worked_out(self) -> pa.Table | MarketDataError:
        with self._lock:
            if self._found is None:
                try:
                    self._found = surface_by_expiry(self._expiries(), _minutes(self._day))
                except MarketDataError as problem:  # the next one need not read it all to find the same
                    self._found = problem
            return self._found

    def _expiries(self) -> Iterator[Iterator[pa.Table]]:
        def expiry(option: Instrument) -> date:
            return option.expiry or date.max

        for _, options in groupby(sorted(self._options, key=expiry), expiry):
            yield self._rows(options)

    def _rows(self, options: Iterable[Instrument]) -> Iterator[pa.Table]:
        for option in options:
            with _ticks(self._store, OPTIONS, option, self._day) as series:
                yield from series.read(_window(self._day), CHAIN_COLUMNS)


class _Feed:
    """When a venue told of liquidations around a day: of each file the first and the last, from its footer."""

    def __init__(self, store: ObjectStore, day: date, instruments: Iterable[Instrument]) -> None:
        self._store, self._day, self._instruments = store, day, sorted(instruments)
        self._found: Integers | None = None
        self._lock = Lock()

    def times(self) -> Integers:
        """Microseconds since 1970, rising; worked out by whoever asks first, for everybody.

        The first and the last are enough: whatever lies between those of a file has the first within a day before it.
        """
        with self._lock:
            if self._found is None:
                spans = [span for each in self._instruments for span in self._spans(each)]
                ends = {end for span in spans for end in (span.first, span.last) if end}
                self._found = np.array(sorted(map(microseconds, ends)), np.int64)
        return self._found

    def _spans(self, instrument: Instrument) -> Iterator[Span]:
        for day in beside(self._day):
            # a file that cannot be read tells nothing of the others; it fails its own instrument
            with suppress(LakeError, ObjectNotFound):
                yield span_at(self._store, LIQUIDATIONS, LIQUIDATIONS.path(LIQUIDATIONS.layouts[0], day, instrument))


@dataclass(frozen=True)
class _Inputs:
    """What the features of one instrument's day are made from, beside its candles.

    Attributes:
        instrument: whose features.
        day: the day.
        ticker: whether there are files of its ticker.
        feed: of its venue's liquidations, where there are any.
        spot: the pair that it follows, where the master lists one.
        expiry: of a dated future.
        chain: the options of its underlying, where there are any.
    """

    instrument: Instrument
    day: date
    ticker: bool
    feed: _Feed | None
    spot: Instrument | None
    expiry: datetime | None
    chain: _Chain | None


class _Around:
    """What lies around the candles of a day: its master, and of which instruments there are files of ticks."""

    def __init__(self, store: ObjectStore, day: date, stored: Stored) -> None:
        self._day, self._stored = day, stored
        rows = listing_on(store, day).select(["instrument_id", "expiry"]).to_pylist()
        self._listed: Mapping[str, datetime | None] = {row["instrument_id"]: row["expiry"] for row in rows}
        self._tickers = self._files(TICKERS)
        liquidated: dict[str, set[Instrument]] = {}
        for each in self._files(LIQUIDATIONS):
            liquidated.setdefault(each.venue, set()).add(each)
        self._feeds = {venue: _Feed(store, day, each) for venue, each in liquidated.items()}
        options: dict[_Underlying, set[Instrument]] = {}
        for option in self._files(OPTIONS):
            # what has expired by midnight is worth nothing at any close of the day
            if option.expiry and option.expiry >= day:
                options.setdefault(_Underlying.of(option), set()).add(option)
        self._chains = {underlying: _Chain(store, day, underlying, each) for underlying, each in options.items()}

    def inputs_of(self, instrument: Instrument) -> _Inputs:
        """What there is for an instrument."""
        follows = instrument.type in _FOLLOWING
        return _Inputs(
            instrument,
            self._day,
            ticker=follows and instrument in self._tickers,
            feed=self._feeds.get(instrument.venue) if follows else None,
            spot=self._spot_of(instrument) if follows else None,
            expiry=self._expiry_of(instrument) if instrument.type is InstrumentType.FUTURE else None,
            chain=self._chains.get(_Underlying.of(instrument)),
        )

    def sources_of(self, every: Sequence[_Inputs]) -> Sources:
        """What there is for all instruments of the day."""
        day, before, stored = self._day, self._day - DAY, self._stored
        new_tickers = stored(TICKERS, day) - stored(TICKERS, before)
        optioned, optioned_before = ({_Underlying.of(each) for each in stored(OPTIONS, on)} for on in (day, before))
        new_options = {_Underlying.of(each.instrument) for each in every} & (optioned - optioned_before)
        liquidated, priced = stored(LIQUIDATIONS, day), stored(FINEST, day)
        liquidating = {each.venue for each in liquidated | stored(LIQUIDATIONS, before)}
        exchanges = {spot_venue(each.instrument.venue) for each in every}
        tickers = stored(TICKERS, day) | stored(TICKERS, before)

        def named(wanted: Callable[[_Inputs], object]) -> list[str]:
            return [each.instrument.id for each in every if wanted(each)]

        return Sources(
            tickers=named(lambda each: each.ticker and each.instrument in tickers),
            liquidations=named(lambda each: each.feed and each.instrument.venue in liquidating),
            none_liquidated=named(
                lambda each: each.feed and each.instrument.venue in liquidating and each.instrument not in liquidated
            ),
            spots=named(lambda each: each.spot in priced),
            surfaces=named(lambda each: each.chain),
            tickers_without_day_before=named(lambda each: each.instrument in new_tickers),
            options_without_day_before=sorted(map(str, new_options)),
            waiting=waiting_for_the_day_after(
                stored, (TICKERS, LIQUIDATIONS, OPTIONS), day, lambda venue: spot_venue(venue) in exchanges
            ),
        )

    def _files(self, dataset: Dataset) -> frozenset[Instrument]:
        """The instruments of whose ticks some may lie in the day by exchange time."""
        return frozenset().union(*(self._stored(dataset, day) for day in beside(self._day)))

    def _spot_of(self, instrument: Instrument) -> Instrument | None:
        venues = dict.fromkeys((instrument.venue, spot_venue(instrument.venue)))
        pairs = (Instrument.spot(venue, instrument.base, instrument.quote) for venue in venues)
        return next((pair for pair in pairs if pair.id in self._listed), None)

    def _expiry_of(self, instrument: Instrument) -> datetime | None:
        # where only the day is known the master has its midnight, too
        return self._listed.get(instrument.id) or (midnight(instrument.expiry) if instrument.expiry else None)


def _broken_chains(day: date, every: Iterable[_Inputs]) -> Iterator[DayRows]:
    """What fails once for each chain that has no surface; the columns of those who asked for it are null."""
    for chain in {id(each.chain): each.chain for each in every if each.chain}.values():
        if chain.problem:
            yield unreadable(day, None, f"options of {chain.underlying} on {day}", str(chain.problem))


def _fundamental(store: ObjectStore, inputs: _Inputs, _: Rejects) -> Iterator[pa.RecordBatch]:
    ticker = _read(store, TICKERS, inputs, _window(inputs.day), TICKER_COLUMNS) if inputs.ticker else None
    liquidations = (
        _read(store, LIQUIDATIONS, inputs, day_window(inputs.day), LIQUIDATION_COLUMNS) if inputs.feed else None
    )
    feed = inputs.feed.times() if inputs.feed else None
    surface = inputs.chain.surface() if inputs.chain else None
    tables = []
    for timeframe in TIMEFRAMES.values():
        candles = _candles(store, timeframe, inputs.instrument, inputs.day)
        if candles.num_rows:
            tables.append(
                fundamental_features(
                    candles,
                    timeframe,
                    ticker=ticker,
                    liquidations=liquidations,
                    feed=feed,
                    spot=_candles(store, timeframe, inputs.spot, inputs.day) if inputs.spot else None,
                    expiry=inputs.expiry,
                    surface=surface,
                )
            )
    rows = pa.concat_tables([FEATURES.own_schema.empty_table(), *tables]).unify_dictionaries()
    yield from rows.sort_by([(name, "ascending") for name in FEATURES.order]).to_batches()


def _candles(store: ObjectStore, timeframe: Timeframe, instrument: Instrument, day: date) -> pa.Table:
    return stored_candles(store, timeframe, instrument, day_window(day), CANDLE_COLUMNS)


def _read(store: ObjectStore, dataset: Dataset, inputs: _Inputs, window: Window, columns: Sequence[str]) -> pa.Table:
    with _ticks(store, dataset, inputs.instrument, inputs.day) as series:
        empty = dataset.own_schema.empty_table().select(list(columns))
        return pa.concat_tables([empty, *series.read(window, columns)])


def _ticks(store: ObjectStore, dataset: Dataset, instrument: Instrument, day: date) -> TickSeries:
    return TickSeries(store, dataset, instrument, beside(day))


def _window(day: date) -> Window:
    return Window(midnight(day) - LOOK_BACK, midnight(day) + DAY)


def _minutes(day: date) -> Integers:
    """The close times of the minutes of a day, microseconds since 1970."""
    return microseconds(midnight(day)) + _FINEST * np.arange(1, DAY // TIMEFRAMES["1m"].length + 1)
