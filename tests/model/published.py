"""Networks with weights in the published layout: those of the fixtures, and random ones of any size."""

import re
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from duotrack.model import CoupledNetwork, Elimination, ModelConfig, StudentNetwork, normalize
from duotrack.model.weights import import_published

PREFIXES = {
    "visible": "rgb_branch",
    "infrared": "tir_branch",
    "teacher_visible": "teacher_rgb",
    "teacher_infrared": "teacher_tir",
    "head": "box_head",
    "teacher_head_visible": "box_head_v",
    "teacher_head_infrared": "box_head_i",
}
TOWERS = {"score": "ctr", "offset": "offset", "size": "size"}

FIXTURE = ModelConfig(width=48, depth=8, heads=3, head_channels=32)
"""The network of the fixtures."""


def published_name(name: str) -> str:
    """A parameter's name in the published layout: ``head.score.0.1.bias`` is ``box_head.conv1_ctr.1.bias``."""
    module, rest = name.split(".", 1)
    tower = re.fullmatch(r"(score|offset|size)\.(\d)\.(.+)", rest)
    if tower:
        rest = f"conv{int(tower[2]) + 1}_{TOWERS[tower[1]]}.{tower[3]}"
    return f"{PREFIXES[module]}.{rest}"


@cache
def fixture_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """A safetensors file of ``fixtures/network``."""
    return load_file(folder / f"{name}.safetensors")


def fixture_student(folder: Path, elimination: Elimination | None = None) -> StudentNetwork:
    """The network of the fixtures, in evaluation mode."""
    config, state = import_published(fixture_tensors(folder, "coupled"), heads=3, elimination=elimination)
    network = StudentNetwork(config)
    network.load_state_dict(state)
    return network.eval()


def fixture_coupled(folder: Path, elimination: Elimination | None = None) -> CoupledNetwork:
    """The same with teachers; the fixtures were made without stochastic depth."""
    config, state = import_published(fixture_tensors(folder, "coupled"), heads=3, elimination=elimination, coupled=True)
    network = CoupledNetwork(replace(config, drop_path=0.0))
    network.load_state_dict(state)
    return network.eval()


def fixture_inputs(folder: Path) -> tuple[Tensor, Tensor]:
    """Template (2, 2, 3, 128, 128) and search (2, 2, 3, 256, 256), normalised."""
    images = fixture_tensors(folder, "inputs")
    template = normalize(torch.stack([images["template_rgb"], images["template_tir"]]))
    search = normalize(torch.stack([images["search_rgb"], images["search_tir"]]))
    return template, search


def random_weights(config: ModelConfig, generator: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """Weights of the inference network in the published layout, large enough for attention to be far from uniform."""
    c, hidden = config.width, int(config.width * config.mlp_ratio)
    linear = {"attn.qkv": (3 * c, c), "attn.proj": (c, c), "mlp.fc1": (hidden, c), "mlp.fc2": (c, hidden)}
    weights: dict[str, npt.NDArray[Any]] = {}

    def add(name: str, *shape: int) -> None:
        spread = 1.5 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.2
        weights[name] = generator.normal(0, spread, shape).astype(np.float32)

    def add_norm(name: str, width: int) -> None:
        for key, center in (("weight", 1.0), ("bias", 0.0)):
            weights[f"{name}.{key}"] = generator.normal(center, 0.2, width).astype(np.float32)

    for branch in ("rgb_branch", "tir_branch"):
        if branch == "tir_branch" and config.shared_students:
            weights |= {k.replace("rgb", "tir"): w for k, w in weights.items() if k.startswith("rgb_branch.")}
            continue
        add(f"{branch}.patch_embed.proj.weight", c, 3, 16, 16)
        add(f"{branch}.patch_embed.proj.bias", c)
        add(f"{branch}.pos_embed_z", 1, config.template_grid**2, c)
        add(f"{branch}.pos_embed_x", 1, config.search_grid**2, c)
        for block in (f"{branch}.blocks.{index}" for index in range(config.depth)):
            for name, shape in linear.items():
                add(f"{block}.{name}.weight", *shape)
                add(f"{block}.{name}.bias", shape[0])
            add_norm(f"{block}.norm1", c)
            add_norm(f"{block}.norm2", c)
        add_norm(f"{branch}.norm", c)
    widths = [2 * c, *(config.head_channels // 2**layer for layer in range(4))]
    for tower, out in (("ctr", 1), ("offset", 2), ("size", 2)):
        for layer, (inputs, outputs) in enumerate(pairwise(widths), 1):
            conv = f"box_head.conv{layer}_{tower}"
            add(f"{conv}.0.weight", outputs, inputs, 3, 3)
            add(f"{conv}.0.bias", outputs)
            add_norm(f"{conv}.1", outputs)
            add(f"{conv}.1.running_mean", outputs)
            weights[f"{conv}.1.running_var"] = generator.uniform(0.5, 2, outputs).astype(np.float32)
            weights[f"{conv}.1.num_batches_tracked"] = np.array(7)
        add(f"box_head.conv5_{tower}.weight", out, widths[-1], 1, 1)
        add(f"box_head.conv5_{tower}.bias", out)
    return weights
