"""What a network is made of, as data: no torch here, so that configurations are read without it."""

from dataclasses import dataclass
from typing import Literal

TemplateTokens = Literal["CTR_POINT", "CTR_REC", "ALL", "GT_BOX"]
"""Which template tokens judge the search tokens: the centre one, the central square, all, or those of the box."""

LITE0_STAGES = ((16, 3, 1, 1, 1), (24, 3, 2, 6, 2), (40, 5, 2, 6, 2), (80, 3, 2, 6, 3), (112, 5, 1, 6, 3))
"""The ``lite0`` stem after its first convolution: output channels, kernel, stride of the first block, expansion,
repeats (Tan and Le 2019, EfficientNet-Lite0 up to stride 16: ReLU6, no squeeze-excite)."""

LITE0_CHANNELS = 112
"""Channels of the features that the ``lite0`` stem gives."""


@dataclass(frozen=True)
class Elimination:
    """Multi-modal candidate elimination (:mod:`duotrack.model.elimination`).

    ``layers`` are the blocks, counted from 0, in which search tokens are dropped; ``keep`` is the share that stays,
    one for each of these layers (a single number stands for all).
    """

    layers: tuple[int, ...] = (3, 6, 9)
    keep: float | tuple[float, ...] = 0.7
    template_tokens: TemplateTokens = "CTR_POINT"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not isinstance(self.keep, int | float):
            object.__setattr__(self, "keep", tuple(self.keep))  # JSON and YAML know only lists
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise ValueError(f"elimination layers must be block numbers in ascending order, not {self.layers}")
        if len(self.keep_rates) != len(self.layers):
            raise ValueError(f"{len(self.layers)} elimination layers, but {len(self.keep_rates)} keep rates")
        if not all(0 < rate <= 1 for rate in self.keep_rates):
            raise ValueError(f"keep rates must lie in (0, 1], not {self.keep}")
        if self.template_tokens not in ("CTR_POINT", "CTR_REC", "ALL", "GT_BOX"):
            raise ValueError(f"template_tokens must be CTR_POINT, CTR_REC, ALL or GT_BOX, not {self.template_tokens!r}")

    @property
    def keep_rates(self) -> tuple[float, ...]:
        """The keep rate of every elimination layer."""
        if isinstance(self.keep, int | float):
            return (float(self.keep),) * len(self.layers)
        return tuple(self.keep)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shapes of a network; the defaults are the paper's without elimination.

    ``stem`` turns images into features: ``patch`` is the ViT's own patch embedding, one for each branch; ``lite0``
    is the convolutional stem of EfficientNet-Lite0, one for all branches. ``correlation_input`` adds the cosines
    between template and search features of a convolutional stem to the search tokens; it is not in the paper.
    Sizes are in pixels, ``head_channels`` is the width of the centre head's first convolutions.

    ``teacher`` describes both teachers of training where they are larger than the students; None, as in the paper,
    makes them alike. It counts for :class:`duotrack.model.CoupledNetwork` alone. Teachers see the students' crops and
    drop the tokens that the students drop, so sizes and stride must agree and elimination is not theirs to set.
    """

    stem: Literal["patch", "lite0"] = "patch"
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    template_size: int = 128
    search_size: int = 256
    stride: int = 16
    head_channels: int = 256
    drop_path: float = 0.1
    shared_students: bool = False
    correlation_input: bool = False
    elimination: Elimination | None = None
    teacher: "ModelConfig | None" = None

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "template_size", "search_size", "stride", "head_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 < self.mlp_ratio < float("inf"):
            raise ValueError(f"mlp_ratio must be positive, not {self.mlp_ratio}")
        if self.stem not in ("patch", "lite0"):
            raise ValueError(f"stem must be 'patch' or 'lite0', not {self.stem!r}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.heads} heads")
        if self.template_size % self.stride or self.search_size % self.stride:
            raise ValueError(
                f"crop sizes {self.template_size} and {self.search_size} must be multiples of the stride {self.stride}"
            )
        if self.stem == "lite0" and self.stride != 16:
            raise ValueError(f"the lite0 stem has stride 16, not {self.stride}")
        if self.correlation_input and self.stem == "patch":
            raise ValueError("correlation_input needs a convolutional stem: the patch stem has no features to compare")
        if self.head_channels < 8:
            raise ValueError(f"head_channels must be 8 or more, for it is halved three times, not {self.head_channels}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must lie in [0, 1), not {self.drop_path}")
        if self.elimination and self.elimination.layers[-1] >= self.depth:
            raise ValueError(f"elimination in block {self.elimination.layers[-1]}, but there are {self.depth} blocks")
        if self.teacher is not None:
            self._refuse_teacher(self.teacher)

    def _refuse_teacher(self, teacher: "ModelConfig") -> None:
        for name in ("template_size", "search_size", "stride"):
            if getattr(teacher, name) != getattr(self, name):
                raise ValueError(
                    f"teacher: {name} is {getattr(teacher, name)}, that of the students {getattr(self, name)}; "
                    "content is compared token by token, so give the students the crops of their teachers"
                )
        if teacher.depth < self.depth:
            raise ValueError(f"teacher: {teacher.depth} blocks are too few for students of {self.depth}")
        if teacher.elimination or teacher.shared_students or teacher.teacher:
            raise ValueError("teacher: leave out elimination, shared_students and teacher; they are for students")

    @property
    def template_grid(self) -> int:
        """Cells of the template along one side."""
        return self.template_size // self.stride

    @property
    def search_grid(self) -> int:
        """Cells of the search region along one side (F in the paper)."""
        return self.search_size // self.stride


PRESETS = {
    # The paper's network: two ViT-B/16 students, elimination between them.
    "ckd-base": ModelConfig(elimination=Elimination()),
    # The default model's: small enough for two CPU cores, where dropping tokens would not pay.
    "duotrack-tiny": ModelConfig(
        stem="lite0",
        width=128,
        depth=4,
        heads=2,
        template_size=96,
        search_size=192,
        head_channels=64,
        drop_path=0.0,
        correlation_input=True,
    ),
    # For tests and for looking at tensors by hand.
    "debug": ModelConfig(
        width=32,
        depth=3,
        heads=2,
        template_size=64,
        search_size=128,
        head_channels=16,
        drop_path=0.0,
        elimination=Elimination(layers=(1,), keep=0.7),
    ),
}


def preset(name: str) -> ModelConfig:
    """The configuration of a preset network.

    Raises:
        ValueError: for a name that is none of :data:`PRESETS`.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
