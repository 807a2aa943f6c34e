"""Many targets in one pass: each is followed as by a tracker of its own, whoever comes and goes beside it."""

import dataclasses
import gc
import json
import os
import weakref
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.crops import CropSettings
from duotrack.pipeline import ahead
from duotrack.results import Track
from duotrack.sequence import Frame, Sequence
from duotrack.sessions.base import Maps, Pixels, Session
from duotrack.tracking import Backend, Estimate, MultiTracker, TargetId, Tracker, record_all

from .test_tracking import Nearest, assert_equal, box_of, follow, grey, walk

BOTH: dict[TargetId, tuple[int, int, int, int]] = {"red": box_of(0), "green": box_of(1)}


def follow_both(tracker: MultiTracker) -> list[dict[TargetId, Estimate]]:
    return [*tracker.run(walk(), BOTH)]


def test_two_targets_of_one_stream_are_two_trackers() -> None:
    rows = follow_both(MultiTracker(Nearest()))
    for number, name in enumerate(BOTH):
        assert_equal([row[name] for row in rows[1:]], follow(Tracker(Nearest()), number))


@st.composite
def plots(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Things that may happen, in any order; who is meant is drawn from whoever is there."""
    happening = st.one_of(
        st.tuples(st.just("add"), st.tuples(st.integers(0, 1), st.integers(0, 140), st.integers(0, 100))),
        st.tuples(st.just("remove"), st.integers(0, 9)),
        st.tuples(st.just("update one stream"), st.integers(0, 1)),
        st.tuples(st.just("update both"), st.none()),
    )
    return draw(st.lists(happening, min_size=3, max_size=25))


def still(seed: int, width: int) -> list[Frame]:
    """A few frames of coarse noise, on which no two places look alike."""
    random = np.random.default_rng(seed)
    frames = random.integers(0, 256, (4, 2, 30, width // 4, 3), np.uint8).repeat(4, axis=2).repeat(4, axis=3)
    return [Frame(visible, infrared) for visible, infrared in frames]


STREAMS = still(0, 160), still(1, 180)


@settings(max_examples=60)
@given(plots())
def test_whoever_comes_and_goes(plot: list[tuple[str, Any]]) -> None:
    """A tracker of its own for each target is the reference; two streams, whose frames differ in size."""
    many = MultiTracker(Nearest())
    alone: dict[TargetId, Tracker] = {}
    stream_of: dict[TargetId, int] = {}
    for moment, (what, which) in enumerate(plot):
        frames = [stream[moment % 4] for stream in STREAMS]
        if what == "add":
            stream, x, y = which
            name = many.add(frames[stream], (x, y, 20, 20))
            assert name not in alone
            alone[name], stream_of[name] = Tracker(Nearest()), stream
            alone[name].initialize(frames[stream], (x, y, 20, 20))
        elif what == "remove" and alone:
            name = [*alone][which % len(alone)]
            many.remove(name)
            del alone[name], stream_of[name]
        elif what.startswith("update"):
            meant = [name for name in alone if what == "update both" or stream_of[name] == which]
            found = many.update({name: frames[stream_of[name]] for name in meant})
            assert [*found] == meant
            for name in meant:
                expected = alone[name].update(frames[stream_of[name]])
                np.testing.assert_allclose(found[name].box, expected.box, rtol=0, atol=1e-9)
                assert found[name].score == pytest.approx(expected.score, abs=1e-6)
        assert many.targets == (*alone,)


def test_names_are_given_or_counted() -> None:
    tracker, frame = MultiTracker(Nearest()), next(walk())
    assert [tracker.add(frame, box_of(0)) for _ in range(2)] == [0, 1]
    assert tracker.add(frame, box_of(1), "green") == "green"
    assert tracker.add(frame, box_of(1), 2) == 2
    assert tracker.add(frame, box_of(1)) == 3
    tracker.remove(3)
    assert tracker.add(frame, box_of(1)) == 4  # no number comes twice
    assert tracker.targets == (0, 1, "green", 2, 4)


def test_a_name_that_is_taken() -> None:
    tracker, moving = MultiTracker(Nearest()), [*walk()]
    tracker.add(moving[0], box_of(0), "red")
    with pytest.raises(ValueError, match="'red' is being followed: give another name, or remove it first"):
        tracker.add(moving[0], box_of(1), "red")
    assert_equal([tracker.update(frame)["red"] for frame in moving[1:]], follow(Tracker(Nearest()), 0))
    tracker.remove("red")
    tracker.add(moving[0], box_of(1), "red")
    assert_equal([tracker.update(frame)["red"] for frame in moving[1:]], follow(Tracker(Nearest()), 1))


@pytest.mark.parametrize("act", [lambda t: t.remove("blue"), lambda t: t.update({"red": grey(), "blue": grey()})])
def test_a_target_that_is_not_there(act: Callable[[MultiTracker], object]) -> None:
    tracker = MultiTracker(Nearest())
    with pytest.raises(ValueError, match="no target 'blue' is being followed; there are: none"):
        tracker.remove("blue")
    for name in BOTH:
        tracker.add(next(walk()), BOTH[name], name)
    with pytest.raises(ValueError, match="there are: 'red', 'green'"):
        act(tracker)
    assert tracker.targets == ("red", "green")


def test_a_frame_of_another_size_moves_nobody() -> None:
    tracker, frames = MultiTracker(Nearest()), [*walk()]
    for name in BOTH:
        tracker.add(frames[0], BOTH[name], name)
    with pytest.raises(ValueError, match=r"target 'green' began with frames of \(160, 120\) pixels, not \(120, 160\)"):
        tracker.update({"red": frames[5], "green": grey(120, 160)})
    rows = [tracker.update(frame) for frame in frames[1:]]
    for name, expected in zip(BOTH, (0, 1), strict=True):
        assert_equal([row[name] for row in rows], follow(Tracker(Nearest()), expected))


@pytest.mark.parametrize("box", [(40, 30, 0, 16), (160, 30, 16, 16), (40, 30, 16), "here"])
def test_a_bad_box_adds_nobody(box: Any) -> None:
    tracker = MultiTracker(Nearest())
    with pytest.raises(ValueError, match="box"):
        tracker.add(grey(), box, "red")
    assert tracker.targets == ()
    assert tracker.add(grey(), box_of(0), "red") == "red"


def test_nobody_to_follow() -> None:
    tracker = MultiTracker(Nearest())
    assert tracker.update(grey()) == {}
    name = tracker.add(grey(), box_of(0))
    assert tracker.update({}) == {}
    tracker.remove(name)
    assert tracker.update(grey()) == {}


def test_an_estimate_is_the_caller_s_to_change() -> None:
    tracker, frames = MultiTracker(Nearest()), [*walk()]
    tracker.add(frames[0], box_of(0), "red")
    tracker.update(frames[1])["red"].box[:] = -1000
    np.testing.assert_array_equal(tracker.update(frames[2])["red"].box, follow(Tracker(Nearest()), 0)[1].box)


def test_one_pass_for_all_and_states_joined_only_when_they_change() -> None:
    class Counting(Nearest):
        batches: list[int]
        joins = 0

        def join(self, states: Any) -> npt.NDArray[Any]:
            self.joins += 1
            return super().join(states)

        def describe(self, crops: Pixels) -> None:
            return None

        def search(self, state: npt.NDArray[Any], crops: Pixels) -> Maps:
            self.batches.append(crops.shape[1])
            return super().search(state, crops)

    session = Counting()
    session.batches = []
    tracker = MultiTracker(session)
    follow_both(tracker)
    assert session.batches == [2] * 7
    assert session.joins == 1
    tracker.remove("red")
    tracker.update(grey())
    assert (session.batches[-1], session.joins) == (1, 2)


def test_to_run_again_forgets_everything() -> None:
    tracker = MultiTracker(Nearest())
    first = follow_both(tracker)
    tracker.add(grey(640, 480), (300, 200, 50, 80))
    second = follow_both(tracker)
    for name in BOTH:
        assert_equal([row[name] for row in second], [row[name] for row in first])


def test_nothing_is_kept_of_who_was_removed() -> None:
    class State:
        pass

    class Remembering(Nearest):
        kept: list[weakref.ref[State]]

        def template(self, crops: Pixels, box: Any = None) -> Any:
            state = State()
            self.kept.append(weakref.ref(state))
            return state

        def join(self, states: Any) -> Any:
            return list(states)

        def describe(self, crops: Pixels) -> None:
            return None

        def search(self, state: Any, crops: Pixels) -> Maps:
            return super().search(np.zeros((2, crops.shape[1], 3)), crops)

    session = Remembering()
    session.kept = []
    tracker = MultiTracker(session)
    tracker.add(grey(), box_of(0), "red")
    tracker.add(grey(), box_of(1), "green")
    tracker.update(grey())
    tracker.remove("red")
    gc.collect()
    assert [kept() is None for kept in session.kept] == [True, False]


def test_record_all_keeps_a_track_for_each(tmp_path: Path) -> None:
    advanced: list[int] = []
    boxes = [*BOTH.values()]
    tracks = record_all(MultiTracker(Nearest()), walk(), boxes, {"source": "a walk"}, lambda: advanced.append(1))
    assert len(tracks) == 2
    assert len(advanced) == 8
    for number, (track, box) in enumerate(zip(tracks, boxes, strict=True)):
        np.testing.assert_array_equal(track.boxes[1:], [one.box for one in follow(Tracker(Nearest()), number)])
        assert track.boxes[0].tolist() == list(box) == track.info["settings"]["box"]
        assert track.info["targets"] == 2
        assert track.info["source"] == "a walk"
        assert [*track.info["stages"]] == ["decode", "crop", "network", "rest"]
        assert len(Track.load(track.save(tmp_path, f"{number}"))) == 8


# The real sessions


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "start", "stop"), [("onnx", 80, 270), ("torch", 130, 220)])
def test_the_targets_of_the_shipped_clip(backend: Backend, start: int, stop: int) -> None:
    """Each comes when it can be seen: up to four in a batch, and every box that of a tracker of its own."""
    from duotrack.demo import CLIP, WEIGHTS, ground_truth

    facts = json.loads((CLIP / "tracks.json").read_text())["targets"]
    begins = {fact["suggested_init"]: name for name, fact in facts.items()}
    many = MultiTracker.from_pretrained(WEIGHTS, backend=backend, device="cpu", threads=1)
    alone: dict[TargetId, Tracker] = {}
    with Sequence.open(CLIP / "visible.mp4", CLIP / "infrared.mp4") as clip:
        for index, frame in enumerate(clip[start:stop], start):
            found = many.update(frame)
            assert found.keys() == alone.keys()
            for name, single in alone.items():
                expected = single.update(frame)
                where = f"{name}, frame {index}"
                np.testing.assert_allclose(found[name].box, expected.box, rtol=0, atol=0.01, err_msg=where)
                assert found[name].score == pytest.approx(expected.score, abs=1e-4), where
            if target := begins.get(index):
                box = ground_truth(target, len(clip))[index]
                many.add(frame, box, target)
                alone[target] = Tracker(many.session, **settings_of(many))
                alone[target].initialize(frame, box)
    assert len(alone) >= 2


def settings_of(tracker: MultiTracker) -> dict[str, Any]:
    return {setting.name: getattr(tracker, setting.name) for setting in dataclasses.fields(CropSettings)}


# Soak


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of a millisecond, as a weights folder with graphs."""
    from duotrack.export import export_onnx

    from .sessions.networks import CONFIGS, save

    folder = save(tmp_path_factory.mktemp("small"), CONFIGS["patch stem, elimination"])
    export_onnx(folder)
    return folder


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def frames(number: int) -> Iterator[Frame]:
    """New frames each time, so that what keeps one shows: 115 kB apiece."""
    for frame in islice(cycle(STREAMS[0]), number):
        yield Frame(frame.visible.copy(), frame.infrared.copy())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the system does not say how much memory is used")
@pytest.mark.parametrize(("backend", "length"), [("onnx", 5000), ("torch", 2000)])
def test_memory_is_constant_over_thousands_of_frames(small: Path, backend: Backend, length: int) -> None:
    """One target, and many who come and go: what keeps frames or templates grows by 115 or 20 kB a frame."""
    session: Session = Tracker.from_pretrained(small, backend=backend, device="cpu", threads=1).session
    one, many = Tracker(session), MultiTracker(session)
    random = np.random.default_rng(0)
    for index, frame in enumerate(ahead(frames(length))):
        if index == 0:
            one.initialize(frame, (60, 40, 20, 30))
        else:
            one.update(frame)
        if index % 5 == 0:
            if len(many.targets) < 4:
                many.add(frame, (*random.uniform(0, 100, 2), 20, 20))
            else:
                many.remove(many.targets[int(random.integers(4))])
        many.update(frame)
        if index == 500:  # every size of a batch has been there
            gc.collect()
            before = resident_bytes()
    gc.collect()
    assert resident_bytes() - before < 20e6
