"""Loss and return of a target: on made-up scores, and with a network that sees white things and nothing else."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack.redetection import COASTS, FOUND, WIDEST, Search
from duotrack.sequence import Frame
from duotrack.sessions.base import Floats, Maps, Pixels
from duotrack.tracking import Estimate, MultiTracker, Tracker

THRESHOLD = 0.25
FIRST = np.array([100.0, 80.0, 20.0, 45.0])
SIDE = 30.0

scores = st.floats(0, 1)


def moved(box: npt.NDArray[np.float64], x: float, y: float, larger: float = 1.0) -> npt.NDArray[np.float64]:
    center, size = box[:2] + box[2:] / 2 + (x, y), box[2:] * larger
    return np.concatenate([center - size / 2, size])


def hide(search: Search, box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The target walks behind something: its box shrinks to what is seen, and the score falls."""
    for score in (0.6, 0.4, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05):
        if search.lost:
            return box
        box = search.settle(moved(box, 2, 0, 0.8), score, box)
    raise AssertionError("never lost")


@given(st.lists(st.floats(THRESHOLD, 1), min_size=1, max_size=60))
def test_who_is_seen_is_not_lost_and_every_box_is_taken(values: list[float]) -> None:
    search, box = Search(FIRST, THRESHOLD), FIRST
    for score in values:
        found = moved(box, 3, -1, 1.01)
        box = search.settle(found, score, box)
        np.testing.assert_array_equal(box, found)
        assert (search.lost, search.window(box)[1]) == (False, 1.0)


def test_a_single_bad_frame_is_no_loss() -> None:
    search, box = Search(FIRST, THRESHOLD), FIRST
    for score in (0.8, 0.8, 0.0, 0.8):
        box = search.settle(moved(box, 1, 0), score, box)
        assert not search.lost


def test_the_size_is_remembered_through_a_loss() -> None:
    search, box = Search(FIRST, THRESHOLD), FIRST
    for _ in range(20):
        box = search.settle(moved(box, 2, 0), 0.8, box)
    lost = hide(search, box)
    # The boxes of the last frames were down to a third of the side.
    np.testing.assert_allclose(lost[2:], FIRST[2:], rtol=0.05)


def test_a_lost_target_goes_on_as_it_went_and_then_stays() -> None:
    search, box = Search(FIRST, THRESHOLD), FIRST
    for _ in range(40):
        box = search.settle(moved(box, 2, 0), 0.8, box)
    held = [hide(search, box)]
    elsewhere = moved(box, 300, 300)
    for _ in range(COASTS + 20):
        held.append(search.settle(elsewhere, THRESHOLD + FOUND / 2, held[-1]))
    steps = np.diff([one[:2] for one in held], axis=0)
    np.testing.assert_allclose(steps[: COASTS - 1], [[2.0, 0.0]] * (COASTS - 1), atol=0.1)
    np.testing.assert_array_equal(steps[COASTS:], 0)


def test_the_window_widens_until_the_target_is_found() -> None:
    search = Search(FIRST, THRESHOLD)
    box = hide(search, FIRST)
    widths = []
    for _ in range(30):
        box = search.settle(FIRST, 0.1, box)
        around, wider = search.window(box)
        np.testing.assert_allclose(around, box)
        widths.append(wider)
    assert all(np.diff(widths) >= 0)
    assert 1 < widths[0] < widths[3] < widths[-1] == WIDEST
    there = moved(box, 70, 10)
    np.testing.assert_array_equal(search.settle(there, 0.7, box), there)
    assert (search.lost, search.window(there)[1]) == (False, 1.0)


@pytest.mark.parametrize("growth", [0.98, 1.02])
def test_the_window_follows_a_target_whose_size_changes(growth: float) -> None:
    search, box = Search(FIRST, THRESHOLD), FIRST
    for _ in range(60):
        box = search.settle(moved(box, 0, 0, growth), 0.8, box)
        ratio = search.window(box)[0][2:] / box[2:]
        np.testing.assert_allclose(ratio, 1, atol=0.15)


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.5, 2), scores), max_size=80))
def test_windows_can_always_be_cut(steps: list[tuple[float, float, float, float]]) -> None:
    search, box = Search(FIRST, THRESHOLD), FIRST
    for x, y, larger, score in steps:
        box = search.settle(moved(box, x, y, larger), score, box)
        around, wider = search.window(box)
        assert np.isfinite(around).all() and (around[2:] > 0).all()
        assert 1 <= wider <= WIDEST


