"""Rendered pairs: the box is the extent of what was drawn, and everything follows from the generator."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duotrack.crops import CropSettings
from duotrack.data.augment import Processing
from duotrack.data.objects import Cutout, Objects, outline
from duotrack.data.synthetic import Background, Canvas, Renderer, Rendering, place

IDENTITY = np.arange(256).astype(np.uint8)


def textures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(60, 200, (120, 160, 3), np.uint8) for _ in range(3)]


def objects() -> Objects:
    return Objects({}, textures(), {"figure": 1, "vehicle": 1, "shape": 1})


def renderer(rendering: Rendering | None = None, padding: str = "mean") -> Renderer:
    backgrounds = [Background(image, None) for image in textures()]
    backgrounds += [Background(None, np.ascontiguousarray(image[..., 0])) for image in textures()]
    crop = CropSettings(padding="mean" if padding == "mean" else "zero")
    return Renderer(objects(), backgrounds, Processing(crop, 96, 192), rendering)


def disc(radius: int = 20) -> Cutout:
    y, x = np.ogrid[:50, :60]
    alpha = np.where((x - 29.5) ** 2 + (y - 24.5) ** 2 <= radius**2, 255, 0).astype(np.uint8)
    white = np.full((50, 60, 3), 255, np.uint8)
    return Cutout(white, white[..., 0], alpha, outline(alpha), "disc", "disc")


def test_the_outline_is_the_extent_of_the_opaque_part() -> None:
    hull = outline(disc().alpha)
    np.testing.assert_allclose(hull.min(0), (10, 5))
    np.testing.assert_allclose(hull.max(0), (50, 45))
    with pytest.raises(ValueError, match="opaque"):
        outline(np.zeros((4, 4), np.uint8))


@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["figure", "vehicle", "shape", "disc"]))
@settings(max_examples=60, deadline=None)
def test_the_box_is_the_extent_of_what_is_drawn(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    cutout = disc() if kind == "disc" else objects().draw_kind(kind, rng)[0]
    angle, aspect = rng.uniform(-0.5, 0.5), math.exp(rng.normal(0, 0.1))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    side = rng.uniform(30, 50)
    spot = place(cutout, turn @ np.diag([aspect, 1 / aspect]), side, np.array([100.0, 90.0]))
    assert math.sqrt(spot.box[2] * spot.box[3]) == pytest.approx(side)
    np.testing.assert_allclose(spot.box[:2] + spot.box[2:] / 2, (100, 90))
    canvas = Canvas(np.zeros((192, 192, 3), np.uint8), np.zeros((192, 192), np.uint8))
    assert canvas.paste(cutout, spot.matrix, IDENTITY, target=True)
    assert canvas.seen is not None
    rows, columns = np.nonzero(canvas.seen > 0.35)
    drawn = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    # 1.5 px: alpha is soft, and thin tips fade when they are made smaller.
    assert np.abs(drawn - np.concatenate([spot.box[:2], spot.box[:2] + spot.box[2:]])).max() < 2.5


def test_a_border_cuts_the_box() -> None:
    spot = place(disc(), np.eye(2), 30.0, np.array([50.0, 50.0]), cut=(0.25, -9, -9, 0.5))
    x, y, w, h = spot.full
    np.testing.assert_allclose(spot.box, (x + w / 4, y, 3 * w / 4, h / 2))
    assert math.sqrt(spot.box[2] * spot.box[3]) == pytest.approx(30)


def test_most_of_the_target_is_left_free() -> None:
    canvas = Canvas(np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8))
    spot = place(disc(), np.eye(2), 40.0, np.array([50.0, 50.0]))
    canvas.paste(disc(), spot.matrix, IDENTITY, target=True)
    before = canvas.visible.copy()
    assert not canvas.paste(disc(), spot.matrix, IDENTITY // 2)
    np.testing.assert_array_equal(canvas.visible, before)
    beside = place(disc(), np.eye(2), 40.0, np.array([75.0, 50.0]))
    assert canvas.paste(disc(), beside.matrix, IDENTITY // 2)


def test_pairs_are_well_formed_and_reproducible() -> None:
    first, again = renderer(), renderer()
    jitter = []
    for seed in range(60):
        a, b = first(np.random.default_rng(seed)), again(np.random.default_rng(seed))
        assert a is not None
        assert b is not None
        assert (a.template.shape, a.search.shape) == ((2, 96, 96, 3), (2, 192, 192, 3))
        assert a.template.dtype == a.search.dtype == np.uint8
        for name in ("template", "search", "template_box", "search_box", "brightness"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert (a.search[1] == a.search[1, ..., :1]).all()
        assert any(a.shown)
        # As when a real box is cropped: the template's box is centred and half the crop wide, on geometric mean.
        np.testing.assert_allclose(a.template_box[:2] + a.template_box[2:] / 2, 0.5, atol=1e-5)
        assert math.sqrt(a.template_box[2] * a.template_box[3]) == pytest.approx(0.5, abs=1e-4)
        center = a.search_box[:2] + a.search_box[2:] / 2
        assert (np.abs(center - 0.5) <= 0.375 + 1e-5).all()
        jitter.append(math.log(4 * math.sqrt(a.search_box[2] * a.search_box[3])))
    assert abs(np.mean(jitter)) < 0.1
    assert 0.1 < np.std(jitter) < 0.26  # 0.25 / sqrt(2) as published


def test_absent_targets_are_said_to_be_absent() -> None:
    pairs = [renderer(Rendering(absent=1.0))(np.random.default_rng(seed)) for seed in range(5)]
    assert all(pair is not None and not pair.present and (pair.search_box[2:] > 0).all() for pair in pairs)


def test_borders_are_filled_as_crops_are() -> None:
    always = Rendering(search_border=1.0)
    for padding in ("zero", "mean"):
        black = 0
        for seed in range(12):
            pair = renderer(always, padding)(np.random.default_rng(seed))
            assert pair is not None
            edges = [pair.search[0, 0], pair.search[0, -1], pair.search[0, :, 0], pair.search[0, :, -1]]
            black += any(not edge.any() for edge in edges)
        assert (black > 3) == (padding == "zero")


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="lookalikes"):
        Rendering(lookalikes=2)
    with pytest.raises(ValueError, match="infrared background"):
        Renderer(objects(), [Background(textures()[0], None)], Processing())
    with pytest.raises(ValueError, match="no such kinds"):
        Objects({}, textures(), {"dragon": 1.0})
