"""Training on tiny data: a stopped run goes on to the bit, and what goes wrong is said and costs nothing."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from duotrack import boxes, cli, configuration
from duotrack.data.augment import Pair
from duotrack.data.sampling import DataConfig, PairSource
from duotrack.losses import LossOptions, NonFiniteLossError
from duotrack.model import CoupledNetwork, normalize, weights
from duotrack.training import checkpoint, engine
from duotrack.training.config import MaskingConfig, OptimizerConfig, TrainingConfig

from ..model.published import fixture_coupled, fixture_tensors, published_name
from .tiny import LITE, NETWORK, recipe, settings

FP32 = torch.autocast("cpu", enabled=False)


def parameters(output: Path) -> dict[str, Tensor]:
    """All that was learned, teachers included."""
    return load_file(output / "coupled" / "model.safetensors")


def rows(output: Path) -> list[dict[str, float]]:
    """The metrics, without what depends on the machine's speed."""
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "pairs/s"} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    assert rows(one) == rows(other)
    ours, theirs = parameters(one), parameters(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of six steps in one go."""
    output = tmp_path_factory.mktemp("uninterrupted")
    engine.train(recipe(data, output))
    return output


def before_step(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[CoupledNetwork], None]) -> None:
    """Does something to the network (or the process) before a step, counted from 1."""
    original = engine.train_step

    def train_step(network: CoupledNetwork, optimizer: Any, batch: Any, config: Any, step: int, *rest: Any) -> Any:
        if step + 1 == number:
            action(network)
        return original(network, optimizer, batch, config, step, *rest)

    monkeypatch.setattr(engine, "train_step", train_step)


# What a run leaves


def test_a_run_leaves_weights_that_load_and_the_recipe(data: Path, uninterrupted: Path) -> None:
    config = recipe(data, uninterrupted)
    students, coupled = weights.load(uninterrupted / "weights"), weights.load_coupled(uninterrupted / "coupled")
    assert students.config == coupled.config == NETWORK
    state = coupled.state_dict()
    for name, tensor in students.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    for folder in ("weights", "coupled"):
        text = (uninterrupted / folder / "training.json").read_text()
        assert str(data) not in text  # where things lay on this machine is nobody's business
        assert str(uninterrupted) not in text
        record = json.loads(text)
        places = [f"output={uninterrupted}", f"data.root={data}", f"data.cache={data / 'cache'}"]
        assert configuration.read(TrainingConfig, configuration.override(record["recipe"], places), folder) == config
        assert record["figures"] == {name: value for name, value in rows(uninterrupted)[-1].items() if name != "step"}
        assert record["versions"]["torch"] == torch.__version__
    with pytest.raises(ValueError, match="without teachers"):
        weights.load_coupled(uninterrupted / "weights")


def test_crop_settings_go_with_the_weights(data: Path, tmp_path: Path) -> None:
    from duotrack.crops import CropSettings
    from duotrack.pretrained import read_config

    crops = CropSettings(2.5, 5.0, "mean", 2.0)
    assert read_config(engine.train(recipe(data, tmp_path, crops=crops, steps=1))).crops == crops


def test_metrics_have_every_term_of_every_step(uninterrupted: Path) -> None:
    heads, weight = ("fused", "teacher_visible", "teacher_infrared"), {"giou": 2, "l1": 5, "focal": 1}
    terms = {f"{head}.{term}" for head in heads for term in weight}
    training = [row for row in rows(uninterrupted) if "total" in row]
    assert [row["step"] for row in training] == [1, 2, 3, 4, 5, 6]
    for row in training:
        assert row.keys() == terms | {"step", "total", "style", "content", "gradient"}
        task = sum(weight[term] * row[f"{head}.{term}"] for head in heads for term in weight)
        assert row["total"] == pytest.approx(task + 0.01 * row["style"] + 0.1 * row["content"], rel=1e-4)
    validation = [row for row in rows(uninterrupted) if "validation.iou" in row]
    assert [row["step"] for row in validation] == [4, 6]  # every fourth step, and at the end
    for row in validation:
        assert 0 <= row["validation.above_half"] <= 1
        assert 0 <= row["validation.iou"] <= 1


# Exactness


def test_workers_change_nothing(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    engine.train(recipe(data, tmp_path, workers=1))
    assert_same_run(tmp_path, uninterrupted)


def test_another_seed_changes_everything(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    engine.train(recipe(data, tmp_path, seed=4))
    totals = [{row["total"] for row in rows(output) if "total" in row} for output in (tmp_path, uninterrupted)]
    assert not totals[0] & totals[1]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_to_the_bit(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, number: int
) -> None:
    config = recipe(data, tmp_path, workers=workers)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        before_step(patch, 3, lambda network: signal.raise_signal(number))
        with pytest.raises(KeyboardInterrupt, match="stopped after step 3; run the same command again"):
            engine.train(config)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert not (tmp_path / "weights").exists()
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]
    engine.train(config)
    assert_same_run(tmp_path, uninterrupted)


def test_a_killed_run_goes_on_from_its_last_checkpoint(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps after the checkpoint are done again, and stand in the metrics once."""

    class Killed(BaseException):
        pass

    def die(network: CoupledNetwork) -> None:
        raise Killed

    config = recipe(data, tmp_path, save_every=2)
    with monkeypatch.context() as patch:
        before_step(patch, 6, die)
        with pytest.raises(Killed):
            engine.train(config)
    assert rows(tmp_path)[-1]["step"] == 5
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "tot')  # a kill may come while a row is written
    steps: list[int] = []
    with monkeypatch.context() as patch:
        for number in range(1, 7):
            before_step(patch, number, lambda network, number=number: steps.append(number))  # type: ignore[misc]
        engine.train(config)
    assert steps == [5, 6]
    assert_same_run(tmp_path, uninterrupted)


def never(*arguments: Any) -> None:
    raise AssertionError("a step was done again")


def test_a_finished_run_stays_as_it_is(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipe(data, tmp_path)
    engine.train(config)
    (tmp_path / "weights" / "model.onnx").write_bytes(b"made from the weights since")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(engine, "train_step", never)
    assert engine.train(config) == tmp_path / "weights"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("lost", ["weights/config.json", "weights", "coupled and weights"])
def test_a_run_killed_while_it_leaves_its_weights(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Its steps are done; what it leaves has still to be written, with the figures of the validation."""
    config = recipe(data, tmp_path)
    engine.train(config)
    files = [*tmp_path.glob("weights/*"), *(tmp_path.glob("coupled/*") if "coupled" in lost else ())]
    for path in [tmp_path / lost] if lost.endswith(".json") else files:
        path.unlink()
    monkeypatch.setattr(engine, "train_step", never)
    assert weights.load(engine.train(config)).config == NETWORK
    assert_same_run(tmp_path, uninterrupted)
    records = [(output / "weights" / "training.json").read_text() for output in (tmp_path, uninterrupted)]
    figures = [json.loads(record)["figures"] for record in records]
    assert figures[0] == figures[1] != {}


def test_to_start_anew_forgets_the_old_run(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    engine.train(recipe(data, tmp_path, seed=4, steps=2))
    engine.train(recipe(data, tmp_path), resume=False)
    assert_same_run(tmp_path, uninterrupted)


def test_sigterm_to_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a batch system ends a job: every process of the group gets the signal, the workers too."""
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**settings(data, stopped), "model": "debug", "workers": 1, "steps": 30}))
    arguments = ["train", "--config", str(file)]
    command = [sys.executable, "-c", "import sys; from duotrack.cli import main; sys.exit(main())", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        metrics, deadline = stopped / "metrics.jsonl", time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if metrics.exists() and metrics.stat().st_size:
                break
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "run the same command again to go on" in stderr
    done = rows(stopped)[-1]["step"]
    assert 1 <= done < 30
    assert not (stopped / "weights").exists()

    assert cli.main(arguments) == 0
    assert cli.main([*arguments, "--set", f"output={whole}"]) == 0
    assert capsys.readouterr().out == f"{stopped / 'weights'}\n{whole / 'weights'}\n"
    assert_same_run(stopped, whole)


# What goes wrong


def spoil(network: CoupledNetwork) -> None:
    with torch.no_grad():
        network.head.get_parameter("size.0.0.weight")[0, 0, 0, 0] = torch.nan


def test_a_loss_that_is_not_finite_stops_the_run(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe(data, tmp_path, save_every=2)
    with monkeypatch.context() as patch:
        before_step(patch, 5, spoil)
        with pytest.raises(NonFiniteLossError, match=r"step 5 \(pairs 8\.\.9 of seed 3\): .*fused\.giou") as caught:
            engine.train(config)
    assert "style=" in str(caught.value)  # each term is told
    assert not (tmp_path / "weights").exists()
    engine.train(config)  # from the checkpoint of step 4, which is sound
    assert_same_run(tmp_path, uninterrupted)


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_update(
    data: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the checkpoint of this very step would hold a network of NaN, with every loss so far finite."""

    def explode(network: CoupledNetwork) -> None:
        network.head.get_parameter("size.0.0.weight").register_hook(lambda gradient: gradient * math.inf)

    config = recipe(data, tmp_path, save_every=2)
    with monkeypatch.context() as patch:
        before_step(patch, 4, explode)
        with pytest.raises(NonFiniteLossError, match=r"step 4 \(pairs 6\.\.7 of seed 3\): the gradient"):
            engine.train(config)
    engine.train(config)
    assert_same_run(tmp_path, uninterrupted)


def test_a_non_finite_loss_is_no_traceback_for_the_user(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**settings(data, tmp_path / "out"), "model": "debug"}))
    before_step(monkeypatch, 2, spoil)
    assert cli.main(["train", "--config", str(file)]) == 1
    assert "error: step 2 (pairs 2..3 of seed 3): non-finite loss" in capsys.readouterr().err


def test_the_checkpoint_of_another_network(data: Path, tmp_path: Path) -> None:
    engine.train(recipe(data, tmp_path, steps=1))
    with pytest.raises(ValueError, match="another network than the recipe") as caught:
        engine.train(recipe(data, tmp_path, model=replace(NETWORK, width=48)))
    assert str(tmp_path / checkpoint.NAME) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": OptimizerConfig(head_rate=1e-3, branch_rate=1e-3)},
        {"losses": LossOptions(teachers=False, content=False)},
    ],
)
def test_the_checkpoint_of_other_learning_rates(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Moments are never given to another parameter than the one they were gathered for."""
    engine.train(recipe(data, tmp_path, steps=1))
    with pytest.raises(ValueError, match="other groups of learning rates") as caught:
        engine.train(recipe(data, tmp_path, **changes))
    assert str(tmp_path / checkpoint.NAME) in str(caught.value)


def test_start_weights_of_another_network(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    start = str(uninterrupted / "coupled")
    with pytest.raises(ValueError, match="another network") as caught:
        engine.train(recipe(data, tmp_path, start=start, model=replace(NETWORK, width=48)))
    assert start in str(caught.value)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        engine.train(recipe(data, tmp_path, start=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="lite0 stem"):
        engine.train(recipe(data, tmp_path, start="imagenet"))


# What is trained, and how fast


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Start weights with a stem."""
    torch.manual_seed(0)
    return weights.save(tmp_path_factory.mktemp("start"), CoupledNetwork(LITE))


def changes(start: Path, output: Path) -> dict[str, float]:
    """The largest change of a parameter in each part of the network."""
    before, after = load_file(start / "model.safetensors"), parameters(output)
    largest: dict[str, float] = {}
    for name, tensor in before.items():
        if "running_" not in name and "num_batches" not in name:
            part = name.split(".")[0]
            largest[part] = max(largest.get(part, 0.0), (after[name] - tensor).abs().max().item())
    return largest


STUDENTS = {"visible", "infrared", "head"}
TEACHERS = {"teacher_visible", "teacher_infrared", "teacher_head_visible", "teacher_head_infrared"}


@pytest.mark.parametrize("stem_rate", [0.0, 2e-4])
def test_each_part_learns_at_its_rate(data: Path, start: Path, tmp_path: Path, stem_rate: float) -> None:
    """AdamW's first step moves a parameter by the learning rate, whatever its gradient, if that is not tiny."""
    optimizer = OptimizerConfig(head_rate=1e-2, branch_rate=1e-3, stem_rate=stem_rate, weight_decay=0.0, warmup=4)
    engine.train(recipe(data, tmp_path, model=LITE, start=str(start), steps=1, optimizer=optimizer))
    found = changes(start, tmp_path)
    assert found.keys() == STUDENTS | TEACHERS | {"stem"}
    first = 1 / 4  # of the warm-up
    for part, change in found.items():
        rate = {"stem": stem_rate}.get(part, 1e-2 if "head" in part else 1e-3)
        assert change == pytest.approx(first * rate, rel=0.02), part
    if stem_rate == 0:
        assert found["stem"] == 0


def test_without_teachers_the_students_learn_alone(data: Path, start: Path, tmp_path: Path) -> None:
    losses = LossOptions(teachers=False, content=False)
    engine.train(recipe(data, tmp_path, model=LITE, start=str(start), steps=2, losses=losses))
    found = changes(start, tmp_path)
    assert all(found[part] > 0 for part in STUDENTS)
    assert all(found[part] == 0 for part in TEACHERS)
    training = [row for row in rows(tmp_path) if "total" in row]
    assert all(not any(name.startswith("teacher") or name == "content" for name in row) for row in training)


def test_shared_students_stay_one(data: Path, tmp_path: Path) -> None:
    folder = engine.train(recipe(data, tmp_path, model=replace(NETWORK, shared_students=True), steps=2))
    network = weights.load(folder)
    assert network.visible is network.infrared


def test_a_patch_stem_of_another_stride(data: Path, tmp_path: Path) -> None:
    model = replace(NETWORK, stride=32, elimination=None)
    assert weights.load(engine.train(recipe(data, tmp_path, model=model, steps=1))).config == model


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 55: 1.0, 99: 1.0}),
        # After the warm-up half a cosine from 1 down to 0 at the step after the last one.
        ("cosine", {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 40: 0.75, 55: 0.5, 70: 0.25, 99: 0.000304586490452}),
    ],
)
def test_the_learning_rate_over_the_run(schedule: Any, expected: dict[int, float]) -> None:
    config = TrainingConfig("", DataConfig(""), steps=100, optimizer=OptimizerConfig(schedule=schedule, warmup=10))
    assert {step: engine._rate_factor(config, step) for step in expected} == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_the_whole_rate() -> None:
    config = TrainingConfig("", DataConfig(""), steps=100, optimizer=OptimizerConfig(schedule="cosine", warmup=0))
    assert [engine._rate_factor(config, step) for step in (0, 50)] == pytest.approx([1.0, 0.5])


# One step


def test_the_published_training_step(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and gradient of ``train_values.json``; then the update, by the equations of AdamW."""
    folder = shared / "fixtures" / "network"
    known, images = fixture_tensors(folder, "train_expected"), fixture_tensors(folder, "inputs")
    expected = json.loads((folder / "train_values.json").read_text())["default"]
    network = fixture_coupled(folder)
    config = TrainingConfig("", DataConfig(""), model=network.config, batch_size=2)
    pairs = [
        Pair(
            template=np.stack([images[f"template_{camera}"][i].numpy() for camera in ("rgb", "tir")]),
            search=np.stack([images[f"search_{camera}"][i].numpy() for camera in ("rgb", "tir")]),
            template_box=np.array([0.25, 0.25, 0.5, 0.5], np.float32),
            search_box=known["gt_boxes_xywh"][i].numpy(),
            brightness=np.ones(2, np.float32),
        )
        for i in range(2)
    ]
    batch = engine.collate(pairs, 16)
    torch.testing.assert_close(batch.target.heatmap, known["heat_map"], atol=1e-6, rtol=0)
    monkeypatch.setattr(engine, "search_mask", lambda *sizes: known["keep_mask"])  # there drawn by another generator
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    losses, norm = engine.train_step(network, engine._optimizer(network, config), batch, config, 0, FP32)

    assert losses.total.item() == pytest.approx(expected["total"], rel=1e-5)
    for ours, theirs in {"fused": "fused", "teacher_visible": "teacher_rgb", "teacher_infrared": "teacher_tir"}.items():
        for term in ("giou", "l1", "focal"):
            assert losses.terms[f"{ours}.{term}"].item() == pytest.approx(expected[theirs][term], rel=1e-5)
    assert losses.terms["style"].item() == pytest.approx(expected["style"], rel=1e-5)
    assert losses.terms["content"].item() == pytest.approx(expected["content"], rel=1e-5)
    assert norm == pytest.approx(expected["grad_norm_total"], rel=1e-4)

    # Clipped to a norm of 0.1, then p - rate * (decay * p + g / (|g| + 1e-8)): both moments are those of one gradient.
    compared = 0
    for name, parameter in network.named_parameters():
        gradient = known.get(f"default.grad.{published_name(name)}")
        if gradient is None:
            continue
        rate = 5e-5 if "head" in name else 5e-6
        old = before[name][: len(gradient)].double()
        clipped = gradient.double() * 0.1 / expected["grad_norm_total"]
        moved = rate * (1e-4 * old + clipped / (clipped.abs() + 1e-8))
        clear = clipped.abs() > 1e-6  # where the sign of the gradient is beyond doubt
        assert clear.any()
        change = old - parameter.detach()[: len(gradient)].double()
        torch.testing.assert_close(change[clear], moved[clear], rtol=0.02, atol=2e-7)
        compared += 1
    assert compared == 9


def test_collate_puts_modalities_first_and_leaves_absent_targets_out() -> None:
    def pair(level: int, present: bool) -> Pair:
        template, search = (np.full((2, side, side, 3), level, np.uint8) for side in (64, 128))
        places = np.array([[0.2, 0.15, 0.1, 0.1], [0.4, 0.3, 0.2, 0.2]], np.float32)
        return Pair(template, search, places[0], places[1], np.array([0.9, 1.1], np.float32), present)

    batch = engine.collate([pair(10, True), pair(20, False), pair(30, True)], 8)
    assert batch.template.shape == (2, 3, 64, 64, 3)
    assert batch.search.shape == (2, 3, 128, 128, 3)
    assert batch.search.dtype == torch.uint8
    assert batch.search[:, :, 0, 0, 0].tolist() == [[10, 20, 30]] * 2
    assert batch.target.heatmap.shape == (3, 1, 8, 8)
    assert batch.target.heatmap.flatten(1).max(1).values.tolist() == [1, 0, 1]
    assert batch.target.heatmap[0, 0, 3, 4] == 1  # the centre, (0.5, 0.4) of 8 cells, rounded
    assert batch.target.present.tolist() == [True, False, True]
    torch.testing.assert_close(batch.template_box[0], torch.tensor([0.2, 0.15, 0.1, 0.1]))
    torch.testing.assert_close(batch.brightness, torch.tensor([[0.9, 1.1]] * 3))


def test_brightness_changes_the_step(data: Path) -> None:
    """The factors of template and search reach the network: white stays white, grey changes."""
    config = recipe(data, Path())
    batch = engine.collate([PairSource(config.data, NETWORK, config.crops, seed=0).pair(i) for i in range(2)], 8)

    def total(brightness: Tensor) -> float:
        torch.manual_seed(0)
        network = CoupledNetwork(NETWORK)
        bright = replace(batch, brightness=brightness)
        return engine.train_step(network, engine._optimizer(network, config), bright, config, 0, FP32)[0].total.item()

    plain = torch.ones(2, 2)
    template, search = plain.clone(), plain.clone()
    template[:, 0], search[:, 1] = 0.8, 0.8
    assert len({total(plain), total(template), total(search)}) == 3
    assert total(plain) == total(plain)


@pytest.mark.slow
def test_one_pair_is_learned_by_heart() -> None:
    config = TrainingConfig(
        "",
        DataConfig(""),
        model="debug",
        losses=LossOptions(box_cells="center"),
        optimizer=OptimizerConfig(head_rate=2e-2, branch_rate=2e-2, clip=1.0, warmup=10),
        masking=MaskingConfig(probability=0.0),
        steps=100,
    )
    random = np.random.default_rng(0)
    patch = random.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    crops = [np.full((2, side, side, 3), 100, np.uint8) for side in (64, 128)]
    crops[0][:, 16:48, 16:48] = patch
    crops[1][:, 36:68, 70:102] = patch
    places = np.array([[0.25, 0.25, 0.5, 0.5], [70 / 128, 36 / 128, 0.25, 0.25]], np.float32)
    pair = Pair(crops[0], crops[1], places[0], places[1], np.ones(2, np.float32))
    batch = engine.collate([pair, pair], 8)
    torch.manual_seed(0)
    network = engine._network(config)
    optimizer = engine._optimizer(network, config)
    fused = []
    for step in range(config.steps):
        losses, _ = engine.train_step(network, optimizer, batch, config, step, FP32)
        fused.append(sum(losses.terms[f"fused.{term}"].item() for term in ("giou", "l1", "focal")))
    assert fused[-1] < 0.1 * fused[0]
    network.eval()
    with torch.no_grad():
        found = network(normalize(batch.template), normalize(batch.search)).box_cxcywh[:1]
    assert boxes.iou(boxes.cxcywh_to_xyxy(found), boxes.xywh_to_xyxy(batch.target.box[:1])).item() > 0.5
