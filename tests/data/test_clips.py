"""Clips made here by hand: what is read, what is refused, and that frames are decoded once."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.data.clips import open_clip, read_track

TRACK = "0,1,2,3,4,0\n1,1.5,2,3,4,1\n2,0,0,0,0,2\n3,5,6,7,8.5,0\n"


def make_clip(folder: Path, *, frames: int = 4, infrared: bool = True) -> Path:
    for modality in ("visible", "infrared")[: 1 + infrared]:
        (folder / modality).mkdir(parents=True)
        for index in range(frames):
            picture = np.full((6, 8, 3), 10 * index, np.uint8)
            picture[..., 2] += 3 if modality == "visible" else 0  # red, in the BGR of OpenCV
            cv2.imwrite(str(folder / modality / f"{index:06d}.png"), picture)
    (folder / "tracks").mkdir()
    (folder / "tracks" / "A.txt").write_text(TRACK)
    return folder


def test_reads_frames_and_tracks(tmp_path: Path) -> None:
    clip = open_clip(make_clip(tmp_path / "clip"), tmp_path / "cache")
    assert (clip.length, clip.size) == (4, (8, 6))
    visible, infrared = clip.frame(2)
    np.testing.assert_array_equal(visible[0, 0], (23, 20, 20))
    np.testing.assert_array_equal(infrared[0, 0], (20, 20, 20))
    (track,) = clip.tracks
    assert track.name == "A"
    np.testing.assert_array_equal(track.frames, (0, 3))
    np.testing.assert_array_equal(track.boxes, ((1, 2, 3, 4), (5, 6, 7, 8.5)))


def test_partly_occluded_rows_are_a_choice(tmp_path: Path) -> None:
    clip = open_clip(make_clip(tmp_path / "clip"), tmp_path / "cache", partly_occluded=True)
    np.testing.assert_array_equal(clip.tracks[0].frames, (0, 1, 3))


def test_a_missing_modality_is_black(tmp_path: Path) -> None:
    clip = open_clip(make_clip(tmp_path / "clip", infrared=False), tmp_path / "cache")
    assert clip.infrared is None
    assert not clip.frame(3)[1].any()


def test_frames_are_decoded_once_and_anew_when_changed(tmp_path: Path) -> None:
    folder, cache = make_clip(tmp_path / "clip"), tmp_path / "cache"
    open_clip(folder, cache)
    first = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(first) == 2
    open_clip(folder, cache)
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == first
    cv2.imwrite(str(folder / "visible" / "000001.png"), np.full((6, 8, 3), 99, np.uint8))
    assert open_clip(folder, cache).frame(1)[0][0, 0, 0] == 99


def test_a_real_video_has_all_its_frames(shared: Path, tmp_path: Path) -> None:
    clip = open_clip(shared / "data" / "thermal_only" / "uav_junction_day", tmp_path)
    assert (clip.length, clip.size) == (10, (640, 512))
    assert clip.visible is None


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("0,1,2,3", "expected frame,x,y,w,h,flag"),
        ("0,1,2,3,4,7", "flag 7"),
        ("9,1,2,3,4,0", "below 5"),
        ("0,1,2,0,4,0", "area"),
        ("0,nan,2,3,4,0", "area"),
        ("1,1,2,3,4,0\n1,1,2,3,4,0", ":2: frame 1 must rise"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, row: str, complaint: str) -> None:
    file = tmp_path / "A.txt"
    file.write_text(row)
    with pytest.raises(ValueError, match=complaint) as error:
        read_track(file, frames=5)
    assert str(file) in str(error.value)


def test_unusable_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"visible\.mp4"):
        open_clip(tmp_path / "nowhere", tmp_path / "cache")
    folder = make_clip(tmp_path / "clip")
    (folder / "infrared" / "000003.png").unlink()
    with pytest.raises(ValueError, match="same number of frames"):
        open_clip(folder, tmp_path / "cache")
    (folder / "visible" / "000001.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"000001\.png"):
        open_clip(folder, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.partial"))
