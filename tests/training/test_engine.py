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
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from duotrack import boxes, cli, configuration
from duotrack.data.augment import CropDraws, Draws, Pair, Processing, process
from duotrack.data.folders import BrokenDatasetError
from duotrack.data.sampling import DataConfig, PairSource
from duotrack.losses import LossOptions, NonFiniteLossError, ckd_loss
from duotrack.model import CoupledNetwork, Elimination, normalize, weights
from duotrack.model.vit import PatchEmbed
from duotrack.tracking import choose_backend
from duotrack.training import checkpoint, engine
from duotrack.training.batches import Batch, collate
from duotrack.training.config import KeepRateConfig, MaskingConfig, OptimizerConfig, TrainingConfig
from duotrack.training.recipe import Precision, build_network, build_optimizer, keep_rate, rate_factor

from ..model.published import FIXTURE, fixture_coupled, fixture_tensors, published_name
from .tiny import LITE, NETWORK, recipe, rows, settings

ELIMINATION = replace(FIXTURE, drop_path=0.0, elimination=Elimination(layers=(2, 4, 6)))
BRANCHES = ("visible", "infrared", "teacher_visible", "teacher_infrared")
FP32 = Precision(TrainingConfig("", DataConfig(""), precision="fp32"), torch.device("cpu"))


def parameters(output: Path) -> dict[str, Tensor]:
    """All that was learned, teachers included."""
    return load_file(output / "coupled" / "model.safetensors")


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
        assert row.keys() == terms | {"step", "total", "style", "content", "gradient", "rate"}
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
    with pytest.raises(FileNotFoundError, match=r"^start: .*nowhere does not exist; expected a weights folder"):
        engine.train(recipe(data, tmp_path, start=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match="lite0 stem"):
        engine.train(recipe(data, tmp_path, start="imagenet"))


def test_an_output_folder_that_cannot_be_written_to(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before the first step."""
    monkeypatch.setattr(engine, "train_step", never)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"output folder cannot be written to .*--set output=DIR"):
        engine.train(recipe(data, tmp_path / "file" / "run"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"0\.0 GB more are needed .*make room"):
        engine.train(recipe(data, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(data: Path, tmp_path: Path, device: str) -> None:
    with pytest.raises(ValueError, match=rf"device: {device} cannot be used .*auto takes what is there"):
        engine.train(recipe(data, tmp_path, device=device))


def test_too_many_pairs_for_the_memory_of_a_gpu(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 2 GB")

    config = recipe(data, Path())
    network, optimizer, precision = engine.prepare(config)
    monkeypatch.setattr(engine, "_forward", full)
    with pytest.raises(MemoryError, match=r"^2 pairs at once are too many .* smaller micro_batch, or recompute=true"):
        engine.train_step(network, optimizer, [numbered_batch(data, config, range(2))], config, 0, precision)


DISK_FULL = """
import resource, sys
from duotrack.cli import main
from duotrack.model.vit import PatchEmbed
from duotrack.tracking import choose_backend
from duotrack.training import checkpoint, engine

save = checkpoint.save
def limited(folder, step, *rest):
    if step == 4:  # no file may grow beyond this, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    save(folder, step, *rest)
checkpoint.save = limited
sys.exit(main(["train", "--config", sys.argv[1]]))
"""


def test_a_full_disk_keeps_the_last_checkpoint(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    network = configuration.plain(NETWORK)
    changes = {"save_every": 2, "validate_every": 6, "model": network}
    file.write_text(yaml.safe_dump({**settings(data, tmp_path / "run"), **changes}))
    run = subprocess.run([sys.executable, "-c", DISK_FULL, str(file)], capture_output=True, text=True, timeout=240)
    assert run.returncode == 1, run.stderr
    assert "the checkpoint of step 4 cannot be written" in run.stderr
    assert "the last one there stays" in run.stderr
    assert "Traceback" not in run.stderr
    left = [path.name for path in (tmp_path / "run").iterdir() if "part" in path.name]
    assert left == []
    optimizer = OptimizerConfig(head_rate=1e-3, branch_rate=3e-4, clip=1.0, schedule="cosine", warmup=2)
    config = recipe(data, tmp_path / "run", optimizer=optimizer)
    network_again, adam, _ = engine.prepare(config)
    assert checkpoint.restore(tmp_path / "run", network_again, adam) == 2


def test_files_that_cannot_be_read_are_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = PairSource.pair

    def with_skips(self: PairSource, index: int) -> Pair:
        return replace(pair(self, index), skipped=("a/broken.jpg",) if index in (1, 6) else ())

    monkeypatch.setattr(PairSource, "pair", with_skips)
    engine.train(recipe(data, tmp_path, steps=4))
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "path": "a/broken.jpg"}, {"step": 4, "path": "a/broken.jpg"}]
    assert "could not read 1 files, such as a/broken.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_data_that_break_stop_the_run_in_their_own_words(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def broken(self: PairSource, index: int) -> Pair:
        raise BrokenDatasetError("LasHeR: 40 of 100 draws hit a broken image")

    monkeypatch.setattr(PairSource, "pair", broken)
    with pytest.raises(ValueError, match=r"^LasHeR: 40 of 100 draws hit a broken image$"):
        engine.train(recipe(data, tmp_path, workers=workers))


def test_a_killed_worker_is_no_riddle(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system kills where memory runs out."""

    def killed(self: PairSource, index: int) -> Pair:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(PairSource, "pair", killed)
    with pytest.raises(OSError, match=r"process that loads pairs was killed, .* set fewer workers, or workers=0"):
        engine.train(recipe(data, tmp_path, workers=1))


BROKEN = """
import sys
from duotrack.cli import main
from duotrack.data.folders import BrokenDatasetError
from duotrack.data.sampling import PairSource

pair = PairSource.pair
def broken(self, index):
    if index < 4:
        return pair(self, index)
    raise BrokenDatasetError("LasHeR: 40 of 100 draws hit a broken image")
PairSource.pair = broken
sys.exit(main(["train", "--config", sys.argv[1]]))
"""


def test_a_run_that_fails_ends(data: Path, tmp_path: Path) -> None:
    """With its workers, though these ignore the signal by which Python would end them."""
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**settings(data, tmp_path / "run"), "model": "debug", "workers": 2}))
    run = subprocess.run([sys.executable, "-c", BROKEN, str(file)], capture_output=True, text=True, timeout=120)
    assert run.returncode == 1
    assert run.stderr.rstrip().endswith("duotrack: error: LasHeR: 40 of 100 draws hit a broken image")


