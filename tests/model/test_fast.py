"""The inference form gives the answers of the network it is made from."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from duotrack.model import Elimination, ModelConfig, Output, StudentNetwork, preset
from duotrack.model.config import TemplateTokens
from duotrack.model.fast import Block, InferenceNetwork

from .published import fixture_inputs, fixture_student, fixture_tensors

TEMPLATE_BOX = (0.25, 0.25, 0.5, 0.5)
LAYERS = (2, 4, 6)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Both stems; elimination nowhere, in some blocks, in the last; with every rule."""
    heads, depth = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    layers = draw(st.sets(st.integers(0, depth - 1)))
    rates = tuple(draw(st.sampled_from([0.3, 0.7, 1.0])) for _ in layers)
    rule = draw(st.sampled_from(get_args(TemplateTokens)))
    stems: list[Literal["patch", "lite0"]] = ["patch", "lite0"]
    stem = draw(st.sampled_from(stems))
    return ModelConfig(
        stem=stem,
        width=heads * draw(st.sampled_from([4, 16])),
        depth=depth,
        heads=heads,
        mlp_ratio=draw(st.sampled_from([1.0, 2.5, 4.0])),
        template_size=draw(st.sampled_from([32, 64])),
        search_size=draw(st.sampled_from([64, 80])),
        head_channels=draw(st.sampled_from([8, 20])),
        shared_students=draw(st.booleans()),
        correlation_input=stem == "lite0" and draw(st.booleans()),
        elimination=Elimination(tuple(sorted(layers)), rates, rule) if layers else None,
    )


def lively(config: ModelConfig, seed: int) -> StudentNetwork:
    """A network whose attention, scores and batch statistics are far from uniform."""
    torch.manual_seed(seed)
    network = StudentNetwork(config)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, 1.5 * module.in_features**-0.5)
            if isinstance(module, torch.nn.BatchNorm2d):
                for statistic in (module.weight, module.running_var):
                    assert statistic is not None
                    statistic.uniform_(0.5, 2)
                assert module.running_mean is not None
                module.running_mean.normal_(0, 0.2)
                module.bias.uniform_(0.2, 1)  # few channels must not all end below zero
    return network.eval()


