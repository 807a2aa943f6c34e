from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duotrack import boxes

number = st.floats(-1000, 1000, width=32)
length = st.floats(0.125, 1000, width=32)
xywh = st.builds(lambda x, y, w, h: np.array([x, y, w, h], np.float64), number, number, length, length)
many = st.lists(xywh, min_size=1, max_size=5).map(np.stack)


@pytest.mark.parametrize(
    ("convert", "given_box", "expected"),
    [
        (boxes.xywh_to_xyxy, (10, 20, 30, 40), (10, 20, 40, 60)),
        (boxes.xyxy_to_xywh, (10, 20, 40, 60), (10, 20, 30, 40)),
        (boxes.xywh_to_cxcywh, (10, 20, 30, 40), (25, 40, 30, 40)),
        (boxes.cxcywh_to_xywh, (25, 40, 30, 40), (10, 20, 30, 40)),
        (boxes.cxcywh_to_xyxy, (25, 40, 30, 40), (10, 20, 40, 60)),
        (boxes.corners_to_xywh, (5, 2, 9, 6, 5, 10, 1, 6), (1, 2, 8, 8)),  # a square on its tip
    ],
)
def test_conversions_of_hand_made_boxes(convert: Any, given_box: Any, expected: Any) -> None:
    np.testing.assert_array_equal(convert(np.array(given_box, np.float64)), expected)


@given(many)
def test_conversions_undo_each_other(given_boxes: Any) -> None:
    for there, back in (
        (boxes.xywh_to_xyxy, boxes.xyxy_to_xywh),
        (boxes.xywh_to_cxcywh, boxes.cxcywh_to_xywh),
    ):
        np.testing.assert_allclose(back(there(given_boxes)), given_boxes, atol=1e-9)


@given(xywh, st.permutations(range(4)))
def test_the_box_around_corners_does_not_depend_on_their_order(box: Any, order: list[int]) -> None:
    x1, y1, x2, y2 = boxes.xywh_to_xyxy(box)
    corners = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])[order].reshape(8)
    np.testing.assert_allclose(boxes.corners_to_xywh(corners), box, atol=1e-9)


@given(xywh, xywh)
def test_overlap_is_symmetric_and_bounded(first: Any, second: Any) -> None:
    a, b = boxes.xywh_to_xyxy(first), boxes.xywh_to_xyxy(second)
    iou, giou = boxes.iou(a, b), boxes.giou(a, b)
    assert 0 <= iou <= 1 + 1e-12
    assert -1 < giou <= iou + 1e-12
    np.testing.assert_allclose([boxes.iou(b, a), boxes.giou(b, a)], [iou, giou], atol=1e-12)
    np.testing.assert_allclose([boxes.iou(a, a), boxes.giou(a, a)], 1, atol=1e-9)


@given(xywh, xywh, number, number, st.floats(0.1, 10))
def test_overlap_does_not_change_when_both_boxes_move_and_grow(a: Any, b: Any, dx: float, dy: float, k: float) -> None:
    before = boxes.iou(boxes.xywh_to_xyxy(a), boxes.xywh_to_xyxy(b))
    shift = np.array([dx, dy, 0, 0])
    after = boxes.iou(boxes.xywh_to_xyxy((a + shift) * k), boxes.xywh_to_xyxy((b + shift) * k))
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_overlap_counted_in_cells() -> None:
    a, b = np.array([0.0, 0, 4, 4]), np.array([2.0, 2, 6, 6])
    assert boxes.iou(a, b) == pytest.approx(4 / 28)
    assert boxes.giou(a, b) == pytest.approx(4 / 28 - 8 / 36)


def test_boxes_without_area_do_not_overlap() -> None:
    point = np.array([3.0, 3, 3, 3])
    assert boxes.iou(point, point) == 0
    assert boxes.iou(point, np.array([0.0, 0, 9, 9])) == 0


@given(arrays(np.float64, (3, 4), elements=st.floats(-100, 100)))
def test_tensors_give_what_arrays_give(values: Any) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(values.copy())
    for convert in (boxes.xywh_to_xyxy, boxes.xyxy_to_xywh, boxes.xywh_to_cxcywh, boxes.cxcywh_to_xyxy):
        np.testing.assert_array_equal(convert(tensor).numpy(), convert(values))
    np.testing.assert_array_equal(boxes.iou(tensor, tensor.flip(0)).numpy(), boxes.iou(values, values[::-1]))


def test_published_overlaps_and_gradients(shared: Path) -> None:
    torch = pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    expected = load_file(shared / "fixtures/preprocess/expected.safetensors")
    a, b = expected["giou_a_xyxy"], expected["giou_b_xyxy"]
    for array_a, array_b in ((a, b), (a.numpy(), b.numpy())):
        np.testing.assert_allclose(boxes.iou(array_a, array_b), expected["iou"], atol=1e-6)
        np.testing.assert_allclose(boxes.giou(array_a, array_b), expected["giou"], atol=1e-6)
    a.requires_grad_()
    (1 - boxes.giou(a, b)).mean().backward()
    # The last row compares a box with itself, where the gradient is a matter of convention.
    torch.testing.assert_close(a.grad[:11], expected["giou_loss_grad_a"][:11], atol=1e-5, rtol=0)
