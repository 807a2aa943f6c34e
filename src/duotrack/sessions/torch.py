"""A session on PyTorch: the inference form of the network, on a CPU or a GPU. Tracking touches torch nowhere else."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from duotrack.model import weights
from duotrack.model.fast import InferenceNetwork, Target
from duotrack.model.network import StudentNetwork
from duotrack.model.normalization import MEAN, STD
from duotrack.processor import has_bf16, usable_threads
from duotrack.sessions.base import Floats, Maps, Pixels, Precision


class TorchSession:
    """Runs a :class:`duotrack.model.fast.InferenceNetwork`.

    On a CPU it may be called from several threads. On a GPU a frame is one graph of kernels with buffers of its own,
    so there a session belongs to one thread at a time.
    """

    name = "torch"

    def __init__(
        self, folder: Path, *, device: str | None = None, precision: Precision = "fp32", threads: int | None = None
    ) -> None:
        """Loads the weights of a folder and fits them to the processor, which takes seconds for a large network.

        Args:
            folder: with ``config.json`` and ``model.safetensors``.
            device: such as ``cpu`` or ``cuda:0``; by default a GPU where there is one.
            precision: ``fp32``, or ``bf16`` on a processor or GPU that computes in it.
            threads: of torch while this session runs on a CPU, whatever is set for the rest of the process; by default
                as many as pay (:func:`duotrack.processor.usable_threads`).

        Raises:
            ValueError: if the weights do not fit their configuration, or device or precision are not to be had.
        """
        where = _device(device)
        _check_precision(precision, where)
        self._take(weights.load(folder).eval().to(where), precision, threads or usable_threads())

    def _take(self, network: StudentNetwork, precision: Precision, threads: int) -> None:
        """Makes the session one of this network, on its device."""
        self._device = network.visible.pos_embed_x.device
        self._threads = threads
        # Applied as one product and one sum, and at hand on the device: a graph may not fetch them from elsewhere.
        self._scale = torch.tensor([1 / (255 * std) for std in STD], device=self._device)
        self._shift = torch.tensor([-mean / std for mean, std in zip(MEAN, STD, strict=True)], device=self._device)
        self.template_size, self.search_size = network.config.template_size, network.config.search_size
        with self._running():
            self._network = InferenceNetwork(network, precision="bf16" if precision == "bf16" else "fp32")
        self._steps: dict[int, Step] = {}

    def template(self, crops: Pixels, box: Floats | None = None) -> Target:
        """See :class:`duotrack.sessions.base.Session`."""
        with self._running():
            target = None if box is None else torch.from_numpy(np.asarray(box, np.float32)).to(self._device)
            return self._network.template(self._normalize(torch.from_numpy(crops).to(self._device)), target)

    def join(self, states: Sequence[Target]) -> Target:
        """See :class:`duotrack.sessions.base.Session`."""
        tokens, directions, rows = zip(*states, strict=True)
        with self._running():
            return Target(
                torch.cat(tokens, dim=1),
                None if directions[0] is None else torch.cat(directions, dim=1),
                None if rows[0] is None else torch.cat(rows),
            )

    def describe(self, crops: Pixels) -> Floats | None:
        """See :class:`duotrack.sessions.base.Session`."""
        with self._running():
            features = self._network.describe(self._normalize(torch.from_numpy(crops).to(self._device)))
            return None if features is None else features.cpu().numpy()

    def search(self, state: Target, crops: Pixels) -> Maps:
        """See :class:`duotrack.sessions.base.Session`."""
        with self._running():
            if self._device.type == "cuda":
                batch = crops.shape[1]
                if batch not in self._steps:
                    self._steps[batch] = Step(self._answer, state, crops.shape)
                answer = self._steps[batch](state, crops)
            else:
                answer = self._answer(state, torch.from_numpy(crops))
        return _maps(answer.numpy())

    def _answer(self, state: Target, crops: Tensor) -> Tensor:
        """From uint8 crops on the device to all that :func:`_maps` wants, (B, 5 F F + 4) float32: one copy to fetch."""
        output = self._network.search(state, self._normalize(crops))
        parts = (output.score, output.size, output.offset, output.box_cxcywh)
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def _normalize(self, crops: Tensor) -> Tensor:
        """As :func:`duotrack.model.normalize`."""
        return crops.float().mul_(self._scale).add_(self._shift).movedim(-1, -3)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Without gradients, on the session's own number of threads, which costs no more than asking for it."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            # GPU -1 is whichever is current.
            with torch.inference_mode(), torch.cuda.device(self._device.index if self._device.type == "cuda" else -1):
                yield
        finally:
            torch.set_num_threads(before)


class Step:
    """One search for a fixed number of targets, with buffers of its own; on a GPU captured as one graph.

    A frame is some 300 short kernels. As a graph they are launched at once, normalisation of the crops included. Crops
    come from pinned memory and answers go there, which a GPU reads and writes by itself. Elsewhere, and where capture
    fails, the same runs kernel by kernel.
    """

    def __init__(self, compute: Callable[[Target, Tensor], Tensor], state: Target, shape: Sequence[int]) -> None:
        """Sets the step up.

        Args:
            compute: from a state and uint8 crops on its device to float32 numbers.
            state: of as many targets as there will be.
            shape: of the crops.
        """
        self._compute, self._known = compute, state
        self._on_gpu = state.tokens.is_cuda
        self._state = Target(state.tokens.clone(), *(None if part is None else part.clone() for part in state[1:]))
        self._crops_in = torch.zeros(tuple(shape), dtype=torch.uint8, pin_memory=self._on_gpu)
        self._crops = self._crops_in.to(state.tokens.device)
        self._answer = compute(self._state, self._crops)
        self._answer_out = torch.empty_like(self._answer, device="cpu", pin_memory=self._on_gpu)
        self._graph: torch.cuda.CUDAGraph | None = None
        if self._on_gpu:
            try:
                self._capture()
            except RuntimeError as error:
                warnings.warn(f"a CUDA graph cannot be captured, frames take longer without: {error}", stacklevel=2)

    def __call__(self, state: Target, crops: Pixels) -> Tensor:
        """The numbers for a state and crops, on the CPU."""
        if state is not self._known:
            for kept, part in zip(self._state, state, strict=True):
                if kept is not None and part is not None:
                    kept.copy_(part)
            self._known = state
        self._crops_in.copy_(torch.from_numpy(crops))
        self._crops.copy_(self._crops_in, non_blocking=True)
        if self._graph is None:
            self._answer = self._compute(self._state, self._crops)
        else:
            self._graph.replay()
        self._answer_out.copy_(self._answer, non_blocking=True)
        if self._on_gpu:
            torch.cuda.current_stream().synchronize()
        return self._answer_out.clone()  # the next call writes there again

    def _capture(self) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries choose their kernels and reserve memory before they are captured
            for _ in range(3):
                self._compute(self._state, self._crops)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._answer = self._compute(self._state, self._crops)
        self._graph = graph


def _maps(answer: npt.NDArray[np.float32]) -> Maps:
    """The numbers (B, 5 F F + 4) of B searches as maps and boxes."""
    grid = math.isqrt((answer.shape[1] - 4) // 5)
    score, size, offset, box = np.split(answer, np.cumsum([1, 2, 2]) * grid**2, axis=1)
    shape = (len(answer), -1, grid, grid)
    return Maps(score.reshape(shape), size.reshape(shape), offset.reshape(shape), box)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"{name!r} is no device of PyTorch; name one such as cpu or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"no device {name}: this PyTorch sees {torch.cuda.device_count()} CUDA GPUs; use cpu")
    return device


def _check_precision(precision: str, device: torch.device) -> None:
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"the torch backend computes in fp32 or bf16, not in {precision}; int8 is the onnx backend's")
    if precision == "fp32":
        return
    if device.type == "cuda":
        available = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        available = device.type == "cpu" and has_bf16()
    if not available:
        raise ValueError(
            f"bf16 is not available on device {device}: it needs a processor with avx512_bf16, amx_bf16 or Arm's bf16, "
            "or a GPU of compute capability 8.0; use fp32"
        )
