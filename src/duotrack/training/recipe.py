"""From a recipe to what it describes: the network with its start weights, the optimizer, and what changes by step."""

import math
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from duotrack.model import weights
from duotrack.model.network import CoupledNetwork, scheduled_keep_rate
from duotrack.model.vit import Block
from duotrack.processor import cpu_features
from duotrack.training.config import TrainingConfig


def build_network(config: TrainingConfig) -> CoupledNetwork:
    """The network with its start weights; what is not to be trained needs no gradient.

    Raises:
        FileNotFoundError: if the start weights are not there.
        ValueError: if they are of another network, or a frozen part does not exist.
    """
    network = CoupledNetwork(config.network)
    if config.start in ("scratch", "imagenet"):
        # Most cells hold no target: scores start low, or the first hundred steps only unlearn one half.
        for head in (network.head, network.teacher_head_visible, network.teacher_head_infrared):
            torch.nn.init.constant_(head.score[-1].get_parameter("bias"), -4.0)
    if config.start == "imagenet":
        if network.stem is None:
            raise ValueError("start weights 'imagenet' are for the lite0 stem; this network has a patch stem")
        network.stem.load_state_dict(weights.lite0_stem(weights.lite0_package_state()))
    elif Path(config.start).is_file():
        network.load_state_dict(weights.start_from_file(config.start, config.network), strict=False)
    elif config.start != "scratch":
        _refuse_missing("start", config.start)
        start = weights.load_coupled(config.start)
        try:
            network.load_state_dict(start.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"start weights {config.start} are of another network than the recipe's: {error}"
            ) from error
    if config.teacher_start is not None:
        _refuse_missing("teacher_start", config.teacher_start)
        network.load_state_dict(weights.start_teachers(config.teacher_start, config.network), strict=False)
    if network.stem is not None:
        # torch's annotations of Module.to leave memory_format out.
        network.stem.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _freeze(network, config)
    if config.recompute:
        _recompute_blocks(network)
    return network


def _refuse_missing(key: str, start: str) -> None:
    if not Path(start).exists():
        raise FileNotFoundError(
            f"{key}: {start} does not exist; expected a weights folder with all branches, as a run leaves in coupled/, "
            f"or a checkpoint of OSTrack, DropTrack or MAE: --set {key}=PATH"
        )


def _freeze(network: CoupledNetwork, config: TrainingConfig) -> None:
    parts = {name for name, _ in network.named_children()}
    unknown = set(config.frozen) - parts
    if unknown:
        raise ValueError(
            f"frozen: this network has no part {', '.join(sorted(unknown))}; there are {', '.join(sorted(parts))}"
        )
    for name, part in network.named_children():
        frozen = name in config.frozen or ("stem" in name and config.optimizer.stem_rate == 0)
        part.requires_grad_(not (frozen or (name.startswith("teacher_") and not config.losses.teachers)))


def frozen_norms(network: nn.Module) -> list[nn.Module]:
    """The BatchNorm layers of frozen parts: they keep their running statistics as well."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return [module for module in norms if not module.weight.requires_grad]


def _recompute_blocks(network: nn.Module) -> None:
    """Activation checkpointing: the halves of each block keep their inputs alone, and run again in the backward pass.

    Stochastic depth draws the same numbers again.
    """
    for module in network.modules():
        if isinstance(module, Block):
            for half in ("attend", "feed"):
                setattr(module, half, partial(checkpoint, getattr(module, half), use_reentrant=False))


def build_optimizer(network: CoupledNetwork, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over what is trained, in one group for each learning rate; weight decay on everything, as published.

    Raises:
        ValueError: if nothing is trained.
    """
    rates = config.optimizer
    teacher_rate = rates.branch_rate if rates.teacher_rate is None else rates.teacher_rate
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        part = name.split(".")[0]
        if not parameter.requires_grad:
            continue
        if "head" in part:
            rate = rates.head_rate
        elif "stem" in part:
            rate = rates.stem_rate
        else:
            rate = teacher_rate if part in ("teacher_visible", "teacher_infrared") else rates.branch_rate
        groups.setdefault(rate, []).append(parameter)
    if not groups:
        raise ValueError("every part of the network is frozen: leave one to train")
    return torch.optim.AdamW(
        [{"params": parameters, "base_rate": rate} for rate, parameters in groups.items()],
        weight_decay=rates.weight_decay,
    )


def rate_factor(config: TrainingConfig, step: int) -> float:
    """What the learning rates are multiplied by in a step: warm-up, then the schedule."""
    optimizer, steps = config.optimizer, config.total_steps
    if step < optimizer.warmup:
        return (step + 1) / optimizer.warmup
    if optimizer.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - optimizer.warmup) / max(1, steps - optimizer.warmup)))
    dropped = optimizer.schedule == "step" and step >= optimizer.drop_after * steps
    return optimizer.drop_factor if dropped else 1.0


def keep_rate(config: TrainingConfig, step: int) -> float | None:
    """The keep rate of all elimination layers in a step; None for each layer's own.

    While it falls, it is computed from the rate of the first layer, as published.
    """
    elimination, epoch = config.network.elimination, config.epoch(step)
    if elimination is None or epoch >= config.keep_rate.start + config.keep_rate.warmup:
        return None
    return scheduled_keep_rate(elimination.keep_rates[0], epoch, config.keep_rate.start, config.keep_rate.warmup)


class Precision:
    """The number format of the branches, and the scale of the loss that goes with it.

    Heads, losses and weights stay in float32. The gradients of fp16 would vanish below its smallest number, so the
    loss is multiplied by a factor that falls where a gradient overflows and rises again where none does.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        name = config.precision
        if name == "auto":
            name = "bf16" if _has_bf16(device) else "fp32"
        self.name = name
        dtype = torch.float16 if name == "fp16" else torch.bfloat16
        self.autocast = torch.autocast(device.type, dtype, enabled=name != "fp32")
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_features())
