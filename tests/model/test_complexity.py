"""The sizes and costs that the paper's code is known for, to the printed digit."""

import dataclasses

import pytest

from duotrack.model import CoupledNetwork, Elimination, ModelConfig, StudentNetwork, preset
from duotrack.model.complexity import Complexity, count


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
    import torch

    with torch.device("meta"):
        network = CoupledNetwork(preset("ckd-base"))
    used = sum(parameter.numel() for parameter in network.parameters())
    assert used + 4 * 152_064 == 368_908_431
    assert sum(parameter.numel() for parameter in network.teacher_visible.parameters()) == 86_044_416 - 152_064
    assert sum(parameter.numel() for parameter in network.head.parameters()) == 11_782_533
    assert sum(parameter.numel() for parameter in network.teacher_head_infrared.parameters()) == 6_474_117
