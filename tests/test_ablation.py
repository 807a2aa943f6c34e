"""Ablations: a miniature grid through the engine that trains, and what is made of its figures."""

import json
import math
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import yaml

from duotrack import ablation
from duotrack.ablation import Ablation
from duotrack.model import weights
from duotrack.training import engine

from .training.tiny import settings, write_data

CONFIGS = Path(__file__).parents[1] / "configs"
GRID = ["plain=losses.teachers=false losses.content=false losses.style=false masking.probability=0", "ckd="]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training recipe of two steps on made-up data."""
    folder = tmp_path_factory.mktemp("ablation")
    values = settings(write_data(folder / "data"), folder / "unused")
    values |= {"model": "debug", "steps": 2, "validation_clips": ["walk"], "validation_frames": 4}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> Any:
    threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    monkeypatch.setattr(ablation, "GAP_PAIRS", 10)
    yield
    torch.set_num_threads(threads)
    cv2.setNumThreads(cv2_threads)


def test_a_grid_over_seeds_and_what_it_leaves(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ablation.load(recipe, tmp_path, grid=GRID, seeds=[1, 2])
    assert [(run.setting, run.config.seed) for run in runs] == [("plain", 1), ("plain", 2), ("ckd", 1), ("ckd", 2)]
    assert [run.config.losses.teachers for run in runs] == [False, False, True, True]
    found = ablation.run(runs, tmp_path)

    assert found.measures == list(ablation.MEASURES)
    for run in runs:
        figures = found.figures[run.setting][run.config.seed]
        assert 0 <= figures["validation.iou"] <= 1
        assert 0 <= figures["tracking.auc"] <= 1
        assert figures["gap.style"] > 0
        assert run.folder == tmp_path / run.setting / f"seed-{run.config.seed}"
        result = json.loads((run.folder / "result.json").read_text())
        assert result["figures"] == figures
        assert len(result["gap"]["students"]) == 3
        trained = json.loads((run.folder / "weights" / "training.json").read_text())
        assert trained["figures"]["validation.iou"] == figures["validation.iou"]
    state = [weights.load(run.folder / "weights").state_dict()["visible.norm.bias"] for run in runs]
    assert not torch.equal(state[0], state[1])  # another seed
    assert not torch.equal(state[0], state[2])  # another setting

    summary = json.loads((tmp_path / "ablation.json").read_text())
    values = [found.figures["ckd"][seed]["gap.style"] for seed in (1, 2)]
    assert summary["ckd"]["mean"]["gap.style"] == pytest.approx(sum(values) / 2)
    assert summary["ckd"]["deviation"]["gap.style"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert (tmp_path / "ablation.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "ablation.png").is_file()
    assert (tmp_path / "ablation.md").read_text().splitlines()[2].startswith("| plain | 2 | ")

    def refuse(*_: Any) -> None:
        raise AssertionError("a finished run is trained again")

    monkeypatch.setattr(engine, "train", refuse)
    assert ablation.run(runs, tmp_path).figures == found.figures
    with pytest.raises(AssertionError, match="trained again"):
        ablation.run(ablation.load(recipe, tmp_path, grid=GRID, seeds=[1, 3]), tmp_path)
    changed = ablation.load(recipe, tmp_path, grid=GRID, seeds=[1], changes=["losses.style_weight=1"])
    with pytest.raises(ValueError, match=r"seed-1 holds a run of another recipe .*give another --output"):
        ablation.run(changed, tmp_path)


def test_a_run_that_was_stopped_goes_on(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = ablation.load(recipe, tmp_path, grid=GRID[:1], seeds=[1], changes=["save_every=1"])
    step = engine.train_step
    asked = []

    def once(*arguments: Any) -> Any:
        asked.append(arguments[4])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(engine, "train_step", once)
    with pytest.raises(KeyboardInterrupt):
        ablation.run(runs, tmp_path)
    assert not (tmp_path / "ablation.json").exists()
    ablation.run(runs, tmp_path)
    assert asked == [0, 1, 1]


def test_an_ablation_is_no_job_for_torchrun(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"no job for torchrun: .* --seeds"):
        ablation.run(ablation.load(recipe, tmp_path, grid=GRID), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_ablation_by_itself(recipe: Path, tmp_path: Path) -> None:
    path = recipe.with_name("ablation.yaml")
    content = {"recipe": "recipe.yaml", "set": ["steps=3"], "grid": GRID, "seeds": [7, 8]}
    path.write_text(yaml.safe_dump(content))
    runs = ablation.load(path, tmp_path)
    assert [(run.setting, run.config.seed, run.config.steps) for run in runs] == [
        ("plain", 7, 3), ("plain", 8, 3), ("ckd", 7, 3), ("ckd", 8, 3)
    ]  # fmt: skip
    runs = ablation.load(path, tmp_path, grid=["other=steps=5"], seeds=[1], changes=["batch_size=4"])
    assert [(run.setting, run.config.seed, run.config.steps, run.config.batch_size) for run in runs] == [
        ("other", 1, 5, 4)
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([], r"recipe\.yaml: nothing is varied; name settings: --grid"),
        (["style"], "'style' is no setting: write NAME=a.b=v"),
        (["../x=steps=1"], "is no setting"),
        (["a=steps=1", "a=steps=2"], "two settings are named 'a'"),
        (["a=losses.contnet=false"], r"setting a: losses: unknown key 'contnet'; did you mean 'content'"),
        (["a=steps"], "'steps' is no assignment"),
    ],
)
def test_grids_that_say_nothing_sensible(recipe: Path, tmp_path: Path, grid: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ablation.load(recipe, tmp_path, grid=grid)


def test_files_that_are_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent"):
        ablation.load(tmp_path / "absent.yaml", tmp_path)
    path = tmp_path / "a.yaml"
    path.write_text("recipe: absent.yaml\ngird: []\n")
    with pytest.raises(ValueError, match="unknown key 'gird'; did you mean 'grid'"):
        ablation.load(path, tmp_path)
    path.write_text("recipe: absent.yaml\ngrid: [a=steps=1]\n")
    with pytest.raises(FileNotFoundError, match=r"no file .*absent"):
        ablation.load(path, tmp_path)


def test_the_experiment_that_ships(tmp_path: Path) -> None:
    runs = ablation.load(CONFIGS / "ablation_tiny.yaml", tmp_path)
    assert len(runs) == 15
    first = {run.setting: run.config for run in runs if run.config.seed == 1}
    switches = {
        name: (c.losses.teachers, c.losses.style, c.losses.content, c.masking.probability > 0)
        for name, c in first.items()
    }
    assert switches == {
        "none": (False, False, False, False),
        "style": (False, True, False, False),
        "content": (True, False, True, False),
        "both": (True, True, True, False),
        "both+masking": (True, True, True, True),
    }
    assert len({(c.total_steps, c.batch_size, str(c.data), str(c.optimizer)) for c in first.values()}) == 1
    trained = {name for clips in first["both"].data.clips for name in clips.clips}
    held_out = first["both"].validation_data
    assert held_out is not None
    assert not trained & {*held_out.clips[0].clips, *first["both"].validation_clips}


def test_one_seed_has_no_spread() -> None:
    found = Ablation({"a": {1: {"validation.iou": 0.25, "gap.style": 1.5}}, "b": {1: {"validation.iou": 0.5}}})
    assert found.measures == ["validation.iou"]
    assert found.rows() == [["setting", "seeds", "pair IoU"], ["a", "1", "0.250"], ["b", "1", "0.500"]]
    assert json.loads(found.json())["a"]["deviation"] == {"validation.iou": None}
    assert found.figure().axes[0].get_title() == "pair IoU"


def test_mean_and_spread_by_hand() -> None:
    found = Ablation({"a": {seed: {"validation.iou": value} for seed, value in ((1, 0.1), (2, 0.2), (3, 0.6))}})
    assert found.summary("a", "validation.iou") == pytest.approx((0.3, math.sqrt((0.04 + 0.01 + 0.09) / 2)))
    assert found.markdown() == "| setting | seeds | pair IoU |\n| :-- | --: | --: |\n| a | 3 | 0.300 ± 0.265 |\n"
