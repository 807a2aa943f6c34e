"""The networks against the published numbers, against the NumPy reference, and by their own rules."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from duotrack.losses import LossOptions, Target, ckd_loss
from duotrack.model import CoupledNetwork, Elimination, ModelConfig, Output, StudentNetwork, preset
from duotrack.model.config import TemplateTokens
from duotrack.model.elimination import box_weights, candidates, restore_search, template_rows
from duotrack.model.head import CenterHead, Maps, peak_box
from duotrack.model.network import matching_block, scheduled_keep_rate, search_mask
from duotrack.model.normalization import normalize
from duotrack.model.vit import Attention, Block, VisionTransformer, resize_position_grid
from duotrack.model.weights import import_published

from . import reference
from .published import (
    FIXTURE,
    fixture_coupled,
    fixture_inputs,
    fixture_student,
    fixture_tensors,
    random_weights,
)

LAYERS = (2, 4, 6)
RULES = {"full": None, "ce": "CTR_POINT", "ce_ctr_rec": "CTR_REC", "ce_all": "ALL", "ce_gt_box": "GT_BOX"}
RUNS = ("full_b1", "full_b2", "ce_b1", "ce_b2", "ce_ctr_rec_b2", "ce_all_b2", "ce_gt_box_b2")
TEMPLATE_BOX = (0.25, 0.25, 0.5, 0.5)


def elimination_of(run: str) -> Elimination | None:
    rule = RULES[run.rsplit("_b", 1)[0]]
    return Elimination(LAYERS, 0.7, rule) if rule else None  # type: ignore[arg-type]


def vote(kind: str, config: ModelConfig, boxes: npt.NDArray[np.float64]) -> list[npt.NDArray[np.int64]]:
    return [reference.template_rows(kind, config.template_grid, box * config.template_size) for box in boxes]


@torch.inference_mode()
def answer(
    network: StudentNetwork, template: Tensor, search: Tensor, box: Tensor | None = None
) -> tuple[Output, Tensor]:
    """The output, and the fused search features that the head received, (B, F * F, 2C)."""
    received: list[Tensor] = []
    handle = network.head.register_forward_pre_hook(lambda module, inputs: received.append(inputs[0]))
    output = network(template, search, box)
    handle.remove()
    return output, received[0].flatten(2).mT


class TestPublishedNumbers:
    """Held to ``fixtures/network``; the tolerances are those of its README."""

    @pytest.mark.parametrize("coupled", [False, True], ids=["student", "coupled"])
    @pytest.mark.parametrize("run", RUNS)
    def test_answer(self, shared: Path, run: str, coupled: bool) -> None:
        folder = shared / "fixtures" / "network"
        expected = fixture_tensors(folder, "eval_expected")
        batch = int(run[-1])
        template, search = (images[:, :batch] for images in fixture_inputs(folder))
        network = (fixture_coupled if coupled else fixture_student)(folder, elimination_of(run))
        box = torch.tensor([TEMPLATE_BOX] * batch) if "gt_box" in run else None
        output, features = answer(network, template, search, box)
        torch.testing.assert_close(output.score, expected[f"{run}.score_map"], atol=1e-5, rtol=0)
        torch.testing.assert_close(output.size, expected[f"{run}.size_map"], atol=1e-5, rtol=0)
        torch.testing.assert_close(output.offset, expected[f"{run}.offset_map"], atol=5e-5, rtol=0)
        torch.testing.assert_close(output.box_cxcywh, expected[f"{run}.pred_boxes"], atol=1e-5, rtol=0)
        hann = torch.hann_window(18, periodic=False)[1:-1]
        windowed = peak_box(Maps(output.score * torch.outer(hann, hann), output.size, output.offset))
        torch.testing.assert_close(windowed, expected[f"{run}.pred_boxes_hann"], atol=1e-5, rtol=0)
        if f"{run}.search_features" in expected:
            torch.testing.assert_close(features[:1, ::7], expected[f"{run}.search_features"], atol=5e-5, rtol=0)
        assert len(output.kept) == (0 if run.startswith("full") else len(LAYERS))

    @pytest.mark.parametrize("run", [run for run in RUNS if run.startswith("ce")])
    def test_kept_tokens(self, shared: Path, run: str) -> None:
        folder = shared / "fixtures" / "network"
        expected = fixture_tensors(folder, "eval_expected")
        batch = int(run[-1])
        elimination = elimination_of(run)
        assert elimination is not None
        template, search = (images[:, :batch] for images in fixture_inputs(folder))
        network = fixture_student(folder, elimination)
        output, features = answer(network, template, search, torch.tensor([TEMPLATE_BOX] * batch))

        weights = {name: tensor.numpy() for name, tensor in fixture_tensors(folder, "coupled").items()}
        rows = vote(elimination.template_tokens, FIXTURE, np.array([TEMPLATE_BOX] * batch))
        plain = reference.infer(
            weights,
            template.double().numpy(),
            search.double().numpy(),
            heads=3,
            keep=dict.fromkeys(LAYERS, 0.7),
            rows=rows,
        )
        for layer, ours, votes in zip(LAYERS, output.kept, plain.votes, strict=True):
            theirs = expected[f"{run}.kept_after_block_{layer}"].long()
            assert torch.equal(ours.sort(1).values, theirs.sort(1).values)
            # The order is that of the votes; neighbours closer than 1e-5 may swap on other hardware.
            ranked, wanted = (np.take_along_axis(votes, kept.numpy(), 1) for kept in (ours, theirs))
            np.testing.assert_allclose(ranked, wanted, rtol=1e-5)
        dropped = torch.ones(batch, 256, dtype=torch.bool).scatter(1, output.kept[-1], False)
        assert (features[dropped] == 0).all()
        assert (features[~dropped] != 0).any(1).all()
        np.testing.assert_allclose(output.score.numpy(), plain.score, atol=1e-5)
        np.testing.assert_allclose(output.offset.numpy(), plain.offset, atol=5e-5)
        np.testing.assert_allclose(features.numpy(), plain.features, atol=5e-5)

    @pytest.mark.parametrize("run", ["ce_b2", "ce_ctr_rec_b2", "ce_gt_box_b2"])
    def test_template_rows(self, shared: Path, run: str) -> None:
        mask = fixture_tensors(shared / "fixtures" / "network", "eval_expected")[f"{run}.template_mask"].bool()
        kind = RULES[run[:-3]]
        if kind == "GT_BOX":
            ours = box_weights(torch.tensor([TEMPLATE_BOX] * 2), 128, 8) > 0
        else:
            ours = torch.zeros(2, 64, dtype=torch.bool)
            ours[:, template_rows(kind, 8)] = True  # type: ignore[arg-type]
        assert torch.equal(ours, mask)

    @pytest.mark.parametrize("run", ["full_b2", "ce_b2"])
    def test_tokens_after_each_block(self, shared: Path, run: str) -> None:
        folder = shared / "fixtures" / "network"
        expected = fixture_tensors(folder, "eval_expected")
        network = fixture_coupled(folder, elimination_of(run))
        with torch.inference_mode():
            output = network(*fixture_inputs(folder))
        in_order = all(
            torch.equal(kept.int(), expected[f"{run}.kept_after_block_{layer}"])
            for layer, kept in zip(LAYERS, output.kept, strict=False)
        )
        for name, layers in (("rgb_branch", output.tokens.visible), ("tir_branch", output.tokens.infrared)):
            heads, tails = (torch.stack([t[0, part] for t in layers]) for part in (slice(4), slice(-4, None)))
            torch.testing.assert_close(heads, expected[f"{run}.{name}.tokens_head"], atol=5e-5, rtol=0)
            if in_order:  # the last tokens depend on the order of near-ties
                torch.testing.assert_close(tails, expected[f"{run}.{name}.tokens_tail"], atol=5e-5, rtol=0)

    def test_template_masks_of_other_boxes(self, shared: Path) -> None:
        expected = fixture_tensors(shared / "fixtures" / "preprocess", "expected")
        boxes = expected["template_mask_boxes_xywh"]
        ours = torch.stack([box_weights(box[None], 128, 8)[0] > 0 for box in boxes])
        assert torch.equal(ours, expected["template_mask_GT_BOX"].bool())

    def test_scheduled_keep_rate(self, shared: Path) -> None:
        expected = json.loads((shared / "fixtures" / "preprocess" / "expected.json").read_text())
        for case in expected["keep_rate"]:
            rate = scheduled_keep_rate(case["base"], case["epoch"], case["start"], case["warm"])
            assert rate == pytest.approx(case["rate"], abs=1e-12)
        for count, left in expected["keep_counts"].items():
            attention = torch.rand(1, 1, 1, int(count))
            assert candidates(attention, attention, int(count), 0.7, None).shape == (1, left)


@st.composite
def small_configs(draw: st.DrawFn) -> ModelConfig:
    heads = draw(st.integers(1, 3))
    depth = draw(st.integers(1, 3))
    layers = draw(st.sets(st.integers(0, depth - 1)))
    rates = tuple(draw(st.sampled_from([0.3, 0.5, 0.7, 0.9])) for _ in layers)
    rule = draw(st.sampled_from(get_args(TemplateTokens)))
    return ModelConfig(
        width=heads * draw(st.sampled_from([4, 8])),
        depth=depth,
        heads=heads,
        mlp_ratio=draw(st.sampled_from([1.0, 2.5, 4.0])),
        template_size=draw(st.sampled_from([32, 48, 64])),
        search_size=draw(st.sampled_from([64, 80, 128])),
        head_channels=draw(st.sampled_from([8, 16])),
        shared_students=draw(st.booleans()),
        elimination=Elimination(tuple(sorted(layers)), rates, rule) if layers else None,
    )


class TestReference:
    """The torch network is the plain NumPy one, at any size."""

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(config=small_configs(), batch=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
    def test_equal(self, config: ModelConfig, batch: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        weights = random_weights(config, generator)
        template = generator.normal(size=(2, batch, 3, config.template_size, config.template_size)).astype(np.float32)
        search = generator.normal(size=(2, batch, 3, config.search_size, config.search_size)).astype(np.float32)
        boxes = np.concatenate([generator.uniform(0, 0.4, (batch, 2)), generator.uniform(0.55, 0.6, (batch, 2))], 1)
        boxes = boxes.astype(np.float32).astype(np.float64)
        elimination = config.elimination
        keep = dict(zip(elimination.layers, elimination.keep_rates, strict=True)) if elimination else None
        rows = vote(elimination.template_tokens, config, boxes) if elimination else ()
        plain = reference.infer(
            weights, template.astype(np.float64), search.astype(np.float64), heads=config.heads, keep=keep, rows=rows
        )
        assume(decided(plain))

        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        imported, state = import_published(tensors, heads=config.heads, elimination=elimination)
        assert imported == config
        network = StudentNetwork(imported)
        network.load_state_dict(state)
        # Double precision tells rounding from mistakes: LayerNorm over 4 channels can lose four digits.
        images = torch.from_numpy(template).double(), torch.from_numpy(search).double()
        output, features = answer(network.double().eval(), *images, torch.from_numpy(boxes))
        for ours, theirs in zip(output.kept, plain.kept, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs)
        np.testing.assert_allclose(features.numpy(), plain.features, atol=1e-9)
        # The head answers in float32.
        np.testing.assert_allclose(output.score.numpy(), plain.score, atol=1e-6)
        np.testing.assert_allclose(output.size.numpy(), plain.size, atol=1e-6)
        np.testing.assert_allclose(output.offset.numpy(), plain.offset, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(output.box_cxcywh.numpy(), plain.box, rtol=1e-6, atol=1e-6)


def decided(plain: reference.Result) -> bool:
    """No choice hangs on rounding: neither the order of the tokens nor the cell of the box."""
    for votes, kept in zip(plain.votes, plain.kept, strict=True):
        ordered = -np.sort(-votes, 1)[:, : kept.shape[1] + 1]  # NaN, the eliminated, come last
        gaps = np.diff(-ordered, axis=1) / ordered[:, :-1]
        if np.nanmin(gaps) < 1e-5:
            return False
    best = np.sort(plain.score.reshape(len(plain.score), -1), 1)[:, -2:]
    return bool((best[:, 1] - best[:, 0] > 1e-6).all())


def pair(config: ModelConfig, batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A template and a search region of noise."""
    generator = torch.Generator().manual_seed(seed)
    sides = (config.template_size, config.search_size)
    template, search = (torch.randn(2, batch, 3, side, side, generator=generator) for side in sides)
    return template, search


