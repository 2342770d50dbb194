"""Paths: formatting and parsing are exact inverses, prefixes hold nothing but what was asked, bad ones are refused."""

from datetime import date
from itertools import chain, combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data_pipeline.model.datasets import DATASETS, Dataset
from market_data_pipeline.model.errors import LayoutError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.model.layouts import Layout, instrument_fields, is_hive
from market_data_pipeline_tests.strategies import days, instruments

SPOT = Instrument.parse("binance:SPOT_PAIR:BTC-USDT")
DAY = date(2023, 5, 23)
PLACES = [(dataset, layout) for dataset in DATASETS.values() for layout in dataset.layouts]
places = pytest.mark.parametrize(
    ("dataset", "layout"), PLACES, ids=[f"{dataset.name}-{layout.name}" for dataset, layout in PLACES]
)

TICKS = "market-data-tick/raw_tick_data"
CANDLES = "market-data-candles/daily"
MAPS = "market-data-instrument-availability/daily"
PATHS = [
    (
        "trades",
        "by_date",
        f"{TICKS}/by_date/year-2023/month-05/day-23/data_type-trades/binance:SPOT_PAIR:BTC-USDT.parquet",
    ),
    (
        "trades",
        "by_venue",
        f"{TICKS}/by_venue/venue-binance/year-2023/month-05/day-23/data_type-trades/binance:SPOT_PAIR:BTC-USDT.parquet",
    ),
    (
        "trades",
        "by_type",
        f"{TICKS}/by_type/type-spot/year-2023/month-05/day-23/data_type-trades/binance:SPOT_PAIR:BTC-USDT.parquet",
    ),
    (
        "ohlcv_1m",
        "by_date",
        f"{CANDLES}/by_date/year-2023/month-05/day-23/venue-binance/instrument-binance:SPOT_PAIR:BTC-USDT/"
        "ohlcv_1m.parquet",
    ),
    ("ohlcv_1m", "by_venue", f"{CANDLES}/by_venue/venue-binance/year-2023/month-05/binance_ohlcv_1m.parquet"),
    (
        "ohlcv_1m",
        "by_instrument_id",
        f"{CANDLES}/by_instrument_id/instrument-binance:SPOT_PAIR:BTC-USDT/year-2023/month-05/btcusdt_ohlcv_1m.parquet",
    ),
    ("ohlcv_1m", "by_timeframe", f"{CANDLES}/by_timeframe/timeframe-1m/year-2023/month-05/1m_ohlcv_1m.parquet"),
    (
        "available_instruments",
        "by_date",
        f"{MAPS}/by_date/year-2023/month-05/day-23/available_instruments.parquet",
    ),
    (
        "available_instruments",
        "by_venue",
        f"{MAPS}/by_venue/venue-binance/year-2023/month-05/binance_availability.parquet",
    ),
    (
        "available_instruments",
        "by_instrument_type",
        f"{MAPS}/by_instrument_type/type-spot/year-2023/month-05/spot_availability.parquet",
    ),
]


@pytest.mark.parametrize(("name", "layout", "path"), PATHS)
def test_the_paths_of_the_document(name: str, layout: str, path: str) -> None:
    dataset = DATASETS[name]
    assert dataset.path(dataset.layout(layout), DAY, SPOT) == path


@places
@settings(max_examples=25)
@given(instrument=instruments, day=days)
def test_parsing_undoes_formatting(dataset: Dataset, layout: Layout, instrument: Instrument, day: date) -> None:
    path = dataset.path(layout, day, instrument)
    fields = layout.parse(path)
    given_values = dataset.path_fields(instrument)
    assert {name: value for name, value in fields.items() if name in given_values} == {
        name: value for name, value in given_values.items() if name in layout.placeholders
    }
    assert fields.keys() == layout.placeholders
    assert layout.day_of(fields) == (day if layout.daily else day.replace(day=1))
    assert layout.format(layout.day_of(fields), **fields) == path


