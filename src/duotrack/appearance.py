"""What is in a box, cell by cell, and what is remembered of it: it tells the target from what looks like it.

    box --stretched to a square--> both images --stem--> features, at unit length in every cell

In a search region the target covers some three cells by three, and one person is there much like another. The box
alone, stretched to the template's size, has six by six, and every cell is compared with its like. The network's own
stem gives the features, so it takes no other weights. Not in the paper.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.crops import Box
from duotrack.sequence import Frame
from duotrack.sessions.base import Session

Appearance = npt.NDArray[np.float32]
"""Features of unit length of both cameras, (2, D, H, W)."""

RATE = 0.05  # least weight of what is seen in what is remembered


def appearances(session: Session, frame: Frame, boxes: list[Box]) -> list[Appearance]:
    """What is in some boxes of a frame, x, y, w, h in pixels; nothing where the session's network has no stem.

    Pixels beyond the image are those of its border.
    """
    size = session.template_size
    crops = np.empty((2, len(boxes), size, size, 3), np.uint8)
    for number, box in enumerate(boxes):
        x, y, w, h = (float(value) for value in box)
        stretch = np.array([[size / w, 0, -x * size / w], [0, size / h, -y * size / h]])
        for camera, image in enumerate((frame.visible, frame.infrared)):
            cv2.warpAffine(image, stretch, (size, size), crops[camera, number], cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    features = session.describe(crops)
    if features is None:
        return []
    features = features / np.maximum(np.linalg.norm(features, axis=2, keepdims=True), 1e-6)
    return list(features.swapaxes(0, 1))


@dataclass(eq=False)
class Memory:
    """The mean of what has been seen, the latest the heavier once it has been seen often."""

    mean: Appearance
    seen: int = 1

    def add(self, appearance: Appearance) -> None:
        """Seen once more."""
        self.seen += 1
        self.mean = self.mean + max(1 / self.seen, RATE) * (appearance - self.mean)

    def distance(self, appearance: Appearance) -> float:
        """One minus the mean cosine with what is remembered: 0 for the same, 1 for what has nothing in common."""
        length = np.sqrt((self.mean**2).sum(1).mean())
        return 1 - float((appearance * self.mean).sum(1).mean() / max(length, 1e-6))
