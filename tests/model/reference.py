"""The published inference once more: NumPy, float64, plain loops, written from its description, not from the code.

It speaks the published layout of parameters (``rgb_branch.blocks.0.attn.qkv.weight``) and is slow. Tests hold the
torch networks to it, so that parity is checked without any large file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = Mapping[str, npt.NDArray[np.floating]]
BRANCHES = ("rgb_branch", "tir_branch")
PATCH = 16


@dataclass
class Result:
    score: Array  # (B, 1, F, F)
    size: Array  # (B, 2, F, F)
    offset: Array  # (B, 2, F, F)
    box: Array  # (B, 4) cx, cy, w, h
    features: Array  # (B, F * F, 2C), zeros where a token was eliminated
    kept: list[npt.NDArray[np.int64]]  # places in the search grid, (B, K) after each elimination
    votes: list[Array]  # what each place was ranked by, (B, F * F), NaN where it had been eliminated before


def infer(
    weights: Weights,
    template: Array,
    search: Array,
    *,
    heads: int,
    keep: Mapping[int, float] | None = None,
    rows: Sequence[npt.NDArray[np.int64]] = (),
) -> Result:
    """One frame: ``template`` and ``search`` (2, B, 3, S, S), normalised; visible first.

    ``keep`` maps a block to the share of search tokens that survive there; ``rows`` holds each sample's template
    tokens that vote.
    """
    batch, cells = search.shape[1], (search.shape[-1] // PATCH) ** 2
    z = [_embed(weights, branch, image, "z") for branch, image in zip(BRANCHES, template, strict=True)]
    x = [_embed(weights, branch, image, "x") for branch, image in zip(BRANCHES, search, strict=True)]
    tokens = [np.concatenate(pair, 1) for pair in zip(z, x, strict=True)]
    nz = z[0].shape[1]
    places = np.tile(np.arange(cells), (batch, 1))
    kept, votes = [], []
    depth = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("rgb_branch.blocks."))
    for index in range(depth):
        blocks = [f"{branch}.blocks.{index}" for branch in BRANCHES]
        attentions = []
        for i, block in enumerate(blocks):
            update, attention = _attend(
                weights, f"{block}.attn", _layer_norm(weights, f"{block}.norm1", tokens[i]), heads
            )
            tokens[i] = tokens[i] + update
            attentions.append(attention)
        left = math.ceil(keep[index] * places.shape[1]) if keep and index in keep else places.shape[1]
        if left < places.shape[1]:
            votes.append(np.full((batch, cells), np.nan))
            score = _score(attentions, nz, rows)
            np.put_along_axis(votes[-1], places, score, 1)
            order = np.argsort(-score, 1, kind="stable")[:, :left]
            places = np.take_along_axis(places, order, 1)
            kept.append(places)
            chosen = np.concatenate([np.tile(np.arange(nz), (batch, 1)), nz + order], 1)[..., None]
            tokens = [np.take_along_axis(t, chosen, 1) for t in tokens]
        for i, block in enumerate(blocks):
            hidden = _gelu(_linear(weights, f"{block}.mlp.fc1", _layer_norm(weights, f"{block}.norm2", tokens[i])))
            tokens[i] = tokens[i] + _linear(weights, f"{block}.mlp.fc2", hidden)
    fused = []
    for branch, t in zip(BRANCHES, tokens, strict=True):
        full = np.zeros((batch, cells, t.shape[-1]))
        np.put_along_axis(full, places[..., None], _layer_norm(weights, f"{branch}.norm", t)[:, nz:], 1)
        fused.append(full)
    features = np.concatenate(fused, -1)
    side = math.isqrt(cells)
    score, size, offset = head(weights, "box_head", features.transpose(0, 2, 1).reshape(batch, -1, side, side))
    return Result(score, size, offset, decode(score, size, offset), features, kept, votes)


def head(weights: Weights, name: str, features: Array) -> tuple[Array, Array, Array]:
    """Score, size and offset maps of the centre head ``name`` over (B, C, F, F)."""
    maps = {}
    for tower in ("ctr", "size", "offset"):
        x = features
        for layer in range(1, 5):
            conv = f"{name}.conv{layer}_{tower}"
            x = np.maximum(_batch_norm(weights, f"{conv}.1", _conv(weights, f"{conv}.0", x)), 0)
        maps[tower] = _conv(weights, f"{name}.conv5_{tower}", x)
    score, size = (np.clip(1 / (1 + np.exp(-maps[tower])), 1e-4, 1 - 1e-4) for tower in ("ctr", "size"))
    return score, size, maps["offset"]


def decode(score: Array, size: Array, offset: Array) -> Array:
    """The box (B, 4), cx, cy, w, h in crop sides, at the highest score."""
    side = score.shape[-1]
    boxes = []
    for s, wh, o in zip(score, size, offset, strict=True):
        row, column = divmod(int(s.argmax()), side)
        cx, cy = (column + o[0, row, column]) / side, (row + o[1, row, column]) / side
        boxes.append([cx, cy, wh[0, row, column], wh[1, row, column]])
    return np.array(boxes)


def template_rows(rule: str, grid: int, box: Sequence[float] = ()) -> npt.NDArray[np.int64]:
    """The template tokens that vote; ``box`` is the template box (x, y, w, h) in pixels of its crop, for ``GT_BOX``."""
    cells = np.zeros((grid, grid), bool)
    if rule == "CTR_POINT":
        cells[(grid - 1) // 2, (grid - 1) // 2] = True
    elif rule == "CTR_REC":
        cells[(grid - 1) // 2 : grid // 2 + 1, (grid - 1) // 2 : grid // 2 + 1] = True
    elif rule == "ALL":
        cells[:] = True
    else:
        x, y, w, h = box
        pixels = np.zeros((grid * PATCH, grid * PATCH))
        pixels[int(y) : int(y + h - 1), int(x) : int(x + w - 1)] = 1
        # Bilinear, by 16, without antialiasing: a cell is the mean of its four central pixels.
        cells[:] = np.sum([pixels[i::PATCH, j::PATCH] for i in (7, 8) for j in (7, 8)], axis=0) > 0
    return np.flatnonzero(cells)


def _score(attentions: list[Array], nz: int, rows: Sequence[npt.NDArray[np.int64]]) -> Array:
    strongest = np.maximum(*attentions)  # (B, h, N, N)
    return np.stack([a[:, own, nz:].mean(1).mean(0) for a, own in zip(strongest, rows, strict=True)])


def _embed(weights: Weights, branch: str, images: Array, part: str) -> Array:
    batch, channels, height, width = images.shape
    patches = images.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    kernel, bias = (weights[f"{branch}.patch_embed.proj.{name}"] for name in ("weight", "bias"))
    grid = np.einsum("bchiwj,ocij->bhwo", patches, kernel, optimize=True) + bias
    tokens: Array = grid.reshape(batch, -1, grid.shape[-1]) + weights[f"{branch}.pos_embed_{part}"]
    return tokens


def _attend(weights: Weights, name: str, x: Array, heads: int) -> tuple[Array, Array]:
    batch, count, width = x.shape
    qkv = _linear(weights, f"{name}.qkv", x).reshape(batch, count, 3, heads, width // heads)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)
    logits = q @ k.swapaxes(-1, -2) / math.sqrt(width // heads)
    attention = np.exp(logits - logits.max(-1, keepdims=True))
    attention /= attention.sum(-1, keepdims=True)
    mixed = (attention @ v).transpose(0, 2, 1, 3).reshape(batch, count, width)
    return _linear(weights, f"{name}.proj", mixed), attention


def _linear(weights: Weights, name: str, x: Array) -> Array:
    result: Array = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return result


def _layer_norm(weights: Weights, name: str, x: Array) -> Array:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    result: Array = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return result


def _gelu(x: Array) -> Array:
    result: Array = x * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2))) / 2
    return result


def _conv(weights: Weights, name: str, x: Array) -> Array:
    kernel, border = weights[f"{name}.weight"], weights[f"{name}.weight"].shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))
    result: Array = np.einsum("bchwij,ocij->bohw", windows, kernel, optimize=True)
    return result + weights[f"{name}.bias"][:, None, None]


def _batch_norm(weights: Weights, name: str, x: Array) -> Array:
    mean, var, scale, shift = (
        weights[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
    )
    result: Array = (x - mean) / np.sqrt(var + 1e-5) * scale + shift
    return result
