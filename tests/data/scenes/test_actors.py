"""Figures that move: cycles of views of one size, with soft outlines and a thermal pattern of their own."""

import numpy as np
import pytest

from duotrack.data.scenes import actors


@pytest.mark.parametrize("kind", actors.KINDS)
def test_a_drawn_figure_moves_and_keeps_its_look(kind: actors.Kind) -> None:
    for seed in range(3):
        figure = actors.DRAWN[kind](np.random.default_rng(seed))
        again = actors.DRAWN[kind](np.random.default_rng(seed))
        assert len({view.alpha.shape for view in figure.views}) == 1
        for view, same in zip(figure.views, again.views, strict=True):
            np.testing.assert_array_equal(view.visible, same.visible)
            np.testing.assert_array_equal(view.heat, same.heat)
        first, half = figure.views[0], figure.views[len(figure.views) // 2 - 1]
        if kind != "thing":  # some of which have nothing that moves
            assert (first.visible != half.visible).any()  # limbs swing, wheels turn
        means = [[view.visible[view.alpha > 200].mean(), view.heat[view.alpha > 200].mean()] for view in (first, half)]
        np.testing.assert_allclose(means[0], means[1], atol=18)


def test_a_persons_head_is_warmer_than_the_rest() -> None:
    for seed in range(5):
        view = actors.person(np.random.default_rng(seed)).views[0]
        body = view.alpha > 200
        rows = np.flatnonzero(body.any(1))
        head = np.zeros_like(body)
        head[rows[0] + 4 : rows[0] + 18] = True
        assert np.percentile(view.heat[body & head], 90) > view.heat[body & ~head].mean()


def test_other_colours_leave_warmth_and_outline() -> None:
    figure = actors.animal(np.random.default_rng(1))
    other = actors.recoloured(figure, np.random.default_rng(2))
    for view, painted in zip(figure.views, other.views, strict=True):
        np.testing.assert_array_equal(view.heat, painted.heat)
        np.testing.assert_array_equal(view.alpha, painted.alpha)
        assert (view.visible != painted.visible).any()


def test_views_of_several_sizes_are_refused() -> None:
    small, large = actors.person(np.random.default_rng(0)).views[0], actors.animal(np.random.default_rng(0)).views[0]
    with pytest.raises(ValueError, match="one size"):
        actors.Figure((small, large), 0, "person")
