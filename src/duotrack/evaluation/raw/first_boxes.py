"""What the first boxes tell about raw results.

Every tracker is given the annotated box of the first frame and writes it down as its first. So the first rows of all
files together tell in which format the boxes are, and one of them which sequence a file is really about.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from duotrack import boxes
from duotrack.evaluation.metrics import overlap
from duotrack.evaluation.raw.problems import Problem
from duotrack.evaluation.scoring import BoxFormat

if TYPE_CHECKING:
    from duotrack.evaluation.benchmark import GroundTruth

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SAME_OBJECT = 0.5
"""Overlap from which a first box counts as the given one. Wrong readings of it stay below: a corner taken for the
centre leaves 1/7."""

SAME_BOX = 0.9
"""Overlap from which a first box counts as that of another sequence."""

_READINGS: dict[BoxFormat, Callable[[Values], Values]] = {
    "xywh": lambda rows: rows,
    "xyxy": boxes.xyxy_to_xywh,
    "corners": lambda rows: boxes.xyxy_to_xywh(rows[:, [0, 1, 2, 5]]),  # as the kits read corners
}
FITTING: dict[int, tuple[BoxFormat, ...]] = {4: ("xywh", "xyxy"), 8: ("corners",)}
"""The formats that rows of so many columns may have."""


def to_xywh(rows: Values, box_format: BoxFormat) -> Values:
    """Rows of a format, (M, 4) or (M, 8), as x, y, w, h, (M, 4)."""
    with np.errstate(invalid="ignore"):  # inf - inf is NaN
        return _READINGS[box_format](rows)


def recognize(rows: Mapping[str, Values], truth: "GroundTruth") -> tuple[BoxFormat | None, dict[Problem, list[str]]]:
    """Finds the format of the rows, which all have the same number of columns.

    Args:
        rows: sequence to rows as in its file.
        truth: has the annotated boxes.

    Returns:
        The format in which more than half of the first boxes are where the annotation is, and twice as many as in any
        other; or None and why there is none.
    """
    first, starts = _first(rows), _starts(truth)
    own = starts[:, [truth.names.index(name) for name in rows]]
    fitting = FITTING[first.shape[1]]
    fits = {each: _overlaps(to_xywh(first, each), own) >= SAME_OBJECT for each in fitting}
    if not (taken := _clear(fits)):  # are all files displaced? displaced() will say so
        fits_any = {each: _table(to_xywh(first, each), starts).max(axis=1) >= SAME_BOX for each in fitting}
        taken = _clear(fits_any)
    if taken:
        return taken, {}
    problem, reason = _explain(rows, own) or (
        Problem.DOUBTFUL_FORMAT,
        ", ".join(f"{each.sum()} of {len(first)} fit as {name}" for name, each in fits.items())
        + (" (or are these four numbers with decimal commas?)" if first.shape[1] == 8 else ""),
    )
    return None, {problem: [reason]}


def displaced(tracks: Mapping[str, Values], truth: "GroundTruth") -> tuple[list[str], list[str]]:
    """Compares where tracks (x, y, w, h) begin with where all sequences do.

    Returns:
        The sequences whose track does not begin at their object; and, told as ``A begins as B``, those among them that
        have the track of another, beyond doubt: its box, and that one's own file does not begin there or is the same.
    """
    names = list(tracks)
    first, starts = _first(tracks), _starts(truth)
    own = starts[:, [truth.names.index(name) for name in names]]
    strange = [name for name, value in zip(names, _overlaps(first, own), strict=True) if not value >= SAME_OBJECT]
    swapped = []
    for name in strange:
        overlaps = _table(tracks[name][:1], starts)[0]
        other = truth.names[int(overlaps.argmax())]
        own_is_elsewhere = other not in tracks or other in strange
        copied = other in tracks and np.array_equal(tracks[name], tracks[other], equal_nan=True)
        if overlaps.max() >= SAME_BOX and (own_is_elsewhere or copied):
            swapped.append(f"{name} begins as {other}")
    return strange, swapped


def _first(rows: Mapping[str, Values]) -> Values:
    return np.stack([values[0] for values in rows.values()])


def _starts(truth: "GroundTruth") -> Values:
    """The first boxes of all S sequences in M modalities, (M, S, 4)."""
    modalities = [truth.visible] if truth.infrared is None else [truth.visible, truth.infrared]
    return np.stack([[annotation[name][0] for name in truth.names] for annotation in modalities])


def _overlaps(first: Values, own: Values) -> Values:
    """The overlap of each of K boxes with its own annotation (M, K, 4), in the better modality, (K,); 0 for NaN."""
    with np.errstate(invalid="ignore"):  # infinite boxes
        each: Any = np.stack([overlap(first, annotation) for annotation in own])
    best: Values = np.nan_to_num(np.fmax.reduce(each))
    return best


def _table(first: Values, starts: Values) -> Values:
    """The overlap of each of K boxes with each of S annotations (M, S, 4), (K, S)."""
    k, s = len(first), starts.shape[1]
    return _overlaps(np.repeat(first, s, axis=0), np.tile(starts, (1, k, 1))).reshape(k, s)


def _clear(fits: Mapping[BoxFormat, Flags]) -> BoxFormat | None:
    """The reading that fits more than half of the boxes, and twice as many as any other."""
    best, *others = sorted(fits, key=lambda reading: -int(fits[reading].sum()))
    count = int(fits[best].sum())
    clear = 2 * count > len(fits[best]) and all(count >= 2 * int(fits[other].sum()) for other in others)
    return best if clear else None


def _explain(rows: Mapping[str, Values], own: Values) -> tuple[Problem, str] | None:
    """Why no format fits the annotation, if it is one of the usual reasons."""
    first = _first(rows)
    largest = max(float(np.nanmax(np.abs(values), initial=0)) for values in rows.values())
    if 0 < largest <= 1.5:
        return Problem.NORMALIZED, f"the largest number in {len(rows)} files is {largest:g}"

    problem, reading = (
        (Problem.CENTER, boxes.cxcywh_to_xywh) if first.shape[1] == 4 else (Problem.CORNER_ORDER, boxes.corners_to_xywh)
    )
    fits = int((_overlaps(reading(first), own) >= SAME_OBJECT).sum())
    if 2 * fits > len(first):
        return problem, f"{fits} of {len(first)} files"

    for each in FITTING[first.shape[1]] if len(first) > 2 else ():  # one box can be scaled onto any other
        read = to_xywh(first, each)
        if (scale := _scale(read, own[0])) is not None:
            fits = int((_overlaps(read / np.tile(scale, 2), own) >= SAME_OBJECT).sum())
            if 2 * fits > len(first):
                return (
                    Problem.SCALED,
                    f"{fits} of {len(first)} files are {scale[0]:.3g} by {scale[1]:.3g} times as large",
                )
    return None


def _scale(read: Values, annotation: Values) -> Values | None:
    """The usual ratio of widths and of heights, (2,), where sizes can be compared at all."""
    proper = (read[:, 2:] > 0).all(axis=1) & (annotation[:, 2:] > 0).all(axis=1) & np.isfinite(read).all(axis=1)
    ratios = read[proper, 2:] / annotation[proper, 2:]
    return np.median(ratios, axis=0) if len(ratios) else None
