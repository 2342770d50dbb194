"""Made-up rows, a small lake of them, and ways to look at a lake round its reader."""

import io
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from market_data_pipeline.lake.derived import availability_rows, coarser_candles, first_candles
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.writer import WriteReport, write_days
from market_data_pipeline.model.contracts import LINEAR
from market_data_pipeline.model.datasets import DATASETS, TIMEFRAMES, Dataset, Kind
from market_data_pipeline.model.errors import LayoutError, SourceError
from market_data_pipeline.model.instruments import Instrument, InstrumentType, Selection
from market_data_pipeline.model.layouts import Layout
from market_data_pipeline.model.records import RECORD
from market_data_pipeline.model.rows import DayRows, Rejects
from market_data_pipeline.model.windows import midnight
from market_data_pipeline.transforms.candles import Fill
from market_data_pipeline_tests.store_fixtures import Ground

TRADES = DATASETS["trades"]
HOURLY = DATASETS["ohlcv_1h"]
MAPS = DATASETS["available_instruments"]
ALL = Selection()

SOME = ("trades", "ohlcv_1m", "ohlcv_5m", "available_instruments")
"""Enough datasets where the others would tell nothing new."""

BTC_USD, BTC_USDT, ETH, PERP, FUTURE, OPTION = map(
    Instrument.parse,
    (
        "binance:SPOT_PAIR:BTC-USD",
        "binance:SPOT_PAIR:BTC-USDT",
        "binance-futures:Perp:ETH-USDT",
        "deribit:Perp:BTC-USD",
        "deribit:Future:BTC-USD-241225",
        "deribit:Option:BTC-USD-50000-241225-C",
    ),
)
INSTRUMENTS = (BTC_USD, BTC_USDT, ETH, PERP, FUTURE, OPTION)
DAYS = (date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1))
SPARSE = dict.fromkeys(InstrumentType, Fill.OMIT)
"""No candle without a trade, so that made-up days stay small."""

Place = tuple[date, Instrument]
Ticks = dict[Place, pa.Table]


