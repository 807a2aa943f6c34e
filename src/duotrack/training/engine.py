"""The training loop: one readable function around one training step.

    pairs --workers--> parts of the batch --forward, losses, backward--> gradients, added up --clip, update--> weights

A batch may be computed in parts, one after another in a process and side by side in several. Every random number
follows from (seed, number of the pair): pairs, masks, stochastic depth. So a run gives the same numbers however its
batch is divided, within rounding, and one that was stopped and resumed gives what an uninterrupted one gives, bit for
bit on the same processor.

BatchNorm, in the heads alone, takes its statistics from the part that is computed at once, as published (there: the
batch of a GPU); its running statistics are averaged over processes after each step.
"""

import copy
import logging
import math
import platform
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import cv2
import torch

import duotrack
from duotrack import pretrained
from duotrack.configuration import plain
from duotrack.data.sampling import PairSource
from duotrack.losses import Losses, NonFiniteLossError, Share, ckd_loss, count, share_of
from duotrack.model import weights
from duotrack.model.network import CoupledNetwork, StudentNetwork, search_mask
from duotrack.training import checkpoint, distributed, watching
from duotrack.training.batches import Batch, collate, load
from duotrack.training.config import TrainingConfig
from duotrack.training.pictures import draw_pairs
from duotrack.training.prepared import HeldOut, PreparedPairs, open_prepared
from duotrack.training.recipe import Precision, build_network, build_optimizer, frozen_norms, keep_rate, rate_factor
from duotrack.training.validation import open_clips, score_pairs, score_tracking

ALONE = distributed.Group()


def train(config: TrainingConfig, *, resume: bool = True) -> Path:
    """Trains, and leaves weights folders: the students (``weights``), all branches to go on from (``coupled``), and
    all branches as they were when validation went best (``best``).

    Args:
        config: the recipe.
        resume: goes on from the checkpoint in the output folder where there is one.

    Returns:
        The weights folder of the students, ``<output>/weights``.

    Raises:
        NonFiniteLossError: when a loss or gradient is not finite, naming the step and the pairs; the last checkpoint
            stays.
        OSError: if the output folder cannot be written to, before training starts, or a checkpoint cannot be saved;
            the last one stays.
        KeyboardInterrupt: after SIGINT or SIGTERM, once the step under way is done and saved.
    """
    with distributed.join() as group:
        return _train(config, resume, group)


def _train(config: TrainingConfig, resume: bool, group: distributed.Group) -> Path:
    output, steps, leads = Path(config.output), config.total_steps, group.rank == 0
    network, optimizer, precision = prepare(config, group)
    if leads:
        checkpoint.check_room(output, checkpoint.room(network, optimizer))
        output.mkdir(parents=True, exist_ok=True)
    first = checkpoint.restore(output, network, optimizer, precision.scaler) if resume and leads else 0
    first = group.follow(first, network, optimizer, precision.scaler)
    finished = first >= steps and (output / "weights" / pretrained.CONFIG).is_file()
    if first and leads:
        done = f"{output} holds this run after step {first} of {steps}"
        _say(f"{done}: nothing is left to do; --resume never trains anew" if finished else f"{done}, and it goes on")
    if finished:
        return output / "weights"
    source = open_pairs(config, network)
    for problem in source.problems if leads else ():
        _say(f"left out: {problem}")
    parts = [parts_of(config, step, group) for step in range(first, steps)]
    loaded = load(source, config, [part for step in parts for part in step])
    leader = _Leader(output, network, optimizer, precision, source, config) if leads else None
    watched = watching.watch(output, steps, first, tensorboard=config.tensorboard) if leads else nullcontext()
    with watched as watcher, _stop_after_step() as stop, closing(loaded) as batches:
        for step in range(first, steps):
            asked = time.monotonic()
            work = [next(batches) for _ in parts[step - first]]
            waited = time.monotonic() - asked
            watching.note_skipped(output, step + 1, [path for part in work for path in part.skipped])
            losses, norm = train_step(network, optimizer, work, config, step, precision, group)
            if (step + 1) % config.log_every == 0:
                losses = whole(losses, group)
            stopping = group.any(stop())
            if leader is not None and watcher is not None:
                leader.after_step(step, losses, norm, waited, watcher, save=stopping)
            if stopping:
                raise KeyboardInterrupt(f"stopped after step {step + 1}; run the same command again to go on")
    if leader is not None:
        leader.finish()
    return output / "weights"


