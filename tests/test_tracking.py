"""The tracker against the published tracking loop, and its behaviour by hand with sessions of ten lines."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack import __version__, pretrained
from duotrack.crops import CropSettings
from duotrack.model.config import ModelConfig
from duotrack.sequence import Frame, Sequence
from duotrack.sessions.base import Floats, Maps, Pixels, Session
from duotrack.tracking import Backend, Estimate, Tracker, open_session, record

from .model.published import fixture_student

# The published loop


@pytest.fixture(scope="session")
def weights_folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the weights folder of a run of ``fixtures/track``."""
    from duotrack.model import Elimination, weights

    def make(run: str) -> Path:
        elimination = Elimination((2, 4, 6), 0.7, "CTR_POINT") if run == "elimination" else None
        network = fixture_student(shared / "fixtures" / "network", elimination)
        return weights.save(tmp_path_factory.mktemp(run), network, crops=CropSettings())

    return make


@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("run", ["full", "elimination"])
def test_the_published_loop_gives_the_published_boxes(
    shared: Path, weights_folder: Callable[[str], Path], run: str, backend: Backend
) -> None:
    folder = weights_folder(run)
    if backend == "onnx":
        from duotrack.export import export_onnx

        export_onnx(folder)
    images = shared / "fixtures" / "track"
    expected = json.loads((images / "track_expected.json").read_text())
    tracker = Tracker.from_pretrained(folder, backend=backend, device="cpu", threads=1)
    assert tracker.session.name == backend
    for number, box in enumerate(expected[run]["boxes_xywh"], 1):
        frame = Frame(*(read_image(images / f"{name}_{number:02d}.png") for name in ("visible", "infrared")))
        if number == 1:
            tracker.initialize(frame, expected["init_box_xywh"])
            continue
        estimate = tracker.update(frame)
        np.testing.assert_allclose(estimate.box, box, rtol=0, atol=0.01)
        assert estimate.score == pytest.approx(expected[run]["per_frame"][number - 2]["raw_at_argmax"], abs=1e-5)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB), np.uint8)


# By hand. The scripted session gives the same maps whatever it sees, and keeps what it was shown.


class Scripted:
    name = "scripted"
    template_size = 8
    search_size = 16

    def __init__(self, score: npt.ArrayLike, offset: tuple[float, float], size: tuple[float, float]) -> None:
        peaks = np.array(score, np.float32)[None, None]
        offsets, sizes = (np.array(v, np.float32).reshape(1, 2, 1, 1) * np.ones_like(peaks) for v in (offset, size))
        self.maps = Maps(peaks, sizes, offsets, np.full((1, 4), np.nan, np.float32))  # its box knows no window
        self.shown: list[tuple[Pixels, Floats | None]] = []
        self.searched: list[tuple[object, Pixels]] = []

    def template(self, crops: Pixels, box: Floats | None = None) -> int:
        self.shown.append((crops, box))
        return len(self.shown)

    def join(self, states: Any) -> Any:
        raise AssertionError("one target has nothing to join")

    def describe(self, crops: Pixels) -> None:
        return None

    def search(self, state: object, crops: Pixels) -> Maps:
        self.searched.append((state, crops))
        return self.maps


def at(row: int, col: int, value: float = 0.8) -> npt.NDArray[np.float32]:
    score = np.full((4, 4), 0.01, np.float32)
    score[row, col] = value
    return score


def grey(width: int = 160, height: int = 120, visible: int = 90, infrared: int = 200) -> Frame:
    return Frame(*(np.full((height, width, 3), level, np.uint8) for level in (visible, infrared)))


