"""The processor that this process runs on. Standard library only: the doctor asks where nothing else is installed."""

import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def usable_cores() -> int:
    """Cores that this process may use: those of the machine, less what affinity and control groups take."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A part of a core is none: a third thread on two and a half would be waited for half of the time.
    return max(1, min([cores, *(int(quota) for quota in _quotas())]))


def usable_threads() -> int:
    """Threads that pay for networks of this kind: one a core, four at most. More would wait for each other."""
    return min(usable_cores(), 4)


def wait_asleep() -> None:
    """Has PyTorch's threads sleep while they wait for each other: to be called before it is imported.

    Threads that spin gain about a fifth for a small network on idle cores, and make a frame many times as long on busy
    ones. OpenMP reads the wish once, with the import; one that stands in the environment already is left.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def cpu_features() -> set[str]:
    """The instruction sets, as Linux names them; empty where it does not say."""
    lines = _read(_ROOT / "proc/cpuinfo").splitlines()
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())


def has_bf16() -> bool:
    """Whether the processor computes in bfloat16, as far as the system tells, and does not only imitate it."""
    return bool(cpu_features() & {"avx512_bf16", "amx_bf16", "bf16"})


def _quotas() -> Iterator[float]:
    """Cores' worth of time that control groups leave to this process: every group's that it is in and that has a limit.

    ``/proc/self/cgroup`` has a line ``number:controllers:group`` for each hierarchy. That of version 2 names no
    controllers; of version 1 counts that of ``cpu``. The limits of the groups above hold too. In a container the name
    may be the host's and mean nothing here; the limit then stands at the top.
    """
    for line in _read(_ROOT / "proc/self/cgroup").splitlines():
        controllers, _, group = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = _ROOT / "sys/fs/cgroup" / ("cpu" if controllers else "")
        folder = top / group.strip("/")
        for place in (folder, *folder.parents):
            if controllers:
                limit = [_read(place / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
            else:
                limit = _read(place / "cpu.max").split()
            if len(limit) == 2 and all(value.strip().isdecimal() for value in limit):  # not "max", not -1
                yield int(limit[0]) / int(limit[1])
            if place == top:
                break


def _read(path: Path) -> str:
    """The text of one of the system's files; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
