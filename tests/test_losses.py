"""The losses against the published training step, against their equations in NumPy, and by hand."""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from duotrack import boxes, crops
from duotrack.losses import (
    LossOptions,
    NonFiniteLossError,
    Target,
    ckd_loss,
    content_distance,
    content_loss,
    focal,
    giou,
    l1,
    style_distance,
    style_loss,
)
from duotrack.model import CoupledNetwork, Elimination, Output
from duotrack.model.network import BranchTokens, CoupledOutput

from .model.published import PREFIXES, fixture_coupled, fixture_inputs, fixture_tensors, published_name

Array = npt.NDArray[np.float64]
HEADS = {"fused": "fused", "teacher_visible": "teacher_rgb", "teacher_infrared": "teacher_tir"}


# The published training step.


def published_options(entry: str) -> LossOptions:
    """``CKD.content_token.style_channel.stop_content_1.stop_style_0`` and the like."""
    options: dict[str, Any] = {}
    if entry.startswith("CKD"):
        variant, *parts = entry.split(".")
        options["variant"] = variant
        for part in parts:
            name, value = part.rsplit("_", 1)
            if name.startswith("stop_"):
                options[f"{name}_gradient"] = value == "1"
            else:
                options[f"{name}_level"] = value
    return LossOptions(**options)


CKD_ENTRIES = [
    f"CKD.content_{content}.style_{style}.stop_content_{a}.stop_style_{b}"
    for content, style, a, b in itertools.product(("channel", "token"), ("channel", "token"), "10", "01")
]
GLOBAL_LOCAL_ENTRIES = [
    f"CKD_GlobalLocal_{kind}.stop_content_{a}.stop_style_{b}"
    for kind, a, b in itertools.product(("Soft", "Hard"), "10", "01")
]
OTHER_ENTRIES = [
    "default", "batchnorm_eval", "no_mask", "elimination", "elimination_heads_only", "elimination_and_mask"
]  # fmt: skip


@dataclasses.dataclass
class Step:
    network: CoupledNetwork
    output: CoupledOutput
    target: Target
    losses: Any

    def gradients(self) -> Iterator[tuple[str, Tensor | None]]:
        """Of every parameter, by its published name."""
        for name, parameter in self.network.named_parameters():
            yield published_name(name), parameter.grad


def published_step(shared: Path, entry: str) -> Step:
    """One forward and backward pass as the entry of ``train_values.json`` describes it."""
    folder = shared / "fixtures" / "network"
    known = fixture_tensors(folder, "train_expected")
    network = fixture_coupled(folder, Elimination((2, 4, 6), 0.7) if entry.startswith("elimination") else None).train()
    heads = (network.head, network.teacher_head_visible, network.teacher_head_infrared)
    if entry == "batchnorm_eval":
        for head in heads:
            head.eval()
    if entry == "elimination_heads_only":
        network.requires_grad_(False)
        for head in heads:
            head.requires_grad_(True)
    mask = None if entry in ("no_mask", "elimination", "elimination_heads_only") else known["keep_mask"]
    output = network(*fixture_inputs(folder), keep_mask=mask)
    box = known["gt_boxes_xywh"]
    heatmap = torch.stack([torch.from_numpy(crops.heatmap(one.double().numpy(), 16)) for one in box]).unsqueeze(1)
    target = Target(box, heatmap, torch.ones(2, dtype=torch.bool))
    losses = ckd_loss(output, target, published_options(entry))
    losses.total.backward()
    return Step(network, output, target, losses)


