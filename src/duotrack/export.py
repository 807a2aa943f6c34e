"""A network to ONNX: one graph for the template, one for each search region, beside the weights they come from.

The graphs take uint8 crops and normalise them themselves, so that a runtime needs nothing but pixels:

    model_template.onnx: template (2, B, Ht, Wt, 3) -> features
    model.onnx:          search (2, B, Hs, Ws, 3), features -> score, size, offset, box

Their metadata say how the crops are to be cut, and what the graphs were made from. ``docs/deployment.md`` is for those
who run them without this package.
"""

import copy
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from duotrack import __version__, pretrained
from duotrack.model import weights
from duotrack.model.network import StudentNetwork, Template
from duotrack.model.normalization import MEAN, STD
from duotrack.model.stem import LiteStem
from duotrack.results import beside


class _Normalize(nn.Module):
    """:func:`duotrack.model.normalize` with the channels moved first and one product and sum for each.

    Equal within rounding. Dividing with the channels last took onnxruntime a tenth of a frame (2.2 ms against 0.1).
    """

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, crops: Tensor) -> Tensor:
        return crops.movedim(-1, -3).float() * self.scale + self.shift


class _TemplateGraph(nn.Module):
    def __init__(self, network: StudentNetwork) -> None:
        super().__init__()
        self.normalize, self.network = _Normalize(), network

    def forward(self, template: Tensor) -> Tensor:
        return self.network.template(self.normalize(template)).features


class _SearchGraph(nn.Module):
    def __init__(self, network: StudentNetwork) -> None:
        super().__init__()
        self.normalize, self.network = _Normalize(), network

    def forward(self, search: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        output = self.network.search(Template(features, None), self.normalize(search))
        return output.score, output.size, output.offset, output.box_cxcywh


class _StemGraph(nn.Module):
    def __init__(self, stem: LiteStem) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.stem(images)
        return features.permute(0, 2, 3, 1)


def export_onnx(folder: Path, output: Path | None = None) -> None:
    """Writes the ONNX graphs of a weights folder, with the hash of the weights in their metadata.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        output: where the graphs go; by default into the weights folder. Elsewhere they get a copy of ``config.json``
            and are a weights folder that tracks, without the weights themselves.

    Raises:
        ValueError: for a network whose elimination asks for the target's box (GT_BOX).
        ModuleNotFoundError: if the package onnx is missing.
    """
    _require_onnx()
    import onnx

    output = output or folder
    network = weights.load(folder)
    config = network.config
    if config.elimination and config.elimination.template_tokens == "GT_BOX":
        raise ValueError("a network whose elimination depends on the target's box (GT_BOX) cannot be exported")
    # Two samples, so that no axis is taken for the constant 1.
    template = torch.zeros(2, 2, config.template_size, config.template_size, 3, dtype=torch.uint8)
    search = torch.zeros(2, 2, config.search_size, config.search_size, 3, dtype=torch.uint8)
    showing, searching = _TemplateGraph(network).eval(), _SearchGraph(network).eval()
    with torch.no_grad():
        features = cast(Tensor, showing(template))
    metadata = _metadata(folder)
    for module, inputs, names, outputs, name in (
        (showing, (template,), ["template"], ["features"], pretrained.TEMPLATE_GRAPH),
        (
            searching,
            (search, features),
            ["search", "features"],
            ["score", "size", "offset", "box"],
            pretrained.SEARCH_GRAPH,
        ),
    ):
        program = _program(module, inputs, names, outputs, batch_axis=1)
        with beside(output / name) as temporary:
            program.save(str(temporary))
            model = onnx.load(str(temporary))
            _forget_the_source(model)
            onnx.helper.set_model_props(model, metadata)
            onnx.checker.check_model(model)
            onnx.save(model, str(temporary))
    if not output.samefile(folder):
        with beside(output / pretrained.CONFIG) as temporary:  # last: it makes the folder a weights folder
            shutil.copyfile(folder / pretrained.CONFIG, temporary)


def stem_graph(stem: LiteStem, size: int) -> bytes:
    """The ONNX graph of a stem alone: normalised images (N, 3, size, size) to features (N, size / 16, size / 16, D).

    Raises:
        ModuleNotFoundError: if the package onnx is missing.
    """
    _require_onnx()
    stem = copy.deepcopy(stem).eval()
    program = _program(_StemGraph(stem), (torch.zeros(2, 3, size, size),), ["images"], ["features"], batch_axis=0)
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def _program(
    module: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], *, batch_axis: int
) -> torch.onnx.ONNXProgram:
    """A module as ONNX, for any number of samples."""
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            module,
            inputs,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=tuple({batch_axis: batch} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401  (only to see whether it is there)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('export needs the package onnx: pip install "duotrack[torch]"') from error


def _forget_the_source(model: Any) -> None:
    """Clears what the exporter notes at every node of an ``onnx.ModelProto``: lines and paths of the source."""
    graph = model.graph
    values = (*graph.value_info, *graph.input, *graph.output, *graph.initializer)
    for place in (graph, *graph.node, *values, *(node for function in model.functions for node in function.node)):
        del place.metadata_props[:]
        place.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that it could serve and names that it does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _metadata(folder: Path) -> dict[str, str]:
    """What a program without this package must know."""
    _, crops = pretrained.read_config(folder)
    return {
        "weights_sha256": pretrained.sha256(folder / pretrained.WEIGHTS),
        "duotrack_version": __version__,
        "precision": "fp32",
        "template_factor": str(crops.template_factor),
        "search_factor": str(crops.search_factor),
        "padding": crops.padding,
        "window": str(crops.window),
    }
