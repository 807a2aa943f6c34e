"""The one-stream vision transformer: template and search tokens of one modality, concatenated and attended jointly.

Shapes: B batch, C width, h heads, Nz template tokens, Nx search tokens, N = Nz + Nx (fewer after elimination).
The blocks are split in two halves, :meth:`Block.attend` and :meth:`Block.feed`, because candidate elimination
happens between them and depends on both modalities.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duotrack.model.config import ModelConfig


class Attention(nn.Module):
    """Multi-head self-attention, ``softmax(q k^T / sqrt(d)) v``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Attends over all tokens; beside it, returns the attention weights of a few query rows if asked.

        Args:
            tokens: (B, N, C).
            rows: indices of query tokens, (R,).

        Returns:
            (B, N, C), and the weights (B, h, R, N) of these rows or None.
        """
        batch, count, width = tokens.shape
        q, k, v = self.qkv(tokens).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scale = (width // self.heads) ** -0.5
        if tokens.is_cpu and q.dtype == torch.bfloat16 and q.requires_grad:
            # The fused kernel's bf16 backward pass on CPUs costs more than the rest of the block.
            attended = (q * scale @ k.mT).softmax(-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        weights = None
        if rows is not None:
            # Ranking tokens needs full precision: near-ties would be decided by rounding.
            weights = (q[:, :, rows].float() @ k.float().mT * scale).softmax(-1)
        return self.proj(attended.transpose(1, 2).reshape(batch, count, width)), weights


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        return cast(Tensor, self.fc2(F.gelu(self.fc1(tokens))))


class Block(nn.Module):
    """A pre-norm transformer block with stochastic depth per sample, in two halves."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = drop_path

    def attend(self, tokens: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """``t + Attn(LN(t))``, and the attention weights of the given query rows (:class:`Attention`)."""
        attended, weights = self.attn(self.norm1(tokens), rows)
        return tokens + self._drop(attended), weights

    def feed(self, tokens: Tensor) -> Tensor:
        """``t + MLP(LN(t))``."""
        return tokens + self._drop(self.mlp(self.norm2(tokens)))

    def _drop(self, residual: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return residual
        keep = 1 - self.drop_path
        return residual * residual.new_empty(residual.shape[0], 1, 1).bernoulli_(keep).div_(keep)


class PatchEmbed(nn.Module):
    """Features to tokens: a convolution whose kernel is its stride, then row-major flattening."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, kernel_size=stride, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, H, W) to (B, H W / stride^2, C)."""
        return cast(Tensor, self.proj(features)).flatten(2).mT


class VisionTransformer(nn.Module):
    """One branch: embedding, position embeddings, blocks, final norm. The loop over blocks is the network's."""

    def __init__(self, config: ModelConfig, in_channels: int, patch_stride: int) -> None:
        """Builds the branch for features of ``in_channels``, reduced by ``patch_stride`` when embedded."""
        super().__init__()
        width = config.width
        self.patch_embed = PatchEmbed(in_channels, width, patch_stride)
        self.pos_embed_z = nn.Parameter(torch.zeros(1, config.template_grid**2, width))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, config.search_grid**2, width))
        self.correlation = nn.Linear(config.template_grid**2, width) if config.correlation_input else None
        # Stochastic depth grows linearly from 0 in the first block.
        rates = [config.drop_path * block / max(1, config.depth - 1) for block in range(config.depth)]
        self.blocks = nn.ModuleList(Block(width, config.heads, config.mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self._initialise(config)

    def embed_template(self, features: Tensor) -> Tensor:
        """Template features (B, D, H, W) to tokens (B, Nz, C) with positions."""
        return cast(Tensor, self.patch_embed(features)) + self.pos_embed_z

    def embed_search(self, features: Tensor, cosines: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """Search features (B, D, H, W) to tokens (B, Nx, C) with positions.

        Args:
            features: of the stem, or the image itself.
            cosines: (B, Nx, Nz), the correlation input, where the network has one.
            keep: masked modelling, (B, Nx), 1 where a token stays; the others become their position embedding alone.
        """
        tokens: Tensor = self.patch_embed(features)
        if self.correlation is not None:
            tokens = tokens + self.correlation(cosines)
        if keep is not None:
            tokens = tokens * keep.to(tokens.dtype).unsqueeze(-1)
        return tokens + self.pos_embed_x

    def _initialise(self, config: ModelConfig) -> None:
        if self.pos_embed_z.is_meta:  # counted, or asked for shapes: no numbers, and interpolation is slow there
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        grid = nn.init.trunc_normal_(torch.empty(1, 14 * 14, config.width), std=0.02)
        with torch.no_grad():
            self.pos_embed_z.copy_(resize_position_grid(grid, config.template_grid, "bicubic"))
            self.pos_embed_x.copy_(resize_position_grid(grid, config.search_grid, "bicubic"))


def resize_position_grid(embedding: Tensor, side: int, mode: str) -> Tensor:
    """Resizes the position embeddings of a square grid, (1, n^2, C) to (1, side^2, C), by interpolation."""
    old = int(embedding.shape[1] ** 0.5)
    if old == side:
        return embedding
    grid = embedding.mT.reshape(1, -1, old, old)
    return F.interpolate(grid, size=(side, side), mode=mode, align_corners=False).flatten(2).mT
