"""What is measured is what was done: a session of known speed, a network counted elsewhere, files of known size."""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack import energy, pretrained, profile
from duotrack.crops import CropSettings
from duotrack.model import ModelConfig
from duotrack.model.complexity import count
from duotrack.sequence import Frame
from duotrack.sessions.base import Maps, Pixels

SIZE = (320, 240)
TINY = pretrained.locate("duotrack-tiny")


class Sleeper:
    """A session that takes its time and answers nonsense: boxes of the size of the crop, at its corner."""

    template_size, search_size = 32, 64

    def __init__(self, seconds: float = 0.0) -> None:
        self.name = "sleeper"
        self.seconds = seconds
        self.searched: list[tuple[int, ...]] = []

    def template(self, crops: Pixels, box: Any = None) -> int:
        return len(crops[0])

    def join(self, states: Sequence[int]) -> int:
        return sum(states)

    def describe(self, crops: Pixels) -> None:
        return None

    def search(self, state: int, crops: Pixels) -> Maps:
        assert crops.shape[1] == state
        self.searched.append(crops.shape)
        time.sleep(self.seconds)
        score, size, offset = (np.ones((state, channels, 4, 4), np.float32) for channels in (1, 2, 2))
        return Maps(score, size, offset, np.ones((state, 4), np.float32))


def frame(size: tuple[int, int] = SIZE) -> Frame:
    return Frame(*np.zeros((2, size[1], size[0], 3), np.uint8))


@settings(max_examples=30)
@given(
    st.floats(1.5, 6),
    st.integers(2, 17),
    st.tuples(st.integers(64, 400), st.integers(64, 400)),
    st.integers(1, 3),
)
def test_targets_hold_still(search_factor: float, grid: int, size: tuple[int, int], targets: int) -> None:
    model = ModelConfig(stride=4, search_size=4 * grid, template_size=32)
    session = profile._StillSession(Sleeper(), model, search_factor, size, targets)
    tracker = profile._show(session, CropSettings(search_factor=search_factor), frame(size))
    for _ in range(100):
        estimates = tracker.update(frame(size))
    found = estimates.values() if isinstance(estimates, dict) else [estimates]
    np.testing.assert_allclose([estimate.box for estimate in found], session.boxes, rtol=0, atol=0.01)


def test_the_network_runs_in_every_frame_on_all_targets() -> None:
    sleeper = Sleeper()
    session = profile._StillSession(sleeper, ModelConfig(search_size=64, template_size=32), 4.0, SIZE, 3)
    tracker = profile._show(session, CropSettings(), frame())
    for _ in range(5):
        tracker.update(frame())
    assert sleeper.searched == 5 * [(2, 3, 64, 64, 3)]


@pytest.mark.parametrize("targets", [1, 2])
def test_the_time_of_the_network_is_told_from_that_of_the_tracker(targets: int) -> None:
    session = profile._StillSession(Sleeper(0.05), ModelConfig(search_size=64, template_size=32), 4.0, SIZE, targets)
    tracker = profile._show(session, CropSettings(), frame())
    crop, network, rest, whole = np.median([profile._times(tracker, frame()) for _ in range(5)], axis=0)
    assert network >= 50
    assert 0 < crop < network
    assert 0 < rest < network
    assert whole >= network


@pytest.fixture(scope="module")
def tiny() -> profile.Profile:
    return profile.measure("duotrack-tiny", backend="onnx", threads=1, frames=5, size=SIZE)


def test_shipped_weights(tiny: profile.Profile) -> None:
    assert (tiny.name, tiny.weights, tiny.backend, tiny.device) == ("duotrack-tiny", "shipped", "onnx", "cpu")
    assert (tiny.threads, tiny.targets, tiny.frames, tiny.frame_size) == (1, 1, 5, SIZE)
    assert tiny.parameters == count(pretrained.read_config(TINY).model).parameters
    assert tiny.macs_without_attention_products < tiny.macs
    graphs = (TINY / "model.onnx", TINY / "model_template.onnx")
    assert tiny.memory.weights == sum(path.stat().st_size for path in graphs)
    assert tiny.memory.peak is None or tiny.memory.peak > tiny.memory.weights
    assert tiny.memory.gpu_peak is None


def test_speeds_of_a_network_that_takes_20_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = Sleeper(0.02)
    sleeper.name = "onnx"
    monkeypatch.setattr(profile, "open_session", lambda *_: sleeper)
    found = profile.measure("duotrack-tiny", frames=10, size=SIZE)
    assert 0 < found.fps < found.fps_network <= 50
    assert found.milliseconds["network"].low >= 20
    assert all(spread.low <= spread.median <= spread.high for spread in found.milliseconds.values())
    assert len(sleeper.searched) == 10 + 3  # to calibrate, the first, and a tenth to warm up


