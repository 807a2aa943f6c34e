"""What other tools read in the files, and what comes back from CVAT; values by hand and by other tools' own readers."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from duotrack.cli import main
from duotrack.interchange import Video, read_cvat, read_tracks, write_coco, write_cvat, write_mot
from duotrack.results import Track, read_boxes

NAN = [np.nan] * 4
VIDEO = Video("street", (640, 480))


def track(
    boxes: list[list[float]] | npt.NDArray[np.float64],
    scores: list[float] | None = None,
    occluded: tuple[int, ...] = (),
) -> Track:
    unknown = np.full(len(boxes), np.nan)
    info = {"occluded": list(occluded)} if occluded else {}
    return Track(np.array(boxes), unknown if scores is None else np.array(scores), unknown, info)


def two() -> dict[str, Track]:
    """Two targets in three frames: one leaves in the second, the other is only partly inside the image."""
    return {
        "man": track([[10, 20, 30, 40], NAN, [12.5, 20.25, 30, 41]], [1.0, np.nan, 0.5], occluded=(2,)),
        "dog": track([NAN, [-4, -8.5, 16, 12], [-3, -8, 16, 12]]),
    }


# MOT


def test_mot_counts_frames_targets_and_pixels_from_one(tmp_path: Path) -> None:
    write_mot(tmp_path / "mot.txt", two())
    assert (tmp_path / "mot.txt").read_text().splitlines() == [
        "1,1,11.0000,21.0000,30.0000,40.0000,1,-1,-1,-1",
        "2,2,-3.0000,-7.5000,16.0000,12.0000,1,-1,-1,-1",
        "3,1,13.5000,21.2500,30.0000,41.0000,0.5,-1,-1,-1",
        "3,2,-2.0000,-7.0000,16.0000,12.0000,1,-1,-1,-1",
    ]


# COCO


def test_pycocotools_reads_the_coco_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path / "coco.json", two(), Video("street", (640, 480), ("a.jpg", "b.jpg", "c.jpg")))
    coco = COCO(tmp_path / "coco.json")
    assert [coco.imgs[i]["file_name"] for i in sorted(coco.imgs)] == ["a.jpg", "b.jpg", "c.jpg"]
    assert {(image["width"], image["height"]) for image in coco.imgs.values()} == {(640, 480)}
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "target"}]
    found = {
        (image, one["track_id"]): one for image in coco.imgs for one in coco.loadAnns(coco.getAnnIds(imgIds=[image]))
    }
    assert {key: one["bbox"] for key, one in found.items()} == {
        (1, 1): [10, 20, 30, 40],
        (2, 2): [-4, -8.5, 16, 12],
        (3, 1): [12.5, 20.25, 30, 41],
        (3, 2): [-3, -8, 16, 12],
    }
    assert found[3, 1]["area"] == 30 * 41
    assert {key: one.get("score") for key, one in found.items()} == {(1, 1): 1, (2, 2): None, (3, 1): 0.5, (3, 2): None}
    assert [key for key, one in found.items() if one["attributes"]["occluded"]] == [(3, 1)]
    assert sorted(one["id"] for one in found.values()) == [1, 2, 3, 4]
    assert [(one["id"], one["name"]) for one in coco.dataset["tracks"]] == [(1, "man"), (2, "dog")]


def test_coco_names_frames_without_names(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco.json", two(), VIDEO)
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert [(image["frame_index"], image["file_name"]) for image in images] == [
        (0, "000001.jpg"),
        (1, "000002.jpg"),
        (2, "000003.jpg"),
    ]


# CVAT

TASK = "<task><name>walk</name><size>8</size><start_frame>{start}</start_frame>{more}</task>"


def cvat(path: Path, tracks: str, start: int = 0, more: str = "") -> Path:
    meta = TASK.format(start=start, more=more)
    path.write_text(f'<?xml version="1.0"?><annotations><meta>{meta}</meta>{tracks}</annotations>')
    return path


def box(frame: int, corners: tuple[float, float, float, float], **flags: int) -> str:
    sides = zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True)
    flags = {"outside": 0, "occluded": 0, "keyframe": 1} | flags
    attributes = " ".join(f'{key}="{value}"' for key, value in [*sides, *flags.items()])
    return f'<box frame="{frame}" {attributes} z_order="0"><attribute name="sex">f</attribute></box>'


CORRECTED = (
    '<track id="0" label="man" source="manual">'
    + box(1, (0, 0, 10, 20))
    + box(2, (90, 90, 91, 91), keyframe=0)  # between key frames: CVAT itself would not read it
    + box(3, (4, 2, 16, 26), occluded=1)
    + box(5, (8, 6, 20, 30), outside=1)
    + box(7, (-5, -6, 3, 2))
    + "</track>"
    + '<track id="4" label="dog">'
    + box(0, (1, 1, 2, 3))
    + box(8, (1, 1, 2, 3), outside=1)  # ends with the video
    + "</track>"
)


def test_cvat_interpolates_between_key_frames_and_leaves_out_what_is_outside(tmp_path: Path) -> None:
    size = "<original_size><width>640</width><height>480</height></original_size>"
    video, targets = read_cvat(cvat(tmp_path / "a.xml", CORRECTED, more=size))
    assert video == Video("walk", (640, 480))
    assert list(targets) == ["man", "dog"]
    np.testing.assert_array_equal(
        targets["man"].boxes,
        [
            NAN,
            [0, 0, 10, 20],
            [2, 1, 11, 22],  # half-way
            [4, 2, 12, 24],
            [6, 4, 12, 24],  # half-way to a key frame in which the target is gone
            NAN,
            NAN,
            [-5, -6, 8, 8],
        ],
    )
    assert targets["man"].info["occluded"] == [3, 4]
    np.testing.assert_array_equal(targets["dog"].boxes, [[1, 1, 1, 2]] * 8)


def test_frames_of_cvat_are_those_of_the_video_that_the_task_was_cut_from(tmp_path: Path) -> None:
    tracks = f'<track id="0" label="man">{box(100, (0, 0, 1, 1))}{box(120, (4, 8, 5, 9))}</track>'
    video, targets = read_cvat(cvat(tmp_path / "a.xml", tracks, 100, "<frame_filter>step=10</frame_filter>"))
    assert (video.start, video.step) == (100, 10)
    np.testing.assert_array_equal(targets["man"].boxes[:4, :2], [[0, 0], [2, 4], [4, 8], [4, 8]])


def test_the_export_of_a_job_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "job.xml"
    path.write_text(
        "<annotations><version>1.1</version><meta><job><id>7</id><size>2</size><start_frame>0</start_frame>"
        "<segments><segment><id>9</id></segment></segments></job>"
        "<original_size><width>64</width><height>48</height></original_size></meta>"
        f'<track id="0" label="man">{box(0, (0, 0, 1, 1))}</track></annotations>'
    )
    video, targets = read_cvat(path)
    assert video.size == (64, 48)
    assert len(targets["man"]) == 2


def test_tracks_of_one_label_are_told_apart_by_their_numbers(tmp_path: Path) -> None:
    tracks = "".join(f'<track id="{i}" label="{name}">{box(0, (0, 0, 1, 1))}</track>' for i, name in enumerate("aab"))
    assert list(read_cvat(cvat(tmp_path / "a.xml", tracks))[1]) == ["a_0", "a_1", "b"]


numbers = st.floats(-1e4, 1e4, allow_nan=False)


@st.composite
def videos(draw: st.DrawFn) -> tuple[Video, dict[str, Track]]:
    """Up to three targets, in some of the frames and occluded in some, in a task that begins and steps anyhow."""
    frames = draw(st.integers(1, 10))
    row = st.none() | st.tuples(numbers, numbers, numbers, numbers)
    targets = {}
    for name in draw(st.lists(st.text("abc é&<\"'", min_size=1), min_size=1, max_size=3, unique=True)):
        boxes = draw(st.lists(row, min_size=frames, max_size=frames).filter(any))
        seen = [frame for frame, values in enumerate(boxes) if values]
        occluded = draw(st.sets(st.sampled_from(seen)))
        targets[name] = track([list(values or NAN) for values in boxes], occluded=tuple(sorted(occluded)))
    size = draw(st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999)))
    return Video("v", size, start=draw(st.integers(0, 10**6)), step=draw(st.integers(1, 30))), targets


@given(videos())
def test_what_goes_to_cvat_comes_back(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[Video, dict[str, Track]]
) -> None:
    video, targets = case
    path = tmp_path_factory.mktemp("cvat") / "a.xml"
    write_cvat(path, targets, video)
    again, returned = read_cvat(path)
    assert again == video
    assert list(returned) == list(targets)
    for name, target in targets.items():
        np.testing.assert_allclose(returned[name].boxes, target.boxes, rtol=0, atol=1.01e-4)  # two numbers of 5e-5 each
        assert returned[name].info["occluded"] == target.info.get("occluded", [])


@given(videos())
def test_what_goes_to_mot_and_coco_can_be_found_there(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[Video, dict[str, Track]]
) -> None:
    targets = case[1]
    folder = tmp_path_factory.mktemp("out")
    write_mot(folder / "mot.txt", targets)
    write_coco(folder / "coco.json", targets, VIDEO)
    present = {
        (frame, number): target.boxes[frame]
        for number, target in enumerate(targets.values())
        for frame in range(len(target))
        if not np.isnan(target.boxes[frame]).any()
    }
    mot = np.loadtxt(folder / "mot.txt", delimiter=",", ndmin=2)
    assert list(map(tuple, mot[:, :2] - 1)) == sorted(present)
    np.testing.assert_allclose(mot[:, 2:6] - [1, 1, 0, 0], [present[key] for key in sorted(present)], rtol=0, atol=6e-5)
    coco = json.loads((folder / "coco.json").read_text())["annotations"]
    assert {(one["image_id"] - 1, one["track_id"] - 1): one["bbox"] for one in coco} == {
        key: values.tolist() for key, values in present.items()
    }


# Files that are not what they should be

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    "<annotations><meta><task><name>&c;</name></task></meta></annotations>"
)
SPY = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>&a;</annotations>'


def one_track(*elements: str) -> str:
    meta, track = TASK.format(start=0, more=""), "".join(elements)
    return f'<annotations><meta>{meta}</meta><track id="3" label="car">{track}</track></annotations>'


GOOD = box(0, (0, 0, 1, 1))


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        (LAUGHS, "document type declaration"),
        (SPY, "document type declaration"),
        ("", "is no XML"),
        ("PK\3\4 an archive", "unpacked"),
        (one_track(GOOD)[:-20], "is no XML"),
        ('<?xml version="1.0" encoding="hex"?><a/>', "begins with <a>"),  # the codec is not looked up
        ("<html></html>", "begins with <html>"),
        ("<a>" * 5000, "begins with <a>"),
        ("<annotations>" * 5000, "more than 20 deep"),
        ("<annotations></annotations>", "nothing as <size>"),
        (f"<annotations><meta>{TASK.format(start=0, more='')}</meta></annotations>", "has 0 tracks in 8 frames"),
        ('<annotations><image id="0" name="a.jpg"/></annotations>', "'CVAT for video 1.1'"),
        ("<annotations><meta><project></project></meta></annotations>", "tasks one by one"),
        (one_track("<polygon frame='0' points='0,0;1,1;2,0'/>"), "a polygon in track 3 ('car')"),
        (one_track(GOOD.replace('frame="0"', 'frame="0" rotation="30"')), "rotated box"),
        (one_track(GOOD, GOOD), "has twice the box of track 3 ('car') in frame 0"),
        (one_track(box(8, (0, 0, 1, 1))), "frame 8 in track 3 ('car'): expected frames from 0 to 7"),
        (one_track(box(-1, (0, 0, 1, 1))), "frame -1 in track 3"),
        (one_track(box(10**999, (0, 0, 1, 1))), "has frame 1000000"),
        (one_track(GOOD.replace('ytl="0"', 'ytl="-1e308"')), "'-1e308' as ytl"),
        (one_track(GOOD.replace('ytl="0"', 'ytl="zero"')), "'zero' as ytl of the box of track 3 ('car') in frame 0"),
        (one_track(GOOD.replace('ytl="0"', 'ytl="nan"')), "'nan' as ytl"),
        (one_track(GOOD.replace('ytl="0"', "")), "nothing as ytl"),
        (one_track(GOOD.replace('frame="0"', "")), "in frame None"),
        (one_track(GOOD.replace('occluded="0"', 'occluded="maybe"')), "'maybe' as occluded"),
        (one_track(GOOD).replace("<size>8", "<size>1e3"), "'1e3' as <size>"),
        (one_track(GOOD).replace("<size>8", "<size>" + "9" * 50), "Split the task"),
        (one_track(GOOD).replace("<size>8", "<size>0"), "1 tracks in 0 frames"),
        (one_track(GOOD).replace("<start_frame>0", "<start_frame>-3"), "starts at frame -3"),
        (one_track(GOOD).replace("</start_frame>", "</start_frame><frame_filter>step=0</frame_filter>"), "by 0"),
        (one_track(GOOD).replace("</start_frame>", "</start_frame><frame_filter>odd</frame_filter>"), "'odd'"),
    ],
)
def test_a_file_that_is_no_cvat_file_is_refused_by_name(tmp_path: Path, text: str, saying: str) -> None:
    path = tmp_path / "bad.xml"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_cvat(path)
    assert str(path) in str(caught.value)
    assert saying in str(caught.value)


@given(st.binary(max_size=60), st.integers(0, 1000), st.integers(0, 60))
def test_damage_ends_in_an_error_that_names_the_file_or_in_boxes(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, where: int, cut: int
) -> None:
    text = one_track(GOOD, box(4, (1, 1, 3, 3), outside=1)).encode()
    path = tmp_path_factory.mktemp("cvat") / "a.xml"
    path.write_bytes(text[:where] + noise + text[where + cut :])
    try:
        targets = read_cvat(path)[1]
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert all(len(target) <= 5_000_000 for target in targets.values())


# Targets that do not make one video


def test_targets_that_are_no_video_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    man = two()["man"]
    for targets, saying in [
        ({}, "no tracks"),
        ({"a": man, "b": track([[1, 2, 3, 4]])}, "'a' has 3 frames and 'b' has 1"),
        ({"a": man, "gone": track([NAN, NAN, NAN])}, "'gone' has no box"),
        ({"a\nb": man}, r"'a\\nb' cannot be written"),
    ]:
        for write in (write_mot, lambda p, t: write_coco(p, t, VIDEO), lambda p, t: write_cvat(p, t, VIDEO)):
            with pytest.raises(ValueError, match=saying):
                write(out, targets)
    with pytest.raises(ValueError, match="--size"):
        write_coco(out, two(), Video("street"))
    with pytest.raises(ValueError, match="street has 2 images, and its tracks have 3 frames"):
        write_coco(out, two(), Video("street", (4, 4), ("a", "b")))
    with pytest.raises(ValueError, match="'occluded' of track 'a'"):
        write_cvat(out, {"a": Track(man.boxes, man.scores, man.scores, {"occluded": "all"})}, VIDEO)
    assert not out.exists()


def test_tracks_are_read_with_and_without_their_scores(tmp_path: Path) -> None:
    two()["man"].save(tmp_path, "man")
    (tmp_path / "car.txt").write_text("1 2 3 4\n5 6 7 8\n")
    (tmp_path / "car_time.txt").write_text("0.1\n0.1\n")
    tracks = read_tracks([tmp_path])
    assert list(tracks) == ["car", "man"]
    np.testing.assert_array_equal(tracks["man"].scores, [1, np.nan, 0.5])
    assert np.isnan(tracks["car"].scores).all()
    with pytest.raises(ValueError, match="second track named 'car'"):
        read_tracks([tmp_path, tmp_path / "car.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no tracks"):
        read_tracks([tmp_path / "empty"])


# The command


def test_a_track_is_corrected_in_cvat_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, target in two().items():
        target.save(tmp_path / "run", name)
    xml = tmp_path / "task.xml"
    assert main(["convert", str(tmp_path / "run"), "--to", "cvat", "--output", str(xml), "--start-frame", "50"]) == 0
    assert capsys.readouterr().out == f"{xml}\n"
    text = xml.read_text()
    assert '<box frame="52"' in text
    xml.write_text(text.replace('xtl="12.5000"', 'xtl="2.5"'))
    assert main(["convert", str(xml), "--to", "tracks", "--output", str(tmp_path / "truth")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/truth/dog.txt\n{tmp_path}/truth/man.txt\n"
    np.testing.assert_array_equal(read_boxes(tmp_path / "truth/man.txt"), [[10, 20, 30, 40], NAN, [2.5, 20.25, 40, 41]])
    assert Track.load(tmp_path / "truth/man.txt").info["occluded"] == [2]


def test_names_and_size_come_from_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    (tmp_path / "images").mkdir()
    for name in ("10", "9", "8"):
        cv2.imwrite(str(tmp_path / f"images/{name}.png"), np.zeros((48, 64, 3), np.uint8))
    path = two()["man"].save(tmp_path, "man")
    out = str(tmp_path / "coco.json")
    assert main(["convert", str(path), "--to", "coco", "--output", out, "--images", str(tmp_path / "images")]) == 0
    images = json.loads(Path(out).read_text())["images"]
    assert [(image["file_name"], image["width"], image["height"]) for image in images] == [
        ("8.png", 64, 48),
        ("9.png", 64, 48),
        ("10.png", 64, 48),
    ]
    assert main(["convert", str(path), "--to", "mot", "--output", str(tmp_path / "mot.txt")]) == 0
    assert main(["convert", str(path), "--to", "coco", "--output", out]) == 1
    assert "--size" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "none.txt"), "--to", "mot", "--output", out]) == 1
    assert "none.txt" in capsys.readouterr().err
