"""What is in a box, by the shipped network on every backend, and what is remembered of it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack import pretrained
from duotrack.appearance import RATE, Memory, appearances
from duotrack.sequence import Frame
from duotrack.sessions.base import Session
from duotrack.tracking import Backend, open_session

from .sessions.networks import exported


def pictures(seed: int) -> np.ndarray:
    """Something to look at, as both cameras see it: (2, 48, 32, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (2, 12, 8, 3), np.uint8)
    return coarse.repeat(4, 1).repeat(4, 2)


def frame(*things: tuple[np.ndarray, int, int]) -> Frame:
    """A grey frame with things at some places, x and y of their upper left corner."""
    images = np.full((2, 160, 240, 3), 90, np.uint8)
    for thing, x, y in things:
        images[:, y : y + 48, x : x + 32] = thing
    return Frame(*images)


@pytest.fixture(scope="module", params=["onnx", "torch"])
def session(request: pytest.FixtureRequest, weights: Path) -> Session:
    return open_session(weights, request.param, threads=1)


@pytest.fixture(scope="module")
def weights() -> Path:
    return pretrained.locate("duotrack-tiny")


def test_a_thing_is_like_itself_elsewhere_and_unlike_another(session: Session) -> None:
    one, other = pictures(1), pictures(2)
    boxes = [np.array([x, y, 32.0, 48.0]) for x, y in ((20, 30), (120, 70))]
    first, second = appearances(session, frame((one, 20, 30), (other, 120, 70)), boxes)
    (moved,) = appearances(session, frame((one, 120, 70)), boxes[1:])
    assert first.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    memory = Memory(first)
    assert memory.distance(moved) == pytest.approx(0, abs=1e-5)
    assert memory.distance(second) > 0.2


def test_size_and_shape_of_the_box_do_not_matter(session: Session) -> None:
    """It is stretched: the same picture twice as wide is much the same, a box of other things is not."""
    thing = pictures(3)
    images = np.full((2, 160, 240, 3), 90, np.uint8)
    images[:, 30:78, 20:52] = thing
    images[:, 30:78, 100:164] = thing.repeat(2, 2)
    boxes = [np.array(box, float) for box in ([20, 30, 32, 48], [100, 30, 64, 48], [40, 50, 32, 48])]
    narrow, wide, beside = appearances(session, Frame(*images), boxes)
    memory = Memory(narrow)
    assert memory.distance(wide) < memory.distance(beside) / 2


def test_beyond_the_image_its_border_goes_on(session: Session) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), np.uint8)
    larger = np.stack([np.pad(image, ((20, 20), (20, 20), (0, 0)), "edge") for image in images])
    (cut,) = appearances(session, Frame(*images), [np.array([-15.0, -10, 40, 50])])
    (whole,) = appearances(session, Frame(*larger), [np.array([5.0, 10, 40, 50])])
    np.testing.assert_allclose(cut, whole, atol=0.01)  # places are rounded to a part of a pixel


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_backends_agree(weights: Path, backend: Backend) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    box = np.array([20.0, 30, 32, 48])
    seen = frame((pictures(1), 25, 33))
    backends = [open_session(weights, name, threads=1) for name in ("onnx", backend)]
    (some,), (others,) = (appearances(session, seen, [box]) for session in backends)
    np.testing.assert_allclose(some, others, atol=1e-4)


@pytest.mark.parametrize("backend", ["onnx", "torch", "openvino"])
def test_a_network_without_a_stem_knows_no_appearance(backend: Backend) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    session = open_session(exported("patch stem, elimination"), backend, threads=1)
    assert appearances(session, frame(), [np.array([20.0, 30, 32, 48])]) == []


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_memory_is_the_mean_of_the_first_looks(looks: int, seed: int) -> None:
    assert looks <= 1 / RATE
    seen = np.random.default_rng(seed).normal(size=(looks, 2, 5, 3, 3)).astype(np.float32)
    memory = Memory(seen[0])
    for appearance in seen[1:]:
        memory.add(appearance)
    np.testing.assert_allclose(memory.mean, seen.mean(0), atol=1e-5)


def test_an_old_memory_follows_what_is_seen_now() -> None:
    before, now = np.eye(2, 4, dtype=np.float32)[:, None, :, None, None].repeat(2, 1)
    memory = Memory(before)
    for _ in range(200):
        memory.add(before)
    assert memory.distance(before) == pytest.approx(0, abs=1e-6)
    assert memory.distance(now) == pytest.approx(1)
    for _ in range(200):
        memory.add(now)
    assert memory.distance(now) < 0.001
    assert memory.distance(before) > 0.99
