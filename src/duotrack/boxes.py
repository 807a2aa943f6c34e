"""Boxes: conversions, overlap, clipping.

A box is four numbers along the last axis. Every function takes NumPy arrays or PyTorch tensors of shape
``(..., 4)``, returns the same kind, and lets gradients through. The name of a conversion states both layouts:

- ``xywh``: left, top, width, height; what the public interface speaks;
- ``xyxy``: left, top, right, bottom;
- ``cxcywh``: centre, width, height; what networks predict;
- corners: the four vertices of a polygon, ``x1, y1, ..., x4, y4`` (last axis 8).

The right and bottom edges are exclusive: the width of a box is ``right - left``.
"""

import sys
from typing import Any, TypeVar

import numpy as np

Array = TypeVar("Array")
"""A NumPy array or a PyTorch tensor; what comes in comes out."""


def _namespace(array: Any) -> Any:
    """NumPy for arrays, torch for tensors (whose import has then happened already)."""
    return np if isinstance(array, np.ndarray | np.generic) else sys.modules["torch"]


def xywh_to_xyxy(boxes: Array) -> Array:
    """Left, top, width, height to left, top, right, bottom."""
    x, y, w, h = _columns(boxes)
    return _join(boxes, x, y, x + w, y + h)


def xyxy_to_xywh(boxes: Array) -> Array:
    """Left, top, right, bottom to left, top, width, height."""
    x1, y1, x2, y2 = _columns(boxes)
    return _join(boxes, x1, y1, x2 - x1, y2 - y1)


def xywh_to_cxcywh(boxes: Array) -> Array:
    """Left, top, width, height to centre, width, height."""
    x, y, w, h = _columns(boxes)
    return _join(boxes, x + w / 2, y + h / 2, w, h)


def cxcywh_to_xywh(boxes: Array) -> Array:
    """Centre, width, height to left, top, width, height."""
    cx, cy, w, h = _columns(boxes)
    return _join(boxes, cx - w / 2, cy - h / 2, w, h)


def cxcywh_to_xyxy(boxes: Array) -> Array:
    """Centre, width, height to left, top, right, bottom."""
    return xywh_to_xyxy(cxcywh_to_xywh(boxes))


def corners_to_xywh(corners: Array) -> Array:
    """The upright box around a polygon ``(..., 8)`` to left, top, width, height ``(..., 4)``."""
    array: Any = corners
    xs, ys = array[..., 0::2], array[..., 1::2]
    xp = _namespace(corners)
    x1, y1, x2, y2 = xp.amin(xs, -1), xp.amin(ys, -1), xp.amax(xs, -1), xp.amax(ys, -1)
    return _join(corners, x1, y1, x2 - x1, y2 - y1)


def iou(a: Array, b: Array) -> Array:
    """Intersection over union of ``xyxy`` boxes, element by element: ``(..., 4), (..., 4) -> (...)``.

    Two boxes without area have an overlap of 0.
    """
    intersection, union, _ = _areas(a, b)
    xp = _namespace(a)
    nonempty = union > 0
    result: Array = xp.where(nonempty, intersection / xp.where(nonempty, union, xp.ones_like(union)), 0 * union)
    return result


def giou(a: Array, b: Array) -> Array:
    """Generalised intersection over union of ``xyxy`` boxes: ``iou - (C - union) / C``, C the enclosing area.

    Values lie in (-1, 1]. Both boxes must have a positive area: there is no epsilon that would bend the value.
    Source: Rezatofighi et al., CVPR 2019.
    """
    intersection, union, enclosing = _areas(a, b)
    result: Array = intersection / union - (enclosing - union) / enclosing
    return result


def _areas(a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Areas of the intersection, the union and the smallest enclosing box of ``xyxy`` boxes."""
    xp = _namespace(a)
    ax1, ay1, ax2, ay2 = _columns(a)
    bx1, by1, bx2, by2 = _columns(b)
    width = xp.minimum(ax2, bx2) - xp.maximum(ax1, bx1)
    height = xp.minimum(ay2, by2) - xp.maximum(ay1, by1)
    intersection = width.clip(min=0) * height.clip(min=0)
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    enclosing = (xp.maximum(ax2, bx2) - xp.minimum(ax1, bx1)) * (xp.maximum(ay2, by2) - xp.minimum(ay1, by1))
    return intersection, union, enclosing


def _columns(boxes: Any) -> tuple[Any, Any, Any, Any]:
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _join(like: Array, *columns: Any) -> Array:
    joined: Array = _namespace(like).stack(columns, -1)
    return joined
