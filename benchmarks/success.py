"""Success AUC of a model on annotated clips, target by target, beside other trackers' published figures.

    python benchmarks/success.py CLIP [CLIP ...] [--weights W] [--precision P] [--start suggested|first]
        [--baselines FILE]

A clip is a folder with `visible.mp4`, `infrared.mp4`, `tracks.json` and `tracks/NAME.txt` (rows `frame,x,y,w,h,flag`).
The tracker starts from the true box, in the first row or in the frame that `tracks.json` suggests, and runs to the
last row without reset. AUC is the mean, over thresholds 0, 0.05, ..., 1, of the share of frames whose overlap with the
truth is larger; rows with flag 2 (target absent) are tracked through and left out. `--baselines` names a file with
figures of OpenCV's trackers by the same rule.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duotrack import boxes
from duotrack.data.clips import read_track
from duotrack.sequence import Sequence
from duotrack.tracking import Tracker

THRESHOLDS = np.linspace(0, 1, 21)


def main() -> None:
    """Tracks every target of every clip and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="Success AUC of a model on annotated clips.")
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--weights", default="duotrack-tiny")
    parser.add_argument("--backend", default="auto", choices=["auto", "onnx", "torch", "openvino"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "int8"])
    parser.add_argument("--start", default="suggested", choices=["suggested", "first"])
    parser.add_argument("--baselines", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rivals = json.loads(options.baselines.read_text()) if options.baselines else {}
    rivals = rivals.get(f"from_{'suggested_init' if options.start == 'suggested' else 'first_row'}", {"targets": {}})
    tracker = Tracker.from_pretrained(options.weights, backend=options.backend, precision=options.precision)

    report: dict[str, dict[str, Any]] = {}
    print("| clip | target | duotrack | best of OpenCV, infrared | best of OpenCV, visible |\n|---|---|---|---|---|")
    for folder in options.clips:
        facts = json.loads((folder / "tracks.json").read_text())["targets"]
        others = rivals["targets"].get(folder.name, {})
        report[folder.name] = {}
        for name, fact in facts.items():
            value = success(tracker, folder, name, fact["suggested_init"] if options.start == "suggested" else None)
            report[folder.name][name] = value
            print(f"| {folder.name} | {name} | {value:.3f} | {_best(others, name, 'infrared')} | ", end="")
            print(f"{_best(others, name, 'visible')} |", flush=True)
        mean = np.mean(list(report[folder.name].values()))
        print(f"| {folder.name} | **mean** | **{mean:.3f}** | | |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def success(tracker: Tracker, folder: Path, target: str, start: int | None) -> float:
    """Success AUC of one target, tracked from ``start`` (None: from its first row) to its last row."""
    with Sequence.open(folder / "visible.mp4", folder / "infrared.mp4") as sequence:
        truth = read_track(folder / "tracks" / f"{target}.txt", frames=len(sequence), partly_occluded=True)
        first = int(truth.frames[0]) if start is None else start
        rows = truth.frames >= first
        frames, expected = truth.frames[rows] - first, truth.boxes[rows]
        estimates = list(tracker.run(sequence[first : int(truth.frames[-1]) + 1], expected[0]))
    found = np.array([estimate.box for estimate in estimates])[frames]
    return auc(boxes.iou(boxes.xywh_to_xyxy(found), boxes.xywh_to_xyxy(expected)))


def auc(overlaps: npt.NDArray[np.float64]) -> float:
    """Mean over the thresholds of the share of overlaps above them."""
    return float((overlaps[:, None] > THRESHOLDS).mean())


def _best(others: dict[str, Any], target: str, modality: str) -> str:
    if target not in others:
        return "-"
    name, value = max(others[target][modality].items(), key=lambda item: float(item[1]))
    return f"{value:.3f} ({name})"


if __name__ == "__main__":
    main()
