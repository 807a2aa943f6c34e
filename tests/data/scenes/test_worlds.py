"""Places: large enough for a camera, the same seed the same place, temperatures that follow regions."""

import numpy as np
import pytest

from duotrack.data.scenes import worlds


@pytest.mark.parametrize("name", ["meadow"])
def test_a_drawn_world_is_reproducible_and_looks_like_thermal(name: str) -> None:
    world, again = (worlds.DRAWN[name](np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(world.visible, again.visible)
    np.testing.assert_array_equal(world.infrared, again.infrared)
    height, width = world.infrared.shape
    assert world.visible.shape == (height, width, 3)
    assert width >= 384 * 1.5
    assert height >= 288 * 1.5
    sky, ground = world.infrared[: height // 10], world.infrared[round(world.ground[0] * height) :]
    assert sky.mean() < ground.mean()  # a clear sky is the coldest thing there is
    assert world.infrared.std() < world.visible.std()
