"""Rendered data sets as a tracker gets them: the right frames in the right order, with the right box."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.data.datasets import LAYOUTS, count, find_sequences, first_box
from duotrack.data.recordings import open_sequence
from duotrack.sequence import Sequence, SequenceError

from ..layouts import write_dataset


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_target_is_where_the_boxes_say(name: str, tmp_path: Path) -> None:
    boxes = write_dataset(tmp_path, name, sequences=2, frames=12)
    for key, folder in find_sequences(tmp_path, LAYOUTS[name]).items():
        with open_sequence(folder, LAYOUTS[name]) as sequence:
            assert (sequence.name, len(sequence), sequence.size) == (key, 12, (96, 72))
            for frame, (x, y, w, h) in zip(sequence, boxes[key], strict=True):
                warm = frame.infrared[y : y + h, x + 1 : x + 1 + w].astype(int)
                assert abs(warm - 220).max() < 45  # JPEG rings at edges
                assert np.median(frame.infrared) < 100
                inside = frame.visible[y + 4 : y + h - 4, x + 4 : x + w - 4].astype(int)
                before = sequence[0].visible[boxes[key][0, 1] + 4 :, boxes[key][0, 0] + 4 :][: h - 8, : w - 8]
                assert abs(inside - before).mean() < 25
        np.testing.assert_array_equal(first_box(folder, LAYOUTS[name]), boxes[key][0])


def test_superfluous_images_are_cut_and_missing_ones_counted(tmp_path: Path) -> None:
    layout = LAYOUTS["rgbt234"]
    write_dataset(tmp_path, "rgbt234", sequences=1, frames=6)
    folder = tmp_path / "car"
    (folder / "visible" / "00007v.jpg").write_bytes(b"never read")
    assert len(open_sequence(folder, layout)) == 6
    (folder / "infrared" / "00007i.jpg").write_bytes(b"never read")
    assert len(list(open_sequence(folder, layout))) == 6
    for number in (5, 6, 7):
        (folder / "infrared" / f"{number:05d}i.jpg").unlink()
    assert len(open_sequence(folder, layout)) == 4
    assert count(folder, layout).lacking == 2


def test_sparse_rows_do_not_shorten_a_sequence(tmp_path: Path) -> None:
    write_dataset(tmp_path, "vtuav", sequences=1, frames=25)
    (folder,) = find_sequences(tmp_path, LAYOUTS["vtuav"]).values()
    assert count(folder, LAYOUTS["vtuav"]).rows == (3, 3)
    assert len(open_sequence(folder, LAYOUTS["vtuav"])) == 25


def test_modalities_of_different_size_are_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, "lasher", sequences=1)
    folder = tmp_path / "TestingSet" / "testingset" / "car"
    for file in (folder / "infrared").iterdir():
        assert cv2.imwrite(str(file), np.zeros((36, 48, 3), np.uint8))
    with pytest.raises(SequenceError, match=r"96 x 72 .*car/visible.* 48 x 36 .*car/infrared"):
        open_sequence(folder, LAYOUTS["lasher"])


def test_lists_of_images_are_read_as_folders_are(tmp_path: Path) -> None:
    write_dataset(tmp_path, "rgbt210", sequences=1, frames=12)
    visible, infrared = tmp_path / "car" / "visible", tmp_path / "car" / "infrared"
    files = [visible / f"v{k}.jpg" for k in range(12)], sorted(infrared.iterdir())
    for one, other in zip(Sequence.from_images(*files, "car"), Sequence.open(visible, infrared), strict=True):
        np.testing.assert_array_equal(one.visible, other.visible)
        np.testing.assert_array_equal(one.infrared, other.infrared)
    for unequal in ((files[0][:11], files[1]), ([], [])):
        with pytest.raises(SequenceError, match=r"car: .* expected as many of each"):
            Sequence.from_images(*unequal, "car")
