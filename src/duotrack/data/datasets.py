"""How the five RGB-T data sets lie on disk: one table, and the functions that read by it.

A sequence is a folder with a folder of images for each modality and text files with boxes::

    data set               visible   infrared  boxes that are scored                 first box of a tracker
    GTOT                   v         i         groundTruth_v.txt, groundTruth_i.txt  init.txt
    RGBT210                visible   infrared  init.txt                              init.txt
    RGBT234                visible   infrared  visible.txt, infrared.txt             init.txt
    LasHeR                 visible   infrared  init.txt                              init.txt
    VTUAV                  rgb       ir        rgb.txt, ir.txt (every 10th frame)    rgb.txt

Images of the two modalities belong together by position and not by name: ``000001.jpg`` may have the partner
``i000.jpg``. What scoring needs to know beyond that is in :mod:`duotrack.evaluation.benchmark`.
"""

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from duotrack.images import IMAGE_SUFFIXES, list_images, natural

Values = npt.NDArray[np.float64]
BoxFormat = Literal["xywh", "xyxy"]

DEPTH = 4
"""How far below the folder of a data set its sequences may lie: ``TestingSet/testingset/SEQUENCE`` is 3."""


@dataclass(frozen=True)
class Annotation:
    """A text file with a box a line: its name, and whether a line is x, y, w, h or x1, y1, x2, y2."""

    file: str
    box_format: BoxFormat = "xywh"


@dataclass(frozen=True)
class Layout:
    """How one data set lies on disk.

    Attributes:
        name: key of the table, in lower case.
        title: as its authors write it.
        visible: folder of the visible images within a sequence.
        infrared: folder of the infrared images within a sequence.
        truth: the boxes that are scored: one annotation for both modalities, or that of the visible and that of the
            infrared images.
        start: the annotation whose first row starts a tracker.
        step: there is one row for every ``step`` frames: row k belongs to frame k * step.
        parts: number of sequences in each published part.
    """

    name: str
    title: str
    visible: str
    infrared: str
    truth: tuple[Annotation, ...]
    start: Annotation
    parts: Mapping[str, int]
    step: int = 1

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Every annotation of a sequence, each once."""
        return tuple(dict.fromkeys((*self.truth, self.start)))


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            name="gtot",
            title="GTOT",
            visible="v",
            infrared="i",
            truth=(Annotation("groundTruth_v.txt", "xyxy"), Annotation("groundTruth_i.txt", "xyxy")),
            start=Annotation("init.txt"),
            parts={"whole": 50},
        ),
        Layout(
            name="rgbt210",
            title="RGBT210",
            visible="visible",
            infrared="infrared",
            truth=(Annotation("init.txt"),),
            start=Annotation("init.txt"),
            parts={"whole": 210},
        ),
        Layout(
            name="rgbt234",
            title="RGBT234",
            visible="visible",
            infrared="infrared",
            truth=(Annotation("visible.txt"), Annotation("infrared.txt")),
            start=Annotation("init.txt"),
            parts={"whole": 234},
        ),
        Layout(
            name="lasher",
            title="LasHeR",
            visible="visible",
            infrared="infrared",
            truth=(Annotation("init.txt"),),
            start=Annotation("init.txt"),
            parts={"testing set": 245, "training set": 979, "whole": 1224},
        ),
        Layout(
            name="vtuav",
            title="VTUAV",
            visible="rgb",
            infrared="ir",
            truth=(Annotation("rgb.txt"), Annotation("ir.txt")),
            start=Annotation("rgb.txt"),
            parts={
                "long-term test set": 74,
                "short-term test set": 176,
                "test sets or training sets": 250,
                "whole": 500,
            },
            step=10,
        ),
    )
}
"""The data sets by name."""


def find_sequences(root: str | os.PathLike[str], layout: Layout) -> dict[str, Path]:
    """Finds the sequences of a data set, as unpacked or rearranged, up to four folders deep.

    A folder is a sequence if it holds an annotation or a folder of images of the layout; a folder within a sequence
    is not searched. Hidden folders and what macOS adds to archives are left out.

    Args:
        root: folder of the data set, or of a part of it.
        layout: of the data set.

    Returns:
        Folders by name of the sequence, in natural order of the names (``car2`` before ``car10``).

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no sequence, or two of one name.
    """
    images = " and ".join(f"{each}/" for each in (layout.visible, layout.infrared))
    expected = f"{images} and {' and '.join(each.file for each in layout.truth)}"
    return find_folders(root, layout.title, partial(_is_sequence, layout), expected)


def find_folders(
    root: str | os.PathLike[str], title: str, is_sequence: Callable[[Path], bool], expected: str
) -> dict[str, Path]:
    """Finds folders of sequences, up to four deep, by the rules of :func:`find_sequences`.

    Args:
        root: where to search.
        title: of the data set, for messages.
        is_sequence: tells a sequence from a folder that may have sequences below it.
        expected: what a sequence holds, for messages.

    Returns:
        Folders by name of the sequence, in natural order of the names.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no sequence, or two of one name.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: expected the one that holds the sequences of {title}")
    found: dict[str, Path] = {}
    for folder in _search(root, is_sequence, DEPTH):
        if folder.name in found:
            raise ValueError(
                f"the sequence {folder.name!r} is there twice: {found[folder.name]} and {folder}. "
                "Name the folder that holds only the sequences you want, or take one of the two away."
            )
        found[folder.name] = folder
    if not found:
        raise ValueError(f"{root} holds no sequence of {title}: expected folders, up to {DEPTH} deep, with {expected}")
    return {name: found[name] for name in sorted(found, key=natural)}