# What is kept, and what is told


def test_what_a_run_says_while_it_trains(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures of each validation, and where it goes on."""
    engine.train(recipe(data, tmp_path))
    told = capsys.readouterr().err
    validations = [row for row in rows(tmp_path) if "validation.iou" in row]
    assert len(validations) == 2
    for row in validations:
        assert f"step {row['step']}: validation.iou {row['validation.iou']:.3f}  validation.above_half" in told
    assert told.endswith("\n")
    engine.train(recipe(data, tmp_path, steps=7))
    assert f"{tmp_path} holds this run after step 6 of 7, and it goes on" in capsys.readouterr().err
    engine.train(recipe(data, tmp_path, steps=7))
    assert "after step 7 of 7: nothing is left to do; --resume never trains anew" in capsys.readouterr().err


def test_the_best_weights_are_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over an interruption: what was best before it stays best."""
    overlaps = {2: 0.3, 4: 0.6, 6: 0.5}
    seen: list[Tensor] = []

    def score(network: CoupledNetwork, *rest: Any) -> dict[str, float]:
        seen.append(network.head.get_parameter("size.4.bias").detach().clone())
        return {"validation.iou": overlaps[2 * len(seen)], "validation.above_half": 0.0}

    monkeypatch.setattr(engine, "score_pairs", score)
    config = recipe(data, tmp_path, validate_every=2, save_every=1)
    with monkeypatch.context() as patch:
        before_step(patch, 5, lambda network: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            engine.train(config)
    engine.train(config)
    record = json.loads((tmp_path / "best" / "training.json").read_text())
    assert record["figures"] == {"step": 4, "validation.iou": 0.6, "validation.above_half": 0.0}
    best = weights.load_coupled(tmp_path / "best")
    assert torch.equal(best.head.get_parameter("size.4.bias"), seen[1])
    assert not torch.equal(best.head.get_parameter("size.4.bias"), seen[2])


def test_a_run_leaves_graphs_and_pictures_and_curves(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the graphs a network tracks without PyTorch; TensorBoard gets what metrics.jsonl gets."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    clips = {"validation_clips": ("walk",), "validation_frames": 4}
    folder = engine.train(recipe(data, tmp_path, pictures=2, tensorboard=True, export=True, **clips))
    assert choose_backend(folder, "auto") == "onnx"
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == ["step_000004.png", "step_000006.png"]
    assert cv2.imread(str(tmp_path / "pictures" / "step_000006.png")) is not None
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name, tag in {"total": "total", "fused.l1": "fused/l1", "tracking.auc": "tracking/auc"}.items():
        told = {row["step"]: row[name] for row in rows(tmp_path) if name in row}
        assert {event.step: event.value for event in events.Scalars(tag)} == pytest.approx(told)
        assert told


def test_a_network_that_cannot_be_exported_is_left_all_the_same(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elimination = Elimination(layers=(1,), keep=0.7, template_tokens="GT_BOX")
    model = replace(NETWORK, elimination=elimination)
    folder = engine.train(recipe(data, tmp_path, model=model, steps=1, export=True))
    assert choose_backend(folder, "auto") == "torch"
    assert "no ONNX graphs were written" in capsys.readouterr().err


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


def test_frozen_parts_stay_as_they_are(data: Path, start: Path, tmp_path: Path) -> None:
    """BatchNorm's running statistics of a frozen head too."""
    frozen = ("visible", "teacher_head_infrared")
    engine.train(recipe(data, tmp_path, model=LITE, start=str(start), steps=2, frozen=frozen))
    found = changes(start, tmp_path)
    assert {part for part, change in found.items() if change == 0} == {*frozen, "stem"}
    before, after = load_file(start / "model.safetensors"), parameters(tmp_path)
    still = {name.split(".")[0] for name in before if "running_mean" in name and torch.equal(before[name], after[name])}
    assert still == {"teacher_head_infrared"}


def test_a_frozen_part_that_does_not_exist(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no part teacher; there are .*teacher_visible, visible"):
        engine.train(recipe(data, tmp_path, frozen=("teacher",)))


def test_teachers_learn_at_a_rate_of_their_own(data: Path, start: Path, tmp_path: Path) -> None:
    optimizer = OptimizerConfig(head_rate=1e-2, branch_rate=1e-3, teacher_rate=1e-4, weight_decay=0.0)
    engine.train(recipe(data, tmp_path, model=LITE, start=str(start), steps=1, optimizer=optimizer))
    found = changes(start, tmp_path)
    assert found["visible"] == pytest.approx(1e-3, rel=0.02)
    assert found["teacher_visible"] == pytest.approx(1e-4, rel=0.02)


@pytest.mark.parametrize(("teachers", "branches"), [(True, 4), (False, 2)])
def test_teachers_run_only_where_they_count(
    data: Path, monkeypatch: pytest.MonkeyPatch, teachers: bool, branches: int
) -> None:
    config = recipe(data, Path(), losses=LossOptions(teachers=teachers, content=teachers))
    network, optimizer, precision = engine.prepare(config)
    ran = []
    for module in network.modules():
        if isinstance(module, PatchEmbed):
            module.register_forward_hook(lambda module, *rest: ran.append(module))
    engine.train_step(network, optimizer, [numbered_batch(data, config, range(2))], config, 0, precision)
    assert len(set(ran)) == branches


def test_elimination_sets_in_over_epochs(data: Path) -> None:
    """Method 4: nothing is dropped before ``start``, then half a cosine down to the model's rate."""
    config = recipe(data, Path(), keep_rate=KeepRateConfig(start=1, warmup=2), pairs_per_epoch=20, batch_size=10)
    assert [keep_rate(config, step) for step in (0, 1)] == [1.0, 1.0]
    assert keep_rate(config, 2) == pytest.approx(1.0)
    assert keep_rate(config, 4) == pytest.approx(0.85)
    assert [keep_rate(config, step) for step in (6, 60)] == [None, None]  # each layer's own
    assert keep_rate(recipe(data, Path(), model=replace(NETWORK, elimination=None)), 0) is None


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
        # A tenth once 80 of the 100 steps are done.
        ("step", {0: 0.1, 9: 1.0, 10: 1.0, 79: 1.0, 80: 0.1, 99: 0.1}),
        # After the warm-up half a cosine from 1 down to 0 at the step after the last one.
        ("cosine", {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 40: 0.75, 55: 0.5, 70: 0.25, 99: 0.000304586490452}),
    ],
)
def test_the_learning_rate_over_the_run(schedule: Any, expected: dict[int, float]) -> None:
    config = TrainingConfig("", DataConfig(""), steps=100, optimizer=OptimizerConfig(schedule=schedule, warmup=10))
    assert {step: rate_factor(config, step) for step in expected} == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_the_whole_rate() -> None:
    config = TrainingConfig("", DataConfig(""), steps=100, optimizer=OptimizerConfig(schedule="cosine", warmup=0))
    assert [rate_factor(config, step) for step in (0, 50)] == pytest.approx([1.0, 0.5])


# One step


PUBLISHED_STEPS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_mask": {"masking": MaskingConfig(probability=0)},
    "elimination": {"masking": MaskingConfig(probability=0), "model": ELIMINATION},
    "elimination_and_mask": {"model": ELIMINATION},
    "elimination_heads_only": {"masking": MaskingConfig(probability=0), "model": ELIMINATION, "frozen": BRANCHES},
}
"""Entries of ``train_values.json``, and what a recipe changes for them; the last is the second stage."""


@pytest.mark.parametrize("recompute", [False, True], ids=["", "recomputed"])
@pytest.mark.parametrize("entry", PUBLISHED_STEPS)
def test_the_published_training_step(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, recompute: bool
) -> None:
    """Losses and gradient of ``train_values.json``; then the update, by the equations of AdamW."""
    folder = shared / "fixtures" / "network"
    known, images = fixture_tensors(folder, "train_expected"), fixture_tensors(folder, "inputs")
    expected = json.loads((folder / "train_values.json").read_text())[entry]
    start = weights.save(tmp_path, fixture_coupled(folder))
    settings = {"model": replace(FIXTURE, drop_path=0.0), "batch_size": 2, "precision": "fp32", "recompute": recompute}
    config = TrainingConfig("", DataConfig(""), start=str(start), **{**settings, **PUBLISHED_STEPS[entry]})
    network, optimizer, precision = engine.prepare(replace(config, device="cpu"))
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
    batch = collate(pairs, 16)
    torch.testing.assert_close(batch.target.heatmap, known["heat_map"], atol=1e-6, rtol=0)
    monkeypatch.setattr(engine, "search_mask", lambda *sizes: known["keep_mask"])  # there drawn by another generator
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    losses, norm = engine.train_step(network, optimizer, [batch], config, 0, precision)

    assert losses.total.item() == pytest.approx(expected["total"], rel=1e-5)
    for ours, theirs in {"fused": "fused", "teacher_visible": "teacher_rgb", "teacher_infrared": "teacher_tir"}.items():
        for term in ("giou", "l1", "focal"):
            assert losses.terms[f"{ours}.{term}"].item() == pytest.approx(expected[theirs][term], rel=1e-5)
    assert losses.terms["style"].item() == pytest.approx(expected["style"], rel=1e-5)
    assert losses.terms["content"].item() == pytest.approx(expected["content"], rel=1e-5)
    assert norm == pytest.approx(expected["grad_norm_total"], rel=1e-4)

    moved = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    assert {name.split(".")[0] for name in moved} == set(dict(network.named_children())) - set(config.frozen)
    if entry != "default":
        return
    # Clipped to a norm of 0.1, then p - rate * (decay * p + g / (|g| + 1e-8)): both moments are those of one gradient.
    compared = 0
    for name, parameter in network.named_parameters():
        gradient = known.get(f"default.grad.{published_name(name)}")
        if gradient is None:
            continue
        rate = 5e-5 if "head" in name else 5e-6
        old = before[name][: len(gradient)].double()
        clipped = gradient.double() * 0.1 / expected["grad_norm_total"]
        step = rate * (1e-4 * old + clipped / (clipped.abs() + 1e-8))
        clear = clipped.abs() > 1e-6  # where the sign of the gradient is beyond doubt
        assert clear.any()
        change = old - parameter.detach()[: len(gradient)].double()
        torch.testing.assert_close(change[clear], step[clear], rtol=0.02, atol=2e-7)
        compared += 1
    assert compared == 9


def image(path: Path) -> npt.NDArray[np.uint8]:
    loaded = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert loaded is not None
    return loaded.astype(np.uint8)


def test_the_published_samples_reach_the_network(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``fixtures/preprocess``: what the training step feeds the network, four samples at once, and what it expects."""
    folder = shared / "fixtures" / "preprocess"
    fixture = json.loads((folder / "expected.json").read_text())["training_samples"]
    pixels = load_file(folder / "expected.safetensors")
    (template, search) = (
        (image(folder / fixture[f"{part}_rgb"]), image(folder / fixture[f"{part}_tir"]))
        for part in ("template", "search")
    )
    where = np.array(fixture["template_box"]), np.array(fixture["search_box"])
    samples = fixture["samples"][:4]
    pairs = []
    for sample in samples:
        (_, grayscale), (_, flip), *rest = sample["draws_in_order"]
        crops = [
            CropDraws(tuple(size), tuple(shift), brightness, mirror)
            for (_, size), (_, shift), (_, brightness, *_), (_, mirror) in (rest[:4], rest[4:])
        ]
        pair = process(template, search, *where, Draws(grayscale, flip, *crops), Processing())
        assert pair is not None
        pairs.append(pair)
    model = replace(NETWORK, template_size=128, search_size=256)
    config = TrainingConfig("", DataConfig(""), model=model, batch_size=4, precision="fp32", device="cpu")
    network, optimizer, precision = engine.prepare(config)
    seen: list[tuple[Tensor, ...]] = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given))
    targets: list[Any] = []

    def recorded(output: Any, target: Any, *rest: Any) -> Any:
        targets.append(target)
        return ckd_loss(output, target, *rest)

    monkeypatch.setattr(engine, "ckd_loss", recorded)
    engine.train_step(network, optimizer, [collate(pairs, 16)], config, 0, precision)
    ((*images, _),), (target,) = seen, targets
    for part, given in zip(("template", "search"), images, strict=True):
        for modality, camera in enumerate(("rgb", "tir")):
            expected = torch.stack([pixels[f"train_{i}.{part}_{camera}_every_16th_pixel"] for i in range(4)])
            torch.testing.assert_close(given[modality, :, :, ::16, ::16], expected.float(), atol=1e-5, rtol=0)
            sums = torch.tensor([sample["sums"][f"{part}_{camera}"] for sample in samples], dtype=torch.float64)
            assert ((given[modality].double().sum((1, 2, 3)) - sums).abs() < 1e-5 * given[modality, 0].numel()).all()
    expected = torch.tensor([sample["search_anno"] for sample in samples])
    torch.testing.assert_close(target.box, expected, atol=1e-6, rtol=0)


def numbered_batch(data: Path, config: TrainingConfig, numbers: range) -> Batch:
    source = PairSource(config.data, config.network, config.crops, seed=config.seed)
    return collate([source.pair(number) for number in numbers], config.network.search_grid)


def after_a_step(data: Path, **changes: Any) -> tuple[dict[str, Tensor], dict[str, float], float]:
    """The gradients of one step on four pairs, the losses, and the gradient's norm before clipping."""
    config = recipe(data, Path(), batch_size=4, **changes)
    network, optimizer, precision = engine.prepare(config)
    work = [numbered_batch(data, config, part) for part in engine.parts_of(config, 0)]
    norm = math.nan
    while not math.isfinite(norm):  # fp16 tries out its scale, and leaves out the steps that overflow
        losses, norm = engine.train_step(network, optimizer, work, config, 0, precision)
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return gradients, {name: term.item() for name, term in losses.terms.items()}, norm


@pytest.mark.parametrize("box_cells", ["peak", "center"])
def test_a_batch_in_parts_is_the_batch(data: Path, box_cells: Any) -> None:
    """Where nothing looks at the parts (BatchNorm) or is drawn for them, however many targets each part holds."""
    config = {
        "frozen": ("head", "teacher_head_visible", "teacher_head_infrared"),
        "masking": MaskingConfig(probability=0),
        "model": replace(NETWORK, drop_path=0.0),
        "losses": LossOptions(box_cells=box_cells),
    }
    whole, terms, norm = after_a_step(data, **config)
    for micro_batch in (1, 2):
        parts, terms_of_parts, norm_of_parts = after_a_step(data, micro_batch=micro_batch, **config)
        assert terms_of_parts == pytest.approx(terms, rel=1e-5)
        assert norm_of_parts == pytest.approx(norm, rel=1e-4)
        for name, gradient in whole.items():
            torch.testing.assert_close(parts[name], gradient, atol=1e-5, rtol=1e-4)


def test_recomputing_changes_nothing(data: Path) -> None:
    """Stochastic depth draws the same numbers again."""
    plain, terms, _ = after_a_step(data)
    again, same_terms, _ = after_a_step(data, recompute=True)
    assert terms == same_terms
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("fp16", 0.02)])
def test_half_precision_is_close(data: Path, precision: Any, tolerance: float) -> None:
    """Where no choice hangs on rounding: no elimination, and boxes read at the true centre instead of the peak."""
    smooth = {"model": replace(NETWORK, elimination=None), "losses": LossOptions(box_cells="center")}
    _, terms, norm = after_a_step(data, **smooth)
    _, close, close_norm = after_a_step(data, precision=precision, **smooth)
    assert close != terms
    assert close == pytest.approx(terms, rel=tolerance, abs=tolerance)
    assert close_norm == pytest.approx(norm, rel=2 * tolerance)


def test_a_gradient_that_overflows_in_fp16_is_left_out(data: Path, tmp_path: Path) -> None:
    """The step changes nothing but the scale of the loss, which falls; the checkpoint keeps it."""
    config = recipe(data, tmp_path, precision="fp16")
    network, optimizer, precision = engine.prepare(config)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    _, norm = engine.train_step(network, optimizer, [numbered_batch(data, config, range(2))], config, 0, precision)
    assert not math.isfinite(norm)
    assert precision.scaler.get_scale() == 2.0**119
    assert all(torch.equal(parameter, before[name]) for name, parameter in network.named_parameters())
    checkpoint.save(tmp_path, 1, network, optimizer, precision.scaler)
    again = engine.prepare(config)
    checkpoint.restore(tmp_path, again[0], again[1], again[2].scaler)
    assert again[2].scaler.get_scale() == 2.0**119


def test_collate_puts_modalities_first_and_leaves_absent_targets_out() -> None:
    def pair(level: int, present: bool) -> Pair:
        template, search = (np.full((2, side, side, 3), level, np.uint8) for side in (64, 128))
        places = np.array([[0.2, 0.15, 0.1, 0.1], [0.4, 0.3, 0.2, 0.2]], np.float32)
        return Pair(template, search, places[0], places[1], np.array([0.9, 1.1], np.float32), present)

    batch = collate([pair(10, True), pair(20, False), pair(30, True)], 8)
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
    batch = collate([PairSource(config.data, NETWORK, config.crops, seed=0).pair(i) for i in range(2)], 8)

    def total(brightness: Tensor) -> float:
        torch.manual_seed(0)
        network = CoupledNetwork(NETWORK)
        bright = replace(batch, brightness=brightness)
        return engine.train_step(network, build_optimizer(network, config), [bright], config, 0, FP32)[0].total.item()

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
    batch = collate([pair, pair], 8)
    torch.manual_seed(0)
    network = build_network(config)
    optimizer = build_optimizer(network, config)
    fused = []
    for step in range(config.total_steps):
        losses, _ = engine.train_step(network, optimizer, [batch], config, step, FP32)
        fused.append(sum(losses.terms[f"fused.{term}"].item() for term in ("giou", "l1", "focal")))
    assert fused[-1] < 0.1 * fused[0]
    network.eval()
    with torch.no_grad():
        found = network(normalize(batch.template), normalize(batch.search)).box_cxcywh[:1]
    assert boxes.iou(boxes.cxcywh_to_xyxy(found), boxes.xywh_to_xyxy(batch.target.box[:1])).item() > 0.5
