"""Several processes train as one: they share batches and agree on gradients."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from duotrack import cli
from duotrack.configuration import plain
from duotrack.model import weights
from duotrack.training import distributed

from .tiny import NETWORK, rows, settings


def test_a_batch_is_shared_without_gap_or_overlap() -> None:
    parts = [distributed.Group(rank, 3).parts(range(12, 24), 2) for rank in range(3)]
    assert [list(part) for parts_of_one in parts for part in parts_of_one] == [
        [12, 13],
        [14, 15],
        [16, 17],
        [18, 19],
        [20, 21],
        [22, 23],
    ]
    assert distributed.Group(1, 3).parts(range(12, 24), None) == [range(16, 20)]


def test_a_batch_that_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="batch_size 10 cannot be shared equally by 3"):
        distributed.Group(0, 3).parts(range(10), None)
    with pytest.raises(
        ValueError, match=r"micro_batch 3 does not divide the 4 pairs .* of 3 .* of 12: .* divisor of 4"
    ):
        distributed.Group(0, 3).parts(range(12), 3)


def test_alone_nothing_is_exchanged() -> None:
    with distributed.join() as group:
        assert (group.rank, group.size) == (0, 1)
        layer = nn.Linear(2, 1)
        layer(torch.ones(1, 2)).sum().backward()
        assert layer.weight.grad is not None
        before = layer.weight.grad.clone()
        group.sum_gradients(layer)
        assert torch.equal(layer.weight.grad, before)
        assert group.any(True) and not group.any(False)


def test_every_process_has_a_gpu_of_its_own() -> None:
    assert distributed.Group(5, 8, local_rank=1).device("cuda") == torch.device("cuda:1")
    assert distributed.Group(5, 8, local_rank=1).device("cpu") == torch.device("cpu")
    assert distributed.Group().device("cuda:3") == torch.device("cuda:3")


PROGRAM = """
import pathlib, sys, torch
from duotrack.training import distributed
distributed.BUCKET = 7  # several messages
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4))
data = torch.randn(4, 3)
net[0].requires_grad_(False)
with distributed.join() as group:
    (part,) = group.parts(range(4), None)
    net(data[list(part)]).square().sum().backward()
    group.sum_gradients(net)
    net[2].running_mean.fill_(group.rank)
    group.average_statistics(net)
    assert group.any(group.rank == 1)
    own = torch.nn.Linear(2, 2)
    adam = torch.optim.AdamW(own.parameters())
    if group.rank == 0:
        own(torch.ones(1, 2)).sum().backward()
        adam.step()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** (9 + group.rank))
    assert group.follow(7 if group.rank == 0 else 0, own, adam, scaler) == 7
    assert scaler.get_scale() == 512
    moments = adam.state[own.weight]
    found = [net[1].weight.grad, net[2].running_mean, own.weight.data, *moments.values()]
    torch.save(found, f"{sys.argv[1]}/{group.rank}.pt")
threads = [name.read_text() for name in pathlib.Path("/proc/self/task").glob("*/comm")]
assert not any("gloo" in name for name in threads), threads  # one that outlives the group may abort the process
"""


def torchrun(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


def test_processes_add_gradients_average_statistics_and_follow_the_first(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = torchrun(str(tmp_path / "program.py"), str(tmp_path))
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    first, second, norm = nn.Linear(3, 2), nn.Linear(2, 4), nn.BatchNorm1d(4)
    data = torch.randn(4, 3)
    for part in (data[:2], data[2:]):  # the statistics of BatchNorm are those of a part
        norm(second(first(part))).square().sum().backward()
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for gradient, running_mean, *state in found:
        torch.testing.assert_close(gradient, second.weight.grad)
        assert running_mean.tolist() == [0.5] * 4
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(state, found[0][2:], strict=True))
        assert state[1] == 1  # AdamW's count of steps


HEADS = ["head", "teacher_head_visible", "teacher_head_infrared"]

# BatchNorm, in the heads alone, takes its statistics from the pairs that are computed at once. So one process with the
# whole batch equals two with half of it where it computes the same halves, one after the other, ...
IN_HALVES = {"micro_batch": 2, "model": plain(NETWORK)}
# ... or where BatchNorm does not look at the batch, because the heads are frozen, and nothing is drawn for a part.
AT_ONCE = {"frozen": HEADS, "masking": {"probability": 0}, "model": {**plain(NETWORK), "drop_path": 0.0}}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [IN_HALVES, AT_ONCE], ids=["in halves", "at once"])
def test_two_processes_with_half_the_batch_equal_one(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Parameters within 1e-6 after five steps."""
    for name in ("one", "two"):
        recipe = {**settings(data, tmp_path / name), "steps": 5, "batch_size": 4, **changes}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    assert cli.main(["train", "--config", str(tmp_path / "one.yaml")]) == 0
    done = torchrun("-m", "duotrack", "train", "--config", str(tmp_path / "two.yaml"))
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "coupled" / "model.safetensors") for name in ("one", "two"))
    parameters = [name for name in one if "running_" not in name and "num_batches" not in name]
    apart = {name: (one[name] - two[name]).abs().max().item() for name in parameters}
    assert {name: distance for name, distance in apart.items() if distance > 1e-6} == {}
    for ours, theirs in zip(*(rows(tmp_path / name) for name in ("one", "two")), strict=True):
        if "total" in ours:
            assert theirs == pytest.approx(ours, rel=1e-3, abs=2e-5)


