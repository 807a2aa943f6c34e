"""Success AUC of a model on annotated clips, target by target, beside other trackers' published figures.

    python benchmarks/success.py CLIP [CLIP ...] [--weights W] [--precision P] [--start suggested|first]
        [--nudges N] [--baselines FILE]

A clip is a folder with `visible.mp4` and `infrared.mp4`, or folders of images of these names, and `tracks/NAME.txt`
(rows `frame,x,y,w,h,flag`). The tracker starts from the true box, in the frame that `tracks.json` suggests or in the
first row, and runs to the last row without reset. AUC is the mean, over thresholds 0, 0.05, ..., 1, of the share of
frames whose overlap with the truth is larger; rows with flag 2 (target absent) are tracked through and left out.
Where people cross, chance decides: `--nudges N` starts N times more, from boxes that are off by some 2 %, and gives the
mean and the range of the N too.
`--baselines` names a file with figures of OpenCV's trackers by the same rule.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duotrack import boxes
from duotrack.crops import Box, clip_box
from duotrack.data.clips import read_track
from duotrack.sequence import Frame, Sequence
from duotrack.tracking import Estimate, Tracker

THRESHOLDS = np.linspace(0, 1, 21)


def main() -> None:
    """Tracks every target of every clip and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="Success AUC of a model on annotated clips.")
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--weights", default="duotrack-tiny")
    parser.add_argument("--backend", default="auto", choices=["auto", "onnx", "torch", "openvino"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "int8"])
    parser.add_argument("--start", default="suggested", choices=["suggested", "first"])
    parser.add_argument("--nudges", type=int, default=0)
    parser.add_argument("--baselines", type=Path)
    parser.add_argument("--json", type=Path, help="the AUC of each target, from the true box first, then nudged")
    options = parser.parse_args()
    rivals = json.loads(options.baselines.read_text()) if options.baselines else {}
    rivals = rivals.get(f"from_{'suggested_init' if options.start == 'suggested' else 'first_row'}", {"targets": {}})
    tracker = Tracker.from_pretrained(options.weights, backend=options.backend, precision=options.precision)

    report: dict[str, dict[str, list[float]]] = {}
    print("| clip | target | duotrack | nudged | best of OpenCV, infrared | best of OpenCV, visible |")
    print("|---|---|---|---|---|---|")
    for folder in options.clips:
        others = rivals["targets"].get(folder.name, {})
        report[folder.name] = {}
        for name, suggested in starts(folder).items():
            start = suggested if options.start == "suggested" else None
            values = [success(tracker, folder, name, start, nudge=nudge) for nudge in range(options.nudges + 1)]
            report[folder.name][name] = values
            print(f"| {folder.name} | {name} | {values[0]:.3f} | {_spread(values[1:])} | ", end="")
            print(f"{_best(others, name, 'infrared')} | {_best(others, name, 'visible')} |", flush=True)
        means = np.mean(list(report[folder.name].values()), 0).tolist()
        print(f"| {folder.name} | **mean** | **{means[0]:.3f}** | {_spread(means[1:])} | | |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def starts(folder: Path) -> dict[str, int | None]:
    """The targets of a clip, and in which frame `tracks.json` suggests to start; None where there is none."""
    facts = folder / "tracks.json"
    if not facts.is_file():
        return {file.stem: None for file in sorted((folder / "tracks").glob("*.txt"))}
    targets = json.loads(facts.read_text("utf-8"))["targets"]
    return {name: int(fact["suggested_init"]) for name, fact in targets.items()}


def success(
    tracker: Tracker,
    folder: Path,
    target: str,
    start: int | None,
    change: Callable[[Sequence], Iterable[Frame]] = lambda frames: frames,
    *,
    nudge: int = 0,
) -> float:
    """Success AUC of one target, tracked to its last row.

    Args:
        tracker: what tracks it.
        folder: of the clip.
        target: its name.
        start: the first frame; None: that of its first row.
        change: what happens to the frames before the tracker sees them.
        nudge: 0 for the true box in the first frame, else the seed by which it is off.
    """
    _, _, overlaps = follow(tracker, folder, target, start, change, nudge=nudge)
    return auc(overlaps)


def follow(
    tracker: Tracker,
    folder: Path,
    target: str,
    start: int | None,
    change: Callable[[Sequence], Iterable[Frame]] = lambda frames: frames,
    *,
    beyond: bool = False,
    nudge: int = 0,
) -> tuple[list[Estimate], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Tracks one target to its last row, or with ``beyond`` to the last frame of the clip.

    Returns:
        An estimate for each frame from the first; which of them have a true box; and the overlaps with those.
    """
    suffix = "" if (folder / "visible").is_dir() else ".mp4"
    with Sequence.open(folder / f"visible{suffix}", folder / f"infrared{suffix}") as sequence:
        truth = read_track(folder / "tracks" / f"{target}.txt", frames=len(sequence), partly_occluded=True)
        first = int(truth.frames[0]) if start is None else start
        rows = truth.frames >= first
        frames, expected = truth.frames[rows] - first, truth.boxes[rows]
        end = len(sequence) if beyond else int(truth.frames[-1]) + 1
        seen = change(sequence[first:end])
        box = nudged(expected[0], nudge, sequence.size) if nudge else expected[0]
        estimates = list(tracker.run(seen, box))
    found = np.array([estimate.box for estimate in estimates])[frames]
    return estimates, frames, boxes.iou(boxes.xywh_to_xyxy(found), boxes.xywh_to_xyxy(expected))


def nudged(box: Box, seed: int, size: tuple[int, int]) -> Box:
    """A box x, y, w, h that is off by a normal error of 2 % of its sides, in place and in scale, within the image."""
    random = np.random.default_rng(seed)
    center = box[:2] + box[2:] / 2 + random.normal(0, 0.02, 2) * box[2:]
    sides = box[2:] * np.exp(random.normal(0, 0.02, 2))
    return clip_box(np.concatenate([center - sides / 2, sides]), *size)


def auc(overlaps: npt.NDArray[np.float64]) -> float:
    """Mean over the thresholds of the share of overlaps above them."""
    return float((overlaps[:, None] > THRESHOLDS).mean())


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})" if values else "-"


def _best(others: dict[str, Any], target: str, modality: str) -> str:
    if target not in others:
        return "-"
    name, value = max(others[target][modality].items(), key=lambda item: float(item[1]))
    return f"{value:.3f} ({name})"


if __name__ == "__main__":
    main()
