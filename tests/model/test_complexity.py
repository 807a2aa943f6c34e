"""The sizes and costs that the paper's code is known for, to the printed digit."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from duotrack.model import CoupledNetwork, Elimination, ModelConfig, StudentNetwork, preset
from duotrack.model.complexity import Complexity, count
from duotrack.model.vit import Attention


def giga(value: int) -> str:
    return f"{value / 1e9:.4f}"


@pytest.fixture(scope="module")
def with_elimination() -> Complexity:
    return count(preset("ckd-base"))


@pytest.fixture(scope="module")
def without() -> Complexity:
    return count(dataclasses.replace(preset("ckd-base"), elimination=None))


def test_parameters(with_elimination: Complexity, without: Complexity) -> None:
    assert with_elimination.parameters == without.parameters == 183_567_237


def test_published_macs(with_elimination: Complexity, without: Complexity) -> None:
    assert giga(with_elimination.macs_published_convention) == "42.7355"
    assert giga(without.macs_published_convention) == "57.8015"


def test_macs_of_layers(with_elimination: Complexity, without: Complexity) -> None:
    assert giga(with_elimination.convolutions_and_linears) == "42.6986"
    assert giga(without.convolutions_and_linears) == "57.7509"
    assert giga(without.norms) in ("0.0505", "0.0506")  # LayerNorm 0.0492 of it


def test_macs_with_attention(with_elimination: Complexity, without: Complexity) -> None:
    assert giga(with_elimination.macs) == "44.9821"
    assert giga(without.macs) == "61.5258"


def test_by_hand() -> None:
    """One block, width 8, 4 + 16 tokens, two students; a head of 8, 4, 2, 1 channels on 4 x 4 cells."""
    config = ModelConfig(width=8, depth=1, heads=2, template_size=32, search_size=64, head_channels=8)
    embed, block = 20 * 768 * 8, 20 * (8 * 24 + 8 * 8 + 2 * 8 * 32)
    towers = 16 * (3 * 9 * (16 * 8 + 8 * 4 + 4 * 2 + 2 * 1) + 1 + 2 + 2)
    cost = count(config)
    assert cost.convolutions_and_linears == 2 * (embed + block) + towers
    assert cost.attention_products == 2 * 2 * 20 * 20 * 8
    assert cost.norms == 4 * (2 * 3 * 20 * 8 + 3 * 16 * (8 + 4 + 2 + 1))


@pytest.mark.parametrize("rule", ["CTR_POINT", "CTR_REC", "ALL", "GT_BOX"])
def test_the_template_rule_costs_nothing(rule: str) -> None:
    config = preset("debug")
    elimination = Elimination((1,), 0.7, rule)  # type: ignore[arg-type]
    assert count(dataclasses.replace(config, elimination=elimination)) == count(config)


def test_shared_students_halve_parameters_but_not_work() -> None:
    config = preset("debug")
    separate, shared = count(config), count(dataclasses.replace(config, shared_students=True))
    branch = sum(parameter.numel() for parameter in StudentNetwork(config).visible.parameters())
    assert separate.parameters - shared.parameters == branch
    assert separate.macs == shared.macs


def test_parameters_in_training() -> None:
    """368,908,431 with the class tokens and position grids that no branch uses."""
    with torch.device("meta"):
        network = CoupledNetwork(preset("ckd-base"))
    used = sum(parameter.numel() for parameter in network.parameters())
    assert used + 4 * 152_064 == 368_908_431
    assert sum(parameter.numel() for parameter in network.teacher_visible.parameters()) == 86_044_416 - 152_064
    assert sum(parameter.numel() for parameter in network.head.parameters()) == 11_782_533
    assert sum(parameter.numel() for parameter in network.teacher_head_infrared.parameters()) == 6_474_117


def counted_by_running(config: ModelConfig) -> Complexity:
    """The same costs from the layers that run when a network without data is called."""
    macs = dict.fromkeys(("linear", "attention", "norm"), 0)

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            macs["linear"] += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs["linear"] += output.numel() * module.in_features
        elif isinstance(module, Attention):
            batch, tokens, width = inputs[0].shape
            macs["attention"] += 2 * batch * tokens * tokens * width
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            macs["norm"] += 4 * output.numel()

    with torch.device("meta"):
        network = StudentNetwork(config).eval()
        images = [torch.empty(2, 1, 3, side, side) for side in (config.template_size, config.search_size)]
    for module in network.modules():
        module.register_forward_hook(hook)
    with torch.no_grad():
        network(images[0], images[1])
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Complexity(parameters, macs["linear"], macs["attention"], macs["norm"])


@st.composite
def configurations(draw: st.DrawFn) -> ModelConfig:
    depth, convolutional = draw(st.integers(1, 5)), draw(st.booleans())
    layers = tuple(sorted(draw(st.sets(st.integers(0, depth - 1), max_size=depth))))
    keep = draw(st.floats(0.05, 1))
    return ModelConfig(
        stem="lite0" if convolutional else "patch",
        width=8 * draw(st.integers(1, 4)),
        depth=depth,
        heads=2,
        mlp_ratio=draw(st.sampled_from([0.5, 2.7, 4.0])),
        template_size=16 * draw(st.integers(1, 4)),
        search_size=16 * draw(st.integers(1, 6)),
        stride=16 if convolutional else draw(st.sampled_from([8, 16])),
        head_channels=draw(st.integers(8, 40)),
        shared_students=draw(st.booleans()),
        correlation_input=convolutional and draw(st.booleans()),
        elimination=Elimination(layers, keep) if layers else None,
    )


@settings(max_examples=40)
@given(configurations())
def test_what_runs_is_what_is_counted(config: ModelConfig) -> None:
    assert count(config) == counted_by_running(config)


@pytest.mark.parametrize("name", ["ckd-base", "duotrack-tiny"])
def test_presets_are_counted_as_they_run(name: str) -> None:
    assert count(preset(name)) == counted_by_running(preset(name))
