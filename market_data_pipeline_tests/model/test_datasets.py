"""The table of datasets: what is promised is there, and what cannot work is refused where it is declared."""

import re
from dataclasses import replace
from datetime import date, timedelta

import pyarrow as pa
import pytest

from market_data_pipeline.model.datasets import (
    DATASETS,
    LISTING_COLUMNS,
    OBSERVED_COLUMNS,
    REAL,
    TIME,
    TIMEFRAMES,
    Column,
    Dataset,
    Kind,
    Tier,
    candles,
    dataset,
)
from market_data_pipeline.model.errors import DatasetError, LayoutError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout

TICKS = ["trades", "book_snapshot_5", "book_snapshot_25", "liquidations", "derivative_ticker", "options_chain"]
CANDLES = ["ohlcv_1m", "ohlcv_5m", "ohlcv_15m", "ohlcv_1h", "ohlcv_4h", "ohlcv_1d"]
FEATURES = ["technical_features", "fundamental_features", "ml_signals"]
PARTITION = ["date", "year", "month", "day", "venue", "instrument_id", "instrument_type", "base_asset", "quote_asset"]
PARTITION += ["data_type", "data_tier"]
LISTING = (
    "instrument_id venue instrument_type venue_symbol base_asset quote_asset settle_asset underlying strike "
    "option_type expiry tick_size lot_size contract_multiplier inverse available_from available_to known_from"
)
every_dataset = pytest.mark.parametrize("each", DATASETS.values(), ids=DATASETS.keys())

BY_DATE = Layout("by_date", "{year}/{month}/{day}/{dataset}/{instrument_id}.parquet")
GOOD = Dataset("mine", Kind.TICKS, Tier.EXECUTION, "a row", (Column("timestamp", TIME, "time"),), (BY_DATE,))


@pytest.mark.parametrize(
    ("kind", "names", "tier"),
    [
        (Kind.TICKS, TICKS, "execution"),
        (Kind.CANDLES, CANDLES, "ml"),
        (Kind.FEATURES, FEATURES, "ml"),
        (Kind.INSTRUMENTS, ["instruments"], "availability"),
        (Kind.AVAILABILITY, ["available_instruments"], "availability"),
    ],
)
def test_the_names_promised(kind: Kind, names: list[str], tier: str) -> None:
    found = [each for each in DATASETS.values() if each.kind is kind]
    assert [each.name for each in found if each.name in names] == names  # others may be added
    assert {str(each.tier) for each in found} == {tier}
    assert all(dataset(name) is dataset(name, kind) is DATASETS[name] for name in names)


@pytest.mark.parametrize(
    ("names", "layouts"),
    [
        (TICKS, ["by_date", "by_venue", "by_type"]),
        (CANDLES, ["by_date", "by_venue", "by_instrument_id", "by_timeframe"]),
        (FEATURES, ["by_date", "by_venue", "by_instrument_id"]),
        (["available_instruments"], ["by_date", "by_venue", "by_instrument_type"]),
    ],
)
def test_the_layouts_promised(names: list[str], layouts: list[str]) -> None:
    for name in names:
        assert [layout.name for layout in DATASETS[name].layouts if layout.name in layouts] == layouts


def levels(depth: int) -> str:
    return " ".join(f"ask_price_{n} ask_amount_{n} bid_price_{n} bid_amount_{n}" for n in range(1, depth + 1))


TRADE = "timestamp local_timestamp id side price amount"
CANDLE = (
    "timestamp close_time open high low close volume quote_volume trade_count buy_volume buy_quote_volume vwap "
    "base_volume volume_unit"
)
OWN = {
    "trades": TRADE,
    "liquidations": TRADE,
    "book_snapshot_5": f"timestamp local_timestamp {levels(5)}",
    "book_snapshot_25": f"timestamp local_timestamp {levels(25)}",
    "derivative_ticker": (
        "timestamp local_timestamp funding_timestamp funding_rate predicted_funding_rate open_interest last_price "
        "index_price mark_price"
    ),
    "options_chain": (
        "timestamp local_timestamp type strike_price expiration open_interest last_price bid_price bid_amount bid_iv "
        "ask_price ask_amount ask_iv mark_price mark_iv underlying_index underlying_price delta gamma vega theta rho"
    ),
    **dict.fromkeys(CANDLES, CANDLE),
    "instruments": LISTING,
    "available_instruments": (
        f"{LISTING} observed_data_types observed_timeframes observed ticks_lawful candles_lawful"
    ),
}


