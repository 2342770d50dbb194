"""The command line: materialize days, backfill ranges, open the UI, look at what was written."""

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from market_data_pipeline.looking import coverage, draw_candles, export, ls, show, sql
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.model.windows import DAY, days_between, require_order
from market_data_pipeline.settings import Settings
from market_data_pipeline.terminal import Day, console, plainly
from market_data_pipeline.warehouse import bigquery

if TYPE_CHECKING:
    from rich.console import Console

    from market_data_pipeline.model.datasets import Dataset

DEMO_DAY = date(2024, 8, 8)
_ASSETS = click.option(
    "--assets",
    default="",
    metavar="NAMES",
    help="Only these assets, with commas. Dagster's selections work too: 'key:ohlcv_1m+' is all that follows from it.",
)


_DATASETS = click.option(
    "--dataset", "names", multiple=True, metavar="NAME", help="Only this dataset; may be given several times."
)


_EXAMPLES = """\b
Examples:
  market-data materialize 2024-08-08 --assets trades,ohlcv_1m
  market-data backfill 2024-08-01 2024-08-31 --missing
  market-data coverage ohlcv_1m 2024-08-01 2024-08-31
  market-data show binance:SPOT_PAIR:BTC-USDT 2024-08-08 --timeframe 15m
  market-data sql "select venue, count(*) from trades group by venue" --from 2024-08-08
  market-data export ohlcv_1h 2024-08-01 2024-08-31 --to candles.csv.gz

COMMAND --help tells more of each; docs/how-to.md has recipes."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXAMPLES)
def main() -> None:
    """A market-data lake with Dagster in front of it.

    Settings come from the environment or from .env; README.md and docs/settings.md name them. Days are UTC days,
    written 2024-08-08, and ranges hold both ends.
    """


for _command in (ls, coverage, show, export, sql, bigquery):
    main.add_command(_command)


@main.command(short_help="Materialize one day.")
@click.argument("day", type=Day())
@_ASSETS
@plainly
def materialize(day: date, assets: str) -> None:
    """Materialize DAY (YYYY-MM-DD) and print what lies in the lake then."""
    settings = Settings.load()
    clean = _run(settings, day, day, _names(assets))
    _print_shares(settings, day)
    _leave(clean)


@main.command(short_help="Materialize a range of days.")
@click.argument("first", type=Day())
@click.argument("last", type=Day())
@_ASSETS
@click.option("--missing", is_flag=True, help="Only days of which something is missing: what was killed, or failed.")
@plainly
def backfill(first: date, last: date, assets: str, missing: bool) -> None:
    """Materialize all days from FIRST to LAST, both included.

    One run takes them all, or MARKET_DATA_DAYS_PER_RUN days each.
    """
    _leave(_run(Settings.load(), first, last, _names(assets), only_missing=missing))


@main.command(short_help="Materialize a sample day and look at it.")
@click.argument("day", type=Day(), default=DEMO_DAY.isoformat())
@plainly
def demo(day: date) -> None:
    """Materialize one day, show what was written, draw its candles, and say what to type next."""
    settings = Settings.load()
    clean = _run(settings, day, day, [])
    _print_shares(settings, day)
    _draw_candles(settings, day)
    after = day + DAY
    click.echo(_NEXT.format(day=day, after=after, week=day - 6 * DAY, lake=settings.lake))
    _leave(clean)


@main.command(short_help="Compare the layouts, and change nothing.")
@click.argument("first", type=Day())
@click.argument("last", type=Day())
@click.option("--full", is_flag=True, help="Read and compare every row, not only listings, footers and checksums.")
@_DATASETS
@plainly
def verify(first: date, last: date, full: bool, names: Sequence[str]) -> None:
    """Say what differs between the layouts from FIRST to LAST, both included; change nothing."""
    from market_data_pipeline.lake import verified

    settings = Settings.load()
    chosen = _datasets(names, first, last)
    out = console()
    count = 0
    for difference in verified.verify(settings.open_store(), chosen, first, last, full=full):
        count += 1
        out.print(f"✗ {difference}", style="red", markup=False, soft_wrap=True)
    if count:
        _tell_of_runs(settings)
    looked = f"{first} to {last}, {len(chosen)} datasets, {'every row' if full else 'listings and footers'}"
    out.print(f"{looked}: {count or 'no'} difference{'' if count == 1 else 's'}", style="red" if count else "green")
    _leave(not count)


@main.command(short_help="Make anew what differs from by_date.")
@click.argument("first", type=Day())
@click.argument("last", type=Day())
@click.option(
    "--forget", is_flag=True, help="Let go of day files that are recorded but not there, and cannot be restored."
)
@_DATASETS
@plainly
def repair(first: date, last: date, forget: bool, names: Sequence[str]) -> None:
    """Read everything from FIRST to LAST, and make anew from by_date what differs from it.

    A damaged file of by_date is restored where another layout has its rows; else its day must be materialized again.
    With --forget, one that is gone goes from the record and the month files instead; each is named.
    """
    from market_data_pipeline.lake import repaired

    settings = Settings.load()
    out = console()
    left = mended = 0
    chosen = _datasets(names, first, last)
    for each in repaired.repair(settings.open_store(), chosen, first, last, forget=forget):
        mended, left = mended + each.mended, left + (not each.mended)
        mark, style = ("✓ mended:", "green") if each.mended else ("✗", "red")
        out.print(f"{mark} {each.difference}", style=style, markup=False, soft_wrap=True)
    out.print(f"{first} to {last}: {mended} mended, {left} left", style="red" if left else "green")
    _leave(not left)


@main.command(short_help="Take in files of another tool.")
@click.argument("first", type=Day())
@click.argument("last", type=Day())
@_DATASETS
@plainly
def adopt(first: date, last: date, names: Sequence[str]) -> None:
    """Take in files that another tool wrote into by_date, from FIRST to LAST: every layout, and Dagster's history."""
    settings = Settings.load()
    chosen = _datasets(names, first, last)
    store = settings.open_store()
    os.environ["DAGSTER_HOME"] = str(_home(settings))
    import dagster as dg

    from market_data_pipeline.defs.adopting import register
    from market_data_pipeline.defs.launch import require_partitions
    from market_data_pipeline.lake import adopted

    require_partitions(settings, first, last)
    out = console()
    told: dict[str, None] = {}
    with dg.DagsterInstance.get() as instance:
        for dataset in chosen:
            taken = adopted.adopt(store, dataset, first, last)
            register(instance, store, taken)
            told |= dict.fromkeys(taken.problems)
            if taken.days:
                days = f"{len(taken.days)} days from {taken.days[0]} to {taken.days[-1]}"
                out.print(f"✓ {dataset.name}: {days}", style="green", soft_wrap=True)
    for problem in told:  # what lies among the files of several datasets is a problem of each
        out.print(f"✗ {problem}", style="red", markup=False, soft_wrap=True)
    _leave(not told)


