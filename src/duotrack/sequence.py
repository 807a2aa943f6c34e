"""Frames and sequences: a visible and an infrared image of the same moment, one moment after another.

A sequence joins two sources, each a folder of images or a video file. It is lazy: it knows how many frames there
are and reads one when asked, so memory does not grow with length. Frame ``i`` of one source belongs to frame ``i``
of the other, in natural order of file names or in order of presentation.

Whatever the files hold, a frame is 8-bit RGB. Grey becomes three equal channels and alpha is dropped. Images of 16
bits (radiometric thermal cameras, mostly) go through one linear map that is fixed for the whole sequence
(:meth:`Sequence.open` states it): a map chosen for each frame anew would make the target flicker.

What cannot be read whole is refused. A truncated JPEG decodes to a grey area and a truncated video to fewer frames,
and a tracker would follow either without complaint.
"""

import math
import operator
import os
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile, islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, overload

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Box, Image
from duotrack.images import IMAGE_SUFFIXES, list_images

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

Pixels = npt.NDArray[Any]
"""An image as stored: uint8 or uint16, H x W (grey) or H x W x 3 (RGB)."""


class SequenceError(ValueError):
    """Frames that cannot be read or do not fit together; the message names file, frame and remedy."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One moment, seen twice.

    Attributes:
        visible: uint8, H x W x 3, RGB.
        infrared: uint8, H x W x 3, RGB, registered to the visible image.

    Raises:
        SequenceError: if an image has another form, or the two have different sizes.
    """

    visible: Image
    infrared: Image

    def __post_init__(self) -> None:
        for name, image in (("visible", self.visible), ("infrared", self.infrared)):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise SequenceError(
                    f"the {name} image is {image.dtype} of shape {image.shape}: expected uint8 of shape (H, W, 3), RGB"
                )
        if self.visible.shape != self.infrared.shape:
            raise SequenceError(_unequal(_size(self.visible), _size(self.infrared)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return _size(self.visible)


class Sequence:
    """A lazy list of frames; open one with :meth:`open`.

    ``sequence[i]`` reads a frame, ``sequence[a:b]`` is a view of the same sources that reads nothing, and iterating
    streams: a video is decoded once, forwards. Several iterations may run at a time. A sequence can be used as a
    context manager; otherwise its files are closed when it is garbage collected.

    Attributes:
        size: width and height of every image, in pixels.
        fps: frames per second of the visible video, else of the infrared one, else (two folders) None.
        name: a name for output files, taken from what the two paths have in common.
    """

    size: tuple[int, int]
    fps: float | None
    name: str

    def __init__(self, visible: "_Modality", infrared: "_Modality", frames: range, name: str) -> None:
        self._visible, self._infrared = visible, infrared
        self._frames = frames
        self.size = visible.size
        self.fps = visible.source.fps or infrared.source.fps
        self.name = name

    @classmethod
    def open(
        cls,
        visible: str | os.PathLike[str],
        infrared: str | os.PathLike[str],
        *,
        thermal_range: tuple[float, float] | None = None,
    ) -> Self:
        """Opens two sources, each a folder of images (jpg, png, bmp, tif) or a video file.

        **16-bit images** become 8-bit by one linear map per source, fixed for the whole sequence. Its ends come from
        the first frame: the range between the 1st and the 99th percentile of its values, widened on both sides by
        half its span and clipped to 0..65535; values outside the ends saturate. (A first frame of one single value
        gets 128 counts on either side.)

        Args:
            visible: folder or video of visible images.
            infrared: folder or video of infrared images, registered to the visible ones.
            thermal_range: the two ends of the map for 16-bit infrared images, in raw counts, instead of the rule.

        Raises:
            SequenceError: if a path is missing, empty or unreadable, if a video breaks off, or if the two sources
                differ in length or size. Images are checked when they are read.
        """
        if thermal_range is not None and not -math.inf < thermal_range[0] < thermal_range[1] < math.inf:
            raise SequenceError(f"thermal_range is {thermal_range}: expected two counts, the lower one first")
        paths = Path(visible), Path(infrared)
        first, second = (_open_source(path) for path in paths)
        if len(first) != len(second):
            short, long = sorted((first, second), key=len)
            raise SequenceError(
                f"{first.path} has {len(first)} frames, {second.path} has {len(second)}: {long.describe(len(short))} "
                "has no partner. Cut the longer one, or name the two that belong together."
            )
        return cls._join(_Modality(first), _Modality(second, thermal_range), _common_name(*paths))

    @classmethod
    def from_images(cls, visible: list[Path], infrared: list[Path], name: str) -> Self:
        """Joins two lists of image files, file by file, as :meth:`open` does with folders.

        Args:
            visible: visible images in order, at least one.
            infrared: as many infrared images, registered to the visible ones.
            name: for output files.

        Raises:
            SequenceError: if the lists differ in length, or the first images cannot be read or differ in size.
        """
        if not 0 < len(visible) == len(infrared):
            raise SequenceError(
                f"{name}: {len(visible)} visible and {len(infrared)} infrared images, expected as many of each"
            )
        first, second = (_Modality(_Images(files[0].parent, files)) for files in (visible, infrared))
        return cls._join(first, second, name)

    @classmethod
    def _join(cls, visible: "_Modality", infrared: "_Modality", name: str) -> Self:
        if visible.size != infrared.size:
            raise SequenceError(
                _unequal(visible.size, infrared.size, str(visible.source.path), str(infrared.source.path))
            )
        return cls(visible, infrared, range(len(visible.source)), name)

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> "Frame | Sequence":
        if isinstance(index, slice):
            return type(self)(self._visible, self._infrared, self._frames[index], self.name)
        if not -len(self) <= (index := operator.index(index)) < len(self):
            raise IndexError(f"frame {index} of a sequence of {len(self)} frames")
        return Frame(self._visible.read(self._frames[index]), self._infrared.read(self._frames[index]))

    def __iter__(self) -> Iterator[Frame]:
        for pair in zip(self._visible.stream(self._frames), self._infrared.stream(self._frames), strict=True):
            yield Frame(*pair)

    def __repr__(self) -> str:
        return f"<Sequence {self.name}: {len(self)} frames of {self.size[0]} x {self.size[1]}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files that are open; reading a frame opens them again."""
        self._visible.source.close()
        self._infrared.source.close()


def check_box(box: npt.ArrayLike, size: tuple[int, int]) -> Box:
    """Checks the box that starts a track.

    Args:
        box: x, y, w, h in pixels; may reach beyond the border, but not lie outside.
        size: width and height of the image.

    Returns:
        The box, float64 of shape (4,).

    Raises:
        ValueError: if it is not four finite numbers, has no area, or does not overlap the image.
    """
    expected = f"expected x, y, w, h in pixels, with w and h above 0, overlapping the image of {size[0]} x {size[1]}"
    try:
        values = np.array(box, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"the box {box!r} is not made of numbers: {expected}") from None
    text = ", ".join(f"{value:g}" for value in values.flat)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise ValueError(f"the box ({text}) is not four finite numbers: {expected}")
    x, y, w, h = values
    if w <= 0 or h <= 0:
        raise ValueError(f"the box ({text}) has no area: {expected}")
    if min(x + w, size[0]) <= max(x, 0) or min(y + h, size[1]) <= max(y, 0):
        raise ValueError(f"the box ({text}) lies outside the image: {expected}")
    return values


class _Source(Protocol):
    """Images in order, as stored."""

    path: Path
    fps: float | None

    def __len__(self) -> int: ...

    def describe(self, index: int) -> str:
        """Names a frame in a message."""

    def read(self, index: int) -> Pixels:
        """One image."""

    def stream(self, indices: range) -> Iterator[Pixels]:
        """Many, read once in passing."""

    def close(self) -> None:
        """Closes what is open."""


class _Modality:
    """A source and the rule that makes its images 8-bit RGB."""

    def __init__(self, source: _Source, ends: tuple[float, float] | None = None) -> None:
        self.source = source
        first = source.read(0)
        self.size = _size(first)
        self._dtype = first.dtype
        self._levels: Image | None = None
        if first.dtype == np.uint16:
            self._levels = _levels(*(ends or _ends(first)))
        elif ends is not None:
            raise SequenceError(
                f"{source.describe(0)} is {first.dtype}: thermal_range is for 16-bit images only, leave it out"
            )

    def read(self, index: int) -> Image:
        return self._convert(self.source.read(index), index)

    def stream(self, indices: range) -> Iterator[Image]:
        for index, pixels in zip(indices, self.source.stream(indices), strict=True):
            yield self._convert(pixels, index)

    def _convert(self, pixels: Pixels, index: int) -> Image:
        if _size(pixels) != self.size:
            raise SequenceError(
                f"{self.source.describe(index)} is {_text(_size(pixels))}, the frames before it are "
                f"{_text(self.size)}: all images must have one size. Resize it, or take it out with its partner."
            )
        if pixels.dtype != self._dtype:
            raise SequenceError(
                f"{self.source.describe(index)} is {pixels.dtype}, the frames before it are {self._dtype}: "
                "all images must have one depth. Convert the folder to one of the two."
            )
        image: Image = pixels if self._levels is None else self._levels[pixels]
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _ends(image: Pixels) -> tuple[float, float]:
    """The range of counts that becomes 0..255, by the rule that :meth:`Sequence.open` states."""
    low, high = (float(value) for value in np.percentile(image, (1, 99)))
    margin = (high - low) / 2 or 128.0
    return max(low - margin, 0.0), min(high + margin, 65535.0)


def _levels(low: float, high: float) -> Image:
    """The grey level of each of the 65536 counts."""
    grey: Image = np.rint(np.clip((np.arange(65536) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return grey


def _open_source(path: Path) -> "_Source":
    if path.is_dir():
        if not (files := list_images(path)):
            raise SequenceError(f"{path} holds no images: expected {', '.join(IMAGE_SUFFIXES)}")
        return _Images(path, files)
    if not path.exists():
        raise SequenceError(f"{path} does not exist: expected a folder of images or a video file")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SequenceError(f"{path} is a single image: name the folder that holds the images, or a video file")
    return _Video(path)


class _Images:
    """Image files in order."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path = path
        self.fps: float | None = None
        self._names = [file.name for file in files]  # less to keep than paths

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, index: int) -> str:
        return f"{self.path / self._names[index]} (frame {index})"

    def read(self, index: int) -> Pixels:
        return read_image(self.path / self._names[index], self.describe(index))

    def stream(self, indices: range) -> Iterator[Pixels]:
        return map(self.read, indices)

    def close(self) -> None:
        pass


def read_image(file: Path, described: str = "") -> Pixels:
    """Reads one image as it is stored: 8 or 16 bits, grey or colour.

    Args:
        file: the image.
        described: how messages name it; its path where nothing is given.

    Raises:
        SequenceError: if it cannot be read, is truncated or cannot be decoded, or has another depth.
    """
    described = described or str(file)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise SequenceError(f"{described} cannot be read: {error.strerror or error}") from error
    if _truncated(data):
        raise SequenceError(f"{described} is truncated: its end is missing. Copy it again.")
    try:
        # Keeps 16 bits, leaves grey grey, drops alpha, turns the image as its EXIF says.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        image = None
    if image is None:
        raise SequenceError(f"{described} cannot be decoded: it is damaged, empty or no image")
    if image.dtype not in (np.uint8, np.uint16):
        raise SequenceError(f"{described} is {image.dtype}: convert the images to 8 or 16 bits")
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG file lacks its end marker; decoders fill up the rest without an error."""
    if data.startswith(b"\xff\xd8"):
        # Neither marker can occur inside the compressed data that stands between the two.
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    return data.startswith(b"\x89PNG") and b"IEND" not in data


class _Video:
    """A video file.

    Opening it reads all packets once, without decoding them: only so are the number of frames, the key frames and a
    broken end known for certain. What is kept is one time stamp a frame. Every decoded frame is compared with it, so
    that a frame which the decoder leaves out is an error and not a shift of all that follow.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fps: float | None = None
        self._position = 0
        self._cursor: Iterator[VideoFrame] | None = None
        times, keys = self._scan()
        self._count = len(times)
        self._times: npt.NDArray[np.int64] | None = np.sort(np.array(times, np.int64))
        if keys is None or (np.diff(self._times) <= 0).any():
            self._times = None  # no usable time stamps: frames are counted from the start
        else:
            # Key frames by number, in ascending order.
            self._keys = np.searchsorted(self._times, np.sort(np.array(keys, np.int64)))

    def _scan(self) -> tuple["array[int]", "array[int] | None"]:
        """Time stamps of all frames and of the key frames (None where the file has no time stamps)."""
        import av

        times, keys, stamped = array("q"), array("q"), True
        stored, end, damaged = 0, 0.0, False
        with self._open() as container:
            stream = container.streams.video[0]
            self.fps = float(stream.average_rate) if stream.average_rate else None
            try:
                for packet in container.demux(stream):
                    if not packet.size:
                        continue
                    damaged = packet.is_corrupt
                    if damaged:
                        break
                    stored += 1
                    if packet.pts is not None and stream.time_base is not None:
                        end = max(end, float((packet.pts + (packet.duration or 0)) * stream.time_base))
                    stamped = stamped and packet.pts is not None
                    time = packet.pts if packet.pts is not None else len(times)
                    if packet.is_keyframe:
                        keys.append(time)
                    # A trimmed file keeps packets that are decoded for the sake of others and not shown.
                    if not packet.is_discard and not _invisible(stream.codec_context.name, packet):
                        times.append(time)
            except av.error.FFmpegError:
                damaged = True
            if damaged or _missing(container, stream, stored, end):
                promised = f" of {stream.frames}" if stream.frames else ""
                raise SequenceError(
                    f"{self.path} breaks off at frame {len(times)}{promised}: the rest is missing or damaged. Copy it "
                    "again, or keep what is there with: ffmpeg -i IN OUT.mkv"
                )
        if not times or not keys:
            raise SequenceError(f"{self.path} holds no frame that can be decoded: expected a video")
        if stamped:
            # Frames shown before the first key frame refer to pictures that the file does not hold.
            times = array("q", (time for time in times if time >= keys[0]))
        return times, keys if stamped else None

    def _open(self) -> "InputContainer":
        import av

        try:
            # A hostile playlist must not make the library open an address.
            container = av.open(os.path.abspath(self.path), options={"protocol_whitelist": "file"})
        except (av.error.FFmpegError, OSError) as error:
            raise SequenceError(
                f"{self.path} cannot be opened as a video ({error.strerror or error}): it is damaged, incomplete or "
                "no video. Copy it again, or name a folder of images."
            ) from error
        if not container.streams.video:
            container.close()
            raise SequenceError(f"{self.path} holds no video stream: expected a folder of images or a video file")
        return container

    def __len__(self) -> int:
        return self._count

    def describe(self, index: int) -> str:
        return f"frame {index} of {self.path}"

    def read(self, index: int) -> Pixels:
        """One image; going forward within a group of pictures decodes on, anything else seeks."""
        if self._cursor is None or not self._key_before(index) <= self._position <= index:
            self._cursor, self._position = self._decode(index), index
        frame = next(islice(self._cursor, index - self._position, None))
        self._position = index + 1
        return _pixels(frame)

    def stream(self, indices: range) -> Iterator[Pixels]:
        if indices.step < 0:
            yield from map(self.read, indices)
        elif indices:
            frames = self._decode(indices.start)
            yield from map(_pixels, islice(frames, 0, indices.stop - indices.start, indices.step))

    def close(self) -> None:
        self._cursor = None

    def _key_before(self, index: int) -> int:
        """The last key frame up to a frame."""
        return 0 if self._times is None else int(self._keys[np.searchsorted(self._keys, index, "right") - 1])

    def _decode(self, start: int) -> Iterator["VideoFrame"]:
        """Decoded frames from one on, in order of presentation, each of them checked."""
        import av

        number = start
        try:
            for number, frame in enumerate(self._decode_unchecked(start), start):
                if number == self._count:
                    return
                if frame.is_corrupt or (self._times is not None and frame.pts != self._times[number]):
                    self._fail(number)
                yield frame
                number += 1
        except av.error.FFmpegError as error:
            self._fail(number, error)
        if number < self._count:
            self._fail(number)

    def _decode_unchecked(self, start: int) -> Iterator["VideoFrame"]:
        if self._times is None:
            with self._open() as container:
                yield from islice(container.decode(video=0), start, None)
            return
        # Seeking lands late in some containers (MPEG-TS): then once more from further back, and at last from the start.
        wanted, key = int(self._times[start]), self._key_before(start)
        for origin in sorted({key, self._key_before(max(0, key - 1)), 0}, reverse=True):
            with self._open() as container:
                if origin:
                    container.seek(int(self._times[origin]), stream=container.streams.video[0])
                frames = dropwhile(lambda frame: frame.pts is None or frame.pts < wanted, container.decode(video=0))
                first = next(frames, None)
                if first is not None and (first.pts == wanted or not origin):
                    yield first
                    yield from frames
                    return

    def _fail(self, number: int, error: Exception | None = None) -> NoReturn:
        raise SequenceError(
            f"{self.describe(number)} cannot be decoded (the video has {self._count} frames). Copy the "
            "file again, or cut both videos before this frame."
        ) from error


def _pixels(frame: "VideoFrame") -> Pixels:
    """A decoded frame as an array: grey of 8 to 16 bits as it is, everything else as 8-bit RGB."""
    as_it_is = re.fullmatch(r"gray|gray(9|1[0-6])[lb]e", frame.format.name)
    return np.asarray(frame.to_ndarray(format=None if as_it_is else "rgb24"))


def _invisible(codec: str, packet: Any) -> bool:
    """Whether a packet only refines the decoder's memory (VP8 keeps such packets apart and marks them in a bit)."""
    return codec == "vp8" and not bytes(packet)[0] & 0x10


def _missing(container: "InputContainer", stream: "VideoStream", packets: int, end: float) -> bool:
    """Whether the header of a video promises more than its packets hold, which end at a time in seconds."""
    promised = 0.0
    if "mov" in container.format.name:
        # The number of frames in the header of an mp4 counts those that were trimmed away, too.
        promised = float((stream.duration or 0) * (stream.time_base or 0))
    elif "matroska" in container.format.name:
        if match := re.fullmatch(r"([0-9]+):([0-9]+):([0-9.]+)", stream.metadata.get("DURATION", "")):
            promised = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
        elif len(container.streams) == 1:
            promised = (container.duration or 0) / 1e6
    elif packets < stream.frames:
        return True
    return end + float(1.5 / (stream.average_rate or 3)) < promised  # the length of the last frame may be unknown


def _size(image: Pixels) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _unequal(visible: tuple[int, int], infrared: tuple[int, int], *paths: str) -> str:
    where = [f" ({path})" for path in paths] or ["", ""]
    return (
        f"the visible image is {_text(visible)}{where[0]}, the infrared image is {_text(infrared)}{where[1]}: "
        "the two must show the same view at the same size. Register the pair, or resize it, first."
    )


def _common_name(visible: Path, infrared: Path) -> str:
    """``walk`` for walk_rgb.mp4 and walk_ir.mp4; the folder above for visible/ and infrared/."""
    paths = Path(os.path.abspath(visible)), Path(os.path.abspath(infrared))
    stems = [path.name if path.is_dir() else path.stem for path in paths]
    if stems[0] == stems[1]:
        return stems[0] or "sequence"
    if shared := re.match(r"(.*[^_.\- ])[_.\- ].*\n\1[_.\- ]", "\n".join(stems)):
        return shared[1]
    return (paths[0].parent.name if paths[0].parent == paths[1].parent else "") or stems[0] or "sequence"
