"""A frozen camera is noticed; a slow one, a video that stands still, and noise are not taken for one."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from duotrack.frozen import REPEATS, Freeze
from duotrack.results import stretches
from duotrack.sequence import Frame


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)


def frozen(numbers: Iterable[tuple[int, int]]) -> list[tuple[str, ...]]:
    """What is noticed in frames whose images have these numbers."""
    freeze = Freeze()
    return [freeze.look(Frame(image(visible), image(1000 + infrared))) for visible, infrared in numbers]


def test_a_camera_that_repeats_its_image_while_the_other_goes_on() -> None:
    stands = [*range(5), *[5] * 30, *range(6, 10)]
    noticed = [5 + REPEATS <= index < 35 for index in range(39)]
    assert frozen((t, number) for t, number in enumerate(stands)) == [("infrared",) if now else () for now in noticed]
    assert frozen((number, t) for t, number in enumerate(stands)) == [("visible",) if now else () for now in noticed]


def test_slow_cameras_and_still_videos() -> None:
    assert not any(frozen((t, t * 9 // 60) for t in range(100)))  # 9 Hz among 60
    assert not any(frozen((3, 3) for _ in range(100)))
    # Frames that stand still in both do not make a frozen camera look alive.
    assert frozen((t // 2, 0) for t in range(60))[-1] == ("infrared",)


@given(st.lists(st.booleans(), max_size=30))
def test_stretches_are_where_it_holds(holds: list[bool]) -> None:
    found = stretches(holds)
    assert [
        index in {i for first, last in found for i in range(first, last + 1)} for index in range(len(holds))
    ] == holds
    assert all(after[0] > before[1] + 1 for before, after in pairwise(found))
