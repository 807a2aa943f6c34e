"""A network to ONNX: one graph for the template, one for each search region, beside the weights they come from.

The graphs take uint8 crops and normalise them themselves, so that a runtime needs nothing but pixels:

    model_template.onnx: template (2, B, Ht, Wt, 3) -> features
    model.onnx:          search (2, B, Hs, Ws, 3), features -> score, size, offset, box
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from duotrack import pretrained
from duotrack.model import weights
from duotrack.model.network import StudentNetwork, Template
from duotrack.model.normalization import normalize
from duotrack.results import beside


class _TemplateGraph(nn.Module):
    def __init__(self, network: StudentNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, template: Tensor) -> Tensor:
        return self.network.template(normalize(template)).features


class _SearchGraph(nn.Module):
    def __init__(self, network: StudentNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, search: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        output = self.network.search(Template(features, None), normalize(search))
        return output.score, output.size, output.offset, output.box_cxcywh


def export_onnx(folder: Path) -> None:
    """Writes the ONNX graphs of a weights folder into it, with the hash of the weights in their metadata.

    Raises:
        ValueError: for a network whose elimination asks for the target's box (GT_BOX).
        ModuleNotFoundError: if the package onnx is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('export needs the package onnx: pip install "duotrack[torch]"') from error
    network = weights.load(folder)
    config = network.config
    if config.elimination and config.elimination.template_tokens == "GT_BOX":
        raise ValueError("a network whose elimination depends on the target's box (GT_BOX) cannot be exported")
    # Two samples, so that no axis is taken for the constant 1.
    template = torch.zeros(2, 2, config.template_size, config.template_size, 3, dtype=torch.uint8)
    search = torch.zeros(2, 2, config.search_size, config.search_size, 3, dtype=torch.uint8)
    with torch.no_grad():
        features = network.template(normalize(template)).features
    origin = pretrained.sha256(folder / pretrained.WEIGHTS)
    for module, inputs, names, outputs, name in (
        (_TemplateGraph(network), (template,), ["template"], ["features"], pretrained.TEMPLATE_GRAPH),
        (
            _SearchGraph(network),
            (search, features),
            ["search", "features"],
            ["score", "size", "offset", "box"],
            pretrained.SEARCH_GRAPH,
        ),
    ):
        batch = torch.export.Dim("batch", min=1)
        program = torch.onnx.export(
            module.eval(),
            inputs,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=tuple({1: batch} for _ in inputs),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        with beside(folder / name) as temporary:
            program.save(str(temporary))
            model = onnx.load(str(temporary))
            onnx.helper.set_model_props(model, {"weights_sha256": origin})
            onnx.checker.check_model(model)
            onnx.save(model, str(temporary))
