"""The networks, as in the paper's figure 3.

    template, search --stem--> features --embed--> tokens of each branch
    for every block, in all branches side by side:
        attend;  once, between the students: which search tokens stay;  feed
    --norm--> search tokens of both students, concatenated --centre head--> score, size, offset --> box

:class:`StudentNetwork` is what tracks: a visible and an infrared student and one fused head.
:class:`CoupledNetwork` is what trains: the students and, for each, a teacher with a head of its own. Tensors of both
modalities are stacked on axis 0: visible, infrared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duotrack.model.config import LITE0_CHANNELS, ModelConfig
from duotrack.model.elimination import box_weights, candidates, gather_search, restore_search, template_rows
from duotrack.model.head import CenterHead, Maps, peak_box
from duotrack.model.stem import LiteStem
from duotrack.model.vit import Block, VisionTransformer


@dataclass
class Output:
    """What a network answers for a search crop.

    ``score`` (B, 1, F, F) in (0, 1); ``size`` (B, 2, F, F) in crop sides; ``offset`` (B, 2, F, F) in cells;
    ``box_cxcywh`` (B, 4) in crop sides, read at the highest score; ``kept``: for each layer that eliminated any,
    the row-major positions of the surviving search tokens in kept order, (B, K_i) int64; empty without elimination.
    """

    score: Tensor
    size: Tensor
    offset: Tensor
    box_cxcywh: Tensor
    kept: tuple[Tensor, ...] = ()


class BranchTokens(NamedTuple):
    """Tokens after each block (before the final norm) of the four branches: lists of (B, N, C), template first.

    All lists are as long as the students are deep: of deeper teachers they hold the blocks that
    :func:`matching_block` names. Those of teachers are empty where no teacher ran.
    """

    visible: list[Tensor]
    infrared: list[Tensor]
    teacher_visible: list[Tensor]
    teacher_infrared: list[Tensor]


@dataclass(kw_only=True)
class CoupledOutput(Output):
    """The fused answer of the students, and beside it what training compares: the teachers' and all tokens.

    The teachers' answers are None where none ran. ``projected`` are the students' tokens, visible and infrared, in the
    width of wider teachers; None where the widths agree and tokens are compared as they are.
    """

    teacher_visible: Output | None
    teacher_infrared: Output | None
    tokens: BranchTokens
    projected: tuple[list[Tensor], list[Tensor]] | None = None


class Template(NamedTuple):
    """What a network remembers of the target: computed once, used for every frame.

    ``features`` (2, B, D, H, W) of the stem; ``rows`` weights of the template tokens in elimination, or None.
    """

    features: Tensor
    rows: Tensor | None


class StudentNetwork(nn.Module):
    """Two students and the fused head: all that runs when tracking."""

    _rows: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = LiteStem() if config.stem == "lite0" else None
        self.visible = _branch(config)
        self.infrared = self.visible if config.shared_students else _branch(config)
        self.head = CenterHead(2 * config.width, config.head_channels)
        self.register_buffer("_rows", self._template_rows(), persistent=False)

    def forward(self, template: Tensor, search: Tensor, template_box: Tensor | None = None) -> Output:
        """Finds the target of a template in a search region.

        Args:
            template: (2, B, 3, Ht, Wt), normalised (:func:`duotrack.model.normalize`).
            search: (2, B, 3, Hs, Ws), normalised.
            template_box: x, y, w, h in template crop sides, (B, 4); only used, and then needed, by elimination
                with ``GT_BOX``.
        """
        return self.search(self.template(template, template_box), search)

    def template(self, template: Tensor, template_box: Tensor | None = None) -> Template:
        """The part of :meth:`forward` that depends on the template alone."""
        elimination = self.config.elimination
        rows = None
        if elimination is not None and elimination.template_tokens == "GT_BOX":
            if template_box is None:
                raise ValueError("elimination with GT_BOX needs template_box, the target's box in the template crop")
            rows = box_weights(template_box, self.config.template_size, self.config.template_grid)
        return Template(_features(self.stem, template), rows)

    def search(self, template: Template, search: Tensor) -> Output:
        """The rest of :meth:`forward`: a search region against a known template."""
        branches = (self.visible, self.infrared)
        tokens = _embed(branches, template.features, _features(self.stem, search))
        (visible, infrared), kept = self._transform(branches, tokens, template.rows, self._keep_rates())
        maps: Maps = self.head(torch.cat([visible, infrared], dim=1))
        return Output(*maps, peak_box(maps), kept)

    def tokens(self, template: Tensor, search: Tensor) -> BranchTokens:
        """Tokens of every branch after each block, for a look inside; elimination must not want the target's box."""
        state = self.template(template)
        branches = (self.visible, self.infrared)
        history: list[list[Tensor]] = []
        tokens = _embed(branches, state.features, _features(self.stem, search))
        self._transform(branches, tokens, state.rows, self._keep_rates(), history)
        visible, infrared = (list(branch) for branch in zip(*history, strict=True))
        return BranchTokens(visible, infrared, [], [])

    def _transform(
        self,
        branches: Sequence[VisionTransformer],
        tokens: list[Tensor],
        row_weights: Tensor | None,
        keep_rates: dict[int, float],
        history: list[list[Tensor]] | None = None,
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """All blocks over all branches; the first two branches are the students, who decide for all.

        Where teachers are deeper, each of the students' blocks runs beside its :func:`matching_block`, after the
        teachers' blocks that have no counterpart.

        Args:
            branches: students first.
            tokens: embedded tokens (B, Nz + Nx, C) of each branch.
            row_weights: of :class:`Template`.
            keep_rates: block number to the share of search tokens that stays after its attention.
            history: filled with the tokens of all branches after each of the students' blocks.

        Returns:
            The search features (B, C, F, F) of each branch, eliminated cells zero; and the kept positions.
        """
        nz, nx = self.config.template_grid**2, self.config.search_grid**2
        positions = torch.arange(nx, device=tokens[0].device).expand(tokens[0].shape[0], -1)
        kept: list[Tensor] = []
        for layer in range(self.config.depth):
            stretches = [_blocks(branch, layer, self.config.depth) for branch in branches]
            tokens = [_run(unmatched, t) for (*unmatched, _), t in zip(stretches, tokens, strict=True)]
            blocks = [stretch[-1] for stretch in stretches]
            rate, current = keep_rates.get(layer, 1.0), positions.shape[1]
            eliminates = math.ceil(rate * current) < current
            rows = [self._rows if eliminates and student < 2 else None for student in range(len(blocks))]
            attended = [block.attend(t, row) for block, t, row in zip(blocks, tokens, rows, strict=True)]
            tokens = [t for t, _ in attended]
            if eliminates:
                (_, visible), (_, infrared) = attended[:2]
                assert visible is not None and infrared is not None  # their rows were asked for
                keep = candidates(visible, infrared, current, rate, row_weights)
                tokens = [gather_search(t, nz, keep) for t in tokens]
                positions = positions.gather(1, keep)
                kept.append(positions)
            tokens = [block.feed(t) for block, t in zip(blocks, tokens, strict=True)]
            if history is not None:
                history.append(tokens)
        grid = self.config.search_grid
        features = []
        for branch, t in zip(branches, tokens, strict=True):
            search = branch.norm(t)[:, nz:]
            if kept:
                search = restore_search(search, positions, nx)
            features.append(search.mT.reshape(-1, search.shape[-1], grid, grid))
        return features, tuple(kept)

    def _keep_rates(self) -> dict[int, float]:
        elimination = self.config.elimination
        return dict(zip(elimination.layers, elimination.keep_rates, strict=True)) if elimination else {}

    def _template_rows(self) -> Tensor:
        elimination = self.config.elimination
        kind = elimination.template_tokens if elimination else "ALL"
        return torch.tensor(template_rows(kind, self.config.template_grid))


class CoupledNetwork(StudentNetwork):
    """Students and teachers, for training by coupled knowledge distillation.

    Teachers are made like the students and share their stem, as in the paper; or as ``config.teacher`` says, with a
    stem of their own. Where these are wider, a linear projection for each modality and block takes the students'
    tokens to the teachers' width before they are compared; it is learned, and left behind when the students are saved.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        teacher = config.teacher or config
        self.teacher_visible = _branch(teacher)
        self.teacher_infrared = _branch(teacher)
        self.teacher_head_visible = CenterHead(teacher.width, teacher.head_channels)
        self.teacher_head_infrared = CenterHead(teacher.width, teacher.head_channels)
        self.teacher_stem = LiteStem() if config.teacher and teacher.stem == "lite0" else None
        wider = teacher.width != config.width
        self.teacher_projection_visible = _projections(config, teacher) if wider else None
        self.teacher_projection_infrared = _projections(config, teacher) if wider else None

    def forward(
        self,
        template: Tensor,
        search: Tensor,
        template_box: Tensor | None = None,
        keep_mask: Tensor | None = None,
        keep_rate: float | None = None,
        teachers: bool = True,
    ) -> CoupledOutput:
        """Runs students and teachers on the same pair.

        Args:
            template: as for :class:`StudentNetwork`.
            search: likewise.
            template_box: likewise.
            keep_mask: masked modelling, (B, Nx), 1 where a search token stays; the same for both students, the
                teachers see everything (:func:`search_mask`).
            keep_rate: of the elimination layers, in place of the configured one (:func:`scheduled_keep_rate`).
            teachers: False leaves the teachers out: half the work where only the students learn.
        """
        state = self.template(template, template_box)
        features = _features(self.stem, search)
        branches = [self.visible, self.infrared]
        tokens = _embed(branches, state.features, features, keep_mask)
        if teachers:
            z, x = state.features, features
            if self.config.teacher is not None:
                z, x = _features(self.teacher_stem, template), _features(self.teacher_stem, search)
            branches += [self.teacher_visible, self.teacher_infrared]
            tokens += _embed(branches[2:], z, x)
        rates = self._keep_rates() if keep_rate is None else dict.fromkeys(self._keep_rates(), keep_rate)
        history: list[list[Tensor]] = []
        searched, kept = self._transform(branches, tokens, state.rows, rates, history)
        layers = [list(branch) for branch in zip(*history, strict=True)]
        fused: Maps = self.head(torch.cat(searched[:2], dim=1))
        if not teachers:
            alone = BranchTokens(layers[0], layers[1], [], [])
            return CoupledOutput(
                *fused, peak_box(fused), kept, teacher_visible=None, teacher_infrared=None, tokens=alone
            )
        by_visible: Maps = self.teacher_head_visible(searched[2])
        by_infrared: Maps = self.teacher_head_infrared(searched[3])
        return CoupledOutput(
            *fused,
            peak_box(fused),
            kept,
            teacher_visible=Output(*by_visible, peak_box(by_visible), kept),
            teacher_infrared=Output(*by_infrared, peak_box(by_infrared), kept),
            tokens=BranchTokens(*layers),
            projected=self._project(layers[0], layers[1]),
        )

    def tokens(self, template: Tensor, search: Tensor) -> BranchTokens:
        """As of :class:`StudentNetwork`, those of the teachers too."""
        return CoupledNetwork.forward(self, template, search).tokens

    def _project(self, visible: list[Tensor], infrared: list[Tensor]) -> tuple[list[Tensor], list[Tensor]] | None:
        """The students' tokens in the teachers' width, where that is another one."""
        if self.teacher_projection_visible is None or self.teacher_projection_infrared is None:
            return None
        return (
            [project(t) for project, t in zip(self.teacher_projection_visible, visible, strict=True)],
            [project(t) for project, t in zip(self.teacher_projection_infrared, infrared, strict=True)],
        )


def _branch(config: ModelConfig) -> VisionTransformer:
    if config.stem == "lite0":
        return VisionTransformer(config, LITE0_CHANNELS, 1)
    return VisionTransformer(config, 3, config.stride)


def _blocks(branch: VisionTransformer, layer: int, depth: int) -> list[Block]:
    """The blocks of a branch that belong to block ``layer`` of students of ``depth`` blocks: its match comes last."""
    first, last = (matching_block(one, depth, len(branch.blocks)) for one in (layer - 1, layer))
    return [cast(Block, branch.blocks[number]) for number in range(first + 1, last + 1)]


def _run(blocks: Sequence[Block], tokens: Tensor) -> Tensor:
    for block in blocks:
        tokens = block.feed(block.attend(tokens)[0])
    return tokens


def _projections(config: ModelConfig, teacher: ModelConfig) -> nn.ModuleList:
    """One for each block of a student. Without bias: instance normalisation would take it away again."""
    return nn.ModuleList(nn.Linear(config.width, teacher.width, bias=False) for _ in range(config.depth))


def _features(stem: LiteStem | None, images: Tensor) -> Tensor:
    """(2, B, 3, H, W) through the stem to (2, B, D, H', W').

    Images for a patch stem stay what they are, and so does what has been through the stem already.
    """
    if stem is None or images.shape[2] == LITE0_CHANNELS:
        return images
    features: Tensor = stem(images.flatten(0, 1))
    return cast(Tensor, features.unflatten(0, (2, -1)))


def _embed(
    branches: Sequence[VisionTransformer], template: Tensor, search: Tensor, keep: Tensor | None = None
) -> list[Tensor]:
    """The tokens (B, Nz + Nx, C) of a visible and an infrared branch from features (2, B, D, H, W).

    ``keep`` masks the search tokens of both, as :meth:`VisionTransformer.embed_search` says.
    """
    cosines: Tensor | tuple[None, None] = (None, None)
    if branches[0].correlation is not None:
        z, x = F.normalize(template.flatten(3), dim=2), F.normalize(search.flatten(3), dim=2)
        cosines = x.mT @ z  # of every search with every template feature, (2, B, Nx, Nz)
    return [
        torch.cat([branch.embed_template(z), branch.embed_search(x, cosine, keep)], dim=1)
        for branch, z, x, cosine in zip(branches, template, search, cosines, strict=True)
    ]


def matching_block(layer: int, depth: int, teacher_depth: int) -> int:
    """The block of a deeper teacher that a student's block is compared with; both counted from 0.

    Counted from 1, block l of L matches block round(l T / L) of T, halves up: the last matches the last, and with
    equal depths every block its like. -1 for ``layer`` -1: before the first block stands none.
    """
    return (2 * (layer + 1) * teacher_depth + depth) // (2 * depth) - 1


def search_mask(
    batch: int, tokens: int, ratio: float, probability: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Masked modelling: which search tokens the students see, (batch, tokens) bool.

    With ``probability`` a sample is masked, and then each of its tokens is dropped with probability ``ratio``.
    (For probabilities between 0 and 1 the published code inverts both; no published configuration does that.)
    """
    masked = torch.rand(batch, 1, generator=generator) < probability
    dropped = torch.rand(batch, tokens, generator=generator) <= ratio
    return ~(masked & dropped)


def scheduled_keep_rate(base: float, epoch: int, start: int, warmup: int) -> float:
    """The keep rate in training: 1 before ``start``, then by a half cosine down to ``base`` over ``warmup`` epochs."""
    if epoch < start:
        return 1.0
    if epoch >= start + warmup:
        return base
    return base + (1 - base) * (math.cos(math.pi * (epoch - start) / warmup) + 1) / 2
