"""Speed and accuracy of each precision on a model, against onnxruntime in fp32.

    python benchmarks/precision.py [--weights W] [--threads N] [--rounds N] [--crops N] [--frames N] [--json FILE]

Speed: one pair of search crops, from pixels to maps; the sessions take turns, ratios are medians of those within a
round, with the range from the 10th to the 90th percentile. Overlap: mean and least IoU of the boxes at the highest
score with those of fp32, and the share of crops where that is in the same cell, on crops of the demo clip that the
int8 graph, made for this, was not calibrated with. Success: AUC over the targets of the demo clip, as in `success.py`.
There a box is fed back, so that one near-tie between two people who cross decides over the rest of a track.

A session that this machine or installation cannot run is left out, with the reason.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
from success import auc

from duotrack import demo, pretrained, samples
from duotrack.boxes import cxcywh_to_xyxy, iou, xywh_to_xyxy
from duotrack.profile import in_a_line, machine, versions
from duotrack.quantization import quantize
from duotrack.samples import Samples
from duotrack.sequence import Sequence
from duotrack.sessions.base import Precision, Session
from duotrack.tracking import Backend, Tracker, open_session

BACKENDS: tuple[Backend, ...] = ("onnx", "torch", "openvino")
REFERENCE = "onnx fp32"


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="Speed and accuracy of each precision.")
    parser.add_argument("--weights", default="duotrack-tiny")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--crops", type=int, default=20)
    parser.add_argument("--frames", type=int, default=1000, help="of each track, at most")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = with_int8(options.weights, Path(scratch) / "weights")
        report_on(folder, options)


def report_on(folder: Path, options: argparse.Namespace) -> None:
    """Measures and prints."""
    sessions = opened(folder, options.threads)
    libraries: dict[str, str] = {}
    for name in sessions:
        libraries |= versions(name.split()[0])
    where = f"{in_a_line(machine(), libraries)}; threads: {options.threads}"
    print(f"{where}\n")
    crops = samples.of_demo_clip(pretrained.read_config(folder))[1::2][: options.crops]
    report = measure(sessions, crops, options.rounds)
    for name, row in report.items():
        row["success"] = success(sessions[name], folder, options.frames)
    print(
        "| session | ms, median (10-90 %) | onnx fp32 / this | overlap of boxes, mean (least) | same cell | success |"
    )
    print("|---|---|---|---|---|---|")
    for name, row in report.items():
        spread, ratio = (
            "{1:.{digits}f} ({0:.{digits}f}-{2:.{digits}f})".format(*row[what], digits=digits)
            for what, digits in (("milliseconds", 1), ("ratio", 2))
        )
        print(f"| {name} | {spread} | {ratio} | {row['overlap']:.4f} ({row['least']:.4f}) | ", end="")
        print(f"{row['same_cell']:.2f} | {row['success']:.3f} |")
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "figures": report}, indent=1) + "\n")


def with_int8(weights: str, copy: Path) -> Path:
    """A copy of weights with their graph in 8 bits, calibrated as `duotrack export` does it."""
    shutil.copytree(pretrained.locate(weights), copy)
    quantize(copy, samples.of_demo_clip(pretrained.read_config(copy))[::2])
    return copy


def opened(folder: Path, threads: int) -> dict[str, Session]:
    """Every session that this machine and installation can run on a CPU; the reference is the first."""
    sessions: dict[str, Session] = {}
    for backend in BACKENDS:
        for precision in get_args(Precision):
            try:
                sessions[f"{backend} {precision}"] = open_session(folder, backend, precision, "cpu", threads)
            except (ValueError, OSError, ImportError) as reason:
                print(f"without {backend} {precision}: {reason}", file=sys.stderr)
    return sessions


def measure(sessions: dict[str, Session], crops: Samples, rounds: int) -> dict[str, dict[str, Any]]:
    """Shows all sessions the same crops in turns: what each took, and how near its boxes come to the reference."""
    parts = [crops[i : i + 1] for i in range(len(crops))]
    states = {name: [session.template(part.template) for part in parts] for name, session in sessions.items()}
    times = {name: np.empty(rounds) for name in sessions}
    boxes = {name: np.empty((len(parts), 4)) for name in sessions}
    cells = {name: np.empty(len(parts), np.int64) for name in sessions}
    for number in range(-1, max(rounds, len(parts))):  # the first round warms up
        which = number % len(parts)
        for name, session in sessions.items():
            started = time.perf_counter()
            maps = session.search(states[name][which], parts[which].search)
            if 0 <= number < rounds:
                times[name][number] = 1000 * (time.perf_counter() - started)
            boxes[name][which], cells[name][which] = maps.box_cxcywh[0], maps.score.argmax()
    report: dict[str, dict[str, Any]] = {}
    for name in sessions:
        overlaps = iou(cxcywh_to_xyxy(boxes[name]), cxcywh_to_xyxy(boxes[REFERENCE]))
        report[name] = {
            "milliseconds": np.percentile(times[name], (10, 50, 90)).tolist(),
            "ratio": np.percentile(times[REFERENCE] / times[name], (10, 50, 90)).tolist(),
            "overlap": float(overlaps.mean()),
            "least": float(overlaps.min()),
            "same_cell": float((cells[name] == cells[REFERENCE]).mean()),
        }
    return report


def success(session: Session, folder: Path, frames: int) -> float:
    """Mean AUC over the targets of the demo clip, each followed from where it is first well in view."""
    _, crops = pretrained.read_config(folder)
    tracker = Tracker(session, **asdict(crops))
    areas = []
    with Sequence.open(demo.CLIP / "visible.mp4", demo.CLIP / "infrared.mp4") as clip:
        for target in demo.targets():
            first = demo.facts(target)["suggested_init"]
            part = slice(first, first + frames)
            truth = demo.ground_truth(target, len(clip))[part]
            found = np.array([estimate.box for estimate in tracker.run(clip[part], truth[0])])
            seen = np.isfinite(truth).all(axis=1)
            areas.append(auc(iou(xywh_to_xyxy(found[seen]), xywh_to_xyxy(truth[seen]))))
    return float(np.mean(areas))


if __name__ == "__main__":
    main()
