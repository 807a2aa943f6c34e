"""The inference form of :class:`duotrack.model.StudentNetwork`: the same answers, computing only what is used.

It is the figure of :mod:`duotrack.model.network` once more:

    template --stem, embed--> tokens, kept for all frames
    search --stem, embed--> tokens beside them
    for every block, in both students:
        queries, keys and values of all tokens
        who goes on: once, between the students, the search tokens that stay; in the last block no template
        those attend to all, and feed
    --norm--> both students' search tokens --head of three groups--> score, size, offset --> box

What differs from the plain form, in the order of what it gains on a CPU:

- Weights lie as the library for the processor wants them, with activations fused: :mod:`duotrack.model.packing`.
- Batch norms are folded and the three towers of the head run as one: :class:`Head`.
- Tokens that go no further are dropped before attention and not after it: their keys and values serve the others,
  their queries serve nobody. 2.5 % of the arithmetic of `ckd-base`.
- Students that share their weights are one batch.

Keys and values of the template cannot be kept from frame to frame, for template tokens attend to search tokens.

In bf16, weights and tokens are bfloat16; the attention that ranks tokens and the answer are float32.
"""

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from duotrack.model import vit
from duotrack.model.elimination import box_weights, candidates, gather_search, restore_search, template_rows
from duotrack.model.head import CenterHead, Maps, peak_box
from duotrack.model.network import Output, StudentNetwork
from duotrack.model.packing import Activation, Apply, Convolution, Linear, pack
from duotrack.model.stem import InvertedResidual, LiteStem, SameConv