@pytest.mark.parametrize(("name", "columns"), OWN.items(), ids=OWN.keys())
def test_the_columns_promised(name: str, columns: str) -> None:
    assert " ".join(DATASETS[name].own_schema.names) == columns


@every_dataset
def test_the_partition_values_are_columns_too(each: Dataset) -> None:
    wanted = [*PARTITION, *(["timeframe"] if each.kind is Kind.CANDLES else [])]
    assert set(wanted) <= set(each.schema.names)
    assert [column.name for column in each.partition_columns] == [
        name for name in wanted if name not in each.own_schema.names
    ]
    assert each.schema.names == [*each.own_schema.names, *(column.name for column in each.partition_columns)]
    types = {name: each.schema.field(name).type for name in wanted}
    text = pa.dictionary(pa.int32(), pa.string())
    assert types == dict.fromkeys(wanted, text) | {
        "date": pa.date32(),
        "year": pa.int16(),
        "month": pa.int16(),
        "day": pa.int16(),
    }


@every_dataset
def test_the_columns_are_what_bigquery_takes(each: Dataset) -> None:
    names = each.schema.names
    assert all(re.fullmatch(r"[a-z_][a-z0-9_]{0,299}", name) for name in names)
    reserved = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier")
    assert not [name for name in names if name.startswith(reserved)]
    assert len({name.lower() for name in names}) == len(names)


@every_dataset
def test_times_are_utc_microseconds_and_the_order_is_of_columns(each: Dataset) -> None:
    times = [field.type for field in each.schema if pa.types.is_timestamp(field.type)]
    assert set(times) == {pa.timestamp("us", tz="UTC")}
    assert set(each.order) <= set(each.own_schema.names)
    assert not each.own_schema.field(each.order[0]).nullable


@every_dataset
def test_every_column_says_what_it_means(each: Dataset) -> None:
    assert each.row
    assert [column.name for column in (*each.columns, *each.partition_columns) if not column.meaning] == []


def test_the_candles_of_every_timeframe_look_alike() -> None:
    assert len({candles(name).schema.to_string() for name in TIMEFRAMES}) == 1


def test_the_columns_known_before_the_day_stand_before_those_observed() -> None:
    listing, observed = ([column.name for column in part] for part in (LISTING_COLUMNS, OBSERVED_COLUMNS))
    assert DATASETS["available_instruments"].own_schema.names == [*listing, *observed]


@pytest.mark.parametrize(
    ("name", "minutes", "source"),
    [("1m", 1, None), ("5m", 5, "1m"), ("15m", 15, "5m"), ("1h", 60, "15m"), ("4h", 240, "1h"), ("1d", 1440, "4h")],
)
def test_the_timeframes(name: str, minutes: int, source: str | None) -> None:
    timeframe = TIMEFRAMES[name]
    assert (timeframe.name, timeframe.length, timeframe.source) == (name, timedelta(minutes=minutes), source)
    assert timeframe.microseconds == minutes * 60_000_000
    assert candles(name) is DATASETS[f"ohlcv_{name}"]
    assert candles(name).timeframe is timeframe


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        (
            "trades",
            "binance:SPOT_PAIR:BTC-USDT",
            {
                "venue": "binance",
                "instrument_id": "binance:SPOT_PAIR:BTC-USDT",
                "instrument_type": "spot",
                "base_asset": "BTC",
                "quote_asset": "USDT",
                "data_type": "trades",
                "data_tier": "execution",
            },
        ),
        (
            "ohlcv_5m",
            "deribit:option:btc-usd-241225-50000-call",
            {
                "venue": "deribit",
                "instrument_id": "deribit:Option:BTC-USD-50000-241225-C",
                "instrument_type": "option",
                "base_asset": "BTC",
                "quote_asset": "USD",
                "data_type": "ohlcv_5m",
                "data_tier": "ml",
                "timeframe": "5m",
            },
        ),
        ("available_instruments", None, {"data_type": "available_instruments", "data_tier": "availability"}),
    ],
)
def test_the_partition_values_of_a_day_file(name: str, text: str | None, values: dict[str, object]) -> None:
    day = date(2023, 5, 3)
    instrument = Instrument.parse(text) if text else None
    found = DATASETS[name].partition_values(day, instrument)
    assert found == {"date": day, "year": 2023, "month": 5, "day": 3} | values
    assert list(found) == [column.name for column in DATASETS[name].partition_columns]