def test_a_box_from_the_maps_by_hand() -> None:
    session = Scripted(at(1, 2), offset=(0.5, 0.25), size=(0.25, 0.5))
    tracker = Tracker(session)
    tracker.initialize(grey(), (40, 30, 16, 16))
    estimate = tracker.update(grey())
    # The search window is 64 x 64 pixels from (16, 6). The peak is at (2.5, 1.25) of 4 x 4 cells: (56, 26).
    np.testing.assert_allclose(estimate.box, (48, 10, 16, 32))
    assert estimate.box.dtype == np.float64
    assert estimate.score == np.float32(0.8)
    # The next window is ceil(4 sqrt(16 * 32)) = 91 pixels wide, from (10.5, -19.5), and the box a quarter by a half of
    # it around (67.375, 8.9375), of which the image's border leaves less.
    np.testing.assert_allclose(tracker.update(grey()).box, (56, 0, 22.75, 31.6875))


@pytest.mark.parametrize("calibration", [0.0, 0.5, 1.0])
def test_boxes_are_corrected_by_the_error_on_the_first_one(calibration: float) -> None:
    """The network finds 12.8 x 20 pixels where 16 x 16 are given, 1.6 pixels too far right and 1.6 too high."""
    session = Scripted(at(2, 2), offset=(0.1, -0.1), size=(0.2, 0.3125))
    tracker = Tracker(session, calibration=calibration)
    tracker.initialize(grey(), (40, 30, 16, 16))
    width, height = 12.8 * (16 / 12.8) ** calibration, 20 * (16 / 20) ** calibration
    cx, cy = 49.6 - 1.6 * calibration, 36.4 + 1.6 * calibration
    expected = (cx - width / 2, cy - height / 2, width, height)
    np.testing.assert_allclose(tracker.update(grey()).box, expected, rtol=1e-6)
    assert len(session.searched) == (2 if calibration else 1)  # once more for the first frame
    assert all(state == 1 for state, _ in session.searched)


def test_a_first_box_that_the_network_does_not_find_corrects_nothing() -> None:
    found = []
    for calibration in (0.0, 1.0):
        tracker = Tracker(Scripted(at(0, 1), offset=(0, 0), size=(0.2, 0.3125)), calibration=calibration)
        tracker.initialize(grey(), (40, 30, 16, 16))
        found.append(tracker.update(grey()).box)
    np.testing.assert_array_equal(found[0], found[1])


def test_what_the_session_is_shown() -> None:
    session = Scripted(at(1, 2), offset=(0.5, 0.5), size=(0.25, 0.25))
    tracker = Tracker(session)
    tracker.initialize(grey(), (40, 30, 16, 16))
    tracker.update(grey())
    (template, box), (state, search) = session.shown[0], session.searched[0]
    assert template.shape == (2, 1, 8, 8, 3)
    assert search.shape == (2, 1, 16, 16, 3)
    assert template.dtype == search.dtype == np.uint8
    for crops in (template, search):
        assert (crops[0] == 90).all()
        assert (crops[1] == 200).all()
    assert state == 1
    # The template window is twice as wide as the box; the middle of a crop of 8 pixels is taken at 3.5.
    assert box is not None
    assert box.dtype == np.float32
    np.testing.assert_allclose(box, [[(3.5 - 2) / 8, (3.5 - 2) / 8, 0.5, 0.5]])


@pytest.mark.parametrize(("factors", "sides"), [((2.0, 4.0), (32, 64)), ((1.5, 5.0), (24, 80))])
def test_factors_set_the_windows(factors: tuple[float, float], sides: tuple[int, int]) -> None:
    x = np.arange(160, dtype=np.uint8)
    ramp = np.broadcast_to(x[None, :, None], (120, 160, 3)).copy()
    session = Scripted(at(1, 1), offset=(1, 1), size=(0.25, 0.25))
    tracker = Tracker(session, template_factor=factors[0], search_factor=factors[1])
    tracker.initialize(Frame(ramp, ramp), (72, 52, 16, 16))
    tracker.update(Frame(ramp, ramp))
    for crops, side in zip((session.shown[0][0], session.searched[0][1]), sides, strict=True):
        line = crops[0, 0, 0, :, 0].astype(float)
        assert (line[-1] - line[0]) / (len(line) - 1) == pytest.approx(side / len(line), rel=0.03)
        assert line.mean() == pytest.approx(79.5, abs=0.6)


