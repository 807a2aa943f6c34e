"""Work that overlaps: the next frames are read while the network looks at this one."""

import threading
from collections.abc import Generator, Iterable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """The items of another iterable, fetched beforehand by a thread of their own.

    This pays where fetching lets go of the interpreter, as decoders do, and a core is free for it. An error of the
    iterable is raised in its place, after the items before it. When the consumer stops early, so does the thread, at
    the latest with the item that it is fetching; ``contextlib.closing`` around the iterator makes that certain.

    Args:
        items: what to fetch; only ever touched by the thread.
        depth: how many items may lie fetched and not yet taken: what bounds the memory.

    Raises:
        ValueError: if ``depth`` is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be 1 or more, not {depth}")
    return _ahead(items, depth)


def _ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    places = threading.Semaphore(depth)  # those for fetched items that are free
    fetched: SimpleQueue[tuple[T] | BaseException] = SimpleQueue()
    stopped = threading.Event()

    def fetch() -> None:
        try:
            iterator = iter(items)
            while places.acquire() and not stopped.is_set():
                fetched.put((next(iterator),))
        except BaseException as error:  # the end of the items, a StopIteration, among them
            fetched.put(error)

    # A daemon, so that a process that must end is not held up by a read that hangs.
    thread = threading.Thread(target=fetch, name="duotrack-ahead", daemon=True)
    thread.start()
    try:
        while isinstance(item := fetched.get(), tuple):
            places.release()
            yield item[0]
        if not isinstance(item, StopIteration):
            raise item
    finally:
        stopped.set()
        places.release()
        thread.join()