def _search(folder: Path, is_sequence: Callable[[Path], bool], depth: int) -> Iterator[Path]:
    """The sequences below a folder, in natural order."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not _is_hidden(entry.name)]
    for name in sorted(names, key=natural):
        below = folder / name
        if is_sequence(below):
            yield below
        elif depth > 1:
            yield from _search(below, is_sequence, depth - 1)


def _is_sequence(layout: Layout, folder: Path) -> bool:
    return any((folder / each.file).is_file() for each in layout.annotations) or any(
        (folder / each).is_dir() for each in (layout.visible, layout.infrared)
    )


def image_files(folder: str | os.PathLike[str], layout: Layout) -> tuple[list[Path], list[Path]]:
    """The images of a sequence, visible and infrared, each in natural order; entry k of one belongs to k of the other.

    The two may differ in number: that is for the caller to judge.

    Raises:
        FileNotFoundError: if a modality has no folder.
        ValueError: if a folder holds no image.
    """
    visible, infrared = (_images(Path(folder) / name, layout) for name in (layout.visible, layout.infrared))
    return visible, infrared


def _images(folder: Path, layout: Layout) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: a sequence of {layout.title} has this folder of images")
    if not (files := list_images(folder)):
        raise ValueError(f"{folder} holds no images: expected {', '.join(IMAGE_SUFFIXES)}")
    return files


def numbering_gaps(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Where the numbers in file names do not go on as elsewhere: an image that is not there shifts all that follow.

    Args:
        names: of the images of a folder, in order. The last number of a name counts.

    Returns:
        Indices of the names before the gaps; none where a name has no number.
    """
    found = [_NUMBER.findall(name.rpartition(".")[0]) for name in names]
    if not all(found) or len(names) < 2:
        return np.empty(0, np.int64)
    steps = np.diff([int(numbers[-1]) for numbers in found])
    return np.flatnonzero(steps != max(1, np.median(steps)))


