"""The training loop: one readable function around one training step.

Every random number follows from (seed, step): pairs, masks, stochastic depth. A run that was stopped and resumed
therefore gives what an uninterrupted one gives, bit for bit on the same processor.
"""

import copy
import json
import math
import platform
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import duotrack
from duotrack import boxes, pretrained
from duotrack.configuration import plain
from duotrack.crops import heatmap
from duotrack.data.augment import Pair
from duotrack.data.sampling import PairSource
from duotrack.losses import Losses, NonFiniteLossError, Target, ckd_loss
from duotrack.model import weights
from duotrack.model.network import CoupledNetwork, StudentNetwork, search_mask
from duotrack.model.normalization import normalize
from duotrack.processor import cpu_features
from duotrack.results import write_atomically
from duotrack.training import checkpoint, distributed
from duotrack.training.config import TrainingConfig

ALONE = distributed.Group()
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Batch:
    """Pairs as tensors; modalities on axis 0 of the crops, uint8 (2, B, H, W, 3)."""

    template: Tensor
    search: Tensor
    template_box: Tensor
    brightness: Tensor
    target: Target


def train(config: TrainingConfig, *, resume: bool = True) -> Path:
    """Trains, and leaves two weights folders: the students (``weights``), and all branches to go on from (``coupled``).

    Args:
        config: the recipe.
        resume: goes on from the checkpoint in the output folder where there is one.

    Returns:
        The weights folder of the students, ``<output>/weights``.

    Raises:
        NonFiniteLossError: when a loss or gradient is not finite, naming the step and the pairs; the last checkpoint
            stays.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the step under way is done and saved.
    """
    with distributed.join() as group:
        return _train(config, resume, group)


def _train(config: TrainingConfig, resume: bool, group: distributed.Group) -> Path:
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    # Before workers are forked: a thread pool of OpenCV does not survive the fork and would block them for ever.
    cv2.setNumThreads(0)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = torch.device(config.device)
    torch.manual_seed(config.seed)
    network = _network(config).to(device)
    optimizer = _optimizer(network, config)
    first = checkpoint.restore(output, network, optimizer) if resume else 0
    if first >= config.steps and (output / "weights" / pretrained.CONFIG).is_file():
        return output / "weights"
    if group.rank == 0:
        _forget(output / METRICS, first)
    source = PairSource(config.data, config.network, config.crops, seed=config.seed)
    held_out = copy.copy(source)
    held_out.seed = config.seed + 1_000_000
    batches = _batches(source, config, _shares(config, group, first))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_bf16(config, device))
    figures: dict[str, float] = {}
    with (
        (output / METRICS).open("a", encoding="utf-8") as metrics,
        _bar(config.steps, first, hidden=group.rank > 0) as bar,
        _stop_after_step() as stop,
    ):
        started = time.monotonic()
        for step, batch in enumerate(batches, start=first):
            losses, norm = train_step(network, optimizer, batch, config, step, autocast, group)
            stopping = group.any(stop())
            if group.rank > 0:
                if stopping:
                    raise KeyboardInterrupt
                continue
            if (step + 1) % config.log_every == 0:
                values = {name: round(value.item(), 5) for name, value in losses.terms.items()}
                rate = (step + 1 - first) * config.batch_size / (time.monotonic() - started)
                row = {"step": step + 1, "total": losses.total.item(), **values, "gradient": norm, "pairs/s": rate}
                metrics.write(json.dumps(row) + "\n")
                metrics.flush()
                bar(step + 1, rate, values)
            last = step + 1 == config.steps
            if (step + 1) % config.validate_every == 0 or last:
                figures = validate(network, held_out, config)
                metrics.write(json.dumps({"step": step + 1, **figures}) + "\n")
            if (step + 1) % config.save_every == 0 or last or stopping:
                checkpoint.save(output, step + 1, network, optimizer)
            if stopping:
                raise KeyboardInterrupt(f"stopped after step {step + 1}; run the same command again to go on")
    if group.rank > 0:
        return output / "weights"
    return _finish(output, network, config, figures or validate(network, held_out, config))


