"""Packed layers are the plain ones, and are used only where they have shown it."""

import gc
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from duotrack.model.packing import Activation, Apply, Convolution, Layer, Linear, pack

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": lambda x: x.clamp(min=0),
    "relu6": lambda x: x.clamp(0, 6),
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
}
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.05}
dtypes = st.sampled_from(list(TOLERANCE))
activations = st.sampled_from(list(ACTIVATIONS))


def forms(layer: Layer, example: Tensor) -> list[Apply]:
    """The plain form, and the packed one where this torch and processor have it."""
    try:
        return [layer, layer.packed(example)]
    except (AttributeError, RuntimeError):
        return [layer]


def normal(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator).to(dtype)


class TestForms:
    """Both forms against arithmetic in float64."""

    @settings(max_examples=40)
    @given(
        dtypes, activations, st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(1, 3), st.data()
    )
    def test_linear(
        self,
        dtype: torch.dtype,
        activation: Activation,
        inputs: int,
        outputs: int,
        tokens: int,
        batch: int,
        data: st.DataObject,
    ) -> None:
        generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
        weight = normal(generator, dtype, outputs, inputs) / 8
        bias = 4 * normal(generator, dtype, outputs)  # beyond both bounds of every activation
        x = normal(generator, dtype, batch, tokens, inputs)
        expected = ACTIVATIONS[activation](x.double() @ weight.double().T + bias.double())
        for form in forms(Linear(weight, bias, activation), x[:1]):  # packed for one sample, used with several
            torch.testing.assert_close(form(x).double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    @settings(max_examples=40)
    @given(
        dtypes,
        st.sampled_from(["none", "relu", "relu6"]),
        st.sampled_from(
            [(1, (0, 0, 0, 0)), (3, (1, 1, 1, 1)), (3, (0, 1, 0, 1)), (5, (2, 2, 2, 2)), (5, (1, 2, 1, 2))]
        ),
        st.integers(1, 2),
        st.sampled_from([(1, 3, 32), (1, 17, 8), (24, 24, 24), (3, 24, 12)]),
        st.integers(1, 3),
        st.data(),
    )
    def test_convolution(
        self,
        dtype: torch.dtype,
        activation: Activation,
        geometry: tuple[int, tuple[int, int, int, int]],
        stride: int,
        channels: tuple[int, int, int],
        batch: int,
        data: st.DataObject,
    ) -> None:
        generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
        (kernel, border), (groups, inputs, outputs) = geometry, channels
        weight = normal(generator, dtype, outputs, inputs // groups, kernel, kernel) / 8
        bias = 4 * normal(generator, dtype, outputs)  # beyond both bounds of every activation
        side = data.draw(st.sampled_from([8, 12]))
        x = normal(generator, dtype, batch, inputs, side, side).contiguous(memory_format=torch.channels_last)
        padded = F.pad(x.double(), border)
        expected = ACTIVATIONS[activation](
            F.conv2d(padded, weight.double(), bias.double(), stride=stride, groups=groups)
        )
        layer = Convolution(weight, bias, activation, border=border, stride=stride, groups=groups)
        example = torch.zeros(1, inputs, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last)
        for form in forms(layer, example):  # packed for one size, used with another
            torch.testing.assert_close(form(x).double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    def test_the_packed_form_does_not_hold_the_weight(self) -> None:
        x = torch.zeros(1, 8, 16)
        weight = torch.ones(16, 16)
        layer = Linear(weight, torch.zeros(16))
        packed = forms(layer, x)[1:]
        if not packed:
            pytest.skip("no packed form here")
        alive = weakref.ref(weight)
        del weight, layer
        gc.collect()
        assert alive() is None
        assert torch.equal(packed[0](x), torch.zeros(1, 8, 16))


@dataclass(frozen=True)
class Doubling:
    """A layer whose packed form does what the test wants."""

    name: str
    packed_form: Apply | None
    seconds: float = 0.0

    @property
    def kind(self) -> tuple[object, ...]:
        return (self.name,)

    def __call__(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return 2 * x

    def packed(self, example: Tensor) -> Apply:
        if self.packed_form is None:
            raise RuntimeError("no such operator")
        return self.packed_form


def slowly(x: Tensor) -> Tensor:
    time.sleep(0.01)
    return 2 * x


class TestChoice:
    X = torch.ones(2, 3)

    def test_faster_and_equal(self) -> None:
        double: Apply = lambda x: x + x  # noqa: E731
        assert pack(Doubling("faster", double, seconds=0.01), self.X) is double

    @pytest.mark.parametrize(
        "layer",
        [
            Doubling("absent", None),
            Doubling("slower", slowly),
            Doubling("wrong", lambda x: 2.001 * x, seconds=0.01),
            Doubling("not a number", lambda x: x * float("nan"), seconds=0.01),
            Doubling("of another shape", lambda x: 2 * x[0], seconds=0.01),
        ],
        ids=lambda layer: layer.name,
    )
    def test_else_plain(self, layer: Doubling) -> None:
        assert pack(layer, self.X) is layer

    def test_only_on_a_cpu(self) -> None:
        layer = Doubling("elsewhere", lambda x: x + x, seconds=0.01)
        assert pack(layer, self.X.to("meta")) is layer

    def test_measured_once(self) -> None:
        fast, slow = Doubling("once", slowly, seconds=0.1), Doubling("once", slowly)
        assert pack(fast, self.X) is slowly
        assert pack(slow, self.X) is slowly  # of the same kind, so it is not measured again
        assert pack(slow, self.X.bfloat16()) is slow