_NUMBER = re.compile(r"[0-9]+")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def read_annotation(file: str | os.PathLike[str], box_format: BoxFormat = "xywh") -> Values:
    """Reads a text file with a box a line: four numbers with commas, tabs or blanks between them.

    Blank lines are skipped wherever they stand, line ends may be of any system, and nothing is corrected: a box
    without area or with NaN stays as it is.

    Args:
        file: the annotation.
        box_format: what a line holds: ``xywh``, or ``xyxy`` for two opposite corners (GTOT).

    Returns:
        float64, (N, 4): x, y, w, h; the width of corners is x2 - x1.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is empty or a line is anything else; the message names the file and the line.
    """
    data = Path(file).read_bytes().removeprefix(b"\xef\xbb\xbf").translate(_BLANKS)
    if not data.strip():
        raise ValueError(f"{file} is empty: expected a box a line")
    try:
        boxes = np.loadtxt(io.StringIO(data.decode("latin-1")), np.float64, comments=None, ndmin=2)
    except ValueError as error:
        raise _malformed(file, box_format) or ValueError(f"{file} is damaged: {error}") from error
    if boxes.shape[1] != 4 or np.isinf(boxes).any():
        raise _malformed(file, box_format) or ValueError(f"{file} is damaged: expected four numbers a line")
    if box_format == "xyxy":
        boxes[:, 2:] -= boxes[:, :2]
    return boxes


_BLANKS = bytes.maketrans(b",\t\r", b"  \n")
"""Commas and tabs become blanks. Carriage returns end a line, which at worst makes a blank one more."""


def _malformed(file: str | os.PathLike[str], box_format: BoxFormat) -> ValueError | None:
    """Says which line of an annotation is not a box: the slow way, taken when the fast one has failed."""
    for number, line in enumerate(Path(file).read_text("utf-8-sig", errors="replace").splitlines(), 1):
        fields = line.replace(",", " ").split()
        try:
            good = len(fields) == 4 and not np.isinf([float(text) for text in fields]).any()
        except ValueError:
            good = False
        if fields and not good:
            shown = line if len(line) <= 60 else line[:60] + "..."
            names = "x,y,w,h" if box_format == "xywh" else "x1,y1,x2,y2"
            return ValueError(f"{file}, line {number}: {shown!r} is not a box: expected four numbers, {names}")
    return None


def first_box(folder: str | os.PathLike[str], layout: Layout) -> Values:
    """The box that starts a tracker: the first row of the annotation that the layout names for it.

    Where a sequence lacks that file, as folders of other people may, the first annotation that is scored stands in.

    Returns:
        float64, (4,): x, y, w, h in pixels.

    Raises:
        OSError, ValueError: as :func:`read_annotation`.
    """
    start = Path(folder) / layout.start.file
    if start.is_file():
        return np.asarray(read_annotation(start, layout.start.box_format)[0])
    return np.asarray(read_annotation(Path(folder) / layout.truth[0].file, layout.truth[0].box_format)[0])


@dataclass(frozen=True)
class Counts:
    """How many images and annotated frames a sequence has.

    Attributes:
        visible: visible images.
        infrared: infrared images.
        rows: rows of each annotation that is scored.
        step: frames from one row to the next.
    """

    visible: int
    infrared: int
    rows: tuple[int, ...]
    step: int

    @property
    def frames(self) -> int:
        """Frames to track: pairs of images that an annotation still covers.

        Images beyond the last row are left out, as are those without a partner: no kit scores them. With sparse rows
        the last one covers the frames up to where the next would stand.
        """
        return min(self.visible, self.infrared, min(self.rows) * self.step)

    @property
    def lacking(self) -> int:
        """Annotated frames without a pair of images: results of this sequence will be too short to be scored."""
        return max(0, (min(self.rows) - 1) * self.step + 1 - min(self.visible, self.infrared))

    def __str__(self) -> str:
        rows = " and ".join(map(str, self.rows)) + (f" (one for {self.step} frames)" if self.step > 1 else "")
        return f"{self.visible} visible and {self.infrared} infrared images, {rows} annotated rows"


def count(folder: str | os.PathLike[str], layout: Layout) -> Counts:
    """Counts images and annotated rows of a sequence.

    Raises:
        OSError, ValueError: if a modality or an annotation is missing or unusable.
    """
    visible, infrared = image_files(folder, layout)
    rows = tuple(len(read_annotation(Path(folder) / each.file, each.box_format)) for each in layout.truth)
    return Counts(len(visible), len(infrared), rows, layout.step)