def blocks_of(branch: VisionTransformer) -> list[Block]:
    return [cast(Block, block) for block in branch.blocks]


def lively(network: StudentNetwork, seed: int = 0) -> StudentNetwork:
    """Larger linear weights: after initialisation attention is nearly uniform and hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, module.in_features**-0.5, generator=generator)
    return network.eval()


@pytest.fixture
def debug() -> StudentNetwork:
    torch.manual_seed(0)
    return lively(StudentNetwork(preset("debug")))


@pytest.fixture
def coupled() -> CoupledNetwork:
    torch.manual_seed(0)
    network = CoupledNetwork(preset("debug"))
    lively(network)
    return network


def assert_same_output(one: Output, other: Output) -> None:
    for field in ("score", "size", "offset", "box_cxcywh"):
        torch.testing.assert_close(getattr(one, field), getattr(other, field), atol=1e-5, rtol=0)
    assert len(one.kept) == len(other.kept)
    assert all(torch.equal(a, b) for a, b in zip(one.kept, other.kept, strict=True))


class TestStudentNetwork:
    @pytest.mark.parametrize("name", ["debug", "duotrack-tiny"])
    def test_shapes_and_ranges(self, name: str) -> None:
        config = preset(name)
        output = lively(StudentNetwork(config))(*pair(config, 3))
        grid = config.search_grid
        assert output.score.shape == (3, 1, grid, grid)
        assert output.size.shape == output.offset.shape == (3, 2, grid, grid)
        assert output.box_cxcywh.shape == (3, 4)
        for values in (output.score, output.size):
            assert values.min() >= 1e-4
            assert values.max() <= 1 - 1e-4
        for kept in output.kept:
            assert kept.dtype == torch.int64
            assert all(len(set(row)) == len(row) and 0 <= min(row) <= max(row) < grid**2 for row in kept.tolist())

    @pytest.mark.parametrize("name", ["debug", "duotrack-tiny"])
    def test_samples_of_a_batch_are_independent(self, name: str) -> None:
        config = preset(name)
        network = lively(StudentNetwork(config))
        template, search = pair(config, 3)
        with torch.inference_mode():
            together = network(template, search)
            for i in range(3):
                alone = network(template[:, i : i + 1], search[:, i : i + 1])
                row = Output(
                    together.score[i : i + 1],
                    together.size[i : i + 1],
                    together.offset[i : i + 1],
                    together.box_cxcywh[i : i + 1],
                    tuple(kept[i : i + 1] for kept in together.kept),
                )
                assert_same_output(row, alone)

    @pytest.mark.parametrize("name", ["debug", "duotrack-tiny"])
    def test_a_template_serves_many_searches(self, name: str) -> None:
        """The state is made once and not changed by use; the network remembers nothing of the video."""
        config = preset(name)
        network = lively(StudentNetwork(config))
        before = {key: tensor.clone() for key, tensor in (*network.state_dict().items(), *network.named_buffers())}
        template, first = pair(config, 2, seed=1)
        _, second = pair(config, 2, seed=2)
        with torch.inference_mode():
            state = network.template(template)
            features = state.features.clone()
            answers = [network.search(state, search) for search in (first, second, first)]
            assert_same_output(answers[0], network(template, first))
            assert_same_output(answers[1], network(template, second))
            assert_same_output(answers[0], answers[2])
            assert torch.equal(state.features, features)
        after = dict((*network.state_dict().items(), *network.named_buffers()))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)

    def test_shared_students_are_one(self) -> None:
        config = dataclasses.replace(preset("debug"), shared_students=True)
        network = lively(StudentNetwork(config))
        separate = StudentNetwork(dataclasses.replace(config, shared_students=False)).eval()
        separate.load_state_dict(network.state_dict())
        images = pair(config, 2)
        assert network.infrared is network.visible
        assert_same_output(network(*images), separate(*images))
        branch = sum(parameter.numel() for parameter in network.visible.parameters())
        saved = sum(p.numel() for p in separate.parameters()) - sum(p.numel() for p in network.parameters())
        assert saved == branch

    def test_modalities_are_not_interchangeable(self, debug: StudentNetwork) -> None:
        template, search = pair(debug.config, 1)
        swapped = debug(template.flip(0), search.flip(0))
        assert (swapped.score - debug(template, search).score).abs().max() > 1e-3

    def test_gt_box_needs_a_box(self) -> None:
        config = preset("debug")
        config = dataclasses.replace(config, elimination=Elimination((1,), 0.7, "GT_BOX"))
        with pytest.raises(ValueError, match="needs template_box"):
            StudentNetwork(config)(*pair(config, 1))

    def test_published_preset_has_the_published_parameters(self) -> None:
        """Names and shapes of method: 394 entries less two unused ones a branch."""
        with torch.device("meta"):
            network = StudentNetwork(preset("ckd-base"))
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        assert len(shapes) == 394 - 4
        assert shapes["visible.blocks.11.attn.qkv.weight"] == (2304, 768)
        assert shapes["infrared.blocks.0.mlp.fc1.weight"] == (3072, 768)
        assert shapes["head.score.0.0.weight"] == (256, 1536, 3, 3)
        assert shapes["head.size.4.weight"] == (2, 32, 1, 1)


class TestElimination:
    def test_rate_one_drops_nothing(self) -> None:
        config = preset("debug")
        network = lively(StudentNetwork(dataclasses.replace(config, elimination=Elimination((1,), 1.0))))
        plain = StudentNetwork(dataclasses.replace(config, elimination=None)).eval()
        plain.load_state_dict(network.state_dict())
        images = pair(config, 2)
        output = network(*images)
        assert output.kept == ()
        assert_same_output(output, plain(*images))

    def test_a_rate_that_rounds_up_to_all_leaves_the_order_alone(self, coupled: CoupledNetwork) -> None:
        template, search = pair(coupled.config, 2)
        everything = coupled(template, search, keep_rate=1.0)
        almost = coupled(template, search, keep_rate=0.999)
        assert almost.kept == ()
        for ours, theirs in zip(almost.tokens.visible, everything.tokens.visible, strict=True):
            assert torch.equal(ours, theirs)

    def test_each_layer_has_its_rate_and_ranks_the_survivors(self) -> None:
        config = dataclasses.replace(preset("debug"), elimination=Elimination((0, 1, 2), (0.9, 0.5, 0.3)))
        output = lively(StudentNetwork(config))(*pair(config, 2))
        assert [kept.shape[1] for kept in output.kept] == [58, 29, 9]
        for earlier, later in zip(output.kept, output.kept[1:], strict=False):
            for before, after in zip(earlier.tolist(), later.tolist(), strict=True):
                assert set(after) < set(before)

    def test_keep_rate_in_training_stands_for_all_layers(self) -> None:
        config = dataclasses.replace(preset("debug"), elimination=Elimination((0, 2), (0.9, 0.5)))
        output = CoupledNetwork(config)(*pair(config, 1), keep_rate=0.75)
        assert [kept.shape[1] for kept in output.kept] == [48, 36]
        for branch in output.tokens:
            assert [tokens.shape[1] - 16 for tokens in branch] == [48, 48, 36]

    def test_ties(self) -> None:
        """Uniform attention: any choice will do, as long as each survivor comes once and goes back to its place."""
        config = preset("debug")
        network = lively(StudentNetwork(config))
        for branch in (network.visible, network.infrared):
            for block in blocks_of(branch):
                torch.nn.init.zeros_(block.attn.qkv.weight[: 2 * config.width])  # no queries, no keys
        output, features = answer(network, *pair(config, 2))
        (kept,) = output.kept
        assert all(len(set(row)) == 45 for row in kept.tolist())
        alive = (features != 0).any(-1)
        assert torch.equal(alive, torch.zeros(2, 64, dtype=torch.bool).scatter(1, kept, True))

    def test_either_modality_keeps_a_token(self) -> None:
        """By hand: the maximum is taken per head, before any mean. (B, h, R, N) = (1, 2, 1, 1 + 3)."""
        visible = torch.tensor([[[[0.1, 0.9, 0.0, 0.0]], [[0.1, 0.0, 0.5, 0.4]]]])
        infrared = torch.tensor([[[[0.1, 0.0, 0.4, 0.5]], [[0.1, 0.0, 0.1, 0.8]]]])
        # maxima: [.9 .4 .5] and [0 .5 .8]; means: .45 .45+ .65 -> with means first, token 0 would rank differently.
        assert candidates(visible, infrared, 3, 0.3, None).tolist() == [[2]]
        scores = torch.maximum(visible, infrared)[..., 1:].mean((1, 2))
        torch.testing.assert_close(scores, torch.tensor([[0.45, 0.45, 0.65]]))

    def test_rows_count_by_their_weights(self) -> None:
        attention = torch.tensor([[[[0.6, 0.4], [0.0, 1.0]]]])
        assert candidates(attention, attention, 2, 1.0, None).tolist() == [[1, 0]]
        assert candidates(attention, attention, 2, 1.0, torch.tensor([[1.0, 0.0]])).tolist() == [[0, 1]]

    @pytest.mark.parametrize(
        ("kind", "grid", "rows"),
        [
            ("CTR_POINT", 8, [27]),
            ("CTR_REC", 8, [27, 28, 35, 36]),
            ("CTR_POINT", 12, [5 * 12 + 5]),
            ("CTR_REC", 12, [65, 66, 77, 78]),
            ("CTR_POINT", 7, [24]),
            ("CTR_REC", 7, [24]),
            ("CTR_POINT", 14, [6 * 14 + 6]),
            ("ALL", 8, list(range(64))),
        ],
    )
    def test_template_rows(self, kind: str, grid: int, rows: list[int]) -> None:
        assert template_rows(kind, grid) == rows  # type: ignore[arg-type]

    def test_a_box_that_covers_no_token(self) -> None:
        with pytest.raises(ValueError, match="sample 1 covers no token"):
            box_weights(torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 0.02, 0.02]]), 128, 8)

    def test_a_box_loses_its_last_row_and_column(self) -> None:
        """A token is covered when one of its pixels 7 and 8 is: by a box of 9 pixels, not by one of 8."""
        assert box_weights(torch.tensor([[0, 0, 9 / 128, 9 / 128]]), 128, 8)[0].nonzero().flatten().tolist() == [0]
        for box in ([0, 0, 9 / 128, 8 / 128], [0, 0, 8 / 128, 9 / 128]):
            with pytest.raises(ValueError, match="covers no token"):
                box_weights(torch.tensor([box]), 128, 8)

    def test_box_weights_give_every_sample_one_vote(self) -> None:
        weights = box_weights(torch.tensor([[0.25, 0.25, 0.5, 0.5], [-0.5, -0.1, 2.0, 0.4]]), 128, 8)
        torch.testing.assert_close(weights.sum(1), torch.ones(2))
        assert all(len(row.unique()) == 2 for row in weights)  # 0, and one over the number covered

    def test_restore(self) -> None:
        tokens = torch.tensor([[[5.0], [6.0]]])
        assert restore_search(tokens, torch.tensor([[3, 1]]), 4).flatten().tolist() == [0, 6, 0, 5]


class TestMasking:
    def test_a_masked_token_is_its_position(self, coupled: CoupledNetwork) -> None:
        template, search = pair(coupled.config, 2)
        keep = search_mask(2, 64, 0.4, generator=torch.Generator().manual_seed(0))
        seen: dict[str, Tensor] = {}
        names = ("visible", "infrared", "teacher_visible", "teacher_infrared")
        for name in names:
            first = blocks_of(getattr(coupled, name))[0].norm1
            first.register_forward_pre_hook(lambda module, inputs, name=name: seen.update({name: inputs[0][:, 16:]}))
        coupled(template, search)
        whole = dict(seen)
        coupled(template, search, keep_mask=keep)
        for name in names[:2]:
            positions = getattr(coupled, name).pos_embed_x.expand(2, -1, -1)
            assert torch.equal(seen[name][~keep], positions[~keep])
            assert torch.equal(seen[name][keep], whole[name][keep])
        for name in names[2:]:
            assert torch.equal(seen[name], whole[name])

    def test_correlation_is_masked_too(self) -> None:
        network = CoupledNetwork(preset("duotrack-tiny")).eval()
        template, search = pair(network.config, 1)
        seen: list[Tensor] = []
        blocks_of(network.visible)[0].norm1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        with torch.inference_mode():
            network(template, search, keep_mask=torch.zeros(1, 144))
        assert torch.equal(seen[0][:, 36:], network.visible.pos_embed_x)

    def test_mask_ratio(self) -> None:
        keep = search_mask(400, 256, 0.25, generator=torch.Generator().manual_seed(0))
        assert keep.dtype == torch.bool
        dropped = (~keep).float()
        assert dropped.mean() == pytest.approx(0.25, abs=0.006)  # 4 standard deviations
        assert dropped.mean(0).std() == pytest.approx(math.sqrt(0.25 * 0.75 / 400), rel=0.2)  # no place is favoured
        assert dropped.sum(1).std() == pytest.approx(math.sqrt(256 * 0.25 * 0.75), rel=0.2)  # drawn, not counted out

    @pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
    def test_mask_probability(self, probability: float) -> None:
        keep = search_mask(2000, 64, 0.5, probability, torch.Generator().manual_seed(0))
        masked = ~keep.all(1)
        assert masked.float().mean() == pytest.approx(probability, abs=0.045)
        if probability:
            assert keep[masked].float().mean() == pytest.approx(0.5, abs=0.01)

    def test_mask_repeats_with_its_generator(self) -> None:
        masks = [search_mask(3, 64, 0.25, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
        assert torch.equal(masks[0], masks[1])
        assert not torch.equal(masks[0], masks[2])


class TestCoupledNetwork:
    def test_tokens(self, coupled: CoupledNetwork) -> None:
        output = coupled(*pair(coupled.config, 2))
        for branch in output.tokens:
            assert [tuple(tokens.shape) for tokens in branch] == [(2, 80, 32), (2, 61, 32), (2, 61, 32)]

    def test_fused_answer_is_that_of_the_students(self, coupled: CoupledNetwork) -> None:
        student = StudentNetwork(coupled.config).eval()
        student.load_state_dict({k: v for k, v in coupled.state_dict().items() if not k.startswith("teacher_")})
        images = pair(coupled.config, 2)
        assert_same_output(coupled(*images), student(*images))

    def test_teachers_work_alone(self, coupled: CoupledNetwork) -> None:
        """Without elimination a teacher's answer depends on its own modality only."""
        template, search = pair(coupled.config, 1)
        output = coupled(template, search, keep_rate=1.0)
        template[1], search[1] = 0, 0
        blind = coupled(template, search, keep_rate=1.0)
        assert output.teacher_visible is not None and blind.teacher_visible is not None
        assert output.teacher_infrared is not None and blind.teacher_infrared is not None
        assert_same_output(output.teacher_visible, blind.teacher_visible)
        assert (output.teacher_infrared.score - blind.teacher_infrared.score).abs().max() > 1e-3
        assert (output.score - blind.score).abs().max() > 1e-3

    def test_teachers_do_not_vote(self, coupled: CoupledNetwork) -> None:
        images = pair(coupled.config, 2)
        before = coupled(*images).kept
        lively(coupled.teacher_visible, seed=5)  # type: ignore[arg-type]
        lively(coupled.teacher_infrared, seed=6)  # type: ignore[arg-type]
        after = coupled(*images)
        assert torch.equal(before[0], after.kept[0])
        assert after.teacher_visible is not None
        assert torch.equal(after.teacher_visible.kept[0], after.kept[0])

    @pytest.mark.parametrize("name", ["debug", "duotrack-tiny"])
    def test_gradient_reaches_every_parameter(self, name: str) -> None:
        torch.manual_seed(0)
        config = dataclasses.replace(preset(name), head_channels=64)  # narrow towers may die of ReLU
        network = CoupledNetwork(config).train()
        output = network(*pair(config, 2), keep_mask=search_mask(2, config.search_grid**2, 0.25))
        heatmap = torch.zeros(2, 1, config.search_grid, config.search_grid)
        heatmap[:, 0, 2:6, 2:6] = 0.5
        heatmap[:, 0, 3, 4] = 1
        target = Target(torch.tensor([[0.4, 0.3, 0.2, 0.2]] * 2), heatmap, torch.ones(2, dtype=torch.bool))
        ckd_loss(output, target, LossOptions(box_cells="center")).total.backward()  # one cell alone may be dead
        for parameter_name, parameter in network.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name
            # Train-mode BatchNorm subtracts the bias of the convolution before it.
            before_norm = "head" in parameter_name and parameter_name.endswith(".0.bias")
            assert before_norm or parameter.grad.abs().max() > 0, parameter_name


