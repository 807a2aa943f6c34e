"""Scenes made up: fair ones, in which what their kind promises happens."""

import numpy as np
import pytest

from duotrack.data.scenes import composition
from duotrack.data.scenes.composition import Studio, compose, drawn_studio
from duotrack.data.scenes.scene import KINDS, SIZE, Kind, Scene

FRAMES = 40


def make(studio: Studio, kind: Kind, seed: int = 0) -> Scene:
    return compose(kind, "vehicle", FRAMES, [seed], studio)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_starts_with_the_whole_target_and_never_loses_half_of_it(studio: Studio, kind: Kind) -> None:
    scene = make(studio, kind)
    assert len(scene) == FRAMES
    whole = np.stack([scene.box(t, cut=False) for t in range(FRAMES)])
    boxes = np.stack([scene.box(t) for t in range(FRAMES)])
    np.testing.assert_array_equal(whole[0], boxes[0])
    assert (boxes[:, 2:].prod(1) >= 0.5 * whole[:, 2:].prod(1)).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= SIZE).all()
    assert scene.shot(0).seen > 0.97
    if kind == "occlusion":
        assert min(scene.shot(t).seen for t in range(0, FRAMES, 4)) < 0.5
    if kind == "camera":
        assert scene.moving
        assert np.ptp(scene.camera[:, :, 2], axis=0).max() > 1
    if kind == "look-alikes":
        assert sum(actor.figure.kind == "vehicle" for actor in scene.others) >= 3


def test_the_same_seed_makes_the_same_scene(studio: Studio) -> None:
    first, again, other = make(studio, "fast", 3), make(studio, "fast", 3), make(studio, "fast", 4)
    np.testing.assert_array_equal(first.target.where, again.target.where)
    np.testing.assert_array_equal(first.shot(9).visible, again.shot(9).visible)
    assert (first.target.where != other.target.where).any()


def test_where_nothing_is_fair_an_error_says_so(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "ATTEMPTS", 2)
    monkeypatch.setattr(composition, "_is_fair", lambda scene: False)
    with pytest.raises(ValueError, match=r"kind 'night', 40 frames, target vehicle: none of 2 attempts"):
        make(studio, "night")


@pytest.mark.slow
def test_a_drawn_studio_has_places_of_every_sort() -> None:
    studio = drawn_studio(0, each=1)
    assert {world.view for world in studio.worlds} == {"side", "above"}
