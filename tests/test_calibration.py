"""What is learned on the first box holds for boxes of any place and size."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from duotrack import boxes
from duotrack.calibration import learn
from duotrack.crops import Box

SIZE = (1000, 1000)

box_strategy = st.tuples(*2 * [st.floats(1, 600)], *2 * [st.floats(5, 300)]).map(np.array)
errors = st.tuples(*2 * [st.floats(-0.2, 0.2)], *2 * [st.floats(0.75, 1.3)]).map(np.array)


def erring(box: Box, error: Box) -> Box:
    """What a network finds that errs so much, in shares of the size that it finds."""
    size = box[2:] * error[2:]
    center = box[:2] + box[2:] / 2 + error[:2] * size
    return np.concatenate([center - size / 2, size])


def overlap(some: Box, other: Box) -> float:
    return float(boxes.iou(boxes.xywh_to_xyxy(some[None]), boxes.xywh_to_xyxy(other[None]))[0])


@given(box_strategy, box_strategy, errors)
def test_who_always_errs_alike_is_put_right(first: Box, later: Box, error: Box) -> None:
    found = erring(first, error)
    assume(overlap(found, first) > 0.51)
    correction = learn(found, first, 1.0, SIZE)
    assert correction is not None
    np.testing.assert_allclose(correction(erring(later, error)), later, atol=1e-6)


@given(box_strategy, errors)
def test_two_halves_are_a_whole(first: Box, error: Box) -> None:
    found = erring(first, error)
    assume(overlap(found, first) > 0.51)
    half, whole = (learn(found, first, part, SIZE) for part in (0.5, 1.0))
    assert half is not None and whole is not None
    np.testing.assert_allclose(half.times**2, whole.times)
    np.testing.assert_allclose(2 * half.shift, whole.shift)


@pytest.mark.parametrize(("shift", "learned"), [(9.0, True), (11.0, False)])
def test_a_box_that_is_not_found_teaches_nothing(shift: float, learned: bool) -> None:
    """Two boxes of 30 x 20 that lie 10 apart overlap by a half."""
    first = np.array([40.0, 30.0, 30.0, 20.0])
    assert (learn(first + np.array([shift, 0, 0, 0]), first, 0.5, SIZE) is not None) == learned


@pytest.mark.parametrize(
    ("first", "learned"),
    [
        ((1, 1, 118, 88), True),
        ((0.9, 1, 118, 88), False),
        ((1, 0.9, 118, 88), False),
        ((1, 1, 118.1, 88), False),
        ((1, 1, 118, 88.1), False),
    ],
)
def test_a_box_that_the_border_cuts_teaches_nothing(first: tuple[float, ...], learned: bool) -> None:
    box = np.array(first)
    assert (learn(box + np.array([2, 0, 0, 0]), box, 0.5, (120, 90)) is not None) == learned
