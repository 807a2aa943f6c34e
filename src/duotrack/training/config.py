"""What a training run is, as data: read from YAML, checked when made, stored with the weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from duotrack.configuration import override, parse_yaml, read
from duotrack.crops import CropSettings
from duotrack.data.folders import FOLDER_LAYOUTS
from duotrack.data.sampling import DataConfig
from duotrack.losses import LossOptions
from duotrack.model.config import ModelConfig, preset


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its learning rates; the defaults are the paper's first stage.

    ``teacher_rate`` is that of the teachers' branches, null for ``branch_rate``; ``stem_rate`` 0 freezes a
    convolutional stem. ``clip`` is the largest 2-norm of all gradients together. ``warmup`` counts steps of linear
    rise; ``schedule`` says what follows: a constant rate, half a cosine down to 0, or a constant one that is
    multiplied by ``drop_factor`` once the share ``drop_after`` of all steps is done.
    """

    head_rate: float = 5e-5
    branch_rate: float = 5e-6
    stem_rate: float = 0.0
    weight_decay: float = 1e-4
    clip: float = 0.1
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup: int = 0
    drop_after: float = 0.8
    drop_factor: float = 0.1
    teacher_rate: float | None = None

    def __post_init__(self) -> None:
        for name in ("head_rate", "branch_rate", "teacher_rate", "stem_rate", "weight_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), not {value}")
        if not self.clip > 0:
            raise ValueError(f"clip must be above 0 (.inf never clips), not {self.clip}")
        if self.warmup < 0:
            raise ValueError(f"warmup is a number of steps, 0 or more, not {self.warmup}")
        for name in ("drop_after", "drop_factor"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], not {getattr(self, name)}")


@dataclass(frozen=True)
class MaskingConfig:
    """Masked modelling of the students' search tokens (:func:`duotrack.model.network.search_mask`)."""

    ratio: float = 0.25
    probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("ratio", "probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, not {getattr(self, name)}")


@dataclass(frozen=True)
class KeepRateConfig:
    """How elimination sets in during training (:func:`duotrack.model.network.scheduled_keep_rate`).

    No token is dropped before epoch ``start``; over ``warmup`` epochs the keep rate then falls to the model's. The
    published runs have it from the first step.
    """

    start: int = 0
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.start < 0 or self.warmup < 0:
            raise ValueError(f"start and warmup count epochs, 0 or more, not {self.start} and {self.warmup}")


