"""Tracks in the formats of other tools: MOT challenge text, COCO JSON, CVAT for video; and from CVAT back.

All four describe one video with one or more targets, each by a box in some of the frames:

====================  ==============  ===================  =====================  ==========================
format                first frame is  top left pixel is    a target is            no box in a frame
====================  ==============  ===================  =====================  ==========================
a track of duotrack   row 0           0, 0: x, y, w, h     a file                 a row of NaN
MOT challenge         1               1, 1: x, y, w, h     an id, 1, 2, ...       no line
COCO JSON             image 1         0, 0: x, y, w, h     a track id, 1, 2, ...  no annotation
CVAT for video 1.1    frame 0         0, 0: x, y, x, y     a track with a label   a box that is ``outside``
====================  ==============  ===================  =====================  ==========================

Boxes are neither rounded to pixels nor cut at the border of the image, and a size is never widened by one.

The writers need no library: a line, a dictionary and an element a box are all there is to write, and datumaro, which
knows all three formats, installs half a gigabyte. The one reader meets files from elsewhere: it streams, refuses
document type declarations (with them go entities, and with those the known ways of making a small XML file large), and
bounds what it makes of the numbers it finds.
"""

import json
import math
import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from duotrack.boxes import xywh_to_xyxy, xyxy_to_xywh
from duotrack.results import Track, Values, read_boxes, write_atomically

Targets = Mapping[str, Track]
"""The targets of one video by name; their tracks have a row for every frame, so all are equally long."""

CATEGORY = "target"
"""The only category of a COCO file: single-object trackers know no classes."""

MOST_ROWS = 5_000_000
"""Frames times targets that a CVAT file may ask for: nine hours of five targets at 30 frames a second."""

_SIDES = ("xtl", "ytl", "xbr", "ybr")

_FACTS = ("name", "size", "start_frame", "frame_filter", "original_size/width", "original_size/height")
"""What is read of a task's description."""


@dataclass(frozen=True)
class Video:
    """What the formats say about a video beside its boxes.

    Attributes:
        name: of the video.
        size: width and height in pixels; None where unknown.
        images: file name of every frame, in order; empty where unknown.
        start: number of the first frame in the video that a CVAT task was made from.
        step: frames from one frame of that task to the next.

    Raises:
        ValueError: if a number is out of its range.
    """

    name: str
    size: tuple[int, int] | None = None
    images: tuple[str, ...] = ()
    start: int = 0
    step: int = 1

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"the size of {self.name} is {self.size}: expected width and height in pixels, 1 or more")
        if self.start < 0 or self.step < 1:
            raise ValueError(
                f"{self.name} starts at frame {self.start} and goes on by {self.step}: expected a start of 0 or more "
                "and a step of 1 or more"
            )


# Tracks


def read_tracks(paths: Iterable[str | os.PathLike[str]]) -> dict[str, Track]:
    """Reads the targets of one video from text files, a box a line.

    Args:
        paths: files ``NAME.txt``, or folders that hold them (files of times, ``NAME_time.txt``, are left out).

    Returns:
        Tracks by NAME, in the order of the paths and of names within a folder; with scores where ``NAME.json`` lies
        beside (:meth:`Track.save` writes it), else without.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if one is damaged, a folder holds none, or two have one name.
    """
    files = []
    for path in map(Path, paths):
        found = [path]
        if path.is_dir():
            found = sorted(file for file in path.glob("*.txt") if not file.stem.endswith("_time"))
            if not found:
                raise ValueError(f"{path} holds no tracks: expected files NAME.txt, a line x,y,w,h for every frame")
        files += found
    tracks: dict[str, Track] = {}
    for file in files:
        if file.stem in tracks:
            raise ValueError(f"{file} is a second track named {file.stem!r}: rename one of the two")
        if file.with_suffix(".json").exists():
            tracks[file.stem] = Track.load(file)
        else:
            boxes = read_boxes(file)
            unknown = np.full(len(boxes), np.nan)
            tracks[file.stem] = Track(boxes, unknown, unknown)
    return tracks


def _length(targets: Targets) -> int:
    """The frames of the video; ValueError unless all targets agree and each is seen at least once."""
    if not targets:
        raise ValueError("there are no tracks to convert")
    first = next(iter(targets))
    frames = len(targets[first])
    for name, track in targets.items():
        if len(track) != frames:
            raise ValueError(
                f"track {first!r} has {frames} frames and {name!r} has {len(track)}: the targets of one video have "
                "equally many. Convert different videos one by one."
            )
        if not name.isprintable():
            raise ValueError(f"the name {name!r} cannot be written: rename the track with printable characters")
        if not _present(track).any():
            raise ValueError(f"track {name!r} has no box in any frame: leave it out")
    return frames


