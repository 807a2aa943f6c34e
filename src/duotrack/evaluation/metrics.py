"""Errors of boxes, frame by frame, and how many frames hit at each threshold.

Everything works on one long array: the frames of all sequences, one after another. The order of operations is that of
the authors' MATLAB kits, because at a threshold the last bit of a number decides whether a frame counts.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
"""float64, or float32 where a rule set computes in float32."""

Counts = npt.NDArray[np.int64]

Comparison = Literal[">", "<=", "<"]


def matlab_range(start: float, step: float, stop: float) -> Values:
    """MATLAB's ``start:step:stop``, which is not ``start + k * step``: it is filled from both ends.

    The last bits differ from :func:`numpy.linspace`, and at thresholds such as 0.65 real frames lie between the two.
    """
    last = round((stop - start) / step)
    steps = np.arange(last // 2 + 1) * step
    values = np.empty(last + 1)
    values[: len(steps)] = start + steps
    values[last - len(steps) + 1 :] = (stop - steps)[::-1]
    if last % 2 == 0:
        values[last // 2] = (start + stop) / 2
    return values


def overlap(a: Floats, b: Floats) -> Floats:
    """Intersection over union of ``x, y, w, h`` boxes, (N, 4), (N, 4) -> (N,), as the kits compute it.

    No epsilon: two boxes without area give NaN, and equal boxes may give a value above 1 by the last bit. Negative
    sizes are used as they are. A NaN edge is ignored where an edge beside it is a number; a NaN area gives NaN.
    """
    (xa, ya, wa, ha), (xb, yb, wb, hb) = a.T, b.T
    width = np.fmax(0, np.fmin(xa + wa - 1, xb + wb - 1) - np.fmax(xa, xb) + 1)
    height = np.fmax(0, np.fmin(ya + ha - 1, yb + hb - 1) - np.fmax(ya, yb) + 1)
    intersection = width * height
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = intersection / (wa * ha + wb * hb - intersection)
    return result


def inner_center(boxes: Floats) -> Floats:
    """Centres ``x + (w - 1) / 2, y + (h - 1) / 2``: a box counts as its pixels. (N, 4) -> (N, 2)."""
    return boxes[:, :2] + (boxes[:, 2:] - 1) / 2


def outer_center(boxes: Floats) -> Floats:
    """Centres ``x + w / 2, y + h / 2``: a box counts as its outline. (N, 4) -> (N, 2)."""
    return boxes[:, :2] + boxes[:, 2:] / 2


def distance(a: Floats, b: Floats) -> Floats:
    """Euclidean distance of points, (N, 2), (N, 2) -> (N,), as ``sqrt(dx * dx + dy * dy)``."""
    dx, dy = (a - b).T
    result: Floats = np.sqrt(dx * dx + dy * dy)
    return result


def count_hits(errors: Floats, comparison: Comparison, thresholds: Values, lengths: Counts) -> Counts:
    """How many frames of each sequence satisfy ``error <comparison> threshold``.

    Args:
        errors: (F,), the frames of all sequences one after another. NaN never satisfies anything.
        comparison: ``>`` (overlap), ``<=`` or ``<`` (distances).
        thresholds: (T,), rising.
        lengths: (S,), frames of each sequence; their sum is F.

    Returns:
        int64, (S, T).
    """
    s, t = len(lengths), len(thresholds)
    # A frame hits a whole end of the grid: find where it begins, count there, and add up.
    if comparison == ">":
        place = np.searchsorted(thresholds, np.where(np.isnan(errors), -np.inf, errors), side="left")
    else:
        place = np.searchsorted(thresholds, errors, side="left" if comparison == "<=" else "right")
    sequence = np.repeat(np.arange(s), lengths)
    histogram = np.bincount(sequence * (t + 1) + place, minlength=s * (t + 1)).reshape(s, t + 1)
    if comparison == ">":
        return np.cumsum(histogram[:, :0:-1], axis=1)[:, ::-1]
    return np.cumsum(histogram[:, :t], axis=1)