@dataclass(frozen=True)
class Prepared:
    """A folder of prepared pairs (:mod:`duotrack.training.prepared`), and its share of all pairs against the others."""

    folder: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be above 0, not {self.weight}")


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    ``model`` is a preset's name or a configuration in full. ``start`` names the start weights: nothing (``scratch``),
    ImageNet for a lite0 stem (``imagenet``), a weights folder with all branches, or a file from which each branch
    starts: OSTrack, DropTrack, MAE or DropMAE. ``teacher_start`` is for a model with a ``teacher`` of its own: a
    weights folder with teachers, or such a file, from which the teachers start; ``start`` is then for the students
    alone unless it is a folder of the same network. ``frozen`` names parts of the network that stay as they start,
    such as ``visible`` or ``teacher_head_infrared``.

    Pairs are drawn from ``data`` while the run goes on, or read from the folders ``prepared``, where they lie as
    features of the frozen stem; of ``data`` only ``root`` and ``cache`` are then used, for ``validation_clips``.

    The run's length is counted in pairs, as in the paper: ``epochs`` of ``pairs_per_epoch``, so that it stays the
    same whatever the batch. ``steps``, where given, stands in place of it. ``batch_size`` is that of all processes
    together. What a process computes at once is ``micro_batch`` (null: its whole part of the batch); gradients are
    added up until the batch is complete.

    ``device`` ``auto`` is a GPU where there is one; under ``torchrun`` each process takes one of its own. ``precision``
    ``auto`` computes the branches in bf16 where the processor has it; ``fp16`` scales the loss. ``recompute`` keeps
    the inner values of no block for the backward pass but computes them again: less memory, a third more time.
    ``compile`` has torch compile the network, on GPUs alone. ``threads`` 0 leaves the choice to torch.

    Every ``save_every`` steps a checkpoint is written. Every ``validate_every`` steps ``validation_pairs`` pairs are
    scored, drawn with another seed from ``validation_data`` (null: from the training data; of prepared pairs the last
    ones are kept back for it), every target of the clips that ``validation_clips`` names (patterns below
    ``data.root``) is tracked for ``validation_frames`` frames, and ``pictures`` pairs are drawn with all that the
    network makes of them; prepared ones have no picture. ``validation_layout`` is that of the clips where they are a
    data set or sequences of one (:mod:`duotrack.data.folders`). ``tensorboard`` writes the metrics for it too.
    ``export`` writes ONNX graphs beside the final weights where the package onnx is installed.
    """

    output: str
    data: DataConfig = field(default_factory=lambda: DataConfig(root="data"))
    prepared: tuple[Prepared, ...] = ()
    model: str | ModelConfig = "duotrack-tiny"
    start: str = "scratch"
    teacher_start: str | None = None
    frozen: tuple[str, ...] = ()
    crops: CropSettings = field(default_factory=CropSettings)
    losses: LossOptions = field(default_factory=LossOptions)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    keep_rate: KeepRateConfig = field(default_factory=KeepRateConfig)
    epochs: int = 30
    pairs_per_epoch: int = 60_000
    steps: int | None = None
    batch_size: int = 20
    micro_batch: int | None = None
    seed: int = 42
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    recompute: bool = False
    compile: bool = False
    workers: int = 1
    threads: int = 0
    log_every: int = 10
    save_every: int = 200
    validate_every: int = 1000
    validation_pairs: int = 512
    validation_data: DataConfig | None = None
    validation_clips: tuple[str, ...] = ()
    validation_layout: str | None = None
    validation_frames: int = 300
    pictures: int = 4
    tensorboard: bool = False
    export: bool = True

    def __post_init__(self) -> None:
        for name in (
            *("epochs", "pairs_per_epoch", "steps", "batch_size", "micro_batch", "log_every", "save_every"),
            *("validate_every", "validation_pairs", "validation_frames"),
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, not {value}")
        for name in ("seed", "workers", "threads", "pictures"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if self.validation_layout is not None and self.validation_layout not in FOLDER_LAYOUTS:
            known = ", ".join(FOLDER_LAYOUTS)
            raise ValueError(f"validation_layout must be null or one of {known}, not {self.validation_layout!r}")
        if self.compile and self.device == "cpu":
            raise ValueError("compile pays on GPUs alone: on a CPU it costs minutes and gains nothing; unset it")

    @property
    def network(self) -> ModelConfig:
        """The network's configuration, presets looked up."""
        return preset(self.model) if isinstance(self.model, str) else self.model

    @property
    def total_steps(self) -> int:
        """Updates of the whole run."""
        return self.steps or max(1, self.epochs * self.pairs_per_epoch // self.batch_size)

    def epoch(self, step: int) -> int:
        """The epoch of a step, both counted from 0."""
        return step * self.batch_size // self.pairs_per_epoch


def load(path: Path, overrides: list[str] | None = None) -> TrainingConfig:
    """Reads a recipe from YAML; ``overrides`` such as ``optimizer.head_rate=1e-3`` come on top.

    Raises:
        ValueError: for an unknown or wrong entry, naming it and the nearest known one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no training recipe {path}; recipes are YAML files such as configs/duotrack-tiny.yaml")
    mapping = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(mapping, dict):
        raise ValueError(f"{path} must hold a mapping of settings, found {type(mapping).__name__}")
    return read(TrainingConfig, override(mapping, overrides or []), str(path))
