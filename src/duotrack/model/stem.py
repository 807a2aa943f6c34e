"""The convolutional stem: EfficientNet-Lite0 up to stride 16, BatchNorm folded into the convolutions.

One stem serves both modalities, template and search. It starts from ImageNet weights
(:func:`duotrack.model.weights.lite0_stem`) and is frozen or trained at a small rate, where batch statistics would
only harm: hence no BatchNorm. Its features are normalised over channels (their spread is about 4.5 otherwise).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from duotrack.model.config import LITE0_CHANNELS, LITE0_STAGES


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's "same" on even sides: at stride 2 one more pixel after than before."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)
        excess = kernel - stride
        self.border = (excess // 2, excess - excess // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return super().forward(F.pad(x, self.border))


class InvertedResidual(nn.Module):
    """Expansion 1x1, depthwise k x k, projection 1x1; a residual where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = nn.Conv2d(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        out: Tensor = self.project(F.relu6(self.depthwise(hidden)))
        return x + out if self.residual else out


class LiteStem(nn.Module):
    """Normalised images (B, 3, H, W) to features (B, 112, H / 16, W / 16) of zero mean and unit spread."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = SameConv(3, 32, 3, 2)
        blocks, inputs = [], 32
        for outputs, kernel, stride, expansion, repeats in LITE0_STAGES:
            for repeat in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Runs the stem."""
        features = self.blocks(F.relu6(self.conv(images))).permute(0, 2, 3, 1)
        return F.layer_norm(features, (LITE0_CHANNELS,)).permute(0, 3, 1, 2)
