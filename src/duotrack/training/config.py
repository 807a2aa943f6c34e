"""What a training run is, as data: read from YAML, checked when made, stored with the weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from duotrack.configuration import override, parse_yaml, read
from duotrack.crops import CropSettings
from duotrack.data.sampling import DataConfig
from duotrack.losses import LossOptions
from duotrack.model.config import ModelConfig, preset


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its learning rates; the defaults are the paper's first stage.

    ``stem_rate`` 0 freezes a convolutional stem. ``clip`` is the largest 2-norm of all gradients together.
    ``warmup`` counts steps of linear rise; ``schedule`` says what follows.
    """

    head_rate: float = 5e-5
    branch_rate: float = 5e-6
    stem_rate: float = 0.0
    weight_decay: float = 1e-4
    clip: float = 0.1
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0


@dataclass(frozen=True)
class MaskingConfig:
    """Masked modelling of the students' search tokens (:func:`duotrack.model.network.search_mask`)."""

    ratio: float = 0.25
    probability: float = 1.0


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    ``model`` is a preset's name or a configuration in full. ``start`` names the start weights: nothing (``scratch``),
    ImageNet for a lite0 stem (``imagenet``), a weights folder with all branches, or a file from which each branch
    starts: OSTrack, DropTrack, MAE or DropMAE. ``precision``
    ``auto`` computes the branches in bf16 where the processor has it. ``threads`` 0 leaves the choice to torch.
    Every ``validate_every`` steps ``validation_pairs`` pairs, drawn with another seed, are scored; every
    ``save_every`` steps a checkpoint is written.
    """

    output: str
    data: DataConfig
    model: str | ModelConfig = "duotrack-tiny"
    start: str = "scratch"
    crops: CropSettings = field(default_factory=CropSettings)
    losses: LossOptions = field(default_factory=LossOptions)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    steps: int = 90_000
    batch_size: int = 20
    seed: int = 42
    device: str = "cpu"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int = 1
    threads: int = 0
    log_every: int = 10
    save_every: int = 200
    validate_every: int = 1000
    validation_pairs: int = 512

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "save_every", "validate_every", "validation_pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")

    @property
    def network(self) -> ModelConfig:
        """The network's configuration, presets looked up."""
        return preset(self.model) if isinstance(self.model, str) else self.model


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
