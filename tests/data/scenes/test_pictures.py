"""Pictures of a data folder as places and figures, and that no recipe trains on them."""

import fnmatch
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from duotrack.data.clips import Clip
from duotrack.data.scenes import pictures

RECIPES = sorted((Path(__file__).parents[3] / "configs").rglob("*.yaml"))


def test_regions_of_one_colour_have_one_temperature() -> None:
    picture = np.full((240, 320, 3), (200, 40, 40), np.uint8)
    picture[:, 160:] = (40, 60, 190)
    heat = pictures.by_region(picture, np.random.default_rng(0)).astype(float)
    left, right = heat[100:, 20:140], heat[100:, 180:300]
    assert abs(left.mean() - right.mean()) > max(left.std(), right.std())
    np.testing.assert_array_equal(heat, pictures.by_region(picture, np.random.default_rng(0)))


def test_of_a_registered_pair_stays_what_does_not_move() -> None:
    visible = np.full((9, 48, 64, 3), 50, np.uint8)
    infrared = np.full((9, 48, 64), 30, np.uint8)
    for t in range(9):
        visible[t, 20:30, 6 * t : 6 * t + 6] = 250
        infrared[t, 20:30, 6 * t : 6 * t + 6] = 250
    name = next(iter(pictures.PAIRS))
    (world,) = pictures.registered_worlds({name: Clip("pair", visible, infrared, ())})
    assert (world.visible == 50).all()
    assert (world.infrared == 30).all()
    with pytest.raises(ValueError, match="one is missing"):
        pictures.registered_worlds({name: Clip("pair", visible, None, ())})


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"jared-evans-119758.jpg is missing"):
        pictures.photographed_worlds(tmp_path, np.random.default_rng(0))
    for name in pictures.STILLS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match=r"dog_soccer.visible.mp4 is missing"):
        pictures.photographed_worlds(tmp_path, np.random.default_rng(0))


def test_a_photograph_becomes_a_figure_that_rolls(tmp_path: Path) -> None:
    y, x = np.mgrid[0:40, 0:40]
    alpha = np.where((x - 19.5) ** 2 + (y - 19.5) ** 2 < 18**2, 255, 0).astype(np.uint8)
    pixels = np.dstack([np.full((40, 40), 60), x * 6, y * 6, alpha]).astype(np.uint8)
    for name in pictures.CUTOUTS["thing"]:
        cv2.imwrite(str(tmp_path / f"{name}.webp"), pixels)
    for figure in pictures.photographed_figures(tmp_path, "thing"):
        assert figure.stride == pytest.approx(np.pi * 40, rel=0.05)
        assert (figure.views[0].visible != figure.views[3].visible).any()
        np.testing.assert_array_equal(figure.views[0].alpha, figure.views[3].alpha)
    with pytest.raises(FileNotFoundError, match="needs the cut-outs"):
        pictures.photographed_figures(tmp_path, "animal")


def strings(value: Any) -> list[str]:
    """Every string in a tree of settings."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in strings(part)]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_no_recipe_trains_on_them(recipe: Path) -> None:
    used = [*pictures.STILLS, *pictures.CLIPS, *pictures.PAIRS]
    used += [f"cutouts/clips/{name}.webp" for names in pictures.CUTOUTS.values() for name in names]
    for pattern in strings(yaml.safe_load(recipe.read_text())):
        for name in used:
            # A star of glob does not cross a folder, one of fnmatch does.
            same_depth = pattern.count("/") == name.count("/")
            assert not (same_depth and fnmatch.fnmatch(name, pattern)), f"{pattern} takes {name}"
            assert not name.startswith(f"{pattern}/"), f"{pattern} holds {name}"


def test_the_recipe_of_the_shipped_weights_is_looked_through() -> None:
    recipes = [yaml.safe_load(recipe.read_text()) for recipe in RECIPES if recipe.parent.name == "duotrack-tiny"]
    assert len(recipes) == 4
    assert all({"images/*.jpg", "cutouts/clips/highway_*"} <= set(strings(recipe)) for recipe in recipes)
