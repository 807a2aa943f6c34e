"""The processor that this process runs on. Standard library only: the doctor asks where nothing else is installed."""

import os
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may use: those of the machine, less what affinity and the container's quota take."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores  # no control groups here: the affinity decides
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def usable_threads() -> int:
    """Threads that pay for networks of this kind: one a core, four at most. More would wait for each other."""
    return min(usable_cores(), 4)


def cpu_features() -> set[str]:
    """The instruction sets, as Linux names them; empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    line = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return set(line.partition(":")[2].split())
