"""A trial of a recipe: what it says, what it finds, and that it leaves nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from duotrack import cli
from duotrack.training import engine
from duotrack.training.checkpoint import NAME
from duotrack.training.recipe import build_network
from duotrack.training.trial import dry_run

from .tiny import recipe, settings


def test_a_trial_says_what_a_run_will_cost(data: Path, tmp_path: Path) -> None:
    config = recipe(data, tmp_path / "not" / "there", batch_size=4, micro_batch=2, frozen=("visible",))
    facts = dry_run(config)
    assert not (tmp_path / "not").exists()
    whole = build_network(replace(config, frozen=()))
    parameters = {"all": 0, "trained": 0}
    for name, parameter in whole.named_parameters():
        parameters["all"] += parameter.numel()
        parameters["trained"] += parameter.numel() * (not name.startswith("visible."))
    assert facts["parameters"] == parameters
    assert facts["batch"] == {"pairs": 4, "processes": 1, "parts_of_each_process": 2, "pairs_at_once": 2}
    assert facts["steps"] == 6
    seconds, memory = facts["seconds_per_step"], facts["memory_in_GB"]
    assert isinstance(seconds, dict) and isinstance(memory, dict)
    assert seconds["network"] > 0
    assert 0.1 < memory["process"] < 100


def test_the_size_of_a_checkpoint_is_what_a_run_writes(data: Path, tmp_path: Path) -> None:
    config = recipe(data, tmp_path, steps=1)
    disk = dry_run(config)["disk_in_GB"]
    assert isinstance(disk, dict)
    engine.train(config)
    assert (tmp_path / NAME).stat().st_size / 1e9 == pytest.approx(disk["checkpoint"], abs=5e-4)
    left = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    assert left / 1e9 <= disk["all"] + 5e-4


def test_a_trial_changes_nothing_for_the_run(data: Path, tmp_path: Path) -> None:
    engine.train(recipe(data, tmp_path, steps=2))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    dry_run(recipe(data, tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("validation_clips=[nothing]", "nothing there; check data.root and validation_clips"),
        ("data.root=nowhere", "nowhere"),
        ("start=OSTrack.pth", "start: OSTrack.pth does not exist"),
        ("batch_size=3", "micro_batch 2 does not divide the 3 pairs"),
    ],
)
def test_a_trial_finds_what_would_stop_the_run(
    data: Path, tmp_path: Path, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**settings(data, tmp_path / "run"), "model": "debug", "micro_batch": 2}))
    assert cli.main(["train", "--config", str(file), "--dry-run", "--set", change]) == 1
    out, told = capsys.readouterr()
    assert out == ""
    assert message in told
    assert not (tmp_path / "run").exists()
