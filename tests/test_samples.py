"""Crops along tracks: the right frame, around the right box."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack import pretrained, samples
from duotrack.crops import CropSettings
from duotrack.model.config import preset
from duotrack.pretrained import WeightsInfo
from duotrack.sequence import Sequence
from duotrack.tracking import Tracker

WEIGHTS = WeightsInfo(preset("debug"), CropSettings())
FRAMES = 9


@pytest.fixture
def clip(tmp_path: Path) -> Sequence:
    """Frame i is grey 10 i in one image and 100 + 10 i in the other, but for a white square where the box is."""
    for name, ground in (("visible", 0), ("infrared", 100)):
        (tmp_path / name).mkdir()
        for i in range(FRAMES):
            image = np.full((100, 200, 3), ground + 10 * i, np.uint8)
            image[40:60, 30 + 10 * i : 50 + 10 * i] = 255
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), image)
    return Sequence.open(tmp_path / "visible", tmp_path / "infrared")


def boxes() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([[30.0 + 10 * i, 40, 20, 20] for i in range(FRAMES)])


def test_a_search_region_lies_around_the_box_of_the_frame_before(clip: Sequence) -> None:
    found = samples.along(clip, boxes(), WEIGHTS)
    model = WEIGHTS.model
    assert len(found) == FRAMES - 1
    assert found.template.shape == (2, 8, model.template_size, model.template_size, 3)
    assert found.search.shape == (2, 8, model.search_size, model.search_size, 3)
    scale = model.search_size / 80  # four times the box
    for i in range(1, FRAMES):
        for modality, ground in enumerate((0, 100)):
            crop = found.search[modality, i - 1, ..., 0]
            assert crop[2, model.search_size // 2] == ground + 10 * i  # the frame itself
            white = np.flatnonzero(crop[model.search_size // 2] == 255)  # ten pixels to the right of the middle
            assert white.mean() / scale == pytest.approx(40 + 10, abs=1)
            shown = found.template[modality, i - 1, ..., 0]
            assert (shown[2, 2], shown[len(shown) // 2, len(shown) // 2]) == (ground, 255)  # always of the first frame


def test_frames_after_which_or_in_which_the_target_is_hidden_are_left_out(clip: Sequence) -> None:
    track = boxes()
    track[3] = np.nan
    found = samples.along(clip, track, WEIGHTS)
    assert found.search[0, :, 2, 60, 0].tolist() == [10, 20, 50, 60, 70, 80]


def test_as_many_as_wanted_from_the_whole_track(clip: Sequence) -> None:
    found = samples.along(clip, boxes(), WEIGHTS, count=3)
    assert found.search[0, :, 2, 60, 0].tolist() == [10, 50, 80]
    assert found[1::2].search[0, :, 2, 60, 0].tolist() == [50]


def test_a_track_of_one_frame(clip: Sequence) -> None:
    track = boxes()
    track[1:] = np.nan
    with pytest.raises(ValueError, match="two frames or more"):
        samples.along(clip, track, WEIGHTS)


def test_a_clip_is_tracked_by_the_weights_themselves(clip: Sequence, tmp_path: Path) -> None:
    folder = pretrained.locate("duotrack-tiny")
    found = samples.of_clip(folder, tmp_path / "visible", tmp_path / "infrared", boxes()[0])
    track = np.array([estimate.box for estimate in Tracker.from_pretrained(folder).run(clip, boxes()[0])])
    expected = samples.along(clip, track, pretrained.read_config(folder))
    np.testing.assert_array_equal(found.search, expected.search)


def test_the_demo_clip_gives_crops_of_all_its_targets() -> None:
    found = samples.of_demo_clip(WEIGHTS)
    assert 30 <= len(found) <= samples.COUNT
    templates = {found.template[0, i].tobytes() for i in range(len(found))}
    assert len(templates) == 5
