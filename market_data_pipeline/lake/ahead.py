"""Work on row groups beside each other: on all cores, and on no more at a time than there are cores."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import BoundedSemaphore
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# all who ask share them, so that many files at once take no more memory than cores can work on
_HELPERS = max(1, (os.cpu_count() or 1) - 1)
_free = BoundedSemaphore(_HELPERS)


def ahead(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """The results in order, of which helping threads work out some before they are asked for.

    The thread that asks takes the items one by one, and does the work itself where no helper is free, as it does with a
    single item. So what is ahead is bounded.
    """
    coming = iter(items)
    held = deque(islice(coming, 2))
    if len(held) == 1:
        yield work(held.popleft())
        return
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(_HELPERS, "ahead") as helpers:
        for item in drained(held, coming):
            waiting.append(_begun(helpers, work, item))
            del item  # its memory is the next one's
            while waiting and (waiting[0].done() or len(waiting) > _HELPERS + 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def drained(held: deque[_Item], coming: Iterable[_Item]) -> Iterator[_Item]:
    """What was taken of some items to look at, then the others; what is given is held no more."""
    while held:
        yield held.popleft()
    yield from coming


def _begun(helpers: ThreadPoolExecutor, work: Callable[[_Item], _Result], item: _Item) -> Future[_Result]:
    if _free.acquire(blocking=False):
        begun = helpers.submit(work, item)
        begun.add_done_callback(lambda _: _free.release())
        return begun
    done: Future[_Result] = Future()
    try:
        done.set_result(work(item))
    except Exception as error:  # told when its turn comes
        done.set_exception(error)
    return done
