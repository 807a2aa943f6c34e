"""The search graph in 8 bits, made from the float graph by onnxruntime's own tools.

    linear layers: weights in 8 bits, activations too, whose range is taken from each frame (dynamic)
    head:          the first two convolutions of each branch, nearly all of its work; ranges from real crops (static)
    the rest:      float: the stem, attention products (hence elimination), norms, the head's answers

A frame's range is that of its batch: the answer for one of several targets depends a little on the others.

This form was chosen by measuring on ``duotrack-tiny``: speed over the float graph, and overlap of its boxes with those
of float on crops of the demo clip (mean, and the least of any crop).

    linear layers alone, dynamic              1.1   0.999   0.995
    this form                                 1.3   0.997   0.992
    and the stem, static, from stride 8 on    1.6   0.971   0      one crop found another peak
    everything, static                        1.6   0.953   0.376  (most of it lost before stride 8)
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from duotrack import pretrained
from duotrack.results import beside
from duotrack.samples import Samples

STATIC = tuple(f"network.head.{branch}.{layer}." for branch in ("score", "size", "offset") for layer in (0, 1))
"""The convolutions in 8 bits, by the beginning of their weights' names."""


def quantize(folder: Path, samples: Samples) -> None:
    """Writes the 8-bit search graph of a weights folder from its float graphs.

    Args:
        folder: with ``model.onnx`` and ``model_template.onnx``, as :func:`duotrack.export.export_onnx` leaves it.
        samples: crops like those that it will see; a few dozen suffice.

    Raises:
        ModuleNotFoundError: if the package onnx is missing.
        FileNotFoundError: if a graph is missing.
    """
    try:
        import onnx
        from onnxruntime import quantization as ort
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'quantizing needs the package onnx ({error.name} is missing): pip install "duotrack[torch]"'
        ) from error
    source = folder / pretrained.SEARCH_GRAPH
    for path in (source, folder / pretrained.TEMPLATE_GRAPH):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: export the weights first, duotrack export {folder}")
    eight_bits = {"per_channel": True, "weight_type": ort.QuantType.QInt8}
    with tempfile.TemporaryDirectory() as scratch, beside(folder / pretrained.INT8_GRAPH) as temporary:
        prepared, dynamic = Path(scratch) / "prepared.onnx", Path(scratch) / "dynamic.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        ort.quantize_dynamic(prepared, dynamic, op_types_to_quantize=["MatMul"], **eight_bits)
        ort.quantize_static(
            dynamic,
            temporary,
            _Calibration(folder, samples),
            nodes_to_quantize=_static(onnx.load(dynamic).graph),
            activation_type=ort.QuantType.QUInt8,  # of signed ones, onnxruntime fuses only some with their weights
            **eight_bits,
        )
        model = onnx.load(temporary)
        metadata = {entry.key: entry.value for entry in onnx.load(source, load_external_data=False).metadata_props}
        onnx.helper.set_model_props(model, metadata | {"precision": "int8"})
        onnx.save(model, temporary)


def _static(graph: Any) -> list[str]:
    """The nodes of an ``onnx.GraphProto`` that are calibrated: the head's first convolutions and their ReLUs.

    Without its ReLU, half of the 8 bits of a convolution's answer would go to what the ReLU sets to zero.
    """
    convolutions = [node for node in graph.node if node.op_type == "Conv" and node.input[1].startswith(STATIC)]
    answers = {node.output[0] for node in convolutions}
    relus = [node for node in graph.node if node.op_type == "Relu" and node.input[0] in answers]
    return [node.name for node in (*convolutions, *relus)]


class _Calibration:
    """The inputs of the search graph, one sample after the other, as onnxruntime wants to be fed."""

    def __init__(self, folder: Path, samples: Samples) -> None:
        template = onnxruntime.InferenceSession(folder / pretrained.TEMPLATE_GRAPH, providers=["CPUExecutionProvider"])
        self._feeds = (
            {"search": sample.search, "features": template.run(["features"], {"template": sample.template})[0]}
            for sample in (samples[i : i + 1] for i in range(len(samples)))
        )

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._feeds, None)
