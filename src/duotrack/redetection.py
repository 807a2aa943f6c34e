"""Whether the target is lost, and where and how widely to look for it.

Behind an occluder a box shrinks to what is still seen; were the next window cut around that, the tracker would soon
look through a keyhole. So windows are cut for the size that is remembered, which follows the box as far as the score
deserves:

    size += 0.3 score^3 (box size - size)

When the smoothed score falls below a threshold, the target is lost. Its box then has the remembered size, goes on for
a moment as it went, and stays; the window around it widens from frame to frame, and no place in it is preferred. A
score well above the threshold ends that. Not in the paper.
"""

import numpy as np
import numpy.typing as npt

from duotrack.crops import Box
from duotrack.rivals import Mover

Values = npt.NDArray[np.float64]

# Chosen on rendered scenes that are in no test set.
SMOOTHING = 0.3  # weight of a frame in the smoothed score
FOUND = 0.1  # above the threshold, a score that ends a loss
TRUST = 0.3  # how far the remembered size follows the box where the score is 1
COASTS = 15  # frames for which a lost target is thought to go on as it went
WIDENS = 0.1  # of the window, every frame of a loss ...
WIDEST = 2.5  # ... up to so many times


class Search:
    """How a target is looked for, from frame to frame.

    Args:
        box: of the target in the first frame, x, y, w, h in pixels.
        threshold: smoothed score, 0..1, below which the target is lost. It belongs to the weights.

    Attributes:
        missed: frames since the target was lost; 0 while it is not.
    """

    def __init__(self, box: Box, threshold: float) -> None:
        self.missed = 0
        self._threshold, self._smoothed = threshold, 1.0
        self._size, self._target = np.array(box[2:]), Mover(box[:2] + box[2:] / 2)

    @property
    def lost(self) -> bool:
        """Whether the target is lost."""
        return self.missed > 0

    def window(self, box: Box) -> tuple[Box, float]:
        """The box around which the next window is to be cut, and how many times wider than usual."""
        return _around(box[:2] + box[2:] / 2, self._size), min(1 + WIDENS * self.missed, WIDEST)

    def settle(self, box: Box, score: float, last: Box) -> Box:
        """Takes or leaves the best box of the next frame.

        Args:
            box: x, y, w, h in pixels.
            score: the raw score there.
            last: the target's last box.

        Returns:
            The target's box.
        """
        if self.lost and score < self._threshold + FOUND:
            self.missed += 1
            return last + np.append(self._target.velocity, (0, 0)) if self.missed <= COASTS else last
        center = box[:2] + box[2:] / 2
        if self.lost:
            self.missed, self._smoothed, self._target = 0, score, Mover(center)
        elif score < self._threshold:  # a place that is not to be trusted
            self._target.coast()
        else:
            self._target.move(center)
        self._smoothed += SMOOTHING * (score - self._smoothed)
        if self._smoothed < self._threshold:
            self.missed = 1
            return _around(self._target.center, self._size)
        self._size = self._size + TRUST * score**3 * (box[2:] - self._size)
        return box


def _around(center: Values, size: Values) -> Box:
    return np.concatenate([center - size / 2, size])