@pytest.mark.slow
def test_two_processes_train_and_leave_one_result(data: Path, tmp_path: Path) -> None:
    recipe = settings(data, tmp_path / "run")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = torchrun("-m", "duotrack", "train", "--config", str(tmp_path / "recipe.yaml"))
    assert done.returncode == 0, done.stderr
    weights.load(tmp_path / "run" / "weights")
    steps = [row["step"] for row in rows(tmp_path / "run") if "total" in row]
    assert steps == sorted(set(steps))  # one process writes


def start_machines(recipes: list[Path]) -> "list[subprocess.Popen[str]]":
    """Agents of torchrun, each with one process, as if on machines of their own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"localhost:{free.getsockname()[1]}"
    place = ["--nnodes", str(len(recipes)), "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint"]
    command = [sys.executable, "-m", "torch.distributed.run", *place, endpoint, "-m", "duotrack", "train", "--config"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen([*command, str(recipe)], stderr=subprocess.PIPE, text=True, env=environment)
        for recipe in recipes
    ]


def lose(machine: "subprocess.Popen[str]") -> None:
    """The agent and its process at one blow, as without power."""
    children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children").read_text().split()
    for pid in (machine.pid, *map(int, children)):
        os.kill(pid, signal.SIGKILL)


def stop(machine: "subprocess.Popen[str]") -> None:
    machine.send_signal(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the processes to kill in /proc")
def test_two_machines_train_and_go_on_after_one_was_lost(data: Path, tmp_path: Path) -> None:
    """Each has an output folder of its own, as if they shared no disk: that of the second stays empty."""
    outputs = [tmp_path / "first" / "run", tmp_path / "second" / "run"]
    whole = {**settings(data, tmp_path / "alone"), "model": plain(NETWORK), "steps": 40, "validate_every": 40}
    for output in outputs:
        output.parent.mkdir()
        recipe = {**whole, "output": str(output), "save_every": 2}
        (output.parent / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    recipes = [output.parent / "recipe.yaml" for output in outputs]

    done = 0
    for end, told in ((lose, "another process of this run is gone"), (stop, "run the same command again to go on")):
        # The first process is that of the machine whose name comes first; on one machine, of the older agent.
        first, second = start_machines(recipes)
        deadline = time.monotonic() + 240
        while not (done_now := last_step(outputs[0])) > done + 2 and time.monotonic() < deadline:
            assert first.poll() is None
            time.sleep(0.01)
        end(second)
        second.communicate(timeout=240)
        _, said = first.communicate(timeout=240)
        assert first.returncode != 0
        assert told in said
        assert not (outputs[0] / "weights").exists()
        done = last_step(outputs[0])
        assert done_now <= done < 40

    for agent in start_machines(recipes):
        _, said = agent.communicate(timeout=240)
        assert agent.returncode == 0, said
    weights.load(outputs[0] / "weights")
    assert not (outputs[1] / "weights").exists()

    (tmp_path / "alone.yaml").write_text(yaml.safe_dump(whole))
    alone = torchrun("-m", "duotrack", "train", "--config", str(tmp_path / "alone.yaml"))
    assert alone.returncode == 0, alone.stderr
    assert rows(outputs[0]) == rows(tmp_path / "alone")  # never interrupted, on one machine
    one, two = (load_file(output / "coupled" / "model.safetensors") for output in (tmp_path / "alone", outputs[0]))
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def last_step(output: Path) -> int:
    """Of the metrics, whose last row may be under way."""
    lines = (output / "metrics.jsonl").read_text().split("\n")[:-1] if (output / "metrics.jsonl").exists() else []
    return json.loads(lines[-1])["step"] if lines else 0
