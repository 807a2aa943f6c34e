"""The modality gap: against plain arithmetic, and on networks whose gap is known beforehand."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duotrack import analysis
from duotrack.analysis import Layer, gap_of, layer_of, principal_components, probe, target_cells
from duotrack.crops import CropSettings
from duotrack.data.clips import Clip, Track
from duotrack.model import CoupledNetwork, ModelConfig, StudentNetwork, preset, weights

CELLS = np.array([5, 6, 9, 10])


def tokens(seed: int, pairs: int = 6, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(pairs, 20, channels)))


def clip(frames: int = 12, name: str = "made up") -> Clip:
    """A bright, warm patch that moves over noise; the infrared image is the visible one, inverted."""
    random = np.random.default_rng(3)
    visible = np.repeat(random.integers(0, 120, (1, 90, 120, 3), np.uint8), frames, 0)
    boxes = np.array([[30 + 2 * i, 30, 24, 28] for i in range(frames)], np.float64)
    for image, (x, y, w, h) in zip(visible, boxes.astype(int), strict=True):
        image[y : y + h, x : x + w] = 220
    return Clip(name, visible, 255 - visible[..., 0], (Track("patch", np.arange(frames), boxes),))


class TestGap:
    def test_equations(self) -> None:
        """Written out in float64: per pair and channel, mean and unbiased deviation over the tokens."""
        visible, infrared = 2 * tokens(0) + 1, tokens(1)
        found = gap_of(layer_of(visible, infrared, CELLS), 7)
        v, i = visible.numpy(), infrared.numpy()
        means, deviations = (v.mean(1), i.mean(1)), (v.std(1, ddof=1), i.std(1, ddof=1))
        variance = np.mean([d**2 for d in deviations])
        style = ((means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2).mean() / variance
        averages = [s[0].mean(0) - s[1].mean(0) for s in (means, deviations)]
        assert found.block == 7
        assert found.style == pytest.approx(style, rel=1e-5)
        assert found.statistics == pytest.approx((averages[0] ** 2 + averages[1] ** 2).mean() / variance, rel=1e-5)

    @given(st.floats(0.01, 100), st.floats(-5, 5))
    def test_scale_and_common_offset_do_not_count(self, scale: float, offset: float) -> None:
        one, other = tokens(0), 1.5 * tokens(1) + 0.5
        before = gap_of(layer_of(one, other, CELLS), 1)
        after = gap_of(layer_of(scale * one + offset * scale, scale * other + offset * scale, CELLS), 1)
        assert after.style == pytest.approx(before.style, rel=1e-3)
        assert after.statistics == pytest.approx(before.statistics, rel=1e-3, abs=1e-6)

    def test_a_gap_of_style_alone_is_gone_after_normalisation(self) -> None:
        visible = tokens(0, pairs=20)
        infrared = visible * torch.tensor([0.5, 2.0, 1.0]) + torch.tensor([5.0, 0.0, 0.0])
        found = gap_of(layer_of(visible, infrared, CELLS), 1)
        assert found.style > 0.1
        assert found.probe > 0.9
        assert found.probe_normalized == pytest.approx(0.5)  # of two that look alike one is told right
        layer = layer_of(visible, infrared, CELLS)
        np.testing.assert_allclose(layer.normalized[0], layer.normalized[1], atol=1e-3)

    def test_equal_modalities_have_none(self) -> None:
        found = gap_of(layer_of(tokens(0, 20), tokens(0, 20), CELLS), 1)
        assert (found.style, found.statistics, found.probe, found.probe_normalized) == (0, 0, 0.5, 0.5)

    def test_only_the_target_is_pooled(self) -> None:
        visible, infrared = tokens(0), tokens(1)
        layer = layer_of(visible, infrared, CELLS)
        np.testing.assert_allclose(layer.pooled[1], infrared[:, [5, 6, 9, 10]].mean(1).numpy(), rtol=1e-5)

    @pytest.mark.parametrize(
        ("grid", "factor", "inside"),
        [(16, 4.0, [6, 7, 8, 9]), (12, 4.0, [4, 5, 6, 7]), (8, 4.0, [3, 4]), (3, 9.0, [1])],
    )
    def test_the_cells_of_a_centred_target(self, grid: int, factor: float, inside: list[int]) -> None:
        rows, columns = np.divmod(target_cells(grid, factor), grid)
        assert sorted(set(rows)) == sorted(set(columns)) == inside
        assert len(rows) == len(inside) ** 2


class TestProbe:
    def test_what_is_apart_is_told_apart(self) -> None:
        features = np.random.default_rng(0).normal(size=(2, 40, 5)).astype(np.float32)
        features[1, :, 2] += 8
        assert probe(features) == 1.0

    def test_what_is_alike_is_guessed(self) -> None:
        features = np.random.default_rng(0).normal(size=(2, 400, 5)).astype(np.float32)
        assert probe(features) == pytest.approx(0.5, abs=0.06)

    def test_pairs_it_was_trained_on_do_not_count(self) -> None:
        """With more channels than pairs everything can be learned by heart; unseen pairs are a guess still."""
        features = np.random.default_rng(1).normal(size=(2, 40, 200)).astype(np.float32)
        assert 0.3 < probe(features) < 0.7


class TestPrincipalComponents:
    def test_a_plane_is_kept(self) -> None:
        random = np.random.default_rng(0)
        flat = random.normal(size=(2, 30, 2)) * [3, 1]
        basis = np.linalg.qr(random.normal(size=(6, 2)))[0]
        points, share = principal_components((flat @ basis.T + 5).astype(np.float32))
        assert share == pytest.approx(1)
        before, after = (np.linalg.norm(x.reshape(-1, 2)[:, None] - x.reshape(-1, 2), axis=-1) for x in (flat, points))
        np.testing.assert_allclose(after, before, atol=1e-4)

    def test_the_wider_direction_comes_first(self) -> None:
        features = np.zeros((2, 50, 4), np.float32)
        features[..., 3], features[..., 1] = np.random.default_rng(0).normal(size=(2, 2, 50)) * [[[5]], [[1]]]
        points, share = principal_components(features)
        assert abs(np.corrcoef(points[..., 0].ravel(), features[..., 3].ravel())[0, 1]) > 0.99
        assert share == pytest.approx(1)


class TestMeasure:
    def network(self, **changes: object) -> CoupledNetwork:
        torch.manual_seed(0)
        config: ModelConfig = dataclasses.replace(preset("debug"), **changes)  # type: ignore[arg-type]
        return CoupledNetwork(config)

    def test_students_and_teachers(self) -> None:
        network = self.network()
        gap = analysis.measure(network, CropSettings(), [clip()], pairs=11, seed=4)
        assert set(gap.blocks) == {"students", "teachers"}
        assert [one.block for one in gap.blocks["teachers"]] == [1, 2, 3]
        assert gap.layers["students"][0].pooled.shape == (2, 11, 32)
        assert gap.style == pytest.approx(np.mean([one.style for one in gap.blocks["students"]]))
        assert network.config == preset("debug")  # elimination is only left out while measuring
        students = StudentNetwork(network.config)
        students.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("teacher_")})
        alone = analysis.measure(students, CropSettings(), [clip()], pairs=11, seed=4)
        assert alone.blocks == {"students": gap.blocks["students"]}
        other = analysis.measure(students, CropSettings(), [clip()], pairs=11, seed=5)
        assert other.blocks != alone.blocks

    def test_one_student_for_equal_images_has_no_gap(self) -> None:
        seen = clip()
        assert seen.visible is not None
        grey = np.repeat(seen.visible[..., :1], 3, -1)
        alike = dataclasses.replace(seen, visible=grey, infrared=grey[..., 0])
        gap = analysis.measure(self.network(shared_students=True), CropSettings(), [alike], pairs=10)
        assert gap.style == 0
        assert all(one.probe == 0.5 for one in gap.blocks["students"])

    def test_larger_teachers(self) -> None:
        teacher = dataclasses.replace(preset("debug"), width=48, heads=3, depth=5, elimination=None)
        gap = analysis.measure(self.network(teacher=teacher), CropSettings(), [clip()], pairs=10)
        assert [layer.pooled.shape[2] for layer in gap.layers["teachers"]] == [48, 48, 48]

    def test_pairs_are_crops_around_the_target(self) -> None:
        pairs = list(analysis.draw_pairs([clip()], 10, self.network(), CropSettings()))
        for pair in pairs:
            assert (pair.template.shape, pair.search.shape) == ((2, 64, 64, 3), (2, 128, 128, 3))
            assert (pair.search[0, 56:72, 56:72] == 220).all()
            assert (pair.search[1, 56:72, 56:72] == 35).all()

    def test_too_few_pairs(self) -> None:
        with pytest.raises(ValueError, match="10 pairs or more are needed"):
            analysis.measure(self.network(), CropSettings(), [clip()], pairs=9)

    def test_no_target(self) -> None:
        with pytest.raises(ValueError, match="empty: no target is annotated in two frames or more"):
            analysis.measure(self.network(), CropSettings(), [dataclasses.replace(clip(), name="empty", tracks=())])

    def test_a_clip_of_one_modality(self, tmp_path: Path) -> None:
        (tmp_path / "night" / "visible").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "night" / "visible" / "0.png"), np.zeros((20, 30, 3), np.uint8))
        with pytest.raises(ValueError, match="night: one modality is missing"):
            analysis.open_clips([tmp_path / "night"], tmp_path / "cache")


def made_up_gap(teachers: bool) -> analysis.Gap:
    random = np.random.default_rng(0)

    def layer() -> Layer:
        mean, pooled, normal = (random.normal(size=(2, 12, 4)).astype(np.float32) for _ in range(3))
        return Layer(mean, np.ones_like(mean), pooled, normal, 0.5)

    layers = {who: tuple(layer() for _ in range(6)) for who in ("students", "teachers")[: 1 + teachers]}
    return analysis.Gap(
        12, {who: tuple(gap_of(one, i) for i, one in enumerate(each, 1)) for who, each in layers.items()}, layers
    )


class TestReports:
    def test_json_has_every_number(self) -> None:
        gap = made_up_gap(teachers=True)
        facts = json.loads(gap.json())
        assert (facts["pairs"], facts["style"]) == (12, gap.style)
        assert facts["teachers"][5]["statistics"] == gap.blocks["teachers"][5].statistics
        assert set(facts["students"][0]) == {"block", "style", "statistics", "probe", "probe_normalized"}

    def test_the_table_has_a_row_a_block(self) -> None:
        table = made_up_gap(teachers=True).table()
        assert table.row_count == 12
        assert list(table.columns[1].cells)[:6] == ["1", "2", "3", "4", "5", "6"]

    @pytest.mark.parametrize("teachers", [False, True])
    def test_figures(self, tmp_path: Path, teachers: bool) -> None:
        gap = made_up_gap(teachers)
        paths = analysis.draw(gap, tmp_path)
        assert [path.name for path in paths] == [
            "gap_blocks.pdf", "gap_blocks.png", "gap_features.pdf", "gap_features.png"
        ]  # fmt: skip
        before = [path.read_bytes() for path in paths]
        assert before[0].startswith(b"%PDF") and before[1].startswith(b"\x89PNG")
        assert [path.read_bytes() for path in analysis.draw(gap, tmp_path)] == before
        panels = analysis.features_figure(gap).axes
        assert len(panels) == 4 * (4 if teachers else 2)
        assert [np.shape(one.get_offsets()) for one in panels[0].collections] == [(12, 2), (12, 2)]
        assert [panel.get_title().partition(":")[0] for panel in panels[:4]] == [
            "block 1", "block 3", "block 4", "block 6"
        ]  # fmt: skip


def test_weights_by_name_or_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    crops = CropSettings(padding="mean")
    coupled = weights.save(tmp_path / "coupled", CoupledNetwork(preset("debug")), crops=crops)
    assert isinstance(analysis.load(coupled)[0], CoupledNetwork)
    assert analysis.load(coupled)[1] == crops
    assert not isinstance(analysis.load("duotrack-tiny")[0], CoupledNetwork)
