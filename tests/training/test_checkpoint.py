"""Checkpoints: all of a run's state, in one file that is either the old one or the new one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from duotrack.training.checkpoint import NAME, restore, save

Pair = tuple[nn.Module, torch.optim.Optimizer]


def network(width: int = 4, frozen: bool = False) -> nn.Sequential:
    torch.manual_seed(width)
    layers = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))
    layers[0].requires_grad_(not frozen)
    return layers


def optimizer_of(module: nn.Module, *, groups: bool = False) -> torch.optim.Optimizer:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    parts = [trained[1:], trained[:1]] if groups else [trained]
    return torch.optim.AdamW([{"params": part, "base_rate": 0.1} for part in parts], weight_decay=0.01)


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        module(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_the_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """Weights, running statistics, both moments and their step counts: all of them decide what comes next."""
    whole = network()
    train(whole, optimizer_of(whole), range(8))

    first = network()
    optimizer = optimizer_of(first)
    train(first, optimizer, range(3))
    save(tmp_path, 3, first, optimizer)

    second = network()
    optimizer = optimizer_of(second)
    assert restore(tmp_path, second, optimizer) == 3
    assert_equal(state(second), state(first))
    train(second, optimizer, range(3, 8))
    assert_equal(state(second), state(whole))


def test_the_newest_counts(tmp_path: Path) -> None:
    module = network()
    optimizer = optimizer_of(module)
    for step in (1, 2):
        train(module, optimizer, range(step - 1, step))
        save(tmp_path, step, module, optimizer)
    other = network()
    assert restore(tmp_path, other, optimizer_of(other)) == 2
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_memory_formats_and_shared_tensors_survive(tmp_path: Path) -> None:
    def make() -> nn.ModuleDict:
        torch.manual_seed(0)
        conv = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return nn.ModuleDict({"one": conv, "same": conv})

    module = make()
    with torch.no_grad():
        module["one"].get_parameter("weight").add_(1)
    save(tmp_path, 1, module, optimizer_of(module))
    other = make()
    restore(tmp_path, other, optimizer_of(other))
    assert_equal(state(other), state(module))
    assert other["one"] is other["same"]


def test_nothing_to_restore(tmp_path: Path) -> None:
    module = network()
    before = state(module)
    assert restore(tmp_path, module, optimizer_of(module)) == 0
    assert_equal(state(module), before)


def test_another_network_is_refused(tmp_path: Path) -> None:
    module, other = network(4), network(6)
    save(tmp_path, 1, module, optimizer_of(module))
    with pytest.raises(ValueError, match=r"another network .*--resume never") as caught:
        restore(tmp_path, other, optimizer_of(other))
    assert str(tmp_path / NAME) in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        lambda: (module := network(frozen=True), optimizer_of(module)),
        lambda: (module := network(), optimizer_of(module, groups=True)),
    ],
    ids=["frozen", "grouped"],
)
def test_another_order_of_parameters_is_refused(tmp_path: Path, changed: Callable[[], Pair]) -> None:
    module = network()
    optimizer = optimizer_of(module)
    train(module, optimizer, range(1))
    save(tmp_path, 1, module, optimizer)
    with pytest.raises(ValueError, match="frozen, or other groups of learning rates") as caught:
        restore(tmp_path, *changed())
    assert str(tmp_path / NAME) in str(caught.value)


def test_rates_are_the_recipe_s(tmp_path: Path) -> None:
    """What a recipe says now counts, not what it said when the checkpoint was written."""
    module = network()
    optimizer = optimizer_of(module)
    train(module, optimizer, range(1))
    save(tmp_path, 1, module, optimizer)
    other = network()
    optimizer = optimizer_of(other)
    optimizer.param_groups[0]["base_rate"] = 0.7
    restore(tmp_path, other, optimizer)
    assert optimizer.param_groups[0]["base_rate"] == 0.7
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "of someone else"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, kind: str) -> None:
    module = network()
    optimizer = optimizer_of(module)
    save(tmp_path, 1, module, optimizer)
    path = tmp_path / NAME
    if kind == "of someone else":
        save_file({"weight": torch.zeros(2)}, path)
    else:
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"a text, not a checkpoint"}[kind])
    with pytest.raises(ValueError, match="damaged or no checkpoint") as caught:
        restore(tmp_path, module, optimizer)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_while_writing_keeps_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A full disk, say."""
    module = network()
    optimizer = optimizer_of(module)
    save(tmp_path, 1, module, optimizer)
    old = (tmp_path / NAME).read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    train(module, optimizer, range(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path, 2, module, optimizer)
    assert (tmp_path / NAME).read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    save(tmp_path, 2, module, optimizer)
    assert restore(tmp_path, module, optimizer) == 2
