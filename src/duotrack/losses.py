"""The losses of coupled knowledge distillation: one function an equation, and one that adds them up.

    total = fused + teacher_visible + teacher_infrared + 0.01 style + 0.1 content
    fused = 2 GIoU + 5 L1 + focal                       (each teacher likewise, on its own answer)

Tokens are (B, N, C), template tokens first; maps are (B, 1, F, F); boxes are corners, ``xyxy``, in crop sides.
Style and content are computed in float32 whatever the tokens' type: their differences are small.

Every term is a mean: of samples, of boxes, or of true centres. A batch that is computed in parts, one after another or
in several processes, has these means all the same, since :class:`Share` says how much of the batch a part is.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from duotrack import boxes
from duotrack.model.head import Maps, box_at
from duotrack.model.network import CoupledOutput, Output

Level = Literal["channel", "token"]
Variant = Literal["CKD", "CKD_GlobalLocal_Soft", "CKD_GlobalLocal_Hard"]
BoxCells = Literal["peak", "center"]


class NonFiniteLossError(ArithmeticError):
    """A loss is infinite or not a number; the message names the terms."""


@dataclass(frozen=True)
class LossOptions:
    """What the paper's ablations vary; the defaults are its choice.

    ``box_cells`` says where box losses read the maps: at the predicted ``peak`` as published, or at the cells around
    the true ``center`` (heat map above 0.3), without which a network that starts from nothing trains random cells.
    """

    variant: Variant = "CKD"
    style: bool = True
    content: bool = True
    teachers: bool = True
    style_level: Level = "channel"
    content_level: Level = "channel"
    stop_style_gradient: bool = False
    stop_content_gradient: bool = True
    style_weight: float = 0.01
    content_weight: float = 0.1
    giou_weight: float = 2.0
    l1_weight: float = 5.0
    focal_weight: float = 1.0
    box_cells: BoxCells = "peak"

    def __post_init__(self) -> None:
        for name, choices in (
            ("variant", get_args(Variant)),
            ("style_level", get_args(Level)),
            ("content_level", get_args(Level)),
            ("box_cells", get_args(BoxCells)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.content and not self.teachers:
            raise ValueError("the content loss needs teachers: set teachers or unset content")


@dataclass(frozen=True)
class Target:
    """What a batch should have given.

    ``box`` (B, 4): x, y, w, h in search crop sides, not clipped; ``heatmap`` (B, 1, F, F)
    (:func:`duotrack.crops.heatmap`); ``present`` (B,) bool, False where the search crop does not hold the target
    (its heat map is zero, its box is left out).
    """

    box: Tensor
    heatmap: Tensor
    present: Tensor


class Share(NamedTuple):
    """How much of a batch a part of it is, by what the terms are means of: the losses of the parts add up."""

    samples: Tensor | float = 1.0
    """For style and content."""
    boxes: Tensor | float = 1.0
    """For GIoU and L1."""
    centers: Tensor | float = 1.0
    """For the focal loss."""


WHOLE = Share()
"""A batch that is computed at once."""


@dataclass
class Losses:
    """Every term by name, unweighted, and their weighted sum."""

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)

    def detach(self) -> "Losses":
        """The same numbers without what they were computed from."""
        return Losses(self.total.detach(), {name: term.detach() for name, term in self.terms.items()})


def style_distance(a: Tensor, b: Tensor, level: Level = "channel") -> Tensor:
    """Mean squared difference of the first two moments: ``mean (mu_a - mu_b)^2 + (sigma_a - sigma_b)^2``.

    The mean and the unbiased standard deviation run over the tokens of each channel (``channel``) or over the
    channels of each token (``token``).
    """
    dim = _statistics_dim(level)
    a, b = a.float(), b.float()
    means = (a.mean(dim) - b.mean(dim)).square()
    deviations = (a.std(dim) - b.std(dim)).square()
    return (means + deviations).mean()


def content_distance(teacher: Tensor, student: Tensor, level: Level = "channel") -> Tensor:
    """Mean squared difference after instance normalisation, which takes the style away."""
    return (instance_norm(teacher, level) - instance_norm(student, level)).square().mean()


def instance_norm(tokens: Tensor, level: Level = "channel") -> Tensor:
    """Tokens (B, N, C) without their style, float32: zero mean and unit variance in each channel, or of each token."""
    dim = _statistics_dim(level)
    tokens = tokens.float()
    variance, mean = torch.var_mean(tokens, dim, correction=0, keepdim=True)
    return (tokens - mean) * (variance + 1e-5).rsqrt()


def focal(score: Tensor, heatmap: Tensor) -> Tensor:
    """Focal loss of a score map against a heat map (CornerNet), over the number of cells equal to 1 in the batch.

    ``-[sum_{G=1} log(p) (1-p)^2 + sum_{G<1} log(1-p) p^2 (1-G)^4] / max(1, n)``
    """
    score = score.clamp(min=1e-12)
    positive = heatmap == 1
    hits = (score.log() * (1 - score).square())[positive].sum()
    misses = ((1 - score).log() * score.square() * (1 - heatmap).pow(4))[~positive].sum()
    return -(hits + misses) / positive.sum().clamp(min=1)


def giou(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean of ``1 - GIoU`` over boxes (n, 4); 0 for no boxes."""
    return (1 - boxes.giou(predicted, target)).sum() / max(1, len(predicted))


