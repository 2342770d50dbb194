"""Ten questions of an analyst in DuckDB on a lake in the GCS test server: what each opens and reads, beside the least.

python -m benchmarks.questions [--docs]

The lake is the sample's, all instruments and datasets, of six days around the end of a month. Of each question the
server counts objects that are read, requests and bytes. The least is what the asked days and instruments alone come to:
their files, and of these the footer and the named columns of the row groups that hold asked times.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.scale import BUCKET, Counting, into_page
from market_data_pipeline import MarketDataLake
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.launch import launch
from market_data_pipeline.lake.sql_tables import ALWAYS, TABLES
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.opening import open_store
from market_data_pipeline.model.windows import Moment, Window
from market_data_pipeline.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "sql.md"
FIRST, LAST = date(2024, 7, 29), date(2024, 8, 3)


@dataclass(frozen=True)
class Question:
    """A question, and by what it is answered.

    Attributes:
        asked: in words.
        query: in SQL.
        place: the table, as `by_date/trades`.
        start: the first time that is asked about.
        end: the end of the times, not included.
        columns: which are needed.
        of: values of columns that stand in a file's path, by which files are needed; all by default.
    """

    asked: str
    query: str
    place: str
    start: Moment
    end: Moment
    columns: Sequence[str]
    of: Mapping[str, object] = field(default_factory=dict)


_BEFORE, _DAY, _AFTER = date(2024, 7, 31), date(2024, 8, 1), date(2024, 8, 2)
_SPOT, _PERP = "binance:SPOT_PAIR:BTC-USDT", "deribit:Perp:BTC-USD"
_BOTH = f"date between '{_BEFORE}' and '{_DAY}'"
_ALL = f"date between '{FIRST}' and '{LAST}'"
_RETURNS = "select instrument_id, date, close / lag(close) over (partition by instrument_id order by date) - 1"

QUESTIONS = (
    Question(
        "universe on a date",
        f"select instrument_id, instrument_type, available_from from available_instruments where date = '{_DAY}'",
        "by_date/available_instruments",
        _DAY,
        _AFTER,
        ["instrument_id", "instrument_type", "available_from"],
    ),
    Question(
        "volume by venue and day, six days",
        f"select venue, date, sum(quote_volume) from ohlcv_1d where {_ALL} group by all",
        "by_date/ohlcv_1d",
        FIRST,
        LAST + timedelta(1),
        ["quote_volume"],
    ),
    Question(
        "the same in month files",
        f"select venue, date, sum(quote_volume) from by_timeframe.ohlcv_1d where {_ALL} group by all",
        "by_timeframe/ohlcv_1d",
        FIRST,
        LAST + timedelta(1),
        ["quote_volume", "venue", "date"],
    ),
    Question(
        "spread by hour",
        "select hour(timestamp), avg(2e4 * (ask_price_1 - bid_price_1) / (ask_price_1 + bid_price_1)) "
        f"from book_snapshot_5 where instrument_id = '{_SPOT}' and date = '{_DAY}' group by all",
        "by_date/book_snapshot_5",
        _DAY,
        _AFTER,
        ["timestamp", "ask_price_1", "bid_price_1"],
        {"instrument_id": _SPOT},
    ),
    Question(
        "funding against basis",
        "select corr(funding_rate, basis) from fundamental_features "
        f"where instrument_id = '{_PERP}' and timeframe = '1h' and {_BOTH}",
        "by_date/fundamental_features",
        _BEFORE,
        _AFTER,
        ["timeframe", "funding_rate", "basis"],
        {"instrument_id": _PERP},
    ),
    Question(
        "busiest minutes",
        f"select instrument_id, timestamp, trade_count from ohlcv_1m where date = '{_DAY}' order by 3 desc limit 5",
        "by_date/ohlcv_1m",
        _DAY,
        _AFTER,
        ["timestamp", "trade_count"],
    ),
    Question(
        "vwap by hour from trades, a venue",
        "select instrument_id, hour(timestamp), sum(price * amount) / sum(amount) from trades "
        f"where venue = 'binance' and date = '{_DAY}' group by all",
        "by_date/trades",
        _DAY,
        _AFTER,
        ["timestamp", "price", "amount"],
        {"venue": "binance"},
    ),
    Question(
        "trades around midnight",
        "select count(*), min(timestamp), max(timestamp), sum(amount) from trades "
        f"where instrument_id = '{_SPOT}' and {_BOTH} and timestamp between '{_BEFORE} 23:55' and '{_DAY} 00:05'",
        "by_date/trades",
        "2024-07-31T23:55",
        "2024-08-01T00:05",
        ["timestamp", "amount"],
        {"instrument_id": _SPOT},
    ),
    Question(
        "liquidations by side",
        f"select venue, side, count(*), sum(amount) from liquidations where {_BOTH} group by all",
        "by_date/liquidations",
        _BEFORE,
        _AFTER,
        ["side", "amount"],
    ),
    Question(
        "daily returns over the end of a month, a venue",
        f"{_RETURNS} from by_venue.ohlcv_1d where venue = 'binance' and {_BOTH}",
        "by_venue/ohlcv_1d",
        _BEFORE,
        _AFTER,
        ["instrument_id", "date", "close"],
        {"venue": "binance"},
    ),
    Question(
        "open interest by strike",
        f"select type, strike_price, max(open_interest) from options_chain where date = '{_DAY}' group by all",
        "by_date/options_chain",
        _DAY,
        _AFTER,
        ["type", "strike_price", "open_interest"],
    ),
    Question(
        "positions of the signals",
        f"select instrument_id, position, count(*) from ml_signals where {_BOTH} group by all",
        "by_date/ml_signals",
        _BEFORE,
        _AFTER,
        ["position"],
    ),
)


def main() -> None:
    """Asks, and prints the table; with `--docs` puts it into docs/sql.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="puts the table into docs/sql.md")
    arguments = parser.parse_args()
    server = Counting().start()
    os.environ["STORAGE_EMULATOR_HOST"] = server.url
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = launch(build_definitions(Settings(lake=f"gs://{BUCKET}", emulator=server.url)), instance, FIRST, LAST)
        if not outcome.clean:
            sys.exit("\n".join(outcome.problems))
    text = "\n".join(_lines(server))
    print(text)
    if arguments.docs:
        into_page(PAGE, text)


