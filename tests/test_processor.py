"""How many cores there are to use, on machines that are made up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from duotrack import processor


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the root of the file system; empty at first."""
    monkeypatch.setattr(processor, "_ROOT", tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


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
        (4, "more nonsense\n", 4),
    ],
)
def test_affinity_and_quota_both_take_cores(
    machine: Path, monkeypatch: pytest.MonkeyPatch, allowed: int, quota: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {*range(allowed)}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    write(machine / "proc/self/cgroup", "0::/\n")
    if quota is not None:
        write(machine / "sys/fs/cgroup/cpu.max", quota)
    assert processor.usable_cores() == cores
    assert processor.usable_threads() == min(cores, 4)


@pytest.mark.parametrize(
    ("groups", "limits", "cores"),
    [
        # Version 2: the process's own group, and those above it.
        ("0::/user/app\n", {"user/app/cpu.max": "300000 100000"}, 3),
        ("0::/user/app\n", {"user/app/cpu.max": "max 100000", "user/cpu.max": "200000 100000"}, 2),
        ("0::/user/app\n", {"user/app/cpu.max": "500000 100000", "user/cpu.max": "200000 100000"}, 2),
        ("0::/user/app\n", {"user/cpu.max": "400000 100000", "other/cpu.max": "100000 100000"}, 4),  # not a neighbour's
        ("0::/docker/0123\n", {"cpu.max": "200000 100000"}, 2),  # the host's name in a container
        ("0::/../..\n", {"cpu.max": "200000 100000"}, 2),
        # Version 1: two files, and the hierarchy that has the controller cpu.
        ("5:devices:/\n4:cpu,cpuacct:/app\n", {"cpu/app/cpu.cfs_quota_us": "300000\n"}, 3),
        ("5:devices:/\n4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n"}, 8),
        ("4:cpu,cpuacct:/docker/0123\n", {"cpu/cpu.cfs_quota_us": "200000\n"}, 2),
        ("5:cpuset:/app\n", {"cpu/cpu.cfs_quota_us": "200000\n"}, 8),
        # Both: version 2 is there, but version 1 has the controller.
        ("4:cpu:/app\n1:name=systemd:/app\n0::/app\n", {"cpu/app/cpu.cfs_quota_us": "100000\n"}, 1),
        ("no such format\n\n", {}, 8),
    ],
)
def test_control_groups_of_both_versions(
    machine: Path, monkeypatch: pytest.MonkeyPatch, groups: str, limits: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {*range(8)}, raising=False)
    write(machine / "proc/self/cgroup", groups)
    for name, text in limits.items():
        path = machine / "sys/fs/cgroup" / name
        write(path, text)
        if path.name == "cpu.cfs_quota_us":
            write(path.with_name("cpu.cfs_period_us"), "100000\n")
    assert processor.usable_cores() == cores


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
        write(machine / "proc/cpuinfo", text)
    assert processor.cpu_features() == features


def test_this_machine() -> None:
    assert 1 <= processor.usable_threads() <= min(4, processor.usable_cores())
    assert processor.usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_pytorch_is_loaded_with_threads_that_do_not_spin(before: str | None, after: str) -> None:
    """As its OpenMP itself says, unless the user has decided."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": before} if before else {})
    code = "import duotrack; duotrack.Tracker.from_pretrained(backend='torch')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    if "OMP_WAIT_POLICY" not in done.stderr:
        pytest.skip("this PyTorch has no OpenMP that says how it was set")
    assert f"OMP_WAIT_POLICY = '{after}'" in done.stderr
