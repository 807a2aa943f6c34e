import json
from fractions import Fraction
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from duotrack.evaluation import metrics
from duotrack.evaluation.metrics import Comparison

GRIDS = json.loads((Path(__file__).parents[1] / "fixtures/evaluation/synthetic.json").read_text())["grids"]


@pytest.mark.parametrize(
    ("name", "start", "step", "stop"),
    [
        ("success_0.05", 0, 0.05, 1),
        ("success_0.02", 0, 0.02, 1),
        ("precision", 0, 1, 50),
        ("gtot_precision", 0, 0.5, 25),
    ],
)
def test_grids_are_those_of_matlab(name: str, start: float, step: float, stop: float) -> None:
    assert metrics.matlab_range(start, step, stop).tolist() == GRIDS[name]


def test_matlab_range_is_filled_from_both_ends() -> None:
    grid = metrics.matlab_range(0, 0.05, 1)
    assert np.flatnonzero(grid != np.linspace(0, 1, 21)).tolist() == [12, 13, 14, 17, 19]  # evaluation.md, section 2
    assert metrics.matlab_range(0, 1, 3).tolist() == [0, 1, 2, 3]  # an odd last index has no middle


WHOLE = st.integers(-200, 200)
SIZE = st.integers(1, 200)


@given(st.tuples(WHOLE, WHOLE, SIZE, SIZE), st.tuples(WHOLE, WHOLE, SIZE, SIZE))
def test_overlap_is_the_exact_fraction(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    width = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    exact = Fraction(width * height, a[2] * a[3] + b[2] * b[3] - width * height)
    value = metrics.overlap(np.array([a], np.float64), np.array([b], np.float64))[0]
    assert value == float(exact)  # one division: correctly rounded


def test_overlap_has_no_epsilon_and_ignores_nan_edges() -> None:
    boxes = np.array([[5, 5, 0, 0], [0, 0, 10, 10], [np.nan, 0, 10, 10], [0, 0, np.nan, 10]], np.float64)
    other = np.array([[5, 5, 0, 0], [10, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]], np.float64)
    values = metrics.overlap(boxes, other)
    assert np.isnan(values[0])  # 0 / 0
    assert values[1] == 0  # they touch
    # MATLAB's max(xA, xB) is 0, but min(xA + wA - 1, ...) is 9 as well: the box without x counts as the other one.
    assert values[2] == 1
    assert np.isnan(values[3])


def test_centres_differ_by_half_a_pixel_which_cancels_in_distances() -> None:
    a, b = np.array([[1.0, 2, 8, 4]]), np.array([[4.0, 6, 8, 4]])
    assert metrics.inner_center(a).tolist() == [[4.5, 3.5]]
    assert metrics.outer_center(a).tolist() == [[5.0, 4.0]]
    assert metrics.distance(metrics.inner_center(a), metrics.inner_center(b)).tolist() == [5.0]


NUMBERS = st.one_of(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 7.0, np.nan]), st.floats(-2, 9))


@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    comparison=st.sampled_from(get_args(Comparison)),
    data=st.data(),
)
def test_count_hits_is_comparing_one_by_one(lengths: list[int], comparison: Comparison, data: st.DataObject) -> None:
    errors = data.draw(hnp.arrays(np.float64, sum(lengths), elements=NUMBERS))
    thresholds = np.array([0.0, 0.5, 1.0, 2.0, 7.0])
    compare = {">": np.greater, "<=": np.less_equal, "<": np.less}[comparison]
    parts = np.split(errors, np.cumsum(lengths)[:-1])
    expected = [[int(compare(part, threshold).sum()) for threshold in thresholds] for part in parts]
    counts = metrics.count_hits(errors, comparison, thresholds, np.array(lengths))
    assert counts.tolist() == expected
    assert counts.dtype == np.int64