def _lines(server: Counting) -> Iterator[str]:
    address = f"gs://{BUCKET}"
    lake, store = MarketDataLake(address), open_store(address)
    yield "| question | table | objects opened | least | requests | bytes read | least |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for question in QUESTIONS:
        server.requests.clear()
        server.counted.clear()
        if not lake.sql(question.query).num_rows:
            sys.exit(f"no rows: {question.query}")
        counted = server.counted
        opened = {request.path for request in server.requests if request.is_media}
        requests = sum(counted[each] for each in ("listings", "reads", "looks"))
        held, table = server.memory.buckets[BUCKET], TABLES[question.place]
        least = {key: _bytes(question, held[key].data) for key in _needed(question, store)}
        there = sum(1 for _ in table.files(store, ALWAYS))
        name = question.place.removeprefix("by_date/").replace("/", ".")
        yield (
            f"| {question.asked} | `{name}` | {len(opened)} of {there} | {len(least)} | {requests} "
            f"| {counted['bytes out']:,} | {sum(least.values()):,} |"
        )


def _needed(question: Question, store: ObjectStore) -> Iterator[str]:
    """The files of a table that hold what is asked for."""
    window = Window.of(question.start, question.end)
    for key, values in TABLES[question.place].files(store, window):
        # of ticks those of the days beside the window come, too
        inside = "date" not in values or values["date"] in window.days()
        if inside and question.of.items() <= values.items():
            yield key


def _bytes(question: Question, data: bytes) -> int:
    """What nobody can do without: the footer, and the columns where times are asked for."""
    footer = pq.ParquetFile(pa.BufferReader(data)).metadata
    window = Window.of(question.start, question.end)
    total = footer.serialized_size + 8
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        chunks = [group.column(at) for at in range(group.num_columns)]
        columns = {chunk.path_in_schema: chunk for chunk in chunks}
        if _inside(columns, window):
            total += sum(columns[name].total_compressed_size for name in question.columns)
    return total


def _inside(columns: Mapping[str, pq.ColumnChunkMetaData], window: Window) -> bool:
    if "timestamp" not in columns:
        return True
    times = columns["timestamp"].statistics
    return bool(times.min < window.end and times.max >= window.start)


if __name__ == "__main__":
    main()