def _present(track: Track) -> npt.NDArray[np.bool_]:
    return np.array(np.isfinite(track.boxes).all(axis=1))


def _occluded(name: str, track: Track) -> set[int]:
    """Frames in which an annotator called the target occluded: ``occluded`` in the track's JSON file."""
    frames = track.info.get("occluded", [])
    if not isinstance(frames, list) or not all(isinstance(frame, int) for frame in frames):
        raise ValueError(f"'occluded' of track {name!r} is no list of frame numbers: correct it or take it out")
    return set(frames)


# MOT challenge


def write_mot(path: str | os.PathLike[str], targets: Targets) -> None:
    """Writes the text file of the MOT challenge: ``frame,id,left,top,width,height,confidence,-1,-1,-1``.

    Frames, ids and pixels count from 1 (so ``left = x + 1``), as the challenge's instructions have it
    (https://motchallenge.net/instructions). Ids follow the order of ``targets``. The confidence is the tracker's score,
    and 1 where there is none: in ground truth files 0 there means that a box is to be ignored.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if the targets do not belong to one video.
    """
    lines = []
    for frame in range(_length(targets)):
        for number, track in enumerate(targets.values(), 1):
            if np.isfinite(track.boxes[frame]).all():
                x, y, w, h = track.boxes[frame]
                score = track.scores[frame]
                confidence = 1.0 if math.isnan(score) else score
                lines.append(
                    f"{frame + 1},{number},{x + 1:.4f},{y + 1:.4f},{w:.4f},{h:.4f},{confidence:.6g},-1,-1,-1\n"
                )
    write_atomically(path, "".join(lines))


# COCO


def write_coco(path: str | os.PathLike[str], targets: Targets, video: Video) -> None:
    """Writes a COCO JSON file: images, annotations and one category, ``target``.

    Boxes are ``x, y, w, h`` as duotrack has them. What COCO itself has no words for is said as in TAO
    (https://github.com/TAO-Dataset/tao): ``videos``, ``tracks`` (one for each target, with its name), ``video_id``,
    ``track_id``, ``frame_index`` (from 0). All ids count from 1. Annotations also have the tracker's ``score`` where
    there is one, and ``attributes.occluded`` as in exports of CVAT. Frames without a file name are called
    ``000001.jpg`` and so on.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if the targets do not belong to one video, its size is unknown, or the names of its images are not
            as many as its frames.
    """
    frames = _length(targets)
    if video.size is None:
        raise ValueError("COCO states the size of every image: say it, or where the images are (--size, --images)")
    names = video.images or tuple(f"{frame + 1:06d}.jpg" for frame in range(frames))
    if len(names) != frames:
        raise ValueError(f"{video.name} has {len(names)} images, and its tracks have {frames} frames: expected equally")
    width, height = video.size
    annotations: list[dict[str, Any]] = []
    for number, (name, track) in enumerate(targets.items(), 1):
        occluded = _occluded(name, track)
        for frame in np.flatnonzero(_present(track)).tolist():
            box = track.boxes[frame].tolist()
            score = track.scores[frame].item()
            annotations.append(
                {
                    "id": len(annotations) + 1,  # pycocotools' evaluation takes an id of 0 for "no match"
                    "image_id": frame + 1,
                    "video_id": 1,
                    "track_id": number,
                    "category_id": 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "segmentation": [],
                    "iscrowd": 0,
                    "attributes": {"occluded": frame in occluded},
                }
                | ({} if math.isnan(score) else {"score": score})
            )
    data = {
        "videos": [{"id": 1, "name": video.name, "width": width, "height": height}],
        "images": [
            {"id": i + 1, "video_id": 1, "frame_index": i, "file_name": name, "width": width, "height": height}
            for i, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": CATEGORY}],
        "tracks": [{"id": i, "video_id": 1, "category_id": 1, "name": name} for i, name in enumerate(targets, 1)],
        "annotations": annotations,
    }
    write_atomically(path, json.dumps(data, allow_nan=False) + "\n")


# CVAT


def write_cvat(path: str | os.PathLike[str], targets: Targets, video: Video) -> None:
    """Writes an XML file in the format "CVAT for video 1.1", to a ten thousandth of a pixel.

    The label of a track is the name of its target, so the task in CVAT needs labels of these names. Every frame of a
    track is a key frame: CVAT drops what lies between key frames and interpolates instead. In the first frame in which
    a target is gone it has its last box, marked ``outside``, and nothing more until it is back.
    Source: https://docs.cvat.ai/docs/manual/advanced/xml_format.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if the targets do not belong to one video.
    """
    frames = _length(targets)
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    facts = {"name": video.name, "size": frames, "mode": "interpolation"}
    facts |= {"start_frame": video.start, "stop_frame": video.start + video.step * (frames - 1)}
    facts["frame_filter"] = f"step={video.step}" if video.step > 1 else ""
    for key, value in facts.items():
        ET.SubElement(task, key).text = str(value)
    labels = ET.SubElement(task, "labels")
    for name in targets:
        ET.SubElement(ET.SubElement(labels, "label"), "name").text = name
    if video.size is not None:
        size = ET.SubElement(task, "original_size")
        ET.SubElement(size, "width").text, ET.SubElement(size, "height").text = map(str, video.size)
    for number, (name, track) in enumerate(targets.items()):
        element = ET.SubElement(root, "track", id=str(number), label=name, source="auto")
        present, occluded = _present(track), _occluded(name, track)
        corners = xywh_to_xyxy(track.boxes)
        for frame in range(frames):
            if present[frame]:
                sides, outside = corners[frame], "0"
            elif frame and present[frame - 1]:
                sides, outside = corners[frame - 1], "1"
            else:
                continue
            box = {"frame": str(video.start + video.step * frame), "keyframe": "1", "outside": outside}
            box["occluded"] = "1" if frame in occluded else "0"
            box |= zip(_SIDES, (f"{side:.4f}" for side in sides), strict=True)
            ET.SubElement(element, "box", box, z_order="0")
    ET.indent(root)
    write_atomically(path, ET.tostring(root, "utf-8", xml_declaration=True) + b"\n")


def read_cvat(path: str | os.PathLike[str]) -> tuple[Video, dict[str, Track]]:
    """Reads boxes from a file in the format "CVAT for video 1.1", as a track for each target.

    Only key frames count, as when CVAT itself reads such a file. Between two of them each side of the box moves
    linearly; after the last the box stays. A target has no box (NaN) before its first key frame, and from one that is
    ``outside`` until the next that is not. Frames are rows: the task's start frame and step are taken off.

    Args:
        path: the XML file (``annotations.xml`` in the archive that CVAT exports).

    Returns:
        The video and its targets. A target is named after its label, with the number of its track (``car_3``) where
        several tracks have that label. ``info`` has the file and the frames in which the target is ``occluded``.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is anything else, or says what boxes of one video cannot say; the message names the track and
            the frame.
    """
    document = _Document(Path(path))
    parser = ET.XMLParser(target=document, encoding="utf-8")  # as CVAT writes; a file may name any codec of Python
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 16):
                parser.feed(block)
        parser.close()
    except ET.ParseError as error:
        raise ValueError(
            f"{path} is no XML ({error}): expected a file in the format 'CVAT for video 1.1', unpacked"
        ) from error
    return document.video(), document.targets()


