"""The demo: the shipped model follows a person through smoke that blinds the visible camera.

The clip is real (its source and licence lie beside it in ``assets/demo_clip``) and its scene was held out of training.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from duotrack import boxes, pretrained, visualize
from duotrack.data.clips import read_track
from duotrack.progress import bar, watched
from duotrack.sequence import Sequence
from duotrack.tracking import Tracker, record

CLIP = Path(__file__).parent / "assets" / "demo_clip"
TARGET = "A_far_puffer"
WEIGHTS = "duotrack-tiny"


class Demo(NamedTuple):
    """The files that the demo leaves."""

    video: Path
    boxes: Path
    plot: Path


def run(output: Path) -> Demo:
    """Tracks the shipped clip with the shipped weights.

    Args:
        output: folder for a video, the boxes and a plot; made when missing.

    Returns:
        Their paths.
    """
    output.mkdir(parents=True, exist_ok=True)
    about = facts(TARGET)
    first = about["suggested_init"]
    with Sequence.open(CLIP / "visible.mp4", CLIP / "infrared.mp4") as clip:
        truth = ground_truth(TARGET, len(clip))[first:]
        sequence = clip[first:]
        tracker = Tracker.from_pretrained(WEIGHTS)
        info = {
            "source": f"duotrack demo clip, frames {first} to {len(clip) - 1}",
            "weights": {"name": WEIGHTS, "sha256": pretrained.sha256(pretrained.locate(WEIGHTS) / pretrained.WEIGHTS)},
        }
        with bar("tracking", len(sequence)) as advance:
            track = record(tracker, sequence, truth[0], info, advance)
        hidden = [(max(0, a - first), b - first) for a, b in about["hidden_in_visible"]]
        smoke = [any(a <= index <= b for a, b in hidden) for index in range(len(sequence))]
        video = output / "demo.mp4"
        visualize.write_video(
            video,
            watched("drawing", sequence),
            track.boxes,
            track.scores,
            fps=sequence.fps or 30.0,
            ground_truth=truth,
            notes=["hidden by smoke from the visible camera" if dense else "" for dense in smoke],
        )
    plot = output / "demo.png"
    overlap = boxes.iou(boxes.xywh_to_xyxy(track.boxes), boxes.xywh_to_xyxy(truth))
    overlap[np.isnan(truth[:, 0])] = np.nan
    visualize.plot_track(plot, track.scores, ious=overlap, hidden=hidden, title="A person walks into the smoke")
    return Demo(video, track.save(output, "demo"), plot)


def targets() -> list[str]:
    """The people of the clip whose tracks are known."""
    return list(_about())


def facts(target: str) -> dict[str, Any]:
    """What is known of a target of the clip: where a tracker best starts, when smoke hides it, and so on."""
    return _about()[target]


def ground_truth(target: str, frames: int) -> npt.NDArray[np.float64]:
    """The true boxes of a target of the clip, (frames, 4); NaN where it is hidden from both cameras."""
    annotated = read_track(CLIP / "tracks" / f"{target}.txt", frames=frames, partly_occluded=True)
    truth = np.full((frames, 4), np.nan)
    truth[annotated.frames] = annotated.boxes
    return truth


def _about() -> dict[str, dict[str, Any]]:
    targets: dict[str, dict[str, Any]] = json.loads((CLIP / "tracks.json").read_text(encoding="utf-8"))["targets"]
    return targets
