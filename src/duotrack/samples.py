"""Real crops for the moments when a network is looked at from outside: to calibrate its int8 form, to check an export.

They are cut as in tracking: the template around the box in the first frame, each search region around the box in the
frame before. Where the boxes are known, as in the demo clip, no network takes part in it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from duotrack.crops import Box, Padding, crop
from duotrack.pretrained import WeightsInfo, read_config
from duotrack.sequence import Frame, Sequence
from duotrack.sessions.base import Pixels
from duotrack.tracking import Tracker

COUNT = 40
"""Crops that tell enough of a clip; of the demo clip, eight of each target."""


@dataclass(frozen=True)
class Samples:
    """N templates and a search region for each: uint8, ``template`` (2, N, Ht, Wt, 3), ``search`` (2, N, Hs, Ws, 3)."""

    template: Pixels
    search: Pixels

    def __len__(self) -> int:
        return int(self.search.shape[1])

    def __getitem__(self, part: slice) -> "Samples":
        return Samples(self.template[:, part], self.search[:, part])


def along(sequence: Sequence, boxes: npt.NDArray[np.float64], weights: WeightsInfo, count: int = COUNT) -> Samples:
    """Crops along a track, evenly spread over it, at most ``count``.

    Args:
        sequence: what the track is in, from its first frame on.
        boxes: x, y, w, h in pixels for each frame, (N, 4); NaN where the target is hidden.
        weights: what the network wants its crops to be.
        count: how many.

    Raises:
        ValueError: if no frame has a box in it and in the frame before.
    """
    model, crops = weights
    seen = np.asarray(np.isfinite(boxes).all(axis=1))
    usable = np.flatnonzero(seen[1:] & seen[:-1]) + 1
    if not seen[0] or not len(usable):
        raise ValueError(f"{sequence.name}: a track of two frames or more is needed, and the target in the first")
    chosen = {int(usable[i]) for i in np.linspace(0, len(usable) - 1, count).round().astype(int)}
    search = []
    for index, frame in enumerate(sequence):
        if index == 0:
            template = _pair(frame, boxes[0], crops.template_factor, model.template_size, crops.padding)
        elif index in chosen:
            search.append(_pair(frame, boxes[index - 1], crops.search_factor, model.search_size, crops.padding))
    return Samples(np.stack([template] * len(search), axis=1), np.stack(search, axis=1))


def of_demo_clip(weights: WeightsInfo, count: int = COUNT) -> Samples:
    """Crops along the true tracks of all targets of the shipped clip, as many of each."""
    from duotrack import demo

    parts = []
    with Sequence.open(demo.CLIP / "visible.mp4", demo.CLIP / "infrared.mp4") as clip:
        for target in demo.targets():
            first = demo.facts(target)["suggested_init"]
            truth = demo.ground_truth(target, len(clip))[first:]
            parts.append(along(clip[first:], truth, weights, count // len(demo.targets())))
    return Samples(
        np.concatenate([part.template for part in parts], axis=1),
        np.concatenate([part.search for part in parts], axis=1),
    )


def of_clip(graphs: Path, visible: Path, infrared: Path, box: npt.ArrayLike, count: int = COUNT) -> Samples:
    """Crops along the track that exported weights find in a clip.

    Args:
        graphs: a weights folder with ONNX graphs.
        visible: folder of images, or a video.
        infrared: the same moments in infrared.
        box: the target in the first frame, x, y, w, h in pixels.
        count: how many.

    Raises:
        ValueError: if the clip or the box cannot be used; names which, and why.
    """
    with Sequence.open(visible, infrared) as clip:
        track = Tracker.from_pretrained(graphs, backend="onnx").run(clip, box)
        return along(clip, np.array([estimate.box for estimate in track]), read_config(graphs), count)


def _pair(frame: Frame, box: Box, factor: float, size: int, padding: Padding) -> Pixels:
    """The same window of both images, (2, size, size, 3)."""
    return np.stack([crop(image, box, factor, size, padding)[0] for image in (frame.visible, frame.infrared)])