@pytest.mark.parametrize(("power", "cell"), [(0.0, (0, 0)), (1.0, (0, 0)), (2.0, (1, 1)), (5.0, (1, 1))])
def test_the_power_of_the_window_decides_between_two_peaks(power: float, cell: tuple[int, int]) -> None:
    # The window over 4 x 4 cells is 0.1194 in a corner and 0.8181 in the middle: 0.107 against 0.098 at power 1,
    # 0.013 against 0.080 at power 2.
    score = np.maximum(at(0, 0, 0.9), at(1, 1, 0.12))
    tracker = Tracker(Scripted(score, offset=(0, 0), size=(0.25, 0.25)), window=power)
    tracker.initialize(grey(), (72, 52, 16, 16))
    estimate = tracker.update(grey())
    np.testing.assert_allclose(estimate.box[:2] + 8, (48 + 16 * cell[1], 28 + 16 * cell[0]))
    assert estimate.score == score[cell]  # the raw one


@pytest.mark.parametrize(("padding", "level"), [("zero", 0), ("mean", 90)])
def test_padding_is_passed_on(padding: Any, level: int) -> None:
    session = Scripted(at(1, 1), offset=(0, 0), size=(0.25, 0.25))
    tracker = Tracker(session, padding=padding)
    tracker.initialize(grey(), (0, 0, 16, 16))
    tracker.update(grey())
    for crops in (session.shown[0][0], session.searched[0][1]):
        assert (crops[0, 0, 0, 0] == level).all()
        assert (crops[0, 0, -3, -3] == 90).all()


@pytest.mark.parametrize(
    ("start", "peak", "expected"),
    [
        ((140, 40, 16, 16), (2, 3), (150, 40, 10, 16)),  # driven out to the right: 10 pixels stay
        ((4, 40, 16, 16), (2, 0), (0, 40, 10, 16)),  # left
        ((60, 4, 16, 16), (0, 2), (60, 0, 16, 10)),  # top
        ((60, 100, 16, 16), (3, 2), (60, 110, 16, 10)),  # bottom
    ],
)
def test_a_box_stays_in_the_image(start: Any, peak: tuple[int, int], expected: Any) -> None:
    # The left and upper edges of cell (2, 2) meet in the middle of the window; a whole offset leads to the far edge.
    offset = (1.0 if peak[1] == 3 else 0.0, 1.0 if peak[0] == 3 else 0.0)
    tracker = Tracker(Scripted(at(*peak), offset, size=(0.25, 0.25)))
    tracker.initialize(grey(), start)
    np.testing.assert_allclose(tracker.update(grey()).box, expected)


@given(
    box=st.tuples(st.floats(-20, 150), st.floats(-20, 110), st.floats(21, 300), st.floats(21, 300)),
    row=st.integers(0, 3),
    col=st.integers(0, 3),
    offset=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    size=st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)),
    rivals=st.booleans(),
)
def test_whatever_the_network_says_ten_pixels_stay_inside(
    box: Any, row: int, col: int, offset: tuple[float, float], size: tuple[float, float], rivals: bool
) -> None:
    score = np.maximum(at(row, col), at(3 - row, 3 - col, 0.7))
    tracker = Tracker(Scripted(score, offset, size), rivals=rivals)
    tracker.initialize(grey(), box)
    for _ in range(4):
        estimate = tracker.update(grey())
        x, y, w, h = estimate.box
        assert min(160, x + w) - max(0, x) >= 10 - 1e-9
        assert min(120, y + h) - max(0, y) >= 10 - 1e-9
        assert 0 <= estimate.score <= 1


def test_an_estimate_is_the_caller_s_to_change() -> None:
    trackers = [Tracker(Scripted(at(1, 2), (0.5, 0.25), (0.25, 0.25))) for _ in range(2)]
    for tracker in trackers:
        tracker.initialize(grey(), (40, 30, 16, 16))
    trackers[0].update(grey()).box[:] = -1000
    trackers[1].update(grey())
    np.testing.assert_array_equal(trackers[0].update(grey()).box, trackers[1].update(grey()).box)