def prepare(
    config: TrainingConfig, group: distributed.Group = ALONE
) -> tuple[CoupledNetwork, torch.optim.AdamW, Precision]:
    """What a run trains, with what and in which number format, on the device of this process.

    Raises:
        ValueError: if the recipe cannot be carried out here.
    """
    # Before workers are forked: a thread pool of OpenCV does not survive the fork and would block them for ever.
    cv2.setNumThreads(0)
    if config.threads:
        torch.set_num_threads(config.threads)
    parts_of(config, 0, group)  # refuses a batch that cannot be divided so
    try:
        device = group.device(config.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without GPUs
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device: {config.device} cannot be used ({reason}); auto takes what is there") from error
    if config.compile and device.type == "cpu":
        raise ValueError("compile pays on GPUs alone, and this run is on a CPU: --set compile=false")
    torch.manual_seed(config.seed)
    network = build_network(config).to(device)
    if config.compile:
        network.compile()
    return network, build_optimizer(network, config), Precision(config, device)


def parts_of(config: TrainingConfig, step: int, group: distributed.Group = ALONE) -> list[range]:
    """The numbers of the pairs that this process computes in a step, in parts."""
    first = step * config.batch_size
    return group.parts(range(first, first + config.batch_size), config.micro_batch)


def train_step(
    network: CoupledNetwork,
    optimizer: torch.optim.Optimizer,
    work: Sequence[Batch],
    config: TrainingConfig,
    step: int,
    precision: Precision,
    group: distributed.Group = ALONE,
) -> tuple[Losses, float]:
    """One step on one batch: forward, losses and backward for each part of it, then clip and update.

    Returns:
        The losses as far as this process's parts go (:func:`whole` adds those of the others), and the 2-norm of all
        gradients before clipping.

    Raises:
        NonFiniteLossError: in every process, if a loss is not finite in any, or the gradient is not.
    """
    network.train()
    for norm_layer in frozen_norms(network):
        norm_layer.eval()
    for rates in optimizer.param_groups:
        rates["lr"] = rates["base_rate"] * rate_factor(config, step)
    optimizer.zero_grad(set_to_none=True)
    device = next(network.parameters()).device
    work = [part.to(device) for part in work]
    in_parts = [count(part.target, config.losses) for part in work]
    in_batch = group.sum(torch.stack(in_parts).sum(0))
    sums: list[Losses] = []
    problem = None
    for part, numbers, counted in zip(work, parts_of(config, step, group), in_parts, strict=True):
        try:
            losses = _forward(network, part, numbers, config, step, precision, share_of(counted, in_batch))
            precision.scaler.scale(losses.total).backward()
            sums.append(losses.detach())
        except NonFiniteLossError as error:
            place = f"step {step + 1} (pairs {numbers[0]}..{numbers[-1]} of seed {config.seed})"
            problem = NonFiniteLossError(f"{place}: {error}")
            break
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"{len(part)} pairs at once are too many for the memory of {device}: give a smaller micro_batch, or "
                f"recompute=true, which takes less ({error})"
            ) from error
    if group.any(problem is not None):
        raise problem or NonFiniteLossError(f"step {step + 1}: a loss is not finite in another process, which names it")
    group.sum_gradients(network)
    precision.scaler.unscale_(optimizer)
    norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.clip))
    # The scale of fp16 is tried out: a gradient may overflow, the step is then left out and the scale halved.
    if not math.isfinite(norm) and not (precision.scaler.is_enabled() and precision.scaler.get_scale() > 1):
        first = step * config.batch_size
        place = f"step {step + 1} (pairs {first}..{first + config.batch_size - 1} of seed {config.seed})"
        raise NonFiniteLossError(f"{place}: the gradient is not finite, though every loss is")
    precision.scaler.step(optimizer)
    precision.scaler.update()
    group.average_statistics(network)
    return sum_losses(sums), norm


def _forward(
    network: CoupledNetwork,
    part: Batch,
    numbers: range,
    config: TrainingConfig,
    step: int,
    precision: Precision,
    share: Share,
) -> Losses:
    """The network and the losses on a part of a batch. The part's first pair seeds what is random in it."""
    torch.manual_seed(config.seed * 1_000_000_007 + numbers[0])
    mask = None
    if config.masking.probability > 0:
        tokens = config.network.search_grid**2
        mask = search_mask(len(part), tokens, config.masking.ratio, config.masking.probability)
        mask = mask.to(part.brightness.device)
    template, search = part.inputs(brightness=True)
    with precision.autocast:
        output = network(
            template,
            search,
            part.template_box,
            keep_mask=mask,
            keep_rate=keep_rate(config, step),
            teachers=config.losses.teachers,
        )
    return ckd_loss(output, part.target, config.losses, share)


def sum_losses(parts: Sequence[Losses]) -> Losses:
    """The losses of several parts of a batch, each of them a share, together."""
    terms = {name: torch.stack([part.terms[name] for part in parts]).sum() for name in parts[0].terms}
    return Losses(torch.stack([part.total for part in parts]).sum(), terms)


def whole(losses: Losses, group: distributed.Group) -> Losses:
    """The losses of the whole batch from those of this process's parts; every process has to ask."""
    total, *terms = group.sum(torch.stack([losses.total, *losses.terms.values()])).unbind()
    return Losses(total, dict(zip(losses.terms, terms, strict=True)))


