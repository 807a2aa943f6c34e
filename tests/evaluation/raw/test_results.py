"""Raw results in every form in which they are published, and broken in every way that was thought of."""

import json
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.evaluation import protocol, score
from duotrack.evaluation.benchmark import BENCHMARKS, GroundTruth, load_ground_truth
from duotrack.evaluation.raw import first_boxes, rows
from duotrack.evaluation.raw.archives import ArchiveError
from duotrack.evaluation.raw.problems import Problem, ResultsError
from duotrack.evaluation.raw.results import read_results
from duotrack.results import Track

Values = npt.NDArray[np.float64]

FRAMES = 11
NAMES = ("car", "redcar", "man4", "leftgirl'swhitebag", "bike", "woman")
BOXES = {
    name: np.array([[x + 3 * i, y + i, w, h] for i in range(FRAMES)], np.float64)
    for name, (x, y, w, h) in zip(
        NAMES,
        [
            (300, 120, 40, 60),
            (20, 30, 25, 25),
            (410, 77, 31, 90),
            (0, 200, 50, 44),
            (150, 9, 80, 40),
            (333, 300, 20, 70),
        ],
        strict=True,
    )
}


def truth(benchmark: str = "rgbt234", *, names: tuple[str, ...] = NAMES) -> GroundTruth:
    """Visible and infrared differ; of VTUAV every tenth frame is annotated, so there are 101."""
    visible = {name: BOXES[name] for name in names}
    infrared = {name: boxes + np.array([2, -1, 3, 1]) for name, boxes in visible.items()}
    return GroundTruth(BENCHMARKS[benchmark], names, visible, infrared, {}, "made up", ())


