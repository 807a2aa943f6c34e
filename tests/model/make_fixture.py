"""Writes `tests/fixtures/network.safetensors`: a tiny network in the published layout, a pair, and its answers.

    python -m tests.model.make_fixture

The answers come from the NumPy reference, which other tests hold to the published code's own numbers.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from duotrack.model import Elimination, ModelConfig, normalize

from . import reference
from .published import random_weights

FILE = Path(__file__).parents[1] / "fixtures" / "network.safetensors"
CONFIG = ModelConfig(width=12, depth=3, heads=2, template_size=64, search_size=128, head_channels=8)
ELIMINATION = Elimination((0, 1), 0.7, "CTR_REC")


def main() -> None:
    """Draws the network and the pair, and computes both answers."""
    generator = np.random.default_rng(20261123)
    weights = random_weights(CONFIG, generator)
    images = {
        name: generator.integers(0, 256, (2, 1, side, side, 3), np.uint8)
        for name, side in (("template", CONFIG.template_size), ("search", CONFIG.search_size))
    }
    template, search = (normalize(torch.from_numpy(image)).double().numpy() for image in images.values())
    rows = [reference.template_rows(ELIMINATION.template_tokens, CONFIG.template_grid)]
    tensors = {f"weights.{name}": tensor for name, tensor in weights.items()} | images
    for name, keep in (
        ("full", None),
        ("elimination", dict(zip(ELIMINATION.layers, ELIMINATION.keep_rates, strict=True))),
    ):
        result = reference.infer(weights, template, search, heads=CONFIG.heads, keep=keep, rows=rows)
        for key in ("score", "size", "offset", "box"):
            tensors[f"{name}.{key}"] = np.ascontiguousarray(getattr(result, key))
        for layer, kept in enumerate(result.kept):
            tensors[f"{name}.kept.{layer}"] = kept
    FILE.parent.mkdir(exist_ok=True)
    save_file({name: np.asarray(tensor) for name, tensor in tensors.items()}, FILE)


if __name__ == "__main__":
    main()
