"""OpenVINO gives what onnxruntime gives from the same files, and in bf16 boxes that differ little."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duotrack import pretrained, samples
from duotrack.boxes import cxcywh_to_xyxy, iou
from duotrack.pretrained import SEARCH_GRAPH, WEIGHTS
from duotrack.processor import cpu_features
from duotrack.sessions.onnx import OnnxSession

from .networks import CONFIGS, crops, exported

pytest.importorskip("openvino", reason="needs the extra openvino")

from duotrack.sessions.openvino import OpenVinoSession

FIELDS = ("score", "size", "offset", "box_cxcywh")


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request: pytest.FixtureRequest) -> Path:
    return exported(request.param)


def test_it_gives_what_onnxruntime_gives(folder: Path) -> None:
    ours, theirs = OpenVinoSession(folder, threads=1), OnnxSession(folder, threads=1)
    assert (ours.name, ours.template_size, ours.search_size) == ("openvino", theirs.template_size, theirs.search_size)
    for batch in (1, 3, 1):
        template, search = crops(folder, batch)
        answer = ours.search(ours.template(template), search)
        expected = theirs.search(theirs.template(template), search)
        for name in FIELDS:
            found = getattr(answer, name)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, getattr(expected, name), rtol=0, atol=2e-5, err_msg=name)


def test_joined_states_are_those_of_a_batch(folder: Path) -> None:
    session = OpenVinoSession(folder, threads=1)
    template, search = crops(folder, 3)
    joined = session.join([session.template(template[:, i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(
        session.search(joined, search).score, session.search(session.template(template), search).score, atol=2e-5
    )


def test_answers_outlive_the_next_question(folder: Path) -> None:
    session = OpenVinoSession(folder, threads=1)
    template, search = crops(folder, 1)
    state = session.template(template)
    first = session.search(state, search)
    score, features = first.score.copy(), state.copy()
    session.search(session.template(template[:, :, ::-1].copy()), search[:, :, ::-1].copy())
    np.testing.assert_array_equal(first.score, score)
    np.testing.assert_array_equal(state, features)


def test_bf16_finds_the_boxes_of_float() -> None:
    folder = pretrained.locate("duotrack-tiny")
    if not cpu_features() & {"avx512_bf16", "amx_bf16", "bf16"}:
        with pytest.raises(ValueError, match="does not compute in bf16"):
            OpenVinoSession(folder, precision="bf16")
        return
    found = samples.of_demo_clip(pretrained.read_config(folder))[::3]
    exact, rounded = OnnxSession(folder), OpenVinoSession(folder, precision="bf16")
    expected = exact.search(exact.template(found.template), found.search).box_cxcywh
    boxes = rounded.search(rounded.template(found.template), found.search).box_cxcywh
    assert 0.97 < iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(expected)).mean() < 1


def test_what_it_lacks(folder: Path) -> None:
    eight: Any = "int8"
    with pytest.raises(ValueError, match="fp32 or bf16, not int8; onnx has int8"):
        OpenVinoSession(folder, precision=eight)
    if pretrained.read_config(folder).model.elimination:
        with pytest.raises(ValueError, match="which tokens to eliminate"):
            OpenVinoSession(folder, precision="bf16")


def test_bad_folders_are_named(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "weights"
    shutil.copytree(folder, other)
    graph, content = other / SEARCH_GRAPH, (folder / SEARCH_GRAPH).read_bytes()
    origin = pretrained.sha256(other / WEIGHTS).encode()
    graph.write_bytes(content.replace(origin, b"0" * len(origin)))
    with pytest.raises(ValueError, match="were not made from"):
        OpenVinoSession(other)
    graph.write_bytes(b"no graph")
    with pytest.raises(ValueError, match="cannot be loaded by OpenVINO") as damaged:
        OpenVinoSession(other)
    assert str(graph) in str(damaged.value)
    graph.unlink()
    with pytest.raises(FileNotFoundError, match="has no ONNX graphs") as missing:
        OpenVinoSession(other)
    assert str(graph) in str(missing.value)