TEACHER = ModelConfig(width=48, depth=5, heads=3, template_size=64, search_size=128, head_channels=64, drop_path=0.0)
SMALLER = dataclasses.replace(preset("debug"), depth=2, elimination=Elimination((0,), 0.5), head_channels=64)
UNEQUAL = dataclasses.replace(SMALLER, teacher=TEACHER)
"""Students of 2 blocks and 32 channels under teachers of 5 blocks and 48 channels."""


class TestLargerTeachers:
    @pytest.mark.parametrize(
        ("depth", "teacher_depth", "blocks"),
        [
            (4, 12, [3, 6, 9, 12]),
            (12, 12, list(range(1, 13))),
            (5, 12, [2, 5, 7, 10, 12]),  # 2.4, 4.8, 7.2, 9.6, 12
            (4, 6, [2, 3, 5, 6]),  # 1.5 and 4.5 go up
            (1, 12, [12]),
        ],
    )
    def test_blocks_that_match(self, depth: int, teacher_depth: int, blocks: list[int]) -> None:
        assert [matching_block(layer, depth, teacher_depth) + 1 for layer in range(depth)] == blocks

    def test_a_teacher_is_what_it_is_alone(self) -> None:
        """Without elimination: the teacher's blocks one after another, its norm and head; 3 and 5 are compared."""
        torch.manual_seed(0)
        network = CoupledNetwork(UNEQUAL)
        lively(network)
        template, search = pair(UNEQUAL, 2)
        output = network(template, search, keep_rate=1.0)
        teacher = network.teacher_infrared
        tokens = torch.cat([teacher.embed_template(template[1]), teacher.embed_search(search[1])], 1)
        after = []
        for block in blocks_of(teacher):
            tokens = block.feed(block.attend(tokens)[0])
            after.append(tokens)
        assert len(output.tokens.teacher_infrared) == 2
        for found, expected in zip(output.tokens.teacher_infrared, (after[2], after[4]), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        features = teacher.norm(tokens)[:, 16:].mT.reshape(2, 48, 8, 8)
        assert output.teacher_infrared is not None
        torch.testing.assert_close(
            output.teacher_infrared.score, network.teacher_head_infrared(features).score, atol=1e-5, rtol=0
        )

    def test_students_do_not_notice(self) -> None:
        torch.manual_seed(0)
        network = CoupledNetwork(UNEQUAL)
        lively(network)
        students = StudentNetwork(SMALLER).eval()
        students.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("teacher_")})
        images = pair(UNEQUAL, 2)
        assert_same_output(network(*images), students(*images))

    def test_teachers_drop_the_students_tokens_in_the_matching_block(self) -> None:
        torch.manual_seed(0)
        network = CoupledNetwork(UNEQUAL)
        lively(network)
        template, search = pair(UNEQUAL, 2)
        output = network(template, search)
        teacher, (kept,) = network.teacher_visible, output.kept
        tokens = torch.cat([teacher.embed_template(template[0]), teacher.embed_search(search[0])], 1)
        for number, block in enumerate(blocks_of(teacher), 1):
            tokens = block.attend(tokens)[0]
            if number == 3:
                order = torch.cat([torch.arange(16).expand(2, -1), 16 + kept], 1)
                tokens = torch.stack([sample[rows] for sample, rows in zip(tokens, order, strict=True)])
            tokens = block.feed(tokens)
        torch.testing.assert_close(output.tokens.teacher_visible[1], tokens, atol=1e-5, rtol=0)
        assert output.tokens.visible[1].shape == (2, 16 + 32, 32)
        assert output.projected is not None
        weight = network.get_parameter("teacher_projection_infrared.1.weight")
        torch.testing.assert_close(output.projected[1][1], output.tokens.infrared[1] @ weight.T)

    def test_teachers_of_the_same_size_are_the_paper_s(self) -> None:
        torch.manual_seed(0)
        alike = CoupledNetwork(SMALLER)
        spelled = CoupledNetwork(dataclasses.replace(SMALLER, teacher=dataclasses.replace(SMALLER, elimination=None)))
        lively(alike)
        spelled.load_state_dict(alike.state_dict())
        images = pair(SMALLER, 2)
        one, other = alike(*images), spelled.eval()(*images)
        assert one.projected is None and other.projected is None
        assert torch.equal(one.score, other.score)
        for found, expected in zip(one.tokens, other.tokens, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    @pytest.mark.parametrize("stem", ["patch", "lite0"])
    def test_gradient_reaches_what_learns(self, stem: Literal["patch", "lite0"]) -> None:
        torch.manual_seed(0)
        students = dataclasses.replace(UNEQUAL, stem="lite0", correlation_input=True, elimination=None)
        config = dataclasses.replace(students, teacher=dataclasses.replace(TEACHER, stem=stem))
        network = CoupledNetwork(config).train()
        output = network(*pair(config, 2))
        target = Target(torch.tensor([[0.4, 0.3, 0.2, 0.2]] * 2), torch.zeros(2, 1, 8, 8), torch.ones(2) > 0)
        ckd_loss(output, target).terms["content"].backward()
        reached = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
        assert reached == {
            "stem", "visible", "infrared", "teacher_projection_visible", "teacher_projection_infrared"
        }  # fmt: skip

    def test_without_teachers_only_the_students_run(self) -> None:
        torch.manual_seed(0)
        network = CoupledNetwork(UNEQUAL)
        lively(network)
        images = pair(UNEQUAL, 2)
        whole = network(*images)
        for name in ("teacher_visible", "teacher_infrared"):
            network.get_submodule(name).patch_embed = torch.nn.Identity()  # would fail
        alone = network(*images, teachers=False)
        assert_same_output(alone, whole)
        assert alone.teacher_visible is None and alone.teacher_infrared is None
        assert alone.tokens.teacher_visible == alone.tokens.teacher_infrared == []
        assert torch.equal(alone.tokens.infrared[1], whole.tokens.infrared[1])

    def test_tokens_for_a_look_inside(self) -> None:
        torch.manual_seed(0)
        network = CoupledNetwork(UNEQUAL)
        lively(network)
        images = pair(UNEQUAL, 1)
        found, expected = network.tokens(*images), network(*images).tokens
        students = StudentNetwork.tokens(network, *images)
        for branch in range(4):
            assert all(torch.equal(a, b) for a, b in zip(found[branch], expected[branch], strict=True))
        assert all(torch.equal(a, b) for a, b in zip(students.infrared, expected.infrared, strict=True))
        assert students.teacher_visible == []


class TestAttention:
    def test_equals_the_full_softmax(self) -> None:
        torch.manual_seed(0)
        attention = Attention(24, 3)
        torch.nn.init.normal_(attention.qkv.weight, std=0.5)
        tokens = torch.randn(2, 10, 24)
        rows = torch.tensor([1, 4, 7])
        attended, weights = attention(tokens, rows)
        q, k, v = attention.qkv(tokens).view(2, 10, 3, 3, 8).unbind(2)
        full = torch.einsum("bnhd,bmhd->bhnm", q, k).div(math.sqrt(8)).softmax(-1)
        torch.testing.assert_close(weights, full[:, :, rows])
        expected = attention.proj(torch.einsum("bhnm,bmhd->bnhd", full, v).reshape(2, 10, 24))
        torch.testing.assert_close(attended, expected)
        assert attention(tokens)[1] is None

    def test_order_of_tokens_does_not_matter(self) -> None:
        torch.manual_seed(0)
        block = Block(24, 3, 4.0, 0.0).eval()
        tokens, order = torch.randn(2, 10, 24), torch.randperm(10)
        straight, _ = block.attend(tokens)
        shuffled, _ = block.attend(tokens[:, order])
        torch.testing.assert_close(block.feed(shuffled), block.feed(straight)[:, order])

    def test_explicit_bf16_equals_the_fused_kernel(self) -> None:
        torch.manual_seed(0)
        attention = Attention(32, 4).bfloat16()
        torch.nn.init.normal_(attention.qkv.weight, std=0.3)
        tokens = torch.randn(2, 80, 32).bfloat16()
        rows = torch.tensor([3])
        explicit, weights = attention(tokens, rows)
        with torch.no_grad():
            fused, same_weights = attention(tokens, rows)
        # bf16 has 8 bits: 2^-8 of the largest value, a few roundings long.
        spread = fused.float().abs().max().item()
        torch.testing.assert_close(explicit.float(), fused.float(), atol=4 * spread / 256, rtol=0)
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights, same_weights)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 1))