def train_step(
    network: CoupledNetwork,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrainingConfig,
    step: int,
    autocast: torch.autocast,
    group: distributed.Group = ALONE,
) -> tuple[Losses, float]:
    """One step on one batch: forward, losses, backward, clip, update.

    Returns:
        The losses and the 2-norm of all gradients before clipping.
    """
    network.train()
    torch.manual_seed((config.seed * 1_000_003 + step) * group.size + group.rank)
    for rates in optimizer.param_groups:
        rates["lr"] = rates["base_rate"] * _rate_factor(config, step)
    device = next(network.parameters()).device
    mask = None
    if config.masking.probability > 0:
        tokens = config.network.search_grid**2
        mask = search_mask(len(batch.brightness), tokens, config.masking.ratio, config.masking.probability).to(device)
    template = normalize(batch.template.to(device), batch.brightness[:, 0].to(device))
    search = normalize(batch.search.to(device), batch.brightness[:, 1].to(device))
    with autocast:
        output = network(template, search, batch.template_box.to(device), keep_mask=mask)
    target = Target(*(tensor.to(device) for tensor in (batch.target.box, batch.target.heatmap, batch.target.present)))
    first = step * config.batch_size
    place = f"step {step + 1} (pairs {first}..{first + config.batch_size - 1} of seed {config.seed})"
    try:
        losses = ckd_loss(output, target, config.losses)
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"{place}: {error}") from error
    optimizer.zero_grad(set_to_none=True)
    losses.total.backward()
    group.average_gradients(network)
    norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.clip))
    if not math.isfinite(norm):
        raise NonFiniteLossError(f"{place}: the gradient is not finite, though every loss is")
    optimizer.step()
    return losses, norm


@torch.no_grad()
def validate(network: CoupledNetwork, source: PairSource, config: TrainingConfig) -> dict[str, float]:
    """Mean overlap of the students' boxes with the truth on pairs that hold the target, and the share above 0.5.

    It watches learning; it does not tell how well a network tracks.
    """
    network.eval()
    device = next(network.parameters()).device
    overlaps = []
    pairs = list(range(config.validation_pairs))
    parts = [pairs[first : first + config.batch_size] for first in pairs[:: config.batch_size]]
    for batch in _batches(source, config, parts):
        template, search = normalize(batch.template.to(device)), normalize(batch.search.to(device))
        output = StudentNetwork.forward(network, template, search, batch.template_box.to(device))
        predicted = boxes.cxcywh_to_xyxy(output.box_cxcywh.cpu())
        overlap = boxes.iou(predicted, boxes.xywh_to_xyxy(batch.target.box))
        overlaps.append(overlap[batch.target.present])
    overlap = torch.cat(overlaps)
    return {"validation.iou": float(overlap.mean()), "validation.above_half": float((overlap > 0.5).float().mean())}


def collate(pairs: Sequence[Pair], grid: int) -> Batch:
    """Stacks pairs; ``grid`` is the number of cells along a side of the heat map."""
    search_box = np.stack([pair.search_box for pair in pairs])
    heatmaps = [heatmap(pair.search_box.astype(np.float64), grid) * pair.present for pair in pairs]
    return Batch(
        template=torch.from_numpy(np.stack([pair.template for pair in pairs], axis=1)),
        search=torch.from_numpy(np.stack([pair.search for pair in pairs], axis=1)),
        template_box=torch.from_numpy(np.stack([pair.template_box for pair in pairs])).float(),
        brightness=torch.from_numpy(np.stack([pair.brightness for pair in pairs])).float(),
        target=Target(
            box=torch.from_numpy(search_box).float(),
            heatmap=torch.from_numpy(np.stack(heatmaps)).unsqueeze(1),
            present=torch.tensor([pair.present for pair in pairs]),
        ),
    )


class _Pairs(Dataset[Pair]):
    """Pairs by their number."""

    def __init__(self, source: PairSource) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Pair:
        return self.source.pair(index)


def _shares(config: TrainingConfig, group: distributed.Group, first: int) -> list[list[int]]:
    """The numbers of the pairs that this process trains on in each step."""
    size = config.batch_size
    return [list(group.part(range(step * size, (step + 1) * size))) for step in range(first, config.steps)]


def _batches(source: PairSource, config: TrainingConfig, batches: list[list[int]]) -> Iterator[Batch]:
    loader: DataLoader[Any] = DataLoader(
        _Pairs(source),
        batch_sampler=batches,
        num_workers=config.workers,
        collate_fn=partial(collate, grid=config.network.search_grid),
        prefetch_factor=4 if config.workers else None,
        worker_init_fn=_quiet_worker,
    )
    return iter(loader)