@places
@settings(max_examples=25)
@given(instrument=instruments, day=days, data=st.data())
def test_what_is_parsed_is_formatted_back_or_refused(
    dataset: Dataset, layout: Layout, instrument: Instrument, day: date, data: st.DataObject
) -> None:
    path = dataset.path(layout, day, instrument)
    start = data.draw(st.integers(0, len(path)))
    stop = data.draw(st.integers(start, min(start + 2, len(path))))
    changed = path[:start] + data.draw(st.text("-_./:0129aAmbzBP\n", max_size=2)) + path[stop:]
    try:
        fields = layout.parse(changed)
    except LayoutError:
        return
    assert layout.format(layout.day_of(fields), **fields) == changed


@places
def test_no_two_objects_share_a_path(dataset: Dataset, layout: Layout) -> None:
    path = dataset.path(layout, DAY, SPOT)
    others = [(each, beside) for each, beside in PLACES if (each, beside) != (dataset, layout)]
    assert path not in {each.path(beside, DAY, SPOT) for each, beside in others}


@places
@settings(max_examples=25)
@given(instrument=instruments, day=days, data=st.data())
def test_a_prefix_is_a_folder_or_a_whole_path(
    dataset: Dataset, layout: Layout, instrument: Instrument, day: date, data: st.DataObject
) -> None:
    path = dataset.path(layout, day, instrument)
    fields = dataset.path_fields(instrument)
    known = data.draw(st.sets(st.sampled_from(sorted(fields))))
    timed = data.draw(st.booleans())
    prefix = layout.prefix(day if timed else None, **{name: fields[name] for name in known})
    assert path.startswith(prefix)
    assert prefix.endswith("/") or prefix == path
    assert (prefix == path) == (timed and layout.placeholders <= {"year", "month", "day", *known})


@places
@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        ("binance:SPOT_PAIR:BTC-USD", "binance:SPOT_PAIR:BTC-USDT"),
        ("binance:Perp:BTC-USDT", "binance-futures:Perp:BTC-USDT"),
        ("deribit:Option:BTC-USD-5-241225-C", "deribit:Option:BTC-USD-50-241225-C"),
    ],
)
def test_a_prefix_never_lists_a_longer_name(dataset: Dataset, layout: Layout, shorter: str, longer: str) -> None:
    one, other = dataset.path_fields(Instrument.parse(shorter)), dataset.path_fields(Instrument.parse(longer))
    for known in chain.from_iterable(combinations(one, size) for size in range(len(one) + 1)):
        prefix = layout.prefix(DAY, **{name: one[name] for name in known})
        listed = layout.format(DAY, **other).startswith(prefix)
        assert listed == (layout.prefix(DAY, **{name: other[name] for name in known}) == prefix)


def test_prefixes_of_days_are_told_once() -> None:
    by_month = DATASETS["ohlcv_1m"].layout("by_timeframe")
    listed = [date(2023, 5, 23), date(2023, 5, 24), date(2023, 6, 1)]
    assert list(by_month.prefixes(listed, timeframe="1m")) == [
        f"{CANDLES}/by_timeframe/timeframe-1m/year-2023/month-05/",
        f"{CANDLES}/by_timeframe/timeframe-1m/year-2023/month-06/",
    ]


@pytest.mark.parametrize("venue", ["../binance", "", "Binance", "a/b", "binance\n"])
def test_what_cannot_stand_in_a_path_is_no_prefix_either(venue: str) -> None:
    layout = DATASETS["trades"].layout("by_venue")
    with pytest.raises(LayoutError, match=r"cannot stand for \{venue\}"):
        layout.prefix(DAY, venue=venue)


