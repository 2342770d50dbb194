"""Files of another tool: taken in with their rows as they are, or refused with the reason, a day at a time."""

import io
import math
import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.lake.adopted import adopt
from market_data_pipeline.lake.verified import verify
from market_data_pipeline.lake.writer import write_days
from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import LakeError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import midnight
from market_data_pipeline_tests.lake.made_up import (
    BTC_USD,
    DAYS,
    FUTURE,
    HOURLY,
    MAPS,
    PERP,
    TRADES,
    Look,
    Watched,
    contents,
    decoded,
    hourly,
    ingest,
    made_ticks,
    made_trades,
    plain,
    trades,
    write,
)
from market_data_pipeline_tests.lake.test_quarantine import DAY as QUARANTINED
from market_data_pipeline_tests.lake.test_quarantine import rows_with
from market_data_pipeline_tests.lake.test_verified import rewritten
from market_data_pipeline_tests.lake.test_writer_races import once_before
from market_data_pipeline_tests.store_fixtures import Ground

DAY, NEXT = DAYS[:2]
Change = Callable[[pa.Table], pa.Table]


def foreign(table: pa.Table) -> bytes:
    """As a tool writes it that knows nothing of this lake: plain texts, no partition columns, its own encodings."""
    sink = io.BytesIO()
    pq.write_table(decoded(table), sink, compression="snappy", row_group_size=7)
    return sink.getvalue()


