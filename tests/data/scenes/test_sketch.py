"""Parts become cut-outs; noise like clouds."""

import numpy as np
import pytest

from duotrack.data.scenes import sketch


def test_the_outline_is_that_of_what_is_drawn() -> None:
    parts = sketch.Sketch(40, 30)
    parts.box(1, 10, 5, 30, 25)
    view = sketch.paint(parts, [sketch.Material(np.full(3, 90.0), 200)], 0)
    assert view.alpha.shape == (30, 40)
    np.testing.assert_allclose(view.outline.min(0), (10, 5), atol=1)
    np.testing.assert_allclose(view.outline.max(0), (30, 25), atol=1)
    assert float(view.heat[15, 20]) == pytest.approx(200, abs=40)


@pytest.mark.parametrize(("height", "width"), [(60, 90), (256, 40)])
def test_noise_has_a_deviation_of_one_and_the_size_asked_for(height: int, width: int) -> None:
    noise = sketch.fractal(np.random.default_rng(0), height, width, 5)
    assert noise.shape == (height, width)
    assert float(noise.std()) == pytest.approx(1, rel=1e-4)
