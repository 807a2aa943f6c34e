"""Layers that only infer, and the layout in which a CPU library wants their weights.

A convolution or linear layer of torch brings its weight into the layout of the library's kernels in every call, and
its activation reads from memory again what the layer has just written there. :func:`pack` has both done by oneDNN: the
layout once, when the network is built, the activation in the kernel. On an AVX-512 processor that made the linear
layers of `ckd-base` 1.25 to 1.6 times as fast and the stem of `duotrack-tiny` 1.9 times, at differences of 1e-6.

The operators are those that torch's compiler emits, but they are not public and may change or be absent, and not every
processor gains. So a packed layer is used only where it has just been seen, at this shape, type and number of threads,
to give what the plain one gives, and faster.
"""

import time
from collections.abc import Callable
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["none", "relu", "relu6", "gelu"]

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
}
_FUSED: dict[Activation, tuple[str, list[float], str]] = {  # oneDNN's name, its parameters, its algorithm
    "none": ("none", [], ""),
    "relu": ("relu", [], ""),
    "relu6": ("hardtanh", [0.0, 6.0], ""),
    "gelu": ("gelu", [], "none"),
}

Apply = Callable[[Tensor], Tensor]


class Layer(Protocol):
    """A layer in its plain form, which is what the packed form must equal."""

    @property
    def kind(self) -> tuple[object, ...]:
        """All that the speed of the layer depends on, beside its input."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """The layer and its activation by torch's public functions."""
        ...

    def packed(self, example: Tensor) -> Apply:
        """The same by oneDNN, with a copy of the weight laid out for inputs of the example's shape."""
        ...


class Linear:
    """A linear layer and its activation, (..., I) to (..., O)."""

    def __init__(self, weight: Tensor, bias: Tensor, activation: Activation = "none") -> None:
        self.weight, self.bias, self.activation = weight, bias, activation

    @property
    def kind(self) -> tuple[object, ...]:
        """See :class:`Layer`."""
        return ("linear", self.weight.shape, self.activation)

    def __call__(self, x: Tensor) -> Tensor:
        """See :class:`Layer`."""
        return _ACTIVATIONS[self.activation](F.linear(x, self.weight, self.bias))

    def packed(self, example: Tensor) -> Apply:
        """See :class:`Layer`."""
        weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, example[..., 0].numel())
        bias, activation = self.bias, _FUSED[self.activation]
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, weight, bias, *activation)


class Convolution:
    """A 2D convolution and its activation, channels last in memory, (B, I, H, W) to (B, O, H', W').

    ``border`` is the padding left, right, top and bottom.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        activation: Activation = "none",
        *,
        border: tuple[int, int, int, int] = (0, 0, 0, 0),
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        self.weight, self.bias = weight.contiguous(memory_format=torch.channels_last), bias
        self.activation, self.stride, self.groups = activation, stride, groups
        self.padding = border[0] if len(set(border)) == 1 else 0
        self.border = None if len(set(border)) == 1 else border  # what no kernel does by itself

    @property
    def kind(self) -> tuple[object, ...]:
        """See :class:`Layer`."""
        return ("convolution", self.weight.shape, self.activation, self.padding, self.border, self.stride, self.groups)

    def __call__(self, x: Tensor) -> Tensor:
        """See :class:`Layer`."""
        x = x if self.border is None else F.pad(x, self.border)
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return _ACTIVATIONS[self.activation](x)

    def packed(self, example: Tensor) -> Apply:
        """See :class:`Layer`."""
        border, bias, activation = self.border, self.bias, _FUSED[self.activation]
        geometry = ([self.padding] * 2, [self.stride] * 2, [1, 1], self.groups)
        shape = list((example if border is None else F.pad(example, border)).shape)
        weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *geometry, shape)

        def apply(x: Tensor) -> Tensor:
            x = x if border is None else F.pad(x, border)
            return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *geometry, *activation)  # type: ignore[no-any-return]

        return apply


def pack(layer: Layer, example: Tensor) -> Apply:
    """The packed form of a layer where it is faster on inputs like the example; else the layer itself.

    Measured once a process for each kind of layer, shape, type and number of threads. The packed form does not hold
    the original weight.
    """
    if not example.is_cpu:
        return layer
    circumstances = (*layer.kind, example.shape, example.dtype, torch.get_num_threads())
    if circumstances not in _pays:
        _pays[circumstances] = _is_equal_and_faster(layer, example)
    return layer.packed(example) if _pays[circumstances] else layer


_pays: dict[tuple[object, ...], bool] = {}


def _is_equal_and_faster(layer: Layer, example: Tensor, rounds: int = 5) -> bool:
    # Not the example itself, which may be of zeros; so large that activations reach their bounds.
    x = torch.empty_like(example).copy_(8 * torch.randn(example.shape, generator=torch.Generator().manual_seed(0)))
    try:
        packed = layer.packed(x)
        expected, found = layer(x), packed(x)
    except (AttributeError, RuntimeError, TypeError):  # no such operator here, or not for these arguments
        return False
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[x.dtype] * float(expected.abs().max())
    if expected.shape != found.shape or not float((found - expected).abs().max()) <= tolerance:
        return False
    turns = [(_seconds(layer, x), _seconds(packed, x)) for _ in range(rounds)]  # other work on the machine hits both
    return min(seconds for _, seconds in turns) < min(seconds for seconds, _ in turns)


def _seconds(form: Apply, x: Tensor) -> float:
    started = time.perf_counter()
    form(x)
    return time.perf_counter() - started
