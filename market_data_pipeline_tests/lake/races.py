"""Many processes that write days of one month while others read it, and what a look afterwards says of it.

Each write has a number that stands in all its rows, and as many rows as the number says; so a look tells which write a
day's rows are of, whether some are missing or doubled, and whether rows of two writes were mixed.
"""

import logging
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from market_data_pipeline import MarketDataLake
from market_data_pipeline.lake.stores.contract import ALWAYS, ObjectStore
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import midnight
from market_data_pipeline_tests.lake.made_up import FUTURE, HOURLY, INSTRUMENTS, OPTION, PERP, TRADES, hourly, trades
from market_data_pipeline_tests.lake.made_up import write as write_tables
from market_data_pipeline_tests.parity import assert_layouts_agree

MONTH = date(2024, 3, 1)
Place = tuple[str, date, Instrument]


@dataclass(frozen=True)
class Race:
    """How many write and read, and what.

    Attributes:
        writers: processes that write.
        writes: writes of each; every fifth is of a place that it wrote before.
        readers: processes that read meanwhile.
        days: days of the month that are written.
        conditional: whether changes keep their preconditions.
    """

    writers: int = 8
    writes: int = 40
    readers: int = 4
    days: int = 31
    conditional: bool = True


@dataclass(frozen=True)
class Written:
    """One write of one place, by the clock that all processes of a machine share."""

    place: Place
    number: int
    began: float
    ended: float


@dataclass
class Effort:
    """What the work of one process cost.

    Attributes:
        written: what it wrote.
        reads: how many questions it asked.
        retries: how often it began again because of others, as its log says.
        longest: seconds of its longest write.
    """

    written: list[Written] = field(default_factory=list)
    reads: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0


@dataclass(frozen=True)
class Result:
    """What a race came to; `lost`, `doubled` and `mixed` count rows that should not be so, of all layouts."""

    efforts: tuple[Effort, ...]
    rows: int
    lost: int
    doubled: int
    mixed: int

    @property
    def sound(self) -> bool:
        """Every row is there once, and of a write that nobody has overwritten."""
        return not (self.lost or self.doubled or self.mixed)

    def __str__(self) -> str:
        retries = sum((effort.retries for effort in self.efforts), Counter())
        written, reads = (sum(each) for each in zip(*((len(e.written), e.reads) for e in self.efforts), strict=True))
        return (
            f"{written} places written, {self.rows} rows: {self.lost} lost, "
            f"{self.doubled} doubled, {self.mixed} mixed; {reads} reads; "
            f"longest write {max(effort.longest for effort in self.efforts):.1f} s; began again: {dict(retries) or 0}"
        )


class Unconditional:
    """A store whose changes take place whatever lies there: what the lake would be without its preconditions."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, staged: Path, keys: Sequence[str], *, expect: Any = ALWAYS, **told: Any) -> None:
        if expect is not ALWAYS:
            time.sleep(random.uniform(0.0, 0.1))  # time for another to be overwritten
        self._store.put(staged, keys, **told)

    def delete(self, key: str, *, expect: Any = ALWAYS) -> None:
        self._store.delete(key)


class _Retries(logging.Handler):
    """Counts what the lake's log says of other runs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.counted: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.counted[record.name.rpartition(".")[2]] += 1


def rows_of(dataset: Dataset, day: date, number: int) -> pa.Table:
    """The rows of a write."""
    count = 2 + number % 5
    if dataset is HOURLY:
        table = hourly(day, count)
        return table.set_column(
            table.column_names.index("open"), HOURLY.own_schema.field("open"), pa.array([float(number)] * count)
        )
    return trades([midnight(day) + timedelta(hours=n) for n in range(count)], [float(number)] * count)


def _number_column(dataset: Dataset) -> str:
    return "open" if dataset is HOURLY else "price"


def run(race: Race, open_store: Callable[[], ObjectStore], seed: int, pool: ProcessPoolExecutor) -> Result:
    """One race on an empty lake; a process that fails lets its error through.

    Args:
        race: what is done.
        open_store: opens the lake, in any process.
        seed: of what is drawn.
        pool: of at least as many processes as write and read; made by `racing`.
    """
    _DONE.clear()
    reading = [pool.submit(_read, race, open_store, f"{seed} {n}") for n in range(race.readers)]
    try:
        writing = [pool.submit(_write, race, open_store, seed, n) for n in range(race.writers)]
        efforts = [future.result() for future in writing]
    finally:
        _DONE.set()
    efforts += [future.result() for future in reading]
    return _judged(open_store(), efforts)


def racing(race: Race) -> ProcessPoolExecutor:
    """Processes for races; each is used for many."""
    return ProcessPoolExecutor(race.writers + race.readers, _CONTEXT, initializer=_begin, initargs=(_DONE,))


_CONTEXT = multiprocessing.get_context("spawn")
_DONE = _CONTEXT.Event()


def _begin(done: Any) -> None:
    globals()["_DONE"] = done


