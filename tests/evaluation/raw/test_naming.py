import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.evaluation.raw.naming import list_files, match, misspelt

NAMES = ("car", "redcar", "man4", "woman4", "leftgirl'swhitebag", "OccCar-1", "floor-1")


def files(*paths: str) -> dict[str, Path | bytes]:
    return dict.fromkeys(sorted(paths), b"")


@pytest.mark.parametrize(
    "form",
    [
        "{}.txt",
        "APFNet_{}.txt",
        "JMMAC_234_final_{}.txt",
        "MANet++_{}.txt",
        "{}_final.txt",
        "A_{}-001.txt",
        "{0}/{0}.txt",  # a folder for each sequence
        "LasHeR/HCANet/{0}/{0}.txt",
        "a.b/v1.2_{}.txt",
        "car_{}.txt",  # a tracker of the name of a sequence
        "{}.TXT",
    ],
)
def test_every_sequence_has_its_own_file_whatever_the_form(form: str) -> None:
    found = match(files(*(form.format(name) for name in NAMES)), NAMES)
    assert found.tracks == {name: form.format(name) for name in NAMES}
    assert (found.times, found.others, found.rivals) == ({}, [], [])


@given(
    prefix=st.sampled_from(["", "T_", "car_", "man4-", "redcar "]),
    suffix=st.sampled_from(["", "_final", "-1", "_car"]),
    present=st.sets(st.sampled_from(NAMES), min_size=1),
)
def test_a_missing_sequence_is_never_given_the_file_of_another(prefix: str, suffix: str, present: set[str]) -> None:
    stems = {name: f"{prefix}{name}{suffix}" for name in present}
    found = match(files(*(f"{stem}.txt" for stem in stems.values())), NAMES)
    if len(present) > 2:  # fewer do not tell what is prefix and what is name
        assert found.tracks == {name: f"{stems[name]}.txt" for name in NAMES if name in present}


@pytest.mark.parametrize("only", ["redcar.txt", "woman4.txt", "man45.txt", "car10.txt"])
def test_letters_and_digits_are_no_prefix_and_no_suffix(only: str) -> None:
    assert not match(files(only), ("car", "man4")).tracks


def test_times_are_found_beside_the_boxes() -> None:
    found = match(files("A/car/car.txt", "A/car/car_time.txt", "A/redcar/redcar.txt"), NAMES)
    assert found.tracks == {"car": "A/car/car.txt", "redcar": "A/redcar/redcar.txt"}
    assert found.times == {"car": "A/car/car_time.txt"}
    assert match(files("T_car_001.txt", "T_car_time.txt"), NAMES).times == {"car": "T_car_time.txt"}
    assert match(files("car_001.txt", "car_001_time.txt"), NAMES).times == {"car": "car_001_time.txt"}
    assert match(files("car.txt", "car.json", "run.json"), NAMES).times == {"car": "car.json"}


def test_times_alone_are_no_results() -> None:
    assert not match(files("car_time.txt"), NAMES).tracks


def test_other_files_are_told() -> None:
    found = match(files("car.txt", "car_scores.txt", "redcar.txt", "readme.txt", "x/dog.txt"), NAMES)
    assert found.tracks == {"car": "car.txt", "redcar": "redcar.txt"}
    assert found.others == ["car_scores.txt", "readme.txt", "x/dog.txt"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("APFNet/{}.txt", "mfDiMP/{}.txt"),
        ("APFNet/APFNet_{}.txt", "JMMAC/JMMAC_{}.txt"),
        ("APFNet_{}.txt", "JMMAC_{}.txt"),
        ("{}.txt", "JMMAC_{}.txt"),
        ("{}_001.txt", "{}_002.txt"),
        ("{}.txt", "{0}/{0}.txt"),
    ],
)
def test_two_results_for_a_sequence_are_never_chosen_between(first: str, second: str) -> None:
    found = match(files(*(form.format(name) for form in (first, second) for name in NAMES)), NAMES)
    assert len(found.rivals) == len(NAMES)
    assert any(first.format("car") in rival and second.format("car") in rival for rival in found.rivals)


def test_one_sequence_of_many_with_two_results_is_enough() -> None:
    paths = [f"A/{name}.txt" for name in NAMES]
    assert match(files(*paths, "B/car.txt"), NAMES).rivals == ["car (A/car.txt and B/car.txt)"]


@pytest.mark.parametrize(
    ("wrong", "name"),
    [("occcar-1", "OccCar-1"), ("OccCar_1", "OccCar-1"), ("leftgirlswhitebag", "leftgirl'swhitebag"), ("Car", "car")],
)
@pytest.mark.parametrize("prefix", ["", "T_"])
def test_misspelt_names_are_recognised(wrong: str, name: str, prefix: str) -> None:
    found = match(files(f"{prefix}man4.txt", f"{prefix}woman4.txt", f"{prefix}{wrong}.txt"), NAMES)
    missing = [each for each in NAMES if each not in found.tracks]
    assert misspelt(missing, found) == {name: f"{prefix}{wrong}.txt"}


class TestListFiles:
    def test_a_folder_without_what_is_hidden(self, tmp_path: Path) -> None:
        for name in ("a.txt", "b/c.txt", ".hidden.txt", ".git/d.txt", "__MACOSX/a.txt", "b/.DS_Store"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"1")
        assert list(list_files(tmp_path)) == ["a.txt", "b/c.txt"]

    def test_a_single_text_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "car.txt").write_text("1,2,3,4")
        with pytest.raises(ValueError, match=r"car\.txt is a text file: give the folder"):
            list_files(tmp_path / "car.txt")

    def test_no_such_path(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path / 'x'} does not exist")):
            list_files(tmp_path / "x")
