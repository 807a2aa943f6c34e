"""Success AUC on the rendered test set, by kind of scene, of a model and of OpenCV's trackers on each camera.

    duotrack data render --output SET --data ROOT
    python benchmarks/rendered.py SET [--weights W] [--precision P] [--trackers duotrack CSRT KCF] [--workers N]
        [--json FILE]

AUC is that of `success.py`: one run from the true box of the first frame without reset, mean over thresholds 0, 0.05,
..., 1 of the share of frames with a larger overlap; frames in which almost nothing of the target is seen (flag 2) are
tracked through and left out. OpenCV's trackers have their default parameters, start from a rounded box and keep their
last box where they report failure. They are in `opencv-contrib-python-headless`, not in the package that duotrack
needs; install it into an environment of its own, instead of `opencv-python-headless`.

Every score is written to FILE when it is there. The same command goes on where it was stopped; for other weights name
the same FILE, and OpenCV's trackers are not run again.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import runs
from success import auc, success

from duotrack import boxes
from duotrack.crops import Box, Image
from duotrack.data.clips import read_track
from duotrack.sequence import Sequence

RIVALS = ("CSRT", "KCF")


class Job(NamedTuple):
    """A sequence, and who tracks it: duotrack, or one of OpenCV's trackers on one camera."""

    folder: Path
    tracker: str
    camera: str
    weights: str
    precision: runs.Precision

    @property
    def column(self) -> str:
        """Its column of the table."""
        return ", ".join(filter(None, (self.tracker, self.camera)))


def main() -> None:
    """Tracks every sequence with every tracker and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="Success AUC on the rendered test set, by kind of scene.")
    parser.add_argument("set", type=Path)
    parser.add_argument("--weights", default="duotrack-tiny", help="name or folder")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "int8"])
    parser.add_argument("--trackers", nargs="+", default=["duotrack", *RIVALS], choices=["duotrack", *RIVALS])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, help="keeps every score; what it has is not run again")
    options = parser.parse_args()
    listed = options.set / "sequences.txt"
    names = listed.read_text("utf-8").split() if listed.is_file() else []
    if not names:
        parser.error(f"{options.set} is not a whole rendered set: make it with duotrack data render")
    scenes = {name: json.loads((options.set / name / "scene.json").read_text("utf-8")) for name in names}

    ours = runs.model(options.weights, options.precision)
    jobs: dict[str, Job] = {}
    for name in names:
        footage = f"{name} {runs.digest(options.set / name)}"
        for tracker in options.trackers:
            who = ours if tracker == "duotrack" else f"{tracker} of OpenCV {cv2.__version__}"
            for camera in [""] if tracker == "duotrack" else ["visible", "infrared"]:
                job = Job(options.set / name, tracker, camera, options.weights, options.precision)
                jobs[f"{footage}, {who}{camera and ', '}{camera}"] = job
    unavailable = {
        job.tracker
        for key, job in jobs.items()
        if key not in runs.kept(options.json) and job.tracker in RIVALS and not hasattr(cv2, f"Tracker{job.tracker}")
    }
    if unavailable:
        parser.error(
            f"{' and '.join(sorted(unavailable))}: not in this OpenCV, nor in the file of --json; use an environment "
            "with opencv-contrib-python-headless, or --trackers duotrack"
        )

    found = runs.scores(jobs, _score, workers=options.workers, file=options.json)
    values: dict[str, dict[str, float]] = {}
    for key, job in jobs.items():
        values.setdefault(job.column, {})[job.folder.name] = found[key]
    table = {
        row: {"n": len(members)} | {column: _mean(values[column][name] for name in members) for column in values}
        for row, members in _groups(scenes)
    }
    print(f"| scenes | n | {' | '.join(values)} |\n|---|---|{'---|' * len(values)}")
    for row, cells in table.items():
        print(f"| {row} | {cells['n']} | {' | '.join(f'{cells[column]:.3f}' for column in values)} |")
    sequences = {name: {column: scores[name] for column, scores in values.items()} for name in names}
    runs.keep(options.json, found, duotrack=ours, table=table, sequences=sequences)


def _groups(scenes: dict[str, dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Rows of the table: kinds of scene, sorts of target, all."""
    for key in ("kind", "target"):
        for value in dict.fromkeys(facts[key] for facts in scenes.values()):
            yield f"{key}: {value}", [name for name, facts in scenes.items() if facts[key] == value]
    yield "**all**", list(scenes)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _score(job: Job) -> float:
    """Success AUC of one tracker on one sequence."""
    if job.tracker == "duotrack":
        return success(runs.tracker(job.weights, job.precision), job.folder, "target", None)
    with Sequence.open(job.folder / "visible", job.folder / "infrared") as sequence:
        truth = read_track(job.folder / "tracks" / "target.txt", frames=len(sequence), partly_occluded=True)
        images = (frame.visible if job.camera == "visible" else frame.infrared for frame in sequence)
        found = np.array(list(follow(getattr(cv2, f"Tracker{job.tracker}").create(), images, truth.boxes[0])))
    return auc(boxes.iou(boxes.xywh_to_xyxy(found[truth.frames]), boxes.xywh_to_xyxy(truth.boxes)))


def follow(tracker: Any, images: Iterable[Image], box: Box) -> Iterator[Box]:
    """A tracker of OpenCV's, run over RGB images from a box in the first; it keeps its last box where it fails."""
    for index, image in enumerate(images):
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if index == 0:
            tracker.init(picture, tuple(round(value) for value in box.tolist()))
        else:
            found, region = tracker.update(picture)
            box = np.array(region, np.float64) if found else box
        yield box


if __name__ == "__main__":
    main()
