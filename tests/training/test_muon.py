"""The optimizer of two: matrices step orthogonally, the rest as by AdamW, and both go on from a checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from duotrack.training import checkpoint
from duotrack.training.config import OptimizerConfig
from duotrack.training.muon import MuonAdamW
from duotrack.training.recipe import build_network, build_optimizer

from .tiny import recipe

RATE, DECAY = 1e-2, 0.1


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(24, 40), nn.Tanh(), nn.Linear(40, 8))


def optimizer(net: nn.Module) -> MuonAdamW:
    matrices: list[Tensor] = [p for p in net.parameters() if p.dim() == 2]
    others: list[Tensor] = [p for p in net.parameters() if p.dim() != 2]
    return MuonAdamW([{"params": matrices, "lr": RATE}], [{"params": others, "lr": RATE}], DECAY)


def step(net: nn.Module, optim: torch.optim.Optimizer, seed: int) -> None:
    optim.zero_grad()
    random = torch.Generator().manual_seed(seed)
    net(torch.randn(64, 24, generator=random)).square().sum().backward()
    optim.step()


def test_the_first_step_of_a_matrix_is_its_gradient_made_orthogonal() -> None:
    """Liu et al. 2025, equation 4: W - rate (0.2 sqrt(max(A, B)) U V^T + decay W), where the gradient is U S V^T.

    Five Newton-Schulz iterations leave the singular values of U V^T between 0.7 and 1.2 (Jordan et al. 2024).
    """
    net = network()
    before = net[0].get_parameter("weight").detach().clone()
    step(net, optimizer(net), 1)
    weight = net[0].get_parameter("weight")
    assert weight.grad is not None
    moved = (before * (1 - RATE * DECAY) - weight.detach()) / (RATE * 0.2 * 40**0.5)
    u, s, vh = torch.linalg.svd(weight.grad, full_matrices=False)
    found = u.T @ moved @ vh.T  # diagonal where the step has the gradient's singular vectors
    strong = s > 0.05 * s[0]  # the weakest directions are not all the way there
    assert strong.sum() >= 6
    assert ((found.diag()[strong] > 0.6) & (found.diag()[strong] < 1.25)).all()
    torch.testing.assert_close(found[strong][:, strong], found.diag()[strong].diag(), rtol=0, atol=0.03)


def test_the_rest_steps_as_by_adamw() -> None:
    ours, theirs = network(), network()
    optim = optimizer(ours)
    biases: list[Tensor] = [p for p in theirs.parameters() if p.dim() == 1]
    adamw = torch.optim.AdamW([{"params": biases, "lr": RATE}], weight_decay=DECAY)
    for seed in range(3):
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            if mine.dim() == 2:
                other.data.copy_(mine.data)
        step(theirs, adamw, seed)
        step(ours, optim, seed)
    for layer in (0, 2):
        assert torch.equal(ours[layer].get_parameter("bias"), theirs[layer].get_parameter("bias"))


def test_rates_are_read_from_the_groups() -> None:
    """Schedules write there."""
    net = network()
    optim = optimizer(net)
    for group in optim.param_groups:
        group["lr"] = 0.0
    before = [parameter.detach().clone() for parameter in net.parameters()]
    step(net, optim, 1)
    assert all(torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))


def test_it_goes_on_from_a_checkpoint_to_the_bit(tmp_path: Path) -> None:
    whole = network()
    optim = optimizer(whole)
    for seed in range(4):
        step(whole, optim, seed)
        if seed == 1:
            checkpoint.save(tmp_path, 2, whole, optim)
    resumed = network()
    again = optimizer(resumed)
    assert checkpoint.restore(tmp_path, resumed, again) == 2
    for seed in (2, 3):
        step(resumed, again, seed)
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_recipe_s_blocks_are_stepped_by_muon_and_the_rest_by_adamw(tmp_path: Path) -> None:
    config = recipe(tmp_path, tmp_path, optimizer=OptimizerConfig(kind="muon", head_rate=1e-3, branch_rate=3e-4))
    net = build_network(config)
    optim = build_optimizer(net, config)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    by_muon = [names[id(p)] for group in optim.param_groups if "ns_steps" in group for p in group["params"]]
    by_adamw = [names[id(p)] for group in optim.param_groups if "ns_steps" not in group for p in group["params"]]
    assert sorted(by_muon + by_adamw) == sorted(names.values())
    blocks = 4 * config.network.depth  # of two students and two teachers
    assert len(by_muon) == 4 * blocks  # qkv, proj, fc1, fc2
    assert all(".blocks." in name and name.endswith("weight") for name in by_muon)
    assert {group["base_rate"] for group in optim.param_groups} == {1e-3, 3e-4}


def test_without_blocks_to_train(tmp_path: Path) -> None:
    config = recipe(tmp_path, tmp_path, optimizer=OptimizerConfig(kind="muon"))
    config = replace(config, frozen=("visible", "infrared", "teacher_visible", "teacher_infrared"))
    with pytest.raises(ValueError, match=r"optimizer\.kind muon .*: set adamw, or freeze less"):
        build_optimizer(build_network(config), config)


def test_no_closure() -> None:
    with pytest.raises(ValueError, match="closure"):
        optimizer(network()).step(lambda: 0.0)
