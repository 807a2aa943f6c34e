"""Paths, turns and shaking."""

import numpy as np
import pytest

from duotrack.data.scenes import motion


def test_paths_have_inertia() -> None:
    rng = np.random.default_rng(0)
    path = motion.wander(rng, 300, np.array([50.0, 100.0]), np.array([600.0, 350.0]), 2.0, 0.05)
    assert (path >= [50, 100]).all()
    assert (path <= [600, 350]).all()
    steps = np.diff(path, axis=0)
    assert np.hypot(*np.diff(steps, axis=0).T).max() < 0.5  # of a speed of 2: no turn within one frame


def test_turning_round_takes_some_frames() -> None:
    facing = motion.facing(np.array([2.0] * 20 + [-2.0] * 20))
    assert facing[0] == 1
    assert facing[-1] == pytest.approx(-1, abs=0.05)
    assert np.abs(facing).min() == pytest.approx(0.4)  # seen from the front, not edge on
    assert 2 < np.count_nonzero(np.abs(facing) < 0.9) < 12


def test_a_plateau_rises_holds_and_falls() -> None:
    plateau = motion.plateau(100, 0.3, 0.7, 10)
    np.testing.assert_allclose(plateau[[0, 30, 35, 40, 50, 60, 65, 70, 99]], [0, 0, 0.5, 1, 1, 1, 0.5, 0, 0])


def test_an_operator_follows_late() -> None:
    step = motion.late(np.array([0.0] * 5 + [1.0] * 95), 12)
    assert (np.diff(step) >= 0).all()
    assert step[4] == 0
    assert step[4 + 12] == pytest.approx(1 - (11 / 12) ** 12)  # two thirds of the way after its delay


def test_smooth_noise_has_a_deviation_of_one_and_no_jumps() -> None:
    noise = motion.smooth(np.random.default_rng(0), 5000, 20)
    assert len(noise) == 5000
    assert noise.std() == pytest.approx(1, abs=0.2)
    assert np.abs(np.diff(noise)).max() < 0.3


def test_rotations_turn_x_towards_y() -> None:
    np.testing.assert_allclose(motion.rotations(np.array([np.pi / 2]))[0] @ [1, 0], [0, 1], atol=1e-12)
