"""The coupled training step written as the published code takes it, to stand beside the engine's (training_step.py).

The same weights, crops, masks and random numbers; none of the savings:

- attention is explicit, ``softmax(q k^T / sqrt(d)) v``, and every block of every branch gives its whole matrix away;
- every branch is computed, in both stages, each by itself from its own copy of the images; where tokens are
  eliminated, the matrices of both students are compared as a whole and all scores are sorted;
- the teachers' answers, style and content are computed in stage 2 as well, where they reach only the teachers' heads.

Shapes: B batch, h heads, N tokens (template first), C width, F cells along a side of the search region.
"""

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duotrack.losses import Target
from duotrack.model.elimination import template_rows
from duotrack.model.head import CenterHead, Maps
from duotrack.model.network import CoupledNetwork, search_mask
from duotrack.model.normalization import normalize
from duotrack.model.vit import Block, VisionTransformer
from duotrack.training.batches import Batch
from duotrack.training.config import TrainingConfig
from duotrack.training.recipe import Precision


class Losses(NamedTuple):
    """``terms`` are named as :func:`duotrack.losses.ckd_loss` names them."""

    total: Tensor
    terms: dict[str, Tensor]


def train_step(
    network: CoupledNetwork,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrainingConfig,
    precision: Precision,
) -> None:
    """One step on a batch that is computed at once, at the constant rate of the recipe."""
    for rates in optimizer.param_groups:
        rates["lr"] = rates["base_rate"]
    optimizer.zero_grad(set_to_none=True)
    losses = forward(network, batch.to(next(network.parameters()).device), config, precision)
    precision.scaler.scale(losses.total).backward()
    precision.scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.clip)
    precision.scaler.step(optimizer)
    precision.scaler.update()


def forward(network: CoupledNetwork, batch: Batch, config: TrainingConfig, precision: Precision) -> Losses:
    """All branches, heads and losses on the first pairs of a run."""
    network.train()
    torch.manual_seed(config.seed * 1_000_000_007)  # the engine's seed, so that the masks are the engine's
    mask = None
    if config.masking.probability > 0:
        cells = config.network.search_grid**2
        mask = search_mask(len(batch), cells, config.masking.ratio, config.masking.probability)
        mask = mask.to(batch.brightness.device)
    # Visible, infrared for the teachers, visible, infrared for the students.
    template = normalize(batch.template, batch.brightness[:, 0]).repeat(2, 1, 1, 1, 1)
    search = normalize(batch.search, batch.brightness[:, 1]).repeat(2, 1, 1, 1, 1)
    branches = (network.teacher_visible, network.teacher_infrared, network.visible, network.infrared)
    with precision.autocast:
        tokens = [
            _embed(branch, z, x, None if number < 2 else mask)
            for number, (branch, z, x) in enumerate(zip(branches, template, search, strict=True))
        ]
        features, history = _transform(network, branches, tokens)
        teacher_visible, teacher_infrared, visible, infrared = features
        answers = {
            "fused": _answer(network.head, torch.cat([visible, infrared], dim=1)),
            "teacher_visible": _answer(network.teacher_head_visible, teacher_visible),
            "teacher_infrared": _answer(network.teacher_head_infrared, teacher_infrared),
        }
    terms: dict[str, Tensor] = {}
    for name, (maps, box) in answers.items():
        terms |= _task_terms(name, maps, box, batch.target)
    terms["style"] = torch.stack([_style(layer[2], layer[3]) for layer in history]).sum()
    terms["content"] = torch.stack(
        [_content(layer[1], layer[3]) + _content(layer[0], layer[2]) for layer in history]
    ).sum()
    weights = {"giou": 2, "l1": 5, "focal": 1, "style": 0.01, "content": 0.1}
    total = torch.stack([weights[name.split(".")[-1]] * value for name, value in terms.items()]).sum()
    return Losses(total, terms)


def _embed(branch: VisionTransformer, template: Tensor, search: Tensor, keep: Tensor | None) -> Tensor:
    z, x = branch.patch_embed(template), branch.patch_embed(search)
    if keep is not None:
        x = x * keep.unsqueeze(-1)
    return torch.cat([z + branch.pos_embed_z, x + branch.pos_embed_x], dim=1)


