"""The table of datasets: for each its columns, tier, order and layouts, declared once.

Arrow schemas, paths, checks, documentation and SQL views are made from this table. No reading or writing happens here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from market_data_pipeline.model.errors import DatasetError, LayoutError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout, instrument_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

TIME = pa.timestamp("us", tz="UTC")
TEXT = pa.dictionary(pa.int32(), pa.string())
REAL = pa.float64()
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")  # what BigQuery takes


class Kind(StrEnum):
    """What the rows of a dataset are."""

    TICKS = "ticks"
    CANDLES = "candles"
    FEATURES = "features"
    INSTRUMENTS = "instruments"
    AVAILABILITY = "availability"
    QUARANTINE = "quarantine"


class Tier(StrEnum):
    """The part of the business that reads a dataset; the `data_tier` column."""

    EXECUTION = "execution"
    ML = "ml"
    AVAILABILITY = "availability"


class Codec(StrEnum):
    """How the columns of a file are compressed."""

    ZSTD = "zstd"
    SNAPPY = "snappy"


@dataclass(frozen=True)
class Timeframe:
    """The length of a candle.

    Attributes:
        name: `1m`, `5m`, … as in paths.
        length: how long a candle lasts; divides a day.
        source: the name of the finer timeframe it is rolled up from; None for the finest, which is made from ticks.
    """

    name: str
    length: timedelta
    source: str | None

    @property
    def microseconds(self) -> int:
        """The length in microseconds."""
        return self.length // timedelta(microseconds=1)


TIMEFRAMES = {
    timeframe.name: timeframe
    for timeframe in (
        Timeframe("1m", timedelta(minutes=1), None),
        Timeframe("5m", timedelta(minutes=5), "1m"),
        Timeframe("15m", timedelta(minutes=15), "5m"),
        Timeframe("1h", timedelta(hours=1), "15m"),
        Timeframe("4h", timedelta(hours=4), "1h"),
        Timeframe("1d", timedelta(days=1), "4h"),
    )
}


@dataclass(frozen=True)
class Column:
    """One column of a dataset.

    Attributes:
        name: the name in files and tables; letters, digits and underscores, as BigQuery wants it.
        type: the Arrow type.
        meaning: one line for the documentation, with the unit where there is one.
        unit: what a value counts, such as `quote asset`, or empty.
        nullable: whether a value may be missing.
        formula: of a feature, where its formula comes from.
        look_back: of a feature, how many candles it is worked out from, its own included; fewer give null.
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    nullable: bool = True
    formula: str = ""
    look_back: int = 1


