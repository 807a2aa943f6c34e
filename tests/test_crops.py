import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duotrack import crops
from duotrack.boxes import xywh_to_cxcywh

Values = Any


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "fixtures" / "preprocess"


@pytest.fixture(scope="module")
def published(folder: Path) -> Any:
    return json.loads((folder / "expected.json").read_text())


@pytest.fixture(scope="module")
def arrays(folder: Path) -> Any:
    return pytest.importorskip("safetensors.numpy").load_file(folder / "expected.safetensors")


def picture(path: Path) -> crops.Image:
    image: Any = cv2.imread(str(path))
    return np.ascontiguousarray(image[..., ::-1])


def test_crops_equal_the_published_ones_to_the_byte(folder: Path, published: Any) -> None:
    assert len(published["cases"]) == 22
    for case in published["cases"]:
        image, box = picture(folder / case["image"]), np.array(case["box_xywh"])
        name = f"{case['name']}, {case['kind']}"
        result, resize_factor = crops.crop(image, box, case["factor"], case["output"])
        np.testing.assert_array_equal(result, picture(folder / case["crop"]), err_msg=name)
        assert resize_factor == pytest.approx(case["resize_factor"], rel=1e-12), name
        assert crops.crop_side(box, case["factor"]) == case["crop_size"], name
        inside = crops.box_in_crop(box, box, resize_factor, case["output"])
        np.testing.assert_allclose(inside, case["box_in_crop_normalised"], atol=1e-6, err_msg=name)


def test_the_box_in_a_jittered_crop(folder: Path, published: Any) -> None:
    for case in published["jittered_crops"]:
        image, box = picture(folder / case["image"]), np.array(case["box_xywh"])
        around = np.array(case["jittered_box_xywh"])
        if not (folder / case["crop"]).is_file():
            continue
        result, resize_factor = crops.crop(image, around, 4.0, 256)
        np.testing.assert_array_equal(result, picture(folder / case["crop"]))
        inside = crops.box_in_crop(box, around, resize_factor, 256)
        np.testing.assert_allclose(inside, case["box_in_crop_normalised"], atol=1e-6)


def test_clipping_as_published(published: Any) -> None:
    for case in published["clip_box"]:
        clipped = crops.clip_box(np.array(case["box"]), case["width"], case["height"], case["margin"])
        np.testing.assert_array_equal(clipped, case["out"])


def test_mapping_back_as_published(published: Any) -> None:
    for case in published["map_back"]:
        box = crops.box_in_image(
            np.array(case["network_box_cxcywh_normalised"]),
            np.array(case["previous_box_xywh"]),
            case["resize_factor"],
            256,
        )
        np.testing.assert_allclose(box, case["box_xywh"], atol=1e-3)
        np.testing.assert_allclose(crops.clip_box(box, 320, 240), case["clipped_320x240"], atol=1e-3)


def test_window_and_heat_maps_as_published(arrays: Any) -> None:
    np.testing.assert_allclose(crops.hann(16), arrays["hann_16x16"], atol=1e-6)
    for box, expected in zip(arrays["heat_boxes_xywh"], arrays["heat_maps"], strict=True):
        np.testing.assert_allclose(crops.heatmap(box, 16), expected, atol=1e-6)


def test_mean_padding_takes_the_colour_of_what_is_seen() -> None:
    image = np.full((40, 60, 3), (200, 100, 50), np.uint8)
    corner = np.array([-5.0, -5, 20, 20])
    zero, _ = crops.crop(image, corner, 4.0, 64)
    mean, _ = crops.crop(image, corner, 4.0, 64, "mean")
    assert (zero[0, 0] == 0).all()
    assert (mean == (200, 100, 50)).all()


def test_a_window_outside_the_image_is_black() -> None:
    image = np.full((40, 60, 3), 255, np.uint8)
    for x, y in ((500, 5), (-500, 5), (5, 500), (5, -500)):
        for padding in ("zero", "mean"):
            result, _ = crops.crop(image, np.array([x, y, 10.0, 10.0]), 2.0, 32, padding)
            assert result.shape == (32, 32, 3)
            assert not result.any()


