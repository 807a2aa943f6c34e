"""Runs over rendered data sets, stopped in every way that a run meets: what remains must be the same tracks."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack import __version__, pretrained
from duotrack.data.datasets import LAYOUTS
from duotrack.data.recordings import open_sequence
from duotrack.evaluation.run import Outcome, Pretrained, rank_from_environment, run_tracker, share
from duotrack.results import Track, read_boxes
from duotrack.sequence import Frame
from duotrack.tracking import Estimate

from ..layouts import FILES, write_dataset

FRAMES = 12
ABOUT = {"name": "warmest", "settings": {"level": 150}}

PROGRAM = Path(__file__).parent / "runner.py"
"""Runs the trackers below in processes of their own."""


class Warmest:
    """Finds what is warm, and remembers how many frames it was shown since the target."""

    def initialize(self, frame: Frame, box: npt.NDArray[np.float64]) -> None:
        self.frames = 1
        self.box = np.zeros(4)

    def update(self, frame: Frame) -> Estimate:
        self.frames += 1
        x, y, w, h = cv2.boundingRect((frame.infrared[..., 0] > 150).astype(np.uint8))
        self.box[:] = x, y, w, h  # one array for all frames, as a careless tracker has it
        return Estimate(self.box, 1 / self.frames)


class NoTracker:
    def __init__(self) -> None:
        raise ValueError("its weights are not there")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("DUOTRACK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Data:
    """A rendered data set: its name as a benchmark, its folder, and where the target is."""

    name: str
    root: Path
    boxes: dict[str, npt.NDArray[np.int64]]

    def run(self, output: Path, tracker: Any = Warmest, about: Any = ABOUT, **options: Any) -> Outcome:
        return run_tracker(tracker, about, self.name, self.root, output, **options)


def render(root: Path, layout: str, **options: Any) -> Data:
    boxes = write_dataset(root, layout, **{"frames": FRAMES, **options})
    return Data({"vtuav": "vtuav-st"}.get(layout, layout), root, boxes)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return render(tmp_path / "data", "gtot", sequences=4)


def tracks(folder: Path) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Every track of a run folder: the bytes of its boxes, and all else but the times."""
    found = {}
    for path in sorted(folder.glob("[!.]*.txt")):
        about = json.loads(path.with_suffix(".json").read_text())
        assert len(about.pop("milliseconds")) == len(about["scores"])
        found[path.stem] = path.read_bytes(), about
    return found


def visible_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


# What a run leaves


@pytest.mark.parametrize("layout", FILES)
def test_every_layout_is_tracked_frame_by_frame_from_its_first_box(tmp_path: Path, layout: str) -> None:
    data = render(tmp_path / "data", layout)
    outcome = data.run(tmp_path / "run")
    assert (outcome.sequences, outcome.tracked, outcome.failed) == (3, 3, {})
    assert outcome.frames == 3 * FRAMES
    assert outcome.fps == outcome.frames / outcome.seconds
    assert visible_files(tmp_path / "run") == {"run.json", *(f"{n}.{s}" for n in data.boxes for s in ("txt", "json"))}
    for name, truth in data.boxes.items():
        track = Track.load(tmp_path / "run" / f"{name}.txt")
        np.testing.assert_array_equal(track.boxes[0], truth[0])
        np.testing.assert_allclose(
            track.boxes[1:], truth[1:] + np.array((1, 0, 0, 0)), atol=1 if layout != "gtot" else 0
        )
        np.testing.assert_array_equal(track.scores, 1 / np.arange(1, FRAMES + 1))
        assert (track.milliseconds > 0).all()
        assert track.info["source"] == {"dataset": data.name, "sequence": name}
        assert track.info["settings"] == {"level": 150, "box": truth[0].tolist()}
        assert track.info["versions"] == {"duotrack": __version__, "numpy": np.__version__, "opencv": cv2.__version__}


