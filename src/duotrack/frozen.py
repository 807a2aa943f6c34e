"""A camera that repeats its image while the other one goes on.

A thermal camera that recalibrates or a driver that hangs shows its last image for a while. No single frame tells, and
the network finds the target where that image still has it. So the trackers say it, and show the network black instead,
which it knows from training as a blind camera.
"""

from typing import Literal

import numpy as np

from duotrack.sequence import Frame

Camera = Literal["visible", "infrared"]
CAMERAS: tuple[Camera, Camera] = ("visible", "infrared")

REPEATS = 10
"""Equal images in a row that make a camera frozen. Slow ones repeat a few: one of 9 Hz among frames of 60 Hz seven."""

STRIDE = 8
"""Every eighth pixel across and down is compared: of a camera that goes on, sensor noise alone changes many of them."""


class Freeze:
    """Which cameras are frozen, frame by frame."""

    def __init__(self) -> None:
        self._last = [np.empty(0, np.uint8)] * 2
        self._repeats = [0, 0]

    def look(self, frame: Frame) -> tuple[Camera, ...]:
        """The cameras that have repeated their image for :data:`REPEATS` frames, this one included.

        Where both stand still the video does, and no camera is to blame: such a frame counts for neither.
        """
        images = [np.array(image[::STRIDE, ::STRIDE]) for image in (frame.visible, frame.infrared)]
        same = [np.array_equal(*pair) for pair in zip(images, self._last, strict=True)]
        if not all(same):
            self._repeats = [count + 1 if repeated else 0 for count, repeated in zip(self._repeats, same, strict=True)]
        self._last = images
        return tuple(name for name, count in zip(CAMERAS, self._repeats, strict=True) if count >= REPEATS)
