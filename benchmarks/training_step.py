"""Where the time of a training step goes, and the coupled step beside the same step written as published.

    python benchmarks/training_step.py [--steps N] [--rounds N] [--data ROOT] [--workers 1 2] [--pairs N] [--threads N]
                                       [--device cuda] [--precision bf16] [--compile] [--json FILE]

First table: `configs/tiny_stage1.yaml` as the engine runs it, on pairs of the data folder ROOT, or of two sequences of
640 x 480 pixels that are made up on disk. Means over the steps, which add up; `waiting` is the share of the time in
which the step waited for the loader. Losses count to forward, clipping to update.

Second table: `configs/ckd_base_stage1.yaml` and `ckd_base_stage2.yaml`, `--pairs` of them at once. `as published` is
`plain_step.py`: explicit attention, every branch, nothing left out. Both are the same weights and take turns within one
run; the ratio is the median of those within a round, with the range from the 10th to the 90th percentile. Before, both
take the same pairs without stochastic depth in fp32: `difference` is the largest one of any loss term and of the norm
of the gradient, relative to it, and the run ends where it is more than rounding.

The weights are random, which changes no speed. On a GPU every stage waits for the GPU to finish, and `--compile`
compiles the engine's network and leaves the other as it is. All figures in the documentation are from CPUs: we had no
GPU for this, and attention and launches weigh differently there.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import cv2
import numpy as np
import plain_step
import torch
from torch import Tensor

from duotrack.data.sampling import DataConfig, Dataset, PairSource
from duotrack.model import PRESETS, CoupledNetwork, preset
from duotrack.model.vit import Block
from duotrack.profile import in_a_line, machine, versions
from duotrack.training.batches import PREFETCHED, Batch, load
from duotrack.training.config import TrainingConfig
from duotrack.training.config import load as load_recipe
from duotrack.training.engine import parts_of, prepare, train_step
from duotrack.training.recipe import Precision, build_optimizer

CONFIGS = Path(__file__).parents[1] / "configs"
STAGES = ("waiting", "forward", "backward", "update")
PRECISIONS = get_args(get_type_hints(TrainingConfig)["precision"])

FRAMES, WIDTH, HEIGHT = 24, 640, 480
"""Of a made-up sequence."""

ROUNDING = 1e-3
"""What two ways to compute the same losses may differ by, relative to the loss."""


def main() -> None:
    """Measures and prints Markdown tables."""
    parser = argparse.ArgumentParser(description="Where the time of a training step goes.")
    parser.add_argument("--steps", type=int, default=40, help="of the first table")
    parser.add_argument("--rounds", type=int, default=5, help="of the second table")
    parser.add_argument("--data", type=Path, metavar="ROOT", help="data folder of the recipe; made-up pairs without")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of the step, on a CPU")
    parser.add_argument("--pairs", type=int, default=2, help="in a step of the second table")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, help="in place of the recipes'")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--model", choices=list(PRESETS), help="in place of the recipes', for a trial")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    where = in_a_line(machine(), versions("torch"))
    where = f"{torch.cuda.get_device_name(device)}; {where}" if device.type == "cuda" else where
    where = f"threads: {options.threads}; {where}"
    print(f"{where}\n")
    changes = {"device": options.device, "threads": options.threads, "compile": options.compile}
    if options.precision:
        changes["precision"] = options.precision
    figures: dict[str, list[dict[str, Any]]] = {"stages": [], "coupled": []}

    with tempfile.TemporaryDirectory() as folder:
        print("| network | data | precision | workers | pairs/s | ms a step | waiting | forward | backward | update |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        for workers in options.workers:
            config = recipe(CONFIGS / "tiny_stage1.yaml", Path(folder), options.model, {**changes, "workers": workers})
            if options.data is not None:
                kept = load_recipe(CONFIGS / "tiny_stage1.yaml").data
                config = replace(config, data=replace(kept, root=str(options.data), cache=config.data.cache))
            row = stages(config, options.steps)
            figures["stages"].append(row)
            name, data = options.model or "duotrack-tiny", "recipe's" if options.data else "made up"
            shares = " | ".join(f"{100 * row['shares'][stage]:.1f} %" for stage in STAGES)
            print(f"| {name} | {data} | {row['precision']} | {workers} | {row['pairs_per_second']:.1f} | ", end="")
            print(f"{row['milliseconds']:.0f} | {shares} |", flush=True)

        print("\n| network | stage | pairs | precision | engine, s a step (10-90 %) | as published | ", end="")
        print("as published / engine | difference |\n|---|---|---|---|---|---|---|---|")
        for stage in (1, 2):
            limits = {"batch_size": options.pairs, "micro_batch": None, "workers": 0}
            config = recipe(CONFIGS / f"ckd_base_stage{stage}.yaml", Path(folder), options.model, {**changes, **limits})
            row = {"stage": stage, **coupled(config, options.rounds)}
            figures["coupled"].append(row)
            print(f"| {options.model or 'ckd-base'} | {stage} | {options.pairs} | {row['precision']} | ", end="")
            for name in ("engine", "as published"):
                print("{1:.2f} ({0:.2f}-{2:.2f}) | ".format(*row["seconds"][name]), end="")
            print("{1:.2f} ({0:.2f}-{2:.2f}) | ".format(*row["ratio"]) + f"{row['difference']:.0e} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": where, "figures": figures}, indent=1) + "\n")


def recipe(file: Path, folder: Path, model: str | None, changes: dict[str, Any]) -> TrainingConfig:
    """A recipe with random weights, on made-up pairs in a folder."""
    config = replace(load_recipe(file), start="scratch", data=made_up(folder), **changes)
    if model is not None:
        network = preset(model)
        eliminates = config.network.elimination is not None
        config = replace(config, model=network if eliminates else replace(network, elimination=None))
    return config


def made_up(folder: Path) -> DataConfig:
    """Two sequences of JPEG images, in which a patch wanders; written once."""
    random = np.random.default_rng(0)
    for sequence in (folder / "made_up" / "one", folder / "made_up" / "two"):
        if sequence.is_dir():
            continue
        for modality in ("visible", "infrared"):
            (sequence / modality).mkdir(parents=True)
            ground = cv2.resize(random.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8), (WIDTH, HEIGHT))
            for frame in range(FRAMES):
                image = ground.copy()
                x, y = 60 + 15 * frame, 200 + 5 * frame
                image[y : y + 80, x : x + 40] = (30, 200, 240)
                if not cv2.imwrite(str(sequence / modality / f"{frame:03d}.jpg"), image):
                    raise OSError(f"{sequence / modality}: the made-up images cannot be written; make room there")
        boxes = (f"{60 + 15 * frame},{200 + 5 * frame},40,80\n" for frame in range(FRAMES))
        (sequence / "boxes.txt").write_text("".join(boxes))
    dataset = Dataset("folders", "made_up", 1.0)
    return DataConfig(root=str(folder), cache=str(folder / "cache"), datasets=(dataset,), corruption=0)


class Clock:
    """Adds up where the time goes; on a GPU it waits until what was asked for is done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.stage, self.since = STAGES[0], time.perf_counter()

    def enter(self, stage: str) -> None:
        """What passes from now on is time of this stage."""
        _wait_for(self.device)
        now = time.perf_counter()
        self.seconds[self.stage] += now - self.since
        self.stage, self.since = stage, now