class TestPublishedStep:
    @pytest.mark.parametrize("entry", [*OTHER_ENTRIES, *CKD_ENTRIES, *GLOBAL_LOCAL_ENTRIES])
    def test_values_and_gradient_norms(self, shared: Path, entry: str) -> None:
        folder = shared / "fixtures" / "network"
        expected = json.loads((folder / "train_values.json").read_text())[entry]
        step = published_step(shared, entry)
        terms = step.losses.terms
        assert step.losses.total.item() == pytest.approx(expected["total"], rel=1e-5)
        for name in ("style", "content"):
            assert terms[name].item() == pytest.approx(expected[name], rel=1e-5)
        corners = boxes.xywh_to_xyxy(step.target.box).clamp(0, 1)
        for ours, theirs in HEADS.items():
            if theirs not in expected:
                continue
            for name in ("giou", "l1", "focal"):
                assert terms[f"{ours}.{name}"].item() == pytest.approx(expected[theirs][name], rel=1e-5)
            answer: Output = step.output if ours == "fused" else getattr(step.output, ours)
            predicted = answer.box_cxcywh.detach()
            np.testing.assert_allclose(predicted, expected[theirs]["pred_boxes_cxcywh"], atol=1e-5)
            overlap = boxes.iou(boxes.cxcywh_to_xyxy(predicted), corners)
            np.testing.assert_allclose(overlap, expected[theirs]["iou"], atol=1e-5)
        squares: dict[str, float] = {}
        for name, gradient in step.gradients():
            if gradient is not None:
                module = name.split(".")[0]
                squares[module] = squares.get(module, 0) + gradient.double().square().sum().item()
        norms = {module: math.sqrt(value) for module, value in squares.items()}
        assert norms == pytest.approx(expected["grad_norm_by_module"], rel=1e-4)
        assert math.sqrt(sum(squares.values())) == pytest.approx(expected["grad_norm_total"], rel=1e-4)

    @pytest.mark.parametrize("entry", ["default", "batchnorm_eval", "elimination_heads_only"])
    def test_gradient_norm_of_every_parameter(self, shared: Path, entry: str) -> None:
        path = shared / "fixtures" / "network" / f"train_grad_norms_{entry}.json"
        expected = {name: norm for name, norm in json.loads(path.read_text()).items() if norm is not None}
        gradients = {name: g for name, g in published_step(shared, entry).gradients() if g is not None}
        assert gradients.keys() == expected.keys()
        for name, gradient in gradients.items():
            norm = gradient.norm().item()
            if entry != "batchnorm_eval" and ".conv" in name and name.endswith(".0.bias"):
                assert norm < 1e-4, name  # BatchNorm in train mode takes these biases out: only rounding is left
            else:
                assert norm == pytest.approx(expected[name], rel=1e-3, abs=1e-6), name

    def test_default_in_full(self, shared: Path) -> None:
        folder = shared / "fixtures" / "network"
        expected = fixture_tensors(folder, "train_expected")
        step = published_step(shared, "default")
        torch.testing.assert_close(step.target.heatmap, expected["heat_map"], atol=1e-6, rtol=0)
        for name, tolerance in (("score", 1e-5), ("size", 1e-5), ("offset", 5e-5)):
            torch.testing.assert_close(
                getattr(step.output, name).detach(), expected[f"default.{name}_map"], atol=tolerance, rtol=0
            )
        for teacher, name in ((step.output.teacher_visible, "rgb"), (step.output.teacher_infrared, "tir")):
            theirs = expected[f"default.out_t_{name}.score_map"]
            assert teacher is not None
            torch.testing.assert_close(teacher.score.detach(), theirs, atol=1e-5, rtol=0)
        compared = 0
        for name, gradient in step.gradients():
            theirs_or_none = expected.get(f"default.grad.{name}")
            if theirs_or_none is None:
                continue
            assert gradient is not None
            ours = gradient[: len(theirs_or_none)]  # of the big ones, the first two rows are stored
            atol = 1e-4 * theirs_or_none.abs().max().item()
            torch.testing.assert_close(ours, theirs_or_none, atol=atol, rtol=0, msg=f"gradient of {name}")
            compared += 1
        assert compared == sum(key.startswith("default.grad.") for key in expected) == 9
        for statistic in ("running_mean", "running_var"):
            theirs = expected[f"{statistic}_after.box_head.conv1_ctr.1"]
            torch.testing.assert_close(step.network.head.get_buffer(f"score.0.1.{statistic}"), theirs)
        assert step.network.head.get_buffer("score.0.1.num_batches_tracked") == 8  # 7 are stored

    def test_style_and_content_of_each_block(self, shared: Path) -> None:
        path = shared / "fixtures" / "network" / "train_values.json"
        expected = json.loads(path.read_text())["per_block"]
        tokens = published_step(shared, "default").output.tokens
        for name, first, second, distance in (
            ("style_channel", tokens.visible, tokens.infrared, style_distance),
            ("content_channel_rgb", tokens.teacher_visible, tokens.visible, content_distance),
            ("content_channel_tir", tokens.teacher_infrared, tokens.infrared, content_distance),
        ):
            ours = [distance(a, b).item() for a, b in zip(first, second, strict=True)]
            np.testing.assert_allclose(ours, expected[name], rtol=1e-5)

    @pytest.mark.parametrize("entry", ["elimination", "elimination_and_mask"])
    def test_tokens_kept_in_training(self, shared: Path, entry: str) -> None:
        expected = fixture_tensors(shared / "fixtures" / "network", "train_expected")
        output = published_step(shared, entry).output
        for layer, kept in zip((2, 4, 6), output.kept, strict=True):
            theirs = expected[f"{entry}.kept_after_block_{layer}"].long()
            assert torch.equal(kept.sort(1).values, theirs.sort(1).values)
        if entry == "elimination":
            torch.testing.assert_close(output.score.detach(), expected["elimination.score_map"], atol=1e-5, rtol=0)
            teacher = expected["elimination.out_t_rgb.score_map"]
            assert output.teacher_visible is not None
            torch.testing.assert_close(output.teacher_visible.score.detach(), teacher, atol=1e-5, rtol=0)

    def test_the_names_of_the_modules(self, shared: Path) -> None:
        expected = json.loads((shared / "fixtures" / "network" / "train_values.json").read_text())
        assert set(expected["default"]["grad_norm_by_module"]) == set(PREFIXES.values())

    def test_focal_and_giou(self, shared: Path) -> None:
        folder = shared / "fixtures" / "preprocess"
        tensors = fixture_tensors(folder, "expected")
        numbers = json.loads((folder / "expected.json").read_text())
        heat, score = tensors["heat_maps"].unsqueeze(1), tensors["focal_prediction"].clone().requires_grad_()
        value = focal(score, heat[:3])
        assert value.item() == pytest.approx(numbers["focal_loss"]["heat_maps_0_to_2"], rel=1e-5)
        value.backward()
        assert score.grad is not None
        largest = tensors["focal_grad_maps_0_to_2"].abs().max().item()
        torch.testing.assert_close(score.grad, tensors["focal_grad_maps_0_to_2"], atol=1e-5 * largest, rtol=0)
        predicted = tensors["giou_a_xyxy"].clone().requires_grad_()
        loss = giou(predicted, tensors["giou_b_xyxy"])
        assert loss.item() == pytest.approx(numbers["giou_loss_mean"], rel=1e-5)
        loss.backward()
        assert predicted.grad is not None
        # The last row is a box beside itself, where minimum and maximum tie.
        torch.testing.assert_close(predicted.grad[:11], tensors["giou_loss_grad_a"][:11], atol=1e-5, rtol=0)


