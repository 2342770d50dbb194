"""Commands that look at the lake and read it: what lies there, what is missing, candles drawn, rows as a file."""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import date
from itertools import chain
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click

from market_data_pipeline.model.datasets import QUARANTINE, TIMEFRAMES, Dataset, Kind, candles
from market_data_pipeline.model.datasets import dataset as dataset_named
from market_data_pipeline.model.errors import DatasetError, SettingError
from market_data_pipeline.model.instruments import Instrument, Selection
from market_data_pipeline.model.windows import DAY, days_between, require_order
from market_data_pipeline.settings import Settings
from market_data_pipeline.terminal import Day, console, plainly, table

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data_pipeline.lake.reader import MarketDataLake

_JSON = click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
_INSTRUMENTS = click.option(
    "--instruments", multiple=True, metavar="GLOB", help="Only these, such as 'binance:*:BTC-*'; may be repeated."
)
_SHADES = " ░▒▓█"
_FULL = 0.9
_NOTHING = "nothing lies there; `market-data ls` tells what does, `make backfill FROM=… TO=…` makes more"


@click.command(short_help="List what lies in the lake.")
@click.argument("dataset", required=False)
@click.argument("first", type=Day(), required=False)
@click.argument("last", type=Day(), required=False)
@_JSON
@plainly
def ls(dataset: str | None, first: date | None, last: date | None, as_json: bool) -> None:
    """What lies in the lake: its datasets; of a DATASET its days, from FIRST to LAST, both included.

    Only listings are read. Bytes are those of one copy; other layouts hold the same rows.
    """
    from market_data_pipeline.lake.inventory import DayHolding, Holding, day_holdings, holdings

    store = Settings.load().open_store()
    if dataset is None:
        columns = [each.name for each in fields(Holding)]
        rows: Iterator[Any] = holdings(store)
    else:
        columns = [each.name for each in fields(DayHolding)]
        if first and last:
            require_order(first, last)
        rows = day_holdings(store, dataset_named(dataset), first, last or first)
    _told([vars(row) for row in rows], columns, f"{dataset or 'datasets'} in {store.uri}", as_json)