class Marks(torch.amp.GradScaler):
    """The engine's scaler, which is asked once losses are there and once gradients are: that is when stages end."""

    def __init__(self, clock: Clock, *, enabled: bool) -> None:
        super().__init__(clock.device.type, enabled=enabled)
        self.clock = clock

    def scale(self, outputs: Any) -> Any:
        self.clock.enter("backward")
        return super().scale(outputs)

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        self.clock.enter("update")
        super().unscale_(optimizer)


def stages(config: TrainingConfig, steps: int) -> dict[str, Any]:
    """The engine's loop over so many steps, and where their time went."""
    network, optimizer, precision = prepare(config)
    source = PairSource(config.data, config.network, config.crops, seed=config.seed)
    unmeasured = 2 * PREFETCHED  # while the network starts slowly, workers prepare more than they could later
    numbers = [parts_of(config, step) for step in range(unmeasured + steps)]
    batches = load(source, config, [part for step in numbers for part in step])
    device = next(network.parameters()).device
    for step, parts in enumerate(numbers):
        if step in (0, unmeasured):
            clock = Clock(device)
            precision.scaler = Marks(clock, enabled=precision.name == "fp16")
        work = [next(batches) for _ in parts]
        clock.enter("forward")
        train_step(network, optimizer, work, config, step, precision)
        clock.enter("waiting")
    seconds = sum(clock.seconds.values())
    return {
        "precision": precision.name,
        "workers": config.workers,
        "pairs_per_second": steps * config.batch_size / seconds,
        "milliseconds": 1000 * seconds / steps,
        "shares": {stage: value / seconds for stage, value in clock.seconds.items()},
    }


