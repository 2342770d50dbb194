"""What analysts ask, in BigQuery's SQL, of the tables and functions for BigQuery: the answers are the reader's.

DuckDB stands in for BigQuery, so this is of the statements' logic: which rows they give, and that their conditions on
the name of a file are such as let it be left out before it is opened.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import correlation, fmean
from typing import Any

import pyarrow as pa
import pytest

import market_data_pipeline
from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake.bigquery import Statement, Warehouse, statements
from market_data_pipeline.lake.records import recorded_days
from market_data_pipeline.lake.stores.local import LocalStore
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.instruments import Selection
from market_data_pipeline.settings import Settings
from market_data_pipeline_tests.defs.running import pipeline_that_ran
from market_data_pipeline_tests.lake.bigquery_on_duckdb import Stand, fits, logical_bytes, parsed, uris
from market_data_pipeline_tests.lake.made_up import plain

SPOT, PERP, CALL = "binance:SPOT_PAIR:BTC-USDT", "deribit:Perp:BTC-USD", "deribit:Option:BTC-USD-52000-240927-C"
JULY, AUGUST = date(2024, 7, 31), date(2024, 8, 1)
END = AUGUST + timedelta(days=1)
Row = tuple[Any, ...]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with all datasets: the last day of a month and the first two of the next, of three instruments."""
    folder = tmp_path_factory.mktemp("asked") / "lake"
    settings = Settings(lake=str(folder), selection=Selection.of([SPOT, PERP, CALL]))
    with pipeline_that_ran(settings, [JULY, END]):
        return folder


@pytest.fixture(scope="module")
def lake(folder: Path) -> MarketDataLake:
    return MarketDataLake(folder)


@pytest.fixture(scope="module")
def made(folder: Path) -> list[Statement]:
    store = LocalStore(folder)
    days = {each.name: recorded_days(store, each) for each in DATASETS.values()}
    return list(statements(Warehouse("my-project", "lake", "eu.market-data"), store.uri_of, days))


@pytest.fixture(scope="module")
def stand(made: list[Statement], folder: Path) -> Stand:
    return Stand(made, folder)


def of_day(lake: MarketDataLake, data_type: str, day: date, instruments: str | None = None) -> list[dict[str, Any]]:
    """The ticks of a day's files: some of them were made the day before, or the day after."""
    rows = lake.ticks(instruments, data_type, day - timedelta(days=1), day + timedelta(days=2)).to_pylist()
    return [row for row in rows if row["date"] == day]


