"""How many cores there are to use, on machines that are made up."""

import os
from pathlib import Path

import pytest

from duotrack import processor


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files stand for those of the system that have the same names; empty at first."""
    monkeypatch.setattr(processor, "Path", lambda path: tmp_path / Path(path).name)
    return tmp_path


@pytest.mark.parametrize(
    ("allowed", "quota", "cores"),
    [
        (8, None, 8),  # no control groups
        (8, "max 100000\n", 8),
        (8, "200000 100000\n", 2),
        (8, "250000 100000\n", 2),  # two and a half: a third thread would wait half of the time
        (8, "50000 100000\n", 1),  # half a core is still one thread
        (2, "400000 100000\n", 2),  # affinity takes more
        (16, "800000 50000\n", 16),
        (4, "", 4),
        (4, "nonsense\n", 4),
    ],
)
def test_affinity_and_quota_both_take_cores(
    machine: Path, monkeypatch: pytest.MonkeyPatch, allowed: int, quota: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {*range(allowed)}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    if quota is not None:
        (machine / "cpu.max").write_text(quota)
    assert processor.usable_cores() == cores
    assert processor.usable_threads() == min(cores, 4)


@pytest.mark.parametrize(("count", "cores"), [(6, 6), (None, 1)])
def test_where_there_is_no_affinity(
    machine: Path, monkeypatch: pytest.MonkeyPatch, count: int | None, cores: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert processor.usable_cores() == cores


@pytest.mark.parametrize(
    ("text", "features"),
    [
        (
            "processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n",
            {"fpu", "avx2", "amx_bf16"},
        ),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("processor\t: 0\n", set()),
        (None, set()),
    ],
)
def test_instruction_sets(machine: Path, text: str | None, features: set[str]) -> None:
    if text is not None:
        (machine / "cpuinfo").write_text(text)
    assert processor.cpu_features() == features


def test_this_machine() -> None:
    assert 1 <= processor.usable_threads() <= min(4, processor.usable_cores())
    assert processor.usable_cores() <= (os.cpu_count() or 1)