# The equations.


def random_tokens(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def plain_style(a: Array, b: Array, axis: int = 1) -> float:
    means = (a.mean(axis) - b.mean(axis)) ** 2
    deviations = (a.std(axis, ddof=1) - b.std(axis, ddof=1)) ** 2
    return float((means + deviations).mean())


def plain_instance_norm(a: Array, axis: int = 1) -> Array:
    result: Array = (a - a.mean(axis, keepdims=True)) / np.sqrt(a.var(axis, keepdims=True) + 1e-5)
    return result


def float64(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


shapes = st.tuples(st.integers(1, 3), st.integers(2, 20), st.integers(2, 8))


class TestStyle:
    def test_by_hand(self) -> None:
        a = torch.tensor([[[0.0], [2.0]]])  # mean 1, deviation sqrt 2
        b = torch.tensor([[[3.0], [3.0]]])  # mean 3, deviation 0
        assert style_distance(a, b).item() == pytest.approx(4 + 2)

    @settings(deadline=None, max_examples=30)
    @given(shape=shapes, seed=st.integers(0, 1000))
    def test_equation(self, shape: tuple[int, int, int], seed: int) -> None:
        a, b = 2 * random_tokens(seed, *shape) + 1, random_tokens(seed + 1, *shape)
        assert style_distance(a, b).item() == pytest.approx(plain_style(float64(a), float64(b)), rel=1e-4)
        by_token = plain_style(float64(a), float64(b), axis=2)
        assert style_distance(a, b, "token").item() == pytest.approx(by_token, rel=1e-4)
        assert style_distance(b, a) == style_distance(a, b)
        assert style_distance(a, a) == 0

    def test_does_not_see_the_order_of_tokens(self) -> None:
        a, b = random_tokens(0, 2, 12, 5), random_tokens(1, 2, 12, 5)
        shuffled = b[:, torch.randperm(12)]
        torch.testing.assert_close(style_distance(a, shuffled), style_distance(a, b))

    def test_sees_a_change_of_moments(self) -> None:
        a = random_tokens(0, 2, 12, 5)
        assert style_distance(a, a + 3).item() == pytest.approx(9, rel=1e-5)
        assert style_distance(a, 2 * a) > 0.5

    def test_a_constant_channel_has_a_finite_gradient(self) -> None:
        a, b = torch.zeros(1, 6, 2, requires_grad=True), random_tokens(0, 1, 6, 2)
        style_distance(a, b).backward()
        assert a.grad is not None
        assert torch.isfinite(a.grad).all()

    def test_unknown_level(self) -> None:
        with pytest.raises(ValueError, match="level must be 'channel' or 'token', not 'layer'"):
            style_distance(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), "layer")  # type: ignore[arg-type]


class TestContent:
    def test_by_hand(self) -> None:
        a, b = torch.tensor([[[-1.0], [1.0]]]), torch.tensor([[[5.0], [3.0]]])  # opposite slopes
        assert content_distance(a, b).item() == pytest.approx(4 / (1 + 1e-5))

    @settings(deadline=None, max_examples=30)
    @given(shape=shapes, seed=st.integers(0, 1000))
    def test_equation(self, shape: tuple[int, int, int], seed: int) -> None:
        a, b = 2 * random_tokens(seed, *shape) + 1, random_tokens(seed + 1, *shape)
        for level, axis in (("channel", 1), ("token", 2)):
            difference = plain_instance_norm(float64(a), axis) - plain_instance_norm(float64(b), axis)
            ours = content_distance(a, b, level).item()  # type: ignore[arg-type]
            assert ours == pytest.approx((difference**2).mean(), rel=1e-3, abs=1e-6)
        assert content_distance(a, a) == 0

    def test_does_not_see_style(self) -> None:
        """A scale and a shift for each channel is what style is; content is what they leave."""
        teacher, student = random_tokens(0, 2, 40, 5), random_tokens(1, 2, 40, 5)
        scale, shift = torch.tensor([0.5, 1.0, 2.0, 5.0, 30.0]), torch.tensor([-3.0, 0.0, 1.0, 2.0, 10.0])
        plain = content_distance(teacher, student)
        torch.testing.assert_close(content_distance(teacher, student * scale + shift), plain, atol=1e-4, rtol=0)
        torch.testing.assert_close(content_distance(teacher * scale + shift, student), plain, atol=1e-4, rtol=0)
        assert style_distance(student, student * scale + shift) > 10
        scaled_token = torch.linspace(0.5, 3, 40).reshape(1, 40, 1)
        by_token = content_distance(teacher, student * scaled_token, "token")
        torch.testing.assert_close(by_token, content_distance(teacher, student, "token"), atol=1e-3, rtol=0)
        assert (content_distance(teacher, student * scaled_token) - plain).abs() > 1e-3


class TestBoxLosses:
    def test_l1_by_hand(self) -> None:
        predicted, target = torch.tensor([[0.1, 0.2, 0.5, 0.6]]), torch.tensor([[0.2, 0.2, 0.3, 0.7]])
        assert l1(predicted, target).item() == pytest.approx((0.1 + 0 + 0.2 + 0.1) / 4)

    def test_giou_by_hand(self) -> None:
        a, b = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 1.0, 3.0, 3.0]])
        assert giou(a, b).item() == pytest.approx(1 - (1 / 7 - 2 / 9))
        assert giou(a, a).item() == 0

    def test_mean_over_boxes(self) -> None:
        a = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
        b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 1.0, 1.0]])
        assert giou(a, b).item() == pytest.approx((1 - (1 / 7 - 2 / 9)) / 2)
        assert l1(a, b).item() == pytest.approx(0.5)

    def test_no_boxes(self) -> None:
        nothing = torch.zeros(0, 4, requires_grad=True)
        assert giou(nothing, nothing) == l1(nothing, nothing) == 0
        (giou(nothing, nothing) + l1(nothing, nothing)).backward()


