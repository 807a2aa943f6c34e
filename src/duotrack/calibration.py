"""What the network errs on the first box, it errs on those that follow: a part of it is taken back from each.

Boxes differ by taste: with the arms or without them, tight or loose. And from a template alone the network cannot tell
how wide the target is for its height. So it is asked for the target in the first frame, where the box is known:

    shift = part * (center given - center found) / size found
    times = (size given / size found) ** part

Every box that it finds afterwards is shifted by as much of its size, and its size multiplied. Where the box that it
finds in the first frame overlaps the given one by half or less, nothing can be learned from it; nor where the border of
the image cuts the given box, which will have another shape when all of the target is to be seen. Not in the paper.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from duotrack.boxes import iou, xywh_to_xyxy
from duotrack.crops import Box


@dataclass(frozen=True, eq=False)
class Correction:
    """``shift`` of the centre in widths and heights of the box, and ``times`` its width and height are multiplied."""

    shift: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]

    def __call__(self, box: Box) -> Box:
        """A box that the network finds, x, y, w, h, corrected."""
        center = box[:2] + box[2:] * (0.5 + self.shift)
        size = box[2:] * self.times
        return np.concatenate([center - size / 2, size])


def learn(found: Box, given: Box, part: float, size: tuple[int, int]) -> Correction | None:
    """The correction that takes the box found in the first frame a part, 0..1, of the way to the given one.

    Args:
        found: x, y, w, h in pixels.
        given: likewise.
        part: how far.
        size: of the image, width and height.

    Returns:
        None where nothing can be learned.
    """
    cut = (given[:2] < 1).any() or (given[:2] + given[2:] > np.array(size) - 1).any()
    if cut or iou(xywh_to_xyxy(found[None]), xywh_to_xyxy(given[None]))[0] <= 0.5:
        return None
    apart = given[:2] + given[2:] / 2 - found[:2] - found[2:] / 2
    return Correction(part * apart / found[2:], (given[2:] / found[2:]) ** part)