@dataclass(frozen=True)
class Dataset:
    """A kind of rows that the lake keeps.

    Attributes:
        name: the asset's and the dataset's name.
        kind: what its rows are.
        tier: the `data_tier` column.
        row: what a row is, for people.
        columns: its own columns; the partition values follow them in every file.
        layouts: the first is the primary one, from which the others follow: `by_date`, with one object a day.
        order: the columns by which rows are sorted within an instrument's day.
        timeframe: of candles, else None.
        row_group_rows: how many rows a row group of a day file holds at most.
        of: of quarantined rows, the dataset that they were set aside from; empty for all others.
    """

    name: str
    kind: Kind
    tier: Tier
    row: str
    columns: tuple[Column, ...]
    layouts: tuple[Layout, ...]
    order: tuple[str, ...] = ("timestamp",)
    timeframe: Timeframe | None = None
    row_group_rows: int = 65_536
    of: str = ""

    def __post_init__(self) -> None:
        self._check_layouts()
        names = [column.name for column in (*self.columns, *self.partition_columns)]
        folded = [name.lower() for name in names]
        for name in names:
            if not _COLUMN.fullmatch(name):
                raise DatasetError(f"dataset {self.name}: column {name!r} must be letters, digits and underscores")
            if folded.count(name.lower()) > 1:
                raise DatasetError(f"dataset {self.name}: column {name} is declared twice")
        for name in self.order:
            if name not in names:
                raise DatasetError(f"dataset {self.name}: it is ordered by {name!r}, which is no column of it")

    def _check_layouts(self) -> None:
        if not self.layouts or not self.layouts[0].daily:
            raise LayoutError(f"dataset {self.name}: its first layout must hold days: give it {{day}}")
        primary = self.layouts[0]
        for layout in self.day_layouts:
            if layout.per_instrument != primary.per_instrument:
                raise LayoutError(
                    f"dataset {self.name}: layout {layout.name} holds days, so it must hold the same objects as "
                    f"{primary.name} under other paths; give it {{instrument_id}}, or leave out {{day}}"
                )
            if layout.group_fields and not layout.per_instrument:
                raise LayoutError(
                    f"dataset {self.name}: layout {layout.name} holds days of a group of instruments "
                    f"({', '.join(layout.group_fields)}); give it {{instrument_id}}, or leave out {{day}}"
                )

    @property
    def per_instrument(self) -> bool:
        """True where a day file holds one instrument, False where it holds all of them (availability)."""
        return self.layouts[0].per_instrument

    @property
    def by_time(self) -> bool:
        """True where an instrument's rows are in order of `timestamp`."""
        return self.order[0] == "timestamp"

    @property
    def codec(self) -> Codec:
        """How its files are compressed: ticks, which are many, for their size; what is small, for the time of a read.

        Zstandard is set up anew for each column of each row group, which takes longer than decoding a day of candles.
        """
        return Codec.ZSTD if self.tier is Tier.EXECUTION else Codec.SNAPPY

    @property
    def from_source(self) -> bool:
        """True where its rows come from the source, False where they are worked out from what the lake holds."""
        return self.kind in (Kind.TICKS, Kind.INSTRUMENTS)

    @cached_property
    def partition_columns(self) -> tuple[Column, ...]:
        """The columns whose values the path already tells."""
        own = {column.name for column in self.columns}
        wanted = (*_PARTITION, _TIMEFRAME) if self.timeframe else _PARTITION
        return tuple(column for column in wanted if column.name not in own)

    @cached_property
    def own_schema(self) -> pa.Schema:
        """The schema of what a source or a transform gives: the dataset's own columns."""
        return _schema(self.columns)

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema of every file and of every table read: own columns, then partition values."""
        return _schema((*self.columns, *self.partition_columns))

    @property
    def day_layouts(self) -> tuple[Layout, ...]:
        """The layouts that hold the day files: the same bytes under each path."""
        return tuple(layout for layout in self.layouts if layout.daily)

    @property
    def month_layouts(self) -> tuple[Layout, ...]:
        """The layouts that hold months, put together from the day files."""
        return tuple(layout for layout in self.layouts if not layout.daily)

    def layout(self, name: str) -> Layout:
        """The layout of this name; raises DatasetError."""
        for layout in self.layouts:
            if layout.name == name:
                return layout
        raise DatasetError(f"{self.name} has no layout {name!r}; it has {', '.join(x.name for x in self.layouts)}")

    def path_fields(self, instrument: Instrument | None = None) -> dict[str, str]:
        """The placeholders' values that do not depend on time."""
        fields = {"dataset": self.name, "data_type": self.of or self.name}
        if self.timeframe:
            fields["timeframe"] = self.timeframe.name
        return {**fields, **(instrument_fields(instrument) if instrument else {})}

    def path(self, layout: Layout, day: date, instrument: Instrument | None = None) -> str:
        """The path of the object of `layout` that holds this instrument's (or everything's) day."""
        return layout.format(day, **self.path_fields(instrument))

    def partition_values(self, day: date, instrument: Instrument | None) -> "Mapping[str, object]":
        """The values of the partition columns for one day file: of an instrument, or (None) of all."""
        values: dict[str, object] = {
            **day_values(day),
            "data_tier": str(self.tier),
            **self.path_fields(instrument),
        }
        return {column.name: values[column.name] for column in self.partition_columns}


def day_values(day: date) -> dict[str, object]:
    """The values of the partition columns that a day gives."""
    return {"date": day, "year": day.year, "month": day.month, "day": day.day}