def _datasets(names: Sequence[str], first: date, last: date) -> list["Dataset"]:
    """The datasets of these names, all without any; raises SettingError where the range runs backwards."""
    from market_data_pipeline.model.datasets import DATASETS, dataset

    require_order(first, last)
    return [dataset(name) for name in dict.fromkeys(names)] or list(DATASETS.values())


def _tell_of_runs(settings: Settings) -> None:
    """What a run has not finished yet differs without anything being wrong."""
    os.environ["DAGSTER_HOME"] = str(_home(settings))
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        active = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
        runs = instance.get_runs(dg.RunsFilter(statuses=active))
    for run in runs:
        note = f"! run {run.run_id} is at work: what it writes may differ until it is done; verify again then"
        console().print(note, style="yellow", soft_wrap=True)


@main.command(short_help="Open Dagster's UI, with its daemon.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Where the UI listens.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Keep it on this machine: the UI has no login.")
@plainly
def dev(port: int, host: str) -> None:
    """Open Dagster's UI, with its daemon for schedules and backfills, until Ctrl-C."""
    settings = Settings.load()
    _require_free(host, port)
    os.environ["DAGSTER_HOME"] = str(_home(settings))
    from dagster._cli.dev import dev_command

    # The instance's folder has the project's dagster.yaml at work in it: Dagster's warning about the other copy would
    # mislead. And it advises `dg dev` instead of this command, which takes no workspace.yaml.
    logging.getLogger("dagster").addFilter(lambda record: "Found a dagster instance configuration" not in record.msg)
    warnings.filterwarnings("ignore", "Function `dev_command` is superseded")
    click.echo(f"Dagster's UI is on http://{host}:{port} in a moment; Ctrl-C ends it")
    dev_command(["-w", "workspace.yaml", "-h", host, "-p", str(port), "--log-level", "warning"])


def _require_free(host: str, port: int) -> None:
    with socket.socket() as trial:
        # as the server will, so that a port of which only old connections remain counts as free
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise SettingError(
                f"the UI cannot listen on {host}:{port}: {error.strerror}; name another port: make dev PORT={port + 1}"
            ) from error


def _names(assets: str) -> list[str]:
    names = [name for name in assets.split(",") if name.strip()]
    if assets and not names:
        raise SettingError(f"--assets {assets!r} names no asset; leave it out for all")
    return names


def _home(settings: Settings) -> Path:
    from market_data_pipeline.defs.instance import prepare_home

    return prepare_home(Path.cwd(), settings.lake, os.environ)


def _leave(clean: bool) -> None:
    if not clean:
        sys.exit(1)


