"""The torch session is the network itself, between arrays of bytes and arrays of floats."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from duotrack import processor
from duotrack.model import normalize, weights
from duotrack.pretrained import WEIGHTS
from duotrack.sessions.base import Maps, Precision
from duotrack.sessions.torch import Step, TorchSession

from .networks import CONFIGS, crops, gt_box_config, save

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


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
        np.testing.assert_allclose(found, getattr(output, name).numpy(), rtol=0, atol=1e-5)


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
    tokens = state.tokens.clone()
    first = session.search(state, search)
    session.search(state, search[:, :, ::-1].copy())
    np.testing.assert_array_equal(session.search(state, search).score, first.score)
    assert torch.equal(state.tokens, tokens)


def test_the_box_in_the_template_is_used_where_it_is_wanted(tmp_path: Path) -> None:
    save(tmp_path, gt_box_config())
    session = TorchSession(tmp_path, device="cpu", threads=1)
    template, search = crops(tmp_path, 1)
    with pytest.raises(ValueError, match="template_box"):
        session.template(template)
    corner, middle = (np.array([[x, x, 0.25, 0.25]], np.float32) for x in (0.0, 0.5))
    answers = [session.search(session.template(template, box), search) for box in (corner, middle)]
    assert not np.array_equal(answers[0].score, answers[1].score)


def answers(maps: Maps) -> list[np.ndarray]:
    return [maps.score, maps.size, maps.offset, maps.box_cxcywh]


def test_joined_states_are_one_batch(folder: Path) -> None:
    session = TorchSession(folder, device="cpu", threads=1)
    template, search = crops(folder, 3)
    states = [session.template(template[:, i : i + 1]) for i in range(3)]
    joined = session.search(session.join([session.join(states[:2]), states[2]]), search)
    together = session.search(session.template(template), search)
    for ours, theirs in zip(answers(joined), answers(together), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def test_joined_states_keep_their_boxes(tmp_path: Path) -> None:
    session = TorchSession(save(tmp_path, gt_box_config()), device="cpu", threads=1)
    template, search = crops(tmp_path, 2)
    boxes = np.array([[0, 0, 0.25, 0.25], [0.5, 0.5, 0.25, 0.25]], np.float32)
    joined = session.join([session.template(template[:, i : i + 1], boxes[i : i + 1]) for i in range(2)])
    together = session.template(template, boxes)
    np.testing.assert_allclose(session.search(joined, search).score, session.search(together, search).score, atol=2e-5)


class TestThreads:
    def test_they_are_the_sessions_own(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the process has set is what it finds again; even after an error."""
        before = torch.get_num_threads()
        used: list[int] = []
        normalize = TorchSession._normalize  # part of every call

        def watched(session: TorchSession, pixels: torch.Tensor) -> torch.Tensor:
            used.append(torch.get_num_threads())
            return normalize(session, pixels)

        monkeypatch.setattr(TorchSession, "_normalize", watched)
        for number in (before, before + 1):
            session = TorchSession(folder, device="cpu", threads=number)
            assert torch.get_num_threads() == before
            template, search = crops(folder, 1)
            session.search(session.template(template), search)
            with pytest.raises((RuntimeError, ValueError)):
                session.search(session.template(template), search[:, :, :7])
            assert torch.get_num_threads() == before
            assert used == [number] * 4
            used.clear()

    def test_sessions_do_not_disturb_each_other(self, folder: Path) -> None:
        template, search = crops(folder, 1)
        sessions = [TorchSession(folder, device="cpu", threads=number) for number in (1, 2)]
        alone = [session.search(session.template(template), search).score for session in sessions]
        found: dict[int, list[np.ndarray]] = {0: [], 1: []}

        def follow(number: int) -> None:
            state = sessions[number].template(template)
            found[number] += [sessions[number].search(state, search).score for _ in range(5)]

        workers = [threading.Thread(target=follow, args=(number,)) for number in found]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for number, scores in found.items():
            assert len(scores) == 5
            for score in scores:
                np.testing.assert_allclose(score, alone[number], rtol=0, atol=1e-5)


class TestPrecision:
    def test_bf16_is_near(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            processor, "cpu_features", lambda: {"avx512_bf16"}
        )  # torch emulates it where it is not there
        template, search = crops(folder, 1)
        precise, rough = (
            TorchSession(folder, device="cpu", precision=precision, threads=1) for precision in ("fp32", "bf16")
        )
        expected, found = (session.search(session.template(template), search) for session in (precise, rough))
        assert found.score.dtype == np.float32
        assert not np.array_equal(found.score, expected.score)
        assert np.abs(found.score - expected.score).mean() < 0.05

    def test_bf16_is_not_replaced_where_it_is_not_available(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(processor, "cpu_features", lambda: {"avx2", "avx512f"})
        with pytest.raises(ValueError, match=r"bf16 is not available on device cpu.*avx512_bf16.*use fp32"):
            TorchSession(folder, device="cpu", precision="bf16")

    def test_int8_is_another_backends(self, folder: Path) -> None:
        with pytest.raises(ValueError, match=r"fp32 or bf16, not in int8.*onnx"):
            TorchSession(folder, device="cpu", precision="int8")


class TestStep:
    """What a GPU does for a frame, with its graph there and without it here."""

    def test_it_gives_what_the_session_gives(self, folder: Path) -> None:
        session = TorchSession(folder, device="cpu", threads=1)
        template, search = crops(folder, 2)
        others = crops(folder, 2, seed=2)
        states = [session.template(template), session.template(others[0])]
        with torch.inference_mode():
            step = Step(session._answer, states[0], search.shape)
            found = [step(state, part) for state in (*states, states[0]) for part in (search, others[1])]
            expected = [
                session._answer(state, torch.from_numpy(part))
                for state in (*states, states[0])
                for part in (search, others[1])
            ]
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs)
        assert not torch.equal(found[0], found[2])

    @needs_gpu
    def test_a_graph_gives_what_kernels_give(self, folder: Path) -> None:
        session = TorchSession(folder, device="cuda")
        for batch in (1, 3):
            template, search = crops(folder, batch)
            state = session.template(template)
            maps = session.search(state, search)
            assert session._steps[batch]._graph is not None
            with torch.inference_mode():
                eager = session._answer(state, torch.from_numpy(search).cuda()).cpu().numpy()
            found = np.concatenate([part.reshape(batch, -1) for part in answers(maps)], axis=1)
            np.testing.assert_allclose(found, eager, rtol=0, atol=1e-4)
        assert sorted(session._steps) == [1, 3]

    @needs_gpu
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_gpu_gives_what_the_cpu_gives(self, folder: Path, precision: Precision) -> None:
        template, search = crops(folder, 2)
        on_gpu, on_cpu = TorchSession(folder, device="cuda", precision=precision), TorchSession(folder, device="cpu")
        ours, theirs = (session.search(session.template(template), search) for session in (on_gpu, on_cpu))
        assert np.abs(ours.score - theirs.score).mean() < {"fp32": 1e-3, "bf16": 0.05}[precision]


def test_weights_that_do_not_fit(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="damaged") as caught:
        TorchSession(folder)
    assert str(folder / WEIGHTS) in str(caught.value)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cpu:x"])
def test_a_device_that_is_not_there(folder: Path, device: str) -> None:
    with pytest.raises(ValueError, match=device):
        TorchSession(folder, device=device)
