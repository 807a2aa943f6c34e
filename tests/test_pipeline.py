"""Reading ahead: nothing is lost, swapped or kept, whoever stops first."""

import gc
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.pipeline import ahead


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "duotrack-ahead"]


@given(items=st.lists(st.none() | st.integers()), depth=st.integers(1, 4))
def test_the_same_items_in_the_same_order(items: list[int | None], depth: int) -> None:
    assert [*ahead(items, depth)] == items
    assert readers() == []


@given(before=st.lists(st.integers(), max_size=4), depth=st.integers(1, 4))
def test_an_error_comes_in_its_place(before: list[int], depth: int) -> None:
    def items() -> Iterator[int]:
        yield from before
        raise ValueError("frame 4 is damaged")

    got = []
    with pytest.raises(ValueError, match="frame 4 is damaged"):
        for item in ahead(items(), depth):
            got.append(item)
    assert got == before
    assert readers() == []


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_is_fetched_than_there_are_places(depth: int) -> None:
    fetched = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            fetched.append(number)
            yield number

    with closing(ahead(items(), depth)) as numbers:
        for taken in range(1, 6):
            next(numbers)
            deadline = time.monotonic() + 30
            while len(fetched) < taken + depth and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.02)  # one too many would come now
            assert len(fetched) == taken + depth


def test_fetching_happens_in_another_thread_and_begins_with_the_first_item() -> None:
    threads = []

    def items() -> Iterator[int]:
        threads.append(threading.current_thread())
        yield 1

    numbers = ahead(items())
    assert threads == []
    assert [*numbers] == [1]
    assert threads != [threading.current_thread()]


def test_closing_half_way_stops_the_thread_and_lets_go_of_the_source() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    numbers = ahead(items())
    assert next(numbers) == 0
    numbers.close()
    assert readers() == []
    gc.collect()
    assert closed.wait(10)


def test_a_consumer_that_fails_or_is_interrupted_stops_the_thread() -> None:
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), closing(ahead(itertools.count())) as numbers:
            for _ in numbers:
                raise error
        assert readers() == []


def test_an_iterator_that_is_forgotten_stops_the_thread() -> None:
    numbers = ahead(itertools.count())
    next(numbers)
    del numbers
    gc.collect()
    assert readers() == []


def test_wrong_depth() -> None:
    with pytest.raises(ValueError, match="depth must be 1 or more, not 0"):
        ahead([1], 0)
