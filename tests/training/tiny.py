"""A data folder and a recipe on which training takes seconds: every kind of source, every kind of randomness."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from duotrack.configuration import read
from duotrack.model import ModelConfig, preset
from duotrack.training.config import OptimizerConfig, TrainingConfig

FRAMES = 12

NETWORK: ModelConfig = replace(preset("debug"), drop_path=0.2)
"""The debug network with stochastic depth, which draws random numbers in every step."""

LITE: ModelConfig = ModelConfig(
    stem="lite0",
    width=16,
    depth=1,
    heads=2,
    template_size=64,
    search_size=128,
    head_channels=8,
    drop_path=0.0,
    correlation_input=True,
)

DATA: dict[str, Any] = {
    "corruption": 0.3,
    "rendered": {"weight": 1, "visible": ["images/visible_*.png"], "infrared": ["images/infrared_*.png"]},
    "clips": [{"clips": ["walk"], "weight": 1, "sampling": {"min_frames": 10, "weather": 0.3, "absent": 0.1}}],
}


def write_data(root: Path) -> Path:
    """Pictures to draw on, and a clip in which a bright and warm patch moves."""
    random = np.random.default_rng(5)
    (root / "images").mkdir(parents=True)
    for i in range(3):
        _write(root / "images" / f"visible_{i}.png", _texture(random))
        _write(root / "images" / f"infrared_{i}.png", _texture(random)[..., 0])
    ground, heat = _texture(random), _texture(random)[..., 0] // 3
    rows = []
    for i in range(FRAMES):
        x, y = 40 + 3 * i, 45
        visible, infrared = ground.copy(), heat.copy()
        visible[y : y + 30, x : x + 20] = (240, 200, 30)
        infrared[y : y + 30, x : x + 20] = 230
        _write(root / "walk" / "visible" / f"{i:02d}.png", visible)
        _write(root / "walk" / "infrared" / f"{i:02d}.png", infrared)
        rows.append(f"{i},{x},{y},20,30,0\n")
    (root / "walk" / "tracks").mkdir()
    (root / "walk" / "tracks" / "patch.txt").write_text("".join(rows))
    return root


def _texture(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    coarse = random.integers(20, 235, (9, 12, 3), np.uint8)
    return cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def _write(path: Path, image: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def settings(root: Path, output: Path) -> dict[str, Any]:
    """The recipe as a YAML file would hold it."""
    return {
        "output": str(output),
        "data": {**DATA, "root": str(root), "cache": str(root / "cache")},
        "steps": 6,
        "batch_size": 2,
        "seed": 3,
        "precision": "fp32",
        "workers": 0,
        "threads": 1,
        "log_every": 1,
        "save_every": 100,
        "validate_every": 4,
        "validation_pairs": 3,
        "device": "cpu",
        "pictures": 0,
        "export": False,
    }


def recipe(root: Path, output: Path, **changes: Any) -> TrainingConfig:
    config = read(TrainingConfig, settings(root, output), "a test")
    optimizer = OptimizerConfig(head_rate=1e-3, branch_rate=3e-4, clip=1.0, schedule="cosine", warmup=2)
    return replace(config, **{"model": NETWORK, "optimizer": optimizer, **changes})


def rows(output: Path) -> list[dict[str, float]]:
    """The metrics of a run, without what depends on the machine's speed."""
    lines = (output / "metrics.jsonl").read_text().splitlines()
    times = {"pairs/s", "waiting"}
    return [{name: value for name, value in json.loads(line).items() if name not in times} for line in lines]