def _quiet_worker(worker: int) -> None:
    # The main process saves and says goodbye; workers end with it, also where every process gets the signal.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _network(config: TrainingConfig) -> CoupledNetwork:
    network = CoupledNetwork(config.network)
    if config.start in ("scratch", "imagenet"):
        # Most cells hold no target: scores start low, or the first hundred steps only unlearn one half.
        for head in (network.head, network.teacher_head_visible, network.teacher_head_infrared):
            torch.nn.init.constant_(head.score[-1].get_parameter("bias"), -4.0)
    if config.start == "imagenet":
        if network.stem is None:
            raise ValueError("start weights 'imagenet' are for the lite0 stem; this network has a patch stem")
        network.stem.load_state_dict(weights.lite0_stem(weights.lite0_package_state()))
    elif Path(config.start).is_file():
        network.load_state_dict(weights.start_from_file(config.start, config.network), strict=False)
    elif config.start != "scratch":
        start = weights.load_coupled(config.start)
        try:
            network.load_state_dict(start.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"start weights {config.start} are of another network than the recipe's: {error}"
            ) from error
    if network.stem is not None:
        # torch's annotations of Module.to leave memory_format out.
        network.stem.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.stem.requires_grad_(config.optimizer.stem_rate > 0)
    if not config.losses.teachers:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not name.startswith("teacher_"))
    return network


def _optimizer(network: CoupledNetwork, config: TrainingConfig) -> torch.optim.AdamW:
    rates = {"stem": config.optimizer.stem_rate, "head": config.optimizer.head_rate}
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            part = "head" if "head" in name.split(".")[0] else name.split(".")[0]
            groups.setdefault(rates.get(part, config.optimizer.branch_rate), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "base_rate": rate} for rate, parameters in groups.items()],
        weight_decay=config.optimizer.weight_decay,
    )


def _rate_factor(config: TrainingConfig, step: int) -> float:
    warmup = config.optimizer.warmup
    if step < warmup:
        return (step + 1) / warmup
    if config.optimizer.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.steps - warmup)))


def _bf16(config: TrainingConfig, device: torch.device) -> bool:
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_features())


def _forget(metrics: Path, step: int) -> None:
    """Removes the rows after a checkpoint: their steps will be done again."""
    if metrics.is_file():
        rows = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = (row for row in rows if row.endswith("\n"))  # a kill may have cut the last one
        write_atomically(metrics, "".join(row for row in whole if json.loads(row)["step"] <= step))


def _finish(output: Path, network: CoupledNetwork, config: TrainingConfig, figures: dict[str, float]) -> Path:
    recipe = plain(config)
    # Where things lay on this machine says nothing about the weights.
    del recipe["output"], recipe["data"]["root"], recipe["data"]["cache"]
    record = {
        "recipe": recipe,
        "figures": figures,
        "versions": {"duotrack": duotrack.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    weights.save(output / "coupled", network, crops=config.crops, training=record)
    students = StudentNetwork(config.network)
    students.load_state_dict({name: value for name, value in network.state_dict().items() if "teacher" not in name})
    return weights.save(output / "weights", students, crops=config.crops, training=record)


@contextmanager
def _stop_after_step() -> Iterator[Any]:
    """Turns SIGINT and SIGTERM into a wish that the loop asks for after each step."""
    wished = False

    def wish(signum: int, frame: object) -> None:
        nonlocal wished
        wished = True

    before = {number: signal.signal(number, wish) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: wished
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bar(steps: int, first: int, *, hidden: bool) -> Iterator[Any]:
    """A progress bar on stderr with pairs per second, time left and every loss term."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} pairs/s"),
        TimeRemainingColumn(),
    )
    progress, terms = Progress(*columns), Text()
    task = progress.add_task("training", total=steps, completed=first, rate=0.0)

    def update(step: int, rate: float, values: dict[str, float]) -> None:
        progress.update(task, completed=step, rate=rate)
        terms.plain = "  ".join(f"{name} {value:.3f}" for name, value in values.items())

    with nullcontext() if hidden else Live(Group(progress, terms), console=Console(stderr=True)):
        yield update