@pytest.mark.parametrize("box", [(5, 5, 0, 10), (5, 5, 10, -1), (5, 5, 0, 0)])
def test_a_box_without_area_is_refused(box: Any) -> None:
    with pytest.raises(ValueError, match="width and height must be positive"):
        crops.crop(np.zeros((40, 60, 3), np.uint8), np.array(box, np.float64), 2.0, 32)


@pytest.mark.parametrize(
    "setting", [{"template_factor": 0}, {"search_factor": -1}, {"padding": "grey"}, {"window": -1}]
)
def test_settings_that_mean_nothing_are_refused(setting: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        crops.CropSettings(**setting)


box_strategy = st.builds(
    lambda x, y, w, h: np.array([x, y, w, h]), *[st.floats(-300, 600)] * 2, *[st.floats(0.5, 500)] * 2
)


@given(box_strategy, st.sampled_from([2.0, 4.0]), st.sampled_from([32, 128]))
def test_a_crop_always_has_its_size(box: Values, factor: float, size: int) -> None:
    result, resize_factor = crops.crop(np.zeros((90, 120, 3), np.uint8), box, factor, size)
    assert result.shape == (size, size, 3)
    side = size / resize_factor
    assert side == pytest.approx(crops.crop_side(box, factor))
    assert math.sqrt(box[2] * box[3]) * factor <= side * (1 + 1e-12)


@given(box_strategy, box_strategy)
def test_into_the_crop_and_back(box: Values, around: Values) -> None:
    resize_factor = 256 / crops.crop_side(around, 4.0)
    inside = crops.box_in_crop(box, around, resize_factor, 256)
    back = crops.box_in_image(xywh_to_cxcywh(inside), around, resize_factor, 256)
    # Training puts the centre half a crop pixel further left and up than tracking does; both as published.
    offset = 0.5 / resize_factor
    np.testing.assert_allclose(back, box - [offset, offset, 0, 0], atol=1e-6)


@given(box_strategy)
def test_a_clipped_box_keeps_its_margin_inside(box: Values) -> None:
    x, y, w, h = crops.clip_box(box, 120, 90)
    assert min(x + w, 120) - max(x, 0) >= 10 - 1e-9
    assert min(y + h, 90) - max(y, 0) >= 10 - 1e-9


@given(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.02, 0.2), st.floats(0.02, 0.2))
def test_a_heat_map_peaks_at_the_centre_cell(x: float, y: float, w: float, h: float) -> None:
    heat = crops.heatmap(np.array([x, y, w, h]), 16)
    column, row = round((x + w / 2) * 16), round((y + h / 2) * 16)
    assert heat.max() <= 1
    if column < 16 and row < 16:
        assert heat[row, column] == 1
        assert (heat == 1).sum() == 1


@pytest.mark.parametrize("size", [7, 16])
def test_the_window_is_symmetric_and_never_zero(size: int) -> None:
    window = crops.hann(size)
    np.testing.assert_allclose(window, window.T, atol=1e-7)
    np.testing.assert_allclose(window, window[::-1, ::-1], atol=1e-7)
    assert window.min() > 0
    assert np.unravel_index(int(window.argmax()), window.shape)[0] in (size // 2, (size - 1) // 2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"search_factor": 0.0}, "crop factors must be positive"),
        ({"padding": "edge"}, "'zero' or 'mean', not 'edge'"),
        ({"window": -1.0}, "window must be 0 or more, not -1"),
        ({"lost": 1.0}, "lost is a score, from 0 to below 1, not 1.0"),
        ({"lost": -0.1}, "not -0.1"),
        ({"calibration": 1.5}, r"calibration must lie in 0\.\.1, not 1.5"),
    ],
)
def test_settings_that_say_nothing_sensible_are_refused(setting: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crops.CropSettings(**setting)
