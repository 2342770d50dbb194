"""Several calls at once: of reads as they are told, to a store as far as that pays."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from market_data_pipeline.lake.stores.contract import ObjectStore

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def parallel(work: Callable[[_Item], _Result], items: Sequence[_Item], at_once: int) -> Iterator[_Result]:
    """The results in the items' order; threads only where there is more than one item, and more than one at once."""
    if min(at_once, len(items)) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(at_once, "parallel") as pool:
        yield from pool.map(work, items)


def in_parallel(store: ObjectStore, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """The results in the items' order; after an error, which is raised, no further call is begun.

    Args:
        store: what the calls go to; it says how many at once.
        work: is called with each item.
        items: what there is to do.
    """
    return list(parallel(work, items, store.transfers))


def together(store: ObjectStore, *calls: Callable[[], Any]) -> list[Any]:
    """What some calls give that do not need each other, in their order."""
    return in_parallel(store, lambda call: call(), calls)