def _transform(
    network: CoupledNetwork, branches: tuple[VisionTransformer, ...], tokens: list[Tensor]
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The search features (B, C, F, F) of every branch, and the tokens of all after each block."""
    config = network.config
    nz, nx = config.template_grid**2, config.search_grid**2
    elimination = config.elimination
    rates = dict(zip(elimination.layers, elimination.keep_rates, strict=True)) if elimination else {}
    places = torch.arange(nx, device=tokens[0].device).expand(len(tokens[0]), nx)
    history: list[list[Tensor]] = []
    for layer in range(config.depth):
        blocks = [cast(Block, branch.blocks[layer]) for branch in branches]
        attended = [_attend(block, t) for block, t in zip(blocks, tokens, strict=True)]
        tokens = [t for t, _ in attended]
        if elimination is not None and layer in rates:
            rows = template_rows(elimination.template_tokens, config.template_grid)
            larger = torch.maximum(attended[2][1], attended[3][1])
            score = larger[:, :, rows, nz:].float().mean(2).mean(1)
            keep = score.argsort(dim=1, descending=True)[:, : math.ceil(rates[layer] * score.shape[1])]
            places = places.gather(1, keep)
            wanted = keep.unsqueeze(-1).expand(-1, -1, config.width)
            tokens = [torch.cat([t[:, :nz], t[:, nz:].gather(1, wanted)], dim=1) for t in tokens]
        tokens = [t + _drop(block, block.mlp(block.norm2(t))) for block, t in zip(blocks, tokens, strict=True)]
        history.append(tokens)
    features = []
    for branch, t in zip(branches, tokens, strict=True):
        search = branch.norm(t)[:, nz:]
        back = search.new_zeros(len(search), nx, config.width)
        back = back.scatter(1, places.unsqueeze(-1).expand(-1, -1, config.width), search)
        features.append(back.transpose(1, 2).reshape(-1, config.width, config.search_grid, config.search_grid))
    return features, history


def _attend(block: Block, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens after attention, and its whole matrix (B, h, N, N)."""
    batch, count, width = tokens.shape
    heads = block.attn.heads
    qkv = block.attn.qkv(block.norm1(tokens)).reshape(batch, count, 3, heads, width // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    attention = (q @ k.transpose(-2, -1) * (width // heads) ** -0.5).softmax(-1)
    mixed = (attention @ v).transpose(1, 2).reshape(batch, count, width)
    return tokens + _drop(block, block.attn.proj(mixed)), attention


def _drop(block: Block, residual: Tensor) -> Tensor:
    """Stochastic depth, per sample."""
    if block.drop_path == 0:
        return residual
    keep = 1 - block.drop_path
    return residual * torch.rand(len(residual), 1, 1, device=residual.device).lt(keep).to(residual.dtype) / keep


def _answer(head: CenterHead, features: Tensor) -> tuple[Maps, Tensor]:
    """The maps of a head, and the box (B, 4) at their peak: left, top, right, bottom in crop sides."""
    maps: Maps = head(features)
    side = maps.score.shape[-1]
    peak = maps.score.flatten(1).argmax(1)
    sample = torch.arange(len(peak), device=peak.device)
    row, column = peak // side, peak % side
    dx, dy = maps.offset[sample, :, row, column].unbind(1)
    w, h = maps.size[sample, :, row, column].unbind(1)
    x, y = (column + dx) / side, (row + dy) / side
    return maps, torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=1)


def _task_terms(name: str, maps: Maps, box: Tensor, target: Target) -> dict[str, Tensor]:
    x, y, w, h = target.box.unbind(1)
    truth = torch.stack([x, y, x + w, y + h], dim=1).clamp(0, 1)
    inside = (torch.minimum(box[:, 2:], truth[:, 2:]) - torch.maximum(box[:, :2], truth[:, :2])).clamp(min=0).prod(1)
    around = (torch.maximum(box[:, 2:], truth[:, 2:]) - torch.minimum(box[:, :2], truth[:, :2])).prod(1)
    union = (box[:, 2:] - box[:, :2]).prod(1) + (truth[:, 2:] - truth[:, :2]).prod(1) - inside
    p, g = maps.score.clamp(min=1e-12), target.heatmap
    hits = (p.log() * (1 - p) ** 2 * (g == 1)).sum()
    misses = ((1 - p).log() * p**2 * (1 - g) ** 4 * (g < 1)).sum()
    return {
        f"{name}.giou": (1 - inside / union + (around - union) / around).mean(),
        f"{name}.l1": (box - truth).abs().mean(),
        f"{name}.focal": -(hits + misses) / max(1, int((g == 1).sum())),
    }


def _style(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.float(), b.float()
    return ((a.mean(1) - b.mean(1)) ** 2 + (a.std(1) - b.std(1)) ** 2).mean()


def _content(teacher: Tensor, student: Tensor) -> Tensor:
    teacher, student = (F.instance_norm(t.float().transpose(1, 2)) for t in (teacher.detach(), student))
    return nn.functional.mse_loss(student, teacher)
