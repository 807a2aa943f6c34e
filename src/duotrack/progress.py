"""A progress bar on stderr, for whatever takes longer than a second."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T", covariant=True)


class Countable(Protocol[T]):
    """Items whose number is known."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[T]: ...


@contextmanager
def bar(title: str, total: int, unit: str = "frames") -> Iterator[Callable[[], None]]:
    """Shows a bar with the speed and the time left; gives the function that moves it on by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, rate="")

        def advance() -> None:
            progress.advance(task)
            if speed := progress.tasks[0].speed:
                progress.update(task, rate=f"{speed:.1f} {unit}/s")

        yield advance


def watched(title: str, items: Countable[T]) -> Iterator[T]:
    """The items, with a bar that shows how many of them were taken."""
    with bar(title, len(items)) as advance:
        for item in items:
            yield item
            advance()
