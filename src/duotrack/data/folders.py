"""Sequences of images on disk to train on: the RGB-T benchmarks, sets of one modality, and folders of your own.

A data set is a folder of sequences, up to four deep, or a single sequence. This is what a sequence holds::

    layout                  images                      boxes                  no target where
    gtot, rgbt210, rgbt234  as in duotrack.data.datasets; the boxes of the visible images count
    lasher, vtuav           the same
    got10k                  in the sequence itself      groundtruth.txt        absence.label is 1, cover.label is 0
    lasot                   img/                        groundtruth.txt        full_occlusion.txt, out_of_view.txt: 1
    otb                     img/                        groundtruth_rect*.txt
    folders                 visible/ and/or infrared/   boxes.txt

**Folders of your own** need no more than this::

    NAME/visible/     the images of the visible camera, in the order of their names (frame2 before frame10)
    NAME/infrared/    those of the thermal camera: as many, of the same size, registered to the visible ones
    NAME/boxes.txt    a line for each image: x,y,w,h of the target in pixels; 0,0,0,0 where it is not to be seen

One of the two folders of images may be missing. GOT-10k, LaSOT and OTB show one modality, visible unless the recipe
says infrared. A modality that is not there is black or, in the share of pairs that ``sampling.rendered`` says, a random
curve of the other one.

In every layout a box without area or with NaN means that the target is not to be seen. Images belong to boxes, and
visible images to infrared ones, by position. A sequence whose numbers of images and boxes do not agree is left out if
an image is missing in between, for everything after it would be shifted; the five RGB-T data sets and OTB may have more
of one at the end, which is cut.

Images stay on disk until a pair needs them. What is kept of a sequence is the names of its images and its boxes, 60
bytes a frame in arrays, which worker processes share.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from duotrack.crops import Image
from duotrack.data.clips import Clip, Track, open_clip
from duotrack.data.datasets import LAYOUTS, BoxFormat, find_folders, numbering_gaps, read_annotation
from duotrack.images import list_images
from duotrack.progress import bar
from duotrack.results import beside
from duotrack.sequence import Sequence as Footage
from duotrack.sequence import SequenceError, read_image

Modality = Literal["visible", "infrared"]
Arrays = Mapping[str, npt.NDArray[Any]]

SHOWN = 5
"""How many sequences a message lists."""

LARGEST = 10_000
"""Coordinates beyond this, in pixels, are a slip: no image is so large, and a crop would take all memory."""


class BrokenImageError(ValueError):
    """An image that cannot be used; the pair is drawn anew."""

    def __init__(self, message: str, file: Path) -> None:
        super().__init__(message)
        self.file = file


class BrokenDatasetError(ValueError):
    """So much of a data set cannot be used that what is left would be another data set."""


@dataclass(frozen=True)
class FolderLayout:
    """Where the images and the boxes of a sequence are.

    Attributes:
        title: of the data set, as its authors write it.
        visible: folder of the visible images; None where there are none.
        infrared: the same of the infrared ones.
        boxes: name of the annotation, or a pattern where each target has a file of its own.
        box_format: what a line of it holds.
        step: frames from one line to the next.
        absent: files with a number for each line, and the number that says that the target is not to be seen. They
            count where they are there.
        exact: whether there has to be a line for each image. If not, what is longer is cut.
        either: whether one of two modalities may be missing.
        late: sequences whose first line belongs to a later image, and the index of that.
    """

    title: str
    visible: str | None
    infrared: str | None
    boxes: str
    box_format: BoxFormat = "xywh"
    step: int = 1
    absent: tuple[tuple[str, int], ...] = ()
    exact: bool = False
    either: bool = False
    late: tuple[tuple[str, int], ...] = ()


FOLDER_LAYOUTS: dict[str, FolderLayout] = {
    name: FolderLayout(
        each.title, each.visible, each.infrared, each.truth[0].file, each.truth[0].box_format, step=each.step
    )
    for name, each in LAYOUTS.items()
} | {
    "got10k": FolderLayout(
        "GOT-10k", ".", None, "groundtruth.txt", absent=(("absence.label", 1), ("cover.label", 0)), exact=True
    ),
    "lasot": FolderLayout(
        "LaSOT", "img", None, "groundtruth.txt", absent=(("full_occlusion.txt", 1), ("out_of_view.txt", 1)), exact=True
    ),
    # David is annotated from image 0300 on; other sequences have more images than lines at their ends.
    "otb": FolderLayout("OTB", "img", None, "groundtruth_rect*.txt", late=(("David", 299),)),
    "folders": FolderLayout("your folders", "visible", "infrared", "boxes.txt", exact=True, either=True),
}
"""The layouts by the names that recipes use."""


@dataclass(frozen=True)
class Images:
    """The images of one modality of a sequence: a folder, and their names as bytes, (N,)."""

    folder: Path
    names: npt.NDArray[np.bytes_]

    def __getitem__(self, index: int) -> Path:
        return self.folder / os.fsdecode(bytes(self.names[index]))


@dataclass(frozen=True)
class ImageClip:
    """A sequence with its targets whose images are read when they are needed; at least one modality is there."""

    name: str
    visible: Images | None
    infrared: Images | None
    tracks: tuple[Track, ...]
    length: int
    """Number of frames: those that have every image and that the boxes reach."""

    def frame(self, index: int) -> tuple[Image, Image]:
        """The visible and the infrared image of one moment, uint8 H x W x 3, RGB; a missing modality is black.

        Images of 16 bits become 8 bits as in tracking (:class:`duotrack.sequence.Sequence`): by one linear map for the
        sequence, which its first image fixes.

        Raises:
            BrokenImageError: if an image is missing, damaged, or of another size than its partner.
        """
        images = [_read(each, index) for each in (self.visible, self.infrared) if each is not None]
        if len(images) == 1:
            black = np.zeros_like(images[0])
            return (images[0], black) if self.visible is not None else (black, images[0])
        visible, infrared = images
        if visible.shape != infrared.shape:
            assert self.infrared is not None
            file = self.infrared[index]
            sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]}" for image in images)
            raise BrokenImageError(f"{file} and its visible partner differ in size: {sizes}. Register the two.", file)
        return visible, infrared


def _read(images: Images, index: int) -> Image:
    """One image as 8-bit RGB."""
    file = images[index]
    try:
        image = read_image(file)
        if image.dtype == np.uint16:
            pair = [images[0], file]
            return Footage.from_images(pair, pair, file.parent.name)[1].visible
    except SequenceError as error:
        raise BrokenImageError(str(error), file) from error
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def open_recordings(folders: Iterable[Path], layout: str | None, cache: Path) -> list[Clip | ImageClip]:
    """Clips with their targets, or where a layout is named, data sets or sequences in it.

    Raises:
        OSError: if something is missing.
        ValueError: if a folder cannot be used.
    """
    clips: list[Clip | ImageClip] = []
    for folder in folders:
        if layout is None:
            clips.append(open_clip(folder, cache, partly_occluded=True))
        else:
            clips += open_dataset(folder, layout, cache)[0]
    return clips


def open_dataset(
    root: Path,
    layout: str,
    cache: Path,
    *,
    modality: Modality = "visible",
    only: Path | None = None,
    without: Path | None = None,
    tolerance: float = 0.2,
) -> tuple[list[ImageClip], list[str]]:
    """Opens the sequences of a data set. None of the images is read.

    Args:
        root: folder of the data set, or of a single sequence.
        layout: a name in :data:`FOLDER_LAYOUTS`.
        cache: where names and boxes are kept, so that they are read once; an entry holds as long as the annotations
            and the folders of images are not changed.
        modality: what the images of GOT-10k, LaSOT and OTB show.
        only: text file with the names of the sequences to take, one a line.
        without: the same of those to leave out.
        tolerance: largest share of sequences that may be unusable.

    Returns:
        The sequences, and a message for each one that was left out because it cannot be used.

    Raises:
        OSError: if the folder or a list is missing.
        BrokenDatasetError: if more sequences than tolerated are missing or unusable.
        ValueError: if the folder holds no sequence, two of one name, or none that the lists leave.
    """
    where = FOLDER_LAYOUTS[layout]
    if modality == "infrared":
        where = replace(where, visible=None, infrared=where.visible)
    found = _find(root, where)
    excluded = set(_names(without)) if without is not None else set()
    names = [name for name in (_names(only) if only is not None else found) if name not in excluded]
    if not names:
        raise ValueError(f"{root}: no sequence of {where.title} is left: see {only or without}")
    clips, problems = _cached({name: found[name] for name in names if name in found}, where, cache)
    problems += [f"{name}: {only} names it, and it is not in {root}" for name in names if name not in found]
    if not clips or len(problems) > tolerance * len(names):
        raise BrokenDatasetError(
            f"{root}: {len(problems)} of {len(names)} sequences of {where.title} cannot be used: "
            f"{'; '.join(problems[:SHOWN])}{'; ...' * (len(problems) > SHOWN)}. Get them anew, or raise the tolerance "
            f"of {tolerance:g}."
        )
    return clips, problems


def _find(root: Path, layout: FolderLayout) -> dict[str, Path]:
    """The sequences by name: folders that hold boxes, or a folder of images by which they are known."""
    folders = [name for name in (layout.visible, layout.infrared) if name not in (None, ".")]

    def is_sequence(folder: Path) -> bool:
        return any((folder / name).is_dir() for name in folders if name) or bool(_annotations(folder, layout))

    if root.is_dir() and is_sequence(root):
        root = root.resolve()  # its name, where a recipe says "."
        return {root.name: root}
    joint = " or " if layout.either else " and "
    images = joint.join(f"{name}/" for name in folders) or "images"
    return find_folders(root, layout.title, is_sequence, f"{images} and {layout.boxes}")


def _names(file: Path) -> list[str]:
    """A list of sequences: one name a line."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: expected a text file with the name of a sequence a line")
    names = (line.strip() for line in file.read_text("utf-8-sig").splitlines())
    return list(dict.fromkeys(name for name in names if name))


