"""A session on onnxruntime, from the ONNX files in a weights folder: the default on a CPU."""

from pathlib import Path
from typing import Any

import onnxruntime

from duotrack import pretrained
from duotrack.processor import usable_threads
from duotrack.sessions.base import Floats, Maps, Pixels


class OnnxSession:
    """Runs ``model_template.onnx`` once for a target and ``model.onnx`` for each frame, in float32 on the CPU."""

    name = "onnx"

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        """Loads the graphs of a weights folder.

        Args:
            folder: with ``config.json``, ``model.onnx`` and ``model_template.onnx``.
            threads: of onnxruntime; by default as many as pay (:func:`duotrack.processor.usable_threads`).

        Raises:
            FileNotFoundError: if a graph is missing.
            ValueError: if the graphs were not made from the weights beside them, or cannot be read.
        """
        model, _ = pretrained.read_config(folder)
        self.template_size, self.search_size = model.template_size, model.search_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_threads()
        options.inter_op_num_threads = 1
        # Spinning threads gain a little on an idle machine and lose a lot on a busy one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._template = _load(folder / pretrained.TEMPLATE_GRAPH, options)
        self._search = _load(folder / pretrained.SEARCH_GRAPH, options)
        _check_origin(folder, self._template, self._search)
        self._state_names = [output.name for output in self._template.get_outputs()]

    def template(self, crops: Pixels, box: Floats | None = None) -> dict[str, Any]:
        """See :class:`duotrack.sessions.base.Session`."""
        return dict(zip(self._state_names, self._template.run(None, {"template": crops}), strict=True))

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


def _check_origin(folder: Path, *sessions: onnxruntime.InferenceSession) -> None:
    """The graphs must come from the weights that lie beside them."""
    weights = folder / pretrained.WEIGHTS
    origins = {session.get_modelmeta().custom_metadata_map.get("weights_sha256", "") for session in sessions}
    if weights.is_file() and origins != {pretrained.sha256(weights)}:
        raise ValueError(
            f"the ONNX graphs in {folder} were not made from the {pretrained.WEIGHTS} beside them; export them again, "
            "or use the torch backend"
        )
