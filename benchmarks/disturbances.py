"""What `robustness.py` does to frames before a tracker gets them.

- blind: one camera is black, noise or frozen for 30 frames in the middle of a target's track;
- offset: the infrared image is moved to the right, in pixels; its border is repeated;
- delay: the infrared image is some frames old; at the start the first one is shown again;
- noise: normal noise in both cameras, by its standard deviation in grey levels;
- share: one camera is black, noise or frozen in this share of all stretches of 10 frames, drawn from a fixed seed.

The first frame, from which a tracker learns what to follow, has noise and offset as all others, and is never blind.
"""

from collections import deque
from collections.abc import Iterator
from itertools import product
from typing import Literal, NamedTuple

import cv2
import numpy as np

from duotrack.crops import Image
from duotrack.sequence import Frame, Sequence

BLIND_FRAMES, STRETCH = 30, 10
Kind = Literal["blind", "offset", "delay", "noise", "share"]
BLINDNESS = tuple(product(("visible", "infrared"), ("black", "noise", "frozen")))


class Disturbance(NamedTuple):
    """What is done to the frames: its kind and how much of it, and where one camera is blind, which and how."""

    kind: Kind | Literal["none"]
    level: float = 0
    camera: str = ""
    how: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.camera, self.how, f"{self.level:g}")))


UNDISTURBED = Disturbance("none")
DISTURBANCES: dict[Kind, list[Disturbance]] = {
    "blind": [Disturbance("blind", BLIND_FRAMES, camera, how) for camera, how in BLINDNESS],
    "offset": [Disturbance("offset", pixels) for pixels in (2, 4, 8, 16)],
    "delay": [Disturbance("delay", frames) for frames in (1, 3, 6)],
    "noise": [Disturbance("noise", deviation) for deviation in (5, 10, 20, 40)],
    "share": [Disturbance("share", share, *way) for way in BLINDNESS for share in (0.1, 0.25, 0.5, 1.0)],
}


def disturbed(frames: Sequence, disturbance: Disturbance) -> Iterator[Frame]:
    """The frames as a tracker gets them."""
    kind, level, camera, how = disturbance
    blind = _blind(len(frames), disturbance)
    past: deque[Image] = deque(maxlen=int(level) + 1 if kind == "delay" else 1)
    last: Frame | None = None
    for index, frame in enumerate(frames):
        rng = np.random.default_rng(index)
        visible, infrared = frame.visible, frame.infrared
        past.append(infrared)
        if kind == "delay":
            infrared = past[0]
        elif kind == "offset":
            right = np.array([[1.0, 0, level], [0, 1, 0]])
            moved = cv2.warpAffine(infrared, right, frame.size, borderMode=cv2.BORDER_REPLICATE)
            infrared = moved.astype(np.uint8, copy=False)
        elif kind == "noise":
            visible, infrared = _noisy(visible, level, rng, 3), _noisy(infrared, level, rng, 1)
        elif blind[index] and last:
            if camera == "visible":
                visible = _blinded(last.visible, how, rng, 3)
            else:
                infrared = _blinded(last.infrared, how, rng, 1)
        last = Frame(visible, infrared)
        yield last


def _blind(frames: int, disturbance: Disturbance) -> list[bool]:
    """In which frames one camera is blind."""
    blind = np.zeros(frames, bool)
    if disturbance.kind == "blind":
        start = (frames - BLIND_FRAMES) // 2
        blind[max(start, 0) : start + BLIND_FRAMES] = True
    elif disturbance.kind == "share":
        order = np.random.default_rng(0).permutation(-(-frames // STRETCH))
        for stretch in order[: round(disturbance.level * len(order))]:
            blind[stretch * STRETCH : (stretch + 1) * STRETCH] = True
    return [bool(value) for value in blind]


def _blinded(before: Image, how: str, rng: np.random.Generator, channels: int) -> Image:
    """What a camera shows that sees nothing; noise of one channel is grey."""
    if how == "frozen":
        return before
    if how == "noise":
        grain = rng.integers(0, 256, (*before.shape[:2], channels), np.uint8)
        return np.ascontiguousarray(np.broadcast_to(grain, before.shape))
    return np.zeros_like(before)


def _noisy(image: Image, deviation: float, rng: np.random.Generator, channels: int) -> Image:
    grain = rng.standard_normal((*image.shape[:2], channels), np.float32) * np.float32(deviation)
    return np.clip(image + grain + 0.5, 0, 255).astype(np.uint8)