def test_the_published_speed_stands_beside_it_as_published(tiny: profile.Profile) -> None:
    shown = " ".join(profile.text(tiny).split())
    assert "96.4 frames per second" in shown
    assert "NVIDIA GeForce RTX 4090; not measured here" in shown
    assert tiny.published.fps == 96.4


def test_several_targets() -> None:
    several = profile.measure("duotrack-tiny", backend="onnx", threads=1, targets=3, frames=2, size=SIZE)
    assert several.targets == 3
    assert "targets per second" in " ".join(profile.text(several).split())


def test_a_folder_is_measured_on_torch(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(TINY / name)
    found = profile.measure(folder, device="cpu", threads=1, frames=2, size=SIZE)
    assert (found.name, found.weights, found.backend) == (str(folder), str(folder), "torch")
    assert found.memory.weights == (TINY / "model.safetensors").stat().st_size
    assert "torch" in found.versions


@pytest.mark.slow
def test_a_preset_gets_random_weights() -> None:
    said: list[str] = []
    found = profile.measure("debug", threads=1, frames=2, size=SIZE, say=said.append)
    assert (found.weights, found.backend) == ("random", "onnx")
    assert said == ["making random weights for debug", "measuring 2 frames"]
    assert "random, for the preset debug" in profile.text(found)


def test_random_weights_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "duotrack\[torch\]"'):
        profile.measure("debug")


def test_why_random_weights_could_not_be_made(tmp_path: Path) -> None:
    taken = tmp_path / "a file"
    taken.touch()
    with pytest.raises(ChildProcessError, match=r"random weights of debug could not be made: FileExistsError.*a file"):
        profile._make_random_elsewhere(taken, "debug", [])


def test_neither_weights_nor_preset() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist.*duotrack-tiny.*preset.*ckd-base"):
        profile.measure("nowhere")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "one target and one frame at least are needed, not 1 and 0"),
        ({"targets": 0}, "one target and one frame at least are needed, not 0 and 100"),
        ({"size": (640, 48)}, "64 x 64 pixels at least are needed, not 640 x 48"),
    ],
)
def test_nothing_to_measure(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile.measure("duotrack-tiny", **wrong)


def test_energy_of_a_frame() -> None:
    spent = profile._per_frame(energy.Reading(60.0, "a counter"), seconds=4.0, frames=200)
    assert spent == profile.Energy(joules_per_frame=0.3, watts=15.0, source="a counter")


def test_energy_that_cannot_be_told() -> None:
    unknown = profile._per_frame(energy.Reading(None, "not available: for root"), seconds=4.0, frames=200)
    assert unknown == profile.Energy(None, None, "not available: for root")
    short = profile._per_frame(energy.Reading(60.0, "a counter"), seconds=0.4, frames=200)
    assert short.watts is None
    assert "0.4 s are too short" in short.source


def test_tables(tiny: profile.Profile) -> None:
    counted = {
        "processor": profile.Energy(0.3, 15.0, "a counter"),
        "gpu": profile.Energy(None, None, "not available: x"),
    }
    memory = profile.Memory(weights=3 * 2**20, peak=None, gpu_peak=5 * 2**20)
    shown = " ".join(profile.text(dataclasses.replace(tiny, energy=counted, memory=memory)).split())
    assert "0.300 J a frame, 15.0 W (a counter)" in shown
    assert "energy, gpu not available: x" in shown
    assert "weights 3.0 MiB, process at most not available, GPU at most 5.0 MiB" in shown
    assert "2.88 M" in shown
    assert "0.877 G; 0.811 G without attention products" in shown


def command(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nfrom duotrack.cli import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "profile", *arguments], capture_output=True, text=True, timeout=120
    )


def test_the_command_without_torch() -> None:
    """What a program may read, of an installation that cannot train."""
    without = "sys.modules['torch'] = None"
    result = command("--json", "--frames", "2", "--threads", "1", "--size", "320x240", before=without)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["fps"] > 0
    assert found["frame_size"] == [320, 240]
    assert set(found["milliseconds"]) == set(profile.STAGES)
    assert found["published"]["hardware"] == "NVIDIA GeForce RTX 4090"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--size", "640"], 2, "width and height such as 640x480 are needed, not '640'"),
        (["--size", "0x480"], 2, "width and height such as 640x480 are needed, not '0x480'"),
        (["--frames", "0"], 2, "a whole number above 0 is needed"),
        (["nowhere"], 1, "or a preset for random weights (ckd-base, duotrack-tiny, debug)"),
    ],
)
def test_wrong_use(arguments: list[str], status: int, message: str) -> None:
    result = command(*arguments)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr
