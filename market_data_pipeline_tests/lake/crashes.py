"""Runs that end anywhere: at each call to the operating system, at each request, or by SIGKILL at a random moment.

Each version of the lake is what one run writes into an empty one. After a crash every object must be as in the version
before or as in the version that was being written; after the next run the lake must be that version, whole.
"""

import errno
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_data_pipeline.lake.stores import disk
from market_data_pipeline.lake.stores.contract import ObjectStore
from market_data_pipeline.lake.stores.keys import is_key
from market_data_pipeline.model.datasets import DATASETS
from market_data_pipeline.model.errors import LayoutError
from market_data_pipeline.model.records import RECORD
from market_data_pipeline_tests.lake.made_up import (
    BTC_USD,
    BTC_USDT,
    HOURLY,
    OPTION,
    PERP,
    TRADES,
    Look,
    hourly,
    made_trades,
    write,
)
from market_data_pipeline_tests.parity import objects
from market_data_pipeline_tests.store_fixtures import Ground

DAYS = (date(2024, 3, 5), date(2024, 3, 6))
_OF_THE_SYSTEM = ("replace", "rename", "link", "unlink", "mkdir", "rmdir", "fsync", "fchmod", "open")


class Crash(BaseException):
    """Stands for the end of the process: no call that follows it takes place either."""


def write_version(store: ObjectStore, version: int, threads: int = 1) -> None:
    """Brings a lake to a version: some rows changed, some gone, some new, some as they were."""
    one, other = (BTC_USDT, OPTION) if version % 2 else (OPTION, BTC_USDT)
    places = [(DAYS[0], BTC_USD), (DAYS[0], one), (DAYS[1], PERP), (DAYS[1], other)]
    candles = {(day, each): hourly(day, price=100.0 + (version if each is BTC_USD else 0)) for day, each in places}
    ticks = {(day, each): made_trades(day, each, 8, version if each is BTC_USD else 0) for day, each in places}
    write(store, TRADES, ticks, days=DAYS, threads=threads)
    write(store, HOURLY, candles, days=DAYS, threads=threads)


def version_objects(ground: Ground, version: int) -> dict[str, pa.Table]:
    """The rows of each object of a version; the lake is brought to it."""
    write_version(ground.again(), version)
    return rows_by_key(ground.again())


def rows_by_key(store: ObjectStore) -> dict[str, pa.Table]:
    """The rows of each object that is listed, read whole."""
    return {key: pq.ParquetFile(pa.BufferReader(content)).read() for key, content in objects(store).items()}


def assert_before_or_after(store: ObjectStore, before: dict[str, pa.Table], after: dict[str, pa.Table]) -> bool:
    """Each object is as before or as after, and nothing else is listed; whether any is as before and any as after.

    A month file holds two days, which change together; it may be taken apart no further.
    """
    found = rows_by_key(store)
    old = new = False
    for key in found.keys() | before.keys() | after.keys():
        assert _is_of_a_layout(key), f"{key} is listed, but of no layout"
        was, will = _same(found.get(key), before.get(key)), _same(found.get(key), after.get(key))
        assert was or will, f"{key} is neither as before nor as after"
        old, new = old or not will, new or not was
    return old and new


def _same(one: pa.Table | None, other: pa.Table | None) -> bool:
    return one is other or (one is not None and other is not None and one.equals(other))


def _is_of_a_layout(key: str) -> bool:
    for layout in (RECORD, *(layout for dataset in DATASETS.values() for layout in dataset.layouts)):
        try:
            layout.parse(key)
        except LayoutError:
            continue
        return True
    return False


def assert_whole(ground: Ground, after: dict[str, pa.Table]) -> None:
    """The lake is a version, whole, in all layouts; what the crash left behind is hidden, and can be swept."""
    look = Look(ground)
    look.strays = [name for name in look.strays if is_key(name)]
    look.assert_layouts_agree([TRADES, HOURLY])
    found = rows_by_key(ground.store)
    assert found.keys() == after.keys()
    assert all(found[key].equals(after[key]) for key in found)
    age, disk.ORPHAN_SECONDS = disk.ORPHAN_SECONDS, 0.0
    try:
        ground.store.sweep()
    finally:
        disk.ORPHAN_SECONDS = age
    assert [name for name in ground.names() if not is_key(name)] == []


@contextmanager
def failing_calls(fail: Callable[[str], None], below: str) -> Iterator[None]:
    """Tells of each call to the operating system that changes something in a folder, right before it; may raise.

    Calls that name no path (of file handles) are told of, too.
    """
    originals = {name: getattr(os, name) for name in _OF_THE_SYSTEM}

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            changes = name != "open" or (args[1] & os.O_CREAT)
            if changes and (isinstance(args[0], int) or str(args[0]).startswith(below)):
                fail(name)
            return original(*args, **kwargs)

        return call

    for name, original in originals.items():
        setattr(os, name, watched(name, original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


@contextmanager
def failing_requests(fail: Callable[[str], None], *, answered: bool) -> Iterator[None]:
    """Tells of each request to Google Cloud Storage, before it is sent or (answered) once it was carried out."""
    from google.auth.transport.requests import AuthorizedSession

    original = AuthorizedSession.request

    def request(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if not answered:
            fail(method)
        answer = original(self, method, *args, **kwargs)
        if answered:
            fail(method)
        return answer

    AuthorizedSession.request = request
    try:
        yield
    finally:
        AuthorizedSession.request = original


def at_call(
    number: int, error: Callable[[], BaseException], *, once: bool = False
) -> tuple[Callable[[str], None], list[str]]:
    """What fails at a call, and (unless once) at each one after it; and the calls that came before it."""
    calls: list[str] = []

    def fail(name: str) -> None:
        calls.append(name)
        if len(calls) == number + 1 or (len(calls) > number and not once):
            raise error()

    return fail, calls


def refusal(reason: int) -> Callable[[], OSError]:
    """What the operating system says, such as that the disk is full."""
    return lambda: OSError(reason, os.strerror(reason))


DISK_FULL, READ_ONLY = refusal(errno.ENOSPC), refusal(errno.EROFS)


Watching = Callable[[Callable[[str], None]], AbstractContextManager[None]]


def watching(ground: Ground, *, answered: bool = False) -> Watching:
    """What tells of each call, by which the ground's store is changed."""
    if ground.kind == "gcs":
        return partial(failing_requests, answered=answered)
    return partial(failing_calls, below=ground.store.uri)


def crash_everywhere(ground: Ground, watch: Watching, step: int, offset: int = 0) -> int:
    """A crash at each call in turn (or at every few); returns how many calls a run makes."""
    before, after = version_objects(ground, 0), version_objects(ground, 1)
    write_version(ground.again(), 0)
    fail, calls = at_call(1 << 30, Crash)
    with watch(fail):
        write_version(ground.again(), 1)
    midway = 0
    for number in range(offset, len(calls), step):
        write_version(ground.again(), 0)
        fail, _ = at_call(number, Crash)
        with watch(fail), pytest.raises(Crash):
            write_version(ground.again(), 1)
        midway += assert_before_or_after(ground.again(), before, after)
        write_version(ground.again(), 1)
        assert_whole(ground, after)
    assert midway > 0, "no crash came midway"
    return len(calls)


@dataclass(frozen=True)
class Kill:
    """One run that was killed.

    Attributes:
        after: seconds after its begin.
        midway: whether it lived to change some objects, but not all; None where it was done before.
        left: temporary files that it left behind.
    """

    after: float
    midway: bool | None
    left: int


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def killed_runs(ground: Ground, kills: int, seed: int) -> Iterator[Kill]:
    """Kills runs at random moments; each time the lake must be as above, and the next run must make it whole."""
    draw = random.Random(seed)
    versions = [version_objects(ground, version) for version in (0, 1)]
    longest = 0.0
    for turn in range(kills + 1):
        # the first run is let live, to know how long one takes
        before, after, version = versions[(turn + 1) % 2], versions[turn % 2], turn % 2
        ready, tell = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_live, args=(ground.again, version, tell))
        process.start()
        ready.recv()
        began = time.monotonic()
        process.join(draw.uniform(0.0, longest) if turn else None)
        process.kill()
        process.join()
        took = time.monotonic() - began
        assert process.exitcode in (0, -signal.SIGKILL)
        killed = process.exitcode != 0
        longest = longest or took
        midway = assert_before_or_after(ground.again(), before, after)
        left = sum(not is_key(name) for name in ground.names())
        write_version(ground.again(), version)
        assert_whole(ground, after)
        if turn:
            yield Kill(took, midway if killed else None, left)


def _live(open_store: Callable[[], ObjectStore], version: int, tell: Any) -> None:
    store = open_store()
    tell.send("ready")
    write_version(store, version, threads=2)
