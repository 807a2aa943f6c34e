"""Crops around a box, the window over a score map, and the way back to image pixels.

The geometry is that of the published tracker, to the byte: networks are trained with it and results are only
comparable with it. A crop is the square of side ``ceil(sqrt(w * h) * factor)`` around the centre of a box,
resized to the side that the network wants.
"""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Box = npt.NDArray[np.float64]

Padding = Literal["zero", "mean"]
"""What stands for pixels beyond the image border: black, or the mean colour of the visible part of the window."""


@dataclass(frozen=True)
class CropSettings:
    """How a network wants to see the world: fixed in training, stored with its weights, obeyed when tracking.

    ``window`` is the power to which the Hann window is raised before it is multiplied with the score map
    (1 in the published tracker; higher trusts the last position more). ``rivals``: whether the tracker follows what
    looks like the target as well (:mod:`duotrack.rivals`; the published one does not). ``lost``: smoothed score, 0..1,
    below which the target is lost and looked for more and more widely (:mod:`duotrack.redetection`); 0 for never, as
    published. ``calibration``: how far, 0..1, boxes are corrected by what the network errs on the first one
    (:mod:`duotrack.calibration`); 0 for not at all, as published.
    """

    template_factor: float = 2.0
    search_factor: float = 4.0
    padding: Padding = "zero"
    window: float = 1.0
    rivals: bool = False
    lost: float = 0.0
    calibration: float = 0.0

    def __post_init__(self) -> None:
        if self.template_factor <= 0 or self.search_factor <= 0:
            raise ValueError(f"crop factors must be positive, not {self.template_factor} and {self.search_factor}")
        if self.padding not in ("zero", "mean"):
            raise ValueError(f"padding must be 'zero' or 'mean', not {self.padding!r}")
        if self.window < 0:
            raise ValueError(f"the power of the window must be 0 or more, not {self.window}")
        if not 0 <= self.lost < 1:
            raise ValueError(f"lost is a score, from 0 to below 1, not {self.lost}")
        if not 0 <= self.calibration <= 1:
            raise ValueError(f"calibration must lie in 0..1, not {self.calibration}")


def crop_side(box: Box, factor: float) -> int:
    """Side in image pixels of the square window around a box ``(x, y, w, h)``.

    Raises:
        ValueError: if the box is so small that no pixel is left.
    """
    w, h = float(box[2]), float(box[3])
    side = math.ceil(math.sqrt(w * h) * factor) if w > 0 and h > 0 else 0
    if side < 1:
        raise ValueError(f"cannot crop around a box of {w:g} x {h:g} pixels: width and height must be positive")
    return side


def crop(image: Image, box: Box, factor: float, size: int, padding: Padding = "zero") -> tuple[Image, float]:
    """Cuts the square window around a box and resizes it.

    As soon as the window reaches the right or bottom border, the last image column or row is padding too: so the
    published code does it, and its weights know it.

    Args:
        image: uint8, H x W x 3.
        box: x, y, w, h in pixels of the image.
        factor: side of the window over the geometric mean of the box's sides.
        size: side of the crop in pixels.
        padding: what stands beyond the border.

    Returns:
        The crop, uint8 size x size x 3, and the resize factor (crop pixels per image pixel).

    Raises:
        ValueError: if the box has no area.
    """
    side = crop_side(box, factor)
    x, y, w, h = (float(value) for value in box)
    x1, y1 = round(x + 0.5 * w - 0.5 * side), round(y + 0.5 * h - 0.5 * side)
    height, width = image.shape[:2]
    left, top = max(0, -x1), max(0, -y1)
    right, bottom = max(x1 + side - width + 1, 0), max(y1 + side - height + 1, 0)
    inside = image[y1 + top : max(0, y1 + side - bottom), x1 + left : max(0, x1 + side - right)]
    if inside.size == 0:
        return np.zeros((size, size, 3), np.uint8), size / side
    if left or top or right or bottom:
        fill = cv2.mean(inside)[:3] if padding == "mean" else (0, 0, 0)
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT, value=fill).astype(
            np.uint8, copy=False
        )
    resized = cv2.resize(inside, (size, size), interpolation=cv2.INTER_LINEAR)
    return resized.astype(np.uint8, copy=False), size / side