def _schema(columns: Iterable[Column]) -> pa.Schema:
    return pa.schema([pa.field(c.name, c.type, c.nullable) for c in columns])


_PARTITION = (
    Column("date", pa.date32(), "day of the partition (UTC)"),
    Column("year", pa.int16(), "year of the partition"),
    Column("month", pa.int16(), "month of the partition"),
    Column("day", pa.int16(), "day of the month of the partition"),
    Column("venue", TEXT, "the data vendor's id of the exchange"),
    Column("instrument_id", TEXT, "canonical id, venue:TYPE:SYMBOL"),
    Column("instrument_type", TEXT, "spot, perpetual, future or option"),
    Column("base_asset", TEXT, "what is bought and sold"),
    Column("quote_asset", TEXT, "what the price is in"),
    Column("data_type", TEXT, "name of the dataset"),
    Column("data_tier", TEXT, "execution, ml or availability"),
)
_TIMEFRAME = Column("timeframe", TEXT, "length of the candle")

_STAMPS = (
    Column("timestamp", TIME, "the exchange's time", nullable=False),
    Column("local_timestamp", TIME, "when the vendor received it; the exchange's time where the vendor gives none"),
)
_TRADE = (
    *_STAMPS,
    Column("id", pa.string(), "the venue's trade id, which may be any text; null where there is none"),
    Column("side", TEXT, "the taker's side: buy, sell or unknown", nullable=False),
    Column("price", REAL, "price", "quote asset", nullable=False),
    Column("amount", REAL, "amount, in the venue's own unit", "see volume_unit of the candles", nullable=False),
)


def _levels(depth: int) -> tuple[Column, ...]:
    return tuple(
        Column(
            f"{side}_{what}_{level}",
            REAL,
            f"{what} of the {side} at level {level} (1 is the best)",
            "quote asset" if what == "price" else "venue's own unit",
        )
        for level in range(1, depth + 1)
        for side in ("ask", "bid")
        for what in ("price", "amount")
    )


_TICK_COLUMNS: "dict[str, tuple[str, tuple[Column, ...]]]" = {
    "trades": ("one trade, as the venue reported it", _TRADE),
    "book_snapshot_5": ("the five best levels of the book at one moment", (*_STAMPS, *_levels(5))),
    "book_snapshot_25": ("the 25 best levels of the book at one moment", (*_STAMPS, *_levels(25))),
    "liquidations": ("one liquidation: buy where a short was liquidated, sell where a long was", _TRADE),
    "derivative_ticker": (
        "one change of a derivative's ticker",
        (
            *_STAMPS,
            Column("funding_timestamp", TIME, "when the next funding takes place"),
            Column("funding_rate", REAL, "rate of the next funding", "fraction"),
            Column("predicted_funding_rate", REAL, "predicted rate of the funding after that", "fraction"),
            Column("open_interest", REAL, "open interest", "venue's own unit"),
            Column("last_price", REAL, "price of the last trade", "quote asset"),
            Column("index_price", REAL, "price of the index", "quote asset"),
            Column("mark_price", REAL, "mark price", "quote asset"),
        ),
    ),
    "options_chain": (
        "one change of an option's quote, greeks or mark",
        (
            *_STAMPS,
            Column("type", TEXT, "call or put"),
            Column("strike_price", REAL, "strike", "quote asset of the underlying"),
            Column("expiration", TIME, "moment of expiry"),
            Column("open_interest", REAL, "open interest", "venue's own unit"),
            Column("last_price", REAL, "price of the last trade", "quote asset"),
            Column("bid_price", REAL, "best bid", "quote asset"),
            Column("bid_amount", REAL, "amount at the best bid", "venue's own unit"),
            Column("bid_iv", REAL, "implied volatility at the best bid", "percent a year"),
            Column("ask_price", REAL, "best ask", "quote asset"),
            Column("ask_amount", REAL, "amount at the best ask", "venue's own unit"),
            Column("ask_iv", REAL, "implied volatility at the best ask", "percent a year"),
            Column("mark_price", REAL, "mark price", "quote asset"),
            Column("mark_iv", REAL, "implied volatility at the mark price", "percent a year"),
            Column("underlying_index", TEXT, "name of the underlying index or future"),
            Column("underlying_price", REAL, "price of the underlying", "quote asset of the underlying"),
            Column("delta", REAL, "change of price for a change of the underlying"),
            Column("gamma", REAL, "change of delta for a change of the underlying"),
            Column("vega", REAL, "change of price for a change of volatility"),
            Column("theta", REAL, "change of price for a day"),
            Column("rho", REAL, "change of price for a change of the interest rate"),
        ),
    ),
}

