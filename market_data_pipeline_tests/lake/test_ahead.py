"""Work that is done a little before it is asked for, by threads that all share."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from market_data_pipeline.lake import ahead as module
from market_data_pipeline.lake.ahead import ahead


@pytest.fixture(autouse=True)
def every_helper_is_free_again() -> Iterator[None]:
    yield
    assert module._free._value == module._HELPERS  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_results_come_in_order(count: int) -> None:
    assert list(ahead(lambda number: number * 2, range(count))) == [number * 2 for number in range(count)]


def test_one_item_is_worked_on_by_the_thread_that_asks() -> None:
    assert list(ahead(lambda _: threading.current_thread(), ["one"])) == [threading.current_thread()]


def test_work_goes_on_beside_the_thread_that_asks() -> None:
    both = threading.Barrier(2, timeout=30)
    assert len(list(ahead(lambda _: both.wait(), range(2)))) == 2  # each waits for the other


def test_where_no_helper_is_free_the_thread_that_asks_does_the_work() -> None:
    taken = [module._free.acquire(blocking=False) for _ in range(module._HELPERS)]
    try:
        assert set(ahead(lambda _: threading.current_thread(), range(9))) == {threading.current_thread()}
    finally:
        for _ in taken:
            module._free.release()


def test_no_more_is_ahead_than_helpers_and_the_thread_that_asks_can_hold() -> None:
    begun: list[int] = []
    slow = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 0:
            slow.wait(30)
        return number

    hurry = threading.Timer(0.2, slow.set)
    hurry.start()
    with closing(ahead(work, range(99))) as results:
        assert next(results) == 0
        assert len(begun) <= module._HELPERS + 3
    hurry.join()


def test_an_error_comes_when_its_turn_does() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = ahead(work, range(9))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_an_error_of_what_gives_the_items_is_passed_on() -> None:
    def items() -> Iterator[int]:
        yield from range(4)
        raise ValueError("no more")

    results = ahead(lambda number: number, items())
    with pytest.raises(ValueError, match="no more"):
        list(results)