class TestStochasticDepth:
    def test_drops_whole_samples_and_keeps_the_expectation(self) -> None:
        torch.manual_seed(0)
        block = Block(16, 2, 4.0, drop_path=0.25).train()
        tokens = torch.randn(1, 5, 16).expand(4000, -1, -1)
        added = (block.feed(tokens) - tokens).detach()
        residual = (block.eval().feed(tokens[:1]) - tokens[:1]).detach()
        kept = added.abs().amax((1, 2)) > 0
        torch.testing.assert_close(added[kept], residual.expand(int(kept.sum()), -1, -1) / 0.75, atol=1e-5, rtol=1e-3)
        assert kept.float().mean() == pytest.approx(0.75, abs=0.03)

    def test_both_residuals_draw_on_their_own(self) -> None:
        torch.manual_seed(0)
        block = Block(16, 2, 4.0, drop_path=0.5).train()
        tokens = torch.randn(1, 5, 16).expand(2000, -1, -1)
        first, _ = block.attend(tokens)
        second = block.feed(tokens)
        draws = torch.stack([(t - tokens).abs().amax((1, 2)) > 0 for t in (first, second)]).float()
        assert torch.corrcoef(draws)[0, 1].abs() < 0.1

    def test_rates_grow_linearly(self) -> None:
        with torch.device("meta"):
            network = StudentNetwork(preset("ckd-base"))
        for branch in (network.visible, network.infrared):
            rates = [block.drop_path for block in blocks_of(branch)]
            np.testing.assert_allclose(rates, np.linspace(0, 0.1, 12), atol=1e-12)


