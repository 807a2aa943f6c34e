"""Validation: overlaps on pairs and success of tracking, against values worked out by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duotrack.data.augment import Pair
from duotrack.data.folders import ImageClip
from duotrack.data.sampling import PairSource
from duotrack.model import CoupledNetwork
from duotrack.model.network import Output, StudentNetwork
from duotrack.sequence import Frame
from duotrack.training import validation
from duotrack.training.config import TrainingConfig
from duotrack.training.validation import open_clips, score_pairs, score_tracking

from ..layouts import write_dataset
from .tiny import NETWORK, recipe


def test_overlap_on_pairs_by_hand(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One box is found, half of another; where the target is absent there is nothing to find."""
    config = recipe(data, Path(), validation_pairs=3)
    truth = [(0.25, 0.25, 0.5, 0.5), (0.5, 0.25, 0.5, 0.5), (0.0, 0.0, 0.1, 0.1)]

    def pair(self: PairSource, index: int) -> Pair:
        crops = [np.zeros((2, side, side, 3), np.uint8) for side in (64, 128)]
        box = np.array(truth[index], np.float32)
        return Pair(crops[0], crops[1], box, box, np.ones(2, np.float32), present=index < 2)

    def answer(self: StudentNetwork, template: torch.Tensor, *rest: Any) -> Output:
        boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5]]).expand(template.shape[1], -1)
        return Output(torch.empty(0), torch.empty(0), torch.empty(0), boxes)

    monkeypatch.setattr(PairSource, "pair", pair)
    monkeypatch.setattr(StudentNetwork, "forward", answer)
    source = PairSource(config.data, NETWORK, config.crops, seed=0)
    found = score_pairs(CoupledNetwork(NETWORK), source, config)
    assert found == {"validation.iou": pytest.approx((1 + 1 / 3) / 2), "validation.above_half": 0.5}


class Scripted:
    """A tracker whose boxes were written down beforehand."""

    answers: tuple[Any, ...] = ()

    def __init__(self, session: object, **settings: object) -> None:
        self.left = list(self.answers)

    def initialize(self, frame: Frame, box: object) -> None:
        pass

    def update(self, frame: Frame) -> Any:
        class Estimate:
            box = np.array(self.left.pop(0))

        return Estimate


@pytest.fixture
def lasher(tmp_path: Path, data: Path) -> TrainingConfig:
    """A recipe that tracks two sequences of a data set."""
    write_dataset(tmp_path / "LasHeR", "lasher", sequences=3, frames=4)
    config = recipe(data, tmp_path, validation_layout="lasher", validation_clips=("LasHeR/*/*/[cw]*",))
    return replace(config, data=replace(config.data, root=str(tmp_path), cache=str(tmp_path / "cache")))


def test_success_by_hand(lasher: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlaps of 1 (the given first box), 1, 1/2 and 0 are above 20, 20, 10 and 0 of the 21 thresholds."""
    (clip,) = open_clips(lasher)
    assert clip.name == "car"
    _, second, (x, y, w, h), _ = clip.tracks[0].boxes.tolist()
    monkeypatch.setattr(Scripted, "answers", (second, (x, y, w / 2, h), (0.0, 0.0, 1.0, 1.0)))
    monkeypatch.setattr(validation, "Tracker", Scripted)
    found = score_tracking(CoupledNetwork(NETWORK), [clip], lasher)
    assert found["tracking.auc"] == pytest.approx((20 + 20 + 10 + 0) / (4 * 21))
    short = replace(lasher, validation_frames=2)
    assert score_tracking(CoupledNetwork(NETWORK), [clip], short)["tracking.auc"] == pytest.approx(20 / 21)


def test_a_broken_image_ends_no_run(lasher: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box stays where it was."""
    (clip,) = open_clips(lasher)
    assert isinstance(clip, ImageClip) and clip.infrared is not None
    clip.infrared[2].write_text("no image")
    _, second, _, fourth = clip.tracks[0].boxes.tolist()
    monkeypatch.setattr(Scripted, "answers", (second, fourth))
    monkeypatch.setattr(validation, "Tracker", Scripted)
    assert score_tracking(CoupledNetwork(NETWORK), [clip], lasher)["tracking.auc"] > 0.75 * 20 / 21


def test_a_network_tracks_the_sequences_of_a_data_set(lasher: TrainingConfig) -> None:
    clips = open_clips(replace(lasher, validation_clips=("LasHeR",)))
    assert sorted(clip.name for clip in clips) == ["boy'sbag", "car", "redcar"]
    assert 0 < score_tracking(CoupledNetwork(NETWORK), clips, lasher)["tracking.auc"] < 1


def test_clips_that_are_not_there(lasher: TrainingConfig) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing_\*: nothing there; check data.root and validation_clips"):
        open_clips(replace(lasher, validation_clips=("nothing_*",)))
    with pytest.raises(ValueError, match=r"validation_layout must be null or one of .*lasher.*, not 'LasHeR'"):
        replace(lasher, validation_layout="LasHeR")
