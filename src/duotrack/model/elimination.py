"""Multi-modal candidate elimination: both modalities decide together which search tokens go on.

A search token matters if the target's template tokens look at it in *either* modality; hence the maximum of the two
students' attention, taken before any mean:

    A     = max(A_visible, A_infrared)               elementwise, per head
    score = mean over heads and template rows of A[rows, search columns]

The ``ceil(rate * n)`` search tokens with the highest score stay, in the order of their score, in every branch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from duotrack.model.config import TemplateTokens


def template_rows(kind: TemplateTokens, grid: int) -> list[int]:
    """The template tokens that judge, as indices into a ``grid`` x ``grid`` template.

    For ``GT_BOX`` all are returned; :func:`box_weights` then says which of them count.
    """
    first, last = (grid - 1) // 2, grid // 2
    if kind == "CTR_POINT":
        return [first * grid + first]
    if kind == "CTR_REC":
        return [row * grid + col for row in range(first, last + 1) for col in range(first, last + 1)]
    return list(range(grid * grid))


def box_weights(box: Tensor, size: int, grid: int) -> Tensor:
    """Which template tokens the target's box covers, each sample's summing to 1: (B, 4) to (B, grid^2).

    Args:
        box: x, y, w, h in template crop sides.
        size: side of the template crop in pixels.
        grid: side of the template in tokens.

    Raises:
        ValueError: if a box covers no token, so that nothing could judge.
    """
    mask = box.new_zeros(len(box), 1, size, size)
    for sample, (x, y, w, h) in zip(mask, (box * size).tolist(), strict=True):
        # The published mask leaves out the last row and column of the box.
        sample[0, max(0, int(y)) : max(0, int(y + h - 1)), max(0, int(x)) : max(0, int(x + w - 1))] = 1
    covered = F.interpolate(mask, size=(grid, grid), mode="bilinear", align_corners=False).flatten(1) > 0
    if not covered.any(1).all():
        sample_index = int((~covered.any(1)).nonzero()[0])
        raise ValueError(f"the template box of sample {sample_index} covers no token: {box[sample_index].tolist()}")
    return covered / covered.sum(1, keepdim=True)


def candidates(visible: Tensor, infrared: Tensor, search_tokens: int, rate: float, weights: Tensor | None) -> Tensor:
    """The search tokens that stay, best first: the decision for all branches.

    Args:
        visible: attention of the template rows in the visible student, (B, h, R, N); the last
            ``search_tokens`` columns are search tokens.
        infrared: the same of the infrared student.
        search_tokens: n.
        rate: share that stays.
        weights: weight of each row, (B, R), or None for their plain mean.

    Returns:
        Indices into the current search tokens, (B, ceil(rate * n)).
    """
    attention = torch.maximum(visible, infrared)[..., -search_tokens:].mean(1)
    score = attention.mean(1) if weights is None else (weights.unsqueeze(-1) * attention).sum(1)
    return score.topk(math.ceil(rate * search_tokens), dim=1).indices


def gather_search(tokens: Tensor, template_tokens: int, keep: Tensor) -> Tensor:
    """All template tokens and the kept search tokens in their new order: (B, N, C) to (B, Nz + K, C)."""
    template, search = tokens[:, :template_tokens], tokens[:, template_tokens:]
    return torch.cat([template, search.gather(1, keep.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))], dim=1)


def restore_search(tokens: Tensor, positions: Tensor, count: int) -> Tensor:
    """Puts search tokens (B, K, C) back to their places among ``count`` tokens; eliminated ones are zero."""
    places = positions.unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
    return tokens.new_zeros(tokens.shape[0], count, tokens.shape[-1]).scatter(1, places, tokens)
