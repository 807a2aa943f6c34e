"""onnxruntime gives what torch gives, and refuses graphs that do not belong to the weights beside them."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from duotrack.crops import Box
from duotrack.export import export_onnx
from duotrack.pretrained import SEARCH_GRAPH, TEMPLATE_GRAPH, WEIGHTS, sha256
from duotrack.sessions.onnx import OnnxSession
from duotrack.sessions.torch import TorchSession

from .networks import CONFIGS, crops, gt_box_config, save

GRAPHS = (SEARCH_GRAPH, TEMPLATE_GRAPH)
SMALLEST = "patch stem, elimination"


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with graphs; an export takes seconds."""
    folder = save(tmp_path_factory.mktemp("weights"), CONFIGS[request.param])
    export_onnx(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A weights folder without graphs."""
    return save(tmp_path / "weights", CONFIGS[SMALLEST])


def test_onnx_gives_what_torch_gives(exported: Path) -> None:
    onnx, plain = OnnxSession(exported, threads=1), TorchSession(exported, device="cpu", threads=1)
    assert (onnx.name, onnx.template_size, onnx.search_size) == ("onnx", plain.template_size, plain.search_size)
    for batch in (1, 3):
        for seed in range(3):
            template, search = crops(exported, batch, seed)
            ours = onnx.search(onnx.template(template), search)
            theirs = plain.search(plain.template(template), search)
            assert np.ptp(theirs.score) > 1e-3  # an answer that depends on what is seen
            for name in ("score", "size", "offset", "box_cxcywh"):
                one, other = getattr(ours, name), getattr(theirs, name)
                assert one.dtype == other.dtype == np.float32
                np.testing.assert_allclose(one, other, rtol=0, atol=2e-5, err_msg=f"{name}, batch {batch}")


def test_what_else_is_in_the_folder(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {"config.json", WEIGHTS, *GRAPHS}


def test_graphs_of_other_weights_are_refused(exported: Path, tmp_path: Path) -> None:
    """Each of the two graphs on its own, too."""
    for name in GRAPHS:
        other = tmp_path / f"other {name}"
        shutil.copytree(exported, other)
        graph = other / name
        content = graph.read_bytes()
        origin = sha256(other / WEIGHTS).encode()
        assert content.count(origin) == 1
        graph.write_bytes(content.replace(origin, b"0" * len(origin)))
        with pytest.raises(ValueError, match="export them again, or use the torch backend") as caught:
            OnnxSession(other)
        assert str(other) in str(caught.value)
    changed = tmp_path / "changed"
    shutil.copytree(exported, changed)
    data = bytearray((changed / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (changed / WEIGHTS).write_bytes(data)
    with pytest.raises(ValueError, match=r"not made from the model\.safetensors beside them"):
        OnnxSession(changed)


def test_graphs_suffice_to_track(exported: Path, tmp_path: Path) -> None:
    """Who only tracks needs no second copy of the weights."""
    shutil.copytree(exported, tmp_path / "light")
    (tmp_path / "light" / WEIGHTS).unlink()
    session = OnnxSession(tmp_path / "light", threads=1)
    template, search = crops(exported, 1)
    assert session.search(session.template(template), search).score.shape[0] == 1


def test_a_state_serves_many_searches(exported: Path) -> None:
    session = OnnxSession(exported, threads=1)
    template, search = crops(exported, 1)
    state = session.template(template)
    kept = {name: value.copy() for name, value in state.items()}
    first = session.search(state, search)
    session.search(state, search[:, :, ::-1].copy())
    np.testing.assert_array_equal(session.search(state, search).score, first.score)
    for name, value in state.items():
        np.testing.assert_array_equal(value, kept[name])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not say how many threads there are")
def test_as_many_threads_as_wanted(exported: Path) -> None:
    def added(threads: int) -> tuple[int, Box]:
        before = len(os.listdir("/proc/self/task"))
        session = OnnxSession(exported, threads=threads)
        started = len(os.listdir("/proc/self/task")) - before
        template, search = crops(exported, 1)
        return started, session.search(session.template(template), search).box_cxcywh.astype(np.float64)

    (alone, box), (three, same) = added(1), added(3)
    assert (alone, three) == (0, 4)  # beside the calling one, for each of the two graphs
    np.testing.assert_allclose(box, same, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_missing_graph_is_named(exported: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(exported, folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match="use the torch backend") as caught:
        OnnxSession(folder)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"this is no graph", None])
def test_a_damaged_graph_is_named(exported: Path, tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(exported, folder)
    for name in GRAPHS:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
        with pytest.raises(ValueError, match="onnxruntime") as caught:
            OnnxSession(folder)
        assert str(folder / name) in str(caught.value)
        (folder / name).write_bytes(whole)


def test_a_folder_that_was_never_exported(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no ONNX graphs"):
        OnnxSession(folder)


def test_a_network_that_asks_for_the_box_cannot_be_exported(tmp_path: Path) -> None:
    save(tmp_path, gt_box_config())
    with pytest.raises(ValueError, match="GT_BOX"):
        export_onnx(tmp_path)
    assert not any((tmp_path / name).exists() for name in GRAPHS)


def test_an_export_that_fails_leaves_no_trace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def save(self, path: str) -> None:
            Path(path).write_bytes(b"half a graph")
            raise OSError(28, "No space left on device")

    def export(*arguments: object, **options: object) -> Broken:
        return Broken()

    for name in GRAPHS:
        (folder / name).write_bytes(b"the old one")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(OSError, match="No space left"):
        export_onnx(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_export_without_the_package_onnx(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "duotrack\[torch\]"'):
        export_onnx(folder)
