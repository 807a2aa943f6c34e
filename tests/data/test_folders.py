"""Data sets to train on, written in every layout; broken ones; and what is kept of them between runs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from duotrack import Sequence
from duotrack.data import folders
from duotrack.data.datasets import LAYOUTS, find_sequences
from duotrack.data.folders import BrokenDatasetError, BrokenImageError, ImageClip, Modality, open_dataset

from ..layouts import OTHERS, Boxes, write_dataset, write_other

FRAMES = 21


def opened(root: Path, layout: str, modality: Modality = "visible") -> dict[str, ImageClip]:
    clips, problems = open_dataset(root, layout, root.parent / "cache", modality=modality)
    assert not problems
    return {clip.name: clip for clip in clips}


def image(file: Path) -> npt.NDArray[np.uint8]:
    loaded = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    assert loaded is not None
    return loaded.astype(np.uint8)


def assert_warm(clip: ImageClip, boxes: Boxes, frame: int) -> None:
    """The infrared target is where the box says, one pixel further right, and nowhere else."""
    x, y, w, h = boxes[frame]
    infrared = clip.frame(frame)[1]
    assert infrared[y + 2 : y + h - 2, x + 3 : x + w - 1].min() > 200
    infrared[max(y - 2, 0) : y + h + 2, max(x - 1, 0) : x + w + 3] = 0
    assert infrared.max() < 130


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_rgbt_data_set_is_read(name: str, tmp_path: Path) -> None:
    written = write_dataset(tmp_path / "data", name, sequences=3, frames=FRAMES)
    clips = opened(tmp_path / "data", name)
    assert clips.keys() == written.keys()
    step = LAYOUTS[name].step
    for key, clip in clips.items():
        (track,) = clip.tracks
        np.testing.assert_array_equal(track.frames, np.arange(0, FRAMES, step))
        np.testing.assert_array_equal(track.boxes, written[key][::step])
        assert clip.length == FRAMES
        for frame in (0, 7, FRAMES - 1):
            assert_warm(clip, written[key], frame)


@pytest.mark.parametrize("modality", ["visible", "infrared"])
@pytest.mark.parametrize("name", ["got10k", "lasot", "otb"])
def test_sets_of_one_modality_are_read(name: str, modality: Modality, tmp_path: Path) -> None:
    written = write_other(tmp_path / "data", name)
    clips = opened(tmp_path / "data", name, modality)
    assert clips.keys() == written.keys()
    path = tmp_path / "data" / OTHERS[name][0][0].format("car", 3)
    expected = image(path)
    there, lacking = clips["car"].frame(2) if modality == "visible" else clips["car"].frame(2)[::-1]
    np.testing.assert_array_equal(there, expected)
    assert lacking.shape == expected.shape
    assert not lacking.any()
    np.testing.assert_array_equal(clips["car"].tracks[0].boxes, written["car"])
    assert (clips["car"].visible is None, clips["car"].infrared is None) == (
        modality != "visible",
        modality == "visible",
    )


@pytest.mark.parametrize(
    ("name", "file", "absent"),
    [
        ("got10k", "train/car/absence.label", "1"),
        ("got10k", "train/car/cover.label", "0"),
        ("lasot", "bag/car/full_occlusion.txt", "1"),
        ("lasot", "bag/car/out_of_view.txt", "1"),
    ],
)
def test_flags_say_where_the_target_is_not_to_be_seen(name: str, file: str, absent: str, tmp_path: Path) -> None:
    write_other(tmp_path / "data", name)
    path = tmp_path / "data" / file
    separator = "," if name == "lasot" else "\n"
    values = path.read_text().strip().split(separator)
    values[5] = values[17] = absent
    path.write_text(separator.join(values))
    (track,) = opened(tmp_path / "data", name)["car"].tracks
    assert sorted(set(range(24)) - set(track.frames.tolist())) == [5, 17]


@pytest.mark.parametrize("nothing", ["0,0,0,0", "nan,nan,nan,nan", "5,5,0,20", "5,5,20,-3"])
def test_a_box_without_area_is_a_frame_without_target(nothing: str, tmp_path: Path) -> None:
    written = write_other(tmp_path / "data", "folders", sequences=1)["car"]
    file = tmp_path / "data" / "car" / "boxes.txt"
    lines = file.read_text().splitlines()
    lines[3] = nothing
    file.write_text("\n".join(lines))
    clip = opened(tmp_path / "data", "folders")["car"]
    assert 3 not in clip.tracks[0].frames
    np.testing.assert_array_equal(clip.tracks[0].boxes[3], written[4])
    assert clip.length == 24


def test_folders_of_your_own_may_hold_one_modality_or_be_a_single_sequence(tmp_path: Path) -> None:
    written = write_other(tmp_path / "data", "folders")
    both = opened(tmp_path / "data", "folders")
    assert_warm(both["car"], written["car"], 9)  # the tenth image is 10.png: numbers count, not letters
    assert list(opened(tmp_path / "data" / "car", "folders")) == ["car"]
    visible, infrared = both["car"].frame(4)[0], both["redcar"].frame(4)[1]
    shutil.rmtree(tmp_path / "data" / "car" / "infrared")
    shutil.rmtree(tmp_path / "data" / "redcar" / "visible")
    single = opened(tmp_path / "data", "folders")
    np.testing.assert_array_equal(single["car"].frame(4)[0], visible)
    np.testing.assert_array_equal(single["redcar"].frame(4)[1], infrared)
    assert not single["car"].frame(4)[1].any()
    assert not single["redcar"].frame(4)[0].any()


def test_images_of_16_bits_are_what_the_tracker_sees(tmp_path: Path) -> None:
    write_other(tmp_path / "data", "folders", sequences=1)
    folder = tmp_path / "data" / "car"
    for file in (folder / "infrared").iterdir():
        counts = image(file)[..., 0].astype(np.uint16) * 9 + 7000 + int(file.stem)
        assert cv2.imwrite(str(file), counts)
    clip = opened(tmp_path / "data", "folders")["car"]
    tracked = Sequence.open(folder / "visible", folder / "infrared")
    for frame in (0, 13):
        np.testing.assert_array_equal(clip.frame(frame)[0], tracked[frame].visible)
        np.testing.assert_array_equal(clip.frame(frame)[1], tracked[frame].infrared)


def test_otb_has_two_targets_in_a_sequence_empty_files_and_a_late_start(tmp_path: Path) -> None:
    written = write_other(tmp_path, "otb", frames=31)
    (tmp_path / "car" / "groundtruth_rect.txt").rename(tmp_path / "car" / "groundtruth_rect.1.txt")
    (tmp_path / "car" / "groundtruth_rect.2.txt").write_text("1 2 3 4\n" * 31)
    (tmp_path / "redcar" / "groundtruth_rect.1.txt").touch()
    clips = opened(tmp_path, "otb")
    assert [track.boxes[0].tolist() for track in clips["car"].tracks] == [written["car"][0].tolist(), [1, 2, 3, 4]]
    assert len(clips["redcar"].tracks) == 1
    david = tmp_path / "late" / "David"
    (david / "img").mkdir(parents=True)
    for number in range(1, 331):
        (david / "img" / f"{number:04d}.jpg").touch()
    (david / "groundtruth_rect.txt").write_text("1\t2\t3\t4\n" * 25)
    clip = opened(tmp_path / "late", "otb")["David"]
    assert clip.visible is not None
    assert clip.visible[int(clip.tracks[0].frames[0])].name == "0300.jpg"
    assert clip.length == 324


# --- what is broken ------------------------------------------------------------------------------------------------


def remove_images(*numbers: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for number in numbers:
            (folder / "infrared" / f"i{number:03d}.jpg").unlink()

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no images": (lambda folder: shutil.rmtree(folder / "infrared"), r"infrared is missing: expected the folder"),
    "empty folder": (remove_images(*range(12)), r"infrared holds no images"),
    "no boxes": (lambda folder: (folder / "init.txt").unlink(), r"car holds no init\.txt: expected a box a line"),
    "empty boxes": (lambda folder: (folder / "init.txt").write_text(""), r"init\.txt is empty"),
    "bad boxes": (lambda folder: (folder / "init.txt").write_text("1,2,3,4\n1,2\n"), r"init\.txt, line 2: '1,2'"),
    "wild boxes": (
        lambda folder: (folder / "init.txt").write_text("1,2,3,4\n" * 3 + "1,2,3e9,4\n"),
        r"init\.txt: box 4 is 1, 2, 3e\+09, 4: expected pixels",
    ),
    "a hole": (
        remove_images(5),
        r"12 and 11 images for 12 annotated frames, and an image is missing after .*i004\.jpg",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_broken_sequences_are_left_out_and_named(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "data", "lasher", sequences=5)
    car = find_sequences(tmp_path / "data", LAYOUTS["lasher"])["car"]
    damage(car)
    clips, (problem,) = open_dataset(tmp_path / "data", "lasher", tmp_path / "cache", tolerance=0.2)
    assert sorted(clip.name for clip in clips) == ["boy'sbag", "redcar", "walk10", "walk2"]
    assert str(car) in problem
    with pytest.raises(BrokenDatasetError, match=rf"1 of 5 sequences of LasHeR cannot be used: .*{message}"):
        open_dataset(tmp_path / "data", "lasher", tmp_path / "cache", tolerance=0.19)


@pytest.mark.parametrize("name", folders.FOLDER_LAYOUTS)
def test_every_layout_names_what_is_broken(name: str, tmp_path: Path) -> None:
    """Boxes that are no boxes, then no images at all; the other sequences are read."""
    write = write_dataset if name in LAYOUTS else write_other
    write(tmp_path / "data", name, 5)
    layout = folders.FOLDER_LAYOUTS[name]
    (boxes,) = (file for file in tmp_path.rglob(layout.boxes) if file.parent.name == "car")
    boxes.write_text("1,2,3,4\n1,2,x,4\n")
    clips, (problem,) = open_dataset(tmp_path / "data", name, tmp_path / "cache")
    assert "car" not in [clip.name for clip in clips] and len(clips) == 4
    assert f"{boxes}, line 2: '1,2,x,4'" in problem
    images = boxes.parent / (layout.visible or "visible")
    for file in images.iterdir():
        if file.suffix in (".jpg", ".png"):
            file.unlink()
    _, (problem,) = open_dataset(tmp_path / "data", name, tmp_path / "cache")
    assert problem == f"{images} holds no images"


def test_images_that_lack_at_the_end_only_shorten_a_sequence(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", "lasher", sequences=1)
    (car,) = find_sequences(tmp_path / "data", LAYOUTS["lasher"]).values()
    remove_images(10, 11)(car)
    clip = opened(tmp_path / "data", "lasher")["car"]
    assert clip.length == 10
    assert clip.tracks[0].frames.tolist() == list(range(10))


@pytest.mark.parametrize("name", ["got10k", "lasot", "folders"])
def test_as_many_boxes_as_images_are_expected_where_the_layout_says_so(name: str, tmp_path: Path) -> None:
    write_other(tmp_path, name, sequences=1)
    (file,) = tmp_path.rglob(OTHERS[name][1])
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))
    with pytest.raises(
        BrokenDatasetError, match=r"24.* images for 23 annotated frames: expected a line in .* for each"
    ):
        open_dataset(tmp_path, name, tmp_path / "cache")


def test_flags_have_to_fit(tmp_path: Path) -> None:
    write_other(tmp_path, "lasot", sequences=1)
    (tmp_path / "bag" / "car" / "out_of_view.txt").write_text("0,0,yes")
    with pytest.raises(BrokenDatasetError, match=r"out_of_view\.txt: expected 24 whole numbers.*found 3"):
        open_dataset(tmp_path, "lasot", tmp_path / "cache")


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder: .* sequences of GOT-10k"):
        open_dataset(tmp_path / "nowhere", "got10k", tmp_path)
    with pytest.raises(ValueError, match=r"holds no sequence of your folders: .* visible/ or infrared/ and boxes\.txt"):
        open_dataset(tmp_path, "folders", tmp_path)


def damage_image(file: Path, how: str) -> None:
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif how == "text":
        file.write_text("not found")
    else:
        assert cv2.imwrite(str(file), np.zeros((50, 60, 3), np.uint8))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "cannot be read: No such file"),
        ("truncated", "is truncated"),
        ("text", "cannot be decoded"),
        ("small", "differ in size: 96 x 72 and 60 x 50"),
    ],
)
def test_a_broken_image_is_an_error_with_its_path(how: str, message: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", "lasher", sequences=1)
    clip = opened(tmp_path / "data", "lasher")["car"]
    (folder,) = find_sequences(tmp_path / "data", LAYOUTS["lasher"]).values()
    damage_image(folder / "infrared" / "i003.jpg", how)
    with pytest.raises(BrokenImageError, match=rf"i003\.jpg.*{message}") as error:
        clip.frame(3)
    assert error.value.file == folder / "infrared" / "i003.jpg"
    clip.frame(4)


# --- lists, and what is kept ---------------------------------------------------------------------------------------


def test_lists_say_which_sequences_are_taken(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    write_dataset(data, "lasher", sequences=4)
    chosen, others = tmp_path / "trainingsetList.txt", tmp_path / "testingsetList.txt"
    chosen.write_text("walk2\r\ncar\r\n\r\n")
    others.write_text("\ufeffcar\nsomewhere\n")

    def names(only: Path | None, without: Path | None) -> list[str]:
        return [clip.name for clip in open_dataset(data, "lasher", cache, only=only, without=without)[0]]

    assert names(chosen, None) == ["walk2", "car"]
    assert names(None, others) == ["boy'sbag", "redcar", "walk2"]
    assert names(chosen, others) == ["walk2"]
    with pytest.raises(ValueError, match=r"no sequence of LasHeR is left: see .*trainingsetList\.txt"):
        names(chosen, chosen)
    with pytest.raises(BrokenDatasetError, match=r"1 of 2 sequences .* somewhere: .*testingsetList\.txt names it"):
        names(others, None)
    with pytest.raises(
        FileNotFoundError, match=r"none\.txt is missing: expected a text file with the name of a sequence"
    ):
        names(tmp_path / "none.txt", None)


def test_what_was_read_is_kept_until_the_files_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    write_dataset(data / "rgbt", "vtuav", sequences=4)
    shutil.rmtree(data / "rgbt" / "test_ST_001" / "car" / "ir")
    write_other(data / "mine", "folders")
    shutil.rmtree(data / "mine" / "car" / "visible")
    read: list[str] = []
    read_sequence = folders.read_sequence

    def counted(folder: Path, layout: folders.FolderLayout) -> ImageClip:
        read.append(folder.name)
        return read_sequence(folder, layout)

    monkeypatch.setattr(folders, "read_sequence", counted)

    def everything() -> list[object]:
        found: list[object] = []
        for place, layout in (("rgbt", "vtuav"), ("mine", "folders")):
            clips, problems = open_dataset(data / place, layout, cache, tolerance=0.5)
            found.append(problems)
            for clip in clips:
                tracks = [(track.name, track.frames.tolist(), track.boxes.tolist()) for track in clip.tracks]
                found += [clip.name, clip.length, tracks, [image.tolist() for image in clip.frame(11)]]
        return found

    first = everything()
    assert len(read) == 6
    assert everything() == first
    assert len(read) == 6
    boxes = data / "mine" / "car" / "boxes.txt"
    boxes.write_text(boxes.read_text().replace("\n", "\n\n"))
    assert everything() == first
    assert len(read) == 8
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:-100])  # a damaged entry is no entry
    assert everything() == first
    assert len(read) == 14
    shutil.rmtree(cache)
    cache.touch()  # no folder can be made here
    assert everything() == first
