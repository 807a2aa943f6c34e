"""What the graphs say of themselves, and where they go; what they answer is in sessions/test_onnx.py."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import duotrack
from duotrack import __version__, pretrained
from duotrack.export import _Normalize, export_onnx
from duotrack.model import normalize
from duotrack.pretrained import SEARCH_GRAPH, TEMPLATE_GRAPH, WEIGHTS
from duotrack.sessions.onnx import OnnxSession

from .sessions.networks import CONFIGS, crops, save


def metadata(graph: Path) -> dict[str, str]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


def test_every_pixel_value_is_normalized_as_in_training() -> None:
    crops = torch.arange(256, dtype=torch.uint8).repeat_interleave(3).view(1, 1, 16, 16, 3)
    torch.testing.assert_close(_Normalize()(crops), normalize(crops), rtol=0, atol=1e-6)


def test_graphs_elsewhere_are_a_folder_that_tracks(tmp_path: Path) -> None:
    folder = save(tmp_path / "weights", CONFIGS["patch stem, elimination"])
    before = {path.name for path in folder.iterdir()}
    export_onnx(folder, tmp_path / "deep" / "graphs")
    assert {path.name for path in folder.iterdir()} == before
    output = tmp_path / "deep" / "graphs"
    assert {path.name for path in output.iterdir()} == {"config.json", SEARCH_GRAPH, TEMPLATE_GRAPH}
    session = OnnxSession(output, threads=1)
    template, search = crops(output, 2)
    state = session.template(template)
    assert session.search(state, search).box_cxcywh.shape == (2, 4)
    # What a patch stem remembers of a template are its pixels.
    np.testing.assert_allclose(state["features"], normalize(torch.from_numpy(template)).numpy(), rtol=0, atol=1e-6)
    assert pretrained.fingerprint(output) == pretrained.sha256(output / SEARCH_GRAPH)
    assert pretrained.fingerprint(folder) == pretrained.sha256(folder / WEIGHTS)
    says = metadata(output / SEARCH_GRAPH)
    assert says["weights_sha256"] == pretrained.sha256(folder / WEIGHTS)
    assert says["duotrack_version"] == __version__
    source = str(Path(duotrack.__file__).parent).encode()
    for name in (SEARCH_GRAPH, TEMPLATE_GRAPH):  # the exporter notes at every node where it comes from
        assert source not in (output / name).read_bytes()
        assert b"stack_trace" not in (pretrained.locate("duotrack-tiny") / name).read_bytes()


@pytest.mark.parametrize("name", [SEARCH_GRAPH, TEMPLATE_GRAPH])
def test_the_shipped_graphs_say_how_to_cut_their_crops(name: str) -> None:
    folder = pretrained.locate("duotrack-tiny")
    says, settings = metadata(folder / name), pretrained.read_config(folder).crops
    assert float(says["template_factor"]) == settings.template_factor
    assert float(says["search_factor"]) == settings.search_factor
    assert float(says["window"]) == settings.window
    assert says["padding"] == settings.padding
    assert says["precision"] == "fp32"
    assert says["weights_sha256"] == pretrained.sha256(folder / WEIGHTS)