def l1(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the four corners of boxes (n, 4); 0 for no boxes."""
    return (predicted - target).abs().sum() / max(1, predicted.numel())


def count(target: Target, options: LossOptions) -> Tensor:
    """What the terms are means of: samples, boxes and true centres, float (3,); add those of parts for a batch's."""
    cells = _center_cells(target)[0] if options.box_cells == "center" else target.present.nonzero()
    counts = (len(target.box), len(cells), (target.heatmap == 1).sum().item())
    return torch.tensor(counts, dtype=torch.float32, device=target.box.device)


def share_of(part: Tensor, batch: Tensor) -> Share:
    """The share of a part in a batch, both as :func:`count` gives them. What is not there at all counts as one."""
    return Share(*(part.clamp(min=1) / batch.clamp(min=1)))


def ckd_loss(output: CoupledOutput, target: Target, options: LossOptions | None = None, share: Share = WHOLE) -> Losses:
    """All terms of coupled knowledge distillation for one batch, or a part's contribution to them.

    Raises:
        NonFiniteLossError: if a term is not finite; none is ever replaced by zero.
        ValueError: if the options want teachers and none ran.
    """
    options = options or LossOptions()
    terms: dict[str, Tensor] = {}
    total = _task_loss("fused", output, target, options, share, terms)
    if options.teachers:
        if output.teacher_visible is None or output.teacher_infrared is None:
            raise ValueError("the losses want teachers, but the network ran without them (teachers=False)")
        total = total + _task_loss("teacher_visible", output.teacher_visible, target, options, share, terms)
        total = total + _task_loss("teacher_infrared", output.teacher_infrared, target, options, share, terms)
    if options.style:
        terms["style"] = share.samples * style_loss(output, target, options)
        total = total + options.style_weight * terms["style"]
    if options.content:
        terms["content"] = share.samples * content_loss(output, target, options)
        total = total + options.content_weight * terms["content"]
    broken = [name for name, value in {**terms, "total": total}.items() if not torch.isfinite(value)]
    if broken:
        listed = ", ".join(f"{name}={value.item():g}" for name, value in terms.items())
        raise NonFiniteLossError(f"non-finite loss in {', '.join(broken)} (all terms: {listed})")
    return Losses(total, terms)


def style_loss(output: CoupledOutput, target: Target, options: LossOptions) -> Tensor:
    """Style distance between the students, summed over the blocks."""
    total = torch.zeros((), device=target.box.device)
    for visible, infrared in zip(output.tokens.visible, output.tokens.infrared, strict=True):
        first = visible.detach() if options.stop_style_gradient else visible
        if options.variant == "CKD":
            total = total + style_distance(first, infrared, options.style_level)
            continue
        weight = _token_weights(output, target.heatmap, visible.shape[1], options.variant)
        total = total + style_distance(weight * first, weight * infrared)
        if options.variant == "CKD_GlobalLocal_Hard":
            total = total + style_distance(first, infrared)
    return total


def content_loss(output: CoupledOutput, target: Target, options: LossOptions) -> Tensor:
    """Content distance of each student to its teacher, summed over both and over the blocks.

    Students of wider teachers are compared in the teachers' width, after the learned projection.
    """
    total = torch.zeros((), device=target.box.device)
    tokens = output.tokens
    visible, infrared = output.projected or (tokens.visible, tokens.infrared)
    pairs = [
        *zip(tokens.teacher_infrared, infrared, strict=True),
        *zip(tokens.teacher_visible, visible, strict=True),
    ]
    for teacher, student in pairs:
        first = teacher.detach() if options.stop_content_gradient else teacher
        if options.variant == "CKD":
            total = total + content_distance(first, student, options.content_level)
            continue
        weight = _token_weights(output, target.heatmap, student.shape[1], options.variant)
        difference = instance_norm(first) - instance_norm(student)
        total = total + (weight * difference).square().mean()
        if options.variant == "CKD_GlobalLocal_Hard":
            total = total + difference.square().mean()
    return total


def _task_loss(
    name: str, output: Output, target: Target, options: LossOptions, share: Share, terms: dict[str, Tensor]
) -> Tensor:
    """``2 GIoU + 5 L1 + focal`` of one head; its terms go to ``terms`` under ``name``."""
    cells = _center_cells(target) if options.box_cells == "center" else None
    if cells is None:
        predicted, expected = output.box_cxcywh[target.present], target.box[target.present]
    else:
        sample, cell = cells
        maps = Maps(output.score[sample], output.size[sample], output.offset[sample])
        predicted, expected = box_at(maps, cell), target.box[sample]
    predicted = boxes.cxcywh_to_xyxy(predicted)
    expected = boxes.xywh_to_xyxy(expected).clamp(0, 1)
    terms[f"{name}.giou"] = share.boxes * giou(predicted, expected)
    terms[f"{name}.l1"] = share.boxes * l1(predicted, expected)
    terms[f"{name}.focal"] = share.centers * focal(output.score, target.heatmap)
    return (
        options.giou_weight * terms[f"{name}.giou"]
        + options.l1_weight * terms[f"{name}.l1"]
        + options.focal_weight * terms[f"{name}.focal"]
    )


def _center_cells(target: Target) -> tuple[Tensor, Tensor]:
    """Sample and flat index of every cell that lies close to a true centre."""
    near = (target.heatmap.flatten(1) > 0.3) & target.present.unsqueeze(1)
    sample, cell = near.nonzero(as_tuple=True)
    return sample, cell


def _token_weights(output: CoupledOutput, heatmap: Tensor, tokens: int, variant: Variant) -> Tensor:
    """The attention of the global-local variants to each token, (B, N, 1): the target's heat map as weights."""
    search = heatmap.flatten(1)
    template = tokens - search.shape[1]
    if output.kept:
        raise ValueError(f"{variant} cannot be combined with elimination: it weights every search token")
    if variant == "CKD_GlobalLocal_Soft":
        weights = torch.cat([search.new_ones(len(search), template), search + 0.5], dim=1)
    else:
        weights = torch.cat([search.new_zeros(len(search), template), (search > 0).float()], dim=1)
    return weights.unsqueeze(-1)


def _statistics_dim(level: Level) -> int:
    if level not in ("channel", "token"):
        raise ValueError(f"level must be 'channel' or 'token', not {level!r}")
    return 1 if level == "channel" else 2
