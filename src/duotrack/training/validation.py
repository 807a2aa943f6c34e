"""How well a network in training does: on pairs, and by tracking.

The overlap on pairs watches learning; it does not tell how well a network tracks. A network with an overlap of 0.59 on
jittered pairs has been seen to lose every target. So clips can be named that are tracked as well.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from duotrack import boxes
from duotrack.data.clips import Clip, Track
from duotrack.data.folders import BrokenImageError, ImageClip, open_recordings
from duotrack.model.network import StudentNetwork
from duotrack.progress import watched
from duotrack.sequence import Frame
from duotrack.sessions.torch import TorchSession
from duotrack.tracking import Tracker
from duotrack.training.batches import P, Pairs, load
from duotrack.training.config import TrainingConfig

THRESHOLDS = np.linspace(0, 1, 21)
"""Of the overlap, in the success curve."""


@torch.no_grad()
def score_pairs(network: StudentNetwork, source: Pairs[P], config: TrainingConfig) -> dict[str, float]:
    """Mean overlap of the students' boxes with the truth on pairs that hold the target, and the share above 0.5."""
    network.eval()
    device = next(network.parameters()).device
    size = config.micro_batch or config.batch_size
    numbers = range(config.validation_pairs)
    overlaps = []
    with closing(load(source, config, [numbers[first : first + size] for first in numbers[::size]])) as batches:
        for batch in batches:
            there = batch.to(device)
            output = StudentNetwork.forward(network, *there.inputs(), there.template_box)
            predicted = boxes.cxcywh_to_xyxy(output.box_cxcywh.cpu())
            overlap = boxes.iou(predicted, boxes.xywh_to_xyxy(batch.target.box))
            overlaps.append(overlap[batch.target.present])
    overlap = torch.cat(overlaps)
    return {"validation.iou": float(overlap.mean()), "validation.above_half": float((overlap > 0.5).float().mean())}


def open_clips(config: TrainingConfig) -> list[Clip | ImageClip]:
    """The clips that the recipe names for validation by tracking, and the sequences of data sets.

    Raises:
        FileNotFoundError: if a pattern matches nothing.
        ValueError: if a clip has no target, or cannot be used.
    """
    root, cache, layout = Path(config.data.root), Path(config.data.cache), config.validation_layout
    clips: list[Clip | ImageClip] = []
    for pattern in config.validation_clips:
        folders = sorted(root.glob(pattern))
        if not folders:
            raise FileNotFoundError(f"{root / pattern}: nothing there; check data.root and validation_clips")
        clips += open_recordings(folders, layout, cache)
    for clip in clips:
        if not any(len(track.frames) > 1 for track in clip.tracks):
            raise ValueError(f"{clip.name}: no target to track; take the clip out of validation_clips")
    return clips


def score_tracking(
    network: StudentNetwork, clips: Sequence[Clip | ImageClip], config: TrainingConfig
) -> dict[str, float]:
    """Success AUC of tracking each target from its first box, without reset: the mean over all targets.

    AUC is the mean, over overlap thresholds 0, 0.05, ..., 1, of the share of annotated frames above. It is an
    indication, by no benchmark's rules.
    """
    network.eval()
    tracker = Tracker(_LiveSession(network), **asdict(config.crops))
    targets = [(clip, track) for clip in clips for track in clip.tracks if len(track.frames) > 1]
    success = [_success(tracker, clip, track, config.validation_frames) for clip, track in watched("tracking", targets)]
    return {"tracking.auc": float(np.mean(success))}


def _success(tracker: Tracker, clip: Clip | ImageClip, track: Track, length: int) -> float:
    first = int(track.frames[0])
    last = min(int(track.frames[-1]), first + length - 1)
    tracker.initialize(Frame(*clip.frame(first)), track.boxes[0])
    found = [track.boxes[0]]
    for index in range(first + 1, last + 1):
        try:
            found.append(tracker.update(Frame(*clip.frame(index))).box)
        except BrokenImageError:  # no reason to end a run of days: the target counts as standing still
            found.append(found[-1])
    rows = track.frames <= last
    predicted = np.array(found)[track.frames[rows] - first]
    overlap = boxes.iou(boxes.xywh_to_xyxy(predicted), boxes.xywh_to_xyxy(track.boxes[rows]))
    return float((overlap[:, None] > THRESHOLDS).mean())


class _LiveSession(TorchSession):
    """A session on the network in training, as it is now."""

    def __init__(self, network: StudentNetwork) -> None:
        self._take(network, "fp32", torch.get_num_threads())