_CANDLE = (
    Column("timestamp", TIME, "the candle's open", nullable=False),
    Column("close_time", TIME, "its exclusive end: the first instant at which it is complete", nullable=False),
    Column("open", REAL, "first price", "quote asset"),
    Column("high", REAL, "highest price", "quote asset"),
    Column("low", REAL, "lowest price", "quote asset"),
    Column("close", REAL, "last price", "quote asset"),
    Column("volume", REAL, "sum of the amounts", "see volume_unit"),
    Column("quote_volume", REAL, "value of the volume; null where the multiplier is unknown", "quote asset"),
    Column("trade_count", pa.int64(), "number of trades"),
    Column("buy_volume", REAL, "volume that takers bought", "see volume_unit"),
    Column("buy_quote_volume", REAL, "value that takers bought", "quote asset"),
    Column("vwap", REAL, "quote_volume / base_volume; null without volume", "quote asset"),
    Column("base_volume", REAL, "volume in the base asset; null where the multiplier is unknown", "base asset"),
    Column("volume_unit", TEXT, "what volume and buy_volume count: base, quote or contracts"),
)

_SUMMARY = pa.list_(
    pa.struct(
        [
            pa.field("dataset", pa.string()),
            pa.field("rows", pa.int64()),
            pa.field("first_timestamp", TIME),
            pa.field("last_timestamp", TIME),
            pa.field("gaps", pa.int64()),
        ]
    )
)
LISTING_COLUMNS = (
    Column("instrument_id", TEXT, "canonical id, venue:TYPE:SYMBOL", nullable=False),
    Column("venue", TEXT, "the data vendor's id of the exchange"),
    Column("instrument_type", TEXT, "spot, perpetual, future or option"),
    Column("venue_symbol", pa.string(), "the venue's own symbol"),
    Column("base_asset", TEXT, "what is bought and sold"),
    Column("quote_asset", TEXT, "what the price is in"),
    Column("settle_asset", TEXT, "what profit and loss are paid in"),
    Column("underlying", pa.string(), "index or instrument that a derivative follows"),
    Column("strike", REAL, "strike of an option", "quote asset"),
    Column("option_type", TEXT, "call or put"),
    Column("expiry", TIME, "moment of expiry; 00:00 of its day where only the day is known"),
    Column("tick_size", REAL, "smallest step of the price", "quote asset"),
    Column("lot_size", REAL, "smallest step of the amount", "venue's own unit"),
    Column("contract_multiplier", REAL, "what one unit of amount stands for; null where it is not known"),
    Column("inverse", pa.bool_(), "true where it is margined and paid in the base asset"),
    Column("available_from", TIME, "start of its listing, where known by the date's 00:00 UTC"),
    Column("available_to", TIME, "expiry (its day's end if only the day is known) or announced delisting; or null"),
    Column("known_from", TEXT, "listing: from the vendor's master; ticks: only the day's ticks prove it"),
)
LISTING_SCHEMA = _schema(LISTING_COLUMNS)
"""The schema of a source's instrument master, and of the map's columns that were known at 00:00 UTC."""
OBSERVED_COLUMNS = (
    Column("observed_data_types", pa.list_(pa.string()), "tick datasets with rows on the day"),
    Column("observed_timeframes", pa.list_(pa.string()), "timeframes of the candles with rows on the day"),
    Column("observed", _SUMMARY, "rows, first and last time and gaps (minutes without a row) of each dataset"),
    Column("ticks_lawful", pa.bool_(), "whether the laws of ticks hold on the day; null without ticks"),
    Column("candles_lawful", pa.bool_(), "whether the laws of candles hold on the day; null without candles"),
)