def box_in_crop(box: Box, center: Box, resize_factor: float, size: int) -> Box:
    """A box of the image, ``(x, y, w, h)``, in the crop around another, in crop sides (0..1 inside; not clipped).

    The centre of the crop is taken at ``(size - 1) / 2``, as in published training.
    """
    cxcy = (size - 1) / 2 + (box[:2] + box[2:] / 2 - center[:2] - center[2:] / 2) * resize_factor
    wh = box[2:] * resize_factor
    return np.concatenate([cxcy - wh / 2, wh]) / size


def box_in_image(box: Box, previous: Box, resize_factor: float, size: int) -> Box:
    """A predicted box, ``(cx, cy, w, h)`` in crop sides, back to ``(x, y, w, h)`` in image pixels.

    Args:
        box: the network's answer for the crop.
        previous: the box that the crop was cut around.
        resize_factor: as :func:`crop` returned it.
        size: side of the crop.
    """
    side = size / resize_factor
    cx, cy, w, h = (float(value) * side for value in box)
    cx += previous[0] + previous[2] / 2 - side / 2
    cy += previous[1] + previous[3] / 2 - side / 2
    return np.array([cx - w / 2, cy - h / 2, w, h])


def clip_box(box: Box, width: int, height: int, margin: int = 10) -> Box:
    """Clips a box ``(x, y, w, h)`` to the image and keeps at least ``margin`` pixels of it inside, each way."""
    x1, y1, w, h = (float(value) for value in box)
    x2, y2 = x1 + w, y1 + h
    x1, y1 = min(max(0.0, x1), width - margin), min(max(0.0, y1), height - margin)
    x2, y2 = min(max(float(margin), x2), width), min(max(float(margin), y2), height)
    return np.array([x1, y1, max(margin, x2 - x1), max(margin, y2 - y1)])


def hann(size: int) -> npt.NDArray[np.float32]:
    """The window over a score map, size x size, highest in the middle and above zero at the border."""
    line = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, size + 1) / (size + 1)))
    return np.outer(line, line).astype(np.float32)


def heatmap(box: Box, size: int) -> npt.NDArray[np.float32]:
    """The score map that the network should give: a Gaussian bump of height 1 at the centre cell of a box.

    The radius is the largest by which a corner may move while the overlap stays above 0.7 (CornerNet), in the
    widely copied variant that divides by 2 instead of 2a.

    Args:
        box: x, y, w, h in crop sides; may reach out of the crop.
        size: side of the map in cells.

    Returns:
        float32, size x size; without a cell equal to 1 where the centre is outside.
    """
    x, y, w, h = (float(value) * size for value in box)
    cx, cy = round(x + w / 2), round(y + h / 2)
    radius = _gaussian_radius(w, h)
    distance = np.arange(size, dtype=np.float64)
    dx, dy = distance - cx, distance - cy
    sigma = (2 * radius + 1) / 6
    bump = np.exp(-(dx[None, :] ** 2 + dy[:, None] ** 2) / (2 * sigma**2))
    bump[bump < np.finfo(np.float64).eps] = 0
    bump[np.abs(dy) > radius, :] = 0
    bump[:, np.abs(dx) > radius] = 0
    return bump.astype(np.float32)


def _gaussian_radius(w: float, h: float, overlap: float = 0.7) -> int:
    def larger_root(b: float, four_a_c: float) -> float:
        return (b + math.sqrt(b * b - four_a_c)) / 2

    radius = min(
        larger_root(h + w, 4 * w * h * (1 - overlap) / (1 + overlap)),
        larger_root(2 * (h + w), 16 * (1 - overlap) * w * h),
        larger_root(-2 * overlap * (h + w), 16 * overlap * (overlap - 1) * w * h),
    )
    return int(max(0.0, radius))
