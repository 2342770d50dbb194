"""What all commands have in common: days, clear errors, tables on a terminal and plain text in a pipe."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from market_data_pipeline.model.errors import MarketDataError
from market_data_pipeline.model.windows import as_day

if TYPE_CHECKING:
    from rich.console import Console

_P = ParamSpec("_P")
_R = TypeVar("_R")
Row = Mapping[str, Any]


def plainly(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Ends with one clear message, and no stack trace, where the input is at fault; and silently after `| head`."""

    @wraps(command)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            done = command(*args, **kwargs)
            sys.stdout.flush()
        except MarketDataError as error:
            raise click.ClickException(str(error)) from error
        except OverflowError as error:
            raise click.ClickException(f"a day or a time lies outside the years 1 to 9999 ({error})") from error
        except BrokenPipeError:
            # what is still held must not be written when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        return done

    return guarded


class Day(click.ParamType[date]):
    """A day, written 2024-08-08."""

    name = "day"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The day of a text."""
        try:
            return as_day(value)  # type: ignore[arg-type]
        except MarketDataError as error:
            self.fail(str(error), param, ctx)


def console() -> "Console":
    """Where people read; colours go where there is a terminal (and NO_COLOR is not set)."""
    from rich.console import Console

    return Console(highlight=False)


def table(rows: Iterable[Row], columns: Sequence[str], *, title: str, as_json: bool) -> None:
    """Rows as a table on a terminal; in a pipe with tabs and a line of names, or a JSON object a line."""
    if as_json:
        for row in rows:
            click.echo(json.dumps({name: _finite(row[name]) for name in columns}, default=_text))
        return
    if not sys.stdout.isatty():
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(_text(row[name]) for name in columns))
        return
    from rich.table import Table

    out, listed = console(), list(rows)
    cells = {name: [_shown(row[name]) for row in listed] for name in columns}
    fitting = _fitting(cells, out.width)
    left = len(columns) - len(fitting)
    note = f"{left} more columns do not fit: {', '.join(columns[len(fitting) :])}; in a pipe all come" if left else None
    shown = Table(title=title, title_justify="left", caption=note, caption_justify="left")
    for name in fitting:
        numbers = all(isinstance(row[name], int | float | None) for row in listed)
        shown.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for line in zip(*(cells[name] for name in fitting), strict=True):
        shown.add_row(*line)
    out.print(shown)


def _fitting(cells: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """The first columns, as many as have room beside each other; one at least."""
    fitting: list[str] = []
    room = width - 1
    for name, texts in cells.items():
        room -= max(map(len, (name, *texts))) + 3
        if room < 0 and fitting:
            break
        fitting.append(name)
    return fitting


def _finite(value: object) -> object:
    """A value as JSON has it, which knows no NaN and no infinity, in lists and structs neither."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: object) -> str:
    """A value for other programs: times as ISO, nothing for null, a list with commas; in one line, without a tab."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(map(_text, value))
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.10g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f").removesuffix(".000000")
    return str(value)
