"""Recipes: read from YAML, refused where they say nothing sensible, changed on the command line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from duotrack import configuration, pretrained
from duotrack.crops import CropSettings
from duotrack.losses import LossOptions
from duotrack.model import preset
from duotrack.training.config import MaskingConfig, OptimizerConfig, TrainingConfig, load

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path for path in CONFIGS.rglob("*.yaml") if not path.stem.startswith("ablation"))
LEAST = {"output": "runs/x", "data": {"root": "data"}}


def write(folder: Path, content: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_that_ship_load(path: Path) -> None:
    config = load(path)
    assert config.total_steps > 0
    data = config.data
    assert config.prepared or data.rendered or data.clips or data.stills or data.datasets
    assert configuration.read(TrainingConfig, configuration.plain(config), "itself") == config


def test_the_shipped_model_s_recipe() -> None:
    config = load(next(path for path in RECIPES if path.stem == "duotrack-tiny"))
    shipped = pretrained.read_config(pretrained.locate("duotrack-tiny"))
    assert (config.network, config.crops) == (preset("duotrack-tiny"), shipped.crops)
    assert replace(config.network, elimination=None) == replace(shipped.model, teacher=None)
    assert config.optimizer.stem_rate == 0


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
        ({"prepared": [{"folder": "x", "weight": 0}]}, "prepared[0]: weight must be above 0, not 0"),
        ({"stepps": 10}, "unknown key 'stepps'; did you mean 'steps'"),
        ({"optimizer": {"head_rat": 1e-3}}, "optimizer: unknown key 'head_rat'; did you mean 'head_rate'"),
        ({"losses": {"contnet": False}}, "losses: unknown key 'contnet'; did you mean 'content'"),
        ({"data": {"root": "data", "rendred": None}}, "data: unknown key 'rendred'; did you mean 'rendered'"),
        ({"data": {}}, "data: missing root"),
        ({"steps": 0}, "steps must be positive, not 0"),
        ({"batch_size": -1}, "batch_size must be positive"),
        ({"save_every": 0}, "save_every must be positive"),
        ({"validation_pairs": 0}, "validation_pairs must be positive"),
        ({"steps": "many"}, "steps: expected a whole number or null, found 'many'"),
        ({"steps": 2.5}, "steps: expected a whole number or null, found 2.5"),
        ({"precision": "fp8"}, "precision: expected 'auto' or 'fp32' or 'bf16' or 'fp16', found 'fp8'"),
        ({"optimizer": {"schedule": "linear"}}, "optimizer.schedule: expected 'constant' or 'cosine' or 'step'"),
        ({"optimizer": {"clip": 0}}, "optimizer: clip must be above 0"),
        ({"optimizer": {"head_rate": -1e-3}}, "optimizer: head_rate must lie in [0, 1), not -0.001"),
        ({"optimizer": {"warmup": -1}}, "optimizer: warmup is a number of steps"),
        ({"optimizer": {"drop_after": 1.5}}, "optimizer: drop_after must lie in (0, 1]"),
        ({"masking": {"ratio": 1.25}}, "masking: ratio must lie in 0..1, not 1.25"),
        ({"masking": {"probability": -0.5}}, "masking: probability must lie in 0..1"),
        ({"keep_rate": {"warmup": -1}}, "keep_rate: start and warmup count epochs"),
        ({"micro_batch": 0}, "micro_batch must be positive"),
        ({"pictures": -1}, "pictures must be 0 or more"),
        ({"device": "cpu", "compile": True}, "compile pays on GPUs alone"),
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
        ("steps=never", "expected a whole number or null"),
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


def test_the_paper_s_two_stages() -> None:
    """Method 5.1: 30 epochs of 60,000 pairs in 20s; then the heads, 10 of 30,000 in 128s, with elimination."""
    first, second = (load(CONFIGS / f"ckd_base_stage{stage}.yaml") for stage in (1, 2))
    assert first.network == replace(preset("ckd-base"), elimination=None)
    assert (first.total_steps, first.batch_size, first.epoch(2999), first.epoch(3000)) == (90_000, 20, 0, 1)
    assert first.optimizer == OptimizerConfig()
    assert first.losses == LossOptions()
    assert (first.masking, first.frozen, first.data.corruption) == (MaskingConfig(0.25, 1.0), (), 0)
    assert second.network == preset("ckd-base")
    assert (second.total_steps, second.batch_size) == (2343, 128)
    assert second.optimizer.head_rate == 5e-5
    assert second.masking.probability == 0
    assert set(second.frozen) == {"visible", "infrared", "teacher_visible", "teacher_infrared"}
    assert second.start == f"{first.output}/coupled"


@pytest.mark.parametrize("network", ["ckd_base", "tiny"])
def test_the_second_stage_takes_what_the_first_leaves(network: str) -> None:
    first, second = (load(CONFIGS / f"{network}_stage{stage}.yaml") for stage in (1, 2))
    assert second.start == f"{first.output}/coupled"
    assert second.crops == first.crops
    assert second.network.elimination is not None
    assert replace(second.network, elimination=None) == first.network


def test_the_length_of_a_run_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    path = write(tmp_path, {**LEAST, "epochs": 3, "pairs_per_epoch": 100, "batch_size": 10})
    assert load(path).total_steps == 30
    assert load(path, ["batch_size=20"]).total_steps == 15
    assert [load(path).epoch(step) for step in (0, 9, 10, 29)] == [0, 0, 1, 2]
    assert load(path, ["steps=7"]).total_steps == 7
