"""The processing of a training pair against samples made with the published code."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from duotrack.crops import CropSettings, crop
from duotrack.data.augment import CropDraws, Draws, Processing, draw, jitter, padding_mask, process

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def image(file: Path) -> npt.NDArray[np.uint8]:
    loaded = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    assert loaded is not None
    return loaded.astype(np.uint8)


def crop_draws(values: list[Any]) -> CropDraws:
    (_, size), (_, shift), (_, brightness, _, _), (_, flip) = values
    return CropDraws(tuple(size), tuple(shift), brightness, flip)


def test_training_samples_are_the_published_ones(shared: Path) -> None:
    folder = shared / "fixtures" / "preprocess"
    fixture = json.loads((folder / "expected.json").read_text())["training_samples"]
    pixels = load_file(folder / "expected.safetensors")
    template = (image(folder / fixture["template_rgb"]), image(folder / fixture["template_tir"]))
    search = (image(folder / fixture["search_rgb"]), image(folder / fixture["search_tir"]))
    boxes = np.array(fixture["template_box"]), np.array(fixture["search_box"])
    assert len(fixture["samples"]) == 8
    for index, sample in enumerate(fixture["samples"]):
        (_, grayscale), (_, flip), *rest = sample["draws_in_order"]
        draws = Draws(grayscale, flip, crop_draws(rest[:4]), crop_draws(rest[4:]))
        pair = process(template, search, *boxes, draws, Processing())
        assert pair is not None
        np.testing.assert_allclose(pair.template_box, sample["template_anno"], atol=1e-6)
        np.testing.assert_allclose(pair.search_box, sample["search_anno"], atol=1e-6)
        for name, crops, factor in (
            ("template", pair.template, pair.brightness[0]),
            ("search", pair.search, pair.brightness[1]),
        ):
            for modality, pixel in zip(("rgb", "tir"), crops, strict=True):
                scaled = np.clip(pixel * (np.float64(factor) / 255), 0, 1)
                normal = ((scaled - MEAN) / STD).transpose(2, 0, 1)
                expected = pixels[f"train_{index}.{name}_{modality}_every_16th_pixel"]
                np.testing.assert_allclose(normal[:, ::16, ::16], expected, atol=1e-5)
                assert abs(normal.sum() - sample["sums"][f"{name}_{modality}"]) < 1e-5 * normal.size


def test_jittered_crops_are_the_published_ones(shared: Path) -> None:
    folder = shared / "fixtures" / "preprocess"
    for case in json.loads((folder / "expected.json").read_text())["jittered_crops"]:
        source, box = image(folder / case["image"]), np.array(case["box_xywh"])
        draws = CropDraws(tuple(case["randn"]), tuple(case["rand"]), 1.0, 1.0)
        processing = Processing(scale_jitter=case["scale_jitter"], center_jitter=case["center_jitter"])
        jittered = jitter(box, draws, processing)
        np.testing.assert_allclose(jittered, case["jittered_box_xywh"], atol=1e-3)
        np.testing.assert_array_equal(crop(source, jittered, 4, 256)[0], image(folder / case["crop"]))
        mask = padding_mask((source.shape[0], source.shape[1]), jittered, 4, 256)
        assert mask.all() == case["fully_padded"]
        assert mask[::16, ::16].sum() == case["padded_at_stride_16"]
        pair = process((source, source), (source, source), box, box, Draws(1, 1, draws, draws), processing)
        assert (pair is None) == (case["fully_padded"] or case["padded_at_stride_16"] == 256)
        if pair is not None:
            np.testing.assert_allclose(pair.search_box, case["box_in_crop_normalised"], atol=1e-6)


def test_padding_masks_are_the_published_ones(shared: Path) -> None:
    folder = shared / "fixtures" / "preprocess"
    for case in json.loads((folder / "expected.json").read_text())["cases"]:
        source = image(folder / case["image"])
        mask = padding_mask(
            (source.shape[0], source.shape[1]), np.array(case["box_xywh"]), case["factor"], case["output"]
        )
        expected = cv2.imread(str(folder / case["padding_mask"]), cv2.IMREAD_GRAYSCALE)
        assert expected is not None
        np.testing.assert_array_equal(mask, expected > 0, err_msg=f"{case['name']} {case['kind']}")


def test_draws_follow_the_published_order() -> None:
    a, b = np.random.default_rng(5), np.random.default_rng(5)
    draws = draw(a, Processing())
    assert (draws.grayscale, draws.flip) == (b.random(), b.random())
    for numbers in (draws.template, draws.search):
        assert numbers.size == tuple(b.standard_normal(2))
        assert numbers.shift == tuple(b.random(2))
        assert numbers.brightness == pytest.approx(0.8 + 0.4 * b.random())
        assert numbers.flip == b.random()


@given(seed=st.integers(0, 2**32 - 1))
def test_the_box_marks_the_target_whatever_is_drawn(seed: int) -> None:
    """A bright rectangle in both modalities: its pixels in the crops lie in the box that comes with them."""
    rng = np.random.default_rng(seed)
    frame = np.zeros((120, 160, 3), np.uint8)
    x, y, w, h = 70, 50, int(rng.integers(12, 30)), int(rng.integers(12, 30))
    frame[y : y + h, x : x + w] = 255
    processing = Processing(CropSettings(padding="mean"), template_size=96, search_size=192)
    box = np.array([x, y, w, h], np.float64)
    pair = process((frame, frame), (frame, frame), box, box, draw(rng, processing), processing)
    assert pair is not None
    for crops, (bx, by, bw, bh) in ((pair.template, pair.template_box), (pair.search, pair.search_box)):
        size, scale = crops.shape[1], crops.shape[1] * bw / w
        rows, columns = np.nonzero(crops[1, :, :, 0] > 127)
        if not len(rows):
            continue
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        wanted = np.clip(np.array([bx, by, bx + bw, by + bh]) * size, 0, size)
        # In image pixels: half of one by rounding the window, one by the published W - 1 of the mirrored frame.
        assert np.abs(found - wanted).max() <= 1.5 + 1.5 * scale


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="flip_crops"):
        Processing(flip_crops=1.5)
    with pytest.raises(ValueError, match="jitters"):
        Processing(scale_jitter=-1)