@every_dataset
def test_day_files_and_month_files_make_up_the_layouts(each: Dataset) -> None:
    assert (*each.day_layouts, *each.month_layouts) == each.layouts
    assert each.day_layouts[0].name == "by_date"
    assert each.per_instrument is (each.kind not in (Kind.INSTRUMENTS, Kind.AVAILABILITY))


@pytest.mark.parametrize("name", ["trade", "ohlcv_1w", "", "TRADES", None, []])
def test_an_unknown_dataset_names_those_that_exist(name: str) -> None:
    with pytest.raises(DatasetError, match=r"is no dataset; there are trades, .*available_instruments"):
        dataset(name)


def test_a_dataset_of_another_kind_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"'ohlcv_1m' is no dataset of ticks; there are trades, .*options_chain$"):
        dataset("ohlcv_1m", Kind.TICKS)


@pytest.mark.parametrize("timeframe", ["1w", "", "60", "1M", None])
def test_an_unknown_timeframe_names_those_that_exist(timeframe: str) -> None:
    with pytest.raises(DatasetError, match=f"is no timeframe; there are {', '.join(TIMEFRAMES)}"):
        candles(timeframe)


def test_an_unknown_layout_names_those_that_exist() -> None:
    with pytest.raises(DatasetError, match="trades has no layout 'by_week'; it has by_date, by_venue, by_type"):
        DATASETS["trades"].layout("by_week")


MONTHS = Layout("by_month", "{year}/{month}/{dataset}.parquet")
WHOLE_DAYS = Layout("by_day", "{year}/{month}/{day}/{dataset}.parquet")
VENUE_DAYS = Layout("by_venue", "venue-{venue}/{year}/{month}/{day}/{dataset}.parquet")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"layouts": ()}, "first layout must hold days"),
        ({"layouts": (MONTHS,)}, "first layout must hold days"),
        ({"layouts": (MONTHS, BY_DATE)}, "first layout must hold days"),
        ({"layouts": (BY_DATE, WHOLE_DAYS)}, "layout by_day holds days, so it must hold the same objects as by_date"),
        ({"layouts": (WHOLE_DAYS, BY_DATE)}, "layout by_date holds days, so it must hold the same objects as by_day"),
        ({"layouts": (VENUE_DAYS,)}, r"layout by_venue holds days of a group of instruments \(venue\)"),
        ({"layouts": (WHOLE_DAYS, VENUE_DAYS)}, r"layout by_venue holds days of a group of instruments \(venue\)"),
    ],
)
def test_layouts_that_cannot_work_are_refused(changes: dict[str, tuple[Layout, ...]], why: str) -> None:
    with pytest.raises(LayoutError, match=f"dataset mine: .*{why}"):
        replace(GOOD, **changes)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["price", "price"], "column price is declared twice"),
        (["price", "Price"], "column price is declared twice"),
        (["DATE"], "column DATE is declared twice"),
        (["asks[0].price"], "must be letters, digits and underscores"),
        (["a-b"], "must be letters, digits and underscores"),
        (["1m"], "must be letters, digits and underscores"),
        (["größe"], "must be letters, digits and underscores"),
        ([""], "must be letters, digits and underscores"),
        (["a" * 301], "must be letters, digits and underscores"),
    ],
)
def test_columns_that_cannot_work_are_refused(names: list[str], why: str) -> None:
    columns = (*GOOD.columns, *(Column(name, REAL, "a number") for name in names))
    with pytest.raises(DatasetError, match=f"dataset mine: .*{why}"):
        replace(GOOD, columns=columns)


def test_an_order_by_what_is_no_column_is_refused() -> None:
    with pytest.raises(DatasetError, match="ordered by 'time', which is no column"):
        replace(GOOD, order=("time",))


def test_another_layout_is_one_line_of_data() -> None:
    more = replace(GOOD, layouts=(BY_DATE, MONTHS, Layout("by_base", "{base_asset}/{year}/{month}/{dataset}.parquet")))
    instrument = Instrument.spot("binance", "BTC", "USDT")
    assert more.path(more.layout("by_base"), date(2023, 5, 3), instrument) == "BTC/2023/05/mine.parquet"
    assert [layout.name for layout in more.month_layouts] == ["by_month", "by_base"]
