"""How far downloads are: a bar on a terminal, lines in the log elsewhere."""

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

log = logging.getLogger(__name__)

_EVERY = 30.0
"""Seconds between two lines of one download."""


class Progress:
    """Tells of the transfers that are under way. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._terminal = _terminal()
        self._bars: Bars | None = None
        self._running = 0

    @contextmanager
    def transfer(self, name: str, size: int | None) -> Iterator[Callable[[int], None]]:
        """One transfer.

        Args:
            name: what is fetched.
            size: its bytes, where they are known.

        Yields:
            A function to call with each number of bytes that came.
        """
        bars = self._begin()
        task = bars.add_task(name.rpartition("/")[2], total=size) if bars else None
        line = _Lines(name, size)

        def came(count: int) -> None:
            line.came(count, quiet=bars is not None)
            if bars is not None and task is not None:
                bars.advance(task, count)

        try:
            yield came
            line.done()
        finally:
            if bars is not None and task is not None:
                bars.remove_task(task)
            self._end()

    def _begin(self) -> "Bars | None":
        with self._lock:
            self._running += 1
            if self._bars is None and self._terminal is not None:
                self._bars = _bars(self._terminal)
                self._bars.start()
            return self._bars

    def _end(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._running and self._bars is not None:
                self._bars.stop()
                self._bars = None


def _terminal() -> IO[str] | None:
    """This process's terminal, held open: the one who runs the process may lead its stderr elsewhere meanwhile.

    Processes that another one has started share its terminal with others: only the first one draws.
    """
    if multiprocessing.parent_process() is not None or not sys.stderr.isatty():
        return None
    return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding)


def _bars(terminal: IO[str]) -> "Bars":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=terminal),
        transient=True,
    )


class _Lines:
    """The log lines of one transfer."""

    def __init__(self, name: str, size: int | None) -> None:
        self._name, self._size = name, size
        self._start = self._told = time.monotonic()
        self._bytes = 0

    def came(self, count: int, *, quiet: bool) -> None:
        self._bytes += count
        if not quiet and time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            of = f" of {_megabytes(self._size)}" if self._size else ""
            log.info("%s: %s%s fetched", self._name, _megabytes(self._bytes), of)

    def done(self) -> None:
        seconds = time.monotonic() - self._start
        log.info("%s: fetched, %s in %.1f s", self._name, _megabytes(self._bytes), seconds)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
