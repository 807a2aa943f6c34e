"""A check finds what is wrong with a graph, and only that."""

from pathlib import Path

import numpy as np
import pytest

from duotrack.samples import Samples
from duotrack.sessions.base import Maps
from duotrack.verification import _compare, check

from .sessions.networks import CONFIGS, crops, exported, save

NAME = "patch stem, elimination"


def test_graphs_of_the_weights_pass_and_of_others_fail(tmp_path: Path) -> None:
    graphs = exported(NAME)
    samples = Samples(*crops(graphs, 4))
    good = check(graphs, graphs, samples)
    assert good.passed
    assert good.crops == 8  # each alone, and in batches
    assert good.same_peak == 1
    assert good.overlap == pytest.approx(1, abs=1e-4)
    bad = check(save(tmp_path, CONFIGS[NAME], seed=2), graphs, samples)
    assert not bad.passed
    assert bad.score > 1e-3
    assert "NOT as it should be" in str(bad)


def maps(score: float = 0.0, offset: float = 0.0, width: float = 0.5, peak: int = 5) -> Maps:
    scores = np.full((1, 1, 4, 4), 0.1, np.float32)
    scores.flat[peak] = 0.5 + score
    box = np.array([[0.5, 0.5, width, 0.5]], np.float32)
    return Maps(scores, np.full((1, 2, 4, 4), 0.5, np.float32), np.full((1, 2, 4, 4), offset, np.float32), box)


def test_what_is_within_tolerance() -> None:
    assert _compare("fp32", [maps(), maps()], [maps(), maps(score=5e-6)]).passed
    found = _compare("fp32", [maps(), maps()], [maps(), maps(score=5e-5)])
    assert not found.passed
    assert found.score == pytest.approx(5e-5, rel=0.01)
    # Offsets are in cells, of which there are four to a side.
    assert _compare("fp32", [maps()], [maps(offset=3e-5)]).passed
    assert not _compare("fp32", [maps()], [maps(offset=5e-5)]).passed


def test_8_bits_are_held_to_the_mean_overlap_of_boxes() -> None:
    exact = [maps()] * 2
    found = _compare("int8", exact, [maps(score=0.1), maps(width=0.485)])
    assert found.passed
    assert (found.overlap, found.least_overlap) == pytest.approx((0.985, 0.97), abs=1e-6)
    assert not _compare("int8", exact, [maps(), maps(width=0.475)]).passed
    assert _compare("int8", exact, [maps(), maps(peak=6)]).same_peak == 0.5