def test_a_frozen_camera_is_noticed() -> None:
    tracker = Tracker(Scripted(at(1, 2), (0.5, 0.25), (0.25, 0.25)))
    frames = [grey(visible=60 + t, infrared=min(100 + t, 105)) for t in range(30)]
    found = [estimate.frozen for estimate in tracker.run(frames, (40, 30, 16, 16))]
    assert found == [()] * 15 + [("infrared",)] * 15
    # A new track begins with new eyes.
    tracker.initialize(frames[-1], (40, 30, 16, 16))
    assert tracker.update(grey(visible=100, infrared=105)).frozen == ()


# Wrong use


def test_update_before_initialize() -> None:
    tracker = Tracker(Scripted(at(1, 1), (0, 0), (0.25, 0.25)))
    with pytest.raises(RuntimeError, match="initialize"):
        tracker.update(grey())


def test_a_frame_of_another_size() -> None:
    tracker = Tracker(Scripted(at(1, 1), (0, 0), (0.25, 0.25)))
    tracker.initialize(grey(), (40, 30, 16, 16))
    with pytest.raises(ValueError, match=r"\(160, 120\) pixels, not \(120, 160\)"):
        tracker.update(grey(120, 160))
    tracker.update(grey())  # the track goes on


@pytest.mark.parametrize(
    "box",
    [
        (40, 30, 0, 16),
        (40, 30, 16, -1),
        (160, 30, 16, 16),
        (-16, 30, 16, 16),
        (40, 30, 16),
        (40, 30, 16, np.nan),
        (40, 30, np.inf, 16),
        "here",
    ],
)
def test_a_bad_box_changes_nothing(box: Any) -> None:
    tracker = Tracker(Scripted(at(1, 1), (0, 0), (0.25, 0.25)))
    with pytest.raises(ValueError, match="box"):
        tracker.initialize(grey(), box)
    with pytest.raises(RuntimeError, match="initialize"):
        tracker.update(grey())
    tracker.initialize(grey(), (40, 30, 16, 16))
    with pytest.raises(ValueError, match="box"):
        tracker.initialize(grey(150, 110), box)
    np.testing.assert_allclose(tracker.update(grey()).box, (24, 14, 16, 16))  # the centre is that of cell (1, 1)


# State. This session really looks: it finds the cells that are most like the middle of the templates.


class Nearest:
    name = "nearest"
    template_size = 32
    search_size = 64

    def template(self, crops: Pixels, box: Floats | None = None) -> npt.NDArray[Any]:
        return np.asarray(crops[:, :, 12:20, 12:20].mean((2, 3)))

    def join(self, states: Any) -> npt.NDArray[Any]:
        return np.concatenate(states, axis=1)

    def describe(self, crops: Pixels) -> None:
        return None

    def search(self, state: npt.NDArray[Any], crops: Pixels) -> Maps:
        batch = crops.shape[1]
        cells = crops.reshape(2, batch, 16, 4, 16, 4, 3).mean((3, 5))
        score = np.exp(-np.abs(cells - state[:, :, None, None]).mean((0, 4)) / 50).round(6).astype(np.float32)[:, None]
        size, offset = (np.full((batch, 2, 16, 16), value, np.float32) for value in (0.25, 0.5))
        return Maps(score, size, offset, np.zeros((batch, 4), np.float32))


TARGETS = {"red": (40, 30), "green": (100, 60)}


def walk(frames: int = 8) -> Iterator[Frame]:
    """A red and a green square, warm and cold, that move two pixels a frame over grey, the one right, the other up."""
    for i in range(frames):
        visible, infrared = np.full((2, 120, 160, 3), 128, np.uint8)
        for (x, y), colour, heat in ((path(0, i), (250, 20, 20), 240), (path(1, i), (20, 250, 20), 10)):
            visible[y : y + 16, x : x + 16] = colour
            infrared[y : y + 16, x : x + 16] = heat
        yield Frame(visible, infrared)