def _run(settings: Settings, first: date, last: date, names: Sequence[str], *, only_missing: bool = False) -> bool:
    """Runs days and says how each run ended; true if nothing failed."""
    os.environ["DAGSTER_HOME"] = str(_home(settings))
    import dagster as dg

    from market_data_pipeline.defs.alerts import tell
    from market_data_pipeline.defs.build import build_definitions
    from market_data_pipeline.defs.launch import (
        Partitions,
        chosen_assets,
        launch,
        missing,
        require_partitions,
        selected_assets,
        stages,
    )

    out = console()
    require_partitions(settings, first, last)
    settings.open_store()  # an address that cannot be used is told before anything runs
    defs = build_definitions(settings)
    assets = chosen_assets(defs, selected_assets(defs, names))
    clean = True
    with dg.DagsterInstance.get() as instance:
        days = list(days_between(first, last))
        partitions: Partitions = dict.fromkeys(assets, days)
        if only_missing:
            partitions = missing(instance, defs, days, assets)
            lacking = {day for of_asset in partitions.values() for day in of_asset}
            out.print(f"{first} to {last}: {len(lacking)} days are missing")
        for stage in stages(settings, partitions):
            told = f"{stage.first}" if stage.first == stage.last else f"{stage.first} to {stage.last}"
            with _bar(out, told):
                outcome = launch(defs, instance, stage.first, stage.last, stage.assets)
            clean &= outcome.clean
            # what is long is a line of its own in a pipe, too
            for note in outcome.notes:
                out.print(f"! {note}", style="yellow", markup=False, soft_wrap=True)
            for problem in outcome.problems:
                out.print(f"✗ {problem}", style="red", markup=False, soft_wrap=True)
            state = "done" if outcome.clean else "done, with failures" if outcome.succeeded else "failed"
            style = "green" if outcome.clean else "red"
            out.print(f"{told}: {state} (run {outcome.run_id})", style=style, soft_wrap=True)
            if settings.webhook and not outcome.succeeded and (why := tell(settings.webhook, instance, outcome.run_id)):
                out.print(f"! nobody was told: {why}", style="yellow", markup=False, soft_wrap=True)
    return clean


@contextmanager
def _bar(out: "Console", days: str) -> Iterator[None]:
    """On a terminal a bar of the days of the asset that is being made, with the instrument and the rows a second."""
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from market_data_pipeline.defs.progress import Progress, listening

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn())
    shown = (TextColumn("days  {task.fields[which]}"), TimeElapsedColumn())
    with Bar(*columns, *shown, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(f"materializing {days}", total=None, which="")

        def show(progress: Progress) -> None:
            speed = progress.rows / max(progress.seconds, 0.001)
            which = f"{progress.latest.instrument or ''} {progress.files:,} files, {speed:,.0f} rows a second"
            bar.update(task, description=progress.asset, completed=progress.day, total=progress.days, which=which)

        with listening(show):
            yield


def _print_shares(settings: Settings, day: date) -> None:
    from rich.table import Table

    from market_data_pipeline.lake.inventory import day_shares

    store = settings.open_store()
    shares = list(day_shares(store, day))
    if not shares:
        return
    table = Table(title=f"{day} in {store.uri}", title_justify="left")
    for name in ("dataset", "layout"):
        table.add_column(name)
    for name in ("objects", "rows", "bytes"):
        table.add_column(name, justify="right")
    previous = None
    for share in shares:
        if previous not in (None, share.dataset):
            table.add_section()
        name = share.dataset if share.dataset != previous else ""
        table.add_row(name, share.layout, f"{share.objects:,}", f"{share.rows:,}", f"{share.bytes:,}")
        previous = share.dataset
    console().print(table)


def _draw_candles(settings: Settings, day: date) -> None:
    """Draws the day's 15m candles of the instrument with the most trades."""
    import pyarrow.compute as pc

    from market_data_pipeline.lake.reader import MarketDataLake

    lake = MarketDataLake(store=settings.open_store())
    days = lake.candles(None, "1d", day, day + DAY, columns=["instrument_id", "trade_count"])
    if not days.num_rows:
        return
    busiest = days.column("instrument_id")[pc.index(days["trade_count"], pc.max(days["trade_count"])).as_py()].as_py()
    candles = lake.candles(busiest, "15m", day, day + DAY)
    draw_candles(candles, f"{busiest}, 15m, {day} UTC", times="H:M", width=110, height=22)


_NEXT = """
What to type next
  make dev                                      the same day in Dagster's UI, http://127.0.0.1:3000
  make materialize DAY={after}               the day after
  make backfill FROM={week} TO={day}  a range of days, both included
  .venv/bin/python -c "from market_data_pipeline import MarketDataLake as L; \\
    print(L('{lake}').candles('binance:*:BTC-*', '1h', '{day}', '{after}').to_pandas())"
  make help                                     everything else
"""
