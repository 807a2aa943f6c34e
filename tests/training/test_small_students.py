"""Small students of big teachers, through the engine as it trains."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from duotrack.crops import CropSettings
from duotrack.model import CoupledNetwork, Elimination, ModelConfig, StudentNetwork, preset, weights
from duotrack.pretrained import read_config
from duotrack.training import engine
from duotrack.training.config import TrainingConfig, load

from .tiny import recipe, rows

TEACHER = dataclasses.replace(preset("debug"), width=48, depth=5, heads=3, elimination=None)
STUDENTS = dataclasses.replace(preset("debug"), depth=2, elimination=Elimination((1,), 0.5), teacher=TEACHER)
TEACHERS = ("teacher_visible", "teacher_infrared", "teacher_head_visible", "teacher_head_infrared")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights whose teachers are worth learning from."""
    torch.manual_seed(1)
    return weights.save(tmp_path_factory.mktemp("teachers"), CoupledNetwork(TEACHER))


def config(data: Path, output: Path, teachers: Path, **changes: Any) -> TrainingConfig:
    return recipe(data, output, **{"model": STUDENTS, "teacher_start": str(teachers), "steps": 4, **changes})


def part(network: StudentNetwork, name: str) -> list[torch.Tensor]:
    return [parameter.detach() for key, parameter in network.named_parameters() if key.startswith(f"{name}.")]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    assert len(one) == len(other) > 0
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_frozen_teachers_stay_and_students_and_projections_learn(data: Path, teachers: Path, tmp_path: Path) -> None:
    folder = engine.train(config(data, tmp_path, teachers, frozen=TEACHERS, pictures=1))
    theirs, trained = weights.load_coupled(teachers), weights.load_coupled(tmp_path / "coupled")
    for name in TEACHERS:
        assert same(part(theirs, name), part(trained, name))
    norms = [name for name in theirs.state_dict() if name.startswith("teacher_head") and "running" in name]
    assert norms
    assert all(torch.equal(theirs.state_dict()[name], trained.state_dict()[name]) for name in norms)
    torch.manual_seed(3)  # that of the recipe
    before = CoupledNetwork(STUDENTS)
    for name in ("visible", "infrared", "head", "teacher_projection_visible", "teacher_projection_infrared"):
        assert not same(part(before, name), part(trained, name))

    assert trained.config == STUDENTS
    students = weights.load(folder)
    assert students.config == read_config(folder).model == dataclasses.replace(STUDENTS, teacher=None)
    assert not weights.has_teachers(folder)
    assert json.loads((folder / "training.json").read_text())["recipe"]["model"]["teacher"]["width"] == 48
    assert all(row["content"] > 0 for row in rows(tmp_path) if "content" in row)


def test_teachers_that_are_not_frozen_learn_too(data: Path, teachers: Path, tmp_path: Path) -> None:
    engine.train(config(data, tmp_path, teachers, steps=2))
    theirs, trained = weights.load_coupled(teachers), weights.load_coupled(tmp_path / "coupled")
    assert not any(same(part(theirs, name), part(trained, name)) for name in TEACHERS)


def test_a_stopped_run_goes_on_to_the_bit(
    data: Path, teachers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = config(data, tmp_path / "whole", teachers, frozen=TEACHERS)
    engine.train(whole)
    halved = dataclasses.replace(whole, output=str(tmp_path / "halved"), save_every=2)
    step = engine.train_step

    def once(*arguments: Any) -> Any:
        if arguments[4] == 2:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "train_step", once)
        with pytest.raises(KeyboardInterrupt):
            engine.train(halved)
    engine.train(halved)
    one, other = (weights.load_coupled(tmp_path / name / "coupled").state_dict() for name in ("whole", "halved"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_recipe_that_ships_distils_the_paper_s_network() -> None:
    config = load(Path(__file__).parents[2] / "configs" / "small_student.yaml")
    teacher = config.network.teacher
    assert teacher is not None
    assert dataclasses.replace(teacher, drop_path=0.1) == ModelConfig()
    assert set(config.frozen) == set(TEACHERS)
    assert config.crops == CropSettings()