def _annotations(folder: Path, layout: FolderLayout) -> list[Path]:
    return sorted(folder.glob(layout.boxes))


# --- one sequence --------------------------------------------------------------------------------------------------


def read_sequence(folder: Path, layout: FolderLayout) -> ImageClip:
    """Lists the images of a sequence and reads its boxes.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if images or boxes are missing, malformed or do not fit together; the message names the file.
    """
    visible, infrared = (_list(folder, name, layout.either) for name in (layout.visible, layout.infrared))
    present = [each for each in (visible, infrared) if each is not None]
    if not present:
        raise ValueError(f"{folder} holds no images: expected {layout.visible}/ and/or {layout.infrared}/")
    files = _annotations(folder, layout)
    if len(files) > 1:  # OTB: Human4 has an empty one beside the real one
        files = [file for file in files if file.stat().st_size]
    if not files:
        raise FileNotFoundError(f"{folder} holds no {layout.boxes}: expected a box a line")
    first = dict(layout.late).get(folder.name, 0)
    annotated = {file: read_annotation(file, layout.box_format) for file in files}
    rows = max(map(len, annotated.values()))
    _check_counts(folder, layout, present, first + (rows - 1) * layout.step + 1)
    length = min(*(len(each.names) for each in present), first + rows * layout.step)
    tracks = []
    for file, boxes in annotated.items():
        frames = first + np.arange(len(boxes)) * layout.step
        seen = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1) & (frames < length)
        for name, value in layout.absent:
            if (folder / name).is_file():
                seen &= _flags(folder / name, len(boxes)) != value
        if (wild := np.flatnonzero(seen & (np.abs(boxes) > LARGEST).any(1))).size:
            text = ", ".join(f"{value:g}" for value in boxes[wild[0]])
            raise ValueError(f"{file}: box {wild[0] + 1} is {text}: expected pixels, none beyond {LARGEST}")
        tracks.append(Track(file.stem, frames[seen], boxes[seen]))
    return ImageClip(folder.name, visible, infrared, tuple(tracks), length)


