"""The user's cache folder: arrays that took time to make, under a key that says what they were made from.

A cache may vanish, be damaged or forbid writing at any moment; then the work is done again, and nothing else happens.
"""

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duotrack.results import beside

Array = npt.NDArray[Any]


def folder() -> Path:
    """Where the cache lies: ``DUOTRACK_CACHE``, else ``duotrack`` in the place that the system has for caches.

    Raises:
        RuntimeError: if the user has no home folder.
    """
    if chosen := os.environ.get("DUOTRACK_CACHE"):
        return Path(chosen)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "duotrack"
    places = {"darwin": "Library/Caches", "win32": "AppData/Local"}
    return Path.home() / places.get(sys.platform, ".cache") / "duotrack"


def load(key: str) -> dict[str, Array] | None:
    """The arrays that were stored under a key by name; None if there are none, or the entry cannot be read."""
    try:
        with np.load(folder() / f"{key}.npz", allow_pickle=False) as entry:
            return {name: entry[name] for name in entry.files}
    except Exception:  # damaged, it may raise anything that the readers of zip, deflate and npy can raise
        return None


def store(key: str, arrays: Mapping[str, Any]) -> None:
    """Keeps arrays under a key, if the folder can be written."""
    with contextlib.suppress(OSError, RuntimeError), beside(folder() / f"{key}.npz") as temporary:
        np.savez(temporary, **arrays)