_DAY = "year-{year}/month-{month}/day-{day}"
_MONTH = "year-{year}/month-{month}"
_TICK = f"{_DAY}/data_type-{{dataset}}/{{instrument_id}}.parquet"
TICK_ROOT, CANDLE_ROOT, AVAILABILITY_ROOT, META_ROOT = (
    "market-data-tick",
    "market-data-candles",
    "market-data-instrument-availability",
    "market-data-meta",
)
ROOTS = (TICK_ROOT, CANDLE_ROOT, AVAILABILITY_ROOT, META_ROOT)

_TICK_LAYOUTS = (
    Layout("by_date", f"{TICK_ROOT}/raw_tick_data/by_date/{_TICK}"),
    Layout("by_venue", f"{TICK_ROOT}/raw_tick_data/by_venue/venue-{{venue}}/{_TICK}"),
    Layout("by_type", f"{TICK_ROOT}/raw_tick_data/by_type/type-{{instrument_type}}/{_TICK}"),
)
_FEATURE_LAYOUTS = (
    Layout(
        "by_date",
        f"{CANDLE_ROOT}/daily/by_date/{_DAY}/venue-{{venue}}/instrument-{{instrument_id}}/{{dataset}}.parquet",
    ),
    Layout("by_venue", f"{CANDLE_ROOT}/daily/by_venue/venue-{{venue}}/{_MONTH}/{{venue}}_{{dataset}}.parquet"),
    Layout(
        "by_instrument_id",
        f"{CANDLE_ROOT}/daily/by_instrument_id/instrument-{{instrument_id}}/{_MONTH}/{{short_name}}_{{dataset}}.parquet",
    ),
)
_CANDLE_LAYOUTS = (
    *_FEATURE_LAYOUTS,
    Layout(
        "by_timeframe",
        f"{CANDLE_ROOT}/daily/by_timeframe/timeframe-{{timeframe}}/{_MONTH}/{{timeframe}}_{{dataset}}.parquet",
    ),
)
MODEL_LAYOUT = Layout(
    "by_date", f"{META_ROOT}/models/by_date/{_DAY}/venue-{{venue}}/instrument-{{instrument_id}}/{{model}}.json"
)
"""Where the record of the model that made an instrument's signals of a day lies."""
_META_LAYOUTS = (Layout("by_date", f"{META_ROOT}/{{dataset}}/by_date/{_DAY}/{{dataset}}.parquet"),)
_AVAILABILITY_LAYOUTS = (
    Layout("by_date", f"{AVAILABILITY_ROOT}/daily/by_date/{_DAY}/{{dataset}}.parquet"),
    Layout("by_venue", f"{AVAILABILITY_ROOT}/daily/by_venue/venue-{{venue}}/{_MONTH}/{{venue}}_availability.parquet"),
    Layout(
        "by_instrument_type",
        f"{AVAILABILITY_ROOT}/daily/by_instrument_type/type-{{instrument_type}}/{_MONTH}/"
        "{instrument_type}_availability.parquet",
    ),
)

# what the features' rows have in common
_FEATURE = (
    Column("timeframe", TEXT, "length of the candle that the row belongs to"),
    Column("timestamp", TIME, "open of the candle that the row belongs to", nullable=False),
    Column("close_time", TIME, "the first instant at which the row may be used", nullable=False),
)


def _feature(name: str, meaning: str, unit: str, formula: str, look_back: int = 1) -> Column:
    return Column(name, REAL, meaning, unit, formula=formula, look_back=look_back)


