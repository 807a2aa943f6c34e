"""A session on OpenVINO, from the same ONNX files: for processors that compute in bfloat16. Extra ``openvino``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from duotrack import pretrained
from duotrack.processor import usable_threads
from duotrack.sessions.base import Floats, Maps, Pixels, Precision

try:
    import openvino
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'the openvino backend needs the package openvino: pip install "duotrack[openvino]"', name="openvino"
    ) from error


class OpenVinoSession:
    """Runs ``model_template.onnx`` once for a target and ``model.onnx`` for each frame on the CPU.

    It belongs to one thread at a time: its requests have buffers of their own.
    """

    name = "openvino"

    def __init__(self, folder: Path, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        """Loads and compiles the graphs of a weights folder, which takes a second.

        Args:
            folder: with ``config.json``, ``model.onnx`` and ``model_template.onnx``.
            precision: ``fp32``, or ``bf16`` on a processor that computes in it; the template stays float.
            threads: of OpenVINO; by default as many as pay (:func:`duotrack.processor.usable_threads`).

        Raises:
            FileNotFoundError: if a graph is missing.
            ValueError: if the graphs were not made from the weights beside them, or cannot be read; if the precision is
                not to be had from OpenVINO, this processor or this network.
        """
        model, _ = pretrained.read_config(folder)
        self.template_size, self.search_size = model.template_size, model.search_size
        self._has_stem = model.stem == "lite0"
        core = openvino.Core()
        if precision == "bf16" and model.elimination:
            raise ValueError(
                "OpenVINO would decide in bf16 which tokens to eliminate; this network runs in fp32 on the openvino "
                "backend, and in bf16 on the torch backend"
            )
        _check_precision(precision, core)
        template, search = (_read(core, folder / name) for name in (pretrained.TEMPLATE_GRAPH, pretrained.SEARCH_GRAPH))
        pretrained.check_origin(folder, {_origin(template), _origin(search)})
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads or usable_threads()}
        self._template, self._search = (
            core.compile_model(graph, "CPU", options | {"INFERENCE_PRECISION_HINT": kind}).create_infer_request()
            for graph, kind in ((template, "f32"), (search, "bf16" if precision == "bf16" else "f32"))
        )

    def template(self, crops: Pixels, box: Floats | None = None) -> Floats:
        """See :class:`duotrack.sessions.base.Session`."""
        return np.array(self._template.infer({"template": crops})["features"])

    def join(self, states: Sequence[Floats]) -> Floats:
        """See :class:`duotrack.sessions.base.Session`."""
        return np.concatenate(states, axis=1)

    def describe(self, crops: Pixels) -> Floats | None:
        """See :class:`duotrack.sessions.base.Session`."""
        return self.template(crops) if self._has_stem else None

    def search(self, state: Floats, crops: Pixels) -> Maps:
        """See :class:`duotrack.sessions.base.Session`."""
        answer = self._search.infer({"search": crops, "features": state})
        return Maps(*(np.array(answer[name]) for name in ("score", "size", "offset", "box")))


def _check_precision(precision: Precision, core: openvino.Core) -> None:
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"the openvino backend computes in fp32 or bf16, not {precision}; onnx has int8")
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ValueError("this processor does not compute in bf16 (avx512_bf16 or amx_bf16 on x86); it has fp32")


def _read(core: openvino.Core, path: Path) -> openvino.Model:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: this weights folder has no ONNX graphs; use the torch backend")
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be loaded by OpenVINO {openvino.__version__}: {error}") from error


def _origin(model: openvino.Model) -> str:
    """The hash of the weights that a graph was made from."""
    path = ["framework", "weights_sha256"]
    return str(model.get_rt_info(path).value) if model.has_rt_info(path) else ""
