"""The 8-bit graph: what is in it, how near it comes, who may run it."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from duotrack import pretrained, samples
from duotrack.boxes import cxcywh_to_xyxy, iou
from duotrack.pretrained import INT8_GRAPH, SEARCH_GRAPH, WEIGHTS
from duotrack.quantization import quantize
from duotrack.samples import Samples
from duotrack.sessions.onnx import OnnxSession

from .sessions.networks import CONFIGS, crops, exported, save


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here but for one test is the graph, on whatever processor."""
    monkeypatch.setattr("duotrack.sessions.onnx.cpu_features", set)


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    shutil.copytree(exported(request.param), folder, dirs_exist_ok=True)
    quantize(folder, Samples(*crops(folder, 4)))
    return folder


def test_linear_layers_and_the_head_are_in_8_bits_and_nothing_else(folder: Path) -> None:
    config = pretrained.read_config(folder).model
    graph = onnx.load(folder / INT8_GRAPH).graph
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    operators = Counter(node.op_type for node in graph.node)
    linear = 4 * config.depth * 2 + 2 * config.correlation_input  # qkv, proj, fc1, fc2 in both students
    assert operators["MatMulInteger"] == linear
    kinds = {onnx.TensorProto.INT8: 0, onnx.TensorProto.FLOAT: 0}
    dequantized = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.node:
        if node.op_type == "Conv":
            kinds[weights[dequantized.get(node.input[1], node.input[1])]] += 1
    assert kinds[onnx.TensorProto.INT8] == 6
    stem = 33 if config.stem == "lite0" else 0
    assert kinds[onnx.TensorProto.FLOAT] == stem + 4 + 9  # embeddings of template and search; the rest of the head
    says = {entry.key: entry.value for entry in onnx.load(folder / INT8_GRAPH).metadata_props}
    assert says["precision"] == "int8"
    assert float(says["search_factor"]) == pretrained.read_config(folder).crops.search_factor
    assert says["weights_sha256"] == pretrained.sha256(folder / WEIGHTS)


def test_it_answers_nearly_what_the_float_graph_answers(folder: Path) -> None:
    exact, rounded = OnnxSession(folder, threads=1), OnnxSession(folder, precision="int8", threads=1)
    template, search = crops(folder, 3, seed=5)
    for session in (exact, rounded):  # the template stays float
        np.testing.assert_array_equal(session.template(template)["features"], exact.template(template)["features"])
    state = exact.template(template)
    ours, theirs = rounded.search(state, search), exact.search(state, search)
    assert not np.array_equal(ours.score, theirs.score)
    if pretrained.read_config(folder).model.elimination is None:  # else another token may go, and with it a cell
        assert np.corrcoef(ours.score.ravel(), theirs.score.ravel())[0, 1] > 0.95
    assert ours.score.dtype == np.float32


def test_that_of_the_shipped_model_finds_the_boxes_of_the_float_graph(tmp_path: Path) -> None:
    """As docs/performance.md has it: mean overlap 0.997, on crops that it was not calibrated with."""
    folder = tmp_path / "weights"
    shutil.copytree(pretrained.locate("duotrack-tiny"), folder)
    crops = samples.of_demo_clip(pretrained.read_config(folder))
    quantize(folder, crops[::2])
    found = crops[1::2]
    exact, rounded = OnnxSession(folder, threads=1), OnnxSession(folder, precision="int8", threads=1)
    overlaps = []
    for i in range(len(found)):
        part = found[i : i + 1]
        state = exact.template(part.template)
        boxes = [cxcywh_to_xyxy(session.search(state, part.search).box_cxcywh) for session in (exact, rounded)]
        overlaps.append(float(iou(*boxes)[0]))
    assert 0.99 < np.mean(overlaps) < 1
    sizes = [(folder / name).stat().st_size for name in (INT8_GRAPH, SEARCH_GRAPH)]
    assert sizes[0] < sizes[1] / 2


def test_a_folder_without_graphs(tmp_path: Path) -> None:
    folder = save(tmp_path, CONFIGS["patch stem, elimination"])
    with pytest.raises(FileNotFoundError, match=r"model\.onnx is missing: export the weights first"):
        quantize(folder, Samples(*crops(folder, 1)))
    assert not (folder / INT8_GRAPH).exists()


def test_without_the_package_onnx(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "duotrack\[torch\]"'):
        quantize(folder, Samples(*crops(folder, 1)))


def test_what_the_session_says_when_it_cannot(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="fp32 or int8, not bf16; openvino and torch have bf16"):
        OnnxSession(folder, precision="bf16")
    other = tmp_path / "weights"
    shutil.copytree(folder, other)
    (other / INT8_GRAPH).unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.int8\.onnx is missing.* int8 --output FOLDER"):
        OnnxSession(other, precision="int8")
    monkeypatch.setattr("duotrack.sessions.onnx.cpu_features", lambda: {"sse2", "avx2", "fma"})
    with pytest.raises(ValueError, match="VNNI"):
        OnnxSession(folder, precision="int8")
    for able in ({"sse2", "avx2", "avx_vnni"}, {"asimd", "asimddp"}, set()):
        monkeypatch.setattr("duotrack.sessions.onnx.cpu_features", lambda able=able: able)
        OnnxSession(folder, precision="int8")


def test_an_8_bit_graph_of_other_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "weights"
    shutil.copytree(folder, other)
    graph = other / INT8_GRAPH
    origin = pretrained.sha256(other / WEIGHTS).encode()
    graph.write_bytes(graph.read_bytes().replace(origin, b"0" * len(origin)))
    with pytest.raises(ValueError, match="export them again"):
        OnnxSession(other, precision="int8")