class TestFocal:
    def test_by_hand(self) -> None:
        score, heat = torch.tensor([[[[0.8, 0.3], [0.5, 0.1]]]]), torch.tensor([[[[1.0, 0.5], [0.0, 0.0]]]])
        expected = -(
            math.log(0.8) * 0.2**2 + math.log(0.7) * 0.3**2 * 0.5**4 + math.log(0.5) * 0.5**2 + math.log(0.9) * 0.1**2
        )
        assert focal(score, heat).item() == pytest.approx(expected, rel=1e-5)
        # Two samples share one divisor: the number of true centres in the batch.
        assert focal(score.repeat(2, 1, 1, 1), heat.repeat(2, 1, 1, 1)).item() == pytest.approx(expected, rel=1e-5)
        empty = -sum(math.log(1 - p) * p**2 for p in (0.8, 0.3, 0.5, 0.1))
        mixed = focal(score.repeat(3, 1, 1, 1), torch.cat([heat, 0 * heat, heat])).item()
        assert mixed == pytest.approx((2 * expected + empty) / 2, rel=1e-5)

    def test_without_a_centre(self) -> None:
        score = torch.full((1, 1, 2, 2), 0.5)
        assert focal(score, torch.zeros(1, 1, 2, 2)).item() == pytest.approx(-4 * math.log(0.5) * 0.25)

    def test_gradient_at_a_score_of_zero(self) -> None:
        score = torch.zeros(1, 1, 2, 2, requires_grad=True)
        heat = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        value = focal(score, heat)
        assert torch.isfinite(value)
        value.backward()
        assert score.grad is not None
        assert torch.isfinite(score.grad).all()