def path(target: int, i: int) -> tuple[int, int]:
    x, y = [*TARGETS.values()][target]
    return (x + 2 * i, y) if target == 0 else (x, y - 2 * i)


def box_of(target: int, i: int = 0) -> tuple[int, int, int, int]:
    return (*path(target, i), 16, 16)


def follow(tracker: Tracker, target: int) -> list[Estimate]:
    frames = [*walk()]
    tracker.initialize(frames[0], box_of(target))
    return [tracker.update(frame) for frame in frames[1:]]


def assert_equal(some: list[Estimate], others: list[Estimate]) -> None:
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one.box, other.box)
        assert one.score == other.score


@pytest.mark.parametrize("target", [0, 1])
def test_the_stand_in_follows_its_target(target: int) -> None:
    for i, estimate in enumerate(follow(Tracker(Nearest()), target), 1):
        x, y = path(target, i)
        assert x < estimate.box[0] + estimate.box[2] / 2 < x + 16
        assert y < estimate.box[1] + estimate.box[3] / 2 < y + 16


def test_trackers_that_share_a_session_do_not_disturb_each_other() -> None:
    session: Session = Nearest()
    alone = [follow(Tracker(session), target) for target in (0, 1)]
    trackers = [Tracker(session), Tracker(session)]
    together: list[list[Estimate]] = [[], []]
    for i, frame in enumerate(walk()):
        for target, tracker in enumerate(trackers):
            if i == 0:
                tracker.initialize(frame, box_of(target))
            else:
                together[target].append(tracker.update(frame))
    assert_equal(together[0], alone[0])
    assert_equal(together[1], alone[1])


def test_to_initialize_again_forgets_everything() -> None:
    tracker = Tracker(Nearest())
    follow(tracker, 0)
    tracker.initialize(grey(640, 480), (300, 200, 50, 80))
    tracker.update(grey(640, 480))
    assert_equal(follow(tracker, 1), follow(Tracker(Nearest()), 1))


def test_a_tracker_does_not_grow() -> None:
    def size_of(tracker: Tracker) -> int:
        return sum(value.nbytes if isinstance(value, np.ndarray) else 0 for value in vars(tracker).values())

    tracker = Tracker(Nearest())
    follow(tracker, 0)
    before, names = size_of(tracker), set(vars(tracker))
    follow(tracker, 0)
    assert (size_of(tracker), set(vars(tracker))) == (before, names)


# Whole sequences


@pytest.fixture
def clip(tmp_path: Path) -> Sequence:
    for name in ("visible", "infrared"):
        (tmp_path / name).mkdir()
        for i, frame in enumerate(walk()):
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), getattr(frame, name)[..., ::-1])
    return Sequence.open(tmp_path / "visible", tmp_path / "infrared")


def test_run_is_the_hand_written_loop(clip: Sequence) -> None:
    estimates = [*Tracker(Nearest()).run(clip, box_of(0))]
    assert estimates[0].box.tolist() == [40, 30, 16, 16]
    assert estimates[0].score == 1
    assert_equal(estimates[1:], follow(Tracker(Nearest()), 0))


def test_run_is_lazy(clip: Sequence) -> None:
    session = Scripted(at(1, 1), (1, 1), (0.25, 0.25))
    estimates = Tracker(session).run(clip, box_of(0))
    assert session.shown == []
    next(estimates)
    next(estimates)
    assert len(session.shown) == len(session.searched) == 1