def _list(folder: Path, name: str | None, may_lack: bool) -> Images | None:
    """The images of one modality."""
    if name is None or (may_lack and not (folder / name).is_dir()):
        return None
    path = folder / name
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing: expected the folder of the {name} images")
    if not (files := list_images(path)):
        raise ValueError(f"{path} holds no images")
    return Images(path, np.array([os.fsencode(file.name) for file in files], np.bytes_))


def _check_counts(folder: Path, layout: FolderLayout, present: Sequence[Images], annotated: int) -> None:
    """Refuses a sequence in which images and boxes may be shifted against each other."""
    counts = [len(each.names) for each in present]
    text = f"{folder} has {' and '.join(map(str, counts))} images for {annotated} annotated frames"
    if layout.exact and set(counts) != {annotated}:
        raise ValueError(f"{text}: expected a line in {layout.boxes} for each image")
    if len(set(counts)) > 1 or min(counts) < annotated:
        for each in present:
            if (gaps := numbering_gaps([os.fsdecode(bytes(name)) for name in each.names])).size:
                raise ValueError(f"{text}, and an image is missing after {each[int(gaps[0])]}: get it anew")


def _flags(file: Path, rows: int) -> npt.NDArray[np.int64]:
    """The numbers of a file of flags, (rows,): one a line, or all in one line."""
    text = file.read_text("latin-1").replace(",", " ").split()
    if len(text) != rows or not all(each.isdecimal() for each in text):
        raise ValueError(f"{file}: expected {rows} whole numbers, one for each box; found {len(text)} entries")
    return np.array(text, np.int64)


# --- all sequences, read once --------------------------------------------------------------------------------------


def _cached(folders: Mapping[str, Path], layout: FolderLayout, cache: Path) -> tuple[list[ImageClip], list[str]]:
    """Reads sequences, or takes what was read of these very files before."""
    file = cache / f"sequences-{_stamp(folders.values(), layout)}.npz"
    # Not there or damaged, in which case zip, deflate and npy can raise anything: then it is read anew.
    with suppress(Exception), np.load(file, allow_pickle=False) as entry:
        return _unpack({name: entry[name] for name in entry.files}, folders, layout)
    clips, problems = [], []
    with bar(f"reading {layout.title}", len(folders), "sequences") as advance:
        for folder in folders.values():
            try:
                clips.append(read_sequence(folder, layout))
            except (OSError, ValueError) as error:
                problems.append(str(error))
            advance()
    with suppress(OSError), beside(file) as temporary:  # it only saves time
        np.savez(temporary, **_pack(clips, problems))
    return clips, problems


def _stamp(folders: Iterable[Path], layout: FolderLayout) -> str:
    """Changes with the annotations, and when an image comes, goes or gets another name."""
    digest = hashlib.sha256(f"1 {layout}".encode())  # the number changes with the meaning of an entry
    for folder in folders:
        names = [name for name in (layout.visible, layout.infrared, *(file for file, _ in layout.absent)) if name]
        for path in [*_annotations(folder, layout), *(folder / name for name in names)]:
            found = path.stat() if path.exists() else None
            digest.update(f"{path} {found and (found.st_mtime_ns, found.st_size)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]


def _pack(clips: Sequence[ImageClip], problems: Sequence[str]) -> dict[str, Any]:
    """Sequences as arrays, which load at once and hold no objects."""
    images = [each for clip in clips for each in (clip.visible, clip.infrared)]
    tracks = [track for clip in clips for track in clip.tracks]
    return {
        "problems": np.array(problems, np.str_),
        "clips": np.array([clip.name for clip in clips], np.str_),
        "lengths": np.array([clip.length for clip in clips], np.int64),
        "names": np.concatenate([each.names for each in images if each is not None] or [np.empty(0, np.bytes_)]),
        "images": np.array([-1 if each is None else len(each.names) for each in images], np.int64),
        "targets": np.array([len(clip.tracks) for clip in clips], np.int64),
        "tracks": np.array([track.name for track in tracks], np.str_),
        "rows": np.array([len(track.frames) for track in tracks], np.int64),
        "frames": np.concatenate([np.empty(0, np.int64), *(track.frames for track in tracks)]),
        "boxes": np.concatenate([np.empty((0, 4)), *(track.boxes for track in tracks)]),
    }


def _unpack(entry: Arrays, folders: Mapping[str, Path], layout: FolderLayout) -> tuple[list[ImageClip], list[str]]:
    """The sequences that :func:`_pack` made arrays of; they share its memory."""
    names = iter(np.split(entry["names"], np.cumsum(entry["images"].clip(0))[:-1]))
    ends = np.cumsum(entry["rows"])[:-1]
    rows = zip(entry["tracks"].tolist(), np.split(entry["frames"], ends), np.split(entry["boxes"], ends), strict=True)
    counts = entry["images"].reshape(-1, 2).tolist()
    clips = []
    for name, length, both, targets in zip(
        entry["clips"].tolist(), entry["lengths"].tolist(), counts, entry["targets"].tolist(), strict=True
    ):
        visible, infrared = (
            Images(folders[name] / str(place), part) if count >= 0 else None
            for place, count, part in zip(
                (layout.visible, layout.infrared), both, (next(names), next(names)), strict=True
            )
        )
        tracks = tuple(Track(*next(rows)) for _ in range(targets))
        clips.append(ImageClip(name, visible, infrared, tracks, length))
    return clips, entry["problems"].tolist()