def coupled(config: TrainingConfig, rounds: int) -> dict[str, Any]:
    """Times the engine's step and the published form's in turns, on the same weights and pairs."""
    network, optimizer, precision = prepare(config)
    device = next(network.parameters()).device
    source = PairSource(config.data, config.network, config.crops, seed=config.seed)
    batch = next(load(source, config, parts_of(config, 0)))
    difference = compare(network, optimizer, batch, config)
    if difference > ROUNDING:
        raise SystemExit(f"the two forms do not compute the same: a loss or the gradient differs by {difference:.1e}")
    with _teachers_heads_trained(network):
        # Only stage 2 trains something else there. In stage 1 the moments of one optimizer are memory enough.
        plain_optimizer = optimizer if config.losses.teachers else build_optimizer(network, config)
    seconds: dict[str, list[float]] = {"engine": [], "as published": []}
    for _ in range(rounds + 1):
        engine = partial(train_step, network, optimizer, [batch], config, 0, precision)
        seconds["engine"].append(_timed(engine, device))
        with _teachers_heads_trained(network):
            plain = partial(plain_step.train_step, network, plain_optimizer, batch, config, precision)
            seconds["as published"].append(_timed(plain, device))
        network.zero_grad(set_to_none=True)  # the engine clips whatever gradient it finds
    kept = {name: np.array(values[1:]) for name, values in seconds.items()}  # the first round warms up
    return {
        "precision": precision.name,
        "pairs": config.batch_size,
        "seconds": {name: spread(values) for name, values in kept.items()},
        "ratio": spread(kept["as published"] / kept["engine"]),
        "difference": difference,
    }


def compare(network: CoupledNetwork, optimizer: torch.optim.Optimizer, batch: Batch, config: TrainingConfig) -> float:
    """Lets both forms take the same pairs; returns the largest relative difference of what the engine computes."""
    device = next(network.parameters()).device
    exact = Precision(replace(config, precision="fp32"), device)
    trained: list[Tensor] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with _without_stochastic_depth(network):
        plain = plain_step.forward(network, batch.to(device), config, exact)
        plain.total.backward()
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None]))
        losses, found_norm = train_step(network, optimizer, [batch], config, 0, exact)
    pairs = [(value.item(), plain.terms[name].item()) for name, value in losses.terms.items()]
    return max(abs(found - expected) / abs(expected) for found, expected in (*pairs, (found_norm, norm)))


@contextmanager
def _without_stochastic_depth(network: CoupledNetwork) -> Iterator[None]:
    rates = {block: block.drop_path for block in network.modules() if isinstance(block, Block)}
    for block in rates:
        block.drop_path = 0.0
    yield
    for block, rate in rates.items():
        block.drop_path = rate


@contextmanager
def _teachers_heads_trained(network: CoupledNetwork) -> Iterator[None]:
    """As in both stages of the published code; stage 2 of the recipes leaves them out."""
    parameters = [*network.teacher_head_visible.parameters(), *network.teacher_head_infrared.parameters()]
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    yield
    for parameter, trained in zip(parameters, before, strict=True):
        parameter.requires_grad_(trained)


def _timed(step: Callable[[], object], device: torch.device) -> float:
    _wait_for(device)
    started = time.perf_counter()
    step()
    _wait_for(device)
    return time.perf_counter() - started


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(values: "np.ndarray[Any, np.dtype[np.float64]]") -> list[float]:
    """10, 50 and 90 %."""
    percentiles: list[float] = np.percentile(values, (10, 50, 90)).tolist()
    return percentiles


if __name__ == "__main__":
    main()