_TECHNICAL = (
    _feature("simple_return", "close over the close before, less 1", "fraction", "c / c₋₁ − 1", 2),
    _feature("log_return", "logarithm of close over the close before", "fraction", "ln(c / c₋₁)", 2),
    _feature(
        "realised_volatility_20",
        "root of the sum of 20 squared log returns, not scaled to a year",
        "fraction",
        "Andersen and Bollerslev 1998: √Σr²",
        21,
    ),
    *(
        _feature(f"sma_{length}", f"mean of {length} closes", "quote asset", f"TA-Lib SMA({length})", length)
        for length in (10, 20, 50)
    ),
    *(
        _feature(f"ema_{length}", f"exponential mean of {length}", "quote asset", f"TA-Lib EMA({length})", 6 * length)
        for length in (10, 20, 50)
    ),
    _feature("rsi_14", "relative strength index; null where the price stands still", "0 to 100", "TA-Lib RSI(14)", 160),
    _feature("macd", "exponential mean of 12 less that of 26", "quote asset", "TA-Lib MACD(12, 26, 9)", 180),
    _feature("macd_signal", "exponential mean of 9 of macd", "quote asset", "TA-Lib MACD(12, 26, 9)", 180),
    _feature("macd_histogram", "macd less its signal", "quote asset", "TA-Lib MACD(12, 26, 9)", 180),
    _feature("bollinger_upper_20", "mean and 2 deviations", "quote asset", "TA-Lib BBANDS(20, 2, 2)", 20),
    _feature("bollinger_middle_20", "mean of 20 closes", "quote asset", "TA-Lib BBANDS(20, 2, 2)", 20),
    _feature("bollinger_lower_20", "mean less 2 deviations", "quote asset", "TA-Lib BBANDS(20, 2, 2)", 20),
    _feature("atr_14", "average true range", "quote asset", "TA-Lib ATR(14)", 160),
    _feature("adx_14", "average directional index; null where nothing moves", "0 to 100", "TA-Lib ADX(14)", 200),
    _feature("stochastic_k", "slow %K; null where a range is empty", "0 to 100", "TA-Lib STOCH(14, 3, 3)", 18),
    _feature("stochastic_d", "mean of 3 slow %K; null likewise", "0 to 100", "TA-Lib STOCH(14, 3, 3)", 18),
    _feature("cci_20", "commodity channel index; null where nothing deviates", "", "TA-Lib CCI(20)", 20),
    _feature("mfi_14", "money flow index; null where no money flows", "0 to 100", "TA-Lib MFI(14)", 15),
    _feature(
        "obv",
        "on-balance volume from 49 candles before the day on",
        "volume_unit",
        "TA-Lib OBV",
        50,
    ),
    _feature("vwap_distance", "close over the candle's vwap, less 1; null without volume", "fraction", "c / vwap − 1"),
    _feature("buy_share", "part of the volume that takers bought; null without volume", "fraction", "buys / volume"),
    _feature(
        "signed_volume",
        "bought less the rest of the volume: an unknown side counts as sold",
        "volume_unit",
        "2 × buys − volume",
    ),
    _feature("mean_trade_size", "volume of a trade; null without one", "volume_unit", "volume / trade_count"),
    *(
        _feature(f"delay_{which}", f"{meaning} of its trades; null without one", "ms", "local_timestamp − timestamp")
        for which, meaning in (
            ("mean", "mean delay"),
            ("median", "median delay"),
            ("min", "least delay"),
            ("max", "greatest delay"),
        )
    ),
    _feature("book_spread_bps", "best ask less best bid, by the mid", "basis points", "(a − b) / mid × 10⁴"),
    _feature("book_mid", "mean of best bid and best ask", "quote asset", "(a + b) / 2"),
    _feature(
        "book_microprice",
        "best prices, each weighted by the amount at the other (the weighted mid)",
        "quote asset",
        "Gatheral and Oomen 2010; Stoikov 2018, weighted mid: (a × bids₁ + b × asks₁) / (bids₁ + asks₁)",
    ),
    _feature(
        "book_imbalance_1",
        "by how much the amount at the best bid outweighs that at the best ask",
        "−1 to 1",
        "Gould and Bonart 2016: (bids₁ − asks₁) / (bids₁ + asks₁)",
    ),
    _feature(
        "book_imbalance_5",
        "by how much the amounts on five levels of bids outweigh those of asks",
        "−1 to 1",
        "(bids − asks) / (bids + asks)",
    ),
    *(
        _feature(f"book_{side}_depth_5", f"amount on the five best {side}s", "venue's own unit", f"Σ {side}s")
        for side in ("bid", "ask")
    ),
)
_FUNDAMENTAL = (
    _feature("funding_rate", "rate of the next funding, positive if longs pay", "fraction", "the venue's"),
    _feature("predicted_funding_rate", "predicted rate of the funding after that", "fraction", "the venue's"),
    _feature("hours_to_funding", "from close_time to the next funding", "hours", "funding_timestamp − close_time"),
    _feature("open_interest", "open interest", "venue's own unit", "the venue's"),
    _feature("open_interest_change", "over the candle", "venue's own unit", "at close_time − at the candle's open"),
    _feature("mark_premium", "mark price over index price, of one tick", "basis points", "mark / index − 1"),
    _feature("basis", "close over the ticker's index price", "basis points", "c / index − 1"),
    _feature(
        "annualised_basis",
        "basis of a dated future by the year; null on its last day",
        "basis points a year",
        "Hull, cost of carry: basis × 365 days / time to expiry",
    ),
    _feature("spot_basis", "close over that of the spot pair's candle", "basis points", "c / c of the spot pair − 1"),
    _feature(
        "annualised_spot_basis",
        "spot_basis of a dated future by the year; null on its last day",
        "basis points a year",
        "Hull, cost of carry: spot_basis × 365 days / time to expiry",
    ),
    *(
        column
        for side, closed_by in (("long", "sell"), ("short", "buy"))
        for column in (
            Column(
                f"{side}_liquidation_count",
                pa.int64(),
                f"{side}s liquidated within the candle",
                formula=f"count of {closed_by}s",
            ),
            _feature(
                f"{side}_liquidation_volume", "amount of these", "venue's own unit", f"sum of amounts of {closed_by}s"
            ),
        )
    ),
    *(
        _feature(
            f"liquidation_volume_{way}",
            f"amount of all liquidations if open interest {past} over the candle, else 0",
            "venue's own unit",
            f"sum of amounts if open_interest_change {sign} 0",
        )
        for way, past, sign in (("rising", "rose", ">"), ("falling", "fell", "<"))
    ),
    _feature(
        "atm_iv_30d",
        "implied volatility at strike = forward, at 30 days",
        "percent a year",
        "Cboe 2003: total variance linear in time",
    ),
    _feature(
        "skew_25d_30d",
        "volatility of the 25-delta put less that of the call, at 30 days",
        "percent a year",
        "put − call, each as atm_iv_30d",
    ),
    _feature(
        "term_slope_30d",
        "atm volatility of the first expiry at or after 30 days less that of the last at or before",
        "percent a year for 30 days",
        "difference / days between them × 30",
    ),
    _feature("atm_iv_nearest", "atm volatility of the expiry nearest to 30 days", "percent a year", "no interpolation"),
    _feature("skew_25d_nearest", "25-delta skew of that expiry", "percent a year", "put − call"),
    _feature("nearest_expiry_days", "from close_time to that expiry", "days", "expiration − close_time"),
    _feature("put_call_open_interest", "open interest of all puts over that of all calls", "", "puts / calls"),
)
_SIGNALS = (
    Column(
        "probability",
        REAL,
        "that the price goes up, as the label of the model's record means it; null without a model or a price, or "
        "where more than half of the model's inputs are missing",
        "0 to 1",
    ),
    Column("position", pa.int8(), "long 1, short -1, none 0; null where the probability is"),
    Column("model", TEXT, "the model's record: its name holds a hash of it; null without a model"),
    Column("train_from", TIME, "close of the first candle that the model was trained on, or would have been"),
    Column("train_to", TIME, "the last of its labels was known then: before the date, by the embargo at least"),
    Column("train_rows", pa.int64(), "candles that it was trained on; too few, and there is no model", "candles"),
)
_FEATURE_SETS: "dict[str, tuple[str, tuple[Column, ...]]]" = {
    "technical_features": ("indicators, order flow and book of one candle, known at its close", _TECHNICAL),
    "fundamental_features": (
        "funding, basis, open interest, liquidations and options of one candle, known at its close",
        _FUNDAMENTAL,
    ),
    "ml_signals": (
        "a model's probability and position for one candle, known at its close; no promise of profit",
        _SIGNALS,
    ),
}