def test_run_json_says_whose_tracks_these_are_and_how_far_it_is(data: Data, tmp_path: Path) -> None:
    outcome = data.run(tmp_path / "run")
    said = json.loads((tmp_path / "run" / "run.json").read_text())
    assert said["dataset"] == "gtot"
    assert {key: said[key] for key in ABOUT} == ABOUT
    assert said["versions"]["numpy"] == np.__version__
    assert said["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "cores" in said["machine"]
    assert (said["sequences"], said["tracked"], said["frames"], said["failed"]) == (4, 4, 4 * FRAMES, {})
    milliseconds = [Track.load(path).milliseconds.sum() for path in (tmp_path / "run").glob("[!.]*.txt")]
    assert said["seconds"] == outcome.seconds == pytest.approx(sum(milliseconds) / 1000)
    assert said["fps"] == outcome.fps


def test_a_subset_may_grow(data: Data, tmp_path: Path) -> None:
    assert data.run(tmp_path / "run", subset=["car"]).tracked == 1
    assert set(tracks(tmp_path / "run")) == {"car"}
    assert data.run(tmp_path / "run").tracked == 4
    with pytest.raises(ValueError, match=r"'cars'.*did you mean 'car'"):
        data.run(tmp_path / "run", subset=["cars"])


def test_the_shipped_tracker_is_the_one_of_the_library(data: Data, tmp_path: Path) -> None:
    tracker = Pretrained()
    data.run(tmp_path / "run", tracker, tracker.about(), subset=["car"])
    track = Track.load(tmp_path / "run" / "car.txt")
    weights = pretrained.locate("duotrack-tiny") / pretrained.WEIGHTS
    assert track.info["weights"]["name"] == "duotrack-tiny"
    assert track.info["weights"]["sha256"] == pretrained.sha256(weights)
    settings = track.info["settings"]
    assert (settings["backend"], settings["device"], settings["threads"]) == ("onnx", "cpu", 1)
    assert settings["crops"]["search_factor"] == 4
    assert "onnxruntime" in track.info["versions"]
    sequence = open_sequence(data.root / "car", LAYOUTS["gtot"])
    alone = tracker().run(sequence, data.boxes["car"][0])
    np.testing.assert_allclose(track.boxes, [estimate.box for estimate in alone], rtol=0, atol=5e-5)


def test_an_export_without_the_weights_is_known_by_its_graph(data: Data, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(pretrained.locate("duotrack-tiny"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copyfile(folder / pretrained.SEARCH_GRAPH, folder / pretrained.INT8_GRAPH)
    tracker = Pretrained(folder)
    data.run(tmp_path / "run", tracker, tracker.about(), subset=["car"])
    track = Track.load(tmp_path / "run" / "car.txt")
    assert track.info["weights"]["sha256"] == pretrained.sha256(folder / pretrained.SEARCH_GRAPH)
    assert track.info["settings"]["precision"] == "fp32"
    with (folder / pretrained.INT8_GRAPH).open("ab") as graph:
        graph.write(b"other")
    rounded = Pretrained(folder, precision="int8").about()
    assert rounded["weights"]["sha256"] == pretrained.sha256(folder / pretrained.INT8_GRAPH)
    assert rounded["settings"]["precision"] == "int8"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_precision_that_is_not_to_be_had(data: Data, tmp_path: Path, workers: int) -> None:
    tracker = Pretrained(precision="bf16")
    with pytest.raises(ValueError, match="openvino and torch have bf16"):
        data.run(tmp_path / "run", tracker, tracker.about(), workers=workers)
    assert not tracks(tmp_path / "run")


# Going on


def test_what_is_whole_is_left_alone_and_what_is_not_is_made_again(data: Data, tmp_path: Path) -> None:
    output = tmp_path / "run"
    data.run(output)
    first = tracks(output)
    (output / "car.txt").unlink()
    (output / "redcar.json").write_text("{")
    lines = (output / "boy'sbag.txt").read_text().splitlines(keepends=True)
    (output / "boy'sbag.txt").write_text("".join(lines[:-1]))
    kept = (output / "walk2.txt").stat().st_mtime_ns
    made: list[Warmest] = []
    data.run(output, lambda: made.append(Warmest()) or made[-1])  # type: ignore[func-returns-value]
    assert tracks(output) == first
    assert (output / "walk2.txt").stat().st_mtime_ns == kept
    data.run(output, NoTracker)  # none is made where there is nothing to do


def test_a_track_of_something_else_is_made_again(data: Data, tmp_path: Path) -> None:
    data.run(tmp_path / "run")
    expected = tracks(tmp_path / "run")
    data.run(tmp_path / "other", about={**ABOUT, "name": "coldest"})
    for suffix in ("txt", "json"):
        (tmp_path / "other" / f"car.{suffix}").replace(tmp_path / "run" / f"car.{suffix}")
    data.run(tmp_path / "run")
    assert tracks(tmp_path / "run") == expected


@pytest.mark.parametrize(
    ("about", "saying"),
    [
        ({**ABOUT, "name": "coldest"}, "name is 'warmest' there and 'coldest' now"),
        ({**ABOUT, "settings": {"level": 140}}, "settings.level is 150 there and 140 now"),
        ({**ABOUT, "weights": {"sha256": "abc"}}, "weights is None there"),
        ({**ABOUT, "versions": {"numpy": "1.0"}}, "versions.numpy"),
        ({"settings": {"level": 150}}, "name is 'warmest' there and None now"),
    ],
)
def test_another_tracker_is_refused(data: Data, tmp_path: Path, about: Any, saying: str) -> None:
    data.run(tmp_path / "run", subset=["car"])
    before = tracks(tmp_path / "run")
    with pytest.raises(ValueError, match="never mixed") as error:
        data.run(tmp_path / "run", about=about)
    assert saying in str(error.value)
    assert tracks(tmp_path / "run") == before


def test_another_data_set_is_refused(data: Data, tmp_path: Path) -> None:
    data.run(tmp_path / "run")
    with pytest.raises(ValueError, match="dataset is 'gtot' there and 'rgbt234' now"):
        render(tmp_path / "other", "rgbt234").run(tmp_path / "run")


def test_weights_may_move(data: Data, tmp_path: Path) -> None:
    def about(name: str) -> dict[str, Any]:
        return {"weights": {"name": name, "sha256": "abc"}}

    data.run(tmp_path / "run", about=about("here"))
    before = tracks(tmp_path / "run")
    data.run(tmp_path / "run", NoTracker, about=about("elsewhere"))
    assert tracks(tmp_path / "run") == before


def test_a_folder_of_other_things_is_refused(data: Data, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"not empty and has no run\.json"):
        data.run(tmp_path / "run")
    assert visible_files(tmp_path / "run") == {"notes.txt"}


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_run_json_is_named(data: Data, tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        data.run(tmp_path / "run")


@pytest.mark.parametrize(
    ("about", "saying"), [({"frames": 3}, "'frames'"), ({"x": {1, 2}}, "JSON"), ({"x": float("nan")}, "JSON")]
)
def test_what_cannot_be_said_of_a_tracker(data: Data, tmp_path: Path, about: Any, saying: str) -> None:
    with pytest.raises(ValueError, match=saying):
        data.run(tmp_path / "run", about=about)
    assert not (tmp_path / "run").exists()


# One bad sequence


def test_a_corrupt_image_costs_one_sequence_until_it_is_repaired(data: Data, tmp_path: Path) -> None:
    image = data.root / "redcar" / "i" / "00005i.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    outcome = data.run(tmp_path / "run")
    assert list(outcome.failed) == ["redcar"]
    assert str(image) in outcome.failed["redcar"]
    assert set(tracks(tmp_path / "run")) == set(data.boxes) - {"redcar"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["failed"] == outcome.failed
    image.write_bytes(whole)
    assert data.run(tmp_path / "run").failed == {}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["failed"] == {}
    data.run(tmp_path / "undisturbed")
    assert tracks(tmp_path / "run") == tracks(tmp_path / "undisturbed")


def test_a_modality_that_is_missing_costs_one_sequence(data: Data, tmp_path: Path) -> None:
    (data.root / "car" / "i").rename(data.root / "away")
    outcome = data.run(tmp_path / "run")
    assert list(outcome.failed) == ["car"]
    assert str(data.root / "car" / "i") in outcome.failed["car"]
    assert outcome.tracked == 3


class Stumbling(Warmest):
    """Raises what only bugs raise, in one sequence; gives what is no box, in another."""

    stumbles: ClassVar[dict[str, list[float]]] = {}

    def initialize(self, frame: Frame, box: npt.NDArray[np.float64]) -> None:
        super().initialize(frame, box)
        self.first = box.tolist()

    def update(self, frame: Frame) -> Estimate:
        estimate = super().update(frame)
        if self.first == self.stumbles["IndexError"] and self.frames == 5:
            raise IndexError("list index out of range")
        if self.first == self.stumbles["infinite"]:
            return Estimate(np.array([np.inf, 0, 1, 1]), 0.5)
        return estimate


def test_a_tracker_that_fails_costs_one_sequence_and_says_where(data: Data, tmp_path: Path) -> None:
    Stumbling.stumbles = {"IndexError": data.boxes["car"][0].tolist(), "infinite": data.boxes["walk2"][0].tolist()}
    outcome = data.run(tmp_path / "run", Stumbling)
    assert set(outcome.failed) == {"car", "walk2"}
    assert "test_run.py" in outcome.failed["car"]
    assert "IndexError: list index out of range" in outcome.failed["car"]
    assert "boxes of frame 1 are infinite" in outcome.failed["walk2"]
    assert outcome.tracked == 2


def test_sequences_that_cannot_start(data: Data, tmp_path: Path) -> None:
    (data.root / "car" / "init.txt").write_text("1 2 nan 4\n")
    (data.root / "redcar").rename(data.root / "run")
    outcome = data.run(tmp_path / "run")
    assert set(outcome.failed) == {"car", "run"}
    assert "first box" in outcome.failed["car"]
    assert "rename the folder" in outcome.failed["run"]
    assert outcome.tracked == 2


def test_a_tracker_without_scores(data: Data, tmp_path: Path) -> None:
    class Still:
        def initialize(self, frame: Frame, box: npt.NDArray[np.float64]) -> None:
            self.box = box

        def update(self, frame: Frame) -> Estimate:
            return Estimate(self.box, score=np.nan)

    for tracker in (Still, NoTracker):  # the second time, nothing is left to do
        assert data.run(tmp_path / "run", tracker).tracked == 4
    track = Track.load(tmp_path / "run" / "car.txt")
    np.testing.assert_array_equal(track.boxes, np.tile(data.boxes["car"][0], (FRAMES, 1)))
    assert np.isnan(track.scores[1:]).all()


# Several processes


@given(lengths=st.dictionaries(st.text(max_size=4), st.integers(1, 2000), max_size=60), number=st.integers(1, 9))
def test_shares_have_every_sequence_once_and_are_even(lengths: dict[str, int], number: int) -> None:
    shares = share(lengths, number)
    assert len(shares) == number
    assert sorted(name for part in shares for name in part) == sorted(lengths)
    totals = [sum(lengths[name] for name in part) for part in shares]
    assert max(totals) - min(totals) <= max(lengths.values(), default=0)
    assert share(dict(reversed(lengths.items())), number) == shares  # wherever it is computed


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_cover_every_sequence_once(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    data.run(tmp_path / "alone")
    monkeypatch.setenv("WORLD_SIZE", str(ranks))
    covered: list[str] = []
    for rank in range(ranks):
        monkeypatch.setenv("RANK", str(rank))
        outcome = data.run(tmp_path / f"rank{rank}")  # a folder each shows who did what
        covered += tracks(tmp_path / f"rank{rank}")
        assert outcome.sequences == 4
        assert data.run(tmp_path / "together").tracked == len(covered)
    assert sorted(covered) == sorted(data.boxes)
    assert tracks(tmp_path / "together") == tracks(tmp_path / "alone")


def test_what_one_rank_could_not_do_stays_said_after_the_others(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in data.boxes:
        (data.root / name / "v" / "00003v.png").write_bytes(b"")
    monkeypatch.setenv("WORLD_SIZE", "2")
    failed: list[str] = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        failed += data.run(tmp_path / "run").failed
    assert sorted(failed) == sorted(data.boxes)
    assert set(json.loads((tmp_path / "run" / "run.json").read_text())["failed"]) == set(data.boxes)


def test_ranks_agree_though_one_lacks_images(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.run(tmp_path / "alone")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    failed = data.run(tmp_path / "run").failed
    for name in set(data.boxes) - set(tracks(tmp_path / "run")):
        (data.root / name / "i").rename(data.root / name / "away")
    assert failed == data.run(tmp_path / "run").failed == {}  # what the others lack is not ours to report
    monkeypatch.setenv("RANK", "1")
    failed = data.run(tmp_path / "run").failed
    assert set(failed) | set(tracks(tmp_path / "run")) == set(data.boxes)
    assert len(failed) == 2


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("a", "2"), ("0", ""), ("0", "0")])
def test_ranks_that_cannot_be(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ValueError, match="RANK"):
        rank_from_environment()


def test_without_an_environment_there_is_one_rank() -> None:
    assert rank_from_environment() == (0, 1)


def test_a_tracker_that_other_processes_cannot_make(data: Data, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers=1"):
        data.run(tmp_path / "run", lambda: Warmest(), workers=2)
    with pytest.raises(ValueError, match=r"cannot go on.*no-such-weights"):
        data.run(tmp_path / "run", Pretrained("no-such-weights"), workers=2)
    with pytest.raises(ValueError, match="workers"):
        data.run(tmp_path / "run", workers=0)


def program(*arguments: object) -> list[str]:
    return [sys.executable, str(PROGRAM), *map(str, arguments)]


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts commands in process groups of their own; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(command: list[str]) -> "subprocess.Popen[str]":
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, start_new_session=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ends(process: "subprocess.Popen[str]") -> str:
    """Waits for a process and all that it started, which have its stdout open as long as they live; what it printed."""
    stdout, _ = process.communicate(timeout=60)
    return stdout


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def kill_and_go_on(start: Callable[..., Any], command: list[str], output: Path, kills: int) -> None:
    """Kills a run at random moments, each time with at least one track more, and lets the last one end."""
    moments = random.Random(str(output))
    for _ in range(kills):
        before = count_tracks(output)
        process = start(command)
        wait_for(lambda: count_tracks(output) > before or process.poll() is not None)  # noqa: B023
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        ends(process)
        for path in output.glob("[!.]*.txt"):
            Track.load(path)  # what bears a name is whole
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in output.glob(".*") if not path.name.startswith(".run.")} == set()


def count_tracks(folder: Path) -> int:
    return len([*folder.glob("[!.]*.txt")])


@pytest.mark.parametrize("workers", [1, 3])
def test_killed_at_random_and_started_again(start: Callable[..., Any], tmp_path: Path, workers: int) -> None:
    data = render(tmp_path / "data", "lasher", sequences=6)
    data.run(tmp_path / "alone")
    command = program("Slow", data.name, data.root, tmp_path / "run", workers)
    kill_and_go_on(start, command, tmp_path / "run", kills=2)
    assert tracks(tmp_path / "run") == tracks(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("layout", FILES)
def test_the_shipped_tracker_killed_at_random_and_started_again(
    start: Callable[..., Any], tmp_path: Path, layout: str
) -> None:
    data = render(tmp_path / "data", layout, sequences=4, frames=16)
    tracker = Pretrained()
    data.run(tmp_path / "alone", tracker, tracker.about())
    for workers in (1, 3):
        output = tmp_path / f"run{workers}"
        command = [sys.executable, "-m", "duotrack", "test", "--dataset", data.name, "--data", str(data.root)]
        kill_and_go_on(start, [*command, "--output", str(output), "--workers", str(workers)], output, kills=1)
        assert tracks(output) == tracks(tmp_path / "alone")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_stopped_it_keeps_what_is_done_and_leaves_no_process(
    start: Callable[..., Any], tmp_path: Path, how: signal.Signals, workers: int
) -> None:
    data = render(tmp_path / "data", "gtot", sequences=5, frames=40)
    output = tmp_path / "run"
    process = start(program("Slow", data.name, data.root, output, workers))
    wait_for(lambda: any(output.glob("[!.]*.txt")) or process.poll() is not None)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    stdout = ends(process)
    assert process.returncode == 130
    done = len(tracks(output))
    assert 0 < done < 5
    assert f"{done} of 5 sequences are tracked. The same command goes on." in stdout


def test_workers_do_not_outlive_a_parent_that_is_killed(start: Callable[..., Any], tmp_path: Path) -> None:
    data = render(tmp_path / "data", "gtot", sequences=4, frames=100)
    process = start(program("Slow", data.name, data.root, tmp_path / "run", 2))
    wait_for(lambda: any((tmp_path / "run").glob("[!.]*.txt")) or process.poll() is not None)
    process.kill()
    ends(process)


def test_a_worker_that_is_killed_is_noticed_and_named(data: Data, tmp_path: Path) -> None:
    command = program("Dying", data.name, data.root, tmp_path / "run", 2)
    deadly = ",".join(map(str, data.boxes["redcar"][0]))
    environment = {**os.environ, "DEADLY": deadly}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    failed = json.loads(done.stdout)
    assert 1 <= len(failed) <= 2  # its whole share
    reason = failed["redcar"]
    assert "when it was at redcar, was killed by signal 9" in reason
    assert "fewer workers" in reason
    assert set(tracks(tmp_path / "run")) == set(data.boxes) - set(failed)


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    render(tmp_path / "GTOT", "gtot", sequences=4)
    text = (Path(__file__).parents[2] / "docs" / "runs.md").read_text("utf-8")
    (tmp_path / "still.py").write_text(text.partition("```python\n")[2].partition("```")[0], "utf-8")
    done = subprocess.run(
        [sys.executable, "still.py"], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 of 4 sequences, ")


# The command


def duotrack(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "duotrack", "test", *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


def test_the_command_names_what_failed_and_goes_on(data: Data, tmp_path: Path) -> None:
    image = data.root / "redcar" / "v" / "00002v.png"
    whole = image.read_bytes()
    image.write_bytes(b"no image")
    arguments = ("--dataset", "gtot", "--data", data.root, "--output", tmp_path / "run")
    result = duotrack(*arguments, "--subset", "car,redcar")
    assert result.returncode == 1
    assert "error: redcar: " in result.stderr
    assert str(image) in result.stderr
    assert "Traceback" not in result.stderr
    assert set(tracks(tmp_path / "run")) == {"car"}

    image.write_bytes(whole)
    result = duotrack(*arguments, "--subset", "car,redcar", "--json")
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["sequences"], said["tracked"], said["frames"], said["failed"]) == (2, 2, 2 * FRAMES, {})
    assert len(read_boxes(tmp_path / "run" / "redcar.txt")) == FRAMES

    result = duotrack(*arguments, "--threads", "2")
    assert result.returncode == 1
    assert "settings.threads is 1 there and 2 now" in result.stderr


def test_torchrun_is_not_made_to_stop_the_other_ranks(data: Data, tmp_path: Path) -> None:
    (data.root / "car" / "v" / "00002v.png").write_bytes(b"no image")
    arguments = ("--dataset", "gtot", "--data", data.root, "--output", tmp_path / "run", "--subset", "car")
    result = duotrack(*arguments, RANK="0", WORLD_SIZE="2", TORCHELASTIC_RUN_ID="x")
    assert result.returncode == 0
    assert "error: car: " in result.stderr


@pytest.mark.slow
def test_under_torchrun_one_bad_sequence_costs_no_other(data: Data, tmp_path: Path) -> None:
    tracker = Pretrained()
    data.run(tmp_path / "alone", tracker, tracker.about())
    (data.root / "car" / "v" / "00002v.png").write_bytes(b"no image")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "duotrack"]
    arguments = ["test", "--dataset", "gtot", "--data", str(data.root), "--output", str(tmp_path / "run")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "error: car: " in done.stderr
    expected = tracks(tmp_path / "alone")
    del expected["car"]
    assert tracks(tmp_path / "run") == expected
    assert set(json.loads((tmp_path / "run" / "run.json").read_text())["failed"]) == {"car"}


@pytest.mark.parametrize(
    ("arguments", "saying"),
    [
        (["--data", "x", "--output", "y"], "--dataset"),
        (["--dataset", "gtot", "--output", "y"], "--data"),
        (["--dataset", "gtot", "--data", "x"], "--output"),
        (["--dataset", "otb", "--data", "x", "--output", "y"], "'otb'"),
        (["--dataset", "gtot", "--data", "x", "--output", "y", "--workers", "0"], "above 0"),
    ],
)
def test_wrong_use(arguments: list[str], saying: str) -> None:
    result = duotrack(*arguments)
    assert result.returncode == 2
    assert saying in result.stderr
