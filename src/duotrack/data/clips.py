"""Annotated clips on disk, decoded once and shared by every worker.

A clip is a folder with ``visible.mp4`` and ``infrared.mp4``, or with folders ``visible/`` and ``infrared/`` of
images, and ``tracks/NAME.txt``: one row ``frame,x,y,w,h,flag`` for each annotated frame (flag 0 visible, 1 partly
occluded, 2 absent). One of the two modalities may be missing. Frames are decoded once into a cache folder and
memory-mapped from there: opening a clip again costs nothing, and worker processes share the memory.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Image

VISIBLE, PARTLY_OCCLUDED, ABSENT = 0, 1, 2
"""The flags of a track file."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class Track:
    """One target of a clip: the frames in which it is annotated, and where it is in them."""

    name: str
    frames: npt.NDArray[np.int64]  # (K,), rising
    boxes: npt.NDArray[np.float64]  # (K, 4): x, y, w, h in pixels


@dataclass(frozen=True)
class Clip:
    """A clip with its targets. At least one modality is there; both have the same frames and size."""

    name: str
    visible: npt.NDArray[np.uint8] | None  # (N, H, W, 3), RGB
    infrared: npt.NDArray[np.uint8] | None  # (N, H, W)
    tracks: tuple[Track, ...]

    @property
    def length(self) -> int:
        """Number of frames."""
        present = self.visible if self.visible is not None else self.infrared
        assert present is not None
        return len(present)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame in pixels."""
        present = self.visible if self.visible is not None else self.infrared
        assert present is not None
        return int(present.shape[2]), int(present.shape[1])

    def frame(self, index: int) -> tuple[Image, Image]:
        """The visible and the infrared image of one moment, uint8 H x W x 3; a missing modality is black."""
        width, height = self.size
        black = np.zeros((height, width, 3), np.uint8)
        visible = np.asarray(self.visible[index]) if self.visible is not None else black
        infrared = cv2.cvtColor(self.infrared[index], cv2.COLOR_GRAY2RGB) if self.infrared is not None else black
        return visible, infrared.astype(np.uint8, copy=False)


def open_clip(folder: Path, cache: Path, *, partly_occluded: bool = False) -> Clip:
    """Opens a clip and decodes its frames into the cache unless they are there already.

    Args:
        folder: the clip.
        cache: where decoded frames are kept (width x height x 4 bytes a frame of a pair); made when missing. Entries
            bear the hash of their source, so a changed video is decoded anew.
        partly_occluded: whether rows with flag 1 are used too. In some data flag 1 also means "uncertain".

    Raises:
        FileNotFoundError: if the folder holds neither modality.
        ValueError: if a file cannot be decoded, the modalities disagree, or a track file is malformed.
    """
    visible = _frames(folder, "visible", cache)
    infrared = _frames(folder, "infrared", cache)
    present = visible if visible is not None else infrared
    if present is None:
        raise FileNotFoundError(
            f"{folder}: no clip here; expected visible.mp4 and/or infrared.mp4, or folders visible/ and infrared/"
        )
    if visible is not None and infrared is not None and visible.shape[:3] != infrared.shape[:3]:
        raise ValueError(
            f"{folder}: visible has {_shape(visible)}, infrared {_shape(infrared)}; "
            "the two must have the same number of frames and the same size"
        )
    files = sorted((folder / "tracks").glob("*.txt"))
    tracks = tuple(read_track(file, frames=len(present), partly_occluded=partly_occluded) for file in files)
    return Clip(folder.name, visible, infrared, tracks)


def read_track(file: Path, *, frames: int, partly_occluded: bool = False) -> Track:
    """Reads the rows ``frame,x,y,w,h,flag`` that may be used.

    Args:
        file: the track.
        frames: number of frames of the clip; a row beyond is an error.
        partly_occluded: whether flag 1 counts as usable.

    Raises:
        ValueError: if a row is malformed; the message names file and line.
    """
    usable = (VISIBLE, PARTLY_OCCLUDED) if partly_occluded else (VISIBLE,)
    indices: list[int] = []
    boxes: list[list[float]] = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            index, x, y, w, h, flag = (float(value) for value in line.split(","))
        except ValueError:
            raise ValueError(f"{file}:{number}: expected frame,x,y,w,h,flag, found {line!r}") from None
        if flag not in (VISIBLE, PARTLY_OCCLUDED, ABSENT):
            raise ValueError(f"{file}:{number}: flag {flag:g} is unknown; use 0 visible, 1 partly occluded, 2 absent")
        if flag not in usable:
            continue
        if not 0 <= index < frames or index != int(index) or (indices and index <= indices[-1]):
            raise ValueError(f"{file}:{number}: frame {index:g} must rise from row to row and be below {frames}")
        if not np.isfinite([x, y, w, h]).all() or w <= 0 or h <= 0:
            raise ValueError(f"{file}:{number}: a visible target needs a box with an area, found {w:g} x {h:g}")
        indices.append(int(index))
        boxes.append([x, y, w, h])
    return Track(file.stem, np.array(indices, np.int64), np.array(boxes, np.float64).reshape(-1, 4))


def _frames(folder: Path, modality: str, cache: Path) -> npt.NDArray[np.uint8] | None:
    """The memory-mapped frames of one modality: (N, H, W, 3) visible, (N, H, W) infrared; None when missing."""
    video, images = folder / f"{modality}.mp4", folder / modality
    if video.is_file():
        sources = [video]
    elif images.is_dir():
        sources = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not sources:
            raise ValueError(f"{images}: no images ({', '.join(IMAGE_SUFFIXES)}) in this folder")
    else:
        return None
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    file = cache / f"{folder.name}-{modality}-{digest.hexdigest()[:16]}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _decode(sources, file, grey=modality == "infrared")
    frames: npt.NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
    return frames


def _decode(sources: list[Path], file: Path, *, grey: bool) -> None:
    """Writes all frames as one array, beside the final name first: another worker may be doing the same."""
    is_video = sources[0].suffix == ".mp4"
    count = _video_length(sources[0]) if is_video else len(sources)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    out: npt.NDArray[np.uint8] | None = None
    try:
        done = 0
        for index, image in enumerate(_read_video(sources[0]) if is_video else _read_images(sources)):
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if grey else cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
            if out is None:
                out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, *image.shape))
            name = sources[0] if is_video else sources[index]
            if index >= count or image.shape != out.shape[1:]:
                raise ValueError(f"{name}: frame {index} does not fit {_shape(out)} of the frames before")
            out[index] = image
            done = index + 1
        if done != count:
            raise ValueError(f"{sources[0]}: only {done} of {count} frames could be decoded; get it anew")
        del out
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _video_length(video: Path) -> int:
    """Number of frames that can be decoded: what a header promises is not always kept."""
    capture = cv2.VideoCapture(str(video))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    if count == 0:
        raise ValueError(f"{video}: cannot be decoded; check with ffprobe that it is a video, or get it anew")
    return count


def _read_video(video: Path) -> Iterator[npt.NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(video))
    try:
        while True:
            ok, image = capture.read()
            if not ok:
                return
            yield image.astype(np.uint8, copy=False)
    finally:
        capture.release()


def _read_images(files: list[Path]) -> Iterator[npt.NDArray[np.uint8]]:
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"{file}: cannot be decoded as an image; get it anew")
        yield image.astype(np.uint8, copy=False)


def _shape(frames: npt.NDArray[np.uint8]) -> str:
    return f"{frames.shape[0]} frames of {frames.shape[2]} x {frames.shape[1]}"