Precision = Literal["fp32", "bf16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Target(NamedTuple):
    """What the network remembers of B targets: computed once, used for every frame.

    ``tokens`` (2, B, Nz, C), embedded; ``directions`` (2, B, D, Nz), the template's features at unit length, where
    the network compares features; ``rows`` (B, Nz), the weights of template tokens in elimination by ``GT_BOX``.
    """

    tokens: Tensor
    directions: Tensor | None
    rows: Tensor | None


class InferenceNetwork:
    """A :class:`StudentNetwork` that only infers."""

    @torch.inference_mode()
    def __init__(self, network: StudentNetwork, *, precision: Precision = "fp32") -> None:
        """Builds the form on the network's device, measuring with torch's present number of threads.

        Args:
            network: with its trained weights. Some of its tensors are used as they are, others are copied: drop it
                afterwards, or leave it unchanged.
            precision: of weights and tokens.

        Raises:
            ValueError: if there is no such precision.
        """
        if precision not in _DTYPES:
            raise ValueError(f"precision must be {' or '.join(get_args(Precision))}, not {precision!r}")
        self.config = config = network.config
        self._dtype = _DTYPES[precision]
        device = network.visible.pos_embed_x.device
        elimination = config.elimination
        self._keep_rates = dict(zip(elimination.layers, elimination.keep_rates, strict=True)) if elimination else {}
        rule = elimination.template_tokens if elimination else "ALL"
        self._rows = torch.tensor(template_rows(rule, config.template_grid), device=device)

        # Every layer is packed for what reaches it when one target is searched for.
        images = torch.zeros(2, 3, config.search_size, config.search_size, dtype=self._dtype, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        self._stem = Stem(network.stem, images) if network.stem else None
        branches = [network.visible] if config.shared_students else [network.visible, network.infrared]
        parts = self._features(images.unsqueeze(1)).chunk(len(branches))  # of each student
        self._students = [Student(branch, part) for branch, part in zip(branches, parts, strict=True)]
        self._head = Head(network.head, self._fused_map(images.new_zeros(2, config.search_grid**2, config.width)))

    @torch.inference_mode()
    def template(self, template: Tensor, template_box: Tensor | None = None) -> Target:
        """As :meth:`StudentNetwork.template`: images (2, B, 3, Ht, Wt) and, for ``GT_BOX``, boxes (B, 4)."""
        rows = None
        if self.config.elimination and self.config.elimination.template_tokens == "GT_BOX":
            if template_box is None:
                raise ValueError("elimination with GT_BOX needs template_box, the target's box in the template crop")
            rows = box_weights(template_box, self.config.template_size, self.config.template_grid)
        features = self._features(template)
        parts = features.chunk(len(self._students))
        tokens = [student.embed_template(part) for student, part in zip(self._students, parts, strict=True)]
        directions = None
        if self.config.correlation_input:
            directions = F.normalize(features.flatten(2), dim=1).unflatten(0, (2, -1))
        return Target(torch.cat(tokens).unflatten(0, (2, -1)), directions, rows)

    @torch.inference_mode()
    def describe(self, images: Tensor) -> Tensor | None:
        """The stem's features (2, B, D, H', W') of images (2, B, 3, H, W), float32; None for a patch stem."""
        return None if self._stem is None else self._features(images).float().unflatten(0, (2, -1))

    @torch.inference_mode()
    def search(self, target: Target, search: Tensor) -> Output:
        """As :meth:`StudentNetwork.search`: images (2, B, 3, Hs, Ws) against known targets."""
        features = self._features(search)
        cosines = None
        if target.directions is not None:
            cosines = F.normalize(features.flatten(2), dim=1).mT @ target.directions.flatten(0, 1)
        tokens = [
            torch.cat([z, student.embed_search(x, c)], dim=1)
            for student, z, x, c in zip(
                self._students, *map(self._parts, (target.tokens.flatten(0, 1), features, cosines)), strict=True
            )
        ]
        tokens, kept = self._transform(tokens, target.rows)
        found = torch.cat([student.norm(t) for student, t in zip(self._students, tokens, strict=True)])
        if kept:
            found = restore_search(found, kept[-1].repeat(2, 1), self.config.search_grid**2)
        maps = self._head(self._fused_map(found))
        return Output(*maps, peak_box(maps), kept)

    def _transform(self, tokens: list[Tensor], row_weights: Tensor | None) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """All blocks over both students: tokens (., Nz + Nx, C) to the search tokens left, and the kept positions."""
        nz, nx = self.config.template_grid**2, self.config.search_grid**2
        batch = sum(map(len, tokens)) // 2
        positions = torch.arange(nx, device=tokens[0].device).expand(batch, -1)
        kept: list[Tensor] = []
        for layer in range(self.config.depth):
            blocks = [student.blocks[layer] for student in self._students]
            asking = [block.ask(t) for block, t in zip(blocks, tokens, strict=True)]
            rate, current = self._keep_rates.get(layer, 1.0), positions.shape[1]
            if math.ceil(rate * current) < current:
                weights = torch.cat([block.weights(a, self._rows) for block, a in zip(blocks, asking, strict=True)])
                visible, infrared = weights.chunk(2)
                keep = candidates(visible, infrared, current, rate, row_weights)
                asking = [a.keep_search(keep.repeat(len(a.tokens) // batch, 1), nz) for a in asking]
                positions = positions.gather(1, keep)
                kept.append(positions)
            if layer == self.config.depth - 1:
                asking = [a.without_template(nz) for a in asking]
            tokens = [block.attend(a) for block, a in zip(blocks, asking, strict=True)]
        return tokens, tuple(kept)

    def _features(self, images: Tensor) -> Tensor:
        """(2, B, 3, H, W) through the stem to (2B, D, H', W'); the images themselves for a patch stem."""
        images = images.flatten(0, 1).to(self._dtype, memory_format=torch.channels_last)
        return images if self._stem is None else self._stem(images)

    def _parts(self, both: Tensor | None) -> tuple[Tensor | None, ...]:
        """What each student sees of (2B, ...), visible first; students that share their weights are one."""
        return (None,) * len(self._students) if both is None else both.chunk(len(self._students))

    def _fused_map(self, found: Tensor) -> Tensor:
        """Search tokens of both students (2B, Nx, C) side by side, (B, 2C, F, F)."""
        grid = self.config.search_grid
        return torch.cat(found.chunk(2), dim=-1).mT.reshape(-1, 2 * self.config.width, grid, grid)


class Asking(NamedTuple):
    """One student's tokens before attention: those that go on, their queries, and keys and values of all, (B, ., C)."""

    tokens: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor

    def keep_search(self, keep: Tensor, template_tokens: int) -> "Asking":
        """Only the template and the search tokens of these indices (B, K) go on."""
        tokens, queries = (gather_search(t, template_tokens, keep) for t in (self.tokens, self.queries))
        return self._replace(tokens=tokens, queries=queries)

    def without_template(self, template_tokens: int) -> "Asking":
        """Only the search tokens go on."""
        return self._replace(tokens=self.tokens[:, template_tokens:], queries=self.queries[:, template_tokens:])


class Block:
    """A transformer block that lets tokens leave between their projection and the attention."""

    def __init__(self, block: vit.Block, tokens: Tensor) -> None:
        self._heads = block.attn.heads
        self._norm1, self._norm2 = Norm(block.norm1, tokens.dtype), Norm(block.norm2, tokens.dtype)
        self._qkv = _linear(block.attn.qkv, tokens)
        self._proj = _linear(block.attn.proj, tokens)
        self._fc1 = _linear(block.mlp.fc1, tokens, "gelu")
        self._fc2 = _linear(block.mlp.fc2, tokens.new_zeros(*tokens.shape[:2], block.mlp.fc2.in_features))

    def ask(self, tokens: Tensor) -> Asking:
        """Queries, keys and values of all tokens."""
        return Asking(tokens, *self._qkv(self._norm1(tokens)).chunk(3, dim=-1))

    def weights(self, asking: Asking, rows: Tensor) -> Tensor:
        """The attention of a few query rows (R,), in float32: (B, h, R, N)."""
        q, k = self._split(asking.queries[:, rows]).float(), self._split(asking.keys).float()
        weights: Tensor = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        return weights

    def attend(self, asking: Asking) -> Tensor:
        """The block's answer for the tokens that go on."""
        q, k, v = (self._split(part) for part in asking[1:])
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = asking.tokens + self._proj(attended)
        return tokens + self._fc2(self._fc1(self._norm2(tokens)))

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to heads (B, h, N, C / h)."""
        return tokens.reshape(*tokens.shape[:2], self._heads, -1).transpose(1, 2)


class Student:
    """One branch, or both where they share their weights: embedding, blocks and final norm."""

    def __init__(self, branch: vit.VisionTransformer, features: Tensor) -> None:
        self._patches, patches = _convolution(branch.patch_embed.proj, features)
        self._positions_z = branch.pos_embed_z.detach().to(features.dtype)
        self._positions_x = branch.pos_embed_x.detach().to(features.dtype)
        nz, nx, width = self._positions_z.shape[1], self._positions_x.shape[1], patches.shape[1]
        self._correlation: Apply | None = None
        if branch.correlation is not None:
            self._correlation = _linear(branch.correlation, features.new_zeros(len(features), nx, nz))
        tokens = features.new_zeros(len(features), nz + nx, width)
        self.blocks = [Block(cast(vit.Block, block), tokens) for block in branch.blocks]
        self.norm = Norm(branch.norm, features.dtype)

    def embed_template(self, features: Tensor) -> Tensor:
        """As :meth:`duotrack.model.vit.VisionTransformer.embed_template`."""
        return self._patches(features).flatten(2).mT + self._positions_z

    def embed_search(self, features: Tensor, cosines: Tensor | None) -> Tensor:
        """As :meth:`duotrack.model.vit.VisionTransformer.embed_search`."""
        tokens = self._patches(features).flatten(2).mT + self._positions_x
        if self._correlation is not None and cosines is not None:
            tokens = tokens + self._correlation(cosines)
        return tokens


class Norm:
    """A layer norm, (..., C)."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        self._weight, self._bias = norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)
        self._eps = norm.eps

    def __call__(self, tokens: Tensor) -> Tensor:
        """Normalises each token."""
        return F.layer_norm(tokens, self._weight.shape, self._weight, self._bias, self._eps)


class Stem:
    """The convolutional stem, images (B, 3, H, W) to features (B, D, H / 16, W / 16)."""

    def __init__(self, stem: LiteStem, images: Tensor) -> None:
        self._first, x = _convolution(stem.conv, images, "relu6")
        self._blocks: list[tuple[list[Apply], bool]] = []
        for block in cast(Iterable[InvertedResidual], stem.blocks):
            layers: list[Apply] = []
            for conv in (block.expand, block.depthwise, block.project):
                if conv is not None:
                    layer, x = _convolution(conv, x, "none" if conv is block.project else "relu6")
                    layers.append(layer)
            self._blocks.append((layers, block.residual))

    def __call__(self, images: Tensor) -> Tensor:
        """Runs the stem."""
        x = self._first(images)
        for layers, residual in self._blocks:
            out = x
            for layer in layers:
                out = layer(out)
            x = x + out if residual else out
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)


class Head:
    """The centre head without batch norm, its towers for score, size and offset as three groups of one.

    The first convolution reads the features once for all towers; the others see a third of the channels each. In time,
    packed: 0.8 of the plain head of `ckd-base`, half of that of `duotrack-tiny`, where calls outweigh arithmetic.
    """

    def __init__(self, head: CenterHead, features: Tensor) -> None:
        *stages, last = zip(head.score, head.size, head.offset, strict=True)
        self._layers: list[Apply] = []
        x = features
        for stage in stages:
            folded = [_without_norm(conv, norm) for conv, norm, _ in cast(Iterable[Iterable[nn.Module]], stage)]
            weight, bias = (torch.cat(parts).to(x.dtype) for parts in zip(*folded, strict=True))
            groups = 3 if self._layers else 1
            layer = pack(Convolution(weight, bias, "relu", border=(1, 1, 1, 1), groups=groups), x)
            self._layers.append(layer)
            x = layer(x)
        weight = torch.block_diag(*(cast(Tensor, conv.weight).flatten(1) for conv in last))[:, :, None, None]
        bias = torch.cat([cast(Tensor, conv.bias) for conv in last])
        self._layers.append(pack(Convolution(weight.to(x.dtype), bias.to(x.dtype)), x))

    def __call__(self, features: Tensor) -> Maps:
        """Features (B, D, F, F) to maps, float32."""
        for layer in self._layers:
            features = layer(features)
        score, size, offset = features.float().split((1, 2, 2), dim=1)
        return Maps(score.sigmoid().clamp(1e-4, 1 - 1e-4), size.sigmoid().clamp(1e-4, 1 - 1e-4), offset)


def _without_norm(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what this one and its batch norm do."""
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    return fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _linear(layer: nn.Linear, example: Tensor, activation: Activation = "none") -> Apply:
    """A linear layer in the example's type, packed where that pays."""
    weight, bias = layer.weight.detach().to(example.dtype), layer.bias.detach().to(example.dtype)
    return pack(Linear(weight, bias, activation), example)


def _convolution(conv: nn.Conv2d, example: Tensor, activation: Activation = "none") -> tuple[Apply, Tensor]:
    """A convolution likewise, and what it makes of the example."""
    assert conv.bias is not None
    weight, bias = conv.weight.detach().to(example.dtype), conv.bias.detach().to(example.dtype)
    border = conv.border if isinstance(conv, SameConv) else (0, 0, 0, 0)
    apply = pack(
        Convolution(weight, bias, activation, border=border, stride=conv.stride[0], groups=conv.groups), example
    )
    return apply, apply(example)