def by(rows: list[dict[str, Any]], *names: str) -> Iterator[tuple[Row, list[dict[str, Any]]]]:
    groups: dict[Row, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    return iter(groups.items())


def known(values: Iterator[float | None]) -> float | None:
    """Their sum as SQL has it: what is null is left out."""
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def universe(lake: MarketDataLake) -> list[Row]:
    rows = lake.available_instruments(AUGUST).to_pylist()
    return [(row["instrument_id"], row["instrument_type"], row["available_from"]) for row in rows]


def volume(lake: MarketDataLake) -> list[Row]:
    rows = lake.candles(None, "1d", JULY, END).to_pylist()
    return [(*key, known(row["quote_volume"] for row in of)) for key, of in by(rows, "venue", "date")]


def spread(lake: MarketDataLake) -> list[Row]:
    rows = of_day(lake, "book_snapshot_5", AUGUST, SPOT)
    for row in rows:
        row["hour"] = row["timestamp"].replace(minute=0, second=0, microsecond=0)
    return [
        (*key, fmean(2e4 * (r["ask_price_1"] - r["bid_price_1"]) / (r["ask_price_1"] + r["bid_price_1"]) for r in of))
        for key, of in by(rows, "hour")
    ]


def funding(lake: MarketDataLake) -> list[Row]:
    rows = lake.features(PERP, "fundamental_features", JULY, END, timeframe="1h").to_pylist()
    there = [row for row in rows if None not in (row["funding_rate"], row["basis"])]
    return [(correlation([r["funding_rate"] for r in there], [r["basis"] for r in there]), len(rows))]


def busiest(lake: MarketDataLake) -> list[Row]:
    rows = lake.candles(None, "1m", AUGUST, END).to_pylist()
    rows.sort(key=lambda row: (-row["trade_count"], row["instrument_id"], row["timestamp"]))
    return [(row["instrument_id"], row["timestamp"], row["trade_count"]) for row in rows[:5]]


def vwap(lake: MarketDataLake) -> list[Row]:
    rows = of_day(lake, "trades", JULY, "deribit:*")
    for row in rows:
        row["hour"] = row["timestamp"].hour
    return [
        (*key, sum(r["price"] * r["amount"] for r in of) / sum(r["amount"] for r in of))
        for key, of in by(rows, "instrument_id", "hour")
    ]


def midnight(lake: MarketDataLake) -> list[Row]:
    rows = lake.ticks(SPOT, "trades", "2024-07-31T23:55", "2024-08-01T00:05").to_pylist()
    return [(len(rows), rows[0]["timestamp"], rows[-1]["timestamp"], sum(row["amount"] for row in rows))]


def liquidations(lake: MarketDataLake) -> list[Row]:
    rows = [row for day in (JULY, AUGUST) for row in of_day(lake, "liquidations", day)]
    return [(*key, len(of), sum(row["amount"] for row in of)) for key, of in by(rows, "venue", "side")]


def gaps(lake: MarketDataLake) -> list[Row]:
    rows = lake.universe(JULY, END, venue="deribit", observed=True).to_pylist()
    return [
        (row["date"], row["instrument_id"], each["rows"], each["gaps"])
        for row in rows
        for each in row["observed"]
        if each["dataset"] == "trades"
    ]


def returns(lake: MarketDataLake) -> list[Row]:
    rows = lake.candles(None, "1d", JULY, END, venue="binance").to_pylist()
    return [
        (*key, row["date"], row["close"] / before["close"] - 1 if before else None)
        for key, of in by(rows, "instrument_id")
        for before, row in zip([None, *of[:-1]], of, strict=True)
    ]


def interest(lake: MarketDataLake) -> list[Row]:
    rows = of_day(lake, "options_chain", AUGUST)
    return [(*key, max(r["open_interest"] for r in of), len(of)) for key, of in by(rows, "type", "strike_price")]


def positions(lake: MarketDataLake) -> list[Row]:
    rows = lake.features(None, "ml_signals", JULY, END).to_pylist()
    return [(*key, len(of)) for key, of in by(rows, "instrument_id", "position")]


@dataclass(frozen=True)
class Question:
    """What is asked, what the reader says, and how many files hold it."""

    query: str
    answer: Callable[[MarketDataLake], list[Row]]
    files: int


QUESTIONS = {
    "universe on a date": Question(
        "SELECT instrument_id, instrument_type, available_from "
        "FROM lake.available_instruments_between(DATE '2024-08-01', DATE '2024-08-01')",
        universe,
        1,
    ),
    "volume by venue and day": Question(
        "SELECT venue, `date`, SUM(quote_volume) "
        "FROM lake.ohlcv_1d_by_timeframe_between(DATE '2024-07-31', DATE '2024-08-01') GROUP BY venue, `date`",
        volume,
        2,
    ),
    "spread by hour": Question(
        "SELECT TIMESTAMP_TRUNC(timestamp, HOUR) AS hour, "
        "AVG(2e4 * (ask_price_1 - bid_price_1) / (ask_price_1 + bid_price_1)) AS basis_points "
        f"FROM lake.book_snapshot_5_of('{SPOT}', DATE '2024-08-01', DATE '2024-08-01') GROUP BY hour",
        spread,
        1,
    ),
    "funding against basis": Question(
        "SELECT CORR(funding_rate, basis), COUNT(*) "
        f"FROM lake.fundamental_features_by_instrument_id_between('{PERP}', DATE '2024-07-31', DATE '2024-08-01') "
        "WHERE timeframe = '1h'",
        funding,
        2,
    ),
    "busiest minutes": Question(
        "SELECT instrument_id, timestamp, trade_count "
        "FROM lake.ohlcv_1m_between(DATE '2024-08-01', DATE '2024-08-01') "
        "ORDER BY trade_count DESC, instrument_id, timestamp LIMIT 5",
        busiest,
        3,
    ),
    "vwap by hour from trades": Question(
        "SELECT instrument_id, EXTRACT(HOUR FROM timestamp) AS hour, SUM(price * amount) / SUM(amount) "
        "FROM `my-project`.lake.trades_of('deribit:%', DATE '2024-07-31', DATE '2024-07-31') "
        "GROUP BY instrument_id, hour",
        vwap,
        2,
    ),
    "trades around midnight, by the exchange's clock": Question(
        "SELECT COUNT(*), MIN(timestamp), MAX(timestamp), SUM(amount) "
        f"FROM lake.trades_of('{SPOT}', DATE_SUB(DATE '2024-08-01', INTERVAL 1 DAY), DATE '2024-08-01') "
        "WHERE timestamp >= TIMESTAMP '2024-07-31 23:55:00+00' AND timestamp < TIMESTAMP '2024-08-01 00:05:00+00'",
        midnight,
        2,
    ),
    "liquidations by side": Question(
        "SELECT venue, side, COUNT(*), SUM(amount) "
        "FROM lake.liquidations_between(DATE '2024-07-31', DATE '2024-08-01') GROUP BY venue, side",
        liquidations,
        2,
    ),
    "gaps in trades": Question(
        "SELECT `date`, instrument_id, each.`rows`, each.gaps "
        "FROM lake.available_instruments_by_venue_between('deribit', DATE '2024-07-31', DATE '2024-08-01'), "
        "UNNEST(observed) AS each WHERE each.dataset = 'trades'",
        gaps,
        2,
    ),
    "daily returns over the end of a month": Question(
        "SELECT instrument_id, `date`, close / LAG(close) OVER (PARTITION BY instrument_id ORDER BY `date`) - 1 "
        "FROM lake.ohlcv_1d_by_venue_between('binance', DATE '2024-07-31', DATE '2024-08-01')",
        returns,
        2,
    ),
    "open interest by strike": Question(
        "SELECT type, strike_price, MAX(open_interest), COUNT(*) "
        "FROM lake.options_chain_between(DATE '2024-08-01', DATE '2024-08-01') GROUP BY type, strike_price",
        interest,
        1,
    ),
    "positions of the signals": Question(
        "SELECT instrument_id, position, COUNT(*) "
        "FROM lake.ml_signals_between(DATE '2024-07-31', DATE '2024-08-01') GROUP BY instrument_id, position",
        positions,
        6,
    ),
}


def comparable(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: [(value is None, str(value)) for value in row if not isinstance(value, float)])


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_the_answer_is_the_readers_and_only_files_that_hold_it_are_read(
    stand: Stand, lake: MarketDataLake, name: str
) -> None:
    question = QUESTIONS[name]
    found = comparable([tuple(row.values()) for row in stand.ask(question.query).to_pylist()])
    expected = comparable(question.answer(lake))
    assert len(found) == len(expected) > 0
    assert [pair for pair in zip(found, expected, strict=True) if not _same(*pair)] == []
    assert stand.files_read(question.query) == question.files


def _same(row: Row, other: Row) -> bool:
    return all(
        one == pytest.approx(two, rel=1e-9) if isinstance(two, float) else one == two
        for one, two in zip(row, other, strict=True)
    )


@pytest.mark.parametrize("name", DATASETS)
def test_all_functions_give_the_rows_of_the_asked_days(stand: Stand, lake: MarketDataLake, name: str) -> None:
    dataset = DATASETS[name]
    wanted = "DATE '2024-08-01', DATE '2024-08-01'"
    columns = ", ".join(f"`{each}`" for each in dataset.schema.names)
    rows = stand.ask(f"SELECT {columns} FROM lake.{name}_between({wanted})")
    stored = lake.sql(f"from {name} where date = '2024-08-01'")
    assert rows.num_rows == stored.num_rows > 0
    assert _alike(rows, stored)
    both = stand.ask(f"SELECT {columns} FROM lake.{name}_between(DATE '2024-07-31', DATE '2024-08-01')")
    assert _alike(both, lake.sql(f"from {name} where date <= '2024-08-01'"))
    assert stand.ask(f"SELECT {columns} FROM lake.{name}_between(DATE '2024-08-03', DATE '2024-08-31')").num_rows == 0
    if dataset.per_instrument:
        one = rows.column("instrument_id")[0].as_py()
        some = stand.ask(f"SELECT {columns} FROM lake.{name}_of('{one}', {wanted})")
        assert _alike(some, lake.sql(f"from {name} where date = '2024-08-01' and instrument_id = '{one}'"))
        assert _alike(stand.ask(f"SELECT {columns} FROM lake.{name}_of('%', {wanted})"), stored)
        # what another id goes on with is another instrument
        assert stand.ask(f"SELECT {columns} FROM lake.{name}_of('{one[:-1]}', {wanted})").num_rows == 0
    for layout in dataset.month_layouts:
        function = f"lake.{name}_{layout.name}_between"
        asked = {each: rows.column(each)[0].as_py() for each in layout.group_fields if each not in ("short_name",)}
        if layout.per_instrument:
            asked = {"instrument_id": rows.column("instrument_id")[0].as_py()}
        given = ", ".join([*(f"'{value}'" for value in asked.values()), wanted])
        condition = "".join(f" and {each} = '{value}'" for each, value in asked.items())
        found = stand.ask(f"SELECT {columns} FROM {function}({given})")
        assert found.num_rows > 0
        assert _alike(found, lake.sql(f"from {name} where date = '2024-08-01'{condition}"))
        assert stand.files_read(f"SELECT COUNT(`date`) FROM {function}({given})") == 1


def _alike(rows: pa.Table, others: pa.Table) -> bool:
    """The same rows but for widths of integers, all of which are INT64 in BigQuery."""
    return plain(rows.select(others.column_names).cast(others.schema)).equals(plain(others))


PAGE = (Path(market_data_pipeline.__file__).parents[1] / "docs" / "bigquery.md").read_text()
ASKED = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("query", ASKED)
def test_the_pages_questions_can_be_asked(stand: Stand, query: str) -> None:
    assert len(ASKED) == 4
    assert stand.ask(query).num_rows > 0


def test_the_pages_widths_are_those_of_the_sample(lake: MarketDataLake, folder: Path) -> None:
    listed = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(listed) == 8
    for name, *told in listed:
        dataset, rows = DATASETS[name], lake.sql(f"from {name}")
        own, stored = dataset.own_schema.names, (folder / dataset.layouts[0].prefix()).rglob("*.parquet")
        sizes = [
            path.stat().st_size for path in stored if name in (path.stem, path.parent.name.removeprefix("data_type-"))
        ]
        found = [
            sum(logical_bytes(rows.column(each)) for each in rows.column_names),
            sum(logical_bytes(rows.column(each)) for each in own),
            sum(sizes),
        ]
        assert [int(number) for number in told] == pytest.approx([each / rows.num_rows for each in found], rel=0.1)


def test_the_pages_table_of_questions_is_what_they_take(made: list[Statement], stand: Stand, folder: Path) -> None:
    listed = re.findall(r"^\| (.*) \| `(\w+)` \| (\d+) of (\d+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    texts = {each.name: each.text for each in made}
    there = [str(path) for path in folder.rglob("*.parquet")]
    found = []
    for name, question in QUESTIONS.items():
        function, files = stand.files_of(question.query)
        table = function.rpartition("_")[0]
        dataset = next(each for each in sorted(DATASETS, key=len, reverse=True) if table.startswith(each))
        condition = texts[function].partition("WHERE")[2]
        charged = stand.charged(question.query, DATASETS[dataset], condition)
        held = [path for path in there if any(fits(uri, path) for uri in uris(parsed(texts[table])))]
        found.append((name, function, str(len(files)), str(len(held)), f"{charged:,}"))
    assert [row[:5] for row in listed] == found
    for *_, charged, least in listed:
        assert int(least.replace(",", "")) <= int(charged.replace(",", ""))