def in_time(day: date, count: int = 12) -> pa.Table:
    return trades([midnight(day) + timedelta(minutes=n // 2) for n in range(count)])


def lay(ground: Ground, dataset: Dataset, table: pa.Table, day: date, instrument: Instrument | None = PERP) -> str:
    key = dataset.path(dataset.layouts[0], day, instrument)
    ground.write(key, foreign(table))
    return key


@pytest.mark.parametrize(("dataset", "make"), [(TRADES, in_time), (HOURLY, hourly)], ids=["trades", "candles"])
def test_files_of_another_tool_are_taken_in(ground: Ground, dataset: Dataset, make: Callable[[date], pa.Table]) -> None:
    for day in (DAY, NEXT):
        for instrument in (BTC_USD, PERP):
            lay(ground, dataset, make(day), day, instrument)
    adopted = adopt(ground.again(), dataset, DAYS[0], DAYS[-1])
    assert adopted.days == (DAY, NEXT)
    assert adopted.problems == ()
    look = Look(ground)
    look.assert_layouts_agree([dataset])
    assert list(verify(ground.again(), [dataset], DAYS[0], DAYS[-1], full=True, pause=0)) == []
    assert look.rows(dataset).num_rows == 4 * make(DAY).num_rows
    (file, *_) = adopted.report.files if adopted.report else ()
    assert (file.day, file.instrument, file.span.rows, file.changed) == (DAY, BTC_USD, make(DAY).num_rows, True)
    before = contents(ground)
    again = adopt(ground.again(), dataset, DAYS[0], DAYS[-1])
    assert (again.days, again.report and again.report.bytes_written) == ((DAY, NEXT), 0)
    assert contents(ground) == before


def test_the_lakes_own_days_are_taken_in_as_they_are(ground: Ground) -> None:
    ingest(ground.store, made_ticks(instruments=(BTC_USD, PERP)), only=("trades", "available_instruments"))
    before = contents(ground)
    for dataset in (TRADES, MAPS):
        assert adopt(ground.again(), dataset, DAYS[0], DAYS[-1]).days == DAYS
    assert contents(ground) == before


def changed(name: str, values: Callable[[pa.ChunkedArray], pa.Array]) -> Change:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values(table.column(name)))


REFUSED: dict[str, tuple[Change, str]] = {
    "a column is missing": (lambda table: table.drop_columns(["side"]), "column side is missing; it should be dict"),
    "another type": (changed("price", lambda c: c.cast(pa.string())), "column price is string; it should be double"),
    "no time zone": (
        changed("timestamp", lambda c: c.cast(pa.timestamp("us"))),
        r"column timestamp is timestamp\[us\]; it should be timestamp\[us, tz=UTC\]",
    ),
    "nanoseconds that would be lost": (
        changed("timestamp", lambda c: pa.array([1_709_078_400_000_000_001] * len(c), pa.timestamp("ns", "UTC"))),
        "lose data",
    ),
    "a null": (changed("timestamp", lambda c: pa.array([None, *c.to_pylist()[1:]], c.type)), "timestamp has a null"),
    "an unknown column": (
        lambda table: table.append_column("fee", table.column("price")),
        "column fee is none of trades'",
    ),
    "the path says otherwise": (
        lambda table: table.append_column("venue", pa.array(["kraken"] * len(table))),
        "venue says kraken, its path deribit",
    ),
    "out of order": (lambda table: table.take(list(reversed(range(len(table))))), "from row 0 on are not in order"),
    "another day": (lambda _: in_time(DAY + timedelta(days=40)), r"every timestamp lies within a day of 2024-02-28"),
    "a price of zero": (changed("price", lambda c: pa.array([0.0] * len(c))), "price is above zero"),
    "an endless price": (changed("price", lambda c: pa.array([math.inf] * len(c))), "price is above zero and finite"),
    "a side that is none": (changed("side", lambda c: pa.array(["BUY"] * len(c))), "side is one of buy, sell, unknown"),
    "a time beyond all years": (
        changed("timestamp", lambda c: pa.array([2**62] * len(c)).cast(c.type)),
        "first at 4611686018427387904 microseconds",
    ),
    "a date that is a text": (
        lambda table: table.append_column("date", pa.array([str(DAY)] * len(table))),
        r"column date is string; it should be date32\[day\], or left out",
    ),
    "no rows": (lambda table: table.slice(0, 0), "it holds no rows; delete it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_day_that_cannot_be_taken_in_is_left_as_it_is(local: Ground, name: str) -> None:
    change, said = REFUSED[name]
    lay(local, TRADES, in_time(DAY), DAY, BTC_USD)
    key = lay(local, TRADES, change(in_time(DAY)), DAY)
    lay(local, TRADES, in_time(NEXT), NEXT)
    before = contents(local)
    adopted = adopt(local.again(), TRADES, DAYS[0], DAYS[-1])
    assert adopted.days == (NEXT,)
    (problem,) = adopted.problems
    assert key in problem
    assert re.search(said, problem), problem
    after = contents(local)
    assert {name: after[name] for name in before if "day-28" in name} == {
        name: content for name, content in before.items() if "day-28" in name
    }


@pytest.mark.parametrize(
    ("stray", "said", "taken"),
    [
        ("market-data-tick/raw_tick_data/year=2024/month=02/trades.parquet", "a Hive-style path", (DAY,)),
        (
            "market-data-tick/raw_tick_data/by_date/year-2024/month-02/day-28/data_type-trades/btc.parquet",
            "belongs to no layout", (),
        ),
        (TRADES.path(TRADES.layouts[1], DAY, BTC_USD), "by_date has no such file", ()),
        (
            "market-data-tick/raw_tick_data/by_date/year-2024/month-02/day-28/data_type-trades/part=1/btc.parquet",
            "a Hive-style path", (),
        ),
    ],
)  # fmt: skip
def test_what_lies_elsewhere_is_named(local: Ground, stray: str, said: str, taken: tuple[date, ...]) -> None:
    lay(local, TRADES, in_time(DAY), DAY)
    local.write(stray, foreign(in_time(DAY)))
    adopted = adopt(local.again(), TRADES, DAY, DAY)
    (problem,) = adopted.problems
    assert said in problem
    assert stray in problem
    assert adopted.days == taken


def test_a_month_file_of_another_tool_is_in_the_way(local: Ground) -> None:
    lay(local, HOURLY, hourly(DAY), DAY)
    key = HOURLY.path(HOURLY.layout("by_venue"), DAY, PERP)
    local.write(key, foreign(hourly(NEXT)))
    adopted = adopt(local.again(), HOURLY, DAY, DAY)
    assert adopted.days == ()
    assert any(key in problem and "move it away" in problem for problem in adopted.problems)


def test_what_another_run_lands_meanwhile_stays(ground: Ground) -> None:
    write(ground.store, HOURLY, {(DAY, BTC_USD): hourly(DAY)})
    run = partial(write, ground.again(), HOURLY, {(DAY, PERP): hourly(DAY)}, selection=Selection.of(PERP))
    # the day has been listed by then
    watched = Watched(ground.again(), once_before("open", "/day-28/", run))
    adopted = adopt(watched, HOURLY, DAY, DAY)
    assert (adopted.days, adopted.problems) == ((DAY,), ())
    assert adopted.report is not None
    assert adopted.report.removed == ()
    look = Look(ground)
    look.assert_layouts_agree([HOURLY])
    assert look.rows(HOURLY).num_rows == 6


@pytest.mark.parametrize("own", [False, True], ids=["of another tool", "of the lake"])
@pytest.mark.parametrize(("verb", "call"), [("open", 1), ("open", 2), ("put", 1), ("put", 2), ("put", 3)])
def test_a_newer_file_is_never_replaced_by_the_one_that_was_read(
    ground: Ground, own: bool, verb: str, call: int
) -> None:
    key = TRADES.path(TRADES.layouts[0], DAY, PERP)
    if own:
        write(ground.store, TRADES, {(DAY, PERP): made_trades(DAY, PERP)})
        ground.store.delete(TRADES.path(TRADES.layouts[1], DAY, PERP))
    else:
        lay(ground, TRADES, in_time(DAY), DAY)
    newer = made_trades(DAY, PERP, seed=77)
    calls: list[str] = []

    def step(called: str, at: str) -> None:
        if called == verb and (verb == "put" or at == key) and "checksums" not in at:
            calls.append(at)
            if len(calls) == call:
                write(ground.again(), TRADES, {(DAY, PERP): newer}, selection=Selection.of(PERP))

    adopted = adopt(Watched(ground.again(), step), TRADES, DAY, DAY)
    look = Look(ground)
    look.assert_layouts_agree([TRADES])
    assert look.rows(TRADES).column("price").to_pylist() == plain(newer).column("price").to_pylist()
    if (verb, call) in [("open", 1), ("open", 2), ("put", 1)]:
        assert adopted.days == ()
        assert any("adopt its day again" in problem for problem in adopted.problems)
        assert adopt(ground.again(), TRADES, DAY, DAY).days == (DAY,)


def test_a_column_that_stands_there_twice_is_called_so(local: Ground) -> None:
    table, sink = decoded(in_time(DAY)), io.BytesIO()
    pq.write_table(pa.table([*table.columns, table["price"]], [*table.column_names, "price"]), sink)
    local.write(TRADES.path(TRADES.layouts[0], DAY, PERP), sink.getvalue())
    (problem,) = adopt(local.again(), TRADES, DAY, DAY).problems
    assert problem.endswith("column price stands there 2 times; it should once")


def test_what_was_set_aside_of_a_day_stays(ground: Ground) -> None:
    write_days(ground.store, TRADES, [QUARANTINED], Selection(), [rows_with(BTC_USD, (3, 4))])
    before = contents(ground)
    assert adopt(ground.again(), TRADES, QUARANTINED, QUARANTINED).days == (QUARANTINED,)
    assert contents(ground) == before


def test_a_day_that_differs_once_it_is_written_is_not_taken_in(local: Ground) -> None:
    write(local.store, HOURLY, {(day, PERP): hourly(day) for day in (DAY, NEXT)})
    key = HOURLY.path(HOURLY.layout("by_venue"), DAY, PERP)
    local.write(key, rewritten(lambda tables: tables[:1])(local.get(key) or b""))
    adopted = adopt(local.again(), HOURLY, DAY, NEXT)
    assert adopted.days == (DAY,)
    (problem,) = adopted.problems
    assert "0 rows on 2024-02-29; expected 3, as in by_date" in problem


def test_the_layouts_of_a_file_are_one_file(local: Ground) -> None:
    lay(local, TRADES, in_time(DAY), DAY)
    write(local.store, TRADES, {(NEXT, PERP): in_time(NEXT)})
    for layout in TRADES.day_layouts[1:]:
        local.store.delete(TRADES.path(layout, NEXT, PERP))
    assert adopt(local.again(), TRADES, DAY, NEXT).days == (DAY, NEXT)
    for day in (DAY, NEXT):
        paths = [Path(local.store.uri_of(TRADES.path(layout, day, PERP))) for layout in TRADES.day_layouts]
        assert len({path.stat().st_ino for path in paths}) == 1


def test_a_run_that_meets_a_file_of_another_tool_says_so(local: Ground) -> None:
    key = lay(local, HOURLY, hourly(DAY), DAY)
    with pytest.raises(LakeError, match=r"does not have the columns of ohlcv_1h .*`market-data adopt`") as told:
        write(local.store, HOURLY, {(DAY, FUTURE): hourly(DAY)}, selection=Selection.of(FUTURE))
    assert key in str(told.value)