def write(folder: Path, name: str, boxes: npt.ArrayLike, form: str = "{}.txt", separator: str = ",") -> Path:
    path = folder / form.format(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.asarray(boxes, np.float64)
    path.write_text("".join(separator.join(f"{value:g}" for value in row) + "\n" for row in table))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results with nothing to object to."""
    for name, boxes in BOXES.items():
        write(tmp_path / "T", name, boxes)
    return tmp_path / "T"


def rewrite(folder: Path, change: Callable[[Values], npt.ArrayLike], *names: str) -> None:
    for name in names or NAMES:
        write(folder, name, change(BOXES[name].copy()))


def corners(boxes: Values) -> Values:
    x, y, w, h = boxes.T
    return np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1)


def xyxy(boxes: Values) -> Values:
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


CONVERSIONS: dict[str, Callable[[Values], Values]] = {"xywh": np.asarray, "xyxy": xyxy, "corners": corners}


def assert_tracks(found: object, expected: dict[str, Values]) -> None:
    assert isinstance(found, dict)
    assert list(found) == list(expected)
    for name, boxes in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], boxes)


# Whole results


@pytest.mark.parametrize("form", ["{}.txt", "T_{}.txt", "JMMAC_234_final_{}.txt", "{0}/{0}.txt", "a/b/T_{}_001.txt"])
@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", ";"])
def test_names_and_separators(tmp_path: Path, form: str, separator: str) -> None:
    for name, boxes in BOXES.items():
        write(tmp_path, name, boxes, form, separator)
    result = read_results(tmp_path, truth())
    assert_tracks(result.tracks, BOXES)
    assert result.missing == ()
    assert result.remarks == ("boxes read as xywh, told from the first boxes",)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_archives_are_read_like_folders(folder: Path, kind: str) -> None:
    path = folder.with_name(f"results.{kind}")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"LasHeR/T/{file.name}")
                archive.writestr(f"__MACOSX/LasHeR/T/._{file.name}", b"\0\5\7")
    else:
        with tarfile.open(path, f"w:{kind[4:]}") as archive:  # type: ignore[call-overload]  # wants a literal
            archive.add(folder, "LasHeR/T")
    for place in (path, path / "LasHeR", path / "LasHeR/T"):
        assert_tracks(read_results(place, truth()).tracks, BOXES)
    with pytest.raises(FileNotFoundError, match="has no text files in a folder GTOT/"):
        read_results(path / "GTOT", truth())


def test_one_of_two_trackers_in_an_archive_is_read_by_its_folder(folder: Path) -> None:
    with zipfile.ZipFile(folder.with_name("results.zip"), "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"A/{file.name}")
            archive.writestr(f"B/{file.name}", "1,2,3,4\n")
    with pytest.raises(ResultsError, match=r"bike \(A/bike.txt and B/bike.txt\)"):
        read_results(folder.with_name("results.zip"), truth())
    assert_tracks(read_results(folder.with_name("results.zip") / "A", truth()).tracks, BOXES)


def test_a_refused_archive_is_an_archive_error(tmp_path: Path) -> None:
    (tmp_path / "r.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    with pytest.raises(ArchiveError, match="RAR"):
        read_results(tmp_path / "r.rar", truth())


def test_a_run_of_duotrack(tmp_path: Path) -> None:
    milliseconds = np.full(FRAMES, 25.0)
    milliseconds[0] = np.nan
    for name, boxes in BOXES.items():
        Track(boxes, np.full(FRAMES, 0.5), milliseconds, {"weights": "x"}).save(tmp_path, name)
    (tmp_path / "run.json").write_text("{}")
    result = read_results(tmp_path, truth())
    assert_tracks(result.tracks, BOXES)
    assert result.remarks == ("boxes read as xywh, told from the first boxes",)
    assert result.seconds["car"][1] == 0.025
    assert result.frames_per_second == pytest.approx(40)


@pytest.mark.parametrize("box_format", CONVERSIONS)
@pytest.mark.parametrize("given_format", [True, False])
def test_formats_of_boxes(folder: Path, box_format: str, given_format: bool) -> None:
    convert = CONVERSIONS[box_format]
    rewrite(folder, convert)
    given = box_format if given_format else "auto"
    result = read_results(folder, truth(), box_format=given)  # type: ignore[arg-type]  # wants a literal
    assert result.box_format == box_format
    how = "as given" if given_format else "told from the first boxes"
    assert result.remarks == (f"boxes read as {box_format}, {how}",)
    assert_tracks(result.tracks, {name: convert(boxes) for name, boxes in BOXES.items()})
    # Scored as what they are: the visible annotation is met exactly. IoU is never above the threshold 1.
    scores = score(truth(), result.tracks, protocol("rgbt234"), box_format=result.box_format)
    assert scores.overall() == {"MPR": 1.0, "MSR": pytest.approx(20 / 21)}


def test_the_given_box_may_be_the_infrared_one(folder: Path) -> None:
    annotated = truth()
    shifted = {name: boxes + np.array([60, 80, 0, 0]) for name, boxes in BOXES.items()}
    elsewhere = GroundTruth(annotated.benchmark, NAMES, shifted, annotated.visible, {}, "made up", ())
    assert read_results(folder, elsewhere).box_format == "xywh"


def test_one_annotation_for_both_modalities(folder: Path) -> None:
    annotated = truth("lasher")
    alone = GroundTruth(annotated.benchmark, NAMES, annotated.visible, None, {}, "made up", ())
    assert_tracks(read_results(folder, alone).tracks, BOXES)


def test_only_the_sequences_of_the_ground_truth_are_read(folder: Path) -> None:
    (folder / "bike.txt").write_bytes(b"\0")
    result = read_results(folder, truth().select(["redcar", "car"]))
    assert_tracks(result.tracks, {"car": BOXES["car"], "redcar": BOXES["redcar"]})
    assert any(remark.startswith("4 files of no sequence asked for, not read: bike.txt") for remark in result.remarks)


def test_sparse_annotations_need_a_row_for_every_frame(tmp_path: Path) -> None:
    for name, boxes in BOXES.items():
        write(tmp_path, name, np.repeat(boxes, 10, axis=0)[:101])
    result = read_results(tmp_path, truth("vtuav-st"))
    assert len(result.tracks["car"]) == 101
    # Nine images may follow the last annotation, a tenth would be annotated.
    write(tmp_path, "car", np.repeat(BOXES["car"], 10, axis=0))
    assert len(read_results(tmp_path, truth("vtuav-st")).remarks) == 1
    write(tmp_path, "car", np.repeat(BOXES["car"], 11, axis=0)[:111])
    assert "car (111 rows for 101 frames)" in read_results(tmp_path, truth("vtuav-st")).remarks[1]


# Times


@pytest.mark.parametrize("count", [FRAMES, FRAMES - 1])
def test_seconds_a_frame_give_a_speed(folder: Path, count: int) -> None:
    for name in NAMES[:2]:
        (folder / f"{name}_time.txt").write_text("5.0e-02\n" * count)
    result = read_results(folder, truth())
    assert list(result.seconds) == ["car", "redcar"]
    assert result.seconds["car"].tolist() == [0.05] * count
    assert result.frames_per_second == pytest.approx(20)


@pytest.mark.parametrize(
    "text",
    [
        "25.1\n" * FRAMES,
        "30\n",
        "0.05\n" * 5,
        "0\n" * FRAMES,
        "-0.1\n" * FRAMES,
        "fast\n" * FRAMES,
        "",
        "nan\n" * FRAMES,
    ],
    ids=["milliseconds", "a rate", "too few", "zero", "negative", "words", "empty", "nan"],
)
def test_times_that_cannot_be_seconds_are_left_alone(folder: Path, text: str) -> None:
    (folder / "car_time.txt").write_text(text)
    result = read_results(folder, truth())
    assert_tracks(result.tracks, BOXES)
    assert (result.seconds, result.frames_per_second) == ({}, None)
    assert "without believable seconds for each frame, not used: car_time.txt" in result.remarks[-1]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"milliseconds": "x"}', '{"milliseconds": 3}', "[" * 100_000])
def test_a_damaged_json_file_costs_the_times_only(folder: Path, text: str) -> None:
    (folder / "car.json").write_text(text)
    result = read_results(folder, truth())
    assert_tracks(result.tracks, BOXES)
    assert result.seconds == {}


# Broken results: each way with its own error


def remove(*files: Path) -> None:
    for file in files:
        file.unlink()


def swap(folder: Path, first: str, second: str) -> None:
    (folder / f"{first}.txt").rename(folder / "kept")
    (folder / f"{second}.txt").rename(folder / f"{first}.txt")
    (folder / "kept").rename(folder / f"{second}.txt")


def rotate_names(folder: Path) -> None:
    for name, other in zip(NAMES, (*NAMES[1:], NAMES[0]), strict=True):
        write(folder, name, BOXES[other])


def second_tracker(folder: Path) -> None:
    for name, boxes in BOXES.items():
        write(folder / "Other", name, boxes)


BROKEN: dict[str, tuple[Callable[[Path], object], Problem, str]] = {
    "missing": (lambda f: remove(f / "car.txt"), Problem.MISSING, "car"),
    "misspelt": (
        lambda f: (f / "car.txt").rename(f / "Car.txt"),
        Problem.MISSING,
        "car (is it Car.txt? rename it)",
    ),
    "apostrophe": (
        lambda f: (f / "leftgirl'swhitebag.txt").rename(f / "leftgirl_swhitebag.txt"),
        Problem.MISSING,
        "leftgirl'swhitebag (is it leftgirl_swhitebag.txt? rename it)",
    ),
    "nothing": (
        lambda f: [file.rename(f / f"x{i}.txt") for i, file in enumerate(sorted(f.iterdir()))],
        Problem.NOTHING,
        "found x0.txt",
    ),
    "empty folder": (lambda f: remove(*f.iterdir()), Problem.NOTHING, "found no file"),
    "two trackers": (second_tracker, Problem.AMBIGUOUS, "car (Other/car.txt and car.txt)"),
    "empty": (lambda f: (f / "car.txt").write_text("\n"), Problem.EMPTY, "car.txt"),
    "huge": (lambda f: (f / "car.txt").write_text("1,2,3,4\n" * 200), Problem.HUGE, "car.txt"),
    "binary": (lambda f: (f / "car.txt").write_bytes(b"\x93NUMPY\0"), Problem.BINARY, "car.txt"),
    "utf-16": (lambda f: (f / "car.txt").write_text("1,2,3,4", "utf-16"), Problem.BINARY, "car.txt (UTF-16?)"),
    "word": (
        lambda f: (f / "car.txt").write_text("1,2,3,4\n1,2,three,4\n"),
        Problem.NOT_A_NUMBER,
        "car.txt, line 2: 'three'",
    ),
    "ragged": (
        lambda f: (f / "car.txt").write_text("1,2,3,4\n1,2,3\n"),
        Problem.RAGGED,
        "car.txt, line 2: 3 after 4",
    ),
    "columns": (lambda f: (f / "car.txt").write_text("1,2,3,4,5\n" * FRAMES), Problem.COLUMNS, "car.txt has 5"),
    "mixed": (lambda f: rewrite(f, corners, "man4"), Problem.MIXED, "man4.txt"),
    "centre": (
        lambda f: rewrite(f, lambda b: b + np.hstack([b[:, 2:] / 2, 0 * b[:, 2:]])),
        Problem.CENTER,
        "6 of 6 files",
    ),
    "0 to 1": (lambda f: rewrite(f, lambda b: b / [640, 480, 640, 480]), Problem.NORMALIZED, "the largest number"),
    "scaled": (
        lambda f: rewrite(f, lambda b: b * [0.5, 0.25, 0.5, 0.25]),
        Problem.SCALED,
        "0.5 by 0.25 times as large",
    ),
    "scaled corners": (lambda f: rewrite(f, lambda b: corners(b) * 2), Problem.SCALED, "2 by 2 times as large"),
    "corner order": (
        lambda f: rewrite(f, lambda b: corners(b)[:, [2, 3, 4, 5, 6, 7, 0, 1]]),
        Problem.CORNER_ORDER,
        "6 of 6 files",
    ),
    "elsewhere": (
        lambda f: rewrite(f, lambda b: b[:, ::-1] + [900, 0, 7, 0]),
        Problem.DOUBTFUL_FORMAT,
        "0 of 6 fit as xywh, 0 of 6 fit as xyxy",
    ),
    "nan at first": (
        lambda f: rewrite(f, lambda b: np.vstack([b[:1] * np.nan, b[1:]])),
        Problem.DOUBTFUL_FORMAT,
        "0 of 6 fit as xywh",
    ),
    "swapped": (lambda f: swap(f, "car", "bike"), Problem.SWAPPED, "car begins as bike, bike begins as car"),
    "rotated": (rotate_names, Problem.SWAPPED, "car begins as redcar"),
    "copied": (lambda f: rewrite(f, lambda b: BOXES["bike"], "car"), Problem.SWAPPED, "car begins as bike"),
    "short": (lambda f: rewrite(f, lambda b: b[:-2], "car"), Problem.SHORT, "car (9 rows for 11 frames)"),
    "first lacking": (
        lambda f: rewrite(f, lambda b: b[1:]),
        Problem.FIRST_LACKING,
        "car (10 rows for 11 frames)",
    ),
}


@pytest.mark.parametrize("way", BROKEN)
def test_each_way_to_be_broken_has_its_own_error(folder: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(rows, "MAX_FILE", 1000)
    damage, problem, place = BROKEN[way]
    damage(folder)
    with pytest.raises(ResultsError) as error:
        read_results(folder, truth())
    assert list(error.value.problems) == [problem]
    assert place in ", ".join(error.value.problems[problem])
    message = str(error.value)
    assert message.startswith(f"{folder} cannot be scored")
    assert f"- {problem}: " in message


def test_results_for_annotations_only(folder: Path) -> None:
    for short in ("error", "pad-last", "cut"):  # a choice about rows that are lacking cannot mend it
        with pytest.raises(ResultsError) as error:
            read_results(folder, truth("vtuav-lt"), short=short)
        assert error.value.problems.keys() == {Problem.SPARSE}


def test_a_format_that_the_rows_cannot_have(folder: Path) -> None:
    with pytest.raises(ResultsError) as error:
        read_results(folder, truth(), box_format="corners")
    assert error.value.problems == {Problem.GIVEN_FORMAT: ("6 files of 4 columns, given corners",)}


def test_everything_wrong_is_said_at_once(folder: Path) -> None:
    (folder / "car.txt").unlink()
    (folder / "redcar.txt").write_text("")
    (folder / "man4.txt").write_text("1,2,x,4\n")
    rewrite(folder, lambda boxes: boxes[:5], "bike")
    with pytest.raises(ResultsError) as error:
        read_results(folder, truth())
    assert error.value.problems.keys() == {Problem.MISSING, Problem.EMPTY, Problem.NOT_A_NUMBER, Problem.SHORT}
    assert str(error.value).count("\n- ") == 4


@pytest.mark.parametrize(("option", "value"), [("box_format", "cxcywh"), ("short", "pad")])
def test_unknown_options_are_named(folder: Path, option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{option} is '{value}': expected one of"):
        read_results(folder, truth(), **{option: value})  # type: ignore[arg-type]  # wrong on purpose


# Choices whose use the report states


def test_missing_sequences_may_be_allowed(folder: Path) -> None:
    (folder / "car.txt").unlink()
    (folder / "woman.txt").rename(folder / "Woman.txt")
    result = read_results(folder, truth(), allow_missing=True)
    assert result.missing == ("car", "woman")
    assert list(result.tracks) == [name for name in NAMES if name not in ("car", "woman")]
    assert "partial, 4 of 6 sequences: no file for car, woman" in result.remarks
    assert "perhaps only misspelt: woman (is it Woman.txt? rename it)" in result.remarks


def test_nothing_at_all_is_never_allowed(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no file for any sequence"):
        read_results(tmp_path, truth(), allow_missing=True)


@pytest.mark.parametrize(("short", "told"), [("pad-last", "the last row is repeated"), ("cut", "are left out")])
def test_short_tracks_may_be_allowed(folder: Path, short: str, told: str) -> None:
    rewrite(folder, lambda boxes: boxes[:-1], "car")
    result = read_results(folder, truth(), short=short)  # type: ignore[arg-type]  # wants a literal
    assert len(result.tracks["car"]) == FRAMES - 1  # what becomes of it is up to the rules
    assert any("car (10 rows for 11 frames)" in remark and told in remark for remark in result.remarks)


def test_a_given_format_is_taken_where_the_first_boxes_do_not_tell(folder: Path) -> None:
    rewrite(folder, lambda boxes: boxes + np.array([900, 0, 0, 0]))
    result = read_results(folder, truth(), box_format="xywh")
    assert result.box_format == "xywh"
    assert any(remark.startswith("6 files not beginning at the annotated object") for remark in result.remarks)


# What is odd, and scored all the same


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (
            lambda b: np.vstack([b, b[:3]]),
            "1 file with rows beyond the annotation, which the rules ignore: car (14 rows",
        ),
        (lambda b: np.vstack([b[:4], b[4:6] * np.nan, b[6:]]), "2 rows with NaN in 1 file: car"),
        (lambda b: np.vstack([b[:4], b[4:5] * np.inf, b[5:]]), "1 rows with infinite numbers in 1 file: car"),
        (
            lambda b: np.vstack([b[:4], b[4:] * [1, 1, 0, -1]]),
            "7 rows with a width or height of zero or less in 1 file: car",
        ),
        (lambda b: np.repeat(b[:1], FRAMES, axis=0), "1 file with the same box in all rows: car"),
        (lambda b: b + np.array([0, 100, 0, 0]), "1 file not beginning at the annotated object: car"),
    ],
)
def test_odd_rows_are_counted_and_kept(folder: Path, change: Callable[[Values], Values], remark: str) -> None:
    rewrite(folder, change, "car")
    result = read_results(folder, truth())
    assert any(found.startswith(remark) for found in result.remarks), result.remarks
    np.testing.assert_array_equal(result.tracks["car"], change(BOXES["car"]))


def test_a_header_is_skipped_and_told(folder: Path) -> None:
    (folder / "car.txt").write_text("x,y,w,h\n" + (folder / "car.txt").read_text())
    result = read_results(folder, truth())
    assert_tracks(result.tracks, BOXES)
    assert "1 file with a header line, skipped: car.txt" in result.remarks


# Recognising the format


def test_boxes_at_the_origin_do_not_tell_the_format(tmp_path: Path) -> None:
    at_origin = np.array([[0, 0, 40, 30], [5, 5, 40, 30]], np.float64)
    write(tmp_path, "a", at_origin)
    annotated = GroundTruth(BENCHMARKS["lasher"], ("a",), {"a": at_origin}, None, {}, "made up", ())
    with pytest.raises(ResultsError, match="1 of 1 fit as xywh, 1 of 1 fit as xyxy"):
        read_results(tmp_path, annotated)
    assert_tracks(read_results(tmp_path, annotated, box_format="xywh").tracks, {"a": at_origin})


coordinates = st.integers(0, 1000)
sizes = st.integers(5, 200)


@given(st.lists(st.tuples(coordinates, coordinates, sizes, sizes), min_size=1, max_size=20), st.data())
def test_a_recognised_format_is_the_right_one(boxes: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Whatever the sequences: the format is recognised or doubted, never mistaken, and clear boxes are no doubt."""
    annotation = {f"s{i}": np.array([box], np.float64) for i, box in enumerate(boxes)}
    annotated = GroundTruth(BENCHMARKS["lasher"], tuple(annotation), annotation, None, {}, "made up", ())
    name = data.draw(st.sampled_from(list(CONVERSIONS)))
    convert = CONVERSIONS[name]
    taken, problems = first_boxes.recognize({key: convert(value) for key, value in annotation.items()}, annotated)
    assert (taken is None) == bool(problems)
    assert taken in (name, None)
    if name == "corners" or all(min(box[:2]) > max(box[2:]) for box in boxes):
        assert taken == name


@given(st.permutations(NAMES))
def test_displaced_files_are_found_whatever_the_order(order: list[str]) -> None:
    tracks = {name: BOXES[other] for name, other in zip(NAMES, order, strict=True)}
    strange, swapped = first_boxes.displaced(tracks, truth())
    moved = [(name, other) for name, other in zip(NAMES, order, strict=True) if name != other]
    assert strange == [name for name, _ in moved]
    assert swapped == [f"{name} begins as {other}" for name, other in moved]


def test_a_track_that_begins_at_another_object_is_only_odd_where_that_one_has_its_own(folder: Path) -> None:
    """It may be the tracker's slip. A file under the wrong name would be lacking where it belongs."""
    rewrite(folder, lambda boxes: np.vstack([BOXES["bike"][:1], boxes[1:]]), "car")
    result = read_results(folder, truth())
    assert "1 file not beginning at the annotated object: car" in result.remarks
    (folder / "bike.txt").unlink()
    with pytest.raises(ResultsError, match="car begins as bike"):
        read_results(folder, truth(), allow_missing=True)


def test_infinite_first_boxes_fit_nothing_and_harm_nothing(folder: Path) -> None:
    rewrite(folder, lambda boxes: np.vstack([np.array([[-np.inf, 0, np.inf, 5]]), boxes[1:]]), "car")
    with np.errstate(all="raise"):
        result = read_results(folder, truth())
    assert result.box_format == "xywh"
    assert "1 file not beginning at the annotated object: car" in result.remarks


# Published results


def plainly(data: bytes) -> Values:
    """The obvious slow way to read a published file."""
    lines = data.decode().splitlines()
    return np.array([[float(cell) for cell in re.split(r"[,\s]+", line.strip())] for line in lines if line.strip()])


@pytest.mark.parametrize(
    ("archive", "benchmark", "truth_archive", "box_format"),
    [
        ("raw_lasher_APFNet", "lasher", "gt_lasher_test", "xywh"),
        ("raw_lasher_MTNet", "lasher", "gt_lasher_test", "xywh"),
        ("raw_lasher_mfDiMP", "lasher", "gt_lasher_test", "xywh"),
        ("raw_gtot_APFNet", "gtot", "gt_gtot", "corners"),
        ("raw_gtot_JMMAC", "gtot", "gt_gtot", "corners"),
        ("raw_gtot_JMMAC_xywh", "gtot", "gt_gtot", "xywh"),
        ("raw_gtot_MANet++", "gtot", "gt_gtot", "xywh"),
        ("raw_rgbt234_JMMAC", "rgbt234", "gt_rgbt234", "xywh"),
    ],
)
def test_published_archives_are_read_to_the_last_bit(
    shared: Path, tmp_path: Path, archive: str, benchmark: str, truth_archive: str, box_format: str
) -> None:
    fixtures = shared / "fixtures/evaluation"
    with tarfile.open(fixtures / f"{truth_archive}.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    annotated = load_ground_truth(benchmark, next(tmp_path.iterdir()))
    with tarfile.open(fixtures / f"{archive}.tar.xz") as packed:
        members = [member for member in packed if member.isfile()]
        contents = {Path(member.name).stem: packed.extractfile(member).read() for member in members}  # type: ignore[union-attr]

    result = read_results(fixtures / f"{archive}.tar.xz", annotated, short="cut")
    assert result.box_format == box_format
    assert list(result.tracks) == list(annotated.names)
    assert len(contents) == len(annotated.names)
    for name, track in result.tracks.items():
        # Of all names that the file could end in, the longest.
        stem = next(stem for stem in contents if stem == name or stem.endswith(f"_{name}"))
        np.testing.assert_array_equal(track, plainly(contents[stem]))
    others = [remark for remark in result.remarks if "told from the first boxes" not in remark]
    if archive == "raw_rgbt234_JMMAC":
        assert others == [
            "1 file with too few rows, the other frames are left out: orangeman1 (920 rows for 921 frames)"
        ]
    elif archive == "raw_lasher_mfDiMP":
        assert len(others) == 1
        assert "a width or height of zero or less" in others[0]
    else:
        assert others == []


def test_the_documented_forms_of_times_are_not_taken_for_boxes(folder: Path) -> None:
    """As HCANet was published: a folder for each sequence, times beside the boxes."""
    nested = folder.parent / "nested"
    for name, boxes in BOXES.items():
        write(nested, name, boxes, "{0}/{0}.txt")
        (nested / name / f"{name}_time.txt").write_text(json.dumps(0.04) + "\n" * 1)
    result = read_results(nested, truth())
    assert_tracks(result.tracks, BOXES)
    assert "6 files of times" in result.remarks[-1]
