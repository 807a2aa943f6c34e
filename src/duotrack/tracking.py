"""The tracker: it carries a box from frame to frame through a session.

    template crops around the first box --session--> what to look for, once
    search crops around the last box --session--> score map * window --> the cell of the target --> its box

All state of a track is here; sessions and networks hold none.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from duotrack import __version__, pretrained
from duotrack.crops import Box, Padding, box_in_crop, box_in_image, clip_box, crop, hann
from duotrack.results import Track
from duotrack.sequence import Frame, Sequence, check_box
from duotrack.sessions.base import Maps, Session

Backend = Literal["auto", "onnx", "torch"]


@dataclass(frozen=True)
class Estimate:
    """Where the target is in a frame.

    ``box``: x, y, w, h in pixels of the visible image, float64 (4,). ``score`` in 0..1: the score map's raw value
    where the box was read, 1 for the first frame's given box.
    """

    box: Box
    score: float


class Tracker:
    """Follows one target through frames of both cameras."""

    def __init__(
        self,
        session: Session,
        *,
        search_factor: float = 4.0,
        template_factor: float = 2.0,
        padding: Padding = "zero",
        window: float = 1.0,
    ) -> None:
        """Makes a tracker over a session.

        Args:
            session: a network on some runtime (:mod:`duotrack.sessions`); trackers may share one.
            search_factor: side of the search window over the size of the last box.
            template_factor: side of the template window over the size of the first box.
            padding: what stands beyond image borders, as in the network's training.
            window: power of the Hann window on the score map; higher trusts the last position more.
        """
        self.session = session
        self._search_factor = search_factor
        self._template_factor = template_factor
        self._padding = padding
        self._window_power = window
        self._window: npt.NDArray[np.float32] | None = None
        self._template: object = None
        self._size: tuple[int, int] | None = None
        self._box: Box = np.zeros(4)

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path = "duotrack-tiny",
        *,
        backend: Backend = "auto",
        device: str | None = None,
        threads: int | None = None,
    ) -> "Tracker":
        """A tracker with the weights of a folder, set up as in their training.

        Args:
            weights: the name of shipped weights or a weights folder.
            backend: ``onnx``, ``torch``, or ``auto``: onnx on a CPU where the folder has the graphs, else torch.
            device: of the torch backend, such as ``cuda:0``; by default a GPU where there is one.
            threads: of the runtime; by default as many as pay.

        Raises:
            FileNotFoundError: if there are no such weights.
            ModuleNotFoundError: if the torch backend is needed and PyTorch is not installed.
            ValueError: if the folder is damaged or the backend unknown.
        """
        folder = pretrained.locate(weights)
        _, crops = pretrained.read_config(folder)
        return cls(
            open_session(folder, backend, device, threads),
            search_factor=crops.search_factor,
            template_factor=crops.template_factor,
            padding=crops.padding,
            window=crops.window,
        )

    def initialize(self, frame: Frame, box: npt.ArrayLike) -> None:
        """Shows the target: a frame and its box there, x, y, w, h in pixels of the visible image.

        Raises:
            ValueError: if the box is not a box in this frame.
        """
        self._box = check_box(box, frame.size)
        self._size = frame.size
        size = self.session.template_size
        crops, factor = self._crops(frame, self._template_factor, size)
        target = box_in_crop(self._box, self._box, factor, size).astype(np.float32)
        self._template = self.session.template(crops, target[None])

    def update(self, frame: Frame) -> Estimate:
        """Finds the target in the next frame.

        Raises:
            RuntimeError: before :meth:`initialize`.
            ValueError: if the frame has another size than the first.
        """
        if self._size is None:
            raise RuntimeError("show the target first: tracker.initialize(frame, box)")
        if frame.size != self._size:
            raise ValueError(f"the track began with frames of {self._size} pixels, not {frame.size}")
        size = self.session.search_size
        crops, factor = self._crops(frame, self._search_factor, size)
        maps = self.session.search(self._template, crops)
        box, score = self._read(maps)
        self._box = clip_box(box_in_image(box, self._box, factor, size), *self._size)
        return Estimate(self._box.copy(), score)

    def run(self, sequence: Sequence, box: npt.ArrayLike) -> Iterator[Estimate]:
        """Follows a target through a sequence, one estimate a frame; the first is the given box."""
        for index, frame in enumerate(sequence):
            if index == 0:
                self.initialize(frame, box)
                yield Estimate(self._box.copy(), 1.0)
            else:
                yield self.update(frame)

    def _crops(self, frame: Frame, factor: float, size: int) -> tuple[npt.NDArray[np.uint8], float]:
        """The same window of both images, (2, 1, size, size, 3), and its resize factor."""
        visible, resize_factor = crop(frame.visible, self._box, factor, size, self._padding)
        infrared, _ = crop(frame.infrared, self._box, factor, size, self._padding)
        return np.stack([visible, infrared])[:, None], resize_factor

    def _read(self, maps: Maps) -> tuple[Box, float]:
        """The box (cx, cy, w, h, in crop sides) and raw score at the peak of the windowed score map."""
        score = maps.score[0, 0]
        grid = score.shape[0]
        if self._window is None or len(self._window) != grid:
            self._window = hann(grid) ** np.float32(self._window_power)
        row, col = divmod(int(np.argmax(score * self._window)), grid)
        center = (np.array([col, row]) + maps.offset[0, :, row, col]) / grid
        return np.concatenate([center, maps.size[0, :, row, col]]).astype(np.float64), float(score[row, col])


def record(
    tracker: Tracker,
    sequence: Sequence,
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
        Boxes, scores and the milliseconds of each frame, reading it included.
    """
    boxes, scores, milliseconds = [], [], []
    started = time.perf_counter()
    for estimate in tracker.run(sequence, box):
        boxes.append(estimate.box)
        scores.append(estimate.score)
        milliseconds.append(1000 * (time.perf_counter() - started))
        advance()
        started = time.perf_counter()
    settings = {"backend": tracker.session.name, "box": np.asarray(box, np.float64).tolist()}
    versions = {"duotrack": __version__}
    return Track(
        np.array(boxes), np.array(scores), np.array(milliseconds), {"settings": settings, "versions": versions, **info}
    )


def open_session(
    folder: Path, backend: Backend = "auto", device: str | None = None, threads: int | None = None
) -> Session:
    """A session for a weights folder (:meth:`Tracker.from_pretrained` says how the backend is chosen)."""
    if choose_backend(folder, backend, device) == "onnx":
        from duotrack.sessions.onnx import OnnxSession

        return OnnxSession(folder, threads=threads)
    try:
        from duotrack.sessions.torch import TorchSession
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'the torch backend needs PyTorch ({error.name} is missing): pip install "duotrack[torch]"', name=error.name
        ) from error
    return TorchSession(folder, device=device, threads=threads)


def choose_backend(folder: Path, backend: Backend = "auto", device: str | None = None) -> Literal["onnx", "torch"]:
    """The backend that :func:`open_session` takes for a weights folder."""
    if backend not in ("auto", "onnx", "torch"):
        raise ValueError(f"backend must be auto, onnx or torch, not {backend!r}")
    if backend == "auto":
        has_graphs = (folder / pretrained.SEARCH_GRAPH).is_file()
        return "onnx" if has_graphs and device in (None, "cpu") else "torch"
    return backend
