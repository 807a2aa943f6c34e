"""Milliseconds a frame: `ckd-base` and `duotrack-tiny`, torch and onnxruntime, 1 and 2 threads.

    python benchmarks/frame_time.py [--rounds N] [--presets duotrack-tiny ckd-base] [--json FILE]

The weights are random (speed does not depend on them). A frame is what a session does: one search crop of both
modalities from pixels to box; `tracker` adds cropping, window and mapping on frames of 640 x 480 in memory. All
variants of a preset take turns within one run, so that whatever else the machine does hits them alike; ratios are
medians of the ratios within a round, with the range from the 10th to the 90th percentile.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from duotrack.export import export_onnx
from duotrack.model import PRESETS, StudentNetwork, weights
from duotrack.sequence import Frame
from duotrack.sessions.base import Session
from duotrack.sessions.onnx import OnnxSession
from duotrack.sessions.torch import TorchSession
from duotrack.tracking import Tracker

Variant = tuple[str, int]


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description="Milliseconds a frame of the presets, torch and onnxruntime.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--presets", nargs="+", default=["duotrack-tiny", "ckd-base"], choices=list(PRESETS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{machine()}\n")
    print("| network | what | threads | ms a frame, median (10-90 %) | torch / onnx |\n|---|---|---|---|---|")
    report = {}
    for name in options.presets:
        with tempfile.TemporaryDirectory() as folder:
            report[name] = measure(name, Path(folder), options.rounds)
        for row in report[name]:
            low, median, high = row["milliseconds"]
            ratio = "" if row["ratio"] is None else "{1:.2f} ({0:.2f}-{2:.2f})".format(*row["ratio"])
            print(f"| {name} | {row['what']} | {row['threads']} | {median:.1f} ({low:.1f}-{high:.1f}) | {ratio} |")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "figures": report}, indent=1) + "\n")


def measure(name: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Times all variants of a preset in turns; one row for each."""
    weights.save(folder, StudentNetwork(PRESETS[name]).eval())
    export_onnx(folder)
    work: dict[Variant, Callable[[], object]] = {}
    for threads in (1, 2):
        work["torch session", threads] = _torch(folder, threads)
        session = OnnxSession(folder, threads=threads)
        work["onnx session", threads] = _searching(session)
        work["onnx tracker", threads] = _tracking(session)
    times: dict[Variant, list[float]] = {variant: [] for variant in work}
    for _ in range(rounds + 1):
        for variant, step in work.items():
            step()  # lets threads of the variant before come to rest
            started = time.perf_counter()
            step()
            times[variant].append(1000 * (time.perf_counter() - started))
    rows: list[dict[str, Any]] = []
    for (what, threads), values in times.items():
        measured = np.array(values[1:])
        ratio = None
        if what == "torch session":
            ratio = _spread(measured / np.array(times["onnx session", threads][1:]))
        rows.append({"what": what, "threads": threads, "milliseconds": _spread(measured), "ratio": ratio})
    return rows


def machine() -> str:
    """The processor and the versions."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return (
        f"{processor}, {len(os.sched_getaffinity(0))} cores to use, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    )


def _torch(folder: Path, threads: int) -> Callable[[], object]:
    search = _searching(TorchSession(folder, device="cpu", threads=threads))

    def step() -> object:
        torch.set_num_threads(threads)
        return search()

    return step


def _searching(session: Session) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    template = rng.integers(0, 256, (2, 1, session.template_size, session.template_size, 3), np.uint8)
    search = rng.integers(0, 256, (2, 1, session.search_size, session.search_size, 3), np.uint8)
    state = session.template(template)
    return lambda: session.search(state, search)


def _tracking(session: OnnxSession) -> Callable[[], object]:
    visible, infrared = np.random.default_rng(0).integers(0, 256, (2, 480, 640, 3), np.uint8)
    frame = Frame(visible, infrared)
    tracker = Tracker(session)

    tracker.initialize(frame, (300, 200, 40, 80))
    return lambda: tracker.update(frame)


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    low, median, high = np.percentile(values, (10, 50, 90))
    return float(low), float(median), float(high)


if __name__ == "__main__":
    main()
