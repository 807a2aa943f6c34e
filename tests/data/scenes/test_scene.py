"""A moment of a scene: exact boxes, a camera that moves all, and weather that hides what it should."""

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from duotrack.data.scenes import actors
from duotrack.data.scenes.composition import Studio, compose
from duotrack.data.scenes.scene import KINDS, SIZE, Kind, Scene, Shot

FRAMES = 40


def make(studio: Studio, kind: Kind, target: actors.Kind = "person", seed: int = 0) -> Scene:
    return compose(kind, target, FRAMES, [seed], studio)


def bare(scene: Scene) -> Scene:
    """The target alone, white in infrared on black, without noise, smoke, or polarity."""
    black = replace(scene.world, infrared=np.zeros_like(scene.world.infrared))
    target = replace(scene.target, heat=np.full_like(scene.target.heat, 255))
    return replace(
        scene,
        world=black,
        target=target,
        others=(),
        noise=(0, 0),
        smoke=np.zeros(FRAMES),
        camera=np.repeat(scene.camera[FRAMES // 2 :][:1], FRAMES, 0),  # no motion blur
        inverted=False,
    )


@given(
    seed=st.integers(0, 2**20),
    kind=st.sampled_from(KINDS),
    target=st.sampled_from(actors.KINDS),
    t=st.integers(0, FRAMES - 1),
)
@settings(max_examples=12, deadline=None)
def test_the_targets_outline_lies_in_the_box_and_touches_its_sides(
    studio: Studio, seed: int, kind: Kind, target: actors.Kind, t: int
) -> None:
    shot = bare(make(studio, kind, target, seed)).shot(t)
    rows, columns = np.nonzero(shot.infrared > 110)  # the outline is where a view is opaque by 110 of 255
    assume(len(rows))  # the still camera of this test may look elsewhere
    drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    box = np.concatenate([shot.box[:2], shot.box[:2] + shot.box[2:]])
    assert (box[:2] >= 0).all()
    assert (box[2:] <= SIZE).all()
    inside = np.array([-1, -1, 1, 1]) * (drawn - box)
    assert inside.max() < 1.2  # rounding of edges to whole pixels
    assert inside.min() > -2.5  # thin tips fade where they are drawn smaller than a pixel


def test_the_camera_moves_background_and_target_together(studio: Studio) -> None:
    moved = make(studio, "camera")
    still = np.tile(moved.target.where[:1], (FRAMES, 1))
    spot = (moved.target.where[0] + [40, -30]).astype(int)
    infrared = np.zeros_like(moved.world.infrared)
    infrared[spot[1] - 3 : spot[1] + 3, spot[0] - 3 : spot[0] + 3] = 255
    world = replace(moved.world, infrared=infrared)
    cold = np.zeros_like(moved.target.heat)
    standing = replace(moved.target, where=still, view=np.zeros(FRAMES, np.int64), heat=cold)
    standing = replace(standing, turn=np.tile(np.eye(2), (FRAMES, 1, 1)), scale=np.full(FRAMES, moved.target.scale[0]))
    rigid = replace(moved, world=world, target=standing, others=(), noise=(0, 0), inverted=False)
    apart, places = [], []
    for t in range(0, FRAMES, 5):
        shot = rigid.shot(t)
        level = shot.infrared.astype(float)
        level[level < 40] = 0
        if not level.any():
            continue
        y, x = (float((grid * level).sum() / level.sum()) + 0.5 for grid in np.indices(level.shape))
        zoom = np.sqrt(np.linalg.det(rigid.camera[t][:, :2]))
        feet = np.array([shot.box[0] + shot.box[2] / 2, shot.box[1] + shot.box[3]])
        apart.append((np.array([x, y]) - feet) / zoom)
        places.append([x, y])
    assert len(apart) > 4
    assert np.ptp(places, axis=0).max() > 2  # it does move
    assert np.ptp(apart, axis=0).max() < 3  # rolling turns it a little


def contrast(shot: Shot) -> float:
    """How much the middle of the box differs from a ring around it in infrared, in grey levels."""
    x, y, w, h = shot.box
    inner = shot.infrared[int(y + 0.25 * h) : int(y + 0.75 * h), int(x + 0.3 * w) : int(x + 0.7 * w)]
    outer = shot.infrared[max(0, int(y - 0.2 * h)) : int(y + 1.2 * h), max(0, int(x - 0.6 * w)) : int(x + 1.6 * w)]
    return abs(float(np.median(inner)) - float(np.median(outer)))


def test_smoke_hides_the_visible_image_only(studio: Studio) -> None:
    smoky = replace(make(studio, "smoke"), others=())
    clear = replace(smoky, smoke=np.zeros(FRAMES))
    t = FRAMES // 2
    assert smoky.smoke[t] > 0.9
    assert smoky.smoke[0] == smoky.smoke[-1] == 0

    def shows(scene: Scene) -> float:
        """How much the visible image changes with what lies behind the smoke."""
        other = replace(scene, world=replace(scene.world, visible=255 - scene.world.visible))
        return float(np.abs(scene.shot(t).visible.astype(float) - other.shot(t).visible).mean())

    assert shows(smoky) < 0.35 * shows(clear)
    assert contrast(smoky.shot(t)) > 0.75 * contrast(clear.shot(t))


def test_at_night_the_visible_image_is_dark(studio: Studio) -> None:
    night = make(studio, "night")
    day = make(studio, "open")
    assert night.shot(5).visible.mean() < 0.5 * day.shot(5).visible.mean()
    assert contrast(night.shot(0)) > 15


def test_in_a_thermal_crossover_the_target_vanishes_in_infrared(studio: Studio) -> None:
    crossing = replace(make(studio, "thermal crossover", "animal"), others=())
    t = FRAMES // 2
    assert contrast(crossing.shot(t)) < 0.35 * contrast(crossing.shot(0))
