"""The demo's truth; the demo itself runs in ``test_cli.py``."""

import numpy as np
import pytest

from duotrack import boxes
from duotrack.demo import CLIP, TARGET, facts, ground_truth
from duotrack.sequence import Sequence

FRAMES = 270
TARGETS = sorted(path.stem for path in (CLIP / "tracks").glob("*.txt"))


@pytest.mark.parametrize("target", TARGETS)
def test_the_truth_is_what_the_track_file_says(target: str) -> None:
    rows = np.loadtxt(CLIP / "tracks" / f"{target}.txt", delimiter=",")
    seen = rows[rows[:, 5] < 2]  # flag 2: hidden from both cameras
    truth = ground_truth(target, FRAMES)
    assert truth.shape == (FRAMES, 4)
    np.testing.assert_array_equal(truth[seen[:, 0].astype(int)], seen[:, 1:5])
    unseen = sorted({*range(FRAMES)} - {*seen[:, 0].astype(int)})
    assert np.isnan(truth[unseen]).all()
    about = facts(target)
    assert (len(rows), len(seen)) == (about["rows"], about["visible_rows"])


@pytest.mark.parametrize("target", TARGETS)
def test_a_tracker_starts_where_the_target_is_seen(target: str) -> None:
    assert np.isfinite(ground_truth(target, FRAMES)[facts(target)["suggested_init"]]).all()


def test_the_demo_s_target_walks_into_the_smoke() -> None:
    """It starts in plain view, and is still in the infrared image while the visible one shows none of it."""
    ((start, end),) = facts(TARGET)["hidden_in_visible"]
    assert facts(TARGET)["suggested_init"] < start < end < FRAMES
    truth = ground_truth(TARGET, FRAMES)
    assert np.isfinite(truth[start : end + 1]).all(axis=1).sum() > 100


def test_the_clip_is_whole_and_the_boxes_are_in_it() -> None:
    with Sequence.open(CLIP / "visible.mp4", CLIP / "infrared.mp4") as clip:
        assert (len(clip), clip.size) == (FRAMES, (320, 240))
    image = np.array([0.0, 0.0, 320.0, 240.0])
    for target in TARGETS:
        truth = ground_truth(target, FRAMES)
        truth = truth[np.isfinite(truth[:, 0])]
        assert (boxes.iou(boxes.xywh_to_xyxy(truth), np.broadcast_to(image, truth.shape)) > 0).all()


def test_the_clip_comes_with_its_licence() -> None:
    assert "M3SVD" in (CLIP / "LICENSE-M3SVD.txt").read_text() or "M3SVD" in (CLIP / "meta.json").read_text()


def test_an_unknown_target() -> None:
    with pytest.raises(FileNotFoundError):
        ground_truth("nobody", FRAMES)
