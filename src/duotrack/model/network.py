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
    """Tokens after each block (before the final norm) of the four branches: lists of (B, N, C), template first."""

    visible: list[Tensor]
    infrared: list[Tensor]
    teacher_visible: list[Tensor]
    teacher_infrared: list[Tensor]


@dataclass(kw_only=True)
class CoupledOutput(Output):
    """The fused answer of the students, and beside it what training compares: the teachers' and all tokens."""

    teacher_visible: Output
    teacher_infrared: Output
    tokens: BranchTokens


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
        self.visible = self._branch()
        self.infrared = self.visible if config.shared_students else self._branch()
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
        return Template(self._features(template), rows)

    def search(self, template: Template, search: Tensor) -> Output:
        """The rest of :meth:`forward`: a search region against a known template."""
        features = self._features(search)
        cosines = self._cosines(template.features, features)
        branches = (self.visible, self.infrared)
        tokens = [
            torch.cat([branch.embed_template(z), branch.embed_search(x, cosine)], dim=1)
            for branch, z, x, cosine in zip(branches, template.features, features, cosines, strict=True)
        ]
        (visible, infrared), kept = self._transform(branches, tokens, template.rows, self._keep_rates())
        maps: Maps = self.head(torch.cat([visible, infrared], dim=1))
        return Output(*maps, peak_box(maps), kept)

    def _transform(
        self,
        branches: Sequence[VisionTransformer],
        tokens: list[Tensor],
        row_weights: Tensor | None,
        keep_rates: dict[int, float],
        history: list[list[Tensor]] | None = None,
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """All blocks over all branches; the first two branches are the students, who decide for all.

        Args:
            branches: students first.
            tokens: embedded tokens (B, Nz + Nx, C) of each branch.
            row_weights: of :class:`Template`.
            keep_rates: block number to the share of search tokens that stays after its attention.
            history: filled with the tokens of all branches after each block.

        Returns:
            The search features (B, C, F, F) of each branch, eliminated cells zero; and the kept positions.
        """
        nz, nx = self.config.template_grid**2, self.config.search_grid**2
        positions = torch.arange(nx, device=tokens[0].device).expand(tokens[0].shape[0], -1)
        kept: list[Tensor] = []
        for layer in range(self.config.depth):
            blocks = [cast(Block, branch.blocks[layer]) for branch in branches]
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
            features.append(search.mT.reshape(-1, self.config.width, grid, grid))
        return features, tuple(kept)

    def _features(self, images: Tensor) -> Tensor:
        """(2, B, 3, H, W) through the stem to (2, B, D, H', W'); the images themselves for a patch stem."""
        if self.stem is None:
            return images
        features: Tensor = self.stem(images.flatten(0, 1))
        return cast(Tensor, features.unflatten(0, (2, -1)))

    def _cosines(self, template: Tensor, search: Tensor) -> Tensor | tuple[None, None]:
        """Cosine of every search with every template feature, (2, B, Nx, Nz), where the network wants them."""
        if not self.config.correlation_input:
            return (None, None)
        z, x = F.normalize(template.flatten(3), dim=2), F.normalize(search.flatten(3), dim=2)
        return x.mT @ z

    def _keep_rates(self) -> dict[int, float]:
        elimination = self.config.elimination
        return dict(zip(elimination.layers, elimination.keep_rates, strict=True)) if elimination else {}

    def _branch(self) -> VisionTransformer:
        if self.config.stem == "lite0":
            return VisionTransformer(self.config, LITE0_CHANNELS, 1)
        return VisionTransformer(self.config, 3, self.config.stride)

    def _template_rows(self) -> Tensor:
        elimination = self.config.elimination
        kind = elimination.template_tokens if elimination else "ALL"
        return torch.tensor(template_rows(kind, self.config.template_grid))


class CoupledNetwork(StudentNetwork):
    """Students and teachers, for training by coupled knowledge distillation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.teacher_visible = self._branch()
        self.teacher_infrared = self._branch()
        self.teacher_head_visible = CenterHead(config.width, config.head_channels)
        self.teacher_head_infrared = CenterHead(config.width, config.head_channels)

    def forward(
        self,
        template: Tensor,
        search: Tensor,
        template_box: Tensor | None = None,
        keep_mask: Tensor | None = None,
        keep_rate: float | None = None,
    ) -> CoupledOutput:
        """Runs students and teachers on the same pair.

        Args:
            template: as for :class:`StudentNetwork`.
            search: likewise.
            template_box: likewise.
            keep_mask: masked modelling, (B, Nx), 1 where a search token stays; the same for both students, the
                teachers see everything (:func:`search_mask`).
            keep_rate: of the elimination layers, in place of the configured one (:func:`scheduled_keep_rate`).
        """
        state = self.template(template, template_box)
        features = self._features(search)
        cosines = self._cosines(state.features, features)
        branches = (self.visible, self.infrared, self.teacher_visible, self.teacher_infrared)
        tokens = [
            torch.cat([branch.embed_template(z), branch.embed_search(x, cosine, mask)], dim=1)
            for branch, z, x, cosine, mask in zip(
                branches,
                (*state.features, *state.features),
                (*features, *features),
                (*cosines, *cosines),
                (keep_mask, keep_mask, None, None),
                strict=True,
            )
        ]
        rates = self._keep_rates() if keep_rate is None else dict.fromkeys(self._keep_rates(), keep_rate)
        history: list[list[Tensor]] = []
        searched, kept = self._transform(branches, tokens, state.rows, rates, history)
        visible, infrared, teacher_visible, teacher_infrared = searched
        fused: Maps = self.head(torch.cat([visible, infrared], dim=1))
        by_visible: Maps = self.teacher_head_visible(teacher_visible)
        by_infrared: Maps = self.teacher_head_infrared(teacher_infrared)
        return CoupledOutput(
            *fused,
            peak_box(fused),
            kept,
            teacher_visible=Output(*by_visible, peak_box(by_visible), kept),
            teacher_infrared=Output(*by_infrared, peak_box(by_infrared), kept),
            tokens=BranchTokens(*(list(layers) for layers in zip(*history, strict=True))),
        )


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
