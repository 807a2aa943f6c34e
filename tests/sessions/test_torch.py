"""The torch session is the network itself, between arrays of bytes and arrays of floats."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from duotrack.model import normalize, weights
from duotrack.pretrained import WEIGHTS
from duotrack.sessions.torch import TorchSession

from .networks import CONFIGS, crops, gt_box_config, save


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """The number of threads is torch's for the whole process: put back what was there."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.fixture(params=CONFIGS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save(tmp_path, CONFIGS[request.param])


@pytest.mark.parametrize("batch", [1, 3])
def test_it_gives_what_the_network_gives(folder: Path, batch: int) -> None:
    session, network = TorchSession(folder, device="cpu", threads=1), weights.load(folder)
    assert session.name == "torch"
    assert (session.template_size, session.search_size) == (64, 128)
    template, search = crops(folder, batch)
    maps = session.search(session.template(template), search)
    with torch.no_grad():
        output = network(normalize(torch.from_numpy(template)), normalize(torch.from_numpy(search)))
    for name in ("score", "size", "offset", "box_cxcywh"):
        found = getattr(maps, name)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, getattr(output, name).numpy(), rtol=0, atol=1e-6)


def test_samples_do_not_know_each_other(folder: Path) -> None:
    session = TorchSession(folder, device="cpu", threads=1)
    template, search = crops(folder, 3)
    together = session.search(session.template(template), search)
    for i in range(3):
        alone = session.search(session.template(template[:, i : i + 1]), search[:, i : i + 1])
        np.testing.assert_allclose(alone.score[0], together.score[i], rtol=0, atol=2e-5)


def test_a_state_serves_many_searches(folder: Path) -> None:
    session = TorchSession(folder, device="cpu", threads=1)
    template, search = crops(folder, 1)
    state = session.template(template)
    features = state.features.clone()
    first = session.search(state, search)
    session.search(state, search[:, :, ::-1].copy())
    np.testing.assert_array_equal(session.search(state, search).score, first.score)
    assert torch.equal(state.features, features)


def test_the_box_in_the_template_is_used_where_it_is_wanted(tmp_path: Path) -> None:
    save(tmp_path, gt_box_config())
    session = TorchSession(tmp_path, device="cpu", threads=1)
    template, search = crops(tmp_path, 1)
    with pytest.raises(ValueError, match="template_box"):
        session.template(template)
    corner, middle = (np.array([[x, x, 0.25, 0.25]], np.float32) for x in (0.0, 0.5))
    answers = [session.search(session.template(template, box), search) for box in (corner, middle)]
    assert not np.array_equal(answers[0].score, answers[1].score)


@pytest.mark.parametrize("number", [1, 2])
def test_threads(folder: Path, number: int) -> None:
    TorchSession(folder, device="cpu", threads=number)
    assert torch.get_num_threads() == number


def test_weights_that_do_not_fit(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="damaged") as caught:
        TorchSession(folder)
    assert str(folder / WEIGHTS) in str(caught.value)


def test_a_device_that_is_not_there(folder: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises((RuntimeError, AssertionError), match=r"(?i)cuda"):
        TorchSession(folder, device="cuda:0")


def test_on_a_gpu(folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    template, search = crops(folder, 2)
    on_gpu, on_cpu = (TorchSession(folder, device=device) for device in ("cuda", "cpu"))
    ours, theirs = (session.search(session.template(template), search) for session in (on_gpu, on_cpu))
    np.testing.assert_allclose(ours.score, theirs.score, rtol=0, atol=1e-3)