@pytest.mark.parametrize(
    ("name", "layout", "right", "wrong"),
    [
        ("trades", "by_venue", "venue-binance", "venue-deribit"),
        ("trades", "by_type", "type-spot", "type-perpetual"),
        ("ohlcv_1m", "by_date", "venue-binance", "venue-binance-futures"),
        ("ohlcv_1m", "by_instrument_id", "btcusdt_", "btcusd_"),
        ("ohlcv_1m", "by_venue", "/binance_", "/deribit_"),
        ("ohlcv_1m", "by_timeframe", "/1m_", "/5m_"),
        ("ohlcv_1m", "by_timeframe", "timeframe-1m", "timeframe-1w"),
        ("available_instruments", "by_instrument_type", "/spot_", "/option_"),
        ("available_instruments", "by_instrument_type", "spot", "swap"),
        ("trades", "by_date", "SPOT_PAIR", "SPOT"),
        ("trades", "by_date", "SPOT_PAIR", "spot_pair"),
        ("trades", "by_date", "BTC-USDT", "btc-usdt"),
        ("trades", "by_date", "BTC-USDT", "BTC"),
        ("trades", "by_date", "BTC-USDT", "BTC-USDT-241225"),
        ("trades", "by_date", "month-05", "month-13"),
        ("trades", "by_date", "month-05", "month-5"),
        ("trades", "by_date", "day-23", "day-32"),
        ("trades", "by_date", "month-05/day-23", "month-02/day-29"),
        ("trades", "by_date", "year-2023", "year-0000"),
        ("trades", "by_date", "year-2023", "year-\u0662\u0660\u0662\u0663"),
        ("trades", "by_date", ".parquet", ".parquet\n"),
        ("trades", "by_date", ".parquet", ".parquet.part"),
        ("trades", "by_date", ".parquet", "Xparquet"),
        ("trades", "by_date", "market-data-tick/", "/market-data-tick/"),
        ("trades", "by_date", "market-data-tick/", "execution_data/market-data-tick/"),
        ("trades", "by_date", "by_date", "by_venue"),
    ],
)
def test_a_path_of_no_such_object_is_refused(name: str, layout: str, right: str, wrong: str) -> None:
    dataset = DATASETS[name]
    path = dataset.path(dataset.layout(layout), DAY, SPOT)
    assert right in path
    with pytest.raises(LayoutError, match=f"is not a path of layout {layout}"):
        dataset.layout(layout).parse(path.replace(right, wrong))


@pytest.mark.parametrize(
    "path",
    [
        f"{TICKS}/by_date/year=2023/month=05/day=23/data_type=trades/binance:SPOT_PAIR:BTC-USDT.parquet",
        "year=2023/month=05/x.parquet",
        f"{TICKS}/by_date/year-2023/month-05/day=23/data_type-trades/binance:SPOT_PAIR:BTC-USDT.parquet",
        f"{TICKS}/by_venue/venue=binance/x.parquet",
    ],
)
def test_a_hive_path_is_refused_by_name(path: str) -> None:
    with pytest.raises(LayoutError, match=r"Hive-style path .*year-2023/month-05/day-23"):
        DATASETS["trades"].layouts[0].parse(path)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{year}/{month}/{hour}.parquet", "unknown placeholder {hour}"),
        ("{year}/{month}/{}.parquet", "unknown placeholder {}"),
        ("{year}/{month}/{0}.parquet", "unknown placeholder {0}"),
        ("{year}/{month}/{venue.x}.parquet", "unknown placeholder {venue.x}"),
        ("{year}/{month}/{venue[0]}.parquet", "unknown placeholder {venue"),
        ("{year}/{month}/{venue!r}.parquet", "no format or conversion"),
        ("{year}/{month:>4}/x.parquet", "no format or conversion"),
        ("{year}/{month}/{venue.parquet", "is no template"),
        ("{year}/{month}/venue}.parquet", "is no template"),
        ("{month}/{day}.parquet", "needs {year} and {month}"),
        ("{year}/{day}.parquet", "needs {year} and {month}"),
        ("x.parquet", "needs {year} and {month}"),
        ("", "needs {year} and {month}"),
        ("/{year}/{month}.parquet", "must be a relative path"),
        ("{year}/../{month}.parquet", "must be a relative path"),
        ("./{year}/{month}.parquet", "must be a relative path"),
        ("{year}//{month}.parquet", "must be a relative path"),
        ("{year}/{month}/", "must be a relative path"),
        ("{year}\\{month}.parquet", "must be a relative path"),
        ("year={year}/month={month}/x.parquet", "write key-value"),
        ("a/{year}/{month}/venue={venue}.parquet", "write key-value"),
    ],
)
def test_a_bad_template_is_refused_where_it_is_declared(template: str, why: str) -> None:
    with pytest.raises(LayoutError) as refused:
        Layout("mine", template)
    assert why in str(refused.value)
    assert "layout mine" in str(refused.value)


