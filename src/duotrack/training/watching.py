"""What a run tells while it trains: ``metrics.jsonl`` always, a bar, pictures, and TensorBoard where asked for.

A row of ``metrics.jsonl`` is a JSON object with a ``step``, the number of steps done, and either the losses of that
step or the figures of a validation. Rows after the checkpoint that a run goes on from are taken out: their steps come
again. ``skipped.jsonl`` names the files that could not be read, as they are met.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from duotrack.crops import Image
from duotrack.results import write_atomically

METRICS = "metrics.jsonl"
SKIPPED = "skipped.jsonl"
PICTURES = "pictures"


class Watcher:
    """Writes what a run tells; see :func:`watch`."""

    def __init__(self, output: Path, steps: int, first: int, console: Console, board: Any | None) -> None:
        self._output = output
        self._console = console
        self._board = board
        self._file = (output / METRICS).open("a", encoding="utf-8")
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} pairs/s"),
            TimeRemainingColumn(),
        )
        self._progress, self._terms = Progress(*columns), Text()
        self._task = self._progress.add_task("training", total=steps, completed=first, rate=0.0)
        self.display = Group(self._progress, self._terms)

    def tell(self, step: int, values: Mapping[str, float]) -> None:
        """Writes a row of metrics."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name.replace(".", "/"), value, step)

    def say(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes a line above the bar, which stays: figures of a validation."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
        self._console.print(f"step {step}: {text}", highlight=False, soft_wrap=True)

    def advance(self, step: int) -> None:
        """Moves the bar to a number of steps done."""
        self._progress.update(self._task, completed=step)

    def show(self, rate: float, terms: Mapping[str, float]) -> None:
        """Shows pairs per second and every loss term beside the bar."""
        self._progress.update(self._task, rate=rate)
        self._terms.plain = "  ".join(f"{name} {value:.3f}" for name, value in terms.items())

    def picture(self, step: int, image: Image) -> None:
        """Keeps a picture as ``pictures/step_NNNNNN.png``."""
        _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        write_atomically(self._output / PICTURES / f"step_{step:06d}.png", data.tobytes())
        if self._board is not None:
            self._board.add_image("pairs", image, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


@contextmanager
def watch(output: Path, steps: int, first: int, *, tensorboard: bool) -> Iterator[Watcher]:
    """Watches a run that goes on after ``first`` steps.

    Raises:
        ModuleNotFoundError: if TensorBoard is wanted and not installed.
    """
    for name in (METRICS, SKIPPED):
        _forget(output / name, first)
    console = Console(stderr=True)
    watcher = Watcher(output, steps, first, console, _board(output, first) if tensorboard else None)
    try:
        with Live(watcher.display, console=console):
            yield watcher
    finally:
        if not console.is_terminal:
            console.print()  # a file gets the last state, without the end of its line
        watcher.close()


def note_skipped(output: Path, step: int, paths: Iterable[str]) -> None:
    """Adds files that could not be read to ``skipped.jsonl``. Every process does so on its own."""
    rows = "".join(json.dumps({"step": step, "path": path}) + "\n" for path in paths)
    if rows:
        output.mkdir(parents=True, exist_ok=True)
        with (output / SKIPPED).open("a", encoding="utf-8") as file:
            file.write(rows)


def skipped(output: Path) -> dict[str, int]:
    """How often each file could not be read, by its path."""
    counts: dict[str, int] = {}
    for row in _rows(output / SKIPPED):
        counts[row["path"]] = counts.get(row["path"], 0) + 1
    return counts


def best(output: Path, figure: str) -> float:
    """The highest value of a figure in the metrics so far; minus infinity where there is none."""
    return max((row[figure] for row in _rows(output / METRICS) if figure in row), default=float("-inf"))


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]  # a kill may have cut the last one


def _forget(path: Path, step: int) -> None:
    """Removes the rows after a step."""
    if path.is_file():
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in _rows(path) if row["step"] <= step))


def _board(output: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'tensorboard: true needs TensorBoard: pip install "duotrack[tensorboard]"', name="tensorboard"
        ) from error
    return SummaryWriter(str(output / "tensorboard"), purge_step=first + 1)