class TestInitialisation:
    def test_as_published(self) -> None:
        torch.manual_seed(0)
        network = StudentNetwork(ModelConfig(width=192, depth=2, heads=3, head_channels=64))
        block = blocks_of(network.visible)[1]
        assert block.mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert block.attn.qkv.bias.abs().max().item() == 0
        bound = (3 * 16 * 16) ** -0.5
        assert network.visible.patch_embed.proj.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert cast(Tensor, network.visible.patch_embed.proj.bias).abs().max().item() == pytest.approx(bound, rel=0.1)
        xavier = math.sqrt(6 / (9 * (384 + 64)))
        assert network.head.get_parameter("score.0.0.weight").abs().max().item() == pytest.approx(xavier, rel=0.01)
        # The middle of a 14 x 14 grid of noise, resized: 8 x 8 keeps less of it than 16 x 16.
        assert 0.01 < network.visible.pos_embed_x.std() < 0.02
        assert not torch.equal(network.visible.pos_embed_x, network.infrared.pos_embed_x)

    def test_resized_positions(self) -> None:
        """A plane stays a plane in the middle; the same size is left as it is."""
        grid = torch.arange(64.0).reshape(1, 64, 1)
        assert torch.equal(resize_position_grid(grid, 8, "bicubic"), grid)
        larger = resize_position_grid(grid, 16, "bilinear").reshape(16, 16)
        torch.testing.assert_close(larger[1:-1, 2:-1] - larger[1:-1, 1:-2], torch.full((14, 13), 0.5))
        torch.testing.assert_close(larger[2:-1, 1:-1] - larger[1:-2, 1:-1], torch.full((13, 14), 4.0))


