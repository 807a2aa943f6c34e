"""Tracks on disk: what a tracker found in a sequence, frame by frame.

A track is two files. ``NAME.txt`` has a line a frame, ``x,y,w,h``, which the field's evaluation kits read as it is;
``NAME.json`` beside it has the scores, the times and what is needed to make the track again. The text file is
written last and every file appears under its name only when whole: where there is a text file, there is a track.
"""

import contextlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_LISTS = ("scores", "milliseconds")


@dataclass(eq=False)
class Track:
    """What a tracker found in a sequence of N frames.

    Attributes:
        boxes: float64, (N, 4): x, y, w, h in pixels of the visible image.
        scores: float64, (N,): 0..1, NaN where there is none.
        milliseconds: float64, (N,): what each frame took, NaN where not measured.
        lost: bool, (N,): where the target was out of sight; nowhere if not given. The file has the first and last frame
            of each stretch.
        info: how the track came about (source, hash of the weights, settings, versions): whatever JSON can hold.

    Raises:
        ValueError: if the shapes do not fit together, a number is infinite, or ``info`` uses the name of
            another attribute.
    """

    boxes: Values
    scores: Values
    milliseconds: Values
    info: dict[str, Any] = field(default_factory=dict)
    lost: Flags = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        self.boxes = np.asarray(self.boxes, np.float64)
        self.scores = np.asarray(self.scores, np.float64)
        self.milliseconds = np.asarray(self.milliseconds, np.float64)
        n = len(self.boxes)
        self.lost = np.asarray(self.lost, bool) if len(self.lost) else np.zeros(n, bool)
        shapes = self.boxes.shape, self.scores.shape, self.milliseconds.shape, self.lost.shape
        if shapes != ((n, 4), (n,), (n,), (n,)):
            expected = "expected (N, 4), (N,), (N,), (N,)"
            raise ValueError(f"boxes, scores, milliseconds and lost have shapes {shapes}: {expected}")
        for name in ("boxes", *_LISTS):
            infinite = np.isinf(getattr(self, name)).reshape(n, -1).any(axis=1)
            if infinite.any():
                raise ValueError(f"{name} of frame {int(infinite.argmax())} are infinite: expected numbers or NaN")
        if taken := [name for name in (*_LISTS, "lost") if name in self.info]:
            raise ValueError(f"info has the key {taken[0]!r}, which is the name of a list of the track: rename it")

    def __len__(self) -> int:
        return len(self.boxes)

    def save(self, folder: str | os.PathLike[str], name: str) -> Path:
        """Writes ``NAME.json``, then ``NAME.txt`` (boxes to a ten thousandth of a pixel).

        Args:
            folder: made where it is missing.
            name: of the sequence; no path.

        Returns:
            The path of the text file.

        Raises:
            ValueError: if the name is empty or would lead to another folder.
        """
        if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
            raise ValueError(f"a track cannot be named {name!r}: expected a plain name without / or \\")
        lists = {key: [None if math.isnan(v) else v for v in getattr(self, key).tolist()] for key in _LISTS}
        lines = (",".join(f"{value:.4f}" for value in box) + "\n" for box in self.boxes.tolist())
        path = Path(folder) / f"{name}.txt"
        facts = {**self.info, "lost": stretches(self.lost.tolist()), **lists}
        write_atomically(path.with_name(f"{name}.json"), json.dumps(facts, allow_nan=False) + "\n")
        write_atomically(path, "".join(lines))
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a track that :meth:`save` wrote.

        Args:
            path: of the text file; the JSON file must lie beside it (:func:`read_boxes` reads boxes alone).

        Raises:
            OSError: if one of the two files cannot be read.
            ValueError: if one is damaged, or the two do not belong together.
        """
        path = Path(path)
        boxes = read_boxes(path)
        beside = path.with_suffix(".json")
        try:
            info = json.loads(beside.read_text("utf-8"))
            lost = np.zeros(len(boxes), bool)
            for first, last in info.pop("lost", []):  # tracks of before have none
                lost[first : last + 1] = True
            return cls(boxes, info.pop("scores"), info.pop("milliseconds"), info, lost)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{beside} is damaged or does not belong to {path} ({error!r}): track the sequence again"
            ) from error


def read_boxes(path: str | os.PathLike[str]) -> Values:
    """Reads a text file with a box a line: four numbers with commas, tabs or blanks between them.

    Returns:
        float64, (N, 4); NaN where the file says nan.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is empty or a line is anything else; the message names the file and the line.
    """
    lines = Path(path).read_text("utf-8-sig", errors="replace").rstrip().splitlines()
    if not lines:
        raise ValueError(f"{path} is empty: expected a line a frame, x,y,w,h")
    return np.array([_numbers(path, number, line) for number, line in enumerate(lines, 1)], np.float64)


def _numbers(path: str | os.PathLike[str], number: int, line: str) -> list[float]:
    try:
        values = [float(text) for text in re.split(r"\s*,\s*|\s+", line.strip())]
    except ValueError:
        values = []
    if len(values) != 4 or any(math.isinf(value) for value in values):
        shown = line if len(line) <= 60 else line[:60] + "..."
        raise ValueError(f"{path}, line {number}: {shown!r} is not a box: expected four numbers, x,y,w,h")
    return values


@contextlib.contextmanager
def beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path next to a final one, with its suffix, and renames it when the block has succeeded.

    Missing folders are made. If the block fails, the temporary file is removed and what bore the final name stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Writes a file (text as UTF-8) so that its name only ever stands for the whole of it."""
    with beside(path) as temporary, temporary.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


def stretches(holds: Sequence[bool]) -> list[list[int]]:
    """First and last index of each stretch in which something holds."""
    groups = [list(group) for _, group in groupby(range(len(holds)), key=lambda index: holds[index])]
    return [[group[0], group[-1]] for group in groups if holds[group[0]]]