@pytest.mark.parametrize("name", sorted(instrument_fields(SPOT)))
def test_formatting_needs_every_value(name: str) -> None:
    fields = instrument_fields(SPOT)
    layout = Layout("mine", f"{{year}}/{{month}}/{{{name}}}.parquet")
    assert layout.format(DAY, **fields) == f"2023/05/{fields[name]}.parquet"
    with pytest.raises(LayoutError, match=f"no value for {{{name}}}"):
        layout.format(DAY, **{key: value for key, value in fields.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("venue", "bin/ance"),
        ("venue", ""),
        ("venue", "Binance"),
        ("venue", "binance\n"),
        ("dataset", ".."),
        ("dataset", "ohlcv-1m"),
        ("instrument_type", "SPOT_PAIR"),
        ("instrument_id", "binance:SPOT_PAIR:BTC-US..T"),
        ("instrument_id", "binance:SPOT_PAIR:../USDT"),
        ("short_name", "btc..usdt"),
        ("timeframe", "1w"),
        ("base_asset", "btc"),
    ],
)
def test_a_value_that_cannot_stand_in_a_path_is_refused(name: str, value: str) -> None:
    layout = Layout("mine", f"{{year}}/{{month}}/{{{name}}}.parquet")
    with pytest.raises(LayoutError, match=f"cannot stand for {{{name}}}"):
        layout.format(DAY, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("venue", "deribit"), ("short_name", "btcusd"), ("instrument_type", "future")]
)
def test_values_that_do_not_belong_together_make_no_path(name: str, value: str) -> None:
    layout = Layout("mine", f"{{year}}/{{month}}/{{{name}}}/{{instrument_id}}.parquet")
    with pytest.raises(LayoutError, match=f"{name} is '{value}'"):
        layout.format(DAY, **(instrument_fields(SPOT) | {name: value}))


@pytest.mark.parametrize(
    "template", ["{base_asset}{quote_asset}/{year}-{month}.parquet", "{year}/{month}/{dataset}{timeframe}.parquet"]
)
def test_a_path_that_could_be_read_in_two_ways_is_not_made(template: str) -> None:
    fields = instrument_fields(SPOT) | {"dataset": "ohlcv", "timeframe": "15m"}
    with pytest.raises(LayoutError, match="could be read in two ways"):
        Layout("mine", template).format(DAY, **fields)


def test_a_layout_says_what_lies_under_its_paths() -> None:
    told = {
        (dataset.name, layout.name): (layout.daily, layout.per_instrument, layout.group_fields)
        for dataset, layout in PLACES
        if dataset.name in {"trades", "ohlcv_1m", "available_instruments"}
    }
    promised = {
        ("trades", "by_date"): (True, True, ("instrument_id",)),
        ("trades", "by_venue"): (True, True, ("instrument_id", "venue")),
        ("trades", "by_type"): (True, True, ("instrument_id", "instrument_type")),
        ("ohlcv_1m", "by_date"): (True, True, ("instrument_id", "venue")),
        ("ohlcv_1m", "by_venue"): (False, False, ("venue",)),
        ("ohlcv_1m", "by_instrument_id"): (False, True, ("instrument_id", "short_name")),
        ("ohlcv_1m", "by_timeframe"): (False, False, ()),
        ("available_instruments", "by_date"): (True, False, ()),
        ("available_instruments", "by_venue"): (False, False, ("venue",)),
        ("available_instruments", "by_instrument_type"): (False, False, ("instrument_type",)),
    }
    assert told.items() >= promised.items()


@places
@given(data=st.data())
def test_a_path_in_another_case_is_told_how_it_should_be_written(
    dataset: Dataset, layout: Layout, data: st.DataObject
) -> None:
    path = dataset.path(layout, data.draw(days), data.draw(instruments))
    assert layout.respelled(path) is None
    other = "".join(data.draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in path)
    assert layout.respelled(other) == (None if other == path else path)
    assert layout.respelled(other + "x") is None


@pytest.mark.parametrize(
    ("path", "hive"),
    [
        ("by_date/year=2023/month=05/x.parquet", True),
        ("a/venue=binance/x", True),
        ("by_date/year-2023/part=1/x.parquet", True),
        ("a/Year=2023/x", True),
        ("a/Year=/x", True),
        ("a/5=6/x", False),
        (PATHS[0][2], False),
        ("a/b=c", False),
    ],
)
def test_hive_style_paths_are_known_by_their_folders(path: str, hive: bool) -> None:
    assert is_hive(path) is hive