def images(config: ModelConfig, batch: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Template and search images and, for the rules that want it, the target's box."""
    generator = torch.Generator().manual_seed(seed)
    template, search = (
        torch.randn(2, batch, 3, side, side, generator=generator) for side in (config.template_size, config.search_size)
    )
    corner = 0.4 * torch.rand(batch, 2, generator=generator)
    return template, search, torch.cat([corner, torch.full((batch, 2), 0.55)], dim=1)


def assert_same(found: Output, expected: Output, tolerance: float = 1e-5) -> None:
    for name in ("score", "size", "offset", "box_cxcywh"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=tolerance, rtol=0)
    assert torch.equal(found.score.flatten(1).argmax(1), expected.score.flatten(1).argmax(1))
    assert len(found.kept) == len(expected.kept)
    for ours, theirs in zip(found.kept, expected.kept, strict=True):
        assert torch.equal(ours.sort(1).values, theirs.sort(1).values)


# The same examples each time: in one of some hundred thousand two tokens or cells are equal to 1e-7, and rounding
# decides which of them is the better.
@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs(), batch=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_it_answers_as_the_network(config: ModelConfig, batch: int, seed: int) -> None:
    network = lively(config, seed)
    fast = InferenceNetwork(network)
    template, search, box = images(config, batch, seed)
    with torch.inference_mode():
        expected = network(template, search, box)
    found = fast.search(fast.template(template, box), search)
    assert found.score.std() > 1e-4  # else equal peaks say nothing
    assert_same(found, expected)


@pytest.mark.parametrize("run", ["full_b2", "ce_b1", "ce_b2", "ce_ctr_rec_b2", "ce_all_b2", "ce_gt_box_b2"])
def test_published_numbers(shared: Path, run: str) -> None:
    """Held to ``fixtures/network`` with the tolerances of its README, as the plain network is."""
    folder, batch = shared / "fixtures" / "network", int(run[-1])
    rules: dict[str, TemplateTokens] = {
        "ce": "CTR_POINT",
        "ce_ctr_rec": "CTR_REC",
        "ce_all": "ALL",
        "ce_gt_box": "GT_BOX",
    }
    rule = rules.get(run[:-3])
    network = fixture_student(folder, Elimination(LAYERS, 0.7, rule) if rule else None)
    fast = InferenceNetwork(network)
    template, search = (part[:, :batch] for part in fixture_inputs(folder))
    output = fast.search(fast.template(template, torch.tensor([TEMPLATE_BOX] * batch)), search)
    expected = fixture_tensors(folder, "eval_expected")
    torch.testing.assert_close(output.score, expected[f"{run}.score_map"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.size, expected[f"{run}.size_map"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.offset, expected[f"{run}.offset_map"], atol=5e-5, rtol=0)
    torch.testing.assert_close(output.box_cxcywh, expected[f"{run}.pred_boxes"], atol=1e-5, rtol=0)
    assert len(output.kept) == (len(LAYERS) if rule else 0)
    for layer, kept in zip(LAYERS, output.kept, strict=False):
        theirs = expected[f"{run}.kept_after_block_{layer}"].long()
        assert torch.equal(kept.sort(1).values, theirs.sort(1).values)


@pytest.mark.parametrize("name", ["debug", "duotrack-tiny"])
def test_bf16_is_near(name: str) -> None:
    config = replace(preset(name), elimination=None)
    network = lively(config, 1)
    template, search, _ = images(config, 2, 1)
    precise, rough = (InferenceNetwork(network, precision=precision) for precision in ("fp32", "bf16"))
    expected, found = (form.search(form.template(template), search) for form in (precise, rough))
    assert {part.dtype for part in (found.score, found.size, found.offset, found.box_cxcywh)} == {torch.float32}
    assert not torch.equal(found.score, expected.score)
    # bfloat16 has 8 bits: 0.4 % a rounding, and some tens of them in a row.
    for name in ("score", "size", "offset"):
        difference = getattr(found, name) - getattr(expected, name)
        assert difference.abs().mean() < 0.1 * getattr(expected, name).std()


def test_bf16_eliminates_as_many_by_attention_in_float32() -> None:
    network = lively(preset("debug"), 1)
    template, search, _ = images(network.config, 2, 1)
    fast = InferenceNetwork(network, precision="bf16")
    (kept,) = fast.search(fast.template(template), search).kept
    assert kept.shape == (2, math.ceil(0.7 * 64))
    assert all(len(set(row)) == kept.shape[1] for row in kept.tolist())

    block = Block(network.visible.blocks[1], torch.zeros(1, 80, 32, dtype=torch.bfloat16))  # type: ignore[arg-type]
    asking = block.ask(torch.randn(2, 80, 32, generator=torch.Generator().manual_seed(1)).bfloat16())
    weights = block.weights(asking, torch.tensor([5]))
    q, k = (part.double().unflatten(-1, (2, 16)).transpose(1, 2) for part in (asking.queries[:, 5:6], asking.keys))
    torch.testing.assert_close(weights.double(), (q @ k.mT / 4).softmax(-1), atol=1e-6, rtol=0)


def test_a_template_serves_many_frames() -> None:
    network = lively(preset("debug"), 2)
    fast = InferenceNetwork(network)
    template, search, _ = images(network.config, 1, 2)
    target = fast.template(template)
    before = target.tokens.clone()
    first = fast.search(target, search)
    fast.search(target, search.flip(-1))
    assert torch.equal(fast.search(target, search).score, first.score)
    assert torch.equal(target.tokens, before)


def test_training_mode_does_not_matter() -> None:
    """Batch norm is folded with its running statistics, and paths are never dropped."""
    network = lively(replace(preset("debug"), drop_path=0.5), 3)
    template, search, _ = images(network.config, 1, 3)
    with torch.inference_mode():
        expected = network(template, search)
    fast = InferenceNetwork(network.train())
    assert_same(fast.search(fast.template(template), search), expected)


def test_the_box_is_asked_for() -> None:
    config = replace(preset("debug"), elimination=Elimination((1,), 0.7, "GT_BOX"))
    template, _, _ = images(config, 1, 0)
    with pytest.raises(ValueError, match="GT_BOX needs template_box"):
        InferenceNetwork(lively(config, 0)).template(template)


def test_an_unknown_precision() -> None:
    with pytest.raises(ValueError, match="precision must be fp32 or bf16, not 'int8'"):
        InferenceNetwork(lively(preset("debug"), 0), precision="int8")  # type: ignore[arg-type]