@dataclass
class _CvatTrack:
    """A track as its file has it."""

    number: str
    label: str
    keyframes: dict[int, tuple[list[float], bool, bool]] = field(default_factory=dict)
    """By frame: xtl, ytl, xbr, ybr; outside; occluded."""


class _Document:
    """What is kept of a CVAT file while an XML parser walks over it, calling ``start``, ``data`` and ``end``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: list[str] = []
        self._facts: dict[str, str] = {}
        self._tracks: list[_CvatTrack] = []

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        self._refuse("has a document type declaration, which no file from CVAT has: do not trust it")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._open.append(tag)
        if len(self._open) > 20:
            self._refuse("has elements within elements, more than 20 deep: it is not from CVAT")
        match self._open:
            case ["annotations", "meta", "project"]:
                self._refuse("is the export of a project: export its tasks one by one")
            case ["annotations", "image"]:
                self._refuse("is in the format 'CVAT for images': export the task as 'CVAT for video 1.1'")
            case ["annotations", "track"]:
                names = attributes.get("id", str(len(self._tracks))), attributes.get("label", "")
                self._tracks.append(_CvatTrack(*names))
            case ["annotations", "track", "box"]:
                self._keyframe(self._tracks[-1], attributes)
            case ["annotations", "track", _]:
                track = self._tracks[-1]
                self._refuse(f"has a {tag} in track {track.number} ({track.label!r}): expected boxes only")
            case [root] if root != "annotations":
                self._refuse(f"begins with <{root}>: expected <annotations>, in the format 'CVAT for video 1.1'")

    def data(self, text: str) -> None:
        match self._open:
            case ["annotations", "meta", "task" | "job", *keys] | ["annotations", "meta", *keys] if (
                key := "/".join(keys)
            ) in _FACTS:
                self._facts[key] = (self._facts.get(key, "") + text)[:1000]

    def end(self, tag: str) -> None:
        self._open.pop()

    def close(self) -> None:
        pass

    def video(self) -> Video:
        """The task's name, image size and numbering of frames."""
        size = None
        if "original_size/width" in self._facts:
            size = self._fact("original_size/width"), self._fact("original_size/height")
        step = self._facts.get("frame_filter", "").strip()
        if step and not step.startswith("step="):
            self._refuse(f"has the frame filter {step!r}: expected step=N")
        every = self._whole(step.removeprefix("step=") or "1", "<frame_filter> in <meta>")
        start = self._fact("start_frame", "0")
        try:
            return Video(self._facts.get("name", self._path.stem).strip(), size, start=start, step=every)
        except ValueError as error:
            self._refuse(f"says: {error}")

    def targets(self) -> dict[str, Track]:
        """A track for each target, with a row for each frame of the task."""
        video, frames = self.video(), self._fact("size")
        if not self._tracks or frames < 1:
            self._refuse(f"has {len(self._tracks)} tracks in {frames} frames: expected one or more")
        if frames * len(self._tracks) > MOST_ROWS:
            self._refuse(
                f"claims {frames} frames for each of {len(self._tracks)} tracks: more than {MOST_ROWS} boxes are not "
                "read. Split the task."
            )
        labels = Counter(track.label for track in self._tracks)
        targets: dict[str, Track] = {}
        for track in self._tracks:
            name = track.label if labels[track.label] == 1 else f"{track.label}_{track.number}"
            if name in targets:
                self._refuse(f"has two tracks named {name!r}: rename a label, or renumber the tracks")
            boxes, occluded = self._interpolate(track, video, frames)
            unknown = np.full(frames, np.nan)
            info = {"source": {"cvat": str(self._path)}, "occluded": np.flatnonzero(occluded).tolist()}
            targets[name] = Track(boxes, unknown, unknown, info)
        return targets

    def _keyframe(self, track: _CvatTrack, attributes: dict[str, str]) -> None:
        where = f"the box of track {track.number} ({track.label!r}) in frame {attributes.get('frame')}"
        if not self._flag(attributes.get("keyframe", "1"), f"keyframe of {where}"):
            return
        frame = self._whole(attributes.get("frame"), f"frame of {where}")
        if frame in track.keyframes:
            self._refuse(f"has twice {where}: expected one box of a target in a frame")
        if self._real(attributes.get("rotation", "0"), f"rotation of {where}"):
            self._refuse(f"has a rotated box, {where}: boxes are upright. Turn it back in CVAT.")
        corners = [self._real(attributes.get(key), f"{key} of {where}") for key in _SIDES]
        outside, occluded = (
            self._flag(attributes.get(key, "0"), f"{key} of {where}") for key in ("outside", "occluded")
        )
        track.keyframes[frame] = corners, outside, occluded

    def _interpolate(self, track: _CvatTrack, video: Video, frames: int) -> tuple[Values, npt.NDArray[np.bool_]]:
        """Boxes (frames, 4), x, y, w, h, and whether the target is occluded (frames,)."""
        numbering = range(video.start, video.start + video.step * frames, video.step)
        rows, corners, outside, occluded = [], [], [], []
        for frame, (sides, is_outside, is_occluded) in sorted(track.keyframes.items()):
            if is_outside and frame >= numbering.stop:
                continue  # the end of a track that goes on to the end of the video
            if frame not in numbering:
                self._refuse(
                    f"has frame {frame} in track {track.number} ({track.label!r}): expected frames from "
                    f"{numbering.start} to {numbering[-1]} in steps of {numbering.step}"
                )
            rows.append(numbering.index(frame))
            corners.append(sides)
            outside.append(is_outside)
            occluded.append(is_occluded)
        if not rows:
            return np.full((frames, 4), np.nan), np.zeros(frames, np.bool_)
        every = np.arange(frames)
        last = np.searchsorted(rows, every, "right") - 1  # the key frame that a frame follows; -1 before the first
        absent = (last < 0) | np.array(outside)[last]
        sides = [np.interp(every, rows, side) for side in np.array(corners).T]
        boxes = xyxy_to_xywh(np.stack(sides, axis=1))
        boxes[absent] = np.nan
        return boxes, np.array(occluded)[last] & ~absent

    def _fact(self, key: str, default: str | None = None) -> int:
        return self._whole(self._facts.get(key, default), f"<{key}> in <meta>")

    def _flag(self, text: str, what: str) -> bool:
        if text not in ("0", "1"):
            self._refuse(f"has {_found(text)} as {what}: expected 0 or 1")
        return text == "1"

    def _whole(self, text: str | None, what: str) -> int:
        try:
            return int(text or "")
        except ValueError:
            self._refuse(f"has {_found(text)} as {what}: expected a whole number")

    def _real(self, text: str | None, what: str) -> float:
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not abs(value) <= 1e9:  # nor NaN
            self._refuse(f"has {_found(text)} as {what}: expected a number, at most 1e9")
        return value

    def _refuse(self, message: str) -> NoReturn:
        raise ValueError(f"{self._path} {message if len(message) < 500 else message[:500] + '...'}")


def _found(text: str | None) -> str:
    return "nothing" if text is None else repr(text[:60])
