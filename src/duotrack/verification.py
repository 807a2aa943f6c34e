"""Exported graphs against what they were made from, on real crops.

The float graphs are held against the PyTorch network, sample by sample and in batches of three, by their largest
difference; the 8-bit graph against the float graph, by how well the boxes overlap.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from duotrack.boxes import cxcywh_to_xyxy, iou
from duotrack.model import normalize, weights
from duotrack.samples import Samples
from duotrack.sessions.base import Maps, Precision, Session
from duotrack.sessions.onnx import OnnxSession

BATCHES = (1, 3)
TOLERANCE = 1e-5
"""Largest difference between onnxruntime and PyTorch: of scores, and of sizes, offsets and boxes in crop sides."""
OVERLAP = 0.98
"""Least mean overlap of the boxes of the 8-bit graph with those of the float graph."""


@dataclass(frozen=True)
class Check:
    """What was found on ``crops`` pairs of crops.

    ``score``, ``size``, ``offset`` and ``box``: the largest differences, of offsets too in crop sides. ``same_peak``:
    share of crops whose highest score is in the same cell. ``overlap`` and ``least_overlap``: mean and least IoU of the
    boxes there. ``tolerance``: what it was held to, in words.
    """

    precision: Precision
    crops: int
    score: float
    size: float
    offset: float
    box: float
    same_peak: float
    overlap: float
    least_overlap: float
    tolerance: str
    passed: bool

    def __str__(self) -> str:
        verdict = "as it should be" if self.passed else "NOT as it should be"
        return (
            f"{self.precision} on {self.crops} pairs of crops: {verdict} ({self.tolerance})\n"
            f"  largest difference: score {self.score:.2g}, size {self.size:.2g}, offset {self.offset:.2g}, "
            f"box {self.box:.2g}\n"
            f"  same peak cell {self.same_peak:.1%}; overlap of boxes: mean {self.overlap:.4f}, "
            f"least {self.least_overlap:.4f}"
        )


def check(folder: Path, graphs: Path, samples: Samples) -> Check:
    """Compares the float graphs with the network that they were made from.

    Args:
        folder: the weights.
        graphs: the folder that they were exported into; the same, or another.
        samples: what both are shown.
    """
    network, session = weights.load(folder).eval(), OnnxSession(graphs)

    def plain(part: Samples) -> Maps:
        template, search = (normalize(torch.from_numpy(crops)) for crops in (part.template, part.search))
        with torch.inference_mode():
            output = network(template, search)
        return Maps(*(map_.numpy() for map_ in (output.score, output.size, output.offset, output.box_cxcywh)))

    def batches(size: int) -> list[Samples]:
        return [samples[start : start + size] for start in range(0, len(samples), size)]

    parts = [part for size in BATCHES for part in batches(size)]
    return _compare("fp32", [plain(part) for part in parts], [_answer(session, part) for part in parts])


def check_int8(graphs: Path, samples: Samples) -> Check:
    """Compares the 8-bit graph of a folder with the float graph beside it."""
    exact, rounded = OnnxSession(graphs), OnnxSession(graphs, precision="int8")
    parts = [samples[i : i + 1] for i in range(len(samples))]
    return _compare("int8", [_answer(exact, part) for part in parts], [_answer(rounded, part) for part in parts])


def _answer(session: Session, part: Samples) -> Maps:
    return session.search(session.template(part.template), part.search)


def _compare(precision: Precision, expected: list[Maps], found: list[Maps]) -> Check:
    def stacked(answers: list[Maps], name: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        return np.concatenate([getattr(maps, name) for maps in answers])

    largest = {}
    for name in ("score", "size", "offset", "box_cxcywh"):
        largest[name] = float(np.abs(stacked(expected, name) - stacked(found, name)).max())
    grid = expected[0].score.shape[-1]
    largest["offset"] /= grid  # from cells to crop sides
    peaks = [stacked(answers, "score").reshape(-1, grid * grid).argmax(1) for answers in (expected, found)]
    overlaps = iou(*(cxcywh_to_xyxy(stacked(answers, "box_cxcywh")) for answers in (expected, found)))
    if precision == "int8":
        passed, tolerance = bool(overlaps.mean() >= OVERLAP), f"mean overlap of boxes at least {OVERLAP}"
    else:
        passed, tolerance = max(largest.values()) <= TOLERANCE, f"differences at most {TOLERANCE:g}"
    return Check(
        precision=precision,
        crops=len(overlaps),
        score=largest["score"],
        size=largest["size"],
        offset=largest["offset"],
        box=largest["box_cxcywh"],
        same_peak=float((peaks[0] == peaks[1]).mean()),
        overlap=float(overlaps.mean()),
        least_overlap=float(overlaps.min()),
        tolerance=tolerance,
        passed=passed,
    )