def trades(
    times: Sequence[datetime],
    prices: Sequence[float] | None = None,
    amounts: Sequence[float] | None = None,
    sides: Sequence[str | None] | None = None,
    ids: Sequence[str | None] | None = None,
) -> pa.Table:
    """Trades at these times; numbered prices and amounts unless told otherwise."""
    count = len(times)
    return pa.table(
        {
            "timestamp": times,
            "local_timestamp": [time + timedelta(milliseconds=5) for time in times],
            "id": [str(number) for number in range(count)] if ids is None else ids,
            "side": pa.array(sides or ["buy", "sell"] * (count // 2) + ["buy"] * (count % 2)).dictionary_encode(),
            "price": [100.0 + number for number in range(count)] if prices is None else prices,
            "amount": [1.0 + number % 3 for number in range(count)] if amounts is None else amounts,
        }
    ).cast(TRADES.own_schema)


def made_trades(day: date, instrument: Instrument, count: int = 16, seed: int = 0) -> pa.Table:
    """A day of trades: ties, a little disorder, and some that reach over midnight on either side."""
    chance = random.Random(f"{day} {instrument} {seed}")
    start = midnight(day)
    inside = chance.choices(range(0, 86_400, 600), k=count - 4)
    seconds = sorted([-2, -2, *inside, 86_399, 86_402])
    seconds[3], seconds[4] = seconds[4], seconds[3]
    return trades(
        [start + timedelta(seconds=at) for at in seconds],
        [round(100 + chance.random(), 2) for _ in seconds],
        [round(chance.random(), 3) + 0.001 for _ in seconds],
        [chance.choice(["buy", "sell", "unknown"]) for _ in seconds],
    )


def made_books(day: date, instrument: Instrument, depth: int, count: int = 300) -> pa.Table:
    """A day of books, of which some reach over midnight; five levels are the first ones of 25."""
    chance = random.Random(f"{day} {instrument} books")
    start = midnight(day)
    seconds = sorted([-3, *chance.choices(range(86_400), k=count - 3), 86_399, 86_402])
    seconds[3], seconds[4] = seconds[4], seconds[3]
    middle = [round(100 + chance.random(), 2) for _ in seconds]
    columns: dict[str, Any] = {
        "timestamp": [start + timedelta(seconds=at) for at in seconds],
        "local_timestamp": [start + timedelta(seconds=at, milliseconds=5) for at in seconds],
    }
    for level in range(1, 26):
        for side, sign in (("ask", 1), ("bid", -1)):
            columns[f"{side}_price_{level}"] = [round(price + sign * level / 100, 2) for price in middle]
            columns[f"{side}_amount_{level}"] = [chance.randint(1, 999) / 10 for _ in seconds]
    schema = DATASETS[f"book_snapshot_{depth}"].own_schema
    return pa.table(columns).select(schema.names).cast(schema)


def made_ticks(days: Iterable[date] = DAYS, instruments: Iterable[Instrument] = INSTRUMENTS, seed: int = 0) -> Ticks:
    """Trades of each instrument on each day."""
    each = list(instruments)
    return {(day, instrument): made_trades(day, instrument, seed=seed) for day in days for instrument in each}


def hourly(day: date, count: int = 3, price: float = 100.0) -> pa.Table:
    """Hourly candles."""
    opens = [midnight(day) + timedelta(hours=hour) for hour in range(count)]
    reals = [name for name in HOURLY.own_schema.names if HOURLY.own_schema.field(name).type == pa.float64()]
    return (
        pa.table(
            {
                "timestamp": opens,
                "close_time": [at + timedelta(hours=1) for at in opens],
                "trade_count": [1] * count,
                "volume_unit": ["base"] * count,
                **{name: [price + number for number in range(count)] for name in reals},
            }
        )
        .select(HOURLY.own_schema.names)
        .cast(HOURLY.own_schema)
    )


def rows_of(
    day: date, instrument: Instrument | None, table: pa.Table, *, batch_rows: int = 1_000, origin: str = "made up"
) -> DayRows:
    """The table as rows for the writer."""

    def read(_: Rejects) -> Iterator[pa.RecordBatch]:
        yield from table.to_batches(max_chunksize=batch_rows)

    return DayRows(day, instrument, origin, read)


def unreadable(day: date, instrument: Instrument | None, origin: str = "torn.csv.gz") -> DayRows:
    """Rows whose input fails after the first batch."""

    def read(_: Rejects) -> Iterator[pa.RecordBatch]:
        if instrument:
            yield from trades([midnight(day)]).to_batches()
        raise SourceError(f"{origin}: line 7: torn")

    return DayRows(day, instrument, origin, read)


def write(
    store: ObjectStore,
    dataset: Dataset,
    tables: Mapping[tuple[date, Instrument | None], pa.Table],
    *,
    days: Iterable[date] | None = None,
    selection: Selection = ALL,
    threads: int = 4,
) -> WriteReport:
    """Writes exactly these tables; days are theirs unless told otherwise."""
    asked = sorted({day for day, _ in tables} if days is None else days)
    rows = [rows_of(day, instrument, table) for (day, instrument), table in tables.items()]
    return write_days(store, dataset, asked, selection, rows, threads=threads)


def ingest(
    store: ObjectStore,
    ticks: Ticks,
    days: Sequence[date] = DAYS,
    *,
    selection: Selection = ALL,
    failing: Iterable[DayRows] = (),
    fills: Mapping[InstrumentType, Fill] = SPARSE,
    only: Iterable[str] = tuple(DATASETS),
) -> dict[str, WriteReport]:
    """A whole run over some days: trades, all candles, the availability map (or only some of these)."""
    broken = list(failing)
    failed = {(each.day, each.instrument) for each in broken}
    tick_rows = [
        rows_of(day, instrument, table)
        for (day, instrument), table in ticks.items()
        if day in days and instrument in selection and (day, instrument) not in failed
    ]
    steps: list[tuple[Dataset, Callable[[], Iterable[DayRows]]]] = [(TRADES, lambda: [*tick_rows, *broken])]
    for timeframe in TIMEFRAMES.values():
        if timeframe.source is None:
            made = lambda: first_candles(store, days, selection, lambda _: LINEAR, fills)  # noqa: E731
        else:
            made = lambda frame=timeframe: coarser_candles(store, frame, days, selection, fills)  # noqa: E731
        steps.append((DATASETS[f"ohlcv_{timeframe.name}"], made))
    steps.append((MAPS, lambda: availability_rows(store, days, selection, lambda _: LINEAR)))
    return {
        dataset.name: write_days(store, dataset, days, selection, made())
        for dataset, made in steps
        if dataset.name in only
    }


def decoded(table: pa.Table) -> pa.Table:
    """The same rows without dictionaries, in one chunk."""
    columns = {
        name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pa.table(columns).combine_chunks()


def plain(table: pa.Table) -> pa.Table:
    """The same rows, decoded and sorted: two tables of the same rows are equal."""
    rows = decoded(table)
    nested = [f.name for f in rows.schema if pa.types.is_nested(f.type)]
    keys = [name for name in ("date", "instrument_id", "timestamp") if name in rows.column_names]
    rest = [name for name in rows.column_names if name not in (*keys, *nested)]
    return rows.sort_by([(name, "ascending") for name in (*keys, *rest)]).combine_chunks()


class Look:
    """All objects of a lake at one moment, read by plain pyarrow round the store."""

    def __init__(self, ground: Ground) -> None:
        self.objects: dict[tuple[str, str], dict[str, pa.Table]] = {}
        self.records: dict[tuple[str, date, str | None], tuple[int, int, int]] = {}
        self.strays: list[str] = []
        self._sums: dict[tuple[str, date, str | None], tuple[int, int, int]] = {}
        for name in sorted(ground.names()):
            if _is_record(name):
                self._read_record(name, ground.get(name))
                continue
            where = _place_of(name)
            if where is None:
                self.strays.append(name)
                continue
            content = ground.get(name)
            assert content is not None
            table = pq.ParquetFile(io.BytesIO(content)).read()
            self.objects.setdefault(where, {})[name] = table
            if where[1] == "by_date":
                fields = DATASETS[where[0]].layouts[0].parse(name)
                place = (where[0], DATASETS[where[0]].layouts[0].day_of(fields), fields.get("instrument_id"))
                self._sums[place] = (table.num_rows, len(content), google_crc32c.value(content))

    def _read_record(self, name: str, content: bytes | None) -> None:
        for row in pq.ParquetFile(io.BytesIO(content or b"")).read().to_pylist():
            place = (RECORD.parse(name)["dataset"], row["date"], row["instrument_id"])
            assert place not in self.records, f"{name}: {place} is recorded twice"
            self.records[place] = (row["rows"], row["bytes"], row["crc32c"])

    def rows(self, dataset: Dataset, layout: str = "by_date") -> pa.Table:
        """All rows of a layout, sorted."""
        tables = self.objects.get((dataset.name, layout), {}).values()
        return plain(pa.concat_tables([dataset.schema.empty_table(), *tables]).unify_dictionaries())

    def days(self, dataset: Dataset, instrument: Instrument, layout: str = "by_date") -> set[date]:
        """The days on which a layout holds rows of an instrument."""
        rows = self.rows(dataset, layout)
        return set(rows.filter(pc.equal(rows.column("instrument_id"), instrument.id)).column("date").to_pylist())

    def assert_layouts_agree(self, datasets: Iterable[Dataset] = tuple(DATASETS.values())) -> None:
        """Every layout holds exactly the rows of by_date; each object what its path says, in order; nothing else.

        The records say exactly what lies in by_date.
        """
        assert self.strays == []
        for dataset in datasets:
            told, true = (
                {place: value for place, value in found.items() if place[0] == dataset.name}
                for found in (self.records, self._sums)
            )
            assert told == true, f"{dataset.name}: the record differs"
            truth = self.rows(dataset)
            for layout in dataset.layouts:
                assert self.rows(dataset, layout.name).equals(truth), f"{dataset.name}: {layout.name} differs"
                for name, table in self.objects.get((dataset.name, layout.name), {}).items():
                    _assert_belongs(name, table, dataset, layout)


def _is_record(name: str) -> bool:
    try:
        return bool(RECORD.parse(name))
    except LayoutError:
        return False


def _place_of(name: str) -> tuple[str, str] | None:
    for dataset in DATASETS.values():
        for layout in dataset.layouts:
            try:
                if layout.parse(name).get("dataset", dataset.name) == dataset.name:
                    return dataset.name, layout.name
            except LayoutError:
                continue
    return None


def _assert_belongs(name: str, table: pa.Table, dataset: Dataset, layout: Layout) -> None:
    assert table.num_rows, f"{name} is empty"
    assert table.schema.equals(dataset.schema), name
    for field, value in layout.parse(name).items():
        if field not in ("dataset", "short_name"):
            expected: Any = int(value) if field in ("year", "month", "day") else value
            assert pc.unique(table.column(field).cast(pa.string())).to_pylist() == [str(expected)], f"{name}: {field}"
    if dataset.kind is not Kind.TICKS:
        order = [(c, "ascending") for c in ("date", "instrument_id", "timestamp") if c in table.column_names]
        keys = table.select([c for c, _ in order])
        keys = keys.set_column(1, "instrument_id", keys.column("instrument_id").cast(pa.string()))
        assert keys.equals(keys.sort_by(order)), f"{name} is not in order"


def contents(ground: Ground) -> dict[str, bytes | None]:
    """Every object with its bytes."""
    return {name: ground.get(name) for name in sorted(ground.names())}


class Watched:
    """A store that passes everything on, notes the calls, and lets a test step in between.

    A `put` under several keys is passed on as several, so that a test may step in between those, too. It asks for one
    call at a time, so that calls keep their order.
    """

    transfers = 1

    def __init__(self, store: ObjectStore, step: Callable[[str, str], None] = lambda verb, key: None) -> None:
        self._store = store
        self._step = step
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _about_to(self, verb: str, key: str) -> None:
        self.calls.append((verb, key))
        self._step(verb, key)

    def named(self, verb: str) -> list[str]:
        """The keys of the calls of a verb."""
        return [key for called, key in self.calls if called == verb]

    def open(self, key: str) -> Any:
        self._about_to("open", key)
        return self._store.open(key)

    def put(self, staged: Any, keys: Sequence[str], **expect: Any) -> None:
        for key in keys:
            self._about_to("put", key)
            self._store.put(staged, [key], **expect)

    def delete(self, key: str, **expect: Any) -> None:
        self._about_to("delete", key)
        self._store.delete(key, **expect)