def _write(race: Race, open_store: Callable[[], ObjectStore], seed: int, writer: int) -> Effort:
    draw = random.Random(f"{seed} writes {writer}")
    store = open_store() if race.conditional else Unconditional(open_store())
    effort, heard = Effort(), _Retries()
    log = logging.getLogger("market_data_pipeline.lake")
    log.addHandler(heard)
    log.setLevel(logging.INFO)
    done: list[tuple[Dataset, date, list[Instrument]]] = []
    for turn in range(race.writes):
        if done and turn % 5 == 4:
            dataset, day, instruments = draw.choice(done)
        else:
            dataset = draw.choice([HOURLY, HOURLY, TRADES])
            day = MONTH + timedelta(days=draw.randrange(race.days))
            instruments = draw.sample(INSTRUMENTS, draw.randint(1, 4))
        done.append((dataset, day, instruments))
        number = 1 + writer + race.writers * turn
        tables = {(day, instrument): rows_of(dataset, day, number) for instrument in instruments}
        began = time.monotonic()
        write_tables(store, dataset, tables, selection=Selection.of(instruments), threads=2)
        ended = time.monotonic()
        effort.longest = max(effort.longest, ended - began)
        effort.written += [Written((dataset.name, day, instrument), number, began, ended) for instrument in instruments]
    log.removeHandler(heard)
    effort.retries = heard.counted
    return effort


def _read(race: Race, open_store: Callable[[], ObjectStore], seed: str) -> Effort:
    draw = random.Random(f"{seed} reads")
    lake, effort, heard = MarketDataLake(store=open_store()), Effort(), _Retries()
    log = logging.getLogger("market_data_pipeline.lake.rereading")
    log.addHandler(heard)
    log.setLevel(logging.INFO)
    last = MONTH + timedelta(days=31)
    while not _DONE.is_set():
        day = MONTH + timedelta(days=draw.randrange(race.days))
        question = draw.randrange(6)
        if question == 0:  # by_timeframe
            found, dataset = lake.candles(None, "1h", MONTH, last), HOURLY
        elif question == 1:  # by_venue
            found, dataset = lake.candles(None, "1h", MONTH, last, venue="deribit"), HOURLY
        elif question == 2:  # by_instrument_id
            found, dataset = lake.candles([PERP, FUTURE], "1h", MONTH, last), HOURLY
        elif question == 3:  # by_date
            found, dataset = lake.candles(OPTION, "1h", day, day + timedelta(days=1)), HOURLY
        elif question == 4:  # ticks, listed by venue
            found, dataset = lake.ticks(None, "trades", day, day + timedelta(days=1), venue="deribit"), TRADES
        else:
            found, dataset = lake.ticks("*:SPOT_PAIR:*", "trades", MONTH, day + timedelta(days=2)), TRADES
        for place, numbers in _numbers(dataset, [found]).items():
            if len(set(numbers)) > 1 or len(numbers) != 2 + numbers[0] % 5:
                raise AssertionError(f"a reader saw {numbers} of {place}")
        effort.reads += 1
    log.removeHandler(heard)
    effort.retries = heard.counted
    return effort


def _numbers(dataset: Dataset, tables: Iterable[pa.Table]) -> dict[Place, list[int]]:
    """For each place the numbers of the writes that its rows are of."""
    found: dict[Place, list[int]] = {}
    for table in tables:
        columns = table.select(["date", "instrument_id", _number_column(dataset)]).to_pydict().values()
        for day, text, number in zip(*columns, strict=True):
            found.setdefault((dataset.name, day, Instrument.parse(text)), []).append(round(number))
    return found


def _judged(store: ObjectStore, efforts: Sequence[Effort]) -> Result:
    """What lies in each layout, against what may lie there: a write that no later one began after the end of."""
    writes: dict[Place, list[Written]] = {}
    for effort in efforts:
        for each in effort.written:
            writes.setdefault(each.place, []).append(each)
    rows = lost = doubled = mixed = 0
    for dataset in (HOURLY, TRADES):
        for layout in dataset.layouts:
            keys = [info.key for info in store.list(layout.prefix(None, **dataset.path_fields()))]
            tables = []
            for key in keys:
                with store.open(key) as pinned:
                    tables.append(pq.ParquetFile(pinned.file).read())
            found = _numbers(dataset, tables)
            for place in {place for place in writes if place[0] == dataset.name} | found.keys():
                numbers = found.get(place, [])
                rows += len(numbers)
                lacking, more, strange = _compared(numbers, list(_lasting(writes.get(place, []))))
                lost, doubled, mixed = lost + lacking, doubled + more, mixed + strange
    if not (lost or doubled or mixed):
        assert_layouts_agree(store, [HOURLY.name, TRADES.name])
    return Result(tuple(efforts), rows, lost, doubled, mixed)


def _lasting(writes: Sequence[Written]) -> Iterator[int]:
    latest = max((each.began for each in writes), default=0.0)
    return (each.number for each in writes if each.ended >= latest)


def _compared(numbers: Sequence[int], lasting: Sequence[int]) -> tuple[int, int, int]:
    """Rows that are lost, doubled, or of a write that may not be there."""
    whose = [number for number in lasting if number in numbers]
    if not whose:
        return 2 + min((number % 5 for number in lasting), default=-2), 0, len(numbers)
    right = 2 + whose[0] % 5
    count = numbers.count(whose[0])
    return max(right - count, 0), max(count - right, 0), len(numbers) - count
