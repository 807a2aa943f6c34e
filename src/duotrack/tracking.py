"""The trackers: they carry boxes from frame to frame through a session.

    template crops around the first box --session--> what to look for, once; and how its boxes differ from the given one
    search crops around the last box --session--> score map * window --> the cell of the target --> its box
                                                  where others look like it: peaks --rivals--> the target's box
                                                  where it is hidden: search --> lost, wider crops, found

:class:`Tracker` follows one target, :class:`MultiTracker` any number in one pass of the network. All state of a track
is here; sessions and networks hold none.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import KW_ONLY, asdict, dataclass, field
from functools import cache, partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from duotrack import __version__, pretrained
from duotrack.appearance import appearances
from duotrack.calibration import Correction, learn
from duotrack.crops import Box, Padding, box_in_crop, box_in_image, clip_box, crop, hann
from duotrack.frozen import CAMERAS, Camera, Freeze
from duotrack.pipeline import ahead
from duotrack.processor import wait_asleep
from duotrack.redetection import Search
from duotrack.results import Track, stretches
from duotrack.rivals import MOST, Peak, Rivals, peak_cells
from duotrack.sequence import Frame, check_box
from duotrack.sessions.base import Floats, Maps, Pixels, Precision, Session

Backend = Literal["auto", "onnx", "torch", "openvino"]

TargetId = int | str
"""What a target is called among others."""

T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """Where the target is in a frame.

    ``box``: x, y, w, h in pixels of the visible image, float64 (4,). ``score`` in 0..1: the score map's raw value
    where the box was read, 1 for the first frame's given box. ``frozen``: the cameras, ``visible`` or ``infrared``,
    that have repeated their image for a while although the other one goes on (:mod:`duotrack.frozen`). ``lost``:
    whether the target is out of sight; the box is then where it is looked for (:mod:`duotrack.redetection`), and the
    score the best that was found there.
    """

    box: Box
    score: float
    frozen: tuple[Camera, ...] = ()
    lost: bool = False


class Stages(NamedTuple):
    """Milliseconds of an update by stage: cutting crops, the network, and the rest (window, peaks, mapping back)."""

    crop: float
    network: float
    rest: float


@dataclass(eq=False)
class _Target:
    """A target that is followed: its last box, the size of its frames, what to look for, and what has been noticed."""

    box: Box
    size: tuple[int, int]
    template: Any
    rivals: Rivals | None
    search: Search | None
    freeze: Freeze
    correction: Correction | None


@dataclass(eq=False, repr=False)
class _Loop:
    """What one target and many have in common: how a session is shown targets and asked for them."""

    session: Session
    _: KW_ONLY
    search_factor: float = 4.0
    template_factor: float = 2.0
    padding: Padding = "zero"
    window: float = 1.0
    rivals: bool = False
    lost: float = 0.0
    calibration: float = 0.0
    stages: Stages = field(default=Stages(0.0, 0.0, 0.0), init=False)

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path = "duotrack-tiny",
        *,
        backend: Backend = "auto",
        precision: Precision = "fp32",
        device: str | None = None,
        threads: int | None = None,
    ) -> Self:
        """A tracker with the weights of a folder, set up as in their training.

        Args:
            weights: the name of shipped weights or a weights folder.
            backend: ``onnx``, ``torch``, ``openvino``, or ``auto``: onnx on a CPU where the folder has the graphs, else
                torch.
            precision: what the network computes in: ``fp32``, ``bf16`` (torch, openvino) or ``int8`` (onnx).
            device: of the torch backend, such as ``cuda:0``; by default a GPU where there is one.
            threads: of the runtime; by default as many as pay.

        Raises:
            FileNotFoundError: if there are no such weights.
            ModuleNotFoundError: if the backend's runtime is not installed.
            ValueError: if the folder is damaged, or the backend unknown or without this precision.
        """
        folder = pretrained.locate(weights)
        _, crops = pretrained.read_config(folder)
        return cls(open_session(folder, backend, precision, device, threads), **asdict(crops))

    def _show(self, frame: Frame, box: npt.ArrayLike) -> _Target:
        """Shows the session a target, x, y, w, h in a frame."""
        box = check_box(box, frame.size)
        size = self.session.template_size
        crops, (factor,) = self._crops([frame], [box], [self.template_factor], size)
        inside = box_in_crop(box, box, factor, size).astype(np.float32)
        freeze = Freeze()
        freeze.look(frame)
        rivals = Rivals(box, *appearances(self.session, frame, [box])) if self.rivals else None
        search = Search(box, self.lost) if self.lost else None
        state = self.session.template(crops, inside[None])
        correction = self._calibrate(state, frame, box) if self.calibration else None
        return _Target(box, frame.size, state, rivals, search, freeze, correction)

    def _calibrate(self, state: Any, frame: Frame, box: Box) -> Correction | None:
        """What the network errs on the given box: it is asked for the target in the first frame."""
        size = self.session.search_size
        crops, (resize,) = self._crops([frame], [box], [self.search_factor], size)
        (peak,) = self._peaks(self.session.search(state, crops), 0, box, resize, 1)
        return learn(peak.box, box, self.calibration, frame.size)

    def _find(self, state: Any, frames: Sequence[Frame], targets: Sequence[_Target]) -> list[Estimate]:
        """Looks for the targets of a state, each in its frame and around its last box, which moves on."""
        size = self.session.search_size
        started = time.perf_counter()
        windows = [target.search.window(target.box) if target.search else (target.box, 1.0) for target in targets]
        around, wider = zip(*windows, strict=True)
        crops, resizes = self._crops(frames, around, [self.search_factor * times for times in wider], size)
        frozen = [target.freeze.look(frame) for target, frame in zip(targets, frames, strict=True)]
        for number, cameras in enumerate(frozen):
            for camera in cameras:
                crops[CAMERAS.index(camera), number] = 0  # as one that is blind: networks are trained with that
        cut = time.perf_counter()
        maps = self.session.search(state, crops)
        searched = time.perf_counter()
        estimates = []
        for number, (target, center, resize) in enumerate(zip(targets, around, resizes, strict=True)):
            lost = target.search is not None and target.search.lost
            most = MOST if target.rivals and not lost else 1
            peaks = self._peaks(maps, number, center, resize, most, target.correction, anywhere=lost)
            box, raw = peaks[0].box, peaks[0].score
            if target.rivals and not lost:
                describe = partial(appearances, self.session, frames[number])
                box, raw = target.rivals.settle(peaks, target.box, describe)
            if target.search:
                box = target.search.settle(box, raw, target.box)
                if target.rivals and lost and not target.search.lost:
                    target.rivals.restart(box)
                lost = target.search.lost
            target.box = clip_box(box, *target.size)
            estimates.append(Estimate(target.box.copy(), raw, frozen[number], lost))
        self.stages = Stages(*(1000 * s for s in (cut - started, searched - cut, time.perf_counter() - searched)))
        return estimates

    def _peaks(
        self,
        maps: Maps,
        number: int,
        center: Box,
        resize: float,
        most: int,
        correction: Correction | None = None,
        *,
        anywhere: bool = False,
    ) -> list[Peak]:
        """The best places for a target on its map, the best first, as boxes in the image.

        Args:
            maps: of all targets.
            number: of this one.
            center: the box that its search crop was cut around.
            resize: crop pixels per image pixel.
            most: how many places.
            correction: of the boxes.
            anywhere: whether all places are as likely, and no window lies over the map.
        """
        score = maps.score[number, 0]
        windowed = score if anywhere else score * _window(len(score), self.window)
        peaks = []
        for cell in peak_cells(score, windowed, most):
            box = box_in_image(_box_at(maps, number, cell), center, resize, self.session.search_size)
            box = correction(box) if correction else box
            peaks.append(Peak(box, float(score[cell]), float(windowed[cell])))
        return peaks

    def _crops(
        self, frames: Sequence[Frame], boxes: Sequence[Box], factors: Sequence[float], size: int
    ) -> tuple[Pixels, list[float]]:
        """The same windows of both images, one for each target, (2, B, size, size, 3), and their resize factors."""
        crops = np.empty((2, len(boxes), size, size, 3), np.uint8)
        resize_factors = []
        for target, (frame, box, factor) in enumerate(zip(frames, boxes, factors, strict=True)):
            crops[0, target], resize_factor = crop(frame.visible, box, factor, size, self.padding)
            crops[1, target], _ = crop(frame.infrared, box, factor, size, self.padding)
            resize_factors.append(resize_factor)
        return crops, resize_factors


def _box_at(maps: Maps, target: int, cell: tuple[int, int]) -> Box:
    """The box that the maps give at a cell: cx, cy, w, h in crop sides."""
    place = (target, slice(None), *cell)
    row, col = cell
    center = (np.array([col, row], np.float32) + maps.offset[place]) / maps.score.shape[-1]
    return np.concatenate([center, maps.size[place]]).astype(np.float64)


@cache
def _window(grid: int, power: float) -> Floats:
    """What the score map is multiplied with, (grid, grid)."""
    return hann(grid) ** np.float32(power)


@dataclass(eq=False, repr=False)
class Tracker(_Loop):
    """Follows one target through frames of both cameras.

    Attributes:
        session: a network on some runtime (:mod:`duotrack.sessions`); trackers may share one.
        search_factor: side of the search window over the size of the last box.
        template_factor: side of the template window over the size of the first box.
        padding: what stands beyond image borders, as in the network's training.
        window: power of the Hann window on the score map; higher trusts the last position more.
        rivals: whether what looks like the target is followed too, so as not to take it for the target
            (:mod:`duotrack.rivals`); the published tracker does not.
        lost: smoothed score below which the target is lost, and is looked for more and more widely
            (:mod:`duotrack.redetection`); 0 for never, as published.
        calibration: how far boxes are corrected by what the network errs on the first one
            (:mod:`duotrack.calibration`), 0 (not at all, as published) to 1; the first frame then takes one more run of
            the network.
        stages: what the last update took.
    """

    _target: _Target | None = field(default=None, init=False)

    def initialize(self, frame: Frame, box: npt.ArrayLike) -> None:
        """Shows the target: a frame and its box there, x, y, w, h in pixels of the visible image.

        Raises:
            ValueError: if the box is not a box in this frame.
        """
        self._target = self._show(frame, box)

    def update(self, frame: Frame) -> Estimate:
        """Finds the target in the next frame.

        Raises:
            RuntimeError: before :meth:`initialize`.
            ValueError: if the frame has another size than the first.
        """
        if self._target is None:
            raise RuntimeError("show the target first: tracker.initialize(frame, box)")
        if frame.size != self._target.size:
            raise ValueError(f"the track began with frames of {self._target.size} pixels, not {frame.size}")
        (estimate,) = self._find(self._target.template, [frame], [self._target])
        return estimate

    def run(self, frames: Iterable[Frame], box: npt.ArrayLike) -> Iterator[Estimate]:
        """Follows a target through frames, such as a sequence; one estimate each, the first is the given box."""
        for index, frame in enumerate(frames):
            if index == 0:
                self._target = self._show(frame, box)
                yield Estimate(self._target.box.copy(), 1.0)
            else:
                yield self.update(frame)


@dataclass(eq=False, repr=False)
class MultiTracker(_Loop):
    """Follows any number of targets, which come and go, with one pass of the network for all of them.

    Each target is found as a :class:`Tracker` of its own would find it, but for the rounding of floats: a runtime may
    sum in another order for another batch, which changes the maps by some 1e-6. On a CPU the network takes as long for
    N targets in one pass as in N; what is shared there is reading the frame.

        tracker = MultiTracker.from_pretrained()
        walker = tracker.add(frame, (x, y, w, h))
        dog = tracker.add(frame, (x, y, w, h))
        estimates = tracker.update(frame)            # {walker: ..., dog: ...}, both in this frame
        tracker.remove(dog)

    Targets may live in different streams: ``tracker.update({"left": frame, "right": other})`` looks for each named
    target in the frame that stands by its name, and leaves the others as they are.

    Attributes: those of :class:`Tracker`.
    """

    _targets: dict[TargetId, _Target] = field(default_factory=dict, init=False)
    _numbers: Iterator[int] = field(default_factory=count, init=False)
    _joined: tuple[list[_Target], Any] = field(default_factory=lambda: ([], None), init=False)

    @property
    def targets(self) -> tuple[TargetId, ...]:
        """What is followed, in the order in which it was added."""
        return tuple(self._targets)

    def add(self, frame: Frame, box: npt.ArrayLike, name: TargetId | None = None) -> TargetId:
        """Shows a new target: a frame and its box there, x, y, w, h in pixels of the visible image.

        Args:
            frame: any frame of the target's stream.
            box: the target in it.
            name: how it is to be called; by default targets are counted, and no number comes twice.

        Returns:
            The name.

        Raises:
            ValueError: if the box is not a box in this frame, or another target has the name.
        """
        if name in self._targets:
            raise ValueError(f"a target {name!r} is being followed: give another name, or remove it first")
        if name is None:
            name = next(number for number in self._numbers if number not in self._targets)
        self._targets[name] = self._show(frame, box)
        return name

    def remove(self, name: TargetId) -> None:
        """Follows a target no longer.

        Raises:
            ValueError: if there is no such target.
        """
        self._require(name)
        del self._targets[name]
        self._joined = [], None  # holds its template, too

    def update(self, frames: Frame | Mapping[TargetId, Frame]) -> dict[TargetId, Estimate]:
        """Finds targets in their next frames.

        Args:
            frames: one for all targets, or for each target to be found its own. One frame may serve several.

        Returns:
            An estimate for each target that had a frame.

        Raises:
            ValueError: if there is no such target, or a frame has another size than the target's first; then no
                target has moved.
        """
        if isinstance(frames, Frame):
            frames = dict.fromkeys(self._targets, frames)
        for name, frame in frames.items():
            self._require(name)
            if frame.size != self._targets[name].size:
                began = self._targets[name].size
                raise ValueError(f"the track of target {name!r} began with frames of {began} pixels, not {frame.size}")
        targets = [self._targets[name] for name in frames]
        if not targets:
            return {}
        if targets != self._joined[0]:
            self._joined = targets, self.session.join([target.template for target in targets])
        return dict(zip(frames, self._find(self._joined[1], list(frames.values()), targets), strict=True))

    def run(
        self, frames: Iterable[Frame], boxes: Mapping[TargetId, npt.ArrayLike]
    ) -> Iterator[dict[TargetId, Estimate]]:
        """Follows named targets of the first frame through all; whatever was followed before is forgotten."""
        for index, frame in enumerate(frames):
            if index == 0:
                for name in self.targets:
                    self.remove(name)
                for name, box in boxes.items():
                    self.add(frame, box, name)
                yield {name: Estimate(target.box.copy(), 1.0) for name, target in self._targets.items()}
            else:
                yield self.update(frame)

    def _require(self, name: TargetId) -> None:
        if name not in self._targets:
            known = ", ".join(map(repr, self._targets)) or "none"
            raise ValueError(f"no target {name!r} is being followed; there are: {known}")


def record(
    tracker: Tracker,
    sequence: Iterable[Frame],
    box: npt.ArrayLike,
    info: Mapping[str, Any],
    advance: Callable[[], None] = lambda: None,
) -> Track:
    """Follows a target through a whole sequence and keeps what is found.

    Args:
        tracker: with its weights.
        sequence: what to track in.
        box: the target in the first frame, x, y, w, h in pixels.
        info: how the track comes about, to be stored with it.
        advance: called after each frame.

    Returns:
        Boxes, scores and the milliseconds of each frame, reading it included. Its ``info`` gains ``stages``, the median
        milliseconds of reading a frame (``decode``) and of the :class:`Stages` of an update; and ``frozen``, where a
        camera was: its name, and the first and last frame of each stretch.
    """
    estimates, milliseconds, stages = _watched(tracker, lambda frames: tracker.run(frames, box), sequence, advance)
    return _track(tracker, box, estimates, milliseconds, {**info, "stages": stages})


def record_all(
    tracker: MultiTracker,
    sequence: Iterable[Frame],
    boxes: Sequence[npt.ArrayLike],
    info: Mapping[str, Any],
    advance: Callable[[], None] = lambda: None,
) -> list[Track]:
    """As :func:`record`, for several targets at once: a track for each box, with the milliseconds of all together."""
    named = dict[TargetId, npt.ArrayLike](enumerate(boxes))
    estimates, milliseconds, stages = _watched(tracker, lambda frames: tracker.run(frames, named), sequence, advance)
    info = {**info, "stages": stages, "targets": len(boxes)}
    return [_track(tracker, box, [row[name] for row in estimates], milliseconds, info) for name, box in named.items()]


def _watched(
    tracker: _Loop,
    run: Callable[[Iterator[Frame]], Iterator[T]],
    sequence: Iterable[Frame],
    advance: Callable[[], None],
) -> tuple[list[T], list[float], dict[str, float]]:
    """What a run over a sequence gives, the milliseconds of each frame, and the median ones of each stage."""
    decode: list[float] = []
    milliseconds: list[float] = []
    stages: list[Stages] = []
    found: list[T] = []
    with closing(ahead(_timed(sequence, decode))) as frames:
        for estimate in _timed(run(frames), milliseconds):
            found.append(estimate)
            stages.append(tracker.stages)
            advance()
    updates = zip(*stages[1:], strict=True)  # the first frame has none
    columns = {"decode": decode, **dict(zip(Stages._fields, updates, strict=False))}
    return found, milliseconds, {name: median(values) for name, values in columns.items()}


def _timed(items: Iterable[T], milliseconds: list[float]) -> Iterator[T]:
    """The items; the time that each took is appended."""
    started = time.perf_counter()
    for item in items:
        milliseconds.append(1000 * (time.perf_counter() - started))
        yield item
        started = time.perf_counter()


def _track(
    tracker: _Loop, box: npt.ArrayLike, estimates: list[Estimate], milliseconds: list[float], info: Mapping[str, Any]
) -> Track:
    settings = {"backend": tracker.session.name, "box": np.asarray(box, np.float64).tolist()}
    frozen = {camera: stretches([camera in estimate.frozen for estimate in estimates]) for camera in CAMERAS}
    frozen = {camera: spans for camera, spans in frozen.items() if spans}
    return Track(
        np.array([estimate.box for estimate in estimates]),
        np.array([estimate.score for estimate in estimates]),
        np.array(milliseconds),
        {"settings": settings, "versions": {"duotrack": __version__}, **info} | ({"frozen": frozen} if frozen else {}),
        np.array([estimate.lost for estimate in estimates]),
    )


def open_session(
    folder: Path,
    backend: Backend = "auto",
    precision: Precision = "fp32",
    device: str | None = None,
    threads: int | None = None,
) -> Session:
    """A session for a weights folder (:meth:`Tracker.from_pretrained` says how the backend is chosen).

    Each session itself refuses a precision that it lacks.
    """
    backend = choose_backend(folder, backend, device)
    if backend == "onnx":
        from duotrack.sessions.onnx import OnnxSession

        return OnnxSession(folder, precision=precision, threads=threads)
    if backend == "openvino":
        from duotrack.sessions.openvino import OpenVinoSession

        return OpenVinoSession(folder, precision=precision, threads=threads)
    wait_asleep()
    try:
        from duotrack.sessions.torch import TorchSession
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'the torch backend needs PyTorch ({error.name} is missing): pip install "duotrack[torch]"', name=error.name
        ) from error
    return TorchSession(folder, device=device, precision=precision, threads=threads)


def choose_backend(
    folder: Path, backend: Backend = "auto", device: str | None = None
) -> Literal["onnx", "torch", "openvino"]:
    """The backend that :func:`open_session` takes for a weights folder."""
    if backend not in ("auto", "onnx", "torch", "openvino"):
        raise ValueError(f"backend must be auto, onnx, torch or openvino, not {backend!r}")
    if backend == "auto":
        has_graphs = (folder / pretrained.SEARCH_GRAPH).is_file()
        return "onnx" if has_graphs and device in (None, "cpu") else "torch"
    return backend