# All terms together, on made-up outputs of a 16 x 16 search and an 8 x 8 template grid.

GRID, TEMPLATE, LAYERS, WIDTH = 16, 64, 2, 6


def made_up(seed: int = 0, batch: int = 2, kept: tuple[Tensor, ...] = ()) -> CoupledOutput:
    """Random answers and tokens, all of them leaves with gradients."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int, low: float = 0.05, high: float = 0.95) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator).requires_grad_()

    def output() -> Output:
        box = torch.cat([leaf(batch, 2).detach(), leaf(batch, 2).detach()], 1).requires_grad_()
        return Output(leaf(batch, 1, GRID, GRID), leaf(batch, 2, GRID, GRID), leaf(batch, 2, GRID, GRID), box, kept)

    fused, visible, infrared = output(), output(), output()
    tokens = BranchTokens(
        *([leaf(batch, TEMPLATE + GRID**2, WIDTH, low=-3, high=3) for _ in range(LAYERS)] for _ in range(4))
    )
    maps = (fused.score, fused.size, fused.offset, fused.box_cxcywh)
    return CoupledOutput(*maps, kept, teacher_visible=visible, teacher_infrared=infrared, tokens=tokens)


def made_up_target(batch: int = 2) -> Target:
    box = torch.tensor([[0.38, 0.31, 0.27, 0.22], [0.11, 0.55, 0.3, 0.2], [0.5, 0.5, 0.2, 0.2]])[:batch]
    heatmap = torch.stack([torch.from_numpy(crops.heatmap(one.double().numpy(), GRID)) for one in box]).unsqueeze(1)
    return Target(box, heatmap, torch.ones(batch, dtype=torch.bool))


def pulls(loss: Tensor, tokens: list[Tensor]) -> bool:
    gradients = torch.autograd.grad(loss, tokens, retain_graph=True, allow_unused=True)
    reached = [gradient is not None and bool((gradient != 0).any()) for gradient in gradients]
    assert len(set(reached)) == 1, "some blocks and not others"
    return reached[0]


VARIANTS = ("CKD", "CKD_GlobalLocal_Soft", "CKD_GlobalLocal_Hard")


class TestCkdLoss:
    def test_total_is_the_weighted_sum(self) -> None:
        output, target = made_up(), made_up_target()
        losses = ckd_loss(output, target)
        heads = ("fused", "teacher_visible", "teacher_infrared")
        assert set(losses.terms) == {f"{h}.{t}" for h in heads for t in ("giou", "l1", "focal")} | {"style", "content"}
        t = {name: value.item() for name, value in losses.terms.items()}
        tasks = sum(2 * t[f"{head}.giou"] + 5 * t[f"{head}.l1"] + t[f"{head}.focal"] for head in heads)
        assert losses.total.item() == pytest.approx(tasks + 0.01 * t["style"] + 0.1 * t["content"], rel=1e-6)
        weights = LossOptions(
            style_weight=1, content_weight=0.5, giou_weight=0.25, l1_weight=0.125, focal_weight=3
        )  # fmt: skip
        tasks = sum(0.25 * t[f"{head}.giou"] + 0.125 * t[f"{head}.l1"] + 3 * t[f"{head}.focal"] for head in heads)
        total = ckd_loss(output, target, weights).total.item()
        assert total == pytest.approx(tasks + t["style"] + 0.5 * t["content"], rel=1e-6)

    @pytest.mark.parametrize(
        ("options", "missing"),
        [
            (LossOptions(style=False), {"style"}),
            (LossOptions(content=False), {"content"}),
            (
                LossOptions(content=False, teachers=False),
                {"content"} | {f"teacher_{m}.{t}" for m in ("visible", "infrared") for t in ("giou", "l1", "focal")},
            ),
        ],
    )
    def test_a_term_switched_off_is_gone(self, options: LossOptions, missing: set[str]) -> None:
        output, target = made_up(), made_up_target()
        everything = ckd_loss(output, target).terms
        losses = ckd_loss(output, target, options)
        assert set(everything) - set(losses.terms) == missing
        for branch in ("teacher_visible", "teacher_infrared"):
            gradient = torch.autograd.grad(
                losses.total, getattr(output, branch).score, retain_graph=True, allow_unused=True
            )
            assert (gradient[0] is not None) == options.teachers

    def test_style_and_content_are_sums_over_blocks(self) -> None:
        output, target = made_up(), made_up_target()
        plain = [[float64(layer) for layer in branch] for branch in output.tokens]
        style = sum(plain_style(plain[0][layer], plain[1][layer]) for layer in range(LAYERS))
        content = sum(
            ((plain_instance_norm(plain[t][layer]) - plain_instance_norm(plain[s][layer])) ** 2).mean()
            for layer in range(LAYERS)
            for s, t in ((0, 2), (1, 3))
        )
        terms = ckd_loss(output, target).terms
        assert terms["style"].item() == pytest.approx(style, rel=1e-5)
        assert terms["content"].item() == pytest.approx(content, rel=1e-5)

    @pytest.mark.parametrize("variant", VARIANTS[1:])
    def test_global_and_local(self, variant: str) -> None:
        output, target = made_up(), made_up_target()
        heat = float64(target.heatmap).reshape(2, -1)
        hard = variant.endswith("Hard")
        weight = np.concatenate([np.full((2, TEMPLATE), 0.0 if hard else 1.0), heat > 0 if hard else heat + 0.5], 1)
        a = weight[..., None]
        plain = [[float64(layer) for layer in branch] for branch in output.tokens]
        style = content = 0.0
        for layer in range(LAYERS):
            visible, infrared = plain[0][layer], plain[1][layer]
            style += plain_style(a * visible, a * infrared) + (plain_style(visible, infrared) if hard else 0)
            for s, t in ((0, 2), (1, 3)):
                difference = plain_instance_norm(plain[t][layer]) - plain_instance_norm(plain[s][layer])
                content += ((a * difference) ** 2).mean() + ((difference**2).mean() if hard else 0)
        terms = ckd_loss(output, target, LossOptions(variant=variant)).terms  # type: ignore[arg-type]
        assert terms["style"].item() == pytest.approx(style, rel=1e-5)
        assert terms["content"].item() == pytest.approx(content, rel=1e-5)

    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("stop", [False, True])
    def test_stopped_gradients_stop(self, variant: str, stop: bool) -> None:
        output, target = made_up(), made_up_target()
        options = LossOptions(variant=variant, stop_style_gradient=stop, stop_content_gradient=stop)  # type: ignore[arg-type]
        tokens = output.tokens
        style, content = style_loss(output, target, options), content_loss(output, target, options)
        assert pulls(style, tokens.visible) is not stop
        assert pulls(style, tokens.infrared)
        assert not pulls(style, tokens.teacher_visible)
        assert pulls(content, tokens.visible)
        assert pulls(content, tokens.infrared)
        assert pulls(content, tokens.teacher_visible) is not stop
        assert pulls(content, tokens.teacher_infrared) is not stop

    @pytest.mark.parametrize(
        "tokens_kept", [180, 231]
    )  # 0.7 and 0.9 of 256: fewer, and more, than the heat map's cells
    @pytest.mark.parametrize("variant", VARIANTS[1:])
    def test_global_and_local_refuse_elimination(self, variant: str, tokens_kept: int) -> None:
        kept = (torch.arange(tokens_kept).expand(2, -1),)
        output = made_up(kept=kept)
        shorter = BranchTokens(*([t[:, : TEMPLATE + tokens_kept] for t in branch] for branch in output.tokens))
        output = dataclasses.replace(output, tokens=shorter)
        options = LossOptions(variant=variant)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"{variant} cannot be combined with elimination"):
            ckd_loss(output, made_up_target(), options)
        assert torch.isfinite(ckd_loss(output, made_up_target()).total)

    def test_box_losses_read_the_predicted_peak(self) -> None:
        output, target = made_up(), made_up_target()
        terms = ckd_loss(output, target).terms
        predicted = boxes.cxcywh_to_xyxy(output.box_cxcywh)
        expected = boxes.xywh_to_xyxy(target.box).clamp(0, 1)
        torch.testing.assert_close(terms["fused.l1"], (predicted - expected).abs().mean())
        torch.testing.assert_close(terms["fused.giou"], (1 - boxes.giou(predicted, expected)).mean())

    def test_the_target_is_clamped_to_the_crop_and_the_prediction_is_not(self) -> None:
        output = made_up(batch=1)
        output.box_cxcywh = torch.tensor([[0.9, 0.5, 0.4, 0.2]])  # x from 0.7 to 1.1
        target = Target(torch.tensor([[0.7, 0.4, 0.6, 0.2]]), torch.zeros(1, 1, GRID, GRID), torch.tensor([True]))
        terms = ckd_loss(output, target).terms
        assert terms["fused.l1"].item() == pytest.approx(0.1 / 4, rel=1e-5)
        assert terms["fused.giou"].item() == pytest.approx(1 - 0.3 / 0.4, rel=1e-5)

    @pytest.mark.parametrize("box_cells", ["peak", "center"])
    def test_absent_targets_have_no_box(self, box_cells: str) -> None:
        options = LossOptions(box_cells=box_cells)  # type: ignore[arg-type]
        output, target = made_up(batch=3), made_up_target(3)
        heatmap = target.heatmap.clone()
        heatmap[1] = 0
        absent = Target(target.box, heatmap, torch.tensor([True, False, True]))
        terms = ckd_loss(output, absent, options).terms
        odd = Target(target.box.clone(), heatmap, absent.present)
        odd.box[1] = torch.tensor([-7.0, 0.3, 0.0, -2.0])  # whatever it says
        same = ckd_loss(output, odd, options).terms
        assert all(torch.equal(terms[name], same[name]) for name in terms)
        (terms["fused.giou"] + terms["fused.l1"]).backward(retain_graph=True)
        moved = output.box_cxcywh if box_cells == "peak" else output.size
        assert moved.grad is not None
        assert [bool((sample != 0).any()) for sample in moved.grad] == [True, False, True]
        score = torch.autograd.grad(terms["fused.focal"], output.score)[0]
        assert (score[1] != 0).all()  # but it is told that there is nothing

    @pytest.mark.parametrize("box_cells", ["peak", "center"])
    def test_no_target_at_all(self, box_cells: str) -> None:
        output = made_up()
        nothing = Target(torch.zeros(2, 4), torch.zeros(2, 1, GRID, GRID), torch.zeros(2, dtype=torch.bool))
        losses = ckd_loss(output, nothing, LossOptions(box_cells=box_cells))  # type: ignore[arg-type]
        assert losses.terms["fused.giou"] == losses.terms["fused.l1"] == 0
        losses.total.backward()
        assert all(torch.isfinite(t.grad).all() for t in (output.score, output.tokens.visible[0]) if t.grad is not None)

    def test_center_cells(self) -> None:
        """The maps are read where the heat map is above 0.3, wherever the peak of the score is."""
        output, box = made_up(batch=1), torch.tensor([[0.2, 0.15, 0.5, 0.6]])
        heatmap = torch.from_numpy(crops.heatmap(box[0].double().numpy(), GRID)).reshape(1, 1, GRID, GRID)
        target = Target(box, heatmap, torch.tensor([True]))
        near = target.heatmap[0, 0] > 0.3
        assert 1 < near.sum() < 10
        x, y, w, h = target.box[0].tolist()
        perfect_size, perfect_offset = torch.rand(1, 2, GRID, GRID), torch.rand(1, 2, GRID, GRID)
        for row, column in near.nonzero().tolist():
            perfect_size[0, :, row, column] = torch.tensor([w, h])
            perfect_offset[0, 0, row, column] = GRID * (x + w / 2) - column
            perfect_offset[0, 1, row, column] = GRID * (y + h / 2) - row
        output.size, output.offset = perfect_size.requires_grad_(), perfect_offset.requires_grad_()
        terms = ckd_loss(output, target, LossOptions(box_cells="center")).terms
        assert terms["fused.l1"].item() == pytest.approx(0, abs=1e-6)
        assert terms["fused.giou"].item() == pytest.approx(0, abs=1e-5)
        terms["teacher_visible.l1"].backward()
        assert output.teacher_visible is not None
        gradient = output.teacher_visible.size.grad
        assert gradient is not None
        assert torch.equal((gradient != 0).any(1)[0], near)

    def test_students_of_wider_teachers_are_compared_in_the_teachers_width(self) -> None:
        output, target = made_up(), made_up_target()
        projections = random_tokens(5, 2, WIDTH, 9)
        tokens = output.tokens
        wide = [[random_tokens(6 + layer, *t.shape[:2], 9) for layer, t in enumerate(tokens.visible)] for _ in range(2)]
        output.tokens = tokens._replace(teacher_visible=wide[0], teacher_infrared=wide[1])
        projected = [[t @ by for t in each] for each, by in zip((tokens[0], tokens[1]), projections, strict=True)]
        output.projected = (projected[0], projected[1])
        content = sum(
            ((plain_instance_norm(float64(t)) - plain_instance_norm(float64(s))) ** 2).mean()
            for teacher, student in zip(wide, projected, strict=True)
            for t, s in zip(teacher, student, strict=True)
        )
        losses = ckd_loss(output, target)
        assert losses.terms["content"].item() == pytest.approx(content, rel=1e-5)
        assert losses.terms["style"].item() == pytest.approx(ckd_loss(made_up(), target).terms["style"].item())
        assert pulls(losses.terms["content"], tokens.visible)

    def test_teachers_that_did_not_run(self) -> None:
        output = made_up()
        output.teacher_visible = output.teacher_infrared = None
        with pytest.raises(ValueError, match="the losses want teachers, but the network ran without them"):
            ckd_loss(output, made_up_target())
        assert "content" not in ckd_loss(output, made_up_target(), LossOptions(content=False, teachers=False)).terms

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_loss_that_is_not_finite_is_named(self, value: float) -> None:
        output, target = made_up(), made_up_target()
        with torch.no_grad():
            output.tokens.infrared[1][0, 0, 0] = value
        with pytest.raises(
            NonFiniteLossError, match=r"non-finite loss in style, content, total \(all terms: fused.giou="
        ):
            ckd_loss(output, target)
        output = made_up()
        assert output.teacher_infrared is not None
        with torch.no_grad():
            output.teacher_infrared.box_cxcywh[1, 2] = value
        with pytest.raises(NonFiniteLossError, match=r"in teacher_infrared.giou, teacher_infrared.l1, total"):
            ckd_loss(output, target)

    def test_bf16_tokens_are_compared_in_float32(self) -> None:
        output, target = made_up(), made_up_target()
        coarse = BranchTokens(*([t.detach().bfloat16() for t in branch] for branch in output.tokens))
        exact = BranchTokens(*([t.float() for t in branch] for branch in coarse))
        ours = ckd_loss(dataclasses.replace(output, tokens=coarse), target).terms
        theirs = ckd_loss(dataclasses.replace(output, tokens=exact), target).terms
        for name in ("style", "content"):
            assert ours[name].dtype == torch.float32
            assert torch.equal(ours[name], theirs[name])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"variant": "CKD_Cov"},
            "variant must be one of CKD, CKD_GlobalLocal_Soft, CKD_GlobalLocal_Hard, not 'CKD_Cov'",
        ),
        ({"style_level": "layer"}, "style_level must be one of channel, token, not 'layer'"),
        ({"content_level": "tokens"}, "content_level must be one of"),
        ({"box_cells": "centre"}, "box_cells must be one of peak, center, not 'centre'"),
        ({"teachers": False}, "the content loss needs teachers"),
    ],
)
def test_refused_options(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossOptions(**fields)
