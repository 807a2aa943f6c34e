"""How much success AUC is lost when one camera is blind, off, late or noisy: a table and a figure.

    python benchmarks/robustness.py [CLIP ...] [--disturbances blind offset ...] [--weights W] [--precision P]
        [--workers N] [--figure F.png] [--json FILE]

A CLIP is a folder as in `success.py`, or a rendered set, which stands for all of its sequences; without one it is the
clip that ships with duotrack. Starts and AUC are those of `success.py`: the frame that `tracks.json` suggests, else the
first row of the track, and one run without reset. `disturbances.py` says what is done to the frames.

Every score is written to FILE when it is there. The same command goes on where it was stopped.
"""

import argparse
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import disturbances
import numpy as np
import runs
from disturbances import BLIND_FRAMES, DISTURBANCES, UNDISTURBED, Disturbance, disturbed
from success import starts, success

from duotrack.demo import CLIP

Scores = dict[Disturbance, dict[str, float]]
"""By disturbance and target, ``CLIP/NAME``."""


class Job(NamedTuple):
    """A target under a disturbance."""

    folder: Path
    target: str
    start: int | None
    disturbance: Disturbance
    weights: str
    precision: runs.Precision


def main() -> None:
    """Tracks every target under every disturbance; prints a Markdown table and draws the curves."""
    parser = argparse.ArgumentParser(description="Success AUC under disturbances of one camera or both.")
    parser.add_argument("clips", nargs="*", type=Path, default=[CLIP])
    parser.add_argument("--disturbances", nargs="+", default=list(DISTURBANCES), choices=list(DISTURBANCES))
    parser.add_argument("--weights", default="duotrack-tiny", help="name or folder")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "int8"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path, help="keeps every score; what it has is not run again")
    options = parser.parse_args()

    chosen = [UNDISTURBED, *(one for kind in options.disturbances for one in DISTURBANCES[kind])]
    ours = runs.model(options.weights, options.precision)
    here = runs.digest(Path(disturbances.__file__).parent, "disturbances.py")
    jobs: dict[str, Job] = {}
    for folder in _clips(options.clips):
        footage = runs.digest(folder)
        for disturbance, (target, start) in product(chosen, starts(folder).items()):
            key = f"{folder.name}/{target} {footage}, {disturbance} {here}, {ours}"
            jobs[key] = Job(folder, target, start, disturbance, options.weights, options.precision)

    found = runs.scores(jobs, _score, workers=options.workers, file=options.json)
    scores: Scores = {one: {} for one in chosen}
    for key, job in jobs.items():
        scores[job.disturbance][f"{job.folder.name}/{job.target}"] = found[key]
    rows = list(_rows(scores))
    print("| disturbance | camera | how | level | mean AUC | loss | largest loss |\n|---|---|---|---|---|---|---|")
    for row in rows:
        level, worst = f"{row['level']:g}", f"{row['worst']} {row['worst_loss']:+.3f}"
        cells = [row["kind"], row["camera"], row["how"], level, f"{row['mean']:.3f}", f"{row['loss']:+.3f}", worst]
        print(f"| {' | '.join(cells)} |")
    runs.keep(options.json, found, duotrack=ours, rows=rows)
    if options.figure:
        draw(scores, options.figure)


def _clips(folders: Iterable[Path]) -> Iterator[Path]:
    """Clips as they are, rendered sets sequence by sequence."""
    for folder in folders:
        listed = folder / "sequences.txt"
        yield from (folder / name for name in listed.read_text("utf-8").split()) if listed.is_file() else [folder]


def _rows(scores: Scores) -> Iterator[dict[str, Any]]:
    """What the table says of each disturbance, and the score of every target."""
    clean = scores[UNDISTURBED]
    for disturbance, targets in scores.items():
        losses = {target: clean[target] - value for target, value in targets.items()}
        worst = max(losses, key=lambda target: losses[target])
        yield {
            **disturbance._asdict(),
            "mean": _mean(targets),
            "loss": _mean(losses),
            "worst": worst,
            "worst_loss": losses[worst],
            "targets": targets,
        }


def _mean(values: dict[str, float]) -> float:
    return float(np.mean(list(values.values())))


def _score(job: Job) -> float:
    tracker = runs.tracker(job.weights, job.precision)
    return success(tracker, job.folder, job.target, job.start, partial(disturbed, disturbance=job.disturbance))


COLOURS = {"visible": "#d55e00", "infrared": "#0072b2", "": "#222222"}
STYLES = {"black": "o-", "noise": "s--", "frozen": "^:", "": "o-"}
LABELS = {
    "offset": "infrared moved to the right (pixels)",
    "delay": "infrared late (frames)",
    "noise": "noise in both cameras (grey levels)",
    "share": "share of frames without {camera}",
}


def draw(scores: Scores, file: Path) -> None:
    """A panel for each kind of disturbance, of the share one for each camera: means over all targets."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = list(dict.fromkeys((one.kind, one.camera if one.kind == "share" else "") for one in scores))
    shown.remove(("none", ""))
    rows, columns = -(-len(shown) // 3), min(3, len(shown))
    size = 1 + 3.4 * columns, 3.2 * rows
    figure, grid = pyplot.subplots(rows, columns, figsize=size, sharey=True, squeeze=False, constrained_layout=True)
    for panel, (kind, camera) in zip(grid.flat, shown, strict=False):
        if kind == "blind":
            _bars(panel, scores)
        else:
            _curves(panel, scores, kind, camera)
        panel.set_ylim(0, 1)
        panel.set_axisbelow(True)
        panel.grid(axis="y", alpha=0.3)
    for panel in grid.flat[len(shown) :]:
        panel.remove()
    for row in grid:
        row[0].set_ylabel("success AUC")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def _bars(panel: Any, scores: Scores) -> None:
    """One camera blind in the middle: a bar for each way."""
    bars = [one for one in scores if one == UNDISTURBED or one.kind == "blind"]
    panel.bar(range(len(bars)), [_mean(scores[one]) for one in bars], color=[COLOURS[one.camera] for one in bars])
    names = [f"{one.camera} {one.how}".strip() or "undisturbed" for one in bars]
    panel.set_xticks(range(len(bars)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    panel.set_xlabel(f"one camera blind for {BLIND_FRAMES} frames")


def _curves(panel: Any, scores: Scores, kind: str, camera: str) -> None:
    """AUC over the level; where there is one curve, each target too, as a thin line."""
    clean = scores[UNDISTURBED]
    hows = dict.fromkeys(one.how for one in scores if (one.kind, one.camera) == (kind, camera))
    for how in hows:
        points = {0.0: clean}
        points |= {one.level: scores[one] for one in scores if (one.kind, one.camera, one.how) == (kind, camera, how)}
        if len(hows) == 1:
            for target in clean:
                values = [targets[target] for targets in points.values()]
                panel.plot(list(points), values, color=COLOURS[camera], lw=0.5, alpha=0.3)
        means = [_mean(targets) for targets in points.values()]
        panel.plot(list(points), means, STYLES[how], color=COLOURS[camera], label=how, ms=4)
    panel.set_xlabel(LABELS[kind].format(camera=camera))
    if len(hows) > 1:
        panel.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