def test_record_keeps_what_is_found(clip: Sequence, tmp_path: Path) -> None:
    advanced = []
    info = {"source": "a walk", "weights": {"sha256": "0" * 64}}
    track = record(Tracker(Nearest()), clip, box_of(0), info, lambda: advanced.append(1))
    expected = [*Tracker(Nearest()).run(clip, box_of(0))]
    np.testing.assert_array_equal(track.boxes, [estimate.box for estimate in expected])
    np.testing.assert_array_equal(track.scores, [estimate.score for estimate in expected])
    assert len(track) == len(advanced) == 8
    assert (track.milliseconds > 0).all()
    assert {name: track.info.pop(name) for name in ("settings", "versions")} == {
        "settings": {"backend": "nearest", "box": [40.0, 30.0, 16.0, 16.0]},
        "versions": {"duotrack": __version__},
    }
    stages = track.info.pop("stages")
    assert [*stages] == ["decode", "crop", "network", "rest"]
    assert all(milliseconds > 0 for milliseconds in stages.values())
    assert track.info == info
    track.save(tmp_path, "walk")  # JSON can hold it


class Slow(Nearest):
    """Takes its time, and may be too slow for a reader that does not run ahead."""

    def describe(self, crops: Pixels) -> None:
        return None

    def search(self, state: npt.NDArray[Any], crops: Pixels) -> Maps:
        time.sleep(0.02)
        return super().search(state, crops)


def late(frames: Iterable[Frame]) -> Iterator[Frame]:
    for frame in frames:
        time.sleep(0.01)
        yield frame


def test_the_stages_of_a_record(clip: Sequence) -> None:
    track = record(Tracker(Slow()), late(clip), box_of(0), {})
    stages = track.info["stages"]
    assert stages["decode"] >= 10
    assert stages["network"] >= 20
    assert stages["crop"] + stages["rest"] < 10
    assert min(track.milliseconds[1:]) >= 20


def test_frames_are_read_while_the_network_runs(clip: Sequence) -> None:
    """By events, not by clocks: the second search waits until the frame after its own has been read."""
    read = [threading.Event() for _ in range(len(clip))]

    class Waiting(Nearest):
        searches = 0

        def describe(self, crops: Pixels) -> None:
            return None

        def search(self, state: npt.NDArray[Any], crops: Pixels) -> Maps:
            self.searches += 1
            following = min(self.searches + 1, len(read) - 1)
            assert read[following].wait(timeout=30), "the next frame is not read before this one is done"
            return super().search(state, crops)

    def reading() -> Iterator[Frame]:
        for index, frame in enumerate(clip):
            read[index].set()
            yield frame

    session = Waiting()
    assert len(record(Tracker(session), reading(), box_of(0), {})) == len(read) == session.searches + 1


def test_a_record_of_one_frame(clip: Sequence) -> None:
    track = record(Tracker(Nearest()), clip[:1], box_of(0), {})
    assert len(track) == 1
    assert [*track.info["stages"]] == ["decode"]  # nothing else was done


def test_a_reader_that_fails_ends_the_record(clip: Sequence) -> None:
    def broken() -> Iterator[Frame]:
        yield from clip[:3]
        raise OSError(5, "Input/output error", "visible/3.png")

    advanced = []
    with pytest.raises(OSError, match=r"visible/3\.png"):
        record(Tracker(Nearest()), broken(), box_of(0), {}, lambda: advanced.append(1))
    assert len(advanced) == 3
    assert "duotrack-ahead" not in [thread.name for thread in threading.enumerate()]


def test_an_interrupted_record_leaves_no_thread(clip: Sequence) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(Tracker(Nearest()), clip, box_of(0), {}, interrupt)
    assert "duotrack-ahead" not in [thread.name for thread in threading.enumerate()]


# Which session