# In a tracker


class Seeing:
    """A network that finds what is white in the visible crop; without that its map is flat."""

    name = "seeing"
    template_size = 32
    search_size = 64

    def __init__(self) -> None:
        self.black: list[tuple[bool, ...]] = []

    def template(self, crops: Pixels, box: Floats | None = None) -> int:
        return 0

    def join(self, states: Any) -> int:
        return 0

    def describe(self, crops: Pixels) -> None:
        return None

    def search(self, state: object, crops: Pixels) -> Maps:
        self.black.append(tuple(not camera.any() for camera in crops))
        count, grid = crops.shape[1], 16
        score = np.full((count, 1, grid, grid), 0.01, np.float32)
        size = np.full((count, 2, grid, grid), 0.25, np.float32)
        offset = np.zeros((count, 2, grid, grid), np.float32)
        for number, crop in enumerate(crops[0]):
            rows, cols = np.nonzero(crop[..., 0] > 200)
            if len(rows) > 8:
                y, x = (float(np.mean(places) + 0.5) / 64 * grid for places in (rows, cols))
                place = number, slice(None), int(y), int(x)
                score[number, 0, int(y), int(x)] = 0.9
                offset[place] = x - int(x), y - int(y)
                size[place] = (np.ptp(cols) + 1) / 64, (np.ptp(rows) + 1) / 64
        return Maps(score, size, offset, np.full((count, 4), np.nan, np.float32))


def film() -> list[Frame]:
    """A white square of 24 pixels; out of sight in frames 10 to 39, it comes back almost 4 sides further on."""
    frames = []
    for t in range(60):
        visible, infrared = np.full((240, 320, 3), 60, np.uint8), np.full((240, 320, 3), 90 + t, np.uint8)
        visible[0, 0] = t  # a camera that goes on
        x = 40 if t < 10 else 130
        if not 10 <= t < 40:
            visible[100:124, x : x + 24] = 255
        frames.append(Frame(visible, infrared))
    return frames


def overlaps(estimate: Estimate, x: float) -> bool:
    return abs(float(estimate.box[0]) - x) < 6 and abs(float(estimate.box[1]) - 100) < 6


@pytest.mark.parametrize("rivals", [False, True])
def test_a_lost_target_is_found_where_the_published_loop_would_not_look(rivals: bool) -> None:
    found = list(Tracker(Seeing(), rivals=rivals, lost=THRESHOLD).run(film(), (40, 100, 24, 24)))
    assert all(overlaps(estimate, 40) for estimate in found[:10])
    assert all(overlaps(estimate, 130) for estimate in found[41:])
    lost = [estimate.lost for estimate in found]
    assert not any(lost[:11]) and all(lost[16:40]) and not any(lost[41:])
    published = list(Tracker(Seeing(), rivals=rivals).run(film(), (40, 100, 24, 24)))
    assert not any(overlaps(estimate, 130) for estimate in published[41:])
    assert not any(estimate.lost for estimate in published)


def test_each_of_many_is_lost_for_itself() -> None:
    frames = film()
    for frame in frames:
        np.asarray(frame.visible)[20:44, 250:274] = 255
    both: dict[int | str, tuple[int, ...]] = {"walker": (40, 100, 24, 24), "stays": (250, 20, 24, 24)}
    together = list(MultiTracker(Seeing(), lost=THRESHOLD).run(frames, both))
    for name, box in both.items():
        alone = list(Tracker(Seeing(), lost=THRESHOLD).run(frames, box))
        np.testing.assert_allclose([row[name].box for row in together], [one.box for one in alone])
        assert [row[name].lost for row in together] == [one.lost for one in alone]
    assert any(row["walker"].lost for row in together) and not any(row["stays"].lost for row in together)


def test_a_frozen_camera_is_shown_black() -> None:
    session = Seeing()
    frames = [Frame(frame.visible, film()[min(t, 20)].infrared) for t, frame in enumerate(film())]
    estimates = list(Tracker(session).run(frames, (40, 100, 24, 24)))
    frozen = [estimate.frozen == ("infrared",) for estimate in estimates]
    assert frozen == [t >= 30 for t in range(60)]  # infrared repeats from frame 21
    assert session.black == [(False, each) for each in frozen[1:]]
