"""Several processes train as one: they share batches and agree on gradients."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from duotrack.model import weights
from duotrack.training import distributed

from .tiny import settings


def test_a_batch_is_shared_without_gap_or_overlap() -> None:
    parts = [list(distributed.Group(rank, 3).part(range(12, 24))) for rank in range(3)]
    assert parts == [[12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 22, 23]]
    with pytest.raises(ValueError, match="10 pairs cannot be shared equally by 3"):
        distributed.Group(0, 3).part(range(10))


def test_alone_nothing_is_exchanged() -> None:
    with distributed.join() as group:
        assert (group.rank, group.size) == (0, 1)
        layer = nn.Linear(2, 1)
        layer(torch.ones(1, 2)).sum().backward()
        assert layer.weight.grad is not None
        before = layer.weight.grad.clone()
        group.average_gradients(layer)
        assert torch.equal(layer.weight.grad, before)
        assert group.any(True) and not group.any(False)


PROGRAM = """
import sys, torch
from duotrack.training import distributed
torch.manual_seed(0)
layer, data = torch.nn.Linear(3, 2), torch.randn(4, 3)
with distributed.join() as group:
    layer(data[list(group.part(range(4)))]).square().mean().backward()
    group.average_gradients(layer)
    assert group.any(group.rank == 1)
    torch.save(layer.weight.grad, f"{sys.argv[1]}/{group.rank}.pt")
"""


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


def test_the_mean_gradient_of_the_parts_is_that_of_the_batch(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = torchrun(str(tmp_path / "program.py"), str(tmp_path))
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    layer, data = nn.Linear(3, 2), torch.randn(4, 3)
    layer(data).square().mean().backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, layer.weight.grad)


@pytest.mark.slow
def test_two_processes_train_and_leave_one_result(data: Path, tmp_path: Path) -> None:
    recipe = settings(data, tmp_path / "run")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = torchrun("-m", "duotrack", "train", "--config", str(tmp_path / "recipe.yaml"))
    assert done.returncode == 0, done.stderr
    weights.load(tmp_path / "run" / "weights")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "total" in row]
    assert steps == sorted(set(steps))  # one process writes