DATASETS: "dict[str, Dataset]" = {
    dataset.name: dataset
    for dataset in (
        *(
            Dataset(name, Kind.TICKS, Tier.EXECUTION, row, columns, _TICK_LAYOUTS)
            for name, (row, columns) in _TICK_COLUMNS.items()
        ),
        Dataset(
            "instruments",
            Kind.INSTRUMENTS,
            Tier.AVAILABILITY,
            "one instrument that was listed at 00:00 UTC of the date, as the source's master knew it then",
            LISTING_COLUMNS,
            _META_LAYOUTS,
            order=("instrument_id",),
        ),
        *(
            Dataset(
                f"ohlcv_{timeframe.name}",
                Kind.CANDLES,
                Tier.ML,
                f"one candle of {timeframe.name}: prices, volumes and trades of [timestamp, close_time)",
                _CANDLE,
                _CANDLE_LAYOUTS,
                timeframe=timeframe,
            )
            for timeframe in TIMEFRAMES.values()
        ),
        *(
            # of candles that open together the shortest, which closes first, comes first
            Dataset(
                name,
                Kind.FEATURES,
                Tier.ML,
                row,
                (*_FEATURE, *columns),
                _FEATURE_LAYOUTS,
                order=("timestamp", "close_time"),
            )
            for name, (row, columns) in _FEATURE_SETS.items()
        ),
        Dataset(
            "available_instruments",
            Kind.AVAILABILITY,
            Tier.AVAILABILITY,
            "one instrument that could be traded on the date",
            (*LISTING_COLUMNS, *OBSERVED_COLUMNS),
            _AVAILABILITY_LAYOUTS,
            order=("instrument_id",),
        ),
    )
}


