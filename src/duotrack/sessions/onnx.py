"""A session on onnxruntime, from the ONNX files in a weights folder: the default on a CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from duotrack import pretrained
from duotrack.processor import cpu_features, usable_threads
from duotrack.sessions.base import Floats, Maps, Pixels, Precision


class OnnxSession:
    """Runs ``model_template.onnx`` once for a target and ``model.onnx``, or its 8-bit form, for each frame on CPUs."""

    name = "onnx"

    def __init__(self, folder: Path, *, precision: Precision = "fp32", threads: int | None = None) -> None:
        """Loads the graphs of a weights folder.

        Args:
            folder: with ``config.json``, ``model.onnx`` and ``model_template.onnx``.
            precision: ``fp32``, or ``int8`` where the folder has ``model.int8.onnx``; the template stays float.
            threads: of onnxruntime; by default as many as pay (:func:`duotrack.processor.usable_threads`).

        Raises:
            FileNotFoundError: if a graph is missing.
            ValueError: if the graphs were not made from the weights beside them, or cannot be read; if the precision is
                not to be had from onnxruntime or this processor.
        """
        graph = _graph(folder, precision)
        model, _ = pretrained.read_config(folder)
        self.template_size, self.search_size = model.template_size, model.search_size
        self._has_stem = model.stem == "lite0"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_threads()
        options.inter_op_num_threads = 1
        # Spinning threads gain a little on an idle machine and lose a lot on a busy one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._template = _load(folder / pretrained.TEMPLATE_GRAPH, options)
        self._search = _load(graph, options)
        pretrained.check_origin(folder, {_origin(self._template), _origin(self._search)})
        self._state_names = [output.name for output in self._template.get_outputs()]

    def template(self, crops: Pixels, box: Floats | None = None) -> dict[str, Any]:
        """See :class:`duotrack.sessions.base.Session`."""
        return dict(zip(self._state_names, self._template.run(None, {"template": crops}), strict=True))

    def join(self, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """See :class:`duotrack.sessions.base.Session`."""
        return {name: np.concatenate([state[name] for state in states], axis=1) for name in self._state_names}

    def describe(self, crops: Pixels) -> Floats | None:
        """See :class:`duotrack.sessions.base.Session`."""
        return self.template(crops)["features"] if self._has_stem else None

    def search(self, state: dict[str, Any], crops: Pixels) -> Maps:
        """See :class:`duotrack.sessions.base.Session`."""
        return Maps(*self._search.run(["score", "size", "offset", "box"], {"search": crops, **state}))


def _load(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: this weights folder has no ONNX graphs; use the torch backend")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise ValueError(f"{path} cannot be loaded by onnxruntime {onnxruntime.__version__}: {error}") from error


def _graph(folder: Path, precision: Precision) -> Path:
    """The search graph in a precision."""
    if precision == "fp32":
        return folder / pretrained.SEARCH_GRAPH
    if precision != "int8":
        raise ValueError(f"the onnx backend computes in fp32 or int8, not {precision}; openvino and torch have bf16")
    features = cpu_features()
    if "sse2" in features and not features & {"avx512_vnni", "avx_vnni"}:
        # Such processors add pairs of 8-bit products in 16 bits, which overflow: wrong boxes, not just rounded ones.
        raise ValueError("int8 needs a processor with VNNI (avx512_vnni or avx_vnni); this one has fp32")
    graph = folder / pretrained.INT8_GRAPH
    if not graph.is_file():
        raise FileNotFoundError(
            f"{graph} is missing; make it: duotrack export {folder} --precision int8 --output FOLDER, and track with "
            "--weights FOLDER"
        )
    return graph


def _origin(session: onnxruntime.InferenceSession) -> str:
    """The hash of the weights that a graph was made from."""
    return str(session.get_modelmeta().custom_metadata_map.get("weights_sha256", ""))
