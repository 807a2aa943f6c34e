import cv2
import numpy as np
import pytest

from duotrack.data.scenes.actors import KINDS
from duotrack.data.scenes.composition import Studio
from duotrack.data.scenes.worlds import View, World


def plain(view: View) -> World:
    visible = np.random.default_rng(0).integers(60, 180, (420, 700, 3), np.uint8)
    infrared = np.random.default_rng(1).integers(30, 50, (420, 700), np.uint8)
    smooth = [cv2.GaussianBlur(layer, (0, 0), 3).astype(np.uint8) for layer in (visible, infrared)]
    return World("plain", smooth[0], smooth[1], (0.5, 0.95), view)


@pytest.fixture(scope="session")
def studio() -> Studio:
    """Two plain places, and no figures but those that are drawn."""
    return Studio((plain("side"), plain("above")), {kind: () for kind in KINDS})
