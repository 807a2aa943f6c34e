"""The convolutional stem: padding, shapes, cost, spread of its features."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from duotrack.model.config import LITE0_CHANNELS
from duotrack.model.stem import InvertedResidual, LiteStem, SameConv


@pytest.fixture(scope="module")
def stem() -> LiteStem:
    torch.manual_seed(0)
    return LiteStem().eval()


@pytest.mark.parametrize(
    ("kernel", "stride", "before", "after"), [(3, 1, 1, 1), (5, 1, 2, 2), (3, 2, 0, 1), (5, 2, 1, 2)]
)
def test_same_padding(kernel: int, stride: int, before: int, after: int) -> None:
    """The padding of TensorFlow on even sides, as known for the published weights; written out in NumPy."""
    torch.manual_seed(0)
    conv = SameConv(2, 3, kernel, stride)
    image = torch.randn(1, 2, 8, 12)
    padded = np.pad(image[0].numpy(), ((0, 0), (before, after), (before, after)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    expected = np.einsum("chwij,ocij->ohw", windows, conv.weight.detach().numpy())
    expected += conv.bias.detach().numpy()[:, None, None] if conv.bias is not None else 0
    with torch.no_grad():
        result = conv(image)[0].numpy()
    assert result.shape == (3, 8 // stride, 12 // stride)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_depthwise_channels_do_not_mix() -> None:
    conv = SameConv(4, 4, 3, groups=4)
    image = torch.randn(1, 4, 6, 6, requires_grad=True)
    conv(image)[0, 2].sum().backward()
    assert image.grad is not None
    assert image.grad[0, [0, 1, 3]].abs().max() == 0
    assert image.grad[0, 2].abs().max() > 0


def test_inverted_residual_step_by_step() -> None:
    torch.manual_seed(0)
    block = InvertedResidual(8, 8, 3, 1, 6)
    x = 4 * torch.randn(2, 8, 10, 10)
    assert block.expand is not None
    nn.init.uniform_(block.depthwise.weight, -2, 2)  # far enough for ReLU6 to cut on both sides
    hidden = block.expand(x).clamp(0, 6)
    depthwise = F.conv2d(hidden, block.depthwise.weight, block.depthwise.bias, padding=1, groups=48).clamp(0, 6)
    torch.testing.assert_close(block(x), x + block.project(depthwise))


@pytest.mark.parametrize(("outputs", "stride"), [(16, 1), (8, 2)])
def test_no_residual_where_shapes_differ(outputs: int, stride: int) -> None:
    block = InvertedResidual(8, outputs, 3, stride, 6)
    nn.init.zeros_(block.project.weight)
    assert block.project.bias is not None
    nn.init.zeros_(block.project.bias)
    assert block(torch.randn(1, 8, 6, 6)).abs().max() == 0


def test_first_block_does_not_expand(stem: LiteStem) -> None:
    expansions = [block.expand is not None for block in stem.blocks if isinstance(block, InvertedResidual)]
    assert expansions == [False] + [True] * 10


def test_size(stem: LiteStem) -> None:
    """0.70 M parameters in the network it comes from, BatchNorm and all; folded they are a little fewer."""
    assert sum(parameter.numel() for parameter in stem.parameters()) == pytest.approx(0.70e6, rel=0.02)


def test_cost_of_a_frame(stem: LiteStem) -> None:
    """0.357 G multiply-accumulates for a search region of 192 in both modalities; the template is cached."""
    macs = 0

    def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d)
        macs += output.numel() * module.weight[0].numel()

    handles = [module.register_forward_hook(hook) for module in stem.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        stem(torch.zeros(2, 3, 192, 192))
    for handle in handles:
        handle.remove()
    assert macs / 1e9 == pytest.approx(0.357, abs=0.0005)


@pytest.mark.parametrize("shape", [(96, 96), (192, 192), (64, 128)])
def test_features(stem: LiteStem, shape: tuple[int, int]) -> None:
    with torch.no_grad():
        features = stem(torch.randn(2, 3, *shape))
    assert features.shape == (2, LITE0_CHANNELS, shape[0] // 16, shape[1] // 16)
    torch.testing.assert_close(features.mean(1), torch.zeros_like(features[:, 0]), atol=1e-5, rtol=0)


def test_features_have_unit_spread_once_weights_are_lively() -> None:
    torch.manual_seed(0)
    stem = LiteStem()
    for module in stem.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    with torch.no_grad():
        features = stem(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(features.std(1, correction=0), torch.ones(2, 4, 4), atol=1e-3, rtol=0)


def test_samples_are_independent(stem: LiteStem) -> None:
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(stem(images)[1:2], stem(images[1:2]), atol=1e-5, rtol=1e-4)


def test_a_cell_looks_at_its_neighbourhood(stem: LiteStem) -> None:
    """Row-major, not transposed: what is above stays above."""
    plain = torch.zeros(1, 3, 320, 320)
    marked = plain.clone()
    marked[:, :, 0:16, 304:320] = 3  # the top right cell
    with torch.no_grad():
        change = (stem(marked) - stem(plain)).abs().amax(1)[0]
    assert change[:3, -3:].max() > 10 * change[-6:, :6].max()
    assert change[0, -1] > 0