class _Leader:
    """What process 0 does beside training: it logs, validates, saves, and leaves the weights."""

    def __init__(
        self,
        output: Path,
        network: CoupledNetwork,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        source: PairSource | PreparedPairs,
        config: TrainingConfig,
    ) -> None:
        self.output, self.config = output, config
        self.network, self.optimizer, self.precision = network, optimizer, precision
        self.source, self.held_out = source, held_out(source, config)
        self.clips = open_clips(config)
        self.figures: dict[str, float] = {}
        self.since, self.waited, self.pairs = time.monotonic(), 0.0, 0

    def after_step(
        self, step: int, losses: Losses, norm: float, waited: float, watcher: watching.Watcher, *, save: bool
    ) -> None:
        config, done = self.config, step + 1
        last = done == config.total_steps
        watcher.advance(done)
        self.waited, self.pairs = self.waited + waited, self.pairs + config.batch_size
        if done % config.log_every == 0:
            terms = {name: round(value.item(), 5) for name, value in losses.terms.items()}
            seconds = time.monotonic() - self.since
            speed = {"pairs/s": self.pairs / seconds, "waiting": self.waited / seconds}
            rate = rate_factor(config, step)
            watcher.tell(done, {"total": losses.total.item(), **terms, "gradient": norm, "rate": rate, **speed})
            watcher.show(speed["pairs/s"], terms)
            self.since, self.waited, self.pairs = time.monotonic(), 0.0, 0
        if done % config.validate_every == 0 or last:
            asked = time.monotonic()
            self._validate(done, watcher)
            self.since += time.monotonic() - asked
        if done % config.save_every == 0 or last or save:
            checkpoint.save(self.output, done, self.network, self.optimizer, self.precision.scaler)

    def finish(self) -> None:
        """Writes the weights of the end of the run."""
        figures = self.figures or self._score()
        students = StudentNetwork(self.config.network)
        state = self.network.state_dict()
        students.load_state_dict({name: state[name] for name in students.state_dict()})
        self._save("coupled", self.network, figures)
        folder = self._save("weights", students, figures)
        if self.config.export:
            _export(folder)
        skipped = watching.skipped(self.output)
        if skipped:
            first = next(iter(skipped))
            _say(f"could not read {len(skipped)} files, such as {first}; {self.output / watching.SKIPPED} names them")

    def _validate(self, done: int, watcher: watching.Watcher) -> None:
        self.figures = self._score()
        decisive = "tracking.auc" if self.clips else "validation.iou"
        if self.figures[decisive] > watching.best(self.output, decisive):
            self._save("best", self.network, {"step": done, **self.figures})
        watcher.tell(done, self.figures)
        watcher.say(done, self.figures)
        if self.config.pictures and isinstance(self.held_out, PairSource):  # features cannot be looked at
            pairs = [self.held_out.pair(number) for number in range(self.config.pictures)]
            batch = collate(pairs, self.config.network.search_grid)
            watcher.picture(done, draw_pairs(self.network, batch, self.config))

    def _score(self) -> dict[str, float]:
        figures = score_pairs(self.network, self.held_out, self.config)
        return figures | (score_tracking(self.network, self.clips, self.config) if self.clips else {})

    def _save(self, name: str, network: StudentNetwork, figures: dict[str, float]) -> Path:
        recipe = plain(self.config)
        # Where things lay on this machine says nothing about the weights; what prepared pairs are made from does.
        if isinstance(self.source, PreparedPairs):
            recipe["prepared"] = self.source.facts()
        for data in (recipe["data"], recipe["validation_data"]):
            if data is not None:
                del data["root"], data["cache"]
        del recipe["output"]
        versions = {"duotrack": duotrack.__version__, "torch": torch.__version__, "python": platform.python_version()}
        record = {"recipe": recipe, "figures": figures, "versions": versions}
        return weights.save(self.output / name, network, crops=self.config.crops, training=record)


def open_pairs(config: TrainingConfig, network: CoupledNetwork) -> PairSource | PreparedPairs:
    """The stream of pairs to train on.

    Raises:
        ValueError: if data or folders cannot be used, or pairs were prepared for another stem or other crops.
    """
    if config.prepared:
        return open_prepared(config, network.stem)
    return PairSource(config.data, config.network, config.crops, seed=config.seed)


def held_out(source: PairSource | PreparedPairs, config: TrainingConfig) -> PairSource | HeldOut:
    """The stream of pairs for validation: of data of its own, of the training data with another seed, or the prepared
    pairs that are kept back."""
    seed = config.seed + 1_000_000
    if config.validation_data is not None:
        return PairSource(config.validation_data, config.network, config.crops, seed=seed, validation=True)
    if isinstance(source, PreparedPairs):
        return HeldOut(source)
    other = copy.copy(source)
    other.seed = seed
    return other


def _export(folder: Path) -> None:
    """Writes ONNX graphs beside the weights; where that cannot be, says so: PyTorch tracks without them."""
    try:
        from duotrack.export import export_onnx

        # What the exporter has to say is for its authors: of torchvision, which is not needed, and the like.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            export_onnx(folder)
    except (ModuleNotFoundError, ValueError) as error:
        _say(f"no ONNX graphs were written, so tracking with these weights needs PyTorch: {error}")


def _say(message: str) -> None:
    print(f"duotrack: {message}", file=sys.stderr)


@contextmanager
def _stop_after_step() -> Iterator[Callable[[], bool]]:
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
