"""Recipes: read from YAML, refused where they say nothing sensible, changed on the command line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from duotrack import configuration
from duotrack.crops import CropSettings
from duotrack.model import preset
from duotrack.training.config import OptimizerConfig, TrainingConfig, load

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
LEAST = {"output": "runs/x", "data": {"root": "data"}}


def write(folder: Path, content: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_that_ship_load(path: Path) -> None:
    config = load(path)
    assert config.steps > 0
    assert config.data.rendered or config.data.clips or config.data.stills
    assert configuration.read(TrainingConfig, configuration.plain(config), "itself") == config


def test_the_shipped_model_s_recipe() -> None:
    config = load(next(path for path in RECIPES if path.stem == "duotrack-tiny"))
    assert config.network == preset("duotrack-tiny")
    assert config.crops.padding == "mean"
    assert config.optimizer.stem_rate == 0
    assert config.losses.teachers
    assert config.losses.content


def test_the_defaults_are_the_paper_s_first_stage(tmp_path: Path) -> None:
    """Section 5 of the paper and its published recipe: AdamW, 4 x 60000 pairs in 20s for 30 epochs."""
    config = load(write(tmp_path, LEAST))
    assert config.optimizer == OptimizerConfig(5e-5, 5e-6, 0.0, 1e-4, 0.1, "constant", 0)
    assert (config.masking.ratio, config.masking.probability) == (0.25, 1.0)
    assert config.crops == CropSettings(2.0, 4.0, "zero", 1.0)
    losses = config.losses
    assert (losses.giou_weight, losses.l1_weight, losses.focal_weight) == (2.0, 5.0, 1.0)
    assert (losses.style_weight, losses.content_weight) == (0.01, 0.1)


def test_a_model_by_name_or_in_full(tmp_path: Path) -> None:
    assert load(write(tmp_path, {**LEAST, "model": "debug"})).network == preset("debug")
    full = {"width": 32, "heads": 2, "depth": 3, "elimination": {"layers": [1], "keep": 0.5}}
    network = load(write(tmp_path, {**LEAST, "model": full})).network
    assert (network.width, network.depth) == (32, 3)
    assert network.elimination is not None
    assert network.elimination.layers == (1,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepps": 10}, "unknown key 'stepps'; did you mean 'steps'"),
        ({"optimizer": {"head_rat": 1e-3}}, "optimizer: unknown key 'head_rat'; did you mean 'head_rate'"),
        ({"losses": {"contnet": False}}, "losses: unknown key 'contnet'; did you mean 'content'"),
        ({"data": {"root": "data", "rendred": None}}, "data: unknown key 'rendred'; did you mean 'rendered'"),
        ({"data": {}}, "data: missing root"),
        ({"steps": 0}, "steps must be positive, not 0"),
        ({"batch_size": -1}, "batch_size must be positive"),
        ({"save_every": 0}, "save_every must be positive"),
        ({"validation_pairs": 0}, "validation_pairs must be positive"),
        ({"steps": "many"}, "steps: expected a whole number, found 'many'"),
        ({"steps": 2.5}, "steps: expected a whole number, found 2.5"),
        ({"precision": "fp16"}, "precision: expected 'auto' or 'fp32' or 'bf16', found 'fp16'"),
        ({"optimizer": {"schedule": "linear"}}, "optimizer.schedule: expected 'constant' or 'cosine'"),
        ({"losses": {"teachers": False}}, "losses: the content loss needs teachers"),
        ({"crops": {"padding": "grey"}}, "crops.padding: expected 'zero' or 'mean'"),
        ({"model": {"width": 33, "heads": 2}}, "model: width 33 is not a multiple of 2 heads"),
        ({"output": None}, "output: expected text, found null"),
    ],
)
def test_wrong_entries_name_file_and_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path, {**LEAST, **change})
    with pytest.raises(ValueError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"), [("- a\n- b\n", "mapping"), ("", "mapping"), ("a: [", "not valid YAML")]
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no training recipe .*nothing\.yaml"):
        load(tmp_path / "nothing.yaml")


def test_overrides_come_on_top(tmp_path: Path) -> None:
    path = write(tmp_path, {**LEAST, "steps": 100, "optimizer": {"head_rate": 1e-3, "warmup": 5}})
    overrides = ["steps=7", "optimizer.head_rate=2e-4", "data.root=elsewhere", "crops.padding=mean", "model=debug"]
    config = load(path, overrides)
    assert config.steps == 7
    assert config.optimizer == OptimizerConfig(head_rate=2e-4, warmup=5)
    assert config.data.root == "elsewhere"
    assert config.crops.padding == "mean"
    assert config.network == preset("debug")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.hed_rate=1", "did you mean 'head_rate'"),
        ("steps", "no assignment"),
        ("steps=never", "expected a whole number"),
        ("output.x=1", "not a group of settings"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path, LEAST), [override])


def test_a_preset_that_does_not_exist(tmp_path: Path) -> None:
    config = load(write(tmp_path, {**LEAST, "model": "ckd-bse"}))
    with pytest.raises(ValueError, match=r"no preset 'ckd-bse'; there are ckd-base, "):
        _ = config.network
