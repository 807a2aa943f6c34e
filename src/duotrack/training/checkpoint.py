"""Checkpoints without pickle: every tensor of network and optimizer in one safetensors file, replaced atomically.

What else a run needs to go on exactly is in the file's metadata: the step, and the scale of fp16 losses. Random
numbers are drawn from (seed, number of the pair), so the step is the sampler's position too, and there is no generator
to store.
"""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from duotrack.results import beside

NAME = "checkpoint.safetensors"


def save(
    folder: Path,
    step: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Writes the state after ``step`` steps beside the last checkpoint, then takes its place.

    Raises:
        OSError: if it cannot be written; what the last checkpoint held stays.
    """
    tensors: dict[str, Tensor] = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    unique = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    metadata = {"step": str(step), "scaler": json.dumps(scaler.state_dict() if scaler else {})}
    path = folder / NAME
    try:
        with beside(path) as temporary:
            save_file(unique, temporary, metadata)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        before = "the last one there stays" if path.is_file() else "there is none yet"
        raise OSError(
            f"{path}: the checkpoint of step {step} cannot be written ({error}); {before}. "
            "Make room, then run the same command again to go on"
        ) from error


def restore(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> int:
    """Puts a checkpoint back into network and optimizer and returns its step; 0 where there is none.

    Raises:
        ValueError: if the file is damaged, or does not fit the network or what of it is trained; names the file.
    """
    path = folder / NAME
    if not path.is_file():
        return 0
    remedy = "give another output folder, or --resume never to start anew"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            step, scale = int(metadata["step"]), json.loads(metadata.get("scaler", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
    except (SafetensorError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint ({error}); {remedy}") from error
    try:
        network.load_state_dict({n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")})
    except RuntimeError as error:
        raise ValueError(f"{path} holds another network than the recipe describes; {remedy}. {error}") from error
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    # The optimizer numbers what it trains: numbers of another recipe would give moments to the wrong parameters.
    trained = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    moments = {index: moment.shape for index, values in state.items() for moment in values.values() if moment.dim()}
    if any(index >= len(trained) or shape != trained[index] for index, shape in moments.items()):
        raise ValueError(
            f"{path} was made with other parts of the network frozen, or other groups of learning rates; {remedy}"
        )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if scaler is not None and scaler.is_enabled() and scale:
        scaler.load_state_dict(scale)
    return step


def size(network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of a checkpoint: the network, and two moments of what is trained."""
    trained: list[Tensor] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return _bytes(network.state_dict().values()) + 2 * _bytes(trained)


def room(network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bytes that a run takes on disk: two checkpoints, for one is written beside the last, and three weights folders
    (the best, all branches, the students)."""
    return 2 * size(network, optimizer) + 3 * _bytes(network.state_dict().values())


def check_room(folder: Path, needed: int) -> None:
    """Sees whether files of so many bytes, those that are there included, can be written below a folder.

    What was not there is not there afterwards.

    Raises:
        OSError: if not; says what is free, or what stands in the way.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        probe = there / f".probe-{os.getpid()}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise OSError(
            f"{folder}: the output folder cannot be written to ({error}); give another: --set output=DIR"
        ) from error
    free, taken = shutil.disk_usage(there).free, sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    if free + taken < needed:
        raise OSError(
            f"{folder}: {(needed - taken) / 1e9:.1f} GB more are needed for checkpoints and weights, and "
            f"{free / 1e9:.1f} GB are free; make room, or give another folder: --set output=DIR"
        )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
