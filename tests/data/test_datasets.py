"""Layouts on rendered data sets, annotations as people write them, and folders that are not what they should be."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from duotrack.data.datasets import (
    LAYOUTS,
    Annotation,
    Counts,
    count,
    find_sequences,
    first_box,
    image_files,
    numbering_gaps,
    read_annotation,
)

from ..layouts import FILES, write_dataset


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_found_counted_and_read(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    boxes = write_dataset(tmp_path, name, sequences=5, frames=21)
    found = find_sequences(tmp_path, layout)
    assert list(found) == ["boy'sbag", "car", "redcar", "walk2", "walk10"]
    for sequence, folder in found.items():
        visible, *infrared = (read_annotation(folder / each.file, each.box_format) for each in layout.truth)
        np.testing.assert_array_equal(visible, boxes[sequence][:: layout.step])
        for each in infrared:
            np.testing.assert_array_equal(each, boxes[sequence][:: layout.step] + np.array([1, 0, 0, 0]))
        np.testing.assert_array_equal(first_box(folder, layout), boxes[sequence][0])
        assert count(folder, layout) == Counts(21, 21, (len(visible),) * len(layout.truth), layout.step)
        assert count(folder, layout).frames == 21


@pytest.mark.parametrize("name", LAYOUTS)
def test_images_come_in_the_order_of_their_numbers(name: str, tmp_path: Path) -> None:
    write_dataset(tmp_path, name, sequences=1, frames=12)
    (folder,) = find_sequences(tmp_path, LAYOUTS[name]).values()
    (folder / FILES[name].visible).parent.joinpath("Thumbs.db").touch()
    (folder / FILES[name].visible).parent.joinpath("._00001.jpg").touch()  # macOS leaves such files in archives
    names = (FILES[name].visible, FILES[name].infrared)
    expected = tuple([folder / each.format(FILES[name].first + k) for k in range(12)] for each in names)
    assert image_files(folder, LAYOUTS[name]) == expected


def test_sequences_are_found_where_archives_put_them(tmp_path: Path) -> None:
    write_dataset(tmp_path / "downloads" / "TestingSet", "rgbt234", sequences=2)
    write_dataset(tmp_path / "downloads", "lasher", sequences=4)
    for name in ("car", "redcar"):
        shutil.rmtree(tmp_path / "downloads" / "TestingSet" / name)
    shutil.copytree(tmp_path / "downloads", tmp_path / "__MACOSX")
    shutil.copytree(tmp_path / "downloads", tmp_path / ".trash")
    found = find_sequences(tmp_path, LAYOUTS["lasher"])
    assert list(found) == ["boy'sbag", "car", "redcar", "walk2"]
    assert found["car"] == tmp_path / "downloads" / "TestingSet" / "testingset" / "car"


def test_folders_of_annotations_alone_are_sequences(tmp_path: Path) -> None:
    write_dataset(tmp_path, "vtuav", sequences=2)
    for folder in tmp_path.glob("*/*/*/"):
        shutil.rmtree(folder)
    assert list(find_sequences(tmp_path, LAYOUTS["vtuav"])) == ["car", "redcar"]


def test_the_search_is_not_endless(tmp_path: Path) -> None:
    write_dataset(tmp_path / "1" / "2" / "3", "gtot", sequences=1)
    assert list(find_sequences(tmp_path, LAYOUTS["gtot"])) == ["car"]
    (tmp_path / "0").mkdir()
    (tmp_path / "1").rename(tmp_path / "0" / "1")
    with pytest.raises(
        ValueError, match=r"holds no sequence of GTOT: .* up to 4 deep, with v/ and i/ and groundTruth_"
    ):
        find_sequences(tmp_path, LAYOUTS["gtot"])


def test_two_sequences_of_one_name_are_refused(tmp_path: Path) -> None:
    for part in ("trainingset", "testingset"):
        write_dataset(tmp_path / part, "rgbt210", sequences=1)
    with pytest.raises(ValueError, match=r"'car' is there twice: .*testingset/car and .*trainingset/car"):
        find_sequences(tmp_path, LAYOUTS["rgbt210"])


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="LasHeR is not a folder"):
        find_sequences(tmp_path / "LasHeR", LAYOUTS["lasher"])
    write_dataset(tmp_path, "vtuav", sequences=1)
    (folder,) = find_sequences(tmp_path, LAYOUTS["vtuav"]).values()
    for image in (folder / "ir").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match=r"ir holds no images: expected \.jpg"):
        count(folder, LAYOUTS["vtuav"])
    (folder / "ir").rmdir()
    with pytest.raises(FileNotFoundError, match="ir is missing: a sequence of VTUAV has this folder"):
        image_files(folder, LAYOUTS["vtuav"])


def test_a_tracker_starts_from_the_scored_boxes_where_its_own_file_is_missing(tmp_path: Path) -> None:
    layout = LAYOUTS["gtot"]
    (tmp_path / "init.txt").write_text("1\t2\t3\t4\r\n")
    (tmp_path / "groundTruth_v.txt").write_text("10 20 40 60\n")
    assert first_box(tmp_path, layout).tolist() == [1, 2, 3, 4]
    (tmp_path / "init.txt").unlink()
    assert first_box(tmp_path, layout).tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize(
    ("counts", "frames", "lacking"),
    [
        (Counts(100, 100, (100,), 1), 100, 0),
        (Counts(103, 100, (100,), 1), 100, 0),  # a partner is missing
        (Counts(104, 104, (100, 99), 1), 99, 0),  # images beyond the annotation
        (Counts(100, 98, (100,), 1), 98, 2),
        (Counts(101, 101, (11, 11), 10), 101, 0),  # the published sample of VTUAV: rows for frames 0, 10, ..., 100
        (Counts(109, 110, (11, 11), 10), 109, 0),
        (Counts(115, 115, (11, 11), 10), 110, 0),
        (Counts(100, 101, (11, 11), 10), 100, 1),
    ],
)
def test_a_sequence_ends_with_its_shortest_part(counts: Counts, frames: int, lacking: int) -> None:
    assert (counts.frames, counts.lacking) == (frames, lacking)


NUMBERS = st.floats(allow_infinity=False)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=6)


@given(
    rows=ROWS,
    separator=st.sampled_from([",", "\t", " ", "   ", ", ", " \t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    blanks=st.lists(st.integers(0, 2), min_size=7, max_size=7),
    mark=st.booleans(),
)
def test_annotations_are_read_however_they_are_written(
    rows: list[tuple[float, ...]], separator: str, end: str, blanks: list[int], mark: bool, tmp_path_factory: object
) -> None:
    assert isinstance(tmp_path_factory, pytest.TempPathFactory)
    file = tmp_path_factory.getbasetemp() / "annotation.txt"
    lines = [end * blank + separator.join(map(repr, row)) + end for row, blank in zip(rows, blanks, strict=False)]
    file.write_bytes(b"\xef\xbb\xbf" * mark + "".join([*lines, end * blanks[-1]]).encode())
    np.testing.assert_array_equal(read_annotation(file), np.array(rows))


def test_two_corners_become_a_box_of_their_difference(tmp_path: Path) -> None:
    (tmp_path / "corners.txt").write_text("10 20 40.5 60\n40 60 10 20\n")
    expected = [[10, 20, 30.5, 40], [40, 60, -30, -40]]  # corners in another order are not put right
    assert read_annotation(tmp_path / "corners.txt", "xyxy").tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: expected a box a line"),
        ("\r\n \r\n", "is empty: expected a box a line"),
        ("1,2,3,4\n\n1,2,3\n", r"line 3: '1,2,3' is not a box: expected four numbers, x,y,w,h"),
        ("1,2,3\n1,2,3\n", "line 1: "),
        ("1,2,3\n4,5,6,7,8\n", "line 1: "),
        ("1,2,3,4,5,6,7,8\n", "line 1: "),
        ("1,,3,4\n", "line 1: "),
        ("x,y,w,h\n1,2,3,4\n", "line 1: 'x,y,w,h' is not a box"),
        ("1,2,3,4\r\n1,2,inf,4\r\n", "line 2: "),
        ("1 2 3 4\n1 2 3 4i\n", "line 2: "),
        ("1 2 3 4 # car\n", "line 1: "),
        ("1;2;3;4\n", "line 1: "),
        ("\ufeff\ufeff1 2 3 4\n", "line 1: "),
        ("1_0 2 3 4\n", "annotation.txt is damaged"),
        ("\x00" * 8, "line 1: "),
    ],
)
def test_malformed_annotations_are_named_with_their_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "annotation.txt"
    file.write_bytes(text.encode())
    with pytest.raises(ValueError, match=message) as error:
        read_annotation(file)
    assert str(file) in str(error.value)


def test_an_error_says_corners_where_corners_are_expected(tmp_path: Path) -> None:
    (tmp_path / "groundTruth_v.txt").write_text("1 2 3\n")
    with pytest.raises(ValueError, match="expected four numbers, x1,y1,x2,y2"):
        read_annotation(tmp_path / "groundTruth_v.txt", "xyxy")
    with pytest.raises(FileNotFoundError):
        read_annotation(tmp_path / "none.txt")


def test_each_annotation_of_a_layout_is_named_once() -> None:
    assert [each.file for each in LAYOUTS["lasher"].annotations] == ["init.txt"]
    assert [each.file for each in LAYOUTS["vtuav"].annotations] == ["rgb.txt", "ir.txt"]
    other = replace(LAYOUTS["lasher"], start=Annotation("visible.txt"))
    assert [each.file for each in other.annotations] == ["init.txt", "visible.txt"]


@pytest.mark.parametrize(
    ("names", "gaps"),
    [
        (["000001.jpg", "000002.jpg", "000004.jpg", "000005.jpg"], [1]),
        (["v8.jpg", "v9.jpg", "v10.jpg"], []),
        (["cam2_0.png", "cam2_5.png", "cam2_10.png", "cam2_20.png", "cam2_25.png"], [2]),  # every fifth frame was kept
        (["a1.jpg", "b.jpg", "a4.jpg"], []),
        (["1.jpg"], []),
    ],
)
def test_gaps_in_numbers_are_where_they_do_not_go_on_as_elsewhere(names: list[str], gaps: list[int]) -> None:
    assert numbering_gaps(names).tolist() == gaps


@pytest.mark.parametrize(("name", "frames"), [("gtot", 7850), ("rgbt210", 104_706), ("rgbt234", 116_650)])
def test_published_annotations_have_the_published_number_of_rows(
    name: str, frames: int, shared: Path, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    with tarfile.open(shared / "fixtures" / "evaluation" / f"gt_{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    found = find_sequences(tmp_path, layout)
    assert len(found) == layout.parts["whole"]
    for annotation in layout.truth:
        boxes = {key: read_annotation(path / annotation.file, annotation.box_format) for key, path in found.items()}
        assert sum(map(len, boxes.values())) == frames
    if name == "gtot":  # the same boxes in two formats: corners with blanks, and x y w h with tabs
        for key, path in found.items():
            corners = read_annotation(path / "groundTruth_v.txt", "xyxy")
            np.testing.assert_array_equal(first_box(path, layout), corners[0], err_msg=key)