class TestHead:
    def test_maps_by_hand(self) -> None:
        """With zero weights the biases of the last layers speak: sigmoid, then clamp; offsets as they are."""
        head = CenterHead(4, 8).eval()
        for tower in (head.score, head.offset, head.size):
            torch.nn.init.zeros_(tower.get_parameter("4.weight"))
        with torch.no_grad():
            head.score.get_parameter("4.bias").fill_(-20)
            head.offset.get_parameter("4.bias").copy_(torch.tensor([-20.0, 20.0]))
            head.size.get_parameter("4.bias").copy_(torch.tensor([20.0, math.log(3)]))
            maps = head(torch.randn(1, 4, 3, 3))
        for values, expected in (
            (maps.score, [1e-4]),
            (maps.offset, [-20.0, 20.0]),
            (maps.size, [1 - 1e-4, 0.75]),
        ):
            torch.testing.assert_close(values, torch.tensor(expected).view(1, -1, 1, 1).expand(1, -1, 3, 3))


class TestBox:
    def test_by_hand(self) -> None:
        score = torch.full((1, 1, 4, 4), 0.1)
        score[0, 0, 1, 2] = 0.9
        size, offset = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
        size[0, :, 1, 2] = torch.tensor([0.3, 0.2])
        offset[0, :, 1, 2] = torch.tensor([0.5, -1.25])
        box = peak_box(Maps(score, size, offset))
        torch.testing.assert_close(box, torch.tensor([[2.5 / 4, -0.25 / 4, 0.3, 0.2]]))

    def test_the_first_of_equal_peaks(self) -> None:
        score = torch.full((1, 1, 16, 16), 1 - 1e-4)  # saturated
        box = peak_box(Maps(score, torch.ones(1, 2, 16, 16), torch.zeros(1, 2, 16, 16)))
        assert box.tolist() == [[0, 0, 1, 1]]

    def test_gradient_at_the_peak_only(self) -> None:
        maps = Maps(*(torch.rand(2, channels, 5, 5, requires_grad=True) for channels in (1, 2, 2)))
        peak_box(maps).sum().backward()
        assert maps.score.grad is None
        peaks = maps.score.flatten(1).argmax(1)
        for values in (maps.size, maps.offset):
            assert values.grad is not None
            touched = (values.grad != 0).flatten(2)
            assert torch.equal(touched, F.one_hot(peaks, 25).bool().unsqueeze(1).expand(-1, 2, -1))


class TestNormalize:
    def test_by_hand(self) -> None:
        crops = torch.zeros(2, 1, 3, 5, 3, dtype=torch.uint8)
        crops[1, 0, 2, 4] = torch.tensor([255, 128, 0], dtype=torch.uint8)
        normal = normalize(crops)
        assert normal.shape == (2, 1, 3, 3, 5)
        assert normal.dtype == torch.float32
        expected = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225]
        np.testing.assert_allclose(normal[1, 0, :, 2, 4], expected, rtol=1e-6)

    def test_brightness_is_clamped_to_white(self) -> None:
        crops = torch.tensor([100, 250], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 4, 4, 3)
        bright = normalize(crops, torch.tensor([1.2, 1.2]))
        torch.testing.assert_close(bright[0, 0, 0, 0], torch.tensor((120 / 255 - 0.485) / 0.229))
        torch.testing.assert_close(bright[1, 0, 0, 0], torch.tensor((1 - 0.485) / 0.229))
