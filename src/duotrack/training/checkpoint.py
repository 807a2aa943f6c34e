"""Checkpoints without pickle: every tensor of network and optimizer in one safetensors file, replaced atomically.

What else a run needs to go on exactly, the step, is in the file's metadata; random numbers are drawn from
(seed, step), so there is no generator to store.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from duotrack.results import write_atomically

NAME = "checkpoint.safetensors"


def save(folder: Path, step: int, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Writes the state after ``step`` steps beside the last checkpoint, then takes its place."""
    tensors: dict[str, Tensor] = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    unique = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    write_atomically(folder / NAME, to_bytes(unique, metadata={"step": str(step)}))


def restore(folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
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
            step = int(file.metadata()["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dictionary)
    except (SafetensorError, TypeError, KeyError) as error:
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
    return step
