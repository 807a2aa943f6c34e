"""What the score is worth: how often the box is right, by score, and what the threshold for a loss gets wrong.

    python benchmarks/reliability.py CLIP [CLIP ...] [--weights W] [--precision P] [--start suggested|first] [--beyond]
        [--figure FILE] [--json FILE]

Clips, starts and truth are those of `success.py`; of a rendered set, name its folders (`SET/*/`). A box is right where
its overlap with the truth is above 0.5. Rows with flag 2 are frames without the target; with `--beyond`, so are the
frames after its last row, which are then tracked too: say so only where it has left. First table: frames by score.
Second: how often a right box was called lost, and how often a wrong box, and a frame without the target, was not.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import runs
import success

from duotrack.results import beside
from duotrack.tracking import Tracker

RIGHT = 0.5
BINS = np.linspace(0, 1, 11)

Flags = npt.NDArray[np.bool_]


class Frames(NamedTuple):
    """Frames after the first of one or more runs: score, whether the box was right, the target there, called lost."""

    score: npt.NDArray[np.float64]
    right: Flags
    present: Flags
    lost: Flags


def main() -> None:
    """Tracks every target of every clip and prints two Markdown tables."""
    parser = argparse.ArgumentParser(description="What the score of a tracker is worth.")
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--weights", default="duotrack-tiny", help="name or folder")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "int8"])
    parser.add_argument("--start", default="suggested", choices=["suggested", "first"])
    parser.add_argument("--beyond", action="store_true", help="the target is gone after its last row")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tracker = runs.tracker(options.weights, options.precision)
    found = [
        compare(tracker, folder, name, suggested if options.start == "suggested" else None, options.beyond)
        for folder in options.clips
        for name, suggested in success.starts(folder).items()
    ]
    frames = Frames(*(np.concatenate(column) for column in zip(*found, strict=True)))
    rows = curve(frames)
    print("| score | frames | box right | target there |\n|---|---|---|---|")
    for low, high, count, right, present in rows:
        print(f"| {low:.1f} to {high:.1f} | {count} | {right:.3f} | {present:.3f} |")
    errors = rates(frames)
    print(f"\nThreshold {tracker.lost:g} on the smoothed score, {len(frames.score)} frames\n\n| | share |\n|---|---|")
    for name, value in errors.items():
        print(f"| {name} | {value:.3f} |")
    if options.figure:
        draw(options.figure, rows)
    if options.json:
        options.json.write_text(json.dumps({"curve": rows, "errors": errors}, indent=1) + "\n")


def compare(tracker: Tracker, folder: Path, target: str, start: int | None, beyond: bool) -> Frames:
    """Tracks one target and compares frame by frame."""
    estimates, seen, overlaps = success.follow(tracker, folder, target, start, beyond=beyond)
    present, right = np.zeros((2, len(estimates)), bool)
    present[seen], right[seen] = True, overlaps > RIGHT
    score, lost = (np.array([getattr(each, name) for each in estimates]) for name in ("score", "lost"))
    return Frames(*(column[1:] for column in (score, right, present, lost)))


def curve(frames: Frames) -> list[tuple[float, float, int, float, float]]:
    """For each tenth of the scores that occurs: from, to, frames, share with a right box, share with the target."""
    which = np.minimum(np.digitize(frames.score, BINS) - 1, len(BINS) - 2)
    groups = [(number, which == number) for number in range(len(BINS) - 1) if (which == number).any()]
    return [
        (
            float(BINS[number]),
            float(BINS[number + 1]),
            int(group.sum()),
            float(frames.right[group].mean()),
            float(frames.present[group].mean()),
        )
        for number, group in groups
    ]


def rates(frames: Frames) -> dict[str, float]:
    """What the loss flag gets wrong, and how well the score tells right boxes from others (area under the ROC)."""
    rank = np.empty(len(frames.score))
    for value in np.unique(frames.score):
        same = frames.score == value
        rank[same] = (frames.score < value).sum() + same.sum() / 2
    positive, negative = frames.right.sum(), (~frames.right).sum()
    area = (rank[frames.right].sum() - positive**2 / 2) / (positive * negative) if positive and negative else np.nan
    return {
        "right box, called lost": _share(frames.lost[frames.right]),
        "wrong box, target there, not called lost": _share(~frames.lost[frames.present & ~frames.right]),
        "target not there, not called lost": _share(~frames.lost[~frames.present]),
        "area under the ROC of the score for a right box": float(area),
    }


def _share(flags: Flags) -> float:
    return float(flags.mean()) if len(flags) else float("nan")


def draw(path: Path, rows: list[tuple[float, float, int, float, float]]) -> None:
    """The reliability curve, with the number of frames of each score beneath."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    middle = [(low + high) / 2 for low, high, *_ in rows]
    upper.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    upper.plot(middle, [row[3] for row in rows], marker="o", label="box right (overlap above 0.5)")
    upper.plot(middle, [row[4] for row in rows], marker="s", linewidth=1, label="target there")
    upper.set(ylim=(-0.02, 1.02), ylabel="share of frames")
    upper.legend(frameon=False, loc="lower right")
    lower.bar(middle, [row[2] for row in rows], width=0.08, color="0.6")
    lower.set(xlim=(0, 1), xlabel="score", ylabel="frames")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    with beside(path) as temporary:
        figure.savefig(temporary)


if __name__ == "__main__":
    main()