@click.command(short_help="Show which instruments have which days.")
@click.argument("dataset")
@click.argument("first", type=Day())
@click.argument("last", type=Day())
@_INSTRUMENTS
@_JSON
@plainly
def coverage(dataset: str, first: date, last: date, instruments: Sequence[str], as_json: bool) -> None:
    """Which instruments have how much of a DATASET, from FIRST to LAST, both included.

    On a terminal a character stands for a day: darker the more rows it has, by the instrument's own median; a dot where
    it has none. In a pipe there is a line for each day and instrument.
    """
    require_order(first, last)
    lake = _lake()
    found = lake.coverage(dataset, first, last + DAY, instruments=list(instruments) or None).to_pylist()
    if not any(row["rows"] for row in found):
        found = []
    if as_json or not sys.stdout.isatty() or not found:
        columns = ("date", "instrument_id", "rows", "bytes", "first_timestamp", "last_timestamp")
        _told(found, columns, f"{dataset}, {first} to {last}", as_json)
        return
    by_instrument: dict[str, list[int]] = {}
    for row in found:  # in order of the dates, each with every instrument
        by_instrument.setdefault(row["instrument_id"] or "all", []).append(row["rows"])
    out = console()
    names = max(map(len, by_instrument)) + 1
    width = max(7, (out.width - names) // 7 * 7)  # whole weeks
    days = (last - first).days + 1
    for start in range(0, days, width):
        shown = min(width, days - start)
        ends = f"{first + start * DAY}{first + (start + shown - 1) * DAY!s:>{max(11, shown - 10)}}"
        out.print(f"{'':{names}}{ends}", style="bold")
        for name, counts in by_instrument.items():
            usual = median([count for count in counts if count] or [1])
            line = "".join(_shade(count, usual) for count in counts[start : start + shown])
            out.print(f"{name:{names}}[green]{line}[/green]".replace("·", "[red]·[/red]"), soft_wrap=True)
    missing = sum(not count for counts in by_instrument.values() for count in counts)
    out.print(f"{len(by_instrument)} instruments, {days} days, {missing:,} instrument-days without rows")


def _shade(count: int, usual: float) -> str:
    if not count:
        return "·"
    return _SHADES[min(len(_SHADES) - 1, 1 + int((len(_SHADES) - 1) * min(1.0, count / usual / _FULL) * 0.999))]


@click.command(short_help="Draw candles, and show rows.")
@click.argument("instrument")
@click.argument("first", type=Day())
@click.argument("last", type=Day(), required=False)
@click.option("--timeframe", default="1h", show_default=True, help=f"Of candles and features: {', '.join(TIMEFRAMES)}.")
@click.option(
    "--dataset",
    "name",
    metavar="NAME",
    help="Other rows than candles: trades, technical_features, quarantine_trades, …",
)
@click.option("-n", "count", type=click.IntRange(1), default=10, show_default=True, help="Rows shown on a terminal.")
@_JSON
@plainly
def show(
    instrument: str, first: date, last: date | None, timeframe: str, name: str | None, count: int, as_json: bool
) -> None:
    """Draw an INSTRUMENT's candles from FIRST to LAST (both included; FIRST alone by default), and show the last rows.

    In a pipe all rows come as text with tabs, or as JSON. Times are UTC.
    """
    last = last or first
    require_order(first, last)
    asked, one, lake = _asked(name) if name else candles(timeframe), Instrument.parse(instrument), _lake()
    tables = _tables(lake, asked, [one], first, last, None, timeframe)
    columns = asked.own_schema.names
    title = f"{one}, {asked.name}, {first} to {last}"
    if as_json or not sys.stdout.isatty():
        _told(chain.from_iterable(each.to_pylist() for each in tables), columns, title, as_json)
        return
    total, last_ones = 0, deque[Any](maxlen=count)  # of ticks no more is held than is shown
    for each in tables:
        if asked.timeframe and each.num_rows:
            _draw_volumes(draw_candles(each, title))
        total += each.num_rows
        last_ones.extend(each.slice(max(0, each.num_rows - count)).to_pylist())
    _told(last_ones, columns, f"the last {len(last_ones)} of {total:,} rows of {title}", as_json)


def draw_candles(
    rows: "pa.Table", title: str, *, times: str = "d/m/Y H:M", width: int = 120, height: int = 20
) -> "pa.Table":
    """Draws candles that have a price; `times` is how their opens are written, as plotext has it."""
    priced = rows.filter(rows.column("close").is_valid())
    prices = {each.title(): priced.column(each).to_pylist() for each in ("open", "high", "low", "close")}
    with _figure(title, times, width, height) as plot:
        plot.candlestick(_opens(priced, times), prices)
    return priced


def _draw_volumes(priced: "pa.Table", *, times: str = "d/m/Y H:M", width: int = 120, height: int = 9) -> None:
    unit = priced.column("volume_unit")[0].as_py() if priced.num_rows else ""
    with _figure(f"volume ({unit})", times, width, height) as plot:
        plot.bar(_opens(priced, times), priced.column("volume").to_pylist())


def _opens(rows: "pa.Table", times: str) -> list[str]:
    form = "".join(f"%{letter}" if letter.isalpha() else letter for letter in times)
    return [at.strftime(form) for at in rows.column("timestamp").to_pylist()]


@contextmanager
def _figure(title: str, times: str, width: int, height: int) -> Iterator[Any]:
    """An empty figure as wide as the terminal, at most so wide; it is told when it has been drawn on."""
    import plotext

    plotext.clear_figure()
    plotext.date_form(times)
    plotext.theme("clear")
    plotext.plotsize(min(plotext.terminal_width() or 100, width), height)
    plotext.title(title)
    yield plotext
    click.echo(plotext.build())


@click.command(short_help="Write rows into one file.")
@click.argument("dataset")
@click.argument("first", type=Day())
@click.argument("last", type=Day())
@click.option(
    "--to", "target", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to make."
)
@_INSTRUMENTS
@click.option("--columns", default="", metavar="NAMES", help="Only these columns, with commas, in this order.")
@click.option("--timeframe", help="Of features: only those of these candles.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@plainly
def export(
    dataset: str,
    first: date,
    last: date,
    target: Path,
    instruments: Sequence[str],
    columns: str,
    timeframe: str | None,
    force: bool,
) -> None:
    """Write rows of a DATASET from FIRST to LAST, both included, into one file: .parquet, .arrow, .csv or .csv.gz.

    One instrument after the other is read, ticks in pieces, so that memory stays bounded. The file gets its name when
    it is whole.
    """
    from market_data_pipeline.lake.catalog import day_objects
    from market_data_pipeline.lake.exporting import written

    require_order(first, last)
    asked, lake = _asked(dataset), _lake()
    if target.exists() and not force:
        raise SettingError(f"{target} is there already; --force replaces it")
    selection = Selection.of(list(instruments) or None)
    stored = (day_objects(lake.store, asked, day) for day in days_between(first, last))
    found = {each.instrument for each in chain.from_iterable(stored)}
    chosen = sorted(each for each in found if each and each in selection)
    known = ["date", *asked.own_schema.names] if asked.kind is Kind.AVAILABILITY else asked.schema.names
    names = [name.strip() for name in columns.split(",") if name.strip()] or known
    if unknown := [name for name in names if name not in known]:
        raise DatasetError(f"{asked.name} has no column {unknown[0]!r}; it has {', '.join(known)}")
    tables = _tables(lake, asked, chosen if asked.per_instrument else list(instruments), first, last, names, timeframe)
    rows = written(target, asked, names, tables)
    if rows:
        console().print(f"{target}: {rows:,} rows, {target.stat().st_size:,} bytes", soft_wrap=True)
    else:
        raise DatasetError(f"{asked.name} from {first} to {last}: {_NOTHING}")


@click.command(short_help="Ask the lake in SQL.")
@click.argument("query")
@click.option("--from", "first", type=Day(), metavar="DAY", help="Only rows from this day on.")
@click.option("--to", "last", type=Day(), metavar="DAY", help="Only rows up to this day, which is included.")
@_JSON
@plainly
def sql(query: str, first: date | None, last: date | None, as_json: bool) -> None:
    """Ask the lake a QUERY in DuckDB's SQL, where each dataset is a table; nothing is written.

    Conditions on date, venue and instrument_id, and --from and --to, decide which files are opened. A query that takes
    whole months of many instruments is faster on month files: by_timeframe.ohlcv_1h, by_venue.ml_signals.
    """
    if first and last:
        require_order(first, last)
    rows = _lake().sql(query, start=first, end=last and last + DAY)
    # the answer is held as columns; as rows of Python only a piece of it at a time
    pieces = (piece.to_pylist() for piece in rows.to_batches(max_chunksize=10_000))
    table(chain.from_iterable(pieces), rows.column_names, title=f"{rows.num_rows:,} rows", as_json=as_json)


def _tables(
    lake: "MarketDataLake",
    asked: Dataset,
    instruments: Sequence[Any],
    first: date,
    last: date,
    columns: Sequence[str] | None,
    timeframe: str | None,
) -> "Iterator[pa.Table]":
    """The rows of some instruments, one after the other; of ticks in pieces. Without a row there may be no table."""
    start, end = first, last + DAY
    match asked.kind:
        case Kind.TICKS:
            for one in instruments:
                yield from lake.stream_ticks(one, asked.name, start, end, columns=columns)
        case Kind.CANDLES:
            for one in instruments:
                yield lake.candles(one, asked.name.removeprefix("ohlcv_"), start, end, columns=columns)
        case Kind.FEATURES:
            for one in instruments:
                yield lake.features(one, asked.name, start, end, timeframe=timeframe, columns=columns)
        case Kind.AVAILABILITY:
            rows = lake.universe(start, end, instruments=list(instruments) or None, observed=True)
            yield rows.select(list(columns or rows.column_names))
        case Kind.QUARANTINE:
            for one in instruments:
                yield lake.quarantine(start, end, data_type=asked.of, instruments=one, columns=columns)
        case _:
            raise DatasetError(f"{asked.name} is told by available_instruments; ask for that")


def _asked(name: str) -> Dataset:
    """The dataset of a name, or the rows that were set aside from one: `quarantine_trades`."""
    aside = {each.name: each for each in QUARANTINE.values()}
    return aside[name] if name in aside else dataset_named(name)


def _lake() -> "MarketDataLake":
    from market_data_pipeline.lake.reader import MarketDataLake

    return MarketDataLake(store=Settings.load().open_store())


def _told(rows: Any, columns: Sequence[str], title: str, as_json: bool) -> None:
    """The rows; on a terminal, where there are none, what to do."""
    coming = iter(rows)
    ahead = next(coming, None)
    if ahead is None:
        click.echo(_NOTHING, err=True)
        return
    table(chain([ahead], coming), columns, title=title, as_json=as_json)
