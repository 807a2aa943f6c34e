"""Who is who when look-alikes cross, on made-up peaks: two of one look, that are one peak while they are close."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from duotrack.crops import Box
from duotrack.rivals import FORGOTTEN, HIDDEN, KNOWN, MOST, Peak, Rivals, peak_cells

SIZE = np.array([24.0, 54.0])
SIDE = 36.0


def box(center: np.ndarray) -> np.ndarray:
    return np.concatenate([center - SIZE / 2, SIZE])


def peak(center: np.ndarray, last: np.ndarray, score: float = 0.6) -> Peak:
    """A peak whose window falls with the distance from the last box, as the Hann window does over four sides."""
    distance = np.clip(np.abs(center - (last[:2] + last[2:] / 2)) / (2 * SIDE), 0, 1)
    return Peak(box(center), score, score * float(np.cos(np.pi / 2 * distance).prod()) ** 4)


def seen(centers: list[np.ndarray], last: np.ndarray) -> list[Peak]:
    """The peaks of things at some places, the highest in the window first; of those closer than 0.6 sides, one."""
    groups: list[list[np.ndarray]] = []
    for center in centers:
        near = [group for group in groups if np.abs(np.mean(group, 0) - center).max() < 0.6 * SIDE]
        near[0].append(center) if near else groups.append([center])
    return sorted((peak(np.mean(group, 0), last) for group in groups), key=lambda one: -one.windowed)


def follow(paths: np.ndarray) -> np.ndarray:
    """Follows the first of several paths, (N, T, 2), all of the same look; the centres found, (T, 2)."""
    last = box(paths[0, 0])
    rivals, found = Rivals(last), [paths[0, 0]]
    for centers in paths[:, 1:].swapaxes(0, 1):
        last, score = rivals.settle(seen(list(centers), last), last)
        assert score == 0.6
        found.append(last[:2] + last[2:] / 2)
    return np.array(found)


@given(
    speed=st.floats(0.5, 3),
    other=st.floats(0.5, 3),
    angle=st.floats(-0.6, 0.6),
    shake=st.floats(0, 0.7),
    seed=st.integers(0, 2**32 - 1),
)
def test_two_who_cross_keep_their_names(speed: float, other: float, angle: float, shake: float, seed: int) -> None:
    """Also when the camera moves: it moves both."""
    meeting, frames = 40, 80
    assume((speed + other) * HIDDEN > 1.8 * SIDE)  # they are one for no longer than is waited for
    t = np.arange(frames)[:, None] - meeting
    camera = np.cumsum(np.random.default_rng(seed).normal(0, shake, (frames, 2)), 0)
    paths = np.array([t * [speed, 0.0], t * [-other * np.cos(angle), other * np.sin(angle)]]) + 200 + camera
    assume(np.abs(paths[0, -1] - paths[1, -1]).max() > 1.2 * SIDE)  # and two again in the end
    error = np.abs(follow(paths) - paths[0]).max(1)
    assert error[-1] < SIDE / 4
    assert error.max() < SIDE  # while they are one peak, that is where the target is said to be


def test_the_window_alone_confuses_them() -> None:
    """What the rest is for: where they part again, the window prefers the one who is slower."""
    t = np.arange(80)[:, None] - 40
    paths = np.array([t * [2.0, 0.0], t * [-1.0, 0.0]]) + 200
    assert np.abs(follow(paths)[-1] - paths[0, -1]).max() < SIDE / 4
    last = box(paths[0, 0])
    for centers in paths[:, 1:].swapaxes(0, 1):
        last = max(seen(list(centers), last), key=lambda one: one.windowed).box
    assert np.abs(last[:2] + last[2:] / 2 - paths[1, -1]).max() < SIDE / 4


def look(thing: int) -> npt.NDArray[np.float32]:
    """What one of two things looks like: they are alike by half."""
    return np.array([[1, 0], [0.5, 0.75**0.5]], np.float32)[None, thing, :, None, None].repeat(2, 0)


@pytest.mark.parametrize("meeting", ["pass", "turn round"])
@pytest.mark.parametrize("knows", [True, False])
def test_two_who_meet_and_turn_round_are_told_apart_by_what_they_look_like(meeting: str, knows: bool) -> None:
    """Motion alone holds two who turn round for two who pass each other."""
    t = np.arange(-40, 40)[:, None]
    path = t * [1.5, 0.0] if meeting == "pass" else -np.abs(t) * [1.5, 0.0]
    paths = np.array([path - [3, 0], -path + [3, 0]]) + 200
    last = box(paths[0, 0])
    rivals = Rivals(last, look(0) if knows else None)
    for centers in paths[:, 1:].swapaxes(0, 1):

        def describe(boxes: list[Box], centers: npt.NDArray[np.float64] = centers) -> list[npt.NDArray[np.float32]]:
            middles = np.array(boxes)[:, :2] + np.array(boxes)[:, 2:] / 2
            shares = np.linalg.norm(middles[:, None] - centers[::-1], axis=2)  # of each thing, one minus its nearness
            shares = (shares + 1e-6) / (shares + 1e-6).sum(1, keepdims=True)
            mixed = [share[0] * look(0) + share[1] * look(1) for share in shares.astype(np.float32)]
            return [one / np.linalg.norm(one, axis=1, keepdims=True) for one in mixed]

        last, _ = rivals.settle(seen(list(centers), last), last, describe)
    right = bool(np.abs(last[:2] + last[2:] / 2 - paths[0, -1]).max() < SIDE / 4)
    assert right == (knows or meeting == "pass")


def test_found_again_it_is_known_by_its_looks_and_its_rivals_are_forgotten() -> None:
    here, there = np.array([100.0, 100.0]), np.array([170.0, 100.0])
    last = box(here)
    rivals = Rivals(last, look(0))
    for _ in range(KNOWN + 3):
        last, _ = rivals.settle([peak(here, last), peak(there, last)], last, lambda boxes: [look(0), look(1)])
    memory = rivals.target.memory
    assert memory is not None and memory.seen == KNOWN + 4
    rivals.restart(box(there))
    assert rivals.target.memory is memory
    assert rivals.target.center == pytest.approx(there)
    assert not rivals.rivals


def test_alone_it_is_the_highest_peak_of_the_window_unchanged() -> None:
    rng = np.random.default_rng(0)
    last = box(np.array([100.0, 100.0]))
    rivals = Rivals(last)
    for _ in range(50):
        only = Peak(np.concatenate([last[:2] + rng.normal(0, 9, 2), SIZE * rng.uniform(0.8, 1.2, 2)]), 0.4, 0.3)
        last, score = rivals.settle([only], last)
        assert last is only.box
        assert score == 0.4


def test_a_rival_has_a_say_once_it_is_known_and_is_forgotten_when_it_is_gone() -> None:
    here, there = np.array([100.0, 100.0]), np.array([170.0, 100.0])
    last = box(here)
    rivals = Rivals(last)
    for _ in range(KNOWN + 1):
        last, _ = rivals.settle([peak(here, last), peak(there, last)], last)
    (rival,) = rivals.rivals
    assert rival.center == pytest.approx(there)
    assert rival.seen == KNOWN + 1
    for missed in range(1, FORGOTTEN + 2):
        last, _ = rivals.settle([peak(here, last)], last)
        assert [one.missed for one in rivals.rivals] == ([missed] if missed <= FORGOTTEN else [])


def test_two_peaks_of_one_thing_are_one() -> None:
    """Else the target would be thought to be the one half of its rival."""
    here, there = np.array([100.0, 100.0]), np.array([190.0, 100.0])
    last = box(here)
    rivals = Rivals(last)
    for _ in range(KNOWN + 1):
        last, _ = rivals.settle([peak(here, last), peak(there, last)], last)
    last, _ = rivals.settle([peak(here, last), peak(there, last), peak(there + 3, last)], last)
    assert last == pytest.approx(box(here))
    (rival,) = rivals.rivals
    assert rival.center == pytest.approx(there)


def test_who_vanished_beside_the_target_hides_there_and_for_a_while_its_size_is_kept() -> None:
    here, beside = np.array([100.0, 100.0]), np.array([120.0, 100.0])
    last = box(here)
    rivals = Rivals(last)
    for _ in range(KNOWN + 1):
        last, _ = rivals.settle([peak(here, last), peak(beside, last)], last)
    both = Peak(np.concatenate([here - SIZE, 2 * SIZE]), 0.6, 0.6)
    for _ in range(HIDDEN):
        last, _ = rivals.settle([both], last)
        assert last == pytest.approx(box(here))
    last, _ = rivals.settle([both], last)
    assert last == pytest.approx(both.box)
    assert not rivals.rivals


def test_no_more_rivals_than_can_be_weighed() -> None:
    last = box(np.zeros(2))
    rivals = Rivals(last)
    places = [np.array([60.0 * x, 60.0 * y]) for x in (0, 1, -1) for y in (0, 1, -1)]
    for _ in range(20):
        last, _ = rivals.settle([peak(place, last) for place in places[:MOST]], last)
        assert last == pytest.approx(box(np.zeros(2)))
        assert len(rivals.rivals) <= MOST


def test_peaks_of_a_map() -> None:
    score = np.zeros((5, 5), np.float32)
    score[1, 1], score[1, 2] = 0.9, 0.8  # the second is a flank
    score[4, 4] = 0.5
    score[0, 4] = 0.12  # below a fifth of the first
    windowed = score.copy()
    assert peak_cells(score, windowed, 4) == [(1, 1), (4, 4)]
    assert peak_cells(score, windowed, 1) == [(1, 1)]
    # Where the window has its highest value is a peak, whatever the map says; the others come by the window.
    windowed[1, 2], windowed[1, 1], windowed[4, 4] = 0.7, 0.1, 0.2
    assert peak_cells(score, windowed, 4) == [(1, 2), (4, 4), (1, 1)]
    assert peak_cells(score, windowed, 2) == [(1, 2), (4, 4)]
    assert peak_cells(np.full((3, 3), 0.01, np.float32), np.eye(3, dtype=np.float32), 4) == [(0, 0)]
