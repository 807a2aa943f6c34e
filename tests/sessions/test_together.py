"""Several targets in a state, several sessions in a process."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duotrack import pretrained
from duotrack.export import export_onnx
from duotrack.sessions.base import Floats, Maps, Session
from duotrack.sessions.onnx import OnnxSession
from duotrack.sessions.torch import TorchSession

from .networks import CONFIGS, crops, gt_box_config, save

Open = Callable[..., Session]


@pytest.fixture(scope="module", params=["shipped", "elimination"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with graphs: the default model's, and one of a network that eliminates."""
    if request.param == "shipped":
        return pretrained.locate("duotrack-tiny")
    folder = save(tmp_path_factory.mktemp("weights"), CONFIGS["patch stem, elimination"])
    export_onnx(folder)
    return folder


def onnx(folder: Path, threads: int = 1) -> Session:
    return OnnxSession(folder, threads=threads)


def torch_on_cpu(folder: Path, threads: int = 1) -> Session:
    return TorchSession(folder, device="cpu", threads=threads)


def assert_close(some: Maps, others: Maps) -> None:
    for name in ("score", "size", "offset", "box_cxcywh"):
        np.testing.assert_allclose(getattr(some, name), getattr(others, name), rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("open_session", [onnx, torch_on_cpu])
def test_joined_states_answer_as_one_batch(exported: Path, open_session: Open) -> None:
    session = open_session(exported)
    template, search = crops(exported, 4)
    alone = [session.template(template[:, i : i + 1]) for i in (0, 1, 2)]
    joined = session.join([*alone, session.template(template[:, 3:])])
    assert_close(session.search(joined, search), session.search(session.template(template), search))
    # In the order in which they are given, and states of several targets as well as of one.
    swapped = session.join([session.join(alone[1:]), alone[0]])
    maps = session.search(swapped, search[:, [1, 2, 0]])
    for place, i in enumerate((1, 2, 0)):
        single = session.search(alone[i], search[:, i : i + 1])
        np.testing.assert_allclose(maps.score[place], single.score[0], rtol=0, atol=2e-5)


def test_the_boxes_of_targets_are_joined_too(tmp_path: Path) -> None:
    save(tmp_path, gt_box_config())
    session = torch_on_cpu(tmp_path)
    template, search = crops(tmp_path, 2)
    boxes: Floats = np.array([[0.0, 0.0, 0.25, 0.25], [0.5, 0.5, 0.25, 0.25]], np.float32)
    states = [session.template(template[:, i : i + 1], boxes[i : i + 1]) for i in (0, 1)]
    joined = session.search(session.join(states), search)
    assert_close(joined, session.search(session.template(template, boxes), search))
    other = session.search(session.join(states[::-1]), search[:, ::-1].copy())
    np.testing.assert_allclose(other.score[::-1], joined.score, rtol=0, atol=2e-5)


def questions(session: Session, folder: Path, seeds: range) -> list[Maps]:
    return [ask(session, folder, seed) for seed in seeds]


def ask(session: Session, folder: Path, seed: int) -> Maps:
    template, search = crops(folder, 1, seed)
    return session.search(session.template(template), search)


@pytest.mark.parametrize("pair", [(onnx, onnx), (torch_on_cpu, torch_on_cpu), (onnx, torch_on_cpu)])
def test_two_sessions_taking_turns(exported: Path, pair: tuple[Any, Any]) -> None:
    """An answer is the same whatever the other one did before, on another number of threads."""
    sessions = [open_session(exported, threads) for threads, open_session in enumerate(pair, 1)]
    seeds = range(4)
    expected = [questions(session, exported, seeds) for session in sessions]
    for seed in seeds:
        for session, answers in zip(sessions, expected, strict=True):
            assert_close(ask(session, exported, seed), answers[seed])


@pytest.mark.parametrize("open_session", [onnx, torch_on_cpu])
def test_two_sessions_and_one_shared_in_two_threads(exported: Path, open_session: Open) -> None:
    expected = questions(open_session(exported), exported, range(12))
    own, shared = open_session(exported), open_session(exported)
    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(questions, session, exported, range(12)) for session in (own, shared, shared)]
        for future in work:
            for found, wanted in zip(future.result(timeout=120), expected, strict=True):
                assert_close(found, wanted)
