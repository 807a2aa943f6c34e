"""Runs of trackers on several processes, their scores kept as they come: a script that was stopped goes on.

A score is kept under a key that names all that it depends on: the bytes of the sequence and the tracker, which for
duotrack is the bytes of its weights and of its code. OpenCV's trackers thus run once, however often the model changes.
"""

import hashlib
import json
import multiprocessing
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Literal, TypeVar

import cv2

import duotrack
from duotrack import pretrained
from duotrack.results import write_atomically
from duotrack.tracking import Tracker

Job = TypeVar("Job")
Precision = Literal["fp32", "bf16", "int8"]


CODE = (
    *(
        "appearance.py",
        "boxes.py",
        "calibration.py",
        "crops.py",
        "frozen.py",
        "pretrained.py",
        "redetection.py",
        "rivals.py",
        "sequence.py",
        "tracking.py",
    ),
    *("sessions/*.py", "model/*.py"),
)
"""What of the package decides what a tracker finds."""


def digest(folder: Path, *patterns: str) -> str:
    """Twelve hexadecimal digits for the names and bytes of files.

    Args:
        folder: holds them.
        patterns: which, as for ``glob``; by default all, those of folders below included.

    Raises:
        FileNotFoundError: if a pattern fits no file.
    """
    files: set[Path] = set()
    for pattern in patterns or ["**/*"]:
        fitting = {path for path in folder.glob(pattern) if path.is_file()}
        if not fitting:
            raise FileNotFoundError(f"{folder}: no file {pattern} there")
        files |= fitting
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(f"{file.relative_to(folder).as_posix()} {pretrained.sha256(file)}\n".encode())
    return total.hexdigest()[:12]


def model(weights: str, precision: Precision) -> str:
    """What a score of duotrack depends on beside the sequence."""
    code = digest(Path(duotrack.__file__).parent, *CODE)
    return f"duotrack, weights {digest(pretrained.locate(weights))}, code {code}, {precision}"


@cache
def tracker(weights: str, precision: Precision) -> Tracker:
    """The tracker of this process, on one thread."""
    return Tracker.from_pretrained(weights, precision=precision, threads=1)


def kept(file: Path | None) -> dict[str, float]:
    """The scores in a file, by key; none where there is no file.

    Raises:
        ValueError: if the file is no such file.
    """
    if file is None or not file.exists():
        return {}
    try:
        found = json.loads(file.read_text("utf-8"))["runs"]
        return {str(key): float(score) for key, score in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} holds no scores ({error!r}): remove it, or name another file") from error


def keep(file: Path | None, scores: Mapping[str, float], **summary: object) -> None:
    """Writes all scores, and what a script makes of them."""
    if file:
        write_atomically(file, json.dumps({**summary, "runs": scores}, indent=1) + "\n")


def scores(
    jobs: Mapping[str, Job], score: Callable[[Job], float], *, workers: int, file: Path | None
) -> dict[str, float]:
    """The score of every job, by key; what the file has is not run again, and what is new is written into it at once.

    Args:
        jobs: by key.
        score: runs one, in another process.
        workers: how many processes.
        file: where scores are kept, if anywhere.
    """
    found = kept(file)
    missing = {key: job for key, job in jobs.items() if key not in found}
    print(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them kept", file=sys.stderr)
    if missing:
        with multiprocessing.get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool:
            for done, (key, value) in enumerate(pool.imap_unordered(partial(_keyed, score), missing.items()), 1):
                found[key] = value
                keep(file, found)
                print(f"{done}/{len(missing)} {key}: {value:.3f}", file=sys.stderr, flush=True)
    return found


def _keyed(score: Callable[[Job], float], item: tuple[str, Job]) -> tuple[str, float]:
    return item[0], score(item[1])
