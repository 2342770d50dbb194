"""Several calls to a store at once, as far as that pays."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from market_data_pipeline.lake.stores.contract import ObjectStore

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_parallel(store: ObjectStore, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """The results in the items' order; after an error, which is raised, no further call is begun.

    Args:
        store: what the calls go to; it says how many at once.
        work: is called with each item.
        items: what there is to do.
    """
    at_once = min(store.transfers, len(items))
    if at_once < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(at_once, "store") as pool:
        return list(pool.map(work, items))


def together(store: ObjectStore, *calls: Callable[[], Any]) -> list[Any]:
    """What some calls give that do not need each other, in their order."""
    return in_parallel(store, lambda call: call(), calls)
