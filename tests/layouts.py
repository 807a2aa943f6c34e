"""Small rendered sequences, laid out on disk as each of the five RGB-T data sets is, and as others are to train on.

A textured patch, warm in the infrared, moves over a textured ground. Names of files and folders, separators, line ends,
blank lines and sparse rows are those of the published data sets; the boxes are made up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.int64]

# Names that end in one another, as published ones do, an apostrophe, and two that sort by number.
NAMES = ("car", "redcar", "boy'sbag", "walk2", "walk10")


@dataclass(frozen=True)
class Files:
    """How one data set names folders and images."""

    folders: tuple[str, ...]  # where sequences lie, taken in turns
    visible: str
    infrared: str
    first: int = 1


FILES = {
    "gtot": Files((".",), "v/{:05d}v.png", "i/{:05d}i.png"),
    "rgbt210": Files((".",), "visible/v{}.jpg", "infrared/{:06d}.jpg", first=0),
    "rgbt234": Files((".",), "visible/{:05d}v.jpg", "infrared/{:05d}i.jpg"),
    "lasher": Files(("TestingSet/testingset",), "visible/{:06d}.jpg", "infrared/i{:03d}.jpg", first=0),
    "vtuav": Files(("test_ST_001", "test_ST_002"), "rgb/{:06d}.jpg", "ir/{:06d}.jpg"),
}


def write_dataset(
    root: Path, layout: str, sequences: int = 3, frames: int = 12, size: tuple[int, int] = (96, 72), seed: int = 0
) -> dict[str, Boxes]:
    """Renders sequences and writes them in a layout: gtot, rgbt210, rgbt234, lasher or vtuav.

    Args:
        root: folder of the data set; made where it is missing.
        layout: name of the layout.
        sequences: how many.
        frames: pairs of images of each.
        size: width and height of the images in pixels; at least 48 x 48.
        seed: one seed, one data set.

    Returns:
        The boxes of the target in the visible images by name of the sequence, in order of the names: (frames, 4),
        x, y, w, h, a row for every frame in VTUAV too. In the infrared images the target is one pixel further right.
    """
    files = FILES[layout]
    names = [*NAMES, *(f"walk{number}" for number in range(11, 11 + sequences))][:sequences]
    written = {}
    for place, name in enumerate(names):
        random = np.random.default_rng([seed, place])
        folder = root / files.folders[place % len(files.folders)] / name
        boxes = _walk(random, frames, size)
        written[name] = boxes
        _write_images(folder, files, boxes, size, random, grey=layout == "gtot")
        _write_annotations(folder, layout, boxes, odd=place % 2 == 1)
    return written


def _walk(random: np.random.Generator, frames: int, size: tuple[int, int]) -> Boxes:
    """Boxes of a target that wanders and turns back at the borders."""
    extent = np.array([random.integers(14, 20), random.integers(16, 22)])
    room = np.array(size) - extent - 4
    corner = random.integers(2, room) + np.arange(frames)[:, None] * random.choice([-2, -1, 1, 2], 2)
    corner = 2 + np.abs((corner - 2 + room) % (2 * room) - room)
    return np.hstack([corner, np.tile(extent, (frames, 1))]).astype(np.int64)


def _write_images(
    folder: Path, files: Files, boxes: Boxes, size: tuple[int, int], random: np.random.Generator, *, grey: bool
) -> None:
    for path in (files.visible, files.infrared):
        (folder / path).parent.mkdir(parents=True)
    for number, (visible, infrared) in enumerate(_render(boxes, size, random), files.first):
        assert cv2.imwrite(str(folder / files.visible.format(number)), visible)
        warm = infrared if grey else cv2.cvtColor(infrared, cv2.COLOR_GRAY2BGR)
        assert cv2.imwrite(str(folder / files.infrared.format(number)), warm)


def _render(
    boxes: Boxes, size: tuple[int, int], random: np.random.Generator
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """The visible (H, W, 3) and the infrared (H, W) image of each box."""
    width, height = size
    coarse = random.integers(40, 140, (6, 8, 3), np.uint8)
    ground = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    cold = np.full((height, width), 60, np.uint8) + ground[..., 0] // 8
    w, h = boxes[0, 2:]
    patch = random.integers(100, 256, (h, w, 3), np.uint8)
    for x, y in boxes[:, :2]:
        visible, infrared = ground.copy(), cold.copy()
        visible[y : y + h, x : x + w] = patch
        infrared[y : y + h, x + 1 : x + 1 + w] = 220
        yield visible, infrared


def _write_annotations(folder: Path, layout: str, boxes: Boxes, *, odd: bool) -> None:
    """The text files of a sequence; every second one has what only some of the published ones have."""
    infrared = boxes + np.array([1, 0, 0, 0])
    if layout == "gtot":
        for name, rows in (("groundTruth_v.txt", boxes), ("groundTruth_i.txt", infrared)):
            _write_rows(folder / name, np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:]]), " ")
        _write_rows(folder / "init.txt", boxes, "\t", "\r\n")
    elif layout == "vtuav":
        _write_rows(folder / "rgb.txt", boxes[::10], " ")
        _write_rows(folder / "ir.txt", infrared[::10], " ", blank=True)
    else:
        end = "\n" if layout == "lasher" and odd else "\r\n"
        blank = layout != "lasher" and odd
        _write_rows(folder / "init.txt", boxes, ",", end, blank)
        if layout != "rgbt210":
            _write_rows(folder / "visible.txt", boxes, ",", end, blank)
            _write_rows(folder / "infrared.txt", infrared, ",", end, blank)


def _write_rows(file: Path, rows: Boxes, separator: str, end: str = "\n", blank: bool = False) -> None:
    lines: Sequence[str] = [separator.join(map(str, row)) for row in rows.tolist()]
    file.write_bytes((end.join(lines) + end * (2 if blank else 1)).encode())


# One modality, or the folders of a user: images, boxes, separator, files of flags with the value of a target in sight.
OTHERS: dict[str, tuple[tuple[str, ...], str, str, dict[str, int]]] = {
    "got10k": (("train/{}/{:08d}.jpg",), "groundtruth.txt", ",", {"absence.label": 0, "cover.label": 8}),
    "lasot": (("bag/{}/img/{:08d}.jpg",), "groundtruth.txt", ",", {"full_occlusion.txt": 0, "out_of_view.txt": 0}),
    "otb": (("{}/img/{:04d}.jpg",), "groundtruth_rect.txt", "\t", {}),
    "folders": (("{}/visible/{}.png", "{}/infrared/{}.png"), "boxes.txt", ",", {}),
}


def write_other(
    root: Path, layout: str, sequences: int = 2, frames: int = 24, size: tuple[int, int] = (96, 72), seed: int = 0
) -> dict[str, Boxes]:
    """Renders sequences and writes them in a layout to train on: got10k, lasot, otb or folders.

    Args and returned boxes are those of :func:`write_dataset`; got10k, lasot and otb have the visible images.
    """
    images, annotation, separator, flags = OTHERS[layout]
    written = {}
    for place, name in enumerate(NAMES[:sequences]):
        random = np.random.default_rng([seed, place])
        boxes = _walk(random, frames, size)
        written[name] = boxes
        for number, both in enumerate(_render(boxes, size, random), 1):
            for path, image in zip(images, both, strict=False):
                file = root / path.format(name, number)
                file.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(file), image)
        folder = root / images[0].partition("{}")[0] / name
        _write_rows(folder / annotation, boxes, separator)
        for file_name, seen in flags.items():
            between = "," if layout == "lasot" else "\n"
            (folder / file_name).write_text(between.join([str(seen)] * frames) + "\n")
    return written
