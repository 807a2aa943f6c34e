"""Two small networks with weights far from their initial ones, which between them have every part that is exported."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from duotrack.export import export_onnx
from duotrack.model import ModelConfig, StudentNetwork, preset, weights
from duotrack.pretrained import read_config

CONFIGS = {
    "patch stem, elimination": preset("debug"),
    "lite0 stem, correlation, shared students": ModelConfig(
        stem="lite0",
        width=32,
        depth=2,
        heads=2,
        template_size=64,
        search_size=128,
        head_channels=8,
        drop_path=0.0,
        shared_students=True,
        correlation_input=True,
    ),
}


def lively(config: ModelConfig, seed: int = 1) -> StudentNetwork:
    """A network whose attention and scores are far from uniform, so that every part shows in the answer."""
    torch.manual_seed(seed)
    network = StudentNetwork(config)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(0, module.in_features**-0.5)
    return network.eval()


def save(folder: Path, config: ModelConfig, seed: int = 1) -> Path:
    return weights.save(folder, lively(config, seed))


_exported: list[TemporaryDirectory[str]] = []
"""Kept until the process ends."""


@cache
def exported(name: str) -> Path:
    """A weights folder of :data:`CONFIGS` with its graphs, to be read only: an export takes seconds."""
    _exported.append(TemporaryDirectory())
    folder = save(Path(_exported[-1].name), CONFIGS[name])
    export_onnx(folder)
    return folder


def gt_box_config() -> ModelConfig:
    config = preset("debug")
    assert config.elimination is not None
    return replace(config, elimination=replace(config.elimination, template_tokens="GT_BOX"))


def crops(folder: Path, batch: int, seed: int = 1) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Random template and search crops, uint8, of the sizes that the network in a folder wants."""
    config = read_config(folder).model
    random = np.random.default_rng(seed)
    shapes = ((2, batch, side, side, 3) for side in (config.template_size, config.search_size))
    template, search = (random.integers(0, 256, shape, np.uint8) for shape in shapes)
    return template, search