class Opened:
    """Stands for both sessions and says how it was opened."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.options = options


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Opened]]:
    import duotrack.sessions.onnx
    import duotrack.sessions.torch

    class Onnx(Opened):
        name = "onnx"

    class Torch(Opened):
        name = "torch"

    monkeypatch.setattr(duotrack.sessions.onnx, "OnnxSession", Onnx)
    monkeypatch.setattr(duotrack.sessions.torch, "TorchSession", Torch)
    return {"onnx": Onnx, "torch": Torch}


@pytest.mark.parametrize(
    ("backend", "graphs", "device", "expected"),
    [
        ("auto", True, None, "onnx"),
        ("auto", True, "cpu", "onnx"),
        ("auto", True, "cuda:0", "torch"),  # the graphs run on a CPU only
        ("auto", False, None, "torch"),
        ("auto", False, "cpu", "torch"),
        ("onnx", False, None, "onnx"),  # whose error says what is missing
        ("torch", True, None, "torch"),
        ("torch", True, "cuda:0", "torch"),
    ],
)
def test_which_backend_is_taken(
    tmp_path: Path, sessions: Any, backend: Backend, graphs: bool, device: str | None, expected: str
) -> None:
    if graphs:
        (tmp_path / "model.onnx").touch()
    session: Any = open_session(tmp_path, backend, device=device, threads=3)
    assert session.name == expected
    options = {"threads": 3, "precision": "fp32"}
    assert session.options == (options if expected == "onnx" else {**options, "device": device})


def test_the_precision_is_passed_on(tmp_path: Path, sessions: Any) -> None:
    session: Any = open_session(tmp_path, "onnx", precision="int8")
    assert session.options["precision"] == "int8"


def test_an_unknown_backend(tmp_path: Path) -> None:
    unknown: Any = "tpu"
    with pytest.raises(ValueError, match="auto, onnx, torch or openvino, not 'tpu'"):
        open_session(tmp_path, unknown)


def test_onnx_without_graphs(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(pretrained.config_text(pretrained.WeightsInfo(ModelConfig(), CropSettings())))
    with pytest.raises(FileNotFoundError, match=r"model_template\.onnx is missing.*torch backend"):
        open_session(tmp_path, "onnx")


def test_torch_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "duotrack.sessions.torch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match=r'torch is missing.*pip install "duotrack\[torch\]"'):
        open_session(tmp_path)


def test_weights_bring_their_crop_settings(tmp_path: Path, sessions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = CropSettings(2.5, 5.0, "mean", 3.0, rivals=True, lost=0.4, calibration=0.3)
    info = pretrained.WeightsInfo(ModelConfig(), crops)
    (tmp_path / "config.json").write_text(pretrained.config_text(info))
    given: dict[str, Any] = {}
    original = Tracker.__init__

    def spy(self: Tracker, session: Session, **options: Any) -> None:
        given.update(options)
        original(self, session, **options)

    monkeypatch.setattr(Tracker, "__init__", spy)
    Tracker.from_pretrained(tmp_path)
    assert given == {
        "template_factor": 2.5,
        "search_factor": 5.0,
        "padding": "mean",
        "window": 3.0,
        "rivals": True,
        "lost": 0.4,
        "calibration": 0.3,
    }


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Tracker.from_pretrained(tmp_path / "nowhere")


# The shipped model


@pytest.mark.slow
def test_both_backends_follow_the_shipped_clip_alike() -> None:
    """Over hundreds of frames, for every target that can be shown.

    Both go on from the same box: windows are cut at whole pixels, so a difference of a thousandth may become one of a
    pixel, and two tracks part that are both right.
    """
    from duotrack.demo import CLIP, WEIGHTS, ground_truth

    targets = json.loads((CLIP / "tracks.json").read_text())["targets"]
    with Sequence.open(CLIP / "visible.mp4", CLIP / "infrared.mp4") as clip:
        trackers = [
            Tracker.from_pretrained(WEIGHTS, backend=backend, device="cpu", threads=1) for backend in ("onnx", "torch")
        ]
        for name, facts in targets.items():
            first = facts["suggested_init"]
            box = ground_truth(name, len(clip))[first]
            runs = [tracker.run(clip[first:], box) for tracker in trackers]
            for index, (onnx, torch) in enumerate(zip(*runs, strict=True), first):
                where = f"{name}, frame {index}"
                np.testing.assert_allclose(onnx.box, torch.box, rtol=0, atol=0.01, err_msg=where)
                assert onnx.score == pytest.approx(torch.score, abs=1e-4), where
                target = trackers[1]._target
                assert target is not None
                target.box = onnx.box.copy()