_QUARANTINED = (
    Column("origin", pa.string(), "name of the source's file", nullable=False),
    Column("line", pa.int64(), "line of the file, counted from 1", nullable=False),
    Column("reason", TEXT, "what is wrong with it", nullable=False),
    Column("reason_rows", pa.int64(), "rows that the file has of the instrument with this reason, kept here or not"),
    Column("text", pa.string(), "the line as it stood, its first 2,000 characters", nullable=False),
)
QUARANTINE: "dict[str, Dataset]" = {
    name: Dataset(
        f"quarantine_{name}",
        Kind.QUARANTINE,
        Tier.EXECUTION,
        f"one row of a source's file of {name} that was set aside, with the reason",
        _QUARANTINED,
        (
            Layout(
                "by_date", f"{META_ROOT}/quarantine/by_date/{_DAY}/data_type-{{data_type}}/{{instrument_id}}.parquet"
            ),
        ),
        order=("line",),
        of=name,
    )
    for name in _TICK_COLUMNS
}
"""The rows that were set aside, by the dataset that they were set aside from; they stand beside the table of datasets,
since no run asks for them and nothing is made from them."""


def dataset(name: str, kind: Kind | None = None) -> Dataset:
    """The dataset of this name (and kind); raises DatasetError with the names that exist."""
    known = {n: d for n, d in DATASETS.items() if kind is None or d.kind is kind}
    try:
        return known[name]
    except (KeyError, TypeError):
        what = f"dataset of {kind}" if kind else "dataset"
        raise DatasetError(f"{name!r} is no {what}; there are {', '.join(known)}") from None


def candles(timeframe: str) -> Dataset:
    """The dataset of the candles of a timeframe; raises DatasetError with the timeframes that exist."""
    if timeframe not in TIMEFRAMES:
        raise DatasetError(f"{timeframe!r} is no timeframe; there are {', '.join(TIMEFRAMES)}")
    return DATASETS[f"ohlcv_{timeframe}"]
